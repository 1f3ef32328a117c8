//! A place in a text that moves forward by characters.

/// Reads a text character by character.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, offset: 0 }
    }

    /// Byte offset of the next character.
    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.text[self.offset..].chars().next()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.offset += character.len_utf8();
        Some(character)
    }

    /// Takes the next character if it is this one.
    pub(super) fn take(&mut self, character: char) -> bool {
        let taken = self.peek() == Some(character);
        if taken {
            self.offset += character.len_utf8();
        }
        taken
    }

    /// Takes characters as long as they satisfy `accept`.
    pub(super) fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.offset..];
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.offset += length;
        &rest[..length]
    }
}
