//! Clients that speak the protocol with all servers of a farm at once, while everything happens to
//! the farm, and note what they see. What they saw has to be what a cache can show that keeps its
//! word: [`ashlar_test_support::history`] has the rules.
//!
//! Some of the clients are bad ones: they hold leases for too long, store results under numbers of
//! leases that others have been granted since, or under none. `make farm-faults` runs many seeds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use ashlar_model::cas::CasDigest;
use ashlar_proto::convert::digest_to_wire;
use ashlar_proto::wire::reapi;
use ashlar_test_support::farm::client::{FUNCTION, Lease};
use ashlar_test_support::farm::{Caller, Farm, Kind, Member, Shape, Tally, Troubles};
use ashlar_test_support::history::{
    Acquired, Blobs, Committed, Found, Key, Lost, Recorder, Value, What, check,
};
use ashlar_test_support::numbers::Numbers;
use ashlar_test_support::seeds::Seeds;
use bytes::Bytes;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

use super::noise;

const TEST: &str = "cache::farm_history::what_clients_of_a_farm_see_fits_together";

/// Seeds that every run of the tests runs.
const SEEDS: u64 = 9;
const AT_ONCE: u64 = 3;

const CLIENTS: u64 = 8;
const KEYS: u64 = 6;

/// How long clients go on while the farm is disturbed.
const TROUBLED: Duration = Duration::from_secs(5);

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// No call takes longer: the client's patience, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(30);

/// The shortest lease that there is.
const TTL: Duration = Duration::from_secs(1);

static TALLY: LazyLock<Arc<Tally>> = LazyLock::new(Arc::default);

/// What the clients of one seed share.
struct Scene {
    seed: u64,
    recorder: Arc<Recorder>,
    callers: Vec<Caller>,
    values: AtomicU64,
    /// The numbers of leases that were granted, by key.
    numbers: Mutex<BTreeMap<Key, Vec<u64>>>,
    over: AtomicBool,
}

impl Scene {
    fn action(&self, key: Key) -> CasDigest {
        CasDigest::of(FUNCTION, format!("{}/{key}", self.seed).as_bytes())
    }

    fn fresh_value(&self) -> Value {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    /// The blobs of a result: each has some of its own.
    fn blobs(&self, value: Value) -> Vec<(CasDigest, Bytes)> {
        let small = 100 + value % 3000;
        // Of all sizes: in packs, and alone.
        let other = if value.is_multiple_of(5) {
            900_000
        } else {
            20_000
        };
        [(2 * value, small), (2 * value + 1, other)]
            .map(|(number, size)| {
                let bytes = Bytes::from(noise(self.seed << 32 | number, size));
                (CasDigest::of(FUNCTION, &bytes), bytes)
            })
            .into()
    }

    fn result(value: Value, blobs: &[(CasDigest, Bytes)]) -> reapi::ActionResult {
        let files = blobs.iter().enumerate();
        reapi::ActionResult {
            output_files: files
                .map(|(number, (digest, _))| reapi::OutputFile {
                    path: format!("{value}/{number}"),
                    digest: Some(digest_to_wire(digest)),
                    ..reapi::OutputFile::default()
                })
                .collect(),
            ..reapi::ActionResult::default()
        }
    }

    /// Which result it is; panics if it is none that anybody ever made.
    fn value(&self, result: &reapi::ActionResult) -> Value {
        let path = result.output_files.first().map(|file| file.path.as_str());
        let value = path
            .and_then(|path| path.split('/').next()?.parse().ok())
            .unwrap_or_else(|| panic!("a result from nowhere: {result:?}"));
        assert_eq!(*result, Self::result(value, &self.blobs(value)));
        value
    }
}

/// What an answer says of a result that was to be stored; `None`: nothing.
fn committed(
    scene: &Scene,
    answer: &Result<Option<reapi::ActionResult>, Status>,
) -> Option<Committed> {
    match answer {
        Ok(None) => Some(Committed::Stored),
        Ok(Some(there)) => Some(Committed::There(scene.value(there))),
        Err(status) => match status.code() {
            Code::Aborted => Some(Committed::Superseded),
            Code::FailedPrecondition => Some(Committed::Refused),
            _ => None,
        },
    }
}

/// One of the clients.
struct Client {
    number: u64,
    numbers: Numbers,
    scene: Arc<Scene>,
}

impl Client {
    /// One of the ways to the servers: the balancer, or one of them by itself.
    fn caller(&mut self) -> Caller {
        let place = self.numbers.place(self.scene.callers.len());
        self.scene.callers[place].clone()
    }

