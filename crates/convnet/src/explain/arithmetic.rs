//! How one number of a layer comes about: the numbers that it reads, the weights beside them, and what becomes of them.
//!
//! Every operation is computed again in double precision from what its layer has read, so that the result can be held against
//! what the engine has computed. Values are those of inference: norms take their running statistics, dropout does nothing.

use convnet_kernels::reference::activation;

use super::Explainer;
use super::field::{Field, receptive_field};
use crate::exec;
use crate::geometry::{Window, adaptive_span};
use crate::net::{Net, Node, NodeId};
use crate::ops::{Activation, BatchNorm2d, Conv2d, Linear, LocalResponseNorm, Op, Shape};
use crate::{Error, Result, StateDict};

/// Numbers of a vector, or channels of one pixel, that stand together.
const TOGETHER: usize = 16;

/// How one number of a layer comes about.
#[derive(Clone, Debug, PartialEq)]
pub struct Arithmetic {
    /// The layer.
    pub layer: String,
    /// Its operation.
    pub op: &'static str,
    /// Channel, row and column; the feature alone where the layer gives a vector.
    pub unit: Vec<usize>,
    /// The number as the engine has computed it.
    pub value: f32,
    /// The pixels of the picture that it can depend on.
    pub field: Field,
    /// What is computed, in the letters of the groups (`x`, `w`) and of the constants' names.
    pub formula: &'static str,
    /// The layers that are read.
    pub inputs: Vec<String>,
    /// The numbers that are read, in parts that belong together.
    pub groups: Vec<Group>,
    /// Further numbers of the formula.
    pub constants: Vec<(&'static str, f64)>,
    /// What the formula comes to, in double precision.
    pub result: f64,
}

/// Numbers that a unit reads from one place: a window of a channel, or some features.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Where they are: "channel 3 of relu1".
    pub title: String,
    /// Rows of the window.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// The numbers, row by row; none where the window lies on padding.
    pub values: Vec<Option<f32>>,
    /// The weights that they are multiplied by.
    pub weights: Option<Vec<f32>>,
    /// Their part in the result: the sum of their products with the weights, or what else the formula makes of them.
    pub result: f64,
}

/// What a layer reads from another.
struct Read<'a> {
    name: &'a str,
    shape: Shape,
    values: &'a [f32],
}

/// A unit of a node, and what it reads.
struct Unit<'a> {
    node: &'a Node,
    reads: Vec<Read<'a>>,
    weights: &'a StateDict,
    /// Channel or feature, row and column.
    at: [usize; 3],
}

