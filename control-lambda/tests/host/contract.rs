//! What Lambda promises to a function and refuses it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use libtest_mimic::Trial;
use sockerless_control::embedded::host::Policy;
use sockerless_control::ports::FunctionHost;
use sockerless_control::ports::function_host::{FunctionShape, HostError, InvocationEnd};
use sockerless_shared::ids::RunId;

use crate::every_host::{self, Place, host_cases};
use crate::fixture::{Fixture, answer, function_shape};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an_invocation_goes_there_and_back", there_and_back),
        trial("an_environment_is_used_again", used_again),
        trial("only_tmp_is_writable_and_limited", only_tmp_is_writable),
        trial("a_function_is_one_user_without_privileges", one_user),
        trial("a_function_has_no_terminals_and_no_shm", no_terminals),
        trial("two_functions_listen_on_the_same_port", same_port),
        trial(
            "a_function_without_network_has_loopback_only",
            loopback_only,
        ),
        trial("open_files_are_limited", open_files),
        trial("the_time_limit_ends_an_invocation", time_limit),
        trial("the_memory_limit_ends_an_invocation", memory_limit),
        trial("a_child_killed_for_memory_is_told_too", child_out_of_memory),
        trial("an_agent_that_ends_has_crashed", crash),
        trial("an_agent_that_reports_an_error_has_crashed", reported_error),
        trial(
            "invocations_at_the_same_time_have_their_own",
            at_the_same_time,
        ),
        trial("idle_environments_are_reclaimed", reclaimed),
        trial("a_deleted_function_cannot_be_invoked", deleted),
        trial("what_was_written_is_found_by_run", operator_log),
    ]
}

struct Local(Fixture);

#[async_trait(?Send)]
impl Place for Local {
    fn host(&self) -> &dyn FunctionHost {
        &self.0.host
    }

    fn shape(&self) -> FunctionShape {
        function_shape()
    }

    async fn settle(&self) {}
}

macro_rules! trials {
    ($($case:ident,)*) => {
        vec![$(
            trial(concat!("every_host::", stringify!($case)), || async {
                every_host::$case(&Local(Fixture::new().await)).await;
            }),
        )*]
    };
}

/// What every host does.
pub(crate) fn trials_of_every_host() -> Vec<Trial> {
    host_cases!(trials)
}

async fn there_and_back() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let report = fixture
        .ask(&function, "say hello\nheaders\nenvironment")
        .await;
    assert_eq!(answer(&report, "say hello"), "said");
    for header in [
        "lambda-runtime-aws-request-id",
        "lambda-runtime-deadline-ms",
        "lambda-runtime-invoked-function-arn",
        "lambda-runtime-trace-id",
    ] {
        assert!(report.contains(header), "{header} in {report}");
    }
    let environment = answer(&report, "environment");
    for variable in [
        r#"("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")"#.to_owned(),
        format!(r#"("AWS_LAMBDA_FUNCTION_NAME", "{function}")"#),
        r#"("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")"#.to_owned(),
    ] {
        assert!(environment.contains(&variable), "{variable} in {report}");
    }
    assert!(!environment.contains("CARGO"), "{report}");
}

async fn used_again() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    for turn in 1..=3 {
        let report = fixture.ask(&function, "").await;
        assert!(report.starts_with(&format!("served {turn}\n")), "{report}");
    }
}