    async fn pause(&mut self, longest: u64) {
        tokio::time::sleep(Duration::from_millis(1 + self.numbers.below(longest))).await;
    }

    async fn work(mut self) {
        while !self.scene.over.load(Ordering::Relaxed) {
            let key = self.numbers.below(KEYS);
            match self.numbers.below(12) {
                0..=4 => self.make(key).await,
                5..=7 => drop(self.find(key).await),
                8 => self.commit_late(key).await,
                9 => {
                    let value = self.scene.fresh_value();
                    if self.upload(value).await {
                        self.commit(key, value, None).await;
                    }
                }
                _ => self.invalidate(key).await,
            }
            self.pause(60).await;
        }
    }

    /// What a builder does: looks a result up, and makes it under a lease if there is none.
    async fn make(&mut self, key: Key) {
        if self.find(key).await {
            return;
        }
        let Some(lease) = self.acquire(key).await else {
            return;
        };
        let value = self.scene.fresh_value();
        if !self.upload(value).await {
            return;
        }
        match self.numbers.below(6) {
            // It was cut off, and does not know it.
            0 => tokio::time::sleep(lease.ttl + Duration::from_millis(300)).await,
            1 => {
                self.pause(400).await;
                self.renew(key, &lease).await;
            }
            _ => self.pause(50).await,
        }
        self.commit(key, value, Some(lease.number)).await;
        if self.numbers.below(8) != 0 {
            self.release(key, &lease).await;
        }
    }

    /// Stores a result under a number of old.
    async fn commit_late(&mut self, key: Key) {
        let known = self.scene.numbers.lock().unwrap().get(&key).cloned();
        let known = known.unwrap_or_default();
        if known.is_empty() {
            return;
        }
        let number = known[self.numbers.place(known.len())];
        let value = self.scene.fresh_value();
        if self.upload(value).await {
            self.commit(key, value, Some(number)).await;
        }
    }

    async fn upload(&mut self, value: Value) -> bool {
        let caller = self.caller();
        let blobs = self.scene.blobs(value);
        let uploaded = if value.is_multiple_of(3) {
            let mut uploaded = Ok(());
            for (digest, bytes) in &blobs {
                if uploaded.is_ok() {
                    let name = format!("{}-{value}", self.scene.seed);
                    uploaded = caller.write(digest, bytes, &name).await;
                }
            }
            uploaded
        } else {
            caller.upload(&blobs).await
        };
        uploaded.is_ok()
    }

    async fn acquire(&mut self, key: Key) -> Option<Lease> {
        let asked = What::Acquire {
            ttl: TTL,
            outcome: None,
        };
        let name = self.scene.action(key).hash_hex();
        let caller = self.caller();
        let call = self.scene.recorder.begin(self.number, key, asked.clone());
        let answer = caller.acquire(&name, TTL).await;
        let said = match &answer {
            Ok(Some(lease)) => What::Acquire {
                ttl: lease.ttl,
                outcome: Some(Acquired::Granted(lease.number)),
            },
            Ok(None) => What::Acquire {
                ttl: TTL,
                outcome: Some(Acquired::Held),
            },
            Err(_) => asked,
        };
        self.scene.recorder.end(&call, said);
        let lease = answer.ok().flatten()?;
        TALLY.count("leases granted", 1);
        let mut numbers = self.scene.numbers.lock().unwrap();
        numbers.entry(key).or_default().push(lease.number);
        Some(lease)
    }

    async fn renew(&mut self, key: Key, lease: &Lease) {
        let renewed = |ours| What::Renew {
            number: lease.number,
            ttl: lease.ttl,
            ours,
        };
        let name = self.scene.action(key).hash_hex();
        let caller = self.caller();
        let call = self.scene.recorder.begin(self.number, key, renewed(None));
        let answer = caller.renew(&name, &lease.token).await;
        self.scene.recorder.end(&call, renewed(answer.ok()));
    }

