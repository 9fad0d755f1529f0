//! Convolutional networks as data: describe a net once, then summarise, train and run it near the machine's limit.
//!
//! The README has the tasks; `ARCHITECTURE.md` the map; [`prelude`] what most programs import. In short: [`net`] and [`ops`] describe, [`zoo`] has the named nets,
//! [`exec`] runs them, [`train`] is the loop, [`weights`] and [`data`] read and write files.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod axis;
mod canvas;
pub mod classifier;
pub mod columns;
pub mod compare;
mod csv;
pub mod data;
mod error;
pub mod evaluate;
pub mod exec;
pub mod files;
pub mod filter;
pub mod lecture;
mod markup;
pub mod net;
pub mod ops;
pub mod pairing;
pub mod predictor;
pub mod prelude;
mod random;
pub mod report;
pub mod roofline;
mod suggest;
mod tensor;
pub mod train;
pub mod weights;
pub mod zoo;

pub use convnet_kernels::geometry;
pub use error::{Error, Result};
pub use tensor::{StateDict, Tensor};

/// The README's examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
