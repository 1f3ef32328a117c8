use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::UNIX_EPOCH;

use ashlar_model::descriptor::Descriptor;
use ashlar_model::digest::{BlobDigest, DefinitionKey, LayerId};
use ashlar_model::layer::{LayerRecord, Timestamp};
use ashlar_model::media_type::OCI_CONFIG;
use ashlar_model::platform::Platform;
use proptest::prelude::*;

use super::super::gc::{Inventory, Policy, RemoveError, collect};
use super::super::images::ImageRecord;
use super::super::results::DefinitionResult;
use super::*;

const MIB: u64 = 1 << 20;

struct Store {
    _directory: tempfile::TempDir,
    home: Home,
}

impl Store {
    fn new(quota: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::open(directory.path()).unwrap();
        home.set_quota(Some(quota)).unwrap();
        Self {
            _directory: directory,
            home,
        }
    }

    /// Another process, as far as the store can tell.
    fn process(&self) -> Arc<User> {
        let presence = Presence::enter(self.home.root()).unwrap();
        Arc::new(User::new(self.home.root(), presence))
    }

    fn total(&self) -> u64 {
        Inventory::take(&self.home).unwrap().total()
    }

    fn ledger(&self) -> Option<Account> {
        Ledger::lock(self.home.root()).unwrap().read().unwrap()
    }

    /// A layer that a step made, with a tree of so many bytes.
    fn layer(&self, bytes: u64) -> LayerId {
        let id = self.home.new_layer_id().unwrap();
        let tree = self.home.tree_path("map", &id);
        let _permit = self.home.admit(on_disk(bytes) + 8192).unwrap();
        fs::create_dir_all(&tree).unwrap();
        write(&tree.join("file"), bytes);
        self.home.put_layer(&LayerRecord::made_by_step(id)).unwrap();
        id
    }

    fn result(&self, layer: LayerId, used: u64) {
        let key = DefinitionKey::from(blake3::hash(layer.as_bytes()));
        let stack = vec![layer];
        let result = DefinitionResult::own(stack);
        self.home.put_definition_result(&key, &result).unwrap();
        let path = self
            .home
            .root()
            .join("results/definition")
            .join(key.to_hex());
        let time = UNIX_EPOCH + Duration::from_secs(used);
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        File::open(path).unwrap().set_times(times).unwrap();
    }

    fn tag(&self, name: &str, layer: LayerId) {
        let image = ImageRecord {
            reference: name.parse().unwrap(),
            config: Descriptor::new(OCI_CONFIG, BlobDigest::of(b"config"), 6),
            manifest: None,
            platform: Platform::host(),
            layers: vec![layer],
            tagged: Timestamp::default(),
        };
        self.home.put_image(&image).unwrap();
    }

    fn has(&self, layer: &LayerId) -> bool {
        self.home.tree_path("map", layer).is_dir()
    }
}

fn write(path: &Path, bytes: u64) {
    let bytes = usize::try_from(bytes).unwrap();
    fs::write(path, vec![b'x'; bytes]).unwrap();
}

fn full(error: &StoreError) -> QuotaFull {
    match error {
        StoreError::Quota(full) => *full,
        other => panic!("{other}"),
    }
}

#[test]
fn without_a_quota_nothing_is_asked_and_nothing_noted() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let _used = home.in_use().unwrap();
    assert!(!home.meter().is_limited());
    drop(home.admit(u64::MAX).unwrap());
    assert!(!directory.path().join("quota").exists());
    assert_eq!((home.quota().unwrap(), home.user_name()), (None, None));
}

#[test]
fn a_quota_is_the_stores_and_can_be_changed() {
    let store = Store::new(10 * MIB);
    let other = Home::open(store.home.root()).unwrap();
    assert_eq!(other.quota().unwrap(), Some(10 * MIB));
    let _used = other.in_use().unwrap();
    assert_eq!(full(&other.admit(12 * MIB).unwrap_err()).limit, 10 * MIB);
    // Who runs obeys the new number.
    store.home.set_quota(Some(20 * MIB)).unwrap();
    drop(other.admit(12 * MIB).unwrap());
    store.home.set_quota(None).unwrap();
    drop(other.admit(1 << 40).unwrap());
}

#[test]
fn many_processes_together_stay_below_it_and_come_near_it() {
    let limit = 24 * MIB;
    let store = Store::new(limit);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8_u64)
            .map(|number| {
                let (user, root) = (store.process(), store.home.root());
                scope.spawn(move || {
                    let mut size = number * 1000 + 1;
                    for file in 0.. {
                        size = (size * 7919) % 200_000;
                        let Ok(_permit) = user.admit(on_disk(size)) else {
                            return;
                        };
                        write(&root.join("tmp").join(format!("{number}-{file}")), size);
                    }
                })
            })
            .collect();
        let sampler = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(store.total() <= limit);
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        sampler.join().unwrap();
    });
    let total = store.total();
    assert!((limit * 9 / 10..=limit).contains(&total), "{total}");
}

