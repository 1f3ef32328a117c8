//! What steps do to files, and what their layers list.

use ashlar_exec::layer::Warning;

use super::lab::{Lab, content, find, list, metadata};

fn lab(script: &str) -> Lab {
    let mut lab = Lab::new();
    lab.keep(script);
    lab
}

/// 1
#[test]
fn files_are_added_modified_and_deleted() {
    lab("mkdir d; echo old >d/modified; echo gone >d/deleted; echo kept >d/kept").check(
        "echo new! >d/modified; rm d/deleted; echo x >d/added",
        &[
            "/d directory",
            "/d/deleted whiteout",
            "/d/added file 2",
            "/d/modified file 5",
        ],
    );
}

/// 2
#[test]
fn a_deleted_directory_is_one_whiteout() {
    lab("mkdir -p a/b/c; touch a/b/c/d a/e").check("rm -r a", &["/a whiteout"]);
}

/// 3
#[test]
fn a_recreated_directory_loses_what_it_has_no_more() {
    lab("mkdir -p d/sub; echo 1 >d/one; echo 2 >d/two; echo 3 >d/sub/three").check(
        "rm -r d; mkdir d; echo 2 >d/two; echo 4 >d/four",
        &[
            "/d directory",
            "/d/one whiteout",
            "/d/sub whiteout",
            "/d/four file 2",
            "/d/two file 2",
        ],
    );
}

/// 3: what comes back just as it was is not listed, down to subdirectories.
#[test]
fn a_directory_recreated_as_it_was_is_not_listed() {
    lab("mkdir -p d/sub; echo 1 >d/one; echo 3 >d/sub/three; touch -d @99 d/one d/sub/three")
        .check(
            "cp -a d e; rm -r d; mkdir -p d/sub; cp -a e/one d/; cp -a e/sub/three d/sub; rm -r e",
            &[],
        );
}

/// 3: an opaque directory hides also what is deeper.
#[test]
fn whiteouts_reach_into_recreated_subdirectories() {
    lab("mkdir -p d/sub/deep; touch d/sub/x d/sub/deep/y").check(
        "rm -r d; mkdir -p d/sub; echo new >d/sub/z",
        &[
            "/d directory",
            "/d/sub directory",
            "/d/sub/deep whiteout",
            "/d/sub/x whiteout",
            "/d/sub/z file 4",
        ],
    );
}

/// 4
#[test]
fn a_directory_recreated_empty_is_emptied() {
    lab("mkdir d; touch d/x d/y").check(
        "rm -r d; mkdir d",
        &["/d directory", "/d/x whiteout", "/d/y whiteout"],
    );
}

/// 5
#[test]
fn types_change_into_each_other() {
    lab("mkdir d1 d2; touch d1/x d2/x; echo f >f1; ln -s d1 s1").check(
        "rm -r d1 d2 f1 s1; echo f >d1; mkdir f1; echo x >f1/x; ln -s f1 d2; mkdir s1; mkfifo f2",
        &[
            "/d1 file 2",
            "/d2 -> f1",
            "/f1 directory",
            "/f1/x file 2",
            "/f2 fifo",
            "/s1 directory",
        ],
    );
}

/// 6, 7
#[test]
fn a_changed_mode_lists_the_file_or_the_directory_alone() {
    let lab = lab("mkdir d; echo x >d/f; echo y >d/g");
    lab.check("chmod 600 d/f", &["/d directory", "/d/f file 2"]);
    lab.check("chmod 700 d", &["/d directory"]);
    let step = lab.run("chmod 700 d");
    assert_eq!(metadata(&lab.index(&step).0, "d").mode, 0o700);
}

/// 9
#[test]
fn a_touched_file_is_listed_and_a_touched_directory_is_not() {
    let lab = lab("mkdir d; echo x >d/f");
    lab.check("touch -d @5 d/f", &["/d directory", "/d/f file 2"]);
    lab.check("touch -d @5 d", &[]);
    lab.check("touch d/g; rm d/g", &[]);
}

/// 14
#[test]
fn links_made_in_one_step_stay_links() {
    let lab = lab("mkdir z");
    lab.check(
        "echo x >z/file; ln z/file a; ln a z/other; echo y >alone",
        &[
            "/a file 2",
            "/alone file 2",
            "/z directory",
            "/z/file = /a",
            "/z/other = /a",
        ],
    );
}

/// 15: a layer cannot link to a file of another one, so the file comes along.
#[test]
fn a_link_to_a_file_below_brings_the_file() {
    lab("echo x >file").check("ln file link", &["/file file 2", "/link = /file"]);
}

/// 16: what the overlay does, which copies up one name only.
#[test]
fn writing_through_one_of_two_links_breaks_them() {
    lab("echo x >a; ln a b").check("echo more >>a", &["/a file 7"]);
}

