//! One cache of a build: connected to when it is first asked, and asked through its breaker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_store::fault::{Fault, FaultKind};
use ashlar_store::home::results::CacheName;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::action::StepKey;
use crate::address::Mode;
use crate::breaker::{Breaker, Question, Trouble, Use, WarningSink};
use crate::pace::Pace;
use crate::service::{Connect, Service};
use crate::signature::{Refusal, Trust};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long reading the index of a portable cache may take.
const OPEN: Duration = Duration::from_secs(10);
/// How long a transfer from or to a portable cache may take: whoever does it for the cache has
/// limits of its own.
const PORTABLE: Duration = Duration::from_secs(300);
/// So many instances are named whose signatures are passed over.
const MOST_OTHERS: usize = 4;
/// How long the answer to a question may take for which a build waits.
pub const ANSWER: Duration = Duration::from_secs(3);
/// How long a build waits for a cache that it cannot do without.
const NEEDED: Duration = Duration::from_secs(60);
/// So long it is waited before such a cache is asked again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A cache that a build uses.
#[derive(Debug)]
pub struct Cache {
    name: String,
    instance: String,
    mode: Mode,
    connect: Arc<dyn Connect>,
    service: OnceCell<Service>,
    /// When connecting failed last, and why.
    failed: Mutex<Option<(Instant, FaultKind, String)>>,
    breaker: Breaker,
    reading: Pace,
    writing: Pace,
    /// Whether the server turned out to keep no leases.
    leaseless: AtomicBool,
    portable: bool,
    needed: bool,
    mounts: Vec<String>,
    trust: Arc<Trust>,
    /// Whether blobs were not there that its results name.
    lost: AtomicBool,
    /// Results that were passed over, since they are not signed as is demanded.
    refused: Mutex<HashMap<StepKey, Refusal>>,
    /// Instances for which the signatures of some of these were made.
    others: Mutex<BTreeSet<String>>,
}

impl Cache {
    /// A cache that is not connected to yet.
    pub fn new(
        name: String,
        instance: String,
        mode: Mode,
        connect: Arc<dyn Connect>,
        warnings: WarningSink,
    ) -> Self {
        let breaker = Breaker::new(name.clone(), warnings);
        Self {
            name,
            instance,
            mode,
            connect,
            service: OnceCell::new(),
            failed: Mutex::default(),
            breaker,
            reading: Pace::default(),
            writing: Pace::default(),
            leaseless: AtomicBool::new(false),
            portable: false,
            needed: false,
            mounts: Vec::new(),
            trust: Arc::default(),
            lost: AtomicBool::new(false),
            refused: Mutex::default(),
            others: Mutex::default(),
        }
    }

    /// The same, of whose results something is demanded.
    #[must_use]
    pub fn trusting(self, trust: Arc<Trust>) -> Self {
        Self { trust, ..self }
    }

    /// What is demanded of its results.
    pub const fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Where it is, as results that come from there remember it.
    pub fn origin(&self) -> CacheName {
        let instance = format!(",instance={}", self.instance);
        let address = self.name.strip_suffix(&instance).unwrap_or(&self.name);
        CacheName {
            address: address.to_owned(),
            instance: self.instance.clone(),
        }
    }

