//! The book of a build's vertices: their names, states and last lines.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_engine::lint::Finding;
use ashlar_model::executor::OutputStream;

use super::lines::LineSplitter;

/// How many lines of output are kept of each vertex: more than a terminal shows.
const TAIL_LINES: usize = 10;

/// Where a vertex is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Announced,
    Waiting,
    Running,
    Cached,
    Finished(Duration),
    Failed(Duration),
    Cancelled,
}

impl State {
    pub(super) const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Waiting)
    }

    pub(super) const fn is_over(self) -> bool {
        !matches!(self, Self::Announced | Self::Waiting | Self::Running)
    }
}

/// A countable work under way.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) label: Arc<str>,
    pub(super) done: u64,
    pub(super) total: Option<u64>,
}

/// One vertex.
#[derive(Debug)]
pub(super) struct Vertex {
    pub(super) id: VertexId,
    pub(super) name: Arc<str>,
    pub(super) state: State,
    /// Whether it ever ran or waited.
    pub(super) begun: bool,
    /// The other machine that it waits for, if it does.
    pub(super) holder: Option<Arc<str>>,
    /// Why it waits for a worker of a farm, if it does.
    pub(super) queued: Option<Arc<str>>,
    /// When it began, since the build did.
    pub(super) started: Duration,
    pub(super) work: Vec<Work>,
    /// The last lines of its output, oldest first; what was not UTF-8 is replaced.
    pub(super) tail: VecDeque<String>,
    stdout: LineSplitter,
    stderr: LineSplitter,
}

impl Vertex {
    fn new(id: VertexId, name: Arc<str>) -> Self {
        Self {
            id,
            name,
            state: State::Announced,
            begun: false,
            holder: None,
            queued: None,
            started: Duration::ZERO,
            work: Vec::new(),
            tail: VecDeque::new(),
            stdout: LineSplitter::default(),
            stderr: LineSplitter::default(),
        }
    }

    /// The line that is being written, if there is one.
    pub(super) fn unfinished_line(&self) -> Option<&[u8]> {
        [self.stderr.pending(), self.stdout.pending()]
            .into_iter()
            .find(|line| !line.is_empty())
    }

    fn keep(tail: &mut VecDeque<String>, line: &[u8]) {
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(line).into_owned());
    }
}

/// All vertices, by number, and what the linter has found.
#[derive(Debug, Default)]
pub(super) struct Book {
    vertices: BTreeMap<VertexId, Vertex>,
    findings: Vec<Arc<Finding>>,
}

impl Book {
    pub(super) fn vertices(&self) -> impl Iterator<Item = &Vertex> {
        self.vertices.values()
    }

    pub(super) fn vertex(&self, id: VertexId) -> Option<&Vertex> {
        self.vertices.get(&id)
    }

    /// What the linter has found so far.
    pub(super) fn findings(&self) -> &[Arc<Finding>] {
        &self.findings
    }

    /// A vertex that was not announced gets an empty name: it is shown all the same.
    fn entry(&mut self, id: VertexId) -> &mut Vertex {
        self.vertices
            .entry(id)
            .or_insert_with(|| Vertex::new(id, "".into()))
    }

    /// Enters an event. `line` is called with every line of output that it completes; if it is the
    /// vertex's last event, also with what was written without a line end.
    pub(super) fn enter(
        &mut self,
        at: Duration,
        event: &BuildEvent,
        mut line: impl FnMut(&Vertex, OutputStream, &[u8]),
    ) {
        match event {
            BuildEvent::Announced { vertex, name } => {
                self.entry(*vertex).name = Arc::clone(name);
            }
            BuildEvent::Started { vertex } => {
                self.entry(*vertex).begin(at, State::Running);
            }
            BuildEvent::Waiting { vertex, holder } => {
                let vertex = self.entry(*vertex);
                vertex.begin(at, State::Waiting);
                vertex.holder.clone_from(holder);
                vertex.queued = None;
            }
            BuildEvent::Queued { vertex, why } => {
                let vertex = self.entry(*vertex);
                vertex.begin(at, State::Waiting);
                vertex.queued = Some(Arc::clone(why));
            }
            BuildEvent::Assigned { vertex, .. } => self.entry(*vertex).begin(at, State::Running),
            BuildEvent::Output {
                vertex,
                stream,
                bytes,
            } => self.entry(*vertex).output(*stream, bytes, &mut line),
            BuildEvent::Progress {
                vertex,
                label,
                done,
                total,
            } => self.entry(*vertex).progress(label, *done, *total),
            BuildEvent::Cached { vertex } => self.entry(*vertex).state = State::Cached,
            BuildEvent::Finished { vertex, elapsed } => {
                self.entry(*vertex)
                    .end(State::Finished(*elapsed), &mut line);
            }
            BuildEvent::Failed {
                vertex, elapsed, ..
            } => self.entry(*vertex).end(State::Failed(*elapsed), &mut line),
            BuildEvent::Cancelled { vertex } => {
                self.entry(*vertex).end(State::Cancelled, &mut line);
            }
            BuildEvent::Finding(finding) => self.findings.push(Arc::clone(finding)),
            // Warnings, and what later versions may send, concern no vertex.
            _ => {}
        }
    }
}

