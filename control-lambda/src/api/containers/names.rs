//! Names of containers: which are valid, and which are made up.

use crate::api::{ApiError, Context};

/// The name without a leading slash, if it is one that Docker accepts.
///
/// # Errors
/// 400 in Docker's words.
pub fn check(name: &str) -> Result<&str, ApiError> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let valid = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bare.len() >= 2
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if valid {
        Ok(bare)
    } else {
        Err(ApiError::new(
            400,
            format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ))
    }
}

/// What Docker says when a name is taken.
///
/// # Errors
/// When the store fails.
pub async fn conflict(context: &Context<'_>, name: &str) -> Result<ApiError, ApiError> {
    let holder = context
        .control
        .store
        .container_id_by_name(context.namespace, name)
        .await?;
    let holder = holder.map_or_else(String::new, |id| id.to_string());
    Ok(ApiError::new(
        409,
        format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        ),
    ))
}

/// A name for a container whose client chose none: an adjective and a noun, from random bytes.
#[must_use]
pub fn made_up(random: [u8; 4], attempt: usize) -> String {
    let [a, b, c, d] = random.map(usize::from);
    let left = LEFT[(a * 256 + b) % LEFT.len()];
    let right = RIGHT[(c * 256 + d) % RIGHT.len()];
    if attempt == 0 {
        format!("{left}_{right}")
    } else {
        format!("{left}_{right}{}", a % 10)
    }
}

const LEFT: [&str; 64] = [
    "able", "agile", "amber", "ample", "apt", "bold", "brave", "bright", "brisk", "calm", "candid",
    "civil", "clear", "clever", "cosy", "crisp", "daring", "deft", "eager", "early", "easy",
    "fair", "fine", "firm", "fond", "frank", "free", "fresh", "gentle", "glad", "grand", "happy",
    "hardy", "honest", "humble", "ideal", "jolly", "just", "keen", "kind", "lively", "loyal",
    "lucid", "mellow", "merry", "mild", "neat", "nimble", "noble", "patient", "plain", "polite",
    "prompt", "proud", "quick", "quiet", "ready", "sharp", "sincere", "smart", "steady", "sunny",
    "warm", "wise",
];

const RIGHT: [&str; 64] = [
    "acorn", "alder", "anchor", "apple", "aspen", "badger", "basin", "beacon", "beech", "birch",
    "bison", "brook", "canyon", "cedar", "cliff", "clover", "comet", "coral", "crane", "creek",
    "dune", "eagle", "elm", "falcon", "fern", "finch", "fjord", "forest", "garnet", "glacier",
    "grove", "harbor", "hazel", "heron", "island", "ivy", "jasper", "lagoon", "lake", "larch",
    "linden", "lynx", "maple", "marten", "meadow", "moss", "oak", "opal", "orchid", "osprey",
    "otter", "pebble", "pine", "plover", "quartz", "raven", "reef", "ridge", "river", "robin",
    "spruce", "summit", "valley", "willow",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_checked_as_docker_does() {
        assert_eq!(check("/web-1").unwrap(), "web-1");
        for bad in ["", "/", "a", "-a", "a b", "ä1", "a/b"] {
            assert_eq!(check(bad).unwrap_err().status, 400, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_made_up_is_valid(random: [u8; 4], attempt in 0usize..3) {
            prop_assert!(check(&made_up(random, attempt)).is_ok());
        }
    }
}
