//! The graph between ONNX's and a net: a net's operations, and a few that only stand for a part of one until its rest is read.
//!
//! Nodes are made by functions that compute at once what is known: an activation written as arithmetic becomes that activation
//! when its last product is added, and nodes that nobody reads any more are left out at the end. Values are maps of channels, rows
//! and columns; features are channels of one pixel.
//!
//! | written as | becomes | precondition | tested by |
//! | --- | --- | --- | --- |
//! | `x · sigmoid(x)` | SiLU | the same `x` | `activations_written_as_arithmetic` |
//! | `clip(x + 3, 0, 6) / 6` and its like | hard sigmoid | scale and shift equal for all channels, ends at 0 and 1 | the same |
//! | `x · hard_sigmoid(x)` with 1/6 and 1/2 | hard swish | the same `x` | the same |
//! | `x · (1 + erf(x / √2))` and its like | GELU, and a scale | the same `x` | the same |
//! | `(x - mean(x)) / √(mean((x - mean(x))²) + eps)` over channels | layer norm | the same `x` | `a_layer_norm_written_as_arithmetic` |

use std::f32::consts::FRAC_1_SQRT_2;
use std::rc::Rc;

use crate::Tensor;
use crate::geometry::{Padding, Window};
use crate::ops::{Activation, Conv2d, LayerNorm2d, MAX_PIXELS, Op, Shape};

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operation {
    /// An operation of a net; a linear layer is none of these.
    Net(Op),
    /// A linear layer on the channels of each pixel, with a weight `[outputs, channels]`.
    Linear(usize),
    /// A linear layer on a whole value, with a weight `[outputs, channels · rows · columns]`.
    LinearOfAll(usize),
    /// Each channel times a number plus a number.
    Affine(Rc<Affine>),
    /// Pixels around the maps, with this value in them.
    Pad(Surround),
    /// A part of an operation whose rest is still to come.
    Part(Part),
}

/// A factor and an addend for each channel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// Pixels around maps, each `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Surround {
    pub(super) begin: [usize; 2],
    pub(super) end: [usize; 2],
    pub(super) value: f32,
}

/// What is no operation of a net by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The error function.
    Erf,
    /// The mean over the channels of each pixel.
    ChannelMean,
    /// A value less its mean over channels.
    Centred,
    Square,
    SquareRoot,
}

impl Part {
    /// What it would have to be a part of.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Part::Erf => "expected an error function to be a part of GELU",
            Part::ChannelMean => "expected a mean over channels",
            Part::Centred => "expected the difference from a mean to be a part of a layer norm",
            Part::Square => "expected a square to be a part of a layer norm",
            Part::SquareRoot => "expected a square root to be a part of a layer norm",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The node of the file that it was made for.
    pub(super) origin: Option<usize>,
    pub(super) operation: Operation,
    pub(super) inputs: Vec<usize>,
    pub(super) shape: [usize; 3],
    /// Whether none of its numbers is below 0, as far as operations say it.
    pub(super) positive: bool,
    /// Its parameters by the names that they have in a net.
    pub(super) tensors: Vec<(&'static str, Tensor)>,
}

/// Nodes in running order, the first the input.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// The name of nodes that are added, and the node of the file that they are made for.
    pub(super) name: String,
    pub(super) origin: Option<usize>,
    /// Numbers of all parameters, scales and shifts that were made.
    pub(super) made: usize,
}

impl Affine {
    pub(super) fn uniform(channels: usize, scale: f32, shift: f32) -> Affine {
        Affine { scale: vec![scale; channels], shift: vec![shift; channels] }
    }

    /// The factor and the addend, if they are the same for all channels.
    fn numbers(&self) -> Option<[f32; 2]> {
        let same = |values: &[f32]| values.iter().all(|&value| value == values[0]).then_some(values[0]);
        Some([same(&self.scale)?, same(&self.shift)?])
    }

    /// This after another.
    pub(super) fn after(&self, first: &Affine) -> Affine {
        let scale = self.scale.iter().zip(&first.scale).map(|(own, first)| own * first).collect();
        let shift = self.scale.iter().zip(&first.shift).zip(&self.shift);
        Affine { scale, shift: shift.map(|((scale, first), shift)| scale * first + shift).collect() }
    }

