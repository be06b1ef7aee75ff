//! The container's files for clients: `docker cp`, `docker export`, `docker diff` and
//! `docker commit`, without any program of the image; and what is kept of them where
//! the environment keeps nothing.
//!
//! The agent has the container's root for its own, and more rights than the container's
//! processes, which may change every path at any time. Therefore no path is ever
//! given to the kernel whole: [`root`] opens it name by name and resolves links itself.

pub(crate) mod changes;
pub(crate) mod channel;
pub(crate) mod extract;
pub(crate) mod kept;
pub(crate) mod layer;
pub(crate) mod layers;
pub(crate) mod pack;
pub(crate) mod path;
pub(crate) mod root;
pub(crate) mod stat;
