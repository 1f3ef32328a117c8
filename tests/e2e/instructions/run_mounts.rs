//! `RUN --mount=type=bind` and `type=tmpfs`.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::tree::Tree;
use ashlar_test_support::user::TestUser;

use super::busybox_of;

/// What a RUN with these flags prints to `/out`, and the tree that it leaves. There is a stage
/// called `staged` below it.
fn run(home: &TestHome, flags: &str, command: &str) -> Tree {
    let context = home.context("context");
    let start = busybox_of(home, &context).replacen('\n', " AS staged\n", 1);
    context
        .dockerfile(&format!(
            "{start}RUN mkdir /data && echo staged > /data/f\n\
             FROM staged\nRUN {flags} {{ {command}; true; }} > /out 2>&1\n"
        ))
        .file("src/main.c", "int main;")
        .file("src/secret.txt", "ignored")
        .mode("src/main.c", 0o640)
        .file(".dockerignore", "**/secret.txt\n");
    home.build_tree(&context, &[])
}

/// Users whose ids are mapped in different ways.
fn everyone(test: impl Fn(&TestHome)) {
    for user in [TestUser::Sub, TestUser::One] {
        let home = TestHome::new(user);
        test(&home);
        home.assert_clean();
    }
}

#[test]
fn a_bind_shows_context_files_as_copy_would_make_them() {
    everyone(|home| {
        let tree = run(
            home,
            "--mount=target=/ctx",
            "cd /ctx/src && ls && cat main.c && stat -c '%a %u:%g' main.c . && \
             touch main.c; touch new; rm main.c",
        );
        tree.at("out").has_content(
            "main.c\nint main;640 0:0\n755 0:0\ntouch: main.c: Read-only file system\n\
             touch: new: Read-only file system\nrm: can't remove 'main.c': Read-only file system\n",
        );
        assert!(tree.get("ctx").is_none(), "the mount point is left");
    });
}

#[test]
fn writes_to_a_bind_are_thrown_away() {
    everyone(|home| {
        let tree = run(
            home,
            "--mount=source=src,target=/ctx,rw --mount=from=staged,source=/data,target=/d,rw",
            "echo more >> /ctx/main.c && touch /ctx/new && mv /d/f /d/g && cat /ctx/main.c /d/g",
        );
        tree.at("out").has_content("int main;more\nstaged\n");
        tree.at("data/f").has_content("staged\n");
        assert!(tree.get("ctx").is_none() && tree.get("d").is_none());
    });
}

#[test]
fn a_single_file_can_be_bound() {
    everyone(|home| {
        let tree = run(
            home,
            "--mount=source=src/main.c,target=/etc/new/a.c --mount=from=staged,source=data/f,target=/bin/f",
            "cat /etc/new/a.c /bin/f",
        );
        tree.at("out").has_content("int main;staged\n");
        assert!(tree.get("etc/new").is_none() && tree.get("bin/f").is_none());
    });
}

#[test]
fn a_bind_comes_from_an_image_a_named_context_or_nothing() {
    let home = TestHome::sub();
    let named = home.directory("named");
    home.file(&named.join("n"), "named");
    let context = home.context("context");
    let base = bases::busybox();
    context.dockerfile(&format!(
        "FROM {0}\nRUN --mount=from={0},source=/etc,target=/e --mount=from=other,target=/n \
         --mount=from=scratch,target=/s cat /e/passwd /n/n > /out && ls -A /s >> /out\n",
        base.reference()
    ));
    let option = format!("other={}", named.display());
    let tree = home.build_tree(&context, &["--build-context", &option]);
    let passwd = tree.at("etc/passwd");
    let mut expected = match &passwd.kind {
        ashlar_test_support::tree::Kind::File(_, _) => {
            home.build_text(&context, "/etc/passwd", &["--build-context", &option])
        }
        other => panic!("{other:?}"),
    };
    expected.push_str("named");
    tree.at("out").has_content(expected);
}

#[test]
fn symbolic_links_of_a_source_lead_to_its_own_files() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(
            &bases::busybox().dockerfile("RUN --mount=source=link,target=/m cat /m/f > /out\n"),
        )
        .file("real/f", "inside");
    context.symlink("link", "/real");
    assert_eq!(home.build_text(&context, "/out", &[]), "inside");
}

#[test]
fn mounts_lie_on_each_other_and_the_last_of_equals_counts() {
    let home = TestHome::sub();
    let tree = run(
        &home,
        "--mount=type=tmpfs,target=/m/deep/er --mount=source=src,target=/m/deep,rw \
         --mount=type=tmpfs,target=/m --mount=source=src,target=/x --mount=type=tmpfs,target=/x",
        "ls /m /m/deep /x && grep -c ' /m' /proc/mounts",
    );
    tree.at("out")
        .has_content("/m:\ndeep\n\n/m/deep:\ner\nmain.c\n\n/x:\n3\n");
}

