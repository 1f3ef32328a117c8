//! RUN.

use ashlar_model::step::{Network, RunSpec, Script, Security};

use super::Lowering;
use super::stage::StageState;
use super::text::one_line;
use crate::dockerfile::Instruction;
use crate::dockerfile::instruction::{RunInput, RunInstruction, RunNetwork, RunSecurity};
use crate::graph::{PlannedOp, PlannedRun};
use crate::plan::arguments::proxies;
use crate::plan::builder_arguments::hostname;
use crate::plan::error::PlanError;
use crate::plan::history;

/// Runs the shell form where no SHELL was given.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

impl StageState {
    /// The shell of the shell form.
    pub(super) fn shell(&self) -> Vec<String> {
        if self.config.config.shell.is_empty() {
            DEFAULT_SHELL.map(str::to_owned).to_vec()
        } else {
            self.config.config.shell.clone()
        }
    }

    /// Absolute working directory.
    pub(super) fn working_directory(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }
}

impl Lowering<'_> {
    pub(super) async fn lower_run<K>(
        &mut self,
        index: usize,
        state: &mut StageState,
        instruction: &Instruction<K>,
        run: &RunInstruction,
    ) -> Result<(), PlanError> {
        if let Some(device) = run.devices.first() {
            return Err(PlanError::new(format!(
                "RUN --device={device}: devices of the Container Device Interface (CDI) are not \
                 supported by this version of Ashlar"
            ))
            .about(device)
            .hinted("leave --device out: steps run without the machine's devices"));
        }
        let security = self.security(run)?;
        let network = self.network(run)?;
        let mounts = self
            .lower_mounts(index, state, instruction, &run.mounts)
            .await?;
        let mut script = None;
        let args = match run.input() {
            RunInput::Exec(words) => words.to_vec(),
            RunInput::Shell(line) => with(state.shell(), line.into_owned()),
            RunInput::Script { name, body } => {
                let path = format!("/dev/pipes/{name}");
                script = Some(Script {
                    path: path.clone(),
                    body: body.into_owned(),
                });
                with(state.shell(), path)
            }
        };
        // A declared proxy is in the environment already, and then it counts.
        let unkeyed_env = proxies(self.options)
            .into_iter()
            .filter(|(name, _)| state.environment.get(name).is_none())
            .collect();
        let line = format!("RUN {} # buildkit", history_line(state, &args));
        history::add(&mut state.config, line, true);
        let spec = RunSpec {
            args,
            env: [state.environment.variables(), &mounts.env].concat(),
            unkeyed_env,
            cwd: state.working_directory().to_owned(),
            user: state.config.config.user.clone(),
            network,
            hostname: hostname(self.options).to_owned(),
            extra_hosts: self.options.extra_hosts.clone(),
            script,
            mounts: mounts.specs,
            security,
            ulimits: self.options.ulimits.clone(),
        };
        let text = one_line(instruction, self.dockerfile.directives.escape);
        let op = PlannedOp::Run(Box::new(PlannedRun {
            spec,
            sources: mounts.sources,
        }));
        self.add_step(state, &text, instruction.range, op);
        Ok(())
    }

    fn security(&self, run: &RunInstruction) -> Result<Security, PlanError> {
        match run.security {
            Some(RunSecurity::Insecure) if !self.options.allowed.insecure => {
                Err(PlanError::new("security.insecure is not allowed")
                    .about("insecure")
                    .hinted(
                        "if you trust this Dockerfile, build with --allow security.insecure: the \
                         command then has every right that your user can give to it",
                    ))
            }
            Some(RunSecurity::Insecure) => Ok(Security::Insecure),
            Some(RunSecurity::Sandbox) | None => Ok(Security::Sandbox),
        }
    }

    /// What the instruction says goes before what the command line says; but a build without
    /// network stays so unless the user agrees.
    fn network(&self, run: &RunInstruction) -> Result<Network, PlanError> {
        match run.network {
            Some(RunNetwork::None) => Ok(Network::None),
            Some(RunNetwork::Default) | None => Ok(self.options.network),
            Some(RunNetwork::Host)
                if self.options.network == Network::None && !self.options.allowed.host_network =>
            {
                Err(PlanError::new("network.host is not allowed")
                    .about("host")
                    .hinted(
                        "the build has --network none: add --allow network.host to let this \
                         command use the network all the same",
                    ))
            }
            Some(RunNetwork::Host) => Ok(Network::Host),
        }
    }
}

fn with(mut shell: Vec<String>, last: String) -> Vec<String> {
    shell.push(last);
    shell
}

/// The command with the build arguments that it sees: `|2 a=1 b=2 /bin/sh -c …`.
fn history_line(state: &StageState, args: &[String]) -> String {
    let mut declared: Vec<(&str, String)> = Vec::new();
    for (name, value) in &state.arguments {
        let current = state
            .environment
            .get(name)
            .or(value.as_deref())
            .unwrap_or_default();
        let text = format!("{name}={current}");
        match declared.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = text,
            None => declared.push((name, text)),
        }
    }
    let mut words: Vec<String> = Vec::with_capacity(declared.len() + args.len() + 1);
    if !declared.is_empty() {
        words.push(format!("|{}", declared.len()));
        words.extend(declared.into_iter().map(|(_, text)| text));
    }
    words.extend_from_slice(args);
    words.join(" ")
}
