//! What a pull makes of what a registry says.

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sockerless_control::images::manifest::media;
use sockerless_control::images::platform::Platform;
use sockerless_control::images::progress::Message;
use sockerless_control::images::pull::{PullError, Wanted};
use sockerless_control::images::reference::Reference;
use sockerless_control::images::remote::{Credentials, OwnImages};

use super::archives::{Tar, gzip};
use super::registry::{Canned, Registry, descriptor};
use super::setup::{Place, place};

pub(crate) fn layer(text: &str) -> Vec<u8> {
    Tar::new().file("text", text.as_bytes()).end()
}

pub(crate) async fn pull(place: &Place, name: &str) -> Result<Vec<String>, PullError> {
    pull_for(place, name, None).await
}

async fn pull_for(
    place: &Place,
    name: &str,
    platform: Option<&str>,
) -> Result<Vec<String>, PullError> {
    let mut messages: Vec<Message> = Vec::new();
    let reference = Reference::parse(name).unwrap();
    let platform = platform.map(|p| Platform::parse(p, &place.images.platform).unwrap());
    place
        .images
        .pull(
            &place.namespace,
            Wanted {
                reference: &reference,
                all_tags: false,
                platform: platform.as_ref(),
                credentials: &Credentials::default(),
            },
            &mut messages,
        )
        .await?;
    let is_step = |m: &Message| !matches!(m.status.as_str(), "Downloading" | "Extracting");
    Ok(messages
        .into_iter()
        .filter(is_step)
        .map(|m| format!("{} {}", m.id, m.status).trim().to_owned())
        .collect())
}

async fn refused(registry: &Registry, tag: &str, why: &str) {
    let place = place();
    let name = format!("{}/r:{tag}", registry.address);
    let error = pull(&place, &name).await.unwrap_err().to_string();
    assert!(error.contains(why), "{error:?} does not say {why:?}");
    assert_eq!(place.leftovers().await, Vec::<String>::new(), "{why}");
}

#[tokio::test]
async fn an_image_is_pulled_once() {
    let registry = Registry::start().await;
    let layers = [layer("one"), layer("two")];
    let (digest, _) = registry.image("v1", &layers);
    let place = place();
    let name = format!("{}/r:v1", registry.address);
    let (a, b) = (gzip(&layers[0]), gzip(&layers[1]));
    let ids = [&a, &b].map(|blob| sockerless_control::images::Digest::of(blob).short());
    let mut steps = pull(&place, &name).await.unwrap();
    // The two layers come in any order.
    steps[3..9].sort();
    let mut middle: Vec<String> = ids
        .iter()
        .flat_map(|id| {
            ["Verifying Checksum", "Download complete", "Pull complete"]
                .map(|step| format!("{id} {step}"))
        })
        .collect();
    middle.sort();
    assert_eq!(steps[0], "v1 Pulling from r");
    assert_eq!(steps[1], format!("{} Pulling fs layer", ids[0]));
    assert_eq!(steps[2], format!("{} Pulling fs layer", ids[1]));
    assert_eq!(steps[3..9], middle);
    let digest_line = format!("Digest: {digest}");
    assert_eq!(
        steps[9..],
        [
            digest_line.clone(),
            format!("Status: Downloaded newer image for {name}")
        ]
    );
    let roots = place.layers_of(&name).await;
    assert_eq!(fs::read(roots[1].join("text")).unwrap(), b"two");
    registry.asked();
    assert_eq!(
        pull(&place, &name).await.unwrap(),
        [
            "v1 Pulling from r".to_owned(),
            digest_line,
            format!("Status: Image is up to date for {name}")
        ]
    );
    let blobs = registry
        .asked()
        .into_iter()
        .filter(|p| p.contains("/blobs/"));
    assert_eq!(blobs.count(), 0);
    // Another image of the same layer fetches only what is new.
    registry.image("v2", &[layers[0].clone(), layer("three")]);
    let other = format!("{}/r:v2", registry.address);
    let steps = pull(&place, &other).await.unwrap();
    assert_eq!(steps[1], format!("{} Already exists", ids[0]));
    assert_eq!(place.layers_of(&other).await[0], roots[0]);
}

