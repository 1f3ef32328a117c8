//! Whether the kernel has killed something for want of memory.

/// How many processes of this machine have been killed for want of memory so far: by the kernel
/// as a whole or by a control group's limit. Needs no rights and no delegated control group, but
/// counts everyone's: it only says *why* a command of ours died, once we know that something
/// killed it.
pub(super) fn out_of_memory_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    parse(&text)
}

/// The `oom_kill` line of `/proc/vmstat` (Linux 4.13); 0 without it.
fn parse(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_by_its_full_name() {
        assert_eq!(parse("drop_slab 0\noom_kill 17\noom_kill_x 5\n"), 17);
        assert_eq!(parse("pgfault 5\n"), 0);
    }

    #[test]
    fn this_kernel_counts() {
        let text = std::fs::read_to_string("/proc/vmstat").unwrap();
        assert!(
            text.contains("\noom_kill "),
            "/proc/vmstat has no oom_kill line"
        );
    }
}
