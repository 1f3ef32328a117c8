//! As whom a command runs.

use std::path::Path;
use std::process::{Command, ExitCode};

use ashlar_exec::sandbox::user::UserError;
use ashlar_exec::sandbox::{
    ContainerSpec, IdChoice, IdMode, RunError, SandboxConfig, SandboxHelper, SetupError,
    SingleReason,
};

use crate::rig::{ALL, MANY, ONE, Rig, SUB, owner};
use crate::{Test, test};

pub(crate) const TESTS: &[Test] = &[
    test!(MANY, users::names_are_looked_up_in_the_image),
    test!(MANY, users::another_user_owns_what_it_makes),
    test!(
        MANY,
        users::another_user_has_no_capabilities_but_can_use_its_streams
    ),
    test!(ALL, users::an_unknown_user_is_an_error),
    test!(ONE, users::other_users_do_not_exist_in_one_uid_mode),
    test!(MANY, users::an_id_beyond_the_range_is_refused),
    test!(SUB, users::without_newuidmap_there_is_one_id_and_a_reason),
    test!(SUB, users::one_id_can_be_asked_for),
];

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:root\naudio:x:29:app\napp:x:1000:\n";

fn as_user(rig: &Rig, user: &str, command: &str) -> ContainerSpec {
    let accounts = rig.layer_with("accounts", &[("etc/passwd", PASSWD), ("etc/group", GROUP)]);
    let mut spec = rig.shell(command);
    spec.root.lowers.push(accounts);
    spec.user = user.to_owned();
    spec
}

pub(crate) fn names_are_looked_up_in_the_image(rig: &Rig) {
    let ids = |user: &str| {
        rig.run(as_user(
            rig,
            user,
            "grep -E '^(Uid|Gid|Groups)' /proc/self/status; echo $HOME",
        ))
        .stdout()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
    };
    assert_eq!(ids(""), "Uid: 0 0 0 0 Gid: 0 0 0 0 Groups: 0 10 /root");
    assert_eq!(
        ids("app"),
        "Uid: 1000 1000 1000 1000 Gid: 1000 1000 1000 1000 Groups: 29 1000 /home/app"
    );
    assert_eq!(
        ids("app:audio"),
        "Uid: 1000 1000 1000 1000 Gid: 29 29 29 29 Groups: 29 /home/app"
    );
    assert_eq!(
        ids("1234"),
        "Uid: 1234 1234 1234 1234 Gid: 0 0 0 0 Groups: 0 /"
    );
}

pub(crate) fn another_user_owns_what_it_makes(rig: &Rig) {
    let mut spec = as_user(rig, "app", "touch mine; touch /etc/no; ls -ld . mine");
    spec.cwd = "/home/app/work".to_owned();
    let finished = rig.run(spec);
    let map = rig.helper.id_map();
    let app = (
        map.user_to_host(1000).unwrap(),
        map.group_to_host(1000).unwrap(),
    );
    for path in ["home", "home/app", "home/app/work", "home/app/work/mine"] {
        assert_eq!(owner(&finished.upper.join(path)), app, "{path}");
    }
    assert!(
        finished
            .written
            .stderr()
            .contains("/etc/no: Permission denied"),
        "{finished:?}"
    );
}

pub(crate) fn another_user_has_no_capabilities_but_can_use_its_streams(rig: &Rig) {
    let command =
        "grep ^CapEff /proc/self/status; echo by name >/dev/stdout; echo too >/dev/stderr";
    let finished = rig.run(as_user(rig, "app", command));
    assert_eq!(finished.stdout(), "CapEff:\t0000000000000000\nby name\n");
    assert_eq!(finished.written.stderr(), "too\n");
}

pub(crate) fn an_unknown_user_is_an_error(rig: &Rig) {
    let error = rig.run(as_user(rig, "nobody", "true")).result.unwrap_err();
    let RunError::Setup(SetupError::User(UserError::UnknownUser { name })) = error else {
        panic!("{error:?}")
    };
    assert_eq!(name, "nobody");
}

pub(crate) fn other_users_do_not_exist_in_one_uid_mode(rig: &Rig) {
    assert_eq!(rig.run(as_user(rig, "root", "id -u")).stdout(), "0\n");
    let error = rig.run(as_user(rig, "app", "true")).result.unwrap_err();
    let RunError::Setup(SetupError::UnmappedId { kind, id }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((kind.as_str(), id), ("user", 1000));
    // Ownership cannot be changed, and the command hears of it.
    let finished = rig.run_shell("touch /f && chown 33 /f");
    assert!(
        finished.written.stderr().contains("Invalid argument"),
        "{finished:?}"
    );
}

pub(crate) fn an_id_beyond_the_range_is_refused(rig: &Rig) {
    let result = rig.run(as_user(rig, "4000000000", "true")).result;
    match rig.helper.id_map().user_to_host(4_000_000_000) {
        Some(_) => assert!(result.is_ok(), "{result:?}"),
        None => assert!(
            matches!(
                &result,
                Err(RunError::Setup(SetupError::UnmappedId {
                    id: 4_000_000_000,
                    ..
                }))
            ),
            "{result:?}"
        ),
    }
}

/// Starts a sandbox and says which ids it has.
pub(crate) fn print_mode(directory: &Path) -> ExitCode {
    let config = SandboxConfig {
        directory: directory.to_owned(),
        ids: IdChoice::Best,
    };
    let helper = SandboxHelper::start(&config).unwrap();
    println!(
        "{:?}: {}",
        helper.id_map().mode(),
        helper.id_map().missing_ids_hint().unwrap()
    );
    ExitCode::SUCCESS
}

pub(crate) fn without_newuidmap_there_is_one_id_and_a_reason(rig: &Rig) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([Path::new("--mode"), &rig.directory.join("other")])
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("Single: only one user id exists"),
        "{text}"
    );
    assert!(
        text.contains("newuidmap cannot be run: No such file or directory"),
        "{text}"
    );
}

pub(crate) fn one_id_can_be_asked_for(rig: &Rig) {
    let config = SandboxConfig {
        directory: rig.directory.join("other"),
        ids: IdChoice::Single,
    };
    let helper = SandboxHelper::start(&config).unwrap();
    assert_eq!(helper.id_map().mode(), IdMode::Single);
    assert_eq!(helper.id_map().single_reason(), Some(&SingleReason::Asked));
    assert_eq!(
        helper.id_map().fingerprint(),
        format!("single-{}", rig.user.ids().0)
    );
}
