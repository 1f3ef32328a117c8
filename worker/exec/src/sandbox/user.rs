//! Who a command runs as: `user[:group]` looked up in a container's passwd and group files.
//!
//! The rules are BuildKit's (Docker's differ in places):
//!
//! | text | user | group | supplementary groups |
//! |---|---|---|---|
//! | empty | 0 | of root's passwd line, else 0 | of the group file |
//! | `name` | of its passwd line, else an error | of the same line | of the group file |
//! | `number` | the number | of its passwd line, else 0 | of the group file, if it has a passwd line |
//! | `user:group` | as above | as given | none |
//!
//! The primary group is among the supplementary ones in every case.

use serde::{Deserialize, Serialize};

/// Longest passwd or group file that is read. Larger ones are refused, as BuildKit does, so that
/// an image cannot fill our memory.
pub const ACCOUNT_FILE_LIMIT: u64 = 10 * 1024 * 1024;

/// Ids of a command, and where it is at home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserIdentity {
    /// User id inside the container.
    pub uid: u32,
    /// Primary group id inside the container.
    pub gid: u32,
    /// Supplementary group ids, the primary one included; sorted, each once.
    pub groups: Vec<u32>,
    /// Home directory; `/` for a user without a passwd line.
    pub home: String,
}

/// Why a user text leads to no user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// No passwd line has the name.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// No group line has the name.
    #[error("unable to find group {name}: no matching entries in group file")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// An account file cannot be read.
    #[error("{path} of the container cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A line of a passwd file.
struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of a group file.
struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Looks `user[:group]` up in the bytes of a passwd and a group file; a missing file is empty.
/// Lines that make no sense are skipped.
pub fn resolve_user(text: &str, passwd: &[u8], group: &[u8]) -> Result<UserIdentity, UserError> {
    let passwd = String::from_utf8_lossy(passwd);
    let group = String::from_utf8_lossy(group);
    let (user, wanted_group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };

    let number = if user.is_empty() {
        Some(0)
    } else {
        parse_id(user)
    };
    // A name that happens to be a number is a name first.
    let line = passwd_lines(&passwd)
        .find(|line| !user.is_empty() && line.name == user)
        .or_else(|| passwd_lines(&passwd).find(|line| Some(line.uid) == number));
    let uid = line
        .as_ref()
        .map(|line| line.uid)
        .or(number)
        .ok_or_else(|| UserError::UnknownUser {
            name: user.to_owned(),
        })?;

    let mut groups = Vec::new();
    let gid = match wanted_group {
        Some(wanted) => resolve_group(wanted, &group)?,
        None => {
            if let Some(line) = &line {
                let is_member =
                    |members: &str| members.split(',').any(|name| name.trim() == line.name);
                groups = group_lines(&group)
                    .filter(|group| is_member(group.members))
                    .map(|group| group.gid)
                    .collect();
            }
            line.as_ref().map_or(0, |line| line.gid)
        }
    };
    // As containerd has it: the group itself is among the supplementary ones, so that no set-gid
    // program takes it away.
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    let home = line
        .map(|line| line.home)
        .filter(|home| !home.is_empty())
        .unwrap_or("/");
    Ok(UserIdentity {
        uid,
        gid,
        groups,
        home: home.to_owned(),
    })
}

/// The id of a group name or number.
fn resolve_group(wanted: &str, group: &str) -> Result<u32, UserError> {
    group_lines(group)
        .find(|line| line.name == wanted)
        .map(|line| line.gid)
        .or_else(|| parse_id(wanted))
        .ok_or_else(|| UserError::UnknownGroup {
            name: wanted.to_owned(),
        })
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.trim();
        let uid = parse_id(fields.nth(1)?)?;
        let gid = parse_id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        is_account(name).then_some(PasswdLine {
            name,
            uid,
            gid,
            home,
        })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.trim();
        let gid = parse_id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default();
        is_account(name).then_some(GroupLine { name, gid, members })
    })
}

