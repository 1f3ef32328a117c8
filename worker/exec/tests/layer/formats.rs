//! Numbers, times, sizes and content at the limits of what tars hold.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;

use ashlar_exec::layer::tar_read::TarReader;
use ashlar_exec::layer::tar_write::{TarOptions, TarWriteError, write_tar};
use ashlar_exec::layer::{FileBytes, FileContents, TreeContents, index_only};
use ashlar_model::layer::{Entry, EntryKind, LayerIndex, LayerPath, Metadata, Timestamp};

use super::lab::{Lab, exact_tar_of, list, metadata, tar_of};

/// Files of zeros.
struct Zeros;

impl FileContents for Zeros {
    fn open(&self, _position: usize, entry: &Entry) -> io::Result<FileBytes<'_>> {
        let EntryKind::File { size, .. } = entry.kind else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        Ok(FileBytes::Stream(Box::new(io::repeat(0).take(size))))
    }
}

fn file(path: &str, size: u64) -> Entry {
    Entry {
        path: LayerPath::new(path.as_bytes()).unwrap(),
        kind: EntryKind::File { size, digest: None },
        metadata: Metadata::default(),
    }
}

/// 23
#[test]
fn a_file_of_8_gib_has_its_size_in_a_record() {
    /// Counts, and keeps the start and the end.
    #[derive(Default)]
    struct Ends(u64, Vec<u8>, Vec<u8>);
    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1.len() < 4096 {
                self.1.extend_from_slice(bytes);
            }
            self.2 = bytes.to_vec();
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (size, has_record) in [((8 << 30) - 1, false), (8 << 30, true)] {
        let index = LayerIndex::new(vec![file("big", size)]);
        let mut out = Ends::default();
        let length = write_tar(&index, &Zeros, TarOptions::default(), &mut out).unwrap();
        assert_eq!(length, out.0);
        let headers = if has_record { 3 * 512 } else { 512 };
        assert_eq!(length, headers + size.next_multiple_of(512) + 1024);
        assert_eq!(
            out.1.windows(16).any(|w| w == b"size=8589934592\n"),
            has_record
        );
        let entry = TarReader::new(out.1.as_slice()).next_entry().unwrap();
        assert_eq!(entry.unwrap().size, size);
    }
}

/// 24
#[test]
fn sparse_files_are_written_dense() {
    let lab = Lab::new();
    let step = lab.run("truncate -s 64M sparse; echo end >>sparse");
    assert!(step.upper.join("sparse").metadata().unwrap().blocks() < 1000);
    let (index, _) = lab.index(&step);
    let tar = tar_of(&index, &step.upper);
    assert!(tar.len() > 64 << 20);
    lab.check_apply(&step, &index);
}

/// 24: what is sparse in a foreign tar is sparse on disk.
#[test]
fn sparse_files_of_foreign_tars_keep_their_holes() {
    let lab = Lab::new();
    let step = lab.run("truncate -s 64M sparse; echo end >>sparse; truncate -s 80M sparse");
    let output = std::process::Command::new("tar")
        .args(["-c", "--sparse", "--hole-detection=raw", "-C"])
        .arg(&step.upper)
        .arg("sparse")
        .output()
        .unwrap();
    assert!(output.stdout.len() < 1 << 20);
    let (tree, unpacked) = lab.unpack(&output.stdout);
    let (index, _) = lab.index(&step);
    assert_eq!(unpacked.index.entries[0].kind, index.entries[0].kind);
    let metadata = tree.join("sparse").metadata().unwrap();
    assert_eq!(metadata.len(), 80 << 20);
    assert!(metadata.blocks() < 1000, "{} blocks", metadata.blocks());
    let bytes = fs::read(tree.join("sparse")).unwrap();
    assert!(bytes == fs::read(step.upper.join("sparse")).unwrap());
}

/// 26
#[test]
fn times_of_all_kinds_are_kept() {
    let lab = Lab::new();
    let step = lab.run(
        "touch -d @1.5 fraction; touch -d @-1 before; touch -d @-1.5 before-fraction; \
         touch -d @2147483648 after-2038; touch -d @8589934592 after-2242; touch -d @0 zero",
    );
    let (index, _) = lab.index(&step);
    let tar = tar_of(&index, &step.upper);
    lab.check_apply(&step, &index);
    let exact = exact_tar_of(&index, &step.upper);
    assert_eq!(index_only(exact.as_slice()).unwrap().index, index);
    let whole = index_only(tar.as_slice()).unwrap().index;
    for (name, seconds, nanoseconds) in [
        ("fraction", 1, 500_000_000),
        ("before", -1, 0),
        ("before-fraction", -2, 500_000_000),
        ("after-2038", 1 << 31, 0),
        ("zero", 0, 0),
    ] {
        let expected = Timestamp {
            seconds,
            nanoseconds,
        };
        assert_eq!(metadata(&index, name).mtime, expected, "{name}");
        assert_eq!(metadata(&whole, name).mtime.seconds, seconds, "{name}");
        assert_eq!(metadata(&whole, name).mtime.nanoseconds, 0, "{name}");
    }
}

