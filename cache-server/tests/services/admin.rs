//! Results are invalidated by those who look after them.

use ashlar_cache_server::audit::{Outcome, What};
use ashlar_model::cas::{ActionKey, CasDigest};
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::ext::invalidate_request::What as Which;
use ashlar_proto::wire::{ext, reapi};
use prost::Message as _;
use tonic::{Code, Status};

use crate::harness::{number, wire};
use crate::teams::{BLAKE3, Caller, MAIN, OTHER, PULL, Teams, blob_of, result_with};

/// Ids of keys.
fn id(letter: char) -> String {
    letter.to_string().repeat(64)
}

impl Teams {
    /// A result that these keys have signed.
    async fn signed(&self, caller: &Caller, action: &str, ids: &[String]) {
        let signatures: Vec<_> = ids
            .iter()
            .map(|id| serde_json::json!({"keyid": id, "sig": "c2ln"}))
            .collect();
        let envelope = serde_json::json!({
            "payloadType": "application/vnd.ashlar.result+json",
            "payload": "",
            "signatures": signatures,
        });
        let envelope = caller.upload(envelope.to_string().as_bytes()).await;
        let result = result_with("signature.json", &envelope);
        caller.update(action, result).await.expect("written");
        self.listed(&caller.instance, blob_of(action.as_bytes()));
    }

    /// The store in memory walks what it is told.
    fn listed(&self, instance: &str, action: CasDigest) {
        let mut listed = self.harness.upkeep.listed.lock().expect("a list");
        listed.push(ActionKey {
            instance: instance.to_owned(),
            action,
        });
    }
}

async fn invalidate(caller: &Caller, what: Which, dry_run: bool) -> Result<(u64, u64), Status> {
    let request = ext::InvalidateRequest {
        reason: "a builder was broken into".to_owned(),
        dry_run,
        what: Some(what),
    };
    let response = caller.admin().invalidate(request).await?.into_inner();
    Ok((response.removed, response.looked_at))
}

#[tokio::test]
async fn all_that_a_key_has_signed_goes_and_nothing_else() {
    let mut teams = Teams::new().await;
    let (main, pull) = (teams.caller("main").await, teams.caller("pull").await);
    let (lead, root) = (teams.caller("lead").await, teams.caller("root").await);
    let other = teams.caller("othe").await;
    teams.signed(&main, "a", &[id('a')]).await;
    teams.signed(&main, "b", &[id('b')]).await;
    teams.signed(&main, "both", &[id('b'), id('a')]).await;
    teams.signed(&pull, "c", &[id('a')]).await;
    teams.signed(&other, "d", &[id('a')]).await;
    let plain = main.upload(b"plain").await;
    main.update("plain", result_with("f", &plain))
        .await
        .expect("written");
    teams.listed(MAIN, blob_of(b"plain"));
    drop(teams.events());

    let signer = || Which::Signer(id('A'));
    assert_eq!(
        invalidate(&lead, signer(), true).await.expect("counted"),
        (3, 5)
    );
    assert_eq!(
        main.probe(&["a", "b", "both", "plain"])
            .await
            .expect("answered"),
        [0, 1, 2, 3]
    );
    assert_eq!(
        invalidate(&lead, signer(), false).await.expect("removed"),
        (3, 5)
    );
    assert_eq!(
        main.probe(&["a", "b", "both", "plain"])
            .await
            .expect("answered"),
        [1, 3]
    );
    assert_eq!(
        pull.get("c").await.expect_err("gone").code(),
        Code::NotFound
    );
    // Whom one does not look after one does not reach.
    other.get("d").await.expect("a result");
    assert_eq!(
        invalidate(&root, signer(), false).await.expect("removed").0,
        1
    );
    assert_eq!(
        other.get("d").await.expect_err("gone").code(),
        Code::NotFound
    );
    assert_eq!(
        invalidate(&root, signer(), false).await.expect("removed").0,
        0
    );

    let events = teams.events();
    assert_eq!(events.len(), 4);
    for event in &events {
        assert_eq!(
            (event.what, event.outcome),
            (What::Invalidate, Outcome::Done)
        );
        assert_eq!(event.key.as_ref(), Some(&id('a')));
        assert_eq!(event.details["why"], "a builder was broken into");
    }
    assert_eq!(events[0].details["dry_run"], true);
    assert_eq!(
        (
            &events[1].details["removed"],
            &events[1].details["looked_at"]
        ),
        (&3.into(), &5.into())
    );
}

