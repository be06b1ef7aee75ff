//! What is said between agent and control plane, as a pure state machine over
//! a relay that loses, repeats and reorders. No clock: every call says when it
//! is, as the time since any fixed point.

use std::collections::BTreeMap;
use std::time::Duration;

use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{AgentMessage, Command, ControlToAgent, Report};

/// How long an answer to a hello or a report is awaited before it is sent
/// again; doubled with every time, up to the second.
const RESEND_FIRST: Duration = Duration::from_secs(2);
const RESEND_MOST: Duration = Duration::from_secs(15);

/// Less than API Gateway's 10 minutes for idle connections.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// How often a connection is probed, and after how much silence it counts as dead.
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(75);

/// The agent's side of the conversation of one run.
#[derive(Debug)]
pub(crate) struct Conversation {
    certificate_sha256: String,
    log_stream: Option<String>,
    connection: Option<Connected>,
    /// Whether the run was ever welcomed: claimed.
    claimed: bool,
    next_seq: u64,
    reports: BTreeMap<u64, Pending>,
    /// Every command that came, with its outcome once there is one.
    commands: BTreeMap<u64, Option<Outcome>>,
    /// Commands whose outcome is to be told (again).
    tell: Vec<u64>,
    /// How many streams the control plane is known to have allowed.
    streams: u64,
}

type Outcome = Option<String>;

#[derive(Debug)]
struct Connected {
    hello: Repeat,
    welcomed: bool,
    heard: Duration,
    pinged: Duration,
    heartbeat: Duration,
}

#[derive(Debug)]
struct Pending {
    report: Report,
    repeat: Repeat,
}

/// When something is to be sent (again).
#[derive(Debug, Clone, Copy)]
struct Repeat {
    due: Duration,
    pause: Duration,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Send {
    /// A message to the control plane.
    Message(AgentMessage),
    /// A WebSocket ping.
    Ping,
}

/// What a message from the control plane means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The run is claimed; said once.
    Claimed,
    /// The report of this number is recorded, or why it does not count; said once for each.
    Recorded(u64, Option<String>),
    /// Do this; said once for each number.
    Do(u64, Command),
    /// Nothing new.
    Nothing,
}

impl Conversation {
    /// Nothing said yet.
    pub(crate) fn new(certificate_sha256: String, log_stream: Option<String>) -> Self {
        Self {
            certificate_sha256,
            log_stream,
            connection: None,
            claimed: false,
            next_seq: 1,
            reports: BTreeMap::new(),
            commands: BTreeMap::new(),
            tell: Vec::new(),
            streams: 0,
        }
    }

    /// How many streams the control plane is known to have allowed.
    pub(crate) const fn streams(&self) -> u64 {
        self.streams
    }

    /// Whether the run was ever welcomed.
    pub(crate) const fn claimed(&self) -> bool {
        self.claimed
    }

    /// There is a connection, a new one: everything unanswered is said again on it.
    pub(crate) fn connected(&mut self, now: Duration) {
        self.connection = Some(Connected {
            hello: Repeat::at(now),
            welcomed: false,
            heard: now,
            pinged: now,
            heartbeat: now,
        });
        for pending in self.reports.values_mut() {
            pending.repeat = Repeat::at(now);
        }
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.connection = None;
    }

