//! All that keeps strangers out, put together: who may do what, TLS, the audit log; and how it
//! follows its files.
//!
//! | module | subject |
//! |---|---|
//! | [`reload`] | files that change, and SIGHUP |
//! | [`watched`] | whether files have changed |

pub mod reload;
pub mod watched;

use std::sync::Arc;

use ashlar_store::clock::Clock;
use futures::Stream;
use tokio::sync::watch;

use crate::audit::{Audit, AuditLog};
use crate::auth::Access;
use crate::auth::load::Loader;
use crate::failure::Failure;
use crate::listen::Listener;
use crate::settings::Settings;
use crate::settings::env::Environment;
use crate::settings::source::Source;
use crate::tls::{Accepted, Tls, incoming};
use reload::{Files, Reload, Reloader};

/// What keeps strangers out of a server.
#[derive(Debug)]
pub struct Security {
    access: Access,
    tls: Option<Tls>,
    /// `None` where nobody wants to know.
    log: Option<Arc<AuditLog>>,
    loader: Loader,
    settings: watch::Sender<Arc<Settings>>,
    files: Files,
}

/// Fails if any of it is no good. Starts nothing.
pub fn check(
    settings: &Settings,
    environment: &Environment,
    is_local: bool,
) -> Result<(), Failure> {
    policy(loader(environment, is_local).check(settings))?;
    tls(settings)?;
    if let Some(file) = &settings.audit {
        AuditLog::check(file).map_err(Failure::usage)?;
    }
    Ok(())
}

fn loader(environment: &Environment, is_local: bool) -> Loader {
    Loader {
        is_local,
        http: environment.http(),
    }
}

fn policy<T>(made: Result<T, crate::auth::load::PolicyError>) -> Result<T, Failure> {
    made.map_err(|error| {
        let hint = error.hint();
        let failure = Failure::usage(error);
        match hint {
            Some(hint) => failure.hinted(hint),
            None => failure,
        }
    })
}

fn tls(settings: &Settings) -> Result<Option<Tls>, Failure> {
    let files = settings.tls.as_ref();
    files.map(Tls::load).transpose().map_err(Failure::usage)
}

impl Security {
    /// TLS, if connections come over it.
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// All of it as settings say. `is_local` says whether only this machine can come in. Has to be
    /// called within a runtime.
    pub fn start(
        settings: &Settings,
        environment: &Environment,
        is_local: bool,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let loader = loader(environment, is_local);
        // Before they are read: what is changed meanwhile shows later.
        let files = Files::of(settings);
        let policy = policy(loader.load(settings, None))?;
        let tls = tls(settings)?;
        let log = match &settings.audit {
            Some(file) => {
                let log = AuditLog::start(file, clock.clone());
                Some(Arc::new(log.map_err(Failure::usage)?))
            }
            None => None,
        };
        Ok(Self {
            access: Access::new(policy, clock),
            tls,
            log,
            loader,
            settings: watch::Sender::new(Arc::new(settings.clone())),
            files,
        })
    }

    /// Who may do what, now and later.
    pub fn access(&self) -> Access {
        self.access.clone()
    }

    /// Where it is noted who did what.
    pub fn audit(&self) -> Audit {
        self.log
            .as_ref()
            .map_or_else(Audit::none, |log| log.audit())
    }

    /// The settings as they were read last. What changes in them is the tables of the file: those
    /// of this module, and `namespace`, for whoever follows them.
    pub fn settings(&self) -> watch::Receiver<Arc<Settings>> {
        self.settings.subscribe()
    }

    /// The connections of a listener.
    pub fn incoming(
        &self,
        listener: Listener,
        most: u32,
    ) -> impl Stream<Item = std::io::Result<Accepted>> + Send + 'static {
        incoming(listener, most, self.tls.clone(), self.audit())
    }

    /// Follows the files from now on, for as long as the answer is held, and takes SIGHUP. Has to
    /// be called within a runtime.
    pub fn follow(&self, source: Source) -> Result<Reload, Failure> {
        let started = Reload::start(Reloader {
            source,
            settings: self.settings.clone(),
            access: self.access.clone(),
            loader: self.loader.clone(),
            tls: self.tls.clone(),
            log: self.log.clone(),
            audit: self.audit(),
            files: self.files.clone(),
        });
        started.map_err(|error| Failure::new("cannot listen for SIGHUP").caused_by(error))
    }
}
