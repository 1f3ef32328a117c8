//! Names of all kinds.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use ashlar_exec::layer::{DiffError, DiffOptions, index_tree};
use rustix::fs::{Mode, OFlags};

use super::lab::{Lab, list, tar_of};

/// 21
#[test]
fn names_of_any_bytes_are_kept() {
    let lab = Lab::new();
    let step = lab.run("true");
    let long = [b'n'; 255];
    let names: [&[u8]; 8] = [
        b"-rf",
        b"a\nb",
        b"\xFF\xFE not utf-8",
        "žluťoučký".as_bytes(),
        b"trailing ",
        b" leading",
        b"'quoted\" \\ * ? [x]",
        &long,
    ];
    for name in names {
        let path = step.upper.join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, "x").unwrap();
    }
    let (index, _) = lab.index(&step);
    assert_eq!(index.entries.len(), names.len());
    let (tree, unpacked) = lab.unpack(&tar_of(&index, &step.upper));
    assert_eq!(unpacked.index.entries.len(), names.len());
    for name in names {
        let path = tree.join(std::ffi::OsStr::from_bytes(name));
        assert_eq!(fs::read(path).unwrap(), b"x", "{}", name.escape_ascii());
    }
}

/// 21
#[test]
fn a_file_with_a_whiteouts_name_is_refused_with_the_reason() {
    let lab = Lab::new();
    for script in [
        "mkdir d; touch d/.wh.x",
        "mkdir -p d/.wh.x",
        "mkdir d; ln -s t d/.wh.x",
    ] {
        let step = lab.run(script);
        let error = lab.try_index(&step).unwrap_err();
        assert!(matches!(error, DiffError::ReservedName { .. }));
        let text = error.to_string();
        assert!(
            text.contains("`/d/.wh.x`") && text.contains("deleted"),
            "{text}"
        );
    }
}

/// 22
#[test]
fn paths_of_any_length_are_kept() {
    let lab = Lab::new();
    let step = lab.run("true");
    // Around the limits of ustar: 100, 155 + 1 + 100, and far above PATH_MAX.
    let directory = |length: usize| {
        let mut path = String::new();
        while path.len() < length {
            let rest = length - path.len();
            path.push_str(&"d".repeat(rest.min(99)));
            path.push('/');
        }
        path.truncate(length);
        path.trim_end_matches('/').to_owned()
    };
    for length in [99, 100, 101, 154, 155, 156, 254, 255, 256, 257] {
        let path = step.upper.join(directory(length));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_extension("f"), "x").unwrap();
        fs::create_dir_all(path.with_extension("d")).unwrap();
    }
    let (index, _) = lab.index(&step);
    let (_, unpacked) = lab.unpack(&tar_of(&index, &step.upper));
    assert_eq!(list(&unpacked.index), list(&index));
}

/// 22, 46
#[test]
fn a_tree_of_a_thousand_levels_is_read_and_made() {
    let lab = Lab::new();
    let step = lab.run("true");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(&step.upper, flags, Mode::empty()).unwrap();
    for level in 0..1000 {
        let name = format!("directory{level}");
        rustix::fs::mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&at, "file", flags, Mode::from_raw_mode(0o600)).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let (index, _) = lab.index(&step);
    assert_eq!(index.entries.len(), 1001);
    assert!(index.entries.last().unwrap().path.as_bytes().len() > 11_000);
    let (tree, unpacked) = lab.unpack(&tar_of(&index, &step.upper));
    assert_eq!(list(&unpacked.index), list(&index));
    let options = DiffOptions::for_this_process();
    let (again, _) = index_tree(&tree, &lab.layers, &options).unwrap();
    assert_eq!(again.content_digest(), index.content_digest());
}
