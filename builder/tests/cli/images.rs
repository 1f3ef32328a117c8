//! `images`, `tag`, `rmi`.

use super::environment::TestEnvironment;

#[test]
fn images_are_a_table_for_people() {
    let environment = TestEnvironment::with_images();
    let images = environment.home.images().unwrap();
    let id = |index: usize| images[index].config.digest.to_hex()[..12].to_owned();
    let table = environment.run(&["images"]).stdout();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            line.split("   ")
                .map(str::trim)
                .filter(|s| !s.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    );
    assert_eq!(lines[1][..3], ["app", "1", &id(0)]);
    assert_eq!(lines[1][4], "1.52MB");
    assert!(lines[1][3].ends_with("years ago"), "{table}");
    assert_eq!(lines[2][..3], ["localhost:5000/team/base", "2", &id(1)]);
    assert_eq!(lines[2][4], "1.5MB");
    assert_eq!(lines.len(), 3);
}

#[test]
fn images_are_json_lines_for_programs() {
    let environment = TestEnvironment::with_images();
    let lines = environment
        .run(&["images", "--format", "json"])
        .json_lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["Repository"], "app");
    assert_eq!(lines[0]["Tag"], "1");
    assert_eq!(lines[0]["Size"], 1_520_000);
    assert_eq!(lines[0]["Created"], "2020-02-03T04:05:06Z");
    assert_eq!(lines[0]["Platform"], "linux/amd64");
    assert!(lines[0]["Id"].as_str().unwrap().starts_with("sha256:"));
    let empty = TestEnvironment::new();
    assert_eq!(empty.run(&["images", "--format", "json"]).stdout(), "");
    assert!(empty.run(&["images"]).stdout().starts_with("REPOSITORY"));
}

#[test]
fn images_can_be_filtered_and_reduced_to_ids() {
    let environment = TestEnvironment::with_images();
    environment.run(&["tag", "app:1", "app:again"]).stdout();
    assert_eq!(
        environment.run(&["images", "app"]).stdout().lines().count(),
        3
    );
    assert_eq!(
        environment
            .run(&["images", "app:1"])
            .stdout()
            .lines()
            .count(),
        2
    );
    // One ID for both names.
    let ids = environment.run(&["images", "-q", "app"]).stdout();
    assert_eq!(ids.trim().len(), 12);
    let whole = environment
        .run(&["images", "-q", "--no-trunc", "app"])
        .stdout();
    assert_eq!(whole.trim().len(), "sha256:".len() + 64);
    let digests = environment.run(&["images", "--digests"]).stdout();
    assert!(
        digests.contains("DIGEST") && digests.contains("<none>"),
        "{digests}"
    );
}

#[test]
fn an_image_gets_another_name() {
    let environment = TestEnvironment::with_images();
    let id = environment.run(&["images", "-q", "app"]).stdout();
    assert_eq!(
        environment
            .run(&["tag", id.trim(), "example.com/x:y"])
            .stdout(),
        ""
    );
    assert!(environment.names().contains(&"example.com/x:y".to_owned()));
    // A name moves.
    environment
        .run(&["tag", "localhost:5000/team/base:2", "example.com/x:y"])
        .stdout();
    let moved = environment.run(&["images", "-q", "example.com/x"]).stdout();
    assert_ne!(moved, id);
    let error = environment.run(&["tag", "nothing:1", "x"]).error(1);
    assert!(
        error.contains("`nothing:1`") && error.contains("hint:"),
        "{error}"
    );
}

#[test]
fn names_are_taken_away() {
    let environment = TestEnvironment::with_images();
    environment.run(&["tag", "app:1", "app:2"]).stdout();
    assert_eq!(
        environment.run(&["rmi", "app:1"]).stdout(),
        "Untagged: app:1\n"
    );
    assert_eq!(environment.names(), ["app:2", "localhost:5000/team/base:2"]);
}

#[test]
fn an_id_with_several_names_needs_force() {
    let environment = TestEnvironment::with_images();
    environment.run(&["tag", "app:1", "app:2"]).stdout();
    let id = environment.run(&["images", "-q", "app"]).stdout();
    let error = environment.run(&["rmi", id.trim()]).error(1);
    assert!(error.contains("app:1, app:2"), "{error}");
    assert_eq!(environment.names().len(), 3);
    let untagged = environment
        .run(&["rmi", "-f", id.trim(), "nothing"])
        .stdout();
    assert_eq!(untagged, "Untagged: app:1\nUntagged: app:2\n");
    assert_eq!(environment.names(), ["localhost:5000/team/base:2"]);
}

#[test]
fn a_mistake_in_one_name_changes_nothing() {
    let environment = TestEnvironment::with_images();
    let error = environment.run(&["rmi", "app:1", "nothing:1"]).error(1);
    assert!(error.contains("nothing:1"), "{error}");
    assert_eq!(environment.names().len(), 2);
}
