//! What the runtime `function` takes from a container, as Lambda does, and what
//! Sockerless gives in its place. A real Engine has nothing to compare with here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it did not expect"
)]

use serde_json::json;
use sockerless_tests::http::{Request, fetch};
use sockerless_tests::scenario::Runtime;
use sockerless_tests::subject::Subject;
use std::time::Duration;

fn sh(subject: &Subject, script: &str) -> (Option<i32>, String, String) {
    subject.try_docker(&["run", "--rm", "busybox", "sh", "-c", script])
}

#[test]
fn only_tmp_can_be_written_to() {
    let subject = Subject::start(Runtime::Function);
    for place in ["/file", "/etc/file", "/root/file", "/var/tmp/file"] {
        let (code, ..) = sh(&subject, &format!("echo x > {place}"));
        assert_ne!(code, Some(0), "{place}");
    }
    let (code, stdout, stderr) = sh(&subject, "echo x > /tmp/file && cat /tmp/file");
    assert_eq!((code, stdout.as_str()), (Some(0), "x\n"), "{stderr}");
}

#[test]
fn the_user_is_one_without_privileges_whatever_the_image_says() {
    let subject = Subject::start(Runtime::Function);
    let (_, first, _) = sh(&subject, "id -u; grep CapEff /proc/self/status");
    assert!(!first.starts_with("0\n"), "{first}");
    assert!(first.contains("CapEff:\t0000000000000000"), "{first}");
    let second = subject.docker(&[
        "run",
        "--rm",
        "--user",
        "app",
        "busybox",
        "sh",
        "-c",
        "id -u; grep CapEff /proc/self/status",
    ]);
    assert_eq!(first, second);
}

#[test]
fn nothing_of_the_functions_own_environment_is_seen() {
    let subject = Subject::start(Runtime::Function);
    let seen = subject.docker(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "env; for e in /proc/[0-9]*/environ; do cat $e 2>/dev/null | tr '\\000' '\\n'; done",
    ]);
    for name in ["AWS_", "LAMBDA_", "_HANDLER", "SOCKERLESS"] {
        assert!(!seen.contains(name), "{name} in:\n{seen}");
    }
}

#[test]
fn nothing_is_left_for_the_next_container() {
    let subject = Subject::start(Runtime::Function);
    for _ in 0..3 {
        let (code, stdout, stderr) = sh(
            &subject,
            "ls -A /tmp; echo x > /tmp/left; (sleep 1000 &) ; ps | grep -c '[s]leep 1000'",
        );
        assert_eq!((code, stdout.as_str()), (Some(0), "1\n"), "{stderr}");
    }
}

#[test]
fn a_terminal_is_played_with_a_warning_that_names_the_other_runtime() {
    let subject = Subject::start(Runtime::Function);
    let request = Request {
        method: "POST".to_owned(),
        target: "/v1.51/containers/create".to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: Some(
            json!({"Image": "busybox", "Tty": true})
                .to_string()
                .into_bytes(),
        ),
        chunked: false,
    };
    let (head, body) = fetch(subject.endpoint(), &request, Duration::from_secs(20)).unwrap();
    let created: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(head.status, 201, "{created}");
    let warnings = created["Warnings"].to_string();
    assert!(warnings.contains("--runtime microvm"), "{warnings}");
    let (code, stdout, stderr) =
        subject.try_docker(&["run", "--rm", "-t", "busybox", "echo", "hi"]);
    assert_eq!((code, stdout.as_str()), (Some(0), "hi\r\n"), "{stderr}");
}

#[test]
fn the_other_runtime_has_root_a_writable_root_and_terminals() {
    let subject = Subject::start(Runtime::Function);
    let stdout = subject.docker(&[
        "run",
        "--rm",
        "--runtime",
        "microvm",
        "-t",
        "busybox",
        "sh",
        "-c",
        "id -u; echo x > /file && cat /file; tty",
    ]);
    assert_eq!(stdout, "0\r\nx\r\n/dev/pts/0\r\n");
    let name = subject.docker(&[
        "run",
        "--detach",
        "--runtime",
        "microvm",
        "busybox",
        "sleep",
        "9",
    ]);
    let runtime = subject.docker(&[
        "inspect",
        "--format",
        "{{.HostConfig.Runtime}}",
        name.trim(),
    ]);
    assert_eq!(runtime, "microvm\n");
}
