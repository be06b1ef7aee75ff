//! `POST /containers/{id}/update` (Engine API, `ContainerUpdate`).

use serde_json::{Map, Value, json};
use sockerless_shared::ids::ContainerId;
use sockerless_shared::lifecycle::{Phase, RestartPolicy};
use sockerless_shared::spec::Runtime;

use super::config::HOST_CONFIG;
use super::{find, machine, restart_policy, validate};
use crate::api::go_json::Field;
use crate::api::{ApiError, ApiResult, Context, go_json, json};
use crate::engine::events::of_container;
use crate::ports::function_host::HostError;
use crate::ports::machine::{Machine, Resources};
use crate::store::containers::Container;

/// The fields that Docker changes; all others of a container's resources it overlooks.
const NUMBERS: [&str; 10] = [
    "BlkioWeight",
    "CpuShares",
    "NanoCpus",
    "CpuPeriod",
    "CpuQuota",
    "Memory",
    "MemorySwap",
    "MemoryReservation",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
];
const TEXTS: [&str; 2] = ["CpusetCpus", "CpusetMems"];

/// Changes a container's restart policy, and what it may use of its machine: of one that
/// runs at once, of another from its next start on.
///
/// # Errors
/// 400 for what is not valid, 404, 409 for what does not go together, 501 for what the
/// runtime cannot change.
pub async fn update(context: &Context<'_>, reference: &str) -> ApiResult {
    let body = context.json_body_or_nothing()?;
    // Go names a field's type without its package, and the whole with it.
    go_json::complete("container.UpdateConfig", &[], &body)?;
    let mut wanted = go_json::complete("UpdateConfig", &fields(), &body)?;
    let policy = restart_policy::parse(&wanted["RestartPolicy"])?;
    let place = &context.control.config.place;
    let warnings = validate::check(&Value::Object(wanted.clone()), place)?;
    validate::discard(&mut wanted, place);
    let container = find(context, reference).await?;
    let changes = resource_changes(&wanted);
    if let Some(name) = changes.keys().next() {
        possible(container.shape.runtime, name)?;
    }
    let named = policy_is_named(&wanted);
    let updated = changed(&container, &wanted, &changes, named.then_some(policy))?;
    if !changes.is_empty() {
        apply_to_machine(context, &container, &updated).await?;
    }
    let control = context.control;
    let now = control.environment.now();
    let function = match updated.shape == container.shape {
        true => container.function.clone(),
        // Its next run is of another function; the present one goes on.
        false => {
            let ensured = control.host.ensure(&updated.shape).await?;
            control.host.delete(&container.function).await?;
            ensured.name
        }
    };
    let saved = control
        .store
        .update_and_log(context.namespace, &container.id, |container| {
            let updated = changed(container, &wanted, &changes, named.then_some(policy))?;
            container.host_config = updated.host_config;
            container.shape = updated.shape;
            container.function = function.clone();
            container.lifecycle.restarts.policy = updated.lifecycle.restarts.policy;
            Ok::<_, ApiError>(((), vec![of_container(container, "update", [], now)]))
        })
        .await?;
    if saved.is_none() {
        return Err(ApiError::no_such_container(reference));
    }
    control
        .tell_listeners_of(context.namespace, &container.id)
        .await;
    let warnings = if warnings.is_empty() {
        Value::Null
    } else {
        json!(warnings)
    };
    json(200, &json!({ "Warnings": warnings }))
}

/// What is read of a body; the rest of a container's resources Docker overlooks.
fn fields() -> Vec<Field> {
    let read = |name: &str| {
        matches!(name, "RestartPolicy" | "PidsLimit")
            || NUMBERS.contains(&name)
            || TEXTS.contains(&name)
    };
    HOST_CONFIG
        .iter()
        .filter(|field| read(field.name))
        .copied()
        .collect()
}

fn policy_is_named(wanted: &Map<String, Value>) -> bool {
    !wanted["RestartPolicy"]["Name"]
        .as_str()
        .unwrap_or("")
        .is_empty()
}

/// What is to be another way; zero and nothing are as it is.
fn resource_changes(wanted: &Map<String, Value>) -> Map<String, Value> {
    let mut changes = Map::new();
    for name in NUMBERS {
        if wanted[name].as_i64().unwrap_or(0) != 0 {
            changes.insert(name.to_owned(), wanted[name].clone());
        }
    }
    for name in TEXTS {
        if !wanted[name].as_str().unwrap_or("").is_empty() {
            changes.insert(name.to_owned(), wanted[name].clone());
        }
    }
    if !wanted["PidsLimit"].is_null() {
        changes.insert("PidsLimit".to_owned(), wanted["PidsLimit"].clone());
    }
    changes
}

