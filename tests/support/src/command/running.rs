//! A command while it runs.

use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::Output;
use crate::processes;
use crate::progress::Progress;

/// How often a running command is looked at.
const POLL: Duration = Duration::from_millis(2);

/// How long after a command's end its output may still come. A daemon that it left behind may
/// hold the pipe open for ever.
const DRAIN: Duration = Duration::from_secs(3);

/// A command that was started. Dropping it kills it with all its descendants.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
    started: Instant,
    timeout: Duration,
    ended: bool,
}

impl Running {
    pub(super) fn new(
        command: &mut Command,
        input: Option<Vec<u8>>,
        line: String,
        timeout: Duration,
    ) -> Self {
        processes::adopt_orphans();
        let started = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{line}: cannot be started: {error}"));
        processes::register(child.id());
        if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
            // A command need not read all of its input: that it closes the pipe is no error.
            thread::spawn(move || {
                drop(stdin.write_all(&bytes));
            });
        }
        let stdout = Stream::of(child.stdout.take().expect("standard output is piped"));
        let stderr = Stream::of(child.stderr.take().expect("standard error is piped"));
        Self {
            line,
            child,
            stdout,
            stderr,
            started,
            timeout,
            ended: false,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until standard error has some text.
    pub fn wait_for_stderr(&mut self, text: &str) {
        self.wait_until(&format!("{text:?} on standard error"), |running| {
            running.stderr().contains(text)
        });
    }

    /// Waits until a step of a build with plain progress wrote a line.
    pub fn wait_for_output(&mut self, line: &str) {
        self.wait_until(&format!("the line {line:?} of a step"), |running| {
            Progress::parse(&running.stderr()).has_output(line)
        });
    }

    /// Waits until something is so; panics if the command ends or its time runs out before.
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let ended = self.child.try_wait().expect("cannot wait for a child");
            assert!(
                (ended.is_none() || condition(self)) && self.started.elapsed() < self.timeout,
                "{}: waited in vain for {what}\nstandard error:\n{}",
                self.line,
                self.stderr()
            );
            thread::sleep(POLL);
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("cannot wait for a child")
            .is_none()
    }

    /// Sends a signal to the process alone, as `kill` does.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("cannot send a signal");
    }

    /// Sends a signal to its process group, as a terminal does for ^C.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).expect("cannot send a signal");
    }

    /// Waits for its end. Panics, and kills it, if it takes too long.
    pub fn wait(mut self) -> Output {
        if self.is_running() {
            self.sleep_until_end();
        }
        if let Some(status) = self.child.try_wait().expect("cannot wait for a child") {
            return self.finished(status);
        }
        self.kill_all();
        panic!(
            "{}: not done after {:?}\nstandard output:\n{}\nstandard error:\n{}",
            self.line,
            self.timeout,
            self.stdout.text(),
            self.stderr()
        );
    }

    /// Sleeps until the process ends or its time is over. The kernel wakes us up: a poll at
    /// intervals would make every short command as long as an interval.
    fn sleep_until_end(&self) {
        let process = pidfd_open(self.pid(), PidfdFlags::empty()).expect("cannot watch a process");
        loop {
            let left = self.timeout.saturating_sub(self.started.elapsed());
            let left = Timespec::try_from(left).expect("a time limit of less than centuries");
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => {}
                Ok(_) => return,
                Err(error) => panic!("cannot wait for a process: {error}"),
            }
        }
    }

    fn finished(&mut self, status: ExitStatus) -> Output {
        let elapsed = self.started.elapsed();
        self.ended = true;
        processes::unregister(self.child.id());
        let deadline = Instant::now() + DRAIN;
        Output::new(
            std::mem::take(&mut self.line),
            status,
            self.stdout.drain(deadline),
            self.stderr.drain(deadline),
            elapsed,
        )
    }

    fn kill_all(&mut self) {
        self.ended = true;
        let descendants = processes::descendants(self.child.id());
        // Any of them may be gone by now: there is nothing to be done about an error here.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        for process in descendants {
            process.kill();
        }
        drop(self.child.wait());
        processes::unregister(self.child.id());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.kill_all();
        }
    }
}

/// A pipe that a thread reads to its end.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                let mut bytes = shared.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn drain(&self, deadline: Instant) -> Vec<u8> {
        while !self.reader.is_finished() && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *bytes)
    }
}
