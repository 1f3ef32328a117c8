//! Running one container and following it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use ashlar_model::executor::{BoxFuture, ExitStatus, OutputStream, StepOutput};
use tokio::io::Interest;
use tokio::net::{UnixStream, unix::pipe};
use tokio::sync::oneshot;

use super::super::channel::{Channel, write_memory_file};
use super::super::error::RunError;
use super::super::protocol::{Control, Launch, LaunchRequest, Report, Streams};
use super::super::spec::{ContainerSpec, Stdio};

/// How much output is read at a time: the capacity of a pipe.
const OUTPUT_CHUNK: usize = 64 * 1024;

/// A container on its way: a future that gives the command's exit status.
#[must_use = "a container whose future is dropped is called off"]
pub struct Run {
    control: RunControl,
    future: BoxFuture<'static, Result<ExitStatus, RunError>>,
    finished: bool,
}

/// Speaks to a running container; may be cloned and sent anywhere. When the container is over, its
/// methods do nothing.
#[derive(Debug, Clone)]
pub struct RunControl(Weak<Line>);

/// The container's channel.
#[derive(Debug)]
struct Line {
    channel: Channel,
    cancelled: AtomicBool,
}

impl RunControl {
    /// Passes a signal to the command.
    pub fn signal(&self, signal: i32) {
        self.say(Control::Signal(signal));
    }

    /// Calls the container off as dropping its future does; the future then gives
    /// [`RunError::Cancelled`] when nothing of the container is left.
    pub fn cancel(&self) {
        if let Some(line) = self.0.upgrade() {
            line.cancelled.store(true, Ordering::Relaxed);
        }
        self.say(Control::Cancel);
    }

    /// Calls the container off as [`cancel`](Self::cancel) does, and gives it no time to end.
    pub fn kill(&self) {
        if let Some(line) = self.0.upgrade() {
            line.cancelled.store(true, Ordering::Relaxed);
        }
        self.say(Control::Kill);
    }

    /// Stops all processes of the container, until it is resumed or called off. What they are in
    /// the middle of, a large `write` for example, they still finish. A program may see that it was
    /// stopped: some system calls are interrupted by it, and a shell that watches its jobs may take
    /// one of them for stopped by somebody else.
    pub fn pause(&self) {
        self.say(Control::Pause);
    }

    /// Ends [`pause`](Self::pause).
    pub fn resume(&self) {
        self.say(Control::Resume);
    }

    fn say(&self, word: Control) {
        if let Some(line) = self.0.upgrade() {
            // Fails if the container is over, or with so many signals unread that one more makes
            // no difference.
            let _sent = line.channel.send(&word, &[]);
        }
    }
}

impl Run {
    /// A handle with which to speak to the container while the future is awaited.
    pub fn control(&self) -> RunControl {
        self.control.clone()
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl Future for Run {
    type Output = Result<ExitStatus, RunError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = self.future.as_mut().poll(context);
        self.finished |= result.is_ready();
        result
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.finished {
            self.control.cancel();
        }
    }
}

/// Sends the request now, so that the sandbox is at work before the future is first polled.
pub(super) fn run(launcher: Option<&Channel>, spec: ContainerSpec, stdio: Stdio) -> Run {
    let launched = match launcher {
        Some(launcher) => launch(launcher, spec, stdio),
        None => Err(RunError::HelperLost),
    };
    match launched {
        Ok((line, output)) => Run {
            control: RunControl(Arc::downgrade(&line)),
            future: Box::pin(follow(line, output)),
            finished: false,
        },
        Err(error) => Run {
            control: RunControl(Weak::new()),
            future: Box::pin(async { Err(error) }),
            finished: false,
        },
    }
}

/// What comes out of a container beside its reports.
enum Output {
    /// Pipes to read from, and who takes what they give.
    Pipes {
        stdout: OwnedFd,
        stderr: OwnedFd,
        to: Arc<dyn StepOutput>,
    },
    /// Nothing.
    None,
    /// A terminal's master side, to be passed on.
    Terminal(oneshot::Sender<OwnedFd>),
}

fn launch(
    launcher: &Channel,
    spec: ContainerSpec,
    stdio: Stdio,
) -> Result<(Arc<Line>, Output), RunError> {
    let (ours, theirs) = Channel::pair().map_err(RunError::Channel)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(|errno| RunError::Channel(errno.into()))?;
    let (streams, files, output) = open_streams(stdio).map_err(RunError::Channel)?;
    let request = write_memory_file("container", &LaunchRequest { spec, streams })
        .map_err(RunError::Channel)?;
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![request.as_fd(), theirs.as_fd()];
    descriptors.extend(files.iter().map(|file| file.as_fd()));
    launcher
        .send(&Launch::Container, &descriptors)
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => RunError::HelperLost,
            _ => RunError::Channel(error),
        })?;
    Ok((
        Arc::new(Line {
            channel: ours,
            cancelled: AtomicBool::new(false),
        }),
        output,
    ))
}

