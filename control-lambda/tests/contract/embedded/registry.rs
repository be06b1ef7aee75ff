//! [`OciLayout`]: the contract, and what it promises beyond it.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use sockerless_control::embedded::images::OciLayout;
use sockerless_control::images::feed;
use sockerless_control::images::manifest::media;
use sockerless_control::ports::Registry;
use sockerless_control::ports::registry::Expected;

mod contract {
    use super::*;

    async fn registry() -> (Arc<dyn Registry>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Arc::new(OciLayout::open(folder.path()).unwrap()), folder)
    }

    crate::registry::registry_contract!(registry());
}

#[tokio::test]
async fn what_is_stored_is_a_valid_layout_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let text = Bytes::from_static(b"{\"schemaVersion\":2}");
    let digest = {
        let layout = OciLayout::open(folder.path()).unwrap();
        let any = Expected {
            digest: None,
            size: None,
            limit: 100,
        };
        layout
            .put_blob(feed::once(Bytes::from_static(b"blob")), any)
            .await
            .unwrap();
        layout
            .put_manifest(media::OCI_MANIFEST, text.clone())
            .await
            .unwrap()
    };
    // As if the process had died in the middle of a put.
    fs::write(folder.path().join("ingest/half"), "half").unwrap();
    let marker: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("oci-layout")).unwrap()).unwrap();
    assert_eq!(marker["imageLayoutVersion"], "1.0.0");
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], digest.to_string());
    let layout = OciLayout::open(folder.path()).unwrap();
    assert_eq!(layout.get_manifest(&digest).await.unwrap().1, text);
    assert_eq!(layout.list_blobs().await.unwrap().len(), 1);
    assert_eq!(
        fs::read_dir(folder.path().join("ingest")).unwrap().count(),
        0
    );
}
