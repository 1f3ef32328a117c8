//! Files that change while the server runs, and SIGHUP.
//!
//! | what | when it has changed |
//! |---|---|
//! | certificate, key, authorities | new connections use them; those that are there go on |
//! | files of tokens and keys | the next request is judged by them |
//! | the tables `jwt`, `rule` and `namespace` of the settings file | so it is with them |
//! | everything else in the settings file | is told of, and needs a restart |
//! | the audit log | is opened anew at SIGHUP |
//!
//! What is no good is reported, and what was there stays.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ashlar_model::error_chain::error_chain;
use ashlar_store::task::{Task, spawn};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use super::watched::Watched;
use crate::audit::{Audit, AuditLog, Event, What};
use crate::auth::Access;
use crate::auth::load::{self, Loader};
use crate::settings::source::Source;
use crate::settings::{Settings, TlsFiles};
use crate::tls::Tls;

/// So often files are looked at.
const EVERY: Duration = Duration::from_secs(2);

/// What is followed besides the settings file.
#[derive(Debug, Clone)]
pub struct Files {
    policy: Watched,
    tls: Watched,
}

impl Files {
    /// The files that settings name, as they are now.
    pub fn of(settings: &Settings) -> Self {
        let tls = settings.tls.as_ref();
        Self {
            policy: Watched::new(load::files(settings)),
            tls: Watched::new(tls.map(TlsFiles::all).unwrap_or_default()),
        }
    }
}

/// All that follows files.
#[derive(Debug)]
pub struct Reloader {
    /// Where the settings are from.
    pub source: Source,
    /// As they were read last.
    pub settings: watch::Sender<Arc<Settings>>,
    /// Who may do what.
    pub access: Access,
    /// Makes policies.
    pub loader: Loader,
    /// TLS.
    pub tls: Option<Tls>,
    /// The audit log.
    pub log: Option<Arc<AuditLog>>,
    /// Where it is noted that something has changed.
    pub audit: Audit,
    /// The files, from before they were read.
    pub files: Files,
}

/// Files that are followed, for as long as this is held.
#[derive(Debug)]
pub struct Reload {
    _task: Task<()>,
}

/// A change that cannot be made while the server runs.
#[derive(Debug, thiserror::Error)]
#[error(
    "with the first [[rule]] or [[namespace]], and without the last one, blobs are shared in \
     another way: that needs a restart of the server"
)]
struct NeedsRestart;

impl Reload {
    /// Starts to follow files.
    pub fn start(reloader: Reloader) -> io::Result<Self> {
        // From now on, this signal ends nothing.
        let hangup = signal(SignalKind::hangup())?;
        let task = spawn(async move { reloader.run(hangup).await });
        Ok(Self { _task: task })
    }
}

impl Reloader {
    async fn run(mut self, mut hangup: Signal) {
        let file = self.source.file().map(PathBuf::from);
        let mut config = Watched::new(file.into_iter().collect());
        // It was read before: what changed between then and now shows in nothing.
        let mut is_first = true;
        let mut is_asked = false;
        loop {
            let config_changed = config.have_changed() || is_first || is_asked;
            let tls_changed = self.files.tls.have_changed() || is_asked;
            let mut policy_changed = self.files.policy.have_changed() || is_asked;
            if config_changed && self.source.file().is_some() {
                match self.reload_settings() {
                    Ok(is_new) => {
                        policy_changed |= is_new;
                        if is_new || is_asked {
                            self.say("settings", Ok(()));
                        }
                        let files = load::files(&self.settings.borrow());
                        self.files.policy.follow(files);
                    }
                    Err(reason) => self.say("settings", Err(reason)),
                }
            }
            if policy_changed {
                self.say("tokens and rules", self.reload_policy());
            }
            if let Some(tls) = self.tls.as_ref().filter(|_| tls_changed) {
                let outcome = tls.reload().map_err(|error| error_chain(&error));
                self.say("certificates", outcome);
            }
            is_first = false;
            tokio::select! {
                () = sleep(EVERY) => is_asked = false,
                _ = hangup.recv() => {
                    is_asked = true;
                    if let Some(log) = &self.log {
                        log.reopen();
                    }
                }
            }
        }
    }

    /// Says what came of it.
    fn say(&self, what: &str, outcome: Result<(), String>) {
        let event = Event::of_server(What::Reload).with("what", what);
        match outcome {
            Ok(()) => {
                tracing::info!(what, "read again");
                self.audit.note(event);
            }
            Err(reason) => {
                tracing::error!(what, "cannot be read again, what was there stays: {reason}");
                self.audit.note(event.failed(&reason));
            }
        }
    }

    /// Reads the settings. Gives whether the tables have changed.
    fn reload_settings(&self) -> Result<bool, String> {
        let new = self.source.read().map_err(|error| error_chain(&error))?;
        let old = self.settings.borrow().clone();
        if new.has_tables() != old.has_tables() {
            return Err(NeedsRestart.to_string());
        }
        if new.without_tables() != old.without_tables() {
            tracing::warn!(
                "the settings file has changed in more than its tables: that needs a restart"
            );
        }
        // What needs a restart stays as it was at the start.
        let merged = old.with_tables_of(new);
        if merged == *old {
            return Ok(false);
        }
        // Tables that make no policy change nothing, also for others who follow.
        let checked = self.loader.check(&merged);
        checked.map_err(|error| error_chain(&error))?;
        self.settings.send_replace(Arc::new(merged));
        Ok(true)
    }

    fn reload_policy(&self) -> Result<(), String> {
        let settings = self.settings.borrow().clone();
        let old = self.access.policy();
        let policy = self.loader.load(&settings, Some(&old));
        self.access
            .replace(policy.map_err(|error| error_chain(&error))?);
        Ok(())
    }
}
