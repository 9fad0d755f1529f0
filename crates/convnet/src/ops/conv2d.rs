//! Convolution as networks use it: cross-correlation. `[C, H, W]` → `[out_channels, H', W']` with H' and W' from
//! [`Window::output`]. Weight `[out_channels, C / groups, kh, kw]`, bias `[out_channels]`. Backward keeps the input.

use super::{InitRule, Parameter, Problem, Shape, affine, check_window, expect_map};
use crate::geometry::{Window, conv_macs};

/// Settings of a convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Filters, which is output channels.
    pub out_channels: usize,
    /// Kernel, stride, padding and dilation.
    pub window: Window,
    /// Parts into which channels are divided; each output part sees only its input part.
    pub groups: usize,
    /// Whether a number per output channel is added.
    pub bias: bool,
    /// How weight and bias start.
    pub init: [InitRule; 2],
}

impl Conv2d {
    /// `out_channels` filters of a window, one group, with bias, initialised as [`InitRule::KAIMING`]. A number is a square
    /// kernel at stride 1 without padding.
    ///
    /// ```
    /// use convnet::{geometry::Window, ops::Conv2d};
    /// assert_eq!(Conv2d::new(16, 3), Conv2d::new(16, Window::square(3)));
    /// ```
    pub fn new(out_channels: usize, window: impl Into<Window>) -> Conv2d {
        Conv2d { out_channels, window: window.into(), groups: 1, bias: true, init: InitRule::KAIMING }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let [channels, height, width] = expect_map(input)?;
        check_window(&self.window)?;
        if self.window.ceil_mode {
            return Err("expected ceil_mode off: only pooling can round its output up".into());
        }
        let Conv2d { out_channels, groups, .. } = self;
        if *out_channels == 0 {
            return Err("expected at least 1 output channel, got 0".into());
        }
        if *groups == 0 || !channels.is_multiple_of(*groups) || !out_channels.is_multiple_of(*groups) {
            return Err(format!(
                "expected groups that divide both the {channels} input and the {out_channels} output channels, got {groups}"
            ));
        }
        let [h, w] = self.window.output([height, width]).map_err(|e| e.to_string())?;
        Ok(Shape::Map([*out_channels, h, w]))
    }

    pub(super) fn parameters(&self, input: Shape) -> Vec<Parameter> {
        let [channels, ..] = expect_map(input).expect("shape was checked when the layer was added");
        let [kh, kw] = self.window.kernel;
        let in_channels = channels / self.groups;
        affine(vec![self.out_channels, in_channels, kh, kw], self.bias, self.init)
    }

    pub(super) fn macs(&self, input: Shape, output: Shape) -> u64 {
        match (input, output) {
            (Shape::Map([channels, ..]), Shape::Map([out_channels, h, w])) => {
                conv_macs(&self.window, channels, self.groups, out_channels, [h, w])
            }
            (Shape::Vector(_), _) | (_, Shape::Vector(_)) => 0,
        }
    }
}
