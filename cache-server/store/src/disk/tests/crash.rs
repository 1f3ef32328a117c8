//! SIGKILL at any moment: what was accepted is there, what is there is sound.
//!
//! The test runs itself as a child process ([`a_process_that_writes_until_it_is_killed`]), which
//! says on its standard output what was accepted. What it was told to do stands on its standard
//! input, so that nobody takes it for a test.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::action_cache::{ActionCache as _, PutMode};

const KILLS: u64 = 30;

/// Blobs are known by their numbers; these are their lengths.
fn length_of(number: u64) -> usize {
    let spread = usize::try_from(number * 7919 % 6000).unwrap();
    match number % 40 {
        0 => 400_000 + spread,
        n if n % 7 == 0 => 8000 + spread,
        _ => 1 + spread / 4,
    }
}

fn say(line: std::fmt::Arguments<'_>) {
    // One write for each line: a process that is killed has said a line or not.
    let line = format!("@{line}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Writes blobs, one after the other, and says which were accepted.
async fn write_blobs(store: Arc<DiskStore>, first: u64) {
    for step in 0.. {
        let number = first + step;
        if step % 5 == 0 {
            let numbers: Vec<_> = (0..20).map(|n| number * 1000 + n + 500_000_000).collect();
            let many = numbers.iter().map(|n| blob(*n, length_of(*n) % 2000 + 1));
            for (number, answer) in numbers.iter().zip(store.write_many(many.collect()).await) {
                answer.unwrap();
                say(format_args!("many {number}"));
            }
        }
        put(&store, number, length_of(number)).await;
        say(format_args!("blob {number}"));
    }
}

/// Replaces results again and again.
async fn write_results(store: Arc<DiskStore>, key: u64, first: u64) {
    for step in 0.. {
        let version = first + step;
        let value = Bytes::from(format!("{version} {}", "x".repeat(300)));
        store
            .put(&action(key), value, PutMode::Replace)
            .await
            .unwrap();
        say(format_args!("result {key} {version}"));
        if step % 10 == 0 {
            store.shared.bell.ring();
        }
    }
}

#[test]
#[ignore = "the child of the test below; it reads what to do from its standard input"]
fn a_process_that_writes_until_it_is_killed() {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    let Some((root, first)) = input.trim().split_once('\n') else {
        return;
    };
    let first: u64 = first.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = DiskStore::open(Path::new(root), tiny(), crate::clock::system());
        let store = Arc::new(store.unwrap());
        let mut tasks = Vec::new();
        for writer in 0..4 {
            let first = first + writer * 100_000;
            tasks.push(crate::task::spawn(write_blobs(Arc::clone(&store), first)));
        }
        for key in 0..3 {
            tasks.push(crate::task::spawn(write_results(
                Arc::clone(&store),
                key,
                first,
            )));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[derive(Default)]
struct Accepted {
    blobs: Vec<(CasDigest, Bytes)>,
    results: HashMap<u64, u64>,
}

impl Accepted {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap();
        match words[..] {
            ["blob", n] => self.blobs.push(blob(number(n), length_of(number(n)))),
            ["many", n] => {
                let n = number(n);
                self.blobs.push(blob(n, length_of(n) % 2000 + 1));
            }
            ["result", key, version] => {
                self.results.insert(number(key), number(version));
            }
            _ => panic!("{line:?}"),
        }
    }

    async fn check(&self, store: &DiskStore, round: u64) {
        let digests: Vec<_> = self.blobs.iter().map(|(digest, _)| *digest).collect();
        let missing = store.missing(&digests).await.unwrap();
        assert_eq!(missing, [], "round {round}");
        for digests in self.blobs.chunks(500) {
            let wanted: Vec<_> = digests.iter().map(|(digest, _)| *digest).collect();
            for ((digest, bytes), found) in digests.iter().zip(store.read_many(&wanted).await) {
                assert!(found.unwrap() == *bytes, "{digest} in round {round}");
            }
        }
        for (key, version) in &self.results {
            let result = store.get(&[action(*key)]).await.unwrap().remove(0);
            let result = String::from_utf8(result.unwrap().to_vec()).unwrap();
            let there: u64 = result.split(' ').next().unwrap().parse().unwrap();
            assert!(
                there >= *version,
                "{there} after {version} in round {round}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_was_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let mut accepted = Accepted::default();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("disk::tests::crash::a_process_that_writes_until_it_is_killed")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = format!("{}\n{}\n", root.display(), 1_000_000 * (round + 1));
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        // At a moment that is another each time, by what was said and by the clock.
        let after = 1 + round * 37 % 200;
        while let Some(Ok(line)) = lines.next() {
            if let Some(line) = line.strip_prefix('@') {
                accepted.hear(line);
                heard += 1;
            }
            if heard == after {
                let micros = round * 7919 % 9000;
                thread::sleep(Duration::from_micros(micros));
                child.kill().unwrap();
                // What was said before it died was accepted as well.
                heard += 1;
            }
        }
        child.wait().unwrap();
        assert!(heard > after, "round {round}: the child ended by itself");
        let store = DiskStore::open(root, tiny(), crate::clock::system()).unwrap();
        assert!(!store.is_rebuilding(), "round {round}");
        accepted.check(&store, round).await;
        let report = store.fsck(round % 2 == 0).await.unwrap();
        assert_eq!(
            (report.damaged, report.index.as_deref()),
            (0, None),
            "{report:?}"
        );
        store.close();
        if round % 10 == 9 {
            // And if the index does not survive either, all comes back from the packs.
            std::fs::remove_file(root.join("index.redb")).unwrap();
            let store = DiskStore::open(root, tiny(), crate::clock::system()).unwrap();
            eventually("the rebuild", async || !store.is_rebuilding()).await;
            accepted.check(&store, round).await;
        }
    }
    assert!(accepted.blobs.len() > 1000, "{}", accepted.blobs.len());
}
