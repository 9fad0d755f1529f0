//! Convolutional networks as data: describe a net once, then summarise, train and run it near the machine's limit.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod classifier;
pub mod columns;
pub mod data;
mod error;
pub mod evaluate;
pub mod exec;
pub mod files;
pub mod net;
pub mod ops;
mod random;
mod suggest;
mod tensor;
pub mod train;
pub mod weights;
pub mod zoo;

pub use convnet_kernels::geometry;
pub use error::{Error, Result};
pub use tensor::{StateDict, Tensor};
