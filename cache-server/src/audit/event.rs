//! What is noted: one JSON object each.
//!
//! ```json
//! {"time":"2026-11-30T20:15:00.123Z","event":"write","outcome":"done","caller":"repo:acme/app",
//!  "rules":"ci","address":"10.1.2.3:41234","namespace":"acme/app/main","key":"sha256-6f…/142",
//!  "details":{"signer":"builder-7"}}
//! ```
//!
//! What is not known is left out.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ashlar_model::config::DateTime;
use serde::Serialize;
use serde_json::{Map, Value};
use tonic::{Request, Status};

use crate::auth::Caller;
use crate::tls::Peer;

/// Longer texts are cut: they come from clients.
const LONGEST: usize = 1024;

/// What somebody did, or wanted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Came with a connection.
    Connection,
    /// Came with a request. Only refusals are noted.
    Request,
    /// Looked something up. Only refusals are noted.
    Read,
    /// Stored a result.
    Write,
    /// Asked for a lease. Only refusals are noted.
    Lease,
    /// Removed results.
    Invalidate,
    /// Kept a result from being evicted.
    Pin,
    /// Ended that.
    Unpin,
    /// Looked after the cache in another way.
    Admin,
    /// Had work queued for workers, or wanted to see some. Looking is noted if it is refused.
    Execute,
    /// Ended work that was queued or ran.
    Cancel,
    /// Came to work.
    Attach,
    /// Changed a file of certificates, tokens, keys or rules. The caller is the server itself.
    Reload,
    /// Events before this one are missing: `details.count` of them.
    Lost,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Done,
    /// The caller may not.
    Refused,
    /// It could not be done.
    Failed,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What was done.
    #[serde(rename = "event")]
    pub what: What,
    /// What came of it.
    pub outcome: Outcome,
    /// Who it was; never a token.
    pub caller: Arc<str>,
    /// The rules that gave the caller its rights.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub rules: Arc<str>,
    /// Where the caller came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Arc<str>>,
    /// Where it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// To what it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it was refused, or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What else is to be said.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Event {
    /// Something that was done by nobody who is known.
    pub fn new(what: What) -> Self {
        Self {
            what,
            outcome: Outcome::Done,
            caller: "nobody".into(),
            rules: "".into(),
            address: None,
            namespace: None,
            key: None,
            reason: None,
            details: Map::new(),
        }
    }

    /// Something that was done by the server itself.
    pub fn of_server(what: What) -> Self {
        Self {
            caller: "server".into(),
            ..Self::new(what)
        }
    }

    /// Something that was done by the sender of a request that the gate let in.
    pub fn of<T>(what: What, request: &Request<T>) -> Self {
        Self::new(what)
            .by(&Caller::of(request))
            .from(request.extensions().get())
    }

    /// Who did it.
    #[must_use]
    pub fn by(mut self, caller: &Caller) -> Self {
        self.caller = caller.shared_name();
        self.rules = caller.rules();
        self
    }

    /// Where that caller came from.
    #[must_use]
    pub fn from(mut self, peer: Option<&Peer>) -> Self {
        self.address = peer.map(|peer| peer.address.clone());
        self
    }

    /// In which namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(cut(namespace));
        self
    }

    /// To what.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "texts, numbers and digests as they are at hand"
    )]
    pub fn to_key(mut self, key: impl ToString) -> Self {
        self.key = Some(cut(&key.to_string()));
        self
    }

    /// What else is to be said.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = match value.into() {
            Value::String(text) => Value::String(cut(&text)),
            value => value,
        };
        self.details.insert(name.to_owned(), value);
        self
    }

    /// It was refused, and why.
    #[must_use]
    pub fn refused(mut self, reason: &str) -> Self {
        self.outcome = Outcome::Refused;
        self.reason = Some(cut(reason));
        self
    }

    /// It failed, and why.
    #[must_use]
    pub fn failed(mut self, reason: &str) -> Self {
        self.outcome = Outcome::Failed;
        self.reason = Some(cut(reason));
        self
    }

    /// What a status says came of it.
    #[must_use]
    pub fn ended(self, status: &Status) -> Self {
        match status.code() {
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                self.refused(status.message())
            }
            _ => self.failed(status.message()),
        }
    }

    /// As it is written, with the end of the line.
    pub(super) fn line(&self, time: SystemTime) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            time: String,
            #[serde(flatten)]
            event: &'a Event,
        }
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        // Nobody reads more than milliseconds.
        let time = DateTime::new(seconds, since.subsec_millis() * 1_000_000).to_string();
        let line = Line { time, event: self };
        // Maps with text for keys can always be written.
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// A text that is not too long.
fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(event: &Event) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(1_796_069_700_123);
        String::from_utf8(event.line(time)).expect("UTF-8")
    }

    #[test]
    fn a_line_says_who_did_what_where() {
        let caller = Caller::known("repo:acme/app", "ci", []);
        let peer = Peer::at("10.1.2.3:41234");
        let event = Event::new(What::Write)
            .by(&caller)
            .from(Some(&peer))
            .in_namespace("acme/app/main")
            .to_key("sha256-6f/142")
            .with("signer", "builder-7");
        insta::assert_snapshot!(line(&event), @r#"{"time":"2026-11-30T20:15:00.123Z","event":"write","outcome":"done","caller":"repo:acme/app","rules":"ci","address":"10.1.2.3:41234","namespace":"acme/app/main","key":"sha256-6f/142","details":{"signer":"builder-7"}}"#);
    }

    #[test]
    fn what_is_not_known_is_left_out_and_what_is_long_is_cut() {
        let event = Event::new(What::Request).refused(&"é".repeat(2000));
        let line = line(&event);
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["reason"].as_str().expect("a reason").len(), LONGEST);
        for absent in ["rules", "address", "namespace", "key", "details"] {
            assert!(read.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn nothing_that_a_client_sends_begins_a_line_of_its_own() {
        let event = Event::new(What::Read).in_namespace("a\n{\"event\":\"write\"}\r");
        assert_eq!(line(&event).lines().count(), 1);
    }

    #[test]
    fn a_status_says_whether_it_was_refused_or_failed() {
        let ended = |status| Event::new(What::Pin).ended(&status).outcome;
        assert_eq!(ended(Status::permission_denied("no")), Outcome::Refused);
        assert_eq!(ended(Status::unauthenticated("who")), Outcome::Refused);
        assert_eq!(ended(Status::unavailable("gone")), Outcome::Failed);
    }
}
