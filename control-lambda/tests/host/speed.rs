//! How long things take. Prints; judged by people. `cargo test --features
//! embedded --test host -- --ignored speed` runs it.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use sockerless_control::embedded::host::Policy;
use sockerless_control::ports::function_host::{FunctionShape, Network};

use crate::fixture::{Fixture, function_shape, microvm_shape};
use crate::survival::warden_of;
use crate::trial;

const TURNS: u32 = 40;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("speed", speed).with_ignored_flag(true)]
}

async fn speed() {
    let begun = Instant::now();
    let fixture = Fixture::with(Policy {
        max_idle: 200,
        ..Policy::default()
    })
    .await;
    println!("start of the host: {:?}", begun.elapsed());

    for (what, shape_of) in [
        (
            "function",
            (|turn| FunctionShape {
                memory_mib: 128 + turn,
                ..function_shape()
            }) as fn(u32) -> FunctionShape,
        ),
        ("microvm", |turn| microvm_shape(turn as u8)),
        ("function with network", |turn| FunctionShape {
            memory_mib: 128 + turn,
            network: Network::Outbound,
            architecture: None,
            ..function_shape()
        }),
    ] {
        let mut cold = Vec::new();
        for turn in 0..TURNS {
            let begun = Instant::now();
            let function = fixture.ensure(&shape_of(turn)).await;
            fixture.start(&function, "").await;
            fixture.report().await;
            cold.push(begun.elapsed());
            fixture.end().await;
        }
        print(&format!("{what}: cold, ensure to the agent's report"), cold);
    }

    let function = fixture.function().await;
    fixture.ask(&function, "").await;
    let (mut accepted, mut warm) = (Vec::new(), Vec::new());
    for _ in 0..10 * TURNS {
        // The environment asks again a moment after it has answered.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let begun = Instant::now();
        fixture.start(&function, "").await;
        accepted.push(begun.elapsed());
        fixture.report().await;
        warm.push(begun.elapsed());
        fixture.end().await;
    }
    print("invoke on a warm environment, accepted", accepted);
    print("invoke on a warm environment, to the agent's report", warm);

    let status = format!("/proc/{}/status", warden_of(&fixture.data));
    for line in std::fs::read_to_string(status).unwrap().lines() {
        if line.starts_with("Rss") || line.starts_with("VmRSS") {
            println!("warden: {line}");
        }
    }
    let begun = Instant::now();
    fixture.host.shutdown().await;
    println!(
        "shutdown with {TURNS} idle environments: {:?}",
        begun.elapsed()
    );
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{what}: median {:?}, p90 {:?}, max {:?}",
        at(50),
        at(90),
        at(100)
    );
}
