//! Logins: where Docker, Podman and Skopeo keep them, and helper programs that keep them safe.
//!
//! The first of these files that has something for a registry decides:
//!
//! 1. `$REGISTRY_AUTH_FILE`
//! 2. `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`
//! 3. `$XDG_RUNTIME_DIR/containers/auth.json`
//! 4. `~/.config/containers/auth.json`
//!
//! A file that cannot be read and a helper that fails do not make a request fail, for many
//! registries need no login. They are remembered as notes, which the error shows if a registry
//! turns us away.

mod file;
mod helper;

use std::fmt;
use std::path::PathBuf;

use super::settings::RegistryEnvironment;
use file::AuthFile;

/// A login.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// User name and password.
    Password {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token.
    IdentityToken(String),
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?}, ...)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(...)"),
        }
    }
}

/// What was found for a registry.
#[derive(Debug, Clone, Default)]
pub(super) struct Login {
    /// The login; `None` to be anonymous.
    pub(super) credentials: Option<Credentials>,
    /// What went wrong on the way.
    pub(super) notes: Vec<String>,
}

/// Finds the login for a repository of a registry. Reads files and may run helper programs, so it
/// blocks.
pub(super) fn find(registry: &str, repository: &str, environment: &RegistryEnvironment) -> Login {
    let mut login = Login::default();
    for path in files(environment) {
        let file = match AuthFile::read(&path) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(problem) => {
                login.notes.push(format!("{}: {problem}", path.display()));
                continue;
            }
        };
        if let Some(helper) = file.helper_for(registry) {
            match helper::ask(helper, server_name(registry), environment.path.as_deref()) {
                Ok(Some(credentials)) => {
                    login.credentials = Some(credentials);
                    return login;
                }
                Ok(None) => {}
                Err(problem) => login.notes.push(problem.to_string()),
            }
        }
        match file.entry_for(registry, repository) {
            Some(Ok(credentials)) => {
                login.credentials = Some(credentials);
                return login;
            }
            Some(Err(problem)) => login.notes.push(format!("{}: {problem}", path.display())),
            None => {}
        }
    }
    login
}

