//! A net is data: a list of named nodes in an order in which they can run. Everything else is derived from it.
//!
//! ```
//! use convnet::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let mut net = Net::new("residual", Shape::Map([3, 32, 32]))?;
//! let stem = net.then("stem", Conv2d::new(16, Window::square(3).padding(1)))?;
//! net.then("conv", Conv2d::new(16, Window::square(3).padding(1)))?;
//! let conv = net.then("relu", Activation::Relu)?;
//! net.add("sum", Op::Add, &[stem, conv])?;
//! assert_eq!(net.output_shape(), Shape::Map([16, 32, 32]));
//! assert_eq!(net.parameters().iter().map(|(.., p)| p.shape.iter().product::<usize>()).sum::<usize>(), 448 + 2320);
//! assert_eq!(Net::from_toml(&net.to_toml())?, net);
//! # Ok(())
//! # }
//! ```

mod blocks;
mod cost;
mod draw;
pub mod rewrite;
#[cfg(test)]
mod samples;
mod table;
mod text;

pub use blocks::{Block, Depth};
pub use cost::{Estimate, Level, Roofline};
pub use table::{LayerRow, Part, Table};

use std::collections::HashMap;

use crate::ops::{Head, Op, Parameter, Role, Shape};
use crate::{Error, Result};

/// Most nodes of a net, its input included.
pub const MAX_NODES: usize = 10_000;

/// Longest name of a net or a node, in bytes.
pub const MAX_NAME: usize = 256;

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

/// A second output that only training looks at: its loss, times a weight, is added to the net's (Szegedy et al. 2015,
/// section 5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auxiliary {
    /// Whose output it is.
    pub node: NodeId,
    /// Factor of its loss.
    pub loss_weight: f32,
}

/// A network: nodes in running order, the first the input, the last the output.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    name: String,
    nodes: Vec<Node>,
    /// Where the node of each name stands.
    places: HashMap<String, NodeId>,
    auxiliaries: Vec<Auxiliary>,
}

impl Net {
    /// Begins a net that takes pictures of this shape. Layers are then added with [`Net::add`] or [`Net::then`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when the name cannot be used; [`Error::Layer`] when an axis is 0 or the picture is absurdly large.
    pub fn new(name: impl Into<String>, input: Shape) -> Result<Net> {
        let name = name.into();
        check_name(&name).map_err(|problem| Error::invalid(format!("name of a net: {problem}")))?;
        let mut net = Net { name, nodes: Vec::new(), places: HashMap::new(), auxiliaries: Vec::new() };
        net.add("input", Op::Input(input), &[])?;
        Ok(net)
    }

    /// The same layers for pictures of another shape.
    ///
    /// # Errors
    /// [`Error::Layer`] for the first layer that the new shape does not fit.
    pub fn with_input(&self, input: Shape) -> Result<Net> {
        let mut net = Net::new(self.name.clone(), input)?;
        for node in &self.nodes[1..] {
            net.add(&node.name, node.op.clone(), &node.inputs)?;
        }
        net.auxiliaries.clone_from(&self.auxiliaries);
        Ok(net)
    }

    /// The same net for so many classes: the last layers with parameters before its output and before its auxiliary outputs,
    /// linear layers or convolutions, get as many outputs.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the net's output does not come from such a layer, and as [`Net::add`].
    pub fn with_classes(&self, classes: usize) -> Result<Net> {
        let heads = self.heads()?;
        let mut net = Net::new(self.name.clone(), self.input_shape())?;
        for (index, node) in self.nodes.iter().enumerate().skip(1) {
            let op = match node.op.head() {
                Head::Layer(with_outputs) if heads.contains(&NodeId(index)) => with_outputs(classes),
                Head::Layer(_) | Head::Passes | Head::Other => node.op.clone(),
            };
            net.add(&node.name, op, &node.inputs)?;
        }
        net.auxiliaries.clone_from(&self.auxiliaries);
        match net.output_shape() {
            Shape::Vector(outputs) if outputs == classes => Ok(net),
            output => {
                let of = format!("output of net '{}' with a new head", self.name);
                Err(Error::Shape { of, expected: vec![classes], found: output.dims().to_vec() })
            }
        }
    }

    /// The layers whose outputs are the classes, at the output and at auxiliary ones.
    pub(crate) fn heads(&self) -> Result<Vec<NodeId>> {
        let ends = [self.output()].into_iter().chain(self.auxiliaries.iter().map(|auxiliary| auxiliary.node));
        ends.map(|end| self.head_of(end)).collect()
    }

