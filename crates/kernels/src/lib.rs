//! The compute primitives of convnet: slices and geometry in, slices out. This crate knows no graph.
#![warn(missing_docs)]

pub mod activation;
pub mod caches;
pub mod channel_scale;
pub mod channel_shuffle;
pub mod conv;
pub mod dropout;
pub mod geometry;
pub mod layer_norm;
pub mod layout;
pub mod linear;
pub mod local_response_norm;
pub mod loss;
pub mod memory;
pub mod merge;
pub mod norm;
pub mod optimizer;
mod panel_weights;
mod pixel_tiles;
pub mod pool;
pub mod precision;
pub mod random;
pub mod reduce;
pub mod reference;
pub mod roofline;
pub mod simd;
pub mod softmax;
pub mod statistics;
pub mod stem;
pub mod stochastic_depth;
#[cfg(test)]
mod test_maps;
pub mod threads;
