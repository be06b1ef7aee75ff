//! `docker top`: what `ps` would say of the container's processes, read from `/proc`.

use std::collections::HashMap;
use std::fs;

use serde_json::json;
use sockerless_shared::protocol::control::Deed;
use tokio::io::AsyncWrite;

use super::answer::{Failure, fail, whole};
use super::{Gone, Session};
use crate::clock;
use crate::process::tree;

const TICKS_PER_SECOND: u64 = 100;
const PAGE_BYTES: u64 = 4096;

/// Sends the table.
pub(super) async fn top<W: AsyncWrite + Unpin>(
    session: &Session,
    arguments: &str,
    send: &mut W,
) -> Result<(), Gone> {
    let Some(container) = session.container().await else {
        return fail(send, Failure::new(409, "the container is not running")).await;
    };
    let columns = match columns(arguments) {
        Ok(columns) => columns,
        Err(message) => return fail(send, Failure::new(500, message)).await,
    };
    let machine = Machine::read();
    let mut pids = tree::pids(container.reaper.helper());
    pids.sort_unstable();
    let rows: Vec<Vec<String>> = pids
        .into_iter()
        .filter_map(|pid| Process::read(pid.as_raw(), &machine))
        .map(|process| {
            columns
                .iter()
                .map(|(column, _)| process.show(*column, &machine))
                .collect()
        })
        .collect();
    let titles: Vec<&str> = columns.iter().map(|(_, title)| title.as_str()).collect();
    whole(send, &json!({"Processes": rows, "Titles": titles})).await?;
    session.did(Deed::Listed);
    Ok(())
}

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    User,
    Uid,
    Group,
    Gid,
    Pid,
    Parent,
    ProcessGroup,
    SessionId,
    Usage,
    CpuShare,
    MemoryShare,
    Virtual,
    Resident,
    Terminal,
    State,
    StateLetter,
    Start,
    Time,
    ShortTime,
    Elapsed,
    ElapsedSeconds,
    Nice,
    Threads,
    Name,
    Command,
}

/// The columns that `ps` knows by a name, with the titles it gives them.
const NAMED: &[(&str, Column, &str)] = &[
    ("user", Column::User, "USER"),
    ("euser", Column::User, "EUSER"),
    ("uname", Column::User, "USER"),
    ("uid", Column::Uid, "UID"),
    ("euid", Column::Uid, "EUID"),
    ("group", Column::Group, "GROUP"),
    ("egroup", Column::Group, "EGROUP"),
    ("gid", Column::Gid, "GID"),
    ("egid", Column::Gid, "EGID"),
    ("pid", Column::Pid, "PID"),
    ("ppid", Column::Parent, "PPID"),
    ("pgid", Column::ProcessGroup, "PGID"),
    ("pgrp", Column::ProcessGroup, "PGRP"),
    ("sid", Column::SessionId, "SID"),
    ("sess", Column::SessionId, "SESS"),
    ("session", Column::SessionId, "SESS"),
    ("c", Column::Usage, "C"),
    ("pcpu", Column::CpuShare, "%CPU"),
    ("%cpu", Column::CpuShare, "%CPU"),
    ("pmem", Column::MemoryShare, "%MEM"),
    ("%mem", Column::MemoryShare, "%MEM"),
    ("vsz", Column::Virtual, "VSZ"),
    ("vsize", Column::Virtual, "VSZ"),
    ("rss", Column::Resident, "RSS"),
    ("rssize", Column::Resident, "RSS"),
    ("rsz", Column::Resident, "RSZ"),
    ("tty", Column::Terminal, "TT"),
    ("tt", Column::Terminal, "TT"),
    ("tname", Column::Terminal, "TTY"),
    ("stat", Column::State, "STAT"),
    ("state", Column::StateLetter, "S"),
    ("s", Column::StateLetter, "S"),
    ("stime", Column::Start, "STIME"),
    ("start_time", Column::Start, "START"),
    ("time", Column::Time, "TIME"),
    ("cputime", Column::Time, "TIME"),
    ("etime", Column::Elapsed, "ELAPSED"),
    ("etimes", Column::ElapsedSeconds, "ELAPSED"),
    ("ni", Column::Nice, "NI"),
    ("nice", Column::Nice, "NI"),
    ("nlwp", Column::Threads, "NLWP"),
    ("thcount", Column::Threads, "THCNT"),
    ("comm", Column::Name, "COMMAND"),
    ("ucmd", Column::Name, "CMD"),
    ("ucomm", Column::Name, "COMMAND"),
    ("args", Column::Command, "COMMAND"),
    ("command", Column::Command, "COMMAND"),
    ("cmd", Column::Command, "CMD"),
];

