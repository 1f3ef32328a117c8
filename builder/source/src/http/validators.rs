//! `ETag` and `Last-Modified`: how a server tells one version of a file from another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ashlar_model::layer::Timestamp;
use ashlar_store::home::sources::HttpRecord;
use reqwest::header::{
    DATE, ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Response, StatusCode};

/// What an answer says of the version of its file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
    /// The server's clock.
    date: Option<SystemTime>,
}

/// A file that was modified this recently may be modified again within the same second. Source:
/// RFC 9110, section 8.8.2.2.
const SETTLED: Duration = Duration::from_secs(60);

impl Validators {
    pub(super) fn of(response: &Response) -> Self {
        Self::of_headers(response.headers())
    }

    fn of_headers(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self {
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
            date: text(DATE).and_then(|date| httpdate::parse_http_date(&date).ok()),
        }
    }

    /// The fields that ask for the file only if it is not the one that is known.
    pub(super) fn condition(known: &HttpRecord) -> super::Fields {
        match (&known.etag, &known.last_modified) {
            (Some(etag), _) => vec![(IF_NONE_MATCH, etag.clone())],
            (None, Some(time)) => vec![(IF_MODIFIED_SINCE, time.clone())],
            (None, None) => Vec::new(),
        }
    }

    /// Whether an answer with these validators says that the file is the one that is known.
    pub(super) fn confirm(&self, status: StatusCode, known: &HttpRecord) -> bool {
        match &known.etag {
            Some(etag) => match (&self.etag, status) {
                (Some(now), StatusCode::OK | StatusCode::NOT_MODIFIED) => {
                    strong(now) == strong(etag)
                }
                // It was asked about this one only.
                (None, StatusCode::NOT_MODIFIED) => true,
                _ => false,
            },
            None => match status {
                StatusCode::NOT_MODIFIED => true,
                StatusCode::OK => {
                    known.last_modified.is_some() && self.last_modified == known.last_modified
                }
                _ => false,
            },
        }
    }

    /// What a range may be asked for with, so that it is of the same version.
    pub(super) fn for_ranges(&self) -> Option<String> {
        let etag = self.etag.clone().filter(|etag| !etag.starts_with("W/"));
        etag.or_else(|| self.strong_time())
    }

    /// `Last-Modified`, if a later version of the file is sure to have another. Only the server's
    /// clock can tell.
    pub(super) fn strong_time(&self) -> Option<String> {
        let text = self.last_modified.as_ref()?;
        let time = httpdate::parse_http_date(text).ok()?;
        let age = self.date?.duration_since(time).ok()?;
        (age >= SETTLED).then(|| text.clone())
    }

    /// When the file was last modified.
    pub(super) fn modified(&self) -> Option<Timestamp> {
        let time = httpdate::parse_http_date(self.last_modified.as_ref()?).ok()?;
        let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(Timestamp {
            seconds: i64::try_from(seconds).ok()?,
            nanoseconds: 0,
        })
    }
}

/// An entity tag without the mark that it is weak. Comparing weakly is enough: what is kept is
/// what the server gave under this tag.
fn strong(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use ashlar_model::digest::BlobDigest;

    use super::*;

    const OLD: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn validators(fields: &[(HeaderName, &str)]) -> Validators {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, value.parse().unwrap());
        }
        Validators::of_headers(&headers)
    }

    fn known(etag: Option<&str>, last_modified: Option<&str>) -> HttpRecord {
        HttpRecord {
            what: String::new(),
            blob: BlobDigest::of(b""),
            size: 0,
            etag: etag.map(str::to_owned),
            last_modified: last_modified.map(str::to_owned),
            modified: None,
        }
    }

    #[test]
    fn equal_tags_confirm_weak_or_not() {
        let known = known(Some("W/\"1\""), Some(OLD));
        let same = validators(&[(ETAG, "\"1\"")]);
        assert!(same.confirm(StatusCode::OK, &known));
        assert!(same.confirm(StatusCode::NOT_MODIFIED, &known));
        assert!(!same.confirm(StatusCode::NOT_FOUND, &known));
        assert!(Validators::default().confirm(StatusCode::NOT_MODIFIED, &known));
        // A tag that is known decides alone.
        assert!(!validators(&[(ETAG, "\"2\"")]).confirm(StatusCode::OK, &known));
        assert!(!validators(&[(LAST_MODIFIED, OLD)]).confirm(StatusCode::OK, &known));
        assert!(!validators(&[(ETAG, "\"2\"")]).confirm(StatusCode::NOT_MODIFIED, &known));
    }

    #[test]
    fn without_tags_the_time_confirms() {
        let timed = known(None, Some(OLD));
        assert!(validators(&[(LAST_MODIFIED, OLD)]).confirm(StatusCode::OK, &timed));
        assert!(Validators::default().confirm(StatusCode::NOT_MODIFIED, &timed));
        assert!(!Validators::default().confirm(StatusCode::OK, &timed));
        assert!(!Validators::default().confirm(StatusCode::OK, &known(None, None)));
    }

    #[test]
    fn a_fresh_time_is_no_validator() {
        let at = |date| validators(&[(LAST_MODIFIED, OLD), (DATE, date)]);
        assert_eq!(at("Wed, 21 Oct 2015 07:28:59 GMT").strong_time(), None);
        assert_eq!(
            at("Wed, 21 Oct 2015 07:29:00 GMT").strong_time().as_deref(),
            Some(OLD)
        );
        // Nobody knows how old it is.
        assert_eq!(validators(&[(LAST_MODIFIED, OLD)]).strong_time(), None);
        assert_eq!(at("soon").strong_time(), None);
    }

    #[test]
    fn times_are_read() {
        let modified = validators(&[(LAST_MODIFIED, OLD)]).modified().unwrap();
        assert_eq!(modified.seconds, 1_445_412_480);
        assert_eq!(validators(&[]).modified(), None);
    }
}