#[tokio::test]
async fn an_index_gives_the_manifest_for_the_platform() {
    let registry = Registry::start().await;
    let (amd, amd_manifest) = registry.image("amd", &[layer("amd")]);
    let (arm, arm_manifest) = registry.image("arm", &[layer("arm")]);
    let entry = |digest, manifest: &serde_json::Value, arch: &str| {
        let mut entry = descriptor(media::OCI_MANIFEST, digest, manifest.to_string().len());
        entry["platform"] = json!({"os": "linux", "architecture": arch});
        entry
    };
    let mut attestation = entry(arm, &arm_manifest, "amd64");
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [
        attestation, entry(arm, &arm_manifest, "arm64"), entry(amd, &amd_manifest, "amd64")
    ]});
    let digest = registry.manifest("multi", media::OCI_INDEX, &index);
    let place = place();
    let name = format!("{}/r:multi", registry.address);
    for (platform, text) in [(None, "amd"), (Some("linux/arm64"), "arm")] {
        let steps = pull_for(&place, &name, platform).await.unwrap();
        assert!(steps.contains(&format!("Digest: {digest}")), "{steps:?}");
        let root = place.layers_of(&name).await.remove(0);
        assert_eq!(fs::read(root.join("text")).unwrap(), text.as_bytes());
    }
    let error = pull_for(&place, &name, Some("linux/s390x"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/s390x in the manifest list entries \
         (available: linux/arm64, linux/amd64)"
    );
    let by_digest = format!("{}/r@{digest}", registry.address);
    let steps = pull(&place, &by_digest).await.unwrap();
    assert_eq!(steps[0], format!("{by_digest} Pulling from r"));
}

