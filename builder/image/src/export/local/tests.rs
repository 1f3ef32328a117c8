use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use tar::{Builder, Header};

use super::*;

/// A tar made of (path, what).
struct Files(Vec<u8>);

enum What<'a> {
    File(&'a str, u32),
    Directory(u32),
    Symlink(&'a str),
    Link(&'a str),
    Fifo,
    Device,
    Xattr(&'a str, &'a str),
}

const MTIME: u64 = 1_000_000_000;

fn files(entries: &[(&str, What<'_>)]) -> Files {
    let mut builder = Builder::new(Vec::new());
    for (path, what) in entries {
        let mut header = Header::new_ustar();
        header.set_mtime(MTIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        let mut content = "";
        let mut target = None;
        let kind = match what {
            What::File(text, mode) => {
                content = text;
                header.set_mode(*mode);
                EntryType::Regular
            }
            What::Directory(mode) => {
                header.set_mode(*mode);
                EntryType::Directory
            }
            What::Symlink(to) => {
                target = Some(to);
                EntryType::Symlink
            }
            What::Link(to) => {
                target = Some(to);
                EntryType::Link
            }
            What::Fifo => EntryType::Fifo,
            What::Device => {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
                EntryType::Char
            }
            What::Xattr(name, value) => {
                let name = format!("SCHILY.xattr.{name}");
                let extensions = [
                    (name.as_str(), value.as_bytes()),
                    ("mtime", b"1000000000.5"),
                ];
                builder.append_pax_extensions(extensions).unwrap();
                EntryType::Regular
            }
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // Unlike `set_path`, this takes paths that no honest tar has.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(target) = target {
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    Files(builder.into_inner().unwrap())
}

impl FilesystemStream for Files {
    fn write_tar(&mut self, sink: &mut dyn io::Write) -> io::Result<()> {
        sink.write_all(&self.0)
    }
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn types_modes_times_and_links_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("new/out");
    let export = write(
        &mut files(&[
            ("./", What::Directory(0o700)),
            ("sealed/", What::Directory(0o555)),
            ("sealed/file", What::File("hello", 0o4755)),
            ("sealed/deep/", What::Directory(0o1777)),
            ("sealed/deep/link", What::Symlink("../../file")),
            ("hard", What::Link("sealed/file")),
            ("pipe", What::Fifo),
            ("no/parent/entry", What::File("", 0o600)),
        ]),
        &out,
    )
    .unwrap();
    assert_eq!(export.skipped, [""; 0]);
    assert_eq!(fs::read(out.join("sealed/file")).unwrap(), b"hello");
    assert_eq!(mode(&out.join("sealed")), 0o555);
    assert_eq!(mode(&out.join("sealed/file")), 0o4755);
    assert_eq!(mode(&out.join("sealed/deep")), 0o1777);
    for path in [
        "sealed",
        "sealed/file",
        "sealed/deep",
        "sealed/deep/link",
        "pipe",
    ] {
        let metadata = out.join(path).symlink_metadata().unwrap();
        assert_eq!(metadata.mtime(), i64::try_from(MTIME).unwrap(), "{path}");
    }
    assert_eq!(
        fs::read_link(out.join("sealed/deep/link")).unwrap(),
        Path::new("../../file")
    );
    assert_eq!(
        fs::metadata(out.join("hard")).unwrap().ino(),
        fs::metadata(out.join("sealed/file")).unwrap().ino()
    );
    assert!(out.join("no/parent/entry").is_file());
}

#[test]
fn what_is_there_is_replaced_or_kept_but_never_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (out, outside) = (
        directory.path().join("out"),
        directory.path().join("outside"),
    );
    fs::create_dir_all(out.join("kept")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();
    fs::write(out.join("kept/old"), "old").unwrap();
    fs::write(out.join("was-file"), "x").unwrap();
    symlink(&outside, out.join("way-out")).unwrap();
    symlink(outside.join("file"), out.join("link")).unwrap();
    write(
        &mut files(&[
            ("kept/", What::Directory(0o755)),
            ("kept/new", What::File("new", 0o644)),
            ("link", What::File("mine", 0o644)),
            ("was-file/", What::Directory(0o755)),
            ("was-file/in", What::File("", 0o644)),
            ("way-out/", What::Directory(0o755)),
            ("way-out/file", What::File("inside", 0o644)),
        ]),
        &out,
    )
    .unwrap();
    assert_eq!(fs::read(out.join("kept/old")).unwrap(), b"old");
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"untouched");
    assert!(!out.join("link").is_symlink());
    assert_eq!(fs::read(out.join("way-out/file")).unwrap(), b"inside");
}

#[test]
fn paths_that_lead_out_are_refused() {
    for entries in [
        [("../escape", What::File("", 0o644))],
        [("a/../../escape", What::File("", 0o644))],
        [("hard", What::Link("../escape"))],
    ] {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        fs::write(directory.path().join("escape"), "outside").unwrap();
        let error = write(&mut files(&entries), &out).unwrap_err();
        assert!(matches!(error, ExportError::Entry { .. }), "{error}");
        assert_eq!(
            fs::read(directory.path().join("escape")).unwrap(),
            b"outside"
        );
    }
}

#[test]
fn a_link_of_the_image_itself_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (out, outside) = (
        directory.path().join("out"),
        directory.path().join("outside"),
    );
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    write(
        &mut files(&[
            ("x", What::Symlink(target)),
            ("x/file", What::File("", 0o644)),
        ]),
        &out,
    )
    .unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(out.join("x/file").is_file());
}

#[test]
fn extended_attributes_and_fractions_of_seconds_are_kept() {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let export = write(
        &mut files(&[
            ("good", What::Xattr("user.note", "hello")),
            ("bad", What::Xattr("nonsense", "hello")),
        ]),
        directory.path(),
    )
    .unwrap();
    let mut value = [0; 16];
    let length =
        rustix::fs::getxattr(directory.path().join("good"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"hello");
    let metadata = directory.path().join("good").metadata().unwrap();
    assert_eq!(metadata.mtime_nsec(), 500_000_000);
    assert_eq!(export.skipped, ["bad: cannot keep nonsense"]);
}

#[test]
fn devices_are_made_by_root_and_reported_by_others() {
    let directory = tempfile::tempdir().unwrap();
    let export = write(&mut files(&[("null", What::Device)]), directory.path()).unwrap();
    if rustix::process::geteuid().is_root() {
        use std::os::unix::fs::FileTypeExt as _;
        let metadata = directory.path().join("null").metadata().unwrap();
        assert!(metadata.file_type().is_char_device());
        assert_eq!(metadata.rdev(), rustix::fs::makedev(1, 3));
    } else {
        assert_eq!(export.skipped, ["null: only root can make a device"]);
    }
}

#[test]
fn a_stream_that_breaks_off_is_the_error() {
    struct Broken(Files);
    impl FilesystemStream for Broken {
        fn write_tar(&mut self, sink: &mut dyn io::Write) -> io::Result<()> {
            sink.write_all(&self.0.0[..600])?;
            Err(io::Error::other("layer is damaged"))
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let good = files(&[("file", What::File("hello", 0o644))]);
    let error = write(&mut Broken(good), directory.path()).unwrap_err();
    let ExportError::Filesystem(source) = error else {
        panic!("{error}");
    };
    assert_eq!(source.to_string(), "layer is damaged");
}

#[test]
fn times_before_1970_count_forward() {
    assert_eq!(pax_time("-1.25"), Some((-2, 750_000_000)));
    assert_eq!(pax_time("7"), Some((7, 0)));
    assert_eq!(pax_time("7.000000001"), Some((7, 1)));
    assert_eq!(pax_time("x"), None);
    assert_eq!(pax_time("1.x"), None);
}
