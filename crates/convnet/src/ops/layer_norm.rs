//! Layer normalisation (Ba, Kiros and Hinton 2016) over the channels of each pixel, as ConvNeXt uses it (Liu et al. 2022,
//! section 2.6): `[C, H, W]` → the same, or over the features of a vector, `[C]` → `[C]`. Weight and bias `[C]`. In PyTorch
//! it is `LayerNorm(C)` between two permutations. Training and inference compute the same. Backward keeps the input.

use super::{Init, Parameter, Problem, Role, Shape};

/// Settings of a layer normalisation over channels.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm2d {
    /// Added to the variance before its square root.
    pub eps: f32,
}

impl Default for LayerNorm2d {
    /// PyTorch's: eps 1e-5.
    fn default() -> LayerNorm2d {
        LayerNorm2d { eps: 1e-5 }
    }
}

impl LayerNorm2d {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        match self.eps.is_finite() && self.eps > 0.0 {
            true => Ok(input),
            false => Err(format!("expected eps > 0, got {}", self.eps)),
        }
    }

    pub(super) fn parameters(input: Shape) -> Vec<Parameter> {
        let tensor = |name, role, value| {
            let shape = vec![input.channels()];
            Parameter { name, shape, role, init: Init::Constant(value) }
        };
        vec![tensor("weight", Role::Weight, 1.0), tensor("bias", Role::Bias, 0.0)]
    }
}
