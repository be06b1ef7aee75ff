//! A layer that nobody has vouched for, and the other documents of an image.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sockerless_control::images::config::ImageConfig;
use sockerless_control::images::layer;
use sockerless_control::images::manifest::{ManifestOrIndex, media};
use sockerless_control::images::reference::Reference;

fuzz_target!(|data: &[u8]| {
    drop(layer::check(data));
    drop(ImageConfig::parse(data));
    drop(ManifestOrIndex::parse(data, media::OCI_MANIFEST));
    drop(ManifestOrIndex::parse(data, media::OCI_INDEX));
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(reference) = Reference::parse(text)
    {
        assert_eq!(
            Reference::parse(&reference.familiar()).ok(),
            Some(reference),
            "a name's short form is the same name"
        );
    }
});
