//! Transfers that break, stop, and are wanted twice; registries that throttle or want
//! another token; mirrors.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use sockerless_control::images::Digest;
use sockerless_control::images::manifest::media;
use sockerless_control::images::progress::Message;
use sockerless_control::images::pull::Wanted;
use sockerless_control::images::reference::Reference;
use sockerless_control::images::remote::{Credentials, RegistrySettings};

use super::archives::gzip;
use super::pull::{layer, pull};
use super::registry::{Registry, descriptor};
use super::setup::{Place, place};

/// A registry with an image `v1` of one layer that cannot be compressed, and that layer's path.
pub(super) async fn registry() -> (Registry, String, usize) {
    let registry = Registry::start().await;
    let noise: Vec<u8> = (0..400_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let layer = super::archives::Tar::new().file("noise", &noise).end();
    let blob = gzip(&layer);
    registry.image("v1", &[layer]);
    let path = format!("/v2/r/blobs/{}", Digest::of(&blob));
    (registry, path, blob.len())
}

async fn until(what: impl Fn() -> bool) {
    let waited = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited)
        .await
        .expect("it never came");
}

/// How many bytes of blobs are kept.
pub(super) fn kept(place: &Place) -> u64 {
    fs::read_dir(place.folder.path().join("images/partial"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_from_there() {
    let (registry, path, size) = registry().await;
    registry.cut(&path, 3, 1000);
    let name = format!("{}/r:v1", registry.address);
    pull(&place(), &name).await.unwrap();
    let asked = registry.asked();
    for at in [1000, 2000, 3000] {
        assert!(asked.contains(&format!("{path} from {at}")), "{asked:?}");
    }
    assert!(size > 4000);
}

#[tokio::test]
async fn a_pull_that_was_given_up_goes_on_where_it_stopped() {
    let (registry, path, size) = registry().await;
    registry.stall(&path, size / 2);
    let name = format!("{}/r:v1", registry.address);
    let place = place();
    tokio::select! {
        pulled = pull(&place, &name) => panic!("{pulled:?}"),
        () = until(|| kept(&place) >= size as u64 / 2) => {}
    }
    // What was begun is not taken for garbage.
    place.images.collect_garbage().await.unwrap();
    registry.release();
    let begun = kept(&place);
    registry.asked();
    // The first one lets go of the part when it is dropped.
    pull(&place, &name).await.unwrap();
    let asked = registry.asked();
    assert!(asked.contains(&format!("{path} from {begun}")), "{asked:?}");
    assert!(!asked.contains(&path), "{asked:?}");
    assert_eq!(kept(&place), 0);
    assert_eq!(place.layers_of(&name).await.len(), 1);
}

/// The numbers that were told of a step of each layer: how far, of how much.
pub(super) fn numbers(messages: &[Message], step: &str) -> Vec<(u64, u64)> {
    let of_step = messages.iter().filter(|message| message.status == step);
    of_step
        .filter_map(|message| message.detail.as_ref())
        .filter(|detail| detail.total > 0)
        .map(|detail| (detail.current, detail.total))
        .collect()
}

#[tokio::test]
async fn what_is_told_of_a_transfer_is_how_many_bytes_have_come() {
    let (registry, path, size) = registry().await;
    let (size, half) = (size as u64, size as u64 / 2);
    registry.stall(&path, size as usize / 2);
    let name = format!("{}/r:v1", registry.address);
    let place = place();
    let mut told = Vec::new();
    tokio::select! {
        () = pull_told(&place, &name, &mut told) => panic!("it ended"),
        () = until(|| kept(&place) >= half) => {}
    }
    let first = numbers(&told, "Downloading");
    assert!(!first.is_empty(), "{told:?}");
    assert!(
        first
            .iter()
            .all(|(current, total)| *current <= half && *total == size),
        "{first:?}"
    );
    assert_eq!(numbers(&told, "Extracting"), Vec::new());
    // The rest is counted from where it goes on.
    registry.release();
    let mut told = Vec::new();
    pull_told(&place, &name, &mut told).await;
    let second = numbers(&told, "Downloading");
    assert!(second[0].0 > half, "{second:?}");
    for numbers in [second, numbers(&told, "Extracting")] {
        assert!(numbers.is_sorted(), "{numbers:?}");
        assert_eq!(numbers.last(), Some(&(size, size)), "{numbers:?}");
    }
}

async fn pull_told(place: &Place, name: &str, told: &mut Vec<Message>) {
    let wanted = Wanted {
        reference: &Reference::parse(name).unwrap(),
        all_tags: false,
        platform: None,
        credentials: &Credentials::default(),
    };
    let pulled = place.images.pull(&place.namespace, wanted, told).await;
    pulled.unwrap();
}

#[tokio::test]
async fn two_who_want_the_same_fetch_it_once() {
    let (registry, path, size) = registry().await;
    let config = registry.config_path("v1");
    registry.stall(&path, size / 2);
    let name = format!("{}/r:v1", registry.address);
    let place = place();
    let release = async {
        until(|| kept(&place) >= size as u64 / 2).await;
        // The second has come as far.
        until(|| registry.count(&config) == 2).await;
        registry.release();
    };
    let (one, two, ()) = tokio::join!(pull(&place, &name), pull(&place, &name), release);
    one.unwrap();
    two.unwrap();
    // Whoever waited asks only whether it may have it.
    assert_eq!(registry.count(&path), 1, "{:?}", registry.asked());
}

#[tokio::test]
async fn a_token_that_has_ended_is_fetched_again_in_the_middle() {
    let (registry, _, _) = registry().await;
    registry.want_tokens(1);
    let name = format!("{}/r:v1", registry.address);
    pull(&place(), &name).await.unwrap();
    // For the manifest, the config and the layer.
    assert_eq!(registry.tokens(), 3);
}

#[tokio::test]
async fn what_was_kept_wrongly_is_fetched_anew() {
    let (registry, path, size) = registry().await;
    registry.stall(&path, size / 2);
    let name = format!("{}/r:v1", registry.address);
    let place = place();
    tokio::select! {
        pulled = pull(&place, &name) => panic!("{pulled:?}"),
        () = until(|| kept(&place) >= size as u64 / 2) => {}
    }
    registry.release();
    let folder = place.folder.path().join("images/partial");
    let part = fs::read_dir(folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&part).unwrap();
    bytes[7] ^= 1;
    fs::write(&part, bytes).unwrap();
    pull(&place, &name).await.unwrap();
    assert_eq!(kept(&place), 0);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_fallback_when_docker_hub_throttles() {
    let (mirror, hub, fallback) = (
        Registry::start().await,
        Registry::start().await,
        Registry::start().await,
    );
    let settings = RegistrySettings {
        hub: Some(hub.address.clone()),
        mirrors: vec![format!("http://{}", mirror.address).parse().unwrap()],
        hub_fallback: Some(format!("{}/docker", fallback.address)),
        ..RegistrySettings::default()
    };
    let mut place = place();
    place.images = place.images.clone().with_registries(settings);

    // Neither has it: Docker Hub says why, and the fallback is not asked.
    let error = pull(&place, "busybox").await.unwrap_err();
    assert!(
        error.to_string().starts_with("manifest for busybox"),
        "{error}"
    );
    assert!(
        mirror
            .asked()
            .contains(&"/v2/library/busybox/manifests/latest".to_owned())
    );
    assert!(
        hub.asked()
            .contains(&"/v2/library/busybox/manifests/latest".to_owned())
    );
    assert_eq!(fallback.asked(), Vec::<String>::new());

    // Docker Hub throttles: official images come from elsewhere, others do not.
    let throttled = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"enough"}]}"#;
    for repository in ["library/busybox", "somebody/busybox"] {
        let path = format!("/v2/{repository}/manifests/latest");
        hub.answer(&path, 429, "application/json", throttled);
    }
    let error = pull(&place, "somebody/busybox").await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: enough");
    assert_eq!(error.status(), 429);
    let error = pull(&place, "busybox").await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: enough");
    fallback.image("latest", &[layer("x")]);
    fallback.share("docker/library/busybox");
    pull(&place, "busybox").await.unwrap();
    let image = place.layers_of("busybox").await.remove(0);
    assert_eq!(fs::read(image.join("text")).unwrap(), b"x");
}

/// A mirror, Docker Hub and the fallback, each with the same image in an index, and what pulls
/// from them.
async fn hub() -> ([Registry; 3], Place, Value) {
    let registries = [
        Registry::start().await,
        Registry::start().await,
        Registry::start().await,
    ];
    let [mirror, hub, fallback] = &registries;
    let settings = RegistrySettings {
        hub: Some(hub.address.clone()),
        mirrors: vec![format!("http://{}", mirror.address).parse().unwrap()],
        hub_fallback: Some(format!("{}/docker", fallback.address)),
        ..RegistrySettings::default()
    };
    let mut place = place();
    place.images = place.images.clone().with_registries(settings);
    let mut image = Value::Null;
    for registry in &registries {
        let (digest, manifest) = registry.image("child", &[layer("one"), layer("two")]);
        let mut child = descriptor(media::OCI_MANIFEST, digest, manifest.to_string().len());
        child["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index =
            json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [child]});
        registry.manifest("latest", media::OCI_INDEX, &index);
        image = json!({"child": digest.to_string(), "manifest": manifest});
    }
    for repository in ["library/busybox", "somebody/busybox"] {
        hub.share(repository);
    }
    fallback.share("docker/library/busybox");
    (registries, place, image)
}

