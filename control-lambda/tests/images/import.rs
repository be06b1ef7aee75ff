//! What an import makes of a tar.

use std::fs;

use sockerless_control::images::changes;
use sockerless_control::images::import::Imported;
use sockerless_control::images::reference::Reference;

use super::archives::{Tar, gzip};
use super::setup::{Place, body, place};

async fn import(place: &Place, tar: &[u8], name: Option<&str>) -> Result<String, String> {
    let reference = name.map(|name| Reference::parse(name).unwrap());
    let wanted = Imported {
        reference: reference.as_ref(),
        config: changes::apply(["CMD [\"sh\"]"]).unwrap(),
        comment: "Imported from -".to_owned(),
        architecture: None,
    };
    let imported = place
        .images
        .import(&place.namespace, body(tar), wanted)
        .await;
    imported.map(|id| id.to_string()).map_err(|e| e.to_string())
}

#[tokio::test]
async fn a_tar_becomes_an_image_of_one_layer() {
    let place = place();
    let tar = Tar::new().file("text", b"one").end();
    for (name, bytes) in [("plain", tar.clone()), ("packed", gzip(&tar))] {
        let id = import(&place, &bytes, Some(name)).await.unwrap();
        let now = place.now();
        let catalog = &place.images.catalog;
        let image = catalog.resolve(&place.namespace, name, now).await.unwrap();
        assert_eq!(image.id.to_string(), id);
        assert!(image.last_tagged.is_some());
        let config = place.images.config(&image.id).await.unwrap();
        assert_eq!(config.config.unwrap().cmd, ["sh"]);
        assert_eq!(config.comment, "Imported from -");
        let root = place.layers_of(name).await.remove(0);
        assert_eq!(fs::read(root.join("text")).unwrap(), b"one");
    }
    import(&place, &tar, None).await.unwrap();
    let images = place
        .images
        .catalog
        .list(&place.namespace, place.now())
        .await;
    assert_eq!(images.unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_no_root_is_refused() {
    for (bytes, why) in [
        (vec![b'x'; 5000], "archive/tar: invalid tar header"),
        (
            Tar::new().file("../evil", b"x").end(),
            "invalid entry name \"../evil\"",
        ),
        (Tar::new().cut_file("f", 5000, b"x"), "unexpected EOF"),
    ] {
        let place = place();
        assert_eq!(import(&place, &bytes, Some("x")).await, Err(why.to_owned()));
        assert_eq!(place.leftovers().await, Vec::<String>::new());
    }
}
