use ashlar_model::layer::Timestamp;
use tempfile::TempDir;

use super::super::stat::Identity;
use super::*;

fn path(text: &str) -> LayerPath {
    LayerPath::new(text.as_bytes()).unwrap()
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds: 5,
    }
}

fn stat(inode: u64) -> FileStat {
    FileStat {
        mode: 0o100_644,
        size: 3,
        mtime: seconds(100),
        ctime: seconds(100),
        identity: Identity {
            device: (8, 1),
            inode,
        },
        links: 1,
        rdev: (0, 0),
    }
}

fn content(inode: u64, read_at: i64) -> Content {
    Content {
        digest: blake3::hash(&inode.to_le_bytes()).into(),
        xattrs: Vec::new(),
        stat: stat(inode),
        read_at: seconds(read_at),
    }
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("sub/stat-cache")
}

fn open(path: &Path) -> StatCache {
    StatCache::load(Some(path.to_owned()))
}

/// A cache on disk that knows `a` and `b`.
fn with_two(directory: &TempDir) -> PathBuf {
    let file = file(directory);
    let cache = open(&file);
    cache.learn(&path("a"), &content(1, 200));
    cache.learn(&path("b"), &content(2, 200));
    assert!(cache.save(&Meter::default()).unwrap());
    file
}

#[test]
fn what_was_learnt_is_known_in_the_next_build() {
    let directory = TempDir::new().unwrap();
    let cache = open(&with_two(&directory));
    assert_eq!(cache.find(&path("a"), &stat(1)), Some(content(1, 0).digest));
    assert_eq!(cache.find(&path("b"), &stat(2)), Some(content(2, 0).digest));
    assert_eq!(cache.find(&path("c"), &stat(1)), None);
}

#[test]
fn any_field_that_differs_makes_it_unknown() {
    let directory = TempDir::new().unwrap();
    let cache = open(&with_two(&directory));
    let changes: [fn(&mut FileStat); 7] = [
        |stat| stat.mode = 0o100_600,
        |stat| stat.size += 1,
        |stat| stat.mtime.nanoseconds += 1,
        |stat| stat.ctime.nanoseconds += 1,
        |stat| stat.identity.inode += 1,
        |stat| stat.identity.device.1 += 1,
        |stat| stat.mtime.seconds -= 1,
    ];
    for change in changes {
        let mut changed = stat(1);
        change(&mut changed);
        assert_eq!(cache.find(&path("a"), &changed), None, "{changed:?}");
    }
}

#[test]
fn a_file_changed_just_before_it_was_read_is_not_remembered() {
    let directory = TempDir::new().unwrap();
    let cache = open(&file(&directory));
    for read_at in [100, 101, 102] {
        cache.learn(&path("a"), &content(1, read_at));
    }
    assert!(!cache.save(&Meter::default()).unwrap());
    cache.learn(&path("a"), &content(1, 103));
    assert!(cache.save(&Meter::default()).unwrap());
}

#[test]
fn a_file_with_attributes_is_not_remembered() {
    let directory = TempDir::new().unwrap();
    let cache = open(&file(&directory));
    let mut content = content(1, 200);
    content.xattrs.push(ashlar_model::layer::Xattr {
        name: b"user.a".to_vec(),
        value: Vec::new(),
    });
    cache.learn(&path("a"), &content);
    assert!(!cache.save(&Meter::default()).unwrap());
}

#[test]
fn nothing_learnt_writes_nothing() {
    let directory = TempDir::new().unwrap();
    let file = with_two(&directory);
    fs::remove_file(&file).unwrap();
    assert!(!open(&file).save(&Meter::default()).unwrap());
    assert!(!file.exists());
}

#[test]
fn a_damaged_file_is_as_good_as_none() {
    let directory = TempDir::new().unwrap();
    let file = with_two(&directory);
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, 63, 64, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert_eq!(open(&file).find(&path("a"), &stat(1)), None, "{length}");
    }
    let mut flipped = whole;
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&file, flipped).unwrap();
    let cache = open(&file);
    assert_eq!(cache.find(&path("a"), &stat(1)), None);
    cache.learn(&path("a"), &content(1, 200));
    assert!(cache.save(&Meter::default()).unwrap());
    assert!(open(&file).find(&path("a"), &stat(1)).is_some());
}

#[test]
fn records_long_out_of_use_are_dropped_and_used_ones_kept() {
    let directory = TempDir::new().unwrap();
    let file = with_two(&directory);
    for round in 0..=u64::from(FORGOTTEN_AFTER) {
        let cache = open(&file);
        assert!(cache.find(&path("a"), &stat(1)).is_some());
        cache.learn(&path("c"), &content(round, 200));
        assert!(cache.save(&Meter::default()).unwrap());
    }
    let cache = open(&file);
    assert!(cache.find(&path("a"), &stat(1)).is_some());
    assert_eq!(cache.find(&path("b"), &stat(2)), None);
    assert_eq!(cache.known.len(), 2);
}

#[test]
fn no_temporary_file_is_left() {
    let directory = TempDir::new().unwrap();
    let file = with_two(&directory);
    let inside = fs::read_dir(file.parent().unwrap()).unwrap();
    assert_eq!(inside.count(), 1);
}
