//! `RUN --mount=type=cache`.

use ashlar_test_support::bases;
use ashlar_test_support::command::Running;
use ashlar_test_support::context::Context;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::user::TestUser;

use super::busybox_of;

/// Writes a Dockerfile with one RUN, which differs from others by `step`.
fn step(home: &TestHome, context: &Context, flags: &str, step: u32, command: &str) {
    let start = busybox_of(home, context);
    context.dockerfile(&format!("{start}ENV STEP={step}\nRUN {flags} {command}\n"));
}

/// What such a RUN leaves in `/out`.
fn out(home: &TestHome, flags: &str, number: u32, command: &str) -> String {
    let context = home.context("context");
    let command = format!("{{ {command}; true; }} > /out 2>&1");
    step(home, &context, flags, number, &command);
    home.build_text(&context, "/out", &[])
}

const LOG: &str = "echo $STEP >> /c/log; cat /c/log";

#[test]
fn a_cache_outlives_the_build_and_is_no_part_of_the_image() {
    for user in [TestUser::Sub, TestUser::One] {
        let home = TestHome::new(user);
        let flags = "--mount=type=cache,target=/c";
        assert_eq!(out(&home, flags, 1, LOG), "1\n");
        assert_eq!(out(&home, flags, 2, LOG), "1\n2\n");
        let context = home.context("context");
        step(&home, &context, flags, 3, LOG);
        let tree = home.build_tree(&context, &[]);
        assert!(tree.get("c").is_none());
        // What a cache holds is no input.
        home.build(&context, &[])
            .success()
            .progress()
            .assert_ran(&[]);
        home.assert_clean();
    }
}

#[test]
fn caches_are_told_apart_by_id_namespace_and_owner() {
    let home = TestHome::sub();
    assert_eq!(out(&home, "--mount=type=cache,target=/c", 1, LOG), "1\n");
    let by_id = "--mount=type=cache,id=/c,target=/c";
    assert_eq!(out(&home, by_id, 2, LOG), "1\n2\n");
    let elsewhere = "--mount=type=cache,target=/d,id=/c";
    assert_eq!(out(&home, elsewhere, 3, "cat /d/log"), "1\n2\n");
    let other = "--mount=type=cache,target=/c,id=other";
    assert_eq!(out(&home, other, 4, LOG), "4\n");
    let owned = "--mount=type=cache,target=/c,mode=0750,uid=1000,gid=33";
    let command = format!("stat -c '%a %u:%g' /c; {LOG}");
    assert_eq!(out(&home, owned, 5, &command), "750 1000:33\n5\n");

    let context = home.context("context");
    step(&home, &context, by_id, 6, &format!("{{ {LOG}; }} > /out"));
    let namespace = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=mine"];
    assert_eq!(home.build_text(&context, "/out", &namespace), "6\n");
}

#[test]
fn a_cache_may_be_read_only() {
    let home = TestHome::sub();
    out(&home, "--mount=type=cache,target=/c", 1, LOG);
    let told = out(
        &home,
        "--mount=type=cache,target=/c,ro",
        2,
        "cat /c/log; touch /c/x",
    );
    assert_eq!(told, "1\ntouch: /c/x: Read-only file system\n");
}

#[test]
fn two_mounts_of_one_cache_are_one_directory() {
    let home = TestHome::sub();
    let flags = "--mount=type=cache,target=/c,id=i,sharing=locked \
                 --mount=type=cache,target=/d,id=i,ro";
    assert_eq!(
        out(&home, flags, 1, &format!("{LOG}; cat /d/log")),
        "1\n1\n"
    );
}

#[test]
fn a_cache_begins_with_the_files_of_a_stage_and_never_changes_them() {
    let home = TestHome::sub();
    let context = home.context("context");
    let write = |number: u32, seed: &str| {
        context.dockerfile(&format!(
            "FROM {0} AS seed\nRUN mkdir -m 700 /s && chown 3:4 /s && echo {seed} > /s/log && \
             ln /s/log /s/same\n\
             FROM {0}\nENV STEP={number}\n\
             RUN --mount=type=cache,target=/c,from=seed,source=/s {{ stat -c '%a %u:%g' /c; {LOG}; }} > /out\n\
             COPY --from=seed /s/log /seed\n",
            bases::busybox().reference()
        ));
    };
    write(1, "seed");
    let tree = home.build_tree(&context, &[]);
    tree.at("out").has_content("700 3:4\nseed\n1\n");
    tree.at("seed").has_content("seed\n");
    write(2, "seed");
    let tree = home.build_tree(&context, &[]);
    tree.at("out").has_content("700 3:4\nseed\n1\n2\n");
    tree.at("seed").has_content("seed\n");
    // Another beginning is another cache.
    write(3, "other");
    let tree = home.build_tree(&context, &[]);
    tree.at("out").has_content("700 3:4\nother\n3\n");
}

#[test]
fn without_cache_a_cache_is_emptied_first() {
    let home = TestHome::sub();
    let flags = "--mount=type=cache,target=/c";
    out(&home, flags, 1, LOG);
    let context = home.context("context");
    let start = busybox_of(&home, &context);
    context.dockerfile(&format!(
        "{start}RUN {flags} echo first >> /c/log\nRUN {flags} cat /c/log > /out\n"
    ));
    assert_eq!(
        home.build_text(&context, "/out", &["--no-cache"]),
        "first\n"
    );
    home.assert_clean();
}

/// Adds one to a number, slowly enough to be disturbed by others who do the same.
const COUNT: &str = "n=$(cat /c/n 2>/dev/null || echo 0); sleep 0.3; echo $((n + 1)) > /c/n";

