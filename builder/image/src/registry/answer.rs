//! Reading what a registry answers, within limits.

use std::time::Duration;

use ashlar_http::patience::{ConnectionError, next_chunk};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Response, StatusCode};
use serde::Deserialize;

/// Bytes of an error's body that are looked at.
const MAX_ERROR_BODY: u64 = 64 * 1024;
/// Characters of a registry's message that are shown.
const MAX_DETAIL: usize = 400;

/// A body could not be read whole.
#[derive(Debug)]
pub(super) enum BodyError {
    /// There is more than was allowed.
    TooLarge,
    /// The connection broke.
    Broken(ConnectionError),
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_limited(
    response: &mut Response,
    limit: u64,
    idle: Duration,
) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = next_chunk(response, idle)
        .await
        .map_err(BodyError::Broken)?
    {
        if body.len() as u64 + chunk.len() as u64 > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The body of a registry's error. Source: distribution specification, "Error codes".
#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    code: Option<String>,
    message: Option<String>,
}

/// What token servers send instead.
#[derive(Deserialize)]
struct Details {
    details: Option<String>,
    error_description: Option<String>,
    error: Option<String>,
}

/// What a registry says about an error; empty if it says nothing that people can read.
pub(super) async fn error_detail(response: &mut Response, idle: Duration) -> String {
    // Go's servers send some errors as text without saying so.
    let plain = response
        .headers()
        .get(CONTENT_TYPE)
        .is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    // An error without a readable body is still an error with a status.
    let body = read_limited(response, MAX_ERROR_BODY, idle)
        .await
        .unwrap_or_default();
    detail_of(&body, plain)
}

/// Whether this is the answer of a server of TLS that got plain HTTP. Go's and nginx's words.
pub(super) async fn wants_tls(response: &mut Response, idle: Duration) -> bool {
    if response.status() != StatusCode::BAD_REQUEST {
        return false;
    }
    let body = read_limited(response, MAX_ERROR_BODY, idle)
        .await
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&body);
    [
        "HTTP request to an HTTPS server",
        "plain HTTP request was sent to HTTPS port",
    ]
    .iter()
    .any(|words| text.contains(words))
}

fn detail_of(body: &[u8], plain: bool) -> String {
    if let Ok(Errors { errors }) = serde_json::from_slice(body) {
        let texts: Vec<String> = errors
            .into_iter()
            .filter_map(|entry| match (entry.code, entry.message) {
                (Some(code), Some(message)) if !message.is_empty() => {
                    Some(format!("{code}: {message}"))
                }
                (code, message) => message.filter(|m| !m.is_empty()).or(code),
            })
            .collect();
        return printable(&texts.join("; "));
    }
    if let Ok(details) = serde_json::from_slice::<Details>(body) {
        let text = details
            .details
            .or(details.error_description)
            .or(details.error);
        return printable(&text.unwrap_or_default());
    }
    if plain {
        return printable(&String::from_utf8_lossy(body));
    }
    String::new()
}

/// One line, without what could play tricks on a terminal.
fn printable(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_DETAIL)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_words_are_found() {
        for (body, plain, detail) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\n way","detail":null},{"code":"X"}]}"#,
                false,
                "DENIED: no way; X",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                false,
                "incorrect username or password",
            ),
            (r#"{"error":"invalid_grant"}"#, false, "invalid_grant"),
            ("<html>502</html>", false, ""),
            ("try later\r\n", true, "try later"),
            ("\x1b[31mred", true, "[31mred"),
            ("", false, ""),
        ] {
            assert_eq!(detail_of(body.as_bytes(), plain), detail);
        }
    }
}
