//! Many files.

use std::fs::{self, File};

use ashlar_exec::layer::index_only;
use ashlar_model::layer::EntryKind;

use super::lab::{Lab, list, tar_of};

/// 46
#[test]
fn a_directory_of_a_hundred_thousand_files() {
    let lab = Lab::new();
    let step = lab.run("true");
    for number in 0..100_000 {
        File::create(step.upper.join(format!("file{number}"))).unwrap();
    }
    let (index, _) = lab.index(&step);
    assert_eq!(index.entries.len(), 100_000);
    let read = index_only(tar_of(&index, &step.upper).as_slice()).unwrap();
    assert_eq!(read.index.content_digest(), index.content_digest());
}

/// Enough files for every thread to be at work, and of sizes around the limits between the ways
/// in which files are read and written.
#[test]
fn files_of_all_sizes_go_through_all_threads() {
    let lab = Lab::new();
    let step = lab.run("true");
    let sizes = [
        0, 1, 511, 512, 513, 4096, 262_143, 262_144, 262_145, 1_500_000,
    ];
    for (number, size) in sizes.iter().cycle().take(300).enumerate() {
        let parent = step.upper.join(format!("d{}", number % 7));
        fs::create_dir_all(&parent).unwrap();
        let byte = u8::try_from(number % 251).unwrap();
        fs::write(parent.join(format!("f{number}")), vec![byte; *size]).unwrap();
    }
    let (index, _) = lab.index(&step);
    let (tree, unpacked) = lab.unpack(&tar_of(&index, &step.upper));
    assert_eq!(list(&unpacked.index), list(&index));
    assert_eq!(unpacked.index.content_digest(), index.content_digest());
    for entry in &index.entries {
        if let EntryKind::File { .. } = entry.kind {
            let path = entry.path.as_path();
            let (written, read) = (step.upper.join(path), tree.join(path));
            assert!(
                fs::read(written).unwrap() == fs::read(read).unwrap(),
                "{}",
                entry.path
            );
        }
    }
}
