//! What git inherits of the environment: how to reach servers, and nothing that changes results.

use std::ffi::OsString;

/// Variables that git, curl and ssh may see.
const INHERITED: [&str; 15] = [
    "PATH",
    "TMPDIR",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
    "SSH_AUTH_SOCK",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// Never asks anybody anything; a host that is not known is noted when it is met first, and
/// refused when its key is another one later.
const SSH: &str = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new";

/// What git inherits of the environment, by value.
#[derive(Debug, Clone, Default)]
pub struct GitEnvironment {
    pub(super) variables: Vec<(&'static str, OsString)>,
}

impl GitEnvironment {
    /// Takes the variables from a lookup function. One that is set to nothing counts as unset.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let mut variables: Vec<(&'static str, OsString)> = INHERITED
            .iter()
            .filter_map(|name| Some((*name, value(name)?)))
            .collect();
        let is_set = |variables: &[(&str, OsString)], name: &str| {
            variables.iter().any(|(known, _)| *known == name)
        };
        if !is_set(&variables, "GIT_SSH") && !is_set(&variables, "GIT_SSH_COMMAND") {
            variables.push(("GIT_SSH_COMMAND", SSH.into()));
        }
        // What Ashlar's own client trusts, git shall trust too.
        for (theirs, ours) in [
            ("GIT_SSL_CAINFO", "SSL_CERT_FILE"),
            ("GIT_SSL_CAPATH", "SSL_CERT_DIR"),
        ] {
            if let (false, Some(path)) = (is_set(&variables, theirs), value(ours)) {
                variables.push((theirs, path));
            }
        }
        Self { variables }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reaches_servers_is_inherited() {
        let environment = GitEnvironment::from_lookup(|name| match name {
            "PATH" => Some("/bin".into()),
            "HOME" | "GIT_DIR" | "GIT_CONFIG_GLOBAL" => Some("/evil".into()),
            "SSL_CERT_FILE" => Some("/ca.pem".into()),
            "https_proxy" => Some("".into()),
            _ => None,
        });
        let names: Vec<&str> = environment
            .variables
            .iter()
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(names, ["PATH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO"]);
    }

    #[test]
    fn the_users_own_ssh_command_is_kept() {
        let environment =
            GitEnvironment::from_lookup(|name| (name == "GIT_SSH").then(|| "/my/ssh".into()));
        assert_eq!(
            environment.variables,
            [("GIT_SSH", OsString::from("/my/ssh"))]
        );
    }
}
