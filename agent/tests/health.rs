//! Healthchecks by the real agent: what it tells, and what it keeps to itself.

#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
mod support;

use sockerless_shared::health::{Health, HealthStatus, Healthcheck};
use sockerless_shared::protocol::control::{Command, Report};
use sockerless_shared::spec::ContainerSpec;
use support::{World, process, sh};

fn probed(main: &str, probe: &str) -> ContainerSpec {
    let nanos = |millis: u64| millis * 1_000_000;
    ContainerSpec {
        healthcheck: Some(Healthcheck {
            probe: process(&["sh", "-c", probe]),
            interval_ns: nanos(50),
            timeout_ns: nanos(5_000),
            start_period_ns: 0,
            start_interval_ns: nanos(50),
            retries: 2,
        }),
        ..sh(main)
    }
}

#[allow(clippy::panic)]
async fn verdict(world: &World) -> Health {
    loop {
        match world.report().await {
            Report::Health { health } => return health,
            Report::Started { .. } => {}
            other => panic!("not a verdict: {other:?}"),
        }
    }
}

#[allow(clippy::panic)]
async fn last_words(world: &World) -> Health {
    match world.report().await {
        Report::Exited {
            health: Some(health),
            ..
        } => health,
        other => panic!("not the end of a probed run: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_is_told_when_it_changes_and_the_last_results_at_the_end() {
    let world = World::new().await;
    // Its fifth probe begins to succeed, its tenth ends the container.
    let count = "n=$(cat /tmp/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/tmp/n; echo probe $n; \
                 [ $n -lt 10 ] || touch /tmp/over; [ $n -ge 5 ]";
    world.invoke(probed("until [ -e /tmp/over ]; do sleep 0.01; done", count));
    let unhealthy = verdict(&world).await;
    assert_eq!(unhealthy.status, HealthStatus::Unhealthy);
    assert_eq!(unhealthy.failing_streak, 2);
    let said: Vec<_> = unhealthy
        .results
        .iter()
        .map(|r| r.output.as_str())
        .collect();
    assert_eq!(said, ["probe 1\n", "probe 2\n"]);
    let healthy = verdict(&world).await;
    assert_eq!(healthy.status, HealthStatus::Healthy);
    assert_eq!(healthy.results.last().unwrap().output, "probe 5\n");
    // Nothing is said of the probes between.
    let last = last_words(&world).await;
    assert_eq!(last.results.len(), 5);
    assert!(last.results.iter().all(|result| result.exit_code == 0));
    assert!(world.answer().await.body.contains("finished"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_takes_too_long_is_ended() {
    let world = World::new().await;
    let mut spec = probed(
        "until [ -e /tmp/over ]; do sleep 0.01; done",
        "echo slow; trap 'touch /tmp/over' EXIT; sleep 1000",
    );
    if let Some(check) = &mut spec.healthcheck {
        check.timeout_ns = 300_000_000;
        check.retries = 1;
    }
    world.invoke(spec);
    let health = verdict(&world).await;
    let result = health.results.last().unwrap();
    assert_eq!(result.exit_code, -1);
    assert_eq!(
        result.output,
        "Health check exceeded timeout (300ms): slow\n"
    );
    world.command(Command::Kill { signal: 9 }).await;
    last_words(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_probes_while_that_is_switched_off() {
    let world = World::new().await;
    world.invoke(probed("sleep 1000", "echo >>/tmp/probes"));
    assert_eq!(verdict(&world).await.status, HealthStatus::Healthy);
    world.command(Command::Probe { on: false }).await;
    world.command(Command::Probe { on: true }).await;
    // Unhealthy meanwhile, as the control plane knows; healthy again by the next probe.
    assert_eq!(verdict(&world).await.status, HealthStatus::Healthy);
    world.command(Command::Kill { signal: 9 }).await;
    last_words(&world).await;
}
