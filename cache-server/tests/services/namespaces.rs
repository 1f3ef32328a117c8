//! What is whose: rights, chains, and blobs that are seen by those who hold them.

use std::time::Duration;

use ashlar_cache_server::audit::{Outcome, What};
use ashlar_proto::convert::duration_to_wire;
use ashlar_proto::missing;
use ashlar_proto::wire::{ext, reapi};
use tonic::{Code, Status};

use crate::harness::{number, wire};
use crate::teams::{BLAKE3, Caller, MAIN, OTHER, PULL, Teams, blob_of, result_with};

/// Every call of every service, in the caller's namespace, by its name.
#[expect(
    clippy::too_many_lines,
    reason = "one entry for each call that the server has"
)]
async fn every_call(caller: &Caller) -> Vec<(&'static str, Result<(), Status>)> {
    let instance_name = caller.instance.clone();
    let (digest_function, blob) = (number(BLAKE3), blob_of(b"any"));
    let digest = || Some(wire(&blob));
    let mut called = Vec::new();
    macro_rules! call {
        ($name:literal, $client:ident.$method:ident, $request:expr) => {
            called.push(($name, caller.$client().$method($request).await.map(drop)));
        };
    }
    called.push((
        "read: find missing",
        caller.missing(&[blob]).await.map(drop),
    ));
    called.push(("read: batch", caller.read(&blob).await.map(drop)));
    called.push(("read: stream", caller.read_stream(&blob).await.map(drop)));
    called.push(("read: result", caller.get("a").await.map(drop)));
    called.push(("read: probe", caller.probe(&["a"]).await.map(drop)));
    call!(
        "read: tree",
        cas.get_tree,
        reapi::GetTreeRequest {
            instance_name: instance_name.clone(),
            digest_function,
            root_digest: digest(),
            ..Default::default()
        }
    );
    call!(
        "read: split",
        cas.split_blob,
        reapi::SplitBlobRequest {
            instance_name: instance_name.clone(),
            digest_function,
            blob_digest: digest(),
            ..Default::default()
        }
    );
    call!(
        "read: mapping",
        cas.get_chunk_mapping,
        reapi::GetChunkMappingRequest {
            instance_name: instance_name.clone(),
            digest_function,
            blob_digest: digest(),
            ..Default::default()
        }
    );
    call!(
        "read: list",
        results.list,
        ext::ListRequest {
            instance_name: instance_name.clone(),
            ..Default::default()
        }
    );
    call!(
        "read: usage",
        results.usage,
        ext::UsageRequest {
            instance_name: instance_name.clone(),
        }
    );
    call!(
        "read: watch",
        leases.watch,
        ext::WatchRequest {
            instance_name: instance_name.clone(),
            key: "k".to_owned(),
        }
    );
    call!(
        "read: mount",
        mounts.latest,
        ext::LatestRequest {
            instance_name: instance_name.clone(),
            digest_function,
            name: "m".to_owned(),
        }
    );
    called.push(("write: batch", caller.upload_as(&blob, b"any").await));
    called.push((
        "write: stream",
        caller.stream_as(&blob, b"any").await.map(drop),
    ));
    let result = || result_with("f", &blob);
    called.push(("write: result", caller.update("a", result()).await));
    called.push((
        "write: commit",
        caller.commit("a", result()).await.map(drop),
    ));
    let status = ashlar_proto::wire::bytestream::QueryWriteStatusRequest {
        resource_name: caller.upload_name(&blob, "u"),
    };
    call!("write: status", bytes.query_write_status, status);
    call!(
        "write: splice",
        cas.splice_blob,
        reapi::SpliceBlobRequest {
            instance_name: instance_name.clone(),
            digest_function,
            blob_digest: digest(),
            chunk_digests: vec![wire(&blob)],
            ..Default::default()
        }
    );
    let mapping = reapi::RegisterChunkMappingRequest {
        instance_name: instance_name.clone(),
        digest_function,
        blob_digest: digest(),
        chunk_digests: vec![wire(&blob)],
        ..Default::default()
    };
    call!(
        "write: register",
        cas.register_chunk_mapping,
        tokio_stream::once(mapping)
    );
    call!(
        "write: mount",
        mounts.save,
        ext::SaveRequest {
            instance_name: instance_name.clone(),
            digest_function,
            name: "m".to_owned(),
            ..Default::default()
        }
    );
    call!(
        "lease: acquire",
        leases.acquire,
        ext::AcquireRequest {
            instance_name: instance_name.clone(),
            key: "k".to_owned(),
            holder: "h".to_owned(),
            ttl: Some(duration_to_wire(Duration::from_secs(5))),
        }
    );
    call!(
        "lease: renew",
        leases.renew,
        ext::RenewRequest {
            instance_name: instance_name.clone(),
            key: "k".to_owned(),
            token: "t".to_owned(),
        }
    );
    call!(
        "lease: release",
        leases.release,
        ext::ReleaseRequest {
            instance_name: instance_name.clone(),
            key: "k".to_owned(),
            token: "t".to_owned(),
        }
    );
    call!(
        "admin: pin",
        pins.pin,
        ext::PinRequest {
            instance_name: instance_name.clone(),
            digest_function,
            action: digest(),
            ttl: Some(duration_to_wire(Duration::from_secs(5))),
        }
    );
    call!(
        "admin: unpin",
        pins.unpin,
        ext::UnpinRequest {
            instance_name,
            digest_function,
            action: digest(),
        }
    );
    called
}

