//! What a container may write in a store with a quota.
//!
//! A container writes through the kernel into its overlay, and asks nobody. So it is given some
//! room in advance, the *lead*. What it has written is measured again and again while it runs, and
//! the lead renewed; that may evict what is not in use. When nothing more can be had and the lead
//! is nearly used up, the container is killed. At its end what it wrote is measured once more,
//! and what it did not need is given back.
//!
//! # How far the quota can be exceeded
//!
//! The container's files are measured by the sandbox's file worker, about a microsecond each, when
//! one of these says so:
//!
//! * its pace: at twice the speed at which it wrote of late, half of its lead could be gone;
//! * the filesystem: a quarter of the lead has gone from its free space, which is looked at every
//!   [`GLANCE`], which costs one system call. This sees a container that has just begun to write, but
//!   not while something else frees as much.
//!
//! Making room may take seconds. The container goes on meanwhile and is looked at; if it comes near
//! the end of its lead it is paused until there is room. So it exceeds the quota only if it writes
//! its whole lead (1/16 of the quota, 256 MiB at most) in the time of a glance, a measuring and a
//! signal, at more than twice the speed at which it wrote before.

mod pace;
mod watch;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use ashlar_model::executor::{ExitStatus, StepError};
use ashlar_store::home::quota::{Meter, Permit};
use ashlar_store::home::scratch::Scratch;
use ashlar_store::home::{Home, StoreError};

use watch::{GLANCE, Verdict, Watch, next};

use super::LocalExecutor;
use super::error::of_store;
use super::request::{self, Answer, Request};
use super::views::blocking;
use crate::sandbox::{Run, RunError, SandboxHelper};

/// The lead is this part of the quota, within [`LEAST_LEAD`] and [`MOST_LEAD`].
const PART: u64 = 16;
const LEAST_LEAD: u64 = 512 << 10;
const MOST_LEAD: u64 = 256 << 20;

/// What a container was admitted to write.
#[derive(Debug)]
pub(super) struct Allowance {
    home: Home,
    meter: Meter,
    /// The count of the store's bytes that the first of this was admitted under.
    count: u64,
    lead: u64,
    admitted: u64,
    measured: u64,
    /// For what was admitted and is not known to be written.
    permit: Permit,
}

impl Allowance {
    /// Admits a first lead; less if there is not as much.
    fn new(home: &Home) -> Result<Option<Self>, StoreError> {
        let meter = home.meter();
        let Some(quota) = home.quota()?.filter(|_| meter.is_limited()) else {
            return Ok(None);
        };
        let mut allowance = Self {
            home: home.clone(),
            count: meter.count()?,
            meter,
            lead: (quota / PART).clamp(LEAST_LEAD, MOST_LEAD),
            admitted: 0,
            measured: 0,
            permit: Permit::default(),
        };
        let more = More::of(&allowance.meter, allowance.lead)?;
        allowance.take(more);
        Ok(Some(allowance))
    }

    /// What it may still write.
    const fn ahead(&self) -> u64 {
        self.admitted.saturating_sub(self.measured)
    }

    /// Takes what else was admitted. Gives the reason if it was less than wanted.
    fn take(&mut self, more: More) -> Option<StoreError> {
        self.permit.absorb(more.permit);
        self.admitted += more.bytes;
        self.note(self.measured);
        more.full
    }

    fn admit(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            self.permit.absorb(self.meter.admit(bytes)?);
            self.admitted += bytes;
        }
        Ok(())
    }

    fn note(&mut self, measured: u64) {
        self.measured = measured;
        self.permit.keep(self.admitted.saturating_sub(measured));
    }

    /// The container is over and takes this much.
    fn settle(&mut self, measured: u64) -> Result<(), StoreError> {
        self.note(measured);
        self.admit(measured.saturating_sub(self.admitted))?;
        self.give_back(measured)
    }

    /// Gives back all but so many bytes.
    fn give_back(&mut self, kept: u64) -> Result<(), StoreError> {
        let spare = self.admitted.saturating_sub(kept);
        self.permit.keep(0);
        self.admitted -= spare;
        self.meter.give_back(spare, self.count)
    }
}

/// How a container ended, and what it may keep.
pub(super) struct Ended {
    pub(super) outcome: Result<ExitStatus, RunError>,
    pub(super) allowance: Option<Allowance>,
}

