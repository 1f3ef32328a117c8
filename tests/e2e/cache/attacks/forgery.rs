//! Bytes that are not those of the digest, and tokens that are not of the issuer.

use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::bytestream::WriteRequest;
use ashlar_proto::wire::reapi;
use ashlar_test_support::farm::Caller;
use ashlar_test_support::farm::client::FUNCTION;
use ashlar_test_support::jwt::{Issuer, standard_claims, unsigned};
use bytes::Bytes;
use futures::stream;
use serde_json::json;
use tonic::Code;

use super::{ADMIN, Scene, absent, action, blob, refused, zstd_of};
use crate::cache::noise;

#[test]
fn bytes_under_a_wrong_digest_are_taken_in_no_way() {
    let test = "bytes_under_a_wrong_digest_are_taken_in_no_way";
    Scene::each(test, |scene| {
        let main = scene.main_of("acme/web");
        let (wanted, right) = blob(noise(3, 200_000));
        let mut other = right.to_vec();
        other[100_000] ^= 1;
        let mut longer = right.to_vec();
        longer.push(0);
        let shorter = right[..right.len() - 1].to_vec();
        scene.run(async {
            for wrong in [other.clone(), longer, shorter] {
                let wrong = Bytes::from(wrong);
                let batch = main.upload(&[(wanted, wrong.clone())]).await;
                assert_eq!(batch.unwrap_err().code(), Code::InvalidArgument);
                main.write(&wanted, &wrong, "wrong").await.unwrap_err();
                let packed = zstd_of(&wrong);
                let write = WriteRequest {
                    resource_name: format!(
                        "{}/uploads/packed/compressed-blobs/zstd/{}/{}/{}",
                        main.instance(),
                        FUNCTION.name(),
                        wanted.hash_hex(),
                        wanted.size
                    ),
                    write_offset: 0,
                    finish_write: true,
                    data: packed,
                };
                let write = main.request(stream::iter([write]));
                main.bytes().write(write).await.unwrap_err();
            }
            // Of chunks that are there, another blob.
            let (first, second) = (
                blob(other[..90_000].to_vec()),
                blob(other[90_000..].to_vec()),
            );
            main.upload(&[first.clone(), second.clone()]).await.unwrap();
            let splice = main.request(reapi::SpliceBlobRequest {
                instance_name: main.instance().to_owned(),
                blob_digest: Some(digest_to_wire(&wanted)),
                chunk_digests: vec![digest_to_wire(&first.0), digest_to_wire(&second.0)],
                digest_function: Caller::function(),
                ..reapi::SpliceBlobRequest::default()
            });
            main.cas().splice_blob(splice).await.unwrap_err();
            let missing = main.missing(&[wanted]).await.unwrap();
            assert_eq!(missing, [wanted.hash_hex()]);
            absent(main.read(&wanted).await, "a blob that nobody sent");
            // And the right bytes are.
            main.write(&wanted, &right, "right").await.unwrap();
            assert_eq!(main.read(&wanted).await.unwrap(), right);
        });
    });
}

#[test]
fn forged_tokens_open_nothing() {
    let test = "forged_tokens_open_nothing";
    Scene::each(test, |scene| {
        let honest = scene.main_of("acme/web");
        let key = action("a step");
        let claims = |changes: &[(&str, serde_json::Value)]| {
            let mut all = standard_claims();
            all["repository"] = json!("acme/web");
            all["ref"] = json!("refs/heads/main");
            for (name, value) in changes {
                all[*name] = value.clone();
            }
            all
        };
        let real = scene.issuer.signed(&claims(&[]));
        let mut pieces = real.split('.');
        let (head, body, mark) = (
            pieces.next().unwrap(),
            pieces.next().unwrap(),
            pieces.next().unwrap(),
        );
        let pull = scene.token("acme/web", "refs/pull/17/merge");
        let pull_body = pull.split('.').nth(1).unwrap();
        let none = |alg: &str| unsigned(&json!({ "alg": alg, "typ": "JWT" }), &claims(&[]));
        let issuer = &scene.issuer;
        let forged = [
            ("of nobody", format!("{}.", none("none"))),
            ("of nobody, said otherwise", format!("{}.", none("NoNe"))),
            ("with a foreign mark", format!("{}.{mark}", none("none"))),
            ("without a mark", format!("{head}.{body}.")),
            ("of another's body", format!("{head}.{pull_body}.{mark}")),
            (
                "signed with the public key",
                issuer.with_secret(&claims(&[]), &issuer.public_key()),
            ),
            (
                "of a forger whose key has the same name",
                Issuer::new("key-1").signed(&claims(&[])),
            ),
            (
                "of a forger whose key has another name",
                Issuer::new("../keys.json").signed(&claims(&[])),
            ),
            (
                "of another issuer",
                issuer.signed(&claims(&[("iss", json!("https://evil.example"))])),
            ),
            (
                "for somebody else",
                issuer.signed(&claims(&[("aud", json!("sigstore"))])),
            ),
            (
                "of old",
                issuer.signed(&claims(&[("exp", json!(1_000_000_000))])),
            ),
            (
                "of the future",
                issuer.signed(&claims(&[("nbf", json!(32_000_000_000_u64))])),
            ),
            ("without an end", {
                let mut all = claims(&[]);
                all.as_object_mut().unwrap().remove("exp");
                issuer.signed(&all)
            }),
            ("too long", format!("{real}{}", "A".repeat(9_000))),
            ("of the admins, nearly", ADMIN[..ADMIN.len() - 1].to_owned()),
        ];
        scene.run(async {
            for (what, token) in &forged {
                let forger = honest.with_token(token);
                let answer = forger.upload(&[blob("forged")]).await;
                refused(answer, what);
                refused(forger.probe(&key).await, what);
            }
            // A repository whose name is made to look like another namespace.
            for (repository, branch) in [
                ("acme/web/main", "refs/heads/main"),
                ("acme", "refs/heads/main"),
                ("acme/web/", "refs/heads/main"),
                ("/acme/web", "refs/heads/main"),
                ("acme/*", "refs/heads/main"),
                ("{org}/{repo}", "refs/heads/main"),
                ("acme/web", "refs/heads/main/"),
                ("acme/web", "refs/pull/../../main/merge"),
                ("acme/web", "refs/pull/17/../main/merge"),
                ("acme/web", "refs/pull//merge"),
            ] {
                let token = scene.token(repository, branch);
                let forger = honest.with_token(&token);
                let answer = forger.upload(&[blob("forged")]).await;
                refused(answer, &format!("{repository} {branch}"));
            }
            let nobody = scene.caller(None, "acme/web/main");
            refused(nobody.probe(&key).await, "no token");
            refused(nobody.upload(&[blob("forged")]).await, "no token");
            let (forged, _) = blob("forged");
            assert_eq!(honest.missing(&[forged]).await.unwrap().len(), 1);
        });
    });
}
