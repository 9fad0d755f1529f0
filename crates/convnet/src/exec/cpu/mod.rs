//! The CPU: nets lowered to stages of `convnet-kernels`, planned once, and run.
//!
//! [`plan`] puts together what does not change, [`session`] runs it. Everything that belongs to one stage (what it fuses,
//! keeps, needs and computes) stands in its file in [`stage`].

pub(super) mod lower;
pub(super) mod plan;
pub(super) mod session;
pub(super) mod stage;
pub(super) mod statistics;
