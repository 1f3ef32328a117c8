//! What a command sees from inside, told by a script that runs there.

use std::fs;
use std::path::Path;

use ashlar_test_support::bases;
use ashlar_test_support::home::TestHome;

/// The fourteen capabilities of Docker: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID
/// SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP, by their bits.
const CAPABILITIES: u64 = {
    let bits = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    let (mut mask, mut index) = (0, 0);
    while index < bits.len() {
        mask |= 1 << bits[index];
        index += 1;
    }
    mask
};

/// What a script prints when it runs in a busybox image.
fn probe(script: &str, options: &[&str]) -> String {
    let home = TestHome::sub();
    let context = home.context("context");
    context
        .dockerfile(
            &bases::busybox()
                .dockerfile("COPY --chmod=755 probe /probe\nRUN /probe > /facts 2>&1\n"),
        )
        .file("probe", format!("#!/bin/sh\n{script}\n"));
    let facts = home.build_text(&context, "/facts", options);
    home.assert_clean();
    facts
}

/// A field of /proc/self/status.
fn status<'a>(facts: &'a str, field: &str) -> &'a str {
    facts
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {field} in {facts}"))
        .trim()
}

#[test]
fn it_has_dockers_capabilities_and_no_more() {
    let facts = probe("cat /proc/self/status", &[]);
    for field in ["CapPrm", "CapEff", "CapBnd"] {
        let mask = u64::from_str_radix(status(&facts, field), 16).unwrap();
        assert_eq!(
            mask, CAPABILITIES,
            "{field} is {mask:x} and not {CAPABILITIES:x}"
        );
    }
    assert_eq!(status(&facts, "CapAmb"), "0000000000000000");
    assert_eq!(status(&facts, "NoNewPrivs"), "0");
    assert_eq!(status(&facts, "Uid"), "0\t0\t0\t0");
    assert_eq!(status(&facts, "Umask"), "0022");
}

#[test]
fn an_ordinary_user_inside_has_none() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox().dockerfile("USER app\nRUN cat /proc/self/status > /tmp/facts\n"),
    );
    let facts = home.build_text(&context, "/tmp/facts", &[]);
    assert_eq!(status(&facts, "CapEff"), "0000000000000000");
    assert_eq!(status(&facts, "CapPrm"), "0000000000000000");
    assert_eq!(status(&facts, "Uid"), "1000\t1000\t1000\t1000");
}

#[test]
fn its_namespaces_are_its_own_but_for_the_network() {
    let names = ["user", "mnt", "pid", "ipc", "uts", "net"];
    let script = "for n in user mnt pid ipc uts net; do readlink /proc/self/ns/$n; done";
    let facts = probe(script, &[]);
    for (name, inside) in names.iter().zip(facts.lines()) {
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let shared = Path::new(inside) == outside;
        assert_eq!(
            shared,
            *name == "net",
            "{name}: {inside} inside, {outside:?} outside"
        );
    }
}

#[test]
fn it_is_a_small_world_of_processes_with_an_init() {
    let facts = probe(
        "echo pid $$; echo init $(tr '\\0' ' ' < /proc/1/cmdline | wc -w); \
         echo count $(ls -d /proc/[0-9]* | wc -l)\n\
         (sleep 0.1 & ) ; sleep 0.5\n\
         echo zombies $(grep -l '^State:.*Z' /proc/[0-9]*/status 2>/dev/null | wc -l)",
        &[],
    );
    let number = |word: &str| -> u32 {
        let line = facts
            .lines()
            .find_map(|line| line.strip_prefix(word))
            .unwrap();
        line.trim().parse().unwrap()
    };
    assert!(number("pid") > 1, "the command is its own init: {facts}");
    assert!(
        number("count") < 10,
        "it sees more processes than its own: {facts}"
    );
    assert_eq!(number("zombies"), 0, "init does not reap: {facts}");
}

