//! Copying between the machine and containers that run.

use sockerless_tests::scenario::{Scenario, Step, api, docker, file, read_file, until_log};

/// The scenarios of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![cp(), cp_errors(), archive_errors()]
}

/// A container with some files in `/tmp`, the one place that every runtime can write to.
fn with_files() -> [Step; 2] {
    [
        docker(
            "run --detach --name @N busybox sh -c 'mkdir -p /tmp/d/sub; cd /tmp; echo one >d/f; \
             echo deep >d/sub/z; ln -s f d/l; ln -s /tmp/d ld; echo ready; exec sleep 1000'",
        )
        .gives(0),
        until_log("@N", "ready", 1),
    ]
}

fn cp() -> Scenario {
    Scenario::new(
        "cp",
        with_files().into_iter().chain([
            file("given", b"from outside\n"),
            docker("cp given @N:/tmp/taken").gives(0),
            docker("exec @N cat /tmp/taken").gives(0),
            docker("cp given @N:/tmp/d/").gives(0),
            docker("exec @N cat /tmp/d/given").gives(0),
            docker("cp given @N:/tmp/ld/again").gives(0),
            docker("exec @N ls /tmp/d").gives(0),
            docker("cp --archive given @N:/tmp/archived").gives(0),
            docker("exec @N cat /tmp/archived").gives(0),
            docker("cp @N:/tmp/d/f back").gives(0),
            read_file("back"),
            docker("cp --follow-link @N:/tmp/d/l followed").gives(0),
            read_file("followed"),
            docker("cp @N:/tmp/d folder").gives(0),
            read_file("folder/sub/z"),
            docker("cp @N:/tmp/d/. inside").gives(0),
            docker("cp folder @N:/tmp/folder").gives(0),
            docker("exec @N cat /tmp/folder/f /tmp/folder/sub/z").gives(0),
            docker("cp folder/. @N:/tmp/d/sub").gives(0),
            docker("exec @N ls /tmp/d/sub /tmp/d/sub/sub").gives(0),
            docker("rm --force @N").gives(0),
        ]),
    )
}

fn cp_errors() -> Scenario {
    Scenario::new(
        "cp-errors",
        with_files().into_iter().chain([
            file("given", b"x"),
            docker("cp @N:/nowhere .").gives(1),
            docker("cp given @N:/no/such/folder").gives(1),
            docker("cp given @N-none:/tmp").gives(1),
            docker("cp @N-none:/tmp .").gives(1),
            docker("rm --force @N").gives(0),
        ]),
    )
}

fn archive_errors() -> Scenario {
    let tar = "application/x-tar";
    let put = |target: &str, body: &[u8]| {
        api(&format!("PUT /containers/@N/archive{target}"))
            .header("Content-Type", tar)
            .body(body)
    };
    Scenario::new(
        "archive-errors",
        with_files().into_iter().chain([
            api("GET /containers/@N/archive").gives(400),
            api("HEAD /containers/@N/archive").gives(400),
            put("", b"").gives(400),
            api("GET /containers/@N/archive?path=/nowhere").gives(404),
            api("HEAD /containers/@N/archive?path=/nowhere").gives(404),
            api("GET /containers/@N-none/archive?path=/").gives(404),
            api("HEAD /containers/@N-none/archive?path=/").gives(404),
            api("GET /containers/@N/archive?path=/tmp/d/f/x").gives(500),
            api("HEAD /containers/@N/archive?path=/tmp/d/f/x").gives(500),
            api("GET /containers/@N/archive?path=/tmp/d/f/").gives(500),
            api("GET /containers/@N/archive?path=/proc/1/environ").gives(404),
            put("?path=/nowhere", b"").gives(404),
            put("?path=/tmp/d/f", b"").gives(400),
            put("?path=/tmp/d", b"garbage").gives(500),
            put("?path=/tmp/d", b"").gives(200),
            api("GET /containers/@N-none/export").gives(404),
            docker("rm --force @N").gives(0),
        ]),
    )
}