    fn is_identity(&self) -> bool {
        self.numbers().is_some_and(|[scale, shift]| (scale - 1.0).abs() <= 1e-6 && shift == 0.0)
    }
}

/// How many scales and shifts in a row are looked through.
const ORIGINS: usize = 5;

/// Numbers that are written to 6 digits or more and meant to be equal.
fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * b.abs().max(1.0)
}

impl Graph {
    pub(super) fn new(input: [usize; 3]) -> Graph {
        let operation = Operation::Net(Op::Input(Shape::Map(input)));
        let mut graph = Graph { nodes: Vec::new(), name: "input".into(), origin: None, made: 0 };
        graph.push(operation, Vec::new(), input);
        graph
    }

    pub(super) fn shape(&self, node: usize) -> [usize; 3] {
        self.nodes[node].shape
    }

    fn push(&mut self, operation: Operation, inputs: Vec<usize>, shape: [usize; 3]) -> usize {
        let (name, origin) = (self.name.clone(), self.origin);
        let positive = self.is_positive(&operation, &inputs);
        self.nodes.push(Node { name, origin, operation, inputs, shape, positive, tensors: Vec::new() });
        self.nodes.len() - 1
    }

    /// Whether no number that an operation gives is below 0.
    fn is_positive(&self, operation: &Operation, inputs: &[usize]) -> bool {
        match operation {
            Operation::Net(Op::Activation(activation)) => match activation {
                Activation::Relu | Activation::Sigmoid | Activation::HardSigmoid { .. } => true,
                Activation::Clip { low, .. } => *low >= 0.0,
                _ => false,
            },
            Operation::Net(Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) | Op::Concat | Op::Add) => {
                inputs.iter().all(|&input| self.nodes[input].positive)
            }
            _ => false,
        }
    }

    /// Gives a node its parameters.
    fn set_tensors(&mut self, node: usize, tensors: Vec<(&'static str, Tensor)>) {
        self.made += tensors.iter().map(|(_, tensor)| tensor.data().len()).sum::<usize>();
        self.nodes[node].tensors = tensors;
    }

    /// Adds an operation of a net.
    ///
    /// # Errors
    /// When it does not fit its inputs.
    pub(super) fn net(
        &mut self,
        op: impl Into<Op>,
        inputs: &[usize],
        tensors: Vec<(&'static str, Tensor)>,
    ) -> Result<usize, String> {
        let op = op.into();
        let shapes: Vec<Shape> = inputs.iter().map(|&input| Shape::Map(self.shape(input))).collect();
        let Shape::Map(shape) = op.output(&shapes)? else { return Err("expected an operation on maps".into()) };
        for parameter in op.parameters(&shapes) {
            let found = tensors.iter().find(|(name, _)| *name == parameter.name).map(|(_, tensor)| tensor.shape());
            if found != Some(&parameter.shape[..]) {
                let (name, expected) = (parameter.name, parameter.shape);
                return Err(format!("expected a {name} of shape {expected:?}, got {:?}", found.unwrap_or_default()));
            }
        }
        let node = self.push(Operation::Net(op), inputs.to_vec(), shape);
        self.set_tensors(node, tensors);
        Ok(node)
    }

    /// A linear layer on the channels of each pixel, or on everything.
    pub(super) fn linear(&mut self, input: usize, of_all: bool, weight: Tensor) -> usize {
        let outputs = weight.shape()[0];
        let [_, rows, columns] = self.shape(input);
        let node = match of_all && rows * columns > 1 {
            true => self.push(Operation::LinearOfAll(outputs), vec![input], [outputs, 1, 1]),
            false => self.push(Operation::Linear(outputs), vec![input], [outputs, rows, columns]),
        };
        self.set_tensors(node, vec![("weight", weight)]);
        node
    }

    /// # Errors
    /// Maps that would be too large.
    pub(super) fn pad(&mut self, input: usize, around: Surround) -> Result<usize, String> {
        let [channels, rows, columns] = self.shape(input);
        let [top, left] = around.begin;
        let [bottom, right] = around.end;
        if [top, left, bottom, right] == [0; 4] {
            return Ok(input);
        }
        if [top, left, bottom, right].iter().any(|&pixels| pixels > MAX_PIXELS) {
            return Err(format!(
                "expected at most {MAX_PIXELS} pixels around a map, got {:?}",
                [top, left, bottom, right]
            ));
        }
        let shape = [channels, rows + top + bottom, columns + left + right];
        Op::Input(Shape::Map(shape)).output(&[])?;
        Ok(self.push(Operation::Pad(around), vec![input], shape))
    }

    /// A part of an operation, or the operation that it completes.
    pub(super) fn part(&mut self, part: Part, input: usize) -> usize {
        let [channels, rows, columns] = self.shape(input);
        let channels = if part == Part::ChannelMean { 1 } else { channels };
        self.push(Operation::Part(part), vec![input], [channels, rows, columns])
    }

    /// The input of a node that is this part.
    fn input_of(&self, node: usize, part: Part) -> Option<usize> {
        (self.nodes[node].operation == Operation::Part(part)).then(|| self.nodes[node].inputs[0])
    }

    /// A node as another one times a number plus a number.
    fn scaled(&self, node: usize) -> (usize, [f32; 2]) {
        match &self.nodes[node].operation {
            Operation::Affine(affine) => match affine.numbers() {
                Some(numbers) => (self.nodes[node].inputs[0], numbers),
                None => (node, [1.0, 0.0]),
            },
            _ => (node, [1.0, 0.0]),
        }
    }

    /// A node, what it is a number times plus a number, and so on: each with these two numbers.
    fn origins(&self, node: usize) -> Vec<(usize, [f32; 2])> {
        let next = |&(node, [scale, shift]): &(usize, [f32; 2])| {
            let (inner, [s, t]) = self.scaled(node);
            (inner != node).then_some((inner, [scale * s, scale * t + shift]))
        };
        std::iter::successors(Some((node, [1.0, 0.0])), next).take(ORIGINS).collect()
    }

    /// Each channel times a number plus a number. Two of them stay two, so that what is written as arithmetic is told by its input;
    /// lowering makes them one.
    pub(super) fn affine(&mut self, input: usize, affine: Affine) -> usize {
        if affine.is_identity() {
            return input;
        }
        if let Operation::Affine(first) = &self.nodes[input].operation
            && affine.after(first).is_identity()
        {
            return self.nodes[input].inputs[0];
        }
        if let Some(hard) = self.hard_sigmoid(input, &affine) {
            return hard;
        }
        let shape = self.shape(input);
        self.made += 2 * affine.scale.len();
        self.push(Operation::Affine(Rc::new(affine)), vec![input], shape)
    }

    /// `a · clip(s · x + t, low, high) + b` whose ends are 0 and 1.
    fn hard_sigmoid(&mut self, input: usize, affine: &Affine) -> Option<usize> {
        let Operation::Net(Op::Activation(clip)) = self.nodes[input].operation else { return None };
        let Activation::Clip { low, high } = clip else { return None };
        let [a, b] = affine.numbers().filter(|&[a, b]| near(a * low + b, 0.0) && near(a * high + b, 1.0))?;
        let (x, [s, t]) = self.scaled(self.nodes[input].inputs[0]);
        let activation = tidy(Activation::HardSigmoid { slope: a * s, offset: a * t + b });
        let Activation::HardSigmoid { slope, .. } = activation else { return None };
        (slope > 0.0).then(|| self.activation(activation, x))
    }

    pub(super) fn activation(&mut self, activation: Activation, input: usize) -> usize {
        let shape = self.shape(input);
        self.push(Operation::Net(Op::Activation(activation)), vec![input], shape)
    }

    /// The product of two values, one of which may have one number per channel.
    ///
    /// # Errors
    /// When no operation of a net computes it.
    pub(super) fn product(&mut self, a: usize, b: usize) -> Result<usize, String> {
        for (x, other) in [(a, b), (b, a)] {
            if let Some(node) = self.gated(x, other) {
                return Ok(node);
            }
        }
        if a == b {
            return Ok(self.part(Part::Square, a));
        }
        let pair = match [self.shape(a), self.shape(b)] {
            [[_, 1, 1], [_, rows, columns]] if rows * columns > 1 => [b, a],
            _ => [a, b],
        };
        self.net(Op::Mul, &pair, Vec::new()).map_err(|problem| format!("a product of two values: {problem}"))
    }

    /// `x` times a function of it that makes another activation.
    fn gated(&mut self, x: usize, other: usize) -> Option<usize> {
        if let Operation::Net(Op::Activation(gate)) = self.nodes[other].operation
            && self.nodes[other].inputs[0] == x
        {
            let whole = match gate {
                Activation::Sigmoid => Some(Activation::Silu),
                Activation::HARD_SIGMOID => Some(Activation::HardSwish),
                _ => None,
            };
            if let Some(activation) = whole {
                return Some(self.activation(activation, x));
            }
        }
        // x · clip(x + 3, 0, 6) is 6 · hard swish.
        if let Operation::Net(Op::Activation(Activation::Clip { low: 0.0, high })) = self.nodes[other].operation {
            let (argument, [s, t]) = self.scaled(self.nodes[other].inputs[0]);
            let gate = tidy(Activation::HardSigmoid { slope: s / high, offset: t / high });
            if argument == x && gate == Activation::HARD_SIGMOID {
                let swish = self.activation(Activation::HardSwish, x);
                let channels = self.shape(x)[0];
                return Some(self.affine(swish, Affine::uniform(channels, high, 0.0)));
            }
        }
        // a · x times b · (1 + erf(x / √2)) is 2ab · GELU(x).
        let &(erf, [b, c]) = self.origins(other).last()?;
        let is_half = |number: f32| near(number, FRAC_1_SQRT_2);
        let arguments = self.origins(self.input_of(erf, Part::Erf)?);
        let arguments: Vec<usize> =
            arguments.into_iter().filter(|&(_, [s, t])| is_half(s) && t == 0.0).map(|(node, _)| node).collect();
        let mut bases =
            self.origins(x).into_iter().filter(|&(node, [_, shift])| shift == 0.0 && arguments.contains(&node));
        let (base, [a, _]) = bases.next().filter(|_| b != 0.0 && (b - c).abs() <= 1e-5 * b.abs())?;
        let channels = self.shape(base)[0];
        let gelu = self.activation(Activation::Gelu, base);
        Some(self.affine(gelu, Affine::uniform(channels, 2.0 * a * b, 0.0)))
    }

    /// A value less another one, where that is the mean over its channels.
    pub(super) fn centred(&mut self, x: usize, mean: usize) -> Option<usize> {
        (self.input_of(mean, Part::ChannelMean)? == x).then(|| self.part(Part::Centred, x))
    }

    /// A centred value by the square root of the mean of its square plus a number: a layer norm without weights.
    pub(super) fn layer_norm(&mut self, centred: usize, deviation: usize) -> Option<usize> {
        let x = self.input_of(centred, Part::Centred)?;
        let (variance, [one, eps]) = self.scaled(self.input_of(deviation, Part::SquareRoot)?);
        let squares = self.input_of(variance, Part::ChannelMean)?;
        let squared = self.input_of(squares, Part::Square)?;
        // The square may be of another subtraction of the same mean.
        let same = squared == centred || self.input_of(squared, Part::Centred) == Some(x);
        (same && one == 1.0).then(|| self.plain_layer_norm(x, eps))?.ok()
    }

    /// A layer norm with factors 1 and addends 0; what follows is folded into them at the end.
    ///
    /// # Errors
    /// An `eps` that is not above 0.
    pub(super) fn plain_layer_norm(&mut self, x: usize, eps: f32) -> Result<usize, String> {
        let channels = self.shape(x)[0];
        let filled = |value| Tensor::new([channels], vec![value; channels]);
        self.net(LayerNorm2d { eps }, &[x], vec![("weight", filled(1.0)), ("bias", filled(0.0))])
    }

    /// A 1×1 convolution of each channel by itself, for scales, shifts and padding that nothing else takes.
    pub(super) fn each_channel(
        channels: usize,
        affine: Option<&Affine>,
        around: Option<Surround>,
    ) -> (Op, Vec<(&'static str, Tensor)>) {
        let padding = around.map_or(Padding::NONE, |pad| Padding::Explicit { begin: pad.begin, end: pad.end });
        let window = Window { padding, ..Window::square(1) };
        let bias = affine.is_some();
        let op = Conv2d { groups: channels, bias, ..Conv2d::new(channels, window) };
        let scale = affine.map_or_else(|| vec![1.0; channels], |affine| affine.scale.clone());
        let mut tensors = vec![("weight", Tensor::new([channels, 1, 1, 1], scale))];
        tensors.extend(affine.map(|affine| ("bias", Tensor::new([channels], affine.shift.clone()))));
        (Op::Conv2d(op), tensors)
    }
}

/// The settings of a known activation, where a file's are these but for rounding.
pub(super) fn tidy(activation: Activation) -> Activation {
    match (activation, Activation::HARD_SIGMOID) {
        (Activation::HardSigmoid { slope, offset }, Activation::HardSigmoid { slope: own, offset: middle })
            if near(slope, own) && near(offset, middle) =>
        {
            Activation::HARD_SIGMOID
        }
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        Graph::new([2, 3, 3])
    }

    fn last(graph: &Graph, node: usize) -> (&Operation, &[usize]) {
        (&graph.nodes[node].operation, &graph.nodes[node].inputs)
    }

    fn is(activation: Activation) -> Operation {
        Operation::Net(Op::Activation(activation))
    }

    #[test]
    fn activations_written_as_arithmetic() {
        let mut graph = graph();
        let sigmoid = graph.activation(Activation::Sigmoid, 0);
        let silu = graph.product(0, sigmoid).unwrap();
        assert_eq!(last(&graph, silu), (&is(Activation::Silu), &[0][..]));
        let shifted = graph.affine(0, Affine::uniform(2, 1.0, 3.0));
        let clipped = graph.activation(Activation::RELU6, shifted);
        let gate = graph.affine(clipped, Affine::uniform(2, 1.0 / 6.0, 0.0));
        assert_eq!(last(&graph, gate), (&is(Activation::HARD_SIGMOID), &[0][..]));
        let swish = graph.product(gate, 0).unwrap();
        assert_eq!(last(&graph, swish), (&is(Activation::HardSwish), &[0][..]));
        // Divided after the product.
        let product = graph.product(0, clipped).unwrap();
        let swish = graph.affine(product, Affine::uniform(2, 1.0 / 6.0, 0.0));
        assert_eq!(last(&graph, swish), (&is(Activation::HardSwish), &[0][..]));
        // After a sum with numbers of each channel, as linear layers end.
        let biased = graph.affine(0, Affine { scale: vec![1.0; 2], shift: vec![1.0, 2.0] });
        for halved_first in [true, false] {
            let scaled = graph.affine(biased, Affine::uniform(2, FRAC_1_SQRT_2, 0.0));
            let erf = graph.part(Part::Erf, scaled);
            let one_more = graph.affine(erf, Affine::uniform(2, 1.0, 1.0));
            let x = if halved_first { graph.affine(biased, Affine::uniform(2, 0.5, 0.0)) } else { biased };
            let mut gelu = graph.product(x, one_more).unwrap();
            if !halved_first {
                gelu = graph.affine(gelu, Affine::uniform(2, 0.5, 0.0));
            }
            assert_eq!(last(&graph, gelu), (&is(Activation::Gelu), &[biased][..]));
        }
    }

    #[test]
    fn a_layer_norm_written_as_arithmetic() {
        let mut graph = graph();
        let mean = graph.part(Part::ChannelMean, 0);
        let centred = graph.centred(0, mean).unwrap();
        let squared = graph.product(centred, centred).unwrap();
        let variance = graph.part(Part::ChannelMean, squared);
        let more = graph.affine(variance, Affine::uniform(1, 1.0, 1e-6));
        let deviation = graph.part(Part::SquareRoot, more);
        let norm = graph.layer_norm(centred, deviation).unwrap();
        assert_eq!(last(&graph, norm), (&Operation::Net(Op::LayerNorm2d(LayerNorm2d { eps: 1e-6 })), &[0][..]));
        assert_eq!(graph.centred(norm, mean), None);
    }
}
