//! Runs of containers by the real agent: start, exit codes, output, what is left behind.

mod support;

use support::{World, container, sh};

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