    /// Notes that a result is passed over; because its signature was made for another instance, if
    /// that is told.
    pub fn note_refused(&self, key: StepKey, refusal: Refusal, made_for: Option<String>) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(key, refusal);
        drop(refused);
        if let Some(instance) = made_for {
            let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
            if others.len() < MOST_OTHERS {
                others.insert(instance);
            }
        }
    }

    /// Why the result of a key was passed over, if there was one.
    pub fn refusal(&self, key: &StepKey) -> Option<Refusal> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(key).copied()
    }

    /// Tells the user how many results were passed over, and why, if any were.
    pub fn tell_refused(&self) {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons: BTreeMap<Refusal, usize> = BTreeMap::new();
        for refusal in refused.values() {
            *reasons.entry(*refusal).or_default() += 1;
        }
        let all = refused.len();
        drop(refused);
        if all == 0 {
            return;
        }
        let reasons: Vec<String> = reasons
            .into_iter()
            .map(|(refusal, count)| format!("{count} {refusal}"))
            .collect();
        let (results, were) = if all == 1 {
            ("result", "was")
        } else {
            ("results", "were")
        };
        let mut text = format!(
            "{all} {results} that --cache-trust does not let in {were} passed over: {}",
            reasons.join(", ")
        );
        // A known key has signed what names them: it is safe to name them.
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let named: String = others
            .iter()
            .filter(|name| !name.contains(|c: char| c.is_control() || c == ','))
            .map(|name| format!(",instance={name}"))
            .collect();
        drop(others);
        if !named.is_empty() {
            text = format!("{text}; --cache-trust signed=KEY{named} lets those in");
        }
        self.breaker.tell(Trouble::Distrusted, &text);
    }

    /// The same, which also shares what cache mounts of these ids hold.
    #[must_use]
    pub fn sharing_mounts(self, mounts: Vec<String>) -> Self {
        Self { mounts, ..self }
    }

    /// Whether it shares what a cache mount holds. `id` has the namespace of the build before it.
    pub fn shares_mount(&self, id: &str) -> bool {
        self.mounts.iter().any(|named| {
            let before = id.strip_suffix(named.as_str());
            before.is_some_and(|namespace| namespace.is_empty() || namespace.ends_with('/'))
        })
    }

    /// The same as a cache that is no server: one that others may replace at any time, and that a
    /// build was told to fill with all its results.
    #[must_use]
    pub fn portable(self) -> Self {
        Self {
            portable: true,
            leaseless: AtomicBool::new(true),
            ..self
        }
    }

    /// The same as a cache that the build cannot do without: while it does not answer, whoever asks
    /// waits and asks again, for a minute at most.
    #[must_use]
    pub fn needed(self) -> Self {
        Self {
            needed: true,
            ..self
        }
    }

    /// Whether it is no server.
    pub const fn is_portable(&self) -> bool {
        self.portable
    }

    /// Whether what was written has to be [shown](Self::close) to others.
    pub fn has_to_be_closed(&self) -> bool {
        let service = self.service.get();
        service.is_some_and(|service| service.closing.is_some())
    }

    /// Shows others what was written, if that is not done already. Whether all went well.
    pub async fn close(&self) -> bool {
        let Some(closing) = self
            .service
            .get()
            .and_then(|service| service.closing.clone())
        else {
            return true;
        };
        let closing = &closing;
        let closed = self.ask(
            Use::Write,
            PORTABLE,
            |_| async move { closing.close().await },
        );
        closed.await.is_some_and(|closed| closed.is_ok())
    }

    /// The name under which layers are remembered to be there.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// REAPI's instance name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// What may be done with it.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Who decides whether it is asked.
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Whether it would be asked now.
    pub fn is_usable(&self, purpose: Use) -> bool {
        let allowed = match purpose {
            Use::Read => self.mode.reads(),
            Use::Write => self.mode.writes(),
        };
        allowed && self.breaker.lets_through(purpose)
    }

    /// Whether it keeps leases, as far as is known.
    pub fn keeps_leases(&self) -> bool {
        !self.leaseless.load(Ordering::Relaxed)
    }

    /// Notes that it keeps no leases.
    pub fn note_leaseless(&self) {
        self.leaseless.store(true, Ordering::Relaxed);
    }

    /// Asks the cache. `None` if it is not to be asked, or did not answer, of which the user is
    /// told; else its answer, which may be that it has not what was asked for.
    ///
    /// The answer must come within `limit`, connecting not counted. A cache that is
    /// [needed](Self::needed) may be asked more than once.
    pub async fn ask<T, A: Future<Output = Result<T, Fault>> + Send>(
        &self,
        purpose: Use,
        limit: Duration,
        question: impl Fn(Service) -> A + Send + Sync,
    ) -> Option<Result<T, Fault>> {
        let begin = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = self.breaker.ask(purpose)?;
            let outcome = match self.open().await {
                Err(fault) => Err(fault),
                Ok(service) => timeout(limit, question(service.clone()))
                    .await
                    .unwrap_or_else(|_| Err(silent(limit))),
            };
            match outcome {
                Err(fault) if self.is_waited_for(&fault, begin) => asked.waits(&fault),
                outcome => return self.settle(asked, purpose, outcome),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether a question that was put first at `begin` is put again.
    fn is_waited_for(&self, fault: &Fault, begin: tokio::time::Instant) -> bool {
        self.needed && fault.kind == FaultKind::Unavailable && begin.elapsed() < NEEDED
    }

    /// Notes that it lacks blobs that its results name. From now on it has to look for all that it
    /// says is there: more may be gone.
    pub fn note_lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
        if let Some(service) = self.service.get() {
            service.doubt.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it lacked blobs that its results name.
    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Transfers so many bytes from or to the cache, when it is its turn. As [`Self::ask`], but
    /// the limit is what is due to a cache that is as fast as this one.
    pub async fn transfer<T, A: Future<Output = Result<T, Fault>> + Send>(
        &self,
        purpose: Use,
        bytes: u64,
        question: impl Fn(Service) -> A + Send + Sync,
    ) -> Option<Result<T, Fault>> {
        let pace = match purpose {
            Use::Read => &self.reading,
            Use::Write => &self.writing,
        };
        let transfer = pace.begin(bytes).await;
        let limit = if self.portable {
            PORTABLE
        } else {
            transfer.limit()
        };
        let begin = Instant::now();
        let outcome = self.ask(purpose, limit, question).await?;
        // One that was waited for says nothing of how fast it is.
        if outcome.is_ok() && begin.elapsed() <= limit {
            transfer.done();
        }
        Some(outcome)
    }

    fn settle<T>(
        &self,
        asked: Question<'_>,
        purpose: Use,
        outcome: Result<T, Fault>,
    ) -> Option<Result<T, Fault>> {
        match outcome {
            Ok(answer) => {
                asked.answered();
                Some(Ok(answer))
            }
            Err(fault) => {
                asked.failed(purpose, &fault);
                Some(Err(fault))
            }
        }
    }

    /// The cache itself, for who asks it for its own sake and bears what comes of it.
    pub async fn service(&self) -> Result<Service, Fault> {
        self.open().await.cloned()
    }

    async fn open(&self) -> Result<&Service, Fault> {
        let begin = Instant::now();
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let connect = || async {
            // Those who waited for an attempt that failed do not make one each.
            if let Some((when, kind, why)) = &*failed()
                && *when > begin
            {
                return Err(Fault::new(*kind, why.clone()));
            }
            let limit = if self.portable { OPEN } else { CONNECT };
            let connected = timeout(limit, self.connect.connect()).await;
            let connected = connected.unwrap_or_else(|_| Err(silent(limit)));
            if let Err(fault) = &connected {
                *failed() = Some((Instant::now(), fault.kind, fault.message.clone()));
            }
            connected
        };
        self.service.get_or_try_init(connect).await
    }
}

/// The fault of a service that is silent.
pub fn silent(limit: Duration) -> Fault {
    Fault::new(
        FaultKind::Unavailable,
        format!("there was no answer within {} s", limit.as_secs_f32()),
    )
}

#[cfg(test)]
mod tests {
    use ashlar_model::executor::BoxFuture;

    use super::*;

    #[derive(Debug)]
    struct Refusing;

    impl Connect for Refusing {
        fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(Fault::invalid("there is no such instance"))
            })
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_connection_that_fails_learns_why_it_did() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let warnings: WarningSink =
            Arc::new(move |text| sink.lock().unwrap().push(text.to_owned()));
        let connect = Arc::new(Refusing);
        let cache = Cache::new(
            "c".into(),
            String::new(),
            Mode::ReadWrite,
            connect,
            warnings,
        );
        let ask = || cache.ask(Use::Read, ANSWER, |_| async { Ok(()) });
        let (one, other) = futures::join!(ask(), ask());
        for answer in [one, other] {
            let fault = answer.unwrap().unwrap_err();
            assert_eq!(fault.kind, FaultKind::Invalid);
        }
        assert_eq!(told.lock().unwrap().len(), 1, "{told:?}");
    }

    /// A service that cannot be connected to so many times, and of which nobody knows more.
    #[derive(Debug)]
    struct Away {
        times: Mutex<u32>,
        kind: FaultKind,
    }

    impl Connect for Away {
        fn connect(&self) -> BoxFuture<'_, Result<Service, Fault>> {
            Box::pin(async {
                let mut times = self.times.lock().unwrap();
                if *times == 0 {
                    return Err(Fault::new(FaultKind::NotFound, "there it is"));
                }
                *times -= 1;
                Err(Fault::new(self.kind, "nobody answers"))
            })
        }
    }

    /// What comes of a question to a cache that is away so many times, how long that took, and what
    /// the user was told.
    async fn asked_of_needed(times: u32, kind: FaultKind) -> (FaultKind, Duration, Vec<String>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let warnings: WarningSink =
            Arc::new(move |text| sink.lock().unwrap().push(text.to_owned()));
        let times = Mutex::new(times);
        let connect = Arc::new(Away { times, kind });
        let cache = Cache::new("c".into(), String::new(), Mode::Read, connect, warnings).needed();
        let begin = tokio::time::Instant::now();
        let ask = cache.ask(Use::Read, ANSWER, |_| async { Ok(()) });
        let fault = ask.await.unwrap().unwrap_err();
        let told = told.lock().unwrap().clone();
        (fault.kind, begin.elapsed(), told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cache_that_is_needed_is_waited_for() {
        let (kind, took, told) = asked_of_needed(8, FaultKind::Unavailable).await;
        assert_eq!(kind, FaultKind::NotFound);
        assert!(took < NEEDED, "{took:?}");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("the build waits for it"), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_is_waited_for() {
        let (kind, took, _) = asked_of_needed(8, FaultKind::Denied).await;
        assert_eq!((kind, took), (FaultKind::Denied, Duration::ZERO));
    }

    #[test]
    fn who_passes_over_what_was_signed_elsewhere_is_told_how_to_take_it() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let warnings: WarningSink =
            Arc::new(move |text| sink.lock().unwrap().push(text.to_owned()));
        let connect = Arc::new(Refusing);
        let cache = Cache::new("c".into(), String::new(), Mode::Read, connect, warnings);
        cache.tell_refused();
        assert!(told.lock().unwrap().is_empty());
        for (number, made_for) in [(1, "acme/web/main"), (2, "acme/web/main"), (3, "a\nb")] {
            let key = ashlar_model::digest::DefinitionKey::from_bytes([number; 32]);
            let refusal = Refusal::WrongInstance;
            cache.note_refused(StepKey::Definition(key), refusal, Some(made_for.into()));
        }
        cache.tell_refused();
        let told = told.lock().unwrap().concat();
        let end = "3 signed for another instance; \
                   --cache-trust signed=KEY,instance=acme/web/main lets those in";
        assert!(told.ends_with(end), "{told}");
    }
}