/// Whether a runtime can change this of a container that exists.
fn possible(runtime: Runtime, field: &str) -> Result<(), ApiError> {
    match runtime {
        Runtime::Microvm => Ok(()),
        Runtime::Function => Err(ApiError::not_implemented(format!(
            "{field} of a container under the runtime function cannot be updated, since a function's memory, processors and processes are fixed when it is made: create the container anew with other limits, or use --runtime microvm"
        ))),
    }
}

/// The container as it is to be (moby's `UpdateContainer`).
fn changed(
    container: &Container,
    wanted: &Map<String, Value>,
    changes: &Map<String, Value>,
    policy: Option<RestartPolicy>,
) -> Result<Container, ApiError> {
    if matches!(container.lifecycle.phase, Phase::Removing | Phase::Dead) {
        let why = "container is marked for removal and cannot be \"update\"";
        return Err(cannot(&container.id, 409, why));
    }
    let mut next = container.clone();
    let host = &container.host_config;
    conflicts(&container.id, host, changes)?;
    let auto_remove = host["AutoRemove"].as_bool().unwrap_or(false);
    if auto_remove && policy.is_some_and(|policy| policy != RestartPolicy::No) {
        let why =
            "Restart policy cannot be updated because AutoRemove is enabled for the container";
        return Err(cannot(&container.id, 409, why));
    }
    for (name, value) in changes {
        let value = match (name.as_str(), value.as_i64()) {
            ("PidsLimit", Some(..=0)) => json!(0),
            _ => value.clone(),
        };
        next.host_config[name] = value;
    }
    if let Some(policy) = policy {
        next.host_config["RestartPolicy"] = wanted["RestartPolicy"].clone();
        next.lifecycle.restarts.policy = policy;
    }
    if !changes.is_empty() {
        next.shape.memory_mib = super::create::memory_mib(&next.host_config, next.shape.memory_mib);
        let shares = next.host_config["CpuShares"].as_i64().unwrap_or(0);
        if let (Some(bound), Some(_)) = (
            machine::shares_bound(shares),
            container.lifecycle.current_run(),
        ) {
            let why = format!("runc did not terminate successfully: exit status 1: the {bound}\n");
            return Err(cannot(&container.id, 500, &why));
        }
        if let Some(machine) = &mut next.shape.machine
            // What is not possible the next start refuses.
            && let Ok(made) = machine::machine(&next.config, &next.host_config)
        {
            machine.resources = made.resources;
        }
    }
    Ok(next)
}

/// What cannot be, given what is.
fn conflicts(id: &ContainerId, host: &Value, changes: &Map<String, Value>) -> Result<(), ApiError> {
    let is = |name: &str| host[name].as_i64().unwrap_or(0);
    let to_be = |name: &str| changes.get(name).and_then(Value::as_i64).unwrap_or(0);
    for (field, known, text) in [
        (
            "NanoCpus",
            "CpuPeriod",
            "Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            "NanoCpus",
            "CpuQuota",
            "Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            "CpuPeriod",
            "NanoCpus",
            "CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            "CpuQuota",
            "NanoCpus",
            "CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
    ] {
        if to_be(field) > 0 && is(known) > 0 {
            return Err(cannot(id, 409, &format!("Conflicting options: {text}")));
        }
    }
    let memory = to_be("Memory");
    if memory != 0 && memory > is("MemorySwap") && to_be("MemorySwap") == 0 {
        let why = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time";
        return Err(cannot(id, 409, why));
    }
    Ok(())
}

fn cannot(id: &ContainerId, status: u16, why: &str) -> ApiError {
    ApiError::new(status, format!("Cannot update container {id}: {why}"))
}

/// Gives the machine of a container its new shares, where it runs.
async fn apply_to_machine(
    context: &Context<'_>,
    before: &Container,
    after: &Container,
) -> Result<(), ApiError> {
    let run = before.lifecycle.current_run().map(|run| &run.id);
    let host = &context.control.host;
    let refused = |error: HostError| match error {
        HostError::Unsupported(why) => ApiError::not_implemented(why),
        other => cannot(&before.id, 500, &other.to_string()),
    };
    host.update(run, after.shape.memory_mib, &resources(after))
        .await
        .map_err(refused)
}

fn resources(container: &Container) -> Resources {
    let machine = container.shape.machine.as_deref();
    machine.map_or_else(Resources::default, |machine: &Machine| {
        machine.resources.clone()
    })
}
