//! The compute primitives of convnet: slices and geometry in, slices out. This crate knows no graph.
#![warn(missing_docs)]

pub mod conv;
pub mod geometry;
pub mod layout;
pub mod linear;
pub mod memory;
pub mod simd;
pub mod threads;
pub mod norm;
pub mod random;
pub mod reference;
