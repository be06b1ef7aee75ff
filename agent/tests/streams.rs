//! Attach, exec and logs over QUIC, with the real agent.

#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod support;

use std::time::{Duration, Instant};

use sockerless_shared::ids::ExecId;
use sockerless_shared::logs::LogQuery;
use sockerless_shared::protocol::control::{Command, Report};
use sockerless_shared::protocol::grant::Operation;
use sockerless_shared::quic::CLIENT_GONE;
use sockerless_shared::spec::{ConsoleSize, ContainerSpec, ProcessSpec};
use support::stream::{Client, attach, sign};
use support::{World, container, process, random, sh};
use tokio::time::sleep;

/// A container whose stdin is open.
fn open(mut spec: ContainerSpec) -> ContainerSpec {
    spec.process.open_stdin = true;
    spec
}

/// As `docker run -i`.
fn interactive(spec: ContainerSpec) -> ContainerSpec {
    let mut spec = open(spec);
    spec.stdin_once = true;
    spec
}

/// As `docker run -it`.
fn on_terminal(spec: ContainerSpec) -> ContainerSpec {
    let mut spec = interactive(spec);
    spec.process.tty = true;
    spec
}

fn exec(process: ProcessSpec) -> (ExecId, Operation) {
    let exec = ExecId::from_random(random());
    let operation = Operation::Exec {
        exec: exec.clone(),
        stdin: process.open_stdin,
        process,
        stdout: true,
        stderr: true,
        detach_keys: Vec::new(),
        framed: false,
    };
    (exec, operation)
}

