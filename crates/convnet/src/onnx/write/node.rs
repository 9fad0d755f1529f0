//! What each operation of a net is in ONNX.

use std::borrow::Cow;

use super::super::proto::{Attribute, Node, Tensor as Initializer};
use crate::Tensor;
use crate::data::Normalization;
use crate::geometry::Window;
use crate::net::Net;
use crate::net::rewrite::Parameters;
use crate::ops::{Activation, AdaptiveAvgPool2d, AvgPool2d, Conv2d, LocalResponseNorm, Op, Shape};

/// ONNX's numbers of the kinds of attributes.
const FLOAT: i32 = 1;
const INT: i32 = 2;
const TENSOR: i32 = 4;
const INTS: i32 = 7;
/// Its numbers of `f32` and `i64`.
const FLOATS_OF_32: i32 = 1;
const INTS_OF_64: i32 = 7;

/// Nodes and tensors as they are written.
pub(super) struct Writer<'n> {
    net: &'n Net,
    weights: &'n Parameters<'n>,
    /// Whether weights are stored in 16 bits, and widened by a node.
    half: bool,
    pub(super) nodes: Vec<Node>,
    pub(super) tensors: super::Named<'n>,
    /// The name of the value of each node of the net.
    values: Vec<String>,
}

/// What a node reads, and its shapes.
struct Reads<'a> {
    name: &'a str,
    inputs: &'a [String],
    shapes: &'a [Shape],
}

impl Reads<'_> {
    /// Height and width of the first input, 1 where it is a vector.
    fn pixels(&self) -> [usize; 2] {
        match self.shapes[0] {
            Shape::Map([_, height, width]) => [height, width],
            Shape::Vector(_) => [1, 1],
        }
    }

    fn is_map(&self) -> bool {
        matches!(self.shapes[0], Shape::Map(_))
    }

    fn channels(&self) -> usize {
        self.shapes[0].channels()
    }
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: name.into(), i, kind: INT, ..Attribute::default() }
}

fn ints<'a>(name: &str, ints: impl IntoIterator<Item = &'a usize>) -> Attribute {
    let ints = ints.into_iter().map(|&int| int as i64).collect();
    Attribute { name: name.into(), ints, kind: INTS, ..Attribute::default() }
}

fn float(name: &str, f: f32) -> Attribute {
    Attribute { name: name.into(), f, kind: FLOAT, ..Attribute::default() }
}

/// Kernel, strides, padding and dilation over maps of that height and width.
fn window(window: &Window, input: [usize; 2]) -> Vec<Attribute> {
    let (begin, end) = window.pads(input);
    let mut attributes = vec![
        ints("kernel_shape", &window.kernel),
        ints("strides", &window.stride),
        ints("pads", begin.iter().chain(&end)),
    ];
    attributes.extend((window.dilation != [1, 1]).then(|| ints("dilations", &window.dilation)));
    attributes.extend(window.ceil_mode.then(|| int("ceil_mode", 1)));
    attributes
}

