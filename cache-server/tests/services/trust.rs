//! Rules, tokens, certificates and the audit log of the program itself, and how they follow their
//! files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ashlar_model::cas::{CasDigest, DigestFunction};
use ashlar_proto::wire::reapi;
use ashlar_proto::wire::reapi::content_addressable_storage_client::ContentAddressableStorageClient;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ED25519,
};
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};

use crate::command::{Running, command, text};
use crate::harness::wire;

/// So long something may take to be so.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with all that a server's trust is made of.
struct Trust {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Trust {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "all");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let trust = Self {
            folder: tempfile::tempdir().expect("a folder"),
            authority: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        };
        let (certificate, key) = trust.pair("localhost");
        trust.write("cert", &certificate);
        trust.write("key", &key);
        trust.write("ca", &trust.authority.pem());
        trust.write("admins", "admin-0123456789abcdef\n");
        trust
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a file there, whole.
    fn write(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.path(name)).expect("moved");
    }

    fn pair(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// Makes a key for tokens, and publishes it alone.
    fn publish(&self) -> EncodingKey {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": x, "x": x});
        self.write("jwks", &json!({ "keys": [jwk] }).to_string());
        EncodingKey::from_ed_der(&pair.serialize_der())
    }

    fn settings(&self, more: &str) -> String {
        let folder = self.folder.path().display();
        format!(
            "tls_cert = '{folder}/cert'\ntls_key = '{folder}/key'\ntls_client_ca = '{folder}/ca'\n\
             audit = '{folder}/audit'\n\
             [[jwt]]\nissuer = 'https://ci.example'\naudience = 'cache'\njwks = '{folder}/jwks'\n\
             [[rule]]\nname = 'pr'\n\
             claims = {{ repository = 'acme/{{repo}}', ref = 'refs/pull/{{pr}}/merge' }}\n\
             grants = [{{ namespace = 'acme/{{repo}}/pr/{{pr}}', rights = ['read', 'write'] }},\n\
             {{ namespace = 'acme/{{repo}}/main', rights = ['read'] }}]\n\
             [[rule]]\ncertificate = 'builder-{{n}}.example'\n\
             grants = [{{ namespace = 'farm/{{n}}', rights = ['read', 'write'] }}]\n\
             [[rule]]\ntoken-file = '{folder}/admins'\n\
             grants = [{{ namespace = '', rights = ['read', 'write', 'lease', 'admin'] }}]\n{more}"
        )
    }

    fn start(&self, more: &str) -> Running {
        self.write("cache.toml", &self.settings(more));
        let config = self.path("cache.toml");
        let config = config.to_str().expect("a path");
        Running::start(
            &self.path("store"),
            &["--listen", "127.0.0.1:0", "--config", config],
        )
    }

    async fn connect(&self, server: &Running, name: Option<&str>) -> Channel {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.authority.pem()))
            .domain_name("localhost");
        if let Some((certificate, key)) = name.map(|name| self.pair(name)) {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", server.address));
        let endpoint = endpoint.expect("an address").tls_config(tls).expect("TLS");
        endpoint.connect().await.expect("connected")
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("audit")).expect("a log");
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

/// A token of a job.
fn job(key: &EncodingKey, kid: &Path, reference: &str) -> String {
    let set: Value = serde_json::from_slice(&std::fs::read(kid).expect("keys")).expect("JSON");
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!(
        "{}.{}",
        part(json!({"alg": "EdDSA", "kid": set["keys"][0]["kid"]})),
        part(json!({
            "iss": "https://ci.example", "aud": "cache", "exp": 4_000_000_000_u64,
            "sub": "repo:acme/app", "repository": "acme/app", "ref": reference,
        }))
    );
    let signature = jsonwebtoken::crypto::sign(text.as_bytes(), key, Algorithm::EdDSA);
    format!("{text}.{}", signature.expect("signed"))
}

/// What comes of writing and of reading somewhere.
async fn tried(channel: &Channel, token: Option<&str>, instance: &str) -> (Code, Code) {
    let mut cas = ContentAddressableStorageClient::new(channel.clone());
    let blob = CasDigest::of(DigestFunction::Sha256, b"a stone");
    let update = reapi::BatchUpdateBlobsRequest {
        instance_name: instance.to_owned(),
        requests: vec![reapi::batch_update_blobs_request::Request {
            digest: Some(wire(&blob)),
            data: Bytes::from_static(b"a stone"),
            compressor: 0,
        }],
        ..Default::default()
    };
    let find = reapi::FindMissingBlobsRequest {
        instance_name: instance.to_owned(),
        blob_digests: vec![wire(&blob)],
        ..Default::default()
    };
    let written = cas.batch_update_blobs(with(update, token)).await;
    let read = cas.find_missing_blobs(with(find, token)).await;
    (
        written.map_or_else(|status| status.code(), |_| Code::Ok),
        read.map_or_else(|status| status.code(), |_| Code::Ok),
    )
}

