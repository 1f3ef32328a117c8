//! `inspect`, `history`.

use super::environment::TestEnvironment;

#[test]
fn inspect_has_dockers_field_names() {
    let environment = TestEnvironment::with_images();
    environment.run(&["tag", "app:1", "app:again"]).stdout();
    let stdout = environment
        .run(&["inspect", "app:1", "localhost:5000/team/base:2"])
        .stdout();
    let inspected: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let app = &inspected[0];
    assert_eq!(app["RepoTags"], serde_json::json!(["app:1", "app:again"]));
    assert_eq!(app["RepoDigests"], serde_json::json!([]));
    assert_eq!(app["Config"]["Env"], serde_json::json!(["A=1"]));
    assert_eq!(app["Config"]["Labels"]["is"], "app:1");
    assert_eq!(app["Architecture"], "amd64");
    assert_eq!(app["Os"], "linux");
    assert_eq!(app["Created"], "2020-02-03T04:05:06Z");
    assert_eq!(app["Size"], 1_520_000);
    assert_eq!(app["RootFS"]["Type"], "layers");
    assert_eq!(app["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(app["History"][0]["created_by"], "ADD base");
    assert_eq!(
        inspected[1]["RootFS"]["Layers"].as_array().unwrap().len(),
        1
    );
    // The ID is the configuration's digest.
    let id = app["Id"].as_str().unwrap();
    assert_eq!(
        environment
            .run(&["inspect", id])
            .stdout()
            .matches("\"Id\"")
            .count(),
        1
    );
}

#[test]
fn inspect_prints_all_or_nothing() {
    let environment = TestEnvironment::with_images();
    let error = environment.run(&["inspect", "app:1", "nothing"]).error(1);
    assert!(error.contains("`nothing`"), "{error}");
}

#[test]
fn a_lost_configuration_is_told() {
    let environment = TestEnvironment::with_images();
    let images = environment.home.images().unwrap();
    environment
        .home
        .blobs()
        .forget(&images[0].config.digest)
        .unwrap();
    let error = environment.run(&["inspect", "app:1"]).error(3);
    assert!(
        error.contains("app:1") && error.contains("hint:"),
        "{error}"
    );
    // The list still has it.
    let list = environment.run(&["images", "app"]).stdout();
    assert!(list.contains("N/A"), "{list}");
}

#[test]
fn history_is_newest_first() {
    let environment = TestEnvironment::with_images();
    let table = environment.run(&["history", "app:1"]).stdout();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4);
    for (line, instruction, size) in [
        (lines[1], "CMD [\"sh\"]", "0B"),
        (lines[2], "RUN make", "20kB"),
        (lines[3], "ADD base", "1.5MB"),
    ] {
        assert!(line.contains(instruction) && line.contains(size), "{table}");
    }
    assert!(lines[2].starts_with("<missing>"), "{table}");
    assert!(lines[2].contains("buildkit.dockerfile.v0"), "{table}");

    let lines = environment
        .run(&["history", "--format", "json", "app:1"])
        .json_lines();
    assert_eq!(lines[0]["CreatedBy"], "CMD [\"sh\"]");
    assert_eq!(lines[0]["EmptyLayer"], true);
    assert_eq!(lines[1]["Size"], 20_000);
}

#[test]
fn layers_without_history_are_shown_all_the_same() {
    let environment = TestEnvironment::new();
    let layers = [environment.layer("one", 10), environment.layer("two", 20)];
    let mut image = environment.image("x", &[("one", layers[0])]);
    image.layers = layers.to_vec();
    environment.home.put_image(&image).unwrap();
    let lines = environment
        .run(&["history", "--format", "json", "x"])
        .json_lines();
    let sizes: Vec<_> = lines
        .iter()
        .map(|line| line["Size"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [20, 0, 10]);
}
