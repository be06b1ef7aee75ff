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
async fn probe(world: &World) -> Health {
    loop {
        match world.report().await {
            Report::Health { health } => return health,
            Report::Started { .. } => {}
            other => panic!("not a verdict: {other:?}"),
        }
    }
}

/// What is told when the verdict is this.
async fn verdict(world: &World, status: HealthStatus) -> Health {
    loop {
        let health = probe(world).await;
        if health.status == status {
            return health;
        }
    }
}

#[allow(clippy::panic)]
async fn last_words(world: &World) -> Health {
    loop {
        match world.report().await {
            Report::Exited {
                health: Some(health),
                ..
            } => return health,
            Report::Health { .. } => {}
            other => panic!("not the end of a probed run: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_probe_says_is_told_once_and_in_order() {
    let world = World::new().await;
    // Its fifth probe begins to succeed.
    let count = "n=$(cat /tmp/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/tmp/n; echo probe $n; \
                 [ $n -ge 5 ]";
    world.invoke(probed("sleep 1000", count));
    for (number, status, failures) in [
        (1, HealthStatus::Starting, 1),
        (2, HealthStatus::Unhealthy, 2),
        (3, HealthStatus::Unhealthy, 3),
        (4, HealthStatus::Unhealthy, 4),
        (5, HealthStatus::Healthy, 0),
        (6, HealthStatus::Healthy, 0),
    ] {
        let health = probe(&world).await;
        assert_eq!((health.status, health.failing_streak), (status, failures));
        let said: Vec<_> = health.results.iter().map(|r| r.output.clone()).collect();
        assert_eq!(said, [format!("probe {number}\n")]);
    }
    world.command(Command::Kill { signal: 9 }).await;
    assert_eq!(last_words(&world).await.status, HealthStatus::Healthy);
    assert!(world.answer().await.body.contains("finished"));
}

/// Of what was said meanwhile the last results are told with the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_acknowledged_is_told_at_the_end() {
    let world = World::new().await;
    // Its eleventh probe ends the container, and never ends itself.
    let count = "n=$(cat /tmp/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/tmp/n; echo probe $n; \
                 [ $n -lt 11 ] || { touch /tmp/over; sleep 1000; }";
    world.invoke(probed("until [ -e /tmp/over ]; do sleep 0.01; done", count));
    assert_eq!(probe(&world).await.results[0].output, "probe 1\n");
    world.gateway.keep_back_health(true);
    let last = last_words(&world).await;
    let said: Vec<_> = last.results.iter().map(|r| r.output.as_str()).collect();
    let expected: Vec<_> = (6..=10).map(|n| format!("probe {n}\n")).collect();
    assert_eq!(said, expected);
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
    let health = verdict(&world, HealthStatus::Unhealthy).await;
    let result = health.results.last().unwrap();
    assert_eq!(result.exit_code, -1);
    assert_eq!(
        result.output,
        "Health check exceeded timeout (300ms): slow\n"
    );
    assert!(result.started);
    world.command(Command::Kill { signal: 9 }).await;
    last_words(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_probes_while_that_is_switched_off() {
    let world = World::new().await;
    world.invoke(probed("sleep 1000", "echo >>/tmp/probes"));
    verdict(&world, HealthStatus::Healthy).await;
    world.command(Command::Probe { on: false }).await;
    world.command(Command::Probe { on: true }).await;
    // Unhealthy meanwhile, as the control plane knows; healthy again by the next probe.
    verdict(&world, HealthStatus::Healthy).await;
    world.command(Command::Kill { signal: 9 }).await;
    last_words(&world).await;
}
