//! The container's lifecycle: a pure state machine.
