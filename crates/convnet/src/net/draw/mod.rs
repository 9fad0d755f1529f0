//! Drawings of a net: as text for Graphviz, and as SVG of our own layout.
//!
//! Both show cards: a block of several nodes ([`Net::blocks`]), or a chain of nodes that nothing else reads into, such as
//! convolution, batch norm and ReLU.

mod dot;
mod layout;
mod svg;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::blocks::Named;
use super::{Depth, Net, Node, NodeId};
use crate::columns::thousands;
use crate::ops::{Category, Op, Role};
use crate::{Error, Result};

/// Most cards and most edges of a drawing; nobody could read more.
const MAX_CARDS: usize = 2_000;
const MAX_EDGES: usize = 20_000;

/// Longest text of a line on a card, in characters; a longer one is cut in its middle.
const MAX_LINE: usize = 44;

/// What a card's colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Input,
    Convolution,
    Pooling,
    Merge,
    Linear,
    Block,
    Other,
}

/// One box of a drawing.
#[derive(Debug)]
struct Card {
    /// The name of the node that does the work, or of the block.
    name: String,
    /// Operations in running order, and what else there is to say.
    lines: Vec<String>,
    /// Output shape and parameters.
    footer: String,
    kind: Kind,
    /// Whether the net's result comes from it.
    output: bool,
    /// Indices into [`Net::nodes`].
    nodes: Vec<usize>,
}

/// Cards in running order, and pairs of their indices.
#[derive(Debug)]
struct Figure {
    title: String,
    cards: Vec<Card>,
    edges: Vec<(usize, usize)>,
}

impl Net {
    /// A drawing in the DOT language of Graphviz.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there would be more boxes than anyone could read.
    pub fn dot(&self, depth: Depth) -> Result<String> {
        self.figure(depth).map(|figure| dot::render(&figure))
    }

    /// A drawing as SVG, from top to bottom: branches side by side, shortcuts as lines at the side.
    ///
    /// # Errors
    /// As [`Net::dot`].
    pub fn svg(&self, depth: Depth) -> Result<String> {
        self.figure(depth).map(|figure| svg::render(&figure))
    }

    fn figure(&self, depth: Depth) -> Result<Figure> {
        let parts = match depth {
            Depth::All => usize::MAX,
            Depth::Parts(parts) => parts.max(1),
            Depth::Auto => self.readable_depth(|ranges| self.chains(ranges).len()),
        };
        let ranges = self.ranges(parts);
        let chains = self.chains(&ranges);
        let mut card_of = vec![0; self.nodes().len()];
        for (card, chain) in chains.iter().enumerate() {
            chain.iter().for_each(|&node| card_of[node] = card);
        }
        let nodes = self.nodes().iter().zip(&card_of);
        let edges: BTreeSet<(usize, usize)> = nodes
            .flat_map(|(node, &card)| node.inputs.iter().map(|id| (card_of[id.0], card)).collect::<Vec<_>>())
            .collect();
        let edges: Vec<(usize, usize)> = edges.into_iter().filter(|(from, to)| from != to).collect();
        if chains.len() > MAX_CARDS || edges.len() > MAX_EDGES {
            return Err(Error::invalid(format!(
                "net '{}': expected at most {MAX_CARDS} boxes and {MAX_EDGES} lines in a drawing, got {} and {}: draw it at a smaller depth",
                self.name(),
                chains.len(),
                edges.len()
            )));
        }
        let blocks: Vec<Option<&Named>> = block_of_node(&ranges, self.nodes().len());
        let cards = chains.into_iter().map(|chain| self.card(blocks[chain[0]], chain)).collect();
        let macs: u64 = (0..self.nodes().len()).map(|index| self.macs(NodeId(index))).fold(0, u64::saturating_add);
        let title = format!(
            "{}: {} parameters, {} multiply-adds",
            cut(self.name()),
            thousands(self.parameter_count()),
            thousands(macs)
        );
        Ok(Figure { title, cards, edges })
    }

    /// The nodes of each card, in running order of the cards' first nodes: a block of several nodes, or single nodes that
    /// follow one another.
    fn chains(&self, ranges: &[Named]) -> Vec<Vec<usize>> {
        let mut readers = vec![0; self.nodes().len()];
        self.nodes().iter().flat_map(|node| &node.inputs).for_each(|id| readers[id.0] += 1);
        let mut chains = vec![vec![0]];
        // The chain that a node may still prolong, which is one that ends with the node's input.
        let mut open: Vec<Option<usize>> = vec![None; self.nodes().len()];
        for (_, nodes) in ranges {
            let single = nodes.len() == 1;
            let node = &self.nodes()[nodes.start];
            let before = node.inputs.first().filter(|_| single && node.inputs.len() == 1);
            let joined = before.filter(|id| readers[id.0] == 1).and_then(|id| open[id.0]).filter(|&chain: &usize| {
                let has_core = chains[chain].iter().any(|&index| is_core(&self.nodes()[index].op));
                let product = matches!(node.op.category(), Category::Convolution | Category::Linear);
                !is_core(&node.op) || (!has_core && product)
            });
            let chain = joined.unwrap_or(chains.len());
            match joined {
                Some(chain) => chains[chain].push(nodes.start),
                None => chains.push(nodes.clone().collect()),
            }
            open[nodes.end - 1] = single.then_some(chain);
        }
        chains
    }

