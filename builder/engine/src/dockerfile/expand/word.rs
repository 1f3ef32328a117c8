//! The machine that expands a word.

use std::collections::BTreeSet;
use std::mem;

use super::cursor::Cursor;
use super::environment::Environment;
use super::error::{ExpandError, ExpandErrorKind};
use super::pattern::{Length, Pattern};

/// How deep substitutions may stand inside each other. Ours: the reference implementation has no
/// bound but its stack; people write two or three.
const MAX_DEPTH: usize = 50;

/// What is special in a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    escape: char,
    /// Whether quotes are syntax.
    quotes: bool,
}

impl Mode {
    pub(super) const fn quoted(escape: char) -> Self {
        Self {
            escape,
            quotes: true,
        }
    }

    pub(super) const fn heredoc() -> Self {
        Self {
            escape: '\\',
            quotes: false,
        }
    }
}

/// An expanded word, whole and split.
#[derive(Debug, Default)]
pub(super) struct Processed {
    pub(super) text: String,
    pub(super) words: Vec<String>,
    pub(super) defined: BTreeSet<String>,
    pub(super) undefined: BTreeSet<String>,
}

/// The state of expanding one word.
pub(super) struct Processor<'a> {
    cursor: Cursor<'a>,
    environment: &'a dyn Environment,
    mode: Mode,
    defined: BTreeSet<String>,
    undefined: BTreeSet<String>,
    depth: usize,
}

/// An error and the byte where its cause begins.
type Failure = (usize, ExpandErrorKind);

/// Whether escape characters stay in the text, for a [`Pattern`] to read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Remove,
    Keep,
}

/// Text being put together, whole and as words.
#[derive(Debug, Default)]
struct Output {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Output {
    /// Text that blanks do not split.
    fn push_quoted(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
    }

    /// Text that blanks split.
    fn push_split(&mut self, text: &str) {
        self.text.push_str(text);
        for character in text.chars() {
            if character.is_whitespace() {
                self.end_word();
            } else {
                self.word.push(character);
            }
        }
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(mem::take(&mut self.word));
        }
    }
}

impl<'a> Processor<'a> {
    pub(super) fn run(
        word: &'a str,
        environment: &'a dyn Environment,
        mode: Mode,
    ) -> Result<Processed, ExpandError> {
        let mut processor = Self {
            cursor: Cursor::new(word),
            environment,
            mode,
            defined: BTreeSet::new(),
            undefined: BTreeSet::new(),
            depth: 0,
        };
        match processor.read_until(None, Escapes::Remove) {
            Ok(mut output) => {
                output.end_word();
                Ok(Processed {
                    text: output.text,
                    words: output.words,
                    defined: processor.defined,
                    undefined: processor.undefined,
                })
            }
            Err((offset, kind)) => Err(ExpandError {
                word: word.to_owned(),
                offset,
                kind,
            }),
        }
    }

    /// Reads up to `stop`, which is taken, or to the end. The end before `stop` is an error.
    fn read_until(&mut self, stop: Option<char>, escapes: Escapes) -> Result<Output, Failure> {
        let start = self.cursor.offset();
        let mut output = Output::default();
        while let Some(character) = self.cursor.peek() {
            if Some(character) == stop {
                self.cursor.next();
                return Ok(output);
            }
            match character {
                '$' => output.push_split(&self.read_dollar()?),
                '\'' if self.mode.quotes => output.push_quoted(&self.read_single_quotes()?),
                '"' if self.mode.quotes => output.push_quoted(&self.read_double_quotes(escapes)?),
                _ => {
                    self.cursor.next();
                    self.read_plain(character, escapes, &mut output);
                }
            }
        }
        match stop {
            None => Ok(output),
            Some('/') => Err((start, ExpandErrorKind::MissingSlash)),
            Some(_) => Err((start, ExpandErrorKind::MissingBrace)),
        }
    }

    /// A character with no meaning of its own, or the escape character and what it escapes.
    fn read_plain(&mut self, character: char, escapes: Escapes, output: &mut Output) {
        if character != self.mode.escape {
            output.push_split(character.encode_utf8(&mut [0; 4]));
            return;
        }
        if escapes == Escapes::Keep {
            output.push_quoted(character.encode_utf8(&mut [0; 4]));
        }
        if let Some(escaped) = self.cursor.next() {
            output.push_quoted(escaped.encode_utf8(&mut [0; 4]));
        }
    }

    fn read_single_quotes(&mut self) -> Result<String, Failure> {
        let start = self.cursor.offset();
        self.cursor.next();
        let text = self.cursor.take_while(|c| c != '\'').to_owned();
        if self.cursor.take('\'') {
            Ok(text)
        } else {
            Err((start, ExpandErrorKind::SingleQuote))
        }
    }

