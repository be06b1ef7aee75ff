//! What a load makes of an archive.

use std::fs;

use serde_json::json;
use sockerless_control::images::Digest;
use sockerless_control::images::catalog::CatalogError;

use super::archives::{Tar, config, docker_archive, gzip, image, oci_archive, zstd};
use super::setup::{body, place};
use super::transfer::numbers;

fn layer(text: &str) -> Vec<u8> {
    Tar::new().file("text", text.as_bytes()).end()
}

#[tokio::test]
async fn a_docker_archive_is_loaded_with_all_its_names() {
    let place = place();
    let layers = [layer("one"), layer("two")];
    let archive = docker_archive(&config(&layers), &["x:1", "repo/x:2"], &layers);
    assert_eq!(
        place.loaded(&archive).await,
        "Loaded image: x:1\nLoaded image: repo/x:2\n"
    );
    let now = place.now();
    let find = async |name: &str| {
        let catalog = &place.images.catalog;
        catalog.resolve(&place.namespace, name, now).await
    };
    let image = find("x:1").await.unwrap();
    assert_eq!(find("repo/x:2").await.unwrap(), image);
    assert_eq!(find(&image.id.hex()).await.unwrap(), image);
    assert_eq!(find(&image.id.to_string()).await.unwrap(), image);
    assert_eq!(find(&image.id.short()).await.unwrap(), image);
    assert_eq!(image.size, 6);
    assert_eq!(image.labels.unwrap()["made.by"], "hand");
    assert_eq!(
        find("x").await.unwrap_err().to_string(),
        "No such image: x:latest"
    );
    let roots = place.layers_of("x:1").await;
    assert_eq!(fs::read(roots[0].join("text")).unwrap(), b"one");
    assert_eq!(fs::read(roots[1].join("text")).unwrap(), b"two");
}

#[tokio::test]
async fn a_whole_archive_may_be_compressed() {
    let archive = image("x:1", &[layer("one")]);
    for compressed in [gzip(&archive), zstd(&archive)] {
        assert_eq!(place().loaded(&compressed).await, "Loaded image: x:1\n");
    }
}

#[tokio::test]
async fn an_oci_layout_is_loaded_too() {
    let place = place();
    let layers = [layer("one")];
    let archive = oci_archive("docker.io/library/x:1", &layers, &[gzip(&layers[0])]);
    assert_eq!(place.loaded(&archive).await, "Loaded image: x:1\n");
    let root = place.layers_of("x:1").await.remove(0);
    assert_eq!(fs::read(root.join("text")).unwrap(), b"one");
}

#[tokio::test]
async fn an_image_without_a_name_is_told_by_its_id() {
    let place = place();
    let layers = [layer("one")];
    let config = config(&layers);
    let id = Digest::of(config.to_string().as_bytes());
    let archive = docker_archive(&config, &[], &layers);
    assert_eq!(
        place.loaded(&archive).await,
        format!("Loaded image ID: {id}\n")
    );
}

#[tokio::test]
async fn a_name_moves_to_the_image_that_was_loaded_last() {
    let place = place();
    place.load(&image("x:1", &[layer("one")])).await.unwrap();
    let now = place.now();
    let catalog = &place.images.catalog;
    let old = catalog.resolve(&place.namespace, "x:1", now).await.unwrap();
    assert_eq!(
        place.loaded(&image("x:1", &[layer("two")])).await,
        format!(
            "The image x:1 already exists, renaming the old one with ID {} to empty string\n\
             Loaded image: x:1\n",
            old.id
        )
    );
    let old = catalog.get(&place.namespace, &old.id, now).await.unwrap();
    assert!(old.unwrap().references.is_empty());
}

#[tokio::test]
async fn layers_in_links_are_found() {
    // As podman writes Docker archives.
    let layer = layer("one");
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["id/layer.tar"]}]);
    let archive = Tar::new()
        .file("blob.tar", &layer)
        .symlink("id/layer.tar", "../blob.tar")
        .file("c.json", config(&[layer]).to_string().as_bytes())
        .file("manifest.json", manifest.to_string().as_bytes())
        .end();
    assert_eq!(place().loaded(&archive).await, "Loaded image: x:1\n");
}

#[tokio::test]
async fn what_two_images_share_goes_with_the_second() {
    let place = place();
    let (shared, own) = (layer("shared"), layer("own"));
    place.load(&image("a", &[shared.clone()])).await.unwrap();
    place.load(&image("b", &[shared, own])).await.unwrap();
    let catalog = &place.images.catalog;
    for (name, left) in [("b", 1), ("a", 0)] {
        let now = place.now();
        let found = catalog.resolve(&place.namespace, name, now).await.unwrap();
        for reference in &found.references {
            catalog
                .untag(&place.namespace, &found.id, reference, now)
                .await
                .unwrap();
        }
        assert!(
            catalog
                .remove(&place.namespace, &found.id, false, now)
                .await
                .unwrap()
        );
        place.images.collect_garbage().await.unwrap();
        assert_eq!(place.images.layers.list().await.unwrap().len(), left);
    }
    assert!(
        place.leftovers().await.is_empty(),
        "{:?}",
        place.leftovers().await
    );
}

#[tokio::test]
async fn namespaces_see_their_own_images_only() {
    let place = place();
    place.load(&image("x:1", &[layer("one")])).await.unwrap();
    let other = "other".parse().unwrap();
    let found = place
        .images
        .catalog
        .resolve(&other, "x:1", place.now())
        .await;
    assert!(matches!(found, Err(CatalogError::NoSuchImage(_))));
}

#[tokio::test]
async fn progress_is_told_unless_quiet() {
    let place = place();
    let archive = image("x:1", &[Tar::new().file("f", &vec![1; 3_000_000]).end()]);
    let mut messages = Vec::new();
    place
        .images
        .load(&place.namespace, body(&archive), None, false, &mut messages)
        .await
        .unwrap();
    let loading: Vec<_> = messages
        .iter()
        .filter(|m| m.status == "Loading layer")
        .collect();
    assert!(loading.len() > 2);
    let numbers = numbers(&messages, "Loading layer");
    assert!(numbers.is_sorted(), "{numbers:?}");
    let (current, total) = numbers[numbers.len() - 1];
    assert_eq!(current, total);
    assert!(numbers.iter().all(|(_, of)| *of == total), "{numbers:?}");
    assert_eq!(messages.last().unwrap().stream, "Loaded image: x:1\n");
}

#[tokio::test]
async fn the_same_archive_twice_at_once_is_one_image() {
    let place = place();
    let archive = image("x:1", &[Tar::new().file("f", &vec![1; 3_000_000]).end()]);
    let (a, b) = tokio::join!(place.load(&archive), place.load(&archive));
    a.unwrap();
    b.unwrap();
    let images = place
        .images
        .catalog
        .list(&place.namespace, place.now())
        .await;
    assert_eq!(images.unwrap().len(), 1);
    assert_eq!(place.layers_of("x:1").await.len(), 1);
}
