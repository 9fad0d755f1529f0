//! Lowers a net to stages.
//!
//! One dispatch on the operation calls the stage's own file, which takes the nodes after it that the stage computes in the
//! same pass, where nobody else reads what is between them. The fusions:
//!
//! | stage | nodes | in |
//! | --- | --- | --- |
//! | `stage/conv.rs` | convolution, activation | both |
//! | `stage/conv.rs` | convolution, the sum that waits for it, activation | inference |
//! | `stage/conv_depthwise.rs` | 1×1 convolution, activation, depthwise convolution, activation | inference |
//! | `stage/linear.rs`, `stage/add.rs` | linear layer or sum, activation | both |
//! | `stage/norm_act.rs` | batch norm, activation, 2×2 pooling, channel dropout | both |
//! | `stage/norm_add.rs` | batch norm, the sum that waits for it, activation | training |
//! | `stage/stem.rs` | first convolution of few products, batch norm and what follows it | training |
//! | `stage/flatten.rs` | nothing: linear layers read maps | both |
//!
//! Nodes that no output and no tap needs become no stage.

use super::stage::{self, Compute};
use crate::exec::Engine;
use crate::exec::graph::{Graph, Layout, Purpose, Stage};
use crate::exec::parameters::Parameters;
use crate::exec::storage::choose_storage;
use crate::net::{Net, Node, NodeId};
use crate::ops::{Activation, Op, Role, Shape};
use crate::{Error, Result};
use convnet_kernels::conv::Setting;
use convnet_kernels::pool::PoolKind;
use convnet_kernels::precision::Precision;
use convnet_kernels::simd::Isa;

/// A net as stages, and what computes each.
#[derive(Debug)]
pub(in crate::exec) struct Lowered {
    pub(in crate::exec) graph: Graph,
    pub(in crate::exec) computes: Vec<Box<dyn Compute>>,
}

impl Lowered {
    /// Decides how each value of an inference is stored.
    pub(in crate::exec) fn choose_storage(&mut self, engine: &Engine) {
        let stored = choose_storage(&self.graph, engine.product_precision());
        for (index, compute) in self.computes.iter_mut().enumerate() {
            let stage = &mut self.graph.stages[index];
            stage.stored = stored[index];
            let input = stage.inputs.first().map_or(Precision::F32, |&input| stored[input]);
            compute.set_stored([input, stage.stored]);
        }
    }
}

/// What is lowered, and what of it is asked for.
pub(in crate::exec) struct Request<'a> {
    pub(in crate::exec) net: &'a Net,
    pub(in crate::exec) purpose: Purpose,
    pub(in crate::exec) engine: &'a Engine,
    /// Most pictures of a call.
    pub(in crate::exec) batch: usize,
    /// For each node, the pictures that the stage which begins with it computes at a time on two threads.
    pub(in crate::exec) pictures: Vec<usize>,
    /// For each node, the pictures at a time for which the method of a convolution is chosen.
    pub(in crate::exec) methods: Vec<usize>,
    /// Whose values the caller reads and whose gradients it gives, the net's output first.
    pub(in crate::exec) outputs: Vec<NodeId>,
    /// Whose values, and in backward gradients, are copied for the caller: no fusion leaves them out.
    pub(in crate::exec) taps: Vec<NodeId>,
    /// Whose outputs' gradients lose what is negative before backward goes on: see [`Graph::guided`].
    pub(in crate::exec) guided: Vec<NodeId>,
    /// For each node whether it is a batch norm that takes its running statistics in training, too.
    pub(in crate::exec) frozen: Vec<bool>,
    /// Whether batch norms take the statistics of several batches together, so that each has to be a stage of its own.
    pub(in crate::exec) synchronized: bool,
    /// Whether the gradient of a parameter is asked for.
    pub(in crate::exec) trained: &'a dyn Fn(&str) -> bool,
}

