//! Plain progress: lines that only grow, for logs. BuildKit's format:
//!
//! ```text
//! #4 [build 1/3] FROM docker.io/library/debian:bookworm
//! #4 CACHED
//!
//! #5 [build 2/3] RUN make
//! #5 0.312 cc -c main.c              seconds since the vertex started
//! #5 ...                             another vertex is shown for a while
//!
//! #6 [docs 1/1] RUN make docs
//! #6 DONE 0.9s
//!
//! #5 [build 2/3] RUN make
//! #5 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2
//! ```
//!
//! Steps run side by side, but a log that jumps between them at every line cannot be read. So one
//! vertex has the floor until it ends; what others say meanwhile is held back, for [`HOLD`] or
//! [`HELD_BYTES`] at most: then they take the floor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_model::executor::OutputStream;
use ashlar_model::size::HumanSize;

use super::Display;
use super::book::{Book, Vertex};
use super::findings::Summary;
use super::out::{Out, put};
use super::text;

/// How long a line waits for its vertex to get the floor.
const HOLD: Duration = Duration::from_secs(1);
/// How much is held back of one vertex.
const HELD_BYTES: usize = 256 * 1024;
/// How often a countable work is mentioned before it is done.
const WORK_INTERVAL: Duration = Duration::from_secs(5);
/// How long lines may wait for others to be written with them, where nothing is running.
const GATHER: Duration = Duration::from_millis(100);

pub(super) struct Plain {
    out: Out,
    /// Whose header was written last, unless it has ended.
    floor: Option<VertexId>,
    held: BTreeMap<VertexId, Held>,
    first: bool,
    /// When each work was last mentioned; `None` once it was said to be done.
    mentioned: BTreeMap<(VertexId, Arc<str>), Option<Duration>>,
    sent: Duration,
}

/// What a vertex without the floor has said.
struct Held {
    since: Duration,
    text: Vec<u8>,
    over: bool,
}

impl Plain {
    pub(super) const fn new(out: Out) -> Self {
        Self {
            out,
            floor: None,
            held: BTreeMap::new(),
            first: true,
            mentioned: BTreeMap::new(),
            sent: Duration::ZERO,
        }
    }

    /// Says something in a vertex's name, now or when it gets the floor.
    fn say(&mut self, at: Duration, vertex: &Vertex, text: &[u8]) {
        if self.floor == Some(vertex.id) {
            self.out.extend(text);
        } else if self.floor.is_none() {
            self.give_floor(vertex, text);
        } else {
            let held = self.hold(at, vertex.id);
            held.text.extend_from_slice(text);
            if held.text.len() > HELD_BYTES {
                self.give_floor(vertex, &[]);
            }
        }
    }

    fn hold(&mut self, at: Duration, vertex: VertexId) -> &mut Held {
        self.held.entry(vertex).or_insert_with(|| Held {
            since: at,
            text: Vec::new(),
            over: false,
        })
    }

    /// Writes a vertex's header, what was held back of it, and `text`.
    fn give_floor(&mut self, vertex: &Vertex, text: &[u8]) {
        if let Some(VertexId(before)) = self.floor {
            put!(self.out, "#{before} ...\n");
        }
        self.separate();
        put!(self.out, "#{} {}\n", vertex.id.0, vertex.name);
        let held = self.held.remove(&vertex.id);
        let over = held.as_ref().is_some_and(|held| held.over);
        if let Some(held) = held {
            self.out.extend(&held.text);
        }
        self.out.extend(text);
        self.floor = (!over).then_some(vertex.id);
    }

    /// An empty line between blocks.
    fn separate(&mut self) {
        if !self.first {
            put!(self.out, "\n");
        }
        self.first = false;
    }

    /// A vertex's last words.
    fn end(&mut self, at: Duration, book: &Book, vertex: &Vertex, text: &[u8]) {
        self.say(at, vertex, text);
        if self.floor == Some(vertex.id) {
            self.floor = None;
            self.let_speak(book, |_| false);
        } else {
            self.hold(at, vertex.id).over = true;
        }
        self.mentioned.retain(|(id, _), _| *id != vertex.id);
    }

    /// Gives the floor to those that have waited longest: to all that are due, and to one more if
    /// nobody has it then.
    fn let_speak(&mut self, book: &Book, due: impl Fn(&Held) -> bool) {
        loop {
            let longest = self.held.iter().min_by_key(|(_, held)| held.since);
            let next = match longest {
                Some((id, held)) if self.floor.is_none() || due(held) => *id,
                _ => return,
            };
            match book.vertex(next) {
                Some(vertex) => self.give_floor(vertex, &[]),
                None => drop(self.held.remove(&next)),
            }
            if self.floor.is_some() && !self.held.values().any(&due) {
                return;
            }
        }
    }

