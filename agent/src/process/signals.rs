//! Signals to the container's main process.
//!
//! In Docker the main process is process 1 of its own PID namespace, and the
//! kernel shields such a process: a signal whose action is the default is
//! discarded, whether it comes from inside or outside, except SIGKILL and
//! SIGSTOP from outside (pid_namespaces(7), "The namespace init process").
//! That is why `docker stop` of a plain `sleep` takes ten seconds and ends with
//! 137, and people and scripts count on it. In a microvm it is so here too (see
//! [`super::namespace`]); what follows then changes nothing. In a function, where
//! Lambda allows no namespaces, the main process is a child of the agent in the agent's
//! own, so that the shield is put up again, in [`reaches_main`], for every signal that
//! the agent itself sends, and for the keys of a terminal that are signals. What
//! processes of the container send each other is out of reach.

use std::fs;

use nix::unistd::Pid;

/// How a process treats signals: the masks of `/proc/<pid>/status`, signal n at bit n − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SignalMasks {
    /// Blocked in its first thread.
    pub(crate) blocked: u64,
    /// Ignored.
    pub(crate) ignored: u64,
    /// With a handler.
    pub(crate) caught: u64,
}

impl SignalMasks {
    /// Reads the masks from the text of `/proc/<pid>/status`.
    pub(crate) fn parse(status: &str) -> Option<Self> {
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        Some(Self {
            blocked: mask("SigBlk:")?,
            ignored: mask("SigIgn:")?,
            caught: mask("SigCgt:")?,
        })
    }
}

/// Whether the kernel would let `signal`, sent from outside the namespace, reach
/// a process 1 with these masks (`sig_ignored` in the kernel's `signal.c`).
pub(crate) const fn reaches_main(masks: SignalMasks, signal: i32) -> bool {
    if matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
        return true;
    }
    // Going on after a stop happens whether or not the signal is then discarded.
    if signal == libc::SIGCONT {
        return true;
    }
    if signal < 1 || signal > 64 {
        return false;
    }
    let bit = 1u64 << (signal - 1);
    // A blocked signal stays pending: the process may wait for it (as `tini` does).
    masks.blocked & bit != 0 || (masks.caught & bit != 0 && masks.ignored & bit == 0)
}

/// Sends `signal` to the main process as the kernel would deliver it to a
/// process 1, which it does by itself where the process is one. Discarded signals are no
/// error.
///
/// # Errors
/// When there is no such signal; in the words of Docker.
pub(crate) fn send_to_main(pid: Pid, signal: i32, is_process_1: bool) -> Result<(), String> {
    if !(1..=64).contains(&signal) {
        return Err(format!("Invalid signal: {signal}"));
    }
    if is_process_1 || reaches(pid, signal) {
        send(pid, signal);
    }
    Ok(())
}

/// Whether `signal` reaches the main process `pid`, as it is now.
pub(crate) fn reaches(pid: Pid, signal: i32) -> bool {
    let masks = fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| SignalMasks::parse(&status));
    // Without /proc nothing is known of the masks. Then the signal is sent: a
    // process that ends too early is better than one that cannot be stopped.
    masks.is_none_or(|masks| reaches_main(masks, signal)) || waits_for_signals(pid)
}

/// Whether the process is waiting for signals, as inits do (sigtimedwait(2)): those that
/// it waits for are not shown as blocked meanwhile.
fn waits_for_signals(pid: Pid) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok());
    number == Some(libc::SYS_rt_sigtimedwait)
}

/// Sends a signal. A process that is gone is no error: whoever asked wanted it
/// gone or missed it by a moment.
pub(crate) fn send(pid: Pid, signal: i32) {
    // SAFETY: a plain system call. `nix` does not know real-time signals.
    unsafe {
        libc::kill(pid.as_raw(), signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: u64 = 1 << (libc::SIGTERM - 1);
    const NONE: SignalMasks = SignalMasks {
        blocked: 0,
        ignored: 0,
        caught: 0,
    };

    /// Every signal against every combination of the three masks.
    #[test]
    fn only_handled_and_blocked_signals_and_the_forced_ones_reach_process_1() {
        for signal in 1..=64 {
            let bit = 1u64 << (signal - 1);
            for combination in 0..8u8 {
                let mask = |n: u8| if combination & (1 << n) != 0 { bit } else { 0 };
                let masks = SignalMasks {
                    blocked: mask(0),
                    ignored: mask(1),
                    caught: mask(2),
                };
                let forced = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCONT].contains(&signal);
                let blocked = combination & 1 != 0;
                let handled = combination & 0b110 == 0b100;
                assert_eq!(
                    reaches_main(masks, signal),
                    forced || blocked || handled,
                    "{signal} {masks:?}"
                );
            }
        }
    }

    #[test]
    fn the_masks_of_other_signals_do_not_count() {
        let masks = SignalMasks {
            caught: !TERM,
            blocked: !TERM,
            ..NONE
        };
        assert!(!reaches_main(masks, libc::SIGTERM));
        assert!(reaches_main(masks, libc::SIGINT));
    }

    #[test]
    fn what_is_no_signal_reaches_nobody() {
        let all = SignalMasks {
            blocked: u64::MAX,
            ignored: 0,
            caught: u64::MAX,
        };
        for signal in [i32::MIN, -1, 0, 65, i32::MAX] {
            assert!(!reaches_main(all, signal));
        }
        assert!(send_to_main(Pid::this(), 0, false).is_err());
    }

    #[test]
    fn masks_are_read_from_proc() {
        let status = "Name:\tx\nSigQ:\t0/1\nSigBlk:\t0000000000010000\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004002\nCapInh:\t0\n";
        assert_eq!(
            SignalMasks::parse(status),
            Some(SignalMasks {
                blocked: 0x10000,
                ignored: 0x1000,
                caught: 0x4002,
            })
        );
        assert_eq!(SignalMasks::parse(""), None);
        assert_eq!(
            SignalMasks::parse("SigBlk:\tx\nSigIgn:\t0\nSigCgt:\t0"),
            None
        );
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(SignalMasks::parse(&own).is_some());
    }
}
