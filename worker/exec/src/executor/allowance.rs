//! What a container may write in a store with a quota.
//!
//! A container writes through the kernel into its overlay, and asks nobody. So it is given some
//! room in advance, the *lead*. What it has written is measured again and again while it runs, and
//! the lead renewed; that may evict what is not in use. When nothing more can be had and the lead
//! is nearly used up, the container is called off. At its end what it wrote is measured once more,
//! and what it did not need is given back.
//!
//! # How far the quota can be exceeded
//!
//! By what the container writes between two looks, less the lead. Every [`GLANCE`] the free space
//! of the filesystem is asked for, which costs one system call. If what has gone could be a good
//! part of the lead, the container's files are measured by the sandbox's file worker, about a
//! microsecond each. So a container exceeds the quota only if it writes its whole lead (1/16 of
//! the quota, 256 MiB at most) within a glance and a measuring, or while something else frees as
//! much space of the same filesystem as it takes: then it is measured every [`BACKSTOP`] only.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_model::executor::{ExitStatus, StepError};
use ashlar_store::home::quota::{Meter, Permit};
use ashlar_store::home::scratch::Scratch;
use ashlar_store::home::{Home, StoreError};

use super::LocalExecutor;
use super::error::of_store;
use super::request::{self, Answer, Request};
use super::views::blocking;
use crate::sandbox::{Run, RunError, SandboxHelper};

/// How often the filesystem's free space is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// How often a container's files are measured whatever the free space says.
const BACKSTOP: Duration = Duration::from_secs(1);

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
        allowance.renew()?;
        Ok(Some(allowance))
    }

    /// Fills the lead up. If there is not as much, what there is; the error tells how much that was.
    fn renew(&mut self) -> Result<Option<StoreError>, StoreError> {
        let wanted = (self.measured + self.lead).saturating_sub(self.admitted);
        match self.admit(wanted) {
            Ok(()) => Ok(None),
            Err(StoreError::Quota(full)) => {
                // Others may want some of it as well.
                let part = full.room() / 4 * 3;
                match self.admit(part.min(wanted)) {
                    Ok(()) | Err(StoreError::Quota(_)) => Ok(Some(StoreError::Quota(full))),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn admit(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            self.permit.absorb(self.meter.admit(bytes)?);
            self.admitted += bytes;
        }
        Ok(())
    }

    /// Goes on after so much was measured, or tells why the container must not.
    fn cover(&mut self, measured: u64) -> Result<(), StoreError> {
        let grown = measured.saturating_sub(self.measured);
        self.note(measured);
        let Some(full) = self.renew()? else {
            return Ok(());
        };
        // It may write as much again before the next look; one that writes nothing may stay.
        if self.measured + grown > self.admitted || self.measured > self.admitted {
            return Err(full);
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
        let Some(mut allowance) = admitted.map_err(of_store)? else {
            let outcome = run.await;
            let allowance = None;
            return Ok(Ended { outcome, allowance });
        };
        let mut glances = Glances::new(scratch.path());
        loop {
            tokio::select! {
                biased;
                outcome = &mut run => {
                    let allowance = Some(allowance);
                    return Ok(Ended { outcome, allowance });
                }
                () = tokio::time::sleep(GLANCE) => {}
            }
            let ahead = allowance.admitted.saturating_sub(allowance.measured);
            if !glances.may_have_taken(ahead / 4) {
                continue;
            }
            glances.begin();
            let measured = self.measured(helper, scratch.path()).await?;
            glances.end();
            let covering = blocking(move || {
                let covered = allowance.cover(measured);
                (allowance, covered)
            });
            let covered;
            (allowance, covered) = covering.await?;
            if let Err(error) = covered {
                control.cancel();
                // Nothing of it is left when this returns.
                drop(run.await);
                self.discard_allowed(helper, scratch, Some(allowance)).await;
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

/// Looks at how much space a filesystem has.
struct Glances {
    directory: PathBuf,
    free: Option<u64>,
    since: Instant,
    /// How long the last measuring took: no more than a tenth of the time is spent on it when
    /// nothing seems to happen.
    pause: Duration,
}

impl Glances {
    fn new(directory: &Path) -> Self {
        let now = Instant::now();
        Self {
            free: free(directory),
            directory: directory.to_owned(),
            since: now,
            pause: Duration::ZERO,
        }
    }

    /// Whether so many bytes or more may have been written since the last reset.
    fn may_have_taken(&self, bytes: u64) -> bool {
        let gone = match (self.free, free(&self.directory)) {
            (Some(before), Some(now)) => before.saturating_sub(now),
            _ => u64::MAX,
        };
        let overdue = self.since.elapsed() >= BACKSTOP.max(self.pause * 10);
        gone >= bytes.max(1) || overdue
    }

    /// What is written from now on may be missed by the measuring that begins.
    fn begin(&mut self) {
        self.since = Instant::now();
        self.free = free(&self.directory);
    }

    /// The measuring has ended.
    fn end(&mut self) {
        self.pause = self.since.elapsed();
    }
}

/// Bytes that a directory's filesystem has left.
fn free(directory: &Path) -> Option<u64> {
    let filesystem = rustix::fs::statvfs(directory).ok()?;
    Some(filesystem.f_bfree.saturating_mul(filesystem.f_frsize))
}