fn files(environment: &RegistryEnvironment) -> Vec<PathBuf> {
    let docker = environment
        .docker_config
        .clone()
        .or_else(|| Some(environment.home.as_ref()?.join(".docker")));
    [
        environment.registry_auth_file.clone(),
        docker.map(|directory| directory.join("config.json")),
        environment
            .runtime_directory
            .as_ref()
            .map(|directory| directory.join("containers/auth.json")),
        environment
            .config_directory()
            .map(|directory| directory.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What Docker calls its own registry, in files and towards helpers.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

fn server_name(registry: &str) -> &str {
    if registry == "docker.io" {
        DOCKER_HUB
    } else {
        registry
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn environment(home: &Path) -> RegistryEnvironment {
        RegistryEnvironment {
            home: Some(home.to_owned()),
            runtime_directory: Some(home.join("run")),
            path: Some(format!("{}:/usr/bin:/bin", home.join("bin").display()).into()),
            ..RegistryEnvironment::default()
        }
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn entry(registry: &str, user: &str) -> String {
        let auth = STANDARD.encode(format!("{user}:secret:with:colons"));
        format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#)
    }

    fn user(login: &Login) -> Option<&str> {
        match login.credentials.as_ref()? {
            Credentials::Password { user, password } => {
                assert_eq!(password, "secret:with:colons");
                Some(user)
            }
            Credentials::IdentityToken(_) => None,
        }
    }

    fn helper(home: &Path, name: &str, script: &str) {
        let path = home.join("bin").join(format!("docker-credential-{name}"));
        write(&path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn files_come_in_their_order() {
        let home = tempfile::tempdir().unwrap();
        let mut environment = environment(home.path());
        let found = |environment: &RegistryEnvironment| {
            user(&find("q.io", "a/b", environment)).map(str::to_owned)
        };
        assert_eq!(found(&environment), None);
        write(
            &home.path().join(".config/containers/auth.json"),
            &entry("q.io", "config"),
        );
        assert_eq!(found(&environment).as_deref(), Some("config"));
        write(
            &home.path().join("run/containers/auth.json"),
            &entry("q.io", "runtime"),
        );
        assert_eq!(found(&environment).as_deref(), Some("runtime"));
        write(
            &home.path().join(".docker/config.json"),
            &entry("q.io", "docker"),
        );
        assert_eq!(found(&environment).as_deref(), Some("docker"));
        write(
            &home.path().join("d/config.json"),
            &entry("q.io", "elsewhere"),
        );
        environment.docker_config = Some(home.path().join("d"));
        assert_eq!(found(&environment).as_deref(), Some("elsewhere"));
        write(&home.path().join("explicit"), &entry("q.io", "explicit"));
        environment.registry_auth_file = Some(home.path().join("explicit"));
        assert_eq!(found(&environment).as_deref(), Some("explicit"));
    }

    #[test]
    fn docker_hub_has_its_old_name() {
        let home = tempfile::tempdir().unwrap();
        write(
            &home.path().join(".docker/config.json"),
            &entry("https://index.docker.io/v1/", "me"),
        );
        let environment = environment(home.path());
        assert_eq!(user(&find("docker.io", "a/b", &environment)), Some("me"));
        assert_eq!(user(&find("q.io", "a/b", &environment)), None);
    }

    #[test]
    fn a_helper_of_the_registry_is_asked() {
        let home = tempfile::tempdir().unwrap();
        helper(
            home.path(),
            "one",
            r#"[ "$1" = get ] && read name; echo '{"ServerURL":"'$name'","Username":"'$name'","Secret":"secret:with:colons"}'"#,
        );
        helper(
            home.path(),
            "two",
            r#"echo '{"Username":"<token>","Secret":"refresh"}'"#,
        );
        write(
            &home.path().join(".docker/config.json"),
            r#"{"credsStore":"two","credHelpers":{"q.io":"one"}}"#,
        );
        let environment = environment(home.path());
        assert_eq!(user(&find("q.io", "a", &environment)), Some("q.io"));
        assert_eq!(
            find("docker.io", "a", &environment).credentials,
            Some(Credentials::IdentityToken("refresh".into()))
        );
    }

    #[test]
    fn a_helper_without_an_entry_leaves_the_file_to_decide() {
        let home = tempfile::tempdir().unwrap();
        helper(
            home.path(),
            "none",
            "echo 'credentials not found in native keychain'; exit 1",
        );
        let text = entry("q.io", "file").replacen('{', r#"{"credsStore":"none","#, 1);
        write(&home.path().join(".docker/config.json"), &text);
        let login = find("q.io", "a", &environment(home.path()));
        assert_eq!(user(&login), Some("file"));
        assert_eq!(login.notes, [""; 0]);
    }

    #[test]
    fn what_fails_on_the_way_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        helper(home.path(), "broken", "echo 'vault is sealed' >&2; exit 3");
        write(
            &home.path().join(".docker/config.json"),
            r#"{"credsStore":"missing","credHelpers":{"q.io":"broken"}}"#,
        );
        write(&home.path().join("run/containers/auth.json"), "no json");
        let environment = environment(home.path());
        let login = find("q.io", "a", &environment);
        assert_eq!(login.credentials, None);
        assert_eq!(login.notes.len(), 2, "{:?}", login.notes);
        assert!(
            login.notes[0].contains("vault is sealed"),
            "{:?}",
            login.notes
        );
        assert!(login.notes[1].contains("auth.json"), "{:?}", login.notes);
        let login = find("docker.io", "a", &environment);
        assert!(
            login.notes[0].contains("docker-credential-missing"),
            "{:?}",
            login.notes
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::Password {
            user: "me".into(),
            password: "hunter2".into(),
        };
        assert!(!format!("{credentials:?}").contains("hunter2"));
        let token = Credentials::IdentityToken("hunter2".into());
        assert!(!format!("{token:?}").contains("hunter2"));
    }
}