/// Comments and NIS lines (`+name`) are no accounts.
fn is_account(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '+', '-'])
}

/// An id as a decimal number. The largest 32-bit number means "no id" to the kernel.
fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.then(|| text.parse().ok()).flatten()?;
    (id != u32::MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # comment:x:1:1::/:\n\
        bad\n\
        www:x:33:34:www:/var/www:/usr/sbin/nologin\n\
        homeless:x:40:40:::\n\
        77:x:1077:1078::/home/77:/bin/sh\n";
    const GROUP: &[u8] =
        b"root:x:0:\nwheel:x:10:root,www\nwww:x:34:\nadm:x:4:www\nadm2:x:4:www\nodd:x:y:www\n";

    fn resolve(text: &str) -> Result<UserIdentity, UserError> {
        resolve_user(text, PASSWD, GROUP)
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> UserIdentity {
        UserIdentity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        }
    }

    #[test]
    fn no_user_is_root_with_the_groups_of_root() {
        assert_eq!(resolve("").unwrap(), identity(0, 0, &[0, 10], "/root"));
        assert_eq!(resolve("root").unwrap(), identity(0, 0, &[0, 10], "/root"));
        assert_eq!(resolve("0").unwrap(), identity(0, 0, &[0, 10], "/root"));
    }

    #[test]
    fn a_name_brings_its_group_its_supplementary_groups_and_its_home() {
        assert_eq!(
            resolve("www").unwrap(),
            identity(33, 34, &[4, 10, 34], "/var/www")
        );
        assert_eq!(
            resolve("33").unwrap(),
            identity(33, 34, &[4, 10, 34], "/var/www")
        );
    }

    #[test]
    fn a_given_group_is_the_only_one() {
        assert_eq!(
            resolve("www:adm").unwrap(),
            identity(33, 4, &[4], "/var/www")
        );
        assert_eq!(
            resolve("33:999").unwrap(),
            identity(33, 999, &[999], "/var/www")
        );
        assert_eq!(resolve("5:6").unwrap(), identity(5, 6, &[6], "/"));
    }

    #[test]
    fn an_unknown_number_has_group_0_and_no_home() {
        assert_eq!(resolve("1234").unwrap(), identity(1234, 0, &[0], "/"));
        assert_eq!(
            resolve_user("", b"", b"").unwrap(),
            identity(0, 0, &[0], "/")
        );
    }

    #[test]
    fn a_name_made_of_digits_is_a_name_first() {
        assert_eq!(
            resolve("77").unwrap(),
            identity(1077, 1078, &[1078], "/home/77")
        );
    }

    #[test]
    fn an_empty_home_is_the_root_directory() {
        assert_eq!(resolve("homeless").unwrap().home, "/");
    }

    #[test]
    fn unknown_names_are_errors_with_the_words_of_docker() {
        let error = resolve("nobody").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            resolve("root:none").unwrap_err(),
            UserError::UnknownGroup {
                name: "none".to_owned()
            }
        );
        // Out of range, signed, or no number at all.
        for text in ["4294967295", "99999999999", "-1", "+5", " "] {
            assert!(
                matches!(resolve(text), Err(UserError::UnknownUser { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_empty_group_after_the_colon_counts_as_none() {
        assert_eq!(resolve("www:").unwrap(), resolve("www").unwrap());
    }

    proptest::proptest! {
        #[test]
        fn any_files_are_read_without_panic(
            text in ".{0,20}",
            passwd in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            group in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let _ignored = resolve_user(&text, &passwd, &group);
        }

        #[test]
        fn numbers_stand_for_themselves(uid in 0..u32::MAX, gid in 0..u32::MAX) {
            let identity = resolve_user(&format!("{uid}:{gid}"), b"", b"").unwrap();
            assert_eq!((identity.uid, identity.gid), (uid, gid));
        }
    }
}