/// 27
#[test]
fn large_ids_are_kept() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let lab = Lab::new();
    let ids = [0, 65534, 2_097_151, 2_097_152, 4_294_967_294_u32];
    let script: String = ids
        .map(|id| format!("touch f{id}; chown {id}:{id} f{id}; "))
        .concat();
    let step = lab.run(&script);
    let (index, _) = lab.index(&step);
    for id in ids {
        let metadata = metadata(&index, &format!("f{id}"));
        assert_eq!((metadata.uid, metadata.gid), (id, id));
    }
    lab.check_apply(&step, &index);
}

/// Base 256, as GNU tar stores what is too large for octal digits.
#[test]
fn large_ids_of_foreign_tars_are_read() {
    let mut header = tar::Header::new_gnu();
    header.set_path("f").unwrap();
    header.set_uid(4_000_000_000);
    header.set_gid(2_097_152);
    header.set_size(0);
    header.set_mode(0);
    header.set_mtime(1 << 40);
    header.set_cksum();
    let index = index_only(header.as_bytes().as_slice()).unwrap().index;
    let metadata = metadata(&index, "f");
    assert_eq!((metadata.uid, metadata.gid), (4_000_000_000, 2_097_152));
    assert_eq!(metadata.mtime.seconds, 1 << 40);
}

/// Content that is not what the index says is never packed.
#[test]
fn files_that_changed_since_they_were_listed_are_an_error() {
    // Few files and many are read in different ways; large ones in a third.
    for (count, size) in [(1, 10), (200, 10), (1, 600_000)] {
        for change in ["shorter", "longer", "other"] {
            let lab = Lab::new();
            let step = lab.run(&format!(
                "i=0; while [ $i -lt {count} ]; do head -c {size} /dev/zero >f$i; i=$((i+1)); done"
            ));
            let (index, _) = lab.index(&step);
            tar_of(&index, &step.upper);
            let last = step.upper.join(format!("f{}", count - 1));
            match change {
                "shorter" => File::options()
                    .write(true)
                    .open(&last)
                    .unwrap()
                    .set_len(size - 1),
                "longer" => File::options()
                    .write(true)
                    .open(&last)
                    .unwrap()
                    .set_len(size + 1),
                _ => fs::write(&last, vec![b'x'; usize::try_from(size).unwrap()]),
            }
            .unwrap();
            let contents = TreeContents::open(&step.upper).unwrap();
            let options = TarOptions {
                verify: true,
                ..TarOptions::default()
            };
            let error = write_tar(&index, &contents, options, &mut io::sink()).unwrap_err();
            assert!(
                matches!(error, TarWriteError::Changed { .. }),
                "{change}: {error}"
            );
            assert!(
                error.to_string().contains(&format!("/f{}`", count - 1)),
                "{error}"
            );
        }
    }
}

/// 20, 54
#[test]
fn devices_are_made_where_they_may_be_and_listed_everywhere() {
    let mut entries = vec![file("f", 0)];
    let devices = [
        ("char", EntryKind::CharDevice(1, 3)),
        ("block", EntryKind::BlockDevice(7, 200)),
        ("zero", EntryKind::CharDevice(0, 0)),
    ];
    for (path, kind) in devices {
        entries.push(Entry {
            kind,
            ..file(path, 0)
        });
    }
    let index = LayerIndex::new(entries);
    let mut tar = Vec::new();
    write_tar(&index, &Zeros, TarOptions::default(), &mut tar).unwrap();
    let lab = Lab::new();
    let (tree, unpacked) = lab.unpack(&tar);
    let listed = [
        "/block block 7:200",
        "/char char 1:3",
        "/f file 0",
        "/zero char 0:0",
    ];
    assert_eq!(list(&unpacked.index), listed);
    let skipped: Vec<_> = unpacked
        .warnings
        .iter()
        .map(|w| w.path().to_string())
        .collect();
    let mut on_disk: Vec<_> = fs::read_dir(tree)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    on_disk.sort();
    // The device 0:0 would be a whiteout.
    if rustix::process::geteuid().is_root() && !super::identities::in_user_namespace() {
        assert_eq!(skipped, ["/zero"]);
        assert_eq!(on_disk, ["block", "char", "f"]);
    } else {
        assert_eq!(skipped, ["/block", "/char", "/zero"]);
        assert_eq!(on_disk, ["f"]);
    }
}
