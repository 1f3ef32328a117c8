//! The value of `--chmod`: an octal mode, or changes as GNU chmod(1) has them.
//!
//! ```text
//! mode    = octal digits, at most 7777 | change { "," change }
//! change  = { "u" | "g" | "o" | "a" } action { action }
//! action  = ("+" | "-" | "=") { "r" | "w" | "x" | "X" | "s" | "t" | "u" | "g" | "o" }
//! ```
//!
//! There is no umask: `+x` means `a+x`. A class to copy from stands for an action of its own, as
//! in BSD's chmod: `u=rg` is `u=r` and then `u=g`. What GNU chmod does otherwise to directories
//! (it keeps their set-id bits) does not hold here, nor in BuildKit.

use thiserror::Error;

/// What `--chmod` does to a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange(Change);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Absolute(u16),
    Symbolic(Vec<Action>),
}

/// Why a text is no mode. (The words of the first are BuildKit's.)
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ModeError {
    /// It begins as a number.
    #[error("invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")]
    Octal {
        /// What was given.
        text: String,
    },
    /// It is no change of modes either.
    #[error("invalid chmod parameter: '{text}'. invalid syntax")]
    Symbolic {
        /// What was given.
        text: String,
    },
}

impl ModeError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "give an octal mode such as 0755, or changes as chmod(1) takes them, such as u=rwX,go=rX"
    }
}

/// One step of a symbolic change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Action {
    /// The classes that it is for, as the bits of all their permissions.
    who: u16,
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Bits of all classes, and whether `X` is among them.
    Bits {
        bits: u16,
        conditional_execute: bool,
    },
    /// The permissions of one class, as the shift of its bits.
    CopyOf { shift: u16 },
}

const USER: u16 = 0o4700;
const GROUP: u16 = 0o2070;
/// With the sticky bit, as GNU chmod has it.
const OTHER: u16 = 0o1007;
const EXECUTE: u16 = 0o111;
const STICKY: u16 = 0o1000;

impl ModeChange {
    /// Reads the value of a `--chmod`, variables expanded.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        let is_octal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let change = if is_octal {
            let mode = u16::from_str_radix(text, 8).ok();
            mode.filter(|mode| *mode <= 0o7777).map(Change::Absolute)
        } else {
            parse_symbolic(text).map(Change::Symbolic)
        };
        change.map(Self).ok_or_else(|| {
            let is_number = text.starts_with(|first: char| first.is_ascii_digit());
            let text = text.to_owned();
            if is_number {
                ModeError::Octal { text }
            } else {
                ModeError::Symbolic { text }
            }
        })
    }

    /// The mode that a file or directory of mode `mode` gets.
    pub fn apply(&self, mode: u16, is_directory: bool) -> u16 {
        match &self.0 {
            Change::Absolute(mode) => *mode,
            Change::Symbolic(actions) => actions
                .iter()
                .fold(mode, |mode, action| action.apply(mode, is_directory)),
        }
    }

    /// The mode of a directory that a copy makes on its way: without special bits.
    pub fn apply_to_made_directory(&self, mode: u16) -> u16 {
        self.apply(mode, true) & 0o777
    }
}

impl Action {
    fn apply(self, mode: u16, is_directory: bool) -> u16 {
        let bits = match self.what {
            What::Bits {
                bits,
                conditional_execute,
            } => {
                let execute = conditional_execute && (is_directory || mode & EXECUTE != 0);
                bits | if execute { EXECUTE } else { 0 }
            }
            What::CopyOf { shift } => {
                let class = mode >> shift & 0o7;
                class | class << 3 | class << 6
            }
        };
        let bits = bits & self.who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => mode & !self.who | bits,
        }
    }
}

fn parse_symbolic(text: &str) -> Option<Vec<Action>> {
    let mut actions = Vec::new();
    for change in text.split(',') {
        let classes = change.find(['+', '-', '='])?;
        let who = parse_classes(&change[..classes])?;
        let mut rest = &change[classes..];
        while !rest.is_empty() {
            let end = rest[1..]
                .find(['+', '-', '='])
                .map_or(rest.len(), |at| at + 1);
            let operator = parse_operator(rest.as_bytes()[0])?;
            for what in parse_permissions(&rest[1..end])? {
                actions.push(Action {
                    who,
                    operator,
                    what,
                });
            }
            rest = &rest[end..];
        }
    }
    Some(actions)
}

fn parse_classes(text: &str) -> Option<u16> {
    if text.is_empty() {
        return Some(USER | GROUP | OTHER);
    }
    text.bytes().try_fold(0, |who, class| {
        Some(
            who | match class {
                b'u' => USER,
                b'g' => GROUP,
                b'o' => OTHER,
                b'a' => USER | GROUP | OTHER,
                _ => return None,
            },
        )
    })
}

const fn parse_operator(byte: u8) -> Option<Operator> {
    match byte {
        b'+' => Some(Operator::Add),
        b'-' => Some(Operator::Remove),
        b'=' => Some(Operator::Set),
        _ => None,
    }
}

/// What follows an operator: bits, and classes to copy from. Nothing at all means no bits.
fn parse_permissions(text: &str) -> Option<Vec<What>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(['u', 'g', 'o']).unwrap_or(rest.len());
        if end > 0 || text.is_empty() {
            parts.push(parse_bits(&rest[..end])?);
        }
        let shift = match rest.as_bytes().get(end) {
            Some(b'u') => 6,
            Some(b'g') => 3,
            Some(_) => 0,
            None => return Some(parts),
        };
        parts.push(What::CopyOf { shift });
        rest = &rest[end + 1..];
    }
}

