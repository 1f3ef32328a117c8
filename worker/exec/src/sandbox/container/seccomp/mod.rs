//! The system call filter of commands: Docker's default profile.
//!
//! A program for the kernel's classic BPF machine, compiled once by the launcher:
//!
//! ```text
//! machine language? ──▶ none of ours: ENOSYS
//!   number above the last known one: ENOSYS
//!   binary search among the numbers that are not simply allowed
//!     ──▶ EPERM, ENOSYS, a look at the first argument, or, for the rest, allowed
//! ```
//!
//! The search keeps both costs low: the kernel runs the program for every possible number when it
//! is installed (to remember which calls need no filtering at all), and for each call that does.

mod program;
mod table;

use ashlar_sys::seccomp::{Instruction, install_filter};
use rustix::io::Errno;

use program::{Label, Program};
use table::{CLONE, CLONE3, DENIED, LAST_KNOWN, PERSONALITY, SOCKET};

/// A machine language: its `AUDIT_ARCH_*` of `linux/audit.h` and its column of the table.
#[derive(Debug, Clone, Copy)]
struct Machine {
    audit: u32,
    column: usize,
}

const X86_64: Machine = Machine {
    audit: 0xc000_003e,
    column: 0,
};
const I386: Machine = Machine {
    audit: 0x4000_0003,
    column: 1,
};
const AARCH64: Machine = Machine {
    audit: 0xc000_00b7,
    column: 2,
};
const ARM: Machine = Machine {
    audit: 0x4000_0028,
    column: 3,
};
const RISCV64: Machine = Machine {
    audit: 0xc000_00f3,
    column: 2,
};

/// The languages that a kernel of this program's machine understands.
const MACHINES: &[Machine] = if cfg!(target_arch = "x86_64") {
    &[X86_64, I386]
} else if cfg!(target_arch = "aarch64") {
    &[AARCH64, ARM]
} else {
    &[RISCV64]
};

/// ARM's own calls (`set_tls` and its like), which are far above the common ones.
const ARM_PRIVATE: std::ops::RangeInclusive<u32> = 0x000f_0001..=0x000f_0006;

/// The `CLONE_NEW*` flags, as Docker masks them.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// `PER_LINUX`, `PER_LINUX32`, each also without randomised addresses, and the question which one
/// is set.
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `AF_VSOCK`: a way out of a virtual machine's network rules.
const VSOCK: u32 = 40;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It fails with this error.
    Fail(Errno),
    /// It fails if the first argument has one of these bits.
    AllowWithoutBits(u32),
    /// It fails unless the first argument is one of these.
    AllowOnly(&'static [u32]),
    /// It fails if the first argument is this.
    AllowBut(u32),
}

/// A compiled filter.
#[derive(Debug)]
pub(in super::super) struct Filter(Vec<Instruction>);

impl Filter {
    /// Docker's default profile.
    pub(super) fn docker_default() -> Self {
        Self(compile(MACHINES))
    }

    /// Puts it before all further calls of this process.
    pub(super) fn install(&self) -> Result<(), Errno> {
        match install_filter(&self.0) {
            // A kernel without filters: the namespaces and capabilities still hold.
            Err(Errno::NOSYS) => Ok(()),
            result => result,
        }
    }
}

/// Consecutive numbers with the same verdict: the first, and up to the next element's first.
type Ranges = Vec<(u32, Verdict)>;

fn compile(machines: &[Machine]) -> Vec<Instruction> {
    let mut program = Program::new();
    program.load_machine();
    let sections: Vec<Label> = machines
        .iter()
        .map(|machine| {
            let section = program.label();
            program.jump_far_if_equal(machine.audit, section);
            section
        })
        .collect();
    program.fail(Errno::NOSYS);
    for (machine, section) in machines.iter().zip(sections) {
        program.place(section);
        program.load_number();
        search(&mut program, &ranges(*machine));
    }
    program.finish()
}

/// All numbers of a machine language, sorted, with what becomes of them.
fn ranges(machine: Machine) -> Ranges {
    let own = |row: &table::Row| row.1[machine.column].map(u32::from);
    let mut special: Vec<(u32, Verdict)> = DENIED
        .iter()
        .filter_map(|row| Some((own(row)?, Verdict::Fail(Errno::PERM))))
        .chain(own(&CLONE).map(|number| (number, Verdict::AllowWithoutBits(NAMESPACE_FLAGS))))
        .chain(own(&CLONE3).map(|number| (number, Verdict::Fail(Errno::NOSYS))))
        .chain(own(&PERSONALITY).map(|number| (number, Verdict::AllowOnly(&PERSONALITIES))))
        .chain(own(&SOCKET).map(|number| (number, Verdict::AllowBut(VSOCK))))
        .collect();
    special.sort_unstable_by_key(|(number, _)| *number);

    let mut ranges = Ranges::new();
    let mut add = |first: u32, verdict: Verdict| match ranges.last_mut() {
        Some((start, last)) if *start == first => *last = verdict,
        Some((_, last)) if *last == verdict => {}
        _ => ranges.push((first, verdict)),
    };
    add(0, Verdict::Allow);
    for (number, verdict) in special {
        add(number, verdict);
        add(number + 1, Verdict::Allow);
    }
    let unknown = Verdict::Fail(Errno::NOSYS);
    add(LAST_KNOWN + 1, unknown);
    if machine.column == ARM.column {
        add(*ARM_PRIVATE.start(), Verdict::Allow);
        add(*ARM_PRIVATE.end() + 1, unknown);
    }
    ranges
}