impl Vertex {
    /// Waiting counts neither as running nor for the times of lines.
    const fn begin(&mut self, at: Duration, state: State) {
        self.state = state;
        self.begun = true;
        self.started = at;
    }

    fn output(
        &mut self,
        stream: OutputStream,
        bytes: &[u8],
        line: &mut impl FnMut(&Self, OutputStream, &[u8]),
    ) {
        self.with_splitter(stream, line, |splitter, emit| splitter.push(bytes, emit));
    }

    /// Both streams' unfinished lines come out, then the state changes.
    fn end(&mut self, state: State, line: &mut impl FnMut(&Self, OutputStream, &[u8])) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            self.with_splitter(stream, line, |splitter, emit| splitter.flush(emit));
        }
        self.state = state;
        self.work = Vec::new();
    }

    fn with_splitter(
        &mut self,
        stream: OutputStream,
        line: &mut impl FnMut(&Self, OutputStream, &[u8]),
        cut: impl FnOnce(&mut LineSplitter, &mut dyn FnMut(&[u8])),
    ) {
        // Taken out for as long as `line` looks at the vertex.
        let mut splitter = std::mem::take(self.splitter(stream));
        cut(&mut splitter, &mut |text| {
            Self::keep(&mut self.tail, text);
            line(self, stream, text);
        });
        *self.splitter(stream) = splitter;
    }

    const fn splitter(&mut self, stream: OutputStream) -> &mut LineSplitter {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn progress(&mut self, label: &Arc<str>, done: u64, total: Option<u64>) {
        match self.work.iter_mut().find(|work| work.label == *label) {
            Some(work) => (work.done, work.total) = (done, total),
            None => self.work.push(Work {
                label: Arc::clone(label),
                done,
                total,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: VertexId = VertexId(3);

    fn output(book: &mut Book, stream: OutputStream, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let event = BuildEvent::Output {
            vertex: ID,
            stream,
            bytes: text.as_bytes().to_vec(),
        };
        book.enter(Duration::ZERO, &event, |_, _, line| {
            lines.push(String::from_utf8_lossy(line).into_owned());
        });
        lines
    }

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut book = Book::default();
        for number in 0..25 {
            output(&mut book, OutputStream::Stdout, &format!("line {number}\n"));
        }
        let tail = &book.vertex(ID).unwrap().tail;
        assert_eq!(tail.len(), TAIL_LINES);
        assert_eq!((tail[0].as_str(), tail[9].as_str()), ("line 15", "line 24"));
    }

    #[test]
    fn streams_do_not_mix_inside_a_line() {
        let mut book = Book::default();
        assert!(output(&mut book, OutputStream::Stdout, "out").is_empty());
        assert_eq!(output(&mut book, OutputStream::Stderr, "err\n"), ["err"]);
        assert_eq!(
            book.vertex(ID).unwrap().unfinished_line(),
            Some(&b"out"[..])
        );
        assert_eq!(output(&mut book, OutputStream::Stdout, "put\n"), ["output"]);
        assert_eq!(book.vertex(ID).unwrap().unfinished_line(), None);
    }

    #[test]
    fn an_unfinished_line_comes_out_at_the_end() {
        let mut book = Book::default();
        output(&mut book, OutputStream::Stdout, "half");
        let mut lines = Vec::new();
        let end = BuildEvent::Cancelled { vertex: ID };
        book.enter(Duration::ZERO, &end, |_, stream, line| {
            lines.push((stream, line.to_vec()));
        });
        assert_eq!(lines, [(OutputStream::Stdout, b"half".to_vec())]);
        assert!(book.vertex(ID).unwrap().state.is_over());
    }
}