#[test]
fn the_least_recently_used_goes_and_the_rest_stays() {
    let store = Store::new(20 * MIB);
    let building = store.home.in_use().unwrap();
    let layers: Vec<LayerId> = (0..6).map(|_| store.layer(2 * MIB)).collect();
    store.tag("kept", layers[0]);
    for (layer, used) in layers.iter().zip([1, 5, 2, 6, 4, 3]) {
        store.result(*layer, used);
    }
    // Their own builder keeps them; another one uses the longest unused.
    drop(building);
    let process = store.process();
    process.claim(&[Claim::Layer(layers[2])]).unwrap();
    assert!(layers.iter().all(|layer| store.has(layer)));

    let permit = process.admit(9 * MIB).unwrap();
    let kept: Vec<bool> = layers.iter().map(|layer| store.has(layer)).collect();
    // Tagged; used; the two most recently used; the others are gone.
    assert_eq!(kept, [true, true, true, true, false, false]);
    drop(permit);

    // Everything goes that can, before somebody is refused.
    let error = process.admit(17 * MIB).unwrap_err();
    let full = full(&error);
    let kept: Vec<bool> = layers.iter().map(|layer| store.has(layer)).collect();
    assert_eq!(kept, [true, false, true, false, false, false]);
    assert!((2 * MIB..3 * MIB).contains(&full.images), "{full:?}");
    assert!(full.builds >= 2 * MIB && !full.blocked, "{full:?}");
    assert!(full.used >= 4 * MIB && full.used < 15 * MIB, "{full:?}");
}

#[test]
fn what_a_process_found_or_made_is_not_evicted() {
    let store = Store::new(10 * MIB);
    let earlier = store.home.in_use().unwrap();
    let (found, other) = (store.layer(MIB), store.layer(MIB));
    store.result(found, 1);
    store.result(other, 2);
    let tagged = store.layer(MIB);
    store.tag("tagged", tagged);
    drop(earlier);

    let home = Home::open(store.home.root()).unwrap();
    let _building = home.in_use().unwrap();
    let key = DefinitionKey::from(blake3::hash(found.as_bytes()));
    assert!(home.result_by_definition(&key).unwrap().is_some());
    let reference = "tagged".parse().unwrap();
    assert!(home.image(&reference).unwrap().is_some());
    home.remove_image(&reference).unwrap();
    let blob = home.blobs().put(b"just made").unwrap();
    let mut writer = home.blobs().writer().unwrap();
    writer.write_all(b"written").unwrap();
    let (written, _) = writer.commit(None).unwrap();

    drop(home.admit(8 * MIB).unwrap_err());
    assert_eq!(
        [found, other, tagged].map(|layer| store.has(&layer)),
        [true, false, true]
    );
    for digest in [blob, written] {
        assert!(home.blobs().size_of(&digest).is_some());
    }
    // A prune beside the build keeps to the same.
    let report = collect(&home, Policy::KeepUpTo(0), Duration::ZERO, &Nothing).unwrap();
    assert!(!report.only_leftovers);
    assert!(store.has(&found) && home.blobs().size_of(&blob).is_some());
}

struct Nothing;

impl TreeRemover for Nothing {
    fn remove(&self, paths: &[PathBuf]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        panic!("{paths:?}");
    }
}

#[test]
fn builds_from_before_the_quota_keep_everything_and_are_counted_once_they_end() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(directory.path()).unwrap();
    let before = home.in_use().unwrap();
    home.set_quota(Some(10 * MIB)).unwrap();
    assert!(home.user_name().is_none());
    write(&directory.path().join("tmp/unasked"), 6 * MIB);

    let other = Home::open(directory.path()).unwrap();
    let _used = other.in_use().unwrap();
    let refused = other.admit(20 * MIB).unwrap_err();
    assert!(full(&refused).blocked, "{refused}");
    assert!(full(&refused).hint().contains("before the quota"));
    drop(before);
    let error = full(&other.admit(5 * MIB).unwrap_err());
    assert!(!error.blocked && error.used >= 6 * MIB, "{error:?}");
    drop(other.admit(2 * MIB).unwrap());
}

#[test]
fn deleting_lowers_the_ledger() {
    let store = Store::new(20 * MIB);
    let building = store.home.in_use().unwrap();
    let layer = store.layer(5 * MIB);
    drop(building);
    let before = store.ledger().unwrap().used;
    assert!(store.has(&layer) && before >= 5 * MIB);
    collect(&store.home, Policy::KeepResults, Duration::ZERO, &Nothing).unwrap();
    let after = store.ledger().unwrap().used;
    assert!(!store.has(&layer) && after + 5 * MIB <= before);
    assert_eq!(after, store.total());
}

