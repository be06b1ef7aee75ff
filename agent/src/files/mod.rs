//! The container's files for clients: `docker cp` and `docker export`, without any
//! program of the image.
//!
//! The agent has the container's root for its own, and more rights than the container's
//! processes, which may change every path at any time. Therefore no path is ever
//! given to the kernel whole: [`root`] opens it name by name and resolves links itself.

pub(crate) mod extract;
pub(crate) mod pack;
pub(crate) mod path;
pub(crate) mod root;
pub(crate) mod stat;
