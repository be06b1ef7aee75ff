//! Plugins (Engine API): there are none, and none can be installed, since nothing here could
//! run one beside the containers.

use serde_json::{Value, json};
use sockerless_shared::answer::Answer;

use super::{ApiError, ApiResult, Context, json};

/// The filters that a list of plugins knows.
const FILTERS: [&str; 2] = ["capability", "enabled"];

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plugins {
    /// All of them.
    List,
    /// One, by its name as Docker repeats it.
    One(String),
    /// A newer version of one, whose name Docker repeats in a header too.
    Upgrade(String),
    /// One that is not there yet.
    New,
}

/// Reads method and path; `None` where Docker has no such route. A plugin's name may have
/// slashes.
#[must_use]
pub fn find(method: &str, segments: &[&str]) -> Option<Plugins> {
    let ["plugins", rest @ ..] = segments else {
        return None;
    };
    match (method, rest) {
        ("GET", []) => Some(Plugins::List),
        ("GET", ["privileges"]) | ("POST", ["pull" | "create"]) => Some(Plugins::New),
        ("POST", [name @ .., "upgrade"]) if !name.is_empty() => {
            Some(Plugins::Upgrade(tagged(&name.join("/"))))
        }
        ("GET", [name @ .., "json"])
        | ("POST", [name @ .., "enable" | "disable" | "push" | "set"])
        | ("DELETE", name)
            if !name.is_empty() =>
        {
            Some(Plugins::One(name.join("/")))
        }
        _ => None,
    }
}

/// An empty list, or why there is nothing else.
///
/// # Errors
/// 400 for a filter that is none, 404 for every name, 501 for a new one.
pub fn answer(context: &Context<'_>, plugins: &Plugins) -> ApiResult {
    match plugins {
        Plugins::List => {
            context.query.filters()?.only(&FILTERS)?;
            json(200, &json!([] as [Value; 0]))
        }
        Plugins::One(name) => Err(not_found(name)),
        Plugins::Upgrade(name) => {
            let mut response = not_found(name).into_response();
            let header = ("Docker-Plugin-Name".to_owned(), name.clone());
            response.head.headers.push(header);
            Ok(Answer::Final(response))
        }
        Plugins::New => Err(ApiError::not_implemented(
            "plugins are not possible with sockerless, which has nothing to run them beside its \
             containers: use what it has by itself",
        )),
    }
}

fn not_found(name: &str) -> ApiError {
    ApiError::new(404, format!("plugin \"{name}\" not found"))
}

/// The name with the tag that an upgrade would ask a registry for.
fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}