/// The part of [`Arithmetic`] that depends on the operation.
struct Found {
    formula: &'static str,
    groups: Vec<Group>,
    constants: Vec<(&'static str, f64)>,
    result: f64,
}

impl Explainer {
    /// How one number of a layer comes about for a picture: of a channel's row and column (the middle where they are left out), or
    /// of a feature of a vector.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a layer that there is not, [`Error::Setting`] for a unit that it does not have, [`Error::Length`] for a
    /// picture of another size.
    pub fn arithmetic(
        &mut self,
        image: &[f32],
        layer: &str,
        channel: usize,
        place: Option<[usize; 2]>,
    ) -> Result<Arithmetic> {
        let node = exec::find_layer(self.description.net(), layer)?;
        let net = self.description.net().clone();
        let at = checked(&net, node, channel, place)?;
        let names: Vec<String> =
            net.node(node).inputs.iter().chain([&node]).map(|&id| net.node(id).name.clone()).collect();
        let [_, height, width] = self.description.input();
        let normalization = self.description.normalization().clone();
        let session = self.tapped(image, &names)?;
        let values = names.iter().map(|name| Ok(session.feature(name)?.1.to_vec())).collect::<Result<Vec<_>>>()?;
        let (own, inputs) = values.split_last().expect("the layer is one of them");
        let reads = net.node(node).inputs.iter().zip(inputs).map(|(&id, values)| {
            let input = net.node(id);
            Read { name: &input.name, shape: input.shape, values }
        });
        let unit = Unit { node: net.node(node), reads: reads.collect(), weights: &self.weights, at };
        let value = own[index(unit.node.shape, at)];
        let Found { formula, groups, constants, result } = match unit.node.op {
            Op::Input(_) => of_pixel(value, normalization.mean[at[0]], normalization.std[at[0]]),
            _ => unit.found(&net)?,
        };
        let (shown, field) = match unit.node.shape {
            Shape::Map(_) => (at.to_vec(), receptive_field(&net, node, [at[1], at[2]])?),
            Shape::Vector(_) => (vec![at[0]], Field { rows: 0..height, columns: 0..width }),
        };
        let inputs = unit.reads.iter().map(|read| read.name.to_owned()).collect();
        let (layer, op) = (unit.node.name.clone(), unit.node.op.name());
        Ok(Arithmetic { layer, op, unit: shown, value, field, formula, inputs, groups, constants, result })
    }
}

/// Channel, row and column of a unit that the node has.
fn checked(net: &Net, node: NodeId, channel: usize, place: Option<[usize; 2]>) -> Result<[usize; 3]> {
    let shape = net.node(node).shape;
    if channel >= shape.channels() {
        return Err(Error::setting("channel", format!("below {}", shape.channels()), channel));
    }
    match (shape, place) {
        (Shape::Vector(_), _) => Ok([channel, 0, 0]),
        (Shape::Map([_, height, width]), None) => Ok([channel, height / 2, width / 2]),
        (Shape::Map([_, height, width]), Some([row, column])) if row < height && column < width => {
            Ok([channel, row, column])
        }
        (Shape::Map([_, height, width]), Some([row, column])) => {
            let expected = format!("a row below {height} and a column below {width}");
            Err(Error::setting("unit", expected, format!("{row},{column}")))
        }
    }
}

/// Where a unit's number lies.
fn index(shape: Shape, [channel, row, column]: [usize; 3]) -> usize {
    match shape {
        Shape::Map([_, height, width]) => (channel * height + row) * width + column,
        Shape::Vector(_) => channel,
    }
}

fn of_pixel(value: f32, mean: f32, std: f32) -> Found {
    let [mean, std] = [mean, std].map(f64::from);
    let pixel = (f64::from(value) * std + mean) * 255.0;
    Found {
        formula: "(pixel / 255 − mean) / standard deviation",
        groups: Vec::new(),
        constants: vec![("pixel", pixel), ("mean", mean), ("standard deviation", std)],
        result: (pixel / 255.0 - mean) / std,
    }
}

impl Read<'_> {
    fn at(&self, place: [usize; 3]) -> f32 {
        self.values[index(self.shape, place)]
    }

    fn size(&self) -> [usize; 2] {
        match self.shape {
            Shape::Map([_, height, width]) => [height, width],
            Shape::Vector(_) => [1; 2],
        }
    }

    /// A number alone.
    fn single(&self, place: [usize; 3]) -> Group {
        let value = self.at(place);
        let title = match self.shape {
            Shape::Map(_) => format!("channel {} of {}", place[0], self.name),
            Shape::Vector(_) => format!("feature {} of {}", place[0], self.name),
        };
        Group { title, rows: 1, columns: 1, values: vec![Some(value)], weights: None, result: value.into() }
    }

    /// The numbers of a channel under a placement of a window.
    fn window(&self, window: &Window, channel: usize, [row, column]: [usize; 2]) -> Group {
        let [rows, columns] = window.kernel;
        let value = |tap: usize| {
            let y = window.pixel(0, row, tap / columns, self.size())?;
            Some(self.at([channel, y, window.pixel(1, column, tap % columns, self.size())?]))
        };
        let values = (0..rows * columns).map(value).collect();
        let title = format!("channel {channel} of {}", self.name);
        Group { title, rows, columns, values, weights: None, result: 0.0 }
    }

    /// The channels of a pixel, or the features of a vector, some at a time, each with its weight.
    fn parts(&self, [row, column]: [usize; 2], weight: impl Fn(usize) -> Option<f32>) -> Vec<Group> {
        let count = self.shape.channels();
        let what = match self.shape {
            Shape::Map(_) => "channels",
            Shape::Vector(_) => "features",
        };
        let part = |first: usize| {
            let last = (first + TOGETHER).min(count);
            let values = (first..last).map(|channel| Some(self.at([channel, row, column]))).collect();
            let title = format!("{what} {first} to {} of {}", last - 1, self.name);
            let weights = (first..last).map(&weight).collect();
            Group { title, rows: 1, columns: last - first, values, weights, result: 0.0 }.summed()
        };
        (0..count).step_by(TOGETHER).map(part).collect()
    }
}

impl Group {
    /// The numbers that are there, with their weights, or 1.
    fn pairs(&self) -> impl Iterator<Item = (f64, f64)> {
        let weight = |index: usize| self.weights.as_ref().map_or(1.0, |weights| f64::from(weights[index]));
        self.values.iter().enumerate().filter_map(move |(i, value)| Some((f64::from((*value)?), weight(i))))
    }