    /// Something happened. Returns the report's number.
    pub(crate) fn report(&mut self, report: Report, now: Duration) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let repeat = Repeat::at(now);
        self.reports.insert(seq, Pending { report, repeat });
        seq
    }

    /// A command was carried out, or why it was not.
    pub(crate) fn done(&mut self, id: u64, outcome: Outcome) {
        self.commands.insert(id, Some(outcome));
        self.tell.push(id);
    }

    /// Anything came in, be it a pong.
    pub(crate) fn heard(&mut self, now: Duration) {
        if let Some(connection) = &mut self.connection {
            connection.heard = now;
        }
    }

    /// A message came in.
    pub(crate) fn receive(&mut self, message: ControlToAgent) -> Heard {
        match message {
            ControlToAgent::Welcome { .. } => {
                if let Some(connection) = &mut self.connection {
                    connection.welcomed = true;
                }
                if std::mem::replace(&mut self.claimed, true) {
                    Heard::Nothing
                } else {
                    Heard::Claimed
                }
            }
            ControlToAgent::Ack {
                seq,
                streams,
                refused,
            } => {
                self.streams = self.streams.max(streams);
                match self.reports.remove(&seq) {
                    Some(_) => Heard::Recorded(seq, refused),
                    None => Heard::Nothing,
                }
            }
            ControlToAgent::Command { id, command } => match self.commands.get(&id) {
                None => {
                    self.commands.insert(id, None);
                    Heard::Do(id, command)
                }
                // Being carried out; its outcome will be told.
                Some(None) => Heard::Nothing,
                Some(Some(_)) => {
                    self.tell.push(id);
                    Heard::Nothing
                }
            },
        }
    }

    /// What is to be sent now; counts as sent.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Send> {
        let mut out = Vec::new();
        let Some(connection) = &mut self.connection else {
            return out;
        };
        if !connection.welcomed && connection.hello.take(now) {
            out.push(Send::Message(AgentMessage::Hello {
                version: VERSION,
                certificate_sha256: self.certificate_sha256.clone(),
                log_stream: self.log_stream.clone(),
            }));
        }
        if connection.welcomed {
            for (&seq, pending) in &mut self.reports {
                if pending.repeat.take(now) {
                    out.push(Send::Message(AgentMessage::Report {
                        seq,
                        report: pending.report.clone(),
                    }));
                }
            }
            for id in std::mem::take(&mut self.tell) {
                if let Some(Some(error)) = self.commands.get(&id) {
                    out.push(Send::Message(AgentMessage::CommandDone {
                        id,
                        error: error.clone(),
                    }));
                }
            }
        }
        if now >= connection.heartbeat + HEARTBEAT {
            connection.heartbeat = now;
            out.push(Send::Message(AgentMessage::Heartbeat));
        }
        if now >= connection.pinged + PING {
            connection.pinged = now;
            out.push(Send::Ping);
        }
        out
    }

    /// When [`Conversation::due`] will have something next, or the connection
    /// will count as dead, if nothing else happens.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let connection = self.connection.as_ref()?;
        let mut times = vec![
            connection.heartbeat + HEARTBEAT,
            connection.pinged + PING,
            connection.heard + SILENCE,
        ];
        if connection.welcomed {
            times.extend(self.reports.values().map(|pending| pending.repeat.due));
        } else {
            times.push(connection.hello.due);
        }
        times.into_iter().min()
    }

    /// Whether nothing was heard for so long that the connection must be dead.
    pub(crate) fn is_dead(&self, now: Duration) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|connection| now >= connection.heard + SILENCE)
    }

    /// Whether everything that was to be said has been sent at least once, and
    /// every report was answered.
    #[cfg(test)]
    fn is_finished(&self) -> bool {
        self.reports.is_empty() && self.tell.is_empty()
    }
}

impl Repeat {
    const fn at(now: Duration) -> Self {
        Self {
            due: now,
            pause: RESEND_FIRST,
        }
    }

    fn take(&mut self, now: Duration) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + self.pause;
        self.pause = (self.pause * 2).min(RESEND_MOST);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use sockerless_shared::timestamp::Timestamp;

    use super::*;