const FULL: &[(Column, &str)] = &[
    (Column::User, "UID"),
    (Column::Pid, "PID"),
    (Column::Parent, "PPID"),
    (Column::Usage, "C"),
    (Column::Start, "STIME"),
    (Column::Terminal, "TTY"),
    (Column::Time, "TIME"),
    (Column::Command, "CMD"),
];

const OF_USERS: &[(Column, &str)] = &[
    (Column::User, "USER"),
    (Column::Pid, "PID"),
    (Column::CpuShare, "%CPU"),
    (Column::MemoryShare, "%MEM"),
    (Column::Virtual, "VSZ"),
    (Column::Resident, "RSS"),
    (Column::Terminal, "TTY"),
    (Column::State, "STAT"),
    (Column::Start, "START"),
    (Column::ShortTime, "TIME"),
    (Column::Command, "COMMAND"),
];

const SHORT: &[(Column, &str)] = &[
    (Column::Pid, "PID"),
    (Column::Terminal, "TTY"),
    (Column::Time, "TIME"),
    (Column::Name, "CMD"),
];

/// With BSD's options and no format.
const BSD: &[(Column, &str)] = &[
    (Column::Pid, "PID"),
    (Column::Terminal, "TTY"),
    (Column::State, "STAT"),
    (Column::ShortTime, "TIME"),
    (Column::Command, "COMMAND"),
];

/// The columns that the arguments of `ps` ask for. Which processes they choose does not
/// matter: Docker shows all of the container's whatever is chosen.
fn columns(arguments: &str) -> Result<Vec<(Column, String)>, String> {
    let mut chosen: Vec<(Column, String)> = Vec::new();
    let mut format = SHORT;
    let mut words = arguments.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let dashed = word.starts_with('-');
        let letters = word.trim_start_matches('-');
        if word.starts_with("--") || letters.is_empty() {
            return Err(unknown(word));
        }
        for (index, letter) in letters.char_indices() {
            match (letter, dashed) {
                ('e' | 'A' | 'a' | 'd' | 'w', true) | ('a' | 'x' | 'w', false) => {
                    if !dashed && format == SHORT {
                        format = BSD;
                    }
                }
                ('f', true) => format = FULL,
                ('u', false) => format = OF_USERS,
                ('o', _) => {
                    let rest = &letters[index + 1..];
                    let list = if rest.is_empty() {
                        words
                            .next()
                            .ok_or_else(|| "ps: a list of columns must follow -o".to_owned())?
                    } else {
                        rest
                    };
                    named(list, &mut chosen)?;
                    break;
                }
                _ => return Err(unknown(word)),
            }
        }
    }
    if chosen.is_empty() {
        chosen = format
            .iter()
            .map(|(column, title)| (*column, (*title).to_owned()))
            .collect();
    }
    if !chosen.iter().any(|(_, title)| title == "PID") {
        // Docker tells its containers' processes by it.
        return Err("Couldn't find PID field in ps output".to_owned());
    }
    Ok(chosen)
}

fn named(list: &str, chosen: &mut Vec<(Column, String)>) -> Result<(), String> {
    let mut list = list;
    loop {
        let (one, rest) = match list.find([',', '=']) {
            // A title goes on to the end.
            Some(at) if list.as_bytes().get(at) == Some(&b'=') => (list, None),
            Some(at) => (&list[..at], Some(&list[at + 1..])),
            None => (list, None),
        };
        let (name, title) = one
            .split_once('=')
            .map_or((one, None), |(name, title)| (name, Some(title)));
        let (_, column, usual) = NAMED
            .iter()
            .find(|(known, _, _)| *known == name)
            .ok_or_else(|| format!("ps: sockerless does not know the column {name:?}; it reads /proc itself and knows pid, ppid, user, comm, args, time, stat, rss, vsz and their like"))?;
        chosen.push((*column, title.unwrap_or(usual).to_owned()));
        match rest {
            Some(rest) => list = rest,
            None => return Ok(()),
        }
    }
}

