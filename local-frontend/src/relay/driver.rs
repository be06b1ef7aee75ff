//! Carries texts between the gateway and the rest of the frontend.

use std::time::{Duration, SystemTime};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use sockerless_shared::protocol::VERSION;
use sockerless_shared::protocol::control::{ConnectQuery, ControlToFrontend, FrontendMessage};
use sockerless_shared::quic::Outbox;
use sockerless_shared::timestamp::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::backoff::Backoff;
use super::link::{Dial, Incoming, Link, LinkError, Outgoing};
use super::{Relay, Sources};
use crate::control_plane::ControlPlane;

/// After this long without a text the gateway is asked for one (it closes
/// connections that are idle for 10 minutes), and after as long again as
/// `ANSWER` without one the connection is taken for dead.
const SILENCE: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(20);

/// How often agents are looked after, while there are any.
const TICK: Duration = Duration::from_secs(1);

/// Connects, carries, reconnects. Runs until it is dropped.
pub(super) async fn run(
    relay: &Relay,
    mut sources: Sources,
    control: &dyn ControlPlane,
    dial: &dyn Dial,
) {
    let carry = async {
        let mut backoff = Backoff::new();
        loop {
            let result = match connect(relay, control, dial).await {
                Ok(link) => carry(relay, &mut sources, link, &mut backoff).await,
                Err(error) => Err(error),
            };
            relay.answers.set_connected(false);
            match result {
                Ok(()) => tracing::debug!("relay: the gateway closed the connection"),
                Err(error) => tracing::debug!(%error, "relay: reconnecting"),
            }
            let mut random = [0];
            // Without randomness the waits are merely all alike.
            let _ = getrandom::fill(&mut random);
            tokio::time::sleep(backoff.next(random[0])).await;
        }
    };
    let look_after_agents = async {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            if !relay.agents.is_empty() {
                relay.agents.tick(Instant::now(), wall_clock());
            }
        }
    };
    tokio::join!(carry, look_after_agents);
}

async fn connect(
    relay: &Relay,
    control: &dyn ControlPlane,
    dial: &dyn Dial,
) -> Result<Link, LinkError> {
    let token = control
        .relay_token(relay.peer())
        .await
        .map_err(|error| LinkError(error.to_string()))?;
    dial.dial(ConnectQuery::Frontend {
        peer: relay.peer().clone(),
        token,
        version: VERSION,
    })
    .await
}

/// Carries texts over one connection until it ends.
async fn carry(
    relay: &Relay,
    sources: &mut Sources,
    link: Link,
    backoff: &mut Backoff,
) -> Result<(), LinkError> {
    let Link { outgoing, incoming } = link;
    // Writing must not wait for reading nor the reverse, or two ends that both
    // have too much to say would wait for each other.
    let (silent, silence) = watch::channel(false);
    tokio::select! {
        result = write(relay, sources, outgoing, silence) => result,
        result = read(relay, incoming, silent, backoff) => result,
    }
}

async fn write(
    relay: &Relay,
    sources: &mut Sources,
    mut outgoing: Outgoing,
    mut silence: watch::Receiver<bool>,
) -> Result<(), LinkError> {
    outgoing.send(hello()?).await?;
    relay.answers.set_connected(true);
    for resume in relay.answers.resumes() {
        outgoing.feed(json(&resume)?).await?;
    }
    outgoing.flush().await?;
    relay.endpoint.wake();
    loop {
        let first = tokio::select! {
            biased;
            Some(message) = sources.messages.recv() => json(&message)?,
            () = datagrams(&sources.datagrams) => match sources.datagrams.next().now_or_never() {
                Some(Some(text)) => text,
                Some(None) => return Err(LinkError("the stream endpoint is gone".to_owned())),
                None => continue,
            },
            Ok(()) = silence.changed() => hello()?,
        };
        outgoing.feed(first).await?;
        // What else is there already goes out with it.
        while let Ok(message) = sources.messages.try_recv() {
            outgoing.feed(json(&message)?).await?;
        }
        while let Some(Some(text)) = sources.datagrams.next().now_or_never() {
            outgoing.feed(text).await?;
        }
        outgoing.flush().await?;
    }
}

