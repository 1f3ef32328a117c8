//! The test data from outside: `../shared/corpora` beside the repository, or `$ASHLAR_CORPORA`.

mod parse;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of Dockerfile data, or `None` with a word why tests are skipped.
#[expect(clippy::disallowed_methods, reason = "tests find their data by it")]
fn folder() -> Option<PathBuf> {
    let root = match std::env::var_os("ASHLAR_CORPORA") {
        Some(root) => PathBuf::from(root),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
    };
    let folder = root.join("dockerfile");
    if folder.is_dir() {
        Some(folder)
    } else {
        skip(&format!(
            "no corpora at {}; set ASHLAR_CORPORA",
            folder.display()
        ));
        None
    }
}

/// Notes that the calling test is skipped, where `make test` looks for such notes and prints them.
#[expect(clippy::disallowed_methods, reason = "the harness says where by it")]
fn skip(reason: &str) {
    let test = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", test.name().unwrap_or("a test"));
    match std::env::var_os("ASHLAR_TEST_SKIPS") {
        Some(notes) => {
            let mut notes = fs::File::options()
                .create(true)
                .append(true)
                .open(notes)
                .unwrap();
            notes.write_all(line.as_bytes()).unwrap();
        }
        None => print!("{line}"),
    }
}

/// A file of the corpus; `None` where there is no corpus.
pub(super) fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(folder()?.join(path)).unwrap())
}

/// The folders of a part of the corpus, sorted; none where there is no corpus.
pub(crate) fn cases(part: &str) -> Vec<PathBuf> {
    let Some(folder) = folder() else {
        return Vec::new();
    };
    let mut cases: Vec<_> = fs::read_dir(folder.join(part))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}
