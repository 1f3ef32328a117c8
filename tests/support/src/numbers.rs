//! Numbers that look random and follow from a seed, so that what fails with them fails again.

/// Steele, Lea and Flood's `SplitMix64`: enough for sizes, texts and choices.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The numbers of one of many things that share a seed.
    pub fn of(seed: u64, thing: u64) -> Self {
        let mut mixed = Self(seed ^ 0x5851_f42d_4c95_7f2d);
        let seed = mixed.any();
        Self(seed ^ thing.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    /// The next number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a limit, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }

    /// The place of one of so many things.
    pub fn place(&mut self, among: usize) -> usize {
        usize::try_from(self.below(among as u64)).expect("it is below a usize")
    }

    /// The next bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.any().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
