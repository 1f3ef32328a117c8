//! What the build's client gives to steps, and to nobody else: opened in memory, gone with the
//! assignment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_image::registry::Logins;
use ashlar_model::secret::{SecretError, SecretSource, SecretValue};
use ashlar_remote::seal::{self, FarmKey, SealError, Secrets};

use super::agents::Agents;

/// Opens what a client has sealed for a build. Nothing was, if there is nothing.
pub fn open(sealed: &[u8], build: &str, key: &FarmKey) -> Result<Secrets, SealError> {
    if sealed.is_empty() {
        return Ok(Secrets::default());
    }
    seal::open(sealed, build, key)
}

/// Logins for registries; nobody else's are ever used.
pub fn logins(secrets: &Secrets) -> Arc<Logins> {
    let logins = secrets.logins.iter();
    let logins = logins.map(|(host, login)| (host.clone(), login.clone()));
    Arc::new(logins.collect())
}

/// The secrets and agents of an assignment.
#[derive(Debug)]
pub struct Offered {
    values: BTreeMap<String, SecretValue>,
    agents: Option<Agents>,
}

impl Offered {
    /// Offers the secrets of a build, and these agents.
    pub fn new(secrets: &Secrets, agents: Option<Agents>) -> Self {
        Self {
            values: secrets.secrets.clone(),
            agents,
        }
    }
}

impl SecretSource for Offered {
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        Ok(self.values.get(id).cloned())
    }

    fn ssh_agent(&self, id: &str) -> Option<PathBuf> {
        self.agents.as_ref()?.socket(id)
    }
}

/// Servers that ADD and git contexts are fetched from are told who asks by secrets, too.
impl ashlar_source::Secrets for Offered {
    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        Some(self.values.get(id)?.reveal().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_one_build_and_one_key() {
        let key = FarmKey::generate().unwrap();
        let value = SecretValue::new(b"hunter2".to_vec());
        let secrets = Secrets {
            secrets: [("token".to_owned(), value.clone())].into(),
            ..Secrets::default()
        };
        let sealed = seal::seal(&secrets, "build-1", &[key.recipient()]).unwrap();
        let opened = open(&sealed, "build-1", &key).unwrap();
        let offered = Offered::new(&opened, None);
        let found = SecretSource::secret(&offered, "token").unwrap();
        assert_eq!(found, Some(value));
        assert_eq!(SecretSource::secret(&offered, "other").unwrap(), None);
        assert_eq!(offered.ssh_agent("default"), None);
        open(&sealed, "build-2", &key).unwrap_err();
        open(&sealed, "build-1", &FarmKey::generate().unwrap()).unwrap_err();
        assert!(open(&[], "build-1", &key).unwrap().is_empty());
    }
}
