//! The named networks, one file per family.

mod cnn;

pub use cnn::{Cnn, cnn};
