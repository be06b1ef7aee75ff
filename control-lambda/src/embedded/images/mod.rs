//! Images on this machine: an OCI layout for blobs, folders for unpacked layers.

mod files;
mod layers;
mod layout;
mod partial;
mod rootfs;
mod unpack;

pub use layers::{LayerFolders, OverlayXattr};
pub use layout::OciLayout;
pub use rootfs::{Rootfs, RootfsError};
