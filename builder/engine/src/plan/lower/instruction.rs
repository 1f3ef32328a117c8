//! Each instruction to its place.

use super::Lowering;
use super::stage::StageState;
use crate::dockerfile::Instruction;
use crate::dockerfile::instruction::InstructionKind;
use crate::plan::error::PlanError;

impl Lowering<'_> {
    /// Lowers one instruction.
    pub(super) async fn lower_instruction(
        &mut self,
        index: usize,
        state: &mut StageState,
        instruction: &Instruction,
    ) -> Result<(), PlanError> {
        self.lint = self.linter.scope(instruction);
        self.note_instruction(state, instruction);
        match &instruction.kind {
            InstructionKind::Run(run) => self.lower_run(index, state, instruction, run).await,
            InstructionKind::Copy(copy) => self.lower_copy(index, state, instruction, copy).await,
            InstructionKind::Add(add) => self.lower_add(state, instruction, add),
            InstructionKind::Workdir(workdir) => self.lower_workdir(state, instruction, workdir),
            InstructionKind::Arg(arg) => self.lower_arg(state, instruction, arg),
            InstructionKind::Env(env) => self.lower_env(state, env),
            InstructionKind::Label(label) => self.lower_label(state, label),
            InstructionKind::User(user) => self.lower_user(state, user),
            InstructionKind::Expose(expose) => self.lower_expose(state, expose),
            InstructionKind::Volume(volume) => self.lower_volume(state, volume),
            InstructionKind::Stopsignal(signal) => self.lower_stopsignal(state, signal),
            InstructionKind::Cmd(cmd) => {
                super::metadata::lower_cmd(state, cmd);
                Ok(())
            }
            InstructionKind::Entrypoint(entrypoint) => {
                super::metadata::lower_entrypoint(state, entrypoint);
                Ok(())
            }
            InstructionKind::Shell(shell) => {
                super::metadata::lower_shell(state, shell);
                Ok(())
            }
            InstructionKind::Healthcheck(check) => {
                super::metadata::lower_healthcheck(state, check);
                Ok(())
            }
            InstructionKind::Onbuild(onbuild) => {
                super::metadata::lower_onbuild(state, onbuild);
                Ok(())
            }
            InstructionKind::Maintainer(maintainer) => {
                super::metadata::lower_maintainer(state, maintainer);
                Ok(())
            }
        }
    }
}
