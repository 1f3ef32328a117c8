use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use ashlar_model::layer::{Entry, EntryKind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use tempfile::TempDir;

use super::*;

/// A context to try things on.
struct Tree {
    directory: TempDir,
}

impl Tree {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("context")).unwrap();
        Self { directory }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("context").join(path)
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("stat-cache")
    }

    fn file(self, path: &str, content: &str) -> Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
        self
    }

    fn open(&self, ignore: &str) -> Context {
        let rules = parse_ignore_file(ignore.as_bytes()).unwrap();
        Context::open(&self.path(""), rules, Some(self.cache())).unwrap()
    }

    fn select(&self, ignore: &str, pattern: &str) -> Selection {
        let mut selections = self.open(ignore).select(&[pattern]).unwrap();
        selections.pop().unwrap()
    }

    /// Moves a file's modification time into the past. Its change time is always now.
    fn age(&self, path: &str) {
        let past = Timespec {
            tv_sec: 1_000_000,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: past,
            last_modification: past,
        };
        rustix::fs::utimensat(CWD, self.path(path), &times, AtFlags::empty()).unwrap();
    }
}

fn paths(selection: &Selection) -> Vec<String> {
    let item = |item: &SelectedItem| {
        let below: Vec<String> = item
            .entries
            .iter()
            .map(|entry| item.path.join_path(&entry.path).to_string())
            .collect();
        below
    };
    selection.items.iter().flat_map(item).collect()
}

fn entry<'a>(selection: &'a Selection, path: &str) -> &'a Entry {
    let path = LayerPath::new(path.as_bytes()).unwrap();
    let mut entries = selection.items.iter().flat_map(|item| &item.entries);
    entries.find(|entry| entry.path == path).unwrap()
}

#[test]
fn a_directory_is_selected_with_all_below_it_in_order() {
    let tree = Tree::new()
        .file("src/b", "b")
        .file("src/a/x", "x")
        .file("src/a-b", "-")
        .file("other", "");
    let selection = tree.select("", "src");
    assert_eq!(selection.items[0].name, b"src");
    assert_eq!(
        paths(&selection),
        ["/src", "/src/a", "/src/a/x", "/src/a-b", "/src/b"]
    );
    let EntryKind::File { size, digest } = entry(&selection, "a/x").kind else {
        panic!("not a file");
    };
    assert_eq!(size, 1);
    assert_eq!(digest, Some(blake3::hash(b"x").into()));
}

#[test]
fn the_root_is_a_source_too() {
    let tree = Tree::new().file("a", "").file("b/c", "");
    let selection = tree.select("", ".");
    assert_eq!(selection.items[0].name, b"");
    assert_eq!(paths(&selection), ["/", "/a", "/b", "/b/c"]);
}

