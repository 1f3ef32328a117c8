//! `--secret` and `--ssh`, as buildx reads them.

use std::path::PathBuf;
use std::str::FromStr;

use ashlar_model::csv;

/// `--secret [type=file|env,]id=ID[,src=FILE|,env=NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretArg {
    /// How the Dockerfile calls it.
    pub id: String,
    /// Where its value is.
    pub source: SecretOrigin,
}

/// Where a secret's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretOrigin {
    /// In a file.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
    /// In the variable with the secret's name, or, if there is none, in the file with that name.
    OfName,
}

impl FromStr for SecretArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = csv::fields(text).map_err(|error| error.to_string())?;
        let (mut id, mut kind, mut file, mut variable) = (None, None, None, None);
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            };
            let value = value.to_owned();
            match key.to_ascii_lowercase().as_str() {
                "type" => kind = Some(value),
                "id" => id = Some(value),
                "source" | "src" => file = Some(value),
                "env" => variable = Some(value),
                _ => {
                    return Err(format!(
                        "unexpected key '{key}' in '{field}': the keys are id, src, env and type"
                    ));
                }
            }
        }
        let given = |value: Option<String>| value.filter(|text| !text.is_empty());
        let id = given(id).ok_or("the secret has no id: write id=NAME,src=FILE")?;
        let source = match (kind.as_deref(), given(file), given(variable)) {
            (None | Some("env"), None, Some(name)) => SecretOrigin::Variable(name),
            // As in buildx, `src` is the variable's name then.
            (Some("env"), Some(name), None) => SecretOrigin::Variable(name),
            (Some("env"), None, None) => SecretOrigin::Variable(id.clone()),
            (Some("file"), None, None) => SecretOrigin::File(id.clone().into()),
            (None | Some("file"), Some(path), None) => SecretOrigin::File(path.into()),
            (None, None, None) => SecretOrigin::OfName,
            (Some("file"), None, Some(_)) => {
                return Err("a secret of type=file comes from src=, not from env=".to_owned());
            }
            (_, Some(_), Some(_)) => {
                return Err("a secret comes from src= or from env=, not from both".to_owned());
            }
            (Some(other), ..) => {
                return Err(format!(
                    "unsupported secret type {other:?}: it is file or env"
                ));
            }
        };
        Ok(Self { id, source })
    }
}

/// `--ssh default|ID[=SOCKET]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshArg {
    /// How the Dockerfile calls it.
    pub id: String,
    /// The agent's socket; the one that the environment names if there is none here.
    pub paths: Vec<PathBuf>,
}

impl FromStr for SshArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, paths) = text.split_once('=').unwrap_or((text, ""));
        if id.is_empty() {
            return Err("the agent has no name: write default, or NAME=SOCKET".to_owned());
        }
        let paths = paths.split(',').filter(|path| !path.is_empty());
        Ok(Self {
            id: id.to_owned(),
            paths: paths.map(PathBuf::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_or_a_variable() {
        let file = |path: &str| SecretOrigin::File(path.into());
        let variable = |name: &str| SecretOrigin::Variable(name.to_owned());
        for (text, source) in [
            ("id=a,src=b/c", file("b/c")),
            ("id=a,source=b", file("b")),
            ("type=file,id=a,src=b", file("b")),
            ("type=file,id=a", file("a")),
            ("id=a,\"src=b,c\"", file("b,c")),
            ("id=a,env=B", variable("B")),
            ("type=env,id=a,env=B", variable("B")),
            ("type=env,id=a,src=B", variable("B")),
            ("type=env,id=a", variable("a")),
            ("id=a", SecretOrigin::OfName),
            ("ID=a,src=", SecretOrigin::OfName),
        ] {
            let secret: SecretArg = text.parse().unwrap();
            assert_eq!((secret.id.as_str(), secret.source), ("a", source), "{text}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for (text, message) in [
            ("", "key=value"),
            ("a", "key=value"),
            ("src=a", "no id"),
            ("id=,src=a", "no id"),
            ("id=a,file=b", "unexpected key 'file'"),
            ("id=a,src=b,env=C", "not from both"),
            ("type=file,id=a,env=C", "not from env="),
            ("type=vault,id=a", "unsupported secret type"),
            ("id=\"a", "quote"),
        ] {
            let error = text.parse::<SecretArg>().unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn an_agent_has_a_name_and_perhaps_a_socket() {
        let ssh: SshArg = "default".parse().unwrap();
        assert_eq!((ssh.id.as_str(), ssh.paths.len()), ("default", 0));
        let ssh: SshArg = "git=/run/a=b".parse().unwrap();
        assert_eq!(ssh.id, "git");
        assert_eq!(ssh.paths, [PathBuf::from("/run/a=b")]);
        "=x".parse::<SshArg>().unwrap_err();
        "".parse::<SshArg>().unwrap_err();
    }
}
