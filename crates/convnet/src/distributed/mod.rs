//! Processes that train one net together, on one machine or on many, with results that do not depend on how many they are.
//!
//! A batch is cut into virtual shards ([`Recipe::shards`](crate::train::Recipe::shards)), each a pass of its own with its own
//! statistics of batch norm. Every process computes neighbouring shards ([`Shards`]). What they find is added up along a tree over
//! the shards that halves them again and again (`tree.rs`), wherever they were computed: so 1, 2, 4, … processes end with the
//! same bits. For the gradients each process adds up a slice: slices are exchanged all to all and the sums are gathered (`sum.rs`),
//! which is the traffic of a ring, twice `(size - 1) / size` of the gradients.
//!
//! [`Processes`] are what a trainer sees. A thread of theirs makes all calls to what connects them, a [`Collectives`]: MPI's with the
//! feature `mpi` (`mpi.rs`), threads of one process in tests.

mod launch;
#[cfg(feature = "mpi")]
pub mod mpi;
mod processes;
#[cfg(any(feature = "mpi", test))]
mod rounds;
mod scaling;
mod shards;
mod sum;
#[cfg(test)]
pub(crate) mod test_group;
#[cfg(test)]
mod tests;
mod tree;

pub use launch::{Launch, launched};
pub(crate) use processes::Summing;
pub use processes::{Collectives, Processes};
pub use scaling::{Link, ScaledStep, StepProfile};
pub use shards::Shards;
pub(crate) use sum::sum_of_steps;
pub(crate) use tree::Node;