    async fn release(&mut self, key: Key, lease: &Lease) {
        let released = What::Release {
            number: lease.number,
        };
        let name = self.scene.action(key).hash_hex();
        let caller = self.caller();
        let call = self
            .scene
            .recorder
            .begin(self.number, key, released.clone());
        drop(caller.release(&name, &lease.token).await);
        self.scene.recorder.end(&call, released);
    }

    async fn commit(&mut self, key: Key, value: Value, under: Option<u64>) {
        let commit = |outcome| What::Commit {
            value,
            under,
            outcome,
        };
        let action = self.scene.action(key);
        let name = action.hash_hex();
        let result = Scene::result(value, &self.scene.blobs(value));
        let caller = self.caller();
        let call = self.scene.recorder.begin(self.number, key, commit(None));
        let lease = under.map(|number| (name.as_str(), number));
        let answer = caller.commit(&action, result, lease).await;
        let outcome = committed(&self.scene, &answer);
        self.scene.recorder.end(&call, commit(outcome));
        TALLY.count(
            match outcome {
                Some(Committed::Stored) => "results stored",
                Some(Committed::There(_)) => "results there before",
                Some(Committed::Superseded) => "commits superseded",
                Some(Committed::Refused) => "commits refused",
                None => "commits without an answer",
            },
            1,
        );
    }

    /// Looks a result up, and reads all of it; whether there is one.
    async fn find(&mut self, key: Key) -> bool {
        let caller = self.caller();
        self.find_by(&caller, key).await.unwrap_or(true)
    }

    /// The same by one of the ways; fails where there is no answer.
    async fn find_by(&mut self, caller: &Caller, key: Key) -> Result<bool, Status> {
        let action = self.scene.action(key);
        let by_another_call = self.numbers.below(4) == 0;
        let call = self
            .scene
            .recorder
            .begin(self.number, key, What::Probe { found: None });
        let answer = if by_another_call {
            caller.get(&action).await
        } else {
            caller.probe(&action).await
        };
        let found = answer.as_ref().ok().map(|result| match result {
            Some(result) => Found::Hit(self.scene.value(result)),
            None => Found::Miss,
        });
        self.scene.recorder.end(&call, What::Probe { found });
        answer?;
        match found {
            Some(Found::Hit(value)) => {
                TALLY.count("hits", 1);
                self.read(caller, key, value).await?;
                Ok(true)
            }
            _ => {
                TALLY.count("misses", 1);
                Ok(false)
            }
        }
    }

    async fn read(&mut self, caller: &Caller, key: Key, value: Value) -> Result<(), Status> {
        let read = |blobs| What::Read { value, blobs };
        let wanted = self.scene.blobs(value);
        let digests: Vec<CasDigest> = wanted.iter().map(|(digest, _)| *digest).collect();
        let at_once = self.numbers.below(2) == 0;
        let call = self.scene.recorder.begin(self.number, key, read(None));
        let mut got = Ok(Vec::new());
        if at_once {
            got = caller.read_many(&digests).await;
        } else {
            for digest in &digests {
                match (caller.read(digest).await, &mut got) {
                    (Ok(bytes), Ok(all)) => all.push(Bytes::from(bytes)),
                    (Err(status), Ok(_)) => got = Err(status),
                    (_, Err(_)) => {}
                }
            }
        }
        let blobs = match &got {
            Ok(bytes) => {
                let right = bytes.iter().eq(wanted.iter().map(|(_, bytes)| bytes));
                Some(if right { Blobs::Right } else { Blobs::Wrong })
            }
            Err(status) if status.code() == Code::NotFound => Some(Blobs::Missing),
            Err(_) => None,
        };
        self.scene.recorder.end(&call, read(blobs));
        match blobs {
            Some(Blobs::Right) => TALLY.count("results read", 1),
            Some(_) => TALLY.count("results with lost blobs", 1),
            None => return got.map(drop),
        }
        Ok(())
    }

