//! What steps may be shown and no result may hold: values of secrets, agents that sign.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroize as _;

/// A secret's value. It shows itself to nobody who does not ask, and is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl SecretValue {
    /// Wraps a value.
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The value.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// Why something that was offered cannot be had after all.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SecretError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What the user offers to steps.
pub trait SecretSource: Send + Sync + fmt::Debug {
    /// The value of a secret; `None` if none of this name is offered.
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError>;

    /// The socket of an SSH agent; `None` if none of this name is offered.
    fn ssh_agent(&self, id: &str) -> Option<PathBuf>;
}

/// Offers nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoSecrets;

impl SecretSource for NoSecrets {
    fn secret(&self, _id: &str) -> Result<Option<SecretValue>, SecretError> {
        Ok(None)
    }

    fn ssh_agent(&self, _id: &str) -> Option<PathBuf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_shown_by_debug() {
        let value = SecretValue::new(b"hunter2".to_vec());
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