/// Emits a binary search for the range of the number that is loaded.
fn search(program: &mut Program, ranges: &[(u32, Verdict)]) {
    match ranges {
        [] => {}
        [(_, verdict)] => decide(program, *verdict),
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            let label = program.label();
            let pivot = above.first().map_or(0, |(number, _)| *number);
            program.jump_if_at_least(pivot, label);
            search(program, below);
            program.place(label);
            search(program, above);
        }
    }
}

fn decide(program: &mut Program, verdict: Verdict) {
    match verdict {
        Verdict::Allow => program.allow(),
        Verdict::Fail(errno) => program.fail(errno),
        Verdict::AllowWithoutBits(bits) => {
            let denied = program.label();
            program.load_first_argument();
            program.jump_if_any_bit(bits, denied);
            program.allow();
            program.place(denied);
            program.fail(Errno::PERM);
        }
        Verdict::AllowOnly(values) => {
            let allowed = program.label();
            program.load_first_argument();
            for value in values {
                program.jump_if_equal(*value, allowed);
            }
            program.fail(Errno::PERM);
            program.place(allowed);
            program.allow();
        }
        Verdict::AllowBut(value) => {
            let denied = program.label();
            program.load_first_argument();
            program.jump_if_equal(value, denied);
            program.allow();
            program.place(denied);
            program.fail(Errno::PERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Machine; 5] = [X86_64, I386, AARCH64, ARM, RISCV64];

    /// What the filter makes of a call.
    fn run(machine: Machine, number: u32, argument: u32) -> Result<(), Errno> {
        program::tests::interpret(&compile(&[machine]), [number, machine.audit, argument])
    }

    #[test]
    fn every_denied_call_is_denied_on_every_machine() {
        for machine in ALL {
            for (name, numbers) in DENIED {
                if let Some(number) = numbers[machine.column] {
                    let result = run(machine, u32::from(number), 0);
                    assert_eq!(result, Err(Errno::PERM), "{name} on {machine:?}");
                }
            }
        }
    }

    #[test]
    fn every_other_known_call_is_allowed() {
        for machine in ALL {
            let special: Vec<_> = DENIED
                .iter()
                .chain([&CLONE3])
                .filter_map(|(_, numbers)| numbers[machine.column])
                .map(u32::from)
                .collect();
            for number in (0..=LAST_KNOWN).filter(|number| !special.contains(number)) {
                assert_eq!(run(machine, number, 0), Ok(()), "{number} on {machine:?}");
            }
        }
    }

    #[test]
    fn calls_of_the_future_are_unknown() {
        for machine in ALL {
            // The second is read(2) of the x32 language, whose numbers have this bit.
            for number in [LAST_KNOWN + 1, 0x4000_0000, u32::MAX] {
                assert_eq!(
                    run(machine, number, 0),
                    Err(Errno::NOSYS),
                    "{number:#x} on {machine:?}"
                );
            }
            let number = u32::from(CLONE3.1[machine.column].unwrap());
            assert_eq!(run(machine, number, 0), Err(Errno::NOSYS));
        }
        assert_eq!(run(ARM, 0x000f_0005, 0), Ok(()), "set_tls");
        assert_eq!(run(ARM, 0x000f_0007, 0), Err(Errno::NOSYS));
    }

    #[test]
    fn some_calls_depend_on_their_first_argument() {
        for machine in ALL {
            let of = |row: table::Row, argument| {
                run(machine, u32::from(row.1[machine.column].unwrap()), argument)
            };
            // What fork(3) passes, then the flags of user and mount namespaces.
            assert_eq!(of(CLONE, 0x0120_0011), Ok(()));
            assert_eq!(of(CLONE, 0x1000_0011), Err(Errno::PERM));
            assert_eq!(of(CLONE, 0x0002_0011), Err(Errno::PERM));
            assert_eq!(of(PERSONALITY, 0x8), Ok(()));
            assert_eq!(of(PERSONALITY, 0xffff_ffff), Ok(()));
            assert_eq!(of(PERSONALITY, 0x4_0000), Err(Errno::PERM));
            assert_eq!(of(SOCKET, 2), Ok(()));
            assert_eq!(of(SOCKET, VSOCK), Err(Errno::PERM));
        }
    }

    #[test]
    fn another_machines_calls_are_unknown() {
        let program = compile(&[X86_64]);
        assert_eq!(
            program::tests::interpret(&program, [0, AARCH64.audit, 0]),
            Err(Errno::NOSYS)
        );
        let program = compile(&[X86_64, I386]);
        let (mount64, mount32) = (165, 21);
        assert_eq!(
            program::tests::interpret(&program, [mount64, X86_64.audit, 0]),
            Err(Errno::PERM)
        );
        assert_eq!(
            program::tests::interpret(&program, [mount32, I386.audit, 0]),
            Err(Errno::PERM)
        );
        assert_eq!(
            program::tests::interpret(&program, [mount32, X86_64.audit, 0]),
            Ok(())
        );
    }
}
