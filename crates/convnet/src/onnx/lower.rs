//! From our graph to a net and its parameters.
//!
//! | rewrite | precondition | tested by |
//! | --- | --- | --- |
//! | what nothing reads is left out | none | `a_bias_written_as_a_sum` |
//! | scale and shift into the convolution, linear layer, layer norm, or scale and shift before | nothing else reads that | the same |
//! | scale and shift, or padding, as a 1×1 convolution of each channel | nothing else has taken them; the padding is of zeros | `what_nothing_takes_is_a_convolution` |
//! | a mean over channels as a 1×1 convolution | no layer norm has taken it | `means_over_channels` |
//! | a concatenation in the place of all that it has, in a later one that begins with them | none | `concatenations_of_a_dense_block_are_nested` |
//! | a linear layer on everything as a convolution | its output is used as maps | `features_are_maps_where_maps_are_wanted` |
//!
//! Features are a vector in a net, or maps of one pixel. They are maps where an operation on maps reads them, and a vector
//! otherwise, so that a head is what it is in other nets: a pooling, Flatten, linear layers.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::graph::{Affine, Graph, Node, Operation, Part};
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Category, Conv2d, Linear, Op, Shape};
use crate::{Error, StateDict, Tensor};

/// A net of our graph.
pub(super) struct Lowered {
    pub(super) net: Net,
    pub(super) weights: StateDict,
}

/// What no net computes.
#[derive(Debug)]
pub(super) struct Refused {
    /// The node of the file that it comes from.
    pub(super) origin: Option<usize>,
    pub(super) problem: String,
}

impl Refused {
    fn new(node: &Node, problem: String) -> Refused {
        Refused { origin: node.origin, problem }
    }
}

/// Makes the net whose output is a node of the graph, as a vector where it is `flat`. Its input is a vector if it is `features` and
/// nothing takes them as maps.
///
/// # Errors
/// All that no net computes, or where the net would be too large.
pub(super) fn lower(
    graph: &mut Graph,
    output: usize,
    name: &str,
    features: bool,
    flat: bool,
) -> Result<Lowered, Vec<Refused>> {
    let output = fold(graph, output);
    let used = used(graph, output);
    nest(graph, &used);
    let wanted = maps_wanted(graph, &used, output);
    let [channels, ..] = graph.shape(0);
    let input = if features && !wanted[0] { Shape::Vector(channels) } else { Shape::Map(graph.shape(0)) };
    let whole = |error: crate::Error| vec![Refused { origin: None, problem: error.to_string() }];
    let mut builder = Builder {
        net: Net::new(name, input).map_err(whole)?,
        weights: StateDict::new(),
        taken: HashSet::from(["input".to_owned()]),
        numbers: HashMap::new(),
        built: vec![None; graph.nodes.len()],
        flat: vec![None; graph.nodes.len()],
        refused: Vec::new(),
    };
    builder.built[0] = Some(NodeId(0));
    for index in used.into_iter().filter(|&index| index > 0) {
        builder.add(graph, index, wanted[index]);
    }
    let [_, rows, columns] = graph.shape(output);
    if let Some(last) = builder.built[output]
        && !builder.is_vector(last)
        && (flat || rows * columns == 1)
        && let Err(problem) = builder.flattened(output, last)
    {
        builder.refused.push(Refused::new(&graph.nodes[output], problem));
    }
    match builder.refused.is_empty() {
        true => Ok(Lowered { net: builder.net, weights: builder.weights }),
        false => Err(builder.refused),
    }
}

/// For each node how many others read it.
fn readers(graph: &Graph, used: &[usize]) -> Vec<usize> {
    let mut readers = vec![0; graph.nodes.len()];
    used.iter().flat_map(|&node| &graph.nodes[node].inputs).for_each(|&input| readers[input] += 1);
    readers
}

/// The nodes that the output needs, in running order.
fn used(graph: &Graph, output: usize) -> Vec<usize> {
    let mut used = vec![false; graph.nodes.len()];
    used[output] = true;
    used[0] = true;
    for index in (0..graph.nodes.len()).rev().filter(|&index| index <= output) {
        if used[index] {
            graph.nodes[index].inputs.iter().for_each(|&input| used[input] = true);
        }
    }
    (0..graph.nodes.len()).filter(|&index| used[index]).collect()
}