#[test]
fn ids_of_the_whole_range_are_there() {
    let facts = probe(
        "cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/f; \
         for id in 1 33 1000 65534; do chown $id:$id /tmp/f && stat -c %u:%g /tmp/f; done",
        &[],
    );
    for id in ["1:1", "33:33", "1000:1000", "65534:65534"] {
        assert!(
            facts.lines().any(|line| line == id),
            "{id} is missing: {facts}"
        );
    }
}

#[test]
fn devices_are_the_harmless_ones_and_work() {
    let facts = probe(
        "ls /dev; echo --; echo x > /dev/null && head -c 4 /dev/zero | wc -c && \
         head -c 4 /dev/urandom | wc -c; (echo x > /dev/full) 2>&1; echo new > /dev/null; \
         mkdir -p /dev/shm/d && echo shm; ls -l /dev/fd /dev/stdin; stat -c %a /dev/null; \
         ls /dev/pts; test -c /dev/ptmx -o -h /dev/ptmx && echo ptmx",
        &[],
    );
    let (list, rest) = facts.split_once("--\n").unwrap();
    let known = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
        "stderr", "stdin", "stdout", "tty", "urandom", "zero",
    ];
    for name in list.lines() {
        assert!(known.contains(&name), "/dev/{name} is there");
    }
    for name in [
        "fd", "full", "null", "ptmx", "pts", "random", "shm", "stdin", "tty", "zero",
    ] {
        assert!(
            list.lines().any(|own| own == name),
            "/dev/{name} is missing"
        );
    }
    for told in [
        "4\n4\n",
        "No space left",
        "shm",
        "/proc/self/fd",
        "666",
        "ptmx",
    ] {
        assert!(rest.contains(told), "{told:?} is missing: {rest}");
    }
}

#[test]
fn what_belongs_to_the_kernel_is_hidden_or_read_only() {
    let facts = probe(
        "for f in /proc/kcore /proc/keys /proc/timer_list; do \
             test -e $f && head -c 1 $f | wc -c; done; echo masked\n\
         for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/uevent_helper; do \
             (echo x > $f) 2>/dev/null && echo \"wrote $f\"; done; echo readonly\n\
         mount -t tmpfs none /tmp 2>/dev/null && echo mounted; \
         hostname other 2>/dev/null && echo renamed; \
         ls /sys/firmware 2>/dev/null | wc -l",
        &[],
    );
    let (masked, rest) = facts.split_once("masked\n").unwrap();
    assert!(
        masked.lines().all(|count| count.trim() == "0"),
        "not masked: {facts}"
    );
    for never in ["wrote", "mounted", "renamed"] {
        assert!(!rest.contains(never), "{never}: {facts}");
    }
    assert_eq!(
        rest.lines().last().unwrap().trim(),
        "0",
        "/sys/firmware is open"
    );
}

#[test]
fn names_are_resolved_as_on_the_host() {
    let facts = probe(
        "cat /etc/resolv.conf; echo --; cat /etc/hosts",
        &["--add-host", "quarry:10.1.2.3", "--add-host", "kiln=::5"],
    );
    let (resolver, hosts) = facts.split_once("--\n").unwrap();
    assert_eq!(resolver, fs::read_to_string("/etc/resolv.conf").unwrap());
    let has = |address: &str, name: &str| {
        hosts.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(address) && words.any(|word| word == name)
        })
    };
    assert!(
        has("127.0.0.1", "localhost") && has("::1", "localhost"),
        "{hosts}"
    );
    assert!(has("10.1.2.3", "quarry") && has("::5", "kiln"), "{hosts}");
}

#[test]
fn without_network_there_is_only_a_working_loopback() {
    let script = "ls /sys/class/net 2>/dev/null; ip -o link; ping -c 1 -W 1 127.0.0.1 >/dev/null \
                  && echo loopback; cat /proc/net/route | wc -l";
    let facts = probe(script, &["--network", "none"]);
    let links: Vec<&str> = facts.lines().filter(|line| line.contains(": <")).collect();
    assert_eq!(links.len(), 1, "{facts}");
    assert!(
        links[0].contains("lo:") && links[0].contains("UP"),
        "{facts}"
    );
    assert!(facts.contains("loopback"), "{facts}");

    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(
        &bases::busybox()
            .dockerfile("RUN --network=none ip -o link > /none\nRUN ip -o link > /host\n"),
    );
    let tree = home.build_tree(&context, &[]);
    assert_ne!(tree.at("none").kind, tree.at("host").kind);
}

