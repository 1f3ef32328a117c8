//! PID 1 of a container: starts the command, passes signals on to it, buries orphans, and ends
//! with the command. The kernel then kills whatever else runs in the namespace.

use ashlar_sys::process::{Forked, exit_immediately, fork};
use ashlar_sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process,
    kill_process_group, set_dumpable_behavior, wait,
};

use super::super::channel::Channel;
use super::super::error::SetupError;
use super::super::protocol::{InitOrder, InitReport, WireStatus};
use super::command::Command;

/// Exit code of a process that could not become the command; the report says why.
const NOT_STARTED: u8 = 127;

/// Runs the command and waits for its end.
pub(super) fn run(command: Command<'_>, reports: &Channel) -> Result<WireStatus, SetupError> {
    // What of the builder is still in our memory is not for the container's eyes: a process that
    // may not be dumped can be read only with rights that the command lacks. The command itself
    // gets the usual state back by its exec.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(SetupError::system("init cannot be protected"))?;
    let child = match fork().map_err(SetupError::system("no process for the command"))? {
        Forked::Child => {
            let error = command.become_program();
            // Fails only if the supervisor has gone; then we are being killed.
            let _sent = reports.send(&InitReport::Failed(error), &[]);
            exit_immediately(NOT_STARTED);
        }
        Forked::Parent(child) => child,
    };
    // Or the command's output would have no end before ours.
    drop(command);
    loop {
        let signal = signal::wait().map_err(SetupError::system("init cannot wait for signals"))?;
        if signal == Signal::CHILD.as_raw() {
            if let Some(status) = bury(child)? {
                return Ok(status);
            }
        } else if signal == Signal::POWER.as_raw() {
            // The supervisor's; what it means may have been heard with the one before.
            if let Some(order) = orders(reports) {
                obey(order);
            }
        } else if let Some(signal) = Signal::from_named_raw(signal) {
            // It may have ended just now.
            let _passed = kill_process(child, signal);
        }
    }
}

/// The last of what the supervisor has told since, if it has: one signal may stand for several.
fn orders(reports: &Channel) -> Option<InitOrder> {
    let mut last = None;
    loop {
        let mut watched = [PollFd::new(reports, PollFlags::IN)];
        if poll(&mut watched, Some(&Timespec::default())) != Ok(1) {
            return last;
        }
        match reports.receive() {
            Ok(Some((order, _))) => last = Some(order),
            // The supervisor has gone, and we are being killed.
            Ok(None) | Err(_) => return last,
        }
    }
}

/// Does something to all processes of the container but this one: signals that go to all do not
/// reach who sends them.
fn obey(order: InitOrder) {
    let signal = match order {
        InitOrder::Pause => Signal::STOP,
        InitOrder::Resume => Signal::CONT,
    };
    // `kill(-1)`, which is for all that we see. Fails if there is nobody else.
    if getpid() == Pid::INIT {
        let _sent = kill_process_group(Pid::INIT, signal);
    }
}

/// Waits for every child that has ended; gives the command's status if it is one of them.
fn bury(command: Pid) -> Result<Option<WireStatus>, SetupError> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => return Ok(Some(wire_status(status))),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => {
                return Err(SetupError::system("init cannot wait for the command")(
                    errno,
                ));
            }
        }
    }
}

fn wire_status(status: WaitStatus) -> WireStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => WireStatus::Code(code),
        (None, Some(signal)) => WireStatus::Signal(signal),
        // Stopped or continued, which was not asked for.
        (None, None) => WireStatus::Code(i32::from(NOT_STARTED)),
    }
}
