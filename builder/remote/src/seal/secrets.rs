//! What is sealed: secrets, logins, and which agents there are.

use std::collections::BTreeMap;

use ashlar_model::secret::SecretValue;
use ashlar_proto::wire::farm::SecretBundle;
use bytes::Bytes;
use zeroize::Zeroize as _;

/// What a build's client gives to the workers that run its steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// By id.
    pub secrets: BTreeMap<String, SecretValue>,
    /// Ids of the ssh agents that the client forwards.
    pub agents: Vec<String>,
    /// By the host of a registry: `user:password`, or `:identity token`.
    pub logins: BTreeMap<String, SecretValue>,
}

impl Secrets {
    /// Whether there is nothing to give.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.agents.is_empty() && self.logins.is_empty()
    }

    pub(super) fn to_wire(&self, build: &str) -> SecretBundle {
        let value = |(id, value): (&String, &SecretValue)| {
            (id.clone(), Bytes::copy_from_slice(value.reveal()))
        };
        let login = |(host, login): (&String, &SecretValue)| {
            let login = String::from_utf8_lossy(login.reveal()).into_owned();
            (host.clone(), login)
        };
        SecretBundle {
            build: build.to_owned(),
            secrets: self.secrets.iter().map(value).collect(),
            agents: self.agents.clone(),
            logins: self.logins.iter().map(login).collect(),
        }
    }

    pub(super) fn from_wire(message: SecretBundle) -> Self {
        let SecretBundle {
            build: _,
            secrets,
            agents,
            logins,
        } = message;
        let secrets = secrets.into_iter().map(|(id, value)| {
            let kept = SecretValue::new(value.to_vec());
            wipe_bytes(value);
            (id, kept)
        });
        let logins = logins
            .into_iter()
            .map(|(host, login)| (host, SecretValue::new(login.into_bytes())));
        Self {
            secrets: secrets.collect(),
            agents,
            logins: logins.collect(),
        }
    }
}

/// Overwrites what a message holds.
pub(super) fn wipe(message: SecretBundle) {
    for (_, value) in message.secrets {
        wipe_bytes(value);
    }
    for (_, mut login) in message.logins {
        login.zeroize();
    }
}

/// Overwrites bytes that nobody else has.
fn wipe_bytes(bytes: Bytes) {
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.as_mut().zeroize();
    }
}
