//! What kind of work an operation does, for everything that treats whole kinds alike: drawings, tables of blocks, estimates
//! of time and memory, rewrites.

use super::Op;

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// The net's input.
    Input,
    /// A convolution.
    Convolution,
    /// A fully connected layer.
    Linear,
    /// Windows become single elements.
    Pooling,
    /// Normalises; needs more than one element for each that it gives.
    Normalization,
    /// A function of single elements, in place.
    Pointwise,
    /// Drops something in training; does nothing in inference.
    Dropout,
    /// Computes one value from several.
    Merge,
    /// Puts several values side by side.
    Join,
    /// Copies channels to other places, or leaves some out.
    Rearrangement,
    /// The same elements under another shape.
    Reshape,
}

impl Category {
    /// Whether the operation does a block's work; the others normalise, activate, merge or rearrange.
    pub fn is_main(self) -> bool {
        matches!(self, Category::Convolution | Category::Linear | Category::Pooling)
    }

    /// Whether an executor can compute it together with its neighbours, or without touching a number, so that it moves no
    /// memory of its own.
    pub fn is_free(self) -> bool {
        matches!(self, Category::Pointwise | Category::Dropout | Category::Join | Category::Reshape)
    }
}

impl Op {
    /// Whether it has running statistics: moved by training, used in inference.
    pub fn has_running_statistics(&self) -> bool {
        match self {
            Op::BatchNorm2d(_) => true,
            Op::Input(_) | Op::Conv2d(_) | Op::Linear(_) | Op::LayerNorm2d(_) | Op::LocalResponseNorm(_) => false,
            Op::Activation(_) | Op::Softmax | Op::LayerScale(_) => false,
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => false,
            Op::Add | Op::Mul | Op::Concat | Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) => false,
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) | Op::Flatten => false,
        }
    }

    /// What kind of work the operation does.
    pub fn category(&self) -> Category {
        match self {
            Op::Input(_) => Category::Input,
            Op::Conv2d(_) => Category::Convolution,
            Op::Linear(_) => Category::Linear,
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => Category::Pooling,
            Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::LocalResponseNorm(_) | Op::Softmax => Category::Normalization,
            Op::Activation(_) | Op::LayerScale(_) => Category::Pointwise,
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => Category::Dropout,
            Op::Add | Op::Mul => Category::Merge,
            Op::Concat => Category::Join,
            Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) => Category::Rearrangement,
            Op::Flatten => Category::Reshape,
        }
    }
}
