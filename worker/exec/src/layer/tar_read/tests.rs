use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use ashlar_model::layer::Timestamp;
use proptest::prelude::*;

use super::*;

/// Runs GNU tar in a directory.
fn gnu_tar(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .current_dir(directory)
        .args(arguments)
        .output()
        .expect("these tests need GNU tar");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    output.stdout
}

type WithContent = (TarEntry, Vec<u8>);

fn read_all(bytes: &[u8]) -> Result<Vec<WithContent>, TarError> {
    let mut tar = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = tar.next_entry()? {
        let mut content = Vec::new();
        match tar.read_to_end(&mut content) {
            Ok(_) => entries.push((entry, content)),
            Err(error) => return Err(tar.read_failed(error)),
        }
    }
    tar.drain()?;
    Ok(entries)
}

fn damage(bytes: &[u8]) -> Damage {
    match read_all(bytes).unwrap_err() {
        TarError::Damaged { damage, .. } => damage,
        TarError::Io { source, .. } => panic!("{source}"),
    }
}

/// A header with its checksum, and content.
fn entry(change: impl FnOnce(&mut tar::Header), content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("name").unwrap();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn records(text: &str) -> Vec<u8> {
    entry(
        |header| header.set_entry_type(tar::EntryType::XHeader),
        text.as_bytes(),
    )
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

#[test]
fn every_format_of_gnu_tar_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let long = "directory-with-a-long-name/".repeat(3);
    fs::create_dir_all(base.join(&long)).unwrap();
    fs::write(base.join(&long).join("file"), "content").unwrap();
    fs::hard_link(base.join(&long).join("file"), base.join("hard")).unwrap();
    std::os::unix::fs::symlink("target", base.join("soft")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, base.join("pipe"), 0o600.into()).unwrap();
    let read = |arguments: &[&str]| {
        let all = [arguments, &["-c", "--sort=name", "--mtime=@7", "."]].concat();
        read_all(&gnu_tar(base, &all)).unwrap()
    };
    let expected = read(&["--format=posix"]);
    assert_eq!(expected.len(), 8);
    for format in ["--format=ustar", "--format=gnu", "--format=oldgnu"] {
        assert_eq!(read(&[format]), expected, "{format}");
    }
    // The oldest one cannot hold pipes.
    let expected = read(&["--format=posix", "--exclude=pipe"]);
    assert_eq!(expected.len(), 7);
    assert_eq!(read(&["--format=v7", "--exclude=pipe"]), expected);
}

#[test]
fn long_names_of_gnu_and_posix_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let name = "n".repeat(200);
    let path = format!("{name}/{name}");
    fs::create_dir(directory.path().join(&name)).unwrap();
    fs::write(directory.path().join(&path), "x").unwrap();
    std::os::unix::fs::symlink(&path, directory.path().join("link")).unwrap();
    for format in ["gnu", "oldgnu", "posix"] {
        let format = format!("--format={format}");
        let bytes = gnu_tar(directory.path(), &["-c", &format, &path, "link"]);
        let entries = read_all(&bytes).unwrap();
        assert_eq!(entries[0].0.path, path.as_bytes(), "{format}");
        let target = TarKind::Symlink(path.clone().into_bytes());
        assert_eq!(entries[1].0.kind, target, "{format}");
    }
}

#[test]
fn every_way_to_store_sparse_files_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::create(directory.path().join("sparse")).unwrap();
    let mut expected = vec![0; 3_000_000];
    // More pieces than an old GNU header and one continuation hold.
    for piece in 0..40 {
        let at = 30_000 + piece * 70_000;
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"piece").unwrap();
        let at = usize::try_from(at).unwrap();
        expected[at..at + 5].copy_from_slice(b"piece");
    }
    file.set_len(3_000_000).unwrap();
    drop(file);
    let ways: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for way in ways {
        let arguments = [
            &["-c", "--sparse", "--hole-detection=raw"],
            way,
            &["sparse"],
        ]
        .concat();
        let bytes = gnu_tar(directory.path(), &arguments);
        assert!(bytes.len() < 2_000_000, "{way:?} is sparse");
        let entries = read_all(&bytes).unwrap();
        let (entry, content) = &entries[0];
        assert_eq!(entry.path, b"sparse", "{way:?}");
        assert_eq!(entry.size, 3_000_000, "{way:?}");
        assert!(*content == expected, "{way:?}");
    }
}

#[test]
fn the_size_record_decides_how_many_bytes_follow() {
    // CVE-2025-62518 and CVE-2026-33055: a reader that takes the header's size sees another entry
    // within the content.
    let smuggled = [entry(|_| {}, b"smuggled"), end()].concat();
    for header_size in [0, 1, 512, 1024] {
        let bytes = [
            records(&format!("13 size={}\n", smuggled.len())),
            entry(|header| header.set_size(header_size), b""),
            smuggled.clone(),
            entry(|header| header.set_path("after").unwrap(), b""),
            end(),
        ]
        .concat();
        let entries = read_all(&bytes).unwrap();
        assert_eq!(entries.len(), 2, "{header_size}");
        assert!(entries[0].1 == smuggled);
        assert_eq!(entries[1].0.path, b"after");
    }
}