fn is_refused(outcome: &Result<(), Status>) -> bool {
    matches!(outcome, Err(status) if status.code() == Code::PermissionDenied)
}

#[tokio::test]
async fn every_call_needs_its_right_in_its_namespace() {
    let mut teams = Teams::new().await;
    let pull = teams.caller("pull").await;
    for (name, outcome) in every_call(&pull).await {
        let is_admins = name.starts_with("admin");
        assert_eq!(is_refused(&outcome), is_admins, "{name}: {outcome:?}");
    }
    drop(teams.events());
    // Not above, not beside, not with a name that only begins alike.
    for instance in [MAIN, OTHER, "", "acme", "acme/web/pr/170", "acme/web/pr"] {
        let calls = every_call(&pull.at(instance)).await;
        for (name, outcome) in &calls {
            assert!(is_refused(outcome), "{name} in `{instance}`: {outcome:?}");
        }
        let events = teams.events();
        assert_eq!(events.len(), calls.len());
        for event in events {
            assert_eq!(event.outcome, Outcome::Refused);
            assert_eq!(event.namespace.as_deref(), Some(instance));
            assert!(event.caller.contains("pull"), "{event:?}");
        }
    }
    let reader = teams.caller("read").await;
    for (name, outcome) in every_call(&reader).await {
        let is_read = name.starts_with("read");
        assert_eq!(is_refused(&outcome), !is_read, "{name}: {outcome:?}");
    }
    let root = teams.caller("root").await;
    for (name, outcome) in every_call(&root.at("any/where")).await {
        assert!(!is_refused(&outcome), "{name}: {outcome:?}");
    }
}

#[tokio::test]
async fn capabilities_say_what_the_caller_may_write() {
    let teams = Teams::new().await;
    let pull = teams.caller("pull").await;
    for (instance, may_write) in [(PULL, true), (MAIN, false), (OTHER, false)] {
        let request = reapi::GetCapabilitiesRequest {
            instance_name: instance.to_owned(),
        };
        let told = pull.capabilities().get_capabilities(request).await;
        let told = told.expect("capabilities").into_inner().cache_capabilities;
        let update = told.expect("a cache").action_cache_update_capabilities;
        assert_eq!(
            update.expect("said").update_enabled,
            may_write,
            "{instance}"
        );
    }
}

#[tokio::test]
async fn a_pull_request_reads_through_to_main_and_writes_its_own() {
    let mut teams = Teams::new().await;
    let (main, pull) = (teams.caller("main").await, teams.caller("pull").await);
    let record = main.upload(b"main's record").await;
    main.commit("a", result_with("result.json", &record))
        .await
        .expect("committed");

    let found = pull.get("a").await.expect("main's");
    assert_eq!(found.output_files[0].contents, &b"main's record"[..]);
    assert_eq!(pull.missing(&[record]).await.expect("answered"), []);
    assert_eq!(
        pull.read_stream(&record).await.expect("read"),
        b"main's record"
    );

    // Its own result comes first, and main does not see it.
    let own = pull.upload(b"the pull request's").await;
    pull.update("a", result_with("result.json", &own))
        .await
        .expect("written");
    pull.commit("b", result_with("result.json", &own))
        .await
        .expect("committed");
    let found = pull.get("a").await.expect("its own");
    assert_eq!(found.output_files[0].contents, &b"the pull request's"[..]);
    assert_eq!(
        pull.probe(&["x", "a", "b"]).await.expect("answered"),
        [1, 2]
    );
    let found = main.get("a").await.expect("main's");
    assert_eq!(found.output_files[0].contents, &b"main's record"[..]);
    assert_eq!(main.probe(&["x", "a", "b"]).await.expect("answered"), [1]);
    assert_eq!(main.missing(&[own]).await.expect("answered"), [own]);

    // What it writes may name what main holds.
    pull.commit("c", result_with("result.json", &record))
        .await
        .expect("committed");

    let written: Vec<_> = teams
        .events()
        .into_iter()
        .map(|event| {
            assert_eq!((event.what, event.outcome), (What::Write, Outcome::Done));
            (
                event.namespace.unwrap_or_default(),
                event.key.unwrap_or_default(),
            )
        })
        .collect();
    let key = |action: &str| blob_of(action.as_bytes()).to_string();
    assert_eq!(
        written,
        [
            (MAIN.to_owned(), key("a")),
            (PULL.to_owned(), key("a")),
            (PULL.to_owned(), key("b")),
            (PULL.to_owned(), key("c")),
        ]
    );
}

