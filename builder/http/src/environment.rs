//! The environment variables that matter to whoever speaks HTTP.

use std::ffi::OsString;
use std::path::PathBuf;

/// The environment variables that matter to an HTTP client, by value.
#[derive(Debug, Clone, Default)]
pub struct HttpEnvironment {
    /// `SSL_CERT_FILE`: certificate authorities instead of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: a directory of certificate authorities instead of the system's.
    pub ssl_cert_dir: Option<PathBuf>,
    /// `http_proxy` or `HTTP_PROXY`.
    pub http_proxy: Option<String>,
    /// `https_proxy` or `HTTPS_PROXY`.
    pub https_proxy: Option<String>,
    /// `all_proxy` or `ALL_PROXY`.
    pub all_proxy: Option<String>,
    /// `no_proxy` or `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl HttpEnvironment {
    /// Takes the variables from a lookup function. One that is set to nothing counts as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.is_empty());
        // The lower-case name comes first, as in curl. (HTTP_PROXY alone is not trusted there, for
        // a CGI server sets it from a request header; nobody runs a builder as a CGI script.)
        let proxy = |lower: &str, upper: &str| {
            value(lower)
                .or_else(|| value(upper))
                .and_then(|value| value.into_string().ok())
        };
        Self {
            ssl_cert_file: value("SSL_CERT_FILE").map(PathBuf::from),
            ssl_cert_dir: value("SSL_CERT_DIR").map(PathBuf::from),
            http_proxy: proxy("http_proxy", "HTTP_PROXY"),
            https_proxy: proxy("https_proxy", "HTTPS_PROXY"),
            all_proxy: proxy("all_proxy", "ALL_PROXY"),
            no_proxy: proxy("no_proxy", "NO_PROXY"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_proxy_variables_come_first_and_empty_ones_do_not_count() {
        let environment = HttpEnvironment::from_lookup(|name| match name {
            "https_proxy" => Some("http://lower:1".into()),
            "HTTPS_PROXY" => Some("http://upper:1".into()),
            "HTTP_PROXY" => Some("http://only:1".into()),
            "no_proxy" => Some("".into()),
            _ => None,
        });
        assert_eq!(environment.https_proxy.as_deref(), Some("http://lower:1"));
        assert_eq!(environment.http_proxy.as_deref(), Some("http://only:1"));
        assert_eq!(environment.no_proxy, None);
    }
}