/// Resolves when there are datagrams, and those that go with them have had their time to come.
async fn datagrams(outbox: &Outbox) {
    let linger = outbox.ready().await;
    if !linger.is_zero() {
        tokio::time::sleep(linger).await;
    }
}

async fn read(
    relay: &Relay,
    mut incoming: Incoming,
    silent: watch::Sender<bool>,
    backoff: &mut Backoff,
) -> Result<(), LinkError> {
    let mut asked = false;
    loop {
        let patience = if asked { ANSWER } else { SILENCE };
        match tokio::time::timeout(patience, incoming.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(text)) => {
                asked = false;
                let text = text?;
                backoff.reset();
                receive(relay, &text);
            }
            Err(_) if asked => {
                return Err(LinkError("the gateway has fallen silent".to_owned()));
            }
            Err(_) => {
                asked = true;
                let _ = silent.send(true);
            }
        }
    }
}

fn receive(relay: &Relay, text: &str) {
    if text.starts_with('d') {
        if let Err(error) = relay.endpoint.deliver(text) {
            tracing::debug!(%error, "relay: a datagram was dropped");
        }
        return;
    }
    let message = match serde_json::from_str(text) {
        Ok(message) => message,
        Err(error) => {
            // A newer control plane may say what this frontend does not know yet.
            tracing::debug!(%error, "relay: a message was not understood");
            return;
        }
    };
    match message {
        ControlToFrontend::Welcome { version } => {
            tracing::debug!(version, "relay: connected");
        }
        ControlToFrontend::Part { answer, seq, part } => relay.answers.deliver(&answer, seq, part),
        ControlToFrontend::Parts { answer, seq, parts } => {
            for (seq, part) in (seq..).zip(parts) {
                relay.answers.deliver(&answer, seq, part);
            }
        }
        ControlToFrontend::NoSuchAnswer { answer } => relay.answers.lost(&answer),
        ControlToFrontend::Undeliverable { peer } => relay.agents.undeliverable(&peer),
        ControlToFrontend::Located { peer, ticket } => relay.agents.located(&peer, ticket),
        ControlToFrontend::PeerGone { peer, crashed } => relay.agents.gone(&peer, crashed),
    }
}

fn hello() -> Result<String, LinkError> {
    json(&FrontendMessage::Hello { version: VERSION })
}

fn json(message: &FrontendMessage) -> Result<String, LinkError> {
    serde_json::to_string(message).map_err(|error| LinkError(error.to_string()))
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sockerless_shared::ids::PeerId;
    use sockerless_shared::quic::Pace;

    use super::*;

    /// Texts near to what the gateway sends: words of the protocol in any order.
    fn nearly_messages() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            "[ -~]{0,20}",
            Just(r#"{"t":"part","answer":""#.to_owned()),
            Just(r#"{"t":"located","peer":""#.to_owned()),
            Just("00112233445566778899aabbccddeeff".to_owned()),
            Just("00112233445566778899aabbccdd".to_owned()),
            Just(r#"","seq":18446744073709551615,"part":{"p":"end"}}"#.to_owned()),
            Just(r#"","seq":0,"part":{"p":"data","data":"!"}}"#.to_owned()),
            Just(r#"","ticket":"a.b.c.1.d"}"#.to_owned()),
            Just("d0000000000000000000000000000.".to_owned()),
            Just(" ".to_owned()),
        ];
        proptest::collection::vec(word, 0..6).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn no_text_of_the_gateway_harms_the_frontend(texts in proptest::collection::vec(nearly_messages(), 1..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let relay = Relay::new(PeerId::from_random([0; 14]), Pace::NEAR).unwrap();
                for text in texts {
                    receive(&relay, &text);
                }
            });
        }
    }
}