    fn card(&self, block: Option<&Named>, nodes: Vec<usize>) -> Card {
        let all = || nodes.iter().map(|&index| &self.nodes()[index]);
        let core = all().find(|node| is_core(&node.op)).or_else(|| all().next());
        let (name, lines, kind) = match block {
            Some((name, range)) if range.len() > 1 => {
                let text = self.block(name.clone(), range.clone()).text;
                let cores: BTreeSet<Kind> = all().filter(|node| is_core(&node.op)).map(|node| kind(&node.op)).collect();
                // A block that does one kind of work has that work's colour.
                let kind = if cores.len() == 1 { cores.into_iter().next() } else { None };
                (name.clone(), text.split(", ").map(cut).collect(), kind.unwrap_or(Kind::Block))
            }
            Some(_) | None => {
                let core = core.map_or(&self.nodes()[0], |node| node);
                (core.name.clone(), self.chain_lines(&nodes), kind(&core.op))
            }
        };
        let params = nodes.iter().map(|&index| self.trained(NodeId(index))).fold(0, u64::saturating_add);
        let shape = all().next_back().map(|node| node.shape.to_string()).unwrap_or_default();
        let footer = if params == 0 { shape } else { format!("{shape} · {} params", thousands(params)) };
        let auxiliaries = self.auxiliaries().iter().filter(|auxiliary| nodes.contains(&auxiliary.node.0));
        let notes = auxiliaries.map(|auxiliary| format!("auxiliary output, loss × {}", auxiliary.loss_weight));
        let lines: Vec<String> = lines.into_iter().chain(notes).collect();
        Card { name, lines, footer, kind, output: nodes.contains(&self.output().0), nodes }
    }

    /// The work on a line of its own, what normalises and bends before or after it together on one.
    fn chain_lines(&self, nodes: &[usize]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut prolong = false;
        for &index in nodes.iter().filter(|&&index| index > 0) {
            let node: &Node = &self.nodes()[index];
            let settings = match is_core(&node.op) || node.op.category() == Category::Dropout {
                true => node.op.settings(&self.input_shapes(NodeId(index))),
                false => String::new(),
            };
            let plain = settings.is_empty();
            let text = format!("{} {settings}", node.op.name()).trim_end().to_owned();
            match lines.last_mut() {
                Some(line) if prolong && !is_core(&node.op) && line.len() + text.len() < MAX_LINE => {
                    *line += &format!(" · {text}");
                }
                Some(_) | None => lines.push(text),
            }
            prolong = plain || !is_core(&node.op);
        }
        lines.iter().map(|line| cut(line)).collect()
    }

    fn trained(&self, id: NodeId) -> u64 {
        let parameters = self.node(id).op.parameters(&self.input_shapes(id));
        parameters.iter().filter(|parameter| parameter.role != Role::Buffer).map(|p| p.elements() as u64).sum()
    }
}

/// For each node the block that it lies in; nothing for the input.
fn block_of_node(ranges: &[Named], nodes: usize) -> Vec<Option<&Named>> {
    let mut blocks = vec![None; nodes];
    for named in ranges {
        blocks[named.1.clone()].fill(Some(named));
    }
    blocks
}

/// Whether a node makes a card of its own, which others only prolong.
fn is_core(op: &Op) -> bool {
    match kind(op) {
        Kind::Input | Kind::Convolution | Kind::Pooling | Kind::Merge | Kind::Linear => true,
        Kind::Block | Kind::Other => false,
    }
}

fn kind(op: &Op) -> Kind {
    match op.category() {
        Category::Input => Kind::Input,
        Category::Convolution => Kind::Convolution,
        Category::Pooling => Kind::Pooling,
        Category::Merge | Category::Join => Kind::Merge,
        Category::Linear => Kind::Linear,
        Category::Normalization | Category::Pointwise | Category::Dropout => Kind::Other,
        Category::Rearrangement | Category::Reshape => Kind::Other,
    }
}

/// A text that is short enough for a card.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_LINE {
        return text.to_owned();
    }
    let half = MAX_LINE / 2;
    let (begin, end) = (text.chars().take(half), text.chars().skip(count + 1 - half));
    begin.chain(['…']).chain(end).collect()
}

impl Kind {
    const ALL: [Kind; 7] =
        [Kind::Input, Kind::Convolution, Kind::Pooling, Kind::Merge, Kind::Linear, Kind::Block, Kind::Other];

    /// What the legend calls it.
    fn label(self) -> &'static str {
        match self {
            Kind::Input => "input",
            Kind::Convolution => "convolution",
            Kind::Pooling => "pooling",
            Kind::Merge => "merge",
            Kind::Linear => "linear",
            Kind::Block => "block of layers",
            Kind::Other => "other",
        }
    }

    /// Background and border.
    fn colours(self) -> [&'static str; 2] {
        match self {
            Kind::Input => ["#ffffff", "#6b7280"],
            Kind::Convolution => ["#dbeafe", "#3b82f6"],
            Kind::Pooling => ["#dcfce7", "#22a55a"],
            Kind::Merge => ["#f3e8ff", "#a855f7"],
            Kind::Linear => ["#ffedd5", "#f0801a"],
            Kind::Block => ["#e0f2f1", "#0f8f83"],
            Kind::Other => ["#f3f4f6", "#9ca3af"],
        }
    }
}
