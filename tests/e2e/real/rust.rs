//! A Cargo workspace whose sources are mounted, and whose target directory is a cache.

use super::Project;

/// What cargo compiled in a build.
fn compiled(project: &Project, options: &[&str]) -> Vec<String> {
    let progress = project.build(options);
    let output = &progress.step("--mount=type=bind,source=crates").output;
    let crates = output.iter().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("Compiling ")?;
        Some(rest.split(' ').next()?.to_owned())
    });
    crates.collect()
}

#[test]
fn a_workspace_compiles_only_the_crates_that_changed() {
    let test = "real::rust::a_workspace_compiles_only_the_crates_that_changed";
    let Some(project) = Project::new(test, "rust") else {
        return;
    };
    let options = ["-t", "area:1"];
    assert_eq!(compiled(&project, &options), ["geometry", "area"]);
    project.assert_cached(&options);
    assert_eq!(project.run(&["area:1"]), "area 12\n");

    // cargo finds what it made before in its cache, and by the times of the mounted files what is
    // newer than that.
    project.edit("crates/area/src/main.rs", "area {}", "area: {}");
    assert_eq!(compiled(&project, &options), ["area"]);
    assert_eq!(project.run(&["area:1", "app", "6", "7"]), "area: 42\n");
    project.edit(
        "crates/geometry/src/lib.rs",
        "self.width * self.height",
        "self.width * self.height * 2",
    );
    assert_eq!(compiled(&project, &options), ["geometry", "area"]);
    assert_eq!(project.run(&["area:1"]), "area: 24\n");

    // The tests mount the whole context, and the same cache.
    let failed = project.build_command(&["--target", "test"]).run();
    failed.exit_code(1);
    assert!(failed.stderr().contains("an_area_is_a_product"), "{failed}");
    project.edit("crates/geometry/src/lib.rs", " * 2", "");
    // What was built before is known by its content.
    project.assert_cached(&options);
    assert_eq!(project.run(&["area:1"]), "area: 12\n");
    project.build(&["--target", "test"]);

    // Neither sources nor cargo's directories are in a layer.
    project.build(&["--target", "build", "-t", "build:1"]);
    assert_eq!(project.run(&["build:1", "ls", "-A", "/app"]), "");
    let (config, tree) = project.read(&[]);
    assert_eq!(config["User"], "appuser");
    tree.at("usr/local/bin/app").is_owned(0o755, 0, 0);
    tree.at("bin").links_to("usr/bin");
    assert!(tree.get("usr/bin/cargo").is_none());
    project.home.assert_clean();
}
