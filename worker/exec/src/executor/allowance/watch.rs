//! Keeping an eye on a container while it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_model::executor::{BoxFuture, StepError};
use ashlar_store::home::StoreError;
use ashlar_store::home::scratch::Scratch;

use super::super::LocalExecutor;
use super::super::error::of_store;
use super::super::views::blocking;
use super::pace::Pace;
use super::{Allowance, More};
use crate::sandbox::{RunControl, SandboxHelper};

/// How often the filesystem's free space is looked at.
pub(super) const GLANCE: Duration = Duration::from_millis(10);

/// Less than this need not be noticed in the free space of a filesystem that others write to.
const LEAST_SEEN: u64 = 64 << 10;

/// Room that is being made.
pub(super) type Renewing = BoxFuture<'static, Result<Result<More, StoreError>, StepError>>;

/// Waits for what is being made; for ever if nothing is.
pub(super) async fn next(renewing: &mut Option<Renewing>) -> Result<More, StepError> {
    let Some(pending) = renewing else {
        return std::future::pending().await;
    };
    let more = pending.await;
    *renewing = None;
    more?.map_err(of_store)
}

/// Whether a container may go on.
pub(super) enum Verdict {
    /// It may.
    GoOn,
    /// It may not, for this reason.
    Stop(StoreError),
}

/// Keeps an eye on a container.
pub(super) struct Watch<'a> {
    executor: &'a LocalExecutor,
    helper: &'a Arc<SandboxHelper>,
    scratch: &'a Scratch,
    control: RunControl,
    allowance: Allowance,
    glances: Glances,
    pace: Pace,
    /// Room that is being made at this moment.
    pub(super) renewing: Option<Renewing>,
    paused: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn begin(
        executor: &'a LocalExecutor,
        helper: &'a Arc<SandboxHelper>,
        scratch: &'a Scratch,
        control: RunControl,
        allowance: Allowance,
    ) -> Self {
        Self {
            executor,
            helper,
            scratch,
            control,
            allowance,
            glances: Glances::new(scratch.path()),
            pace: Pace::new(),
            renewing: None,
            paused: false,
        }
    }

    /// Looks whether there is something to do.
    pub(super) async fn glance(&mut self, asleep: Instant) -> Result<Verdict, StepError> {
        let ahead = self.allowance.ahead();
        if self.paused || !self.glances.is_due(ahead, self.pace.interval(ahead)) {
            return Ok(Verdict::GoOn);
        }
        self.look(asleep).await?;
        let ahead = self.allowance.ahead();
        if self.renewing.is_none() && ahead < self.allowance.lead {
            let (meter, wanted) = (self.allowance.meter.clone(), self.allowance.lead - ahead);
            let more = blocking(move || More::of(&meter, wanted));
            self.renewing = Some(Box::pin(more));
        } else if self.renewing.is_some() && self.is_short() {
            self.control.pause();
            self.paused = true;
        }
        Ok(Verdict::GoOn)
    }

    /// Room has been made, or there is none.
    pub(super) async fn renewed(
        &mut self,
        more: More,
        asleep: Instant,
    ) -> Result<Verdict, StepError> {
        if let Some(full) = self.allowance.take(more) {
            self.look(asleep).await?;
            if self.is_short() {
                return Ok(Verdict::Stop(full));
            }
        }
        if self.paused {
            self.control.resume();
            self.paused = false;
            self.glances.begin();
        }
        Ok(Verdict::GoOn)
    }

    /// Measures what it has written.
    async fn look(&mut self, asleep: Instant) -> Result<(), StepError> {
        let between = self.glances.begin();
        let measured = self.executor.measured(self.helper, self.scratch.path());
        let measured = measured.await?;
        let grown = measured.saturating_sub(self.allowance.measured);
        // How fast it is shows only while it runs.
        if !self.paused {
            self.pace.note(grown, between, asleep.elapsed());
        }
        self.allowance.note(measured);
        Ok(())
    }

    /// Whether it may have written more than it was admitted before the next look can stop it. One
    /// that writes nothing may stay.
    fn is_short(&self) -> bool {
        let Allowance {
            measured, admitted, ..
        } = self.allowance;
        measured > admitted || self.pace.reserve() > self.allowance.ahead()
    }

    /// Kills the container.
    pub(super) fn stop(self) -> Allowance {
        self.control.kill();
        self.allowance
    }

    /// The container is over.
    pub(super) async fn end(self) -> Result<Allowance, StepError> {
        let Self {
            mut allowance,
            mut renewing,
            ..
        } = self;
        if renewing.is_some() {
            // That it was less than wanted does not matter any more.
            let _full = allowance.take(next(&mut renewing).await?);
        }
        Ok(allowance)
    }
}

/// Looks at how much space a filesystem has.
struct Glances {
    directory: PathBuf,
    free: Option<u64>,
    since: Instant,
}

impl Glances {
    fn new(directory: &Path) -> Self {
        Self {
            free: free(directory),
            directory: directory.to_owned(),
            since: Instant::now(),
        }
    }

    /// Whether to measure what a container has written that may write so many bytes: because a
    /// good part of them may be gone, or because this time has passed since the last measuring.
    fn is_due(&self, ahead: u64, interval: Duration) -> bool {
        let gone = match (self.free, free(&self.directory)) {
            (Some(before), Some(now)) => before.saturating_sub(now),
            _ => u64::MAX,
        };
        gone >= LEAST_SEEN.max(ahead / 4) || self.since.elapsed() >= interval
    }

    /// What is written from now on may be missed by the measuring that begins. Tells how long ago
    /// the last one began.
    fn begin(&mut self) -> Duration {
        let now = Instant::now();
        let between = now - self.since;
        self.since = now;
        self.free = free(&self.directory);
        between
    }
}

/// Bytes that a directory's filesystem has left.
fn free(directory: &Path) -> Option<u64> {
    let filesystem = rustix::fs::statvfs(directory).ok()?;
    Some(filesystem.f_bfree.saturating_mul(filesystem.f_frsize))
}
