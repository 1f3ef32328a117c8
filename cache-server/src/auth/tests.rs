//! Who requests come from: tokens that are good, and all that are not.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::executor::BoxFuture;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::caller::Grant;
use super::issuer::{EARLIEST, Issuer, IssuerTerms, KeySource};
use super::rules::Rule;
use super::{Access, Caller, Policy, Right, Shown, Tokens, Writers};

const WRITER: &str = "w-0123456789abcdef";
const READER: &str = "r-0123456789abcdef";
const ISSUER: &str = "https://ci.example";
const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn tokens(token: &str) -> Tokens {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokens");
    std::fs::write(&path, format!("# CI\n{token}\n")).expect("written");
    Tokens::read(&path).expect("tokens")
}

fn access(policy: Policy) -> Access {
    Access::new(policy, Arc::new(now))
}

async fn ask(access: &Access, authorization: Option<&str>) -> Result<Caller, Status> {
    let shown = Shown {
        authorization,
        peer: None,
    };
    access.caller(shown).await
}

async fn may_write(access: &Access, authorization: Option<&str>) -> Result<bool, Code> {
    let caller = ask(access, authorization).await;
    caller
        .map(|caller| caller.may(Right::Write, "a/b"))
        .map_err(|status| status.code())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn a_token_makes_a_writer() {
    let access = access(Policy::of_files(Writers::With(tokens(WRITER)), None));
    assert_eq!(may_write(&access, Some(&bearer(WRITER))).await, Ok(true));
    let small = format!("bearer {WRITER}");
    assert_eq!(may_write(&access, Some(&small)).await, Ok(true));
    assert_eq!(may_write(&access, None).await, Ok(false));
    let other = bearer(READER);
    for wrong in [&other, "Basic eDp5", WRITER, "", "Bearer", "Bearer "] {
        let answer = may_write(&access, Some(wrong)).await;
        assert_eq!(answer, Err(Code::Unauthenticated), "{wrong}");
    }
    let caller = ask(&access, Some(&bearer(WRITER))).await.expect("let in");
    assert_eq!(caller.name(), "token tokens:2");
}

#[tokio::test]
async fn readers_can_be_asked_for_a_token_too() {
    let writers = Writers::With(tokens(WRITER));
    let access = access(Policy::of_files(writers, Some(tokens(READER))));
    assert_eq!(may_write(&access, None).await, Err(Code::Unauthenticated));
    assert_eq!(may_write(&access, Some(&bearer(READER))).await, Ok(false));
    assert_eq!(may_write(&access, Some(&bearer(WRITER))).await, Ok(true));
}

#[tokio::test]
async fn a_server_of_this_machine_takes_everyone() {
    let access = access(Policy::open());
    assert_eq!(may_write(&access, None).await, Ok(true));
    assert_eq!(may_write(&access, Some("Bearer whatever")).await, Ok(true));
}

/// A key of an issuer.
struct SigningKey {
    jwk: Value,
    key: EncodingKey,
    algorithm: Algorithm,
    /// The public key as bytes, as an attacker would take it for a secret.
    public: Vec<u8>,
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl SigningKey {
    fn elliptic(id: &str, algorithm: Algorithm) -> Self {
        let (kind, curve, name) = match algorithm {
            Algorithm::ES256 => (&PKCS_ECDSA_P256_SHA256, "P-256", "ES256"),
            _ => (&PKCS_ECDSA_P384_SHA384, "P-384", "ES384"),
        };
        let pair = KeyPair::generate_for(kind).expect("a key");
        let public = pair.public_key_raw().to_vec();
        let (x, y) = public[1..].split_at(public.len() / 2);
        Self {
            jwk: json!({"kty": "EC", "crv": curve, "alg": name, "use": "sig", "kid": id,
                        "x": encoded(x), "y": encoded(y)}),
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            algorithm,
            public,
        }
    }

    fn edwards(id: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let public = pair.public_key_raw().to_vec();
        Self {
            jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encoded(&public)}),
            key: EncodingKey::from_ed_der(&pair.serialize_der()),
            algorithm: Algorithm::EdDSA,
            public,
        }
    }

    fn rsa(id: &str, bits: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        let run = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            let output = command.args(arguments).output().expect("openssl");
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let path = file.to_str().expect("a path");
        run(&["genrsa", "-out", path, bits]);
        let said = run(&["rsa", "-in", path, "-noout", "-modulus"]);
        let said = String::from_utf8(said).expect("text");
        let modulus = said.trim().strip_prefix("Modulus=").expect("a modulus");
        let public = hex::decode(modulus).expect("hex");
        Self {
            jwk: json!({"kty": "RSA", "kid": id, "n": encoded(&public), "e": "AQAB"}),
            key: EncodingKey::from_rsa_pem(&std::fs::read(&file).expect("a key")).expect("a key"),
            algorithm: Algorithm::RS256,
            public,
        }
    }

    fn name(&self) -> String {
        format!("{:?}", self.algorithm)
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.name(), "kid": self.jwk["kid"], "typ": "JWT"});
        signed(&header, claims, &self.key, self.algorithm)
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| encoded(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn signed(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let text = unsigned(header, claims);
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, algorithm);
    format!("{text}.{}", signature.expect("signed"))
}

