//! [`LambdaHost`]: functions and the rules of their invocations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::aws::functions::{FunctionSettings, LambdaHost, Runnable, RunnableImages};
use sockerless_control::ports::Table;
use sockerless_control::ports::function_host::{Architecture, FunctionShape, HostError, Network};
use sockerless_control::ports::table::{Item, Key, TableError, Write};
use sockerless_control::ports::{Environment, FunctionHost};
use sockerless_shared::ids::{ImageDigest, RunId};
use sockerless_shared::spec::Runtime;
use sockerless_shared::timestamp::Timestamp;

use super::meter::Meter;
use super::{Clock, DynamoTable, Sdk, variable};

/// Longer than any of these takes.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

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
pub(super) async fn host(records: &'static str) -> LambdaHost {
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
    host_over(&Sdk::from_environment().await, records, settings, images)
}

fn host_at(sdk: &Sdk, records: &'static str, settings: FunctionSettings) -> LambdaHost {
    host_over(sdk, records, settings, NamedAfterDigest::default())
}

fn host_over(
    sdk: &Sdk,
    records: &'static str,
    settings: FunctionSettings,
    images: NamedAfterDigest,
) -> LambdaHost {
    let table = Arc::new(Apart::of(sdk, records));
    LambdaHost::new(sdk, table, Arc::new(Clock), Arc::new(images), settings)
}

/// A part of a table that nobody else sees.
pub(super) struct Apart {
    table: DynamoTable,
    name: &'static str,
}

impl Apart {
    pub(super) fn of(sdk: &Sdk, name: &'static str) -> Self {
        let table = DynamoTable::new(sdk, variable("SOCKERLESS_TEST_TABLE"));
        Self { table, name }
    }

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
    shape_of(&format!("sha256:{}", digit.to_string().repeat(64)))
}