    fn read_double_quotes(&mut self, escapes: Escapes) -> Result<String, Failure> {
        let start = self.cursor.offset();
        self.cursor.next();
        let mut text = String::new();
        loop {
            match self.cursor.peek() {
                None => return Err((start, ExpandErrorKind::DoubleQuote)),
                Some('"') => {
                    self.cursor.next();
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.read_dollar()?),
                Some(character) => {
                    self.cursor.next();
                    let mut plain = character;
                    if character == self.mode.escape {
                        if escapes == Escapes::Keep {
                            text.push(character);
                        }
                        // Before other characters it stays: where it means nothing, a pattern
                        // must see it escaped.
                        if let Some(escaped) = self.cursor.peek()
                            && (matches!(escaped, '"' | '$') || escaped == self.mode.escape)
                        {
                            self.cursor.next();
                            plain = escaped;
                        }
                    }
                    text.push(plain);
                }
            }
        }
    }

    fn read_dollar(&mut self) -> Result<String, Failure> {
        let start = self.cursor.offset();
        self.cursor.next();
        if !self.cursor.take('{') {
            let name = self.read_name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.value_or_nothing(&name).to_owned()
            });
        }
        if self.depth == MAX_DEPTH {
            return Err((start, ExpandErrorKind::TooDeep(MAX_DEPTH)));
        }
        self.depth += 1;
        let value = self.read_braces(start);
        self.depth -= 1;
        // Whatever part was left open, it is the brace that misses its partner.
        value.map_err(|(offset, kind)| match kind {
            ExpandErrorKind::MissingBrace => (start, kind),
            _ => (offset, kind),
        })
    }

    /// What stands between `${` and `}`, with the latter.
    fn read_braces(&mut self, start: usize) -> Result<String, Failure> {
        let name = self.read_name();
        if name.is_empty() {
            let kind = match self.cursor.peek() {
                None => ExpandErrorKind::MissingBrace,
                Some(_) => ExpandErrorKind::BadSubstitution,
            };
            return Err((start, kind));
        }
        let fail = |kind| Err((start, kind));
        match self.cursor.next() {
            None => fail(ExpandErrorKind::MissingBrace),
            Some('}') => Ok(self.value_or_nothing(&name).to_owned()),
            Some(':') => match self.cursor.next() {
                None => fail(ExpandErrorKind::MissingBrace),
                Some(modifier @ ('-' | '+' | '?')) => {
                    self.read_default(start, &name, modifier, true)
                }
                Some(other) => fail(ExpandErrorKind::UnsupportedModifier(format!(":{other}"))),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.read_default(start, &name, modifier, false),
            Some(modifier @ ('#' | '%')) => self.read_strip(start, &name, modifier),
            Some('/') => self.read_replace(start, &name),
            Some(other) => fail(ExpandErrorKind::UnsupportedModifier(other.to_string())),
        }
    }

    /// `-w}`, `+w}` and `?w}`.
    fn read_default(
        &mut self,
        start: usize,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, Failure> {
        let word = self.read_until(Some('}'), Escapes::Remove)?.text;
        let set = self.look_up(name);
        let value = set.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value.to_owned()),
            ('-', None) => Ok(word),
            (_, None) => {
                let message = match (word.is_empty(), set) {
                    (false, _) => word,
                    (true, None) => "is not allowed to be unset".to_owned(),
                    (true, Some(_)) => "is not allowed to be empty".to_owned(),
                };
                let name = name.to_owned();
                Err((start, ExpandErrorKind::Unset { name, message }))
            }
        }
    }

    /// `#p}`, `##p}`, `%p}` and `%%p}`, from the second character on.
    fn read_strip(&mut self, start: usize, name: &str, modifier: char) -> Result<String, Failure> {
        let word = self.read_until(Some('}'), Escapes::Keep)?.text;
        let (text, length) = match word.strip_prefix(modifier) {
            Some(text) => (text, Length::Longest),
            None => (word.as_str(), Length::Shortest),
        };
        let pattern = Pattern::parse(text).map_err(|kind| (start, kind))?;
        let value = self.value_or_nothing(name);
        Ok(if modifier == '#' {
            pattern.strip_prefix(value, length).to_owned()
        } else {
            pattern.strip_suffix(value, length).to_owned()
        })
    }

    /// `/p/r}` and `//p/r}`, from the second character on.
    fn read_replace(&mut self, start: usize, name: &str) -> Result<String, Failure> {
        let all = self.cursor.take('/');
        let pattern = self.read_until(Some('/'), Escapes::Keep)?.text;
        let replacement = self.read_until(Some('}'), Escapes::Keep)?.text;
        let pattern = Pattern::parse(&pattern).map_err(|kind| (start, kind))?;
        let value = self.value_or_nothing(name);
        Ok(if all {
            pattern.replace_all(value, &replacement)
        } else {
            pattern.replace_first(value, &replacement)
        })
    }

    /// A variable's name, empty if there is none.
    fn read_name(&mut self) -> String {
        match self.cursor.peek() {
            Some(c) if c.is_numeric() => self.cursor.take_while(char::is_numeric).to_owned(),
            Some(c @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                self.cursor.next();
                c.to_string()
            }
            _ => {
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                self.cursor.take_while(is_name).to_owned()
            }
        }
    }

    fn value_or_nothing(&mut self, name: &str) -> &'a str {
        self.look_up(name).unwrap_or_default()
    }

    fn look_up(&mut self, name: &str) -> Option<&'a str> {
        let value = self.environment.value(name);
        let asked = match value {
            Some(_) => &mut self.defined,
            None => &mut self.undefined,
        };
        asked.insert(name.to_owned());
        value
    }
}
