//! What a push brings to a registry, also to one that breaks off or wants another token.

use serde_json::Value;
use sockerless_control::images::progress::Message;
use sockerless_control::images::push::PushError;
use sockerless_control::images::reference::Reference;
use sockerless_control::images::remote::Credentials;

use super::archives::{Tar, image};
use super::registry::Registry;
use super::setup::{Place, place};
use super::transfer::numbers;

/// More than a registry gets in a single request.
const LARGE: usize = 1_000_000;

/// A registry without anything, and a place with an image for it, whose one layer has so many
/// bytes that cannot be compressed.
async fn image_for(bytes: usize) -> (Registry, Place, String) {
    let registry = Registry::start().await;
    let name = format!("{}/r:v1", registry.address);
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        // Xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    })
    .take(bytes)
    .collect();
    let place = place();
    let archive = image(&name, &[Tar::new().file("noise", &noise).end()]);
    place.load(&archive).await.unwrap();
    (registry, place, name)
}

async fn push(place: &Place, name: &str) -> Result<Vec<Message>, PushError> {
    let mut told = Vec::new();
    let reference = Reference::parse(name).unwrap();
    let nobody = Credentials::default();
    let pushed = place
        .images
        .push(&place.namespace, &reference, &nobody, &mut told);
    pushed.await.map(|()| told)
}

/// The size of the layer that was pushed, which is there as the manifest says, with the config.
fn pushed_bytes(registry: &Registry) -> u64 {
    let manifest = registry.has("/v2/r/manifests/v1").expect("no manifest");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let (config, layer) = (&manifest["config"], &manifest["layers"][0]);
    for blob in [config, layer] {
        let path = format!("/v2/r/blobs/{}", blob["digest"].as_str().unwrap());
        let bytes = registry.has(&path).expect("no blob").len() as u64;
        assert_eq!(Some(bytes), blob["size"].as_u64());
    }
    layer["size"].as_u64().unwrap()
}

/// How many requests with this method there were.
fn count(asked: &[String], method: &str) -> usize {
    let with = asked.iter().filter(|note| note.starts_with(method));
    with.count()
}

#[tokio::test]
async fn what_is_told_of_a_push_is_how_many_bytes_have_gone() {
    let (registry, place, name) = image_for(LARGE).await;
    let told = push(&place, &name).await.unwrap();
    let size = pushed_bytes(&registry);
    let numbers = numbers(&told, "Pushing");
    assert!(
        numbers.is_sorted_by_key(|(current, _)| *current),
        "{numbers:?}"
    );
    assert!(
        numbers.iter().all(|(_, total)| *total == size),
        "{numbers:?}"
    );
    assert_eq!(numbers.last(), Some(&(size, size)), "{numbers:?}");
    assert_eq!(count(&registry.asked(), "PATCH"), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_in_the_middle_is_made_again() {
    for (bytes, method, times) in [
        (LARGE, "PATCH /v2/r/blobs", 2),
        (9000, "PUT /v2/r/blobs", 3),
    ] {
        let (registry, place, name) = image_for(bytes).await;
        registry.cut_uploads(1, bytes / 2);
        let told = push(&place, &name).await.unwrap();
        let size = pushed_bytes(&registry);
        let asked = registry.asked();
        // The config is one of those that are put.
        assert_eq!(count(&asked, method), times, "{asked:?}");
        let numbers = numbers(&told, "Pushing");
        assert_eq!(numbers.last(), Some(&(size, size)), "{numbers:?}");
    }
}

#[tokio::test]
async fn a_token_that_ends_during_an_upload_is_fetched_again() {
    for method in ["POST", "PATCH", "PUT"] {
        let (registry, place, name) = image_for(LARGE).await;
        registry.want_tokens(100);
        registry.end_token_before(method);
        push(&place, &name).await.unwrap();
        pushed_bytes(&registry);
        assert_eq!(registry.tokens(), 2, "{method}");
    }
}