async fn only_tmp_is_writable() {
    let fixture = Fixture::new().await;
    // What is in /tmp counts as memory.
    let shape = FunctionShape {
        memory_mib: 1024,
        ..function_shape()
    };
    let function = fixture.ensure(&shape).await;
    let report = fixture
        .ask(
            &function,
            "write /x y\nwrite /dev/x y\nwrite /proc/self/oom_score_adj 0\n\
             write /etc/hosts y\nwrite /tmp/x y\nread /tmp/x\nfill /tmp/big 600",
        )
        .await;
    for path in ["/x", "/dev/x", "/proc/self/oom_score_adj", "/etc/hosts"] {
        let command = if path.ends_with("adj") {
            format!("write {path} 0")
        } else {
            format!("write {path} y")
        };
        let answer = answer(&report, &command);
        assert!(answer.starts_with("error Read-only"), "{report}");
    }
    assert_eq!(answer(&report, "read /tmp/x"), "\"y\"");
    assert!(
        answer(&report, "fill /tmp/big 600").starts_with("error No space"),
        "{report}"
    );
}

async fn one_user() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let report = fixture
        .ask(
            &function,
            "read /proc/self/status\nsetuid 0\nunshare-user\nread /proc/self/mounts",
        )
        .await;
    let status = answer(&report, "read /proc/self/status");
    for line in [
        r"Pid:\t1\n",
        r"Uid:\t993\t993\t993\t993\n",
        r"Gid:\t990\t990\t990\t990\n",
        r"CapInh:\t0000000000000000\n",
        r"CapPrm:\t0000000000000000\n",
        r"CapEff:\t0000000000000000\n",
        r"CapBnd:\t0000000000000000\n",
        r"CapAmb:\t0000000000000000\n",
        r"NoNewPrivs:\t1\n",
        r"SigBlk:\t0000000000000000\n",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    for command in ["setuid 0", "unshare-user"] {
        assert!(answer(&report, command).starts_with("error"), "{report}");
    }
    let mounts = answer(&report, "read /proc/self/mounts");
    assert!(
        !mounts.contains(&fixture.data.display().to_string()),
        "{mounts}"
    );
}

async fn no_terminals() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let report = fixture.ask(&function, "openpty\nlist /dev").await;
    assert!(answer(&report, "openpty").starts_with("error"), "{report}");
    assert_eq!(
        answer(&report, "list /dev"),
        r#""fd full null random stderr stdin stdout urandom zero""#
    );
}

async fn same_port() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let payload = "listen 8080\nconnect 127.0.0.1:8080\nflush\nwait 1";
    fixture.start(&function, payload).await;
    fixture.start(&function, payload).await;
    for _ in 0..2 {
        let report = fixture.report().await;
        assert!(report.starts_with("served 1\n"), "{report}");
        assert_eq!(answer(&report, "listen 8080"), "ok");
        assert_eq!(answer(&report, "connect 127.0.0.1:8080"), "()");
    }
}

async fn loopback_only() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let report = fixture
        .ask(&function, "connect 192.0.2.1:80\nread /proc/net/dev")
        .await;
    let unreachable = answer(&report, "connect 192.0.2.1:80");
    assert!(unreachable.contains("unreachable"), "{report}");
    let devices = answer(&report, "read /proc/net/dev");
    assert!(
        !devices.contains("eth") && !devices.contains("tap"),
        "{report}"
    );
}

async fn open_files() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let report = fixture.ask(&function, "open-files").await;
    let opened: u32 = answer(&report, "open-files").parse().unwrap();
    assert!((1000..1024).contains(&opened), "{report}");
}

async fn time_limit() {
    let fixture = Fixture::with(Policy {
        time_limit: Duration::from_secs(1),
        ..Policy::default()
    })
    .await;
    let function = fixture.function().await;
    let begun = std::time::Instant::now();
    let end = fixture.run(&function, "children\nwait 60").await;
    assert_eq!(end, InvocationEnd::TimedOut { limit_s: 1 });
    assert!(begun.elapsed() < Duration::from_secs(5));
    // The next invocation has an environment of its own.
    let report = fixture.ask(&function, "").await;
    assert!(report.starts_with("served 1\n"), "{report}");
}

async fn memory_limit() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let end = fixture.run(&function, "allocate 256").await;
    assert_eq!(end, InvocationEnd::OutOfMemory { limit_mib: 128 });
    let report = fixture.ask(&function, "allocate 64").await;
    assert_eq!(answer(&report, "allocate 64"), "allocated");
}