fn parse_bits(text: &str) -> Option<What> {
    let (mut bits, mut conditional_execute) = (0, false);
    for permission in text.bytes() {
        bits |= match permission {
            b'r' => 0o444,
            b'w' => 0o222,
            b'x' => EXECUTE,
            b's' => 0o6000,
            b't' => STICKY,
            b'X' => {
                conditional_execute = true;
                0
            }
            _ => return None,
        };
    }
    Some(What::Bits {
        bits,
        conditional_execute,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(change: &str, mode: u16) -> u16 {
        ModeChange::parse(change).unwrap().apply(mode, false)
    }

    #[test]
    fn octal_modes_replace_all_twelve_bits() {
        assert_eq!(file("755", 0o600), 0o755);
        assert_eq!(file("0", 0o777), 0);
        assert_eq!(file("07777", 0), 0o7777);
        assert_eq!(file("4755", 0o644), 0o4755);
    }

    #[test]
    fn symbolic_modes_do_what_chmod_does() {
        let rows = [
            ("+x", 0o644, 0o755),
            ("a-w", 0o666, 0o444),
            ("u=rwX,go=rX", 0o600, 0o644),
            ("u=rwX,go=rX", 0o700, 0o755),
            ("g=u", 0o640, 0o660),
            ("o=g-w", 0o660, 0o664),
            ("u+s,g+s", 0o755, 0o6755),
            ("+t", 0o755, 0o1755),
            ("=", 0o7777, 0),
            ("go=", 0o777, 0o700),
            ("u+rw+x", 0o000, 0o700),
        ];
        for (change, before, after) in rows {
            assert_eq!(file(change, before), after, "{change} on {before:o}");
        }
        let directory = ModeChange::parse("a+X").unwrap().apply(0o600, true);
        assert_eq!(directory, 0o711);
    }

    #[test]
    fn directories_made_on_the_way_lose_the_special_bits() {
        let change = ModeChange::parse("1777").unwrap();
        assert_eq!(change.apply_to_made_directory(0o755), 0o777);
        let change = ModeChange::parse("770").unwrap();
        assert_eq!(change.apply_to_made_directory(0o755), 0o770);
    }

    #[test]
    fn classes_to_copy_from_are_actions_of_their_own() {
        for (change, before, after) in [
            ("u=go", 0o062, 0o262),
            ("u=rg", 0o030, 0o330),
            ("g+ux", 0o600, 0o670),
            ("o-gr", 0o034, 0o030),
        ] {
            assert_eq!(file(change, before), after, "{change} on {before:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused_in_buildkits_words() {
        let error = |text: &str| ModeChange::parse(text).unwrap_err().to_string();
        for text in ["64a", "10000", "8", "0o7", "99999999999", "7,u+r"] {
            assert_eq!(
                error(text),
                format!(
                    "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
                )
            );
        }
        for text in [
            "", "u", "x+u", "u+q", ",", "u+r,", "+é", "+700", "é", "-", "u=r w",
        ] {
            match ModeChange::parse(text) {
                Err(ModeError::Symbolic { .. }) => {
                    assert_eq!(
                        error(text),
                        format!("invalid chmod parameter: '{text}'. invalid syntax")
                    );
                }
                other => assert!(text == "-" && other.is_ok(), "{text}: {other:?}"),
            }
        }
    }

    /// What chmod(1) makes of a mode, with no umask; `None` if it refuses the change.
    fn by_chmod(change: &str, mode: u16, directory: bool) -> Option<u16> {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("it");
        if directory {
            std::fs::create_dir(&path).unwrap();
        } else {
            std::fs::write(&path, "").unwrap();
        }
        let permissions = std::fs::Permissions::from_mode(mode.into());
        std::fs::set_permissions(&path, permissions).unwrap();
        let status = std::process::Command::new("sh")
            .args([
                "-c",
                "umask 0; exec chmod -- \"$0\" \"$1\" 2>/dev/null",
                change,
            ])
            .arg(&path)
            .status()
            .unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        status
            .success()
            .then(|| u16::try_from(mode & 0o7777).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn every_change_does_what_gnu_chmod_does(
            changes in prop::collection::vec(
                "[ugoa]{0,3}([-+=]([rwxXst]{0,4}|[ugo])){1,3}",
                1..4,
            ),
            mode in 0..0o7777_u16,
        ) {
            let change = changes.join(",");
            let expected = by_chmod(&change, mode, false);
            let own = ModeChange::parse(&change).ok().map(|parsed| parsed.apply(mode, false));
            prop_assert_eq!(own, expected, "{} on {:o}", change, mode);
        }

        #[test]
        fn the_same_holds_for_directories_but_for_their_set_id_bits(
            changes in prop::collection::vec("[ugoa]{0,2}[-+=]([rwxXt]{0,4}|[ugo])", 1..3),
            mode in 0..0o1777_u16,
        ) {
            let change = changes.join(",");
            let expected = by_chmod(&change, mode, true);
            let own = ModeChange::parse(&change).ok().map(|parsed| parsed.apply(mode, true));
            prop_assert_eq!(own, expected, "{} on {:o}", change, mode);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_mode_grows_other_bits(text: String, symbolic in "[ugoa+=rwxXst,-]{0,12}", mode in 0..0o7777_u16) {
            for text in [text, symbolic] {
                if let Ok(change) = ModeChange::parse(&text) {
                    prop_assert!(change.apply(mode, true) <= 0o7777);
                }
            }
        }
    }
}
