//! One request to a registry, described so that it can be sent as often as needed.

use std::fmt;
use std::sync::Arc;

use ashlar_model::digest::BlobDigest;
use ashlar_model::reference::Reference;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};

use super::upload_body::UploadBody;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) subject: Subject,
    pub(super) scope: Scope,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: CallBody,
    /// Whether sending it a second time does the same as sending it once.
    pub(super) repeatable: bool,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// A path below the registry's `/v2/`.
    Path(String),
    /// A URL that the registry gave.
    Url(reqwest::Url),
}

/// What a request is about, for error messages.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// The manifest with a tag or digest.
    Manifest(String),
    /// A blob.
    Blob(BlobDigest),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(selector) if selector.starts_with("sha256:") => {
                write!(f, "image with the digest {selector}")
            }
            Self::Manifest(tag) => write!(f, "image tagged {tag}"),
            Self::Blob(digest) => write!(f, "blob {digest}"),
        }
    }
}

/// What a request sends.
#[derive(Debug, Clone)]
pub(super) enum CallBody {
    Empty,
    Bytes(Bytes),
    Upload(Arc<UploadBody>),
}

/// The rights that a request needs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The repository.
    pub(super) repository: String,
    /// Whether it is written to.
    pub(super) push: bool,
    /// Repositories whose blobs are mounted from.
    pub(super) mount_from: Vec<String>,
}

impl Scope {
    pub(super) fn pull(reference: &Reference) -> Self {
        Self {
            repository: reference.repository().to_owned(),
            push: false,
            mount_from: Vec::new(),
        }
    }

    pub(super) fn push(reference: &Reference) -> Self {
        Self {
            push: true,
            ..Self::pull(reference)
        }
    }

    /// The scopes as token servers know them. Source: distribution specification, "Token scope".
    pub(super) fn to_token_scopes(&self) -> Vec<String> {
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let others = self
            .mount_from
            .iter()
            .map(|repository| format!("repository:{repository}:pull"));
        std::iter::once(own).chain(others).collect()
    }
}

impl Call {
    /// A request without headers and body.
    pub(super) fn new(method: Method, path: String, subject: Subject, scope: Scope) -> Self {
        Self {
            method,
            target: Target::Path(path),
            subject,
            scope,
            headers: Vec::new(),
            body: CallBody::Empty,
            repeatable: true,
        }
    }

    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        // Values are media types, numbers and digests; one that is no header value came from a
        // stranger's manifest, and a server will miss it.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    #[must_use]
    pub(super) fn body(mut self, body: CallBody) -> Self {
        self.body = body;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_all_repositories_that_are_touched() {
        let reference: Reference = "q.io/team/app:1".parse().unwrap();
        assert_eq!(
            Scope::pull(&reference).to_token_scopes(),
            ["repository:team/app:pull"]
        );
        let mut scope = Scope::push(&reference);
        scope.mount_from = vec!["team/base".into()];
        assert_eq!(
            scope.to_token_scopes(),
            ["repository:team/app:pull,push", "repository:team/base:pull"]
        );
    }
}