/// 17
#[test]
fn deleting_one_of_two_links_is_one_whiteout() {
    lab("echo x >a; ln a b").check("rm a", &["/a whiteout"]);
}

/// 18
#[test]
fn links_across_three_layers() {
    let mut lab = lab("echo x >a; ln a b");
    lab.keep("ln b c");
    let step = lab.run("ln c d");
    let (index, _) = lab.index(&step);
    assert_eq!(list(&index), ["/c file 2", "/d = /c"]);
    lab.check_apply(&step, &index);
    lab.keep("ln c d").check("rm b", &["/b whiteout"]);
}

/// 14, 32: names that are links below are not listed for being copied up together.
#[test]
fn links_copied_up_for_nothing_are_not_listed() {
    let lab = lab("echo x >a; echo y >b");
    // The link is gone again; the file stays copied up with one name.
    lab.check("ln a c; rm c", &[]);
    lab.check("ln a c; rm c; ln b d", &["/b file 2", "/d = /b"]);
}

/// 19
#[test]
fn symbolic_links_of_all_kinds() {
    let long = "t/".repeat(150);
    lab("ln -s one changed; ln -s kept kept").check(
        &format!(
            "ln -s nowhere dangling; ln -s /etc/passwd absolute; ln -s loop loop; \
             ln -s {long} long; ln -snf two changed"
        ),
        &[
            "/absolute -> /etc/passwd",
            "/changed -> two",
            "/dangling -> nowhere",
            &format!("/long -> {long}"),
            "/loop -> loop",
        ],
    );
}

