//! Layer scale (Touvron et al. 2021, "Going deeper with image transformers", section 2): each channel times a trained number,
//! `[C, H, W]` → the same. The parameter is `layer_scale` `[C, 1, 1]`, as torchvision's ConvNeXt names and shapes it. Backward
//! keeps the input.

use super::{Init, Parameter, Problem, Role, Shape, expect_map};

/// Settings of a layer scale.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerScale {
    /// The first value of every factor.
    pub init: f32,
}

impl LayerScale {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        match self.init.is_finite() {
            true => expect_map(input).map(Shape::Map),
            false => Err(format!("expected a finite init_value, got {}", self.init)),
        }
    }

    pub(super) fn parameters(&self, input: Shape) -> Vec<Parameter> {
        let shape = vec![input.channels(), 1, 1];
        vec![Parameter { name: "layer_scale", shape, role: Role::Weight, init: Init::Constant(self.init) }]
    }
}
