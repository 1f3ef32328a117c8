//! How ids are mapped, as far as it matters to results.

use std::fs;

use rustix::process::{geteuid, getuid};

/// What enters every key: whether steps see the full range of ids. Results made with one id only
/// are not those of a full range, for a command may behave differently when it cannot change
/// owners.
///
/// This is asked before the sandbox is started, and without starting it: it is what the sandbox
/// will find, short of a broken `newuidmap`.
pub fn isolation_class() -> &'static str {
    if geteuid().is_root() || has_subordinate_ids() {
        "full id range"
    } else {
        "one id"
    }
}

fn has_subordinate_ids() -> bool {
    let user = getuid().as_raw().to_string();
    let name = user_name(&user);
    let listed = |file: &str| {
        fs::read_to_string(file).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.split(':').next())
                .any(|owner| owner == user || name.as_deref() == Some(owner))
        })
    };
    (listed("/etc/subuid") && listed("/etc/subgid")) || from_name_service()
}

fn user_name(id: &str) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id).then(|| name.to_owned())
    })
}

/// Where a directory service has the ranges, the files do not say.
fn from_name_service() -> bool {
    fs::read_to_string("/etc/nsswitch.conf").is_ok_and(|text| {
        text.lines().any(|line| {
            line.trim_start()
                .strip_prefix("subid:")
                .is_some_and(|sources| !matches!(sources.trim(), "" | "files"))
        })
    })
}
