//! What the token of a pull request's job opens, and what it does not.

use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::ext;
use ashlar_test_support::farm::Caller;

use super::{PATIENCE, Scene, absent, action, blob, refused, result};

#[test]
fn a_pull_request_writes_nothing_of_main() {
    let test = "a_pull_request_writes_nothing_of_main";
    Scene::each(test, |scene| {
        let main = scene.main_of("acme/web");
        let evil = scene.pull_request("acme/web", 17).within("acme/web/main");
        let key = action("a step");
        let (good, good_bytes) = blob("what main has built");
        let (bad, bad_bytes) = blob("what main is to run");
        let one = || [(bad, bad_bytes.clone())];
        scene.run(async {
            main.upload(&[(good, good_bytes.clone())]).await.unwrap();
            main.commit(&key, result(&[&good]), None).await.unwrap();

            refused(evil.upload(&one()).await, "a batch");
            refused(evil.write(&bad, &bad_bytes, "name").await, "a stream");
            refused(evil.update(&key, result(&[&good])).await, "a result");
            let commit = evil.commit(&key, result(&[&good]), None).await;
            refused(commit, "a commit");
            let lease = evil.acquire(&key.hash_hex(), PATIENCE).await;
            refused(lease, "a lease");
            refused(evil.renew(&key.hash_hex(), "token").await, "a renewal");
            refused(evil.release(&key.hash_hex(), "token").await, "a release");
            refused(evil.invalidate(&key).await, "an invalidation");
            let save = evil.request(ext::SaveRequest {
                instance_name: evil.instance().to_owned(),
                digest_function: Caller::function(),
                name: "cargo".to_owned(),
                trees: Vec::new(),
                replaces: 0,
            });
            refused(evil.mounts().save(save).await, "a cache mount");
            let pin = evil.request(ext::PinRequest {
                instance_name: evil.instance().to_owned(),
                digest_function: Caller::function(),
                action: Some(digest_to_wire(&key)),
                ttl: None,
            });
            refused(evil.pins().pin(pin).await, "a pin");
            let unpin = evil.request(ext::UnpinRequest {
                instance_name: evil.instance().to_owned(),
                digest_function: Caller::function(),
                action: Some(digest_to_wire(&key)),
            });
            refused(evil.pins().unpin(unpin).await, "the end of a pin");

            let there = main.probe(&key).await.unwrap();
            assert_eq!(there, Some(result(&[&good])));
            assert_eq!(main.missing(&[bad]).await.unwrap(), [bad.hash_hex()]);
        });
    });
}

#[test]
fn a_pull_request_reads_main_and_main_never_sees_what_it_writes() {
    let test = "a_pull_request_reads_main_and_main_never_sees_what_it_writes";
    Scene::each(test, |scene| {
        let main = scene.main_of("acme/web");
        let request = scene.pull_request("acme/web", 17);
        let other = scene.pull_request("acme/web", 18);
        let (base, tip, again) = (action("base"), action("tip"), action("again"));
        let (good, good_bytes) = blob("what main has built");
        let (own, own_bytes) = blob("what the pull request has built");
        scene.run(async {
            main.upload(&[(good, good_bytes.clone())]).await.unwrap();
            main.commit(&base, result(&[&good]), None).await.unwrap();

            // It reads through to main.
            let hit = request.probe(&base).await.unwrap();
            assert_eq!(hit, Some(result(&[&good])));
            assert_eq!(request.get(&base).await.unwrap(), Some(result(&[&good])));
            assert_eq!(request.read(&good).await.unwrap(), good_bytes);
            assert_eq!(request.read_many(&[good]).await.unwrap(), [&good_bytes]);
            assert!(request.missing(&[good]).await.unwrap().is_empty());

            // It writes its own, over a blob of main's, too.
            request.upload(&[(own, own_bytes.clone())]).await.unwrap();
            let lease = request.acquire(&tip.hash_hex(), PATIENCE).await.unwrap();
            let number = lease.expect("nobody has it").number;
            let both = result(&[&own, &good]);
            let name = tip.hash_hex();
            let stored = request.commit(&tip, both.clone(), Some((&name, number)));
            assert_eq!(stored.await.unwrap(), None);
            assert_eq!(request.probe(&tip).await.unwrap(), Some(both));

            // And puts something of its own in the place of a result of main's.
            request.update(&base, result(&[&own])).await.unwrap();
            request.commit(&again, result(&[&own]), None).await.unwrap();

            assert_eq!(main.probe(&tip).await.unwrap(), None);
            assert_eq!(main.get(&again).await.unwrap(), None);
            assert_eq!(main.probe(&base).await.unwrap(), Some(result(&[&good])));
            absent(main.read(&own).await, "a pull request's blob");
            absent(main.read_many(&[own]).await, "a pull request's blob");
            assert_eq!(main.missing(&[own]).await.unwrap(), [own.hash_hex()]);
            // Its leases are not main's.
            assert!(main.acquire(&name, PATIENCE).await.unwrap().is_some());

            // Another pull request sees main's, and none of these.
            assert_eq!(other.probe(&base).await.unwrap(), Some(result(&[&good])));
            assert_eq!(other.probe(&tip).await.unwrap(), None);
            absent(other.read(&own).await, "another pull request's blob");
            let theirs = request.with_token(&scene.token("acme/web", "refs/pull/18/merge"));
            refused(theirs.probe(&tip).await, "another pull request");
        });
    });
}

#[test]
fn names_of_instances_lead_nowhere_else() {
    let test = "names_of_instances_lead_nowhere_else";
    Scene::each(test, |scene| {
        let main = scene.main_of("acme/web");
        let evil = scene.pull_request("acme/web", 17);
        let key = action("a step");
        let (secret, secret_bytes) = blob("of main alone");
        scene.run(async {
            main.upload(&[(secret, secret_bytes.clone())])
                .await
                .unwrap();
            main.commit(&key, result(&[&secret]), None).await.unwrap();
            let long = format!("acme/web/pr/17/{}", "x".repeat(5000));
            for name in [
                "acme/web/pr/17/../../main",
                "acme/web/pr/17/../../../web/main",
                "./acme/web/main",
                "acme//web/main",
                "acme/web/main/",
                "/acme/web/main",
                "acme/web/pr/17//",
                "acme/web/pr/17/./../18",
                "acme/web/pr/170",
                "acme/web/pr/1",
                "ACME/web/main",
                "acme/web/%6dain",
                "acme/web/pr/17%2f..%2f..%2fmain",
                "acme/web/pr/17\\..\\..\\main",
                "acme/web/pr/17/\0/main",
                "acme/web/pr/17/blobs",
                "acme/web/pr/17/uploads/x/blobs",
                "acme/web/ma\u{131}n",
                "",
                "*",
                "acme/*/pr/17",
                "{1}/{2}/main",
                &long,
            ] {
                let caller = evil.within(name);
                let (own, bytes) = blob(format!("evil in {name}"));
                // Nothing of it gets to main, whatever the answer is.
                let written = caller.upload(&[(own, bytes.clone())]).await;
                if !name.starts_with("acme/web/pr/17/") {
                    written.unwrap_err();
                    caller.probe(&key).await.unwrap_err();
                    caller.read_many(&[secret]).await.unwrap_err();
                }
                drop(caller.update(&key, result(&[&own])).await);
                drop(caller.write(&own, &bytes, "../../x").await);
                assert_eq!(main.missing(&[own]).await.unwrap().len(), 1, "{name:?}");
                let there = main.probe(&key).await.unwrap();
                assert_eq!(there, Some(result(&[&secret])), "{name:?}");
            }
        });
    });
}
