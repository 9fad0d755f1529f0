//! Running a net: forward and backward, for training and inference.

pub mod reference;
