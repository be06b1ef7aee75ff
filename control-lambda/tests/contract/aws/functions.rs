//! [`LambdaHost`]: functions and the rules of their invocations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::aws::functions::{FunctionSettings, LambdaHost, Runnable, RunnableImages};
use sockerless_control::ports::Table;
use sockerless_control::ports::function_host::{Architecture, FunctionShape, HostError, Network};
use sockerless_control::ports::table::{Item, Key, TableError, Write};
use sockerless_control::ports::{Environment as _, FunctionHost};
use sockerless_shared::ids::{ContainerId, ImageDigest, RunId};
use sockerless_shared::protocol::invocation::MAX_PAYLOAD_BYTES;
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;

use super::{Clock, DynamoTable, Sdk, variable};

/// Longer than any of these takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Images that are ready, or have to be made first, which may be impossible.
#[derive(Default)]
struct NamedAfterDigest {
    unready: AtomicBool,
    impossible: bool,
}

#[async_trait]
impl RunnableImages for NamedAfterDigest {
    fn architectures(&self) -> &[Architecture] {
        &Architecture::ALL
    }

    async fn find(&self, image: &ImageDigest, _: Architecture) -> Result<Runnable, HostError> {
        Ok(Runnable {
            uri: format!("example.com/images:{}", &image.hex()[..40]),
            ready: !self.unready.load(Ordering::SeqCst),
        })
    }

    async fn make(&self, _: &ImageDigest, _: Architecture) -> Result<(), HostError> {
        if self.impossible {
            return Err(HostError::Failed("a layer is broken".into()));
        }
        self.unready.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn forget(&self, _: &ImageDigest) {}
}

const WHO_AM_I: &str = "arn:aws:lambda:us-east-1:000000000000:function:who-am-i";

/// A host whose worker is woken in vain: what it is to do, tests have done by
/// [`LambdaHost::work`]. Each test has records of its own.
async fn host(records: &'static str) -> LambdaHost {
    let role = variable("SOCKERLESS_TEST_ROLE");
    host_with(records, role, NamedAfterDigest::default()).await
}

async fn host_with(records: &'static str, role: String, images: NamedAfterDigest) -> LambdaHost {
    host_of(records, settings(role), images).await
}

fn settings(role: String) -> FunctionSettings {
    FunctionSettings {
        role,
        relay_url: "wss://relay.example.com/v1".into(),
        control: WHO_AM_I.into(),
        worker: WHO_AM_I.into(),
        architecture: Architecture::X86_64,
        time_limit_s: 900,
        log_group: "/sockerless/contract/containers".into(),
        subnets: Vec::new(),
        security_groups: Vec::new(),
        tags: BTreeMap::from([("Sockerless".to_owned(), "contract".to_owned())]),
    }
}

async fn host_of(
    records: &'static str,
    settings: FunctionSettings,
    images: NamedAfterDigest,
) -> LambdaHost {
    let sdk = Sdk::from_environment().await;
    LambdaHost::new(
        &sdk,
        Arc::new(Apart {
            table: DynamoTable::new(&sdk, variable("SOCKERLESS_TEST_TABLE")),
            name: records,
        }),
        Arc::new(Clock),
        Arc::new(images),
        settings,
    )
}

/// A part of a table that nobody else sees.
struct Apart {
    table: DynamoTable,
    name: &'static str,
}

impl Apart {
    fn key(&self, key: &Key) -> Key {
        Key::new(format!("{}/{}", self.name, key.partition), key.sort.clone())
    }
}

#[async_trait]
impl Table for Apart {
    async fn get(&self, key: &Key, now: Timestamp) -> Result<Option<Item>, TableError> {
        self.table.get(&self.key(key), now).await
    }