    fn started() -> Report {
        Report::Started {
            at: Timestamp::from_secs(1),
            pid: 2,
        }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn ack(seq: u64) -> ControlToAgent {
        ControlToAgent::Ack {
            seq,
            streams: 0,
            refused: None,
        }
    }

    fn hello() -> Send {
        Send::Message(AgentMessage::Hello {
            version: VERSION,
            certificate_sha256: "pin".into(),
            log_stream: None,
        })
    }

    fn report(seq: u64) -> Send {
        Send::Message(AgentMessage::Report {
            seq,
            report: started(),
        })
    }

    const WELCOME: ControlToAgent = ControlToAgent::Welcome { version: VERSION };

    #[test]
    fn hello_comes_first_and_until_it_is_answered() {
        let mut talk = Conversation::new("pin".into(), None);
        assert_eq!(talk.due(secs(0)), []);
        talk.connected(secs(0));
        talk.report(started(), secs(0));
        assert_eq!(talk.due(secs(0)), [hello()]);
        assert_eq!(talk.due(secs(1)), []);
        assert_eq!(talk.due(secs(2)), [hello()]);
        assert_eq!(talk.receive(WELCOME), Heard::Claimed);
        assert_eq!(talk.receive(WELCOME), Heard::Nothing);
        assert_eq!(talk.due(secs(3)), [report(1)]);
    }

    #[test]
    fn reports_are_sent_again_until_acknowledged_and_on_every_connection() {
        let mut talk = Conversation::new("pin".into(), None);
        talk.connected(secs(0));
        talk.receive(WELCOME);
        assert_eq!(talk.report(started(), secs(0)), 1);
        assert_eq!(talk.due(secs(0)), [report(1)]);
        assert_eq!(talk.due(secs(2)), [report(1)]);
        assert_eq!(talk.due(secs(4)), []);
        talk.disconnected();
        assert_eq!(talk.due(secs(9)), []);
        talk.connected(secs(9));
        assert_eq!(talk.due(secs(9)), [hello()]);
        talk.receive(WELCOME);
        assert_eq!(talk.due(secs(9)), [report(1)]);
        assert_eq!(talk.receive(ack(1)), Heard::Recorded(1, None));
        assert_eq!(talk.receive(ack(1)), Heard::Nothing);
        assert!(talk.is_finished());
    }

    #[test]
    fn commands_are_done_once_and_answered_every_time() {
        let mut talk = Conversation::new("pin".into(), None);
        talk.connected(secs(0));
        talk.receive(WELCOME);
        let command = ControlToAgent::Command {
            id: 7,
            command: Command::Pause,
        };
        let done = Send::Message(AgentMessage::CommandDone { id: 7, error: None });
        assert_eq!(talk.receive(command.clone()), Heard::Do(7, Command::Pause));
        assert_eq!(talk.receive(command.clone()), Heard::Nothing);
        assert_eq!(talk.due(secs(0)), []);
        talk.done(7, None);
        assert_eq!(talk.due(secs(0)), std::slice::from_ref(&done));
        assert_eq!(talk.due(secs(1)), []);
        assert_eq!(talk.receive(command), Heard::Nothing);
        assert_eq!(talk.due(secs(1)), [done]);
    }

    #[test]
    fn a_silent_connection_is_probed_and_given_up() {
        let mut talk = Conversation::new("pin".into(), None);
        talk.connected(secs(0));
        talk.receive(WELCOME);
        assert_eq!(talk.due(secs(30)), [Send::Ping]);
        talk.heard(secs(31));
        assert!(!talk.is_dead(secs(100)));
        assert!(talk.is_dead(secs(106)));
        talk.heard(secs(299));
        let due = talk.due(secs(300));
        assert!(
            due.contains(&Send::Message(AgentMessage::Heartbeat)),
            "{due:?}"
        );
    }

    proptest! {
        /// Against a control plane that hears and answers through a relay which
        /// drops, repeats and reorders: in the end every report is recorded and
        /// every command was carried out exactly once.
        #[test]
        fn nothing_is_lost_and_nothing_done_twice(
            chances in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 60..200),
            reports in 0..6u64,
            commands in 0..6u64,
        ) {
            let mut talk = Conversation::new("pin".into(), None);
            let mut recorded = BTreeSet::new();
            let mut told = BTreeSet::new();
            let mut carried_out = Vec::new();
            let mut to_agent: Vec<ControlToAgent> = Vec::new();
            for _ in 0..reports {
                talk.report(started(), secs(0));
            }
            let mut now = secs(0);
            talk.connected(now);
            let calm = std::iter::repeat_n((255, 255, 0), 60);
            for (fate, fate_back, pick) in chances.into_iter().chain(calm) {
                now += secs(1);
                if fate < 8 {
                    talk.disconnected();
                    to_agent.clear();
                    talk.connected(now);
                }
                for id in (1..=commands).filter(|id| !told.contains(id)) {
                    to_agent.push(ControlToAgent::Command { id, command: Command::Pause });
                }
                for send in talk.due(now) {
                    let times = match fate { 8..60 => 0, 60..90 => 2, _ => 1 };
                    for _ in 0..times {
                        match &send {
                            Send::Message(AgentMessage::Hello { .. }) => to_agent.push(WELCOME),
                            Send::Message(AgentMessage::Report { seq, .. }) => {
                                recorded.insert(*seq);
                                to_agent.push(ack(*seq));
                            }
                            Send::Message(AgentMessage::CommandDone { id, .. }) => {
                                told.insert(*id);
                            }
                            Send::Message(AgentMessage::Heartbeat) | Send::Ping => {}
                        }
                    }
                }
                for _ in 0..8 {
                    if to_agent.is_empty() {
                        break;
                    }
                    let message = to_agent.swap_remove(usize::from(pick) % to_agent.len());
                    if fate_back < 60 {
                        continue;
                    }
                    if let Heard::Do(id, _) = talk.receive(message) {
                        carried_out.push(id);
                        talk.done(id, None);
                    }
                }
            }
            prop_assert!(talk.is_finished(), "{talk:?}");
            prop_assert_eq!(recorded, (1..=reports).collect::<BTreeSet<_>>());
            prop_assert_eq!(told, (1..=commands).collect::<BTreeSet<_>>());
            carried_out.sort_unstable();
            prop_assert_eq!(carried_out, (1..=commands).collect::<Vec<_>>());
        }
    }
}
