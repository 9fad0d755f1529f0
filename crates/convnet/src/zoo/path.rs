//! How the families write their layers: below a path, as modules of a checkpoint are, and with short forms of the
//! operations.

use std::fmt::Display;

use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{AdaptiveAvgPool2d, BatchNorm2d, Dropout, MaxPool2d, Op, Shape, StochasticDepth};

/// The net's input.
pub(super) const INPUT: NodeId = NodeId(0);

/// A place in a net under construction: a layer `conv1` that is added at `layer1.0` is named `layer1.0.conv1`.
pub(super) struct Path<'net> {
    net: &'net mut Net,
    /// Empty, or with a dot at its end.
    prefix: String,
}

impl<'net> Path<'net> {
    pub(super) fn root(net: &'net mut Net) -> Path<'net> {
        Path { net, prefix: String::new() }
    }

    /// The place of that name below this one.
    pub(super) fn below(&mut self, name: impl Display) -> Path<'_> {
        let prefix = format!("{}{name}.", self.prefix);
        Path { net: self.net, prefix }
    }

    /// Adds layers one after another, the first after `from`; gives the last. What drops with probability 0 is left out.
    pub(super) fn chain(
        &mut self,
        from: NodeId,
        layers: impl IntoIterator<Item = (impl Display, Op)>,
    ) -> Result<NodeId> {
        let drops_nothing = |op: &Op| [dropout(0.0), stochastic_depth(0.0)].contains(op);
        let there = layers.into_iter().filter(|(_, op)| !drops_nothing(op));
        there.into_iter().try_fold(from, |last, (name, op)| self.join(name, op, &[last]))
    }

    /// Adds a layer that takes all of these.
    pub(super) fn join(&mut self, name: impl Display, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        self.net.add(&format!("{}{name}", self.prefix), op, inputs)
    }

    /// Makes a node an output of training's.
    pub(super) fn auxiliary(&mut self, node: NodeId, loss_weight: f32) -> Result<()> {
        self.net.add_auxiliary(node, loss_weight)
    }

    /// What a node gives.
    pub(super) fn shape(&self, node: NodeId) -> Shape {
        self.net.node(node).shape
    }

    /// Channels (or features) that a node gives.
    pub(super) fn channels(&self, node: NodeId) -> usize {
        self.shape(node).channels()
    }
}

/// Batch norm with PyTorch's settings.
pub(super) fn norm() -> Op {
    Op::BatchNorm2d(BatchNorm2d::default())
}

pub(super) fn max_pool(window: Window) -> Op {
    Op::MaxPool2d(MaxPool2d { window })
}

/// Means of a given number of windows along each axis.
pub(super) fn adaptive_avg_pool(side: usize) -> Op {
    Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [side; 2] })
}

pub(super) fn stochastic_depth(p: f32) -> Op {
    Op::StochasticDepth(StochasticDepth { p })
}

pub(super) fn dropout(p: f32) -> Op {
    Op::Dropout(Dropout { p })
}