    /// The layer whose outputs are the classes at a node.
    fn head_of(&self, end: NodeId) -> Result<NodeId> {
        let mut at = end;
        loop {
            let node = self.node(at);
            match (node.op.head(), &node.inputs[..]) {
                (Head::Layer(_), _) => return Ok(at),
                (Head::Passes, &[input]) => at = input,
                _ => {
                    let (net, end) = (&self.name, &self.node(end).name);
                    let problem = format!("net '{net}': no linear layer or convolution gives the outputs of '{end}'");
                    return Err(Error::invalid(problem));
                }
            }
        }
    }

    /// Adds a layer and checks at once that it fits.
    ///
    /// # Errors
    /// [`Error::Layer`] when the name is taken or cannot be used, an input is not of this net, the shapes do not fit, or
    /// the net has [`MAX_NODES`] already.
    pub fn add(&mut self, name: &str, op: impl Into<Op>, inputs: &[NodeId]) -> Result<NodeId> {
        self.add_op(name, op.into(), inputs)
    }

    fn add_op(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let error = |problem| Error::Layer { layer: name.into(), op: op.name(), problem };
        check_name(name).map_err(|problem| {
            let layer = name.escape_debug().take(40).collect();
            Error::Layer { layer, op: op.name(), problem }
        })?;
        if self.find(name).is_some() {
            return Err(error("expected a name that is not yet taken".into()));
        }
        if self.nodes.len() == MAX_NODES {
            return Err(error(format!("expected at most {MAX_NODES} nodes in a net")));
        }
        if matches!(op, Op::Input(_)) != self.nodes.is_empty() {
            return Err(error("expected exactly one input, the first node".into()));
        }
        let shapes =
            inputs.iter().map(|id| self.nodes.get(id.0).map(|node| node.shape)).collect::<Option<Vec<Shape>>>();
        let shapes = shapes.ok_or_else(|| error("expected inputs that are nodes of this net".into()))?;
        let shape = op.output(&shapes).map_err(error)?;
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), shape });
        self.places.insert(name.into(), id);
        Ok(id)
    }

    /// Adds a layer after the last one.
    ///
    /// # Errors
    /// As [`Net::add`].
    ///
    /// ```
    /// use convnet::prelude::*;
    /// # fn main() -> convnet::Result<()> {
    /// let mut net = Net::new("small", Shape::Map([1, 28, 28]))?;
    /// net.then("conv", Conv2d::new(16, 3))?;
    /// net.then("relu", Activation::Relu)?;
    /// net.then("pool", MaxPool2d::new(2))?;
    /// net.then("flatten", Op::Flatten)?;
    /// net.then("head", Linear::new(10))?;
    /// assert_eq!(net.output_shape(), Shape::Vector(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn then(&mut self, name: &str, op: impl Into<Op>) -> Result<NodeId> {
        let last = self.output();
        self.add(name, op, &[last])
    }

    /// Makes a node an output of training's: see [`Auxiliary`]. It must give what the net's output gives; that is checked
    /// when training is planned, for the output is not known before all layers are.
    ///
    /// # Errors
    /// [`Error::Layer`] when the node is not of this net, is one already, or the weight is not a finite number above 0.
    pub fn add_auxiliary(&mut self, node: NodeId, loss_weight: f32) -> Result<()> {
        let Some(found) = self.nodes.get(node.0) else {
            return Err(Error::invalid(format!("net '{}': expected an auxiliary output that is a node", self.name)));
        };
        let error = |problem| Error::Layer { layer: found.name.clone(), op: found.op.name(), problem };
        if !(loss_weight.is_finite() && loss_weight > 0.0) {
            return Err(error(format!("expected a loss_weight above 0, got {loss_weight}")));
        }
        if self.auxiliaries.iter().any(|auxiliary| auxiliary.node == node) {
            return Err(error("is an auxiliary output already".into()));
        }
        self.auxiliaries.push(Auxiliary { node, loss_weight });
        Ok(())
    }

    /// Outputs that only training looks at, in the order in which they were added.
    pub fn auxiliaries(&self) -> &[Auxiliary] {
        &self.auxiliaries
    }

    /// For each node whether the net's output needs it, or, with `training`, an auxiliary output does.
    pub(crate) fn needed(&self, training: bool) -> Vec<bool> {
        let auxiliaries = self.auxiliaries.iter().filter(|_| training).map(|auxiliary| auxiliary.node);
        self.needed_by([self.output()].into_iter().chain(auxiliaries))
    }

    /// For each node whether one of these needs it, or is it.
    pub(crate) fn needed_by(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        nodes.into_iter().for_each(|node| needed[node.0] = true);
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if needed[index] {
                node.inputs.iter().for_each(|id| needed[id.0] = true);
            }
        }
        needed
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
        self.places.get(name).copied()
    }

    /// Shapes of a node's inputs.
    pub fn input_shapes(&self, id: NodeId) -> Vec<Shape> {
        self.node(id).inputs.iter().map(|&input| self.node(input).shape).collect()
    }

    /// Multiply-adds of a node for one picture.
    pub(crate) fn macs(&self, id: NodeId) -> u64 {
        self.node(id).op.macs(&self.input_shapes(id), self.node(id).shape)
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
        trained.map(|(_, _, p)| p.elements() as u64).sum()
    }
}

