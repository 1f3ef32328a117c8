//! Which platforms, beside its own, a machine runs programs of.

use std::fs;
use std::path::Path;

use ashlar_model::platform::Platform;

/// Where Linux lists the interpreters that it starts by itself.
const INTERPRETERS: &str = "/proc/sys/fs/binfmt_misc";
/// There if a 64-bit kernel of x86 runs 32-bit programs.
const RUNS_32_BIT: &str = "/proc/sys/abi/vsyscall32";

/// QEMU's names of processors, as its packages register them, and what they run.
const EMULATORS: [(&str, &str); 9] = [
    ("qemu-aarch64", "linux/arm64"),
    ("qemu-arm", "linux/arm/v7"),
    ("qemu-i386", "linux/386"),
    ("qemu-loongarch64", "linux/loong64"),
    ("qemu-mips64el", "linux/mips64le"),
    ("qemu-ppc64le", "linux/ppc64le"),
    ("qemu-riscv64", "linux/riscv64"),
    ("qemu-s390x", "linux/s390x"),
    ("qemu-x86_64", "linux/amd64"),
];

/// The platforms that run here besides `own`.
pub(super) fn platforms(own: &Platform) -> Vec<Platform> {
    let interpreters = Path::new(INTERPRETERS);
    let mut found: Vec<Platform> = EMULATORS
        .iter()
        .filter(|(name, _)| {
            fs::read_to_string(interpreters.join(name)).is_ok_and(|text| works_in_containers(&text))
        })
        .filter_map(|(_, platform)| platform.parse().ok())
        .collect();
    if own.arch == "amd64" && Path::new(RUNS_32_BIT).exists() {
        found.push(Platform::new("linux", "386", None));
    }
    found.retain(|platform| platform != own);
    found
}

/// Whether a registered interpreter is switched on and opened in advance (flag F): a container
/// does not have its file.
fn works_in_containers(registered: &str) -> bool {
    let mut lines = registered.lines();
    lines.next() == Some("enabled")
        && lines.any(|line| {
            line.strip_prefix("flags:")
                .is_some_and(|flags| flags.contains('F'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_must_be_on_and_open() {
        let text = |first, flags| format!("{first}\ninterpreter /usr/bin/qemu\nflags: {flags}\n");
        assert!(works_in_containers(&text("enabled", "OCF")));
        assert!(!works_in_containers(&text("enabled", "OC")));
        assert!(!works_in_containers(&text("disabled", "OCF")));
        assert!(!works_in_containers(""));
    }

    #[test]
    fn a_machine_does_not_emulate_itself() {
        let own = Platform::host();
        assert!(!platforms(&own).contains(&own));
    }
}
