//! What an operation is to a classifier's head: the last layer whose outputs are the classes, and what may follow it.

use super::{Conv2d, Linear, Op};

/// An operation seen from a net's output.
pub(crate) enum Head {
    /// Its outputs can be given another number: the operation with that number.
    Layer(Box<dyn Fn(usize) -> Op>),
    /// It keeps classes apart, so the head lies before it.
    Passes,
    /// Neither.
    Other,
}

impl Op {
    /// What it is to a head.
    pub(crate) fn head(&self) -> Head {
        match self {
            Op::Linear(linear) => {
                let linear = linear.clone();
                Head::Layer(Box::new(move |outputs| Op::Linear(Linear { out_features: outputs, ..linear.clone() })))
            }
            Op::Conv2d(conv) => {
                let conv = conv.clone();
                Head::Layer(Box::new(move |outputs| Op::Conv2d(Conv2d { out_channels: outputs, ..conv.clone() })))
            }
            Op::Activation(_)
            | Op::Softmax
            | Op::MaxPool2d(_)
            | Op::AvgPool2d(_)
            | Op::AdaptiveAvgPool2d(_)
            | Op::Dropout(_)
            | Op::Dropout2d(_)
            | Op::StochasticDepth(_)
            | Op::Flatten => Head::Passes,
            Op::Input(_)
            | Op::BatchNorm2d(_)
            | Op::LayerNorm2d(_)
            | Op::LocalResponseNorm(_)
            | Op::LayerScale(_)
            | Op::Add
            | Op::Mul
            | Op::Concat
            | Op::PadChannels(_)
            | Op::Slice(_)
            | Op::ChannelShuffle(_) => Head::Other,
        }
    }
}
