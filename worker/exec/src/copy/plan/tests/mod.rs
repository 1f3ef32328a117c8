//! Plans, rule by rule.
//!
//! | module | subject |
//! |---|---|
//! | here | plain copies |
//! | `archives` | ADD of archives |
//! | `filters` | `--exclude` and `--parents` |

mod archives;
mod filters;

use ashlar_model::select::SourceQuery;
use ashlar_model::step::SelectedItem;

use super::super::fixture::{entry, line, path, recipe, seconds, view};
use super::super::select::{Digests, select};
use super::super::view::ViewLayer;
use super::*;

const NOW: Timestamp = seconds(9999);

/// The source that most tests copy from.
const SOURCE: &[&str] = &[
    "f /file 644 5:6 file",
    "f /other 600 0:0 other",
    "d /dir 700 5:6",
    "f /dir/a 644 5:6 a",
    "d /dir/sub 711 5:6",
    "f /dir/sub/b 4755 5:6 b",
    "l /dir/link sub/b",
    "f /twice/x 644 0:0 x",
    "h /twice/y /twice/x",
    "d /twice 755 0:0",
];

/// A copy to plan.
#[derive(Clone, Copy)]
struct Case<'a> {
    below: &'a [&'a str],
    patterns: &'a [&'a str],
    destination: &'a str,
    owner: Option<&'a str>,
    mode: Option<&'a str>,
    parents: bool,
    exclude: &'a [&'a str],
}

const COPY: Case<'static> = Case {
    below: &["d /etc 755 0:0"],
    patterns: &[],
    destination: "/",
    owner: None,
    mode: None,
    parents: false,
    exclude: &[],
};

