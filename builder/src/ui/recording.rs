//! Test support: events at chosen times, and what a display makes of them.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_engine::dockerfile::source::{Position, Source, SourceRange};
use ashlar_engine::event::{BuildEvent, VertexId};
use ashlar_engine::lint::{Finding, Rule};
use ashlar_model::executor::OutputStream;

use super::Display;
use super::book::Book;
use super::out::Out;

/// Plays events to a display, and deadlines between them as the ticker would.
pub(super) struct Recording {
    book: Book,
    display: Box<dyn Display>,
    written: Written,
    now: Duration,
}

/// Memory that remembers how often it was written to.
#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<(Vec<u8>, usize)>>);

impl Written {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut written = self.0.lock().unwrap();
        written.0.extend_from_slice(bytes);
        written.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Recording {
    pub(super) fn new(make: impl FnOnce(Out) -> Box<dyn Display>) -> Self {
        let written = Written::default();
        Self {
            book: Book::default(),
            display: make(Out::new(Box::new(written.clone()))),
            written,
            now: Duration::ZERO,
        }
    }

    /// Lets time pass.
    pub(super) fn at(&mut self, seconds: f64) -> &mut Self {
        let now = Duration::from_secs_f64(seconds);
        while let Some(deadline) = self.display.deadline(&self.book).filter(|d| *d <= now) {
            self.now = self.now.max(deadline);
            self.display.tick(self.now, &self.book);
        }
        self.now = now;
        self
    }

    /// What was written so far, and in how many calls.
    pub(super) fn written(&self) -> (String, usize) {
        let written = self.written.0.lock().unwrap();
        (String::from_utf8(written.0.clone()).unwrap(), written.1)
    }

    pub(super) fn finish(mut self) -> String {
        self.display.finish(self.now, &self.book);
        self.written().0
    }

    fn event(&mut self, event: &BuildEvent) {
        let Self {
            book, display, now, ..
        } = self;
        book.enter(*now, event, |vertex, stream, line| {
            display.line(*now, vertex, stream, line);
        });
        display.event(*now, book, event);
    }

    pub(super) fn announce(&mut self, vertex: u32, name: &str) {
        self.event(&BuildEvent::Announced {
            vertex: VertexId(vertex),
            name: name.into(),
        });
    }

    pub(super) fn started(&mut self, vertex: u32) {
        self.event(&BuildEvent::Started {
            vertex: VertexId(vertex),
        });
    }

    pub(super) fn waiting(&mut self, vertex: u32, holder: Option<&str>) {
        self.event(&BuildEvent::Waiting {
            vertex: VertexId(vertex),
            holder: holder.map(Into::into),
        });
    }

    pub(super) fn stdout(&mut self, vertex: u32, bytes: &[u8]) {
        self.output(vertex, OutputStream::Stdout, bytes);
    }

    pub(super) fn stderr(&mut self, vertex: u32, bytes: &[u8]) {
        self.output(vertex, OutputStream::Stderr, bytes);
    }

    fn output(&mut self, vertex: u32, stream: OutputStream, bytes: &[u8]) {
        self.event(&BuildEvent::Output {
            vertex: VertexId(vertex),
            stream,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn work(&mut self, vertex: u32, label: &str, done: u64, total: Option<u64>) {
        self.event(&BuildEvent::Progress {
            vertex: VertexId(vertex),
            label: label.into(),
            done,
            total,
        });
    }

    pub(super) fn cached(&mut self, vertex: u32) {
        self.event(&BuildEvent::Cached {
            vertex: VertexId(vertex),
        });
    }

    pub(super) fn finished(&mut self, vertex: u32, seconds: f64) {
        self.event(&BuildEvent::Finished {
            vertex: VertexId(vertex),
            elapsed: Duration::from_secs_f64(seconds),
        });
    }

    pub(super) fn failed(&mut self, vertex: u32, seconds: f64, error: &str) {
        self.event(&BuildEvent::Failed {
            vertex: VertexId(vertex),
            elapsed: Duration::from_secs_f64(seconds),
            error: error.into(),
        });
    }

    pub(super) fn cancelled(&mut self, vertex: u32) {
        self.event(&BuildEvent::Cancelled {
            vertex: VertexId(vertex),
        });
    }

    pub(super) fn warning(&mut self, message: &str) {
        self.event(&BuildEvent::Warning {
            message: message.into(),
        });
    }

    pub(super) fn finding(&mut self, line: u32, detail: &str) {
        self.event(&BuildEvent::Finding(Arc::new(Finding {
            rule: Rule::InvalidBaseImagePlatform,
            detail: detail.to_owned(),
            source: Source::new("Dockerfile", ""),
            range: SourceRange::at(Position::new(line, 1)),
        })));
    }
}
