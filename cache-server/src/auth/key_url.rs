//! Keys that an issuer serves over HTTPS.

use std::time::Duration;

use ashlar_http::HttpEnvironment;
use ashlar_http::certificates::{Certificates, Extra};
use ashlar_model::error_chain::error_chain;
use ashlar_model::executor::BoxFuture;
use reqwest::{Client, Url};

use super::issuer::KeySource;
use super::jwks::LARGEST;

/// So long a fetch may take: keys are small.
const LIMIT: Duration = Duration::from_secs(10);

/// Keys cannot be fetched from there.
#[derive(Debug, thiserror::Error)]
pub enum KeyUrlError {
    /// It is no URL.
    #[error("`{0}` is no URL of keys")]
    Form(String),
    /// Somebody on the way could put in keys of their own.
    #[error("the keys at {0} could be changed on their way: they have to come over https")]
    Plain(Url),
    /// There can be no client.
    #[error("cannot set up HTTP for {url}: {reason}")]
    Client {
        /// The URL.
        url: Url,
        /// Why.
        reason: String,
    },
}

/// A URL of keys.
#[derive(Debug)]
pub struct KeyUrl {
    client: Client,
    url: Url,
}

/// Reads a URL that keys may come from: one with `https`, or with `http` on this machine.
pub fn read_url(text: &str) -> Result<Url, KeyUrlError> {
    let url = Url::parse(text).map_err(|_| KeyUrlError::Form(text.to_owned()))?;
    let is_here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        "http" => Err(KeyUrlError::Plain(url)),
        _ => Err(KeyUrlError::Form(text.to_owned())),
    }
}

impl KeyUrl {
    /// A URL, with the environment's proxies and certificate authorities.
    pub fn new(text: &str, environment: &HttpEnvironment) -> Result<Self, KeyUrlError> {
        let url = read_url(text)?;
        let failed = |reason: String| KeyUrlError::Client {
            url: url.clone(),
            reason,
        };
        let server = url.host_str().unwrap_or_default();
        let tls = Certificates::default()
            .config_for(server, environment, &Extra::default())
            .map_err(|error| failed(error_chain(&error)))?;
        let client = ashlar_http::client::builder(environment)
            .map_err(|error| failed(error_chain(&error)))?
            .use_preconfigured_tls(tls)
            .timeout(LIMIT)
            .build()
            .map_err(|error| failed(error_chain(&error)))?;
        Ok(Self { client, url })
    }

    async fn get(&self) -> Result<Vec<u8>, reqwest::Error> {
        let request = self.client.get(self.url.clone());
        let mut answer = request.send().await?.error_for_status()?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LARGEST {
                // Whoever reads it says so.
                break;
            }
        }
        Ok(bytes)
    }
}

impl KeySource for KeyUrl {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async move {
            let got = self.get().await;
            got.map_err(|error| {
                format!(
                    "cannot fetch {}: {}",
                    self.url,
                    error_chain(&error.without_url())
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_store::task::{Task, spawn};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::auth::jwks::{KeySet, KeySetError};

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://token.example/jwks",
            "http://127.0.0.1:80/jwks",
            "http://localhost/jwks",
            "http://[::1]:8/jwks",
        ] {
            read_url(good).expect(good);
        }
        for wrong in [
            "http://token.example/jwks",
            "http://127.0.0.1.example/jwks",
            "http://localhost.example/",
            "ftp://token.example/jwks",
            "token.example",
            "",
        ] {
            read_url(wrong).expect_err(wrong);
        }
    }

    /// Serves one answer to everyone who asks.
    async fn serve(head: &'static str, body: Vec<u8>) -> (String, Task<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listening");
        let address = listener.local_addr().expect("an address");
        let serving = spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 2048];
                let _length = stream.read(&mut asked).await;
                let head = format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len());
                // Whoever has enough may leave.
                let _left = stream.write_all(head.as_bytes()).await;
                let _left = stream.write_all(&body).await;
            }
        });
        (format!("http://{address}/jwks"), serving)
    }

    async fn fetched(head: &'static str, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let (url, _serving) = serve(head, body).await;
        let source = KeyUrl::new(&url, &HttpEnvironment::default()).expect("a URL");
        source.fetch().await
    }

    #[tokio::test]
    async fn what_is_served_is_fetched_but_no_errors_and_not_too_much() {
        let got = fetched("HTTP/1.1 200 OK", b"{}".to_vec()).await;
        assert_eq!(got, Ok(b"{}".to_vec()));
        let error = fetched("HTTP/1.1 503 Busy", b"{}".to_vec())
            .await
            .expect_err("an error");
        assert!(
            error.starts_with("cannot fetch http://127.0.0.1:"),
            "{error}"
        );
        assert!(error.contains("503"), "{error}");
        let got = fetched("HTTP/1.1 200 OK", vec![b'x'; 8 << 20])
            .await
            .expect("a start");
        assert!(
            got.len() > LARGEST && got.len() < 2 * LARGEST,
            "{}",
            got.len()
        );
        assert_eq!(KeySet::read(&got).err(), Some(KeySetError::Large));
    }
}