#[test]
fn builds_that_lock_a_cache_use_it_one_after_the_other() {
    let home = TestHome::sub();
    let flags = "--mount=type=cache,target=/c,sharing=locked";
    let builds: Vec<_> = (0..5)
        .map(|number| {
            let context = home.context(&format!("context{number}"));
            step(&home, &context, flags, number, COUNT);
            home.build_command(&context, &[]).start()
        })
        .collect();
    for build in builds {
        build.wait().success();
    }
    assert_eq!(out(&home, flags, 9, "cat /c/n"), "5\n");
    home.assert_clean();
}

#[test]
fn steps_of_one_build_that_lock_a_cache_count_as_well() {
    let home = TestHome::sub();
    let context = home.context("context");
    let base = bases::busybox().reference();
    // Two caches in two orders: nobody waits for ever.
    let (one, two) = (
        "--mount=type=cache,target=/c,id=one,sharing=locked",
        "--mount=type=cache,target=/d,id=two,sharing=locked",
    );
    let mut text = String::new();
    for number in 0..4 {
        let flags = if number % 2 == 0 {
            format!("{one} {two}")
        } else {
            format!("{two} {one}")
        };
        text += &format!(
            "FROM {base} AS s{number}\nENV STEP={number}\nRUN {flags} {COUNT}; touch /done\n"
        );
    }
    text += &format!("FROM {base}\n");
    for number in 0..4 {
        text += &format!("COPY --from=s{number} /done /done{number}\n");
    }
    text += &format!("RUN {one} cat /c/n > /out\n");
    context.dockerfile(&text);
    assert_eq!(home.build_text(&context, "/out", &["--jobs", "4"]), "4\n");
}

#[test]
fn who_waits_for_a_cache_is_told() {
    let home = TestHome::sub();
    let flags = "--mount=type=cache,target=/c,sharing=locked";
    let (first, second) = (home.context("first"), home.context("second"));
    step(
        &home,
        &first,
        flags,
        1,
        "touch /c/begun; while [ ! -e /c/end ]; do sleep 0.1; done",
    );
    step(&home, &second, flags, 2, "true");
    let first = home.build_command(&first, &[]).start();
    // The cache is used from when its file is there.
    let begun = || !home.store_paths_named("begun").is_empty();
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut second = home.build_command(&second, &[]).start();
    second.wait_for_stderr("waiting for the cache mount /c, which another step uses");
    // A cache of the user with subordinate ids belongs to the user: root there is the user here.
    let directory = home.store_paths_named("begun")[0].with_file_name("end");
    std::fs::write(directory, "").unwrap();
    first.wait().success();
    second.wait().success();
}

#[test]
fn builds_that_want_a_cache_for_themselves_do_not_meet() {
    let home = TestHome::sub();
    let flags = "--mount=type=cache,target=/c,sharing=private";
    let meet = "echo $STEP >> /c/log; touch /c/here; \
                for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; [ $(wc -l < /c/log) = 1 ]";
    let builds: Vec<_> = (0..3)
        .map(|number| {
            let context = home.context(&format!("context{number}"));
            step(&home, &context, flags, number, meet);
            home.build_command(&context, &[]).start()
        })
        .collect();
    let outcomes: Vec<_> = builds.into_iter().map(Running::wait).collect();
    // On a slow machine one may begin when another has ended, and then finds its directory.
    let copies = home.store_paths_named("here").len();
    let succeeded = outcomes.iter().filter(|one| one.code() == Some(0)).count();
    assert_eq!(copies, succeeded, "{outcomes:?}");
}

#[test]
fn builds_that_share_a_cache_use_it_at_once() {
    let home = TestHome::sub();
    let flags = "--mount=type=cache,target=/c";
    // Each ends only when both are there.
    let meet = "touch /c/$STEP; while [ ! -e /c/1 ] || [ ! -e /c/2 ]; do sleep 0.1; done";
    let builds: Vec<_> = [1, 2]
        .map(|number| {
            let context = home.context(&format!("context{number}"));
            step(&home, &context, flags, number, meet);
            home.build_command(&context, &[]).start()
        })
        .into_iter()
        .collect();
    for build in builds {
        build.wait().success();
    }
}

#[test]
fn caches_are_listed_and_removed_when_that_is_asked_for() {
    let home = TestHome::sub();
    // Owners that only the sandbox can remove.
    let fill = "mkdir -m 700 /c/d && chown 33:33 /c/d && echo x > /c/d/f";
    let context = home.context("context");
    step(&home, &context, "--mount=type=cache,target=/c", 1, fill);
    home.build(&context, &[]).success();
    let count = || {
        let rows = home.ashlar(["du", "--format", "json"]).run();
        let rows = rows.success().json_lines();
        let row = rows.iter().find(|row| row["Type"] == "Cache mounts");
        row.map_or(0, |row| row["Count"].as_u64().unwrap())
    };
    let prune = |flags: &[&str]| {
        let all = ["prune", "--force", "--format", "json"];
        let output = home.ashlar(all.iter().chain(flags)).run();
        output.success().json()["Caches"].as_u64().unwrap()
    };
    assert_eq!(count(), 1);
    assert_eq!(prune(&[]), 0);
    assert_eq!(count(), 1);
    assert_eq!(prune(&["--filter", "type=exec.cachemount"]), 1);
    assert_eq!(count(), 0);
    // The step itself is still known.
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    home.build(&context, &["--no-cache"]).success();
    assert_eq!(prune(&["--all"]), 1);
    assert_eq!(count(), 0);
    home.assert_clean();
}
