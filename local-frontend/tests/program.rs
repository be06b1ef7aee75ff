//! The program as people start it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sockerless");

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn env_prints_a_line_for_the_shell() {
    let output = run(&["env"], &[("XDG_RUNTIME_DIR", "/run/user/it's me")]);
    assert!(output.status.success());
    let evaluated = Command::new("sh")
        .args(["-c", "eval \"$1\"; printf %s \"$DOCKER_HOST\"", "sh"])
        .arg(text(&output.stdout))
        .output()
        .unwrap();
    assert_eq!(
        text(&evaluated.stdout),
        "unix:///run/user/it's me/sockerless.sock"
    );
    let output = run(&["env", "--listen", "tcp://127.0.0.1:2375"], &[]);
    assert_eq!(
        text(&output.stdout),
        "export DOCKER_HOST=tcp://127.0.0.1:2375\n"
    );
}

#[test]
fn help_explains_variables_files_and_exit_status() {
    for arguments in [&["--help"][..], &["local", "--help"]] {
        let output = run(arguments, &[]);
        assert!(output.status.success());
        for word in ["Examples:", "Exit status:"] {
            assert!(text(&output.stdout).contains(word), "{word}");
        }
    }
    let output = run(&["local", "--help"], &[]);
    for word in ["Environment:", "Files:", "--data-dir", "0600", "SIGTERM"] {
        assert!(text(&output.stdout).contains(word), "{word}");
    }
}

#[test]
fn wrong_settings_are_all_named_and_the_status_is_2() {
    let mut arguments = vec!["local"];
    let wrong = [
        ("--listen", "fd://"),
        ("--default-runtime", "vm"),
        ("--shutdown-timeout", "soon"),
        ("--agent", "/nonexistent"),
    ];
    arguments.extend(wrong.iter().flat_map(|(name, value)| [*name, *value]));
    let output = run(&arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    for (name, _) in wrong {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert_eq!(run(&["locl"], &[]).status.code(), Some(2));
}

#[cfg(target_os = "linux")]
mod local {
    use super::*;

    /// `sockerless local` on a folder of its own. Killed, should a test fail.
    struct Local {
        child: Child,
        stderr: BufReader<std::process::ChildStderr>,
    }

    impl Local {
        fn start(folder: &Path) -> Self {
            let mut child = Command::new(PROGRAM)
                .arg("local")
                .args(["--listen", &format!("unix://{}", socket(folder).display())])
                .arg("--data-dir")
                .arg(folder.join("data"))
                .arg("--agent")
                .arg(agent(folder))
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let stderr = BufReader::new(child.stderr.take().unwrap());
            Self { child, stderr }
        }

        /// Waits until it says that it is ready.
        fn ready(&mut self) {
            let mut said = String::new();
            while !said.contains("sockerless: ready on unix://") {
                let read = self.stderr.read_line(&mut said).unwrap();
                assert!(read > 0, "not ready: {said}");
            }
        }

        fn signal(&self, signal: nix::sys::signal::Signal) {
            let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
            nix::sys::signal::kill(pid, signal).unwrap();
        }

        /// Exit status, and what was said on stderr.
        fn end(mut self) -> (Option<i32>, String) {
            let mut said = String::new();
            self.stderr.read_to_string(&mut said).unwrap();
            (self.child.wait().unwrap().code(), said)
        }
    }

    impl Drop for Local {
        fn drop(&mut self) {
            // Ended already, unless a test failed.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn socket(folder: &Path) -> PathBuf {
        folder.join("docker.sock")
    }

    /// A program that is static and does nothing: no container is run here.
    fn agent(folder: &Path) -> PathBuf {
        let path = folder.join("agent");
        let mut head = [0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        std::fs::write(&path, head).unwrap();
        path
    }

    fn ping(folder: &Path) -> String {
        let mut client = UnixStream::connect(socket(folder)).unwrap();
        client
            .write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn it_serves_until_it_is_told_to_end_and_leaves_no_socket() {
        for signal in [
            nix::sys::signal::Signal::SIGTERM,
            nix::sys::signal::Signal::SIGINT,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut local = Local::start(folder.path());
            local.ready();
            assert!(ping(folder.path()).ends_with("\r\n\r\nOK"));

            let mut second = Command::new(PROGRAM);
            second
                .args(["local", "--listen"])
                .arg(format!("unix://{}", socket(folder.path()).display()))
                .arg("--data-dir")
                .arg(folder.path().join("other"))
                .arg("--agent")
                .arg(agent(folder.path()));
            let second = second.output().unwrap();
            assert_eq!(second.status.code(), Some(1));
            assert!(text(&second.stderr).contains("in use"));

            local.signal(signal);
            let (code, said) = local.end();
            assert_eq!(code, Some(0), "{said}");
            assert!(!socket(folder.path()).exists());
        }
    }

    #[test]
    fn what_it_left_behind_when_it_was_killed_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let mut local = Local::start(folder.path());
        local.ready();
        local.signal(nix::sys::signal::Signal::SIGKILL);
        local.end();
        assert!(socket(folder.path()).exists());

        let mut local = Local::start(folder.path());
        local.ready();
        assert!(ping(folder.path()).starts_with("HTTP/1.1 200 OK\r\n"));
        local.signal(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(local.end().0, Some(0));
    }
}