#[tokio::test]
async fn a_result_of_its_own_with_a_hole_does_not_hide_mains() {
    let teams = Teams::new().await;
    let (main, pull) = (teams.caller("main").await, teams.caller("pull").await);
    let record = main.upload(b"main's record").await;
    main.update("a", result_with("f", &record))
        .await
        .expect("written");
    // Somebody's store lost a blob of it: nobody could commit such a result.
    let key = ashlar_model::cas::ActionKey {
        instance: PULL.to_owned(),
        action: blob_of(b"a"),
    };
    let hole = prost::Message::encode_to_vec(&result_with("gone", &blob_of(b"gone")));
    let put = ashlar_store::ActionCache::put(
        &*teams.harness.store,
        &key,
        hole.into(),
        ashlar_store::action_cache::PutMode::Replace,
    );
    put.await.expect("put");
    assert_eq!(
        pull.get("a").await.expect("main's").output_files[0].path,
        "f"
    );
    // And it is replaced by the next.
    let own = pull.upload(b"own").await;
    let committed = pull
        .commit("a", result_with("g", &own))
        .await
        .expect("committed");
    assert!(!committed.already_there);
    assert_eq!(
        pull.get("a").await.expect("its own").output_files[0].path,
        "g"
    );
}

#[tokio::test]
async fn names_below_share_blobs_but_not_results() {
    let teams = Teams::new().await;
    let pull = teams.caller("pull").await;
    let below = pull.at("acme/web/pr/17/linux");
    let blob = pull.upload(b"shared").await;
    assert_eq!(below.missing(&[blob]).await.expect("answered"), []);
    below
        .update("a", result_with("f", &blob))
        .await
        .expect("written");
    assert_eq!(
        pull.get("a").await.expect_err("none").code(),
        Code::NotFound
    );
    below.get("a").await.expect("a result");
}

#[tokio::test]
async fn cache_mounts_are_read_through_to_and_saved_apart() {
    let teams = Teams::new().await;
    let (main, pull) = (teams.caller("main").await, teams.caller("pull").await);
    let tree = prost::Message::encode_to_vec(&reapi::Tree::default());
    let tree = [tree, vec![0x12, 0x00]].concat();
    let save = |caller: Caller, replaces: u64| {
        let tree = tree.clone();
        async move {
            let tree = caller.upload(&tree).await;
            let saved = caller
                .mounts()
                .save(ext::SaveRequest {
                    instance_name: caller.instance.clone(),
                    digest_function: number(BLAKE3),
                    name: "go".to_owned(),
                    trees: vec![wire(&tree)],
                    replaces,
                })
                .await;
            saved.map(|saved| saved.into_inner().generation)
        }
    };
    let latest = |caller: Caller| async move {
        let latest = caller
            .mounts()
            .latest(ext::LatestRequest {
                instance_name: caller.instance.clone(),
                digest_function: number(BLAKE3),
                name: "go".to_owned(),
            })
            .await;
        latest.map(|latest| latest.into_inner().generation)
    };
    assert_eq!(save(main.clone(), 0).await.expect("saved"), 1);
    assert_eq!(save(main.clone(), 1).await.expect("saved"), 2);
    let late = save(main.clone(), 1).await.expect_err("too late");
    assert_eq!(late.code(), Code::Aborted);
    assert_eq!(latest(pull.clone()).await.expect("main's"), 2);
    assert_eq!(save(pull.clone(), 2).await.expect("saved"), 3);
    assert_eq!(save(pull.clone(), 3).await.expect("saved"), 4);
    assert_eq!(latest(pull).await.expect("its own"), 4);
    assert_eq!(latest(main).await.expect("main's"), 2);
}

#[tokio::test]
async fn usage_is_told_of_the_namespace_and_of_all_to_whoever_looks_after_all() {
    let teams = Teams::with("[[namespace]]\nname = 'acme/web/pr/*'\nlimit = '1MB'").await;
    let (pull, root) = (teams.caller("pull").await, teams.caller("root").await);
    pull.upload(&[1; 3000]).await;
    let usage = |caller: Caller| async move {
        let request = ext::UsageRequest {
            instance_name: caller.instance.clone(),
        };
        caller
            .results()
            .usage(request)
            .await
            .expect("usage")
            .into_inner()
    };
    let told = usage(pull).await;
    assert_eq!(
        (told.instance_bytes, told.instance_limit_bytes),
        (3000, 1 << 20)
    );
    assert_eq!((told.blobs, told.limit_bytes, told.hits), (0, 0, 0));
    let told = usage(root.at(PULL)).await;
    assert_eq!((told.instance_bytes, told.blobs), (3000, 7));
}

#[tokio::test]
async fn a_result_is_refused_if_the_writer_does_not_hold_what_it_names() {
    let teams = Teams::new().await;
    let (main, other) = (teams.caller("main").await, teams.caller("othe").await);
    let secret = main.upload(b"a secret of acme").await;
    for refused in [
        other
            .update("a", result_with("f", &secret))
            .await
            .expect_err("refused"),
        other
            .commit("a", result_with("f", &secret))
            .await
            .expect_err("refused"),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert_eq!(missing::decode(refused.details()), [secret]);
    }
}
