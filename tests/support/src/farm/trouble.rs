//! What is done to a farm: to its servers, its links, its Redis and its S3 server.
//!
//! What is done, in which order, follows from a seed; when exactly a builder or a client notices
//! does not.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Farm;
use super::database::Harm;
use super::member::Link;
use crate::history::{Lost, Recorder};
use crate::numbers::Numbers;
use crate::s3_faults::{Fault, Plan};
use crate::wire::Trouble;

/// The most servers that a farm grows to.
const MOST_SERVERS: usize = 5;

/// So long after S3 answered wrongly a server may still believe it.
const BELIEF: Duration = Duration::from_secs(15);

/// What happened, by name, so that one sees whether anything did.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, u64>>);

impl Tally {
    /// Counts something.
    pub fn count(&self, what: &'static str, times: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(what).or_default() += times;
    }

    /// How often something was counted.
    pub fn of(&self, what: &str) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, (what, count)) in counts.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{what} {count}")?;
        }
        Ok(())
    }
}

/// Who makes the trouble of one seed.
#[derive(Debug)]
pub struct Troubles {
    numbers: Numbers,
    tally: Arc<Tally>,
    recorder: Option<Arc<Recorder>>,
    /// Whether data may be taken away: records and objects.
    pub destructive: bool,
    /// Whether bytes on the links to clients and to Redis may be changed. Neither protects them
    /// without TLS.
    pub corrupting: bool,
}

impl Troubles {
    /// The trouble of a seed.
    pub fn new(seed: u64, tally: &Arc<Tally>) -> Self {
        Self {
            numbers: Numbers::of(seed, 77),
            tally: Arc::clone(tally),
            recorder: None,
            destructive: true,
            corrupting: true,
        }
    }

    /// Whoever keeps the history is told what is taken away.
    #[must_use]
    pub fn noted_by(mut self, recorder: &Arc<Recorder>) -> Self {
        self.recorder = Some(Arc::clone(recorder));
        self
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(20 + self.numbers.below(280))
    }

    fn count(&self, what: &'static str) {
        self.tally.count(what, 1);
    }

    /// Does something, or nothing, to the farm.
    pub fn disturb(&mut self, farm: &mut Farm) {
        match self.numbers.below(16) {
            0..=3 => self.servers(farm),
            4..=8 => self.links(farm),
            9 | 10 => self.database(farm),
            11..=13 => self.objects(farm),
            _ => {
                let pause = self.pause();
                thread::sleep(pause);
            }
        }
    }

    fn servers(&mut self, farm: &mut Farm) {
        let pause = self.pause();
        let number = self.numbers.place(farm.members.len());
        let choice = self.numbers.below(8);
        let long = self.numbers.below(8) == 0;
        match choice {
            0 if farm.members.len() < MOST_SERVERS => {
                farm.add();
                self.count("servers added");
            }
            0..=3 => {
                farm.members[number].kill();
                thread::sleep(pause);
                farm.members[number].launch(&farm.front);
                self.count("servers killed");
            }
            4 | 5 => {
                farm.members[number].terminate();
                thread::sleep(pause);
                farm.members[number].launch(&farm.front);
                self.count("servers stopped and started");
            }
            _ => {
                let server = farm.members[number].server();
                server.freeze();
                // Now and then longer than leases and than anybody waits.
                thread::sleep(pause * if long { 14 } else { 3 });
                server.thaw();
                self.count("servers frozen");
            }
        }
    }

    fn links(&mut self, farm: &Farm) {
        let number = self.numbers.place(farm.members.len());
        let (link, name, protected) = match self.numbers.below(8) {
            0..=2 => (Link::Clients, "client links disturbed", false),
            3 | 4 => (Link::Objects, "S3 links disturbed", true),
            5 | 6 => (Link::Records, "Redis links disturbed", false),
            _ => (Link::Peers, "peer links disturbed", true),
        };
        let mut trouble = Trouble::random(&mut self.numbers);
        let pause = self.pause();
        let lasting = self.numbers.below(4) == 0;
        let Some(wire) = farm.members[number].link(link) else {
            return thread::sleep(pause);
        };
        if let Trouble::Corrupt(direction, at) = trouble
            && !(protected || self.corrupting)
        {
            trouble = Trouble::Cut(direction, at);
        }
        let harmful = link == Link::Objects && matches!(trouble, Trouble::Corrupt(..));
        if harmful && !self.destructive {
            return;
        }
        let begin = self.recorder.as_ref().map(|recorder| recorder.now());
        if lasting {
            wire.always(trouble);
            thread::sleep(pause * 2);
            wire.calm();
        } else {
            wire.now(trouble);
        }
        if harmful && let (Some(recorder), Some(begin)) = (&self.recorder, begin) {
            // It strikes when so many bytes have passed.
            recorder.lost(Lost::Blobs, begin, Duration::MAX / 2);
        }
        if trouble != Trouble::None {
            self.count(name);
        }
        thread::sleep(pause / 4);
    }

    fn database(&mut self, farm: &mut Farm) {
        let pause = self.pause();
        let begin = self.recorder.as_ref().map(|recorder| recorder.now());
        let done = farm
            .database
            .disturb(&mut self.numbers, self.destructive, pause);
        let lost = match done.harm {
            Harm::Nothing => None,
            Harm::Unconfirmed => Some(Lost::Unconfirmed),
            Harm::Everything => Some(Lost::Records),
        };
        if let (Some(recorder), Some(begin), Some(lost)) = (&self.recorder, begin, lost) {
            recorder.lost(lost, begin, Duration::ZERO);
        }
        self.count(done.what);
    }

    fn objects(&mut self, farm: &Farm) {
        let pause = self.pause();
        let begin = self.recorder.as_ref().map(|recorder| recorder.now());
        let slow = Duration::from_millis(100 + self.numbers.below(900));
        let seed = self.numbers.any();
        let recorder = self.recorder.clone();
        let lost = |after| {
            if let (Some(recorder), Some(begin)) = (&recorder, begin) {
                recorder.lost(Lost::Blobs, begin, after);
            }
        };
        let choice = self.numbers.below(if self.destructive { 10 } else { 6 });
        let (plan, name) = match choice {
            0 | 1 => (Plan::Each(Fault::SlowDown), "S3 answered 503"),
            2 => (Plan::Each(Fault::Delay(slow)), "S3 slow"),
            3 => (Plan::Each(Fault::Refuse), "S3 away"),
            4 => (Plan::Each(Fault::LoseAnswer), "S3 answers lost"),
            5 => (Plan::On("PUT", Fault::Internal), "S3 refused writes"),
            6 => (Plan::On("GET", Fault::NotFound), "S3 answered 404"),
            7 | 8 => (Plan::Seeded(seed), "S3 of all faults"),
            _ => {
                self.remove_object(farm);
                return lost(Duration::MAX / 2);
            }
        };
        farm.faults.set(plan);
        thread::sleep(pause * 3);
        farm.faults.calm();
        if choice >= 6 {
            lost(BELIEF);
        }
        self.count(name);
    }

    /// Removes some of the objects, as one does who looks after the bucket and not after the cache.
    fn remove_object(&mut self, farm: &Farm) {
        let every = 1 + self.numbers.place(4);
        let mut removed = 0;
        for object in farm.objects.objects().into_iter().step_by(every) {
            // Servers remove objects, too.
            removed += u64::from(fs::remove_file(object).is_ok());
        }
        self.tally.count("S3 objects removed", removed);
    }
}