pub(super) fn shape_of(image: &str) -> FunctionShape {
    FunctionShape {
        image: image.parse().unwrap(),
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
async fn two_workers_make_one_function_of_a_shape() {
    let shape = shape('a');
    let (one, two) = (host("a").await, host("a").await);
    let (first, second) = tokio::join!(one.ensure(&shape), two.ensure(&shape));
    let function = first.unwrap();
    assert_eq!(second.unwrap(), function);
    let (worked, too) = tokio::join!(one.work(LIMIT), two.work(LIMIT));
    worked.unwrap();
    too.unwrap();
    assert_eq!(one.ensure(&shape).await.unwrap(), function);
    assert_eq!(one.count().await, Ok((1, 0)));
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
    assert_eq!(made.memory_size(), Some(1769));
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
async fn no_invocation_comes_before_its_rules() {
    let host = host("0").await;
    let function = host.ensure(&shape('0')).await.unwrap().name;
    // As far as the worker came before it died, say.
    let lambda = lambda().await;
    lambda
        .create_function()
        .function_name(function.as_str())
        .package_type(aws_sdk_lambda::types::PackageType::Image)
        .code(
            aws_sdk_lambda::types::FunctionCode::builder()
                .image_uri("example.com/images:0")
                .build(),
        )
        .role(variable("SOCKERLESS_TEST_ROLE"))
        .send()
        .await
        .unwrap();
    let begun = Instant::now();
    loop {
        let made = lambda.get_function_configuration();
        let made = made.function_name(function.as_str()).send().await.unwrap();
        if made.state() == Some(&aws_sdk_lambda::types::State::Active) {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{made:?}");
    }
    assert_eq!(host.prepared(&function, Duration::ZERO).await, Ok(false));
    host.work(LIMIT).await.unwrap();
    assert_eq!(host.prepared(&function, Duration::ZERO).await, Ok(true));
    let rules = lambda.get_function_event_invoke_config();
    let rules = rules.function_name(function.as_str()).send().await.unwrap();
    assert_eq!(rules.maximum_retry_attempts(), Some(0));
}

/// Lambda, which refuses some calls.
async fn behind_a_meter() -> (Meter, Sdk) {
    let emulator = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let meter = Meter::before(emulator.trim_start_matches("http://")).await;
    let sdk = Sdk::at(&format!("http://{}", meter.address)).await;
    (meter, sdk)
}

#[tokio::test]
async fn what_lambda_has_no_room_for_is_made_when_it_has() {
    let (meter, sdk) = behind_a_meter().await;
    let host = host_at(
        &sdk,
        "throttled",
        settings(variable("SOCKERLESS_TEST_ROLE")),
    );
    // More than all that the SDK and the worker try within the first two seconds.
    let throttled = (429, "TooManyRequestsException");
    meter.refuse("POST /2015-03-31/functions ", 12, throttled);
    meter.refuse("PUT /2019-09-25/functions/", 12, throttled);
    let function = host.ensure(&shape_of(THROTTLED)).await.unwrap().name;
    let begun = Instant::now();
    let mut turns = 0;
    // Whatever it could not do in its time is there for the next.
    while host.count().await.unwrap() != (1, 0) {
        host.work(Duration::from_secs(1)).await.unwrap();
        turns += 1;
        assert!(begun.elapsed() < LIMIT, "it was not made");
    }
    assert!(turns > 1, "nothing was left for another turn");
    assert_eq!(host.prepared(&function, Duration::ZERO).await, Ok(true));
}

#[tokio::test]
async fn one_worker_has_the_turn_until_it_ends_or_says_nothing_more() {
    let (meter, sdk) = behind_a_meter().await;
    let settings = settings(variable("SOCKERLESS_TEST_ROLE"));
    let first = host_at(&sdk, "turn", settings.clone());
    let (other_meter, sdk) = behind_a_meter().await;
    let clock = Arc::new(Forward::default());
    let second = LambdaHost::new(
        &sdk,
        Arc::new(Apart::of(&sdk, "turn")),
        Arc::clone(&clock) as Arc<_>,
        Arc::new(NamedAfterDigest::default()),
        settings,
    );
    const CREATE: &str = "POST /2015-03-31/functions ";
    meter.refuse(CREATE, usize::MAX, (429, "TooManyRequestsException"));
    first.ensure(&shape_of(TURN)).await.unwrap();
    let mut working = Box::pin(first.work(LIMIT));
    // It goes on for as long as Lambda has no room.
    while !meter.asked().iter().any(|asked| asked == CREATE.trim_end()) {
        let step = tokio::time::timeout(Duration::from_millis(50), &mut working).await;
        assert!(step.is_err(), "{step:?}");
    }
    second.work(LIMIT).await.unwrap();
    let asked = other_meter.asked();
    assert!(
        !asked.iter().any(|asked| asked == CREATE.trim_end()),
        "{asked:?}"
    );
    assert_eq!(second.count().await, Ok((0, 1)));
    // It dies.
    drop(working);
    second.work(LIMIT).await.unwrap();
    assert_eq!(second.count().await, Ok((0, 1)));
    clock.0.store(1, Ordering::SeqCst);
    second.work(LIMIT).await.unwrap();
    assert_eq!(second.count().await, Ok((1, 0)));
}

const TURN: &str = "sha256:0000000000000000000000000000000000000000000000000000000000007540";

const THROTTLED: &str = "sha256:00000000000000000000000000000000000000000000000000007407771e4d00";

#[tokio::test]
async fn a_deletion_that_lambda_refuses_holds_up_nobody_and_stays_asked_for() {
    let (meter, sdk) = behind_a_meter().await;
    let host = host_at(&sdk, "refused", settings(variable("SOCKERLESS_TEST_ROLE")));
    let first = host.ensure(&shape_of(REFUSED)).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    host.delete(&first).await.unwrap();
    // Of three, one comes after the refused one whatever their names are.
    for memory_mib in [512, 513, 514] {
        let other = FunctionShape {
            memory_mib,
            ..shape_of(REFUSED)
        };
        host.ensure(&other).await.unwrap();
    }
    let refused = (403, "AccessDeniedException");
    meter.refuse(
        &format!("DELETE /2015-03-31/functions/{first}"),
        usize::MAX,
        refused,
    );
    let Err(HostError::Failed(why)) = host.work(LIMIT).await else {
        panic!("it says nothing of the refusal")
    };
    assert!(why.contains(first.as_str()), "{why}");
    assert_eq!(host.count().await, Ok((3, 1)));
    meter.refuse_nothing();
    host.work(LIMIT).await.unwrap();
    assert_eq!(host.count().await, Ok((3, 0)));
}

const REFUSED: &str = "sha256:0000000000000000000000000000000000000000000000000000007ef05ed000";

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

/// `SOCKERLESS_TEST_BURST=N`: of so many functions (default: 24).
#[tokio::test]
async fn a_burst_queues_instead_of_failing() {
    let many: u32 =
        std::env::var("SOCKERLESS_TEST_BURST").map_or(24, |number| number.parse().unwrap());
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
    // What is not done when time is up stays for the next turn, and none of it fails.
    let (begin, mut turns) = (Instant::now(), 0);
    loop {
        host.work(Duration::from_secs(2)).await.unwrap();
        turns += 1;
        let (made, waiting) = host.count().await.unwrap();
        assert_eq!(made + waiting, many as usize);
        if waiting == 0 {
            break;
        }
        assert!(
            begin.elapsed() < LIMIT + many * Duration::from_secs(1),
            "{waiting} wait"
        );
    }
    assert!(turns > 1, "it was no burst");
}

/// A clock that is put forward.
#[derive(Default)]
struct Forward(AtomicU64);

impl Environment for Forward {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_secs(60 * self.0.load(Ordering::SeqCst));
        Clock.now().plus(ahead)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        Clock.fill_random(bytes);
    }
}

#[tokio::test]
async fn a_sweep_deletes_what_nobody_has_used_in_an_hour() {
    let sdk = Sdk::from_environment().await;
    let clock = Arc::new(Forward::default());
    let host = LambdaHost::new(
        &sdk,
        Arc::new(Apart::of(&sdk, "grace")),
        Arc::clone(&clock) as Arc<_>,
        Arc::new(NamedAfterDigest::default()),
        settings(variable("SOCKERLESS_TEST_ROLE")),
    );
    let shape = shape_of("sha256:000000000000000000000000000000000000000000000000000000000064ace0");
    let function = host.ensure(&shape).await.unwrap().name;
    host.work(LIMIT).await.unwrap();
    let at = async |minutes| {
        clock.0.store(minutes, Ordering::SeqCst);
        let next = host.sweep().await.unwrap();
        host.work(LIMIT).await.unwrap();
        (host.count().await.unwrap(), next)
    };
    let (count, next) = at(59).await;
    assert_eq!(count, (1, 0));
    assert!(next.unwrap().since(clock.now()) <= Duration::from_secs(60));
    // Whoever asks for it has it for another hour.
    host.ensure(&shape).await.unwrap();
    let (count, _) = at(118).await;
    assert_eq!(count, (1, 0));
    let payload = Bytes::from_static(b"{}");
    host.invoke(&function, &run(), payload.clone())
        .await
        .unwrap();
    let (count, _) = at(121).await;
    assert_eq!(count, (0, 0));
    let gone = host.invoke(&function, &run(), payload).await;
    assert_eq!(gone, Err(HostError::NoSuchFunction(function)));
    // Nothing is left to look at.
    assert_eq!(at(122).await, ((0, 0), None));
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
}