/// Names are shown on terminals and begin the names of parameters in files: short, and nothing invisible.
fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!("expected a name of 1 to {MAX_NAME} bytes, got {}", name.len()));
    }
    match name.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("expected a name without control characters, got {control:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Window;
    use crate::ops::{Conv2d, Linear};

    fn problem(result: Result<NodeId>) -> String {
        result.expect_err("was accepted").to_string()
    }

    #[test]
    fn lecture_l4_filters_become_channels() {
        let mut net = Net::new("l4", Shape::Map([3, 32, 32])).unwrap();
        for (filters, expected) in [(4, [4, 28, 28]), (10, [10, 24, 24])] {
            net.then(&format!("conv{filters}"), Op::Conv2d(Conv2d::new(filters, Window::square(5)))).unwrap();
            net.then(&format!("relu{filters}"), Op::RELU).unwrap();
            assert_eq!(net.output_shape(), Shape::Map(expected));
        }
        let weights = |name| net.parameters().into_iter().find(|(full, ..)| full == name).unwrap().2.shape;
        assert_eq!(weights("conv4.weight"), [4, 3, 5, 5]);
        assert_eq!(weights("conv10.weight"), [10, 4, 5, 5]);
    }

    #[test]
    fn bad_layers_are_refused_with_their_name() {
        let mut net = Net::new("net", Shape::Map([1, 4, 4])).unwrap();
        net.then("relu", Op::RELU).unwrap();
        assert!(problem(net.then("relu", Op::RELU)).contains("not yet taken"));
        assert!(problem(net.then("", Op::RELU)).contains("got 0"));
        assert!(problem(net.then("a\u{1b}[31m", Op::RELU)).contains("control"));
        assert!(problem(net.add("far", Op::RELU, &[NodeId(7)])).contains("of this net"));
        assert!(problem(net.add("none", Op::RELU, &[])).contains("expected 1 input"));
        assert!(problem(net.then("second", Op::Input(Shape::Vector(3)))).contains("exactly one input"));
        let text = problem(net.then("big", Op::Conv2d(Conv2d::new(1, Window::square(5)))));
        assert_eq!(
            text,
            "layer 'big' (conv2d): the kernel covers 5 pixels of height, but the input has 4 plus 0 of padding"
        );
        assert_eq!(net.nodes().len(), 2);
    }

    #[test]
    fn another_input_shape_is_checked_layer_by_layer() {
        let mut net = Net::new("net", Shape::Map([1, 8, 8])).unwrap();
        net.then("conv", Op::Conv2d(Conv2d::new(2, Window::square(3)))).unwrap();
        net.then("flatten", Op::Flatten).unwrap();
        net.then("head", Op::Linear(Linear::new(5))).unwrap();
        let wide = net.with_input(Shape::Map([3, 9, 7])).unwrap();
        assert_eq!(wide.nodes()[1].shape, Shape::Map([2, 7, 5]));
        assert_eq!(wide.parameters()[2].2.shape, [5, 70]);
        assert!(problem(net.with_input(Shape::Map([1, 2, 8])).map(|net| net.output())).contains("'conv'"));
    }

    #[test]
    fn heads_get_other_classes() {
        let outputs = |net: &Net| net.node(net.output()).shape.elements();
        for name in ["squeezenet1_1", "googlenet", "resnet18", "lenet5", "mobilenet_v2"] {
            let net = crate::zoo::by_name(name, &Default::default()).unwrap();
            let other = net.with_classes(7).unwrap();
            assert_eq!(outputs(&other), 7);
            assert!(other.auxiliaries().iter().all(|auxiliary| other.node(auxiliary.node).shape.elements() == 7));
            assert_eq!(other.with_classes(outputs(&net)).unwrap(), net);
        }
        let mut summed = Net::new("summed", Shape::Vector(3)).unwrap();
        summed.then("linear", crate::ops::Linear::new(3)).unwrap();
        let end = summed.output();
        summed.add("add", Op::Add, &[end, NodeId(0)]).unwrap();
        assert!(problem(summed.with_classes(2).map(|net| net.output())).contains("no linear layer or convolution"));
    }
}
