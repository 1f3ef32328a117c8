//! Lines out of chunks that end anywhere.

/// A line longer than this is cut into several: it must not grow in memory without bound.
const LONGEST: usize = 16 * 1024;

/// Joins the chunks of one stream and cuts them at line ends.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    pending: Vec<u8>,
}

impl LineSplitter {
    /// Takes a chunk and gives out every line that it completes.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.pending.is_empty() {
                line(visible(head));
            } else {
                self.pending.extend_from_slice(head);
                line(visible(&self.pending));
                self.pending.clear();
            }
        }
        self.pending.extend_from_slice(bytes);
        while self.pending.len() > LONGEST {
            let rest = self.pending.split_off(LONGEST);
            line(visible(&self.pending));
            self.pending = rest;
        }
    }

    /// Gives out a last line that has no end, if there is one.
    pub(super) fn flush(&mut self, mut line: impl FnMut(&[u8])) {
        if !visible(&self.pending).is_empty() {
            line(visible(&self.pending));
        }
        self.pending.clear();
    }

    /// The line that is being written.
    pub(super) fn pending(&self) -> &[u8] {
        visible(&self.pending)
    }
}

/// What a terminal would show of a line at its end: a carriage return begins it anew, as programs
/// do that redraw a progress bar.
fn visible(line: &[u8]) -> &[u8] {
    let end = line
        .iter()
        .rposition(|byte| *byte != b'\r')
        .map_or(0, |last| last + 1);
    let line = &line[..end];
    match line.iter().rposition(|byte| *byte == b'\r') {
        Some(at) => &line[at + 1..],
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
            });
        }
        splitter.flush(|line| lines.push(format!("{}<", String::from_utf8_lossy(line))));
        lines
    }

    #[test]
    fn lines_are_whole_wherever_the_chunks_end() {
        assert_eq!(split(&[b"a\nb\n"]), ["a", "b"]);
        assert_eq!(split(&[b"a", b"b\nc", b"", b"\n", b"d"]), ["ab", "c", "d<"]);
        assert_eq!(split(&[b"\n\n"]), ["", ""]);
        assert!(split(&[b""]).is_empty());
    }

    #[test]
    fn a_redrawn_line_shows_its_last_state() {
        assert_eq!(split(&[b"10%\r", b"20%\rdone\r\n"]), ["done"]);
        assert_eq!(split(&[b"10%\r20%\r"]), ["20%<"]);
        assert_eq!(split(&[b"dos\r\n"]), ["dos"]);
        assert_eq!(split(&[b"\r\n"]), [""]);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let chunk = vec![b'x'; LONGEST * 2 + 10];
        let lines = split(&[&chunk]);
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines.iter().map(String::len).sum::<usize>(),
            chunk.len() + 1
        );
    }
}