/// Claims of a job, with changes.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "cache", "sub": "repo:acme/app", "exp": NOW + 300, "nbf": NOW - 10,
        "repository": "acme/app",
    });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims
}

fn set(keys: &[&SigningKey]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk.clone()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// Where keys come from, as tests like it.
#[derive(Debug, Clone)]
struct Shelf {
    keys: Arc<Mutex<Result<Vec<u8>, String>>>,
    fetched: Arc<AtomicU32>,
}

impl Shelf {
    fn with(keys: &[&SigningKey]) -> Self {
        Self {
            keys: Arc::new(Mutex::new(Ok(set(keys)))),
            fetched: Arc::default(),
        }
    }

    fn put(&self, keys: Result<Vec<u8>, String>) {
        *self.keys.lock().expect("keys") = keys;
    }

    fn fetched(&self) -> u32 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// An access that takes tokens signed with these keys.
    fn access(&self) -> Access {
        let terms = IssuerTerms {
            issuer: ISSUER.to_owned(),
            audience: vec!["cache".to_owned(), "other-cache".to_owned()],
            place: "shelf".to_owned(),
            every: Duration::from_secs(3600),
        };
        let mut policy = Policy::of_files(Writers::Nobody, None);
        policy.rules.push(Rule {
            name: "ci".to_owned(),
            issuer: None,
            claims: vec![(
                "repository".to_owned(),
                "{org}/{repo}".parse().expect("a pattern"),
            )],
            certificate: None,
            tokens: None,
            grants: vec![(
                "{org}/{repo}".parse().expect("a template"),
                [Right::Read, Right::Write].into_iter().collect(),
            )],
        });
        policy
            .issuers
            .push(Arc::new(Issuer::start(terms, Box::new(self.clone()))));
        access(policy)
    }
}

impl KeySource for Shelf {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        self.fetched.fetch_add(1, Ordering::Relaxed);
        let keys = self.keys.lock().expect("keys").clone();
        Box::pin(async move { keys })
    }
}

/// Why a token is refused; nothing if it is not.
async fn refusal(access: &Access, token: &str) -> String {
    match ask(access, Some(&bearer(token))).await {
        Ok(_) => String::new(),
        Err(status) => {
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            status.message().to_owned()
        }
    }
}

#[tokio::test]
async fn a_signed_token_is_worth_what_rules_say() {
    let keys = [
        SigningKey::elliptic("a", Algorithm::ES256),
        SigningKey::elliptic("b", Algorithm::ES384),
        SigningKey::edwards("c"),
        SigningKey::rsa("d", "2048"),
    ];
    let access = Shelf::with(&keys.each_ref()).access();
    for key in &keys {
        for _ in 0..2 {
            let token = key.sign(&claims(&json!({})));
            let caller = ask(&access, Some(&bearer(&token))).await.expect("let in");
            assert_eq!(caller.name(), "jwt repo:acme/app");
            assert_eq!(&*caller.rules(), "ci");
            assert!(caller.may(Right::Write, "acme/app/pr/1"));
            assert!(!caller.may(Right::Write, "acme") && !caller.may(Right::Admin, "acme/app"));
            assert!(!caller.may(Right::Read, ""));
        }
    }
    let token = keys[0].sign(&claims(&json!({"aud": ["x", "other-cache"], "nbf": null})));
    let error = refusal(&access, &token).await;
    assert!(error.contains("one of its times is no number"), "{error}");
    let token = keys[0].sign(&claims(&json!({"aud": ["x", "other-cache"]})));
    assert_eq!(refusal(&access, &token).await, "");
}

