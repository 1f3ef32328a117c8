//! A disk without space: an answer, not a crash.
//!
//! The disk is a small tmpfs in a mount namespace of its own, in which the test runs itself as a
//! child process.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use super::*;

#[test]
#[ignore = "the child of the test below; it reads what to do from its standard input"]
fn a_process_on_a_small_disk() {
    let mut root = String::new();
    std::io::stdin().read_to_string(&mut root).unwrap();
    if root.is_empty() {
        return;
    }
    let root = Path::new(root.trim());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        refuses_and_recovers(root).await;
        survives_a_disk_that_others_fill(root).await;
    });
}

/// Without a limit, the disk is the limit: what is old goes.
async fn refuses_and_recovers(root: &Path) {
    let settings = DiskSettings {
        pack_size: 1 << 20,
        packed: 64 << 10,
        ..DiskSettings::default()
    };
    let time = Time::default();
    let store = DiskStore::open(&root.join("a"), settings, time.clock()).unwrap();
    for seed in 0..200 {
        time.pass(1000);
        put(&store, seed, if seed % 4 == 0 { 900_000 } else { 60_000 }).await;
    }
    assert!(is_there(&store, &blob(199, 60_000).0).await);
    assert!(store.usage().evicted > 50, "{:?}", store.usage());
    let (large, bytes) = blob(1, 60 << 20);
    let fault = store.write(&large, once(bytes)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Exhausted, "{fault}");
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    store.close();
    fs::remove_dir_all(root.join("a")).unwrap();
}

/// Somebody else takes all of the disk, the last byte included.
async fn survives_a_disk_that_others_fill(root: &Path) {
    let open = || DiskStore::open(&root.join("b"), tiny(), crate::clock::system()).unwrap();
    let store = open();
    let mut kept = Vec::new();
    for seed in 0..50 {
        kept.push(put(&store, seed, 5000).await);
    }
    let other = root.join("other");
    let mut file = File::create(&other).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let mut refused = 0;
    for seed in 100..110 {
        // A writer that has its room already finds the disk full as well.
        let (digest, value) = blob(seed, 5000);
        let work = Work::Put {
            key: Key::blob(&digest),
            value,
            condition: writer::Condition::IfAbsent,
        };
        if let Err(fault) = store.work(work).await {
            assert_eq!(fault.kind, FaultKind::Exhausted, "{fault:?}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    // What is there can be read; those that were accepted are there.
    for digest in &kept {
        if is_there(&store, digest).await {
            get(&store, digest).await.unwrap();
        }
    }
    drop(file);
    fs::remove_file(&other).unwrap();
    for seed in 200..220 {
        put(&store, seed, 5000).await;
    }
    store.close();
    let store = open();
    assert!(!store.is_rebuilding());
    assert!(is_there(&store, &blob(219, 5000).0).await);
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn a_full_disk_is_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=48m tmpfs "$1" && exec "$2" --ignored --exact --nocapture disk::tests::full::a_process_on_a_small_disk"#;
    let mut child = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let root = directory.path().display().to_string();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(root.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{out}{err}"
    );
}
