//! Which contents go into one blob: content-defined, so that a change stays where it is.
//!
//! A bundle ends after a file with a probability that grows with the file's size, decided by the
//! file's digest. So what comes before and after a changed file is cut where it was cut before.

use super::contents::Content;

/// How large a bundle becomes on average: less makes more blobs to ask for, more makes a changed
/// file more expensive.
const AVERAGE: u64 = 128 << 10;

/// What a file counts besides its bytes, so that tiny ones are not thousands in a bundle.
const PER_FILE: u64 = 256;

/// A bundle has no more bytes. Reached once in thousands of bundles.
const MOST: u64 = 1 << 20;

/// Files of this length are blobs of their own.
pub(super) const LARGE: u64 = AVERAGE;

/// Files that are longer are cut in chunks.
pub(super) const WHOLE: u64 = 2 << 20;

/// No blob of a context is longer.
pub(super) const LONGEST_BLOB: u64 = WHOLE;

/// Contents that are together in blobs of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// The contents from `first` up to `end` are one blob.
    Bundle {
        /// The first.
        first: usize,
        /// Behind the last.
        end: usize,
    },
    /// One content is several blobs.
    Chunked(usize),
}

/// All pieces, in the order of contents.
pub(super) fn pieces(contents: &[Content]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut first = 0;
    let mut bytes = 0;
    for (index, content) in contents.iter().enumerate() {
        let is_large = content.size >= LARGE;
        if first < index && (is_large || bytes + content.size > MOST) {
            pieces.push(Piece::Bundle { first, end: index });
            first = index;
            bytes = 0;
        }
        bytes += content.size;
        if content.size > WHOLE {
            pieces.push(Piece::Chunked(index));
        } else if is_large || ends_after(content) {
            let end = index + 1;
            pieces.push(Piece::Bundle { first, end });
        } else {
            continue;
        }
        first = index + 1;
        bytes = 0;
    }
    if first < contents.len() {
        let end = contents.len();
        pieces.push(Piece::Bundle { first, end });
    }
    pieces
}

/// Whether a bundle ends after a small file.
fn ends_after(content: &Content) -> bool {
    let digest = content.digest.as_bytes().first_chunk();
    let drawn = digest.map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let weight = (content.size + PER_FILE).min(AVERAGE);
    u128::from(drawn) < (u128::from(weight) << 64) / u128::from(AVERAGE)
}

#[cfg(test)]
mod tests {
    use ashlar_model::layer::LayerPath;
    use proptest::prelude::*;

    use super::*;

    fn content(number: u64, size: u64) -> Content {
        Content {
            digest: blake3::hash(&number.to_le_bytes()).into(),
            size,
            path: LayerPath::new(number.to_string().as_bytes()).unwrap(),
        }
    }

    fn contents(sizes: &[u64]) -> Vec<Content> {
        (0..)
            .zip(sizes)
            .map(|(n, size)| content(n, *size))
            .collect()
    }

    /// The digests of each piece.
    fn told(contents: &[Content]) -> Vec<Vec<String>> {
        let pieces = pieces(contents);
        let told = pieces.iter().map(|piece| match *piece {
            Piece::Bundle { first, end } => contents[first..end].iter().map(name).collect(),
            Piece::Chunked(index) => vec![name(&contents[index])],
        });
        told.collect()
    }

    fn name(content: &Content) -> String {
        content.digest.to_string()
    }

    #[test]
    fn bundles_are_about_as_large_as_they_should_be() {
        for size in [10, 100, 4_000, 20_000, 100_000] {
            let contents = contents(&vec![size; 20_000]);
            let pieces = pieces(&contents);
            let average = 20_000 * (size + PER_FILE) / pieces.len() as u64;
            assert!(
                (AVERAGE / 2..AVERAGE * 3 / 2).contains(&average),
                "{size}: {average}"
            );
        }
    }

    #[test]
    fn one_changed_file_changes_one_bundle_seldom_two() {
        let mut contents = contents(&vec![5_000; 5_000]);
        let before: std::collections::HashSet<_> = told(&contents).into_iter().collect();
        let mut more = 0;
        for round in 0..100 {
            let place = usize::try_from(round * 49 % 5_000).unwrap();
            let old = std::mem::replace(&mut contents[place], content(100_000 + round, 5_001));
            let new: Vec<_> = told(&contents);
            let new = new.iter().filter(|piece| !before.contains(*piece)).count();
            assert!((1..=2).contains(&new), "{new}");
            more += new - 1;
            contents[place] = old;
        }
        assert!(more < 15, "{more}");
    }

    proptest! {
        #[test]
        fn all_contents_are_in_one_piece_each(
            sizes in prop::collection::vec(prop_oneof![1..3_000_u64, 1..400_000_u64, 1..5_000_000_u64], 0..200),
        ) {
            let contents = contents(&sizes);
            let mut next = 0;
            for piece in pieces(&contents) {
                match piece {
                    Piece::Bundle { first, end } => {
                        prop_assert_eq!(first, next);
                        prop_assert!(end > first);
                        let bytes: u64 = contents[first..end].iter().map(|c| c.size).sum();
                        prop_assert!(bytes <= LONGEST_BLOB);
                        next = end;
                    }
                    Piece::Chunked(index) => {
                        prop_assert_eq!(index, next);
                        prop_assert!(contents[index].size > WHOLE);
                        next += 1;
                    }
                }
            }
            prop_assert_eq!(next, contents.len());
        }
    }
}
