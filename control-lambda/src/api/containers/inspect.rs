//! `GET /containers/{id}/json` (Engine API, `ContainerInspect`).

use serde_json::{Value, json};

use super::{endpoints, find, mounts, ports, size, state};
use crate::api::{ApiResult, Context, json};
use crate::store::containers::Container;
use crate::store::execs::ExecState;

/// Everything that is known of a container.
///
/// # Errors
/// 404.
pub async fn inspect(context: &Context<'_>, reference: &str) -> ApiResult {
    let container = find(context, reference).await?;
    let execs = running_execs(context, &container).await?;
    let (path, args) = container
        .args
        .split_first()
        .map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let mut body = json!({
        "Id": container.id,
        "Created": container.created.rfc3339(),
        "Path": path,
        "Args": args,
        "State": state::state(&container.lifecycle),
        "Image": container.shape.image,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": format!("/{}", container.name),
        "RestartCount": container.lifecycle.restarts.count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs,
        "HostConfig": container.host_config,
        "GraphDriver": {"Data": null, "Name": "overlay2"},
        "Mounts": mounts::shown(
            container.shape.machine.as_ref().map_or(&[], |machine| &machine.mounts),
        ),
        "Config": container.config,
        "NetworkSettings": network_settings(&container),
    });
    if context.query.flag("size") {
        let size = size(context, &container).await?;
        body["SizeRw"] = json!(size.written);
        body["SizeRootFs"] = json!(size.root);
    }
    json(200, &body)
}

async fn running_execs(
    context: &Context<'_>,
    container: &Container,
) -> Result<Value, crate::api::ApiError> {
    if container.lifecycle.current_run().is_none() {
        return Ok(Value::Null);
    }
    let store = &context.control.store;
    let mut running = Vec::new();
    for id in store.execs_of(&container.id).await? {
        if let Some(exec) = store.exec(context.namespace, &id).await?
            && !matches!(exec.state, ExecState::Exited { .. })
        {
            running.push(id);
        }
    }
    Ok(if running.is_empty() {
        Value::Null
    } else {
        json!(running)
    })
}

/// A function has no address that anybody could use: the fields are there, and empty.
fn network_settings(container: &Container) -> Value {
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": ports::inspected(container),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": endpoints::inspected(container),
    })
}
