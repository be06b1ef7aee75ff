//! The embedded adapters.

mod table;
