//! Attacks on a cache that teams share who do not trust each other: by a pull request's token, by
//! another team, by somebody without any. Through real servers, one over its disk and several over
//! Redis and S3, with real tokens.

mod exhaustion;
mod forgery;
mod leases;
mod pull_requests;
mod theft;

use std::time::Duration;

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::reapi;
use ashlar_test_support::cache_server::CacheServer;
use ashlar_test_support::farm::client::FUNCTION;
use ashlar_test_support::farm::member::with_files;
use ashlar_test_support::farm::{CONFIGURATION, Caller, Farm, Shape};
use ashlar_test_support::jwt::Issuer;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

/// The longest that any honest call may take.
const PATIENCE: Duration = Duration::from_secs(30);

const ADMIN: &str = "a-word-for-those-who-look-after-it";

/// Pull requests of any repository read through to its main branch; a job writes its own.
const SETTINGS: &str = r#"
[[jwt]]
issuer = "https://ci.example"
audience = "ashlar-cache"
jwks = "{dir}/keys.json"

[[rule]]
name = "main branches"
claims = { repository = "{org}/{repo}", ref = "refs/heads/main" }
grants = [{ namespace = "{org}/{repo}/main", rights = ["read", "write", "lease"] }]

[[rule]]
name = "pull requests"
claims = { repository = "{org}/{repo}", ref = "refs/pull/{pr}/merge" }
grants = [{ namespace = "{org}/{repo}/pr/{pr}", rights = ["read", "write", "lease"] }]

[[rule]]
name = "admins"
token_file = "{dir}/admins"
grants = [{ namespace = "", rights = ["read", "write", "lease", "admin"] }]

[[namespace]]
name = "*/*/pr/*"
reads = ["{1}/{2}/main"]
"#;

/// Servers, those who issue tokens for them, and callers.
struct Scene {
    runtime: Runtime,
    issuer: Issuer,
    url: String,
    // One of them is there.
    _server: Option<CacheServer>,
    _farm: Option<Farm>,
}

impl Scene {
    /// Runs an attack against one server over its disk, and against a farm.
    fn each(test: &str, attack: impl Fn(&Self)) {
        for farm in [false, true] {
            if let Some(scene) = Self::start(test, farm) {
                attack(&scene);
            }
        }
    }

    fn start(test: &str, farm: bool) -> Option<Self> {
        let issuer = Issuer::new("key-1");
        let files = [
            ("keys.json", issuer.key_set()),
            ("admins", format!("{ADMIN}\n")),
            (CONFIGURATION, SETTINGS.to_owned()),
        ]
        .map(|(name, text)| (name.to_owned(), text));
        let (url, server, farm) = if farm {
            let shape = Shape {
                files: files.to_vec(),
                near: true,
                ..Shape::default()
            };
            let farm = Farm::start(test, shape)?;
            (farm.url(), None, Some(farm))
        } else {
            let server = with_files(CacheServer::prepare(), &files).started();
            (server.url(), Some(server), None)
        };
        Some(Self {
            runtime: Runtime::new().unwrap(),
            issuer,
            url,
            _server: server,
            _farm: farm,
        })
    }

    /// Somebody with a token, or with none, who asks in some instance.
    fn caller(&self, token: Option<&str>, instance: &str) -> Caller {
        let _entered = self.runtime.enter();
        let caller = Caller::new(&self.url, PATIENCE).within(instance);
        match token {
            Some(token) => caller.with_token(token),
            None => caller,
        }
    }

    fn token(&self, repository: &str, branch: &str) -> String {
        self.issuer
            .token(&[("repository", repository), ("ref", branch)])
    }

    /// The job of a main branch.
    fn main_of(&self, repository: &str) -> Caller {
        let token = self.token(repository, "refs/heads/main");
        self.caller(Some(&token), &format!("{repository}/main"))
    }

    /// The job of a pull request.
    fn pull_request(&self, repository: &str, number: u64) -> Caller {
        let token = self.token(repository, &format!("refs/pull/{number}/merge"));
        self.caller(Some(&token), &format!("{repository}/pr/{number}"))
    }

    fn run<T>(&self, attack: impl Future<Output = T>) -> T {
        self.runtime.block_on(attack)
    }
}

fn action(name: &str) -> CasDigest {
    CasDigest::of(FUNCTION, name.as_bytes())
}

fn blob(bytes: impl Into<Bytes>) -> (CasDigest, Bytes) {
    let bytes = bytes.into();
    (CasDigest::of(FUNCTION, &bytes), bytes)
}

/// A result with some files.
fn result(files: &[&CasDigest]) -> reapi::ActionResult {
    let files = files.iter().enumerate();
    reapi::ActionResult {
        output_files: files
            .map(|(number, digest)| reapi::OutputFile {
                path: format!("file-{number}"),
                digest: Some(digest_to_wire(digest)),
                ..reapi::OutputFile::default()
            })
            .collect(),
        ..reapi::ActionResult::default()
    }
}

/// Asserts that something was refused to somebody who may not do it.
#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, what: &str) {
    let status = answer.expect_err(what);
    let code = status.code();
    assert!(
        matches!(code, Code::PermissionDenied | Code::Unauthenticated),
        "{what}: {status}"
    );
}

/// Asserts that something was not there for whoever asked.
#[track_caller]
fn absent<T: std::fmt::Debug>(answer: Result<T, Status>, what: &str) {
    let status = answer.expect_err(what);
    let code = status.code();
    assert!(
        matches!(code, Code::NotFound | Code::FailedPrecondition),
        "{what}: {status}"
    );
}

fn zstd_of(bytes: &[u8]) -> Bytes {
    Bytes::from(zstd::encode_all(bytes, 1).unwrap())
}
