//! Owners, modes and extended attributes.

use std::os::unix::fs::lchown;

use ashlar_exec::layer::diff::UnmappedIds;
use ashlar_exec::layer::{DiffError, DiffOptions, Warning, index_tree};
use ashlar_model::layer::Xattr;
use rustix::fs::XattrFlags;

use super::lab::{Lab, list, metadata};

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr {
        name: name.into(),
        value: value.into(),
    }
}

fn set(path: &std::path::Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// `cap_net_raw+ep` in version 2.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

pub(crate) fn make_capable(path: &std::path::Path) {
    set(path, "security.capability", &CAPABILITY);
}

/// 8
#[test]
fn a_changed_owner_lists_the_file_whatever_it_is() {
    let mut lab = Lab::new();
    lab.keep("mkdir d; touch d/f; ln -s t l");
    lab.check("chown 7:8 d/f", &["/d directory", "/d/f file 0"]);
    lab.check("chown 7 d", &["/d directory"]);
    lab.check("chown -h :8 l", &["/l -> t"]);
    let step = lab.run("chown -h 7:8 l");
    let (index, _) = lab.index(&step);
    assert_eq!(
        (metadata(&index, "l").uid, metadata(&index, "l").gid),
        (7, 8)
    );
}

/// 10
#[test]
fn a_changed_attribute_lists_the_file() {
    let mut lab = Lab::new();
    let step = lab.run("echo x >f; mkdir d");
    set(&step.upper.join("f"), "user.old", b"1");
    set(&step.upper.join("d"), "user.dir", b"1");
    lab.layers.push(step.upper);
    lab.check("true", &[]);
    let step =
        lab.run("touch -r f keep; chmod 600 f; chmod 644 f; chmod 700 d; chmod 755 d; rm keep");
    assert_eq!(list(&lab.index(&step).0), [] as [&str; 0]);
    set(&step.upper.join("f"), "user.new", b"2");
    rustix::fs::lremovexattr(step.upper.join("d"), "user.dir").unwrap();
    let (index, _) = lab.index(&step);
    assert_eq!(list(&index), ["/d directory", "/f file 2"]);
    let expected = [xattr("user.new", b"2"), xattr("user.old", b"1")];
    assert_eq!(metadata(&index, "f").xattrs, expected);
}

/// 11
#[test]
fn capabilities_are_set_removed_and_kept() {
    let mut lab = Lab::new();
    let step = lab.run("echo x >capable; chmod 755 capable");
    set(
        &step.upper.join("capable"),
        "security.capability",
        &CAPABILITY,
    );
    let (index, _) = lab.index(&step);
    let expected = [xattr("security.capability", &CAPABILITY)];
    assert_eq!(metadata(&index, "capable").xattrs, expected);
    lab.layers.push(step.upper);
    // A copy-up keeps it; a changed owner takes it away.
    lab.check("touch -d @3 capable", &["/capable file 2"]);
    let step = lab.run("touch -d @3 capable");
    assert_eq!(metadata(&lab.index(&step).0, "capable").xattrs, expected);
    let step = lab.run("chown 5 capable");
    assert_eq!(metadata(&lab.index(&step).0, "capable").xattrs, []);
}

/// 12
#[test]
fn capabilities_of_another_namespace_lose_its_root() {
    let lab = Lab::new();
    let step = lab.run("touch f");
    let version_3 = [&[1, 0, 0, 3], &CAPABILITY[4..], &[0xA0, 0x86, 1, 0]].concat();
    set(&step.upper.join("f"), "security.capability", &version_3);
    let (index, _) = lab.index(&step);
    let expected = [xattr("security.capability", &CAPABILITY)];
    assert_eq!(metadata(&index, "f").xattrs, expected);
}

/// 13
#[test]
fn all_twelve_mode_bits_are_kept() {
    let lab = Lab::new();
    let script = "for m in 0000 0777 1777 2755 4755 6711 7777; do >f$m; chmod $m f$m; \
                  mkdir d$m; chmod $m d$m; done; >o; chown 3:4 o; chmod 6755 o";
    let step = lab.run(script);
    let (index, _) = lab.index(&step);
    for mode in ["0000", "0777", "1777", "2755", "4755", "6711", "7777"] {
        let expected = u16::from_str_radix(mode, 8).unwrap();
        assert_eq!(metadata(&index, &format!("f{mode}")).mode, expected);
        assert_eq!(metadata(&index, &format!("d{mode}")).mode, expected);
    }
    assert_eq!(metadata(&index, "o").mode, 0o6755);
    lab.check_apply(&step, &index);
}

/// 28
#[test]
fn an_owner_that_is_not_mapped_is_an_error_that_names_the_file() {
    let lab = Lab::new();
    let step = lab.run("mkdir d; touch d/f d/g");
    lchown(step.upper.join("d/g"), Some(65534), Some(0)).unwrap();
    let options = |uid| DiffOptions {
        unmapped: UnmappedIds { uid, gid: None },
    };
    index_tree(&step.upper, &lab.layers, &options(None)).unwrap();
    let error = index_tree(&step.upper, &lab.layers, &options(Some(65534))).unwrap_err();
    assert!(matches!(error, DiffError::UnmappedOwner { .. }));
    let text = error.to_string();
    assert!(text.contains("`/d/g`") && text.contains("65534"), "{text}");
}

/// 28
#[test]
fn an_owner_at_the_end_of_the_range_is_one_as_any_other() {
    let lab = Lab::new();
    lab.check("touch f; chown 65535:65534 f", &["/f file 0"]);
}

/// 37
#[test]
fn attributes_of_the_overlay_are_told_from_the_containers() {
    let lab = Lab::new();
    let step = lab.run("mkdir d; touch d/f");
    let upper = &step.upper;
    set(&upper.join("d/f"), "user.overlay.origin", b"bookkeeping");
    set(
        &upper.join("d/f"),
        "user.overlay.overlay.opaque",
        b"the container's",
    );
    set(&upper.join("d"), "user.overlay.impure", b"y");
    let (index, _) = lab.index(&step);
    let expected = [xattr("user.overlay.opaque", b"the container's")];
    assert_eq!(metadata(&index, "d/f").xattrs, expected);
    assert_eq!(metadata(&index, "d").xattrs, []);
    // And back onto disk.
    let (tree, _) = lab.unpack(&super::lab::tar_of(&index, upper));
    let mut value = [0; 32];
    let name = "user.overlay.overlay.opaque";
    let length = rustix::fs::lgetxattr(tree.join("d/f"), name, &mut value).unwrap();
    assert_eq!(&value[..length], b"the container's");
    if rustix::process::geteuid().is_root() {
        set(&upper.join("d/f"), "trusted.secret", b"no");
        assert_eq!(metadata(&lab.index(&step).0, "d/f").xattrs, expected);
    }
}

/// 37
#[test]
fn moved_content_of_an_overlay_is_refused() {
    let lab = Lab::new();
    let step = lab.run("mkdir d");
    set(
        &step.upper.join("d"),
        "user.overlay.redirect",
        b"/elsewhere",
    );
    let error = lab.try_index(&step).unwrap_err();
    assert!(matches!(error, DiffError::Redirected { .. }), "{error}");
}

/// 38: an access list as `setfacl -m u:7:rwx,d:u:7:r` stores it.
#[test]
fn access_control_lists_are_kept() {
    let lab = Lab::new();
    let step = lab.run("mkdir d; chmod 750 d");
    let entry = |tag: u16, rights: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &rights.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let none = u32::MAX;
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, none),
        entry(2, 7, 7),
        entry(4, 5, none),
        entry(0x10, 7, none),
        entry(0x20, 0, none),
    ]
    .concat();
    set(&step.upper.join("d"), "system.posix_acl_access", &acl);
    set(&step.upper.join("d"), "system.posix_acl_default", &acl);
    let (index, _) = lab.index(&step);
    let expected = [
        xattr("system.posix_acl_access", &acl),
        xattr("system.posix_acl_default", &acl),
    ];
    assert_eq!(metadata(&index, "d").xattrs, expected);
    let (tree, unpacked) = lab.unpack(&super::lab::tar_of(&index, &step.upper));
    assert_eq!(metadata(&unpacked.index, "d").xattrs, expected);
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(tree.join("d"), "system.posix_acl_default", &mut value);
    assert_eq!(value[..length.unwrap()], acl);
}

/// 42: only root of the machine can set these flags.
#[test]
fn flags_of_chattr_are_ignored_with_a_warning() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let lab = Lab::new();
    let step = lab.run("touch immutable appendable");
    let chattr = |flag: &str, name: &str| {
        let path = step.upper.join(name);
        let status = std::process::Command::new("chattr")
            .arg(flag)
            .arg(path)
            .status();
        assert!(status.unwrap().success());
    };
    chattr("+i", "immutable");
    chattr("+a", "appendable");
    let result = lab.try_index(&step);
    chattr("-i", "immutable");
    chattr("-a", "appendable");
    let (index, warnings) = result.unwrap();
    assert_eq!(list(&index), ["/appendable file 0", "/immutable file 0"]);
    let named: Vec<_> = warnings.iter().map(|w| w.path().to_string()).collect();
    assert_eq!(named, ["/appendable", "/immutable"]);
    assert!(
        warnings
            .iter()
            .all(|w| matches!(w, Warning::FlagsIgnored { .. }))
    );
}
