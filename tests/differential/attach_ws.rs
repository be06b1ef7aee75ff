//! Attaching over a WebSocket: what comes before the frames.

use sockerless_tests::scenario::{Scenario, api, docker};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![refusals()]
}

fn refusals() -> Scenario {
    Scenario::new(
        "attach-websocket-refusals",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            api("GET /containers/@N-none/attach/ws?stream=1").gives(404),
            api("GET /containers/@N/attach/ws?stream=1&detachKeys=nonsense").gives(400),
            docker("rm --force @N").gives(0),
        ],
    )
}