async fn end(world: &World) {
    let signal = libc::SIGKILL;
    world.command(Command::Kill { signal }).await;
    world.exited().await;
    world.answer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stdin_to_its_end_and_everything_back() {
    let world = World::new().await;
    let invocation = world.invoke(interactive(sh("cat; echo end >&2; exit 3")));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    let sent: Vec<u8> = (0..300_000u32).flat_map(u32::to_be_bytes).collect();
    stream.send_all(&sent).await;
    let (out, err) = stream.frames().await;
    assert!(out == sent);
    assert_eq!(err, b"end\n");
    // Recorded, then closed.
    assert_eq!(world.exited().await.0.code, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_ends_after_the_exit_is_recorded() {
    let world = World::new().await;
    let invocation = world.invoke(sh("sleep 0.2; exit 5"));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    stream.frames().await;
    let reports = std::iter::from_fn(|| world.gateway.try_report()).collect::<Vec<_>>();
    assert!(
        matches!(reports.last(), Some(Report::Exited { status, .. }) if status.code == 5),
        "{reports:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_stdin_once_the_end_of_input_detaches() {
    let world = World::new().await;
    let invocation = world.invoke(open(sh("read line; echo got $line; read line; echo $line")));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut first = client.open(attach()).await.unwrap();
    first.send.write_all(b"one\n").await.unwrap();
    assert!(first.until("got one").await.contains("got one"));
    first.send.finish().unwrap();
    first.frames().await;
    let mut second = client.open(attach()).await.unwrap();
    second.send.write_all(b"two\n").await.unwrap();
    assert_eq!(second.frames().await.0, b"got one\ntwo\n");
    assert_eq!(world.exited().await.0.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_ends_a_stdin_that_is_open_once() {
    let world = World::new().await;
    let invocation = world.invoke(interactive(sh("cat; echo end of input; exit 6")));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    stream.send.write_all(b"x\n").await.unwrap();
    stream.until("x\n").await;
    stream.send.reset(CLIENT_GONE).unwrap();
    stream.recv.stop(CLIENT_GONE).unwrap();
    let (status, logs) = world.exited().await;
    assert_eq!(status.code, 6);
    let records = world.records(logs).await;
    let log = support::text(
        &records,
        sockerless_shared::protocol::stdcopy::OutputStream::Stdout,
    );
    assert_eq!(log, "x\nend of input\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn detach_keys_leave_the_container_alone() {
    let world = World::new().await;
    let invocation = world.invoke(on_terminal(sh("echo ready; cat")));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut operation = attach();
    if let Operation::Attach { detach_keys, .. } = &mut operation {
        *detach_keys = vec![16, 17];
    }
    let mut stream = client.open(operation).await.unwrap();
    stream.until("ready").await;
    stream.send.write_all(&[16, 17]).await.unwrap();
    stream.raw().await;
    sleep(Duration::from_millis(200)).await;
    let mut again = client.open(attach()).await.unwrap();
    again.send.write_all(b"still here\n").await.unwrap();
    again.until("still here\r\nstill here\r\n").await;
    end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_output_begins_at_the_attach() {
    let world = World::new().await;
    let invocation = world.invoke(open(sh("echo before; read line; echo after")));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut all = client.open(attach()).await.unwrap();
    all.until("before").await;
    let mut live = client
        .open(Operation::Attach {
            stdin: false,
            stdout: true,
            stderr: true,
            history: false,
            follow: true,
            detach_keys: Vec::new(),
            raw: false,
        })
        .await
        .unwrap();
    // The history alone, which ends by itself.
    let mut past = client
        .open(Operation::Attach {
            stdin: false,
            stdout: true,
            stderr: true,
            history: true,
            follow: false,
            detach_keys: Vec::new(),
            raw: false,
        })
        .await
        .unwrap();
    assert_eq!(past.frames().await.0, b"before\n");
    all.send.write_all(b"go\n").await.unwrap();
    assert_eq!(live.frames().await.0, b"after\n");
    assert_eq!(all.frames().await.0, b"after\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_every_byte_and_holds_up_nobody() {
    const BYTES: usize = 50_000_000;
    let world = World::new().await;
    let script =
        format!("yes 0123456789abcdefghijklmnopqrstuvwxyz | head -c {BYTES}; cksum < /dev/null");
    let invocation = world.invoke(sh(&script));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut slow = client.open(attach()).await.unwrap();
    let mut quick = client.open(attach()).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let fast = quick.frames().await.0;
    assert!(begun.elapsed() < Duration::from_secs(30));
    let line = b"0123456789abcdefghijklmnopqrstuvwxyz\n";
    let expected: Vec<u8> = line.iter().copied().cycle().take(BYTES).collect();
    assert!(fast[..BYTES] == expected);
    assert_eq!(&fast[BYTES..], b"4294967295 0\n");
    // The process has long ended by now.
    assert_eq!(world.exited().await.0.code, 0);
    sleep(Duration::from_secs(2)).await;
    assert!(slow.frames().await.0 == fast);
    world.answer().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_does_not_hold_the_invocation() {
    let world = World::new().await;
    let invocation = world.invoke(sh("head -c 20000000 /dev/zero"));
    let client = Client::connect(&world.gateway, &invocation).await;
    let _never_read = client.open(attach()).await.unwrap();
    world.exited().await;
    let begun = Instant::now();
    world.answer().await;
    let held = begun.elapsed();
    assert!((9..20).contains(&held.as_secs()), "{held:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_runs_beside_and_its_exit_is_known_first() {
    let world = World::new().await;
    let invocation = world.invoke(container(&["sleep", "100"]));
    let client = Client::connect(&world.gateway, &invocation).await;
    assert!(matches!(world.report().await, Report::Started { .. }));

    let (id, operation) = exec(process(&["sh", "-c", "echo out; echo err >&2; exit 4"]));
    let again = operation.clone();
    let mut stream = client.open(operation).await.unwrap();
    assert_eq!(
        stream.frames().await,
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    let reports: Vec<_> = std::iter::from_fn(|| world.gateway.try_report()).collect();
    assert!(matches!(&reports[0], Report::ExecStarted { exec, .. } if *exec == id));
    assert_eq!(reports[1], Report::ExecExited { exec: id, code: 4 });
    // The same grant does not run it twice.
    assert!(client.open(again).await.is_err());

    let mut cat = process(&["cat"]);
    cat.open_stdin = true;
    let mut stream = client.open(exec(cat).1).await.unwrap();
    stream.send_all(b"through").await;
    assert_eq!(stream.frames().await.0, b"through");
    end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_that_cannot_start_says_so_as_docker_does() {
    let world = World::new().await;
    let invocation = world.invoke(container(&["sleep", "100"]));
    let client = Client::connect(&world.gateway, &invocation).await;
    assert!(matches!(world.report().await, Report::Started { .. }));
    let mut lost = process(&["pwd"]);
    lost.working_dir = "/missing".to_owned();
    let cases = [
        (
            process(&["nosuch"]),
            127,
            r#"exec: "nosuch": executable file not found in $PATH"#,
        ),
        (
            process(&["/etc/passwd"]),
            126,
            r#"exec: "/etc/passwd": permission denied"#,
        ),
        (
            lost,
            127,
            r#"chdir to cwd ("/missing") set in config.json failed: no such file or directory"#,
        ),
    ];
    for (process, code, why) in cases {
        let (id, operation) = exec(process.clone());
        let mut stream = client.open(operation).await.unwrap();
        let sentence = format!(
            "OCI runtime exec failed: exec failed: unable to start container process: {why}"
        );
        let (out, _) = stream.frames().await;
        assert_eq!(String::from_utf8(out).unwrap(), format!("{sentence}\r\n"));
        let reported = world.gateway.try_report();
        assert_eq!(reported, Some(Report::ExecExited { exec: id, code }));

        // Detached, the command is answered with the sentence.
        let (id, operation) = exec(process);
        let grant = sign(&invocation, operation);
        let error = world.command(Command::StartExec { grant }).await;
        assert_eq!(error, Some(sentence));
        let reported = world.gateway.try_report();
        assert_eq!(reported, Some(Report::ExecExited { exec: id, code }));
    }
    end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_exec_runs_without_a_client() {
    let world = World::new().await;
    let invocation = world.invoke(container(&["sleep", "100"]));
    assert!(matches!(world.report().await, Report::Started { .. }));
    let (id, operation) = exec(process(&["sh", "-c", "yes | head -c 1000000; exit 8"]));
    let grant = sign(&invocation, operation);
    assert_eq!(world.command(Command::StartExec { grant }).await, None);
    assert!(matches!(world.report().await, Report::ExecStarted { .. }));
    assert_eq!(
        world.report().await,
        Report::ExecExited { exec: id, code: 8 }
    );
    let refused = world
        .command(Command::StartExec {
            grant: "forged".to_owned(),
        })
        .await;
    assert!(refused.is_some());
    end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_goes_on_when_its_client_is_gone_and_ends_with_the_container() {
    let world = World::new().await;
    let invocation = world.invoke(container(&["sleep", "100"]));
    let client = Client::connect(&world.gateway, &invocation).await;
    assert!(matches!(world.report().await, Report::Started { .. }));
    let script = "yes | head -c 5000000; touch /tmp/went-on; sleep 100";
    let (id, operation) = exec(process(&["sh", "-c", script]));
    let mut stream = client.open(operation).await.unwrap();
    stream.recv.stop(CLIENT_GONE).unwrap();
    stream.send.reset(CLIENT_GONE).unwrap();
    let wait = "while ! [ -e /tmp/went-on ]; do sleep 0.05; done";
    let mut stream = client
        .open(exec(process(&["sh", "-c", wait])).1)
        .await
        .unwrap();
    stream.frames().await;
    let signal = libc::SIGKILL;
    world.command(Command::Kill { signal }).await;
    loop {
        match world.report().await {
            Report::ExecExited { exec, code } if exec == id => {
                assert_eq!(code, 137);
                break;
            }
            Report::Exited { .. } => panic!("the container's end was reported first"),
            _ => {}
        }
    }
    assert_eq!(world.exited().await.0.code, 137);
}

/// As in Docker, what an exec leaves in the background holds its stream for two
/// seconds at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execs_background_does_not_hold_its_stream() {
    let world = World::new().await;
    let invocation = world.invoke(container(&["sleep", "100"]));
    let client = Client::connect(&world.gateway, &invocation).await;
    let begun = Instant::now();
    for background in ["sleep 50", "yes"] {
        let script = format!("{background} & echo hi");
        let operation = exec(process(&["sh", "-c", &script])).1;
        let mut stream = client.open(operation).await.unwrap();
        let (out, _) = stream.frames().await;
        assert!(String::from_utf8_lossy(&out).contains("hi\n"));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_terminal_where_there_is_one() {
    let world = World::new().await;
    let mut spec = on_terminal(sh("tty; stty size; read line; stty size; echo \"<$line>\""));
    let size = |height, width| ConsoleSize { height, width };
    spec.process.console_size = Some(size(33, 44));
    let invocation = world.invoke(spec);
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    let seen = stream.until("33 44\r\n").await;
    assert!(seen.starts_with("/dev/pts/"), "{seen:?}");
    let resize = Command::Resize { size: size(20, 30) };
    assert_eq!(world.command(resize).await, None);
    stream.send.write_all(b"typed\r").await.unwrap();
    let rest = String::from_utf8(stream.raw().await).unwrap();
    assert_eq!(rest, "typed\r\n20 30\r\n<typed>\r\n");
    assert_eq!(world.exited().await.0.code, 0);
}

/// As in Docker, where ^C at `sleep` does nothing and at a shell's command ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_key_reaches_whom_it_would_reach_in_docker() {
    let world = World::new().await;
    let invocation = world.invoke(on_terminal(container(&["sleep", "1"])));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    stream.send.write_all(b"\x03").await.unwrap();
    assert_eq!(stream.raw().await, b"^C");
    assert_eq!(world.exited().await.0.code, 0);
    world.answer().await;

    let script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done";
    let invocation = world.invoke(on_terminal(sh(script)));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    stream.until("ready").await;
    stream.send.write_all(b"\x03").await.unwrap();
    stream.until("caught").await;
    assert_eq!(world.exited().await.0.code, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_terminal_one_can_still_type() {
    let world = World::without_terminals().await;
    let script = "trap 'echo interrupted' INT; read a; echo \"<$a>\"; while ! read b; do :; done; echo \"<$b>\"; cat; echo end >&2";
    let invocation = world.invoke(on_terminal(sh(script)));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    stream.send.write_all(b"onx\x7fe\r").await.unwrap();
    stream.until("<one>\r\n").await;
    stream.send.write_all(b"\x03").await.unwrap();
    stream.until("^Cinterrupted\r\n").await;
    stream.send.write_all(b"two\r").await.unwrap();
    stream.until("two\r\n<two>\r\n").await;
    stream.send.write_all(b"three\r\x04").await.unwrap();
    let rest = String::from_utf8(stream.raw().await).unwrap();
    assert!(rest.ends_with("end\r\n"), "{rest:?}");
    assert_eq!(world.exited().await.0.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_a_running_container() {
    let world = World::new().await;
    let script =
        "for i in 1 2 3 4 5; do echo $i; done; echo err >&2; printf rest; read go; echo; echo 6";
    let invocation = world.invoke(open(sh(script)));
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut attached = client.open(attach()).await.unwrap();
    attached.until("rest").await;
    let logs = |query: LogQuery, follow| Operation::Logs { query, follow };

    let mut all = client.open(logs(LogQuery::default(), false)).await.unwrap();
    // A line without its end is no line yet.
    assert_eq!(
        all.frames().await,
        (b"1\n2\n3\n4\n5\n".to_vec(), b"err\n".to_vec())
    );
    let tail = LogQuery {
        tail: Some(2),
        stderr: false,
        raw: true,
        ..LogQuery::default()
    };
    // The last two of all lines, of which one is on the other stream.
    let mut last = client.open(logs(tail.clone(), false)).await.unwrap();
    assert_eq!(last.raw().await, b"5\n");
    let mut followed = client.open(logs(tail, true)).await.unwrap();
    followed.until("5\n").await;
    let until = LogQuery {
        until: Some(support::gateway::now().plus(Duration::from_millis(500))),
        raw: true,
        ..LogQuery::default()
    };
    let mut bounded = client.open(logs(until, true)).await.unwrap();
    let begun = Instant::now();
    bounded.raw().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    attached.send.write_all(b"go\n").await.unwrap();
    assert_eq!(followed.raw().await, b"rest\n6\n");
    assert_eq!(world.exited().await.0.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_grants_for_this_run_are_accepted() {
    let world = World::new().await;
    let invocation = world.invoke(container(&["sleep", "100"]));
    let client = Client::connect(&world.gateway, &invocation).await;
    let other = world.invocation(container(&["true"]));
    let mut forged = invocation.clone();
    forged.grant_key = other.grant_key.clone();
    let mut elsewhere = invocation.clone();
    elsewhere.run = other.run.clone();
    for grant in [
        sign(&forged, attach()),
        sign(&elsewhere, attach()),
        sign(&other, attach()),
        String::new(),
        "nonsense".to_owned(),
        ".".to_owned(),
    ] {
        assert!(client.present(&grant).await.is_err());
    }
    // A stream that never says what it wants, and one that lies about its length.
    let (mut send, _recv) = client.connection.open_bi().await.unwrap();
    send.write_all(&[0xff; 8]).await.unwrap();
    let (mut send, _recv2) = client.connection.open_bi().await.unwrap();
    send.write_all(&[0, 0, 1, 0, b'x']).await.unwrap();
    end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_to_what_could_not_start_ends() {
    let world = World::new().await;
    let invocation = world.invocation(container(&["nosuch"]));
    world.gateway.be_silent(true);
    world.server.invoke(
        serde_json::to_vec(&invocation).unwrap(),
        Duration::from_secs(60),
    );
    let client = Client::connect(&world.gateway, &invocation).await;
    let mut stream = client.open(attach()).await.unwrap();
    world.gateway.be_silent(false);
    assert_eq!(stream.frames().await, (Vec::new(), Vec::new()));
    assert!(matches!(world.report().await, Report::StartFailed { .. }));
}
