//! What nothing may break: bodies without end, archives made to harm, a killed
//! daemon. Only Sockerless is run here; there is nothing to compare with.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use sockerless_tests::http::{Connection, Endpoint, Request, fetch};
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;

const LIMIT: Duration = Duration::from_secs(60);
/// Far more than a request needs, far less than one that is held whole.
const MEMORY_KIB: u64 = 100 * 1024;

/// Sends a body in chunks, without a length, until 100 MB are sent or the daemon
/// has had enough; gives the status of its answer.
fn flood(endpoint: &Endpoint, target: &str, begin: &str, piece: &[u8]) -> u16 {
    let mut connection = Connection::open(endpoint).unwrap();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    connection.send(head.as_bytes()).unwrap();
    let mut chunk = Vec::new();
    write!(
        chunk,
        "{:x}\r\n{begin}\r\n{:x}\r\n",
        begin.len(),
        piece.len()
    )
    .unwrap();
    let mut sent = 0;
    while sent < 100 << 20 {
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        if connection.send(&chunk).is_err() {
            break;
        }
        sent += piece.len();
        chunk.clear();
        write!(chunk, "{:x}\r\n", piece.len()).unwrap();
    }
    let answer = connection.read_head("POST", Instant::now() + LIMIT);
    answer.unwrap().status
}

#[test]
fn a_body_of_100_mb_without_a_length_is_refused_and_not_held() {
    let subject = Subject::start(Runtime::Function);
    let piece = vec![b'a'; 64 * 1024];
    for target in [
        "/v1.51/containers/create",
        "/v1.51/containers/none/exec",
        "/v1.51/exec/none/start",
    ] {
        let status = flood(subject.endpoint(), target, "{\"Image\": \"", &piece);
        assert!((400..500).contains(&status), "{target}: {status}");
    }
    let peak = subject.engine().peak_memory().unwrap();
    assert!(peak < MEMORY_KIB, "{peak} KiB at most");
    subject.is_well();
}

