//! A net's nodes grouped into blocks by the paths in their names, for people: `layer1.0.conv1` and `layer1.0.bn1` lie in
//! the block `layer1.0` of depth 2, and in `layer1` of depth 1.
//!
//! Only neighbours in running order are grouped, so that every edge between blocks leads from an earlier to a later one
//! whatever the names are.

use std::ops::Range;

use super::{Net, Node, NodeId};
use crate::ops::describe::short;
use crate::ops::{Category, Op};

/// Most and fewest blocks that [`Depth::Auto`] aims at.
const READABLE: Range<usize> = 8..65;

/// Convolutions of one path that are named one by one.
const LISTED: usize = 4;

/// About how long a text grows, in characters, before what it lists is cut or counted.
const MAX_TEXT: usize = 60;

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
        let main: Vec<usize> = block.clone().filter(|&index| self.nodes()[index].op.category().is_main()).collect();
        if adds.is_empty() && !main.is_empty() && main.len() <= LISTED {
            let text = |&index: &usize| {
                let id = NodeId(index);
                with_settings(self.node(id), &self.node(id).op.settings(&self.input_shapes(id)))
            };
            let text = main.iter().map(text).collect::<Vec<String>>().join(", ");
            return if text.chars().count() > MAX_TEXT { counts(nodes) } else { text };
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
    /// first, then what was made in it. Many equal ones are counted: `64 + 6 × 32 channels` is a dense block's growth.
    /// Nothing where it joins more than anyone would count.
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
        let list = |run: &[(bool, usize)]| match run {
            [(_, channels), _, _, ..] => vec![format!("{} × {channels}", run.len())],
            few => few.iter().map(|(_, channels)| channels.to_string()).collect(),
        };
        let runs = leaves.chunk_by(|a, b| a == b).flat_map(list);
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

/// How many there are of each operation that does the work, and of merges; of all where there are none.
fn counts(nodes: &[Node]) -> String {
    let worth =
        |node: &&Node| node.op.category().is_main() || matches!(node.op.category(), Category::Merge | Category::Join);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::samples;
    use crate::ops::Shape;
    use crate::zoo::{ZooOptions, by_name};

    fn text(net: &Net, depth: Depth, name: &str) -> String {
        let blocks = net.blocks(depth);
        blocks.into_iter().find(|block| block.name == name).unwrap_or_else(|| panic!("no {name}")).text
    }

    #[test]
    fn blocks_are_runs_of_names() {
        let mut net = Net::new("net", Shape::Vector(4)).unwrap();
        for name in ["a.x.1", "a.x.2", "a.y", "b", "a.z", "a.z.1"] {
            net.then(name, Op::RELU).unwrap();
        }
        let names = |depth| net.blocks(depth).into_iter().map(|block| (block.name, block.nodes)).collect::<Vec<_>>();
        let expected = [("a", 1..4), ("b", 4..5), ("a", 5..7)].map(|(name, nodes)| (name.to_owned(), nodes));
        assert_eq!(names(Depth::Parts(1)), expected);
        assert_eq!(names(Depth::Parts(0)), expected);
        assert_eq!(names(Depth::Parts(2)).len(), 4);
        assert_eq!(names(Depth::All).len(), 6);
        assert_eq!(names(Depth::Auto), names(Depth::All), "few nodes are all shown");
    }

    #[test]
    fn lecture_l13_shortcuts_are_visible() {
        let net = samples::residual(3);
        let at_two = |name| text(&net, Depth::Parts(2), name);
        assert_eq!(at_two("layer1.0"), "conv2d 3x3-3x3 + identity");
        assert_eq!(at_two("layer2.0"), "conv2d 3x3/2-3x3 + conv2d 1x1/2");
        assert_eq!(text(&net, Depth::Parts(1), "layer2"), "5 conv2d, 2 add");
        assert_eq!(text(&net, Depth::All, "layer2.1.add"), "add ← bn2, layer2.0.relu2");
        assert_eq!(text(&net, Depth::All, "layer2.0.downsample.0"), "conv2d 1x1/2 64→128 ← layer1.1.relu2");
        let bottleneck = by_name("resnet50", &ZooOptions::default()).unwrap();
        assert_eq!(text(&bottleneck, Depth::Auto, "layer2.0"), "conv2d 1x1-3x3/2-1x1 + conv2d 1x1/2");
    }

    #[test]
    fn lecture_l14_growth_and_transitions_are_visible() {
        for net in [samples::dense(6), by_name("densenet121", &ZooOptions::default()).unwrap()] {
            let at_two = |name| text(&net, Depth::Parts(2), name);
            assert_eq!(at_two("features.denseblock1"), "64 + 6 × 32 channels");
            assert_eq!(at_two("features.transition1"), "conv2d 1x1 256→128, avg_pool2d 2x2/2");
        }
    }

    #[test]
    fn branches_are_visible() {
        let net = samples::inception();
        assert_eq!(text(&net, Depth::Parts(1), "inception3a"), "64 + 128 + 32 + 32 channels");
        let joined = "concat 64+128+32+32 ← branch1.relu, branch2.1.relu, …";
        assert_eq!(text(&net, Depth::All, "inception3a.concat"), joined);
    }

    #[test]
    fn deep_networks_have_a_readable_default() {
        for (name, rows) in
            [("cnn", 16), ("resnet18", 15), ("resnet152", 57), ("googlenet", 22), ("densenet201", 16), ("vgg19_bn", 62)]
        {
            let net = by_name(name, &ZooOptions::default()).unwrap();
            let blocks = net.blocks(Depth::Auto);
            assert_eq!(blocks.len(), rows, "{name}");
            // Nothing is left out, and nothing is shown twice.
            assert!(blocks.iter().flat_map(|block| block.nodes.clone()).eq(1..net.nodes().len()));
        }
    }

    #[test]
    fn a_concatenation_of_concatenations_is_not_followed_for_ever() {
        let mut net = Net::new("net", Shape::Vector(1)).unwrap();
        for doubling in 0..30 {
            net.add(&format!("block.{doubling}"), Op::Concat, &[net.output(); 2]).unwrap();
        }
        assert_eq!(net.blocks(Depth::Parts(1))[0].text, "30 concat");
    }

    #[test]
    fn names_are_told_from_where_they_are_seen() {
        assert_eq!(relative("a.b.c", "a.b.d"), "b.c".strip_prefix("b.").unwrap());
        assert_eq!(relative("layer1.0.relu", "layer1.1.add"), "layer1.0.relu");
        assert_eq!(relative("block.denselayer1.conv2", "block.denselayer2.concat"), "denselayer1.conv2");
        assert_eq!(relative("features.3", "features.4"), "features.3");
        assert_eq!(relative("a", "a"), "a");
        assert_eq!(relative("a.", "a..b"), "");
        assert_eq!(relative("pool", "block.add"), "pool");
    }
}
