//! Cuts a net into stages.
//!
//! Neighbouring nodes become one stage where a kernel does them in one pass and nobody else reads what is between them:
//! convolution or linear + ReLU; batch norm, ReLU, 2×2 pooling and channel dropout in any of the combinations that keep
//! this order; in training, a first convolution of few products with the chain after it; a sum + ReLU; a sum with the part
//! of it that is computed last, which in inference may be a convolution and in training a batch norm. Nodes that no output
//! needs become none, nor does a flattening whose linear layers can read maps.

use super::engine::Engine;
use super::parameters::Parameters;
use super::stage::{DropNode, Kind, Layout, Norm, Purpose, Stage, Stages, activation};
use crate::geometry::{Padding, Window};
use crate::net::{Net, NodeId};
use crate::ops::{Activation, BatchNorm2d, Conv2d, Op, Shape};
use crate::{Error, Result};
use convnet_kernels::conv::{Conv, ConvShape, PLAIN_CHANNELS, Setting};
use convnet_kernels::linear::Linear;
use convnet_kernels::local_response_norm::LocalResponseNorm;
use convnet_kernels::norm::NormChain;
use convnet_kernels::pool::{Pool, PoolKind};
use convnet_kernels::precision::Precision;
use convnet_kernels::simd::Isa;
use convnet_kernels::stem::Stem;

/// Cuts a net into stages for batches of up to `batch` pictures; for each node, the stage that begins with it computes so
/// many of `pictures` at a time on two threads.
pub(super) fn cut(net: &Net, purpose: Purpose, engine: &Engine, batch: usize, pictures: Vec<usize>) -> Result<Stages> {
    let readers = readers(net, purpose);
    let mut cutter = Cutter {
        net,
        purpose,
        isa: engine.set(),
        conv: Setting {
            batch,
            choice: engine.conv_choice(),
            precision: engine.product_precision(),
            fixed_weights: purpose == Purpose::Inference,
        },
        readers,
        pictures,
        caches: engine.threads().div_ceil(2),
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
    let of_node = |node: NodeId| cutter.of_node[node.index()].expect("outputs are needed");
    let auxiliaries = net.auxiliaries().iter().filter(|_| purpose == Purpose::Training);
    let outputs = [net.output()].into_iter().chain(auxiliaries.map(|auxiliary| auxiliary.node)).map(of_node).collect();
    Ok(Stages { stages: cutter.stages, parameters: cutter.parameters, outputs })
}

/// Who reads each node's output, among the nodes that an output needs. The outputs themselves are read by the caller,
/// who stands behind the last node.
fn readers(net: &Net, purpose: Purpose) -> Vec<Vec<usize>> {
    let nodes = net.nodes();
    let training = purpose == Purpose::Training;
    let needed = net.needed(training);
    let mut readers = vec![Vec::new(); nodes.len()];
    readers[nodes.len() - 1].push(nodes.len());
    for auxiliary in net.auxiliaries().iter().filter(|_| training) {
        readers[auxiliary.node.index()].push(nodes.len());
    }
    for (index, node) in nodes.iter().enumerate().filter(|&(index, _)| needed[index]) {
        for input in &node.inputs {
            readers[input.index()].push(index);
        }
    }
    readers
}

struct Cutter<'a> {
    net: &'a Net,
    purpose: Purpose,
    isa: Isa,
    conv: Setting,
    readers: Vec<Vec<usize>>,
    /// Pictures at a time for the stage that begins with each node, on two threads.
    pictures: Vec<usize>,
    /// Pairs of threads, each of which brings its caches.
    caches: usize,
    stages: Vec<Stage>,
    /// The stage that computes each node.
    of_node: Vec<Option<usize>>,
    parameters: Parameters,
}

