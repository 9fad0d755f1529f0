//! A net cut into stages: what one kernel call computes, forward and backward.
//!
//! Neighbouring nodes become one stage where a kernel does them in one pass and nobody else reads what is between them:
//! convolution or linear + ReLU; batch norm, ReLU, 2×2 pooling and channel dropout in any of the combinations that keep
//! this order. Nodes that the output does not need become none.

use super::parameters::Parameters;
use crate::geometry::Padding;
use crate::net::{Net, NodeId};
use crate::ops::{Op, Role, Shape};
use crate::{Error, Result};
use convnet_kernels::conv::{Conv, ConvShape, PLAIN_CHANNELS};
use convnet_kernels::layout::blocks;
use convnet_kernels::linear::Linear;
use convnet_kernels::norm::NormChain;
use convnet_kernels::pool::{Pool, PoolKind};
use convnet_kernels::simd::{Isa, LANES};

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

    /// Floats of one picture.
    pub(super) fn len(self) -> usize {
        match self {
            Layout::Plain(len) => len,
            Layout::Blocked([c, h, w]) => blocks(c) * LANES * h * w,
            Layout::Row(features) => blocks(features) * LANES,
        }
    }
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
        relu: bool,
    },
    /// Batch norm or nothing, ReLU or nothing, 2×2 pooling or nothing, channel dropout or nothing.
    Chain {
        chain: NormChain,
        norm: Option<Norm>,
        drop: Option<DropNode>,
    },
    Linear {
        linear: Linear,
        weight: usize,
        bias: Option<usize>,
        relu: bool,
    },
    Pool(Pool),
    Relu,
    /// Of single elements, or of whole channels.
    Dropout {
        drop: DropNode,
        channels: bool,
    },
    Flatten {
        from: [usize; 3],
    },
}

/// One kernel call and its place.
#[derive(Debug)]
pub(super) struct Stage {
    /// Of the first node in it.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The stage whose output it reads; its own index for the input.
    pub(super) input: usize,
    pub(super) output: Layout,
    /// Multiply-adds of a picture.
    pub(super) macs: u64,
}

impl Stage {
    /// Whether the stage changes its input's buffer in place.
    pub(super) fn in_place(&self) -> bool {
        matches!(self.kind, Kind::Relu | Kind::Dropout { .. })
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
}

/// Cuts a net into stages.
pub(super) fn cut(net: &Net, purpose: Purpose, isa: Isa) -> Result<Stages> {
    let readers = readers(net);
    let mut cutter = Cutter {
        net,
        purpose,
        isa,
        readers,
        stages: Vec::new(),
        of_node: Vec::new(),
        parameters: Parameters::default(),
    };
    cutter.of_node.resize(net.nodes().len(), None);
    for index in 0..net.nodes().len() {
        if cutter.of_node[index].is_none() && !cutter.readers[index].is_empty() {
            cutter.add(index)?;
        }
    }
    Ok(Stages { stages: cutter.stages, parameters: cutter.parameters })
}

/// Who reads each node's output, among the nodes that the net's output needs. The output itself is read by the caller,
/// who stands behind the last node.
fn readers(net: &Net) -> Vec<Vec<usize>> {
    let nodes = net.nodes();
    let mut readers = vec![Vec::new(); nodes.len()];
    readers[nodes.len() - 1].push(nodes.len());
    for (index, node) in nodes.iter().enumerate().rev() {
        if !readers[index].is_empty() {
            for input in &node.inputs {
                readers[input.index()].push(index);
            }
        }
    }
    readers
}

struct Cutter<'a> {
    net: &'a Net,
    purpose: Purpose,
    isa: Isa,
    readers: Vec<Vec<usize>>,
    stages: Vec<Stage>,
    /// The stage that computes each node.
    of_node: Vec<Option<usize>>,
    parameters: Parameters,
}