#[test]
fn what_was_not_needed_comes_back() {
    let store = Store::new(20 * MIB);
    let user = store.process();
    let meter = Meter {
        user: Some(Arc::clone(&user)),
    };
    drop(meter.admit(4096).unwrap());
    let count = meter.count().unwrap();
    let before = store.ledger().unwrap().used;
    let permit = meter.admit(5 * MIB).unwrap();
    drop(permit);
    meter.give_back(5 * MIB, count).unwrap();
    assert!(store.ledger().unwrap().used <= before + MIB);
    // Not if the files were counted since.
    let before = store.ledger().unwrap().used;
    meter.give_back(MIB, count + 1).unwrap();
    assert_eq!(store.ledger().unwrap().used, before);
    // Nor is what was taken in advance lost with the process.
    drop((meter, user));
    assert!(store.ledger().unwrap().used < before);
}

/// Not a test of its own: the process that [`a_killed_process_leaves_no_lasting_mark`] kills.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a child of this test binary is told so"
)]
fn child_that_is_killed() {
    let Some(root) = std::env::var_os("ASHLAR_TEST_QUOTA_CHILD") else {
        return;
    };
    let home = Home::open(Path::new(&root)).unwrap();
    let _used = home.in_use().unwrap();
    let _permit = home.admit(7 * MIB).unwrap();
    write(&home.root().join("tmp/blob-half"), 3 * MIB);
    println!("written");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_leaves_no_lasting_mark() {
    use std::io::{BufRead as _, BufReader};
    let store = Store::new(10 * MIB);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "home::quota::tests::child_that_is_killed",
            "--exact",
            "--nocapture",
        ])
        .env("ASHLAR_TEST_QUOTA_CHILD", store.home.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(
        output
            .lines()
            .any(|line| line.unwrap().ends_with("written"))
    );
    // While it lives all of its seven count, though it has written three.
    let user = store.process();
    let error = full(&user.admit(4 * MIB).unwrap_err());
    assert!(error.used >= 7 * MIB, "{error:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    // Then nothing does: what it wrote is a dead process's.
    drop(user.admit(8 * MIB).unwrap());
    assert!(store.total() < MIB);
    assert_eq!(claims(store.home.root()).unwrap().users, 1);
}

#[test]
fn what_cannot_be_removed_is_said() {
    let error = StoreError::from(RemoveError::Trees {
        paths: Vec::new(),
        source: "no sandbox".into(),
    });
    assert_eq!(error.to_string(), "cannot make room in the store");
}

/// What may happen to a store.
#[derive(Debug, Clone)]
enum Event {
    /// A process writes what it was admitted for, or less.
    Write {
        process: usize,
        admitted: u64,
        written: u64,
    },
    /// A file goes.
    Delete(prop::sample::Index),
    /// A process ends, and another comes.
    Replace(usize),
    /// A process is killed: what it holds stays in the ledger.
    Kill(usize),
    LedgerDeleted,
    LedgerGarbage(Vec<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    let write = (0..3_usize, 0..600_000_u64, 0..=100_u64).prop_map(|(process, admitted, part)| {
        let written = admitted * part / 100;
        Event::Write {
            process,
            admitted,
            written,
        }
    });
    prop_oneof![
        10 => write,
        3 => any::<prop::sample::Index>().prop_map(Event::Delete),
        1 => (0..3_usize).prop_map(Event::Replace),
        1 => (0..3_usize).prop_map(Event::Kill),
        1 => Just(Event::LedgerDeleted),
        1 => prop::collection::vec(any::<u8>(), 0..120).prop_map(Event::LedgerGarbage),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever happens, the files never take more than the ledger says, nor than the quota.
    #[test]
    fn the_ledger_never_says_too_little(events in prop::collection::vec(event(), 1..60)) {
        let limit = 6 * MIB;
        let store = Store::new(limit);
        let mut processes: Vec<_> = (0..3).map(|_| store.process()).collect();
        let mut killed = Vec::new();
        let mut files = Vec::new();
        for (number, event) in events.into_iter().enumerate() {
            match event {
                Event::Write { process, admitted, written } => {
                    if let Ok(_permit) = processes[process].admit(on_disk(admitted)) {
                        // Not in tmp/, where it would be taken for a dead process's.
                        let path = store.home.root().join(format!("images/{number}"));
                        write(&path, written);
                        files.push(path);
                    }
                }
                Event::Delete(index) if !files.is_empty() => {
                    let file = files.swap_remove(index.index(files.len()));
                    fs::remove_file(file).unwrap();
                }
                Event::Delete(_) => {}
                Event::Replace(process) => processes[process] = store.process(),
                Event::Kill(process) => {
                    killed.push(std::mem::replace(&mut processes[process], store.process()));
                }
                Event::LedgerDeleted => {
                    drop(fs::remove_file(Ledger::path(store.home.root())));
                }
                Event::LedgerGarbage(bytes) => {
                    fs::write(Ledger::path(store.home.root()), bytes).unwrap();
                }
            }
            let total = store.total();
            prop_assert!(total <= limit, "{total}");
            if let Some(account) = store.ledger() {
                // Directories, locks and notes are what is kept back for.
                prop_assert!(total <= account.used + limit / 64, "{total} {account:?}");
            }
        }
    }
}
