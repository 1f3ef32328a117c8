//! Foreign programs read what we write.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use ashlar_exec::layer::{DiffOptions, decompress::Decompressor};
use ashlar_exec::layer::{
    PackOptions, PackOutput, PackTarget, TreeContents, index_only, index_tree, pack,
};
use ashlar_model::digest::BlobDigest;
use ashlar_model::executor::BlobForm;
use ashlar_model::layer::{EntryKind, LayerIndex};
use ashlar_model::media_type::Compression;

use super::lab::{Lab, tar_of};

const SCRIPT: &str = "mkdir -p d/žluť; echo x >d/f; ln d/f d/g; ln -s t d/l; chmod 4755 d/f; \
     mkdir -p $(printf 'long%.0s' $(seq 40))/$(printf 'name%.0s' $(seq 40)); \
     echo y >$(printf 'long%.0s' $(seq 40))/$(printf 'name%.0s' $(seq 40))/file; \
     touch -d @-5 old; chown 3000000:5 d/l -h 2>/dev/null || :";

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run {command:?}: {error}; install umoci and libarchive-tools")
    });
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn same_tree(expected: &LayerIndex, tree: &Path) {
    let options = DiffOptions::for_this_process();
    let (mut found, _) = index_tree(tree, &[], &options).unwrap();
    let mut expected = expected.clone();
    for index in [&mut found, &mut expected] {
        index.entries.retain(|entry| !entry.path.is_root());
        for entry in &mut index.entries {
            entry.metadata.mtime.nanoseconds = 0;
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn bsdtar_unpacks_the_same_tree() {
    if Command::new("bsdtar").arg("--version").output().is_err() {
        // GNU tar is tried in every test of changes; this one is a second opinion.
        println!("skipped: bsdtar is not installed (libarchive-tools)");
        return;
    }
    let lab = Lab::new();
    let step = lab.run(SCRIPT);
    let (index, _) = lab.index(&step);
    fs::write(lab.path("layer.tar"), tar_of(&index, &step.upper)).unwrap();
    let tree = lab.path("out");
    fs::create_dir(&tree).unwrap();
    let mut command = Command::new("bsdtar");
    command
        .env("LC_ALL", "C.UTF-8")
        .arg("-xpf")
        .arg(lab.path("layer.tar"));
    run(command.arg("-C").arg(&tree));
    same_tree(&index, &tree);
}

/// umoci applies layers with Go's `archive/tar`, as most engines do.
#[test]
fn umoci_unpacks_the_same_tree_from_every_form() {
    let lab = Lab::new();
    let step = lab.run(SCRIPT);
    let (index, _) = lab.index(&step);
    for (compression, media_type) in [
        (Compression::Uncompressed, "tar"),
        (Compression::Gzip, "tar+gzip"),
        (Compression::Zstd, "tar+zstd"),
    ] {
        let layout = lab.path(&format!("layout-{compression:?}"));
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let layer = layout.join("layer");
        let form = BlobForm {
            compression,
            level: 1,
        };
        let output = PackOutput::new(PackTarget::Blob(form), File::create(&layer).unwrap());
        let contents = TreeContents::open(&step.upper).unwrap();
        let packed = pack(&index, &contents, vec![output], PackOptions::default()).unwrap();
        let blob = packed.blobs[0];
        assert_eq!(blob.digest, BlobDigest::of(&fs::read(&layer).unwrap()));
        let unpacked = index_only(Decompressor::new(File::open(&layer).unwrap()).unwrap());
        assert_eq!(unpacked.unwrap().diff_id, packed.diff_id);
        fs::rename(&layer, blobs.join(blob.digest.to_hex())).unwrap();
        let put = |text: String| {
            let digest = BlobDigest::of(text.as_bytes());
            fs::write(blobs.join(digest.to_hex()), &text).unwrap();
            format!("\"digest\":\"{digest}\",\"size\":{}", text.len())
        };
        let config = put(format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            packed.diff_id
        ));
        let manifest = put(format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.{media_type}","digest":"{}","size":{}}}]}}"#,
            blob.digest, blob.size
        ));
        fs::write(
            layout.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let index_json = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{manifest},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#
        );
        fs::write(layout.join("index.json"), index_json).unwrap();
        if compression == Compression::Zstd {
            // Debian's umoci is older than zstd layers.
            let plain = run(Command::new("zstd")
                .arg("-dc")
                .arg(blobs.join(blob.digest.to_hex()))
                .arg("-o")
                .arg(lab.path("plain")));
            assert_eq!(plain, "");
            assert!(fs::read(lab.path("plain")).unwrap() == tar_of(&index, &step.upper));
            continue;
        }
        let bundle = lab.path(&format!("bundle-{compression:?}"));
        let image = format!("{}:t", layout.display());
        run(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle));
        same_tree(&index, &bundle.join("rootfs"));
    }
    assert!(
        index
            .entries
            .iter()
            .any(|e| matches!(e.kind, EntryKind::Hardlink(_)))
    );
}
