//! An issuer of JSON Web Tokens, as a CI service is one, and a forger. Keys and signatures are
//! made by openssl.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::command::TestCommand;
use crate::environment;

/// What `iss` of its tokens is.
pub const ISSUER: &str = "https://ci.example";

/// What `aud` of its tokens is.
pub const AUDIENCE: &str = "ashlar-cache";

/// How long its tokens are good.
const LIFETIME: Duration = Duration::from_secs(600);

/// An RSA key and what it signs.
#[derive(Debug)]
pub struct Issuer {
    directory: TempDir,
    /// The name of the key.
    key: String,
}

impl Issuer {
    /// An issuer with a key of some name.
    pub fn new(key: &str) -> Self {
        let directory = environment::scratch_directory("issuer");
        let issuer = Self {
            directory,
            key: key.to_owned(),
        };
        let bits = "rsa_keygen_bits:2048";
        issuer.openssl(&[
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            bits,
            "-out",
            "key.pem",
        ]);
        issuer
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        TestCommand::root("openssl")
            .args(arguments)
            .directory(self.directory.path())
            .text()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The set of its public keys.
    pub fn key_set(&self) -> String {
        let modulus = self.openssl(&["rsa", "-in", "key.pem", "-noout", "-modulus"]);
        let digits = modulus.trim().trim_start_matches("Modulus=");
        let bytes: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"))
            .collect();
        let key = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.key,
            "n": URL_SAFE_NO_PAD.encode(bytes), "e": "AQAB",
        });
        json!({ "keys": [key] }).to_string()
    }

    /// The public key as a file of PEM, which a forger may take for a secret.
    pub fn public_key(&self) -> Vec<u8> {
        self.openssl(&["rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
        fs::read(self.path("public.pem")).expect("a public key")
    }

    /// A token that says this beside what every token has to say.
    pub fn token(&self, claims: &[(&str, &str)]) -> String {
        let mut all = standard_claims();
        for (name, value) in claims {
            all[*name] = json!(value);
        }
        self.signed(&all)
    }

    /// A token with these claims and no others.
    pub fn signed(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.key });
        let text = unsigned(&header, claims);
        fs::write(self.path("text"), &text).expect("a file to sign");
        self.openssl(&[
            "dgst",
            "-sha256",
            "-sign",
            "key.pem",
            "-out",
            "signature",
            "text",
        ]);
        let signature = fs::read(self.path("signature")).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token whose signature is made with a secret that everybody has.
    pub fn with_secret(&self, claims: &Value, secret: &[u8]) -> String {
        let header = json!({ "alg": "HS256", "typ": "JWT", "kid": self.key });
        let text = unsigned(&header, claims);
        fs::write(self.path("text"), &text).expect("a file to sign");
        let secret = secret.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        });
        let key = format!("hexkey:{secret}");
        self.openssl(&[
            "dgst",
            "-sha256",
            "-mac",
            "HMAC",
            "-macopt",
            &key,
            "-binary",
            "-out",
            "signature",
            "text",
        ]);
        let signature = fs::read(self.path("signature")).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What every token has to say.
pub fn standard_claims() -> Value {
    let now = UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs();
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "a job of a test",
        "iat": now, "nbf": now - 10, "exp": now + LIFETIME.as_secs(),
    })
}

/// Header and claims of a token.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}