async fn child_out_of_memory() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let end = fixture
        .run(&function, "allocate-in-child 256\nread /proc/vmstat")
        .await;
    assert_eq!(end, InvocationEnd::OutOfMemory { limit_mib: 128 });
    // The agent lives, and can see what happened as it would in Lambda.
    let report = fixture.report().await;
    assert!(report.contains("unix_wait_status(9)"), "{report}");
    let vmstat = answer(&report, "read /proc/vmstat");
    assert!(vmstat.contains(r"oom_kill 1\n"), "{report}");
    // The kill before is not held against the next invocation.
    let end = fixture.run(&function, "").await;
    assert_eq!(end, InvocationEnd::Succeeded);
}

async fn crash() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let end = fixture.run(&function, "exit 3").await;
    assert_eq!(
        end,
        InvocationEnd::Crashed {
            reason: "the agent exited with status 3".to_owned()
        }
    );
    let end = fixture.run(&function, "abort").await;
    let InvocationEnd::Crashed { reason } = end else {
        panic!("{end:?}");
    };
    assert!(reason.contains("signal"), "{reason}");
}

async fn reported_error() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let end = fixture
        .run(
            &function,
            r#"answer-error {"errorType":"Agent","errorMessage":"no"}"#,
        )
        .await;
    assert_eq!(
        end,
        InvocationEnd::Crashed {
            reason: "Agent: no".to_owned()
        }
    );
    // Lambda goes on with a runtime that reported an error.
    fixture.report().await;
    let report = fixture.ask(&function, "").await;
    assert!(report.starts_with("served 2\n"), "{report}");
}

async fn at_the_same_time() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    for _ in 0..5 {
        fixture.start(&function, "flush\nwait 1").await;
    }
    for _ in 0..5 {
        let report = fixture.report().await;
        assert!(report.starts_with("served 1\n"), "{report}");
    }
    for _ in 0..5 {
        assert_eq!(fixture.end().await.1, InvocationEnd::Succeeded);
    }
}

async fn reclaimed() {
    let fixture = Fixture::with(Policy {
        idle_timeout: Duration::from_millis(200),
        ..Policy::default()
    })
    .await;
    let function = fixture.function().await;
    fixture.ask(&function, "").await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    let report = fixture.ask(&function, "").await;
    assert!(report.starts_with("served 1\n"), "{report}");
}

async fn deleted() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let run = fixture.start(&function, "flush\nwait 1").await;
    fixture.report().await;
    fixture.host.delete(&function).await.unwrap();
    fixture.host.delete(&function).await.unwrap();
    let refused = fixture
        .host
        .invoke(&function, &RunId::from_random([9; 16]), Bytes::new())
        .await;
    assert_eq!(refused, Err(HostError::NoSuchFunction(function.clone())));
    // What ran goes on.
    assert_eq!(fixture.end().await, (run, InvocationEnd::Succeeded));
    assert_eq!(fixture.function().await, function);
}

async fn operator_log() {
    let fixture = Fixture::new().await;
    let function = fixture.function().await;
    let first = fixture.start(&function, "say one\nsay two").await;
    fixture.end().await;
    let second = fixture.start(&function, "say three\nexit 1").await;
    fixture.end().await;
    let log = |run: RunId, limit| {
        let fixture = &fixture;
        async move {
            let bytes = fixture.host.operator_log(&run, None, limit).await.unwrap();
            String::from_utf8(bytes.to_vec()).unwrap()
        }
    };
    assert_eq!(log(first.clone(), 100).await, "one\ntwo\n");
    assert_eq!(log(first, 4).await, "two\n");
    let second = log(second, 1000).await;
    assert!(second.starts_with("three\n"), "{second}");
    assert_eq!(log(RunId::from_random([1; 16]), 100).await, "");
}
