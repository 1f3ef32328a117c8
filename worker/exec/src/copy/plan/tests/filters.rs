use super::*;

/// A copy of the directories of [`SOURCE`] into `/to`.
const INTO: Case<'static> = Case {
    destination: "/to",
    ..COPY
};

#[test]
fn exclude_is_relative_to_each_matched_directory() {
    let case = Case {
        patterns: &["dir", "dir/sub"],
        exclude: &["sub", "link"],
        ..INTO
    };
    // `sub` is left out of `dir`; what is in `dir/sub` is not called so from there.
    assert_eq!(
        case.lines(),
        [
            "d /to 755 0:0 @18",
            "f /to/a 644 5:6 @18 a",
            "f /to/b 4755 5:6 @23 b",
        ]
    );
}

#[test]
fn a_file_that_is_itself_the_source_is_excluded_by_its_name() {
    let case = Case {
        patterns: &["fi*", "other"],
        exclude: &["f*"],
        destination: "/to/",
        ..COPY
    };
    assert_eq!(
        case.lines(),
        ["d /to 755 0:0 @9999", "f /to/other 600 0:0 @22 other"]
    );
}

#[test]
fn excluding_everything_still_makes_the_destination() {
    let case = Case {
        patterns: &["dir"],
        exclude: &["*"],
        ..INTO
    };
    assert_eq!(case.lines(), ["d /to 755 0:0 @14"]);
}

#[test]
fn what_an_exclusion_takes_back_brings_its_directory_along() {
    let case = Case {
        below: &["d /to 700 1:1", "d /to/sub 700 1:1"],
        patterns: &["dir"],
        exclude: &["*", "!sub/b"],
        mode: Some("600"),
        owner: Some("9"),
        ..INTO
    };
    assert_eq!(
        case.lines(),
        [
            "d /to 700 1:1 @14",
            // There already: it takes the source's mode, and neither owner nor --chmod.
            "d /to/sub 711 1:1 @17",
            "f /to/sub/b 600 9:9 @23 b",
        ]
    );
    let new = Case {
        below: COPY.below,
        ..case
    };
    assert_eq!(
        new.lines(),
        [
            "d /to 600 9:9 @14",
            "d /to/sub 600 9:9 @18",
            "f /to/sub/b 600 9:9 @23 b",
        ]
    );
}

#[test]
fn a_hard_link_to_an_excluded_name_is_a_file() {
    let case = Case {
        patterns: &["twice"],
        exclude: &["x"],
        ..INTO
    };
    assert_eq!(case.lines(), ["d /to 755 0:0 @16", "f /to/y 644 0:0 @20 x"]);
}

#[test]
fn parents_keeps_the_directories_on_the_way_with_their_metadata() {
    let case = Case {
        patterns: &["dir/sub/b"],
        parents: true,
        ..INTO
    };
    assert_eq!(
        case.lines(),
        [
            "d /to 755 0:0 @0",
            "d /to/dir 700 5:6 @14",
            "d /to/dir/sub 711 5:6 @18",
            "f /to/dir/sub/b 4755 5:6 @23 b",
        ]
    );
}

#[test]
fn parents_leaves_out_what_is_before_the_pivot() {
    for pattern in ["dir/./sub/b", "/dir/./sub/b", "./dir/./sub/*", "d*/./**/b"] {
        let case = Case {
            patterns: &[pattern],
            parents: true,
            ..INTO
        };
        assert_eq!(
            case.lines(),
            [
                "d /to 755 0:0 @14",
                "d /to/sub 711 5:6 @18",
                "f /to/sub/b 4755 5:6 @23 b",
            ],
            "{pattern}"
        );
    }
}

#[test]
fn parents_copies_a_named_link_as_a_link_and_follows_none() {
    let source = view(&["d /real 755 0:0", "f /real/f 644 0:0 x", "l /way real"]);
    let query = |path: &str| SourceQuery {
        path: path.into(),
        parents: true,
        exclude: Vec::new(),
    };
    let plan = |path: &str| {
        let selection = select(&source, query(path), Digests::Skip).unwrap();
        let sources = [SourceFiles::Layers {
            view: &source,
            selection: &selection,
        }];
        lines(&INTO.plan_of(&sources).unwrap())
    };
    assert_eq!(
        plan("way"),
        ["d /to 755 0:0 @0", "l /to/way 0:0 real"],
        "the link itself"
    );
    assert_eq!(
        plan("way/f"),
        ["d /to 755 0:0 @0"],
        "nothing through a link"
    );
}

#[test]
fn parents_without_match_is_an_error_only_for_a_literal_path() {
    let source = view(SOURCE);
    let query = |path: &str| SourceQuery {
        path: path.into(),
        parents: true,
        exclude: Vec::new(),
    };
    for path in ["none*", "**/none", "dir/./*.none"] {
        let selected = select(&source, query(path), Digests::Skip).unwrap();
        assert_eq!(selected.selection.items[0].entries.len(), 1, "{path}");
    }
    let error = select(&source, query("dir/none"), Digests::Skip).unwrap_err();
    assert_eq!(error.to_string(), "\"/dir/none\": not found");
}

#[test]
fn parents_and_exclude_work_together() {
    let case = Case {
        patterns: &["**/b", "dir/**"],
        parents: true,
        exclude: &["**/sub", "!dir/sub/b"],
        ..INTO
    };
    assert_eq!(
        case.lines(),
        [
            "d /to 755 0:0 @0",
            "d /to/dir 700 5:6 @14",
            "f /to/dir/a 644 5:6 @18 a",
            "l /to/dir/link 0:0 sub/b",
            "d /to/dir/sub 711 5:6 @18",
            "f /to/dir/sub/b 4755 5:6 @23 b",
        ]
    );
}
