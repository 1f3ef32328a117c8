//! Text that is safe to put anywhere on a terminal, and its width there.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// What can be printed of a line that some program wrote: escape sequences and control characters
/// are taken out, so that they cannot move the cursor; a tab becomes a space.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\x1b' => skip_escape(&mut characters),
            '\t' => clean.push(' '),
            character if character.is_control() => {}
            character => clean.push(character),
        }
    }
    clean
}

/// Skips the rest of an escape sequence: ECMA-48 control sequences and strings, and what has two
/// characters.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            // Parameters and intermediates up to the final character.
            while characters.next_if(|c| matches!(c, ' '..='?')).is_some() {}
            characters.next_if(|c| matches!(c, '@'..='~'));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(character) = characters.next() {
                if character == '\x07' {
                    return;
                }
                if character == '\x1b' {
                    characters.next_if_eq(&'\\');
                    return;
                }
            }
        }
        Some(' '..='/') => {
            // A sequence with intermediates, such as the choice of a character set.
            while characters.next_if(|c| matches!(c, ' '..='/')).is_some() {}
            characters.next();
        }
        _ => {}
    }
}

/// As much of a text as fits into some columns; `…` shows that something is missing.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut fitting = String::new();
    let mut used = 0;
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        used += wide;
        fitting.push(character);
    }
    if columns > 0 {
        fitting.push('…');
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        for (raw, clean) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"a\x1b]0;title\x07b\x1b]8;;x\x1b\\c", "abc"),
            (b"\x1b(Ba\x1b7b\x1bMc", "abc"),
            (b"a\tb\x08\x07\x7f", "a b"),
            (b"\x1b[", ""),
            (b"\x1b", ""),
            (b"\xff", "\u{fffd}"),
            ("\u{9b}2Jx".as_bytes(), "2Jx"),
        ] {
            assert_eq!(printable(raw), clean);
        }
    }

    #[test]
    fn text_is_cut_to_columns() {
        assert_eq!(fit("hello", 5), "hello");
        assert_eq!(fit("hello", 4), "hel…");
        assert_eq!(fit("漢字漢字", 5), "漢字…");
        assert_eq!(fit("漢字漢字", 4), "漢…");
        assert_eq!(fit("hello", 0), "");
    }
}