#[tokio::test]
async fn tokens_that_are_wrong_are_refused() {
    let key = SigningKey::elliptic("a", Algorithm::ES256);
    let other = SigningKey::elliptic("a", Algorithm::ES256);
    let rsa = SigningKey::rsa("r", "2048");
    let access = Shelf::with(&[&key, &rsa]).access();
    let good = claims(&json!({}));
    let header = |algorithm: &str, id: &str| json!({"alg": algorithm, "kid": id});

    let none = format!("{}.", unsigned(&header("none", "a"), &good));
    let nothing = format!("{}.{}", unsigned(&header("ES256", "a"), &good), "");
    let secret = EncodingKey::from_secret(&rsa.public).expect("a secret");
    let hmac = signed(&header("HS256", "r"), &good, &secret, Algorithm::HS256);
    let jwk = EncodingKey::from_secret(rsa.jwk.to_string().as_bytes()).expect("a secret");
    let hmac_of_jwk = signed(&header("HS256", "r"), &good, &jwk, Algorithm::HS256);
    let crossed = signed(&header("RS256", "a"), &good, &rsa.key, Algorithm::RS256);
    let critical = json!({"alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false});
    let critical = signed(&critical, &good, &key.key, Algorithm::ES256);
    let (start, signature) = key
        .sign(&good)
        .rsplit_once('.')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("parts");
    let (first, _) = start.split_once('.').expect("parts");
    let forged = claims(&json!({"repository": "acme/other"})).to_string();
    let forged = format!("{first}.{}.{signature}", encoded(forged.as_bytes()));

    const ALGORITHM: &str = "of a kind that this cache does not take";
    const SIGNATURE: &str = "signature is wrong";
    for (token, why) in [
        (none, ALGORITHM),
        (nothing, SIGNATURE),
        (hmac, ALGORITHM),
        (hmac_of_jwk, ALGORITHM),
        (crossed, ALGORITHM),
        (critical, ALGORITHM),
        (forged, SIGNATURE),
        (other.sign(&good), SIGNATURE),
        (
            key.sign(&claims(&json!({"aud": "others"}))),
            "another audience",
        ),
        (key.sign(&claims(&json!({"aud": null}))), "another audience"),
        (
            key.sign(&claims(&json!({"iss": "https://evil.example"}))),
            "does not trust",
        ),
        (key.sign(&claims(&json!({"iss": 7}))), "does not trust"),
        (
            key.sign(&claims(&json!({"exp": NOW - 61}))),
            "expired 61 seconds ago",
        ),
        (key.sign(&claims(&json!({"exp": "soon"}))), "no number"),
        (
            key.sign(&claims(&json!({"nbf": NOW + 61}))),
            "not valid yet",
        ),
        ("a.b.c".to_owned(), "header cannot be read"),
        ("..".to_owned(), "header cannot be read"),
        (
            "no-token-at-all".to_owned(),
            "not one that this cache knows",
        ),
    ] {
        let said = refusal(&access, &token).await;
        assert!(said.contains(why), "{why}: {said}");
    }
    let mut endless = good.clone();
    endless.as_object_mut().expect("an object").remove("exp");
    let said = refusal(&access, &key.sign(&endless)).await;
    assert!(said.contains("does not say when it expires"), "{said}");
    let huge = key.sign(&claims(&json!({"more": "x".repeat(8 << 10)})));
    assert!(refusal(&access, &huge).await.contains("longer than 8 KiB"));
    for near in [json!({"exp": NOW - 59}), json!({"nbf": NOW + 59})] {
        assert_eq!(
            refusal(&access, &key.sign(&claims(&near))).await,
            "",
            "{near}"
        );
    }
    let said = ask(
        &access,
        Some(&bearer(&key.sign(&claims(&json!({"repository": "acme"}))))),
    )
    .await;
    let status = said.expect_err("no rule");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(
        ask(&access, None).await.expect_err("nothing").code(),
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn weak_and_secret_keys_are_passed_over() {
    let weak = SigningKey::rsa("weak", "1024");
    let good = SigningKey::edwards("good");
    let secret =
        json!({"kty": "oct", "kid": "secret", "k": encoded(b"0123456789abcdef"), "alg": "HS256"});
    let mut short = good.jwk.clone();
    short["x"] = json!(encoded(b"short"));
    short["kid"] = json!("short");
    let shelf = Shelf::with(&[]);
    let keys = json!({"keys": [weak.jwk, secret, short, 7, {"kty": "new"}, good.jwk]});
    shelf.put(Ok(keys.to_string().into_bytes()));
    let access = shelf.access();
    assert_eq!(refusal(&access, &good.sign(&claims(&json!({})))).await, "");
    assert!(
        refusal(&access, &weak.sign(&claims(&json!({}))))
            .await
            .contains("does not publish")
    );
    let key = EncodingKey::from_secret(b"0123456789abcdef").expect("a secret");
    let header = json!({"alg": "HS256", "kid": "secret"});
    let token = signed(&header, &claims(&json!({})), &key, Algorithm::HS256);
    assert!(refusal(&access, &token).await.contains("of a kind"));
}

#[tokio::test]
async fn a_token_is_over_when_it_is_over_however_often_it_was_good() {
    let key = SigningKey::edwards("a");
    let shelf = Shelf::with(&[&key]);
    let time = Arc::new(Mutex::new(now()));
    let clock = time.clone();
    let policy = Policy::clone(&shelf.access().policy());
    let access = Access::new(policy, Arc::new(move || *clock.lock().expect("a time")));
    let token = key.sign(&claims(&json!({"exp": NOW + 300})));
    assert_eq!(refusal(&access, &token).await, "");
    *time.lock().expect("a time") += Duration::from_secs(361);
    assert!(
        refusal(&access, &token)
            .await
            .contains("expired 61 seconds ago")
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_but_not_all_the_time() {
    let (old, new, strange) = (
        SigningKey::edwards("old"),
        SigningKey::edwards("new"),
        SigningKey::edwards("strange"),
    );
    let shelf = Shelf::with(&[&old]);
    let access = shelf.access();
    let [of_old, of_new, of_strange] =
        [&old, &new, &strange].map(|key| key.sign(&claims(&json!({}))));
    assert_eq!(refusal(&access, &of_old).await, "");
    assert_eq!(shelf.fetched(), 1);

    shelf.put(Ok(set(&[&new])));
    assert_eq!(
        refusal(&access, &of_new).await,
        "",
        "fetched when it was asked for"
    );
    assert_eq!(shelf.fetched(), 2);
    let said = refusal(&access, &of_old).await;
    assert!(said.contains("does not publish"), "taken back: {said}");
    for _ in 0..20 {
        assert!(!refusal(&access, &of_strange).await.is_empty());
    }
    assert_eq!(shelf.fetched(), 2, "too early");
    tokio::time::sleep(EARLIEST).await;
    for _ in 0..20 {
        assert!(!refusal(&access, &of_strange).await.is_empty());
    }
    assert_eq!(shelf.fetched(), 3);
}

#[tokio::test(start_paused = true)]
async fn keys_stay_when_their_source_is_down() {
    let key = SigningKey::edwards("a");
    let token = key.sign(&claims(&json!({})));
    let shelf = Shelf::with(&[]);
    shelf.put(Err("it is down".to_owned()));
    let access = shelf.access();
    let status = ask(&access, Some(&bearer(&token)))
        .await
        .expect_err("no keys");
    assert_eq!(status.code(), Code::Unavailable, "it may be good: {status}");

    shelf.put(Ok(set(&[&key])));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        refusal(&access, &token).await,
        "",
        "it was tried again soon"
    );

    for broken in [
        Err("it is down".to_owned()),
        Ok(b"<html>".to_vec()),
        Ok(set(&[])),
    ] {
        shelf.put(broken);
        let before = shelf.fetched();
        tokio::time::sleep(Duration::from_secs(3601)).await;
        assert!(shelf.fetched() > before);
        assert_eq!(refusal(&access, &token).await, "");
    }
}

#[tokio::test]
async fn with_rules_nobody_may_do_what_nothing_says() {
    let mut policy = Policy::of_files(Writers::With(tokens(WRITER)), Some(tokens(READER)));
    policy.everyone.push((
        "public".to_owned(),
        Grant {
            namespace: "public".to_owned(),
            rights: [Right::Read].into_iter().collect(),
        },
    ));
    policy.rules.push(Rule {
        name: "admins".to_owned(),
        issuer: None,
        claims: Vec::new(),
        certificate: None,
        tokens: Some(tokens("admin-0123456789")),
        grants: vec![("".parse().expect("all"), super::Rights::ALL)],
    });
    let mut read_only = policy.clone();
    read_only.is_read_only = true;
    let access = access(policy);
    let nobody = ask(&access, None).await.expect("let in");
    assert!(nobody.may(Right::Read, "public/a") && !nobody.may(Right::Read, "publicity"));
    assert!(!nobody.may(Right::Write, "public") && !nobody.may(Right::Read, ""));
    assert_eq!((nobody.name(), &*nobody.rules()), ("anonymous", "public"));

    let writer = ask(&access, Some(&bearer(WRITER))).await.expect("let in");
    assert!(writer.may(Right::Write, "a"), "its file says so");
    let reader = ask(&access, Some(&bearer(READER))).await.expect("let in");
    assert!(reader.may(Right::Read, "a") && !reader.may(Right::Write, "a"));
    let admin = ask(&access, Some("Bearer admin-0123456789"))
        .await
        .expect("let in");
    assert!(admin.may(Right::Admin, "a"));
    assert_eq!(&*admin.rules(), "admins, public");
    let stranger = ask(&access, Some("Bearer stranger-0123456789")).await;
    assert_eq!(stranger.expect_err("unknown").code(), Code::Unauthenticated);

    access.replace(read_only);
    let admin = ask(&access, Some("Bearer admin-0123456789"))
        .await
        .expect("let in");
    assert!(
        admin.may(Right::Read, "a") && !admin.may(Right::Write, "a"),
        "read-only"
    );
}
