//! A net cut into stages: what one kernel call computes, forward and backward. `cut.rs` makes them.

use super::parameters::Parameters;
use crate::ops::Shape;
use convnet_kernels::activation::Activation;
use convnet_kernels::conv::Conv;
use convnet_kernels::layout::blocks;
use convnet_kernels::linear::Linear;
use convnet_kernels::local_response_norm::LocalResponseNorm;
use convnet_kernels::norm::NormChain;
use convnet_kernels::pool::Pool;
use convnet_kernels::precision::Precision;
use convnet_kernels::simd::LANES;
use convnet_kernels::stem::Stem;

/// How a value lies in memory, for one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// NCHW, of the net's input.
    Plain(usize),
    /// `[c/16][h][w][16]`.
    Blocked([usize; 3]),
    /// Features, padded to whole blocks of 16.
    Row(usize),
}

impl Layout {
    pub(super) fn of(shape: Shape) -> Layout {
        match shape {
            Shape::Map(dims) => Layout::Blocked(dims),
            Shape::Vector(features) => Layout::Row(features),
        }
    }

    /// Numbers of one picture.
    pub(super) fn len(self) -> usize {
        match self {
            Layout::Plain(len) => len,
            Layout::Blocked([c, h, w]) => blocks(c) * LANES * h * w,
            Layout::Row(features) => blocks(features) * LANES,
        }
    }

    /// Channels and pixels of what lies in blocks of 16; a row is maps of one pixel.
    pub(super) fn channels_and_pixels(self) -> [usize; 2] {
        match self {
            Layout::Plain(_) => unreachable!("only a convolution reads a plain input"),
            Layout::Blocked([c, h, w]) => [c, h * w],
            Layout::Row(features) => [features, 1],
        }
    }
}

/// What a stage computes of its sums.
pub(super) fn activation(relu: bool) -> Activation {
    if relu { Activation::Relu } else { Activation::Identity }
}

/// A dropout's place in its net, which is part of its seed, and its probability.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropNode {
    pub(super) node: usize,
    pub(super) p: f32,
}

/// A batch norm in front of a chain.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    /// Of a channel of one picture.
    pub(super) pixels: usize,
    pub(super) eps: f32,
    pub(super) momentum: f32,
    /// Indices of γ and β among the trained parameters.
    pub(super) weight: usize,
    pub(super) bias: usize,
    /// Indices of mean and variance among the buffers.
    pub(super) running: [usize; 2],
}

/// What a stage computes.
#[derive(Debug)]
pub(super) enum Kind {
    /// The net's input, from the caller's plain NCHW.
    Load,
    Conv {
        conv: Box<Conv>,
        weight: usize,
        bias: Option<usize>,
        /// Whether the second input is added before the ReLU.
        addend: bool,
        relu: bool,
    },
    /// Batch norm or nothing, ReLU or nothing, 2×2 pooling or nothing, channel dropout or nothing.
    Chain {
        chain: NormChain,
        norm: Option<Norm>,
        drop: Option<DropNode>,
    },
    /// A first convolution of few products and the chain with a norm that alone reads it, in training: the convolution's
    /// output is never stored.
    Stem {
        stem: Box<Stem>,
        weight: usize,
        bias: Option<usize>,
        norm: Norm,
        drop: Option<DropNode>,
    },
    /// Batch norm of the first input, the second added to it, and ReLU or nothing: the end of a residual block in training.
    NormSum {
        chain: NormChain,
        norm: Norm,
        relu: bool,
    },
    Linear {
        linear: Linear,
        weight: usize,
        bias: Option<usize>,
        relu: bool,
    },
    Pool(Pool),
    LocalResponseNorm(LocalResponseNorm),
    Relu,
    Tanh,
    /// Of single elements, or of whole channels.
    Dropout {
        drop: DropNode,
        channels: bool,
    },
    Flatten {
        from: [usize; 3],
    },
    /// Sum of all inputs, and ReLU or nothing.
    Add {
        relu: bool,
    },
    /// All inputs' channels, one after the other.
    Concat,
    /// Channels of zeros around the input's.
    PadChannels {
        before: usize,
    },
}

impl Kind {
    /// Whether backward reads the stage's output, which then may not be overwritten before.
    pub(super) fn backward_reads_output(&self) -> bool {
        match self {
            Kind::Conv { relu, .. } | Kind::Linear { relu, .. } | Kind::Add { relu } | Kind::NormSum { relu, .. } => {
                *relu
            }
            Kind::Relu | Kind::Tanh => true,
            Kind::Load | Kind::Chain { .. } | Kind::Stem { .. } | Kind::Pool(_) => false,
            Kind::LocalResponseNorm(_) => false,
            Kind::Dropout { .. } | Kind::Flatten { .. } | Kind::Concat | Kind::PadChannels { .. } => false,
        }
    }