#[tokio::test]
async fn a_namespace_goes_with_all_below_it() {
    let teams = Teams::new().await;
    let (main, pull, root) = (
        teams.caller("main").await,
        teams.caller("pull").await,
        teams.caller("root").await,
    );
    let below = pull.at("acme/web/pr/17/linux");
    for caller in [&main, &pull, &below] {
        let blob = caller.upload(caller.instance.as_bytes()).await;
        caller
            .update("a", result_with(&caller.instance, &blob))
            .await
            .expect("written");
        teams.listed(&caller.instance, blob_of(b"a"));
    }
    let prefix = || Which::InstancePrefix(PULL.to_owned());
    assert_eq!(
        invalidate(&root, prefix(), false).await.expect("removed"),
        (2, 3)
    );
    // They read main's now.
    for caller in [&main, &pull, &below] {
        let found = caller.get("a").await.expect("main's");
        assert_eq!(found.output_files[0].path, MAIN);
    }
}

#[tokio::test]
async fn a_step_goes_by_its_key_wherever_it_is() {
    let teams = Teams::new().await;
    let (main, other, root) = (
        teams.caller("main").await,
        teams.caller("othe").await,
        teams.caller("root").await,
    );
    let key = "0123456789abcdef".repeat(4);
    // The action as a builder makes it.
    let command = reapi::Command {
        arguments: vec![
            "ashlar.step/1".to_owned(),
            "content".to_owned(),
            key.clone(),
        ],
        output_paths: vec!["layers".to_owned(), "result.json".to_owned()],
        ..Default::default()
    };
    let command = blob_of(&command.encode_to_vec());
    let action = reapi::Action {
        command_digest: Some(digest_to_wire(&command)),
        input_root_digest: Some(digest_to_wire(&blob_of(b""))),
        ..Default::default()
    };
    let encoded = action.encode_to_vec();
    let digest = blob_of(&encoded);
    for caller in [&main, &other] {
        let blob = caller.upload(b"record").await;
        let committed = caller
            .results()
            .commit(ext::CommitRequest {
                instance_name: caller.instance.clone(),
                digest_function: number(BLAKE3),
                action: Some(wire(&digest)),
                result: Some(result_with("result.json", &blob)),
                ..Default::default()
            })
            .await;
        committed.expect("committed");
        caller
            .update("another", result_with("f", &blob))
            .await
            .expect("written");
        teams.listed(&caller.instance, digest);
        teams.listed(&caller.instance, blob_of(b"another"));
    }
    let step = Which::StepKey(key);
    assert_eq!(
        invalidate(&root, step, false).await.expect("removed"),
        (2, 4)
    );
    for caller in [&main, &other] {
        assert_eq!(caller.probe(&["another"]).await.expect("answered"), [0]);
        let get = caller
            .actions()
            .get_action_result(reapi::GetActionResultRequest {
                instance_name: caller.instance.clone(),
                digest_function: number(BLAKE3),
                action_digest: Some(wire(&digest)),
                ..Default::default()
            })
            .await;
        assert_eq!(get.expect_err("gone").code(), Code::NotFound);
    }
}

#[tokio::test]
async fn one_result_goes_if_the_caller_looks_after_its_namespace() {
    let mut teams = Teams::new().await;
    let (main, other, lead) = (
        teams.caller("main").await,
        teams.caller("othe").await,
        teams.caller("lead").await,
    );
    for caller in [&main, &other] {
        let blob = caller.upload(b"record").await;
        caller
            .update("a", result_with("f", &blob))
            .await
            .expect("written");
    }
    let one = |instance: &str| {
        Which::Action(ext::invalidate_request::Action {
            instance_name: instance.to_owned(),
            digest_function: number(BLAKE3),
            action: Some(wire(&blob_of(b"a"))),
        })
    };
    drop(teams.events());
    let refused = invalidate(&lead, one(OTHER), false)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        invalidate(&lead, one(MAIN), true).await.expect("counted"),
        (1, 1)
    );
    assert_eq!(
        invalidate(&lead, one(MAIN), false).await.expect("removed"),
        (1, 1)
    );
    assert_eq!(
        invalidate(&lead, one(MAIN), false).await.expect("removed"),
        (0, 1)
    );
    other.get("a").await.expect("a result");
    // Who looks after nothing does not even learn what is there.
    let refused = invalidate(&main, one(MAIN), true)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let outcomes: Vec<_> = teams
        .events()
        .into_iter()
        .map(|event| event.outcome)
        .collect();
    let (refused, done) = (Outcome::Refused, Outcome::Done);
    assert_eq!(outcomes, [refused, done, done, done, refused]);
}
