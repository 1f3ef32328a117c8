//! Credential helpers: `docker-credential-NAME get`.
//!
//! Protocol: the server's name on standard input; on standard output
//! `{"ServerURL": ..., "Username": ..., "Secret": ...}`, or a message and a non-zero exit.
//! A user name of `<token>` says that the secret is an identity token.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::Credentials;

/// A helper gave no login.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("docker-credential-{0} is not installed, though the login file names it")]
    Missing(String),
    #[error("docker-credential-{name} cannot be run: {source}")]
    Run {
        name: String,
        source: std::io::Error,
    },
    #[error("docker-credential-{name} failed: {message}")]
    Failed { name: String, message: String },
    #[error("docker-credential-{0} gave an answer that cannot be understood")]
    Answer(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// What helpers say when they have nothing; defined in docker-credential-helpers,
/// `credentials/error.go`.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Asks a helper for the login to a server; `None` if it has none. Blocks until it has answered.
pub(super) fn ask(
    name: &str,
    server: &str,
    path: Option<&OsStr>,
) -> Result<Option<Credentials>, HelperError> {
    // A name with a slash would run a program from anywhere.
    if name.contains('/') {
        return Err(HelperError::Missing(name.to_owned()));
    }
    let mut command = Command::new(format!("docker-credential-{name}"));
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let run = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => HelperError::Missing(name.to_owned()),
        _ => HelperError::Run {
            name: name.to_owned(),
            source,
        },
    };
    let mut child = command
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input has a broken pipe; its answer will tell.
        let _ignored = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(run)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        if stdout.trim() == NOT_FOUND {
            return Ok(None);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let message: String = [stdout.trim(), stderr.trim(), "it gave no reason"]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        return Err(HelperError::Failed {
            name: name.to_owned(),
            message,
        });
    }
    // The output holds a secret, so that the error must not show it.
    let answer: Answer =
        serde_json::from_str(&stdout).map_err(|_| HelperError::Answer(name.to_owned()))?;
    Ok(Some(if answer.username == "<token>" {
        Credentials::IdentityToken(answer.secret)
    } else {
        Credentials::Password {
            user: answer.username,
            password: answer.secret,
        }
    }))
}