    async fn invalidate(&mut self, key: Key) {
        let action = self.scene.action(key);
        let caller = self.caller();
        let invalidate = |done| What::Invalidate { done };
        let call = self
            .scene
            .recorder
            .begin(self.number, key, invalidate(None));
        let answer = caller.invalidate(&action).await;
        let done = answer.is_ok().then_some(());
        self.scene.recorder.end(&call, invalidate(done));
        TALLY.count(
            match answer {
                Ok(0) => "invalidations of nothing",
                Ok(_) => "invalidations",
                Err(_) => "invalidations without an answer",
            },
            1,
        );
    }
}

fn shape(numbers: &mut Numbers) -> Shape {
    let near = numbers.below(2) == 0;
    Shape {
        database: match numbers.below(4) {
            0 => Kind::Cluster,
            1 => Kind::Replicated,
            _ => Kind::Single,
        },
        near,
        peers: near && numbers.below(2) == 0,
        ..Shape::default()
    }
}

fn one_seed(seed: u64) {
    let mut numbers = Numbers::of(seed, 5);
    let shape = shape(&mut numbers);
    let Some(mut farm) = Farm::start(TEST, shape.clone()) else {
        return;
    };
    let recorder = Arc::<Recorder>::default();
    if shape.database == Kind::Replicated {
        // Sentinels may find that a master is dead whenever the machine is slow.
        recorder.lost(Lost::Unconfirmed, Duration::ZERO, Duration::MAX / 2);
    }
    let mut troubles = Troubles::new(seed, &TALLY).noted_by(&recorder);
    // Where nothing is taken away, nothing may be lost.
    troubles.destructive = numbers.below(2) == 0;
    troubles.corrupting = false;
    let urls: Vec<String> = farm.members().iter().map(Member::url).collect();
    let runtime = Runtime::new().unwrap();
    let guard = runtime.enter();
    let mut callers = vec![Caller::new(&farm.url(), PATIENCE)];
    callers.extend(urls.iter().map(|url| Caller::new(url, PATIENCE)));
    drop(guard);
    let scene = Arc::new(Scene {
        seed,
        recorder: Arc::clone(&recorder),
        callers,
        values: AtomicU64::new(1),
        numbers: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let client = |number| Client {
        number,
        numbers: Numbers::of(seed, 100 + number),
        scene: Arc::clone(&scene),
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| runtime.spawn(client(number).work()))
        .collect();
    let begin = Instant::now();
    while begin.elapsed() < TROUBLED {
        troubles.disturb(&mut farm);
    }
    farm.calm();
    scene.over.store(true, Ordering::Relaxed);
    let ended = runtime.block_on(async {
        for client in clients {
            let ended = tokio::time::timeout(LIMIT, client).await;
            ended.expect("a client hangs").expect("a client panicked");
        }
        // In peace every server answers, and has what it says.
        let mut last = client(CLIENTS);
        for caller in scene.callers.clone() {
            for key in 0..KEYS {
                last.find_by(&caller, key).await?;
            }
        }
        Ok::<_, Status>(())
    });
    let told = || format!("{}\nthe servers say:\n{}", *TALLY, farm.states());
    if let Err(status) = ended {
        panic!("no trouble any more: {status}\n{}", told());
    }
    let history = recorder.history();
    TALLY.count("calls", history.operations.len() as u64);
    let violations: Vec<String> = check(&history, LIMIT)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        violations.is_empty(),
        "{}\nlosses: {:?}\n{}",
        violations.join("\n"),
        history.losses,
        told()
    );
    farm.end();
}

#[test]
fn what_clients_of_a_farm_see_fits_together() {
    let seeds = Seeds::asked_or(SEEDS);
    seeds.run(AT_ONCE, TEST, one_seed);
    println!("{} seeds: {}", seeds.count(), *TALLY);
    if seeds.count() >= SEEDS && TALLY.of("calls") > 0 {
        for happened in [
            "results stored",
            "results there before",
            "results read",
            "commits superseded",
            "invalidations",
            "servers killed",
        ] {
            assert!(TALLY.of(happened) > 0, "{happened}: {}", *TALLY);
        }
    }
}