/// The descriptors that the container gets, and what of them stays here.
fn open_streams(stdio: Stdio) -> io::Result<(Streams, Vec<OwnedFd>, Output)> {
    Ok(match stdio {
        Stdio::Captured(to) => {
            let stdin = File::open("/dev/null")?.into();
            let (stdout, their_stdout) = io::pipe()?;
            let (stderr, their_stderr) = io::pipe()?;
            let files = vec![stdin, their_stdout.into(), their_stderr.into()];
            let output = Output::Pipes {
                stdout: stdout.into(),
                stderr: stderr.into(),
                to,
            };
            (Streams::Files { own: true }, files, output)
        }
        Stdio::Inherited {
            stdin,
            stdout,
            stderr,
        } => (
            Streams::Files { own: false },
            vec![stdin, stdout, stderr],
            Output::None,
        ),
        Stdio::Terminal {
            rows,
            columns,
            master,
        } => (
            Streams::Terminal { rows, columns },
            Vec::new(),
            Output::Terminal(master),
        ),
    })
}

/// Waits for the end, passing output on.
async fn follow(line: Arc<Line>, output: Output) -> Result<ExitStatus, RunError> {
    let ready = readiness(&line.channel).map_err(RunError::Channel)?;
    let result = match output {
        Output::Pipes { stdout, stderr, to } => {
            let pipes = || -> io::Result<_> {
                Ok((
                    pipe::Receiver::from_owned_fd(stdout)?,
                    pipe::Receiver::from_owned_fd(stderr)?,
                ))
            };
            let (stdout, stderr) = pipes().map_err(RunError::Channel)?;
            let finished = {
                let copying = async {
                    tokio::join!(
                        copy(&stdout, OutputStream::Stdout, &*to, || {}),
                        // What stands in standard output by now was in general written earlier: a
                        // complaint is the last thing that a failing command writes.
                        copy(&stderr, OutputStream::Stderr, &*to, || {
                            take(&stdout, OutputStream::Stdout, &*to);
                        })
                    );
                    // Both streams may be closed long before the command ends.
                    std::future::pending().await
                };
                tokio::select! {
                    finished = wait(&ready, &line.channel, None) => finished,
                    finished = copying => finished,
                }
            };
            // Everything that was written is in the pipes now. Their end is not waited for: a
            // process outside, to which the command has passed a descriptor, may keep them open.
            drain(&stdout, OutputStream::Stdout, &*to);
            drain(&stderr, OutputStream::Stderr, &*to);
            finished
        }
        Output::None => wait(&ready, &line.channel, None).await,
        Output::Terminal(master) => wait(&ready, &line.channel, Some(master)).await,
    };
    if line.cancelled.load(Ordering::Relaxed) {
        Err(RunError::Cancelled)
    } else {
        result
    }
}

/// A duplicate of the channel's socket that the runtime watches. Only its readiness is used: it is
/// no stream, but the runtime knows no other sockets.
fn readiness(channel: &Channel) -> io::Result<UnixStream> {
    UnixStream::from_std(net::UnixStream::from(channel.as_fd().try_clone_to_owned()?))
}

/// Waits for the report of the end.
async fn wait(
    ready: &UnixStream,
    channel: &Channel,
    mut master: Option<oneshot::Sender<OwnedFd>>,
) -> Result<ExitStatus, RunError> {
    loop {
        let packet = ready
            .async_io(Interest::READABLE, || channel.receive::<Report>())
            .await
            .map_err(RunError::Channel)?;
        match packet {
            Some((Report::Finished(result), _)) => {
                return result.map(Into::into).map_err(RunError::Setup);
            }
            Some((Report::Terminal, descriptors)) => {
                if let (Some(master), Some(descriptor)) =
                    (master.take(), descriptors.into_iter().next())
                {
                    // Whoever wanted it may have gone; the terminal then hangs up.
                    let _unwanted = master.send(descriptor);
                }
            }
            None => return Err(RunError::HelperLost),
        }
    }
}

/// Passes on what comes, until the pipe ends; `ahead` is called before each piece.
async fn copy(from: &pipe::Receiver, stream: OutputStream, to: &dyn StepOutput, ahead: impl Fn()) {
    let mut buffer = vec![0; OUTPUT_CHUNK];
    // An error on a pipe of our own can only be its end.
    while from.readable().await.is_ok() {
        match from.try_read(&mut buffer) {
            Ok(length @ 1..) => {
                ahead();
                to.write(stream, buffer.get(..length).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// Passes on what is in the pipe, and not more than fits into one: who writes without end must not
/// be read without end.
fn take(from: &pipe::Receiver, stream: OutputStream, to: &dyn StepOutput) {
    let mut buffer = vec![0; OUTPUT_CHUNK];
    if let Ok(length @ 1..) = rustix::io::read(from, &mut buffer) {
        to.write(stream, buffer.get(..length).unwrap_or_default());
    }
}

fn drain(from: &pipe::Receiver, stream: OutputStream, to: &dyn StepOutput) {
    let mut buffer = vec![0; OUTPUT_CHUNK];
    loop {
        // Straight from the pipe: the runtime may not have heard yet that there is something.
        match rustix::io::read(from, &mut buffer) {
            Ok(length @ 1..) => to.write(stream, buffer.get(..length).unwrap_or_default()),
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return,
        }
    }
}
