//! The variables that instructions of a stage see, and those that its image keeps.

use ashlar_model::config::ContainerConfig;

use crate::dockerfile::expand::Environment;

/// What commands find if an image says nothing (BuildKit: `DefaultPathEnvUnix`).
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables in order, each name once: ENV and ARG alike, a later one replacing an earlier.
#[derive(Debug, Clone, Default)]
pub(super) struct BuildEnvironment {
    variables: Vec<(String, String)>,
}

impl BuildEnvironment {
    /// Starts with what an image keeps.
    pub(super) fn of_image(config: &ContainerConfig) -> Self {
        let mut environment = Self::default();
        for variable in &config.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            environment.set(name, value);
        }
        environment
    }

    /// Sets a variable; it moves to the end, as BuildKit's does.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// All variables in order.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The value of a variable that is set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Environment for BuildEnvironment {
    fn value(&self, name: &str) -> Option<&str> {
        self.get(name)
    }
}

/// Sets a variable in an image's configuration, where it stands if it was there.
pub(super) fn set_in_config(config: &mut ContainerConfig, name: &str, value: &str) {
    let text = format!("{name}={value}");
    let known = config.env.iter_mut().find(|variable| {
        variable
            .split_once('=')
            .map_or(variable.as_str(), |(known, _)| known)
            == name
    });
    match known {
        Some(variable) => *variable = text,
        None => config.env.push(text),
    }
}

/// Gives the configuration a PATH if it has none.
pub(super) fn default_path(config: &mut ContainerConfig) {
    if !config
        .env
        .iter()
        .any(|variable| variable.starts_with("PATH="))
    {
        config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
}