const THROTTLED: &[u8] = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"enough"}]}"#;

/// Where Docker Hub may have had enough: the paths of a child manifest, a config and a layer.
fn steps(image: &Value, repository: &str) -> [String; 3] {
    let [child, config, layer] = [
        &image["child"],
        &image["manifest"]["config"]["digest"],
        &image["manifest"]["layers"][1]["digest"],
    ]
    .map(|digest| digest.as_str().unwrap());
    [
        format!("/v2/{repository}/manifests/{child}"),
        format!("/v2/{repository}/blobs/{config}"),
        format!("/v2/{repository}/blobs/{layer}"),
    ]
}

#[tokio::test]
async fn a_mirror_that_has_it_is_enough() {
    let ([mirror, hub, _], place, _) = hub().await;
    mirror.share("library/busybox");
    pull(&place, "busybox").await.unwrap();
    assert!(!mirror.asked().is_empty());
    assert_eq!(hub.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_mirror_lacks_comes_from_docker_hub() {
    for step in 0..3 {
        let ([mirror, hub, _], place, image) = hub().await;
        mirror.share("library/busybox");
        mirror.answer(
            &steps(&image, "library/busybox")[step],
            404,
            "text/plain",
            b"",
        );
        pull(&place, "busybox").await.unwrap();
        assert!(!hub.asked().is_empty(), "{step}");
    }
}

#[tokio::test]
async fn docker_hub_may_have_enough_in_the_middle() {
    for step in 0..3 {
        let ([_, hub, fallback], place, image) = hub().await;
        for repository in ["library/busybox", "somebody/busybox"] {
            let path = &steps(&image, repository)[step];
            hub.answer(path, 429, "application/json", THROTTLED);
        }
        pull(&place, "busybox").await.unwrap();
        let asked = fallback.asked();
        assert!(
            asked.contains(&"/v2/docker/library/busybox/manifests/latest".to_owned()),
            "{step}: {asked:?}"
        );
        // Nobody else's image comes from there.
        let error = pull(&place, "somebody/busybox").await;
        if step == 0 {
            assert_eq!(error.unwrap_err().to_string(), "toomanyrequests: enough");
        }
        assert_eq!(fallback.asked(), Vec::<String>::new(), "{step}");
    }
}

#[tokio::test]
async fn docker_hub_may_give_no_token() {
    let ([_, hub, fallback], place, _) = hub().await;
    hub.want_tokens(1);
    hub.answer("/token", 429, "application/json", THROTTLED);
    pull(&place, "busybox").await.unwrap();
    assert!(!fallback.asked().is_empty());
}

#[tokio::test]
async fn a_fallback_that_lacks_it_does_not_hide_why_it_was_asked() {
    let ([_, hub, fallback], place, image) = hub().await;
    let [child, ..] = steps(&image, "library/busybox");
    hub.answer(&child, 429, "application/json", THROTTLED);
    let [child, ..] = steps(&image, "docker/library/busybox");
    fallback.answer(&child, 404, "text/plain", b"");
    let error = pull(&place, "busybox").await.unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: enough");
}
