//! A client with proxies and redirects set; certificates are its maker's to add.

use std::time::Duration;

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, ClientBuilder};

use crate::environment::HttpEnvironment;
use crate::proxy::{ProxyError, proxies};

/// What Ashlar calls itself.
pub const USER_AGENT: &str = concat!("ashlar/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a server may send nothing before a request counts as broken.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A client with the environment's proxies, which follows redirects but never from HTTPS to plain
/// HTTP.
pub fn builder(environment: &HttpEnvironment) -> Result<ClientBuilder, ProxyError> {
    let mut builder = Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        // Several connections of HTTP/1.1 are faster than one of HTTP/2 with its flow control
        // windows, and what is fetched is few and large.
        .http1_only()
        .no_proxy()
        .redirect(Policy::custom(follow));
    for proxy in proxies(environment)? {
        builder = builder.proxy(proxy);
    }
    Ok(builder)
}

/// Redirects are followed, but never from HTTPS to plain HTTP. (Headers with logins are dropped by
/// reqwest when the host or port changes.)
fn follow(attempt: Attempt<'_>) -> Action {
    /// As many as reqwest's own default.
    const MAX_REDIRECTS: usize = 10;
    let leaves_tls = attempt.url().scheme() == "http"
        && attempt
            .previous()
            .last()
            .is_some_and(|previous| previous.scheme() == "https");
    if leaves_tls {
        attempt.error("it redirects from HTTPS to plain HTTP")
    } else if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("it redirects too often")
    } else {
        attempt.follow()
    }
}
