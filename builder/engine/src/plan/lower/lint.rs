//! What lowering tells the linter: what only it knows of a stage.

use std::collections::BTreeSet;

use ashlar_model::config::ImageConfig;
use ashlar_model::platform::Platform;

use super::Lowering;
use super::stage::StageState;
use crate::dockerfile::Instruction;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::heredoc::Heredoc;
use crate::dockerfile::instruction::InstructionKind;
use crate::plan::arguments::is_for_builder;
use crate::plan::error::PlanError;
use crate::plan::stages::named_context;

impl Lowering<'_> {
    /// Expands a word in a stage.
    pub(super) fn word(&self, state: &StageState, text: &str) -> Result<String, PlanError> {
        let expanded = self.expander.process_word(text, &state.environment)?;
        self.note_undefined(state, &expanded.undefined);
        Ok(expanded.text)
    }

    /// The content of a heredoc that is a file, expanded if it is to be.
    pub(super) fn heredoc_file(
        &self,
        state: &StageState,
        heredoc: &Heredoc,
    ) -> Result<Vec<u8>, PlanError> {
        let body = heredoc.content();
        if !heredoc.expand {
            return Ok(body.into_owned().into_bytes());
        }
        let expanded = Expander::process_heredoc(&body, &state.environment)?;
        self.note_undefined(state, &expanded.undefined);
        Ok(expanded.text.into_bytes())
    }

    fn note_undefined(&self, state: &StageState, undefined: &BTreeSet<String>) {
        let declared = |name: &str| {
            is_for_builder(name) || state.arguments.iter().any(|(known, _)| known == name)
        };
        let known = || {
            let variables = state.environment.variables().iter();
            variables.map(|(name, _)| name.as_str()).collect()
        };
        self.lint.undefined_variables(undefined, declared, known);
    }

    /// Looks at an instruction before it has its effect on the stage.
    pub(super) fn note_instruction(&self, state: &mut StageState, instruction: &Instruction) {
        match &instruction.kind {
            InstructionKind::Cmd(cmd) => {
                self.lint.counts_once(&mut state.given.cmd);
                let shell = &state.config.config.shell;
                self.lint.command_form(&cmd.command, shell);
            }
            InstructionKind::Entrypoint(entrypoint) => {
                self.lint.counts_once(&mut state.given.entrypoint);
                let shell = &state.config.config.shell;
                self.lint.command_form(&entrypoint.command, shell);
            }
            InstructionKind::Healthcheck(_) => {
                self.lint.counts_once(&mut state.given.healthcheck);
            }
            InstructionKind::Arg(arg) => {
                for name in arg.names() {
                    self.lint.secret_name("ARG", name);
                }
            }
            InstructionKind::Label(label) if label.legacy => self.lint.legacy_pair(),
            InstructionKind::Env(env) if env.legacy => self.lint.legacy_pair(),
            _ => {}
        }
    }

    /// Sources of COPY or ADD that are in the build context.
    pub(super) fn note_context_sources(&self, keyword: &str, paths: &[String]) {
        let Some(context) = &self.sources.context else {
            return;
        };
        let verb = if keyword == "ADD" { "Add" } else { "Copy" };
        for path in paths.iter().filter_map(|path| context.left_out(path)) {
            self.lint.ignored_source(verb, &path);
        }
    }

    /// An image that `name` has led to. What a named context leads to was chosen by the user.
    pub(super) fn note_image(&self, name: &str, config: &ImageConfig, wanted: &Platform) {
        let is_named = named_context(self.options, name, wanted).is_some();
        if !is_named && !config.os.is_empty() {
            self.lint.image_platform(name, wanted, &config.platform());
        }
    }
}