/// A concatenation that begins with all that an earlier one has reads that one in their place: so the layers of a dense block, each of which
/// reads all before it, write into one buffer.
fn nest(graph: &mut Graph, used: &[usize]) {
    // The last concatenation that begins with a node, and what it has.
    let mut last: HashMap<usize, (usize, Vec<usize>)> = HashMap::new();
    for &index in used {
        let node = &mut graph.nodes[index];
        if !matches!(node.operation, Operation::Net(Op::Concat)) {
            continue;
        }
        let inputs = node.inputs.clone();
        if let Some((earlier, its)) = last.get(&inputs[0])
            && its.len() < inputs.len()
            && inputs.starts_with(its)
        {
            node.inputs.splice(..its.len(), [*earlier]);
        }
        last.insert(inputs[0], (index, inputs));
    }
}

/// Scales and shifts into the layers before them; the node that then has the output.
fn fold(graph: &mut Graph, output: usize) -> usize {
    let used = used(graph, output);
    let readers = readers(graph, &used);
    // Where the value of a node is found.
    let mut moved: Vec<usize> = (0..graph.nodes.len()).collect();
    for index in used {
        let first = graph.nodes[index].inputs.first().copied();
        graph.nodes[index].inputs.iter_mut().for_each(|input| *input = moved[*input]);
        let (Operation::Affine(affine), Some(first)) = (graph.nodes[index].operation.clone(), first) else { continue };
        let layer = moved[first];
        if readers[first] == 1 && absorb(&mut graph.nodes[layer], &affine) {
            moved[index] = layer;
        }
    }
    moved[output]
}

/// Multiplies a layer's weights and adds to its bias, if it can have one.
fn absorb(layer: &mut Node, affine: &Affine) -> bool {
    match &mut layer.operation {
        Operation::Affine(first) => {
            *first = Rc::new(affine.after(first));
            return true;
        }
        Operation::Net(Op::Conv2d(conv)) => conv.bias = true,
        Operation::Net(Op::LayerNorm2d(_)) | Operation::Linear(_) | Operation::LinearOfAll(_) => {}
        _ => return false,
    }
    let outputs = affine.scale.len();
    if !layer.tensors.iter().any(|(name, _)| *name == "bias") {
        layer.tensors.push(("bias", Tensor::zeros([outputs])));
    }
    for (name, tensor) in &mut layer.tensors {
        let row = tensor.data().len() / outputs;
        for (numbers, scale) in tensor.data_mut().chunks_mut(row).zip(&affine.scale) {
            numbers.iter_mut().for_each(|number| *number *= scale);
        }
        if *name == "bias" {
            tensor.data_mut().iter_mut().zip(&affine.shift).for_each(|(number, shift)| *number += shift);
        }
    }
    true
}

/// Whether an operation takes and gives features as well as maps.
fn is_of_either(operation: &Operation) -> bool {
    let Operation::Net(op) = operation else { return false };
    match op.category() {
        Category::Pointwise => !matches!(op, Op::LayerScale(_)),
        Category::Normalization => matches!(op, Op::LayerNorm2d(_)),
        Category::Rearrangement => matches!(op, Op::Slice(_)),
        Category::Merge => *op == Op::Add,
        Category::Join => true,
        Category::Input | Category::Convolution | Category::Linear | Category::Pooling => false,
        Category::Dropout | Category::Reshape => false,
    }
}

/// For each node whether its value is used as maps.
fn maps_wanted(graph: &Graph, used: &[usize], output: usize) -> Vec<bool> {
    let mut wanted = vec![false; graph.nodes.len()];
    for &index in used.iter().rev().filter(|&&index| index <= output) {
        let node = &graph.nodes[index];
        let [_, rows, columns] = node.shape;
        let maps = wanted[index] || rows * columns > 1;
        let of_inputs = match &node.operation {
            Operation::Linear(_) => maps,
            Operation::LinearOfAll(_) => false,
            operation if is_of_either(operation) => maps,
            _ => true,
        };
        wanted[index] = maps;
        if of_inputs {
            node.inputs.iter().for_each(|&input| wanted[input] = true);
        }
    }
    wanted
}

struct Builder {
    net: Net,
    weights: StateDict,
    taken: HashSet<String>,
    /// The last number that was put after a name.
    numbers: HashMap<String, usize>,
    /// The node of the net that has the value of a node of the graph.
    built: Vec<Option<NodeId>>,
    /// The same as a vector.
    flat: Vec<Option<NodeId>>,
    refused: Vec<Refused>,
}

impl Builder {
    fn is_vector(&self, node: NodeId) -> bool {
        matches!(self.net.node(node).shape, Shape::Vector(_))
    }

    /// A name that no other node has.
    fn unique(&mut self, name: &str) -> String {
        let name = if name.is_empty() { "layer" } else { name };
        let mut free = name.to_owned();
        while !self.taken.insert(free.clone()) {
            let number = self.numbers.entry(name.to_owned()).or_insert(1);
            *number += 1;
            free = format!("{name}_{number}");
        }
        free
    }

