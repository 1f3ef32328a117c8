//! The instructions that change the configuration, and WORKDIR, which also makes a directory.

use std::time::Duration;

use ashlar_model::config::Healthcheck;
use ashlar_model::step::MakeDirectorySpec;

use super::Lowering;
use super::ports::exposed_ports;
use super::signals::is_signal;
use super::stage::StageState;
use super::text::{one_line, quoted_list};
use crate::dockerfile::Instruction;
use crate::dockerfile::duration::GoDuration;
use crate::dockerfile::instruction::{
    ArgInstruction, CmdInstruction, CommandLine, EntrypointInstruction, EnvInstruction,
    ExposeInstruction, HealthcheckInstruction, LabelInstruction, MaintainerInstruction,
    OnbuildInstruction, ShellInstruction, StopsignalInstruction, UserInstruction,
    VolumeInstruction, WorkdirInstruction,
};
use crate::graph::PlannedOp;
use crate::plan::arguments::is_for_builder;
use crate::plan::environment::set_in_config;
use crate::plan::error::PlanError;
use crate::plan::history;

fn record(state: &mut StageState, line: String) {
    history::add(&mut state.config, line, false);
}

impl Lowering<'_> {
    /// The whole instruction sees the environment as it was before.
    pub(super) fn lower_arg<K>(
        &self,
        state: &mut StageState,
        instruction: &Instruction<K>,
        arg: &ArgInstruction,
    ) -> Result<(), PlanError> {
        let before = state.arguments.len();
        let mut line = "ARG".to_owned();
        for declaration in &arg.declarations {
            let name = &declaration.name;
            let value = match (self.options.build_args.get(name), &declaration.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.word(state, default)?),
                (None, None) => self.globals.get(name).cloned(),
            };
            line.push(' ');
            line.push_str(name);
            if let Some(value) = &value {
                line.push('=');
                line.push_str(value);
                if !is_for_builder(name) {
                    state.environment.set(name, value);
                }
            }
            state.arguments.push((name.clone(), value));
        }
        let values = &state.arguments[before..];
        state
            .own_arguments
            .note(instruction, arg, values, self.options, self.globals);
        record(state, line);
        Ok(())
    }

    pub(super) fn lower_env(
        &self,
        state: &mut StageState,
        env: &EnvInstruction,
    ) -> Result<(), PlanError> {
        let mut expanded = Vec::with_capacity(env.pairs.len());
        for pair in &env.pairs {
            let name = self.word(state, &pair.name)?;
            if name.is_empty() || name.contains('=') {
                return Err(PlanError::new(format!(
                    "ENV: {name:?} is no name of a variable"
                )));
            }
            self.lint.secret_name("ENV", &name);
            expanded.push((name, self.word(state, &pair.value)?));
        }
        let mut line = "ENV".to_owned();
        for (name, value) in expanded {
            line.push_str(&format!(" {name}={value}"));
            set_in_config(&mut state.config.config, &name, &value);
            state.environment.set(&name, &value);
        }
        record(state, line);
        Ok(())
    }

    pub(super) fn lower_label(
        &self,
        state: &mut StageState,
        label: &LabelInstruction,
    ) -> Result<(), PlanError> {
        let mut line = "LABEL".to_owned();
        for pair in &label.pairs {
            let (name, value) = (
                self.word(state, &pair.name)?,
                self.word(state, &pair.value)?,
            );
            line.push_str(&format!(" {name}={value}"));
            state.config.config.labels.insert(name, value);
        }
        record(state, line);
        Ok(())
    }

    pub(super) fn lower_user(
        &self,
        state: &mut StageState,
        user: &UserInstruction,
    ) -> Result<(), PlanError> {
        let user = self.word(state, &user.user)?;
        record(state, format!("USER {user}"));
        state.config.config.user = user;
        Ok(())
    }

    pub(super) fn lower_workdir<K>(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction<K>,
        workdir: &WorkdirInstruction,
    ) -> Result<(), PlanError> {
        let written = self.word(state, &workdir.path)?;
        if !std::mem::replace(&mut state.has_workdir, true) {
            self.lint.first_workdir(&written);
        }
        let path = if written.starts_with('/') {
            written
        } else {
            clean(&format!("{}/{written}", state.working_directory()))
        };
        let is_root = path == "/";
        state.config.config.working_dir.clone_from(&path);
        history::add(&mut state.config, format!("WORKDIR {path}"), !is_root);
        if !is_root {
            let spec = MakeDirectorySpec {
                path,
                user: state.config.config.user.clone(),
                created: self.epoch,
            };
            let text = one_line(instruction, self.dockerfile.directives.escape);
            self.add_step(
                state,
                &text,
                instruction.range,
                PlannedOp::MakeDirectory(spec),
            );
        }
        Ok(())
    }

    pub(super) fn lower_expose(
        &self,
        state: &mut StageState,
        expose: &ExposeInstruction,
    ) -> Result<(), PlanError> {
        let mut written = expose.ports.clone();
        written.sort();
        let mut ports = Vec::new();
        for text in written {
            for word in self
                .expander
                .process_words(&text, &state.environment)?
                .words
            {
                self.lint.exposed_port(&word);
                ports.extend(exposed_ports(&word).map_err(|error| error.about(&text))?);
            }
        }
        record(state, format!("EXPOSE [{}]", ports.join(" ")));
        state.config.config.exposed_ports.extend(ports);
        Ok(())
    }

    pub(super) fn lower_volume(
        &self,
        state: &mut StageState,
        volume: &VolumeInstruction,
    ) -> Result<(), PlanError> {
        let mut paths = Vec::with_capacity(volume.paths.len());
        for path in &volume.paths {
            let expanded = self.word(state, path)?;
            if expanded.is_empty() {
                let error = PlanError::new("VOLUME specified can not be an empty string");
                return Err(error.about(path));
            }
            paths.push(expanded);
        }
        record(state, format!("VOLUME [{}]", paths.join(" ")));
        state.config.config.volumes.extend(paths);
        Ok(())
    }

    pub(super) fn lower_stopsignal(
        &self,
        state: &mut StageState,
        signal: &StopsignalInstruction,
    ) -> Result<(), PlanError> {
        let written = &signal.signal;
        let signal = self.word(state, written)?;
        if !is_signal(&signal) {
            return Err(PlanError::new(format!("invalid signal: {signal}"))
                .about(written)
                .hinted("a signal is a number other than 0, or a name such as SIGTERM"));
        }
        record(state, format!("STOPSIGNAL {signal}"));
        state.config.config.stop_signal = signal;
        Ok(())
    }
}