    fn work(
        &mut self,
        at: Duration,
        vertex: &Vertex,
        label: &Arc<str>,
        done: u64,
        total: Option<u64>,
    ) {
        let complete = total.is_some_and(|total| done >= total);
        let key = (vertex.id, Arc::clone(label));
        match self.mentioned.get(&key) {
            Some(None) => return,
            Some(Some(last)) if !complete && at.saturating_sub(*last) < WORK_INTERVAL => return,
            _ => {}
        }
        self.mentioned.insert(key, (!complete).then_some(at));
        let number = vertex.id.0;
        let done_size = HumanSize(done);
        let text = match total {
            Some(_) if complete => format!("#{number} {label} {done_size} done\n"),
            Some(total) => format!("#{number} {label} {done_size} / {}\n", HumanSize(total)),
            None if done == 0 => format!("#{number} {label}\n"),
            None => format!("#{number} {label} {done_size}\n"),
        };
        self.say(at, vertex, text.as_bytes());
    }

    fn send(&mut self, at: Duration) {
        self.out.send();
        self.sent = at;
    }
}

impl Display for Plain {
    fn event(&mut self, at: Duration, book: &Book, event: &BuildEvent) {
        match event {
            BuildEvent::Announced { .. } => return,
            BuildEvent::Started { vertex } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    // The header tells that it runs.
                    if self.floor.is_none() {
                        self.give_floor(vertex, &[]);
                    } else if self.floor != Some(vertex.id) {
                        self.hold(at, vertex.id);
                    }
                }
            }
            BuildEvent::Waiting { vertex, holder } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    let number = vertex.id.0;
                    let text = match holder {
                        None => format!("#{number} waiting for another build of this step\n"),
                        Some(holder) => {
                            let holder = text::printable(holder.as_bytes());
                            format!("#{number} waiting for {holder}, which runs this step\n")
                        }
                    };
                    self.say(at, vertex, text.as_bytes());
                }
            }
            BuildEvent::Queued { vertex, why } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    let why = text::printable(why.as_bytes());
                    let text = format!("#{} waiting: {why}\n", vertex.id.0);
                    self.say(at, vertex, text.as_bytes());
                }
            }
            BuildEvent::Assigned {
                vertex,
                worker,
                attempt,
            } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    let (number, worker) = (vertex.id.0, text::printable(worker.as_bytes()));
                    let text = match attempt {
                        0 | 1 => format!("#{number} on {worker}\n"),
                        again => format!("#{number} on {worker}, attempt {again}\n"),
                    };
                    self.say(at, vertex, text.as_bytes());
                }
            }
            BuildEvent::Progress {
                vertex,
                label,
                done,
                total,
            } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    self.work(at, vertex, label, *done, *total);
                }
            }
            BuildEvent::Cached { vertex } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    let text = format!("#{} CACHED\n", vertex.id.0);
                    self.end(at, book, vertex, text.as_bytes());
                }
                // What was looked up comes in one go, and is written so.
                if at.saturating_sub(self.sent) < GATHER {
                    return;
                }
            }
            BuildEvent::Finished { vertex, elapsed } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    let text = format!("#{} DONE {:.1}s\n", vertex.id.0, elapsed.as_secs_f64());
                    self.end(at, book, vertex, text.as_bytes());
                }
            }
            BuildEvent::Failed { vertex, error, .. } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    let text = format!("#{} ERROR: {error}\n", vertex.id.0);
                    self.end(at, book, vertex, text.as_bytes());
                }
            }
            BuildEvent::Cancelled { vertex } => {
                // Of what had not begun there is nothing to say.
                if let Some(vertex) = book.vertex(*vertex).filter(|vertex| vertex.begun) {
                    let text = format!("#{} CANCELED\n", vertex.id.0);
                    self.end(at, book, vertex, text.as_bytes());
                }
            }
            BuildEvent::Warning { message } => {
                self.separate();
                put!(self.out, "warning: {message}\n");
                // The next line of whoever has the floor begins with its header again.
                self.floor = None;
            }
            // Output comes by `line`, findings at the end; what later versions may send is not
            // shown.
            _ => {}
        }
        self.send(at);
    }

    fn line(&mut self, at: Duration, vertex: &Vertex, _stream: OutputStream, line: &[u8]) {
        let mut text = Vec::with_capacity(line.len() + 16);
        let seconds = at.saturating_sub(vertex.started).as_secs_f64();
        // Five characters, as BuildKit has it: 0.123, 12.34, 123.4, and whole seconds beyond.
        let decimals = match seconds {
            s if s < 9.9995 => 3,
            s if s < 99.995 => 2,
            s if s < 999.95 => 1,
            _ => 0,
        };
        put!(text, "#{} {seconds:.decimals$} ", vertex.id.0);
        text.extend_from_slice(line);
        text.push(b'\n');
        self.say(at, vertex, &text);
    }

    fn deadline(&self, _book: &Book) -> Option<Duration> {
        let oldest = self.held.values().map(|held| held.since).min()?;
        Some(oldest + HOLD)
    }

    fn tick(&mut self, at: Duration, book: &Book) {
        self.let_speak(book, |held| held.since + HOLD <= at);
        self.send(at);
    }

    fn finish(&mut self, at: Duration, book: &Book) {
        self.let_speak(book, |_| true);
        if !book.findings().is_empty() {
            self.separate();
            let findings = book.findings();
            let color = false;
            put!(self.out, "{}", Summary { findings, color });
        }
        self.send(at);
    }
}

#[cfg(test)]
mod tests;
