//! What torchvision's later families are built of: a convolution with batch norm and activation, and squeeze and excitation.

use super::path::{Path, adaptive_avg_pool};
use crate::Result;
use crate::geometry::Window;
use crate::net::NodeId;
use crate::ops::{Activation, BatchNorm2d, Conv2d, InitRule, Op};

/// How convolutions start: normal with the variance 2 / fan_out, biases 0.
pub(super) const FAN_OUT: [InitRule; 2] = [InitRule::KaimingNormalFanOut, InitRule::Constant(0.0)];

/// Convolution without bias, batch norm, activation: torchvision's `Conv2dNormActivation`, whose parts are numbered.
#[derive(Clone, Copy)]
pub(super) struct ConvNorm {
    /// The batch norm's epsilon.
    pub(super) eps: f32,
    /// The batch norm's momentum.
    pub(super) momentum: f32,
    /// What follows; nothing for the identity.
    pub(super) activation: Activation,
}

impl ConvNorm {
    /// With PyTorch's batch norm.
    pub(super) const fn new(activation: Activation) -> ConvNorm {
        ConvNorm { eps: 1e-5, momentum: 0.1, activation }
    }

    /// The same without an activation.
    pub(super) const fn linear(self) -> ConvNorm {
        ConvNorm { activation: Activation::Identity, ..self }
    }

    pub(super) fn norm(self) -> Op {
        Op::BatchNorm2d(BatchNorm2d { eps: self.eps, momentum: self.momentum })
    }

    /// The layers, without names.
    pub(super) fn layers(self, conv: Conv2d) -> impl Iterator<Item = Op> {
        let activation = (self.activation != Activation::Identity).then_some(Op::Activation(self.activation));
        [Op::Conv2d(conv), self.norm()].into_iter().chain(activation)
    }

    /// Adds the layers below a path.
    pub(super) fn add(self, mut at: Path, x: NodeId, conv: Conv2d) -> Result<NodeId> {
        at.chain(x, (0..).zip(self.layers(conv)))
    }
}

/// A convolution without bias whose odd kernel keeps the sides at stride 1.
pub(super) fn conv(channels: usize, kernel: usize, stride: usize) -> Conv2d {
    let window = Window::square(kernel).stride(stride).padding(kernel / 2);
    Conv2d { bias: false, init: FAN_OUT, ..Conv2d::new(channels, window) }
}

/// One filter to a channel.
pub(super) fn depthwise(channels: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d { groups: channels, ..conv(channels, kernel, stride) }
}

/// Squeeze and excitation (Hu, Shen and Sun 2018, arXiv:1709.01507): each channel times a number that two 1×1 convolutions
/// find from the channels' means.
pub(super) struct SqueezeExcitation {
    /// Channels between the two convolutions.
    pub(super) squeezed: usize,
    /// After the first convolution.
    pub(super) activation: Activation,
    /// After the second.
    pub(super) gate: Activation,
    /// How the convolutions start.
    pub(super) init: [InitRule; 2],
}

impl SqueezeExcitation {
    /// Adds the layers below a path.
    pub(super) fn add(&self, mut at: Path, x: NodeId) -> Result<NodeId> {
        let conv = |channels| Op::Conv2d(Conv2d { init: self.init, ..Conv2d::new(channels, Window::square(1)) });
        let layers = [
            ("avgpool", adaptive_avg_pool(1)),
            ("fc1", conv(self.squeezed)),
            ("activation", Op::Activation(self.activation)),
            ("fc2", conv(at.channels(x))),
            ("scale_activation", Op::Activation(self.gate)),
        ];
        let factors = at.chain(x, layers)?;
        at.join("mul", Op::Mul, &[x, factors])
    }
}

/// The multiple of 8 next to a number of channels, and not less than nine tenths of it: torchvision's `_make_divisible`.
pub(super) fn multiple_of_8(channels: f64) -> usize {
    let near = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (near as f64) < 0.9 * channels { near + 8 } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_as_torchvision_does() {
        for (channels, expected) in [(35.2, 32), (44.8, 48), (17.6, 16), (3.0, 8), (11.0, 16), (12.0, 16), (80.0, 80)] {
            assert_eq!(multiple_of_8(channels), expected, "{channels}");
        }
    }
}
