//! The supervisor of one container: starts its init, passes signals on, ends it when told to, and
//! removes what it leaves. It stays outside the container's process namespace, so that it can
//! wait until the kernel has taken down all of it, mounts included.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ashlar_sys::namespace::unshare;
use ashlar_sys::process::{Forked, exit_immediately, fork};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid,
};
use rustix::thread::UnshareFlags;

use super::super::channel::{Channel, read_memory_file};
use super::super::container::{Container, RunFiles, Runtime};
use super::super::error::SetupError;
use super::super::protocol::{
    Control, InitOrder, InitReport, LaunchRequest, Report, Stub, WireStatus,
};
use super::cleanup;
use super::memory::out_of_memory_kills;

/// How long a command that was asked to end may take.
const GRACE: Duration = Duration::from_secs(2);

/// Runs one container from beginning to end; gives the code to exit with.
pub(super) fn supervise(runtime: &Runtime, descriptors: Vec<OwnedFd>, life: &PipeReader) -> u8 {
    let mut descriptors = descriptors.into_iter();
    let (Some(request), Some(channel)) = (descriptors.next(), descriptors.next()) else {
        return super::FAILURE;
    };
    let channel = Channel::from(channel);
    let result = run(runtime, request, &channel, descriptors.collect(), life);
    // The builder may have gone.
    let _sent = channel.send(&Report::Finished(result), &[]);
    0
}

fn run(
    runtime: &Runtime,
    request: OwnedFd,
    channel: &Channel,
    files: Vec<OwnedFd>,
    life: &PipeReader,
) -> Result<WireStatus, SetupError> {
    let request: LaunchRequest =
        read_memory_file(request).map_err(SetupError::system("the request cannot be read"))?;
    let run_files = RunFiles::make(runtime, &request.spec)?;
    let (reports, to_us) =
        Channel::pair().map_err(SetupError::system("no channel to the container's init"))?;
    unshare(UnshareFlags::NEWPID).map_err(|errno| SetupError::Namespace {
        network: request.spec.network,
        source: errno.into(),
    })?;
    let writable = request.spec.root.writable.clone();
    let init = match fork().map_err(SetupError::system("no process for the container's init"))? {
        Forked::Child => {
            drop(reports);
            let container = Container {
                runtime,
                request,
                run_files: &run_files,
                reports: to_us,
                channel,
            };
            container.run(files);
            exit_immediately(super::FAILURE);
        }
        Forked::Parent(pid) => pid,
    };
    drop((to_us, files));
    // Only the difference counts, so this need not be before the fork, where it costs time.
    let killed_before = out_of_memory_kills();
    let mut watch = Watch {
        channel,
        reports,
        outcome: None,
        stubs: Vec::new(),
        called_off: false,
        paused: false,
    };
    let status = watch.until_the_end(init, life);
    drop(run_files);
    if let Some(writable) = &writable {
        cleanup::clean(writable, &watch.stubs)?;
    }
    let status = match (watch.outcome, status) {
        (Some(Ok(status)), _) => status,
        (Some(Err(error)), _) => return Err(error),
        // Init itself was killed, and everything with it.
        (None, Some(signal)) => WireStatus::Signal(signal),
        (None, None) => return Err(SetupError::InitLost),
    };
    let killed = matches!(status, WireStatus::Signal(9) | WireStatus::Code(137));
    if killed && !watch.called_off && out_of_memory_kills() > killed_before {
        return Ok(WireStatus::OutOfMemory);
    }
    Ok(status)
}

/// What has been heard from a container so far.
struct Watch<'a> {
    channel: &'a Channel,
    reports: Channel,
    outcome: Option<Result<WireStatus, SetupError>>,
    stubs: Vec<Stub>,
    called_off: bool,
    paused: bool,
}

