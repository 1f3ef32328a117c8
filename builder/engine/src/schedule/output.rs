//! A running step's output on its way to those who watch, and the part kept for an error report.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::executor::{OutputStream, StepOutput};

use crate::event::{BuildEvent, EventSink, VertexId};

/// How many lines an error report repeats.
const KEPT_LINES: usize = 10;
/// How much of one line is kept; more is a progress bar or binary.
const KEPT_LINE_BYTES: usize = 4096;

/// Forwards output as events and remembers the last lines.
pub(super) struct VertexOutput {
    vertex: VertexId,
    events: Arc<dyn EventSink>,
    tail: Mutex<Tail>,
}

#[derive(Default)]
struct Tail {
    lines: VecDeque<Vec<u8>>,
    partial: Vec<u8>,
}

impl VertexOutput {
    pub(super) fn new(vertex: VertexId, events: Arc<dyn EventSink>) -> Self {
        Self {
            vertex,
            events,
            tail: Mutex::default(),
        }
    }

    /// The last lines, oldest first.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = (!tail.partial.is_empty()).then_some(&tail.partial);
        let lines = tail.lines.iter().chain(partial);
        let skip = (tail.lines.len() + usize::from(partial.is_some())).saturating_sub(KEPT_LINES);
        lines
            .skip(skip)
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect()
    }
}

impl Tail {
    fn write(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|b| *b == b'\n');
        if let Some(first) = pieces.next() {
            self.extend(first);
        }
        for piece in pieces {
            let mut line = std::mem::take(&mut self.partial);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            self.lines.push_back(line);
            if self.lines.len() > KEPT_LINES {
                self.lines.pop_front();
            }
            self.extend(piece);
        }
    }

    fn extend(&mut self, piece: &[u8]) {
        let room = KEPT_LINE_BYTES.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(&piece[..piece.len().min(room)]);
    }
}

impl StepOutput for VertexOutput {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        self.tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(bytes);
        self.events.emit(BuildEvent::Output {
            vertex: self.vertex,
            stream,
            bytes: bytes.to_vec(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl EventSink for Nobody {
        fn emit(&self, _event: BuildEvent) {}
    }

    fn lines(chunks: &[&str]) -> Vec<String> {
        let output = VertexOutput::new(VertexId(1), Arc::new(Nobody));
        for chunk in chunks {
            output.write(OutputStream::Stdout, chunk.as_bytes());
        }
        output.last_lines()
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        assert_eq!(lines(&["a", "b\r\nc", "\nd"]), ["ab", "c", "d"]);
        assert_eq!(lines(&[]), Vec::<String>::new());
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..25).map(|n| format!("{n}\n")).collect();
        let kept = lines(&[&text, "end"]);
        assert_eq!(kept.len(), KEPT_LINES);
        assert_eq!(kept[0], "16");
        assert_eq!(kept[9], "end");
    }
}
