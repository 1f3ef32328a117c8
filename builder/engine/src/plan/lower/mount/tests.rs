//! RUN and its flags, row by row of what BuildKit's documentation and source say.

use ashlar_model::mount::{
    BindMount, CacheMount, CacheSharing, MountSource, MountSpec, OptionalOwner, Owner, SecretFile,
    SecretMount, SshMount, TmpfsMount,
};
use ashlar_model::step::{Network, Security};

use crate::plan::NamedContext;
use crate::plan::testing::{Planned, plan_with, planned, refused};

/// The mounts of one RUN in an otherwise empty stage.
fn mounts(flags: &str) -> Vec<MountSpec> {
    let planned = planned(&format!("FROM scratch\nWORKDIR /w\nRUN {flags} x\n"));
    planned.run(0).mounts.clone()
}

fn only(flags: &str) -> MountSpec {
    let mut mounts = mounts(flags);
    assert_eq!(mounts.len(), 1);
    mounts.remove(0)
}

fn owner(mode: u32, uid: u32, gid: u32) -> Owner {
    Owner { mode, uid, gid }
}

fn at(path: &str) -> MountSource {
    MountSource {
        layers: Vec::new(),
        path: path.to_owned(),
    }
}

fn cache(target: &str, id: &str) -> CacheMount {
    CacheMount {
        target: target.to_owned(),
        id: id.to_owned(),
        sharing: CacheSharing::Shared,
        seed: None,
        owner: OptionalOwner::default(),
        read_only: false,
    }
}

#[test]
fn a_bind_shows_the_context_through_a_filesystem_of_its_own() {
    let planned = planned("FROM a\nRUN --mount=source=sub/../d[1],target=/m x\n");
    let copy = planned.copy(0);
    assert_eq!(copy.destination, "/files");
    assert_eq!(copy.owner, None);
    let run = planned.run(0);
    assert_eq!(
        run.mounts,
        [MountSpec::Bind(BindMount {
            target: "/m".into(),
            source: at("/files"),
            read_only: true,
        })]
    );
    assert!(
        planned
            .names
            .contains(&"[internal] load /d[1] to be mounted".to_owned()),
        "{:?}",
        planned.names
    );
    let (id, node) = planned.plan.graph.nodes().last().unwrap();
    assert_eq!(id, planned.plan.target);
    let source = node.source_nodes()[0];
    let copied = planned.plan.graph.node(source);
    assert!(copied.name.starts_with("[internal] load"));
}

#[test]
fn a_bind_may_be_written_to() {
    let MountSpec::Bind(bind) = only("--mount=type=bind,target=.,rw") else {
        panic!("no bind")
    };
    assert!(!bind.read_only);
    assert_eq!(bind.target, "/w");
}

#[test]
fn a_bind_from_a_stage_an_image_a_context_and_nothing() {
    let text = "FROM a AS one\nRUN one\nFROM b\n\
                RUN --mount=from=ONE,source=/etc,target=/1 \
                --mount=from=tools:2,target=/2 \
                --mount=from=dir,source=f,target=/3 \
                --mount=from=scratch,target=/4 \
                --mount=from=0,target=/5 x\n";
    let planned = plan_with(text, |options| {
        let directory = NamedContext::Directory("/somewhere".into());
        options.contexts.insert("dir".into(), directory);
    })
    .unwrap();
    let paths: Vec<&str> = planned
        .run(1)
        .mounts
        .iter()
        .map(|mount| mount.source().unwrap().path.as_str())
        .collect();
    assert_eq!(paths, ["/etc", "/", "/files", "/", "/"]);
    // Unlike COPY's, a mount's `from` is never a number.
    assert_eq!(
        planned.images,
        ["a:latest", "b:latest", "tools:2", "0:latest"]
    );
}

#[test]
fn a_stage_that_is_only_mounted_is_built() {
    let planned = planned(
        "FROM scratch AS one\nRUN one\nFROM scratch AS two\nRUN two\nFROM scratch\n\
         RUN --mount=from=one,target=/m x\n",
    );
    assert_eq!(planned.ops().len(), 2);
    assert_eq!(planned.run(0).args.last().unwrap(), "one");
}

#[test]
fn a_mount_from_a_stage_that_is_not_before_is_refused() {
    let error = refused(
        "FROM scratch\nRUN --mount=from=two,target=/m x\nFROM scratch AS two\n\
                         FROM 0\nCOPY --from=0 / /\n",
    );
    assert_eq!(
        error.message,
        "cannot mount from stage \"two\" to \"/m\", stage needs to be defined before current \
         command"
    );
    let error = refused("FROM scratch AS me\nRUN --mount=from=me,target=/m x\n");
    assert_eq!(error.message, "circular dependency detected on stage: me");
    assert!(error.place.unwrap().caret.is_some());
}

