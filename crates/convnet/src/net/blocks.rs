//! A net's nodes grouped into blocks by the paths in their names, for people: `layer1.0.conv1` and `layer1.0.bn1` lie in
//! the block `layer1.0` of depth 2, and in `layer1` of depth 1.
//!
//! Only neighbours in running order are grouped, so that every edge between blocks leads from an earlier to a later one
//! whatever the names are.

use std::ops::Range;

use super::{Net, Node, NodeId};
use crate::ops::Op;
use crate::ops::describe::short;

/// Most and fewest blocks that [`Depth::Auto`] aims at.
const READABLE: Range<usize> = 8..65;

/// Convolutions of one path that are named one by one.
const LISTED: usize = 4;

/// About how long the text of a node with many inputs grows, in characters.
const MAX_TEXT: usize = 48;

/// Most inputs of nested concatenations that are followed.
const MOST_JOINED: usize = 1000;

/// How far nodes are told apart by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every node on its own.
    All,
    /// The first so many parts of the name; at least one.
    Parts(usize),
    /// The deepest at which there are not many blocks.
    Auto,
}

/// Neighbouring nodes that are shown as one, or a single node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name of the node, or what the names of the nodes begin with.
    pub name: String,
    /// Indices into [`Net::nodes`].
    pub nodes: Range<usize>,
    /// The operation and its settings, or what the block is made of.
    pub text: String,
}

impl Net {
    /// The net's nodes without the input, grouped.
    pub fn blocks(&self, depth: Depth) -> Vec<Block> {
        let parts = match depth {
            Depth::All => usize::MAX,
            Depth::Parts(parts) => parts.max(1),
            Depth::Auto => self.readable_depth(|ranges| ranges.len()),
        };
        self.ranges(parts).into_iter().map(|(name, nodes)| self.block(name, nodes)).collect()
    }

    /// The deepest grouping that `size` finds readable, and not one that hides nearly everything.
    pub(super) fn readable_depth(&self, size: impl Fn(&[Named]) -> usize) -> usize {
        let deepest = self.nodes().iter().map(|node| node.name.split('.').count()).max().unwrap_or(1);
        let size = |depth: &usize| size(&self.ranges(*depth));
        let fits = (1..=deepest).rev().find(|depth| size(depth) < READABLE.end).unwrap_or(1);
        (fits..=deepest).find(|depth| size(depth) >= READABLE.start).unwrap_or(deepest)
    }

    /// Runs of nodes whose names agree in their first parts.
    pub(super) fn ranges(&self, parts: usize) -> Vec<Named> {
        let mut ranges: Vec<Named> = Vec::new();
        for (index, node) in self.nodes().iter().enumerate().skip(1) {
            let name = prefix(&node.name, parts);
            match ranges.last_mut() {
                Some((last, nodes)) if last == name => nodes.end = index + 1,
                Some(_) | None => ranges.push((name.to_owned(), index..index + 1)),
            }
        }
        ranges
    }

    pub(super) fn block(&self, name: String, nodes: Range<usize>) -> Block {
        match nodes.len() {
            1 => {
                let node = &self.nodes()[nodes.start];
                Block { name: node.name.clone(), text: self.node_text(NodeId(nodes.start)), nodes }
            }
            _ => Block { name, text: self.composition(&nodes), nodes },
        }
    }

    /// The operation, its settings, and where its inputs come from when that is not the node before it.
    fn node_text(&self, id: NodeId) -> String {
        let node = self.node(id);
        let mut text = with_settings(node, &node.op.settings(&self.input_shapes(id)));
        if node.inputs[..] == [NodeId(id.0 - 1)] {
            return text;
        }
        for (index, input) in node.inputs.iter().enumerate() {
            let name = relative(&self.node(*input).name, &node.name);
            let separator = if index == 0 { " ← " } else { ", " };
            if index > 0 && text.chars().count() + name.len() > MAX_TEXT {
                return text + separator + "…";
            }
            text = text + separator + name;
        }
        text
    }

    /// What a block is made of: a residual block's two ways, the channels that a dense block or an inception block joins,
    /// a few layers in their order, or how many there are of each.
    fn composition(&self, block: &Range<usize>) -> String {
        let nodes = &self.nodes()[block.clone()];
        let adds: Vec<&Node> = nodes.iter().filter(|node| matches!(node.op, Op::Add)).collect();
        let concat = nodes.last().filter(|node| matches!(node.op, Op::Concat));
        if let [add] = adds[..] {
            let ways: Vec<String> = add.inputs.iter().map(|&id| self.way(block, id)).collect();
            return ways.join(" + ");
        }
        if let Some(text) = concat.and_then(|concat| self.joined(block, concat)) {
            return text;
        }
        let main: Vec<usize> = block.clone().filter(|&index| is_main(&self.nodes()[index].op)).collect();
        if adds.is_empty() && !main.is_empty() && main.len() <= LISTED {
            let text = |&index: &usize| {
                let id = NodeId(index);
                with_settings(self.node(id), &self.node(id).op.settings(&self.input_shapes(id)))
            };
            return main.iter().map(text).collect::<Vec<String>>().join(", ");
        }
        counts(nodes)
    }

