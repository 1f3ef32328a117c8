//! What happens to connections.

use std::time::Duration;

use crate::numbers::Numbers;

/// One of the two ways through a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to one connection. The numbers count the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Whatever comes waits so long before it is passed on.
    Delay(Duration),
    /// The connection ends after so many bytes.
    Cut(Direction, u64),
    /// After so many bytes nothing more is passed on in this direction, and nobody is told.
    Stall(Direction, u64),
    /// The byte after so many others is changed.
    Corrupt(Direction, u64),
    /// It ends before anything is passed on.
    Refuse,
}

/// What happens to the connections to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Sound,
    /// The same to each.
    Each(Trouble),
    /// To each something that follows from the seed and from how many there were before it.
    Seeded(u64),
}

impl Plan {
    pub(super) fn trouble_of(self, connection: u64) -> Trouble {
        match self {
            Self::Sound => Trouble::None,
            Self::Each(trouble) => trouble,
            Self::Seeded(seed) => Trouble::random(&mut Numbers::of(seed, connection)),
        }
    }
}

impl Trouble {
    /// One trouble in three connections or so; where it strikes is spread over all orders of
    /// magnitude up to a few megabytes, for the first bytes of a connection are its most delicate.
    pub fn random(numbers: &mut Numbers) -> Self {
        let direction = if numbers.below(2) == 0 {
            Direction::Up
        } else {
            Direction::Down
        };
        let magnitude = 1_u64 << numbers.below(23);
        let at = magnitude + numbers.below(magnitude);
        match numbers.below(18) {
            0 => Self::Delay(Duration::from_millis(1 + numbers.below(40))),
            1 | 2 => Self::Cut(direction, at),
            3 => Self::Stall(direction, at),
            4 | 5 => Self::Corrupt(direction, at),
            6 => Self::Refuse,
            _ => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_everything() {
        let troubles = |seed| -> Vec<Trouble> {
            (0..200)
                .map(|number| Plan::Seeded(seed).trouble_of(number))
                .collect()
        };
        assert_eq!(troubles(1), troubles(1));
        assert_ne!(troubles(1), troubles(2));
        let sound = troubles(3)
            .iter()
            .filter(|trouble| **trouble == Trouble::None)
            .count();
        assert!((60..180).contains(&sound), "{sound} of 200 are sound");
    }
}
