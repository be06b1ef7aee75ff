//! The container's lifecycle: a pure state machine.
//!
//! [`step`] takes the state, an input and the present time, and says what the
//! state becomes and which effects follow, or refuses. It is total: every input
//! is decided in every phase, without a wildcard. Effects are idempotent and
//! follow from the state, so that a control plane that died between saving and
//! acting is repaired by stepping again.
//!
//! What a client wants ([`Desired`]) and what is known ([`Phase`]) are apart:
//! only an observed end of a run ends a container.

mod ending;
mod input;
mod restart;
mod state;
mod step;

pub use input::{Effect, Event, Input, Refusal, StartResult};
pub use restart::{RestartPolicy, Restarts};
pub use state::{Cause, Desired, Evidence, Exit, Lifecycle, Phase, Run};
pub use step::{DEADLINE_GRACE, RESTART_GRACE, step};

#[cfg(test)]
mod tests;