    /// Whether backward reads one of the stage's inputs.
    pub(super) fn backward_reads_input(&self, position: usize) -> bool {
        match self {
            Kind::NormSum { .. } => position == 0,
            Kind::Conv { .. } | Kind::Chain { .. } | Kind::Stem { .. } | Kind::Linear { .. } => true,
            Kind::LocalResponseNorm(_) => true,
            Kind::Pool(pool) => pool.backward_reads_input(),
            Kind::Load | Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Flatten { .. } => false,
            Kind::Add { .. } | Kind::Concat | Kind::PadChannels { .. } => false,
        }
    }

    /// Whether the output may take the place of an input, which is then changed or added to.
    pub(super) fn works_in_place(&self) -> bool {
        match self {
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Add { .. } => true,
            Kind::Load | Kind::Conv { .. } | Kind::Chain { .. } | Kind::Linear { .. } | Kind::Pool(_) => false,
            Kind::LocalResponseNorm(_) | Kind::Flatten { .. } | Kind::Concat | Kind::PadChannels { .. } => false,
            Kind::NormSum { .. } | Kind::Stem { .. } => false,
        }
    }

    /// Whether in inference all inputs and the output may be stored in bf16.
    pub(super) fn takes_bf16(&self) -> bool {
        match self {
            Kind::Conv { .. } | Kind::Chain { .. } | Kind::Pool(_) | Kind::Concat => true,
            Kind::Load | Kind::Stem { .. } | Kind::NormSum { .. } | Kind::Linear { .. } => false,
            Kind::LocalResponseNorm(_) | Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Flatten { .. } => false,
            Kind::Add { .. } | Kind::PadChannels { .. } => false,
        }
    }

    /// What packs the weights that the stage multiplies with, and their index among the trained parameters.
    pub(super) fn weights(&self) -> Option<(usize, Weights<'_>)> {
        match self {
            Kind::Conv { conv, weight, .. } => Some((*weight, Weights::Conv(conv))),
            Kind::Stem { stem, weight, .. } => Some((*weight, Weights::Conv(stem.conv()))),
            Kind::Linear { linear, weight, .. } => Some((*weight, Weights::Linear(linear))),
            Kind::Load | Kind::Chain { .. } | Kind::NormSum { .. } | Kind::Pool(_) | Kind::LocalResponseNorm(_) => None,
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Flatten { .. } => None,
            Kind::Add { .. } | Kind::Concat | Kind::PadChannels { .. } => None,
        }
    }

    /// The batch norm of the first input or, in a stem, of the convolution, if there is one.
    pub(super) fn norm(&self) -> Option<&Norm> {
        match self {
            Kind::Chain { norm, .. } => norm.as_ref(),
            Kind::NormSum { norm, .. } | Kind::Stem { norm, .. } => Some(norm),
            Kind::Load | Kind::Conv { .. } | Kind::Linear { .. } | Kind::Pool(_) | Kind::LocalResponseNorm(_) => None,
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Flatten { .. } => None,
            Kind::Add { .. } | Kind::Concat | Kind::PadChannels { .. } => None,
        }
    }
}

/// Who knows how weights are packed.
pub(super) enum Weights<'a> {
    Conv(&'a Conv),
    Linear(&'a Linear),
}

/// One kernel call and its place.
#[derive(Debug)]
pub(super) struct Stage {
    /// Of the first node in it.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The stages whose outputs it reads.
    pub(super) inputs: Vec<usize>,
    pub(super) output: Layout,
    /// How the output is stored.
    pub(super) stored: Precision,
    /// Multiply-adds of a picture.
    pub(super) macs: u64,
    /// Pictures that it computes at a time, at most.
    pub(super) pictures: usize,
}

impl Stage {
    /// Floats of memory that a picture of the output takes.
    pub(super) fn floats(&self) -> usize {
        self.output.len() / self.stored.per_word()
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Training,
    Inference,
}

/// A net as stages in running order, and its parameters in the layouts that the stages read.
#[derive(Debug)]
pub(super) struct Stages {
    pub(super) stages: Vec<Stage>,
    pub(super) parameters: Parameters,
    /// The stages whose outputs the caller reads: the net's output, then the auxiliary ones.
    pub(super) outputs: Vec<usize>,
}

impl Stages {
    /// For each stage those that read its output, in running order; one that reads it twice stands there twice.
    pub(super) fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.stages.len()];
        for (index, stage) in self.stages.iter().enumerate() {
            stage.inputs.iter().for_each(|&input| readers[input].push(index));
        }
        readers
    }
}
