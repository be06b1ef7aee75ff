//! What arrives at the relay: the query of a connection, a line's end, and a text.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sockerless_fuzz::Harness;
use sockerless_shared::protocol::control::{
    AgentMessage, ControlToAgent, ControlToFrontend, FrontendMessage,
};
use sockerless_shared::protocol::{relay, stream};

thread_local! {
    static HARNESS: RefCell<Option<Harness>> = const { RefCell::new(None) };
}

/// What was read, written and read again, is the same.
fn read_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(message) = serde_json::from_str::<T>(text) {
        let written = serde_json::to_string(&message).expect("a message can be written");
        assert_eq!(serde_json::from_str::<T>(&written).ok(), Some(message));
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(bytes) = data.first_chunk::<4>() {
        let _ = stream::head_length(*bytes, 64 * 1024);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok((ticket, datagrams)) = relay::decode(text) {
        assert_eq!(
            relay::decode(&relay::encode(&ticket, &datagrams)).ok(),
            Some((ticket, datagrams)),
            "what was read is written as it was"
        );
    }
    read_back::<AgentMessage>(text);
    read_back::<FrontendMessage>(text);
    read_back::<ControlToAgent>(text);
    read_back::<ControlToFrontend>(text);
    let (query, message) = text.split_once('\n').unwrap_or(("", text));
    HARNESS.with_borrow_mut(|slot| {
        let mut harness = slot.take().unwrap_or_default();
        harness.relay(query, message);
        *slot = Some(harness.renewed());
    });
});
