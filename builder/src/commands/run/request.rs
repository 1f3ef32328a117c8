//! Flags and the image's configuration, as a container to run.

use ashlar_exec::executor::ContainerRequest;
use ashlar_exec::sandbox::BindMount;
use ashlar_model::config::ContainerConfig;

use super::source::Image;
use crate::cli::run::RunArgs;
use crate::cli::value::{EnvironmentVariable, VolumeMount};
use crate::diagnostics::CliError;
use crate::settings::env::Environment;

/// `PATH` where the image sets none (moby, `oci.DefaultPathEnv`).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a terminal is, whatever ours is: images know this one (moby does the same).
const DEFAULT_TERM: &str = "xterm";

/// The container that flags and image ask for.
pub(super) fn container(
    args: &RunArgs,
    environment: &Environment,
    image: &Image,
) -> Result<ContainerRequest, CliError> {
    let config = &image.config.config;
    let mut binds = Vec::with_capacity(args.volumes.len());
    for volume in &args.volumes {
        binds.push(bind(volume)?);
    }
    Ok(ContainerRequest {
        layers: image.layers.clone(),
        args: command(args, config)?,
        env: variables(args, config, environment)?,
        cwd: working_directory(args, config)?,
        user: args.user.clone().unwrap_or_else(|| config.user.clone()),
        network: args.network,
        // The machine's own.
        hostname: String::new(),
        extra_hosts: args.add_hosts.clone(),
        binds,
    })
}

/// Entrypoint and command. Another entrypoint puts the image's command out of force, as in Docker.
fn command(args: &RunArgs, config: &ContainerConfig) -> Result<Vec<String>, CliError> {
    let mut words = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !args.command.is_empty() {
        words.extend(args.command.iter().cloned());
    } else if args.entrypoint.is_none() {
        words.extend(config.cmd.iter().flatten().cloned());
    }
    if words.is_empty() {
        return Err(CliError::usage("the image says no command to run")
            .hint("write one after the image, as in `ashlar run IMAGE sh`"));
    }
    Ok(words)
}

fn working_directory(args: &RunArgs, config: &ContainerConfig) -> Result<String, CliError> {
    match &args.workdir {
        Some(directory) if directory.starts_with('/') => Ok(directory.clone()),
        Some(directory) => Err(CliError::usage(format!(
            "the working directory `{directory}` is not absolute"
        ))),
        None if config.working_dir.is_empty() => Ok("/".to_owned()),
        None => Ok(config.working_dir.clone()),
    }
}

/// The image's environment, then the flags'. A flag without value takes ours, and takes the
/// variable away if we have none.
fn variables(
    args: &RunArgs,
    config: &ContainerConfig,
    environment: &Environment,
) -> Result<Vec<(String, String)>, CliError> {
    let mut variables: Vec<(String, String)> = Vec::new();
    set(&mut variables, "PATH", DEFAULT_PATH);
    if args.tty {
        set(&mut variables, "TERM", DEFAULT_TERM);
    }
    for line in &config.env {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        set(&mut variables, name, value);
    }
    for EnvironmentVariable { name, value } in &args.env {
        let own = match value {
            Some(value) => Some(value.as_str()),
            None => match environment.lookup(name) {
                Some(value) => Some(value.to_str().ok_or_else(|| {
                    CliError::usage(format!(
                        "the value of {name} in the environment is not UTF-8"
                    ))
                })?),
                None => None,
            },
        };
        match own {
            Some(value) => set(&mut variables, name, value),
            None => variables.retain(|(known, _)| known != name),
        }
    }
    Ok(variables)
}

/// The first setting decides the place, the last the value.
fn set(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => variables.push((name.to_owned(), value.to_owned())),
    }
}

fn bind(volume: &VolumeMount) -> Result<BindMount, CliError> {
    let shown = volume.source.display();
    let unusable = |error: std::io::Error| {
        CliError::failed(format!("cannot show {shown} in the container")).caused_by(error)
    };
    let source = std::path::absolute(&volume.source).map_err(unusable)?;
    // Docker makes what is missing, which hides misspellings.
    std::fs::metadata(&source).map_err(unusable)?;
    Ok(BindMount {
        source,
        destination: volume.destination.clone(),
        read_only: volume.read_only,
        recursive: true,
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use ashlar_model::config::ImageConfig;

    use super::*;
    use crate::cli::{Command, parse};
    use crate::exit_code::ExitCode;

    fn request(config: ContainerConfig, arguments: &[&str]) -> Result<ContainerRequest, CliError> {
        let all = ["ashlar", "run"].iter().chain(arguments);
        let args = match parse(all.map(OsString::from)).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        };
        let image = Image {
            config: ImageConfig {
                config,
                ..ImageConfig::default()
            },
            layers: Vec::new(),
        };
        let environment = Environment::of_pairs([("OWN", "mine")]);
        container(&args, &environment, &image)
    }

    fn words(text: &str) -> Option<Vec<String>> {
        Some(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn entrypoint_and_command_go_together_as_in_docker() {
        let config = ContainerConfig {
            entrypoint: words("sh -c"),
            cmd: words("echo hi"),
            ..ContainerConfig::default()
        };
        for (arguments, command) in [
            (&["x"][..], "sh -c echo hi"),
            (&["x", "ls"], "sh -c ls"),
            (&["--entrypoint", "cat", "x"], "cat"),
            (&["--entrypoint", "cat", "x", "/f"], "cat /f"),
            (&["--entrypoint", "", "x", "ls"], "ls"),
        ] {
            let request = request(config.clone(), arguments).unwrap();
            assert_eq!(request.args.join(" "), command, "{arguments:?}");
        }
        let error = request(ContainerConfig::default(), &["x"]).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }

    #[test]
    fn the_environment_has_an_order_and_a_path() {
        let config = ContainerConfig {
            env: vec!["A=1".into(), "GONE=x".into()],
            ..ContainerConfig::default()
        };
        let arguments = ["-t", "-e", "A=2", "-e", "OWN", "-e", "GONE", "x", "ls"];
        let request = request(config, &arguments).unwrap();
        let env: Vec<String> = request
            .env
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(
            env,
            [
                format!("PATH={DEFAULT_PATH}"),
                "TERM=xterm".into(),
                "A=2".into(),
                "OWN=mine".into()
            ]
        );
    }

    #[test]
    fn flags_beat_the_configuration() {
        let config = || ContainerConfig {
            user: "app".into(),
            working_dir: "/srv".into(),
            ..ContainerConfig::default()
        };
        let plain = request(config(), &["x", "ls"]).unwrap();
        assert_eq!((plain.user.as_str(), plain.cwd.as_str()), ("app", "/srv"));
        let flags = request(config(), &["-u", "1:2", "-w", "/", "x", "ls"]).unwrap();
        assert_eq!((flags.user.as_str(), flags.cwd.as_str()), ("1:2", "/"));
        request(config(), &["-w", "relative", "x", "ls"]).unwrap_err();
        let bare = request(ContainerConfig::default(), &["x", "ls"]).unwrap();
        assert_eq!(bare.cwd, "/");
    }

    #[test]
    fn volumes_must_be_there() {
        let request = |volume| request(ContainerConfig::default(), &["-v", volume, "x", "ls"]);
        let bound = request("/:/host:ro").unwrap().binds;
        assert_eq!(bound[0].destination, "/host");
        assert!(bound[0].read_only);
        let error = request("./no/such/place:/host").unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Failed);
    }
}