#[tokio::test]
async fn a_token_is_fetched_when_it_is_asked_for() {
    let registry = Registry::start().await;
    let realm = format!("http://{}/token", registry.address);
    let challenge = format!(r#"Bearer realm="{realm}",service="s",scope="repository:r:pull""#);
    let path = "/v2/r/manifests/v1";
    let open = format!("{path}#token");
    let (_, manifest) = registry.image("v1", &[layer("one")]);
    registry.answer(
        &open,
        200,
        media::OCI_MANIFEST,
        manifest.to_string().as_bytes(),
    );
    let refusal = |headers| {
        Canned {
        status: 401,
        headers,
        body: Bytes::from_static(
            br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"repository"}]}]}"#,
        ),
    }
    };
    registry.canned(
        path,
        refusal(vec![("WWW-Authenticate".to_owned(), challenge)]),
    );
    registry.answer("/token", 200, "application/json", br#"{"token":"good"}"#);
    let name = format!("{}/r:v1", registry.address);
    pull(&place(), &name).await.unwrap();
    let asked = registry.asked();
    assert!(
        asked
            .iter()
            .any(|p| p == "/token?scope=repository%3Ar%3Apull&service=s"),
        "{asked:?}"
    );
    // A token that does not help, and no token at all.
    registry.answer("/token", 200, "application/json", br#"{"token":"bad"}"#);
    refused(&registry, "v1", "unauthorized: authentication required").await;
    let basic = vec![(
        "WWW-Authenticate".to_owned(),
        "Basic realm=\"x\"".to_owned(),
    )];
    registry.canned(path, refusal(basic));
    refused(&registry, "v1", "no basic auth credentials").await;
    let scope = r#"Bearer realm="http://127.0.0.1:1/",error="insufficient_scope""#;
    registry.canned(
        path,
        refusal(vec![("WWW-Authenticate".to_owned(), scope.to_owned())]),
    );
    let error = pull(&place(), &name).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
}

/// Everybody may read one repository.
#[derive(Debug)]
struct One(String);

#[async_trait]
impl OwnImages for One {
    async fn credentials(&self, host: &str, path: &str) -> Result<Option<Credentials>, String> {
        Ok((host == self.0 && path == "r").then(|| Credentials {
            registry_token: "good".to_owned(),
            ..Credentials::default()
        }))
    }
}

#[tokio::test]
async fn credentials_of_its_own_are_for_its_own_images() {
    let registry = Registry::start().await;
    let (_, manifest) = registry.image("v1", &[layer("one")]);
    let manifest = manifest.to_string();
    for path in ["r", "s"] {
        let asked = format!("/v2/{path}/manifests/v1");
        let challenge = r#"Bearer realm="http://127.0.0.1:1/",service="s""#.to_owned();
        registry.canned(
            &asked,
            Canned {
                status: 401,
                headers: vec![("WWW-Authenticate".to_owned(), challenge)],
                body: Bytes::new(),
            },
        );
        let open = format!("{asked}#token");
        registry.answer(&open, 200, media::OCI_MANIFEST, manifest.as_bytes());
    }
    let own = || {
        let place = place();
        let own = Arc::new(One(registry.address.clone()));
        let images = place.images.clone().with_own(own);
        Place { images, ..place }
    };
    pull(&own(), &format!("{}/r:v1", registry.address))
        .await
        .unwrap();
    // Another repository, and another control plane.
    for (place, path) in [(own(), "s"), (place(), "r")] {
        let name = format!("{}/{path}:v1", registry.address);
        let error = pull(&place, &name).await.unwrap_err().to_string();
        assert!(error.contains("connection refused"), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_there() {
    let registry = Registry::start().await;
    let name = format!("{}/r:none", registry.address);
    let error = pull(&place(), &name).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("manifest for {name} not found: manifest unknown: manifest unknown")
    );
    assert_eq!(error.status(), 404);
    let error = pull(&place(), "127.0.0.1:1/r:v1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"
    );
    assert_eq!(error.status(), 500);
}

#[tokio::test]
async fn hostile_registries() {
    let registry = Registry::start().await;
    let layers = [layer("one")];
    let (_, manifest) = registry.image("good", &layers);
    let stored = gzip(&layers[0]);
    let digest = sockerless_control::images::Digest::of(&stored);
    let blob = format!("/v2/r/blobs/{digest}");

    // Other bytes than were announced, of the same length, fewer, and more.
    let mut other = stored.clone();
    other[20] ^= 1;
    let longer = [&stored[..], b"more"].concat();
    for wrong in [&other[..], &stored[..stored.len() - 1], &longer] {
        registry.answer(&blob, 200, "application/octet-stream", wrong);
        let why = format!("filesystem layer verification failed for digest {digest}");
        refused(&registry, "good", &why).await;
    }
    registry.answer(&blob, 404, "application/json", b"");
    refused(&registry, "good", "unknown blob").await;
    registry.answer(&blob, 200, "application/octet-stream", &stored);

    // A config of other bytes, of the wrong type, and one too large.
    let config = manifest["config"]["digest"].as_str().unwrap().to_owned();
    registry.answer(&format!("/v2/r/blobs/{config}"), 200, "x", b"{}");
    refused(&registry, "good", "image config verification failed").await;
    let mut bad = manifest.clone();
    let list = registry.blob(b"[]");
    bad["config"] = descriptor(media::OCI_CONFIG, list, 2);
    registry.manifest("bad", media::OCI_MANIFEST, &bad);
    refused(&registry, "bad", "image config is not valid").await;
    bad["config"] = descriptor(media::OCI_CONFIG, list, 100 << 20);
    registry.manifest("bad", media::OCI_MANIFEST, &bad);
    refused(&registry, "bad", "larger than 4194304 bytes").await;
    bad["config"] = descriptor("application/vnd.cncf.helm.config.v1+json", list, 2);
    registry.manifest("bad", media::OCI_MANIFEST, &bad);
    refused(&registry, "bad", "not of an image").await;

    // Layers that the config does not know.
    let (_, mut twice) = registry.image("twice", &layers);
    let one = twice["layers"][0].clone();
    twice["layers"] = json!([one, one]);
    registry.manifest("twice", media::OCI_MANIFEST, &twice);
    refused(&registry, "twice", "layers from manifest don't match").await;

    // A manifest that has no end, one that is none, and the first schema.
    let path = "/v2/r/manifests/huge";
    registry.answer(path, 200, media::OCI_MANIFEST, &vec![b' '; 100 << 20]);
    refused(&registry, "huge", "more than 4194304 bytes").await;
    registry.answer(path, 200, media::OCI_MANIFEST, b"nonsense");
    refused(&registry, "huge", "manifest is not valid").await;
    registry.answer(path, 200, "application/json", br#"{"schemaVersion":1}"#);
    refused(&registry, "huge", "schema 1").await;

    // An index that leads to itself can only be one whose digest is a lie.
    let digest = sockerless_control::images::Digest::of(b"itself");
    let mut entry = descriptor(media::OCI_INDEX, digest, 100);
    entry["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]});
    registry.manifest("circle", media::OCI_INDEX, &index);
    let lie = format!("/v2/r/manifests/{digest}");
    registry.answer(&lie, 200, media::OCI_INDEX, index.to_string().as_bytes());
    refused(&registry, "circle", "manifest verification failed").await;
}
