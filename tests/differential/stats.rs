//! What containers use.

use sockerless_tests::scenario::{Scenario, api, docker};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![stats()]
}

fn stats() -> Scenario {
    Scenario::new(
        "stats",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("create --name @N-created busybox true").gives(0),
            // The numbers are the machine's and the moment's.
            api("GET /containers/@N/stats?stream=false")
                .head_only()
                .gives(200),
            api("GET /containers/@N/stats?stream=false&one-shot=true")
                .head_only()
                .gives(200),
            api("GET /containers/@N/stats?stream=true&one-shot=true").gives(400),
            api("GET /containers/@N-created/stats?stream=false").gives(200),
            api("GET /containers/@N-none/stats?stream=false").gives(404),
            docker("stats --no-stream --format '{{.Name}} {{.PIDs}}' @N").gives(0),
            docker("stats --no-stream @N-none").gives(1),
            docker("rm --force @N @N-created").gives(0),
        ],
    )
}