fn unknown(word: &str) -> String {
    format!(
        "ps: sockerless does not know the option {word:?}; it reads /proc itself and knows -ef, aux, and -o with a list of columns"
    )
}

struct Machine {
    /// When it was started, in seconds since the epoch.
    boot: u64,
    /// Seconds since then.
    uptime: u64,
    memory_kib: u64,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Machine {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let names = |file: String| {
            file.lines()
                .filter_map(|line| {
                    let mut fields = line.split(':');
                    let name = fields.next()?.to_owned();
                    Some((fields.nth(1)?.parse().ok()?, name))
                })
                .collect()
        };
        let now = u64::try_from(clock::now().secs()).unwrap_or(0);
        let boot = text("/proc/stat")
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.parse().ok())
            .unwrap_or(now);
        Self {
            boot,
            uptime: now.saturating_sub(boot),
            memory_kib: text("/proc/meminfo")
                .lines()
                .find_map(|line| {
                    line.strip_prefix("MemTotal:")?
                        .trim()
                        .strip_suffix("kB")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(1),
            users: names(text("/etc/passwd")),
            groups: names(text("/etc/group")),
        }
    }
}

struct Process {
    pid: i32,
    uid: u32,
    gid: u32,
    name: String,
    command: String,
    state: String,
    /// The fields of `/proc/<pid>/stat` behind the state; the parent is the first.
    fields: Vec<i64>,
}

impl Process {
    fn read(pid: i32, _: &Machine) -> Option<Self> {
        let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
        let stat = String::from_utf8_lossy(&file("stat")?).into_owned();
        let (before, rest) = stat.rsplit_once(") ")?;
        let name = before.split_once(" (")?.1.to_owned();
        let (state, rest) = rest.split_once(' ')?;
        let status = String::from_utf8_lossy(&file("status")?).into_owned();
        let id = |name: &str| {
            status.lines().find_map(|line| {
                line.strip_prefix(name)?
                    .split_whitespace()
                    .nth(1)?
                    .parse()
                    .ok()
            })
        };
        let command = file("cmdline")?;
        let command = command
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" ");
        Some(Self {
            pid,
            uid: id("Uid:")?,
            gid: id("Gid:")?,
            command: if command.trim().is_empty() {
                format!("[{name}]")
            } else {
                command.trim_end().to_owned()
            },
            name,
            state: state.to_owned(),
            fields: rest
                .split_whitespace()
                .filter_map(|text| text.parse().ok())
                .collect(),
        })
    }

    fn field(&self, index: usize) -> u64 {
        self.fields
            .get(index)
            .and_then(|field| u64::try_from(*field).ok())
            .unwrap_or(0)
    }

    fn seconds(&self) -> u64 {
        (self.field(10) + self.field(11)) / TICKS_PER_SECOND
    }

    fn elapsed(&self, machine: &Machine) -> u64 {
        machine
            .uptime
            .saturating_sub(self.field(18) / TICKS_PER_SECOND)
    }

