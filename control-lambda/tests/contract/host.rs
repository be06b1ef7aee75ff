//! What every [`FunctionHost`] does. `tests/host` runs it for the local one, too.

use async_trait::async_trait;
use bytes::Bytes;
use sockerless_control::ports::FunctionHost;
use sockerless_control::ports::function_host::{FunctionShape, HostError};
use sockerless_shared::ids::{ContainerId, RunId};
use sockerless_shared::protocol::invocation::MAX_PAYLOAD_BYTES;

/// Gives the names of all cases to a macro.
macro_rules! host_cases {
    ($each:ident) => {
        $each! {
            a_shape_has_one_function_whoever_ensures_it,
            another_shape_has_another_function,
            what_was_ensured_can_be_invoked,
            what_was_never_ensured_cannot_be_invoked,
            a_deleted_function_cannot_be_invoked_until_it_is_ensured_again,
            deleting_is_idempotent,
            a_sweep_leaves_what_was_just_ensured,
            a_payload_too_large_is_refused,
            a_size_out_of_bounds_is_refused,
            a_run_that_never_was_has_logged_nothing,
            nothing_is_left_of_a_container_that_never_was,
        }
    };
}
pub(crate) use host_cases;

/// A host, and what differs from one to the other.
#[async_trait(?Send)]
pub(crate) trait Place: Send + Sync {
    /// The host.
    fn host(&self) -> &dyn FunctionHost;

    /// A shape that it can run, and that no other case uses.
    fn shape(&self) -> FunctionShape;

    /// Returns when all has been done that the host was asked for.
    async fn settle(&self);
}

fn run() -> RunId {
    RunId::from_random([1; 16])
}

fn payload() -> Bytes {
    Bytes::from_static(b"{}")
}

async fn is_prepared(place: &dyn Place, shape: &FunctionShape) -> bool {
    let host = place.host();
    let function = host.ensure(shape).await.unwrap().name;
    place.settle().await;
    host.prepared(&function, std::time::Duration::from_secs(60))
        .await
        .unwrap()
}

pub(crate) async fn a_shape_has_one_function_whoever_ensures_it(place: &dyn Place) {
    let (host, shape) = (place.host(), place.shape());
    let (one, other) = tokio::join!(host.ensure(&shape), host.ensure(&shape));
    let function = one.unwrap().name;
    assert_eq!(other.unwrap().name, function);
    place.settle().await;
    assert_eq!(host.ensure(&shape).await.unwrap().name, function);
}

pub(crate) async fn another_shape_has_another_function(place: &dyn Place) {
    let (host, shape) = (place.host(), place.shape());
    let function = host.ensure(&shape).await.unwrap().name;
    for other in [
        FunctionShape {
            memory_mib: shape.memory_mib + 1,
            ..shape.clone()
        },
        FunctionShape {
            tmp_mib: shape.tmp_mib + 1,
            ..shape.clone()
        },
        FunctionShape {
            image: format!("sha256:{}", "1".repeat(64)).parse().unwrap(),
            ..shape.clone()
        },
    ] {
        assert_ne!(
            host.ensure(&other).await.unwrap().name,
            function,
            "{other:?}"
        );
    }
}

pub(crate) async fn what_was_ensured_can_be_invoked(place: &dyn Place) {
    let (host, shape) = (place.host(), place.shape());
    assert!(is_prepared(place, &shape).await);
    let function = host.ensure(&shape).await.unwrap().name;
    host.invoke(&function, &run(), payload()).await.unwrap();
}

pub(crate) async fn what_was_never_ensured_cannot_be_invoked(place: &dyn Place) {
    let function = "skls-nobody".parse().unwrap();
    let refused = place.host().invoke(&function, &run(), payload()).await;
    assert_eq!(refused, Err(HostError::NoSuchFunction(function)));
}

pub(crate) async fn a_deleted_function_cannot_be_invoked_until_it_is_ensured_again(
    place: &dyn Place,
) {
    let (host, shape) = (place.host(), place.shape());
    assert!(is_prepared(place, &shape).await);
    let function = host.ensure(&shape).await.unwrap().name;
    host.delete(&function).await.unwrap();
    place.settle().await;
    let refused = host.invoke(&function, &run(), payload()).await;
    assert_eq!(refused, Err(HostError::NoSuchFunction(function.clone())));
    assert!(is_prepared(place, &shape).await);
    assert_eq!(host.ensure(&shape).await.unwrap().name, function);
    host.invoke(&function, &run(), payload()).await.unwrap();
}

pub(crate) async fn deleting_is_idempotent(place: &dyn Place) {
    let (host, shape) = (place.host(), place.shape());
    let function = host.ensure(&shape).await.unwrap().name;
    place.settle().await;
    host.delete(&function).await.unwrap();
    host.delete(&function).await.unwrap();
    place.settle().await;
    host.delete(&function).await.unwrap();
    place.settle().await;
}

pub(crate) async fn a_sweep_leaves_what_was_just_ensured(place: &dyn Place) {
    let (host, shape) = (place.host(), place.shape());
    assert!(is_prepared(place, &shape).await);
    host.sweep().await.unwrap();
    // A deletion, had the sweep asked for one, would be done by this.
    place.settle().await;
    let function = host.ensure(&shape).await.unwrap().name;
    host.invoke(&function, &run(), payload()).await.unwrap();
}

pub(crate) async fn a_payload_too_large_is_refused(place: &dyn Place) {
    let (host, shape) = (place.host(), place.shape());
    assert!(is_prepared(place, &shape).await);
    let function = host.ensure(&shape).await.unwrap().name;
    let large = Bytes::from(vec![b' '; MAX_PAYLOAD_BYTES + 1]);
    let refused = host.invoke(&function, &run(), large).await;
    assert_eq!(
        refused,
        Err(HostError::PayloadTooLarge(MAX_PAYLOAD_BYTES + 1))
    );
}

pub(crate) async fn a_size_out_of_bounds_is_refused(place: &dyn Place) {
    let shape = place.shape();
    for (memory_mib, tmp_mib, word) in [
        (127, 512, "memory"),
        (10_241, 512, "memory"),
        (128, 511, "/tmp"),
        (128, 10_241, "/tmp"),
    ] {
        let shape = FunctionShape {
            memory_mib,
            tmp_mib,
            ..shape.clone()
        };
        let refused = place.host().ensure(&shape).await;
        let Err(HostError::Unsupported(why)) = refused else {
            panic!("{refused:?}")
        };
        assert!(why.contains(word), "{why}");
    }
}

pub(crate) async fn a_run_that_never_was_has_logged_nothing(place: &dyn Place) {
    let log = place.host().operator_log(&run(), None, 100).await;
    assert_eq!(log.unwrap(), "");
}

pub(crate) async fn nothing_is_left_of_a_container_that_never_was(place: &dyn Place) {
    let container = ContainerId::from_random([1; 32]);
    place.host().remove_writable(&container).await.unwrap();
}