#[test]
fn a_missing_source_is_told_where_it_stands() {
    let error = refused("FROM scratch\nRUN --mount=source=absent,target=/m x\n");
    assert!(error.message.contains("not found"), "{error}");
    let place = error.place.unwrap();
    assert_eq!(place.range.start.line, 2);
    assert!(place.snippet().contains("^^^^^^"), "{}", place.snippet());
}

#[test]
fn a_cache_has_a_name_and_a_way_of_sharing() {
    assert_eq!(
        only("--mount=type=cache,target=/c/../d/"),
        MountSpec::Cache(cache("/d", "//d"))
    );
    assert_eq!(
        only("--mount=type=cache,target=rel"),
        MountSpec::Cache(cache("/w/rel", "/rel"))
    );
    assert_eq!(
        only("--mount=type=cache,target=/c,id=i,sharing=locked,ro,mode=0700,uid=1,gid=2"),
        MountSpec::Cache(CacheMount {
            sharing: CacheSharing::Locked,
            read_only: true,
            owner: OptionalOwner {
                mode: Some(0o700),
                uid: Some(1),
                gid: Some(2),
            },
            ..cache("/c", "/i")
        })
    );
}

#[test]
fn caches_of_a_namespace_are_its_own() {
    let planned = plan_with(
        "FROM scratch\nRUN --mount=type=cache,target=/c,id=i x\n",
        |options| {
            let (name, value) = ("BUILDKIT_CACHE_MOUNT_NS", "team");
            options.build_args.insert(name.into(), value.into());
        },
    )
    .unwrap();
    let run = planned.run(0);
    assert_eq!(run.mounts, [MountSpec::Cache(cache("/c", "team/i"))]);
    assert_eq!(run.env.len(), 1, "{:?}", run.env);
}

#[test]
fn a_cache_may_begin_with_the_files_of_a_stage() {
    let planned =
        planned("FROM a AS seed\nFROM b\nRUN --mount=type=cache,target=/c,from=seed,source=/s x\n");
    let MountSpec::Cache(cache) = &planned.run(0).mounts[0] else {
        panic!("no cache")
    };
    assert_eq!(cache.seed, Some(at("/s")));
    let error = refused("FROM a\nRUN --mount=type=cache,target=/c,source=/s x\n");
    assert!(error.message.contains("\"/s\": not found"), "{error}");
}

#[test]
fn a_tmpfs_has_a_size() {
    assert_eq!(
        only("--mount=type=tmpfs,target=/t,size=64m"),
        MountSpec::Tmpfs(TmpfsMount {
            target: "/t".into(),
            size: Some(64 << 20),
            read_only: false,
        })
    );
}

#[test]
fn a_secret_is_a_file_or_a_variable_or_both() {
    let secret = |id: &str, file: Option<(&str, Owner)>, env: Option<&str>| {
        MountSpec::Secret(SecretMount {
            id: id.to_owned(),
            file: file.map(|(target, owner)| SecretFile {
                target: target.to_owned(),
                owner,
            }),
            env: env.map(str::to_owned),
            required: false,
        })
    };
    let usual = owner(0o400, 0, 0);
    for (flags, expected) in [
        (
            "id=a/b",
            secret("a/b", Some(("/run/secrets/b", usual)), None),
        ),
        (
            "source=a",
            secret("a", Some(("/run/secrets/a", usual)), None),
        ),
        ("target=/x/y", secret("y", Some(("/x/y", usual)), None)),
        ("id=a,target=y", secret("a", Some(("/w/y", usual)), None)),
        ("id=a,env=E", secret("a", None, Some("E"))),
        (
            "id=a,env=E,target=/y",
            secret("a", Some(("/y", usual)), Some("E")),
        ),
        (
            "id=a,mode=0444,uid=3",
            secret("a", Some(("/run/secrets/a", owner(0o444, 3, 0))), None),
        ),
    ] {
        assert_eq!(
            only(&format!("--mount=type=secret,{flags}")),
            expected,
            "{flags}"
        );
    }
    let MountSpec::Secret(required) = only("--mount=type=secret,id=a,required") else {
        panic!("no secret")
    };
    assert!(required.required);
}

