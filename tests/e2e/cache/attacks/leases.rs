//! Leases of others, and those that are over.

use tonic::Code;

use super::{PATIENCE, Scene, action, blob, result};

#[test]
fn a_lease_is_of_no_use_to_those_who_do_not_hold_it() {
    let test = "a_lease_is_of_no_use_to_those_who_do_not_hold_it";
    Scene::each(test, |scene| {
        let main = scene.main_of("acme/web");
        let request = scene.pull_request("acme/web", 17);
        let key = action("a step");
        let name = key.hash_hex();
        let (good, good_bytes) = blob("good");
        let (bad, bad_bytes) = blob("bad");
        scene.run(async {
            let lease = main.acquire(&name, PATIENCE).await.unwrap().unwrap();
            // Guessed, and replayed where it is not from.
            for token in ["", "0", &"0".repeat(32), &lease.token.to_uppercase()] {
                if token != lease.token {
                    let renewed = main.renew(&name, token).await;
                    assert!(!renewed.unwrap_or(false), "a lease by guessing");
                    drop(main.release(&name, token).await);
                }
            }
            assert!(!request.renew(&name, &lease.token).await.unwrap_or(false));
            drop(request.release(&name, &lease.token).await);
            let there = main.renew(&name, &lease.token).await.unwrap();
            assert!(there, "somebody took a lease away that was not theirs");
            // Nor is it for another key.
            let other = action("another step").hash_hex();
            assert!(!main.renew(&other, &lease.token).await.unwrap_or(false));

            // A holder that was given up does not come back.
            main.release(&name, &lease.token).await.unwrap();
            let newer = main.acquire(&name, PATIENCE).await.unwrap().unwrap();
            assert!(newer.number > lease.number);
            assert!(!main.renew(&name, &lease.token).await.unwrap());
            main.upload(&[(good, good_bytes.clone()), (bad, bad_bytes.clone())])
                .await
                .unwrap();
            let late = main
                .commit(&key, result(&[&bad]), Some((&name, lease.number)))
                .await;
            assert_eq!(late.unwrap_err().code(), Code::Aborted);
            assert_eq!(main.probe(&key).await.unwrap(), None);
            let stored = main
                .commit(&key, result(&[&good]), Some((&name, newer.number)))
                .await;
            assert_eq!(stored.unwrap(), None);
            assert_eq!(main.probe(&key).await.unwrap(), Some(result(&[&good])));
        });
    });
}
