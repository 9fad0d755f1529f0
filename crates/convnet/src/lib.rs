//! Convolutional networks as data: describe a net once, then summarise, train and run it near the machine's limit.
//!
//! [`net`] and [`ops`] describe, [`zoo`] has the named nets, [`exec`] runs them, [`train`] is the loop, [`predictor`] answers with
//! labels, [`explain`] says why, [`weights`] and [`data`] read and write files. [`prelude`] has what most programs import. The README has the tasks,
//! `ARCHITECTURE.md` the map.
//!
//! ```
//! use convnet::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let mut net = Net::new("small", Shape::Map([1, 8, 8]))?;
//! net.then("conv", Conv2d::new(4, 3))?;
//! net.then("relu", Activation::Relu)?;
//! net.then("pool", AdaptiveAvgPool2d::new([1, 1]))?;
//! net.then("flatten", Op::Flatten)?;
//! net.then("linear", Linear::new(2))?;
//!
//! let (engine, batch) = (Engine::new(1)?, 2);
//! let mut training = Training::new(&net, &engine, batch, &weights::init(&net, 0), Update::ADAM, 0)?;
//! let (images, labels) = ([[0.0_f32; 64], [1.0; 64]].concat(), [0, 1]);
//! for _ in 0..50 {
//!     training.step(&images, &labels, 0.01)?;
//! }
//! let mut inference = Inference::new(&net, &engine, batch, &training.weights())?;
//! let logits = inference.run(&images, batch)?;
//! assert!(logits[0] > logits[1] && logits[3] > logits[2]);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! All but `failpoints` and `mpi` are on unless `default-features = false`, which leaves what training and inference need, and pictures as
//! PNG.
//!
//! | feature | what it adds | crates |
//! | --- | --- | --- |
//! | `download` | fetching MNIST ([`data::download`]) | ureq, rustls |
//! | `failpoints` | for tests of programs: `CONVNET_FAIL_AT=12` makes the call number 12 that writes to the disk fail | none |
//! | `formats` | reading BMP, GIF, TIFF and WebP | decoders of `image` |
//! | `image` | [`predictor::Input`] from an `image::DynamicImage` | none: its version of `image` becomes part of the interface |
//! | `jpeg` | reading and writing JPEG | libjpeg-turbo-rs |
//! | `lecture` | the lecture's rows, computed ([`lecture`]) | none |
//! | `mpi` | training by processes that `mpirun` starts (`distributed::mpi`); needs an MPI library and libclang | mpi |
//! | `onnx` | reading networks from ONNX files ([`mod@onnx`]) | prost |
//! | `plots` | the pictures and the page of a run, comparisons, sheets of filters ([`train::plots`], [`mod@report`], [`compare`]) | plotters, a font |
//!
//! # Errors
//!
//! Every fallible function returns [`Error`], whose message is for a person and whose fields are for a program. What a build
//! leaves out is an [`Error::Feature`] or [`data::PictureError::Feature`] that names the feature.
//!
//! # Versions
//!
//! The crate follows semantic versioning: variants and fields of errors may become more in a minor version, and so may the rows
//! of [`zoo::models`]. Weights that training gives may differ between minor versions, by rounding alone; between patch versions
//! they have the same bits. Rust 1.95 or newer.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations, missing_docs)]

#[cfg(feature = "plots")]
mod axis;
#[cfg(feature = "plots")]
mod canvas;
pub mod classifier;
pub mod columns;
#[cfg(feature = "plots")]
pub mod compare;
mod csv;
pub mod data;
pub mod distributed;
mod error;
pub mod evaluate;
pub mod exec;
pub mod explain;
pub mod files;
pub mod filter;
#[cfg(feature = "lecture")]
pub mod lecture;
#[cfg_attr(not(feature = "plots"), allow(dead_code, reason = "a drawing escapes its text, and no more"))]
mod markup;
pub mod net;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod ops;
pub mod pairing;
mod parallel;
pub mod predictor;
pub mod prelude;
mod random;
#[cfg(feature = "plots")]
pub mod report;
pub mod roofline;
pub mod study;
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