impl Case<'_> {
    fn plan(self) -> Result<Plan, CopyError> {
        let source = view(SOURCE);
        let selected: Vec<LayerSelection> = self
            .patterns
            .iter()
            .map(|pattern| select(&source, self.query(pattern), Digests::Compute).unwrap())
            .collect();
        let sources: Vec<SourceFiles<'_>> = selected
            .iter()
            .map(|selection| SourceFiles::Layers {
                view: &source,
                selection,
            })
            .collect();
        self.plan_of(&sources)
    }

    fn query(self, path: &str) -> SourceQuery {
        SourceQuery {
            path: path.to_owned(),
            parents: self.parents,
            exclude: self.exclude.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn plan_of(self, sources: &[SourceFiles<'_>]) -> Result<Plan, CopyError> {
        let spec = CopySpec {
            sources: Vec::new(),
            destination: self.destination.into(),
            owner: self.owner.map(str::to_owned),
            mode: self.mode.map(str::to_owned),
            unpack: false,
            created: None,
        };
        let below = match self.below {
            [] => LayeredView::open([]).unwrap(),
            lines => view(lines),
        };
        plan_copy(&spec, sources, &below, NOW)
    }

    fn lines(self) -> Vec<String> {
        lines(&self.plan().unwrap())
    }

    fn error(self) -> String {
        self.plan().unwrap_err().to_string()
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.recipe.entries.iter().map(line).collect()
}

#[test]
fn a_file_becomes_the_destination_or_goes_into_it() {
    let below: &[&str] = &["d /etc 750 1:2", "f /old 600 3:4 old"];
    let rows: &[(&str, &[&str])] = &[
        ("/new", &["f /new 644 5:6 @20 file"]),
        ("/old", &["f /old 644 5:6 @20 file"]),
        (
            "/etc",
            &["d /etc 750 1:2 @14", "f /etc/file 644 5:6 @20 file"],
        ),
        (
            "/etc/",
            &["d /etc 750 1:2 @14", "f /etc/file 644 5:6 @20 file"],
        ),
        (
            "/etc/x",
            &["d /etc 750 1:2 @14", "f /etc/x 644 5:6 @20 file"],
        ),
        ("/", &["f /file 644 5:6 @20 file"]),
        (
            "/new/",
            &["d /new 755 0:0 @9999", "f /new/file 644 5:6 @20 file"],
        ),
        (
            "/new/.",
            &["d /new 755 0:0 @9999", "f /new/file 644 5:6 @20 file"],
        ),
        (
            "/p/q/x",
            &[
                "d /p 755 0:0 @9999",
                "d /p/q 755 0:0 @9999",
                "f /p/q/x 644 5:6 @20 file",
            ],
        ),
    ];
    for (destination, expected) in rows {
        let case = Case {
            below,
            patterns: &["file"],
            destination,
            ..COPY
        };
        assert_eq!(case.lines(), *expected, "{destination}");
    }
}

#[test]
fn directories_on_the_way_take_owner_and_mode() {
    let case = Case {
        patterns: &["file"],
        destination: "/parent/sub/foo",
        owner: Some("7:8"),
        mode: Some("1770"),
        ..COPY
    };
    assert_eq!(
        case.lines(),
        [
            "d /parent 770 7:8 @9999",
            "d /parent/sub 770 7:8 @9999",
            "f /parent/sub/foo 1770 7:8 @20 file"
        ]
    );
}

#[test]
fn a_directorys_contents_go_into_a_new_directory() {
    for destination in ["/new", "/new/"] {
        let case = Case {
            patterns: &["dir"],
            destination,
            ..COPY
        };
        assert_eq!(
            case.lines(),
            [
                // Mode and owner are not the source's, the time is.
                "d /new 755 0:0 @14",
                "f /new/a 644 5:6 @18 a",
                "l /new/link 0:0 sub/b",
                "d /new/sub 711 5:6 @18",
                "f /new/sub/b 4755 5:6 @23 b",
            ],
            "{destination}"
        );
    }
}

#[test]
fn directories_are_merged_file_by_file() {
    let case = Case {
        below: &[
            "d /app 500 1:1",
            "d /app/sub 555 2:2",
            "f /app/sub/kept 644 3:3 kept",
            "f /app/a 600 3:3 old",
            "l /app/link elsewhere",
        ],
        patterns: &["dir/"],
        destination: "/app",
        ..COPY
    };
    assert_eq!(
        case.lines(),
        [
            "d /app 500 1:1 @14",
            "f /app/a 644 5:6 @18 a",
            "l /app/link 0:0 sub/b",
            "d /app/sub 711 5:6 @18",
            "f /app/sub/b 4755 5:6 @23 b",
        ]
    );
}

#[test]
fn attributes_of_merged_directories_are_merged() {
    let mut source = recipe(&["d /s 755 0:0", "d /s/sub 755 0:0"]);
    let mut below = recipe(&["d /sub 755 0:0"]);
    let xattr = |name: &str, value: &str| ashlar_model::layer::Xattr {
        name: name.into(),
        value: value.into(),
    };
    source.entries[1].entry.metadata.xattrs = vec![xattr("user.b", "new")];
    below.entries[0].entry.metadata.xattrs = vec![xattr("user.a", "old"), xattr("user.b", "old")];
    let view = |recipe: Recipe| LayeredView::open([ViewLayer::Recipe(recipe.into())]).unwrap();
    let (source, below) = (view(source), view(below));
    let selection = select(&source, "s", Digests::Skip).unwrap();
    let spec = CopySpec {
        sources: Vec::new(),
        destination: "/".into(),
        owner: None,
        mode: None,
        unpack: false,
        created: None,
    };
    let sources = [SourceFiles::Layers {
        view: &source,
        selection: &selection,
    }];
    let plan = plan_copy(&spec, &sources, &below, NOW).unwrap();
    assert_eq!(
        plan.recipe.entries[0].entry.metadata.xattrs,
        [xattr("user.a", "old"), xattr("user.b", "new")]
    );
}

#[test]
fn later_sources_replace_earlier_ones() {
    let case = Case {
        patterns: &["file", "other"],
        destination: "/one",
        ..COPY
    };
    // The first has made a file of that name, and the second silently replaces it.
    assert_eq!(case.lines(), ["f /one 600 0:0 @22 other"]);

    let case = Case {
        patterns: &["dir", "twice", "dir/sub"],
        destination: "/all",
        ..COPY
    };
    assert_eq!(
        case.lines(),
        [
            "d /all 755 0:0 @18",
            "f /all/a 644 5:6 @18 a",
            "f /all/b 4755 5:6 @23 b",
            "l /all/link 0:0 sub/b",
            "d /all/sub 711 5:6 @18",
            "f /all/sub/b 4755 5:6 @23 b",
            "f /all/x 644 0:0 @20 x",
            "h /all/y /all/x",
        ]
    );
}

#[test]
fn a_wildcard_without_match_makes_nothing() {
    let case = Case {
        patterns: &["*.none"],
        destination: "/made/",
        ..COPY
    };
    assert_eq!(case.lines(), [""; 0]);
}

#[test]
fn types_that_do_not_fit_are_refused_in_buildkits_words() {
    let below: &[&str] = &[
        "d /etc 755 0:0",
        "d /etc/file 755 0:0",
        "f /plain 644 0:0 x",
        "d /app 755 0:0",
        "f /app/sub 644 0:0 x",
        "d /linked 755 0:0",
        "l /linked/sub /etc",
    ];
    let rows = [
        (
            "file",
            "/etc",
            "cannot replace to directory /etc/file with file",
        ),
        ("dir", "/plain", "cannot copy to non-directory: /plain"),
        ("dir", "/app", "cannot copy to non-directory: /app/sub"),
        (
            "dir",
            "/linked",
            "cannot copy to non-directory: /linked/sub",
        ),
        ("file", "/plain/x", "mkdir /plain: not a directory"),
        ("file", "/plain/", "mkdir /plain: not a directory"),
        ("file", "/app/sub/x/y", "mkdir /app/sub: not a directory"),
    ];
    for (pattern, destination, expected) in rows {
        let case = Case {
            below,
            patterns: &[pattern],
            destination,
            ..COPY
        };
        assert_eq!(case.error(), expected);
        assert!(case.plan().unwrap_err().hint().is_some());
    }
}

#[test]
fn links_in_the_destination_are_followed_inside_the_root() {
    let below: &[&str] = &[
        "d /real 711 1:1",
        "l /link /real",
        "l /up ../../../real",
        "l /dangling missing/dir",
        "l /file_link real/target",
        "d /in 755 0:0",
        "l /in/file /real",
    ];
    let rows: &[(&str, &[&str])] = &[
        (
            "/link",
            &["d /real 711 1:1 @15", "f /real/file 644 5:6 @20 file"],
        ),
        (
            "/up/x",
            &["d /real 711 1:1 @15", "f /real/x 644 5:6 @20 file"],
        ),
        (
            "/dangling",
            &[
                "d /missing 755 0:0 @9999",
                "f /missing/dir 644 5:6 @20 file",
            ],
        ),
        (
            "/dangling/",
            &[
                "d /missing 755 0:0 @9999",
                "d /missing/dir 755 0:0 @9999",
                "f /missing/dir/file 644 5:6 @20 file",
            ],
        ),
        (
            "/file_link",
            &["d /real 711 1:1 @15", "f /real/target 644 5:6 @20 file"],
        ),
        // Below the destination, a link is replaced.
        ("/in", &["d /in 755 0:0 @13", "f /in/file 644 5:6 @20 file"]),
    ];
    for (destination, expected) in rows {
        let case = Case {
            below,
            patterns: &["file"],
            destination,
            ..COPY
        };
        assert_eq!(case.lines(), *expected, "{destination}");
    }
}

#[test]
fn a_directory_into_the_root_leaves_the_root_alone() {
    let case = Case {
        patterns: &["dir/sub"],
        destination: "/",
        ..COPY
    };
    let plan = case.plan().unwrap();
    assert_eq!(lines(&plan), ["f /b 4755 5:6 @23 b"]);
    assert_eq!(plan.recipe.root.mode, 0o755);
}

#[test]
fn modes_and_owners_of_all_that_is_copied() {
    let case = Case {
        patterns: &["dir"],
        destination: "/new",
        owner: Some("9"),
        mode: Some("u=rwX,go=rX"),
        ..COPY
    };
    assert_eq!(
        case.lines(),
        [
            "d /new 755 9:9 @14",
            "f /new/a 644 9:9 @18 a",
            // A link's mode is no mode, but it has an owner.
            "l /new/link 9:9 sub/b",
            "d /new/sub 755 9:9 @18",
            "f /new/sub/b 755 9:9 @23 b",
        ]
    );
    let case = Case {
        mode: Some("64a"),
        ..case
    };
    assert!(case.error().starts_with("invalid chmod parameter: '64a'"));
}

#[test]
fn owners_are_looked_up_as_the_reference_says() {
    let below: &[&str] = &[
        "d /etc 755 0:0",
        "l /etc/passwd ../usr/passwd",
        "f /usr/passwd 644 0:0 root:x:5:5:;www:x:33:34::/:;77:x:1:2::/:",
        "f /etc/group 644 0:0 root:x:9:;staff:x:50:www",
    ];
    let rows = [
        ("12", "12:12", 0),
        ("12:13", "12:13", 0),
        ("root", "0:0", 0),
        ("www", "33:34", 0),
        ("www:staff", "33:50", 0),
        ("www:7", "33:7", 0),
        ("www:root", "33:0", 0),
        ("12:staff", "12:50", 0),
        ("77", "77:77", 0),
        ("nobody", "0:0", 1),
        ("www:nogroup", "33:34", 1),
        ("nobody:nogroup", "0:0", 2),
        (":staff", "0:50", 0),
    ];
    for (owner, expected, warnings) in rows {
        let case = Case {
            below,
            patterns: &["file"],
            destination: "/x",
            owner: Some(owner),
            ..COPY
        };
        let plan = case.plan().unwrap();
        assert_eq!(
            lines(&plan),
            [format!("f /x 644 {expected} @20 file")],
            "{owner}"
        );
        assert_eq!(plan.warnings.len(), warnings, "{owner}");
    }
}

#[test]
fn names_without_account_files() {
    let case = Case {
        patterns: &["file"],
        destination: "/x",
        owner: Some("www"),
        ..COPY
    };
    let plan = case.plan().unwrap();
    assert_eq!(lines(&plan), ["f /x 644 0:0 @20 file"]);
    assert_eq!(
        plan.warnings[0].to_string(),
        "`www` is not in /etc/passwd of the image: 0 is used instead"
    );
    let scratch = Case { below: &[], ..case };
    assert_eq!(scratch.error(), "invalid user index: -1");
    let by_number = Case {
        owner: Some("1:1"),
        ..scratch
    };
    assert_eq!(by_number.lines(), ["f /x 644 1:1 @20 file"]);
    for (nothing, lines) in [("", "0:0"), (":", "0:0"), ("1:", "1:1"), (":1", "0:1")] {
        let case = Case {
            owner: Some(nothing),
            ..case
        };
        let plan = case.plan().unwrap();
        assert_eq!(plan.warnings, [], "{nothing:?}");
        assert_eq!(
            self::lines(&plan),
            [format!("f /x 644 {lines} @20 file")],
            "{nothing:?}"
        );
    }
    for impossible in ["-1", "4294967295", "99999999999"] {
        let case = Case {
            owner: Some(impossible),
            ..case
        };
        assert!(
            case.error().contains("is no user or group id"),
            "{impossible}"
        );
    }
}

#[test]
fn a_replaced_name_of_a_file_leaves_the_other_names() {
    let source = view(SOURCE);
    let twice = select(&source, "twice", Digests::Skip).unwrap();
    let sources = [
        SourceFiles::Layers {
            view: &source,
            selection: &twice,
        },
        SourceFiles::Inline {
            name: "x",
            data: b"new",
        },
    ];
    let case = Case {
        destination: "/d/",
        ..COPY
    };
    let plan = case.plan_of(&sources).unwrap();
    assert_eq!(
        lines(&plan),
        [
            "d /d 755 0:0 @16",
            "f /d/x 644 0:0 @9999 new",
            "f /d/y 644 0:0 @20 x"
        ]
    );
}

#[test]
fn context_files_are_named_by_their_real_place() {
    let selection = Selection {
        items: vec![SelectedItem {
            name: b"link".to_vec(),
            path: path("real/f"),
            entries: vec![entry("f / 640 0:0 content").entry],
            ways: Vec::new(),
        }],
    };
    let sources = [SourceFiles::Directory {
        root: Path::new("/context"),
        selection: &selection,
    }];
    let case = Case {
        destination: "/to/",
        ..COPY
    };
    let plan = case.plan_of(&sources).unwrap();
    assert_eq!(plan.recipe.roots, [Path::new("/context")]);
    assert_eq!(
        lines(&plan),
        ["d /to 755 0:0 @9999", "f /to/link 640 0:0 @19 from /real/f"]
    );
}

#[test]
fn files_of_trees_are_linked_only_if_nothing_differs() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("f"), "x").unwrap();
    let source = LayeredView::open([ViewLayer::Tree(directory.path().into())]).unwrap();
    let selection = select(&source, "f", Digests::Skip).unwrap();
    let sources = [SourceFiles::Layers {
        view: &source,
        selection: &selection,
    }];
    let same = |mode, owner| {
        let case = Case {
            destination: "/f",
            mode,
            owner,
            ..COPY
        };
        lines(&case.plan_of(&sources).unwrap())[0].ends_with("of /f same")
    };
    assert!(same(None, None));
    assert!(!same(Some("7777"), None));
    assert!(!same(None, Some("4000:4000")));
}

#[test]
fn a_file_taken_twice_becomes_two_files() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    std::fs::create_dir_all(tree.join("d/sub")).unwrap();
    std::fs::write(tree.join("d/sub/f"), "x").unwrap();
    let source = LayeredView::open([ViewLayer::Tree(tree)]).unwrap();
    let selections =
        ["/d", "/d/sub"].map(|pattern| select(&source, pattern, Digests::Skip).unwrap());
    let sources = selections.each_ref().map(|selection| SourceFiles::Layers {
        view: &source,
        selection,
    });
    let case = Case {
        destination: "/to/",
        ..COPY
    };
    let lines = lines(&case.plan_of(&sources).unwrap());
    let ends = |path: &str, end: &str| {
        let line = lines.iter().find(|line| line.contains(path)).unwrap();
        assert!(line.ends_with(end), "{line}");
    };
    ends("/to/f ", "of /d/sub/f");
    ends("/to/sub/f ", "of /d/sub/f same");
}

