//! An assembler for filters: classic BPF with labels.
//!
//! Jumps go forward only, and conditional ones at most 255 instructions far.

use ashlar_sys::seccomp::Instruction;
use rustix::io::Errno;

/// Operations of `linux/bpf_common.h` in the combinations used here.
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// `SECCOMP_RET_ALLOW` and `SECCOMP_RET_ERRNO` of `linux/seccomp.h`.
const ALLOW: u32 = 0x7fff_0000;
const FAIL: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data` of `linux/seccomp.h`. Of an argument, its lower half: all that
/// is compared fits in it, and the calls in question take no more.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") {
    16
} else {
    20
};

/// A place in the program that jumps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program that is being written.
#[derive(Debug)]
pub(super) struct Program {
    instructions: Vec<Instruction>,
    /// Where each label is, once it is placed.
    labels: Vec<Option<usize>>,
    /// Jumps, by position, and where they lead.
    jumps: Vec<(usize, Label)>,
}

impl Program {
    pub(super) const fn new() -> Self {
        Self {
            instructions: Vec::new(),
            labels: Vec::new(),
            jumps: Vec::new(),
        }
    }

    /// A new label, to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label before the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        let here = self.instructions.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    pub(super) fn load_machine(&mut self) {
        self.add(LOAD_WORD, MACHINE);
    }

    pub(super) fn load_number(&mut self) {
        self.add(LOAD_WORD, NUMBER);
    }

    pub(super) fn load_first_argument(&mut self) {
        self.add(LOAD_WORD, FIRST_ARGUMENT);
    }

    pub(super) fn allow(&mut self) {
        self.add(RETURN, ALLOW);
    }

    pub(super) fn fail(&mut self, errno: Errno) {
        self.add(RETURN, FAIL | errno.raw_os_error().unsigned_abs());
    }

    pub(super) fn jump_if_equal(&mut self, value: u32, label: Label) {
        self.jump(JUMP_IF_EQUAL, value, label);
    }

    pub(super) fn jump_if_at_least(&mut self, value: u32, label: Label) {
        self.jump(JUMP_IF_AT_LEAST, value, label);
    }

    pub(super) fn jump_if_any_bit(&mut self, bits: u32, label: Label) {
        self.jump(JUMP_IF_ANY_BIT, bits, label);
    }

    /// A jump of any length: past an unconditional one, which has room for it.
    pub(super) fn jump_far_if_equal(&mut self, value: u32, label: Label) {
        let other = self.label();
        let near = self.label();
        self.jump(JUMP_IF_EQUAL, value, near);
        self.jump(JUMP, 0, other);
        self.place(near);
        self.jump(JUMP, 0, label);
        self.place(other);
    }

    fn jump(&mut self, code: u16, operand: u32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.add(code, operand);
    }

    fn add(&mut self, code: u16, operand: u32) {
        self.instructions.push(Instruction {
            code,
            jump_true: 0,
            jump_false: 0,
            operand,
        });
    }

    /// Fills in the jumps.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        for (position, label) in self.jumps {
            let place = self
                .labels
                .get(label.0)
                .copied()
                .flatten()
                .unwrap_or(usize::MAX);
            let distance = place.saturating_sub(position + 1);
            let Some(instruction) = self.instructions.get_mut(position) else {
                continue;
            };
            // The program is the same at every start and the tests run all of it, so a distance
            // that does not fit cannot get here; the kernel would refuse such a program.
            if instruction.code == JUMP {
                instruction.operand = u32::try_from(distance).unwrap_or(u32::MAX);
            } else {
                instruction.jump_true = u8::try_from(distance).unwrap_or(u8::MAX);
            }
        }
        self.instructions
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a program on a number, a machine and a first argument, as the kernel would.
    pub(crate) fn interpret(
        program: &[Instruction],
        [number, machine, argument]: [u32; 3],
    ) -> Result<(), Errno> {
        let mut position = 0;
        let mut value = 0;
        loop {
            let Instruction {
                code,
                jump_true,
                jump_false,
                operand,
            } = program[position];
            position += 1;
            let holds = match code {
                LOAD_WORD => {
                    value = match operand {
                        NUMBER => number,
                        MACHINE => machine,
                        FIRST_ARGUMENT => argument,
                        _ => panic!("load from {operand}"),
                    };
                    continue;
                }
                JUMP => {
                    position += operand as usize;
                    continue;
                }
                RETURN if operand == ALLOW => return Ok(()),
                RETURN => {
                    assert_eq!(operand & 0xffff_0000, FAIL);
                    return Err(Errno::from_raw_os_error((operand & 0xffff).cast_signed()));
                }
                JUMP_IF_EQUAL => value == operand,
                JUMP_IF_AT_LEAST => value >= operand,
                JUMP_IF_ANY_BIT => value & operand != 0,
                _ => panic!("operation {code:#x}"),
            };
            position += usize::from(if holds { jump_true } else { jump_false });
        }
    }

    #[test]
    fn labels_lead_forward_over_any_distance() {
        let mut program = Program::new();
        let (near, far) = (program.label(), program.label());
        program.load_number();
        program.jump_if_equal(7, near);
        program.jump_far_if_equal(9, far);
        program.fail(Errno::PERM);
        program.place(near);
        program.allow();
        for _ in 0..1000 {
            program.load_number();
        }
        program.place(far);
        program.fail(Errno::NOSYS);
        let program = program.finish();
        assert_eq!(interpret(&program, [7, 0, 0]), Ok(()));
        assert_eq!(interpret(&program, [8, 0, 0]), Err(Errno::PERM));
        assert_eq!(interpret(&program, [9, 0, 0]), Err(Errno::NOSYS));
    }
}
