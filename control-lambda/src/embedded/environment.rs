//! The machine's own clock and random numbers.

pub use crate::environment::SystemEnvironment;
