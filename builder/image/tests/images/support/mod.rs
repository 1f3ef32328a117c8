//! What the tests have in common.

pub(crate) mod debian_registry;
pub(crate) mod fake_server;
pub(crate) mod sample;
pub(crate) mod tool;

use std::time::Duration;

use ashlar_image::registry::{RegistryClient, RegistrySettings, RetryPolicy};
use ashlar_model::reference::Reference;
use ashlar_store::home::Home;

/// Settings without the machine's logins and certificates, and with short waits.
pub(crate) fn settings() -> RegistrySettings {
    RegistrySettings {
        retry: RetryPolicy {
            attempts: 4,
            first_delay: Duration::from_millis(5),
            longest_delay: Duration::from_millis(50),
        },
        idle_timeout: Duration::from_secs(20),
        ..RegistrySettings::default()
    }
}

pub(crate) fn client() -> RegistryClient {
    RegistryClient::new(settings())
}

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A store of its own.
pub(crate) fn home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::open(&directory.path().join("home")).unwrap();
    (directory, home)
}

/// An error with all its causes, one after the other.
pub(crate) fn whole_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
