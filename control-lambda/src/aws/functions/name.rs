//! The name of a function says all that it was made of, so that a function of
//! that name never has to be changed.

use sockerless_shared::ids::FunctionName;
use sockerless_shared::spec::Runtime;

use super::FunctionSettings;
use crate::images::digest::Digest;
use crate::ports::function_host::{FunctionShape, HostError, Network};

/// Changed whenever functions of the same shape are to be made differently.
const GENERATION: u32 = 2;

/// What the names of all functions of containers begin with.
pub(super) const PREFIX: &str = "skls-";

/// `skls-` and 32 hex digits of a hash of everything that goes into the function.
pub(super) fn of(
    shape: &FunctionShape,
    uri: &str,
    settings: &FunctionSettings,
) -> Result<FunctionName, HostError> {
    let FunctionShape {
        image,
        runtime,
        memory_mib,
        tmp_mib,
        network,
        architecture: _,
        owner,
        // Told by the invocation.
        machine: _,
    } = shape;
    let runtime = match runtime {
        Runtime::Function => "function",
        Runtime::Microvm => "microvm",
    };
    let network = match network {
        Network::None => "none",
        Network::Outbound => "outbound",
    };
    let owner = owner.as_ref().map_or("", |owner| owner.as_str());
    let FunctionSettings {
        role,
        relay_url: _,
        control: _,
        worker: _,
        architecture: usual,
        time_limit_s,
        log_group,
        subnets,
        security_groups,
        tags,
    } = settings;
    let architecture = shape.architecture.unwrap_or(*usual).as_str();
    let all = format!(
        "{GENERATION}\n{image}\n{uri}\n{runtime}\n{memory_mib}\n{tmp_mib}\n{network}\n{owner}\n{role}\n{architecture}\n{time_limit_s}\n{log_group}\n{subnets:?}\n{security_groups:?}\n{tags:?}"
    );
    let digest = Digest::of(all.as_bytes()).to_string();
    let hex = digest.trim_start_matches("sha256:");
    format!("{PREFIX}{hex:.32}")
        .parse()
        .map_err(|error| HostError::Failed(format!("no name for a function: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::function_host::Architecture;

    fn settings() -> FunctionSettings {
        FunctionSettings {
            role: "arn:aws:iam::1:role/r".into(),
            relay_url: "wss://x".into(),
            control: "arn".into(),
            worker: "arn".into(),
            architecture: Architecture::X86_64,
            time_limit_s: 900,
            log_group: "/logs".into(),
            subnets: Vec::new(),
            security_groups: Vec::new(),
            tags: std::collections::BTreeMap::new(),
        }
    }

    fn shape() -> FunctionShape {
        FunctionShape {
            image: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
            runtime: Runtime::Function,
            memory_mib: 512,
            tmp_mib: 512,
            network: Network::Outbound,
            architecture: None,
            owner: None,
            machine: None,
        }
    }

    #[test]
    fn a_name_stands_for_one_shape() {
        let name = |shape: FunctionShape, uri: &str| of(&shape, uri, &settings()).unwrap();
        let first = name(shape(), "repo:a");
        assert_eq!(first.as_str().len(), 37);
        assert!(first.as_str().starts_with("skls-"));
        assert_eq!(name(shape(), "repo:a"), first);
        assert_ne!(name(shape(), "repo:b"), first);
        let larger = FunctionShape {
            memory_mib: 1024,
            ..shape()
        };
        assert_ne!(name(larger, "repo:a"), first);
    }
}
