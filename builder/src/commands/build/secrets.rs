//! What `--secret` and `--ssh` offer to steps.
//!
//! All is read when the build begins: a mistake is told before anything runs, and a value that can
//! be read once only (`src=<(pass show token)`) reaches every step.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use ashlar_model::secret::{SecretError, SecretSource, SecretValue};

use super::input::absolute;
use crate::cli::build::BuildArgs;
use crate::cli::value::{SecretArg, SecretOrigin, SshArg};
use crate::diagnostics::CliError;
use crate::settings::env::Environment;

/// The longest value (BuildKit: `secretsprovider.MaxSecretSize`).
const LONGEST_SECRET: u64 = 500 * 1024;

/// Names the user's agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// The secrets and agents of a build.
#[derive(Debug, Default)]
pub(super) struct Offered {
    values: BTreeMap<String, SecretValue>,
    agents: BTreeMap<String, PathBuf>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

impl SecretSource for Offered {
    fn secret(&self, id: &str) -> Result<Option<SecretValue>, SecretError> {
        Ok(self.values.get(id).cloned())
    }

    fn ssh_agent(&self, id: &str) -> Option<PathBuf> {
        self.agents.get(id).cloned()
    }
}

/// Servers that ADD and contexts are fetched from are told who asks by secrets, too.
impl ashlar_source::Secrets for Offered {
    fn secret(&self, id: &str) -> Option<Vec<u8>> {
        Some(self.values.get(id)?.reveal().to_vec())
    }
}

impl Offered {
    /// All of it, for the workers of a farm: values, and the sockets of agents.
    pub(super) fn for_farm(&self) -> (BTreeMap<String, SecretValue>, BTreeMap<String, PathBuf>) {
        (self.values.clone(), self.agents.clone())
    }

    pub(super) fn read(args: &BuildArgs, environment: &Environment) -> Result<Self, CliError> {
        let mut offered = Self::default();
        for secret in &args.secrets {
            let value = offered.value(secret, environment)?;
            offered.values.insert(secret.id.clone(), value);
        }
        for ssh in &args.ssh {
            offered
                .agents
                .insert(ssh.id.clone(), agent(ssh, environment)?);
        }
        Ok(offered)
    }