fn with<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value: MetadataValue<_> = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// Waits until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < PATIENCE, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const OK: Code = Code::Ok;
const DENIED: Code = Code::PermissionDenied;
const UNKNOWN: Code = Code::Unauthenticated;

#[tokio::test]
async fn rules_say_who_may_do_what() {
    let trust = Trust::new();
    let key = trust.publish();
    let pull = job(&key, &trust.path("jwks"), "refs/pull/17/merge");
    let push = job(&key, &trust.path("jwks"), "refs/heads/main");
    let more = "[[rule]]\nanonymous = true\n\
                grants = [{ namespace = 'public', rights = ['read'] }]\n";
    let server = trust.start(more);
    let plain = trust.connect(&server, None).await;
    for (token, instance, codes) in [
        (Some(&pull), "acme/app/pr/17", (OK, OK)),
        (Some(&pull), "acme/app/main", (DENIED, OK)),
        (Some(&pull), "acme/app/pr/18", (DENIED, DENIED)),
        (Some(&pull), "acme/app", (DENIED, DENIED)),
        (Some(&pull), "", (DENIED, DENIED)),
        (Some(&push), "acme/app/main", (DENIED, DENIED)),
        (Some(&push), "public", (DENIED, OK)),
        (None, "public", (UNKNOWN, OK)),
        (None, "acme/app/pr/17", (UNKNOWN, UNKNOWN)),
    ] {
        let token = token.map(String::as_str);
        assert_eq!(tried(&plain, token, instance).await, codes, "{instance}");
    }
    let admin = Some("admin-0123456789abcdef");
    assert_eq!(tried(&plain, admin, "acme/app/main").await, (OK, OK));
    let wrong = tried(&plain, Some("admin-0123456789abcdeF"), "public").await;
    assert_eq!(wrong, (UNKNOWN, UNKNOWN), "also where no token is needed");
    let builder = trust.connect(&server, Some("builder-7.example")).await;
    assert_eq!(tried(&builder, None, "farm/7").await, (OK, OK));
    assert_eq!(tried(&builder, None, "farm/8").await, (DENIED, DENIED));
    assert_eq!(tried(&builder, None, "public").await, (DENIED, OK));
    let both = tried(&builder, Some(&pull), "acme/app/pr/17").await;
    assert_eq!(both, (OK, OK));
    let refused = |event: &Value| {
        event["event"] == "request" && event["outcome"] == "refused" && event["address"].is_string()
    };
    until("the refusal is noted", async || {
        trust.events().iter().any(refused)
    })
    .await;
    let noted = std::fs::read_to_string(trust.path("audit")).expect("a log");
    assert!(
        !noted.contains("abcdeF") && !noted.contains(&pull),
        "no tokens"
    );
}

#[tokio::test]
async fn files_that_change_are_followed_and_broken_ones_are_not() {
    let trust = Trust::new();
    let key = trust.publish();
    let pull = job(&key, &trust.path("jwks"), "refs/pull/17/merge");
    let mut server = trust.start("");
    let channel = trust.connect(&server, None).await;
    let (old, new) = ("admin-0123456789abcdef", "other-0123456789abcdef");
    assert_eq!(tried(&channel, Some(old), "a").await, (OK, OK));
    assert_eq!(
        tried(&channel, Some(&pull), "acme/app/pr/17").await,
        (OK, OK)
    );

    trust.write("admins", &format!("{new}\n"));
    until("the new token counts", async || {
        tried(&channel, Some(new), "a").await == (OK, OK)
    })
    .await;
    assert_eq!(tried(&channel, Some(old), "a").await, (UNKNOWN, UNKNOWN));

    let next = trust.publish();
    let next = job(&next, &trust.path("jwks"), "refs/pull/17/merge");
    until("the new key counts", async || {
        tried(&channel, Some(&next), "acme/app/pr/17").await == (OK, OK)
    })
    .await;
    assert_eq!(
        tried(&channel, Some(&pull), "acme/app/pr/17").await,
        (UNKNOWN, UNKNOWN)
    );

    let failures = || {
        let events = trust.events().into_iter();
        events.filter(|event| event["outcome"] == "failed").count()
    };
    for (name, text) in [
        ("admins", "short\n"),
        ("cert", "nonsense"),
        ("ca", ""),
        ("cache.toml", "[[rule]]\nanonymous = 'perhaps'"),
    ] {
        let good = std::fs::read_to_string(trust.path(name)).expect("a file");
        let before = failures();
        trust.write(name, text);
        server.signal(rustix::process::Signal::HUP);
        until(name, async || failures() > before).await;
        assert_eq!(tried(&channel, Some(new), "a").await, (OK, OK), "{name}");
        let again = trust.connect(&server, Some("builder-7.example")).await;
        assert_eq!(tried(&again, None, "farm/7").await, (OK, OK), "{name}");
        trust.write(name, &good);
    }

    let more = "[[rule]]\nanonymous = true\n\
                grants = [{ namespace = 'public', rights = ['read'] }]\n";
    trust.write("cache.toml", &trust.settings(more));
    server.signal(rustix::process::Signal::HUP);
    until("everyone reads", async || {
        tried(&channel, None, "public").await.1 == OK
    })
    .await;

    // The log is moved away, and made anew at the signal.
    std::fs::rename(trust.path("audit"), trust.path("audit.1")).expect("moved");
    server.signal(rustix::process::Signal::HUP);
    until("there is a new log", async || {
        trust.path("audit").exists()
            && trust
                .events()
                .iter()
                .any(|event| event["event"] == "reload")
    })
    .await;
    server.signal(rustix::process::Signal::TERM);
    let (code, log) = server.end().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("what was there stays"), "{log}");
}

