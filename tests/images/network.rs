//! A network of its own, with an address that is not a loopback one.

use std::process::{Child, Command, Stdio};

/// The address of everything in such a network.
pub(crate) const ADDRESS: &str = "10.99.0.1";

/// Ends with the process that holds it.
pub(crate) struct Network(Child);

impl Network {
    pub(crate) fn new() -> Self {
        let script = format!(
            "ip link set lo up && ip address add {ADDRESS}/32 dev lo && echo up && exec cat"
        );
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(holder.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_eq!(line, "up\n", "no network of its own; this needs root");
        Self(holder)
    }

    /// What to write before a command, so that it runs in here.
    pub(crate) fn enter(&self) -> String {
        format!("nsenter --net=/proc/{}/ns/net --", self.0.id())
    }

    /// A program in here.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/proc/{}/ns/net", self.0.id()))
            .arg("--")
            .arg(program);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its input ends, and with it the holder.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
