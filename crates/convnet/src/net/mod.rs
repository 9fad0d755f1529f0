//! A net is data: a list of named nodes in an order in which they can run. Everything else is derived from it.

use crate::ops::{Op, Parameter, Role, Shape};
use crate::{Error, Result};

/// A node's place in its net.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Index into [`Net::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// An operation in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique; the names of its parameters begin with it.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Whose outputs it takes, each earlier in the list.
    pub inputs: Vec<NodeId>,
    /// What it gives, for one picture.
    pub shape: Shape,
}

/// A network: nodes in running order, the first the input, the last the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    name: String,
    nodes: Vec<Node>,
}

impl Net {
    /// Begins a net that takes pictures of this shape. Layers are then added with [`Net::add`] or [`Net::then`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when an axis is 0.
    pub fn new(name: impl Into<String>, input: Shape) -> Result<Net> {
        if input.elements() == 0 {
            return Err(Error::invalid(format!("a net's input needs at least 1 along every axis, got {input}")));
        }
        let node = Node { name: "input".into(), op: Op::Input(input), inputs: Vec::new(), shape: input };
        Ok(Net { name: name.into(), nodes: vec![node] })
    }

    /// Adds a layer and checks at once that it fits.
    ///
    /// # Errors
    /// [`Error::Layer`] when the name is taken or empty, or the shapes do not fit.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let error = |problem| Error::Layer { layer: name.into(), op: op.name(), problem };
        if name.is_empty() || self.find(name).is_some() {
            return Err(error("expected a name that is not empty and not yet taken".into()));
        }
        let shapes: Vec<Shape> = inputs.iter().map(|&id| self.node(id).shape).collect();
        let shape = op.output(&shapes).map_err(error)?;
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), shape });
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Adds a layer after the last one.
    ///
    /// # Errors
    /// As [`Net::add`].
    pub fn then(&mut self, name: &str, op: Op) -> Result<NodeId> {
        let last = self.output();
        self.add(name, op, &[last])
    }

    /// The net's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All nodes in running order, the input first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node whose result is the net's.
    pub fn output(&self) -> NodeId {
        NodeId(self.nodes.len() - 1)
    }

    /// Shape of one input picture.
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Shape of the result for one picture.
    pub fn output_shape(&self) -> Shape {
        self.node(self.output()).shape
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    /// Shapes of a node's inputs.
    pub fn input_shapes(&self, id: NodeId) -> Vec<Shape> {
        self.node(id).inputs.iter().map(|&input| self.node(input).shape).collect()
    }

    /// Every parameter and buffer with its full name (`<node>.<name>`) and its node, in running order.
    pub fn parameters(&self) -> Vec<(String, NodeId, Parameter)> {
        let ids = (0..self.nodes.len()).map(NodeId);
        let of_node = |id: NodeId| {
            let node = self.node(id);
            let parameters = node.op.parameters(&self.input_shapes(id));
            parameters.into_iter().map(move |p| (format!("{}.{}", node.name, p.name), id, p))
        };
        ids.flat_map(of_node).collect()
    }

    /// Number of trained elements: weights and biases, without buffers.
    pub fn parameter_count(&self) -> u64 {
        let trained = self.parameters().into_iter().filter(|(_, _, p)| p.role != Role::Buffer);
        trained.map(|(_, _, p)| p.shape.iter().product::<usize>() as u64).sum()
    }
}
