//! The processes of a container.

use sockerless_tests::scenario::{Scenario, api, docker};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![top()]
}

fn top() -> Scenario {
    Scenario::new(
        "top",
        [
            docker("run --detach --name @N busybox sleep 1000").gives(0),
            docker("create --name @N-created busybox true").gives(0),
            // Process numbers and times differ; that every form is answered does not.
            api("GET /containers/@N/top").head_only().gives(200),
            api("GET /containers/@N/top?ps_args=aux")
                .head_only()
                .gives(200),
            api("GET /containers/@N/top?ps_args=-o%20pid,comm,args")
                .head_only()
                .gives(200),
            api("GET /containers/@N/top?ps_args=-o%20comm").gives(500),
            api("GET /containers/@N-created/top").gives(409),
            api("GET /containers/@N-none/top").gives(404),
            docker("top @N-created").gives(1),
            docker("rm --force @N @N-created").gives(0),
        ],
    )
}
