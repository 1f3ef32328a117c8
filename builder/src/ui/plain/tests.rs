use super::super::recording::Recording;
use super::*;

fn recording() -> Recording {
    Recording::new(|out| Box::new(Plain::new(out)))
}

#[test]
fn one_step_after_another() {
    let mut build = recording();
    build.announce(1, "[1/2] FROM scratch");
    build.announce(2, "[2/2] RUN make");
    build.cached(1);
    build.at(0.5).started(2);
    build.at(0.623).stdout(2, b"hello\nwor");
    build.at(12.5).stdout(2, b"ld\n");
    build.at(12.6).finished(2, 12.1);
    assert_eq!(
        build.finish(),
        "#1 [1/2] FROM scratch\n#1 CACHED\n\n\
         #2 [2/2] RUN make\n#2 0.123 hello\n#2 12.00 world\n#2 DONE 12.1s\n"
    );
}

#[test]
fn a_cached_build_is_written_in_one_go() {
    let mut build = recording();
    for vertex in 1..=20 {
        build.announce(vertex, "step");
        build.at(f64::from(vertex) / 1000.0).cached(vertex);
    }
    assert_eq!(build.written().1, 0);
    let text = build.finish();
    assert_eq!(text.matches("CACHED").count(), 20);
}

#[test]
fn parallel_steps_take_turns() {
    let mut build = recording();
    build.announce(1, "[a] RUN a");
    build.announce(2, "[b] RUN b");
    build.started(1);
    build.started(2);
    build.at(0.1).stdout(2, b"b1\n");
    build.at(0.2).stdout(1, b"a1\n");
    build.at(0.3).stdout(2, b"b2\n");
    build.at(1.5).stdout(1, b"a2\n");
    build.at(1.6).finished(2, 1.6);
    build.at(1.7).finished(1, 1.7);
    assert_eq!(
        build.finish(),
        "#1 [a] RUN a\n#1 0.200 a1\n#1 ...\n\n\
         #2 [b] RUN b\n#2 0.100 b1\n#2 0.300 b2\n#2 DONE 1.6s\n\n\
         #1 [a] RUN a\n#1 1.500 a2\n#1 DONE 1.7s\n"
    );
}

#[test]
fn what_ends_while_another_has_the_floor_is_shown_as_a_whole() {
    let mut build = recording();
    for (vertex, name) in [(1, "long"), (2, "short"), (3, "known")] {
        build.announce(vertex, name);
    }
    build.started(1);
    build.started(2);
    build.at(0.2).finished(2, 0.2);
    build.at(0.3).cached(3);
    build.at(5.0).stdout(1, b"still here\n");
    build.finished(1, 5.0);
    assert_eq!(
        build.finish(),
        "#1 long\n#1 ...\n\n#2 short\n#2 DONE 0.2s\n\n#3 known\n#3 CACHED\n\n\
         #1 long\n#1 5.000 still here\n#1 DONE 5.0s\n"
    );
}

#[test]
fn a_flood_is_not_held_in_memory() {
    let mut build = recording();
    build.announce(1, "quiet");
    build.announce(2, "loud");
    build.started(1);
    build.started(2);
    let line = [b"x".repeat(1000), b"\n".to_vec()].concat();
    for _ in 0..HELD_BYTES / 1000 {
        build.stdout(2, &line);
    }
    assert!(build.written().0.len() >= HELD_BYTES);
}

#[test]
fn a_failure_flushes_the_last_line_and_cancels_others() {
    let mut build = recording();
    for (vertex, name) in [(1, "bad"), (2, "good"), (3, "never begun")] {
        build.announce(vertex, name);
    }
    build.started(1);
    build.started(2);
    build.at(0.1).stderr(1, b"no newline");
    build.at(0.2).failed(1, 0.2, "exit code: 1");
    build.cancelled(2);
    build.cancelled(3);
    assert_eq!(
        build.finish(),
        "#1 bad\n#1 0.200 no newline\n#1 ERROR: exit code: 1\n\n#2 good\n#2 CANCELED\n"
    );
}

#[test]
fn works_are_mentioned_now_and_then() {
    let mut build = recording();
    build.announce(1, "pull");
    build.started(1);
    build.work(1, "resolving", 0, None);
    for second in 0..=12_u32 {
        let done = u64::from(second) * 1_000_000;
        build
            .at(f64::from(second))
            .work(1, "sha256:ab", done, Some(12_000_000));
    }
    build.work(1, "sha256:ab", 12_000_000, Some(12_000_000));
    build.finished(1, 12.0);
    assert_eq!(
        build.finish(),
        "#1 pull\n#1 resolving\n#1 sha256:ab 0B / 12MB\n#1 sha256:ab 5MB / 12MB\n\
         #1 sha256:ab 10MB / 12MB\n#1 sha256:ab 12MB done\n#1 DONE 12.0s\n"
    );
}

#[test]
fn a_warning_stands_for_itself() {
    let mut build = recording();
    build.announce(1, "step");
    build.started(1);
    build.waiting(1, None);
    build.warning("the cache is unreachable");
    build.at(1.0).stdout(1, b"line\n");
    assert_eq!(
        build.finish(),
        "#1 step\n#1 waiting for another build of this step\n\n\
         warning: the cache is unreachable\n\n#1 step\n#1 1.000 line\n"
    );
}

#[test]
fn who_is_waited_for_is_named() {
    let mut build = recording();
    build.announce(1, "step");
    build.waiting(1, Some("ci-7\x1b[2J, process 12"));
    build.waiting(1, Some("ci-8"));
    build.finished(1, 2.0);
    assert_eq!(
        build.finish(),
        "#1 step\n#1 waiting for ci-7, process 12, which runs this step\n\
         #1 waiting for ci-8, which runs this step\n#1 DONE 2.0s\n"
    );
}

#[test]
fn seconds_keep_five_characters() {
    let mut build = recording();
    build.announce(1, "s");
    build.started(1);
    for seconds in [0.0, 9.9994, 9.9996, 99.99, 100.04, 1234.5] {
        build.at(seconds).stdout(1, b"x\n");
    }
    let text = build.finish();
    let times: Vec<_> = text
        .lines()
        .skip(1)
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(times, ["0.000", "9.999", "10.00", "99.99", "100.0", "1234"]);
}

#[test]
fn findings_come_last() {
    let mut build = recording();
    build.announce(1, "step");
    build.started(1);
    build.finding(4, "wrong platform");
    build.at(1.0).finished(1, 1.0);
    assert_eq!(
        build.finish(),
        "#1 step\n#1 DONE 1.0s\n\n 1 warning found (use --check to expand):\n - \
         InvalidBaseImagePlatform: wrong platform (line 4)\n"
    );
}
