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
    subject.docker(&["load", "--input", &subject.fixture("user.tar")]);
    let script = "id -u; grep CapEff /proc/self/status";
    let second = subject.docker(&["run", "--rm", "--entrypoint", "sh", "user", "-c", script]);
    assert_eq!(first, second);
    // What a client itself asks for is refused, not passed over.
    let (code, _, stderr) =
        subject.try_docker(&["run", "--rm", "--user", "app", "busybox", "true"]);
    assert_eq!(code, Some(125));
    assert!(stderr.contains("--runtime microvm"), "{stderr}");
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
    // What is in /tmp and how many processes there are, before it leaves some of both.
    let script = "ls -A /tmp; ls -d /proc/[0-9]* | wc -l; echo x > /tmp/left; (sleep 1000 &)";
    let first = sh(&subject, script);
    assert_eq!(first.0, Some(0), "{first:?}");
    for _ in 0..3 {
        assert_eq!(sh(&subject, script), first);
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

/// Runs a shell's script as a microvm.
fn microvm(subject: &Subject, script: &str) -> (Option<i32>, String, String) {
    subject.try_docker(&[
        "run",
        "--rm",
        "--runtime",
        "microvm",
        "busybox",
        "sh",
        "-c",
        script,
    ])
}

#[test]
fn the_other_runtimes_main_process_is_process_1() {
    let subject = Subject::start(Runtime::Microvm);
    // The kernel shields it from its own processes, and it sees nobody else's.
    let cases = [
        ("kill -TERM $$; kill -KILL $$; exit 3", 3, ""),
        ("echo $$; echo /proc/[0-9]*", 0, "1\n/proc/1\n"),
        ("tr '\\0' '\\n' < /proc/1/environ | grep -c AWS_", 1, "0\n"),
        (
            "mkfifo /go; (sh -c 'read x < /go; cut -d\" \" -f4 /proc/$$/stat > /p; mv /p /parent' &); \
             echo > /go; while ! [ -e /parent ]; do :; done; cat /parent",
            0,
            "1\n",
        ),
    ];
    for (script, code, stdout) in cases {
        let (got, out, err) = microvm(&subject, script);
        assert_eq!((got, out.as_str()), (Some(code), stdout), "{script}: {err}");
    }
}

#[test]
fn a_paused_container_does_nothing_and_notices_nothing() {
    let mut subject = Subject::start(Runtime::Microvm);
    let count = "trap 'echo noticed' CONT; i=0; while :; do i=$((i+1)); echo $i > /count; done";
    subject.docker(&[
        "run", "--detach", "--name", "busy", "busybox", "sh", "-c", count,
    ]);
    // What the container wrote last, as this machine sees it.
    let find = |subject: &Subject| {
        let output = std::process::Command::new("find")
            .arg(subject.folder())
            .args(["-path", "*/upper/count"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let mut file = find(&subject);
    while file.is_empty() && std::time::Instant::now() < deadline {
        file = find(&subject);
    }
    subject.docker(&["pause", "busy"]);
    let first = std::fs::read_to_string(&file).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    subject.docker(&["unpause", "busy"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&file).unwrap() == first {
        assert!(std::time::Instant::now() < deadline, "it does not go on");
    }
    assert_eq!(subject.docker(&["logs", "busy"]), "");
    // Neither the end of the daemon nor its death leaves anything that is stopped.
    subject.docker(&["pause", "busy"]);
    subject.kill();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let runs = || {
        let mut all = std::fs::read_dir("/proc").unwrap().flatten();
        all.any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("trap 'echo noticed' CONT")
        })
    };
    while runs() {
        assert!(std::time::Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    subject.begin();
    subject.docker(&["start", "busy"]);
    subject.docker(&["pause", "busy"]);
    subject.end();
}

#[test]
fn a_function_cannot_be_paused_and_says_what_can() {
    let subject = Subject::start(Runtime::Function);
    subject.docker(&[
        "run", "--detach", "--name", "func", "busybox", "sleep", "1000",
    ]);
    let (code, _, stderr) = subject.try_docker(&["pause", "func"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--runtime microvm"), "{stderr}");
}

#[test]
fn no_device_of_the_machine_can_be_made_inside() {
    let subject = Subject::start(Runtime::Microvm);
    // The first loop device and the machine's memory, wherever root can write.
    for place in ["/dev/x", "/x", "/dev/shm/x", "/t/x"] {
        for numbers in ["b 7 0", "c 1 1"] {
            let script = format!("mknod {place} {numbers} && head -c 1 {place}");
            let (code, _, stderr) = subject.try_docker(&[
                "run",
                "--rm",
                "--tmpfs",
                "/t:dev,exec",
                "busybox",
                "sh",
                "-c",
                &script,
            ]);
            assert_eq!(code, Some(1), "{place}: {stderr}");
            assert!(
                stderr.contains("ermission denied") || stderr.contains("not permitted"),
                "{stderr}"
            );
        }
    }
    let (code, stdout, stderr) = microvm(
        &subject,
        "chmod 0 /dev/null; head -c 3 /dev/zero | wc -c; echo x > /dev/full",
    );
    assert_eq!((code, stdout.as_str()), (Some(1), "3\n"), "{stderr}");
    // What one container does to its devices, no other sees.
    let (_, stdout, _) = microvm(&subject, "stat -c %a /dev/null");
    assert_eq!(stdout, "666\n");
}

#[test]
fn a_link_of_the_container_leads_no_mount_out_of_its_root() {
    let subject = Subject::start(Runtime::Microvm);
    let outside = subject.folder().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = format!("mv /made /moved && ln -s {} /made", outside.display());
    subject.docker(&[
        "run", "--name", "linked", "--tmpfs", "/made/x", "busybox", "sh", "-c", &link,
    ]);
    // The second start finds a link in the place of a folder.
    let (code, _, stderr) = subject.try_docker(&["start", "--attach", "linked"]);
    assert_ne!(code, Some(0), "{stderr}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn an_exec_joins_the_other_runtimes_processes() {
    let subject = Subject::start(Runtime::Microvm);
    subject.docker(&[
        "run", "--detach", "--name", "up", "busybox", "sleep", "1000",
    ]);
    let seen = subject.docker(&[
        "exec",
        "up",
        "sh",
        "-c",
        "tr '\\0' ' ' < /proc/1/cmdline; cut -d' ' -f4 /proc/$$/stat; kill -TERM 1; echo $?",
    ]);
    assert_eq!(seen, "sleep 1000 0\n0\n");
    let (code, ..) = subject.try_docker(&["exec", "up", "nosuch"]);
    assert_eq!(code, Some(127));
    subject.docker(&["pause", "up"]);
    subject.docker(&["unpause", "up"]);
    assert_eq!(subject.docker(&["exec", "up", "echo", "on"]), "on\n");
    subject.docker(&["stop", "--time", "0", "up"]);
    let code = subject.docker(&["inspect", "--format", "{{.State.ExitCode}}", "up"]);
    assert_eq!(code, "137\n");
}

/// What a function's image is made larger by, and what has to run in any image.
#[test]
fn the_agent_is_small_and_needs_nothing_of_its_image() {
    let program = sockerless_tests::engines::own_program().unwrap();
    let agent = std::fs::read(program.with_file_name("sockerless-agent")).unwrap();
    assert!(agent.len() <= 8 << 20, "{} bytes", agent.len());
    // ELF-64, little-endian: where the program headers begin, their size, their number.
    assert_eq!(&agent[..6], b"\x7fELF\x02\x01");
    let number = |at: usize, length: usize| {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(&agent[at..at + length]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (begin, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    const PT_INTERP: usize = 3;
    for index in 0..count {
        assert_ne!(
            number(begin + index * size, 4),
            PT_INTERP,
            "the agent wants a dynamic linker"
        );
    }
}

/// Less than a tick of the kernel's clock, and more than nothing.
#[test]
fn a_process_that_only_sleeps_has_used_a_processor_to_begin() {
    let subject = Subject::start(Runtime::Function);
    for runtime in ["function", "microvm"] {
        let run = ["run", "--detach", "--runtime", runtime, "--name", runtime];
        subject.docker(&[&run[..], &["busybox", "sleep", "1000"]].concat());
        let target = format!("/v1.51/containers/{runtime}/stats?stream=false&one-shot=true");
        let (status, stats) = subject.get(&target);
        assert_eq!(status, 200);
        let used = &stats["cpu_stats"]["cpu_usage"]["total_usage"];
        assert!(used.as_u64().unwrap() > 0, "{runtime}: {stats}");
        subject.docker(&["rm", "--force", runtime]);
    }
    subject.is_well();
}