#[test]
fn nothing_of_the_caller_gets_in() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN env | sort > /env; ls /proc/self/fd > /fds; cat > /stdin; ls / > /root-list; \
             cat /proc/self/mountinfo > /mounts\n",
    ));
    let out = home.path("out");
    home.build_command(
        &context,
        &["-o", &format!("type=local,dest={}", out.display())],
    )
    .env("SECRET_OF_THE_CALLER", "1")
    .input("input of the caller")
    .run()
    .success();
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let environment = text("env");
    let known = ["PATH", "HOME", "HOSTNAME", "PWD", "SHLVL", "OLDPWD"];
    for line in environment.lines() {
        let name = line.split('=').next().unwrap();
        assert!(known.contains(&name), "{line}");
    }
    assert!(environment.contains("HOME=/root\n"), "{environment}");
    // Standard input, output and error, and the one that `ls` reads.
    assert_eq!(text("fds"), "0\n1\n2\n3\n");
    assert_eq!(text("stdin"), "");
    let store = home.store().display().to_string();
    let below = text("mounts");
    let other_than_layers = below
        .lines()
        .find(|line| line.contains(&store) && !line.contains(" - overlay "));
    assert_eq!(other_than_layers, None);
}

#[test]
fn what_the_sandbox_mounts_leaves_no_trace_in_the_image() {
    let home = TestHome::sub();
    let context = home.context("context");
    // No directory of this image is one that a container needs.
    fs::copy("/bin/busybox", context.path().join("busybox")).unwrap();
    home.user().own(&context.path().join("busybox"));
    context.dockerfile(
        "FROM scratch\nCOPY busybox /busybox\n\
         RUN [\"/busybox\", \"sh\", \"-c\", \
             \"/busybox ls /proc/1 /dev/null /etc/hosts && /busybox touch /made\"]\n",
    );
    assert_eq!(
        home.build_tree(&context, &[]).names(),
        ["", "busybox", "made"]
    );

    // What the image itself has in these places is kept.
    context.dockerfile(&bases::busybox().dockerfile(
        "COPY Dockerfile /etc/hosts\nRUN mkdir -p /sys/x /proc/x 2>/dev/null; true\nRUN true\n",
    ));
    let tree = home.build_tree(&context, &[]);
    tree.at("etc/hosts")
        .has_content(fs::read(context.path().join("Dockerfile")).unwrap());
    assert!(
        tree.get("etc/resolv.conf").is_none(),
        "a mount point is in the image"
    );
    let base: Vec<String> = tree
        .names()
        .iter()
        .filter(|name| name.starts_with("dev/"))
        .map(ToString::to_string)
        .collect();
    assert!(base.is_empty(), "{base:?}");
}

#[test]
fn mount_points_change_no_time() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile("RUN true\n"));
    let tar = home.path("out.tar");
    let output = format!(
        "type=oci,tar=false,dest={},compression=uncompressed",
        tar.display()
    );
    home.build(&context, &["-o", &output]).success();
    let layout = ashlar_test_support::layout::Layout::open(&tar);
    let last = layout.blob_path(layout.layers().last().unwrap());
    let names = ashlar_test_support::judge::gnu_tar::names(&last);
    assert_eq!(
        names, [""; 0],
        "a command that does nothing has a layer with something in it"
    );
}

#[test]
fn daemons_end_with_their_step() {
    let home = TestHome::sub();
    let context = home.context("context");
    context.dockerfile(&bases::busybox().dockerfile(
        "RUN setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo started\n\
         RUN (sleep 1000 &) ; ls -d /proc/[0-9]* | wc -l\n",
    ));
    let output = home.build(&context, &[]);
    output
        .success()
        .progress()
        .assert_ran(&["RUN setsid", "RUN (sleep"]);
    assert!(output.elapsed().as_secs() < 60, "a daemon held the step up");
    home.assert_clean();
}
