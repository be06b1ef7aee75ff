//! x
#![allow(dead_code)]
mod process;
mod spool;

fn main() {}
