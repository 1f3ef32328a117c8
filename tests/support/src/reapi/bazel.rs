//! A real Bazel, without a server of its own.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::judge;
use crate::command::{Output, TestCommand};
use crate::environment;
use crate::user::TestUser;

const USER: TestUser = TestUser::Sub;

/// One machine with Bazel: a workspace and an output base.
#[derive(Debug)]
pub struct Bazel {
    program: PathBuf,
    directory: TempDir,
}

/// What a build of Bazel's told.
#[derive(Debug)]
pub struct BazelRun {
    output: Output,
}

impl Bazel {
    /// A machine with an empty workspace; `None` where there is no Bazel.
    pub fn new(test: &str) -> Option<Self> {
        let program = judge("bazel", test)?;
        let directory = environment::scratch_directory("bazel");
        USER.own(directory.path());
        USER.make_directory(directory.path().join("workspace"));
        let bazel = Self { program, directory };
        bazel.file("WORKSPACE", "");
        Some(bazel)
    }

    /// Writes a file of the workspace.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.directory.path().join("workspace").join(name);
        std::fs::write(&path, content).unwrap_or_else(|error| panic!("{name}: {error}"));
        USER.own(&path);
        self
    }

    /// Builds something with a remote cache.
    pub fn build(&self, target: &str, port: u16, options: &[&str]) -> BazelRun {
        let output = TestCommand::new(USER, &self.program)
            .arg(format!(
                "--output_user_root={}",
                self.directory.path().join("output").display()
            ))
            .args(["--batch", "--nosystem_rc", "--nohome_rc"])
            .args(["build", "--color=no", "--curses=no"])
            .args(["--spawn_strategy=local", "--genrule_strategy=local"])
            .arg(format!("--remote_cache=grpc://127.0.0.1:{port}"))
            .args(options)
            .arg(target)
            .env("HOME", self.directory.path())
            .env("USER", USER.name())
            .directory(&self.directory.path().join("workspace"))
            .timeout(Duration::from_secs(180))
            .run();
        BazelRun { output }
    }

    /// A file that was built.
    pub fn built(&self, name: &str) -> Vec<u8> {
        let path = self.directory.path().join("workspace/bazel-bin").join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl BazelRun {
    /// Its line about processes: `3 processes: 2 remote cache hit, 1 local.`
    #[track_caller]
    fn processes(&self) -> String {
        self.output.success();
        let stderr = self.output.stderr();
        let line = stderr.lines().find_map(|line| {
            let (_, rest) = line.strip_prefix("INFO: ")?.split_once(" process")?;
            Some(
                rest.trim_start_matches("es")
                    .trim_start_matches(": ")
                    .to_owned(),
            )
        });
        line.unwrap_or_else(|| panic!("{}\n(it does not say what was run)", self.output))
    }

    fn count(&self, kind: &str) -> u32 {
        self.processes()
            .trim_end_matches('.')
            .split(", ")
            .find_map(|part| part.strip_suffix(kind)?.trim().parse().ok())
            .unwrap_or(0)
    }

    /// How many actions came out of the cache.
    pub fn hits(&self) -> u32 {
        self.count("remote cache hit")
    }

    /// How many actions were run.
    pub fn ran(&self) -> u32 {
        self.count("local")
    }

    /// All of it.
    pub fn output(&self) -> &Output {
        &self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reapi::Casd;

    /// This Bazel speaks version 2.0 of the API only, and buildbox-casd 2.1 and later: that it
    /// complains shows that it really asks the cache.
    #[test]
    fn it_asks_the_cache() {
        let test = "it_asks_the_cache";
        let (Some(casd), Some(bazel)) = (Casd::server(test), Bazel::new(test)) else {
            return;
        };
        bazel.file(
            "BUILD",
            "genrule(name = 'a', outs = ['a.txt'], cmd = 'echo a > $@')\n",
        );
        let run = bazel.build("//:a", casd.port(), &[]);
        run.output().stderr_has("API version 2.0 is not supported");
    }
}
