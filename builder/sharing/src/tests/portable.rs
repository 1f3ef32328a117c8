//! Caches in directories.

use std::path::Path;

use super::*;
use crate::portable::{DirectoryContainer, PortableConnect};

/// A machine that uses directories as caches.
fn machine(home: Option<Machine>, caches: &[(&Path, Mode)]) -> Machine {
    let (directory, home) = match home {
        Some(machine) => (machine._directory, machine.home),
        None => {
            let directory = tempfile::tempdir().unwrap();
            let home = Home::open(directory.path()).unwrap();
            (directory, home)
        }
    };
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&warnings);
    let sink: WarningSink = Arc::new(move |text: &str| told.lock().unwrap().push(text.to_owned()));
    let caches = caches.iter().map(|(path, mode)| {
        let container = DirectoryContainer::new(path.to_path_buf(), "latest".to_owned());
        let connect = Arc::new(PortableConnect::new(Arc::new(container)));
        let name = format!("type=local,path={}", path.display());
        let cache = Cache::new(name, String::new(), *mode, connect, Arc::clone(&sink));
        Arc::new(cache.portable())
    });
    let (proof, me) = (Proof::default(), "me@here".to_owned());
    let sharing = Sharing::new(home.clone(), caches.collect(), None, me, proof);
    let tars: Arc<dyn LayerTars> = Arc::new(StoredTars(home.clone(), sharing.fetcher()));
    sharing.set_tars(&tars);
    Machine {
        _directory: directory,
        home,
        sharing,
        warnings,
    }
}

/// The files of a directory with their lengths.
fn files(root: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.push((name, entry.metadata().unwrap().len()));
    }
    found.sort();
    found
}

/// A file whose bytes do not compress.
fn large(name: &str, length: usize) -> Vec<u8> {
    tar(&[(name, length)], 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_a_cache() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("cache");
    let a = machine(None, &[(&path, Mode::Write)]);
    let base = a.pulled();
    let bytes = large("one", 20_000_000);
    let one = a.make(&bytes);
    let two = a.make(&large("two", 1000));
    a.sharing.publish(result("one", &[base, one]), None);
    a.sharing.publish(result("two", &[base, one, two]), None);
    a.finish().await;
    assert!(a.warnings().is_empty(), "{:?}", a.warnings());
    assert_eq!(a.sharing.progress().failed, 0);

    let b = machine(None, &[(&path, Mode::Read)]);
    let found = b.look_up(&["two", "one", "none"]).await;
    let stack = found[0].clone().unwrap();
    assert_eq!(found[1].as_deref(), Some(&stack[..2]));
    assert_eq!(found[2], None);
    assert!(b.fetch(&stack[1]).await.unwrap() == bytes);
    assert!(b.sharing.by_content(&content_key("two")).await.is_some());
    assert!(b.warnings().is_empty(), "{:?}", b.warnings());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_export_adds_what_is_new() {
    let place = tempfile::tempdir().unwrap();
    let both = [(place.path(), Mode::ReadWrite)];
    let a = machine(None, &both);
    let one = a.make(&large("one", 12_000_000));
    a.publish(result("one", &[one])).await;
    let before = files(place.path());

    let b = machine(None, &both);
    let stack = b.look_up(&["one"]).await.remove(0).unwrap();
    let two = b.make(&large("two", 1000));
    b.publish(result("two", &[stack[0], two])).await;
    assert_eq!(b.sharing.progress().failed, 0, "{:?}", b.warnings());
    let after = files(place.path());
    assert!(before.iter().all(|file| after.contains(file)));
    let new: u64 = after
        .iter()
        .filter(|file| !before.contains(file))
        .map(|(_, length)| length)
        .sum();
    assert!(new < 100_000, "{new}");
    let c = machine(None, &both);
    assert!(c.look_up(&["one", "two"]).await.iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_if_nothing_is_new() {
    let place = tempfile::tempdir().unwrap();
    let both = [(place.path(), Mode::ReadWrite)];
    let a = machine(None, &both);
    let one = a.make(&large("one", 1000));
    a.publish(result("one", &[one])).await;
    let before = files(place.path());
    let a = machine(Some(a), &both);
    assert!(a.sharing.wants(&key("one")), "it may have been replaced");
    a.sharing.offer(result("one", &[one]));
    a.finish().await;
    assert_eq!(files(place.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_export_at_once_keep_both_results() {
    let place = tempfile::tempdir().unwrap();
    let both = [(place.path(), Mode::ReadWrite)];
    let (a, b) = (machine(None, &both), machine(None, &both));
    // Both have read the empty cache.
    a.look_up(&["none"]).await;
    b.look_up(&["none"]).await;
    for (machine, name) in [(&a, "a"), (&b, "b")] {
        let layer = machine.make(&large(name, 1000));
        machine.publish(result(name, &[layer])).await;
    }
    let c = machine(None, &both);
    assert!(c.look_up(&["a", "b"]).await.iter().all(Option::is_some));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_in_one_cache_fills_another() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = machine(None, &[(from.path(), Mode::Write)]);
    let bytes = large("one", 300_000);
    let one = a.make(&bytes);
    a.publish(result("one", &[one])).await;
    let b = machine(None, &[(from.path(), Mode::Read), (to.path(), Mode::Write)]);
    let stack = b.look_up(&["one"]).await.remove(0).unwrap();
    assert_eq!(stack.len(), 1);
    b.finish().await;
    assert_eq!(b.sharing.progress().failed, 0, "{:?}", b.warnings());
    let c = machine(None, &[(to.path(), Mode::Read)]);
    let stack = c.look_up(&["one"]).await.remove(0).unwrap();
    assert!(c.fetch(&stack[0]).await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_directory_is_told_once_and_gives_nothing_wrong() {
    let place = tempfile::tempdir().unwrap();
    let a = machine(None, &[(place.path(), Mode::Write)]);
    let bytes = large("one", 500_000);
    let one = a.make(&bytes);
    a.publish(result("one", &[one])).await;
    let blobs = place.path().join("blobs/sha256");
    for (name, _) in files(place.path()) {
        let path = blobs.join(&name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        std::fs::write(&path, bad).unwrap();
        let b = machine(None, &[(place.path(), Mode::Read)]);
        let found = b.look_up(&["one"]).await.remove(0);
        if let Some(stack) = found {
            assert_eq!(b.fetch(&stack[0]).await, None);
        }
        assert_eq!(b.warnings().len(), 1, "{name}: {:?}", b.warnings());
        std::fs::write(&path, good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_no_cache() {
    let place = tempfile::tempdir().unwrap();
    let a = machine(None, &[(place.path(), Mode::Write)]);
    let one = a.make(&large("one", 1000));
    a.publish(result("one", &[one])).await;
    let index = place.path().join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("latest", "other")).unwrap();
    // Another name in the same layout is another cache.
    let b = machine(None, &[(place.path(), Mode::ReadWrite)]);
    assert_eq!(b.look_up(&["one"]).await, [None]);
    let two = b.make(&large("two", 1000));
    b.publish(result("two", &[two])).await;
    assert!(b.warnings().is_empty(), "{:?}", b.warnings());
    let text = std::fs::read_to_string(&index).unwrap();
    assert!(text.contains("other") && text.contains("latest"));
}