    /// The same group with the sum of the products as its result.
    fn summed(self) -> Group {
        Group { result: self.pairs().map(|(value, weight)| value * weight).sum(), ..self }
    }

    fn largest(self) -> Group {
        Group { result: self.pairs().map(|(value, _)| value).fold(f64::NEG_INFINITY, f64::max), ..self }
    }
}

fn sum(groups: &[Group]) -> f64 {
    groups.iter().map(|group| group.result).sum()
}

impl Unit<'_> {
    fn found(&self, net: &Net) -> Result<Found> {
        let [channel, row, column] = self.at;
        let copied = |group: Group| {
            let result = group.result;
            Found { formula: "x", groups: vec![group], constants: Vec::new(), result }
        };
        let first = || &self.reads[0];
        Ok(match &self.node.op {
            Op::Input(_) => copied(first().single(self.at)),
            Op::Conv2d(op) => self.conv(op)?,
            Op::Linear(op) => self.linear(op, net)?,
            Op::BatchNorm2d(op) => self.batch_norm(op)?,
            Op::LayerNorm2d(op) => self.layer_norm(op.eps)?,
            Op::LocalResponseNorm(op) => self.local_response_norm(op),
            Op::Activation(op) => {
                let group = first().single(self.at);
                let result = activation::value(*op, group.result);
                Found { formula: formula(*op), constants: settings(*op), groups: vec![group], result }
            }
            Op::Softmax => self.softmax(),
            Op::LayerScale(_) => {
                let group =
                    Group { weights: Some(vec![self.weight("layer_scale", channel)?]), ..first().single(self.at) };
                let groups = vec![group.summed()];
                Found { formula: "x · w", result: sum(&groups), groups, constants: Vec::new() }
            }
            Op::MaxPool2d(op) => {
                let group = first().window(&op.window, channel, [row, column]).largest();
                Found { formula: "max x", result: group.result, groups: vec![group], constants: Vec::new() }
            }
            Op::AvgPool2d(op) => {
                let group = first().window(&op.window, channel, [row, column]).summed();
                let counted = match op.count_include_pad {
                    true => self.padded_area(&op.window),
                    false => group.pairs().count(),
                };
                mean(group, counted)
            }
            Op::AdaptiveAvgPool2d(op) => self.adaptive_mean(op.output),
            Op::Add => {
                let groups: Vec<Group> = self.reads.iter().map(|read| read.single(self.at)).collect();
                Found { formula: "Σ x", result: sum(&groups), groups, constants: Vec::new() }
            }
            Op::Mul => {
                let groups = vec![first().single(self.at), self.reads[1].single([channel, 0, 0])];
                let result = groups[0].result * groups[1].result;
                Found { formula: "x · factor of the channel", groups, constants: Vec::new(), result }
            }
            Op::Concat => copied(self.part()),
            Op::PadChannels(op) => match channel.checked_sub(op.before).filter(|&c| c < first().shape.channels()) {
                Some(source) => copied(first().single([source, row, column])),
                None => Found { formula: "0", groups: Vec::new(), constants: Vec::new(), result: 0.0 },
            },
            Op::Slice(op) => copied(first().single([channel + op.start, row, column])),
            Op::ChannelShuffle(op) => {
                let within = first().shape.channels() / op.groups;
                copied(first().single([channel % op.groups * within + channel / op.groups, row, column]))
            }
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => copied(first().single(self.at)),
            Op::Flatten => copied(first().single(unflattened(first().shape, channel))),
        })
    }

    /// A number of a parameter or a buffer.
    fn weight(&self, parameter: &str, index: usize) -> Result<f32> {
        Ok(self.tensor(parameter)?[index])
    }

    fn tensor(&self, parameter: &str) -> Result<&[f32]> {
        let name = format!("{}.{parameter}", self.node.name);
        self.weights.get(&name).map(|tensor| tensor.data()).ok_or_else(|| Error::missing_parameter(name))
    }

    fn bias(&self, has: bool) -> Result<Vec<(&'static str, f64)>> {
        Ok(if has { vec![("bias", self.weight("bias", self.at[0])?.into())] } else { Vec::new() })
    }

    fn weighted(&self, groups: Vec<Group>, has_bias: bool) -> Result<Found> {
        let constants = self.bias(has_bias)?;
        let result = sum(&groups) + constants.iter().map(|(_, bias)| bias).sum::<f64>();
        let formula = if has_bias { "Σ x · w + bias" } else { "Σ x · w" };
        Ok(Found { formula, groups, constants, result })
    }

    fn conv(&self, op: &Conv2d) -> Result<Found> {
        let ([filter, row, column], read, weights) = (self.at, &self.reads[0], self.tensor("weight")?);
        let within = read.shape.channels() / op.groups;
        let (first, area) =
            (filter / (op.out_channels / op.groups) * within, op.window.kernel.iter().product::<usize>());
        let group = |channel: usize| {
            let kernel = weights[(filter * within + channel) * area..][..area].to_vec();
            Group { weights: Some(kernel), ..read.window(&op.window, first + channel, [row, column]) }.summed()
        };
        self.weighted((0..within).map(group).collect(), op.bias)
    }

    fn linear(&self, op: &Linear, net: &Net) -> Result<Found> {
        let ([output, row, column], read, weights) = (self.at, &self.reads[0], self.tensor("weight")?);
        let features = weights.len() / op.out_features;
        let weights = &weights[output * features..][..features];
        // A vector that was maps is shown as maps.
        let flattened = net.node(self.node.inputs[0]);
        let maps = match (&flattened.op, op.per_pixel) {
            (Op::Flatten, false) => Some(net.node(flattened.inputs[0])),
            _ => None,
        };
        let groups = match maps.map(|maps| (maps, maps.shape)) {
            Some((maps, Shape::Map([channels, height, width]))) if height * width > 1 => {
                let area = height * width;
                let group = |channel: usize| {
                    let values = read.values[channel * area..][..area].iter().copied().map(Some).collect();
                    let weights = Some(weights[channel * area..][..area].to_vec());
                    let title = format!("channel {channel} of {}", maps.name);
                    Group { title, rows: height, columns: width, values, weights, result: 0.0 }.summed()
                };
                (0..channels).map(group).collect()
            }
            _ => read.parts([row, column], |feature| Some(weights[feature])),
        };
        self.weighted(groups, op.bias)
    }

    fn batch_norm(&self, op: &BatchNorm2d) -> Result<Found> {
        let group = self.reads[0].single(self.at);
        let of = |name: &str| Ok::<f64, Error>(self.weight(name, self.at[0])?.into());
        let (mean, variance, eps) = (of("running_mean")?, of("running_var")?, f64::from(op.eps));
        let (weight, bias) = (of("weight")?, of("bias")?);
        Ok(Found {
            formula: "(x − mean) / √(variance + eps) · weight + bias",
            result: (group.result - mean) / (variance + eps).sqrt() * weight + bias,
            groups: vec![group],
            constants: vec![("mean", mean), ("variance", variance), ("eps", eps), ("weight", weight), ("bias", bias)],
        })
    }

    fn layer_norm(&self, eps: f32) -> Result<Found> {
        let [channel, row, column] = self.at;
        let (groups, eps) = (self.reads[0].parts([row, column], |_| None), f64::from(eps));
        let numbers: Vec<f64> = groups.iter().flat_map(Group::pairs).map(|(value, _)| value).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
        let (weight, bias) = (f64::from(self.weight("weight", channel)?), f64::from(self.weight("bias", channel)?));
        let x = numbers[channel];
        Ok(Found {
            formula: "(x − mean) / √(variance + eps) · weight + bias, over the channels of the pixel",
            result: (x - mean) / (variance + eps).sqrt() * weight + bias,
            groups,
            constants: vec![
                ("x", x),
                ("mean", mean),
                ("variance", variance),
                ("eps", eps),
                ("weight", weight),
                ("bias", bias),
            ],
        })
    }

    fn local_response_norm(&self, op: &LocalResponseNorm) -> Found {
        let ([channel, row, column], read) = (self.at, &self.reads[0]);
        let first = channel.saturating_sub(op.size / 2);
        let last = (channel + (op.size - 1) / 2).min(read.shape.channels() - 1);
        let values: Vec<Option<f32>> = (first..=last).map(|c| Some(read.at([c, row, column]))).collect();
        let squares = values.iter().flatten().map(|&x| f64::from(x).powi(2)).sum();
        let title = format!("channels {first} to {last} of {}", read.name);
        let group = Group { title, rows: 1, columns: values.len(), values, weights: None, result: squares };
        let [k, alpha, beta] = [op.k, op.alpha, op.beta].map(f64::from);
        let (x, size) = (f64::from(read.at(self.at)), op.size as f64);
        Found {
            formula: "x / (k + alpha / size · Σ x²)^beta, over neighbouring channels",
            result: x / (k + alpha / size * squares).powf(beta),
            groups: vec![group],
            constants: vec![("x", x), ("k", k), ("alpha", alpha), ("beta", beta), ("size", size)],
        }
    }

    fn softmax(&self) -> Found {
        let [channel, row, column] = self.at;
        let groups = self.reads[0].parts([row, column], |_| None);
        let numbers: Vec<f64> = groups.iter().flat_map(Group::pairs).map(|(value, _)| value).collect();
        let largest = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = numbers.iter().map(|x| (x - largest).exp()).sum();
        let x = numbers[channel];
        Found {
            formula: "e^(x − max) / Σ e^(x − max)",
            result: (x - largest).exp() / total,
            groups,
            constants: vec![("x", x), ("max", largest), ("Σ e^(x − max)", total)],
        }
    }

    fn adaptive_mean(&self, output: [usize; 2]) -> Found {
        let ([channel, row, column], read) = (self.at, &self.reads[0]);
        let [height, width] = read.size();
        let (rows, columns) = (adaptive_span(row, height, output[0]), adaptive_span(column, width, output[1]));
        let places = rows.clone().flat_map(|y| columns.clone().map(move |x| [channel, y, x]));
        let values = places.map(|place| Some(read.at(place))).collect();
        let (title, [rows, columns]) = (format!("channel {channel} of {}", read.name), [rows.len(), columns.len()]);
        let group = Group { title, rows, columns, values, weights: None, result: 0.0 }.summed();
        mean(group, rows * columns)
    }

    /// Places of a window, less those beyond the padding that a rounded-up output reaches.
    fn padded_area(&self, window: &Window) -> usize {
        let size = self.reads[0].size();
        let (begin, end) = window.pads(size);
        let along = |axis: usize| {
            let first = self.at[axis + 1] * window.stride[axis];
            (first + window.kernel[axis]).min(begin[axis] + size[axis] + end[axis]) - first
        };
        along(0) * along(1)
    }

    /// The number of a concatenation's input that it is.
    fn part(&self) -> Group {
        let [mut channel, row, column] = self.at;
        for read in &self.reads {
            match channel.checked_sub(read.shape.channels()) {
                None => return read.single([channel, row, column]),
                Some(rest) => channel = rest,
            }
        }
        unreachable!("the inputs have all channels of the output")
    }
}

