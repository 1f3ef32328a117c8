//! What a command cannot see or do.

use ashlar_exec::sandbox::RunError;
use ashlar_model::step::Network;

use crate::rig::{ALL, Rig, User};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, isolation::the_command_has_the_default_capabilities),
    test!(
        ALL,
        isolation::the_command_is_alone_in_its_process_namespace
    ),
    test!(ALL, isolation::devices_are_those_that_every_program_needs),
    test!(ALL, isolation::kernel_files_are_masked_or_read_only),
    test!(ALL, isolation::no_network_is_a_loopback_interface),
    test!(ALL, isolation::nothing_of_the_builder_is_open_or_reachable),
    test!(ALL, isolation::the_machines_root_is_out_of_reach),
];

pub(crate) fn the_command_has_the_default_capabilities(rig: &Rig) {
    // Without a shell, which has its own mind about signals.
    let lines = "^(Cap|NoNewPrivs|Seccomp:|SigIgn|SigBlk)";
    let status = rig
        .run(rig.command(&["grep", "-E", lines, "/proc/self/status"]))
        .stdout();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or_default()
            .to_owned()
    };
    // Docker's: capsh --decode=00000000a80425fb.
    let defaults = "00000000a80425fb";
    assert_eq!(field("CapEff"), defaults);
    assert_eq!(field("CapPrm"), defaults);
    assert_eq!(field("CapBnd"), defaults);
    assert_eq!(field("CapInh"), "0000000000000000");
    assert_eq!(field("CapAmb"), "0000000000000000");
    assert_eq!(
        field("NoNewPrivs"),
        if rig.user == User::One { "1" } else { "0" }
    );
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("SigIgn"), "0000000000000000");
    assert_eq!(field("SigBlk"), "0000000000000000");
}

pub(crate) fn the_command_is_alone_in_its_process_namespace(rig: &Rig) {
    let processes = rig.run_shell("ls -d /proc/[0-9]*; echo $$").stdout();
    let lines: Vec<_> = processes.lines().collect();
    assert_eq!(lines, ["/proc/1", "/proc/2", "2"], "init and the shell");
    // Init has rights that the command lacks, so it cannot be looked into or killed.
    let finished = rig
        .run_shell("readlink /proc/1/exe /proc/1/fd/*; cat /proc/1/environ; kill -9 1; echo alive");
    assert_eq!(finished.stdout(), "alive\n");
}

pub(crate) fn devices_are_those_that_every_program_needs(rig: &Rig) {
    assert_eq!(
        rig.run_shell("ls /dev").stdout(),
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n"
    );
    // `>` opens with O_CREAT, which a sticky /dev would refuse.
    rig.run_shell(
        "echo x >/dev/null && head -c 4 /dev/zero >/dev/shm/z && ls /dev/pts /dev/mqueue",
    )
    .stdout();
    let mounts = rig
        .run_shell("grep -E ' /dev/(shm|pts) ' /proc/mounts")
        .stdout();
    assert!(
        mounts.contains("size=65536k") && mounts.contains("ptmxmode=666"),
        "{mounts}"
    );
    // A device of the command's own making cannot be opened.
    let finished = rig.run_shell("mknod /mem c 1 5 && cat /mem");
    let complaint = finished.written.stderr();
    assert!(
        complaint.contains("not permitted") || complaint.contains("denied"),
        "{complaint}"
    );
}

pub(crate) fn kernel_files_are_masked_or_read_only(rig: &Rig) {
    let mounts = rig.run_shell("cat /proc/mounts").stdout();
    let options = |path: &str| {
        let line = mounts
            .lines()
            .rfind(|line| line.split(' ').nth(1) == Some(path));
        line.and_then(|line| line.split(' ').nth(3))
            .unwrap_or_default()
            .to_owned()
    };
    assert!(options("/sys").starts_with("ro,"), "{mounts}");
    assert!(
        options("/proc").starts_with("rw,nosuid,nodev,noexec"),
        "{mounts}"
    );
    assert!(options("/proc/sys").starts_with("ro,"), "{mounts}");
    if std::path::Path::new("/proc/sysrq-trigger").exists() {
        assert!(
            options("/proc/sysrq-trigger").starts_with("ro,"),
            "{mounts}"
        );
    }
    let finished = rig.run_shell(
        "for file in keys kcore timer_list; do test ! -e /proc/$file || cat /proc/$file; done; \
         ls /sys/firmware /proc/acpi /proc/scsi 2>/dev/null | grep -v : ; \
         echo c >/proc/sysrq-trigger",
    );
    assert_eq!(finished.written.stdout().trim(), "", "{finished:?}");
    assert!(
        finished.written.stderr().contains("sysrq-trigger"),
        "{finished:?}"
    );
}

pub(crate) fn no_network_is_a_loopback_interface(rig: &Rig) {
    let mut spec = rig
        .shell("ls -d /sys/class/net/*/; grep : /proc/net/dev; ifconfig lo; cat /etc/resolv.conf");
    spec.network = Network::None;
    let stdout = rig.run(spec).stdout();
    let in_sys: Vec<&str> = stdout.lines().filter(|l| l.starts_with("/sys")).collect();
    assert_eq!(in_sys, ["/sys/class/net/lo/"]);
    assert_eq!(
        stdout
            .lines()
            .filter(|line| line.trim_start().starts_with("lo:"))
            .count(),
        1
    );
    assert!(
        !stdout.contains("eth") && !stdout.contains("nameserver"),
        "{stdout}"
    );
    assert!(
        stdout.contains("inet addr:127.0.0.1") && stdout.contains("UP LOOPBACK RUNNING"),
        "{stdout}"
    );

    let own = rig.run_shell("readlink /proc/self/ns/net").stdout();
    let machine = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        own.trim(),
        machine.to_str().unwrap(),
        "the host's network is the host's"
    );
}

pub(crate) fn nothing_of_the_builder_is_open_or_reachable(rig: &Rig) {
    let stdout = rig.run_shell("ls -l /proc/self/fd").stdout();
    // The three streams, and the directory that ls reads.
    assert_eq!(
        stdout.lines().filter(|line| line.starts_with('l')).count(),
        4,
        "{stdout}"
    );
    let own = rig
        .run_shell("for kind in ipc mnt pid uts; do readlink /proc/self/ns/$kind; done")
        .stdout();
    for line in own.lines() {
        let kind = line.split(':').next().unwrap();
        let machine = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(line, machine.to_str().unwrap());
    }
}

pub(crate) fn the_machines_root_is_out_of_reach(rig: &Rig) {
    let mounts = rig.run_shell("cat /proc/self/mountinfo").stdout();
    assert!(!mounts.contains(" /work"), "{mounts}");
    assert!(mounts.lines().next().unwrap().contains(" / / "), "{mounts}");
    let finished =
        rig.run_shell("mount -t tmpfs none /tmp; unshare -m true; chroot /tmp true; true");
    let complaints = finished.written.stderr();
    assert!(
        complaints.contains("mount: ") && complaints.contains("unshare: "),
        "{complaints}"
    );
    // A program that is its own parent's file gets no way to write to it (CVE-2019-5736).
    let layer = rig.layer_with("breakout", &[("run", "#!/proc/self/exe\n")]);
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(layer.join("run"), permissions).unwrap();
    let mut spec = rig.command(&["/run"]);
    spec.root.lowers.push(layer);
    let result = rig.run(spec).result;
    assert!(
        matches!(&result, Ok(_) | Err(RunError::Setup(_))),
        "{result:?}"
    );
}