#[test]
fn metadata_are_the_images_not_the_machines() {
    let tree = Tree::new().file("f", "1").file("d/x", "");
    fs::set_permissions(tree.path("f"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(tree.path("d"), fs::Permissions::from_mode(0o1777)).unwrap();
    symlink("no/where", tree.path("link")).unwrap();
    tree.age("f");
    let selection = tree.select("", ".");
    let file = &entry(&selection, "f").metadata;
    assert_eq!((file.mode, file.uid, file.gid), (0o6751, 0, 0));
    assert_eq!(file.mtime.seconds, 1_000_000);
    assert_eq!(entry(&selection, "d").metadata.mode, 0o1777);
    let link = entry(&selection, "link");
    assert_eq!(link.kind, EntryKind::Symlink(b"no/where".to_vec()));
    assert_eq!(link.metadata.mode, 0o777);
}

#[test]
fn sockets_become_empty_files_and_fifos_stay() {
    let tree = Tree::new();
    let _socket = UnixListener::bind(tree.path("socket")).unwrap();
    rustix::fs::mknodat(CWD, tree.path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let selection = tree.select("", ".");
    assert_eq!(
        entry(&selection, "socket").kind,
        EntryKind::File {
            size: 0,
            digest: Some(blake3::hash(b"").into())
        }
    );
    assert_eq!(entry(&selection, "fifo").kind, EntryKind::Fifo);
}

#[test]
fn names_of_one_file_become_hard_links_within_an_item() {
    let tree = Tree::new().file("d/b", "same").file("c", "other");
    fs::hard_link(tree.path("d/b"), tree.path("a")).unwrap();
    fs::hard_link(tree.path("d/b"), tree.path("d/z")).unwrap();
    let whole = tree.select("", ".");
    let first = LayerPath::new(b"a").unwrap();
    assert!(entry(&whole, "a").file_digest().is_some());
    assert_eq!(entry(&whole, "d/b").kind, EntryKind::Hardlink(first));
    let part = tree.select("", "d");
    let first = LayerPath::new(b"b").unwrap();
    assert!(entry(&part, "b").file_digest().is_some());
    assert_eq!(entry(&part, "z").kind, EntryKind::Hardlink(first));
}

#[test]
fn user_attributes_are_read_and_survive_the_cache() {
    let tree = Tree::new().file("f", "1").file("d/x", "");
    for path in ["f", "d"] {
        let set = rustix::fs::setxattr(
            tree.path(path),
            "user.note",
            b"v",
            rustix::fs::XattrFlags::empty(),
        );
        set.expect("the temporary directory must take user.* attributes");
    }
    for _ in 0..2 {
        let context = tree.open("");
        let selection = context.select(&["."]).unwrap().pop().unwrap();
        for path in ["f", "d"] {
            let xattrs = &entry(&selection, path).metadata.xattrs;
            assert_eq!(xattrs.len(), 1, "{path}");
            assert_eq!(xattrs[0].name, b"user.note");
            assert_eq!(xattrs[0].value, b"v");
        }
        context.save_stat_cache(&Meter::default()).unwrap();
    }
}

#[test]
fn what_is_ignored_is_not_there() {
    let tree = Tree::new()
        .file("keep", "")
        .file("drop", "")
        .file("logs/a.log", "")
        .file("logs/deep/b.log", "")
        .file("logs/note", "")
        .file("docs/README.md", "")
        .file("docs/big", "");
    let ignore = "drop\n**/*.log\ndocs\n!docs/README.md\n";
    assert_eq!(
        paths(&tree.select(ignore, ".")),
        [
            "/",
            "/docs",
            "/docs/README.md",
            "/keep",
            "/logs",
            "/logs/deep",
            "/logs/note"
        ]
    );
    assert_eq!(
        paths(&tree.select(ignore, "docs")),
        ["/docs", "/docs/README.md"]
    );
    assert_eq!(paths(&tree.select(ignore, "*")).len(), 6);
    assert_eq!(paths(&tree.select(ignore, "d*/R*")), ["/docs/README.md"]);
}

#[test]
fn an_ignored_directory_with_nothing_taken_back_is_not_there() {
    let tree = Tree::new().file("docs/a/b", "").file("docs/c", "");
    let ignore = "docs\n!docs/*/nothing\n";
    assert_eq!(paths(&tree.select(ignore, ".")), ["/"]);
    let error = tree.open(ignore).select(&["docs"]).unwrap_err();
    assert_eq!(error.to_string(), "\"/docs\": not found");
    assert!(error.hint().unwrap().contains("excludes it"));
}

#[test]
fn missing_sources_say_so() {
    let tree = Tree::new().file("a", "");
    let error = tree.open("").select(&["a", "x/y"]).unwrap_err();
    assert_eq!(error.to_string(), "\"/x/y\": not found");
    assert_eq!(error.hint(), None);
    assert_eq!(tree.select("", "x*"), Selection::default());
    let error = tree.open("").select(&["a["]).unwrap_err();
    assert!(matches!(error, ContextError::Pattern(_)));
}

#[test]
fn links_never_lead_out_of_the_context() {
    let tree = Tree::new().file("inside/f", "in");
    fs::write(tree.directory.path().join("secret"), "out").unwrap();
    symlink("../secret", tree.path("up")).unwrap();
    symlink(tree.directory.path(), tree.path("absolute")).unwrap();
    symlink("/inside", tree.path("rooted")).unwrap();
    for pattern in ["up", "absolute/secret", "absolute"] {
        let error = tree.open("").select(&[pattern]).unwrap_err();
        assert!(error.to_string().contains("not found"), "{error}");
    }
    assert_eq!(paths(&tree.select("", "rooted/f")), ["/inside/f"]);
    let followed = tree.select("", "rooted");
    assert_eq!(followed.items[0].name, b"rooted");
    assert_eq!(paths(&followed), ["/inside", "/inside/f"]);
}

#[test]
fn several_calls_share_a_walk_and_agree() {
    let tree = Tree::new()
        .file("a/b/f", "1")
        .file("a/g", "2")
        .file("h", "3");
    let context = tree.open("");
    let alone = context.select(&["a/b"]).unwrap();
    let together = context.select(&["h", "a", "a/b", "."]).unwrap();
    assert_eq!(alone[0], together[2]);
    assert_eq!(context.select(&["a"]).unwrap()[0], together[1]);
    // The walk from the root was made although one below it was there already.
    assert_eq!(paths(&together[3]).len(), 6);
    fs::remove_dir_all(tree.path("a")).unwrap();
    assert_eq!(context.walked.lock().unwrap().len(), 2);
}

#[test]
fn a_remembered_digest_is_used_and_a_changed_file_is_read_again() {
    let tree = Tree::new().file("f", "one");
    let now = fs::metadata(tree.path("f")).unwrap().ctime();
    // Wait until the file is old enough to be remembered.
    while rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec <= now + 2 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let context = tree.open("");
    let before = context.select(&["f"]).unwrap();
    assert!(context.save_stat_cache(&Meter::default()).unwrap());
    let context = tree.open("");
    assert_eq!(context.select(&["f"]).unwrap(), before);
    assert!(
        !context.save_stat_cache(&Meter::default()).unwrap(),
        "it was read again"
    );

    // Same length, same modification time: the change time gives it away.
    let mtime = fs::metadata(tree.path("f")).unwrap().modified().unwrap();
    let file = fs::File::options()
        .write(true)
        .open(tree.path("f"))
        .unwrap();
    file.write_all_at(b"two", 0).unwrap();
    file.set_modified(mtime).unwrap();
    let after = tree.select("", "f");
    assert_eq!(
        after.items[0].entries[0].file_digest(),
        Some(blake3::hash(b"two").into())
    );
}

#[test]
fn large_files_are_hashed_whole() {
    let content = "0123456789abcdef".repeat(300_000);
    let tree = Tree::new()
        .file("big", &content)
        .file("exact", &content[..1 << 20]);
    let selection = tree.select("", ".");
    assert_eq!(
        entry(&selection, "big").file_digest(),
        Some(blake3::hash(content.as_bytes()).into())
    );
    assert_eq!(
        entry(&selection, "exact").file_digest(),
        Some(blake3::hash(&content.as_bytes()[..1 << 20]).into())
    );
}

#[test]
fn unreadable_files_are_named_unless_they_are_ignored() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root can read everything; run this as an ordinary user");
        return;
    }
    let tree = Tree::new()
        .file("a", "")
        .file("locked", "")
        .file("closed/x", "");
    for path in ["locked", "closed"] {
        fs::set_permissions(tree.path(path), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let error = tree.open("closed").select(&["."]).unwrap_err();
    let shown = format!("cannot read the file {}", tree.path("locked").display());
    assert_eq!(error.to_string(), shown);
    assert!(error.hint().unwrap().contains(".dockerignore"));
    let error = tree.open("locked").select(&["."]).unwrap_err();
    assert!(error.to_string().starts_with("cannot read the directory"));
    assert_eq!(paths(&tree.select("locked\nclosed", ".")), ["/", "/a"]);
    fs::set_permissions(tree.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn deep_trees_cost_no_stack() {
    let tree = Tree::new();
    let mut at =
        rustix::fs::open(tree.path(""), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "deep", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let selection = tree.select("", ".");
    assert_eq!(selection.items[0].entries.len(), 3001);
}

#[test]
fn crowded_directories_are_complete() {
    let tree = Tree::new();
    for number in 0..2000 {
        fs::write(tree.path(&format!("{number}")), [1]).unwrap();
    }
    let selection = tree.select("", ".");
    assert_eq!(selection.items[0].entries.len(), 2001);
    assert!(
        selection.items[0]
            .entries
            .is_sorted_by(|a, b| a.path < b.path)
    );
}

#[test]
fn an_absent_context_is_an_error() {
    let error = Context::open(Path::new("/no/such"), PathRules::default(), None).unwrap_err();
    assert_eq!(error.to_string(), "cannot open the build context /no/such");
}

fn query(path: &str, parents: bool, exclude: &[&str]) -> SourceQuery {
    SourceQuery {
        path: path.to_owned(),
        parents,
        exclude: exclude.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// The paths that a source takes; a `~` in front marks a directory that is only the way to others.
fn taken(tree: &Tree, ignore: &str, query: SourceQuery) -> Vec<String> {
    let selection = tree.open(ignore).select(&[query]).unwrap().remove(0);
    let mut taken = Vec::new();
    for item in &selection.items {
        for (place, entry) in item.entries.iter().enumerate() {
            let way = if item.ways.contains(&place) { "~" } else { "" };
            taken.push(format!("{way}{}", entry.path));
        }
    }
    taken
}

#[test]
fn excluded_files_are_not_taken() {
    let tree = Tree::new()
        .file("d/keep", "1")
        .file("d/x/one", "2")
        .file("d/x/two", "3")
        .file("d/closed/f", "4");
    let all_but = query("d", false, &["x", "closed", "!x/two"]);
    assert_eq!(taken(&tree, "", all_but), ["/", "/keep", "~/x", "/x/two"]);
}

#[test]
fn parents_takes_a_path_with_its_directories() {
    let tree = Tree::new()
        .file("a/b/c/f", "1")
        .file("a/b/other", "2")
        .file("a/x/c/f", "3")
        .file("top", "4");
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);
    let rows: [Row<'_>; 5] = [
        (
            "a/b/c/f",
            &[],
            &["/", "~/a", "~/a/b", "~/a/b/c", "/a/b/c/f"],
        ),
        ("a/./b/c", &[], &["/", "~/b", "/b/c", "/b/c/f"]),
        ("a/*/./c", &[], &["/", "/c", "/c/f", "/", "/c", "/c/f"]),
        (
            "**/f",
            &["a/x"],
            &["/", "~/a", "~/a/b", "~/a/b/c", "/a/b/c/f"],
        ),
        ("t*", &[], &["/", "/top"]),
    ];
    for (path, exclude, expected) in rows {
        assert_eq!(
            taken(&tree, "", query(path, true, exclude)),
            expected,
            "{path}"
        );
    }
    // What the ignore file leaves out is not there, and what it takes back is.
    let ignore = "a/b\n!a/b/c";
    let all = query("a/b", true, &[]);
    assert_eq!(
        taken(&tree, ignore, all),
        ["/", "~/a", "/a/b", "/a/b/c", "/a/b/c/f"]
    );
    let error = tree
        .open("a")
        .select(&[query("a/b/other", true, &[])])
        .unwrap_err();
    assert_eq!(error.to_string(), "\"/a/b/other\": not found");
    assert!(error.hint().unwrap().contains(".dockerignore"));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Everything below a directory of the machine that the rules do not leave out, the slow and
    /// obvious way; tells whether there is anything.
    fn listed(
        tree: &Tree,
        rules: &PathRules,
        directory: &str,
        matches: &ashlar_model::select::rules::Matches,
        found: &mut Vec<String>,
    ) -> bool {
        let mut names: Vec<String> = fs::read_dir(tree.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut any = false;
        for name in names {
            let path = if directory.is_empty() {
                name
            } else {
                format!("{directory}/{name}")
            };
            let (ignored, below) = rules.judge_directory(path.as_bytes(), matches);
            let own = found.len();
            found.push(format!("/{path}"));
            let is_directory = tree.path(&path).is_dir();
            let kept_below = is_directory && listed(tree, rules, &path, &below, found);
            if ignored && !kept_below {
                found.truncate(own);
            } else {
                any = true;
            }
        }
        any
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_walk_finds_what_the_rules_leave(
            files in prop::collection::vec("[abc](/[abc]){0,3}", 0..12),
            patterns in prop::collection::vec("!?[ab*]{1,2}(/[abc*]{1,2}){0,2}", 0..5),
        ) {
            let tree = Tree::new();
            for file in files {
                // Where a file is in the way of another, the second is left out.
                let parent = tree.path(&file).parent().unwrap().to_owned();
                if fs::create_dir_all(parent).is_ok() {
                    drop(fs::write(tree.path(&file), &file));
                }
            }
            let ignore = patterns.join("\n");
            let rules = parse_ignore_file(ignore.as_bytes()).unwrap();
            let mut expected = vec!["/".to_owned()];
            listed(&tree, &rules, "", &rules.root(), &mut expected);
            let mut whole = paths(&tree.select(&ignore, "."));
            whole.sort();
            expected.sort();
            prop_assert_eq!(&whole, &expected, "{}", ignore);

            // The same patterns as `--exclude` leave the same, for the walk begins at the root.
            let exclude: Vec<&str> = patterns.iter().map(String::as_str).collect();
            let mut excluded: Vec<String> = taken(&tree, "", query(".", false, &exclude))
                .iter()
                .map(|path| path.trim_start_matches('~').to_owned())
                .collect();
            excluded.sort();
            prop_assert_eq!(&excluded, &expected, "{}", ignore);

            // Each of them is found by itself too, and nothing else is.
            for path in ["/a", "/a/b", "/b/c", "/c/a/b"] {
                let there = tree.open(&ignore).select(&[path]).is_ok();
                prop_assert_eq!(there, expected.iter().any(|other| other == path), "{}", path);
            }
        }
    }
}
