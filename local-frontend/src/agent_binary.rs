//! Where the agent's program is.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

#[cfg(embedded_agent)]
const BUILT_IN: Option<&[u8]> = Some(include_bytes!(env!("SOCKERLESS_EMBEDDED_AGENT")));
#[cfg(not(embedded_agent))]
const BUILT_IN: Option<&[u8]> = None;

/// The agent's file name.
const NAME: &str = "sockerless-agent";

/// The agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentBinary {
    /// A file.
    File(PathBuf),
    /// The bytes built into this program.
    BuiltIn(&'static [u8]),
}

/// Why there is no agent.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Nowhere.
    #[error(
        "the agent is not built into this program and not beside it (looked for {}); build it \
         with `make build` or name it with --agent PATH",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NotFound(Vec<PathBuf>),
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{}: {reason}", .path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Finds the agent: as given, built in, or beside this program.
///
/// # Errors
/// See [`AgentError`].
pub fn find(given: Option<&Path>, program: Option<&Path>) -> Result<AgentBinary, AgentError> {
    if let Some(given) = given {
        check(given)?;
        return Ok(AgentBinary::File(given.to_owned()));
    }
    if let Some(bytes) = BUILT_IN {
        return Ok(AgentBinary::BuiltIn(bytes));
    }
    let candidates = program.map(candidates).unwrap_or_default();
    let mut first_error = None;
    for path in candidates.iter().filter(|path| path.is_file()) {
        match check(path) {
            Ok(()) => return Ok(AgentBinary::File(path.clone())),
            // A build for debugging may stand beside the program, dynamically linked.
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(AgentError::NotFound(candidates)))
}

/// The program's own folder; for one in `target/PROFILE/`, the builds for musl too.
fn candidates(program: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent() else {
        return Vec::new();
    };
    let mut candidates = vec![folder.join(NAME)];
    if let (Some(target), Some(profile)) = (folder.parent(), folder.file_name()) {
        let musl = target.join(format!("{}-unknown-linux-musl", std::env::consts::ARCH));
        candidates.extend([musl.join("agent"), musl.join(profile)].map(|dir| dir.join(NAME)));
    }
    candidates
}

fn check(path: &Path) -> Result<(), AgentError> {
    let unreadable = |source| AgentError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4096).read_to_end(&mut start))
        .map_err(unreadable)?;
    unfit(&start).map_or(Ok(()), |reason| {
        Err(AgentError::Unfit {
            path: path.to_owned(),
            reason,
        })
    })
}

/// What is wrong with a program that begins like this. A container's image has no loader
/// and no libraries for a dynamic one. (ELF-64, System V ABI, chapters 4 and 5.)
fn unfit(start: &[u8]) -> Option<&'static str> {
    const INTERPRETER: u32 = 3;
    if !start.starts_with(b"\x7fELF\x02\x01") {
        return Some("not a program for 64-bit Linux");
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(start.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(start.get(at..at + 4)?.try_into().ok()?));
    let headers = u32_at(32).map(|at| at as usize);
    let (Some(headers), Some(size), Some(count)) = (headers, u16_at(54), u16_at(56)) else {
        return Some("the program is truncated");
    };
    let dynamic = (0..usize::from(count))
        .map(|n| headers.saturating_add(n * usize::from(size)))
        .any(|at| at < start.len() && u32_at(at) == Some(INTERPRETER));
    dynamic.then_some("the program is linked dynamically; build it for a musl target")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;

    use super::*;

    /// The head of a program without an interpreter.
    pub(crate) fn static_program() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file.write_all(&head).unwrap();
        file
    }

    #[test]
    fn an_agent_must_be_a_static_program() {
        let agent = static_program();
        assert_eq!(
            find(Some(agent.path()), None).unwrap(),
            AgentBinary::File(agent.path().to_owned())
        );
        let this = std::env::current_exe().unwrap();
        let dynamic = find(Some(&this), None);
        assert!(
            matches!(dynamic, Err(AgentError::Unfit { .. })),
            "{dynamic:?}"
        );
        let text = find(Some(Path::new("/etc/hostname")), None);
        assert!(matches!(text, Err(AgentError::Unfit { .. })), "{text:?}");
    }

    #[test]
    fn a_static_build_is_found_beside_the_program_and_behind_a_dynamic_one() {
        if BUILT_IN.is_some() {
            return;
        }
        let target = tempfile::tempdir().unwrap();
        let program = target.path().join("debug/sockerless");
        let candidates = candidates(&program);
        assert!(matches!(
            find(None, Some(&program)),
            Err(AgentError::NotFound(_))
        ));
        for path in &candidates {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        std::fs::copy(std::env::current_exe().unwrap(), &candidates[0]).unwrap();
        assert!(matches!(
            find(None, Some(&program)),
            Err(AgentError::Unfit { .. })
        ));
        for path in candidates.into_iter().rev() {
            std::fs::copy(static_program().path(), &path).unwrap();
            assert_eq!(find(None, Some(&program)).unwrap(), AgentBinary::File(path));
        }
    }
}
