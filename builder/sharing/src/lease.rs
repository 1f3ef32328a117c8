//! Single flight between machines: of those that come to the same step, one runs it, and the others
//! wait for its result.
//!
//! Whoever runs a step holds a lease, and renews it. When it is given back, the result is there, or
//! the step has failed: the next one takes over. When its holder dies, the lease runs out within
//! seconds; when it hangs, nobody waits for it longer than half an hour. A lease is no lock: a step
//! that runs twice costs time, never a wrong result.
//!
//! Servers take leases for writing: one that refuses them may still be read.

use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::share::WaitingSink;
use ashlar_model::cas::DigestFunction;
use ashlar_model::digest::DefinitionKey;
use ashlar_store::fault::FaultKind;
use ashlar_store::task::{Task, spawn_on};
use futures::StreamExt as _;
use tokio::runtime::Handle;

use crate::action::{StepAction, StepKey};
use crate::background::Background;
use crate::breaker::Use;
use crate::cache::{ANSWER, Cache};
use crate::service::{Acquired, Fence, Held, Lease};

/// How long a lease is asked for.
const TTL: Duration = Duration::from_secs(10);
/// The longest time between two looks whether the holder is still alive.
const LOOK: Duration = Duration::from_secs(3);
/// Whoever has had a lease for so long may hang, though its lease is renewed: nobody waits for it
/// any more. If it does not hang, the step runs twice.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// The longest name of a holder, in bytes.
const LONGEST_HOLDER: usize = 400;

/// What came of asking for a lease.
#[derive(Debug)]
pub enum Turn {
    /// It is ours. Somebody may have had it before, and made the result since it was looked up.
    Ours(HeldLease),
    /// Whoever had it does not have it any more: the result may be there.
    GivenBack,
    /// Nobody keeps order, or whoever has it has had it for too long.
    Nobody,
}

/// The key of a step's lease: the hash of the action under which its result is stored, so that a
/// server finds both in one place.
pub fn lease_key(definition: &DefinitionKey, function: DigestFunction) -> String {
    StepAction::of(&StepKey::Definition(*definition), function)
        .digest
        .hash_hex()
}

/// Asks for the lease of a step, and waits while another has it.
pub async fn turn(
    cache: &Arc<Cache>,
    background: &Arc<Background>,
    definition: &DefinitionKey,
    holder: &str,
    waiting: WaitingSink<'_>,
) -> Turn {
    let mut shown = String::new();
    loop {
        let asked_holder = cut(holder);
        // A lease is for those who write: to be refused one is no reason not to read.
        let asked = cache.ask(Use::Write, ANSWER, |service| async move {
            let Some(extension) = &service.extension else {
                return Ok(None);
            };
            let key = lease_key(definition, service.function);
            let acquired = extension.acquire(&key, asked_holder, TTL).await?;
            Ok(Some((key, acquired)))
        });
        let (key, held) = match asked.await {
            Some(Ok(Some((key, Acquired::Granted(lease))))) => {
                let (cache, background) = (Arc::clone(cache), Arc::clone(background));
                return Turn::Ours(HeldLease::new(cache, key, lease, background));
            }
            Some(Ok(Some((key, Acquired::Held(held))))) => (key, held),
            Some(Ok(None)) => {
                cache.note_leaseless();
                return Turn::Nobody;
            }
            Some(Err(fault)) if fault.kind == FaultKind::Unsupported => {
                cache.note_leaseless();
                return Turn::Nobody;
            }
            Some(Err(_)) | None => return Turn::Nobody,
        };
        if held.held_for >= LONGEST {
            return Turn::Nobody;
        }
        let name = shown_holder(&held.holder);
        if shown != name {
            waiting(&name);
            shown = name;
        }
        if wait(cache, &key, &held).await {
            return Turn::GivenBack;
        }
    }
}

/// Waits until a lease is given back, which is true, or it is time to ask for it again.
async fn wait(cache: &Cache, key: &str, held: &Held) -> bool {
    let asked = cache.ask(Use::Write, ANSWER, |service| async move {
        match &service.extension {
            Some(extension) => extension.watch(key).await.map(Some),
            None => Ok(None),
        }
    });
    let pause = LOOK.min(held.runs_out_in + Duration::from_millis(50));
    let Some(Ok(Some(mut changes))) = asked.await else {
        tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
        return false;
    };
    let end = tokio::time::sleep(pause);
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Some(now))) if now.holder == held.holder => {}
                Some(Ok(Some(_)) | Err(_)) => return false,
                Some(Ok(None)) | None => return true,
            },
            () = &mut end => return false,
        }
    }
}

/// A holder's name as a terminal may show it.
fn shown_holder(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST_HOLDER)
        .collect()
}

/// A holder's name, not too long.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(LONGEST_HOLDER);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// A lease, renewed as long as it is held. It is given back when it is dropped.
#[derive(Debug)]
pub struct HeldLease {
    cache: Arc<Cache>,
    key: String,
    lease: Lease,
    runtime: Handle,
    background: Arc<Background>,
    _renewal: Task<()>,
}

impl HeldLease {
    fn new(cache: Arc<Cache>, key: String, lease: Lease, background: Arc<Background>) -> Self {
        let runtime = Handle::current();
        let renewal = renew(Arc::clone(&cache), key.clone(), lease.clone());
        Self {
            cache,
            key,
            lease,
            _renewal: spawn_on(&runtime, renewal),
            runtime,
            background,
        }
    }

    /// What shows that something was made under it.
    pub fn fence(&self) -> Fence {
        Fence {
            key: self.key.clone(),
            number: self.lease.fencing_number,
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        let cache = Arc::clone(&self.cache);
        let (key, token) = (std::mem::take(&mut self.key), self.lease.token.clone());
        // If the process ends first, the lease runs out.
        let release = async move {
            let (key, token) = (&key, &token);
            let asked = cache.ask(Use::Write, ANSWER, |service| async move {
                match &service.extension {
                    Some(extension) => extension.release(key, token).await,
                    None => Ok(()),
                }
            });
            drop(asked.await);
        };
        self.background.start(&self.runtime, release);
    }
}

/// Renews a lease until it is lost.
async fn renew(cache: Arc<Cache>, key: String, lease: Lease) {
    let mut ttl = lease.ttl;
    loop {
        tokio::time::sleep((ttl / 3).max(Duration::from_millis(100))).await;
        let (key, token) = (&key, &lease.token);
        let asked = cache.ask(Use::Write, ANSWER, |service| async move {
            match &service.extension {
                Some(extension) => extension.renew(key, token).await,
                None => Ok(TTL),
            }
        });
        match asked.await {
            Some(Ok(renewed)) => ttl = renewed,
            Some(Err(fault)) if fault.kind == FaultKind::NotFound => return,
            // Perhaps the next time.
            Some(Err(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_and_its_result_are_kept_under_one_hash() {
        let definition = DefinitionKey::from_bytes([1; 32]);
        assert_eq!(
            lease_key(&definition, DigestFunction::Sha256),
            "124576db79caed55bdab187b925fff57b4b021ce39e6a1a67b89650fc8a019c4"
        );
        assert_eq!(
            lease_key(&definition, DigestFunction::Blake3),
            "a3ce2767596ad8574c24310111d1ff479f095e531ac783994555f591108b6c79"
        );
    }
}
