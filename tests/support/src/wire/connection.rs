//! One connection, and what happens to it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use super::lock;
use super::plan::{Direction, Trouble};

/// A client's connection and the one to the server that belongs to it.
#[derive(Debug)]
pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
    state: Mutex<State>,
    /// Told when there is another trouble.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    trouble: Trouble,
    up: Flow,
    down: Flow,
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Bytes that passed.
    passed: u64,
    /// How many had when the trouble began.
    before: u64,
}

impl State {
    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// What is to be done with bytes that came.
enum Next {
    /// So many are passed on, the byte after `flip` others among them changed.
    Pass { count: usize, flip: Option<usize> },
    /// The connection ends.
    End,
}

impl Connection {
    pub(super) fn new(client: TcpStream, server: TcpStream, trouble: Trouble) -> Self {
        // Small messages are not to wait for more: the proxy is not what is measured.
        for stream in [&client, &server] {
            drop(stream.set_nodelay(true));
        }
        Self {
            client,
            server,
            state: Mutex::new(State {
                trouble,
                up: Flow::default(),
                down: Flow::default(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Begins another trouble.
    pub(super) fn meet(&self, trouble: Trouble) {
        let mut state = lock(&self.state);
        state.trouble = trouble;
        for direction in [Direction::Up, Direction::Down] {
            let flow = state.flow(direction);
            flow.before = flow.passed;
        }
        drop(state);
        if matches!(trouble, Trouble::Cut(_, 0) | Trouble::Refuse) {
            self.end();
        }
        self.changed.notify_all();
    }

    /// Passes bytes in both directions until both have ended.
    pub(super) fn serve(&self, up: &AtomicU64, down: &AtomicU64) {
        thread::scope(|scope| {
            scope.spawn(|| self.pump(Direction::Up, up));
            self.pump(Direction::Down, down);
        });
    }

    fn pump(&self, direction: Direction, counter: &AtomicU64) {
        let (mut from, mut to) = match direction {
            Direction::Up => (&self.client, &self.server),
            Direction::Down => (&self.server, &self.client),
        };
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut bytes = &mut buffer[..count];
            while !bytes.is_empty() {
                let (count, flip) = match self.next(direction, bytes.len()) {
                    Next::Pass { count, flip } => (count, flip),
                    Next::End => return self.end(),
                };
                if let Some(place) = flip {
                    bytes[place] ^= 0x20;
                }
                let (now, later) = bytes.split_at_mut(count);
                if to.write_all(now).is_err() {
                    return self.end();
                }
                counter.fetch_add(now.len() as u64, Ordering::Relaxed);
                bytes = later;
            }
        }
        // The other direction may go on.
        drop(to.shutdown(Shutdown::Write));
    }

    /// Decides what becomes of bytes, of which there is at least one; waits while they are to wait.
    fn next(&self, direction: Direction, count: usize) -> Next {
        let mut state = lock(&self.state);
        if let Trouble::Delay(delay) = state.trouble {
            drop(state);
            thread::sleep(delay);
            state = lock(&self.state);
        }
        loop {
            let trouble = state.trouble;
            let flow = state.flow(direction);
            let since = flow.passed - flow.before;
            // How many of these bytes come before the place where something happens.
            let until = |at: u64| {
                let left = usize::try_from(at.checked_sub(since)?).unwrap_or(usize::MAX);
                Some(left)
            };
            let next = match trouble {
                Trouble::Refuse => Next::End,
                Trouble::Cut(own, at) if own == direction => match until(at) {
                    None | Some(0) => Next::End,
                    Some(left) => pass(count.min(left)),
                },
                Trouble::Stall(own, at) if own == direction => match until(at) {
                    None | Some(0) => {
                        state = self
                            .changed
                            .wait(state)
                            .unwrap_or_else(std::sync::PoisonError::into_inner);
                        continue;
                    }
                    Some(left) => pass(count.min(left)),
                },
                Trouble::Corrupt(own, at) if own == direction => Next::Pass {
                    count,
                    flip: until(at).filter(|place| *place < count),
                },
                _ => pass(count),
            };
            if let Next::Pass { count, .. } = next {
                flow.passed += count as u64;
            }
            return next;
        }
    }

    fn end(&self) {
        for stream in [&self.client, &self.server] {
            // One that is closed already is no error.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn pass(count: usize) -> Next {
    Next::Pass { count, flip: None }
}
