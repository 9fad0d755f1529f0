//! The definition of every operation: naive loops over plain row-major NCHW slices, forward and backward, in f32 or
//! f64. Fast kernels are checked against these, and these against finite differences and PyTorch.
//!
//! Backward functions take the gradient of the loss by an operation's output and give it by its inputs and parameters.
//! Slices whose lengths do not fit the sizes given are a caller's mistake and panic.

pub mod activation;
pub mod batch_norm;
pub mod channel_scale;
pub mod channels;
pub mod conv2d;
pub mod cross_entropy;
pub mod dropout;
mod float;
pub mod gradcheck;
pub mod layer_norm;
pub mod linear;
pub mod local_response_norm;
pub mod optimizer;
pub mod pool;
pub mod softmax;

pub use float::Float;

/// Panics with a message when a slice is not as long as its sizes say.
#[track_caller]
fn expect_len<T>(what: &str, slice: &[T], expected: usize) {
    assert_eq!(slice.len(), expected, "{what}: expected {expected} elements, got {}", slice.len());
}
