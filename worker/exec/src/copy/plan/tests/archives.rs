use super::super::super::fixture::index_only;
use super::*;

/// What an archive unpacks to, with the places of directories that it does not name.
fn unpacked(lines: &[&str], ways: &[&str]) -> (LayeredView, LayerSelection) {
    let view = view(lines);
    let mut selection = select(&view, "/", Digests::Compute).unwrap();
    let item = &mut selection.selection.items[0];
    let places = item.entries.iter().enumerate();
    item.ways = places
        .filter(|(_, entry)| ways.contains(&entry.path.to_string().as_str()))
        .map(|(place, _)| place)
        .collect();
    (view, selection)
}

fn lines_of(case: Case<'_>, archive: &[&str], ways: &[&str]) -> Vec<String> {
    let (view, selection) = unpacked(archive, ways);
    let sources = [SourceFiles::Unpacked {
        view: &view,
        selection: &selection,
    }];
    lines(&case.plan_of(&sources).unwrap())
}

const TO: Case<'static> = Case {
    destination: "/to",
    ..COPY
};

#[test]
fn an_archives_destination_is_a_directory_and_takes_nothing_of_it() {
    let archive: &[&str] = &["d / 700 5:6", "f /f 600 5:6 x"];
    for destination in ["/to", "/to/"] {
        let case = Case { destination, ..TO };
        assert_eq!(
            lines_of(case, archive, &[]),
            ["d /to 755 0:0 @9999", "f /to/f 600 5:6 @14 x"]
        );
    }
    let there = Case {
        below: &["d /to 711 1:2"],
        ..TO
    };
    assert_eq!(
        lines_of(there, archive, &[]),
        ["d /to 711 1:2 @13", "f /to/f 600 5:6 @14 x"]
    );
    let (view, selection) = unpacked(archive, &[]);
    let sources = [SourceFiles::Unpacked {
        view: &view,
        selection: &selection,
    }];
    let file = Case {
        below: &["f /to 644 0:0 x"],
        ..TO
    };
    let error = file.plan_of(&sources).unwrap_err();
    assert_eq!(error.to_string(), "mkdir /to: not a directory");
}

#[test]
fn chown_applies_to_an_archive_and_chmod_does_not() {
    let case = Case {
        owner: Some("7:8"),
        mode: Some("4777"),
        ..TO
    };
    assert_eq!(
        lines_of(
            case,
            &["d /d 700 5:6", "f /d/f 600 5:6 x", "d /way 755 0:0"],
            &["/way"]
        ),
        [
            "d /to 755 7:8 @9999",
            "d /to/d 700 7:8 @12",
            "f /to/d/f 600 7:8 @16 x",
            "d /to/way 755 0:0 @9999",
        ]
    );
}

#[test]
fn what_is_in_an_archives_way_is_replaced_and_links_to_directories_are_followed() {
    let case = Case {
        below: &[
            "d /to 755 0:0",
            "d /to/real 711 1:1",
            "f /to/real/kept 644 0:0 x",
            "l /to/way real",
            "l /to/absolute /real",
            "l /to/outside ../../etc",
            "l /to/dangling not/there",
            "l /to/to-file plain",
            "f /to/plain 644 0:0 x",
            "d /to/directory 755 0:0",
            "f /to/directory/f 644 0:0 x",
            "l /to/replaced real",
            "d /to/unnamed 711 1:1",
        ],
        ..TO
    };
    let archive: &[&str] = &[
        "d /way 750 5:6",
        "f /way/a 644 5:6 a",
        "d /absolute 751 5:6",
        "f /absolute/b 644 5:6 b",
        "d /outside 750 5:6",
        "f /outside/c 644 5:6 c",
        "d /dangling 750 5:6",
        "f /dangling/e 644 5:6 e",
        "d /to-file 750 5:6",
        "f /directory 644 5:6 f",
        "f /replaced 644 5:6 g",
        "h /way/second /replaced",
        "d /unnamed 755 0:0",
        "f /unnamed/h 644 5:6 h",
    ];
    assert_eq!(
        lines_of(case, archive, &["/unnamed"]),
        [
            "d /to 755 0:0 @13",
            "f /to/directory 644 5:6 @22 f",
            "d /to/etc 750 5:6 @18",
            "f /to/etc/c 644 5:6 @22 c",
            "d /to/not 755 0:0 @9999",
            "d /to/not/there 750 5:6 @19",
            "f /to/not/there/e 644 5:6 @23 e",
            "d /to/plain 750 5:6 @18",
            "d /to/real 750 5:6 @14",
            "f /to/real/a 644 5:6 @18 a",
            "f /to/real/b 644 5:6 @23 b",
            "f /to/real/second 644 5:6 @21 g",
            "h /to/replaced /to/real/second",
            "d /to/unnamed 711 1:1 @21",
            "f /to/unnamed/h 644 5:6 @22 h",
        ]
    );
}

#[test]
fn an_archive_replaces_what_the_same_instruction_has_put_there() {
    let (first_view, first) = unpacked(&["d /d 755 0:0", "f /d/f 644 0:0 1"], &[]);
    let (second_view, second) = unpacked(&["f /d 600 0:0 2"], &[]);
    let sources = [(&first_view, &first), (&second_view, &second)]
        .map(|(view, selection)| SourceFiles::Unpacked { view, selection });
    let plan = TO.plan_of(&sources).unwrap();
    assert_eq!(
        lines(&plan),
        ["d /to 755 0:0 @9999", "f /to/d 600 0:0 @14 2"]
    );
}

#[test]
fn an_archive_of_devices_is_planned_with_them() {
    let mut recipe = recipe(&["p /null 666 0:0"]);
    recipe.entries[0].entry.kind = ashlar_model::layer::EntryKind::CharDevice(1, 3);
    let view = LayeredView::open([index_only(&recipe)]).unwrap();
    let selection = select(&view, "/", Digests::Skip).unwrap();
    let sources = [SourceFiles::Unpacked {
        view: &view,
        selection: &selection,
    }];
    let plan = TO.plan_of(&sources).unwrap();
    assert_eq!(lines(&plan), ["d /to 755 0:0 @9999", "device /to/null"]);
}