impl<'n> Writer<'n> {
    pub(super) fn new(net: &'n Net, weights: &'n Parameters<'n>, half: bool) -> Writer<'n> {
        Writer { net, weights, half, nodes: Vec::new(), tensors: Vec::new(), values: vec![super::INPUT.into()] }
    }

    /// Makes the input bytes of rows, columns and channels, and gives the net what it takes.
    pub(super) fn normalize(&mut self, normalization: &Normalization) {
        let Normalization { mean, std } = normalization;
        let scale: Vec<f32> = std.iter().map(|std| 1.0 / (255.0 * std)).collect();
        let shift: Vec<f32> = mean.iter().zip(std).map(|(mean, std)| -mean / std).collect();
        let name = |what: &str| format!("{}/{what}", super::INPUT);
        let floats = self.push("Cast", &[super::INPUT], &name("float"), vec![int("to", i64::from(FLOATS_OF_32))]);
        let maps = self.push("Transpose", &[&floats], &name("maps"), vec![ints("perm", &[0, 3, 1, 2])]);
        let [scale, shift] =
            [("scale", scale), ("shift", shift)].map(|(what, numbers)| self.for_channels(name(what), &numbers));
        let scaled = self.push("Mul", &[&maps, &scale], &name("scaled"), Vec::new());
        self.values[0] = self.push("Add", &[&scaled, &shift], &name("normalized"), Vec::new());
    }

    /// A constant number for each channel of maps.
    fn for_channels(&mut self, name: String, numbers: &[f32]) -> String {
        let raw: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let (dims, raw_data) = (vec![numbers.len() as i64, 1, 1], Some(raw.into()));
        self.constant(name, Initializer { dims, data_type: FLOATS_OF_32, raw_data, ..Initializer::default() })
    }

    /// Writes a node of the net after those that it reads.
    ///
    /// # Errors
    /// What ONNX cannot say.
    pub(super) fn node(&mut self, index: usize) -> Result<(), String> {
        let node = &self.net.nodes()[index];
        let inputs: Vec<String> = node.inputs.iter().map(|input| self.values[input.index()].clone()).collect();
        let shapes = self.net.input_shapes(crate::net::NodeId(index));
        let reads = Reads { name: &node.name, inputs: &inputs, shapes: &shapes };
        let value = self.operation(&node.op, &reads)?;
        self.values.push(value);
        Ok(())
    }

    /// Gives the last value its name as an output.
    pub(super) fn finish(&mut self, softmax: bool, output: &str) {
        let last = self.values.last().cloned().unwrap_or_default();
        match softmax {
            true => self.push("Softmax", &[&last], output, vec![int("axis", 1)]),
            false => self.push("Identity", &[&last], output, Vec::new()),
        };
    }

    fn push(&mut self, operator: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> String {
        self.nodes.push(Node {
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec![output.into()],
            name: output.into(),
            op_type: operator.into(),
            attribute,
            ..Node::default()
        });
        output.into()
    }

    /// A parameter of a node, under its own name.
    fn parameter(&mut self, node: &str, parameter: &str) -> Option<String> {
        let name = format!("{node}.{parameter}");
        let tensor = self.weights.get(&name)?;
        Some(self.tensor(name, Cow::Borrowed(tensor)))
    }

    fn tensor(&mut self, name: String, tensor: Cow<'n, Tensor>) -> String {
        self.tensors.push((name.clone(), tensor));
        match self.half {
            true => self.push("Cast", &[&name], &format!("{name}/float"), vec![int("to", i64::from(FLOATS_OF_32))]),
            false => name,
        }
    }

    /// A constant number, which keeps its 32 bits.
    fn number(&mut self, name: String, number: f32) -> String {
        let raw_data = Some(number.to_le_bytes().to_vec().into());
        self.constant(name, Initializer { data_type: FLOATS_OF_32, raw_data, ..Initializer::default() })
    }

    /// Constant integers.
    fn integers(&mut self, name: String, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        let tensor = Initializer { dims, data_type: INTS_OF_64, raw_data: Some(raw.into()), ..Initializer::default() };
        self.constant(name, tensor)
    }

    fn constant(&mut self, name: String, tensor: Initializer) -> String {
        let value = Attribute { name: "value".into(), t: Some(tensor), kind: TENSOR, ..Attribute::default() };
        self.push("Constant", &[], &name, vec![value])
    }

    fn operation(&mut self, op: &Op, reads: &Reads<'_>) -> Result<String, String> {
        let (name, x) = (reads.name, &reads.inputs[0][..]);
        let all: Vec<&str> = reads.inputs.iter().map(String::as_str).collect();
        Ok(match op {
            Op::Input(_) => return Err("expected one input".into()),
            Op::Conv2d(conv) => self.convolution(conv, reads),
            Op::Linear(linear) if linear.per_pixel => self.linear_of_pixels(reads),
            Op::Linear(_) => {
                let weights = self.parameters(reads, &["weight", "bias"]);
                self.push("Gemm", &with(x, &weights), name, vec![int("transB", 1)])
            }
            Op::BatchNorm2d(norm) => {
                let weights = self.parameters(reads, &["weight", "bias", "running_mean", "running_var"]);
                let settings = vec![float("epsilon", norm.eps), float("momentum", 1.0 - norm.momentum)];
                self.push("BatchNormalization", &with(x, &weights), name, settings)
            }
            Op::LayerNorm2d(norm) => self.layer_norm(norm.eps, reads),
            Op::LocalResponseNorm(norm) => return self.local_response_norm(norm, reads),
            Op::Activation(activation) => self.activation(*activation, reads),
            Op::Softmax => self.push("Softmax", &[x], name, vec![int("axis", 1)]),
            Op::LayerScale(_) => {
                let weights = self.parameters(reads, &["layer_scale"]);
                self.push("Mul", &with(x, &weights), name, Vec::new())
            }
            Op::MaxPool2d(pool) => self.push("MaxPool", &[x], name, window(&pool.window, reads.pixels())),
            Op::AvgPool2d(pool) => self.average(pool, reads),
            Op::AdaptiveAvgPool2d(pool) => return self.adaptive_average(pool, reads),
            Op::Add if all.len() == 2 => self.push("Add", &all, name, Vec::new()),
            Op::Add => self.push("Sum", &all, name, Vec::new()),
            Op::Mul => self.push("Mul", &all, name, Vec::new()),
            Op::Concat => self.push("Concat", &all, name, vec![int("axis", 1)]),
            Op::PadChannels(pad) => {
                let pads = [0, pad.before as i64, 0, 0, 0, pad.after as i64, 0, 0];
                let pads = self.integers(format!("{name}/pads"), &pads);
                self.push("Pad", &[x, &pads], name, Vec::new())
            }
            Op::Slice(slice) => {
                let bounds = [("starts", slice.start), ("ends", slice.end), ("axes", 1)];
                let bounds = bounds.map(|(what, value)| self.integers(format!("{name}/{what}"), &[value as i64]));
                self.push("Slice", &with(x, &bounds), name, Vec::new())
            }
            Op::ChannelShuffle(shuffle) => self.channel_shuffle(shuffle.groups, reads),
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => x.to_owned(),
            Op::Flatten if reads.is_map() => self.push("Flatten", &[x], name, vec![int("axis", 1)]),
            Op::Flatten => x.to_owned(),
        })
    }

    /// Those of a node's parameters that it has.
    fn parameters(&mut self, reads: &Reads<'_>, names: &[&str]) -> Vec<String> {
        names.iter().filter_map(|parameter| self.parameter(reads.name, parameter)).collect()
    }

    fn convolution(&mut self, conv: &Conv2d, reads: &Reads<'_>) -> String {
        let weights = self.parameters(reads, &["weight", "bias"]);
        let mut attributes = window(&conv.window, reads.pixels());
        attributes.extend((conv.groups > 1).then(|| int("group", conv.groups as i64)));
        self.push("Conv", &with(&reads.inputs[0], &weights), reads.name, attributes)
    }

    /// A 1×1 convolution, whose weight has two more axes.
    fn linear_of_pixels(&mut self, reads: &Reads<'_>) -> String {
        let name = format!("{}.weight", reads.name);
        let mut weights = Vec::new();
        if let Some(tensor) = self.weights.get(&name) {
            let shape = [tensor.shape(), &[1, 1]].concat();
            weights.push(self.tensor(name, Cow::Owned(Tensor::new(shape, tensor.data().to_vec()))));
        }
        weights.extend(self.parameter(reads.name, "bias"));
        self.push("Conv", &with(&reads.inputs[0], &weights), reads.name, vec![ints("kernel_shape", &[1, 1])])
    }

    /// Over the last axis, to which maps are turned and back.
    fn layer_norm(&mut self, eps: f32, reads: &Reads<'_>) -> String {
        let (name, x) = (reads.name, &reads.inputs[0]);
        let weights = self.parameters(reads, &["weight", "bias"]);
        let settings = vec![int("axis", -1), float("epsilon", eps)];
        if !reads.is_map() {
            return self.push("LayerNormalization", &with(x, &weights), name, settings);
        }
        let turned = self.push("Transpose", &[x], &format!("{name}/nhwc"), vec![ints("perm", &[0, 2, 3, 1])]);
        let norm = self.push("LayerNormalization", &with(&turned, &weights), &format!("{name}/norm"), settings);
        self.push("Transpose", &[&norm], name, vec![ints("perm", &[0, 3, 1, 2])])
    }

    /// ONNX has one more channel after the middle one where the size is even, and nets of ours one more before.
    fn local_response_norm(&mut self, norm: &LocalResponseNorm, reads: &Reads<'_>) -> Result<String, String> {
        if norm.size.is_multiple_of(2) {
            return Err(format!("expected an odd size, the same channels before and after in ONNX, got {}", norm.size));
        }
        let settings = vec![
            int("size", norm.size as i64),
            float("alpha", norm.alpha),
            float("beta", norm.beta),
            float("bias", norm.k),
        ];
        Ok(self.push("LRN", &[&reads.inputs[0]], reads.name, settings))
    }

    fn average(&mut self, pool: &AvgPool2d, reads: &Reads<'_>) -> String {
        let mut settings = window(&pool.window, reads.pixels());
        settings.extend(pool.count_include_pad.then(|| int("count_include_pad", 1)));
        self.push("AveragePool", &[&reads.inputs[0]], reads.name, settings)
    }

    /// A mean of everything, or of equal windows side by side.
    fn adaptive_average(&mut self, pool: &AdaptiveAvgPool2d, reads: &Reads<'_>) -> Result<String, String> {
        let (name, x, input, output) = (reads.name, &reads.inputs[0], reads.pixels(), pool.output);
        if output == [1, 1] {
            return Ok(self.push("GlobalAveragePool", &[x], name, Vec::new()));
        }
        if input == output {
            return Ok(x.clone());
        }
        if (0..2).any(|axis| !input[axis].is_multiple_of(output[axis])) {
            let [[h, w], [to_h, to_w]] = [input, output];
            return Err(format!(
                "expected an input that {to_h}x{to_w} divides, which ONNX has a pooling for, got {h}x{w}"
            ));
        }
        let kernel = [input[0] / output[0], input[1] / output[1]];
        let settings = vec![ints("kernel_shape", &kernel), ints("strides", &kernel)];
        Ok(self.push("AveragePool", &[x], name, settings))
    }

    fn channel_shuffle(&mut self, groups: usize, reads: &Reads<'_>) -> String {
        let (name, x) = (reads.name, &reads.inputs[0]);
        let ([height, width], channels) = (reads.pixels().map(|n| n as i64), reads.channels());
        let apart = [0, groups as i64, (channels / groups) as i64, height, width];
        let apart = self.integers(format!("{name}/groups"), &apart);
        let together = self.integers(format!("{name}/channels"), &[0, channels as i64, height, width]);
        let apart = self.push("Reshape", &[x, &apart], &format!("{name}/apart"), Vec::new());
        let turned = self.push("Transpose", &[&apart], &format!("{name}/turned"), vec![ints("perm", &[0, 2, 1, 3, 4])]);
        self.push("Reshape", &[&turned, &together], name, Vec::new())
    }

    fn activation(&mut self, activation: Activation, reads: &Reads<'_>) -> String {
        let (name, x) = (reads.name, &reads.inputs[0][..]);
        let mut one = |operator: &str, settings: Vec<Attribute>| self.push(operator, &[x], name, settings);
        match activation {
            Activation::Identity => x.to_owned(),
            Activation::Relu => one("Relu", Vec::new()),
            Activation::LeakyRelu { slope } => one("LeakyRelu", vec![float("alpha", slope)]),
            Activation::Sigmoid => one("Sigmoid", Vec::new()),
            Activation::HardSigmoid { slope, offset } => {
                one("HardSigmoid", vec![float("alpha", slope), float("beta", offset)])
            }
            Activation::Tanh => one("Tanh", Vec::new()),
            Activation::HardSwish => one("HardSwish", Vec::new()),
            Activation::Softsign => one("Softsign", Vec::new()),
            Activation::Clip { low, high } => {
                let bounds =
                    [("min", low), ("max", high)].map(|(what, value)| self.number(format!("{name}/{what}"), value));
                self.push("Clip", &with(x, &bounds), name, Vec::new())
            }
            Activation::Silu => {
                let gate = self.push("Sigmoid", &[x], &format!("{name}/gate"), Vec::new());
                self.push("Mul", &[x, &gate], name, Vec::new())
            }
            Activation::Gelu => self.gelu(reads),
        }
    }

    /// `x · (1 + erf(x / √2)) / 2`, for which opset 17 has no operator.
    fn gelu(&mut self, reads: &Reads<'_>) -> String {
        let (name, x) = (reads.name, &reads.inputs[0][..]);
        let numbers = [("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)];
        let [root, one, half] = numbers.map(|(what, value)| self.number(format!("{name}/{what}"), value));
        let scaled = self.push("Div", &[x, &root], &format!("{name}/scaled"), Vec::new());
        let erf = self.push("Erf", &[&scaled], &format!("{name}/erf"), Vec::new());
        let more = self.push("Add", &[&erf, &one], &format!("{name}/more"), Vec::new());
        let product = self.push("Mul", &[x, &more], &format!("{name}/product"), Vec::new());
        self.push("Mul", &[&product, &half], name, Vec::new())
    }
}

/// A value and the tensors that a node reads beside it.
fn with<'a>(x: &'a str, others: &'a [String]) -> Vec<&'a str> {
    [x].into_iter().chain(others.iter().map(String::as_str)).collect()
}
