//! Damage: of packs, of large files, of the index.

use std::fs;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::action_cache::{ActionCache as _, PutMode};

fn open(root: &Path) -> DiskStore {
    DiskStore::open(root, tiny(), crate::clock::system()).unwrap()
}

/// Changes one byte of a file.
fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn find_file(root: &Path) -> std::path::PathBuf {
    let mut directories = vec![root.join("files")];
    while let Some(directory) = directories.pop() {
        for item in fs::read_dir(directory).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                return path;
            }
        }
    }
    panic!("there is no large file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_blob_is_absent_and_can_be_written_again() {
    let (directory, store) = fresh(tiny());
    let small = put(&store, 1, 5000).await;
    let large = put(&store, 2, 900_000).await;
    flip(&packs(directory.path())[0], 3000);
    flip(&find_file(directory.path()), 700_000);
    for digest in [small, large] {
        let fault = get(&store, &digest).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
        eventually("the loss", async || !is_there(&store, &digest).await).await;
    }
    assert_eq!(store.usage().damaged, 2);
    put(&store, 1, 5000).await;
    put(&store, 2, 900_000).await;
    assert!(get(&store, &small).await.unwrap() == noise(1, 5000));
    assert!(get(&store, &large).await.unwrap() == noise(2, 900_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_large_blob_is_checked_as_well() {
    let (directory, store) = fresh(tiny());
    let large = put(&store, 2, 900_000).await;
    flip(&find_file(directory.path()), 700_000);
    let part = async |offset, limit| {
        let range = ByteRange {
            offset,
            limit: Some(limit),
        };
        collect(store.read(&large, range).await?, limit).await
    };
    assert!(part(0, 1000).await.unwrap() == noise(2, 900_000)[..1000]);
    part(600_000, 1000).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_all_damage_and_repairs_it() {
    let (directory, store) = fresh(tiny());
    let mut all = Vec::new();
    for seed in 0..40 {
        all.push(put(&store, seed, 1000 + usize::try_from(seed).unwrap() * 300).await);
    }
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean() && report.entries == 40, "{report:?}");
    flip(&packs(directory.path())[0], 500);
    flip(&find_file(directory.path()), 10);
    let orphan = Layout::new(directory.path()).file(&blob(999, 10).0);
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, b"nobody's").unwrap();

    let report = store.fsck(false).await.unwrap();
    assert_eq!((report.damaged, report.orphans), (2, 1), "{report:?}");
    assert_eq!(report.named.len(), 2);
    assert!(orphan.exists());
    let again = store.fsck(true).await.unwrap();
    assert_eq!((again.damaged, again.orphans), (2, 1), "{again:?}");
    assert!(!orphan.exists());
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean() && report.entries == 38, "{report:?}");
    assert_eq!(store.missing(&all).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scrub_drops_what_is_damaged() {
    let directory = tempfile::tempdir().unwrap();
    {
        let store = open(directory.path());
        put(&store, 1, 5000).await;
        put(&store, 2, 5000).await;
    }
    flip(&packs(directory.path())[0], 3000);
    let settings = DiskSettings {
        scrub: Some(1 << 30),
        ..tiny()
    };
    let store = DiskStore::open(directory.path(), settings, crate::clock::system()).unwrap();
    eventually("the scrub", async || store.usage().blobs == 1).await;
    assert!(
        get(&store, &blob(2, 5000).0)
            .await
            .is_ok_and(|bytes| bytes.len() == 5000)
    );
}

/// Fills a store with everything that there is.
async fn fill(store: &DiskStore) {
    for seed in 0..30 {
        put(store, seed, 100 + usize::try_from(seed).unwrap() * 400).await;
        store
            .put(&action(seed), noise(seed, 200), PutMode::Replace)
            .await
            .unwrap();
        store
            .put(&action(seed), noise(seed + 50, 200), PutMode::Replace)
            .await
            .unwrap();
    }
    store.remove(&action(7)).await.unwrap();
    store
        .set_named("mount", Bytes::from_static(b"tree"), 0)
        .await
        .unwrap();
}

async fn check_filled(store: &DiskStore) {
    for seed in 0..30 {
        let (digest, bytes) = blob(seed, 100 + usize::try_from(seed).unwrap() * 400);
        assert!(get(store, &digest).await.unwrap() == bytes, "{seed}");
        let result = store.get(&[action(seed)]).await.unwrap().remove(0);
        let expected = (seed != 7).then(|| noise(seed + 50, 200));
        assert!(result == expected, "{seed}");
    }
    let named = store.named("mount").await.unwrap().unwrap();
    assert_eq!(&named.value[..], b"tree");
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.usage().blobs, 30);
    assert_eq!(store.usage().results, 29);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_torn_index_is_made_again_while_the_store_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fill(&open(root)).await;
    let index = root.join("index.redb");
    let length = fs::metadata(&index).unwrap().len();
    let mut epoch = 1;
    for damage in 0..4 {
        match damage {
            0 => fs::remove_file(&index).unwrap(),
            1 => fs::write(&index, b"this is no index").unwrap(),
            2 => File::options()
                .write(true)
                .open(&index)
                .unwrap()
                .set_len(length / 2)
                .unwrap(),
            _ => fs::write(&index, []).unwrap(),
        }
        let store = open(root);
        epoch += 1;
        assert_eq!(store.epoch(), epoch);
        // Usable at once.
        put(&store, 1000, 10).await;
        put(&store, 1, 500).await;
        eventually("the rebuild", async || !store.is_rebuilding()).await;
        assert!(is_there(&store, &blob(1000, 10).0).await);
        let key = Key::blob(&blob(1000, 10).0);
        let entry = store.shared.index.read(|index| index.entry(&key)).unwrap();
        let entry = entry.unwrap();
        store.work(Work::Lost { key, entry }).await.unwrap();
        check_filled(&store).await;
    }
    // A whole index needs no rebuild.
    let store = open(root);
    assert!(!store.is_rebuilding());
    check_filled(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_broken_off_goes_on_at_the_next_opening() {
    let directory = quick_directory();
    let root = directory.path();
    {
        let store = open(root);
        fill(&store).await;
        for seed in 1000..1400 {
            put(&store, seed, 3000).await;
        }
    }
    fs::remove_file(root.join("index.redb")).unwrap();
    let mut openings = 0;
    loop {
        let store = open(root);
        openings += 1;
        if openings > 20 {
            eventually("the rebuild", async || !store.is_rebuilding()).await;
        }
        if !store.is_rebuilding() {
            break;
        }
        // Every second opening is a moment longer.
        tokio::time::sleep(Duration::from_millis(openings % 2)).await;
        store.close();
    }
    let store = open(root);
    assert!(!store.is_rebuilding());
    for seed in 1000..1400 {
        let (digest, bytes) = blob(seed, 3000);
        assert!(get(&store, &digest).await.unwrap() == bytes, "{seed}");
    }
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.usage().blobs, 430);
}

/// How a store grows: `cargo nextest run --run-ignored all --no-capture a_million` says it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_million_small_blobs_are_no_burden() {
    const COUNT: u64 = 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let settings = DiskSettings::default();
        DiskStore::open(directory.path(), settings, crate::clock::system()).unwrap()
    };
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        line.unwrap().to_owned()
    };
    let small = |seed: u64| {
        let bytes = Bytes::copy_from_slice(&seed.to_le_bytes());
        (CasDigest::of(DigestFunction::Blake3, &bytes), bytes)
    };
    let store = open();
    let began = Instant::now();
    for first in (0..COUNT).step_by(2000) {
        let many = (first..first + 2000).map(small).collect();
        assert!(store.write_many(many).await.iter().all(Result::is_ok));
    }
    println!("written in {:?}, {}", began.elapsed(), resident());
    store.close();
    let began = Instant::now();
    let store = open();
    println!("opened in {:?}", began.elapsed());
    for count in [100, 1000, 10_000] {
        let digests: Vec<_> = (0..count).map(|n| small(n * 97 % COUNT).0).collect();
        let began = Instant::now();
        assert_eq!(store.missing(&digests).await.unwrap(), []);
        println!("missing of {count}: {:?}", began.elapsed());
    }
    let began = Instant::now();
    store.shared.bell.ring();
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean() && report.entries == COUNT);
    println!("checked in {:?}, {}", began.elapsed(), resident());
    let index = fs::metadata(directory.path().join("index.redb")).unwrap();
    println!("index: {} bytes an entry", index.len() / COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_but_not_committed_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fill(&open(root)).await;
    let before = disk_use(root);
    let last = packs(root).pop().unwrap();
    let length = fs::metadata(&last).unwrap().len();
    // A part of a record behind the last, a pack and a large file that nobody knows.
    let bytes = fs::read(&last).unwrap();
    File::options().append(true).open(&last).unwrap();
    let torn = File::options().write(true).open(&last).unwrap();
    torn.write_all_at(&bytes[..bytes.len().min(150)], length)
        .unwrap();
    fs::write(root.join("packs/0000ffff.pack"), &bytes).unwrap();
    fs::write(root.join("tmp/5"), b"half a blob").unwrap();
    let store = open(root);
    check_filled(&store).await;
    assert_eq!(disk_use(root), before);
    put(&store, 500, 3000).await;
    drop(store);
    let store = open(root);
    assert!(get(&store, &blob(500, 3000).0).await.unwrap() == noise(500, 3000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pack_loses_its_blobs_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fill(&open(root)).await;
    assert!(packs(root).len() > 2);
    fs::remove_file(&packs(root)[0]).unwrap();
    let store = open(root);
    let mut lost = 0;
    for seed in 0..30 {
        let (digest, bytes) = blob(seed, 100 + usize::try_from(seed).unwrap() * 400);
        match get(&store, &digest).await {
            Ok(found) => assert!(found == bytes),
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
                lost += 1;
            }
        }
    }
    assert!(lost > 0 && lost < 30, "{lost}");
    store.fsck(true).await.unwrap();
    let report = store.fsck(false).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_cannot_use_one_store() {
    let (directory, store) = fresh(tiny());
    let fault = DiskStore::open(directory.path(), tiny(), crate::clock::system()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unavailable);
    drop(store);
    open(directory.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_closes_while_it_is_read() {
    let (_directory, store) = fresh(tiny());
    let large = put(&store, 2, 3_000_000).await;
    let stream = store.read(&large, ByteRange::WHOLE).await.unwrap();
    drop(store);
    assert!(collect(stream, large.size).await.unwrap() == noise(2, 3_000_000));
}
