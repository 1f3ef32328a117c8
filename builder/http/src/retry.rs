//! When to try again, and how long to wait before.
//!
//! A connection that fails or breaks, 408, 425, 429 and 5xx are tried again; what the server
//! refuses for good (any other 4xx, 501) is not. Waits double, each cut to a random part of itself
//! ("full jitter"), so that the machines of a farm do not come back all at once. A `Retry-After`
//! is obeyed up to the policy's longest wait.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::patience::ConnectionError;

/// When and how often to try a failed request again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// The longest wait before the second attempt; doubles with each further one.
    pub first_delay: Duration,
    /// No wait is longer, whatever the server asks for.
    pub longest_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_delay: Duration::from_millis(400),
            longest_delay: Duration::from_secs(30),
        }
    }
}

/// Whether the same request may succeed later.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502..=599)
}

/// Whether an error of the connection may go away. What is wrong with the request itself, or with
/// the other side's certificate, will not.
pub fn is_transient_error(error: &ConnectionError) -> bool {
    let ConnectionError::Http(error) = error else {
        return true;
    };
    if error.is_builder() || error.is_redirect() {
        return false;
    }
    !is_of_tls(error)
}

/// Whether TLS itself failed: a certificate, or no common version. An error inside an `io::Error`
/// is not among the sources of the outer one, and hyper-rustls packs one into another.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let inside = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    match inside {
        Some(inner) => is_of_tls(inner),
        None => error.source().is_some_and(is_of_tls),
    }
}

/// Counts the attempts of one request.
#[derive(Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    made: u32,
}

impl Attempts {
    /// None is made yet.
    pub const fn new(policy: RetryPolicy) -> Self {
        Self { policy, made: 1 }
    }

    /// For a request that must not be repeated as it is.
    pub const fn none_left() -> Self {
        Self {
            policy: RetryPolicy {
                attempts: 1,
                first_delay: Duration::ZERO,
                longest_delay: Duration::ZERO,
            },
            made: 1,
        }
    }

    /// How many there were, the first one included.
    pub const fn made(&self) -> u32 {
        self.made
    }

    /// Starts counting anew, after something has gone well.
    pub const fn restart(&mut self) {
        self.made = 1;
    }

    /// Waits before the next attempt; false if there is none left.
    pub async fn wait(&mut self, retry_after: Option<Duration>) -> bool {
        if self.made >= self.policy.attempts {
            return false;
        }
        let delay = retry_after.map_or_else(
            || jittered(self.policy, self.made),
            |asked| asked.min(self.policy.longest_delay),
        );
        self.made += 1;
        tokio::time::sleep(delay).await;
        true
    }
}

/// A random wait up to `first_delay · 2^(made - 1)`.
fn jittered(policy: RetryPolicy, made: u32) -> Duration {
    let factor = 1_u32 << made.saturating_sub(1).min(16);
    let longest = policy
        .first_delay
        .saturating_mul(factor)
        .min(policy.longest_delay);
    longest.mul_f64(random_fraction())
}

/// From 0 to 1. If the kernel gives no random numbers, the wait is merely not spread.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    match rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty()) {
        Ok(4) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        _ => 1.0,
    }
}

/// `Retry-After` in seconds. Its other form, a date, is left to the usual wait: it would depend on
/// two clocks.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(
                is_transient(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
        for status in [200, 301, 400, 401, 403, 404, 405, 413, 501] {
            assert!(
                !is_transient(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
    }

    #[test]
    fn errors_of_tls_are_found_however_deep() {
        let tls = || std::io::Error::other(rustls::Error::HandshakeNotComplete);
        assert!(is_of_tls(&tls()));
        assert!(is_of_tls(&std::io::Error::other(tls())));
        assert!(!is_of_tls(&std::io::Error::other(std::io::Error::other(
            "x"
        ))));
    }

    #[test]
    fn waits_grow_and_stay_below_the_longest() {
        let policy = RetryPolicy {
            attempts: 100,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(1),
        };
        for made in 1..100 {
            let doubled = Duration::from_millis(100 << made.min(10)) / 2;
            assert!(jittered(policy, made) <= doubled.min(policy.longest_delay));
        }
        let waits: std::collections::BTreeSet<Duration> =
            (0..20).map(|_| jittered(policy, 5)).collect();
        assert!(waits.len() > 1, "waits are spread");
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let header = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(header(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(header("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(header("-1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_come_to_an_end() {
        let policy = RetryPolicy {
            attempts: 3,
            first_delay: Duration::from_millis(1),
            longest_delay: Duration::from_secs(5),
        };
        let mut attempts = Attempts::new(policy);
        let start = tokio::time::Instant::now();
        assert!(attempts.wait(Some(Duration::from_secs(3600))).await);
        assert_eq!(start.elapsed(), policy.longest_delay);
        assert!(attempts.wait(None).await);
        assert!(!attempts.wait(None).await);
        assert_eq!(attempts.made(), 3);
    }
}
