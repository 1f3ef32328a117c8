//! The launcher: waits for requests and forks a supervisor for each.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use ashlar_sys::process::{Forked, exit_immediately, fork};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, WaitOptions, getrlimit, pidfd_open, setrlimit, wait, waitpid,
};

use super::super::channel::{Channel, read_memory_file};
use super::super::container::Runtime;
use super::super::protocol::{Launch, Settings, StartReport};
use super::file_worker::{self, FileHandler};
use super::{Failure, supervisor};

/// Serves until the builder goes, then waits until nothing is left.
pub(super) fn serve(
    channel: Channel,
    files: UnixStream,
    handler: FileHandler,
) -> Result<(), (Channel, Failure)> {
    let runtime = match prepare() {
        Ok(runtime) => runtime,
        Err(failure) => return Err((channel, failure)),
    };
    match fork() {
        Ok(Forked::Child) => {
            // Or the builder would not notice the launcher's death.
            drop(channel);
            file_worker::serve(files, handler);
            exit_immediately(0);
        }
        Ok(Forked::Parent(_)) => drop(files),
        Err(errno) => return Err((channel, Failure::of("starting the file worker")(errno))),
    }
    let (life, alive) = match io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return Err((channel, Failure::of("making a pipe")(error))),
    };
    if channel.send(&StartReport::Ready, &[]).is_ok() {
        Launcher {
            channel,
            runtime,
            life,
            alive,
        }
        .run();
    }
    Ok(())
}

fn prepare() -> Result<Runtime, Failure> {
    let settings = handed_settings().map_err(Failure::of("reading the settings"))?;
    // Standard input and output are the sockets to the builder, of which we have duplicates.
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(Failure::of("opening /dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(Failure::of("replacing standard input"))?;
    rustix::stdio::dup2_stdout(&null).map_err(Failure::of("replacing standard output"))?;
    let limit = raise_descriptor_limit();
    Runtime::prepare(settings, limit).map_err(|(operation, error)| Failure::of(&operation)(error))
}

/// The settings that the first life of this process left in a memory file.
fn handed_settings() -> io::Result<Settings> {
    let number = std::env::args().nth(2).ok_or(io::ErrorKind::InvalidInput)?;
    let file = File::open(format!("/proc/self/fd/{number}"))?;
    // The inherited descriptor itself stays open; it holds nothing secret and is closed in
    // containers like all others.
    read_memory_file(file.into())
}

/// Lets us have as many descriptors as we may; gives the limit that commands get back.
fn raise_descriptor_limit() -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Without it, only very many containers at once fail, and say so.
    let _raised = setrlimit(Resource::Nofile, raised);
    limit
}

struct Launcher {
    channel: Channel,
    runtime: Runtime,
    /// Supervisors watch it: its end means that the launcher has gone.
    life: PipeReader,
    /// The other end of `life`, which nobody else may have.
    alive: PipeWriter,
}

impl Launcher {
    fn run(self) {
        let mut children: Vec<(Pid, OwnedFd)> = Vec::new();
        while let Ok(request) = self.wait(&mut children) {
            let descriptors = match request.then(|| self.channel.receive::<Launch>()) {
                None => continue,
                Some(Ok(Some((Launch::Container, descriptors)))) => descriptors,
                Some(Ok(None)) => break,
                // Nonsense. Its sender sees the end of the channel that came with it.
                Some(Err(_)) => continue,
            };
            match fork() {
                Ok(Forked::Parent(pid)) => {
                    // Cannot fail for a child that was not waited for, except for want of
                    // descriptors or memory; then the child is waited for at the end.
                    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
                        children.push((pid, pidfd));
                    }
                }
                Ok(Forked::Child) => {
                    drop(children);
                    let Self {
                        channel,
                        runtime,
                        life,
                        alive,
                    } = self;
                    drop(channel);
                    drop(alive);
                    exit_immediately(supervisor::supervise(&runtime, descriptors, &life));
                }
                // The builder sees the end of the container's channel.
                Err(_) => drop(descriptors),
            }
        }
        // Tells the supervisors to kill their containers.
        drop(self.alive);
        while let Ok(Some(_)) | Err(Errno::INTR) = wait(WaitOptions::empty()) {}
    }

    /// Waits for something to happen and buries children that have ended. Gives whether there is
    /// a request, or its end.
    fn wait(&self, children: &mut Vec<(Pid, OwnedFd)>) -> Result<bool, Errno> {
        let happened = {
            let mut watched = vec![PollFd::new(&self.channel, PollFlags::IN)];
            watched.extend(
                children
                    .iter()
                    .map(|(_, fd)| PollFd::new(fd, PollFlags::IN)),
            );
            match poll(&mut watched, None) {
                Err(Errno::INTR) => return Ok(false),
                result => result?,
            };
            watched
                .iter()
                .map(|fd| !fd.revents().is_empty())
                .collect::<Vec<_>>()
        };
        let mut happened = happened.into_iter();
        let request = happened.next().unwrap_or(false);
        children.retain(|(pid, _)| {
            let ended = happened.next().unwrap_or(false);
            if ended {
                let _status = waitpid(Some(*pid), WaitOptions::empty());
            }
            !ended
        });
        Ok(request)
    }
}