/// A chain, and the last of its nodes.
struct Chained {
    chain: NormChain,
    drop: Option<DropNode>,
    last: usize,
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
        let (shape, layout) = (first.shape, Layout::of(first.shape));
        match first.op.clone() {
            Op::Input(_) => {
                let layout = self.input_layout();
                self.push(node, node, Kind::Load, layout)
            }
            Op::Conv2d(op) => self.add_conv(node, &op),
            Op::Linear(op) if !op.per_pixel => {
                let maps = self.stages[self.of_node(first.inputs[0])].output.channels_and_pixels();
                let linear = Linear::new(maps, op.out_features, self.isa, self.conv.precision, self.conv.fixed_weights);
                let weight = self.parameters.add(self.net, node, "weight", self.stages.len(), linear.weights_len());
                let bias = op.bias.then(|| self.vector(node, "bias"));
                let (last, relu) = self.take_relu(node);
                self.push(node, last, Kind::Linear { linear, weight, bias, relu }, layout)
            }
            Op::BatchNorm2d(op) => {
                let norm = self.norm(node, &op);
                match self.waiting_sum(node, Purpose::Training) {
                    // A sum of a norm with its own input would be read and written in one place in backward.
                    Some((sum, addend)) if addend != self.of_node(first.inputs[0]) => {
                        self.add_norm_sum(node, norm, sum, addend)
                    }
                    Some(_) | None => self.add_chain(node, Some(norm)),
                }
            }
            Op::LocalResponseNorm(op) => {
                let [channels, h, w] = self.map(node);
                let lrn = LocalResponseNorm::new(channels, h * w, op.size, [op.alpha, op.beta, op.k], self.isa);
                self.push(node, node, Kind::LocalResponseNorm(lrn), layout)
            }
            Op::Activation(Activation::Relu) if matches!(shape, Shape::Map(_)) && self.pool_after(node).is_some() => {
                self.add_chain(node, None)
            }
            Op::Activation(Activation::Relu) => self.push(node, node, Kind::Relu, layout),
            Op::Activation(Activation::Tanh) => self.push(node, node, Kind::Tanh, layout),
            Op::Activation(_) => Err(self.problem(node, "not planned yet".into())),
            Op::MaxPool2d(op) => self.add_pool(node, op.window, PoolKind::Max),
            Op::AvgPool2d(op) => {
                self.add_pool(node, op.window, PoolKind::Avg { count_include_pad: op.count_include_pad })
            }
            Op::AdaptiveAvgPool2d(op) => {
                let [channels, h, w] = self.map(node);
                self.push(node, node, Kind::Pool(Pool::adaptive(channels, [h, w], op.output, self.isa)), layout)
            }
            Op::Add => {
                let (last, relu) = self.take_relu(node);
                self.push(node, last, Kind::Add { relu }, layout)
            }
            Op::Concat => self.push(node, node, Kind::Concat, layout),
            Op::PadChannels(op) => self.push(node, node, Kind::PadChannels { before: op.before }, layout),
            Op::Linear(_) | Op::LayerNorm2d(_) | Op::LayerScale(_) | Op::Softmax | Op::Mul => {
                Err(self.problem(node, "not planned yet".into()))
            }
            Op::Slice(_) | Op::ChannelShuffle(_) | Op::StochasticDepth(_) => {
                Err(self.problem(node, "not planned yet".into()))
            }
            Op::Dropout(op) => self.add_dropout(node, op.p, false),
            Op::Dropout2d(op) => self.add_dropout(node, op.p, true),
            Op::Flatten if self.is_read_as_maps(node) => {
                self.of_node[node] = Some(self.of_node(first.inputs[0]));
                Ok(())
            }
            Op::Flatten => {
                let from = self.map(node);
                self.push(node, node, Kind::Flatten { from }, layout)
            }
        }
    }

    fn add_conv(&mut self, node: usize, op: &Conv2d) -> Result<()> {
        let [in_channels, h, w] = self.map(node);
        let layout = Layout::of(self.net.nodes()[node].shape);
        let [out_channels, _] = layout.channels_and_pixels();
        let window = explicit(op.window, [h, w]);
        let conv = ConvShape { in_channels, out_channels, groups: op.groups, input: [h, w], window };
        let input = self.of_node(self.net.nodes()[node].inputs[0]);
        let plain = matches!(self.stages[input].output, Layout::Plain(_));
        let norm = self.norm_after(node).filter(|_| plain && Stem::takes(&conv));
        // A stem has too few products to gain from rounding them.
        let precision = if norm.is_some() { Precision::F32 } else { self.conv.precision };
        // What is chosen may not depend on the threads.
        let setting = Setting { batch: self.pictures[node], precision, ..self.conv };
        let conv = Conv::new(conv, plain, self.isa, setting).map_err(|e| self.problem(node, e.to_string()))?;
        let weight = self.parameters.add(self.net, node, "weight", self.stages.len(), conv.weights_len());
        let bias = op.bias.then(|| self.vector(node, "bias"));
        if let Some((after, norm)) = norm {
            let norm = self.norm(after, &norm);
            let Chained { chain, drop, last } = self.chain(after, true);
            let stem = Box::new(Stem::new(conv, chain));
            let layout = Layout::of(self.net.nodes()[last].shape);
            return self.push(node, last, Kind::Stem { stem, weight, bias, norm, drop }, layout);
        }
        let conv = Box::new(conv);
        let sum = self.waiting_sum(node, Purpose::Inference);
        let (last, relu) = self.take_relu(sum.map_or(node, |(sum, _)| sum));
        self.push(node, last, Kind::Conv { conv, weight, bias, addend: sum.is_some(), relu }, layout)?;
        let index = self.stages.len() - 1;
        self.stages[index].inputs.extend(sum.map(|(_, addend)| addend));
        Ok(())
    }

    /// In training, the batch norm that alone reads a node, unless it joins a sum.
    fn norm_after(&self, node: usize) -> Option<(usize, BatchNorm2d)> {
        let next = self.only_reader(node).filter(|_| self.purpose == Purpose::Training)?;
        let Op::BatchNorm2d(op) = self.op(next) else { return None };
        self.waiting_sum(next, Purpose::Training).is_none().then(|| (next, op.clone()))
    }

    /// A batch norm's numbers and parameters.
    fn norm(&mut self, node: usize, op: &BatchNorm2d) -> Norm {
        let [_, h, w] = self.map(node);
        Norm {
            pixels: h * w,
            eps: op.eps,
            momentum: op.momentum,
            weight: self.vector(node, "weight"),
            bias: self.vector(node, "bias"),
            running: ["running_mean", "running_var"].map(|name| self.vector(node, name)),
        }
    }

    /// In plans for a purpose, a sum that only waits for this node, and the stage with its other part.
    fn waiting_sum(&self, node: usize, purpose: Purpose) -> Option<(usize, usize)> {
        let sum = self.only_reader(node).filter(|_| self.purpose == purpose)?;
        match (self.op(sum), &self.net.nodes()[sum].inputs[..]) {
            (Op::Add, &[a, b]) if a != b => {
                let addend = self.of_node[if a.index() == node { b } else { a }.index()]?;
                (!matches!(self.stages[addend].output, Layout::Plain(_))).then_some((sum, addend))
            }
            (_, _) => None,
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

    /// Whether only linear layers, some with a dropout before them, read a flattened node, which then needs no copy: they read
    /// its maps, which nobody else wants elsewhere. They multiply the maps' padding, so there may be little of it: a copy of
    /// the lecture CNN's maps took a twentieth of its linear layer's time.
    fn is_read_as_maps(&self, node: usize) -> bool {
        let input = self.net.nodes()[node].inputs[0];
        let linear = |&reader: &usize| matches!(self.net.nodes().get(reader).map(|n| &n.op), Some(Op::Linear(_)));
        let reads_maps = |reader: &usize| match self.net.nodes().get(*reader).map(|n| &n.op) {
            Some(Op::Dropout(_)) => self.readers[*reader].iter().all(linear),
            Some(_) | None => linear(reader),
        };
        let (maps, row) = (self.stages[self.of_node(input)].output, Layout::of(self.net.nodes()[node].shape));
        let unpadded = matches!(maps, Layout::Blocked(_)) && maps.len() - row.len() <= row.len() / 20;
        unpadded && self.readers[input.index()] == [node] && self.readers[node].iter().all(reads_maps)
    }

    /// The ReLU after a convolution or linear layer, unless it begins a chain with pooling.
    fn take_relu(&self, node: usize) -> (usize, bool) {
        let relu = self.only_reader(node).filter(|&next| matches!(self.op(next), Op::Activation(Activation::Relu)));
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
        let Chained { chain, drop, last } = self.chain(node, norm.is_some());
        let shape = self.net.nodes()[last].shape;
        self.push(node, last, Kind::Chain { chain, norm, drop }, Layout::of(shape))
    }

    /// The chain that begins with a node, which is a batch norm or a ReLU.
    fn chain(&self, node: usize, norm: bool) -> Chained {
        let [channels, h, w] = self.map(node);
        let mut last = node;
        let relu =
            match self.only_reader(node).filter(|&next| matches!(self.op(next), Op::Activation(Activation::Relu))) {
                _ if !norm => true,
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
        Chained { chain: NormChain::new(channels, [h, w], activation(relu), pool.is_some(), self.isa), drop, last }
    }

    /// A batch norm and the sum that only waits for it.
    fn add_norm_sum(&mut self, node: usize, norm: Norm, sum: usize, addend: usize) -> Result<()> {
        let [channels, h, w] = self.map(node);
        let (last, relu) = self.take_relu(sum);
        let chain = NormChain::new(channels, [h, w], activation(false), false, self.isa);
        let output = Layout::of(self.net.nodes()[last].shape);
        self.push(node, last, Kind::NormSum { chain, norm, relu }, output)?;
        let index = self.stages.len() - 1;
        self.stages[index].inputs.push(addend);
        Ok(())
    }

    fn add_pool(&mut self, node: usize, window: Window, kind: PoolKind) -> Result<()> {
        let [channels, h, w] = self.map(node);
        let window = explicit(window, [h, w]);
        let pool = Pool::new(channels, [h, w], window, kind, self.isa);
        let pool = pool.map_err(|e| self.problem(node, e.to_string()))?;
        self.push(node, node, Kind::Pool(pool), Layout::of(self.net.nodes()[node].shape))
    }

    fn add_dropout(&mut self, node: usize, p: f32, channels: bool) -> Result<()> {
        let drop = DropNode { node, p };
        let input = self.of_node(self.net.nodes()[node].inputs[0]);
        self.push(node, node, Kind::Dropout { drop, channels }, self.stages[input].output)
    }

    /// The stage whose output a node's reader reads.
    fn of_node(&self, node: NodeId) -> usize {
        self.of_node[node.index()].expect("nodes stand in running order")
    }

    /// Adds a stage for the nodes from `first` to `last`, each the only reader of the one before.
    fn push(&mut self, first: usize, last: usize, kind: Kind, output: Layout) -> Result<()> {
        let index = self.stages.len();
        let node = &self.net.nodes()[first];
        let inputs = node.inputs.iter().map(|&input| self.of_node(input)).collect();
        let macs = self.net.macs(NodeId(first));
        let pictures = (self.pictures[first] * self.caches).min(self.conv.batch);
        let stored = Precision::F32;
        self.stages.push(Stage { name: node.name.clone(), kind, inputs, output, stored, macs, pictures });
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
fn explicit(window: Window, input: [usize; 2]) -> Window {
    let (begin, end) = window.pads(input);
    Window { padding: Padding::Explicit { begin, end }, ..window }
}