#[test]
fn a_tmpfs_is_for_everyone_has_its_size_and_leaves_nothing() {
    everyone(|home| {
        let tree = run(
            home,
            "--mount=type=tmpfs,target=/data,size=1m --mount=type=tmpfs,target=/ro,ro",
            "stat -c %a /data && ls -A /data && echo x > /data/x && \
             dd if=/dev/zero of=/data/big bs=1k count=2000 2>&1 | grep -o 'No space.*'; \
             echo y > /ro/y",
        );
        tree.at("out").has_content(
            "1777\nNo space left on device\nsh: can't create /ro/y: Read-only file system\n"
                .replace("sh: ", "/bin/sh: "),
        );
        tree.at("data/f").has_content("staged\n");
        assert!(tree.get("data/x").is_none() && tree.get("ro").is_none());
    });
}

#[test]
fn a_layer_has_nothing_of_mounts_and_keeps_the_times_of_directories() {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(&bases::busybox().dockerfile(
            "RUN mkdir /old && touch -d '2001-02-03 04:05:06' /old /etc\n\
             RUN --mount=target=/old/a/b --mount=type=tmpfs,target=/etc/t \
             --mount=type=cache,target=/old/c --mount=type=secret,id=s,target=/etc/s \
             touch /only\n\
             RUN stat -c %Y /old /etc > /times\n",
        ))
        .file("f", "f");
    let tree = home.build_tree(&context, &["--secret", "id=s,src=/etc/hostname"]);
    tree.at("times").has_content("981173106\n981173106\n");
    for name in ["old/a", "etc/t", "old/c", "etc/s", "run/secrets"] {
        assert!(tree.get(name).is_none(), "{name} is left");
    }
    tree.at("only").has_content("");
}

#[test]
fn what_a_bind_shows_decides_whether_the_step_runs_again() {
    let home = TestHome::sub();
    let context = home.context("context");
    let write = |comment: &str| {
        context.dockerfile(&format!(
            "FROM {0} AS made\nRUN echo same > /made # {comment}\n\
             FROM {0}\nRUN --mount=source=src,target=/m --mount=from=made,source=/made,target=/x \
             cat /m/f /x\n",
            bases::busybox().reference()
        ));
    };
    write("one");
    context.file("src/f", "f").file("other", "1");
    let mounted = "RUN --mount=source=src";
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&["RUN echo same", mounted]);
    context.file("other", "2");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&[]);
    // The stage is made anew, and what is mounted of it has not changed.
    write("two");
    home.build(&context, &[])
        .success()
        .progress()
        .assert_ran(&["RUN echo same"]);
    context.file("src/f", "changed");
    let output = home.build(&context, &[]);
    output.success().progress().assert_ran(&[mounted]);
    assert!(output.progress().has_output("changedsame"), "{output}");
}

#[test]
fn missing_sources_and_bad_flags_are_named_with_their_place() {
    let home = TestHome::sub();
    let context = home.context("context");
    for (flags, told) in [
        ("--mount=source=none,target=/m", "\"/none\": not found"),
        ("--mount=type=bin,target=/m", "did you mean bind?"),
        ("--mount=source=f,target=/", "invalid mount target"),
        (
            "--mount=type=cache,target=/c,source=/x",
            "\"/x\": not found",
        ),
        ("--device=gpu", "Container Device Interface"),
    ] {
        let text = format!("RUN {flags} true\n");
        context.dockerfile(&bases::busybox().dockerfile(&text));
        home.build(&context, &[])
            .exit_code(1)
            .stderr_has(told)
            .stderr_has("Dockerfile:2");
    }
    // In the container it is known only there.
    for (flags, told) in [
        (
            "--mount=source=d,target=/m --mount=type=tmpfs,target=/m/none",
            "mounted read-only",
        ),
        (
            "--mount=source=d,target=/etc/passwd",
            "a directory on a directory",
        ),
    ] {
        let text = format!("RUN {flags} true\n");
        context
            .dockerfile(&bases::busybox().dockerfile(&text))
            .file("d/f", "f");
        home.build(&context, &[]).exit_code(1).stderr_has(told);
    }
    // Of another stage it is known only when that is made.
    context.dockerfile(&format!(
        "FROM {0} AS one\nRUN true\nFROM {0}\nRUN --mount=from=one,source=/none,target=/m true\n",
        bases::busybox().reference()
    ));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("\"/none\": not found")
        .stderr_has("Dockerfile:4");
}