fn command_words(state: &StageState, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.clone(),
        CommandLine::Shell(line) => {
            let mut words = state.shell();
            words.push(line.clone());
            words
        }
    }
}

pub(super) fn lower_cmd(state: &mut StageState, cmd: &CmdInstruction) {
    let words = command_words(state, &cmd.command);
    record(state, format!("CMD {}", quoted_list(&words)));
    state.config.config.cmd = Some(words);
    state.config.config.args_escaped = true;
}

/// Clears a command that was inherited: it would be this entrypoint's arguments.
pub(super) fn lower_entrypoint(state: &mut StageState, entrypoint: &EntrypointInstruction) {
    let words = command_words(state, &entrypoint.command);
    record(state, format!("ENTRYPOINT {}", quoted_list(&words)));
    state.config.config.entrypoint = Some(words);
    if state.given.cmd.is_none() {
        state.config.config.cmd = None;
    }
}

pub(super) fn lower_shell(state: &mut StageState, shell: &ShellInstruction) {
    record(state, format!("SHELL [{}]", shell.arguments.join(" ")));
    state.config.config.shell.clone_from(&shell.arguments);
}

pub(super) fn lower_onbuild(state: &mut StageState, onbuild: &OnbuildInstruction) {
    state.config.config.on_build.push(onbuild.trigger.clone());
}

pub(super) fn lower_maintainer(state: &mut StageState, maintainer: &MaintainerInstruction) {
    record(state, format!("MAINTAINER {}", maintainer.name));
    state.config.author.clone_from(&maintainer.name);
}

pub(super) fn lower_healthcheck(state: &mut StageState, check: &HealthcheckInstruction) {
    let check = match check {
        HealthcheckInstruction::None => Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        },
        HealthcheckInstruction::Command(command) => {
            let mut test;
            match &command.command {
                CommandLine::Shell(line) => {
                    test = vec!["CMD-SHELL".to_owned(), line.clone()];
                }
                CommandLine::Exec(words) => {
                    test = vec!["CMD".to_owned()];
                    test.extend_from_slice(words);
                }
            }
            Healthcheck {
                test,
                interval: nanoseconds(command.interval),
                timeout: nanoseconds(command.timeout),
                start_period: nanoseconds(command.start_period),
                start_interval: nanoseconds(command.start_interval),
                retries: command.retries.map_or(0, i64::from),
            }
        }
    };
    let line = format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        go_duration(check.interval),
        go_duration(check.timeout),
        go_duration(check.start_period),
        go_duration(check.start_interval),
        check.retries,
    );
    record(state, line);
    state.config.config.healthcheck = Some(check);
}

fn nanoseconds(duration: Option<Duration>) -> i64 {
    duration.map_or(0, |duration| {
        i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
    })
}

fn go_duration(nanoseconds: i64) -> GoDuration {
    GoDuration(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

/// Go's `path.Clean` of an absolute path.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean("/a//b/./../c/"), "/a/c");
        assert_eq!(clean("/../.."), "/");
    }
}
