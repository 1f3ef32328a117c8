use ashlar_model::layer::Xattr;
use ashlar_store::home::quota::Meter;
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::fixture::{index_only, path, recipe, view};
use super::super::materialise::materialise;
use super::super::select::{Digests, SelectFilesError, select};
use super::*;

/// What a stack gives: every path with its kind, and where it comes from.
fn listing(view: &LayeredView) -> Vec<(String, String)> {
    let root = view.root().unwrap();
    let seen = view.walk(root).unwrap();
    let kind = |seen: &Seen| match &seen.node.entry.kind {
        EntryKind::File { size, .. } => format!("file {size} of {}", seen.layer),
        EntryKind::Directory { .. } => {
            format!("directory {:o}", seen.node.entry.metadata.mode)
        }
        EntryKind::Symlink(target) => format!("link {}", target.escape_ascii()),
        other => format!("{other:?}"),
    };
    seen.iter()
        .map(|seen| (seen.node.entry.path.to_string(), kind(seen)))
        .collect()
}

fn stack(layers: &[&[&str]]) -> LayeredView {
    let layers = layers.iter().map(|lines| Arc::new(recipe(lines)));
    LayeredView::open(layers.map(ViewLayer::Recipe)).unwrap()
}

fn paths(view: &LayeredView) -> Vec<String> {
    listing(view).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn upper_layers_mask_lower_ones() {
    let view = stack(&[
        &[
            "d /a 755 0:0",
            "f /a/old 644 0:0 1",
            "f /a/gone 644 0:0 1",
            "d /b 755 0:0",
            "f /b/hidden 644 0:0 1",
            "d /c 755 0:0",
            "f /c/masked 644 0:0 1",
            "d /d/deep 755 0:0",
        ],
        &[
            "d /a 700 1:1",
            "f /a/old 644 0:0 22",
            "w /a/gone",
            "d /b 755 0:0 opaque",
            "f /b/new 644 0:0 1",
            "f /c 644 0:0 1",
            "w /d",
        ],
        &["d /a 711 0:0", "d /c 755 0:0", "f /c/again 644 0:0 1"],
    ]);
    let expected = [
        ("/", "directory 755"),
        ("/a", "directory 711"),
        ("/a/old", "file 2 of 1"),
        ("/b", "directory 755"),
        ("/b/new", "file 1 of 1"),
        ("/c", "directory 755"),
        ("/c/again", "file 1 of 2"),
    ];
    assert_eq!(
        listing(&view),
        expected.map(|(path, kind)| (path.to_owned(), kind.to_owned()))
    );
    for (gone, there) in [
        ("a/gone", false),
        ("c/masked", false),
        ("d/deep", false),
        ("a/old", true),
    ] {
        let found = view.lookup(&path(gone)).unwrap();
        assert_eq!(found.is_some(), there, "{gone}");
    }
}

#[test]
fn directories_that_a_foreign_index_leaves_out_are_implied() {
    let layer = recipe(&["f /usr/share/doc/x 644 0:0 x", "f /usr/bin/y 644 0:0 y"]);
    let view = LayeredView::open([index_only(&layer)]).unwrap();
    assert_eq!(
        paths(&view),
        [
            "/",
            "/usr",
            "/usr/bin",
            "/usr/bin/y",
            "/usr/share",
            "/usr/share/doc",
            "/usr/share/doc/x"
        ]
    );
    let implied = view.lookup(&path("usr/share")).unwrap().unwrap();
    assert_eq!(implied.metadata.mode, 0o755);
    assert_eq!(
        view.read_directory(&path("usr")).unwrap(),
        [b"bin".to_vec(), b"share".to_vec()]
    );
}

#[test]
fn an_index_has_no_bytes_and_says_so() {
    let layer = recipe(&["f /f 644 0:0 text"]);
    let view = LayeredView::open([index_only(&layer)]).unwrap();
    let error = view.read_file(&path("f"), 100).unwrap_err();
    assert!(matches!(error, ViewError::NoBytes { .. }));
    // Its digest is known, so it can be selected.
    let selected = select(&view, "f", Digests::Compute).unwrap();
    assert!(
        selected.selection.items[0].entries[0]
            .file_digest()
            .is_some()
    );
}

#[test]
fn files_are_read_up_to_a_limit() {
    let view = view(&["f /f 644 0:0 text", "d /d 755 0:0"]);
    assert_eq!(
        view.read_file(&path("f"), 4).unwrap(),
        Some(b"text".to_vec())
    );
    assert_eq!(view.read_file(&path("f"), 3).unwrap(), None);
    assert_eq!(view.read_file(&path("d"), 9).unwrap(), None);
    assert_eq!(view.read_file(&path("none"), 9).unwrap(), None);
}

#[test]
fn no_layer_is_an_empty_root() {
    let view = LayeredView::open([]).unwrap();
    assert!(view.is_empty());
    assert_eq!(paths(&view), ["/"]);
    assert_eq!(view.root_metadata().unwrap().mode, 0o755);
}

#[test]
fn a_missing_tree_is_named() {
    let error = LayeredView::open([ViewLayer::Tree("/no/such".into())]).unwrap_err();
    assert_eq!(error.to_string(), "cannot open the layer /no/such");
}

#[test]
fn selected_files_have_digests_links_and_owners() {
    let directory = TempDir::new().unwrap();
    let layer = recipe(&[
        "d /d 750 0:0",
        "f /d/a 4755 0:0 content",
        "h /d/z /d/a",
        "l /d/link a",
        "p /d/pipe 600 0:0",
    ]);
    let tree = directory.path().join("tree");
    materialise(&own(layer.clone()), &tree, &Meter::default()).unwrap();
    let trees = LayeredView::open([ViewLayer::Tree(tree)]).unwrap();
    let recipes = LayeredView::open([ViewLayer::Recipe(own(layer).into())]).unwrap();
    let of_tree = select(&trees, "d*", Digests::Compute).unwrap();
    let of_recipe = select(&recipes, "d", Digests::Compute).unwrap();
    assert_eq!(of_tree.selection, of_recipe.selection);
    let entries = &of_tree.selection.items[0].entries;
    assert_eq!(
        entries[1].file_digest(),
        Some(blake3::hash(b"content").into())
    );
    assert_eq!(entries[4].kind, EntryKind::Hardlink(path("a")));
    let error = select(&trees, "nope", Digests::Skip).unwrap_err();
    assert!(matches!(error, SelectFilesError::Select(_)));
    assert_eq!(error.to_string(), "\"/nope\": not found");
}

/// A recipe whose files belong to whoever runs the tests.
fn own(mut layer: Recipe) -> Recipe {
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let entries = layer
        .entries
        .iter_mut()
        .map(|item| &mut item.entry.metadata);
    for metadata in entries.chain([&mut layer.root]) {
        (metadata.uid, metadata.gid) = (uid, gid);
    }
    layer
}

/// Layers as they could come: parents are directories of the same layer.
fn layer() -> impl Strategy<Value = Recipe> {
    let any = ("/[abc](/[abc]){0,2}", 0..7_u8).prop_map(|(path, kind)| match kind {
        0 => format!("f {path} 644 0:0 {path}"),
        1 => format!("l {path} target"),
        2 => format!("w {path}"),
        3 => format!("d {path} 711 0:0 opaque"),
        _ => format!("d {path} 755 0:0"),
    });
    prop::collection::vec(any, 0..8).prop_map(|lines| {
        let mut all: BTreeMap<LayerPath, String> = BTreeMap::new();
        for line in lines {
            let own = path(line.split(' ').nth(1).unwrap());
            let fits = all.iter().all(|(at, other)| {
                (!own.starts_with(at) || other.starts_with('d'))
                    && (!at.starts_with(&own) || line.starts_with('d'))
            });
            if fits {
                let mut parent = own.parent();
                while let Some(directory) = parent.filter(|parent| !parent.is_root()) {
                    parent = directory.parent();
                    let line = format!("d {directory} 700 0:0");
                    all.entry(directory).or_insert(line);
                }
                all.insert(own, line);
            }
        }
        let lines: Vec<&str> = all.values().map(String::as_str).collect();
        own(recipe(&lines))
    })
}

/// The obvious way: apply one layer after another to a list of paths.
fn applied(layers: &[Recipe]) -> BTreeMap<LayerPath, EntryKind> {
    let mut all = BTreeMap::new();
    all.insert(LayerPath::ROOT, EntryKind::Directory { opaque: false });
    let plain = EntryKind::Directory { opaque: false };
    for Entry { path, kind, .. } in layers.iter().flat_map(|l| &l.entries).map(|i| &i.entry) {
        let merges = *kind == plain && all.get(path) == Some(&plain);
        if !merges {
            all.retain(|other, _| !other.starts_with(path));
        }
        match kind {
            EntryKind::Whiteout => {}
            EntryKind::Directory { .. } => drop(all.insert(path.clone(), plain.clone())),
            other => drop(all.insert(path.clone(), other.clone())),
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn trees_recipes_and_indexes_are_seen_alike(
        layers in prop::collection::vec((layer(), 0..3_u8), 0..4),
    ) {
        let directory = TempDir::new().unwrap();
        let mixed = layers.iter().enumerate().map(|(number, (layer, form))| match form {
            0 => ViewLayer::Recipe(Arc::new(layer.clone())),
            1 => index_only(layer),
            _ => {
                let tree = directory.path().join(number.to_string());
                materialise(layer, &tree, &Meter::default()).unwrap();
                ViewLayer::Tree(tree)
            }
        });
        let mixed = LayeredView::open(mixed.collect::<Vec<_>>()).unwrap();
        let recipes: Vec<Recipe> = layers.into_iter().map(|(layer, _)| layer).collect();
        let plain = recipes.iter().cloned().map(|layer| ViewLayer::Recipe(layer.into()));
        let plain = LayeredView::open(plain).unwrap();
        prop_assert_eq!(listing(&mixed), listing(&plain));

        let expected = applied(&recipes);
        let listed: Vec<String> = expected.keys().map(ToString::to_string).collect();
        prop_assert_eq!(paths(&plain), listed);
        for (path, kind) in &expected {
            for view in [&mixed, &plain] {
                let at_most = view.names_at_most(path).unwrap();
                let names = view.read_directory(path).unwrap();
                prop_assert!(names.iter().all(|name| at_most.contains(name)));
                let entry = view.lookup(path).unwrap().unwrap();
                let digestless = |kind: &EntryKind| match kind {
                    EntryKind::File { size, .. } => EntryKind::File { size: *size, digest: None },
                    other => other.clone(),
                };
                prop_assert_eq!(digestless(&entry.kind), digestless(kind), "{}", path);
            }
        }
    }
}

#[test]
fn attributes_are_those_of_the_container() {
    let directory = TempDir::new().unwrap();
    let mut layer = own(recipe(&[
        "f /f 444 0:0 x",
        "d /d 555 0:0",
        "d /d/o 755 0:0 opaque",
    ]));
    let xattr = |name: &str| Xattr {
        name: name.into(),
        value: b"1".to_vec(),
    };
    for item in &mut layer.entries {
        item.entry.metadata.xattrs = vec![xattr("user.note"), xattr("user.overlay.opaque")];
    }
    let tree = directory.path().join("tree");
    materialise(&layer, &tree, &Meter::default()).unwrap();
    let view = LayeredView::open([ViewLayer::Tree(tree)]).unwrap();
    for item in &layer.entries {
        let entry = view.lookup(&item.entry.path).unwrap().unwrap();
        assert_eq!(entry.metadata, item.entry.metadata);
    }
    let opaque = view.see(&path("d/o")).unwrap().unwrap();
    assert!(is_opaque(&opaque.node.entry));
    let plain = view.see(&path("d")).unwrap().unwrap();
    assert!(!is_opaque(&plain.node.entry));
}

#[test]
fn a_file_that_layers_share_on_disk_is_one_file_in_each() {
    let directory = TempDir::new().unwrap();
    let trees = ["a", "b"].map(|name| directory.path().join(name));
    for tree in &trees {
        std::fs::create_dir(tree).unwrap();
    }
    std::fs::write(trees[0].join("one"), "x").unwrap();
    std::fs::hard_link(trees[0].join("one"), trees[0].join("one-again")).unwrap();
    std::fs::hard_link(trees[0].join("one"), trees[1].join("two")).unwrap();
    let view = LayeredView::open(trees.map(ViewLayer::Tree)).unwrap();
    let selected = select(&view, "/", Digests::Skip).unwrap();
    let kinds: Vec<(String, bool)> = selected.selection.items[0].entries[1..]
        .iter()
        .map(|entry| {
            let is_link = matches!(entry.kind, EntryKind::Hardlink(_));
            (entry.path.to_string(), is_link)
        })
        .collect();
    let expected = [("/one", false), ("/one-again", true), ("/two", false)];
    assert_eq!(kinds, expected.map(|(path, link)| (path.to_owned(), link)));
}
