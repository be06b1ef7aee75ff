//! A request of a Docker client: `METHOD TARGET`, lines of headers, an empty
//! line, and the body.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use sockerless_fuzz::Harness;

thread_local! {
    static HARNESS: RefCell<Option<Harness>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    let (head, body) = data
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .map_or((data, &[][..]), |at| (&data[..at], &data[at + 2..]));
    // What is no text does not pass the parser of HTTP before us.
    let Ok(head) = std::str::from_utf8(head) else {
        return;
    };
    let mut lines = head.lines();
    let Some((method, target)) = lines.next().and_then(|line| line.split_once(' ')) else {
        return;
    };
    // An import from a URL fetches it, and a fuzzer calls nobody.
    if target.contains("fromSrc=") && !target.contains("fromSrc=-&") {
        return;
    }
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    HARNESS.with_borrow_mut(|slot| {
        let mut harness = slot.take().unwrap_or_default();
        harness.request(method, target, headers, body.to_vec());
        *slot = Some(harness.renewed());
    });
});
