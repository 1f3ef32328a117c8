//! Progress on a terminal: steps that run are redrawn in place, steps that ended scroll away.
//!
//! ```text
//!  => CACHED [build 1/3] FROM docker.io/library/debian:bookworm            0.0s
//!  => [build 2/3] COPY . .                                                 0.2s
//! [+] Building 3.4s (2/5)
//!  => [build 3/3] RUN make                                                 3.2s
//!  => => # cc -c main.c
//!  => [docs 1/1] RUN make docs                                             1.0s
//! ```
//!
//! A frame is one write: up to the first line of the frame before, each line with an erase of what
//! is left of it, and an erase of what is below. So nothing flickers. The cursor is never hidden
//! and the terminal's modes are never changed: nothing has to be restored, however the process
//! ends.

mod frame;

use std::time::Duration;

use ashlar_engine::event::BuildEvent;
use ashlar_model::executor::OutputStream;
use rustix::termios::tcgetwinsize;

use super::Display;
use super::book::{Book, State, Vertex};
use super::findings::Summary;
use super::out::{Out, put};
use super::text;
use frame::{Frame, Line, Tone};

/// Time between frames: ten a second.
const FRAME: Duration = Duration::from_millis(100);

/// What is drawn on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Screen {
    /// The terminal behind standard error.
    StandardError,
    /// Columns and rows that do not change.
    #[cfg(test)]
    Fixed(usize, usize),
}

impl Screen {
    /// Columns and rows; 80 and 24 where the terminal does not tell.
    fn size(self) -> (usize, usize) {
        match self {
            #[cfg(test)]
            Self::Fixed(columns, rows) => (columns, rows),
            Self::StandardError => match tcgetwinsize(std::io::stderr()) {
                Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                    (usize::from(size.ws_col), usize::from(size.ws_row))
                }
                _ => (80, 24),
            },
        }
    }
}

pub(super) struct Tty {
    out: Out,
    screen: Screen,
    color: bool,
    /// Finished lines that were not drawn yet.
    scroll: Vec<ScrollLine>,
    /// Columns that each line of the last frame takes.
    drawn: Vec<usize>,
    /// When the last frame was drawn.
    last_frame: Duration,
}

/// A line that scrolls away; its text is made when the width is known.
struct ScrollLine {
    text: String,
    time: Option<Duration>,
    tone: Tone,
}

impl Tty {
    pub(super) const fn new(out: Out, screen: Screen, color: bool) -> Self {
        Self {
            out,
            screen,
            color,
            scroll: Vec::new(),
            drawn: Vec::new(),
            last_frame: Duration::ZERO,
        }
    }

    /// Draws what has scrolled and, below it, `live`.
    fn draw(&mut self, at: Duration, columns: usize, live: &[Line]) {
        // A terminal that was made narrower has broken the lines of the last frame.
        let rows: usize = self
            .drawn
            .iter()
            .map(|width| width.div_ceil(columns).max(1))
            .sum();
        if rows > 0 {
            put!(self.out, "\x1b[{rows}A\r");
        }
        let scrolled: Vec<Line> = self
            .scroll
            .drain(..)
            .map(|line| frame::line(columns, &line.text, line.time, line.tone))
            .collect();
        for line in scrolled.iter().chain(live) {
            line.write(&mut self.out, self.color);
            put!(self.out, "\x1b[K\n");
        }
        if rows > 0 {
            put!(self.out, "\x1b[J");
        }
        self.drawn.clear();
        self.drawn.extend(live.iter().map(Line::width));
        self.out.send();
        self.last_frame = at;
    }

    fn frame(&mut self, at: Duration, book: &Book) {
        let (columns, rows) = self.screen.size();
        let live = Frame {
            at,
            columns,
            // The cursor's line stays free.
            rows: rows.saturating_sub(1),
        }
        .lines(book);
        self.draw(at, columns, &live);
    }

    fn ended(&mut self, vertex: &Vertex) {
        let (word, time, tone) = match vertex.state {
            State::Cached => ("CACHED ", Duration::ZERO, Tone::Done),
            State::Finished(elapsed) => ("", elapsed, Tone::Done),
            State::Failed(elapsed) => ("ERROR ", elapsed, Tone::Error),
            State::Cancelled if vertex.begun => ("CANCELED ", Duration::ZERO, Tone::Plain),
            _ => return,
        };
        self.scroll.push(ScrollLine {
            text: format!(" => {word}{}", text::printable(vertex.name.as_bytes())),
            time: Some(time),
            tone,
        });
    }
}

impl Display for Tty {
    fn event(&mut self, at: Duration, book: &Book, event: &BuildEvent) {
        match event {
            BuildEvent::Cached { vertex }
            | BuildEvent::Finished { vertex, .. }
            | BuildEvent::Failed { vertex, .. }
            | BuildEvent::Cancelled { vertex } => {
                if let Some(vertex) = book.vertex(*vertex) {
                    self.ended(vertex);
                }
            }
            BuildEvent::Warning { message } => self.scroll.push(ScrollLine {
                text: format!("warning: {}", text::printable(message.as_bytes())),
                time: None,
                tone: Tone::Warning,
            }),
            _ => {}
        }
        // Events are frequent, frames are not; between frames the ticker draws.
        if at.saturating_sub(self.last_frame) >= FRAME && !self.scroll.is_empty() {
            self.frame(at, book);
        }
    }

    fn line(&mut self, _at: Duration, _vertex: &Vertex, _stream: OutputStream, _line: &[u8]) {
        // Frames show the vertices' tails, which the book keeps.
    }

    fn deadline(&self, book: &Book) -> Option<Duration> {
        book.vertices()
            .any(|vertex| vertex.state.is_live())
            .then_some(self.last_frame + FRAME)
    }

    fn tick(&mut self, at: Duration, book: &Book) {
        self.frame(at, book);
    }

    fn finish(&mut self, at: Duration, book: &Book) {
        let (columns, _) = self.screen.size();
        if book.vertices().next().is_some() {
            let ended = |wanted: fn(State) -> bool| book.vertices().any(|v| wanted(v.state));
            let (word, tone) = if ended(|state| matches!(state, State::Failed(_))) {
                (" FAILED", Tone::Error)
            } else if ended(|state| !state.is_over() || state == State::Cancelled) {
                (" CANCELED", Tone::Plain)
            } else {
                (" FINISHED", Tone::Done)
            };
            self.scroll.push(ScrollLine {
                text: frame::heading(at, book) + word,
                time: None,
                tone,
            });
        }
        if !self.scroll.is_empty() || !self.drawn.is_empty() {
            self.draw(at, columns, &[]);
        }
        if !book.findings().is_empty() {
            let summary = Summary {
                findings: book.findings(),
                color: self.color,
            };
            put!(self.out, "\n{summary}");
            self.out.send();
        }
    }
}

#[cfg(test)]
mod tests;
