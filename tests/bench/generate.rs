//! What is built: always the same, from a seed.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::user::TestUser;

use crate::subject::write;

/// Files of the small-files rows, and how many of them a directory has.
pub(crate) const SMALL_FILES: usize = 50_000;
const FILES_OF_A_DIRECTORY: usize = 100;

/// Text of about the entropy of source code: words of a small vocabulary, and numbers.
fn text(numbers: &mut Numbers, length: usize, out: &mut String) {
    const WORDS: [&str; 32] = [
        "fn", "let", "return", "if", "else", "match", "struct", "impl", "self", "value", "index",
        "length", "error", "result", "buffer", "config", "=", "(", ")", "{", "}", ";", "->", "::",
        "// the", "and", "of", "a", "not", "request", "response", "\n    ",
    ];
    let end = out.len() + length;
    while out.len() < end {
        if numbers.place(12) == 0 {
            out.push_str(&format!("{:x}", numbers.place(1 << 16)));
        } else {
            out.push_str(WORDS[numbers.place(WORDS.len())]);
        }
        out.push(' ');
    }
    out.truncate(end);
}

/// Writes the tree of small files: 1 to 8 KiB each, in 500 directories.
pub(crate) fn small_files(root: &Path) {
    let mut numbers = Numbers::new(42);
    let mut content = String::new();
    for number in 0..SMALL_FILES {
        let directory = root.join(format!("package-{:03}/src", number / FILES_OF_A_DIRECTORY));
        if number % FILES_OF_A_DIRECTORY == 0 {
            fs::create_dir_all(&directory).expect("cannot make a directory");
        }
        content.clear();
        let length = 1024 + numbers.place(7 * 1024);
        text(&mut numbers, length, &mut content);
        let path = directory.join(format!("file_{number}.rs"));
        fs::write(path, &content).expect("cannot write a file");
    }
}

/// Files of the tree of packages, and their bytes: a real `pip install` of two programs and all
/// that they need had as many.
const PACKAGED_FILES: usize = 11_190;
const PACKAGED_BYTES: usize = 309_000_000;
const PACKAGES: usize = 120;

/// Writes a tree of packages: mostly text of some kilobytes, and some libraries of megabytes.
pub(crate) fn packages(root: &Path) {
    let mut numbers = Numbers::new(11);
    let mut left = PACKAGED_BYTES;
    let mut content = Vec::new();
    for number in 0..PACKAGED_FILES {
        let directory = root.join(format!("package_{:03}", number % PACKAGES));
        if number < PACKAGES {
            fs::create_dir_all(&directory).expect("cannot make a directory");
        }
        let files_left = PACKAGED_FILES - number;
        // One file in three hundred is a library; what they leave is shared out among the others.
        let library = number % 300 == 299;
        let size = if library {
            (1 << 20) + numbers.place(8 << 20)
        } else {
            let fair = left.saturating_sub((files_left / 300) * (5 << 20)) / files_left;
            fair / 4 + numbers.place(fair * 3 / 2 + 1)
        };
        let size = if files_left == 1 {
            left
        } else {
            size.min(left)
        };
        left -= size;
        package_file(&mut numbers, size, library, &mut content);
        let name = if library { "library.so" } else { "module.py" };
        let path = directory.join(format!("{number}_{name}"));
        fs::write(path, &content).expect("cannot write a file");
    }
}

/// Some bytes: text, or what machine code is like, half of which compresses away.
fn package_file(numbers: &mut Numbers, size: usize, library: bool, content: &mut Vec<u8>) {
    content.clear();
    let mut piece = String::new();
    while content.len() < size {
        piece.clear();
        text(numbers, 2048, &mut piece);
        content.extend_from_slice(piece.as_bytes());
        if library {
            content.extend_from_slice(&numbers.bytes(2048));
        }
    }
    content.truncate(size);
}

/// Writes another version of one package, and gives all files another time: what an installation
/// of everything anew does.
pub(crate) fn bump_a_package(root: &Path, version: u64) {
    let mut numbers = Numbers::of(12, version);
    let mut content = Vec::new();
    let time =
        std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + version);
    let times = fs::FileTimes::new().set_modified(time);
    for package in fs::read_dir(root).expect("cannot list the packages") {
        let package = package.expect("cannot list the packages").path();
        for file in fs::read_dir(&package).expect("cannot list a package") {
            let file = file.expect("cannot list a package").path();
            let size = fs::metadata(&file).expect("cannot look at a file").len();
            // The second package has no library, and some megabytes in all.
            if package.ends_with("package_001") && size < 1 << 20 {
                let size = usize::try_from(size).expect("files are small");
                package_file(&mut numbers, size, false, &mut content);
                fs::write(&file, &content).expect("cannot write a file");
            }
            fs::File::options()
                .write(true)
                .open(&file)
                .and_then(|file| file.set_times(times))
                .expect("cannot set a time");
        }
    }
}

/// Writes a file of text of some size in bytes.
pub(crate) fn big_text(path: &Path, size: usize) {
    let mut numbers = Numbers::new(7);
    let mut file = fs::File::create(path).expect("cannot make a file");
    let mut content = String::new();
    let mut written = 0;
    while written < size {
        content.clear();
        text(&mut numbers, (1 << 20).min(size - written), &mut content);
        file.write_all(content.as_bytes())
            .expect("cannot write a file");
        written += content.len();
    }
    TestUser::Sub.own(path);
}

/// A Dockerfile of twenty steps, half of them commands and half copies.
pub(crate) fn twenty_steps(base: &str, context: &Path) -> String {
    let mut text = format!("FROM {base}\n");
    for number in 0..10 {
        write(
            &context.join(format!("file{number}")),
            format!("{number}\n"),
        );
        text += &format!("COPY file{number} /data/\nRUN echo {number} > /made{number}\n");
    }
    text
}
