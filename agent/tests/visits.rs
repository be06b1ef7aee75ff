//! The files of containers between their runs, with the real agent.

#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod support;

use sockerless_shared::protocol::control::{Command, Deed, Report};
use sockerless_shared::protocol::grant::Operation;
use sockerless_shared::protocol::invocation::Errand;
use sockerless_shared::protocol::kept::Kept;
use sockerless_shared::protocol::stdcopy::OutputStream;
use support::stream::Client;
use support::{World, sh, text};

fn stat(path: &str) -> Operation {
    Operation::PathStat {
        container: "c".to_owned(),
        path: path.to_owned(),
    }
}

fn get(path: &str) -> Operation {
    Operation::ArchiveGet {
        container: "c".to_owned(),
        path: path.to_owned(),
    }
}

fn put(path: &str) -> Operation {
    Operation::ArchivePut {
        container: "c".to_owned(),
        path: path.to_owned(),
        keep_kinds: false,
        owner: None,
    }
}

/// Runs a script, after laying down what was kept if wanted; its output, and what was kept of it.
async fn run(world: &World, script: &str, lay: bool) -> (String, Option<Kept>) {
    world.invoke_with_files(sh(script), Errand::Run, lay);
    let (logs, kept) = loop {
        if let Report::Exited { logs, kept, .. } = world.report().await {
            break (logs, kept);
        }
    };
    world.answer().await;
    let records = world.records(logs).await;
    (text(&records, OutputStream::Stdout), kept)
}

async fn visit(world: &World, operation: Operation, body: &[u8]) -> (u16, String) {
    let invocation = world.invoke_with_files(sh("exit 9"), Errand::Visit, true);
    let client = Client::connect(&world.gateway, &invocation).await;
    let (status, body) = client.ask(operation, body).await;
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// What was done for the client is told, and then the end of the visit.
async fn left_after(world: &World, expected: Deed) {
    let report = world.report().await;
    assert!(
        matches!(&report, Report::Done { deed, .. } if *deed == expected),
        "{report:?}"
    );
    assert_eq!(world.report().await, Report::Left);
    world.answer().await;
}

/// The archive that a visit gives of a file with this content.
async fn archive(world: &World, content: &str) -> Vec<u8> {
    run(world, &format!("printf {content} >/tmp/given"), false).await;
    let (status, body) = visit(world, get("/tmp/given"), b"").await;
    assert_eq!(status, 200);
    left_after(world, Deed::ArchiveSent).await;
    body.into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_run_left_is_there_for_visits_and_for_the_next_run() {
    let world = World::unprivileged().await;
    let (_, kept) = run(
        &world,
        "echo one >/tmp/f; chmod 0 /tmp/f; mkdir /tmp/d",
        false,
    )
    .await;
    assert!(matches!(kept, Some(Kept::Stored { .. })), "{kept:?}");
    assert_eq!(visit(&world, stat("/tmp/f"), b"").await.0, 200);
    // No process ran, and nothing else is said.
    assert_eq!(world.report().await, Report::Left);
    world.answer().await;
    assert_eq!(visit(&world, stat("/tmp/none"), b"").await.0, 404);
    assert_eq!(world.report().await, Report::Left);
    world.answer().await;
    let script = "stat -c %a /tmp/f; chmod 600 /tmp/f; cat /tmp/f; ls /tmp; rm -r /tmp/*";
    let (out, kept) = run(&world, script, true).await;
    assert_eq!(out, "0\none\nd\nf\n");
    assert_eq!(kept, Some(Kept::Nothing));
    // Without an archive to lay down, nothing is there.
    let (out, _) = run(&world, "ls /tmp", false).await;
    assert_eq!(out, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_recorded_before_the_client_is_told_or_does_not_count() {
    let world = World::unprivileged().await;
    let tar = archive(&world, "new").await;
    run(&world, "echo old >/tmp/old", false).await;
    assert_eq!(visit(&world, put("/tmp"), &tar).await, (200, String::new()));
    let report = world.report().await;
    assert!(
        matches!(
            &report,
            Report::Changed {
                kept: Kept::Stored { .. }
            }
        ),
        "{report:?}"
    );
    left_after(&world, Deed::ArchiveExtracted).await;
    let (out, _) = run(&world, "cat /tmp/old /tmp/given", true).await;
    assert_eq!(out, "old\nnew");
    world.gateway.refuse_changes();
    let (status, message) = visit(&world, put("/tmp"), &tar).await;
    assert_eq!(
        (status, message.contains("too late")),
        (409, true),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_that_cannot_be_laid_down_is_an_error_and_not_an_empty_folder() {
    let world = World::unprivileged().await;
    // Nothing was ever stored there: no archive.
    world.server.hold(b"garbage".to_vec());
    let (status, message) = visit(&world, stat("/tmp"), b"").await;
    assert_eq!(status, 500);
    assert!(message.contains("could not be laid down"), "{message}");
    assert_eq!(world.report().await, Report::Left);
    world.answer().await;
    world.invoke_with_files(sh("true"), Errand::Run, true);
    let Report::StartFailed { failure, .. } = world.report().await else {
        panic!("it started without its files")
    };
    assert!(
        failure.message.contains("could not be laid down"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_is_kept_is_told_by_its_size() {
    let world = World::unprivileged().await;
    // Sparse: it takes no room, and is as large as it says all the same.
    let script = "dd if=/dev/zero of=/tmp/big bs=1 count=1 seek=200M 2>/dev/null";
    let (_, kept) = run(&world, script, false).await;
    let bytes = 200 * 1024 * 1024 + 1;
    assert_eq!(kept, Some(Kept::TooMuch { bytes, entries: 1 }));
}

/// The container's end is known to its agent, and not recorded yet, when the command comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_is_stored_although_the_container_ends_in_that_moment() {
    let world = World::with_layers().await;
    world.gateway.keep_back_exits(true);
    world.invoke(sh("exit 3"));
    assert_eq!(world.exited().await.0.code, 3);
    let upload_url = format!("http://{}/blob", world.server.authority);
    world
        .gateway
        .send_command(7, Command::StoreLayer { upload_url });
    let stored = Report::LayerStored {
        command: 7,
        error: None,
    };
    assert_eq!(world.report().await, stored);
    assert!(!world.server.blob().is_empty());
    world.gateway.keep_back_exits(false);
    assert!(world.answer().await.body.contains("finished"));
}