#[test]
fn mistakes_in_rules_are_named() {
    let trust = Trust::new();
    let _key = trust.publish();
    let check = |settings: &str| {
        trust.write("cache.toml", &format!("root = '/c'\n{settings}"));
        let output = command()
            .args(["check-config", "--config"])
            .arg(trust.path("cache.toml"))
            .output()
            .expect("run");
        (
            output.status.code(),
            text(&output.stderr),
            text(&output.stdout),
        )
    };
    let (code, _, shown) = check(&trust.settings(""));
    assert_eq!(code, Some(0));
    let (code, said, again) = check(shown.strip_prefix("root = \"/c\"\n").expect("a root"));
    assert_eq!((code, again), (Some(0), shown), "{said}");

    let jwt = "[[jwt]]\nissuer = 'i'\naudience = 'a'\njwks = 'https://ci.example/jwks'\n";
    let grants = "grants = [{ namespace = 'n', rights = ['read'] }]\n";
    for (settings, why) in [
        (
            "[[rule]]\n".to_owned() + grants,
            "says nothing of who it is for",
        ),
        (
            format!("[[rule]]\nanonymous = true\ntoken_file = 't'\n{grants}"),
            "goes with nothing",
        ),
        (
            "[[rule]]\nanonymous = true\ngrants = []".to_owned(),
            "it grants nothing",
        ),
        (
            format!("[[rule]]\nclaims = {{ a = 'b' }}\n{grants}"),
            "there is no [[jwt]] table",
        ),
        (
            format!("[[rule]]\ncertificate = 'b'\n{grants}"),
            "--tls-client-ca is not set",
        ),
        (
            format!("[[rule]]\nclaims = {{ a = 'b*' }}\n{grants}"),
            "write {name} for one segment",
        ),
        (
            format!("[[rule]]\nanonymous = true\nclaim = 1\n{grants}"),
            "unknown field `claim`",
        ),
        (
            "[[rule]]\nanonymous = true\ngrants = [{ namespace = 'a//b', rights = ['read'] }]"
                .to_owned(),
            "is no namespace",
        ),
        (
            "[[rule]]\nanonymous = true\ngrants = [{ namespace = 'a', rights = ['own'] }]"
                .to_owned(),
            "unknown variant `own`",
        ),
        (
            format!(
                "{jwt}[[rule]]\nclaims = {{ a = '{{b}}' }}\n\
                     grants = [{{ namespace = '{{c}}', rights = ['read'] }}]"
            ),
            "wants {c}, which none of its patterns catches",
        ),
        (jwt.to_owned(), "no [[rule]] with claims"),
        (jwt.replace("https", "http"), "they have to come over https"),
        (format!("{jwt}{jwt}"), "has a table already"),
        (jwt.replace("'a'", "[]"), "audience is empty"),
        (
            format!(
                "{jwt}{}[[rule]]\nclaims = {{ a = 'b' }}\n{grants}",
                jwt.replace("'i'", "'j'")
            ),
            "say by issuer",
        ),
        (
            format!(
                "{}[[rule]]\nclaims = {{ a = 'b' }}\n{grants}",
                jwt.replace("https://ci.example/jwks", "/nowhere/jwks")
            ),
            "cannot read the keys in /nowhere/jwks",
        ),
        ("tls_client_ca = 'ca'".to_owned(), "needs TLS"),
        (
            "tls_client_required = true".to_owned(),
            "needs --tls-client-ca",
        ),
        (
            "audit = '/nowhere/audit'".to_owned(),
            "cannot open the audit log /nowhere/audit",
        ),
    ] {
        let (code, said, _) = check(&settings);
        assert_eq!(code, Some(2), "{settings}\n{said}");
        assert!(said.contains(why), "{why}\n{said}");
    }
}
