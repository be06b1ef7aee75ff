//! Large numbers: ten thousand containers, a million log lines. The Engine would take an hour
//! for some of it, so that only Sockerless is run.
//!
//! `SOCKERLESS_TEST_CONTAINERS=N`: so many containers (default: 1,000).

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sockerless_tests::http::{Endpoint, Request, fetch};
use sockerless_tests::scenario::{Runtime, query};
use sockerless_tests::subject::Subject;

const LIMIT: Duration = Duration::from_secs(120);
const CONTAINERS: usize = 1_000;
const CLIENTS: usize = 8;
const LINES: usize = 1_000_000;
/// No list takes longer, also by a build that is not optimised.
const LIST_LIMIT: Duration = Duration::from_secs(30);

fn create(endpoint: &Endpoint, number: usize) {
    let body = json!({
        "Image": "busybox",
        "Cmd": ["true"],
        "Labels": {"number": number.to_string(), "last.digit": (number % 10).to_string()},
    });
    let request = Request {
        method: "POST".to_owned(),
        target: format!("/v1.51/containers/create?name=many-{number:05}"),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: Some(body.to_string().into_bytes()),
        chunked: false,
    };
    let (head, body) = fetch(endpoint, &request, LIMIT).unwrap();
    assert_eq!(head.status, 201, "{}", String::from_utf8_lossy(&body));
}

#[test]
fn many_containers_are_listed_and_filtered() {
    let count = std::env::var("SOCKERLESS_TEST_CONTAINERS")
        .map_or(CONTAINERS, |text| text.parse().unwrap());
    let subject = Subject::start(Runtime::Function);
    let endpoint = subject.endpoint();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                for number in (client..count).step_by(CLIENTS) {
                    create(endpoint, number);
                }
            });
        }
    });
    let names = |filters: &Value| {
        let begin = Instant::now();
        let (status, list) = subject.get(&format!(
            "/v1.51/containers/json?all=1&filters={}",
            query(filters)
        ));
        assert_eq!(status, 200);
        assert!(begin.elapsed() < LIST_LIMIT, "{:?}", begin.elapsed());
        list.as_array().unwrap().len()
    };
    assert_eq!(names(&json!({})), count);
    assert_eq!(names(&json!({"status": ["created"]})), count);
    assert_eq!(names(&json!({"status": ["running"]})), 0);
    assert_eq!(names(&json!({"label": ["last.digit=7"]})), count / 10);
    assert_eq!(
        names(&json!({"label": [format!("number={}", count - 1)]})),
        1
    );
    assert_eq!(names(&json!({"name": ["many-0001"]})), 10);
    assert_eq!(names(&json!({"ancestor": ["busybox"]})), count);
    assert_eq!(subject.get("/v1.51/containers/many-00042/json").0, 200);
    let (status, limited) = subject.get("/v1.51/containers/json?limit=3");
    assert_eq!((status, limited.as_array().unwrap().len()), (200, 3));
    subject.is_well();
}

#[test]
fn a_million_lines_are_all_there_in_order() {
    let subject = Subject::start(Runtime::Function);
    let lines = LINES.to_string();
    subject.docker(&[
        "run", "--detach", "--name", "lines", "busybox", "seq", &lines,
    ]);
    assert_eq!(subject.docker(&["wait", "lines"]), "0\n");
    let whole = subject.docker(&["logs", "lines"]);
    let mut count = 0;
    for (expected, line) in (1..).zip(whole.lines()) {
        assert_eq!(line.parse(), Ok(expected));
        count += 1;
    }
    assert_eq!(count, LINES);
    assert_eq!(
        subject.docker(&["logs", "--tail", "2", "lines"]),
        "999999\n1000000\n"
    );
    subject.is_well();
}

/// A record of the table takes no more than DynamoDB's; who brings more is told what to do.
#[test]
fn a_megabyte_of_arguments_gets_a_sentence() {
    let subject = Subject::start(Runtime::Function);
    // Nothing that could be packed.
    let mut random = fastrand::Rng::with_seed(1);
    let arguments: Vec<String> = (0..65_536)
        .map(|_| format!("{:016x}", random.u64(..)))
        .collect();
    let mut command = vec!["echo".to_owned()];
    command.extend(arguments);
    let request = Request {
        method: "POST".to_owned(),
        target: "/v1.51/containers/create?name=large".to_owned(),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        body: Some(
            json!({"Image": "busybox", "Cmd": command})
                .to_string()
                .into_bytes(),
        ),
        chunked: false,
    };
    let (head, body) = fetch(subject.endpoint(), &request, LIMIT).unwrap();
    let body = String::from_utf8_lossy(&body);
    assert_eq!(head.status, 413, "{body}");
    assert!(body.contains("put large values into the image"), "{body}");
    assert_eq!(subject.docker(&["ps", "--all", "--quiet"]), "");
    subject.is_well();
}
