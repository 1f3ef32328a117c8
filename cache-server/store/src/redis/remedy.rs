//! What can be done about an error.

use redis::{ErrorKind, RedisError, ServerError};

use super::address::Host;
use crate::fault::FaultKind;

/// What can be done about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Remedy {
    /// It was not done. The same server may do it a moment later.
    Later,
    /// It was not done. Another server may be the one to ask.
    Elsewhere,
    /// It was not done, since this one is to be asked from now on.
    Moved(Host),
    /// It was not done, since this one is to be asked this once.
    Ask(Host),
    /// It was not done, since the server does not have the script.
    Script,
    /// The connection broke, or nothing came in time: it may have been done.
    Unknown,
    /// Nothing.
    None(FaultKind),
}

/// An error, with what can be done about it.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) remedy: Remedy,
    pub(super) error: String,
}

impl Trouble {
    pub(super) fn new(remedy: Remedy, error: impl Into<String>) -> Self {
        Self {
            remedy,
            error: error.into(),
        }
    }

    /// What a server says. `host` is the server: it may call itself by no name.
    pub(super) fn answered(error: &ServerError, host: &Host) -> Self {
        let details = error.details().unwrap_or_default();
        let remedy = of_answer(error.code(), details, host);
        Self::new(remedy, format!("{} {details}", error.code()))
    }

    /// No connection was made.
    pub(super) fn unconnected(error: &RedisError) -> Self {
        let remedy = match error.kind() {
            // Another user or password is needed; the file may have it at the next attempt.
            ErrorKind::AuthenticationFailed => Remedy::None(FaultKind::Unavailable),
            ErrorKind::InvalidClientConfig => Remedy::None(FaultKind::Internal),
            _ => Remedy::Elsewhere,
        };
        Self::new(remedy, error.to_string())
    }

    /// A connection broke, or nothing came over it.
    pub(super) fn broken(error: &RedisError) -> Self {
        Self::new(Remedy::Unknown, error.to_string())
    }
}

/// Errors of commands come in scripts' errors as well, behind other words.
const WITHIN_SCRIPTS: [&str; 7] = [
    "OOM",
    "READONLY",
    "LOADING",
    "MISCONF",
    "NOREPLICAS",
    "CLUSTERDOWN",
    "TRYAGAIN",
];

fn of_answer(code: &str, details: &str, host: &Host) -> Remedy {
    match code {
        "LOADING" | "TRYAGAIN" | "BUSY" | "NOREPLICAS" => Remedy::Later,
        "READONLY" | "CLUSTERDOWN" | "MASTERDOWN" => Remedy::Elsewhere,
        "NOSCRIPT" => Remedy::Script,
        "MOVED" | "ASK" => {
            let target = details
                .split_ascii_whitespace()
                .nth(1)
                .and_then(|address| Host::parse_redirect(address, host));
            match target {
                Some(target) if code == "ASK" => Remedy::Ask(target),
                Some(target) => Remedy::Moved(target),
                None => Remedy::Elsewhere,
            }
        }
        "OOM" => Remedy::None(FaultKind::Exhausted),
        // It cannot write to its disk, or does not know us: for its operator to mend.
        "MISCONF" | "NOAUTH" | "WRONGPASS" | "NOPERM" => Remedy::None(FaultKind::Unavailable),
        "ERR" => {
            let inner = WITHIN_SCRIPTS.into_iter().find(|code| {
                details
                    .split(|letter: char| !letter.is_ascii_uppercase())
                    .any(|word| word == *code)
            });
            match inner {
                Some(inner) => of_answer(inner, details, host),
                None => Remedy::None(FaultKind::Internal),
            }
        }
        _ => Remedy::None(FaultKind::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host::new("own", 1)
    }

    #[test]
    fn what_can_be_tried_again_is_told_from_the_rest() {
        let of = |code, details| of_answer(code, details, &host());
        assert_eq!(of("LOADING", "Redis is loading"), Remedy::Later);
        assert_eq!(of("READONLY", "You can't write"), Remedy::Elsewhere);
        assert_eq!(of("NOSCRIPT", ""), Remedy::Script);
        let exhausted = Remedy::None(FaultKind::Exhausted);
        assert_eq!(of("OOM", "command not allowed"), exhausted);
        let script = "Error running script (call to f_1): @user_script:1: -OOM command not allowed";
        assert_eq!(of("ERR", script), exhausted);
        let internal = Remedy::None(FaultKind::Internal);
        assert_eq!(of("WRONGTYPE", "Operation against a key"), internal);
        assert_eq!(of("ERR", "unknown command 'BOOM'"), internal);
    }

    #[test]
    fn redirections_name_the_other_server() {
        let of = |code, details| of_answer(code, details, &host());
        let other = Host::new("10.0.0.7", 6379);
        assert_eq!(of("MOVED", "12 10.0.0.7:6379"), Remedy::Moved(other));
        let other = Host::new("fd00::7", 6379);
        assert_eq!(of("ASK", "12 fd00::7:6379"), Remedy::Ask(other));
        // Without a host it is the one that was asked.
        let other = Host::new("own", 6380);
        assert_eq!(of("MOVED", "12 :6380"), Remedy::Moved(other));
        assert_eq!(of("MOVED", "12"), Remedy::Elsewhere);
    }
}
