//! [`LambdaHost`]: functions and the rules of their invocations.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::aws::functions::{FunctionSettings, LambdaHost, RunnableImages};
use sockerless_control::ports::FunctionHost;
use sockerless_control::ports::function_host::{FunctionShape, HostError, Network};
use sockerless_shared::ids::{ContainerId, ImageDigest, RunId};
use sockerless_shared::protocol::invocation::MAX_PAYLOAD_BYTES;
use sockerless_shared::spec::Runtime;

use super::{Sdk, variable};

struct NamedAfterDigest;

#[async_trait]
impl RunnableImages for NamedAfterDigest {
    async fn uri(&self, image: &ImageDigest) -> Result<String, HostError> {
        Ok(format!("example.com/images:{}", &image.hex()[..40]))
    }
}

async fn host() -> LambdaHost {
    let settings = FunctionSettings {
        role: variable("SOCKERLESS_TEST_ROLE"),
        relay_url: "wss://relay.example.com/v1".into(),
        on_failure: "arn:aws:lambda:us-east-1:000000000000:function:who-am-i".into(),
        architecture: "x86_64".into(),
        time_limit_s: 900,
    };
    LambdaHost::new(
        &Sdk::from_environment().await,
        Arc::new(NamedAfterDigest),
        settings,
    )
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
    let (one, two) = (host().await, host().await);
    let (first, second) = tokio::join!(one.ensure(&shape), two.ensure(&shape));
    let function = first.unwrap();
    assert_eq!(second.unwrap(), function);
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
    let host = host().await;
    let function = host.ensure(&shape('b')).await.unwrap().name;
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(http)
        .load()
        .await;
    let lambda = aws_sdk_lambda::Client::new(&config);
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
    assert_eq!(
        told,
        Some("arn:aws:lambda:us-east-1:000000000000:function:who-am-i")
    );
    let made = lambda
        .get_function_configuration()
        .function_name(function.as_str())
        .send()
        .await
        .unwrap();
    assert_eq!(made.timeout(), Some(900));
    assert_eq!(made.ephemeral_storage().map(|tmp| tmp.size()), Some(1024));
    assert_eq!(made.environment(), None);
}

#[tokio::test]
async fn a_new_function_is_waited_for() {
    let host = host().await;
    let function = host.ensure(&shape('c')).await.unwrap().name;
    host.invoke(&function, &run(), Bytes::from_static(b"{}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn deleting_is_idempotent_and_noticed() {
    let host = host().await;
    let shape = shape('d');
    let function = host.ensure(&shape).await.unwrap().name;
    host.delete(&function).await.unwrap();
    host.delete(&function).await.unwrap();
    let gone = host
        .invoke(&function, &run(), Bytes::from_static(b"{}"))
        .await;
    assert_eq!(gone, Err(HostError::NoSuchFunction(function.clone())));
    assert_eq!(host.ensure(&shape).await.unwrap().name, function);
}

#[tokio::test]
async fn a_function_deleted_by_somebody_else_is_noticed() {
    let (one, two) = (host().await, host().await);
    let shape = shape('e');
    let function = one.ensure(&shape).await.unwrap().name;
    let payload = Bytes::from_static(b"{}");
    one.invoke(&function, &run(), payload.clone())
        .await
        .unwrap();
    two.delete(&function).await.unwrap();
    let gone = one.invoke(&function, &run(), payload.clone()).await;
    assert_eq!(gone, Err(HostError::NoSuchFunction(function.clone())));
    one.ensure(&shape).await.unwrap();
    one.invoke(&function, &run(), payload).await.unwrap();
}

#[tokio::test]
async fn what_lambda_cannot_do_is_refused_with_a_sentence() {
    let host = host().await;
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
