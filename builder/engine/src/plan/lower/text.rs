//! How people read an instruction in progress displays and histories.

use crate::dockerfile::Instruction;

/// Long names are cut: they are one line of a display.
const LONGEST: usize = 240;

/// An instruction on one line: continuations joined, heredocs left out.
pub(super) fn one_line<K>(instruction: &Instruction<K>, escape: char) -> String {
    let mut line = String::new();
    for piece in instruction.original.lines() {
        let piece = piece.trim();
        if !line.is_empty() && piece.starts_with('#') {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        match piece.strip_suffix(escape) {
            Some(rest) => line.push_str(rest.trim_end()),
            None => {
                line.push_str(piece);
                break;
            }
        }
    }
    if line.chars().count() > LONGEST {
        line = line.chars().take(LONGEST - 1).collect();
        line.push('…');
    }
    line
}

/// Go's `%q` of a list of strings, as histories have it.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| go_quote(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `strconv.Quote`.
fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) < 0x1_0000 => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character is shown as it is: not one of those that only separate or control.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Rust escapes the same ones, and marks that stand at the beginning.
    let shown: String = ['x', character]
        .iter()
        .collect::<String>()
        .escape_debug()
        .collect();
    shown.chars().nth(1) == Some(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_quoted_as_go_does() {
        let words = ["sh", "-c", "echo \"a\\b\"\n\u{1}é"].map(str::to_owned);
        assert_eq!(quoted_list(&words), r#"["sh" "-c" "echo \"a\\b\"\n\x01é"]"#);
        // Go's strconv.IsPrint decides: no blank but the usual one, no control, no private use.
        let words = ["a\u{301}'\u{7f}\u{85}\u{a0}\u{200b}\u{e000}\u{1f600}\u{e0001}".to_owned()];
        assert_eq!(
            quoted_list(&words),
            "[\"a\u{301}'\\x7f\\u0085\\u00a0\\u200b\\ue000\u{1f600}\\U000e0001\"]"
        );
        assert_eq!(quoted_list(&[]), "[]");
    }
}