impl Watch<'_> {
    /// Waits until init and everything in its namespaces is gone, doing what the builder says
    /// meanwhile. Gives the signal that killed init, if one did.
    fn until_the_end(&mut self, init: Pid, life: &PipeReader) -> Option<i32> {
        if let Ok(pidfd) = pidfd_open(init, PidfdFlags::empty()) {
            self.follow(&pidfd, life);
        }
        let status = loop {
            match waitpid(Some(init), WaitOptions::empty()) {
                Err(Errno::INTR) => {}
                result => break result.ok().flatten(),
            }
        };
        while let Ok(Some((report, _))) = self.reports.receive() {
            self.hear(report);
        }
        status
            .map(|(_, status): (Pid, WaitStatus)| status)
            .and_then(WaitStatus::terminating_signal)
    }

    fn follow(&mut self, init: &OwnedFd, life: &PipeReader) {
        let mut listening = true;
        let mut deadline = None::<Instant>;
        loop {
            let (ended, builder, report, orphaned) = {
                let when = |wanted: bool| {
                    if wanted {
                        PollFlags::IN
                    } else {
                        PollFlags::empty()
                    }
                };
                let mut watched = [
                    PollFd::new(init, PollFlags::IN),
                    PollFd::new(self.channel, when(listening)),
                    PollFd::new(&self.reports, PollFlags::IN),
                    PollFd::new(life, PollFlags::empty()),
                ];
                let timeout = deadline.map(|deadline| {
                    let left = deadline.saturating_duration_since(Instant::now());
                    Timespec::try_from(left).unwrap_or_default()
                });
                // Fails only when interrupted, for we have room for four descriptors.
                let _count = poll(&mut watched, timeout.as_ref());
                let [ended, builder, report, orphaned] =
                    watched.map(|watched| !watched.revents().is_empty());
                (ended, builder, report, orphaned)
            };
            if ended {
                return;
            }
            let mut kill = orphaned || deadline.is_some_and(|deadline| deadline <= Instant::now());
            if builder && listening {
                match self.channel.receive() {
                    Ok(Some((Control::Signal(signal), _))) => send(init, signal),
                    Ok(Some((Control::Cancel, _))) => {
                        self.called_off = true;
                        // Or it could not end.
                        self.order(init, InitOrder::Resume);
                        send(init, Signal::TERM.as_raw());
                        deadline.get_or_insert_with(|| Instant::now() + GRACE);
                    }
                    Ok(Some((Control::Kill, _))) => kill = true,
                    Ok(Some((Control::Pause, _))) => self.order(init, InitOrder::Pause),
                    Ok(Some((Control::Resume, _))) => self.order(init, InitOrder::Resume),
                    // A builder that goes after it has called off leaves the grace as it is.
                    Ok(None) | Err(_) => {
                        listening = false;
                        kill |= !self.called_off;
                    }
                }
            }
            if report {
                match self.reports.receive() {
                    Ok(Some((report, _))) => self.hear(report),
                    // Only init has the other end, so it is about to end.
                    Ok(None) | Err(_) => return,
                }
            }
            if kill {
                self.called_off = true;
                send(init, Signal::KILL.as_raw());
                return;
            }
        }
    }

    fn order(&mut self, init: &OwnedFd, order: InitOrder) {
        let paused = order == InitOrder::Pause;
        // Fails only if init is about to end.
        if paused != self.paused && self.reports.send(&order, &[]).is_ok() {
            self.paused = paused;
            send(init, Signal::POWER.as_raw());
        }
    }

    fn hear(&mut self, report: InitReport) {
        match report {
            InitReport::Stubs(stubs) => self.stubs = stubs,
            // The first word counts: a command that could not be started exits too.
            InitReport::Failed(error) => drop(self.outcome.get_or_insert(Err(error))),
            InitReport::Exited(status) => drop(self.outcome.get_or_insert(Ok(status))),
        }
    }
}

/// Sends a signal to init. It blocks all but SIGKILL and passes them on. Numbers that are no
/// signal are left out; an init that has ended needs none.
fn send(init: &OwnedFd, signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        let _sent = pidfd_send_signal(init, signal);
    }
}