#[test]
fn only_files_have_content() {
    for kind in [
        tar::EntryType::Directory,
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Fifo,
    ] {
        let bytes = [
            entry(
                |header| {
                    header.set_entry_type(kind);
                    header.set_size(512);
                },
                b"",
            ),
            entry(|header| header.set_path("after").unwrap(), b""),
            end(),
        ]
        .concat();
        assert_eq!(read_all(&bytes).unwrap()[1].0.path, b"after", "{kind:?}");
    }
}

#[test]
fn records_win_over_long_names_and_those_over_the_header() {
    let make = |parts: &[Vec<u8>]| read_all(&[parts.concat(), end()].concat()).unwrap();
    let long = entry(
        |header| header.set_entry_type(tar::EntryType::GNULongName),
        b"long\0ignored",
    );
    let file = entry(|_| {}, b"");
    assert_eq!(make(&[long.clone(), file.clone()])[0].0.path, b"long");
    let pax = records("12 path=pax\n");
    for order in [[long.clone(), pax.clone()], [pax, long]] {
        let parts = [order.concat(), file.clone()];
        assert_eq!(make(&parts)[0].0.path, b"pax");
    }
}

#[test]
fn attributes_and_fractions_of_seconds_are_read() {
    let bytes = [
        records("29 SCHILY.xattr.user.b=two\n\n\n25 SCHILY.xattr.user.a=1\n15 mtime=-0.25\n"),
        entry(|_| {}, b""),
        end(),
    ]
    .concat();
    let (entry, _) = &read_all(&bytes).unwrap()[0];
    let xattrs: Vec<_> = entry
        .xattrs
        .iter()
        .map(|x| (x.name.as_slice(), x.value.as_slice()))
        .collect();
    assert_eq!(
        xattrs,
        [(&b"user.b"[..], &b"two\n\n"[..]), (b"user.a", b"1")]
    );
    let mtime = Timestamp {
        seconds: -1,
        nanoseconds: 750_000_000,
    };
    assert_eq!(entry.mtime, mtime);
}

#[test]
fn global_records_are_skipped() {
    let global = entry(
        |header| header.set_entry_type(tar::EntryType::XGlobalHeader),
        b"14 path=other\n13 size=1024\n",
    );
    let bytes = [global, entry(|_| {}, b"x"), end()].concat();
    let entries = read_all(&bytes).unwrap();
    assert_eq!(entries[0].0.path, b"name");
    assert_eq!(entries[0].1, b"x");
}

#[test]
fn damage_is_named() {
    let good = entry(|_| {}, b"content");
    let mut checksum = good.clone();
    checksum[0] ^= 1;
    assert_eq!(damage(&checksum), Damage::Checksum);
    assert_eq!(damage(&good[..600]), Damage::Truncated);
    assert_eq!(damage(&good[..100]), Damage::Truncated);
    assert_eq!(damage(&records("12 path=pax\n")), Damage::Truncated);
    assert_eq!(
        damage(&[vec![0; 512], good.clone()].concat()),
        Damage::LoneZeroBlock
    );
    let unknown = entry(|header| header.as_old_mut().linkflag = [b'V'], b"");
    assert_eq!(damage(&unknown), Damage::Type(b'V'));
    let bad = [records("99 path=pax\n"), good.clone()].concat();
    assert_eq!(damage(&bad), Damage::Record);
    let huge = [records("28 size=9223372036854775808\n"), good.clone()].concat();
    assert_eq!(damage(&huge), Damage::Number("size"));
    let long = entry(
        |header| {
            header.set_entry_type(tar::EntryType::XHeader);
            header.set_size(MAX_SPECIAL + 1);
        },
        b"",
    );
    assert_eq!(damage(&long), Damage::TooLong);
    let sparse = [
        records("22 GNU.sparse.major=1\n27 GNU.sparse.realsize=100\n"),
        good,
    ]
    .concat();
    assert_eq!(damage(&sparse), Damage::SparseMap);
}

#[test]
fn what_follows_the_end_is_nothing() {
    let bytes = [entry(|_| {}, b""), end(), b"garbage".to_vec()].concat();
    assert_eq!(read_all(&bytes).unwrap().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_makes_it_panic(
        changes in prop::collection::vec((0..6000_usize, any::<u8>()), 0..6),
        checksums in any::<bool>(),
        length in 0..7000_usize,
    ) {
        let pax = "12 path=pax\n22 GNU.sparse.major=1\n30 GNU.sparse.realsize=100000\n";
        let mut bytes = [
            entry(|_| {}, b"content"),
            records(pax),
            entry(|_| {}, &[&b"1\n5\n7\n"[..], &[0; 506], b"content"].concat()),
            entry(|header| header.as_old_mut().linkflag = [b'S'], &[7; 100]),
            end(),
        ]
        .concat();
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        if checksums {
            for header in bytes.chunks_exact_mut(BLOCK) {
                let mut fixed = tar::Header::new_old();
                fixed.as_mut_bytes().copy_from_slice(header);
                fixed.set_cksum();
                header.copy_from_slice(fixed.as_bytes());
            }
        }
        bytes.truncate(length);
        drop(read_all(&bytes));
    }
}
