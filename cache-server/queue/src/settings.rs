//! What an operator may set.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Times, limits and weights.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a worker is believed to run what it was given, without a word of it.
    pub lease: Duration,
    /// How often workers are to renew.
    pub renew_every: Duration,
    /// How long a build's client may be away before what only it waits for is cancelled.
    pub grace: Duration,
    /// How often work may fail for reasons that are not its own.
    pub attempts: u32,
    /// How long work rests after its first failure; twice as long after each other one.
    pub backoff: Duration,
    /// The longest that it rests.
    pub backoff_most: Duration,
    /// How often work may be handed out at all, hand-backs included. Far more than an overloaded
    /// farm needs: it ends what every worker refuses.
    pub grants: u32,
    /// How long work waits at most for a worker that has the layers it stands on.
    pub hold: Duration,
    /// How many bytes a second come to a worker: what a missing layer costs.
    pub bytes_per_second: u64,
    /// Whether layers decide about places at all. Off only to see what they are good for.
    pub placement: bool,
    /// How long a worker that has ended a piece of a build is kept for what may follow from it.
    pub linger: Duration,
    /// How many operations of a namespace may wait.
    pub queued_per_namespace: usize,
    /// How many operations of all namespaces together may wait.
    pub queued: usize,
    /// Light operations that a worker takes at once.
    pub light_per_worker: u32,
    /// Layers of a worker that are known at most.
    pub holdings: usize,
    /// A namespace that has work waiting and got no slot for so long gets every fourth one, whatever
    /// is fair.
    pub overdue: Duration,
    /// What one step of priority is worth: work of priority 10 waits as long as work of priority 0
    /// that came ten of these later.
    pub priority_step: Duration,
    /// Shares of namespaces; 100 is usual. A namespace with 200 gets twice as much, if it has work.
    pub namespace_weights: HashMap<Arc<str>, u32>,
    /// Shares of users, in all namespaces.
    pub user_weights: HashMap<Arc<str>, u32>,
    /// How long operations are remembered after their end.
    pub remember: Duration,
    /// How long whole builds are.
    pub remember_builds: Duration,
    /// How many that have ended are remembered at most; as many whole builds again.
    pub remembered: usize,
    /// How many bytes their outcomes have together at most.
    pub remembered_bytes: usize,
    /// How long an action that took workers down with it is refused.
    pub quarantine: Duration,
    /// A longer time without any step was no time at all for the queue: it stood still itself, so
    /// nobody's silence counts. The caller steps at least every second.
    pub stall: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            renew_every: Duration::from_secs(10),
            grace: Duration::from_secs(60),
            attempts: 3,
            backoff: Duration::from_secs(1),
            backoff_most: Duration::from_secs(30),
            grants: 100,
            hold: Duration::from_millis(500),
            bytes_per_second: 100_000_000,
            placement: true,
            linger: Duration::ZERO,
            queued_per_namespace: 20_000,
            queued: 200_000,
            light_per_worker: 256,
            holdings: 4096,
            overdue: Duration::from_secs(300),
            priority_step: Duration::from_secs(1),
            namespace_weights: HashMap::new(),
            user_weights: HashMap::new(),
            remember: Duration::from_secs(3600),
            remember_builds: Duration::from_secs(7 * 24 * 3600),
            remembered: 10_000,
            remembered_bytes: 64 << 20,
            quarantine: Duration::from_secs(300),
            stall: Duration::from_secs(5),
        }
    }
}
