//! What every process of a container is given and denied: `--ulimit`, `--cap-add`,
//! `--cap-drop`, `--security-opt`, `--group-add`, `--init`.

use serde_json::Value;
use sockerless_shared::protocol::control::StartFailure;
use sockerless_shared::spec::{Confinement, ResourceLimit, Runtime};

use super::capabilities::{self, Named};
use super::spec::strings;

/// Numbers of Linux's limits, by the names that Docker's clients use.
const LIMITS: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// Exit code of a container whose start Docker itself refuses.
const REFUSED: i32 = 128;

/// Docker's words around what runc says before there is a process.
const RUNC: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ";

/// Where the start fails as under Docker, with these words.
pub(super) fn failure(message: impl Into<String>) -> StartFailure {
    StartFailure {
        code: REFUSED,
        message: message.into(),
    }
}

/// Where runc refuses.
pub(super) fn runc_failure(message: &str) -> StartFailure {
    failure(format!("{RUNC}{message}"))
}

/// What a container of this configuration is given and denied.
///
/// # Errors
/// Docker's words for what `create` takes and `start` refuses.
pub(super) fn confinement(host: &Value, runtime: Runtime) -> Result<Confinement, StartFailure> {
    Ok(Confinement {
        capabilities: match runtime {
            // It has none, and nothing to drop.
            Runtime::Function => None,
            Runtime::Microvm => Some(capability_mask(host)),
        },
        no_new_privileges: no_new_privileges(host),
        limits: limits(&host["Ulimits"])?,
        groups: strings(&host["GroupAdd"]),
        init: host["Init"].as_bool().unwrap_or(false),
    })
}

/// The capabilities that the container's flags leave; names were checked at `create`.
pub(super) fn capability_mask(host: &Value) -> u64 {
    let named =
        |field: &str| capabilities::parse(field, &strings(&host[field])).unwrap_or(Named::These(0));
    capabilities::effective(named("CapAdd"), named("CapDrop"))
}

/// `no-new-privileges`, `=true`, `:true`; checked at `create`.
pub(super) fn no_new_privileges(host: &Value) -> bool {
    strings(&host["SecurityOpt"]).iter().any(|option| {
        let value = option.strip_prefix("no-new-privileges").map(|rest| {
            let value = rest.trim_start_matches(['=', ':']);
            value.is_empty() || crate::api::query::go_bool(value) == Some(true)
        });
        value.unwrap_or(false)
    })
}

/// The limits of Docker's `Ulimits`.
pub(super) fn limits(ulimits: &Value) -> Result<Vec<ResourceLimit>, StartFailure> {
    let list = ulimits.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .map(|ulimit| {
            let name = ulimit["Name"].as_str().unwrap_or("");
            let upper = name.to_uppercase();
            let resource = LIMITS
                .iter()
                .position(|known| known.to_uppercase() == upper)
                .and_then(|number| u32::try_from(number).ok())
                .ok_or_else(|| runc_failure(&format!("wrong rlimit value: RLIMIT_{upper}")))?;
            // A negative number is unlimited, as in Docker's conversion to an unsigned one.
            let number = |field: &str| ulimit[field].as_i64().unwrap_or(0).cast_unsigned();
            Ok(ResourceLimit {
                resource,
                soft: number("Soft"),
                hard: number("Hard"),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_are_known_by_name() {
        let given = json!([{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "core", "Soft": -1, "Hard": -1}]);
        let nofile = ResourceLimit {
            resource: 7,
            soft: 100,
            hard: 200,
        };
        let core = ResourceLimit {
            resource: 4,
            soft: u64::MAX,
            hard: u64::MAX,
        };
        assert_eq!(limits(&given), Ok(vec![nofile, core]));
        let error = limits(&json!([{"Name": "nosuch"}])).unwrap_err();
        assert!(
            error
                .message
                .ends_with("runc create failed: wrong rlimit value: RLIMIT_NOSUCH")
        );
        assert_eq!(limits(&Value::Null), Ok(Vec::new()));
    }

    #[test]
    fn new_privileges_are_denied_in_every_spelling() {
        let said = |option: &str| no_new_privileges(&json!({"SecurityOpt": [option]}));
        for yes in [
            "no-new-privileges",
            "no-new-privileges=true",
            "no-new-privileges:1",
        ] {
            assert!(said(yes), "{yes}");
        }
        for no in ["no-new-privileges=false", "label=disable"] {
            assert!(!said(no), "{no}");
        }
    }
}
