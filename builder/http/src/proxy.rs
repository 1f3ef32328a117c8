//! Proxies from the environment.

use reqwest::{NoProxy, Proxy};

use crate::environment::HttpEnvironment;

/// Never reached through a proxy, as in Go and curl.
const THIS_MACHINE: &str = "localhost,127.0.0.0/8,::1";

/// A proxy from the environment is no URL.
#[derive(Debug, thiserror::Error)]
#[error("the proxy `{value}` from the environment cannot be used")]
pub struct ProxyError {
    /// The value, without the password it may hold.
    pub value: String,
    /// Why not.
    pub source: reqwest::Error,
}

/// The proxies to use, each told when not to be used.
pub fn proxies(environment: &HttpEnvironment) -> Result<Vec<Proxy>, ProxyError> {
    let exceptions = match &environment.no_proxy {
        Some(list) => format!("{THIS_MACHINE},{list}"),
        None => THIS_MACHINE.to_owned(),
    };
    let proxy = |value: &Option<String>, make: fn(&str) -> reqwest::Result<Proxy>| {
        value.as_deref().map(|value| {
            make(value)
                .map(|proxy| proxy.no_proxy(NoProxy::from_string(&exceptions)))
                .map_err(|source| ProxyError {
                    value: without_password(value),
                    source: source.without_url(),
                })
        })
    };
    [
        proxy(&environment.http_proxy, |value| Proxy::http(value)),
        proxy(&environment.https_proxy, |value| Proxy::https(value)),
        proxy(&environment.all_proxy, |value| Proxy::all(value)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn without_password(value: &str) -> String {
    match value.rsplit_once('@') {
        Some((_, host)) => format!("...@{host}"),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_is_no_url_is_named_without_its_password() {
        let environment = HttpEnvironment {
            https_proxy: Some("http://user:hunter2@exa mple:3128".into()),
            ..HttpEnvironment::default()
        };
        let error = proxies(&environment).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("exa mple:3128"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn host_and_port_alone_are_enough() {
        let environment = HttpEnvironment {
            http_proxy: Some("proxy.example:3128".into()),
            https_proxy: Some("http://proxy.example:3128".into()),
            ..HttpEnvironment::default()
        };
        assert_eq!(proxies(&environment).unwrap().len(), 2);
    }
}
