//! `GET /containers/{id}/stats` (Engine API, `ContainerStats`).

use serde_json::{Value, json};
use sockerless_shared::protocol::grant::Operation;

use super::attach::open;
use super::find;
use crate::api::{ApiError, ApiResult, Context, json};

/// What a container uses: told by its agent, and nothing of one that does not run.
///
/// # Errors
/// 400 for a stream of one reading, 404.
pub async fn stats(context: &Context<'_>, reference: &str) -> ApiResult {
    let stream = context.query.flag_or("stream", true);
    let one_shot = context.query.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::new(
            400,
            "cannot have stream=true and one-shot=true",
        ));
    }
    let container = find(context, reference).await?;
    let name = format!("/{}", container.name);
    if container.lifecycle.current_run().is_none() {
        return json(200, &nothing(&name, container.id.as_str()));
    }
    let operation = Operation::Stats {
        name,
        id: container.id.to_string(),
        stream,
        one_shot,
        memory_limit: u64::from(container.shape.memory_mib) * 1024 * 1024,
    };
    open(context, &container, None, operation).await
}

/// What Docker shows of a container that does not run.
fn nothing(name: &str, id: &str) -> Value {
    const NO_TIME: &str = "0001-01-01T00:00:00Z";
    let cpu = json!({
        "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
        "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
    });
    json!({
        "name": name,
        "id": id,
        "read": NO_TIME,
        "preread": NO_TIME,
        "pids_stats": {},
        "blkio_stats": {
            "io_service_bytes_recursive": null,
            "io_serviced_recursive": null,
            "io_queue_recursive": null,
            "io_service_time_recursive": null,
            "io_wait_time_recursive": null,
            "io_merged_recursive": null,
            "io_time_recursive": null,
            "sectors_recursive": null,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu,
        "precpu_stats": cpu,
        "memory_stats": {},
    })
}
