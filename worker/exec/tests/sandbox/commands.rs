//! What a command sees of its specification.

use ashlar_exec::sandbox::{BindMount, Mount, RunError, SetupError};
use ashlar_model::executor::ExitStatus;
use ashlar_model::step::{ExtraHost, Script};

use crate::rig::{ALL, Rig};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(ALL, commands::output_and_exit_code_come_back),
    test!(ALL, commands::a_signal_is_told_apart_from_a_code),
    test!(
        ALL,
        commands::environment_directory_and_host_name_are_as_asked
    ),
    test!(
        ALL,
        commands::hosts_and_resolver_are_generated_and_read_only
    ),
    test!(ALL, commands::a_script_is_there_while_the_command_runs),
    test!(ALL, commands::binds_show_the_machines_files),
    test!(ALL, commands::commands_that_cannot_be_started_say_why),
];

pub(crate) fn output_and_exit_code_come_back(rig: &Rig) {
    let finished = rig.run_shell("echo out; echo err >&2; exit 7");
    assert_eq!(finished.result.unwrap(), ExitStatus::Code(7));
    assert_eq!(finished.written.stdout(), "out\n");
    assert_eq!(finished.written.stderr(), "err\n");

    // More than a pipe holds, to the last byte.
    let finished = rig.run_shell("dd if=/dev/zero bs=1000 count=1000 2>/dev/null");
    assert_eq!(finished.stdout().len(), 1_000_000);
}

pub(crate) fn a_signal_is_told_apart_from_a_code(rig: &Rig) {
    assert_eq!(
        rig.run_shell("kill -15 $$").result.unwrap(),
        ExitStatus::Signal(15)
    );
    assert_eq!(
        rig.run_shell("kill -9 $$").result.unwrap(),
        ExitStatus::Signal(9)
    );
    assert_eq!(
        rig.run_shell("exit 143").result.unwrap(),
        ExitStatus::Code(143)
    );
}

pub(crate) fn environment_directory_and_host_name_are_as_asked(rig: &Rig) {
    let mut spec = rig.command(&["env"]);
    spec.env
        .push(("GREETING".to_owned(), "hello world".to_owned()));
    assert_eq!(
        rig.run(spec).stdout(),
        "PATH=/bin\nGREETING=hello world\nHOME=/\n"
    );

    let mut spec = rig.shell("pwd; hostname; umask; stat -c '%a' /made /made/here");
    spec.cwd = "/made/here".to_owned();
    assert_eq!(rig.run(spec).stdout(), "/made/here\nbox\n0022\n755\n755\n");
}

pub(crate) fn hosts_and_resolver_are_generated_and_read_only(rig: &Rig) {
    let mut spec = rig.shell(
        "cat /etc/hosts; cat /etc/resolv.conf; echo x >/etc/hosts; echo x >/etc/resolv.conf; true",
    );
    spec.extra_hosts = vec![ExtraHost {
        name: "db".to_owned(),
        address: "10.1.2.3".parse().unwrap(),
    }];
    let finished = rig.run(spec);
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(
        finished.stdout(),
        format!(
            "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb\n{resolver}"
        )
    );
    assert_eq!(
        finished
            .written
            .stderr()
            .matches("Read-only file system")
            .count(),
        2
    );
    assert_eq!(finished.layer(), [].into());
}

pub(crate) fn a_script_is_there_while_the_command_runs(rig: &Rig) {
    let mut spec = rig.command(&["/dev/pipes/run", "argument"]);
    spec.script = Some(Script {
        path: "/dev/pipes/run".to_owned(),
        body: "#!/bin/sh\necho \"$0 $1\"; ls -l /dev/pipes/run; echo x >>/dev/pipes/run".to_owned(),
    });
    let finished = rig.run(spec);
    assert!(
        finished
            .written
            .stdout()
            .starts_with("/dev/pipes/run argument\n-rwxr-xr-x"),
        "{finished:?}"
    );
    assert!(
        finished.written.stderr().contains("Read-only"),
        "{finished:?}"
    );
    assert_eq!(finished.layer(), [].into());

    let mut spec = rig.command(&["/opt/scripts/run"]);
    spec.script = Some(Script {
        path: "/opt/scripts/run".to_owned(),
        body: "#!/bin/sh\necho in the root".to_owned(),
    });
    let finished = rig.run(spec);
    assert_eq!(finished.stdout(), "in the root\n");
    assert_eq!(
        finished.layer(),
        [].into(),
        "neither the script nor its directories stay"
    );
}

pub(crate) fn binds_show_the_machines_files(rig: &Rig) {
    let source = rig.layer_with("source", &[("file", "from outside")]);
    let bind = |destination: &str, read_only| BindMount {
        source: source.clone(),
        destination: destination.to_owned(),
        read_only,
        recursive: true,
    };
    let mut spec = rig.shell("cat /a/b/file /ro/file; echo inside >/a/b/new; echo x >/ro/new");
    spec.mounts = vec![
        Mount::Host(bind("/a/b", false)),
        Mount::Host(bind("/ro", true)),
    ];
    let finished = rig.run(spec);
    assert_eq!(finished.written.stdout(), "from outsidefrom outside");
    assert!(finished.written.stderr().contains("Read-only file system"));
    assert_eq!(
        std::fs::read_to_string(source.join("new")).unwrap(),
        "inside\n"
    );
    assert_eq!(finished.layer(), [].into());

    let mut spec = rig.shell("true");
    spec.mounts = vec![Mount::Host(BindMount {
        source: source.join("none"),
        ..bind("/x", true)
    })];
    let error = rig.run(spec).result.unwrap_err();
    let RunError::Setup(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        error
            .to_string()
            .ends_with("/source/none cannot be mounted at /x in the container")
    );
}

pub(crate) fn commands_that_cannot_be_started_say_why(rig: &Rig) {
    let layer = rig.layer_with(
        "bad",
        &[("bin/text", "no program"), ("bin/script", "#!/no/shell\n")],
    );
    for (name, mode) in [("text", 0o755), ("script", 0o755)] {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(layer.join("bin").join(name), permissions).unwrap();
    }
    std::fs::write(layer.join("bin/data"), "").unwrap();
    let start = |command: &str| {
        let mut spec = rig.command(&[command]);
        spec.root.lowers.push(layer.clone());
        match rig.run(spec).result {
            Err(RunError::Setup(error)) => error,
            result => panic!("{command}: {result:?}"),
        }
    };
    let error = start("none");
    assert_eq!(
        error.to_string(),
        "exec: \"none\": executable file not found in $PATH"
    );
    let cause = |error: &SetupError| {
        std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    assert_eq!(
        cause(&start("/bin/none")),
        "No such file or directory (os error 2)"
    );
    assert_eq!(
        cause(&start("script")),
        "No such file or directory (os error 2)"
    );
    assert_eq!(cause(&start("data")), "Permission denied (os error 13)");
    assert_eq!(cause(&start("/bin")), "Permission denied (os error 13)");
    let error = start("text");
    assert_eq!(cause(&error), "Exec format error (os error 8)");
    assert!(error.hint().unwrap().contains("#!"));

    let mut spec = rig.command(&[]);
    spec.args.clear();
    assert!(matches!(
        rig.run(spec).result,
        Err(RunError::Setup(SetupError::BadSpec { .. }))
    ));
}