/// Channel, row and column of a vector's feature in the maps that it was flattened from.
fn unflattened(shape: Shape, feature: usize) -> [usize; 3] {
    match shape {
        Shape::Map([_, height, width]) => [feature / (height * width), feature / width % height, feature % width],
        Shape::Vector(_) => [feature, 0, 0],
    }
}

fn mean(group: Group, counted: usize) -> Found {
    let counted = counted as f64;
    Found {
        formula: "Σ x / count",
        result: group.result / counted,
        groups: vec![group],
        constants: vec![("count", counted)],
    }
}

fn formula(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "x",
        Activation::Relu => "max(0, x)",
        Activation::Clip { .. } => "min(max(x, low), high)",
        Activation::LeakyRelu { .. } => "x if x > 0, else slope · x",
        Activation::Sigmoid => "1 / (1 + e^−x)",
        Activation::HardSigmoid { .. } => "min(max(slope · x + offset, 0), 1)",
        Activation::Tanh => "tanh x",
        Activation::Silu => "x / (1 + e^−x)",
        Activation::HardSwish => "x · min(max(x + 3, 0), 6) / 6",
        Activation::Gelu => "x / 2 · (1 + erf(x / √2))",
        Activation::Softsign => "x / (1 + |x|)",
    }
}

fn settings(activation: Activation) -> Vec<(&'static str, f64)> {
    match activation {
        Activation::Clip { low, high } => vec![("low", low.into()), ("high", high.into())],
        Activation::LeakyRelu { slope } => vec![("slope", slope.into())],
        Activation::HardSigmoid { slope, offset } => vec![("slope", slope.into()), ("offset", offset.into())],
        Activation::Identity | Activation::Relu | Activation::Sigmoid | Activation::Tanh => Vec::new(),
        Activation::Silu | Activation::HardSwish | Activation::Gelu | Activation::Softsign => Vec::new(),
    }
}