impl Cutter<'_> {
    /// The next node, if it alone reads this one.
    fn only_reader(&self, node: usize) -> Option<usize> {
        match self.readers[node].as_slice() {
            &[reader] if reader < self.net.nodes().len() => Some(reader),
            _ => None,
        }
    }

    fn op(&self, node: usize) -> &Op {
        &self.net.nodes()[node].op
    }

    fn input_shape(&self, node: usize) -> Shape {
        self.net.node(self.net.nodes()[node].inputs[0]).shape
    }

    fn map(&self, node: usize) -> [usize; 3] {
        match self.input_shape(node) {
            Shape::Map(dims) => dims,
            Shape::Vector(features) => [features, 1, 1],
        }
    }

    /// Adds the stage that begins with a node, and takes the nodes after it that fit.
    fn add(&mut self, node: usize) -> Result<()> {
        let first = &self.net.nodes()[node];
        if matches!(first.op, Op::Input(_)) {
            let layout = self.input_layout();
            return self.push(node, node, Kind::Load, layout);
        }
        let shape = first.shape;
        match first.op.clone() {
            Op::Input(_) => Ok(()),
            Op::Conv2d(op) => {
                let [in_channels, h, w] = self.map(node);
                let Shape::Map([out_channels, ..]) = shape else { return Ok(()) };
                let window = explicit(op.window, [h, w]);
                let conv = ConvShape { in_channels, out_channels, groups: op.groups, input: [h, w], window };
                let plain = matches!(self.stages[self.input_of(node)].output, Layout::Plain(_));
                let conv = Conv::new(conv, plain, self.isa).map_err(|e| self.problem(node, e.to_string()))?;
                let conv = Box::new(conv);
                let weight = self.parameters.add(self.net, node, "weight", self.stages.len(), conv.weights_len());
                let bias = op.bias.then(|| self.vector(node, "bias"));
                let (last, relu) = self.take_relu(node);
                self.push(node, last, Kind::Conv { conv, weight, bias, relu }, Layout::of(shape))
            }
            Op::Linear(op) => {
                let linear = Linear::new(self.input_shape(node).elements(), op.out_features, self.isa);
                let weight = self.parameters.add(self.net, node, "weight", self.stages.len(), linear.weights_len());
                let bias = op.bias.then(|| self.vector(node, "bias"));
                let (last, relu) = self.take_relu(node);
                self.push(node, last, Kind::Linear { linear, weight, bias, relu }, Layout::of(shape))
            }
            Op::BatchNorm2d(op) => {
                let norm = Norm {
                    eps: op.eps,
                    momentum: op.momentum,
                    weight: self.vector(node, "weight"),
                    bias: self.vector(node, "bias"),
                    running: ["running_mean", "running_var"].map(|name| self.vector(node, name)),
                };
                self.add_chain(node, Some(norm))
            }
            Op::LocalResponseNorm(_)
            | Op::Tanh
            | Op::AdaptiveAvgPool2d(_)
            | Op::Add
            | Op::Concat
            | Op::PadChannels(_) => Err(self.problem(node, "the engine does not run this yet".into())),
            Op::Relu if matches!(shape, Shape::Map(_)) && self.pool_after(node).is_some() => self.add_chain(node, None),
            Op::Relu => self.push(node, node, Kind::Relu, Layout::of(shape)),
            Op::MaxPool2d(op) => self.add_pool(node, op.window, PoolKind::Max),
            Op::AvgPool2d(op) => {
                self.add_pool(node, op.window, PoolKind::Avg { count_include_pad: op.count_include_pad })
            }
            Op::Dropout(op) => self.add_dropout(node, op.p, false),
            Op::Dropout2d(op) => self.add_dropout(node, op.p, true),
            Op::Flatten => {
                let from = self.map(node);
                self.push(node, node, Kind::Flatten { from }, Layout::of(shape))
            }
        }
    }

    fn vector(&mut self, node: usize, name: &str) -> usize {
        let stage = self.stages.len();
        self.parameters.add_vector(self.net, node, name, stage)
    }

    fn problem(&self, node: usize, problem: String) -> Error {
        let node = &self.net.nodes()[node];
        Error::Layer { layer: node.name.clone(), op: node.op.name(), problem }
    }

    /// A picture of few channels stays plain when only convolutions without groups read it.
    fn input_layout(&self) -> Layout {
        let shape = self.net.input_shape();
        let plain = |&reader: &usize| match self.net.nodes().get(reader).map(|n| &n.op) {
            Some(Op::Conv2d(op)) => op.groups == 1,
            Some(_) | None => false,
        };
        match shape {
            Shape::Map([c, h, w]) if c <= PLAIN_CHANNELS && self.readers[0].iter().all(plain) => {
                Layout::Plain(c * h * w)
            }
            Shape::Map(_) | Shape::Vector(_) => Layout::of(shape),
        }
    }

    /// The ReLU after a convolution or linear layer, unless it begins a chain with pooling.
    fn take_relu(&self, node: usize) -> (usize, bool) {
        let relu = self.only_reader(node).filter(|&next| matches!(self.op(next), Op::Relu));
        let chained = |&next: &usize| self.purpose == Purpose::Training && self.pool_after(next).is_some();
        match relu.filter(|next| !chained(next)) {
            Some(next) => (next, true),
            None => (node, false),
        }
    }

    /// The 2×2 pooling that alone reads a node.
    fn pool_after(&self, node: usize) -> Option<usize> {
        let next = self.only_reader(node)?;
        match (self.op(next), self.net.nodes()[node].shape) {
            (Op::MaxPool2d(op), Shape::Map([_, h, w])) if NormChain::pools(&op.window, [h, w]) => Some(next),
            (_, _) => None,
        }
    }

    /// A chain that begins with a batch norm or a ReLU.
    fn add_chain(&mut self, node: usize, norm: Option<Norm>) -> Result<()> {
        let [channels, h, w] = self.map(node);
        let mut last = node;
        let relu = match self.only_reader(node).filter(|&next| matches!(self.op(next), Op::Relu)) {
            _ if norm.is_none() => true,
            Some(next) => {
                last = next;
                true
            }
            None => false,
        };
        let pool = self.pool_after(last);
        last = pool.unwrap_or(last);
        let mut drop = None;
        if let Some(next) = self.only_reader(last)
            && let Op::Dropout2d(op) = self.op(next)
        {
            drop = Some(DropNode { node: next, p: op.p });
            last = next;
        }
        let chain = NormChain::new(channels, [h, w], relu, pool.is_some(), self.isa);
        let shape = self.net.nodes()[last].shape;
        self.push(node, last, Kind::Chain { chain, norm, drop }, Layout::of(shape))
    }

    fn add_pool(&mut self, node: usize, window: crate::geometry::Window, kind: PoolKind) -> Result<()> {
        let [channels, h, w] = self.map(node);
        let window = explicit(window, [h, w]);
        let pool = Pool::new(channels, [h, w], window, kind, self.isa);
        let pool = pool.map_err(|e| self.problem(node, e.to_string()))?;
        self.push(node, node, Kind::Pool(pool), Layout::of(self.net.nodes()[node].shape))
    }

    fn add_dropout(&mut self, node: usize, p: f32, channels: bool) -> Result<()> {
        let drop = DropNode { node, p };
        self.push(node, node, Kind::Dropout { drop, channels }, Layout::of(self.net.nodes()[node].shape))
    }

    /// The stage whose output a node reads.
    fn input_of(&self, node: usize) -> usize {
        self.of_node[self.net.nodes()[node].inputs[0].index()].expect("nodes stand in running order")
    }

    /// Adds a stage for the nodes from `first` to `last`, each the only reader of the one before.
    fn push(&mut self, first: usize, last: usize, kind: Kind, output: Layout) -> Result<()> {
        let index = self.stages.len();
        let input = if matches!(kind, Kind::Load) { index } else { self.input_of(first) };
        let node = &self.net.nodes()[first];
        let macs = node.op.macs(&self.net.input_shapes(NodeId(first)), node.shape);
        self.stages.push(Stage { name: node.name.clone(), kind, input, output, macs });
        let mut node = first;
        while node != last {
            self.of_node[node] = Some(index);
            node = self.only_reader(node).expect("fused nodes have one reader");
        }
        self.of_node[last] = Some(index);
        Ok(())
    }
}

/// The window with its padding in pixels.
fn explicit(window: crate::geometry::Window, input: [usize; 2]) -> crate::geometry::Window {
    let (begin, end) = window.pads(input);
    crate::geometry::Window { padding: Padding::Explicit { begin, end }, ..window }
}

/// Whether a parameter is trained.
pub(super) fn trained(role: Role) -> bool {
    match role {
        Role::Weight | Role::Bias => true,
        Role::Buffer => false,
    }
}
