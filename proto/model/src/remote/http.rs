//! A file behind a URL.

use std::fmt;

use super::query::percent_decoded;
use super::without_credentials;
use crate::content_hash::{ContentHash, KeyEncoder};
use crate::digest::{BlobDigest, ContentDigest};
use crate::layer::Timestamp;

/// The name of a file whose URL has none, as BuildKit has it.
const NO_NAME: &str = "__unnamed__";

/// A file behind a URL, as somebody asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpSource {
    /// `http://…` or `https://…`.
    pub url: String,
    /// What the file must be; `None` for whatever the server has.
    pub checksum: Option<BlobDigest>,
    /// Its name in place of the one that the URL ends in.
    name: Option<String>,
}

impl HttpSource {
    /// Understands a URL; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"))?;
        let has_host = !rest.is_empty() && !rest.starts_with(['/', '?', '#']);
        has_host.then(|| Self {
            url: text.to_owned(),
            checksum: None,
            name: None,
        })
    }

    /// The same file, called `context`: what a build context of one file is, as in BuildKit.
    #[must_use]
    pub fn as_context(self) -> Self {
        Self {
            name: Some("context".to_owned()),
            ..self
        }
    }

    /// The name that the file is given: the last one of the URL's path. What the server says in
    /// `Content-Disposition` does not matter, so that the name is known before anything is asked.
    pub fn file_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let (_, rest) = self.url.split_once("://").unwrap_or_default();
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let path = rest[..end].split_once('/').map_or("", |(_, path)| path);
        let decoded = percent_decoded(path).unwrap_or_default();
        let name = decoded.trim_end_matches('/').rsplit('/').next();
        match name.unwrap_or_default() {
            "" | "." | ".." => NO_NAME.to_owned(),
            name if name.contains('\0') => NO_NAME.to_owned(),
            name => name.to_owned(),
        }
    }

    /// The host, without port and credentials.
    pub fn host(&self) -> &str {
        host_of(&self.url)
    }
}

/// The host of a URL, without port and credentials.
pub fn host_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    host.split_once(':').map_or(host, |(host, _)| host)
}

impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.url))
    }
}

/// A file behind a URL, by its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpFile {
    /// Where it was found.
    pub source: HttpSource,
    /// What is in it.
    pub digest: BlobDigest,
}

/// Mode of a file that was fetched: BuildKit's.
pub const HTTP_FILE_MODE: u32 = 0o600;

/// Modification time of a file whose server told none: BuildKit's.
pub const NO_TIME: Timestamp = Timestamp {
    seconds: 0,
    nanoseconds: 0,
};

impl HttpFile {
    /// What is in the file, as keys have it: known without the file.
    pub fn content_digest(&self) -> ContentDigest {
        let mut encoder = KeyEncoder::new("ashlar 2026-11 http file v1");
        encoder.value(&self.digest).value(&self.source.file_name());
        encoder.finish().into()
    }
}

impl ContentHash for HttpFile {
    fn encode(&self, encoder: &mut KeyEncoder) {
        // Where it comes from does not matter, and neither does its time.
        encoder
            .tag("http")
            .value(&self.digest)
            .value(&self.source.file_name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path() {
        for (url, name) in [
            ("https://h/a/b.txt", "b.txt"),
            ("https://h/a/b.txt?x=/y#/z", "b.txt"),
            ("https://h/a/b/", "b"),
            ("https://h/a%2fb%20c", "b c"),
            ("https://h", NO_NAME),
            ("https://h/", NO_NAME),
            ("https://h?x", NO_NAME),
            ("https://h/..", NO_NAME),
            ("https://h/%zz", NO_NAME),
            ("https://h/a%00b", NO_NAME),
            ("http://u:p@h:1/x", "x"),
        ] {
            assert_eq!(HttpSource::parse(url).unwrap().file_name(), name, "{url}");
        }
    }

    #[test]
    fn hosts_have_neither_port_nor_user() {
        for (url, host) in [
            ("https://h.example/a", "h.example"),
            ("https://u:p@h:1/x@y", "h"),
            ("http://[::1]:80/", "::1"),
        ] {
            assert_eq!(HttpSource::parse(url).unwrap().host(), host);
        }
    }

    #[test]
    fn what_is_no_url_is_none() {
        for text in ["", "a", "http:/x", "https://", "https:///x", "HTTP://h/x"] {
            assert_eq!(HttpSource::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_identity_is_content_and_name() {
        let file = |url: &str, content: &[u8]| HttpFile {
            source: HttpSource::parse(url).unwrap(),
            digest: BlobDigest::of(content),
        };
        let one = file("https://a/x", b"1").content_digest();
        assert_eq!(one, file("http://b/dir/x", b"1").content_digest());
        assert_ne!(one, file("https://a/y", b"1").content_digest());
        assert_ne!(one, file("https://a/x", b"2").content_digest());
    }
}
