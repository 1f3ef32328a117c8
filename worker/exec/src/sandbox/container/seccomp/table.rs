//! The system calls that Docker's default profile denies to a container with the default
//! capabilities, with their numbers.
//!
//! Docker's profile lists what is allowed; this is what it leaves out of all that the kernel has
//! had up to Linux 6.17. The numbers are those of the kernel's `unistd.h` for each machine.

/// The machine languages for which there are numbers, in the order of the columns.
pub(super) const COLUMNS: usize = 4;

/// No such call on this machine.
const NONE: Option<u16> = None;

/// A call's name and its numbers on `x86_64`, `i386`, `aarch64` (and `riscv64`, which has the
/// same) and `arm`.
pub(super) type Row = (&'static str, [Option<u16>; COLUMNS]);

/// Shorthand for the table.
const fn row(name: &'static str, numbers: [i16; COLUMNS]) -> Row {
    let mut row = [NONE; COLUMNS];
    let mut column = 0;
    while column < COLUMNS {
        if numbers[column] >= 0 {
            row[column] = Some(numbers[column].cast_unsigned());
        }
        column += 1;
    }
    (name, row)
}

/// Denied with `EPERM`.
#[rustfmt::skip]
pub(super) const DENIED: &[Row] = &[
    row("_sysctl", [156, 149, -1, 149]),
    row("acct", [163, 51, 89, 51]),
    row("add_key", [248, 286, 217, 309]),
    row("afs_syscall", [183, 137, -1, -1]),
    row("bpf", [321, 357, 280, 386]),
    row("clock_settime", [227, 264, 112, 262]),
    row("clock_settime64", [-1, 404, -1, 404]),
    row("create_module", [174, 127, -1, -1]),
    row("delete_module", [176, 129, 106, 129]),
    row("fanotify_init", [300, 338, 262, 367]),
    row("finit_module", [313, 350, 273, 379]),
    row("fsconfig", [431, 431, 431, 431]),
    row("fsmount", [432, 432, 432, 432]),
    row("fsopen", [430, 430, 430, 430]),
    row("fspick", [433, 433, 433, 433]),
    row("get_kernel_syms", [177, 130, -1, -1]),
    row("get_mempolicy", [239, 275, 236, 320]),
    row("getpmsg", [181, 188, -1, -1]),
    row("init_module", [175, 128, 105, 128]),
    row("io_uring_enter", [426, 426, 426, 426]),
    row("io_uring_register", [427, 427, 427, 427]),
    row("io_uring_setup", [425, 425, 425, 425]),
    row("ioperm", [173, 101, -1, -1]),
    row("iopl", [172, 110, -1, -1]),
    row("kcmp", [312, 349, 272, 378]),
    row("kexec_file_load", [320, -1, 294, 401]),
    row("kexec_load", [246, 283, 104, 347]),
    row("keyctl", [250, 288, 219, 311]),
    row("lookup_dcookie", [212, 253, 18, 249]),
    row("mbind", [237, 274, 235, 319]),
    row("migrate_pages", [256, 294, 238, 400]),
    row("mount", [165, 21, 40, 21]),
    row("mount_setattr", [442, 442, 442, 442]),
    row("move_mount", [429, 429, 429, 429]),
    row("move_pages", [279, 317, 239, 344]),
    row("nfsservctl", [180, 169, 42, 169]),
    row("open_by_handle_at", [304, 342, 265, 371]),
    row("open_tree", [428, 428, 428, 428]),
    row("open_tree_attr", [467, 467, 467, 467]),
    row("perf_event_open", [298, 336, 241, 364]),
    row("pidfd_getfd", [438, 438, 438, 438]),
    row("pivot_root", [155, 217, 41, 218]),
    row("process_madvise", [440, 440, 440, 440]),
    row("putpmsg", [182, 189, -1, -1]),
    row("query_module", [178, 167, -1, -1]),
    row("quotactl", [179, 131, 60, 131]),
    row("quotactl_fd", [443, 443, 443, 443]),
    row("reboot", [169, 88, 142, 88]),
    row("request_key", [249, 287, 218, 310]),
    row("security", [185, -1, -1, -1]),
    row("set_mempolicy", [238, 276, 237, 321]),
    row("set_mempolicy_home_node", [450, 450, 450, 450]),
    row("setdomainname", [171, 121, 162, 121]),
    row("sethostname", [170, 74, 161, 74]),
    row("setns", [308, 346, 268, 375]),
    row("settimeofday", [164, 79, 170, 79]),
    row("stime", [-1, 25, -1, -1]),
    row("swapoff", [168, 115, 225, 115]),
    row("swapon", [167, 87, 224, 87]),
    row("sysfs", [139, 135, -1, 135]),
    row("syslog", [103, 103, 116, 103]),
    row("tuxcall", [184, -1, -1, -1]),
    row("umount", [-1, 22, -1, -1]),
    row("umount2", [166, 52, 39, 52]),
    row("unshare", [272, 310, 97, 337]),
    row("uselib", [134, 86, -1, 86]),
    row("userfaultfd", [323, 374, 282, 388]),
    row("ustat", [136, 62, -1, 62]),
    row("vhangup", [153, 111, 58, 111]),
    row("vm86", [-1, 166, -1, -1]),
    row("vm86old", [-1, 113, -1, -1]),
    row("vserver", [236, 273, -1, 313]),
];

/// Allowed with some arguments only; see the filter.
pub(super) const CLONE: Row = row("clone", [56, 120, 220, 120]);
/// Denied with `ENOSYS`: its flags are behind a pointer, where no filter can see them, and with
/// this answer C libraries fall back to `clone`.
pub(super) const CLONE3: Row = row("clone3", [435, 435, 435, 435]);
/// Allowed with some arguments only.
pub(super) const PERSONALITY: Row = row("personality", [135, 136, 92, 136]);
/// Allowed with some arguments only.
pub(super) const SOCKET: Row = row("socket", [41, 359, 198, 281]);

/// The highest number that this table knows (`file_setattr`, Linux 6.17), the same everywhere.
/// What is above gets `ENOSYS`, as on an older kernel, so that programs fall back.
pub(super) const LAST_KNOWN: u32 = 469;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_there_twice() {
        for column in 0..COLUMNS {
            let mut numbers: Vec<_> = DENIED
                .iter()
                .chain([&CLONE, &CLONE3, &PERSONALITY, &SOCKET])
                .filter_map(|(_, numbers)| numbers[column])
                .collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "column {column}");
        }
    }
}