impl<'a> Request<'a> {
    /// Whole batches of a net whose parameters are all trained; its auxiliary outputs are outputs in training.
    pub(in crate::exec) fn new(net: &'a Net, purpose: Purpose, engine: &'a Engine, batch: usize) -> Request<'a> {
        let nodes = net.nodes().len();
        let auxiliaries = net.auxiliaries().iter().filter(|_| purpose == Purpose::Training);
        Request {
            net,
            purpose,
            engine,
            batch,
            pictures: vec![batch; nodes],
            methods: vec![batch; nodes],
            outputs: [net.output()].into_iter().chain(auxiliaries.map(|auxiliary| auxiliary.node)).collect(),
            taps: Vec::new(),
            guided: Vec::new(),
            frozen: vec![false; nodes],
            synchronized: false,
            trained: &|_| true,
        }
    }
}

/// Lowers a net.
pub(in crate::exec) fn lower(request: Request<'_>) -> Result<Lowered> {
    let readers = readers(&request);
    let Request { net, purpose, engine, batch, pictures, methods, outputs, taps, guided, .. } = request;
    let Request { frozen, synchronized, trained, .. } = request;
    let mut lowering = Lowering {
        net,
        purpose,
        isa: engine.set(),
        conv: Setting {
            batch,
            choice: engine.conv_choice(),
            precision: engine.product_precision(),
            fixed_weights: purpose == Purpose::Inference,
            caches: engine.caches(),
        },
        readers,
        pictures,
        methods,
        frozen,
        synchronized,
        trained,
        caches: engine.threads().div_ceil(2),
        stages: Vec::new(),
        computes: Vec::new(),
        of_node: vec![None; net.nodes().len()],
        parameters: Parameters::default(),
    };
    for index in 0..net.nodes().len() {
        if lowering.of_node[index].is_none() && !lowering.readers[index].is_empty() {
            lowering.add(index)?;
        }
    }
    let of_nodes = |nodes: Vec<NodeId>| -> Vec<usize> {
        nodes.iter().map(|node| lowering.of_node[node.index()].expect("what the caller reads is needed")).collect()
    };
    let (outputs, taps, guided) = (of_nodes(outputs), of_nodes(taps), of_nodes(guided));
    let Lowering { mut stages, computes, mut parameters, .. } = lowering;
    for slot in &mut parameters.trained {
        slot.trained = trained(&slot.name);
        slot.words =
            computes[slot.stage].packing(slot.weight).is_some_and(|packing| slot.packed && packing.reads_words());
        stages[slot.stage].trained |= slot.trained;
    }
    // Placement leaves the gradient to such a stage alone.
    guided.iter().for_each(|&stage: &usize| stages[stage].facts.changes_gradient = true);
    Ok(Lowered { graph: Graph { stages, parameters, outputs, taps, guided }, computes })
}

/// Who reads each node's output, among the nodes that the caller needs. The caller stands behind the last node, and reads the
/// outputs and taps, and stops at what is guided.
fn readers(request: &Request<'_>) -> Vec<Vec<usize>> {
    let nodes = request.net.nodes();
    let read = || request.outputs.iter().chain(&request.taps).chain(&request.guided).copied();
    let needed = request.net.needed_by(read());
    let mut readers = vec![Vec::new(); nodes.len()];
    read().for_each(|node| readers[node.index()].push(nodes.len()));
    for (index, node) in nodes.iter().enumerate().filter(|&(index, _)| needed[index]) {
        for input in &node.inputs {
            readers[input.index()].push(index);
        }
    }
    readers
}

/// A net in the middle of being lowered: what stages ask when they take their nodes.
pub(super) struct Lowering<'a> {
    net: &'a Net,
    purpose: Purpose,
    isa: Isa,
    conv: Setting,
    readers: Vec<Vec<usize>>,
    /// Pictures at a time for the stage that begins with each node, on two threads.
    pictures: Vec<usize>,
    /// The same where methods are chosen.
    methods: Vec<usize>,
    frozen: Vec<bool>,
    synchronized: bool,
    trained: &'a dyn Fn(&str) -> bool,
    /// Pairs of threads, each of which brings its caches.
    caches: usize,
    stages: Vec<Stage>,
    computes: Vec<Box<dyn Compute>>,
    /// The stage that computes each node.
    of_node: Vec<Option<usize>>,
    parameters: Parameters,
}

