//! Trying again: what broke off may go well in a moment, and a server says when it likes to be
//! asked again.

use std::time::Duration;

use ashlar_store::fault::{Fault, FaultKind, in_one_line};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::time::{Instant, sleep};
use tonic::Status;

/// How long a server may be away before whoever needs it gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// A server that says when to come again is not asked to wait longer than this.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// Waits that grow, each with some chance in it, so that those who lost the same server do not come
/// back all at once.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    /// When it gives up; `None` as long as all goes well.
    until: Option<Instant>,
    patience: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::lasting(PATIENCE)
    }
}

impl Backoff {
    /// Gives up after so long a time without success, from the first failure.
    pub const fn lasting(patience: Duration) -> Self {
        Self {
            next: FIRST,
            until: None,
            patience,
        }
    }

    /// It went well: the next trouble is another one.
    pub const fn reset(&mut self) {
        *self = Self::lasting(self.patience);
    }

    /// Waits before the next try; `false` if there should be none. `asked` is how long the server
    /// has asked to wait.
    pub async fn wait(&mut self, asked: Option<Duration>) -> bool {
        let wait = match asked {
            Some(asked) => asked.min(LONGEST_ASKED),
            None => self.next,
        };
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.patience);
        if now + wait > until {
            return false;
        }
        self.next = (self.next * 2).min(LONGEST);
        sleep(wait.mul_f64(0.75 + 0.5 * chance())).await;
        true
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0_u8; 4];
    // Without it the waits are all alike, and nothing else.
    let _ignored = getrandom(&mut bytes, GetRandomFlags::empty());
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// Makes a call until it goes well, or fails in a way that another try does not help.
pub async fn patiently<T, F>(call: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut backoff = Backoff::default();
    let mut refused = 0;
    loop {
        let fault = match call().await {
            Ok(done) => return Ok(done),
            Err(fault) => fault,
        };
        let asked = asked_to_wait(&fault);
        let is_passing = match fault.kind {
            FaultKind::Unavailable => true,
            // A full disk stays full; a rate that was exceeded passes.
            FaultKind::Exhausted => {
                refused += 1;
                asked.is_some() || refused <= 3
            }
            _ => false,
        };
        if !is_passing || !backoff.wait(asked).await {
            return Err(fault);
        }
        tracing::debug!(error = in_one_line(&fault), "trying again");
    }
}

/// How long a server has asked to wait.
pub fn asked_to_wait(fault: &Fault) -> Option<Duration> {
    let status = fault.source.as_ref()?.downcast_ref::<Status>()?;
    ashlar_proto::retry::decode(status.details())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn tried(kind: FaultKind, well_after: u32) -> (Result<u32, Fault>, u32) {
        let count = AtomicU32::new(0);
        let result = patiently(|| async {
            let number = count.fetch_add(1, Ordering::Relaxed);
            if number < well_after {
                Err(Fault::new(kind, "no"))
            } else {
                Ok(number)
            }
        })
        .await;
        (result, count.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for() {
        let (result, count) = tried(FaultKind::Unavailable, 5).await;
        assert_eq!((result.unwrap(), count), (5, 6));
        let (result, count) = tried(FaultKind::Exhausted, 2).await;
        assert_eq!((result.unwrap(), count), (2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_begins_with_the_first_failure() {
        let mut backoff = Backoff::lasting(Duration::from_secs(3));
        for _ in 0..3 {
            sleep(Duration::from_secs(3600)).await;
            assert!(backoff.wait(None).await);
            backoff.reset();
        }
        let mut waits = 0;
        while backoff.wait(None).await {
            waits += 1;
        }
        assert!((2..10).contains(&waits), "{waits}");
    }

    #[tokio::test(start_paused = true)]
    async fn not_for_ever_and_not_what_stays() {
        let begin = Instant::now();
        let (result, count) = tried(FaultKind::Unavailable, u32::MAX).await;
        assert_eq!(result.unwrap_err().kind, FaultKind::Unavailable);
        assert!(begin.elapsed() <= PATIENCE * 3 / 2 && count > 10);
        let (_, count) = tried(FaultKind::Exhausted, u32::MAX).await;
        assert_eq!(count, 4);
        let (_, count) = tried(FaultKind::Denied, u32::MAX).await;
        assert_eq!(count, 1);
    }
}
