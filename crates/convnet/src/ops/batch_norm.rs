//! Batch normalisation (Ioffe and Szegedy 2015, algorithm 1): `[C, H, W]` → the same.
//! Weight and bias `[C]`; buffers running_mean and running_var `[C]`. Training normalises with the batch's mean and
//! biased variance, and moves the running values towards its mean and unbiased variance; inference uses the running
//! values. Backward keeps the input and the batch's statistics.

use super::{Init, Parameter, Problem, Role, Shape, expect_map};

/// Settings of a batch normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm2d {
    /// Added to the variance before its square root.
    pub eps: f32,
    /// Share of the running value that a batch replaces.
    pub momentum: f32,
}

impl Default for BatchNorm2d {
    /// PyTorch's: eps 1e-5, momentum 0.1.
    fn default() -> BatchNorm2d {
        BatchNorm2d { eps: 1e-5, momentum: 0.1 }
    }
}

impl BatchNorm2d {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let positive = self.eps.is_finite() && self.eps > 0.0;
        if !positive || !(0.0..=1.0).contains(&self.momentum) {
            return Err(format!("expected eps > 0 and momentum in 0..1, got {} and {}", self.eps, self.momentum));
        }
        expect_map(input).map(Shape::Map)
    }

    pub(super) fn parameters(input: Shape) -> Vec<Parameter> {
        let [channels, ..] = expect_map(input).expect("shape was checked when the layer was added");
        let tensor = |name, role, value| Parameter { name, shape: vec![channels], role, init: Init::Constant(value) };
        vec![
            tensor("weight", Role::Weight, 1.0),
            tensor("bias", Role::Bias, 0.0),
            tensor("running_mean", Role::Buffer, 0.0),
            tensor("running_var", Role::Buffer, 1.0),
        ]
    }
}