impl<'a> Lowering<'a> {
    /// Adds the stage that begins with a node.
    fn add(&mut self, node: usize) -> Result<()> {
        match self.op(node) {
            Op::Input(shape) => stage::load::lower(self, node, *shape),
            Op::Conv2d(op) => stage::conv::lower(self, node, op),
            Op::Linear(op) if op.per_pixel => stage::conv::lower_linear(self, node, op),
            Op::Linear(op) => stage::linear::lower(self, node, op),
            Op::BatchNorm2d(op) => stage::norm_add::lower(self, node, op),
            Op::LocalResponseNorm(op) => stage::local_response_norm::lower(self, node, op),
            Op::LayerNorm2d(op) => stage::layer_norm::lower(self, node, op),
            Op::LayerScale(_) => stage::layer_scale::lower(self, node),
            Op::Softmax => stage::softmax::lower(self, node),
            Op::Activation(activation) => stage::activation::lower(self, node, *activation),
            Op::MaxPool2d(op) => stage::pool::lower(self, node, op.window, PoolKind::Max),
            Op::AvgPool2d(op) => {
                let kind = PoolKind::Avg { count_include_pad: op.count_include_pad };
                stage::pool::lower(self, node, op.window, kind)
            }
            Op::AdaptiveAvgPool2d(op) => stage::pool::lower_adaptive(self, node, op.output),
            Op::Add => stage::add::lower(self, node),
            Op::Mul => stage::mul::lower(self, node),
            Op::Concat => stage::concat::lower(self, node),
            Op::PadChannels(op) => stage::pad_channels::lower(self, node, op.before),
            Op::Slice(op) => stage::slice::lower(self, node, op.start),
            Op::ChannelShuffle(op) => stage::channel_shuffle::lower(self, node, op.groups),
            Op::Dropout(op) => stage::dropout::lower(self, node, op.p, stage::dropout::Unit::Element),
            Op::Dropout2d(op) => stage::dropout::lower(self, node, op.p, stage::dropout::Unit::Channel),
            Op::StochasticDepth(op) => stage::dropout::lower(self, node, op.p, stage::dropout::Unit::Picture),
            Op::Flatten => stage::flatten::lower(self, node),
        }
    }