impl LocalExecutor {
    /// Waits for a container that writes into a scratch directory only, and calls it off if that
    /// grows too large.
    pub(super) async fn run_within_quota(
        &self,
        helper: &Arc<SandboxHelper>,
        run: Run,
        scratch: &Scratch,
    ) -> Result<Ended, StepError> {
        if !self.home().meter().is_limited() {
            let outcome = run.await;
            let allowance = None;
            return Ok(Ended { outcome, allowance });
        }
        let control = run.control();
        let mut run = pin!(run);
        let home = self.home().clone();
        // The container is at work meanwhile.
        let admitted = blocking(move || Allowance::new(&home)).await?;
        let Some(allowance) = admitted.map_err(of_store)? else {
            let outcome = run.await;
            let allowance = None;
            return Ok(Ended { outcome, allowance });
        };
        let mut watch = Watch::begin(self, helper, scratch, control, allowance);
        loop {
            let asleep = Instant::now();
            let verdict = tokio::select! {
                biased;
                outcome = &mut run => {
                    let allowance = Some(watch.end().await?);
                    return Ok(Ended { outcome, allowance });
                }
                more = next(&mut watch.renewing) => watch.renewed(more?, asleep).await?,
                () = tokio::time::sleep(GLANCE) => watch.glance(asleep).await?,
            };
            if let Verdict::Stop(error) = verdict {
                let allowance = Some(watch.stop());
                // Nothing of it is left when this returns.
                drop(run.await);
                self.discard_allowed(helper, scratch, allowance).await;
                return Err(of_store(error));
            }
        }
    }

    /// Measures what a container left, of which nothing more is written; it is admitted from
    /// then on. Fails if there is no room for it.
    pub(super) async fn settle_allowance(
        &self,
        helper: &Arc<SandboxHelper>,
        scratch: &Scratch,
        tree: &Path,
        allowance: &mut Option<Allowance>,
    ) -> Result<(), StepError> {
        let Some(mut allowed) = allowance.take() else {
            return Ok(());
        };
        let measured = self.measured(helper, scratch.path()).await?;
        let tree = tree.to_owned();
        let settled = blocking(move || {
            let settled = allowed.settle(measured);
            let noted = settled.and_then(|()| allowed.home.note_size(&tree, measured));
            (allowed, noted)
        });
        let (allowed, settled) = settled.await?;
        *allowance = Some(allowed);
        settled.map_err(of_store)
    }

    /// Removes a container's scratch directory, which nothing is kept of.
    pub(super) async fn discard_allowed(
        &self,
        helper: &Arc<SandboxHelper>,
        scratch: &Scratch,
        allowance: Option<Allowance>,
    ) {
        self.discard(helper, scratch.path()).await;
        if let Some(mut allowance) = allowance
            && !scratch.path().exists()
        {
            // If it fails, the store is thought to be fuller than it is, until it is counted.
            drop(allowance.give_back(0));
        }
    }

    /// Bytes on disk below a directory, as the sandbox sees it; noted for those who cannot.
    async fn measured(
        &self,
        helper: &Arc<SandboxHelper>,
        directory: &Path,
    ) -> Result<u64, StepError> {
        let paths = vec![directory.to_owned()];
        let measured = match request::call(helper, &Request::Measure { paths }).await? {
            Answer::Measured(measured) => measured,
            Answer::Failed(error) => return Err(error.into()),
            _ => return Err(request::wrong_answer()),
        };
        self.home()
            .note_size(directory, measured)
            .map_err(of_store)?;
        Ok(measured)
    }
}

/// More room, as far as there is any.
struct More {
    permit: Permit,
    bytes: u64,
    /// Why it is less than was wanted.
    full: Option<StoreError>,
}

impl More {
    /// Asks for so many bytes. If there are not as many, takes what there is. Blocks.
    fn of(meter: &Meter, wanted: u64) -> Result<Self, StoreError> {
        let full = match meter.admit(wanted) {
            Ok(permit) => {
                return Ok(Self {
                    permit,
                    bytes: wanted,
                    full: None,
                });
            }
            Err(StoreError::Quota(full)) => full,
            Err(error) => return Err(error),
        };
        // Others may want some of it as well.
        let part = (full.room() / 4 * 3).min(wanted);
        let (permit, bytes) = match meter.admit(part) {
            Ok(permit) => (permit, part),
            Err(StoreError::Quota(_)) => (Permit::default(), 0),
            Err(error) => return Err(error),
        };
        Ok(Self {
            permit,
            bytes,
            full: Some(StoreError::Quota(full)),
        })
    }
}
