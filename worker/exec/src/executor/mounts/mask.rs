//! Keeping the values of secrets out of logs: what a command writes is searched for them, and
//! `***` is shown instead.
//!
//! What is masked: each value, and each longer line of a value that has several, for that is how
//! keys are printed. Values of less than four bytes are not: they stand in every second line of
//! any output by chance, and hide nothing. A command that means to can of course write a secret in
//! another form (encoded, reversed) that nobody can recognise.

use std::sync::{Arc, Mutex, PoisonError};

use ashlar_model::executor::{OutputStream, StepOutput};
use ashlar_model::secret::SecretValue;

/// Shown in place of a secret.
const MASK: &[u8] = b"***";

/// Shorter values are not masked.
const SHORTEST_VALUE: usize = 4;

/// Shorter lines of a value that has several are not masked by themselves.
const SHORTEST_LINE: usize = 8;

/// A step's output without secrets.
pub(in super::super) struct Masked {
    inner: Arc<dyn StepOutput>,
    /// What is hidden, the longest first.
    patterns: Vec<Vec<u8>>,
    /// What has come and may be the beginning of a secret, for each stream.
    held: Mutex<[Vec<u8>; 2]>,
}

impl Masked {
    /// Hides values from whoever takes `inner`. [`Masked::finish`] must be called at the end.
    pub(in super::super) fn wrap(inner: Arc<dyn StepOutput>, values: &[SecretValue]) -> Arc<Self> {
        let mut patterns: Vec<Vec<u8>> = values
            .iter()
            .flat_map(|value| patterns(value.reveal()))
            .collect();
        patterns.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        patterns.dedup();
        Arc::new(Self {
            inner,
            patterns,
            held: Mutex::default(),
        })
    }

    /// Passes on what was held back: nothing more will come.
    pub(in super::super) fn finish(&self) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            self.pass(stream, &[], true);
        }
    }

    fn pass(&self, stream: OutputStream, bytes: &[u8], last: bool) {
        // Held while passing on, so that the order of a stream's bytes stays.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let [stdout, stderr] = &mut *held;
        let held = match stream {
            OutputStream::Stdout => stdout,
            OutputStream::Stderr => stderr,
        };
        held.extend_from_slice(bytes);
        let (shown, kept) = mask(&self.patterns, held, last);
        let kept = held.split_off(kept);
        *held = kept;
        if !shown.is_empty() {
            self.inner.write(stream, &shown);
        }
    }
}

impl StepOutput for Masked {
    fn write(&self, stream: OutputStream, bytes: &[u8]) {
        if self.patterns.is_empty() {
            self.inner.write(stream, bytes);
        } else {
            self.pass(stream, bytes, false);
        }
    }
}

/// What stands for a value in a log.
fn patterns(value: &[u8]) -> Vec<Vec<u8>> {
    let whole = value.trim_ascii();
    let mut found = Vec::new();
    if whole.len() >= SHORTEST_VALUE {
        found.push(whole.to_vec());
    }
    let lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let long = lines.filter(|line| line.len() >= SHORTEST_LINE && line.len() < whole.len());
    found.extend(long.map(<[u8]>::to_vec));
    found
}

/// `bytes` without secrets, up to the place from which on they may be the beginning of one; and
/// that place, which is the end if these are the last bytes.
fn mask(patterns: &[Vec<u8>], bytes: &[u8], last: bool) -> (Vec<u8>, usize) {
    let mut begins = [false; 256];
    for pattern in patterns {
        if let Some(first) = pattern.first() {
            begins[usize::from(*first)] = true;
        }
    }
    let mut shown = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        if !begins.get(usize::from(*first)).copied().unwrap_or(false) {
            shown.push(*first);
            rest = after;
            continue;
        }
        // The longest first: what it hides, shorter ones within it need not.
        let mut found = None;
        for pattern in patterns {
            if rest.starts_with(pattern) {
                found = Some(pattern.len());
                break;
            }
            if !last && pattern.starts_with(rest) {
                return (shown, bytes.len() - rest.len());
            }
        }
        match found {
            Some(length) => {
                shown.extend_from_slice(MASK);
                rest = rest.get(length..).unwrap_or_default();
            }
            None => {
                shown.push(*first);
                rest = after;
            }
        }
    }
    (shown, bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<u8>>);

    impl StepOutput for Kept {
        fn write(&self, _stream: OutputStream, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }

    /// What is shown of chunks on one stream; before and after the end.
    fn shown(values: &[&str], chunks: &[&[u8]]) -> (String, String) {
        let values: Vec<SecretValue> = values
            .iter()
            .map(|value| SecretValue::new(value.as_bytes().to_vec()))
            .collect();
        let kept = Arc::new(Kept::default());
        let masked = Masked::wrap(Arc::clone(&kept) as _, &values);
        for chunk in chunks {
            masked.write(OutputStream::Stdout, chunk);
        }
        let text = |kept: &Kept| String::from_utf8_lossy(&kept.0.lock().unwrap()).into_owned();
        let before = text(&kept);
        masked.finish();
        (before, text(&kept))
    }

    fn all(values: &[&str], chunks: &[&[u8]]) -> String {
        shown(values, chunks).1
    }

    #[test]
    fn values_are_hidden_wherever_they_stand() {
        let output: &[u8] = b"a hunter2 b hunter2hunter2\nhunter";
        assert_eq!(all(&["hunter2\n"], &[output]), "a *** b ******\nhunter");
        assert_eq!(all(&[], &[output]), String::from_utf8_lossy(output));
    }

    #[test]
    fn short_values_are_shown() {
        assert_eq!(all(&["1", "abc", ""], &[b"1 abc"]), "1 abc");
    }

    #[test]
    fn lines_of_a_long_value_are_hidden_too() {
        let key = "-----BEGIN KEY-----\nb3BlbnNzaC1rZXk\nshort\n-----END KEY-----\n";
        assert_eq!(all(&[key], &[key.as_bytes(), b"x"]), "***\nx");
        assert_eq!(
            all(&[key], &[b"- b3BlbnNzaC1rZXk short -----END KEY-----."]),
            "- *** short ***."
        );
    }

    #[test]
    fn only_what_may_become_a_secret_is_held_back() {
        let (before, after) = shown(&["secret"], &[b"see sec", b"ond secre"]);
        assert_eq!(before, "see second ");
        assert_eq!(after, "see second secre");
    }

    #[test]
    fn streams_do_not_mix() {
        let kept = Arc::new(Kept::default());
        let values = [SecretValue::new(b"secret".to_vec())];
        let masked = Masked::wrap(Arc::clone(&kept) as _, &values);
        masked.write(OutputStream::Stdout, b"sec");
        masked.write(OutputStream::Stderr, b"err");
        masked.write(OutputStream::Stdout, b"ret");
        masked.finish();
        assert_eq!(*kept.0.lock().unwrap(), b"err***");
    }

    proptest! {
        /// However the output is cut, what is shown is the same, and holds no secret.
        #[test]
        fn chunks_make_no_difference(
            output in "[ab\n]{0,80}",
            cuts in proptest::collection::vec(0usize..80, 0..6),
            values in proptest::collection::vec("[ab]{4,9}", 1..3),
        ) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (output.len() + 1)).collect();
            cuts.extend([0, output.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts
                .windows(2)
                .map(|pair| &output.as_bytes()[pair[0]..pair[1]])
                .collect();
            let whole = all(&values, &[output.as_bytes()]);
            prop_assert_eq!(&all(&values, &chunks), &whole);
            for value in values {
                prop_assert!(!whole.contains(value), "{value} in {whole}");
            }
        }
    }
}
