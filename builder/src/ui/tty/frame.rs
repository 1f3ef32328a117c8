//! The lines of one frame, fitted to the terminal.

use ashlar_model::size::HumanSize;
use std::time::Duration;

use super::super::book::{Book, State, Vertex};
use super::super::out::{Out, put};
use super::super::text;

/// How many lines of output are shown of a step that runs.
const LOG_LINES: usize = 6;

/// What a line is, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Done,
    Error,
    Warning,
    Log,
}

impl Tone {
    /// Parameters of the "select graphic rendition" sequence; empty for none.
    const fn rendition(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Done => "36",
            Self::Error => "31",
            Self::Warning => "33",
            Self::Log => "2",
        }
    }
}

/// One line that fits the terminal.
#[derive(Debug)]
pub(super) struct Line {
    text: String,
    tone: Tone,
}

impl Line {
    pub(super) fn width(&self) -> usize {
        text::width(&self.text)
    }

    pub(super) fn write(&self, out: &mut Out, color: bool) {
        let rendition = self.tone.rendition();
        if color && !rendition.is_empty() {
            put!(*out, "\x1b[{rendition}m{}\x1b[0m", self.text);
        } else {
            put!(*out, "{}", self.text);
        }
    }
}

/// A line with its time at the right edge. The last column stays free, for terminals that go to
/// the next line as soon as it is written.
pub(super) fn line(columns: usize, content: &str, time: Option<Duration>, tone: Tone) -> Line {
    let room = columns.saturating_sub(1);
    let text = match time {
        None => text::fit(content, room),
        Some(time) => {
            let time = format!("{:.1}s", time.as_secs_f64());
            let left = room.saturating_sub(time.len() + 1);
            let content = text::fit(content, left);
            let padding = left - text::width(&content) + 1;
            if left == 0 {
                text::fit(&time, room)
            } else {
                format!("{content}{:padding$}{time}", "")
            }
        }
    };
    Line { text, tone }
}

/// `[+] Building 3.4s (2/5)`.
pub(super) fn heading(at: Duration, book: &Book) -> String {
    let total = book.vertices().count();
    let over = book
        .vertices()
        .filter(|vertex| vertex.state.is_over())
        .count();
    format!("[+] Building {:.1}s ({over}/{total})", at.as_secs_f64())
}

/// What a frame is made for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Now, since the build began.
    pub(super) at: Duration,
    /// Width of the terminal.
    pub(super) columns: usize,
    /// How many lines the frame may have.
    pub(super) rows: usize,
}

impl Frame {
    /// The heading, then every step that runs with its last lines, as far as there is room.
    pub(super) fn lines(self, book: &Book) -> Vec<Line> {
        let mut lines = Vec::new();
        if self.rows == 0 {
            return lines;
        }
        lines.push(line(
            self.columns,
            &heading(self.at, book),
            None,
            Tone::Plain,
        ));
        let live: Vec<&Vertex> = book
            .vertices()
            .filter(|vertex| vertex.state.is_live())
            .collect();
        let room = self.rows - 1;
        let shown = if live.len() <= room {
            live.len()
        } else {
            room.saturating_sub(1)
        };
        let log_lines = (room - shown.min(room))
            .checked_div(shown)
            .unwrap_or(0)
            .min(LOG_LINES);
        for vertex in &live[..shown] {
            self.vertex(vertex, log_lines, &mut lines);
        }
        if shown < live.len() && lines.len() < self.rows {
            let more = format!("    … and {} more", live.len() - shown);
            lines.push(line(self.columns, &more, None, Tone::Plain));
        }
        lines
    }

    fn vertex(self, vertex: &Vertex, log_lines: usize, lines: &mut Vec<Line>) {
        let name = text::printable(vertex.name.as_bytes());
        let waiting = match (vertex.state, &vertex.queued, &vertex.holder) {
            (State::Waiting, Some(why), _) => {
                format!(" (waiting: {})", text::printable(why.as_bytes()))
            }
            (State::Waiting, None, None) => " (waiting for another build of it)".to_owned(),
            (State::Waiting, None, Some(holder)) => {
                format!(" (waiting for {})", text::printable(holder.as_bytes()))
            }
            _ => String::new(),
        };
        let elapsed = self.at.saturating_sub(vertex.started);
        lines.push(line(
            self.columns,
            &format!(" => {name}{waiting}"),
            Some(elapsed),
            Tone::Plain,
        ));
        let works = vertex
            .work
            .iter()
            .rev()
            .filter(|work| work.total != Some(work.done));
        let works = works.map(|work| match work.total {
            Some(total) => format!(
                " => => {} {} / {}",
                text::printable(work.label.as_bytes()),
                HumanSize(work.done),
                HumanSize(total)
            ),
            None => format!(" => => {}", text::printable(work.label.as_bytes())),
        });
        let unfinished = vertex.unfinished_line().map(text::printable);
        let tail = vertex.tail.iter().rev();
        let log = unfinished
            .into_iter()
            .chain(tail.map(|line| text::printable(line.as_bytes())))
            .map(|text| format!(" => => # {text}"));
        // Newest first, as many as there is room for, then in their order again.
        let mut newest: Vec<String> = works.chain(log).take(log_lines).collect();
        newest.reverse();
        lines.extend(
            newest
                .iter()
                .map(|text| line(self.columns, text, None, Tone::Log)),
        );
    }
}
