//! What a RUN may do and use: `--security`, `--network`, limits, memory, names.

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;
use ashlar_test_support::user::TestUser;

use super::busybox_of;

/// What a RUN with these flags leaves in `/out`.
fn out(home: &TestHome, flags: &str, command: &str, options: &[&str]) -> String {
    let context = home.context("context");
    let start = busybox_of(home, &context);
    context.dockerfile(&format!(
        "{start}RUN {flags} {{ {command}; true; }} > /out 2>&1\n"
    ));
    home.build_text(&context, "/out", options)
}

/// What tells the two kinds of rights apart.
const RIGHTS: &str = "grep -E '^(CapBnd|Seccomp):' /proc/self/status; \
                      wc -c < /proc/keys | grep -qx 0 && echo masked || echo seen; \
                      grep -c ' /proc/sys ' /proc/mounts; mkdir /m && mount -t tmpfs t /m && echo mounted";

#[test]
fn an_insecure_step_has_all_rights_of_its_namespace() {
    for user in [TestUser::Sub, TestUser::One] {
        let home = TestHome::new(user);
        let told = out(
            &home,
            "--security=insecure",
            RIGHTS,
            &["--allow", "security.insecure"],
        );
        let lines: Vec<&str> = told.lines().collect();
        let mask = lines[0].split_once(':').unwrap().1.trim();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert!(mask & (1 << 21) != 0, "CAP_SYS_ADMIN is not in {mask:x}");
        assert_eq!(lines[1], "Seccomp:\t0");
        assert_eq!(lines.last(), Some(&"mounted"), "{told}");
        home.assert_clean();
    }
}

#[test]
fn a_usual_step_has_fewer_rights_and_another_key() {
    let home = TestHome::sub();
    let told = out(&home, "--security=sandbox", RIGHTS, &[]);
    assert!(told.contains("Seccomp:\t2"), "{told}");
    assert!(told.contains("CapBnd:\t00000000a80425fb"), "{told}");
    assert!(!told.contains("mounted"), "{told}");

    let context = home.context("context");
    let build = |security: &str| {
        let text = format!("RUN --security={security} true\n");
        context.dockerfile(&bases::busybox().dockerfile(&text));
        home.build(&context, &["--allow", "security.insecure"])
    };
    build("sandbox").success();
    let again = build("insecure");
    again.success().progress().assert_ran(&["RUN"]);
}

#[test]
fn rights_need_consent() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN --security=insecure true\n"));
    home.build(&context, &[])
        .exit_code(1)
        .stderr_has("security.insecure is not allowed")
        .stderr_has("--allow security.insecure")
        .stderr_has("Dockerfile:2");
    context.dockerfile(&bases::busybox().dockerfile("RUN --network=host true\n"));
    home.build(&context, &[]).success();
    home.build(&context, &["--network", "none"])
        .exit_code(1)
        .stderr_has("network.host is not allowed");
    home.build(&context, &["--network", "none", "--allow", "network.host"])
        .success();
}

#[test]
fn the_instruction_chooses_its_network() {
    let home = TestHome::sub();
    let interfaces = "ls /proc/self/net/dev_snmp6 /sys/class/net 2>/dev/null; tail -n +3 /proc/net/dev | cut -d: -f1";
    let alone = out(&home, "--network=none", interfaces, &[]);
    let names: Vec<&str> = alone
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(names.last(), Some(&"lo"), "{alone}");
    let by_option = out(
        &home,
        "",
        "tail -n +3 /proc/net/dev | cut -d: -f1",
        &["--network", "none"],
    );
    assert_eq!(by_option.trim(), "lo");
}

#[test]
fn limits_are_set() {
    for user in [TestUser::Sub, TestUser::One] {
        let home = TestHome::new(user);
        let told = out(
            &home,
            "",
            "ulimit -Sn; ulimit -Hn; ulimit -Sc",
            &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
        );
        assert_eq!(told, "100\n200\n0\n");
    }
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN true\n"));
    let hard = "nofile=9000000000";
    home.build(&context, &["--ulimit", hard])
        .exit_code(3)
        .stderr_has("the limit nofile cannot be set");
    home.build(&context, &["--ulimit", "files=1"])
        .exit_code(2)
        .stderr_has("there is no limit `files`");
}

#[test]
fn shared_memory_has_its_size() {
    let home = TestHome::sub();
    let size = "df -k /dev/shm | tail -n 1 | awk '{ print $2 }'; stat -c %a /dev/shm";
    assert_eq!(out(&home, "", size, &[]), "65536\n1777\n");
    assert_eq!(out(&home, "", size, &["--shm-size", "2m"]), "2048\n1777\n");
    let own = "--mount=type=tmpfs,target=/dev/shm,size=3m";
    assert_eq!(out(&home, own, size, &["--shm-size", "2m"]), "3072\n1777\n");
}

#[test]
fn names_of_the_step_and_of_other_hosts_are_set() {
    let home = TestHome::sub();
    let names = "hostname; cat /etc/hosts; env | grep -c BUILDKIT";
    let told = out(&home, "", names, &[]);
    assert!(
        told.starts_with("buildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n"),
        "{told}"
    );
    let told = out(
        &home,
        "",
        names,
        &[
            "--build-arg",
            "BUILDKIT_SANDBOX_HOSTNAME=box",
            "--add-host",
            "db:10.0.0.7",
        ],
    );
    assert!(
        told.starts_with("box\n127.0.0.1\tlocalhost box\n"),
        "{told}"
    );
    assert!(told.contains("10.0.0.7\tdb\n"), "{told}");
    assert!(told.ends_with("0\n"), "{told}");
}
