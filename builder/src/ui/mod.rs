//! Progress: what the user sees while a build runs, on standard error.
//!
//! [`Progress`] takes the build's events, keeps the book of its vertices, cuts their output
//! into lines, and hands both to one display:
//!
//! | mode | display |
//! |---|---|
//! | `plain` | [`plain`]: lines that only grow, as BuildKit's plain mode |
//! | `tty` | [`tty`]: running steps redrawn in place, finished ones scroll away |
//! | `json` | [`json`]: one object on each line |
//! | `quiet` | nothing |
//! | `auto` | `tty` if standard error is a terminal that can do it, else `plain` |
//!
//! What the linter finds is said at the end ([`findings`]), by `json` at once.
//!
//! A display that needs to act while nothing happens names a deadline; only then a thread is
//! started to keep it. A fully cached build starts none, and writes once.

mod book;
mod findings;
mod json;
mod lines;
mod out;
mod plain;
#[cfg(test)]
mod recording;
mod text;
mod ticker;
mod tty;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::event::{BuildEvent, EventSink};
use ashlar_model::executor::OutputStream;
use clap::ValueEnum;
use rustix::termios::isatty;

use crate::settings::Settings;
use book::{Book, Vertex};
use out::Out;
use ticker::Ticker;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressMode {
    /// `tty` on a terminal, else `plain`
    #[default]
    Auto,
    /// Running steps are redrawn in place
    Tty,
    /// Plain lines
    Plain,
    /// One JSON object on each line
    #[value(alias = "rawjson")]
    Json,
    /// Nothing but errors
    Quiet,
}

/// One way to show progress. Times are since the build began.
trait Display: Send {
    /// Something happened, and `book` knows it already. Output comes by [`Display::line`].
    fn event(&mut self, at: Duration, book: &Book, event: &BuildEvent);

    /// A vertex wrote a line; without its end.
    fn line(&mut self, at: Duration, vertex: &Vertex, stream: OutputStream, line: &[u8]);

    /// When [`Display::tick`] is to be called if nothing happens until then.
    fn deadline(&self, book: &Book) -> Option<Duration> {
        let _ = book;
        None
    }

    /// The deadline has come.
    fn tick(&mut self, at: Duration, book: &Book) {
        let _ = (at, book);
    }

    /// Nothing will happen any more.
    fn finish(&mut self, at: Duration, book: &Book) {
        let _ = (at, book);
    }
}

/// Shows nothing.
struct Quiet;

impl Display for Quiet {
    fn event(&mut self, _at: Duration, _book: &Book, _event: &BuildEvent) {}
    fn line(&mut self, _at: Duration, _vertex: &Vertex, _stream: OutputStream, _line: &[u8]) {}
}

/// The progress of one build. Ends with [`Progress::finish`], at the latest when it is dropped.
pub struct Progress {
    ticker: Ticker,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Begins to show progress on standard error.
    pub fn start(mode: ProgressMode, settings: &Settings) -> Arc<Self> {
        let terminal = isatty(std::io::stderr()) && settings.environment().terminal_is_capable();
        let mode = match mode {
            ProgressMode::Auto if terminal => ProgressMode::Tty,
            ProgressMode::Auto => ProgressMode::Plain,
            mode => mode,
        };
        let out = || Out::new(Box::new(std::io::stderr()));
        let display: Box<dyn Display> = match mode {
            ProgressMode::Quiet => Box::new(Quiet),
            ProgressMode::Json => Box::new(json::Json::new(out())),
            ProgressMode::Tty => Box::new(tty::Tty::new(
                out(),
                tty::Screen::StandardError,
                settings.color(),
            )),
            ProgressMode::Auto | ProgressMode::Plain => Box::new(plain::Plain::new(out())),
        };
        Arc::new(Self::with(display))
    }

    fn with(display: Box<dyn Display>) -> Self {
        Self {
            ticker: Ticker::new(display),
        }
    }

    /// Shows what is still to be shown and leaves the terminal in order. Later events are ignored.
    pub fn finish(&self) {
        self.ticker.finish();
    }
}

impl EventSink for Progress {
    fn emit(&self, event: BuildEvent) {
        self.ticker.event(&event);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use ashlar_engine::event::VertexId;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn plain_to(sink: &Sink) -> Progress {
        let out = Out::new(Box::new(sink.clone()));
        Progress::with(Box::new(plain::Plain::new(out)))
    }

    fn announced(number: u32, name: &str) -> BuildEvent {
        BuildEvent::Announced {
            vertex: VertexId(number),
            name: name.into(),
        }
    }

    #[test]
    fn a_cached_build_starts_no_thread_and_is_shown_whole() {
        let sink = Sink::default();
        let progress = plain_to(&sink);
        for number in 1..=2 {
            progress.emit(announced(number, "step"));
            progress.emit(BuildEvent::Cached {
                vertex: VertexId(number),
            });
        }
        assert!(!progress.ticker.has_thread());
        progress.finish();
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "#1 step\n#1 CACHED\n\n#2 step\n#2 CACHED\n");
    }

    #[test]
    fn nothing_is_shown_after_the_end() {
        let sink = Sink::default();
        let progress = plain_to(&sink);
        progress.finish();
        progress.emit(announced(1, "step"));
        progress.emit(BuildEvent::Started {
            vertex: VertexId(1),
        });
        drop(progress);
        assert_eq!(*sink.0.lock().unwrap(), b"");
    }

    /// A line held back for another vertex must come out though nothing else happens.
    #[test]
    fn a_deadline_is_kept_without_events() {
        let sink = Sink::default();
        let progress = plain_to(&sink);
        for number in 1..=2 {
            progress.emit(announced(number, "step"));
            progress.emit(BuildEvent::Started {
                vertex: VertexId(number),
            });
        }
        for number in [1, 2, 1, 2] {
            progress.emit(BuildEvent::Output {
                vertex: VertexId(number),
                stream: OutputStream::Stdout,
                bytes: format!("hello from {number}\n").into_bytes(),
            });
        }
        assert!(progress.ticker.has_thread());
        let begin = std::time::Instant::now();
        loop {
            let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
            if text.matches("hello").count() == 4 {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
        progress.finish();
    }
}
