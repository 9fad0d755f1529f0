//! Fully connected layer: `[in]` → `[out_features]`, or at each pixel of maps, `[in, H, W]` → `[out_features, H, W]`. Weight
//! `[out_features, in]`, bias `[out_features]`. Backward keeps the input.

use super::{InitRule, Parameter, Problem, Shape, affine, saturating_product};

/// Settings of a fully connected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// Length of the output.
    pub out_features: usize,
    /// Whether a number per output is added.
    pub bias: bool,
    /// Whether the input is maps, whose channels at each pixel are the features: a 1×1 convolution with a linear layer's
    /// weights (PyTorch's `Linear` on channels-last maps).
    pub per_pixel: bool,
    /// How weight and bias start.
    pub init: [InitRule; 2],
}

impl Linear {
    /// A layer on a vector, with bias, starting as [`InitRule::KAIMING`].
    pub const fn new(out_features: usize) -> Linear {
        Linear { out_features, bias: true, per_pixel: false, init: InitRule::KAIMING }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        if self.out_features == 0 {
            return Err("expected at least 1 output feature, got 0".into());
        }
        match (input, self.per_pixel) {
            (Shape::Vector(_), false) => Ok(Shape::Vector(self.out_features)),
            (Shape::Map([_, h, w]), true) => Ok(Shape::Map([self.out_features, h, w])),
            (Shape::Map(_), false) => {
                Err(format!("expected a vector, got maps of {input}: put a flatten layer before it"))
            }
            (Shape::Vector(_), true) => {
                Err(format!("expected feature maps, got a vector of {input} features: leave per_pixel out"))
            }
        }
    }

    pub(super) fn parameters(&self, input: Shape) -> Vec<Parameter> {
        affine(vec![self.out_features, self.in_features(input)], self.bias, self.init)
    }

    pub(super) fn macs(&self, input: Shape) -> u64 {
        saturating_product(&[input.elements(), self.out_features]) as u64
    }

    fn in_features(&self, input: Shape) -> usize {
        if self.per_pixel { input.channels() } else { input.elements() }
    }
}
