//! Runs of containers by the real agent: start, exit codes, output, signals,
//! time, and what is left behind.

#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sockerless_shared::protocol::control::{Command, LogSpool, Report};
use sockerless_shared::protocol::stdcopy::OutputStream;
use sockerless_shared::spec::Runtime;
use support::stream::{Client, attach};
use support::{PATH, World, bytes, container, sh, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_and_exit_code_are_the_processs() {
    let world = World::new().await;
    assert_eq!(
        world.run(sh("echo out; echo err >&2; exit 7")).await,
        (7, "out\n".to_owned(), "err\n".to_owned())
    );
    assert_eq!(world.run(container(&["true"])).await.0, 0);
    assert_eq!(world.run(sh("exit 255")).await.0, 255);
    assert_eq!(world.run(sh("kill -TERM $$")).await.0, 143);
    assert_eq!(world.run(sh("kill -34 $$")).await.0, 128 + 34);
}

/// An executable file that the agent's namespace sees too, for as long as this lives.
struct Program(PathBuf);

impl Program {
    #[allow(clippy::unwrap_used)]
    fn new(name: &str, content: &str) -> Self {
        // Not below /tmp, which the agent's namespace has one of its own of, and the
        // target folder may be there.
        let path = PathBuf::from(format!("/var/tmp/sockerless-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let program = Self(path);
        std::fs::set_permissions(&program.0, PermissionsExt::from_mode(0o755)).unwrap();
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_is_reported_as_runc_words_it() {
    let world = World::new().await;
    let mut bad_dir = container(&["pwd"]);
    bad_dir.process.working_dir = "/etc/passwd".to_owned();
    let cases = [
        (
            container(&["nosuch"]),
            127,
            r#"exec: "nosuch": executable file not found in $PATH"#,
        ),
        (
            container(&["/nosuch"]),
            127,
            r#"exec: "/nosuch": stat /nosuch: no such file or directory"#,
        ),
        (
            container(&["/etc/passwd"]),
            126,
            r#"exec: "/etc/passwd": permission denied"#,
        ),
        (bad_dir, 128, "Cannot mkdir: /etc/passwd is not a directory"),
    ];
    for (spec, code, message) in cases {
        world.invoke(spec);
        let Report::StartFailed { failure, .. } = world.report().await else {
            panic!("{message}: started");
        };
        assert_eq!((failure.code, failure.message.as_str()), (code, message));
        assert!(world.answer().await.body.contains("finished"));
    }
}

/// Here Docker counts the container as started, and the reason stands in its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_program_ends_with_1() {
    let world = World::new().await;
    for (name, content, why) in [
        ("garbage", "garbage", "exec format error"),
        (
            "lost-interpreter",
            "#!/nosuch\n",
            "no such file or directory",
        ),
    ] {
        let program = Program::new(name, content);
        let path = program.0.display().to_string();
        let (code, _, err) = world.run(container(&[&path])).await;
        assert_eq!((code, err), (1, format!("exec {path}: {why}\n")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_is_the_containers_alone() {
    let world = World::new().await;
    let mut spec = container(&["env"]);
    spec.process.env = vec![PATH.to_owned(), "A=1".to_owned(), "A=2".to_owned()];
    let (_, out, _) = world.run(spec).await;
    assert_eq!(out, format!("{PATH}\nA=2\nHOME=/root\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_learns_nothing_from_the_agent() {
    let world = World::new().await;
    // Root may look, and finds nothing.
    let (_, out, err) = world
        .run(sh("tr -d \"\\0\" < /proc/1/environ | wc -c"))
        .await;
    assert_eq!((out.as_str(), err.as_str()), ("0\n", ""));
    // Nothing is inherited but the three.
    let (_, out, _) = world.run(sh("ls /proc/self/fd | tr '\\n' ' '")).await;
    assert_eq!(out, "0 1 2 3 ");
    let (_, out, _) = world
        .run(sh("cat /proc/self/status | grep -E 'Sig(Blk|Ign|Cgt)'"))
        .await;
    assert_eq!(
        out,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n"
    );
}

/// The agent and the container under one unprivileged user, as in a function.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_user_cannot_look_into_the_agent() {
    if !nix::unistd::geteuid().is_root() {
        // Becoming somebody else first needs root.
        return;
    }
    let world = World::unprivileged().await;
    let script = "id -u; for f in environ mem maps fd/0; do cat /proc/1/$f 2>&1 | head -c 60; done; ls /proc/1/fd 2>&1";
    let (_, out, _) = world.run(sh(script)).await;
    assert!(out.starts_with("65534\n"), "{out}");
    assert_eq!(out.matches("Permission denied").count(), 5, "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn working_directory_and_home() {
    let world = World::new().await;
    let mut spec = sh("pwd; echo $HOME");
    spec.process.working_dir = "/tmp/a/b".to_owned();
    assert_eq!(world.run(spec.clone()).await.1, "/tmp/a/b\n/root\n");
    if nix::unistd::geteuid().is_root() {
        spec.process.user = "1234:5".to_owned();
        spec.process.args[2] = "id -u; id -g; echo $HOME; echo x > /dev/stderr".to_owned();
        assert_eq!(
            world.run(spec).await,
            (0, "1234\n5\n/\n".to_owned(), "x\n".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_a_handler_is_stopped_by_force_as_process_1_would_be() {
    let world = World::new().await;
    world.invoke(container(&["sleep", "100"]));
    assert!(matches!(world.report().await, Report::Started { .. }));
    let begun = Instant::now();
    for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGINT] {
        assert_eq!(world.command(Command::Kill { signal }).await, None);
    }
    let stop = Command::Stop {
        signal: libc::SIGTERM,
        timeout_s: Some(1),
    };
    assert_eq!(world.command(stop).await, None);
    let (status, _) = world.exited().await;
    assert_eq!(status.code, 137);
    assert!(!status.oom_killed && !status.time_limit);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    world.answer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_a_handler_decides_itself() {
    let world = World::new().await;
    let script = "trap 'echo usr1' USR1; trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let invocation = world.invoke(sh(script));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut output = client.open(attach()).await.unwrap();
    output.until("ready").await;
    let signal = libc::SIGUSR1;
    assert_eq!(world.command(Command::Kill { signal }).await, None);
    output.until("usr1").await;
    let stop = Command::Stop {
        signal: libc::SIGTERM,
        timeout_s: Some(20),
    };
    assert_eq!(world.command(stop).await, None);
    let (status, logs) = world.exited().await;
    assert_eq!(status.code, 9);
    let records = world.records(logs).await;
    assert_eq!(text(&records, OutputStream::Stdout), "ready\nusr1\nbye\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_and_what_is_no_signal() {
    let world = World::new().await;
    world.invoke(container(&["sleep", "100"]));
    assert!(matches!(world.report().await, Report::Started { .. }));
    let refused = world.command(Command::Kill { signal: 99 }).await;
    assert_eq!(refused.as_deref(), Some("Invalid signal: 99"));
    let signal = libc::SIGKILL;
    assert_eq!(world.command(Command::Kill { signal }).await, None);
    assert_eq!(world.exited().await.0.code, 137);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_comes_twice_is_done_once() {
    let world = World::new().await;
    let script =
        "trap 'echo usr1' USR1; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let invocation = world.invoke(sh(script));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut output = client.open(attach()).await.unwrap();
    output.until("ready").await;
    let kill = Command::Kill {
        signal: libc::SIGUSR1,
    };
    for times in 1..=3 {
        world.gateway.send_command(77, kill.clone());
        while world.gateway.done_count(77) < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    output.until("usr1").await;
    let signal = libc::SIGTERM;
    world.command(Command::Kill { signal }).await;
    let records = world.records(world.exited().await.1).await;
    assert_eq!(text(&records, OutputStream::Stdout), "ready\nusr1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_stops_everything_and_unpause_lets_it_go_on() {
    let world = World::new().await;
    world.invoke(sh("(while :; do date +%s%N; sleep 0.02; done) & sleep 100"));
    assert!(matches!(world.report().await, Report::Started { .. }));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.command(Command::Pause).await, None);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(world.command(Command::Unpause).await, None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let signal = libc::SIGKILL;
    world.command(Command::Kill { signal }).await;
    let records = world.records(world.exited().await.1).await;
    let times: Vec<u64> = text(&records, OutputStream::Stdout)
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest > Some(1_300_000_000), "{widest:?} in {times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_limit_ends_a_container_and_is_named() {
    let world = World::new().await;
    // Half of a short time is kept for the end.
    let limit = Duration::from_secs(4);
    world.invoke_for(
        sh("trap 'echo late; exit 5' TERM; while :; do sleep 0.05; done"),
        limit,
    );
    let (status, logs) = world.exited().await;
    assert!(status.time_limit);
    assert_eq!(status.code, 5);
    let records = world.records(logs).await;
    assert_eq!(text(&records, OutputStream::Stdout), "late\n");
    assert!(world.answer().await.ok);

    world.invoke_for(container(&["sleep", "100"]), limit);
    let (status, _) = world.exited().await;
    assert!(status.time_limit);
    assert_eq!(status.code, 137);
    assert!(world.answer().await.ok);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_one_run_is_left_for_the_next() {
    // The agent, the shell, ls and grep.
    leaves_nothing(&World::new().await, 4).await;
}

/// Then it cannot kill everybody at once, and adopts orphans all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_either_when_the_agent_is_not_process_1() {
    leaves_nothing(&World::as_a_child().await, 5).await;
}

async fn leaves_nothing(world: &World, processes: u32) {
    // A daemon in a session of its own with another parent, a process that
    // ignores every signal it can, files of every kind.
    let first = sh("mkdir -p /tmp/a/b; echo x > /tmp/a/b/c; chmod 0 /tmp/a/b; ln -s / /tmp/link; touch /tmp/.hidden
        (setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000' >/dev/null 2>&1 &)
        (sleep 1000 &) ; exit 3");
    let begun = Instant::now();
    assert_eq!(world.run(first).await.0, 3);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let (code, out, err) = world
        .run(sh("ls -A /tmp; ls /proc | grep -c '^[0-9]'; exit 4"))
        .await;
    assert_eq!(
        (code, out, err),
        (4, format!("{processes}\n"), String::new())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_goes_to_the_blob_store_if_need_be_at_the_second_attempt() {
    let world = World::new().await;
    world
        .server
        .refuse_blobs(&[http::StatusCode::SERVICE_UNAVAILABLE]);
    world.invoke(sh(
        "head -c 3000000 /dev/urandom | tee /proc/self/fd/2 | cksum > /tmp/sum; cat /tmp/sum",
    ));
    let (status, logs) = world.exited().await;
    assert_eq!(status.code, 0);
    assert!(matches!(logs, LogSpool::Uploaded { bytes } if bytes > 2_900_000));
    let records = world.records(logs).await;
    assert_eq!(bytes(&records, OutputStream::Stderr).len(), 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_stored_is_reported_lost() {
    let world = World::new().await;
    world.server.refuse_blobs(&[http::StatusCode::FORBIDDEN]);
    world.invoke(sh("head -c 300000 /dev/urandom"));
    let (status, logs) = world.exited().await;
    assert_eq!(status.code, 0);
    let LogSpool::Lost { reason } = logs else {
        panic!("{logs:?}");
    };
    assert!(reason.contains("403"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_is_no_invocation_is_an_error_and_the_agent_goes_on() {
    let world = World::new().await;
    let limit = Duration::from_secs(60);
    for payload in ["", "{}", "[1", "{\"token\":\"secret\"}", "\u{0}"] {
        world.server.invoke(payload.into(), limit);
        let answer = world.answer().await;
        assert!(!answer.ok);
        assert!(!answer.body.contains("secret"), "{answer:?}");
    }
    assert_eq!(world.run(sh("exit 3")).await.0, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_delivery_of_an_invocation_ends_quietly() {
    let world = World::new().await;
    let invocation = world.invocation(sh("echo must not run > /tmp/ran"));
    world.gateway.claim(&invocation.run);
    let payload = serde_json::to_vec(&invocation).unwrap();
    world.server.invoke(payload, Duration::from_secs(60));
    let answer = world.answer().await;
    assert!(answer.ok && answer.body.contains("not-ours"), "{answer:?}");
    assert_eq!(world.run(sh("ls -A /tmp")).await.1, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_of_its_own_has_the_containers_name_and_keeps_its_files() {
    let world = World::new().await;
    let mut spec = sh("hostname; touch /tmp/kept");
    spec.runtime = Runtime::Microvm;
    spec.hostname = "box".to_owned();
    assert_eq!(world.run(spec).await.1, "box\n");
    assert_eq!(world.run(sh("ls /tmp")).await.1, "kept\n");
}

/// From the payload to the process, the claim's round trip included. The
/// program of tests is not optimised; the bound is for the machine's load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_starts_at_once() {
    let world = World::new().await;
    let mut times = Vec::new();
    for _ in 0..10 {
        let begun = Instant::now();
        world.invoke(container(&["true"]));
        assert!(matches!(world.report().await, Report::Started { .. }));
        times.push(begun.elapsed());
        world.exited().await;
        world.answer().await;
    }
    times.sort_unstable();
    assert!(times[5] < Duration::from_millis(100), "{times:?}");
    println!("payload to process: {times:?}");
}