#[test]
fn an_agent_is_named_by_the_environment() {
    let planned = planned(
        "FROM scratch\nRUN --mount=type=ssh --mount=type=ssh,id=o,mode=0666,uid=1 x\n\
         ENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh,target=/s,required=true y\n",
    );
    let first = planned.run(0);
    assert_eq!(
        first.mounts,
        [
            MountSpec::Ssh(SshMount {
                id: "default".into(),
                target: "/run/buildkit/ssh_agent.0".into(),
                owner: owner(0o600, 0, 0),
                required: false,
            }),
            MountSpec::Ssh(SshMount {
                id: "o".into(),
                target: "/run/buildkit/ssh_agent.1".into(),
                owner: owner(0o666, 1, 0),
                required: false,
            }),
        ]
    );
    let variable = |number: usize| planned.env(number).last().cloned().unwrap();
    assert_eq!(variable(0), "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0");
    assert_eq!(variable(1), "SSH_AUTH_SOCK=/own");
}

#[test]
fn values_of_mounts_are_expanded() {
    let planned =
        planned("FROM scratch\nARG N=name T=cache\nRUN --mount=type=$T,id=${N}-x,target=/$N x\n");
    assert_eq!(
        planned.run(0).mounts,
        [MountSpec::Cache(cache("/name", "/name-x"))]
    );
}

#[test]
fn a_target_is_below_the_root() {
    for flags in ["--mount=target=/", "--mount=type=tmpfs,target=/a/.."] {
        let error = refused(&format!("FROM scratch\nRUN {flags} x\n"));
        assert_eq!(error.message, "invalid mount target \"/\"");
    }
    // The working directory of an empty image is the root.
    refused("FROM scratch\nRUN --mount=type=cache x\n");
}

#[test]
fn mounts_leave_no_history() {
    let planned = planned(
        "FROM scratch\nRUN --mount=type=secret,id=a --mount=type=cache,target=/c --network=none x\n",
    );
    assert_eq!(planned.history(), ["RUN /bin/sh -c x # buildkit"]);
}

#[test]
fn rights_are_given_only_with_consent() {
    let text = "FROM scratch\nRUN --security=insecure x\n";
    let error = refused(text);
    assert_eq!(error.message, "security.insecure is not allowed");
    assert!(error.hint.unwrap().contains("--allow security.insecure"));
    let allowed = plan_with(text, |options| options.allowed.insecure = true).unwrap();
    assert_eq!(allowed.run(0).security, Security::Insecure);
    let usual = planned("FROM scratch\nRUN --security=sandbox x\n");
    assert_eq!(usual.run(0).security, Security::Sandbox);
}

#[test]
fn the_instruction_says_which_network_unless_there_is_to_be_none() {
    let text =
        "FROM scratch\nRUN --network=host a\nRUN --network=none b\nRUN --network=default c\n";
    let networks = |planned: &Planned| [0, 1, 2].map(|number| planned.run(number).network);
    assert_eq!(
        networks(&planned(text)),
        [Network::Host, Network::None, Network::Host]
    );
    let without = plan_with(text, |options| options.network = Network::None);
    let error = without.map(|planned| planned.names).unwrap_err();
    assert_eq!(error.message, "network.host is not allowed");
    let allowed = plan_with(text, |options| {
        options.network = Network::None;
        options.allowed.host_network = true;
    })
    .unwrap();
    assert_eq!(
        networks(&allowed),
        [Network::Host, Network::None, Network::None]
    );
}

#[test]
fn devices_are_refused_by_their_name() {
    let error = refused("FROM scratch\nRUN --device=vendor.com/gpu=all x\n");
    assert!(error.message.contains("Container Device Interface (CDI)"));
    assert!(error.message.contains("vendor.com/gpu=all"));
}

#[test]
fn the_command_line_sets_host_name_memory_and_limits() {
    let given = plan_with("FROM scratch\nRUN x\n", |options| {
        let (name, value) = ("BUILDKIT_SANDBOX_HOSTNAME", "box");
        options.build_args.insert(name.into(), value.into());
        options.shm_size = Some(1 << 20);
        options.ulimits.push(ashlar_model::step::Ulimit {
            name: "nofile".into(),
            soft: Some(10),
            hard: Some(20),
        });
    })
    .unwrap();
    let run = given.run(0);
    assert_eq!(run.hostname, "box");
    assert_eq!(
        run.mounts,
        [MountSpec::Tmpfs(TmpfsMount {
            target: "/dev/shm".into(),
            size: Some(1 << 20),
            read_only: false,
        })]
    );
    assert_eq!(run.ulimits.len(), 1);
    assert_eq!(
        planned("FROM scratch\nRUN x\n").run(0).hostname,
        "buildkitsandbox"
    );
}
