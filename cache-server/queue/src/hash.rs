//! Numbers that look like chance and are the same everywhere: places on the ring, and jitter.

use std::hash::{BuildHasherDefault, Hasher};

/// Spreads a number over all bits (the finisher of SplitMix64).
pub(crate) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Of two numbers.
pub(crate) const fn mix2(a: u64, b: u64) -> u64 {
    mix(mix(a) ^ b.rotate_left(32))
}

/// Of a name.
pub(crate) fn mix_str(name: &str) -> u64 {
    let mut state = mix(name.len() as u64);
    for part in name.as_bytes().chunks(8) {
        let mut word = [0_u8; 8];
        word[..part.len()].copy_from_slice(part);
        state = mix2(state, u64::from_le_bytes(word));
    }
    state
}

/// Of an operation's name.
pub(crate) const fn mix_wide(number: u128) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves, one after the other"
    )]
    mix2((number >> 64) as u64, number as u64)
}

/// Hashes layers' numbers: those are hashes already, but not of our choosing.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LayerHasher(u64);

impl Hasher for LayerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
}

/// For maps and sets of layers, and of numbers that the queue or its server has chosen.
pub(crate) type Layered = BuildHasherDefault<LayerHasher>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_hash_differently() {
        assert_ne!(mix_str("a"), mix_str("a\0"));
        assert_ne!(mix_str("abcdefgh"), mix_str("abcdefgi"));
        assert_ne!(mix_str(""), mix_str("\0"));
        assert_ne!(mix_wide(1), mix_wide(1 << 64));
        // Pinned: places on the ring are the same in every server.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
