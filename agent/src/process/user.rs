//! Docker's `user[:group]`: names and numbers looked up in the image's
//! `/etc/passwd` and `/etc/group` (moby's `user.GetExecUser`, OCI defaults).

use std::fs;
use std::io::Read;

use thiserror::Error;

/// Ids beyond this are refused, as Docker refuses them.
const MAX_ID: i64 = i32::MAX as i64;

/// No account file of an image is looked at beyond this many bytes.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Under which ids a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User id.
    pub(crate) uid: u32,
    /// Primary group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Home folder: the account's, or `/`.
    pub(crate) home: String,
}

/// A `user[:group]` that cannot be resolved; texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum UserError {
    /// The user is neither in the file nor a number.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// The group is neither in the file nor a number.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number out of range.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

/// The image's account files.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    users: Vec<UserEntry>,
    groups: Vec<GroupEntry>,
}

#[derive(Debug)]
struct UserEntry {
    name: String,
    uid: i64,
    gid: i64,
    home: String,
}

#[derive(Debug)]
struct GroupEntry {
    name: String,
    gid: i64,
    members: Vec<String>,
}

impl Accounts {
    /// Reads the files; one that is missing is empty.
    pub(crate) fn load() -> Self {
        Self::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    /// From the files' contents; lines that are malformed are passed over.
    pub(crate) fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: passwd.lines().filter_map(user_entry).collect(),
            groups: group.lines().filter_map(group_entry).collect(),
        }
    }

    /// The identity behind `user[:group]`; empty means root.
    ///
    /// # Errors
    /// When a name is unknown or a number out of range.
    pub(crate) fn resolve(&self, spec: &str) -> Result<Identity, UserError> {
        let (user, group) = match spec.split_once(':') {
            Some((user, group)) => (user, group),
            None => (spec, ""),
        };
        let user_number: Option<i64> = user.parse().ok();
        let entry = self.users.iter().find(|entry| {
            if user.is_empty() {
                entry.uid == 0
            } else {
                entry.name == user || Some(entry.uid) == user_number
            }
        });
        let (uid, primary, home, name) = match (entry, user_number) {
            (Some(entry), _) => (entry.uid, entry.gid, entry.home.clone(), Some(&entry.name)),
            (None, Some(number)) => (number, 0, String::new(), None),
            (None, None) if user.is_empty() => (0, 0, String::new(), None),
            (None, None) if user.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(UserError::Range);
            }
            (None, None) => return Err(UserError::NoUser(user.to_owned())),
        };
        let gid = if group.is_empty() {
            primary
        } else {
            self.group(group)?
        };
        // Supplementary groups come with the account, not when a group was named.
        let groups = match (group.is_empty(), name) {
            (true, Some(name)) => self
                .groups
                .iter()
                .filter(|entry| entry.members.contains(name))
                .map(|entry| to_id(entry.gid))
                .collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        Ok(Identity {
            uid: to_id(uid)?,
            gid: to_id(gid)?,
            groups,
            home: if home.is_empty() {
                "/".to_owned()
            } else {
                home
            },
        })
    }

    /// The id of a group that is added to the user's own.
    ///
    /// # Errors
    /// When a name is unknown or a number out of range.
    pub(crate) fn added_group(&self, group: &str) -> Result<u32, UserError> {
        match self.group(group) {
            Ok(id) => to_id(id),
            Err(_) if group.bytes().all(|b| b.is_ascii_digit()) => Err(UserError::Range),
            Err(error) => Err(error),
        }
    }

    fn group(&self, group: &str) -> Result<i64, UserError> {
        let number: Option<i64> = group.parse().ok();
        let entry = self
            .groups
            .iter()
            .find(|entry| entry.name == group || Some(entry.gid) == number);
        match (entry, number) {
            (Some(entry), _) => Ok(entry.gid),
            (None, Some(number)) => Ok(number),
            (None, None) => Err(UserError::NoGroup(group.to_owned())),
        }
    }
}

fn to_id(number: i64) -> Result<u32, UserError> {
    match u32::try_from(number) {
        Ok(id) if number <= MAX_ID => Ok(id),
        _ => Err(UserError::Range),
    }
}

fn user_entry(line: &str) -> Option<UserEntry> {
    let mut fields = line.trim().split(':');
    Some(UserEntry {
        name: fields.next().filter(|name| !name.is_empty())?.to_owned(),
        uid: fields.nth(1)?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
        home: fields.nth(1).unwrap_or_default().to_owned(),
    })
}

fn group_entry(line: &str) -> Option<GroupEntry> {
    let mut fields = line.trim().split(':');
    Some(GroupEntry {
        name: fields.next().filter(|name| !name.is_empty())?.to_owned(),
        gid: fields.nth(1)?.parse().ok()?,
        members: fields
            .next()
            .unwrap_or_default()
            .split(',')
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

fn read(path: &str) -> String {
    let mut text = Vec::new();
    // An image may have no such file, or something else in its place; then
    // there are no accounts, which is what Docker makes of it too.
    let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    if is_file && let Ok(file) = fs::File::open(path) {
        let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0:root:/root:/bin/sh\n# comment\nnobody:x:65534:65534::/:/bin/false\napp:x:1000:1001::/home/app:/bin/sh\nbroken:x:y\n",
            "root:x:0:\nwheel:x:10:root,app\naudio:x:63:app\napp:x:1001:\n",
        )
    }

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Identity, UserError> {
        Ok(Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        })
    }

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let cases = [
            ("", identity(0, 0, &[10], "/root")),
            ("root", identity(0, 0, &[10], "/root")),
            ("app", identity(1000, 1001, &[10, 63], "/home/app")),
            ("1000", identity(1000, 1001, &[10, 63], "/home/app")),
            ("app:audio", identity(1000, 63, &[], "/home/app")),
            ("app:5", identity(1000, 5, &[], "/home/app")),
            ("1234", identity(1234, 0, &[], "/")),
            ("1234:wheel", identity(1234, 10, &[], "/")),
            (":audio", identity(0, 63, &[], "/root")),
            ("nosuch", Err(UserError::NoUser("nosuch".into()))),
            ("app:nosuch", Err(UserError::NoGroup("nosuch".into()))),
            ("99999999999", Err(UserError::Range)),
            ("99999999999999999999", Err(UserError::Range)),
            ("-1", Err(UserError::Range)),
        ];
        for (spec, expected) in cases {
            assert_eq!(accounts().resolve(spec), expected, "{spec}");
        }
    }

    #[test]
    fn groups_are_added_by_name_and_number() {
        assert_eq!(accounts().added_group("audio"), Ok(63));
        assert_eq!(accounts().added_group("5"), Ok(5));
        let unknown = Err(UserError::NoGroup("nosuch".into()));
        assert_eq!(accounts().added_group("nosuch"), unknown);
        for number in ["-1", "99999999999", "99999999999999999999"] {
            assert_eq!(accounts().added_group(number), Err(UserError::Range));
        }
    }

    #[test]
    fn an_image_without_accounts_has_root_alone() {
        let none = Accounts::default();
        assert_eq!(none.resolve(""), identity(0, 0, &[], "/"));
        assert_eq!(none.resolve("7:8"), identity(7, 8, &[], "/"));
        assert!(none.resolve("root").is_err());
    }
}