    /// The convolutions from where a way enters the block to the node: `1x1-3x3/2-1x1`.
    fn way(&self, block: &Range<usize>, mut id: NodeId) -> String {
        let (mut convolutions, mut others) = (Vec::new(), Vec::new());
        while block.contains(&id.0) {
            let node = self.node(id);
            match &node.op {
                Op::Conv2d(conv) => convolutions.push(short(&conv.window).split(' ').next().unwrap_or("").to_owned()),
                op => others.push(op.name()),
            }
            id = node.inputs[0];
        }
        convolutions.reverse();
        others.reverse();
        match (&convolutions[..], &others[..]) {
            ([], []) => "identity".into(),
            ([], others) => others.join(", "),
            (convolutions, _) if convolutions.len() <= LISTED => format!("conv2d {}", convolutions.join("-")),
            (convolutions, _) => format!("{} conv2d", convolutions.len()),
        }
    }

    /// The channels that a concatenation joins, looking through those in the block before it: what came into the block
    /// first, then what was made in it. Equal ones are counted: `64 + 6 × 32 channels` is a dense block's growth. Nothing
    /// where it joins more than anyone would count.
    fn joined(&self, block: &Range<usize>, concat: &Node) -> Option<String> {
        let mut leaves: Vec<(bool, usize)> = Vec::new();
        let mut open: Vec<NodeId> = concat.inputs.iter().rev().copied().collect();
        while let Some(id) = open.pop() {
            let (node, inside) = (self.node(id), block.contains(&id.0));
            if inside && matches!(node.op, Op::Concat) {
                open.extend(node.inputs.iter().rev());
            } else {
                leaves.push((inside, node.shape.dims()[0]));
            }
            if open.len() + leaves.len() > MOST_JOINED {
                return None;
            }
        }
        leaves.sort_by_key(|&(inside, _)| inside);
        let runs = leaves.chunk_by(|a, b| a == b).map(|run| match run {
            [(_, channels)] => channels.to_string(),
            [(_, channels), ..] => format!("{} × {channels}", run.len()),
            [] => String::new(),
        });
        Some(format!("{} channels", runs.collect::<Vec<String>>().join(" + ")))
    }
}

/// A block's name and nodes.
pub(super) type Named = (String, Range<usize>);

/// The first parts of a name.
fn prefix(name: &str, parts: usize) -> &str {
    match parts.checked_sub(1).and_then(|dots| name.match_indices('.').nth(dots)) {
        Some((dot, _)) => &name[..dot],
        None => name,
    }
}

/// A name without the parts in which it begins as another: `denselayer1.conv2` for `block.denselayer1.conv2`, seen from
/// `block.denselayer2.concat`. A number keeps the part that it counts: `layer1.0.relu` seen from `layer1.1.add`.
fn relative<'a>(name: &'a str, from: &str) -> &'a str {
    let common = name.split('.').zip(from.split('.')).take_while(|(a, b)| a == b).count();
    let begins: Vec<usize> = [0].into_iter().chain(name.match_indices('.').map(|(dot, _)| dot + 1)).collect();
    let counts = |part: usize| name[begins[part]..].starts_with(|c: char| c.is_ascii_digit());
    let first = (0..=common.min(begins.len() - 1)).rev().find(|&part| !counts(part)).unwrap_or(0);
    &name[begins[first]..]
}

fn with_settings(node: &Node, settings: &str) -> String {
    if settings.is_empty() { node.op.name().into() } else { format!("{} {settings}", node.op.name()) }
}

/// Whether an operation does a block's work; the others normalise, bend or rearrange.
fn is_main(op: &Op) -> bool {
    match op {
        Op::Conv2d(_) | Op::Linear(_) | Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => true,
        Op::Input(_) | Op::BatchNorm2d(_) | Op::LocalResponseNorm(_) | Op::Relu | Op::Tanh => false,
        Op::Add | Op::Concat | Op::PadChannels(_) | Op::Dropout(_) | Op::Dropout2d(_) | Op::Flatten => false,
    }
}

/// How many there are of each operation that does the work, and of merges; of all where there are none.
fn counts(nodes: &[Node]) -> String {
    let worth = |node: &&Node| is_main(&node.op) || matches!(node.op, Op::Add | Op::Concat);
    let names: Vec<&str> = nodes.iter().filter(worth).map(|node| node.op.name()).collect();
    let names = if names.is_empty() { nodes.iter().map(|node| node.op.name()).collect() } else { names };
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(counted, _)| *counted == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<String>>().join(", ")
}