#[test]
fn archives_made_to_harm_are_refused_with_a_reason() {
    let subject = Subject::start(Runtime::Function);
    for name in [
        "garbage.tar",
        "cut.tar",
        "no-manifest.tar",
        "bad-manifest.tar",
        "missing-layer.tar",
        "wrong-digest.tar",
        "escape.tar",
        "bomb.tar",
    ] {
        let (code, stdout, stderr) =
            subject.try_docker(&["load", "--input", &subject.fixture(name)]);
        assert_eq!(code, Some(1), "{name}: {stdout}");
        assert!(!stderr.trim().is_empty(), "{name}");
        let (code, ..) = subject.try_docker(&["image", "inspect", "broken"]);
        assert_eq!(code, Some(1), "{name} left an image behind");
    }
    assert_eq!(find(subject.folder(), "escaped"), None);
    assert_eq!(find(subject.folder(), "bomb"), None);
    assert!(!Path::new("/escaped").exists());
    subject.is_well();
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name() == name {
                return Some(entry.path());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    None
}

#[test]
fn what_a_killed_daemon_knew_is_there_again() {
    let mut subject = Subject::start(Runtime::Function);
    let (code, ..) = subject.try_docker(&[
        "run",
        "--name",
        "ended",
        "--label",
        "kept=yes",
        "busybox",
        "sh",
        "-c",
        "echo said; exit 9",
    ]);
    assert_eq!(code, Some(9));
    subject.docker(&["create", "--name", "made", "busybox", "echo", "later"]);
    subject.docker(&[
        "run", "--detach", "--name", "up", "busybox", "sleep", "1000",
    ]);
    subject.kill();
    subject.begin();

    assert_eq!(subject.docker(&["logs", "ended"]), "said\n");
    let (_, ended) = subject.get("/containers/ended/json");
    assert_eq!(ended["State"]["ExitCode"], 9);
    assert_eq!(ended["Config"]["Labels"], json!({"kept": "yes"}));
    let (_, up) = subject.get("/containers/up/json");
    assert_eq!(up["State"]["Running"], false, "{}", up["State"]);
    assert_ne!(up["State"]["ExitCode"], 0);
    assert_ne!(up["State"]["Error"], "", "a reason is given");
    assert_eq!(subject.docker(&["start", "--attach", "made"]), "later\n");
    subject.docker(&["start", "up"]);
    subject.docker(&["rm", "--force", "up", "ended", "made"]);
    subject.is_well();
}

#[test]
fn sigterm_stops_what_runs_and_ends_with_success() {
    let mut subject = Subject::start(Runtime::Function);
    subject.docker(&[
        "run",
        "--detach",
        "--name",
        "obedient",
        "busybox",
        "sh",
        "-c",
        "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    ]);
    let deadline = Instant::now() + LIMIT;
    while subject.docker(&["logs", "obedient"]) != "ready\n" {
        assert!(Instant::now() < deadline, "it does not become ready");
    }
    subject.end();
    subject.begin();
    let (_, obedient) = subject.get("/containers/obedient/json");
    assert_eq!(obedient["State"]["Status"], "exited");
    assert_eq!(obedient["State"]["ExitCode"], 7);
    assert_eq!(subject.docker(&["logs", "obedient"]), "ready\nbye\n");
}

/// As with `dockerd`: what ran runs again, and so does what was stopped, if its policy is
/// `always`.
#[test]
fn what_its_policy_wants_runs_again_when_the_daemon_does() {
    let mut subject = Subject::start(Runtime::Function);
    for (name, policy) in [
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("no", "no"),
        ("stopped-always", "always"),
        ("stopped-unless", "unless-stopped"),
    ] {
        subject.docker(&[
            "run",
            "--detach",
            "--restart",
            policy,
            "--name",
            name,
            "busybox",
            "sleep",
            "1000",
        ]);
    }
    let stopped = ["stopped-always", "stopped-unless"];
    for end in [Subject::end, Subject::kill] {
        subject.docker(&["stop", "--time", "0", stopped[0], stopped[1]]);
        end(&mut subject);
        subject.begin();
        for name in ["always", "unless", stopped[0]] {
            let deadline = Instant::now() + LIMIT;
            loop {
                let (_, found) = subject.get(&format!("/containers/{name}/json"));
                if found["State"]["Status"] == "running" {
                    break;
                }
                assert!(Instant::now() < deadline, "{name}: {}", found["State"]);
            }
        }
        for name in ["no", stopped[1]] {
            let (_, found) = subject.get(&format!("/containers/{name}/json"));
            assert_eq!(found["State"]["Status"], "exited", "{name}");
        }
        subject.docker(&["start", "no", stopped[1]]);
    }
    subject.docker(&[
        "rm", "--force", "always", "unless", "no", stopped[0], stopped[1],
    ]);
    subject.is_well();
}

#[test]
fn only_the_owner_may_use_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let subject = Subject::start(Runtime::Function);
    let Endpoint::Unix(path) = subject.endpoint() else {
        panic!("a Unix socket was asked for");
    };
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_not_there_yet_says_so_at_once() {
    let subject = Subject::start(Runtime::Function);
    subject.docker(&[
        "run", "--detach", "--name", "up", "busybox", "sleep", "1000",
    ]);
    let routes = [
        "GET /containers/up/top",
        "GET /containers/up/stats?stream=0",
        "GET /containers/up/changes",
        "GET /containers/up/export",
        "POST /containers/up/update",
        "POST /containers/up/pause",
        "HEAD /containers/up/archive?path=/etc",
        "GET /containers/up/archive?path=/etc/passwd",
        "PUT /containers/up/archive?path=/tmp",
        "GET /containers/up/attach/ws",
        "POST /containers/prune",
        "GET /images/busybox/history",
        "GET /images/busybox/get",
        "GET /images/get?names=busybox",
        "POST /images/busybox/push",
        "GET /images/search?term=a",
        "POST /images/prune",
        "POST /build",
        "POST /build/prune",
        "POST /commit?container=up",
        "POST /auth",
        "GET /system/df",
        "GET /events?until=1",
        "GET /networks",
        "GET /networks/bridge",
        "POST /networks/create",
        "POST /networks/prune",
        "GET /volumes",
        "POST /volumes/create",
        "POST /volumes/prune",
        "GET /plugins",
        "GET /swarm",
        "GET /nodes",
        "GET /services",
        "GET /tasks",
        "GET /secrets",
        "GET /configs",
        "GET /distribution/busybox/json",
        "POST /session",
    ];
    for route in routes {
        let (method, target) = route.split_once(' ').unwrap();
        let request = Request {
            method: method.to_owned(),
            target: format!("/v1.51{target}"),
            ..Request::default()
        };
        let (head, body) = fetch(subject.endpoint(), &request, Duration::from_secs(10))
            .unwrap_or_else(|error| panic!("{route}: {error}"));
        let body = String::from_utf8_lossy(&body);
        assert!(!body.contains("page not found"), "{route}: {body}");
        if head.status == 501 && method != "HEAD" {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            let message = body["message"].as_str().unwrap();
            assert!(message.contains(' '), "{route}: {message:?} is no sentence");
        }
    }
    subject.docker(&["rm", "--force", "up"]);
    subject.is_well();
}

/// A POST of this body; the answer's status and message.
fn post(subject: &Subject, target: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let request = Request {
        method: "POST".to_owned(),
        target: format!("/v1.51{target}"),
        headers: vec![("Content-Type".to_owned(), kind.to_owned())],
        body: Some(body.to_vec()),
        chunked: false,
    };
    let (head, body) = fetch(subject.endpoint(), &request, LIMIT).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = answer["message"].as_str().unwrap_or_default().to_owned();
    (head.status, message)
}

#[test]
fn what_cannot_be_understood_or_is_not_there_gets_a_clear_error() {
    let subject = Subject::start(Runtime::Function);
    subject.docker(&["create", "--name", "used", "busybox"]);
    let json = "application/json";
    let cases: [(&str, &str, &[u8], u16); 9] = [
        ("/containers/create", json, b"{not JSON", 400),
        ("/containers/create", json, b"", 400),
        ("/containers/create", json, b"\xff\xfe", 400),
        ("/containers/create", json, b"[]", 400),
        ("/containers/create", "text/plain", b"{}", 400),
        ("/containers/create", json, br#"{"Image": 7}"#, 400),
        (
            "/containers/create",
            json,
            br#"{"Image": "busybox", "Env": "A=b"}"#,
            400,
        ),
        (
            "/containers/create",
            json,
            br#"{"Image": "nowhere/nothing:none"}"#,
            404,
        ),
        (
            "/containers/create?name=used",
            json,
            br#"{"Image": "busybox"}"#,
            409,
        ),
    ];
    for (target, kind, body, status) in cases {
        let (got, message) = post(&subject, target, kind, body);
        let body = String::from_utf8_lossy(body);
        assert_eq!(got, status, "{target} {body}: {message}");
        assert!(!message.is_empty(), "{target} {body}");
    }
    let deep = format!("{{\"Image\": {}", "[".repeat(100_000));
    let (got, message) = post(&subject, "/containers/create", json, deep.as_bytes());
    assert_eq!(got, 400, "{message}");
    assert_eq!(
        subject.docker(&["ps", "--all", "--quiet"]).lines().count(),
        1
    );
    subject.is_well();
}

/// What a network or a volume cannot carry here is refused by name, and what it carries in
/// part is said when the container is created.
#[test]
fn what_networks_and_volumes_cannot_do_is_said() {
    let subject = Subject::start(Runtime::Microvm);
    subject.docker(&["network", "create", "--subnet", "10.77.0.0/24", "own"]);
    subject.docker(&["network", "create", "--internal", "inner"]);
    for (target, body, part) in [
        (
            "/networks/create",
            r#"{"Name": "n6", "EnableIPv6": true}"#,
            "--ipv6",
        ),
        (
            "/networks/create",
            r#"{"Name": "nc", "ConfigOnly": true}"#,
            "--config-only",
        ),
        (
            "/networks/create",
            r#"{"Name": "nm", "Driver": "macvlan"}"#,
            "macvlan",
        ),
        (
            "/volumes/create",
            r#"{"Name": "vt", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}"#,
            "tmpfs",
        ),
    ] {
        let (status, message) = post(&subject, target, "application/json", body.as_bytes());
        assert_eq!(status, 501, "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    for (flags, part) in [
        (&["--network", "own", "--ip", "10.77.0.9"][..], "--ip"),
        (&["--network", "own", "--publish", "80:80"][..], "--publish"),
        (&["--network", "host"][..], "network host"),
        (&["--network", "container:x"][..], "network container:x"),
        (
            &["--runtime", "function", "--volume", "v1:/x"][..],
            "use --runtime microvm",
        ),
    ] {
        let arguments = [&["create"][..], flags, &["busybox"]].concat();
        let (code, _, stderr) = subject.try_docker(&arguments);
        assert_eq!(code, Some(1), "{flags:?}: {stderr}");
        assert!(stderr.contains(part), "{flags:?}: {stderr}");
    }
    assert_eq!(subject.docker(&["volume", "ls", "--quiet"]), "");

    // What runs keeps what it reaches; what does not run reaches what it is told to.
    let run = [
        "run",
        "--detach",
        "--name",
        "up",
        "--network",
        "inner",
        "busybox",
        "sleep",
        "1000",
    ];
    let (code, _, stderr) = subject.try_docker(&run);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("reach nothing outside"), "{stderr}");
    let cards = [
        "exec",
        "up",
        "sh",
        "-c",
        "tail -n +3 /proc/net/dev | grep -c -v lo:",
    ];
    assert_eq!(subject.try_docker(&cards).1, "0\n");
    let (code, _, stderr) = subject.try_docker(&["network", "connect", "own", "up"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("stop up first"), "{stderr}");
    subject.docker(&["kill", "up"]);
    subject.docker(&["network", "connect", "own", "up"]);
    subject.docker(&["start", "up"]);
    assert_eq!(subject.try_docker(&cards).1, "1\n");
    let (code, _, stderr) = subject.try_docker(&["network", "disconnect", "own", "up"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("last network that leads outside"),
        "{stderr}"
    );
    subject.docker(&["network", "disconnect", "inner", "up"]);
    subject.docker(&["rm", "--force", "up"]);
    subject.is_well();
}

#[test]
fn a_client_that_leaves_an_attach_or_an_exec_half_way_loses_nothing() {
    let subject = Subject::start(Runtime::Function);
    let script = "echo before; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo after; exit 4";
    subject.docker(&[
        "run", "--detach", "--name", "up", "busybox", "sh", "-c", script,
    ]);

    let leave = |target: &str, body: &str| {
        let mut connection = Connection::open(subject.endpoint()).unwrap();
        let head = format!(
            "POST /v1.51{target} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.send(head.as_bytes()).unwrap();
        let status = connection.read_head("POST", Instant::now() + LIMIT);
        assert_eq!(status.unwrap().status, 101, "{target}");
    };
    leave("/containers/up/attach?stream=1&stdout=1&stdin=1&logs=1", "");
    let request = Request {
        method: "POST".to_owned(),
        target: "/v1.51/containers/up/exec".to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: Some(
            json!({
                "AttachStdin": true, "AttachStdout": true,
                "Cmd": ["sh", "-c", "cat >/dev/null; yes | head -c 1000000; touch /tmp/go; exit 6"],
            })
            .to_string()
            .into_bytes(),
        ),
        chunked: false,
    };
    let (head, body) = fetch(subject.endpoint(), &request, LIMIT).unwrap();
    assert_eq!(head.status, 201);
    let exec: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let exec = exec["Id"].as_str().unwrap();
    leave(&format!("/exec/{exec}/start"), r#"{"Detach": false}"#);

    // The exec goes on without its client, and the container ends by what it does.
    assert_eq!(subject.docker(&["wait", "up"]), "4\n");
    assert_eq!(subject.docker(&["logs", "up"]), "before\nafter\n");
    let (_, exec) = subject.get(&format!("/exec/{exec}/json"));
    assert_eq!(
        (&exec["Running"], &exec["ExitCode"]),
        (&json!(false), &json!(6))
    );
    subject.docker(&["rm", "up"]);
    subject.is_well();
}

#[test]
fn a_load_that_breaks_off_leaves_nothing() {
    let subject = Subject::start(Runtime::Function);
    let archive = std::fs::read(subject.fixture("configured.tar")).unwrap();
    let half = &archive[..archive.len() / 2];
    let announced = format!("Content-Length: {}\r\n\r\n", archive.len());
    let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", half.len());
    for framing in [announced, chunk] {
        let mut connection = Connection::open(subject.endpoint()).unwrap();
        let head = format!(
            "POST /v1.51/images/load HTTP/1.1\r\nHost: docker\r\n\
             Content-Type: application/x-tar\r\n{framing}"
        );
        connection.send(head.as_bytes()).unwrap();
        connection.send(half).unwrap();
        drop(connection);
        subject.is_well();
        assert_eq!(subject.get("/images/configured/json").0, 404);
    }
    // The same archive is taken afterwards.
    subject.docker(&["load", "--input", &subject.fixture("configured.tar")]);
    assert_eq!(subject.get("/images/configured/json").0, 200);
}

/// Whoever is quicker: a container that was created has its volume.
#[test]
fn a_volume_is_not_removed_from_under_a_container_that_is_being_created() {
    let subject = Subject::start(Runtime::Microvm);
    let body = json!({
        "Image": "busybox", "Cmd": ["true"], "HostConfig": {"Binds": ["shared:/s"]},
    })
    .to_string();
    let volume = br#"{"Name": "shared"}"#;
    let json = "application/json";
    for number in 0..150 {
        let target = format!("/containers/create?name=c{number}");
        assert_eq!(post(&subject, "/volumes/create", json, volume).0, 201);
        let ((created, message), removed) = std::thread::scope(|scope| {
            let create = scope.spawn(|| post(&subject, &target, json, body.as_bytes()));
            // Sooner and later, so that each is the quicker one at times.
            std::thread::sleep(Duration::from_micros(number % 30 * 100));
            let removed = delete(&subject, "/volumes/shared");
            (create.join().unwrap(), removed)
        });
        assert!(matches!(removed, 204 | 409), "{removed}");
        match created {
            201 => {
                let found = subject.get("/v1.51/volumes/shared").0;
                assert_eq!(found, 200, "round {number}, removal: {removed}");
                assert_eq!(delete(&subject, &format!("/containers/c{number}")), 204);
            }
            409 => assert!(message.contains("is being removed"), "{message}"),
            other => panic!("{other}: {message}"),
        }
    }
    subject.is_well();
}

fn delete(subject: &Subject, target: &str) -> u16 {
    let request = Request {
        method: "DELETE".to_owned(),
        target: format!("/v1.51{target}"),
        headers: Vec::new(),
        body: None,
        chunked: false,
    };
    fetch(subject.endpoint(), &request, LIMIT).unwrap().0.status
}