    pub(super) fn node(&self, node: usize) -> &'a Node {
        &self.net.nodes()[node]
    }

    pub(super) fn op(&self, node: usize) -> &'a Op {
        &self.node(node).op
    }

    /// Who reads a node's output; the caller stands behind the last node.
    pub(super) fn readers(&self, node: usize) -> &[usize] {
        &self.readers[node]
    }

    /// A reader's operation; nothing for the caller.
    pub(super) fn reader_op(&self, reader: usize) -> Option<&'a Op> {
        self.net.nodes().get(reader).map(|node| &node.op)
    }

    /// The next node, if it alone reads this one.
    pub(super) fn only_reader(&self, node: usize) -> Option<usize> {
        match self.readers[node].as_slice() {
            &[reader] if reader < self.net.nodes().len() => Some(reader),
            _ => None,
        }
    }

    /// Channels, height and width of a node's first input; a vector's are maps of one pixel.
    pub(super) fn map(&self, node: usize) -> [usize; 3] {
        match self.net.node(self.node(node).inputs[0]).shape {
            Shape::Map(dims) => dims,
            Shape::Vector(features) => [features, 1, 1],
        }
    }

    /// The stage that computes a node's input.
    pub(super) fn input_stage(&self, node: usize, input: usize) -> usize {
        self.of_node[self.node(node).inputs[input].index()].expect("nodes stand in running order")
    }

    /// Whether a node reads the net's input as it is given.
    pub(super) fn reads_plain(&self, node: usize) -> bool {
        let stage = self.of_node[self.node(node).inputs[0].index()];
        stage.is_some_and(|stage| matches!(self.stages[stage].output, Layout::Plain(_)))
    }

    /// How a node's input lies.
    pub(super) fn input_layout(&self, node: usize, input: usize) -> Layout {
        self.stages[self.input_stage(node, input)].output
    }

    pub(super) fn is_training(&self) -> bool {
        self.purpose == Purpose::Training
    }

    /// Whether a batch norm takes its running statistics in training, too.
    pub(super) fn is_frozen(&self, node: usize) -> bool {
        self.frozen[node]
    }

    /// Whether batch norms take the statistics of several batches together.
    pub(super) fn is_synchronized(&self) -> bool {
        self.synchronized
    }

    /// Whether the parameters of two nodes are all trained, or all frozen.
    pub(super) fn trained_as_one(&self, nodes: [usize; 2]) -> bool {
        let of_node = |node: usize| {
            let id = NodeId(node);
            let names = self.op(node).parameters(&self.net.input_shapes(id)).into_iter();
            let names = names.filter(|parameter| parameter.role != Role::Buffer);
            names.map(move |parameter| (self.trained)(&format!("{}.{}", self.node(node).name, parameter.name)))
        };
        let trained: Vec<bool> = nodes.into_iter().flat_map(of_node).collect();
        trained.iter().all(|&one| one == trained[0])
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// How products are computed.
    pub(super) fn setting(&self) -> Setting {
        self.conv
    }

    /// Pictures at a time for which the method of a convolution is chosen.
    pub(super) fn method_pictures(&self, node: usize) -> usize {
        self.methods[node]
    }

    /// The activation after a node, which its stage takes, and the last node taken: unless it begins a chain with pooling in
    /// training, or the stage could not go back through it.
    pub(super) fn take_activation(&self, node: usize) -> (usize, Activation) {
        let next = self.only_reader(node).map(|next| (next, self.op(next)));
        let Some((next, &Op::Activation(activation))) = next else { return (node, Activation::Identity) };
        let chained = self.is_training() && stage::norm_act::pool_after(self, next, activation).is_some();
        match stage::activation::fuses(activation, self.is_training()) && !chained {
            true => (next, activation),
            false => (node, Activation::Identity),
        }
    }

    /// A sum of two that only waits for this node, and the stage with its other part.
    pub(super) fn waiting_sum(&self, node: usize) -> Option<(usize, usize)> {
        let sum = self.only_reader(node)?;
        match (self.op(sum), &self.node(sum).inputs[..]) {
            (Op::Add, &[a, b]) if a != b => {
                let addend = self.of_node[if a.index() == node { b } else { a }.index()]?;
                (!matches!(self.stages[addend].output, Layout::Plain(_))).then_some((sum, addend))
            }
            (_, _) => None,
        }
    }

    /// A place for a node's numbers per channel; its index among its kind.
    pub(super) fn vector(&mut self, node: usize, name: &str) -> usize {
        self.parameters.add_vector(self.net, node, name, self.stages.len())
    }

    /// A place of `len` floats for the weight that the next stage packs.
    pub(super) fn packed(&mut self, node: usize, name: &str, len: usize) -> usize {
        self.parameters.add_packed(self.net, node, name, self.stages.len(), len)
    }

    pub(super) fn problem(&self, node: usize, problem: String) -> Error {
        let node = self.node(node);
        Error::Layer { layer: node.name.clone(), op: node.op.name(), problem }
    }

    /// Adds a stage for a node alone, whose output lies as its shape says.
    pub(super) fn push_alone(&mut self, node: usize, compute: Box<dyn Compute>) -> Result<()> {
        self.push(node, node, compute, Layout::of(self.node(node).shape))
    }

    /// Adds a stage for the nodes from `first` to `last`, each the only reader of the one before.
    pub(super) fn push(&mut self, first: usize, last: usize, compute: Box<dyn Compute>, output: Layout) -> Result<()> {
        let index = self.stages.len();
        let node = self.node(first);
        self.stages.push(Stage {
            name: node.name.clone(),
            facts: compute.facts(),
            inputs: (0..node.inputs.len()).map(|input| self.input_stage(first, input)).collect(),
            output,
            stored: Precision::F32,
            macs: 0,
            pictures: (self.pictures[first] * self.caches).min(self.conv.batch),
            trained: false,
        });
        self.computes.push(compute);
        let next = |&node: &usize| (node != last).then(|| self.only_reader(node).expect("fused nodes have one reader"));
        let nodes: Vec<usize> = std::iter::successors(Some(first), next).collect();
        for node in nodes {
            self.of_node[node] = Some(index);
            self.stages[index].macs += self.net.macs(NodeId(node));
        }
        Ok(())
    }

    /// Makes another stage's output an input of the last stage.
    pub(super) fn add_input(&mut self, stage: usize) {
        self.stages.last_mut().expect("a stage was added").inputs.push(stage);
    }

    /// Adds no stage for a node: who reads it reads its input.
    pub(super) fn skip(&mut self, node: usize) {
        self.of_node[node] = Some(self.input_stage(node, 0));
    }
}
