//! Fully connected layer: `[in]` → `[out_features]`. Weight `[out_features, in]`, bias `[out_features]`. Backward keeps
//! the input.

use super::{InitRule, Parameter, Problem, Shape, affine};

/// Settings of a fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Length of the output.
    pub out_features: usize,
    /// Whether a number per output is added.
    pub bias: bool,
    /// How weight and bias start.
    pub init: [InitRule; 2],
}

impl Linear {
    /// With bias, starting as [`InitRule::KAIMING`].
    pub const fn new(out_features: usize) -> Linear {
        Linear { out_features, bias: true, init: InitRule::KAIMING }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        if self.out_features == 0 {
            return Err("expected at least 1 output feature, got 0".into());
        }
        match input {
            Shape::Vector(_) => Ok(Shape::Vector(self.out_features)),
            Shape::Map(_) => Err(format!("expected a vector, got maps of {input}: put a flatten layer before it")),
        }
    }

    pub(super) fn parameters(&self, input: Shape) -> Vec<Parameter> {
        affine(vec![self.out_features, input.elements()], self.bias, self.init)
    }
}