#[test]
fn unpacked_archives_keep_their_modes() {
    let source = view(SOURCE);
    let selection = select(&source, "dir", Digests::Skip).unwrap();
    let sources = [SourceFiles::Unpacked {
        view: &source,
        selection: &selection,
    }];
    let case = Case {
        destination: "/d",
        mode: Some("600"),
        owner: Some("3:3"),
        ..COPY
    };
    let planned = lines(&case.plan_of(&sources).unwrap());
    assert!(
        planned.contains(&"f /d/sub/b 4755 3:3 @23 b".to_owned()),
        "{planned:?}"
    );
}

#[test]
fn inline_files_are_plain_and_new() {
    let source = [SourceFiles::Inline {
        name: "script",
        data: b"echo",
    }];
    let case = Case {
        destination: "/bin/",
        ..COPY
    };
    assert_eq!(
        lines(&case.plan_of(&source).unwrap())[1],
        "f /bin/script 644 0:0 @9999 echo"
    );
}

fn make_directory(below: &[&str], path: &str, user: &str) -> Result<Plan, CopyError> {
    let spec = MakeDirectorySpec {
        path: path.into(),
        user: user.into(),
        created: Some(seconds(1)),
    };
    let below = match below {
        [] => LayeredView::open([]).unwrap(),
        lines => view(lines),
    };
    plan_make_directory(&spec, &below, NOW)
}