    fn show(&self, column: Column, machine: &Machine) -> String {
        let name = |names: &HashMap<u32, String>, id: u32| {
            names.get(&id).cloned().unwrap_or_else(|| id.to_string())
        };
        let seconds = self.seconds();
        let elapsed = self.elapsed(machine);
        let share = |part: u64, whole: u64| part.saturating_mul(1000) / whole.max(1);
        let tenths = |share: u64| format!("{}.{}", share / 10, share % 10);
        match column {
            Column::User => name(&machine.users, self.uid),
            Column::Uid => self.uid.to_string(),
            Column::Group => name(&machine.groups, self.gid),
            Column::Gid => self.gid.to_string(),
            Column::Pid => self.pid.to_string(),
            Column::Parent => self.field(0).to_string(),
            Column::ProcessGroup => self.field(1).to_string(),
            Column::SessionId => self.field(2).to_string(),
            Column::Usage => (share(seconds, elapsed) / 10).min(99).to_string(),
            Column::CpuShare => tenths(share(seconds, elapsed)),
            Column::MemoryShare => tenths(share(
                self.field(20) * PAGE_BYTES / 1024,
                machine.memory_kib,
            )),
            Column::Virtual => (self.field(19) / 1024).to_string(),
            Column::Resident => (self.field(20) * PAGE_BYTES / 1024).to_string(),
            Column::Terminal => terminal(self.field(3)),
            Column::State => self.full_state(),
            Column::StateLetter => self.state.clone(),
            Column::Start => start(
                machine.boot + self.field(18) / TICKS_PER_SECOND,
                machine.boot + machine.uptime,
            ),
            Column::Time => format!(
                "{:02}:{:02}:{:02}",
                seconds / 3600,
                seconds / 60 % 60,
                seconds % 60
            ),
            Column::ShortTime => format!("{}:{:02}", seconds / 60, seconds % 60),
            Column::Elapsed => match elapsed / 3600 {
                0 => format!("{:02}:{:02}", elapsed / 60, elapsed % 60),
                hours if hours < 24 => {
                    format!("{hours:02}:{:02}:{:02}", elapsed / 60 % 60, elapsed % 60)
                }
                hours => format!(
                    "{}-{:02}:{:02}:{:02}",
                    hours / 24,
                    hours % 24,
                    elapsed / 60 % 60,
                    elapsed % 60
                ),
            },
            Column::ElapsedSeconds => elapsed.to_string(),
            Column::Nice => self.fields.get(15).copied().unwrap_or(0).to_string(),
            Column::Threads => self.field(16).to_string(),
            Column::Name => self.name.clone(),
            Column::Command => self.command.clone(),
        }
    }

    fn full_state(&self) -> String {
        let mut state = self.state.clone();
        let nice = self.fields.get(15).copied().unwrap_or(0);
        let mut add = |yes: bool, letter: char| {
            if yes {
                state.push(letter);
            }
        };
        add(nice < 0, '<');
        add(nice > 0, 'N');
        add(self.field(2) == u64::from(self.pid.unsigned_abs()), 's');
        add(self.field(16) > 1, 'l');
        add(self.field(4) == self.field(1) && self.field(3) != 0, '+');
        state
    }
}

fn terminal(number: u64) -> String {
    match (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00) {
        (0, 0) => "?".to_owned(),
        (major @ 136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

/// The time of day, or the day when it is another one.
fn start(at: u64, now: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    const DAY: u64 = 24 * 60 * 60;
    if at / DAY == now / DAY {
        return format!("{:02}:{:02}", at / 3600 % 24, at / 60 % 60);
    }
    let text = sockerless_shared::timestamp::Timestamp::from_secs(i64::try_from(at).unwrap_or(0))
        .rfc3339();
    let month = text
        .get(5..7)
        .and_then(|month| month.parse::<usize>().ok())
        .unwrap_or(1);
    let name = MONTHS.get(month.wrapping_sub(1)).unwrap_or(&"Jan");
    format!("{name}{}", text.get(8..10).unwrap_or("01"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(arguments: &str) -> String {
        match columns(arguments) {
            Ok(columns) => columns
                .into_iter()
                .map(|(_, title)| title)
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.split(';').next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn options_choose_columns_as_for_ps() {
        for (arguments, expected) in [
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            (
                "aux",
                "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
            ),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("-e", "PID TTY TIME CMD"),
            ("-o pid,ppid,comm,args", "PID PPID COMMAND COMMAND"),
            ("-eo pid,user", "PID USER"),
            ("axo pid,cmd", "PID CMD"),
            ("-o pid -o user=NAME", "PID NAME"),
            ("-o comm", "Couldn't find PID field in ps output"),
            (
                "--nonsense",
                "ps: sockerless does not know the option \"--nonsense\"",
            ),
            (
                "-o pid,nonsense",
                "ps: sockerless does not know the column \"nonsense\"",
            ),
            ("-o", "ps: a list of columns must follow -o"),
            ("-", "ps: sockerless does not know the option \"-\""),
        ] {
            assert_eq!(titles(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn terminals_and_times_have_their_names() {
        assert_eq!(terminal(0), "?");
        assert_eq!(terminal(136 << 8 | 3), "pts/3");
        assert_eq!(start(3660, 7200), "01:01");
        assert_eq!(start(3660, 200_000), "Jan01");
    }
}
