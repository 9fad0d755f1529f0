//! Weights: their first values, their files, and whether they fit a net. Files are taken to come from strangers: sizes
//! are checked before memory is asked for, and whatever is wrong is an error that names the file.

mod check;
mod checkpoint;
mod digest;
mod init;
pub mod safetensors;

pub use check::check;
pub use checkpoint::{Checkpoint, Recovered, previous_path};
pub use digest::weights_sha256;
pub use init::init;