    fn value(
        &mut self,
        secret: &SecretArg,
        environment: &Environment,
    ) -> Result<SecretValue, CliError> {
        let SecretArg { id, source } = secret;
        let variable = |name: &str| environment.lookup(name).map(|v| v.as_bytes().to_vec());
        let bytes = match source {
            SecretOrigin::File(path) => read_file(id, path)?,
            SecretOrigin::OfName => match variable(id) {
                Some(value) => value,
                None => read_file(id, Path::new(id))?,
            },
            SecretOrigin::Variable(name) => variable(name).unwrap_or_else(|| {
                // As in BuildKit, where nobody is told.
                self.warnings.push(format!(
                    "secret {id} is empty: the environment has no variable {name}"
                ));
                Vec::new()
            }),
        };
        if bytes.len() as u64 > LONGEST_SECRET {
            return Err(too_big(id));
        }
        Ok(SecretValue::new(bytes))
    }
}

fn read_file(id: &str, path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |error: io::Error| {
        let shown = CliError::failed(format!("secret {id}: cannot read {}", path.display()));
        let missing = error.kind() == io::ErrorKind::NotFound;
        let shown = shown.caused_by(error);
        if missing && path.as_os_str() == id {
            shown.hint(format!(
                "say where the secret is: --secret id={id},src=FILE or --secret id={id},env=NAME"
            ))
        } else {
            shown
        }
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_SECRET + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

fn too_big(id: &str) -> CliError {
    CliError::failed(format!("secret {id} too big. max size 500KB"))
        .hint("mount larger files from a named context: --build-context NAME=DIR")
}

/// The socket of an agent.
fn agent(ssh: &SshArg, environment: &Environment) -> Result<PathBuf, CliError> {
    let SshArg { id, paths } = ssh;
    let (path, of_environment) = match paths.as_slice() {
        [] => {
            let path = environment.text(AGENT_VARIABLE).ok_or_else(|| {
                CliError::failed(format!("--ssh {id}: {AGENT_VARIABLE} is not set"))
                    .hint("start an agent (eval $(ssh-agent); ssh-add), or name its socket")
            })?;
            (PathBuf::from(path), true)
        }
        [path] => (path.clone(), false),
        [_, _, ..] => return Err(keys_unsupported(id)),
    };
    let metadata = fs::metadata(&path).map_err(|error| {
        CliError::failed(format!("--ssh {id}: cannot open {}", path.display())).caused_by(error)
    })?;
    if metadata.file_type().is_socket() {
        return Ok(absolute(&path));
    }
    if metadata.is_file() && !of_environment {
        return Err(keys_unsupported(id));
    }
    Err(CliError::failed(format!(
        "--ssh {id}: {} is no socket",
        path.display()
    )))
}

fn keys_unsupported(id: &str) -> CliError {
    CliError::failed(format!(
        "--ssh {id}: private key files are not supported by this version of Ashlar"
    ))
    .hint(format!(
        "let an agent hold the keys: eval $(ssh-agent); ssh-add FILE; then --ssh {id}"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn offered(secrets: &[&str], ssh: &[&str], env: &[(&str, &str)]) -> Result<Offered, CliError> {
        let mut arguments: Vec<String> = vec!["ashlar".into(), "build".into(), ".".into()];
        for secret in secrets {
            arguments.extend(["--secret".into(), (*secret).into()]);
        }
        for one in ssh {
            arguments.extend(["--ssh".into(), (*one).into()]);
        }
        let parsed = crate::cli::parse(arguments.into_iter().map(Into::into)).unwrap();
        let crate::cli::Command::Build(args) = parsed.command else {
            panic!("not a build")
        };
        Offered::read(&args, &Environment::of_pairs(env.iter().copied()))
    }

    fn value(offered: &Offered, id: &str) -> Option<Vec<u8>> {
        let value = SecretSource::secret(offered, id).unwrap();
        value.map(|value| value.reveal().to_vec())
    }

    #[test]
    fn values_come_from_files_and_variables() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"in a file\n\xff").unwrap();
        let from_file = format!("id=f,src={}", file.display());
        let offered = offered(
            &[&from_file, "id=v,env=VALUE", "id=VALUE", "id=none,env=NONE"],
            &[],
            &[("VALUE", "in a variable")],
        )
        .unwrap();
        assert_eq!(value(&offered, "f").unwrap(), b"in a file\n\xff");
        assert_eq!(value(&offered, "v").unwrap(), b"in a variable");
        assert_eq!(value(&offered, "VALUE").unwrap(), b"in a variable");
        assert_eq!(value(&offered, "none").unwrap(), b"");
        assert_eq!(value(&offered, "other"), None);
        assert_eq!(offered.warnings.len(), 1);
        assert!(!format!("{offered:?}").contains("in a"));
    }

    #[test]
    fn what_cannot_be_had_is_told_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let big = directory.path().join("big");
        fs::write(&big, vec![b'x'; 500 * 1024 + 1]).unwrap();
        for (secret, message) in [
            (format!("id=b,src={}", big.display()), "secret b too big"),
            ("id=n,src=/no/such/file".to_owned(), "/no/such/file"),
            ("id=nowhere".to_owned(), "nowhere"),
        ] {
            let error = offered(&[&secret], &[], &[]).unwrap_err();
            assert!(error.message().contains(message), "{}", error.message());
        }
        fs::write(&big, vec![b'x'; 500 * 1024]).unwrap();
        let whole = format!("id=b,src={}", big.display());
        offered(&[&whole], &[], &[]).unwrap();
    }

    #[test]
    fn an_agent_is_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let _listener = UnixListener::bind(&socket).unwrap();
        let key = directory.path().join("id_ed25519");
        fs::write(&key, "-----BEGIN").unwrap();
        let path = socket.to_str().unwrap();
        let named = format!("git={path}");
        let found = offered(&[], &["default", &named], &[(AGENT_VARIABLE, path)]).unwrap();
        assert_eq!(found.ssh_agent("default"), Some(socket.clone()));
        assert_eq!(found.ssh_agent("git"), Some(socket));
        assert_eq!(found.ssh_agent("other"), None);

        let of_key = format!("default={}", key.display());
        for (ssh, message) in [
            ("default", "SSH_AUTH_SOCK is not set"),
            ("default=/no/such", "/no/such"),
            (of_key.as_str(), "private key files"),
            ("default=/", "is no socket"),
        ] {
            let error = offered(&[], &[ssh], &[]).unwrap_err();
            assert!(error.message().contains(message), "{}", error.message());
        }
    }
}