#[test]
fn workdir_makes_what_is_missing() {
    let below: &[&str] = &[
        "d /srv 700 4:4",
        "l /www srv",
        "f /file 644 0:0 x",
        "d /etc 755 0:0",
        "f /etc/passwd 644 0:0 web:x:8:9::/:",
    ];
    let rows: &[(&str, &str, &[&str])] = &[
        ("/srv", "", &[]),
        ("/www", "12", &[]),
        ("/", "", &[]),
        ("/a/b/", "", &["d /a 755 0:0 @1", "d /a/b 755 0:0 @1"]),
        (
            "/www/x",
            "web",
            &["d /srv 700 4:4 @14", "d /srv/x 755 8:9 @1"],
        ),
        ("/x/../y", "12", &["d /y 755 12:12 @1"]),
    ];
    for (path, user, expected) in rows {
        let plan = make_directory(below, path, user).unwrap();
        assert_eq!(lines(&plan), *expected, "{path}");
    }
    let error = make_directory(below, "/file/x", "").unwrap_err();
    assert_eq!(error.to_string(), "mkdir /file: not a directory");
    let error = make_directory(&[], "/x", "web").unwrap_err();
    assert_eq!(error.to_string(), "invalid user index: -1");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn layer() -> impl Strategy<Value = Vec<String>> {
        let path = "/[abc](/[abc]){0,2}";
        let any = (path, 0..4_u8, "[abc/.]{1,5}").prop_map(|(path, kind, target)| match kind {
            0 => format!("f {path} 644 1:1 {path}"),
            1 => format!("l {path} {target}"),
            _ => format!("d {path} 711 2:2"),
        });
        prop::collection::vec(any, 1..8).prop_map(|lines| {
            // Each path once, and only directories with something below them.
            let mut kept: Vec<String> = Vec::new();
            for line in lines {
                let path = |line: &str| line.split(' ').nth(1).unwrap().to_owned();
                let own = path(&line);
                let fits = kept.iter().all(|other| {
                    let (at, is_directory) = (path(other), other.starts_with('d'));
                    let above = own.starts_with(&format!("{at}/"));
                    let below = at.starts_with(&format!("{own}/"));
                    at != own && (!above || is_directory) && (!below || line.starts_with('d'))
                });
                if fits {
                    kept.push(line);
                }
            }
            kept
        })
    }

    proptest! {
        #[test]
        fn a_plan_is_a_well_formed_layer(
            source in layer(),
            below in layer(),
            patterns in prop::collection::vec("[abc*](/[abc*])?", 1..3),
            destination in "/[abc./]{0,6}",
        ) {
            let lines = |layer: &[String]| view(&layer.iter().map(String::as_str).collect::<Vec<_>>());
            let (source, below) = (lines(&source), lines(&below));
            let selected: Vec<LayerSelection> = patterns
                .iter()
                .filter_map(|pattern| select(&source, pattern.as_str(), Digests::Skip).ok())
                .collect();
            let sources: Vec<SourceFiles<'_>> = selected
                .iter()
                .map(|selection| SourceFiles::Layers { view: &source, selection })
                .collect();
            let spec = CopySpec {
                sources: Vec::new(),
                destination,
                owner: None,
                mode: None,
                unpack: false,
                created: None,
            };
            let Ok(plan) = plan_copy(&spec, &sources, &below, NOW) else {
                return Ok(());
            };
            let entries: Vec<_> = plan.recipe.entries.iter().map(|item| &item.entry).collect();
            prop_assert!(entries.is_sorted_by(|a, b| a.canonical_cmp(b).is_lt()));
            for entry in &entries {
                let parent = entry.path.parent().unwrap();
                let listed = entries.iter().any(|other| other.path == parent && other.is_directory());
                prop_assert!(parent.is_root() || listed, "{} has no parent", entry.path);
            }
        }
    }
}