/// 20
#[test]
fn pipes_are_listed_and_sockets_are_skipped_with_a_warning() {
    let mut lab = lab("echo x >was-file; mkfifo pipe");
    let step = lab.run("rm was-file; mkfifo new");
    // No shell makes sockets.
    let socket = |name: &str| {
        let path = step.upper.join(name);
        drop(std::fs::remove_file(&path));
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    };
    socket("socket");
    socket("was-file");
    let (index, warnings) = lab.index(&step);
    assert_eq!(list(&index), ["/was-file whiteout", "/new fifo"]);
    let skipped: Vec<_> = warnings
        .iter()
        .map(|warning| match warning {
            Warning::SocketSkipped { path } => path.to_string(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(skipped, ["/socket", "/was-file"]);
    lab.layers.clear();
}

/// 25
#[test]
fn empty_files_directories_and_layers() {
    let lab = lab("true");
    lab.check("true", &[]);
    lab.check("mkdir d; >f", &["/d directory", "/f file 0"]);
}

/// 29
#[test]
fn a_renamed_directory_is_a_whiteout_and_its_files() {
    lab("mkdir -p old/sub; echo x >old/sub/f; touch -d @9 old/sub/f").check(
        "mv old new",
        &[
            "/old whiteout",
            "/new directory",
            "/new/sub directory",
            "/new/sub/f file 2",
        ],
    );
}

/// 30
#[test]
fn renames_over_files_and_exchanges() {
    let lab = lab("echo one >a; echo three >b; mkdir d e; touch d/in-d e/in-e");
    lab.check("mv a b", &["/a whiteout", "/b file 4"]);
    lab.check("mv a t; mv b a; mv t b", &["/a file 6", "/b file 4"]);
    lab.check(
        "mv d t; mv e d; mv t e",
        &[
            "/d directory",
            "/d/in-d whiteout",
            "/d/in-e file 0",
            "/e directory",
            "/e/in-e whiteout",
            "/e/in-d file 0",
        ],
    );
}

/// 31
#[test]
fn what_is_moved_away_and_back_is_not_listed() {
    let lab = lab("echo x >a; mkdir -p d/sub; echo y >d/sub/f; ln -s t l");
    lab.check("mv a b; mv b a", &[]);
    lab.check("mv d e; mv e d", &[]);
    lab.check("mv l m; mv m l", &[]);
}

/// 32
#[test]
fn what_is_opened_and_not_written_is_not_listed() {
    let lab = lab("echo x >a; chmod 640 a");
    lab.check("exec 3<>a; exec 3>&-; : >>a", &[]);
    lab.check("chmod 600 a; chmod 640 a", &[]);
    // The same bytes at another time are a change, as `touch` is.
    lab.check("touch -d @7 a; echo x >a; touch -d @7 a", &["/a file 2"]);
}

/// 32: the same size and time do not make the same file.
#[test]
fn changed_bytes_with_the_old_time_are_listed() {
    let lab = lab("echo x >a; touch -d @7 a");
    lab.check("echo y >a; touch -d @7 a", &["/a file 2"]);
}

/// 33
#[test]
fn what_is_made_and_deleted_leaves_nothing() {
    lab("mkdir d").check("touch d/f; rm d/f; mkdir e; touch e/f; rm -r e", &[]);
}

/// 34
#[test]
fn a_directory_in_a_deleted_files_place() {
    lab("echo x >n").check(
        "rm n; mkdir n; echo y >n/f",
        &["/n directory", "/n/f file 2"],
    );
}

/// 35
#[test]
fn a_moved_file_is_a_whiteout_and_a_file() {
    lab("mkdir a b; echo x >a/f").check(
        "mv a/f b/f",
        &[
            "/a directory",
            "/a/f whiteout",
            "/b directory",
            "/b/f file 2",
        ],
    );
}

/// 36
#[test]
fn parents_are_listed_only_with_what_is_below_them() {
    lab("mkdir -p a/b/c a/x; echo f >a/b/c/f").check(
        "echo g >a/b/c/g; touch a/x/t; rm a/x/t",
        &[
            "/a directory",
            "/a/b directory",
            "/a/b/c directory",
            "/a/b/c/g file 2",
        ],
    );
}

/// 45
#[test]
fn files_and_directories_of_mode_000_are_read() {
    lab("mkdir d; echo x >d/f; chmod 000 d/f d").check(
        "chmod 700 d; echo y >d/g; chmod 000 d/g d",
        &["/d directory", "/d/g file 2"],
    );
}

/// 43
#[test]
fn a_temporary_file_that_got_a_name_is_a_file() {
    use rustix::fs::{AtFlags, CWD, Mode, OFlags};
    use std::os::fd::AsRawFd as _;
    let lab = Lab::new();
    let step = lab.run("true");
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    let file = rustix::fs::open(&step.upper, flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(&file, b"named").unwrap();
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    let to = step.upper.join("file");
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW).unwrap();
    assert_eq!(list(&lab.index(&step).0), ["/file file 5"]);
}

/// 51
#[test]
fn a_whiteout_of_nothing_is_dropped() {
    let lab = lab("mkdir d; touch d/f");
    let step = lab.run("rm d/f; mkdir e");
    for path in ["nothing", "d/nothing", "e/nothing"] {
        let mode = rustix::fs::Mode::empty();
        let whiteout = rustix::fs::FileType::CharacterDevice;
        let path = step.upper.join(path);
        rustix::fs::mknodat(rustix::fs::CWD, path, whiteout, mode, 0).unwrap();
    }
    let (index, _) = lab.index(&step);
    assert_eq!(
        list(&index),
        ["/d directory", "/d/f whiteout", "/e directory"]
    );
}

/// 53
#[test]
fn whiteouts_within_an_opaque_directory_are_not_doubled() {
    let lab = lab("mkdir d; touch d/f d/g");
    let step = lab.run("rm -r d; mkdir d");
    let path = step.upper.join("d/f");
    let whiteout = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::empty();
    rustix::fs::mknodat(rustix::fs::CWD, path, whiteout, mode, 0).unwrap();
    let (index, _) = lab.index(&step);
    let expected = ["/d directory", "/d/f whiteout", "/d/g whiteout"];
    assert_eq!(list(&index), expected);
}

/// What several layers below say together.
#[test]
fn the_layers_below_are_seen_as_one_filesystem() {
    let mut lab = lab("mkdir -p d/sub; echo 1 >d/a; echo 1 >d/b; echo 1 >d/sub/c; touch -d @1 d/a");
    lab.keep("rm d/b; echo 22 >d/sub/c")
        .keep("rm -r d/sub; mkdir d/sub; echo 333 >d/sub/e")
        .keep("rm -r d; echo file >d")
        .keep("rm d; mkdir d; echo 4444 >d/a");
    // Only what the topmost two left is there: d with a.
    lab.check("rm -r d; mkdir d", &["/d directory", "/d/a whiteout"]);
    lab.check(
        "mkdir d/sub; echo 5 >d/b",
        &["/d directory", "/d/b file 2", "/d/sub directory"],
    );
    lab.layers.truncate(4);
    lab.check(
        "rm -r d/sub; rm d/a; mkdir d/sub; touch d/sub/c",
        &[
            "/d directory",
            "/d/a whiteout",
            "/d/sub directory",
            "/d/sub/e whiteout",
            "/d/sub/c file 0",
        ],
    );
}

/// The root's own mode.
#[test]
fn the_root_is_listed_if_it_changed() {
    let lab = lab("echo x >f");
    lab.check("chmod 711 .", &["/ directory"]);
    lab.check("chmod 711 .; rm f", &["/ directory", "/f whiteout"]);
}

/// 44: nothing but what is on disk counts.
#[test]
fn the_digest_is_that_of_the_bytes() {
    let lab = lab("true");
    let step = lab.run("echo hello >f");
    let digest = find(&lab.index(&step).0, "f").file_digest().unwrap();
    let expected = blake3::hash(&content(&step.upper, "f"));
    assert_eq!(digest, expected.into());
}
