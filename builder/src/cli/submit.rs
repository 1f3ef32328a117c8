//! `ashlar submit`.

use clap::Args;

use super::build::BuildArgs;

/// Give a build to a farm, and leave.
///
/// Prints an id at once; the build goes on without this command. Its image is pushed by the farm
/// (--push): nothing comes back here.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  ashlar submit -t registry.example.com/hello --push .
  id=$(ashlar submit --remote grpc://farm:8980 -t registry.example.com/hello --push .)
  ashlar logs -f \"$id\"; ashlar wait \"$id\"")]
pub struct SubmitArgs {
    /// The build: what `ashlar build` takes.
    #[command(flatten)]
    pub build: BuildArgs,
}

impl SubmitArgs {
    /// Checks what single flags do not show.
    pub fn check(&self) -> Result<(), String> {
        self.build.check()?;
        let here = [
            ("--iidfile", self.build.iidfile.is_some()),
            ("--metadata-file", self.build.metadata_file.is_some()),
            ("--remote-fallback", self.build.remote_fallback),
            ("--ssh", !self.build.ssh.is_empty()),
        ];
        match here.iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(format!(
                "{flag} needs somebody who stays: use ashlar build --remote"
            )),
            None => Ok(()),
        }
    }
}