    async fn query(
        &self,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Item>, TableError> {
        let partition = format!("{}/{partition}", self.name);
        self.table
            .query(&partition, prefix, after, limit, now)
            .await
    }

    async fn transact(&self, mut writes: Vec<Write>, now: Timestamp) -> Result<(), TableError> {
        for write in &mut writes {
            match write {
                Write::Put { key, .. } | Write::Delete { key, .. } | Write::Check { key, .. } => {
                    *key = self.key(key);
                }
            }
        }
        self.table.transact(writes, now).await
    }
}

async fn lambda() -> aws_sdk_lambda::Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    aws_sdk_lambda::Client::new(&config)
}

/// A shape that no other test uses.
fn shape(digit: char) -> FunctionShape {
    FunctionShape {
        image: format!("sha256:{}", digit.to_string().repeat(64))
            .parse()
            .unwrap(),
        runtime: Runtime::Function,
        memory_mib: 1769,
        tmp_mib: 1024,
        network: Network::Outbound,
        architecture: None,
        owner: None,
        machine: None,
    }
}

fn run() -> RunId {
    RunId::from_random([1; 16])
}

#[tokio::test]
async fn a_shape_has_one_function_whoever_ensures_it() {
    let shape = shape('a');
    let (one, two) = (host("a").await, host("a").await);
    let (first, second) = tokio::join!(one.ensure(&shape), two.ensure(&shape));
    let function = first.unwrap();
    assert_eq!(second.unwrap(), function);
    let (worked, too) = tokio::join!(one.work(LIMIT), two.work(LIMIT));
    worked.unwrap();
    too.unwrap();
    assert_eq!(one.ensure(&shape).await.unwrap(), function);
    assert_eq!(one.memory_mib(function.name.as_str()).await, Ok(1769));
    let larger = FunctionShape {
        memory_mib: 2048,
        ..shape
    };
    assert_ne!(one.ensure(&larger).await.unwrap().name, function.name);
}

#[tokio::test]
async fn invocations_are_not_repeated_and_failures_are_told() {
    let host = host("b").await;
    let function = host.ensure(&shape('b')).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    let lambda = lambda().await;
    let rules = lambda
        .get_function_event_invoke_config()
        .function_name(function.as_str())
        .send()
        .await
        .unwrap();
    assert_eq!(rules.maximum_retry_attempts(), Some(0));
    assert_eq!(rules.maximum_event_age_in_seconds(), Some(60));
    let told = rules
        .destination_config()
        .and_then(|to| to.on_failure()?.destination());
    assert_eq!(told, Some(WHO_AM_I));
    let made = lambda
        .get_function()
        .function_name(function.as_str())
        .send()
        .await
        .unwrap();
    assert_eq!(made.tags().unwrap()["Sockerless"], "contract");
    let made = made.configuration().unwrap();
    assert_eq!(made.timeout(), Some(900));
    assert_eq!(made.ephemeral_storage().map(|tmp| tmp.size()), Some(1024));
    assert_eq!(made.environment(), None);
    assert_eq!(
        made.logging_config().and_then(|to| to.log_group()),
        Some("/sockerless/contract/containers")
    );
}

#[tokio::test]
async fn each_architecture_has_a_function_of_its_own() {
    let host = host("5").await;
    let lambda = lambda().await;
    let mut names = Vec::new();
    for (architecture, of_lambda) in [
        (None, "x86_64"),
        (Some(Architecture::X86_64), "x86_64"),
        (Some(Architecture::Arm64), "arm64"),
    ] {
        let shape = FunctionShape {
            architecture,
            ..shape('5')
        };
        let name = host.ensure(&shape).await.unwrap().name;
        host.work(LIMIT).await.unwrap();
        let made = lambda
            .get_function_configuration()
            .function_name(name.as_str())
            .send()
            .await
            .unwrap();
        assert_eq!(made.architectures(), [of_lambda.into()]);
        names.push(name);
    }
    assert_eq!(names[0], names[1]);
    assert_ne!(names[1], names[2]);
}

#[tokio::test]
async fn a_function_may_be_in_a_network_of_ones_own() {
    let settings = FunctionSettings {
        subnets: vec!["subnet-0a".into(), "subnet-0b".into()],
        security_groups: vec!["sg-0c".into()],
        ..settings(variable("SOCKERLESS_TEST_ROLE"))
    };
    let host = host_of("8", settings.clone(), NamedAfterDigest::default()).await;
    let function = host.ensure(&shape('8')).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    let made = lambda()
        .await
        .get_function_configuration()
        .function_name(function.as_str())
        .send()
        .await
        .unwrap();
    let network = made.vpc_config().unwrap();
    assert_eq!(network.subnet_ids(), settings.subnets);
    assert_eq!(network.security_group_ids(), settings.security_groups);
}

#[tokio::test]
async fn a_new_function_is_waited_for() {
    let host = host("c").await;
    let function = host.ensure(&shape('c')).await.unwrap().name;
    // Nobody has made it: that is no error, it may still be.
    assert_eq!(host.prepared(&function, Duration::ZERO).await, Ok(false));
    let (prepared, worked) = tokio::join!(host.prepared(&function, LIMIT), host.work(LIMIT));
    worked.unwrap();
    assert_eq!(prepared, Ok(true));
    host.invoke(&function, &run(), Bytes::from_static(b"{}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_takes_long_is_made_ready_apart() {
    let images = |impossible| NamedAfterDigest {
        unready: AtomicBool::new(true),
        impossible,
    };
    let role = variable("SOCKERLESS_TEST_ROLE");
    let host = host_with("6", role.clone(), images(false)).await;
    let wanted = shape('6');
    let function = host.ensure(&wanted).await.unwrap().name;
    // Nothing is made of it yet, and that is no error; nor is asking again.
    host.work(LIMIT).await.unwrap();
    assert_eq!(host.ensure(&wanted).await.unwrap().name, function);
    assert_eq!(host.prepared(&function, Duration::ZERO).await, Ok(false));
    host.prepare(&wanted).await.unwrap();
    // Its invocation may be delivered twice.
    host.prepare(&wanted).await.unwrap();
    host.work(LIMIT).await.unwrap();
    assert_eq!(host.prepared(&function, LIMIT).await, Ok(true));

    let host = host_with("7", role, images(true)).await;
    let wanted = shape('7');
    let function = host.ensure(&wanted).await.unwrap().name;
    host.prepare(&wanted).await.unwrap();
    let failed = Err(HostError::Failed("a layer is broken".into()));
    assert_eq!(host.prepared(&function, LIMIT).await, failed);
    let refused = host.ensure(&wanted).await.map(|_| true);
    assert_eq!(refused, failed);
}

#[tokio::test]
async fn deleting_is_idempotent_and_noticed() {
    let host = host("d").await;
    let shape = shape('d');
    let function = host.ensure(&shape).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    host.delete(&function).await.unwrap();
    host.delete(&function).await.unwrap();
    host.work(LIMIT).await.unwrap();
    let gone = host
        .invoke(&function, &run(), Bytes::from_static(b"{}"))
        .await;
    assert_eq!(gone, Err(HostError::NoSuchFunction(function.clone())));
    assert_eq!(host.ensure(&shape).await.unwrap().name, function);
}

#[tokio::test]
async fn what_is_wanted_again_before_it_is_deleted_stays() {
    let host = host("9").await;
    let shape = shape('9');
    let function = host.ensure(&shape).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    host.delete(&function).await.unwrap();
    assert_eq!(host.ensure(&shape).await.unwrap().name, function);
    host.work(LIMIT).await.unwrap();
    assert_eq!(host.prepared(&function, LIMIT).await, Ok(true));
    assert_eq!(host.count().await, Ok((1, 0)));
    let payload = Bytes::from_static(b"{}");
    host.invoke(&function, &run(), payload).await.unwrap();
}

#[tokio::test]
async fn a_function_deleted_by_somebody_else_is_made_again() {
    let host = host("e").await;
    let shape = shape('e');
    let function = host.ensure(&shape).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    let payload = Bytes::from_static(b"{}");
    host.invoke(&function, &run(), payload.clone())
        .await
        .unwrap();
    let lambda = lambda().await;
    let deleted = lambda.delete_function().function_name(function.as_str());
    deleted.send().await.unwrap();
    let gone = host.invoke(&function, &run(), payload.clone()).await;
    assert_eq!(gone, Err(HostError::NoSuchFunction(function.clone())));
    host.ensure(&shape).await.unwrap();
    host.work(LIMIT).await.unwrap();
    host.invoke(&function, &run(), payload).await.unwrap();
}

#[tokio::test]
async fn a_function_that_lambda_refuses_says_why() {
    let role = "not the name of a role".into();
    let host = host_with("1", role, NamedAfterDigest::default()).await;
    let shape = shape('1');
    let function = host.ensure(&shape).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    for refused in [
        host.prepared(&function, LIMIT).await.map(|_| ()),
        host.ensure(&shape).await.map(|_| ()),
    ] {
        let Err(HostError::Failed(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(
            why.contains(function.as_str()) && why.contains("make"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn the_end_of_a_log_stream_is_read() {
    const GROUP: &str = "/sockerless/contract/containers";
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    let logs = aws_sdk_cloudwatchlogs::Client::new(&config);
    // Whichever test is first makes it, or Lambda does.
    let _ = logs.create_log_group().log_group_name(GROUP).send().await;
    let stream = "2026/01/01/[$LATEST]0123";
    let made = logs.create_log_stream().log_group_name(GROUP);
    made.log_stream_name(stream).send().await.unwrap();
    let now = Clock.now().nanos() / 1_000_000;
    let lines = (0..100).map(|number| {
        aws_sdk_cloudwatchlogs::types::InputLogEvent::builder()
            .timestamp(now + number)
            .message(format!("line {number}\n"))
            .build()
            .unwrap()
    });
    let put = logs.put_log_events().log_group_name(GROUP);
    let put = put.log_stream_name(stream);
    put.set_log_events(Some(lines.collect()))
        .send()
        .await
        .unwrap();

    let host = host("4").await;
    let read = async |stream, limit| host.operator_log(&run(), stream, limit).await.unwrap();
    let all: String = (0..100).map(|number| format!("line {number}\n")).collect();
    assert_eq!(read(Some(stream), 1 << 20).await, all);
    // No half of a line.
    assert_eq!(read(Some(stream), 20).await, "line 98\nline 99\n");
    assert_eq!(read(Some("none"), 1 << 20).await, "");
    assert_eq!(read(None, 1 << 20).await, "");
}

/// `SOCKERLESS_TEST_BURST=N`: of so many functions (default: 40).
#[tokio::test]
async fn a_burst_queues_instead_of_failing() {
    let many: u32 =
        std::env::var("SOCKERLESS_TEST_BURST").map_or(40, |number| number.parse().unwrap());
    let host = host("3").await;
    let shape = |number: u32| FunctionShape {
        memory_mib: 200 + number,
        ..shape('3')
    };
    // Each is asked for twice, as by two who create containers that are alike.
    let asked = (0..2 * many).map(|turn| {
        let host = &host;
        async move { host.ensure(&shape(turn % many)).await.unwrap().name }
    });
    let names = futures_util::future::join_all(asked).await;
    let different: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(different.len(), many as usize);
    assert_eq!(host.count().await.unwrap(), (0, many as usize));
    // Working all of it off takes half a minute; what is not done when time is up stays.
    let begin = Instant::now();
    loop {
        host.work(Duration::from_secs(2)).await.unwrap();
        let (made, waiting) = host.count().await.unwrap();
        assert_eq!(made + waiting, many as usize);
        if made > 0 {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "nothing was made");
    }
}

#[tokio::test]
async fn a_sweep_leaves_what_was_used_lately() {
    let host = host("2").await;
    let function = host.ensure(&shape('2')).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    let next = host.sweep().await.unwrap();
    assert!(next.is_some());
    // A deletion, had the sweep asked for one, would be done by this.
    host.work(LIMIT).await.unwrap();
    assert_eq!(host.prepared(&function, LIMIT).await, Ok(true));
}

#[tokio::test]
async fn what_lambda_cannot_do_is_refused_with_a_sentence() {
    let host = host("f").await;
    for (shape, word) in [
        (
            FunctionShape {
                network: Network::None,
                ..shape('f')
            },
            "--network none",
        ),
        (
            FunctionShape {
                runtime: Runtime::Microvm,
                ..shape('f')
            },
            "--runtime microvm",
        ),
    ] {
        let Err(HostError::Unsupported(why)) = host.ensure(&shape).await else {
            panic!()
        };
        assert!(why.contains(word) && why.contains("use "), "{why}");
    }
    let function = "skls-00000000".parse().unwrap();
    let large = Bytes::from(vec![b' '; MAX_PAYLOAD_BYTES + 1]);
    let refused = host.invoke(&function, &run(), large).await;
    assert_eq!(
        refused,
        Err(HostError::PayloadTooLarge(MAX_PAYLOAD_BYTES + 1))
    );
    host.remove_writable(&ContainerId::from_random([1; 32]))
        .await
        .unwrap();
}
