//! `ashlar run`.

use ashlar_image::pull::ImageSource;
use ashlar_model::platform::Platform;
use ashlar_model::step::{ExtraHost, Network};
use clap::Args;

use super::value::{self, EnvironmentVariable, VolumeMount};

/// Run a command in a container made from an image.
///
/// The image comes from the local store, an OCI layout or a registry. Its entrypoint, environment,
/// user and working directory apply. What the command writes is lost when it ends. The exit code
/// is the command's.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar run hello                                 run what the image says
  ashlar run -it -v ./src:/src debian bash         look around in it
  ashlar run oci-layout://./image:v1 cat /etc/os-release")]
pub struct RunArgs {
    /// Remove the container afterwards: always done
    #[arg(long, hide = true)]
    rm: bool,

    /// Environment variable; without `=VALUE` it is taken from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<EnvironmentVariable>,

    /// Directory or file of this machine to show in the container; may be repeated
    #[arg(short, long = "volume", value_name = "SOURCE:DESTINATION[:ro]")]
    pub volumes: Vec<VolumeMount>,

    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// User, by name or number [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Program to run instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,

    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Network: `host` (also called `default`) or `none`
    #[arg(long, value_name = "NETWORK", default_value = "default", value_parser = value::network)]
    pub network: Network,

    /// Line for /etc/hosts: HOST:IP or HOST=IP; `host-gateway` stands for this machine
    #[arg(long = "add-host", value_name = "HOST:IP", value_parser = value::extra_host)]
    pub add_hosts: Vec<ExtraHost>,

    /// Platform to choose from an image that has several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = value::platform)]
    pub platform: Option<Platform>,

    /// Image: NAME, docker-image://NAME or oci-layout://DIR:TAG
    #[arg(value_name = "IMAGE", value_parser = value::image_source)]
    pub image: ImageSource,

    /// Command and its arguments [default: the image's]
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Command, parse};
    use super::*;

    fn run(arguments: &[&str]) -> RunArgs {
        let all = ["ashlar", "run"].iter().chain(arguments);
        match parse(all.map(OsString::from)).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        let args = run(&[
            "--rm", "-it", "-e", "A=b", "-v", "/a:/b:ro", "-w", "/w", "-u", "1:2", "debian", "ls",
            "-l", "--rm", "-e",
        ]);
        assert!(args.interactive && args.tty);
        assert_eq!(args.command, ["ls", "-l", "--rm", "-e"]);
        assert_eq!(args.env.len(), 1);
        assert!(args.volumes[0].read_only);
    }

    #[test]
    fn the_command_may_be_left_out() {
        assert!(run(&["debian"]).command.is_empty());
    }
}
