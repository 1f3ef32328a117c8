//! `ashlar run`: a command in a container made from an image.
//!
//! | module | subject |
//! |---|---|
//! | `source` | the image, from the store, a layout or a registry |
//! | `request` | flags and the image's configuration, as a container to run |
//! | `terminal` | a terminal for the command |

mod request;
mod source;
mod terminal;

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_exec::executor::{ContainerControl, ContainerRequest};
use ashlar_exec::sandbox::Stdio;
use ashlar_model::executor::{ExitStatus, StepError};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::run::RunArgs;
use crate::diagnostics::{CliError, ErrorKind};
use crate::exit_code::ExitCode;
use crate::failure::step_to_cli_error;
use crate::settings::Settings;
use crate::workshop::{self, Workshop, run_to_end};
use source::Image;
use terminal::Terminal;

/// Signals that go on to the command.
const FORWARDED: [SignalKind; 6] = [
    SignalKind::interrupt(),
    SignalKind::terminate(),
    SignalKind::hangup(),
    SignalKind::quit(),
    SignalKind::user_defined1(),
    SignalKind::user_defined2(),
];

/// Interrupts and terminations after which a command that does not heed them is killed, as with
/// `docker run`.
const PATIENCE: u32 = 3;

/// Runs a container to its end.
pub(super) fn run(args: &RunArgs, settings: &Settings) -> Result<ExitCode, CliError> {
    let home = settings.open_home()?;
    let warnings = Arc::new(|message: &str| {
        super::output::warn(message);
    });
    let workshop = workshop::open(home, settings, warnings)?;
    run_to_end(async {
        let image = Image::find(args, settings, &workshop).await?;
        let request = request::container(args, settings.environment(), &image)?;
        Box::pin(start(args, &workshop, request)).await
    })
}

async fn start(
    args: &RunArgs,
    workshop: &Workshop,
    request: ContainerRequest,
) -> Result<ExitCode, CliError> {
    let control: Arc<Mutex<Option<ContainerControl>>> = Arc::default();
    let noted = Arc::clone(&control);
    let started = move |handle: ContainerControl| {
        *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    };
    let _forwarding = forward_signals(&control)?;
    let (stdio, terminal) = streams(args)?;
    let outcome = workshop
        .executor()
        .run_container(request, stdio, started)
        .await;
    if let Some(terminal) = terminal {
        terminal.finish().await;
    }
    match outcome {
        Ok(status) => Ok(ExitCode::Container(code(status))),
        // The command could not be started: with the code that a shell gives it.
        Err(StepError::Failed { command, status }) => Err(CliError::new(
            ErrorKind::NotStarted(code(status)),
            format!("cannot start {command}"),
        )),
        Err(error) => Err(step_to_cli_error(error)),
    }
}

fn code(status: ExitStatus) -> u8 {
    // As the kernel does it: 8 bits.
    u8::try_from(status.shell_code() & 0xff).unwrap_or(u8::MAX)
}

fn streams(args: &RunArgs) -> Result<(Stdio, Option<Terminal>), CliError> {
    let failed = |error: std::io::Error| {
        CliError::environment("cannot pass on the standard streams").caused_by(error)
    };
    if args.tty {
        let (stdio, terminal) = Terminal::open(args.interactive).map_err(failed)?;
        return Ok((stdio, Some(terminal)));
    }
    let stdin: OwnedFd = if args.interactive {
        std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(failed)?
    } else {
        File::open("/dev/null").map_err(failed)?.into()
    };
    let stdout = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed)?;
    let stderr = std::io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed)?;
    Ok((
        Stdio::Inherited {
            stdin,
            stdout,
            stderr,
        },
        None,
    ))
}

/// Passes signals to the command, as if it had been started here.
fn forward_signals(
    control: &Arc<Mutex<Option<ContainerControl>>>,
) -> Result<Vec<ashlar_engine::task::Task<()>>, CliError> {
    let asked_to_end = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::with_capacity(FORWARDED.len());
    for kind in FORWARDED {
        let mut stream =
            signal(kind).map_err(|error| CliError::environment("cannot start").caused_by(error))?;
        let control = Arc::clone(control);
        let asked_to_end = Arc::clone(&asked_to_end);
        let asks = kind == SignalKind::interrupt() || kind == SignalKind::terminate();
        tasks.push(ashlar_engine::task::spawn(async move {
            while stream.recv().await.is_some() {
                let times =
                    asked_to_end.fetch_add(u32::from(asks), Ordering::Relaxed) + u32::from(asks);
                if let Some(control) = &*control.lock().unwrap_or_else(PoisonError::into_inner) {
                    if asks && times >= PATIENCE {
                        control.cancel();
                    } else {
                        control.signal(kind.as_raw_value());
                    }
                }
            }
        }));
    }
    Ok(tasks)
}