    fn push(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        inputs: &[NodeId],
        tensors: Vec<(&'static str, Tensor)>,
    ) -> Result<NodeId, String> {
        let name = self.unique(name);
        let node = self.net.add(&name, op, inputs).map_err(|error| match error {
            Error::Layer { problem, .. } => problem,
            other => other.to_string(),
        })?;
        self.weights.extend(tensors.into_iter().map(|(parameter, tensor)| (format!("{name}.{parameter}"), tensor)));
        Ok(node)
    }

    /// The value of a node of the graph as a vector; `own` is the node that has it.
    fn flattened(&mut self, node: usize, own: NodeId) -> Result<NodeId, String> {
        if self.is_vector(own) {
            return Ok(own);
        }
        if let Some(flat) = self.flat[node] {
            return Ok(flat);
        }
        let flat = self.push("flatten", Op::Flatten, &[own], Vec::new())?;
        self.flat[node] = Some(flat);
        Ok(flat)
    }

    /// Adds a node of the graph to the net, unless one that it reads was refused.
    fn add(&mut self, graph: &mut Graph, index: usize, maps: bool) {
        let inputs: Option<Vec<NodeId>> = graph.nodes[index].inputs.iter().map(|&input| self.built[input]).collect();
        let Some(inputs) = inputs else { return };
        match self.lowered(graph, index, &inputs, maps) {
            Ok(node) => self.built[index] = Some(node),
            Err(problem) => self.refused.push(Refused::new(&graph.nodes[index], problem)),
        }
    }

    fn lowered(&mut self, graph: &mut Graph, index: usize, own: &[NodeId], maps: bool) -> Result<NodeId, String> {
        let mut tensors = std::mem::take(&mut graph.nodes[index].tensors);
        let Node { name, operation, inputs, shape, .. } = graph.nodes[index].clone();
        let bias = tensors.iter().any(|(name, _)| *name == "bias");
        let [channels, ..] = shape;
        match operation {
            Operation::Linear(out_features) if maps => {
                let op = Linear { bias, per_pixel: true, ..Linear::new(out_features) };
                self.push(&name, op, &own[..1], tensors)
            }
            Operation::LinearOfAll(outputs) if maps => {
                let [deep, rows, columns] = graph.shape(inputs[0]);
                let (_, weight) = &mut tensors[0];
                *weight = std::mem::take(weight).reshaped([outputs, deep, rows, columns]);
                let window = Window { kernel: [rows, columns], ..Window::square(1) };
                let op = Conv2d { bias, ..Conv2d::new(outputs, window) };
                self.push(&name, op, &own[..1], tensors)
            }
            Operation::Linear(out_features) | Operation::LinearOfAll(out_features) => {
                let input = self.flattened(inputs[0], own[0])?;
                self.push(&name, Linear { bias, ..Linear::new(out_features) }, &[input], tensors)
            }
            Operation::Net(op) => {
                let mut own = own.to_vec();
                if own.iter().any(|&input| self.is_vector(input)) {
                    for (own, &input) in own.iter_mut().zip(&inputs) {
                        *own = self.flattened(input, *own)?;
                    }
                }
                self.push(&name, op, &own, tensors)
            }
            Operation::Affine(affine) => {
                let (op, tensors) = Graph::each_channel(channels, Some(&affine), None);
                self.push(&name, op, &own[..1], tensors)
            }
            Operation::Pad(around) if around.value == 0.0 => {
                let (op, tensors) = Graph::each_channel(channels, None, Some(around));
                self.push(&name, op, &own[..1], tensors)
            }
            Operation::Pad(around) => {
                Err(format!("expected padding of zeros where no pooling takes it, got {}", around.value))
            }
            Operation::Part(Part::ChannelMean) => {
                let [channels, ..] = graph.shape(inputs[0]);
                let weight = Tensor::new([1, channels, 1, 1], vec![1.0 / channels as f32; channels]);
                let op = Conv2d { bias: false, ..Conv2d::new(1, 1) };
                self.push(&name, op, &own[..1], vec![("weight", weight)])
            }
            Operation::Part(part) => Err(part.expected().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Surround;
    use super::*;
    use crate::ops::{Activation, AdaptiveAvgPool2d, MaxPool2d};

    fn conv(graph: &mut Graph, input: usize, outputs: usize) -> usize {
        let [channels, ..] = graph.shape(input);
        let weight = Tensor::new([outputs, channels, 1, 1], vec![2.0; outputs * channels]);
        graph.net(Conv2d { bias: false, ..Conv2d::new(outputs, 1) }, &[input], vec![("weight", weight)]).unwrap()
    }

    fn operations(lowered: &Lowered) -> Vec<&'static str> {
        lowered.net.nodes().iter().map(|node| node.op.name()).collect()
    }

    #[test]
    fn a_bias_written_as_a_sum() {
        let mut graph = Graph::new([2, 3, 3]);
        graph.name = "conv".into();
        let conv = conv(&mut graph, 0, 2);
        let scaled = graph.affine(conv, Affine { scale: vec![0.5, 1.0], shift: vec![0.0, 0.0] });
        let output = graph.affine(scaled, Affine { scale: vec![1.0, 1.0], shift: vec![1.0, -1.0] });
        let unread = graph.activation(Activation::Relu, output);
        let lowered = lower(&mut graph, output, "net", false, false).unwrap();
        assert!(unread > output);
        assert_eq!(operations(&lowered), ["input", "conv2d"]);
        assert_eq!(lowered.weights["conv.weight"].data(), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(lowered.weights["conv.bias"].data(), [1.0, -1.0]);
        crate::weights::check(&lowered.net, &lowered.weights).unwrap();
    }

    #[test]
    fn what_nothing_takes_is_a_convolution() {
        let mut graph = Graph::new([2, 3, 3]);
        let scaled = graph.affine(0, Affine { scale: vec![2.0, 1.0], shift: vec![0.0, 0.0] });
        let shifted = graph.affine(scaled, Affine::uniform(2, 1.0, 3.0));
        let around = Surround { begin: [1, 0], end: [0, 2], value: 0.0 };
        let padded = graph.pad(shifted, around).unwrap();
        let output = graph.net(MaxPool2d::new(2), &[padded], Vec::new()).unwrap();
        let lowered = lower(&mut graph, output, "net", false, false).unwrap();
        assert_eq!(operations(&lowered), ["input", "conv2d", "conv2d", "max_pool2d"]);
        assert_eq!(lowered.net.output_shape(), Shape::Map([2, 2, 2]));
        crate::weights::check(&lowered.net, &lowered.weights).unwrap();
        let around = Surround { value: 1.0, ..around };
        let ones = graph.pad(0, around).unwrap();
        assert!(lower(&mut graph, ones, "net", false, false).err().unwrap()[0].problem.contains("of zeros"));
    }

    #[test]
    fn features_are_maps_where_maps_are_wanted() {
        let mut graph = Graph::new([2, 3, 3]);
        let pool = graph.net(AdaptiveAvgPool2d::new([1, 1]), &[0], Vec::new()).unwrap();
        let squeeze = graph.linear(pool, false, Tensor::zeros([2, 2]));
        let gate = graph.activation(Activation::Sigmoid, squeeze);
        let gated = graph.product(0, gate).unwrap();
        let head = graph.linear(gated, true, Tensor::zeros([5, 18]));
        let lowered = lower(&mut graph, head, "net", false, true).unwrap();
        let expected = ["input", "adaptive_avg_pool2d", "linear", "sigmoid", "mul", "flatten", "linear"];
        assert_eq!(operations(&lowered), expected);
        assert_eq!(lowered.net.output_shape(), Shape::Vector(5));
        // A linear layer on everything whose outputs are channels.
        let all = graph.linear(0, true, Tensor::zeros([2, 18]));
        let gated = graph.product(0, all).unwrap();
        let lowered = lower(&mut graph, gated, "net", false, false).unwrap();
        assert_eq!(operations(&lowered), ["input", "conv2d", "mul"]);
        crate::weights::check(&lowered.net, &lowered.weights).unwrap();
    }

    #[test]
    fn concatenations_of_a_dense_block_are_nested() {
        let mut graph = Graph::new([3, 8, 8]);
        let layers: Vec<usize> = (0..4).map(|_| conv(&mut graph, 0, 4)).collect();
        let mut concat = |inputs: &[usize]| graph.net(Op::Concat, inputs, Vec::new()).unwrap();
        let two = concat(&layers[..2]);
        let three = concat(&layers[..3]);
        let other = concat(&[layers[0], layers[3]]);
        let four = concat(&[layers[0], layers[3], layers[1]]);
        let all = concat(&[two, three, other, four]);
        let used = used(&graph, all);
        nest(&mut graph, &used);
        let inputs = |node: usize| graph.nodes[node].inputs.clone();
        assert_eq!([inputs(two), inputs(three)], [layers[..2].to_vec(), vec![two, layers[2]]]);
        assert_eq!([inputs(other), inputs(four)], [vec![layers[0], layers[3]], vec![other, layers[1]]]);
        assert_eq!(inputs(all), [two, three, other, four]);
    }
}
