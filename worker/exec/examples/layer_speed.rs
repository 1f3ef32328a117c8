//! How fast layers are listed, packed and unpacked, beside the plain tools.
//!
//! ```text
//! layer_speed files DIRECTORY [COUNT]    many small files: 50,000 of 1-8 KiB
//! layer_speed text DIRECTORY [MIB]       one large file of text: 1,024 MiB
//! layer_speed unpack DIRECTORY TAR       a root filesystem, plain or gzip
//! ```
//!
//! DIRECTORY is made and must not exist. Build with `--release`.
#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(clippy::unwrap_used, reason = "not part of the product")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ashlar_exec::layer::decompress::Decompressor;
use ashlar_exec::layer::{
    DiffOptions, OwnerPolicy, PackOptions, PackOutput, PackTarget, TreeContents, UnpackOptions,
    index_only, index_tree, pack, unpack,
};
use ashlar_model::executor::BlobForm;
use ashlar_model::media_type::Compression;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |default: usize| {
        arguments
            .get(3)
            .and_then(|n| n.parse().ok())
            .unwrap_or(default)
    };
    match arguments.get(1..3) {
        Some([what, directory]) if what == "files" => {
            small_files(Path::new(directory), number(50_000));
        }
        Some([what, directory]) if what == "text" => {
            large_text(Path::new(directory), number(1024));
        }
        Some([what, directory]) if what == "unpack" => {
            unpacking(Path::new(directory), Path::new(&arguments[3]));
        }
        _ => println!("usage: layer_speed files|text|unpack DIRECTORY [COUNT|MIB|TAR]"),
    }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    let elapsed = start.elapsed();
    println!("{what:<44} {:8.3} s", elapsed.as_secs_f64());
    (result, elapsed)
}

fn shell(what: &str, script: &str) -> Duration {
    timed(what, || {
        let status = Command::new("sh").args(["-c", script]).status().unwrap();
        assert!(status.success(), "{script}");
    })
    .1
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Bytes that compress about as source code does.
    fn text(&mut self, length: usize) -> Vec<u8> {
        const WORDS: [&str; 24] = [
            "the", "layer", "of", "cut", "stone", "laid", "in", "courses", "return", "if", "else",
            "value", "index", "self", "import", "from", "result", "error", "->", "()", "{", "}",
            "// ", "=",
        ];
        let mut text = Vec::with_capacity(length + 16);
        while text.len() < length {
            match self.next(12) {
                0 => text.extend_from_slice(self.next(100_000).to_string().as_bytes()),
                1 => text.push(b'\n'),
                _ => {
                    let word = usize::try_from(self.next(24)).unwrap();
                    text.extend_from_slice(WORDS[word].as_bytes());
                }
            }
            text.push(b' ');
        }
        text.truncate(length);
        text
    }
}

const FORMS: [(&str, Option<BlobForm>); 4] = [
    ("diff ID only", None),
    (
        "uncompressed",
        Some(BlobForm {
            compression: Compression::Uncompressed,
            level: 0,
        }),
    ),
    (
        "gzip",
        Some(BlobForm {
            compression: Compression::Gzip,
            level: 7,
        }),
    ),
    (
        "zstd",
        Some(BlobForm {
            compression: Compression::Zstd,
            level: 3,
        }),
    ),
];

fn measure(directory: &Path, tree: &Path) {
    let options = DiffOptions::for_this_process();
    let ((index, _), _) = timed("index_tree", || index_tree(tree, &[], &options).unwrap());
    let contents = TreeContents::open(tree).unwrap();
    for (name, form) in FORMS {
        let path = directory.join(name.replace(' ', "-"));
        let mut outputs = Vec::new();
        if let Some(form) = form {
            outputs.push(PackOutput::new(
                PackTarget::Blob(form),
                File::create(&path).unwrap(),
            ));
        }
        let (packed, _) = timed(&format!("pack: {name}"), || {
            pack(&index, &contents, outputs, PackOptions::default()).unwrap()
        });
        for blob in packed.blobs {
            println!("{:<44} {:8.1} MB", "", mb(blob.size));
        }
    }
    let tree = tree.display();
    let tar = format!("tar -C {tree} --sort=name -cf - .");
    let out = directory.join("out").display().to_string();
    shell("tar", &format!("{tar} >{out}"));
    shell("tar | sha256sum", &format!("{tar} | sha256sum >/dev/null"));
    for tool in ["gzip -6", "pigz -6", "zstd -3 -T2"] {
        let program = tool.split(' ').next().unwrap();
        if Command::new(program).arg("--version").output().is_err() {
            continue;
        }
        shell(
            &format!("tar | {tool}"),
            &format!("{tar} | {tool} -c >{out}"),
        );
        println!(
            "{:<44} {:8.1} MB",
            "",
            mb(fs::metadata(&out).unwrap().len())
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn small_files(directory: &Path, count: usize) {
    let tree = directory.join("tree");
    let mut numbers = Numbers(1);
    for number in 0..count {
        let parent = tree.join(format!("d{}/e{}", number % 20, number % 500));
        if number < 500 {
            fs::create_dir_all(&parent).unwrap();
        }
        let length = usize::try_from(1024 + numbers.next(7 * 1024)).unwrap();
        fs::write(parent.join(format!("file{number}")), numbers.text(length)).unwrap();
    }
    measure(directory, &tree);
    let tar = directory.join("uncompressed");
    unpacking_of(directory, &tar);
}

fn large_text(directory: &Path, mebibytes: usize) {
    let tree = directory.join("tree");
    fs::create_dir_all(&tree).unwrap();
    let mut file = File::create(tree.join("text")).unwrap();
    let mut numbers = Numbers(1);
    for _ in 0..mebibytes {
        file.write_all(&numbers.text(1024 * 1024)).unwrap();
    }
    measure(directory, &tree);
}

fn unpacking(directory: &Path, tar: &Path) {
    fs::create_dir_all(directory).unwrap();
    unpacking_of(directory, tar);
}

/// New directories each time, and nothing deleted: ext4 is slower for minutes after deletions.
fn unpacking_of(directory: &Path, tar: &Path) {
    let open = || Decompressor::new(File::open(tar).unwrap()).unwrap();
    timed("index_only", || index_only(open()).unwrap());
    for round in 0..3 {
        let fresh = |name: &str| {
            let path = directory.join(format!("{name}{round}"));
            fs::create_dir(&path).unwrap();
            path
        };
        let tree = fresh("unpacked");
        let owners = OwnerPolicy::Apply;
        timed("unpack", || {
            unpack(
                open(),
                &tree,
                UnpackOptions {
                    owners,
                    ..UnpackOptions::default()
                },
            )
            .unwrap()
        });
        let tree = fresh("extracted");
        let (tar, tree) = (tar.display(), tree.display());
        shell(
            "tar -x",
            &format!("tar -C {tree} --numeric-owner -xpf {tar}"),
        );
        shell(
            "tar -x, and sha256sum at once",
            &format!(
                "mkdir {tree}x; tar -C {tree}x --numeric-owner -xpf {tar} & sha256sum {tar} >/dev/null; wait"
            ),
        );
    }
}
