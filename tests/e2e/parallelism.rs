//! Steps that need nothing of each other run at once.

use std::fs;

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;

/// Two stages that note when they begin and end, by a clock that is the machine's.
fn two_sleepers() -> String {
    let busybox = bases::busybox().reference();
    let sleeper = |name: &str| {
        format!(
            "FROM {busybox} AS {name}\n\
             RUN cut -d' ' -f1 /proc/uptime > /{name} && sleep 3 && \
                 cut -d' ' -f1 /proc/uptime >> /{name}\n"
        )
    };
    format!(
        "{}{}FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
        sleeper("a"),
        sleeper("b")
    )
}

/// When each of the two began and ended.
fn times(options: &[&str]) -> [[f64; 2]; 2] {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&two_sleepers());
    let out = home.path("out");
    let output = format!("type=local,dest={}", out.display());
    home.build_command(&context, &["-o", &output])
        .args(options)
        .run()
        .success();
    ["a", "b"].map(|name| {
        let text = fs::read_to_string(out.join(name)).unwrap();
        let times: Vec<f64> = text.lines().map(|line| line.parse().unwrap()).collect();
        [times[0], times[1]]
    })
}

#[test]
fn stages_overlap() {
    let [a, b] = times(&[]);
    assert!(
        a[0] < b[1] && b[0] < a[1],
        "one ran after the other: {a:?} {b:?}"
    );
}

#[test]
fn one_job_is_one_at_a_time() {
    let [a, b] = times(&["--jobs", "1"]);
    assert!(a[1] <= b[0] || b[1] <= a[0], "they overlap: {a:?} {b:?}");
}

#[test]
fn identical_steps_of_one_build_run_once() {
    let home = TestHome::sub();
    let context = home.context("context");
    let busybox = bases::busybox().reference();
    let same = "RUN sleep 1 && cat /proc/sys/kernel/random/uuid > /id\n";
    context.dockerfile(&format!(
        "FROM {busybox} AS a\n{same}FROM {busybox} AS b\n{same}\
         FROM {busybox}\nCOPY --from=a /id /a\nCOPY --from=b /id /b\nRUN cat /a /b > /both\n"
    ));
    let both = home.build_text(&context, "/both", &[]);
    let lines: Vec<&str> = both.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1], "the step ran twice");
}
