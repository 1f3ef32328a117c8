//! "Did you mean": the nearest of the words that are possible.

/// The candidate that `word` is most likely a misspelling of, letter case aside; the first of
/// several that are equally near.
pub fn suggest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).take(64).collect();
    candidates
        .into_iter()
        .map(|candidate| {
            let letters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
            (distance(&word, &letters), letters.len(), candidate)
        })
        // One slip in three letters, and never all letters.
        .filter(|(distance, length, _)| *distance <= (length / 3).clamp(1, 3) && distance < length)
        .min_by_key(|(distance, ..)| *distance)
        .map(|(.., candidate)| candidate)
}

/// The first of the nearest candidates that are at most two slips from `word`, letter case
/// counting: what BuildKit suggests for names of variables.
pub(crate) fn suggest_variable<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word: Vec<char> = word.chars().take(256).collect();
    candidates
        .into_iter()
        .map(|candidate| {
            let letters: Vec<char> = candidate.chars().take(256).collect();
            (distance(&word, &letters), candidate)
        })
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out, changed, or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = last[j] + usize::from(x != y);
            let mut best = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 4] = ["FROM", "RUN", "ENTRYPOINT", "ENV"];

    #[test]
    fn slips_are_seen_through() {
        assert_eq!(suggest("FRM", WORDS), Some("FROM"));
        assert_eq!(suggest("form", WORDS), Some("FROM"));
        assert_eq!(suggest("runn", WORDS), Some("RUN"));
        assert_eq!(suggest("ENTRYPIONT", WORDS), Some("ENTRYPOINT"));
    }

    #[test]
    fn other_words_have_no_suggestion() {
        assert_eq!(suggest("apt-get", WORDS), None);
        assert_eq!(suggest("", WORDS), None);
        assert_eq!(suggest("x", ["y"]), None);
        assert_eq!(suggest(&"x".repeat(1_000_000), WORDS), None);
    }

    #[test]
    fn variables_are_near_by_two_slips_at_most() {
        let names = ["PATH", "MY_ARCH", "DIR_BINARIES", "DIR_ASSETS"];
        for (word, suggestion) in [
            ("PAHT", Some("PATH")),
            ("MYARCH", Some("MY_ARCH")),
            ("DIR_ASSET", Some("DIR_ASSETS")),
            ("path", None),
            ("version", None),
        ] {
            assert_eq!(suggest_variable(word, names), suggestion, "{word}");
        }
    }

    #[test]
    fn distances_count_slips() {
        let count = |a: &str, b: &str| {
            distance(
                &a.chars().collect::<Vec<_>>(),
                &b.chars().collect::<Vec<_>>(),
            )
        };
        assert_eq!(count("kitten", "sitting"), 3);
        assert_eq!(count("ab", "ba"), 1);
        assert_eq!(count("", "abc"), 3);
        assert_eq!(count("abc", "abc"), 0);
    }
}
