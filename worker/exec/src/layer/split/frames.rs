//! How headers say where contents belong: frames.
//!
//! ```text
//! stream  = magic, frame, frame...
//! frame   = L: varint, L bytes as they are, C: varint
//! ```
//!
//! `C` is twice the number of bytes of contents that follow in the tar, plus one if after them
//! zeros fill up a block of 512 bytes. A varint has seven bits in each byte, the lowest first, and
//! the highest bit of all bytes but the last set.

/// What the headers begin with.
pub(super) const MAGIC: &[u8] = b"ashlar split layer 1\n";

/// Contents that a frame speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Contents {
    /// How many bytes.
    pub(super) length: u64,
    /// Whether zeros fill up a block after them.
    pub(super) padded: bool,
}

impl Contents {
    pub(super) const NONE: Self = Self {
        length: 0,
        padded: false,
    };

    /// Of a frame's second number.
    pub(super) const fn of_number(number: u64) -> Self {
        Self {
            length: number >> 1,
            padded: number & 1 == 1,
        }
    }

    const fn number(self) -> u64 {
        self.length << 1 | self.padded as u64
    }

    /// How many zeros follow.
    pub(super) fn padding(self) -> usize {
        if self.padded { padding(self.length) } else { 0 }
    }
}

/// How many bytes fill up a block.
pub(super) fn padding(length: u64) -> usize {
    let over = usize::try_from(length % 512).unwrap_or(0);
    (512 - over) % 512
}

/// Appends a frame.
pub(super) fn write(literal: &[u8], contents: Contents, stream: &mut Vec<u8>) {
    write_number(literal.len() as u64, stream);
    stream.extend_from_slice(literal);
    write_number(contents.number(), stream);
}

fn write_number(mut number: u64, stream: &mut Vec<u8>) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            stream.push(low & 0x7F);
            return;
        }
        stream.push(low | 0x80);
    }
}

/// Reads a number byte by byte.
#[derive(Debug, Default)]
pub(super) struct Number {
    value: u64,
    bytes: u32,
}

impl Number {
    /// Takes a byte; gives the number after its last. `Err` if it has more than 64 bits.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<u64>, ()> {
        let bits = u64::from(byte & 0x7F);
        let shift = 7 * self.bytes;
        if shift >= u64::BITS || bits << shift >> shift != bits {
            return Err(());
        }
        self.value |= bits << shift;
        self.bytes += 1;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<u64>, ()> {
        let mut number = Number::default();
        for byte in bytes {
            if let Some(value) = number.push(*byte)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    #[test]
    fn numbers_have_seven_bits_in_a_byte() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[0x7F]),
            (128, &[0x80, 1]),
            (512, &[0x80, 4]),
            (1 << 20, &[0x80, 0x80, 0x40]),
        ] {
            let mut stream = Vec::new();
            write_number(number, &mut stream);
            assert_eq!(stream, bytes);
            assert_eq!(read(bytes), Ok(Some(number)));
        }
        let mut stream = Vec::new();
        write_number(u64::MAX, &mut stream);
        assert_eq!(stream.len(), 10);
        assert_eq!(read(&stream), Ok(Some(u64::MAX)));
        assert_eq!(read(&[0x80; 9]), Ok(None));
        assert_eq!(read(&[0x80; 11]), Err(()));
        // A 65th bit.
        stream[9] = 3;
        assert_eq!(read(&stream), Err(()));
    }

    #[test]
    fn a_frame_is_as_the_format_says() {
        let mut stream = Vec::new();
        let contents = Contents {
            length: 1000,
            padded: true,
        };
        write(b"header", contents, &mut stream);
        assert_eq!(stream, b"\x06header\xD1\x0F");
        assert_eq!(Contents::of_number(2001), contents);
        assert_eq!(contents.padding(), 24);
        assert_eq!(Contents::of_number(2000).padding(), 0);
        assert_eq!(Contents::of_number(1025).padding(), 0);
    }
}
