//! What there is to know of a net without running it: shapes, parameters, multiply-adds, receptive fields and memory.
//!
//! A receptive field is followed through every window. An element of a flattened vector sees what its element of the
//! maps saw; a linear layer is a convolution whose kernel covers the whole maps. Where branches meet, the larger counts.
//! Fields may be larger than the picture, whose padding they then take in.

use serde::Serialize;

mod render;

use super::{Estimate, Net, Node, NodeId};
use crate::geometry::{ReceptiveField, Window};
use crate::ops::{Op, Role, Shape};

/// Bytes of one element of an activation.
const ELEMENT_BYTES: u64 = size_of::<f32>() as u64;

/// Sums over some of a net's layers; multiply-adds for one picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Trained elements: weights and biases.
    pub params: u64,
    /// Trained factors.
    pub weights: u64,
    /// Trained addends.
    pub biases: u64,
    /// Multiply-adds of convolutions and linear layers.
    pub macs: u64,
    /// Two for each multiply-add.
    pub flops: u64,
}

/// One layer of a [`Table`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerRow {
    /// Name of the node.
    pub name: String,
    /// PyTorch's name of the operation in lower case.
    pub op: &'static str,
    /// The operation's settings in short: [`Op::settings`].
    pub settings: String,
    /// Names of the nodes whose outputs it takes.
    pub inputs: Vec<String>,
    /// Axes of its first input, without the batch.
    pub input: Vec<usize>,
    /// Axes of its output, without the batch.
    pub output: Vec<usize>,
    /// Trained factors.
    pub weights: u64,
    /// Trained addends.
    pub biases: u64,
    /// Multiply-adds for one picture.
    pub macs: u64,
    /// Pixels of the net's input that one element sees, `[height, width]`.
    pub receptive_field: [usize; 2],
    /// Pixels of the net's input between two neighbouring elements, `[height, width]`.
    pub effective_stride: [usize; 2],
    /// Bytes of its output as `f32` for the whole batch.
    pub activation_bytes: u64,
}

/// A net's layers and their sums. `serde` writes it as the JSON of `convnet summary --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Name of the net.
    pub model: String,
    /// Axes of a picture, without the batch.
    pub input: Vec<usize>,
    /// Sums over all layers.
    #[serde(flatten)]
    pub total: Part,
    /// Sums over the layers up to the last feature maps.
    pub features: Part,
    /// Sums over the layers after the last feature maps: from the last flatten on.
    pub classifier: Part,
    /// Sums over the layers that only auxiliary outputs need, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<Part>,
    /// Pictures that the bytes are counted for.
    pub batch_size: u64,
    /// Bytes of the input and of all outputs together, which training keeps at most (fusion keeps less).
    pub training_activation_bytes: u64,
    /// Most bytes of activations that are needed at any one moment of inference, when each is freed after its last use.
    pub inference_activation_bytes: u64,
    /// The least time that a step takes on a machine, once it has been asked for: [`Net::estimate`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roofline: Option<Estimate>,
    /// One row for each node but the input, in running order.
    pub layers: Vec<LayerRow>,
}

impl Net {
    /// Describes every layer; bytes are for `batch_size` pictures. Sums that overflow stay at `u64::MAX`.
    ///
    /// ```
    /// use convnet::{columns::Style, net::Depth};
    /// let net = convnet::zoo::cnn(&convnet::zoo::Cnn::default()).unwrap();
    /// let table = net.table(1);
    /// assert_eq!(table.total.macs, 7_182_080);
    /// println!("{}", table.render(Style::Plain, &net.blocks(Depth::Auto)));
    /// ```
    pub fn table(&self, batch_size: u64) -> Table {
        let fields = receptive_fields(self);
        let row = |id: NodeId| layer_row(self, id, fields[id.0], batch_size);
        let layers: Vec<LayerRow> = (1..self.nodes().len()).map(|index| row(NodeId(index))).collect();
        let (needed, trained) = (self.needed(false), self.needed(true));
        let last_map = self.nodes().iter().rposition(|node| matches!(node.shape, Shape::Map(_))).unwrap_or(0);
        let part = |among: &dyn Fn(usize) -> bool| {
            Part::of(layers.iter().enumerate().filter(|(row, _)| among(row + 1)).map(|(_, row)| row))
        };
        let auxiliary = |node: usize| trained[node] && !needed[node];
        let kept: u64 = self.nodes().iter().map(picture_bytes).sum();
        Table {
            model: self.name().to_owned(),
            input: self.input_shape().dims(),
            total: part(&|_| true),
            features: part(&|node| !auxiliary(node) && node <= last_map),
            classifier: part(&|node| !auxiliary(node) && node > last_map),
            auxiliary: (!self.auxiliaries().is_empty()).then(|| part(&auxiliary)),
            batch_size,
            training_activation_bytes: kept.saturating_mul(batch_size),
            inference_activation_bytes: peak_bytes(self, &auxiliary).saturating_mul(batch_size),
            roofline: None,
            layers,
        }
    }
}

impl Part {
    fn of<'a>(layers: impl Iterator<Item = &'a LayerRow> + Clone) -> Part {
        let sum = |f: fn(&LayerRow) -> u64| layers.clone().map(f).fold(0, u64::saturating_add);
        let (weights, biases, macs) = (sum(|row| row.weights), sum(|row| row.biases), sum(|row| row.macs));
        Part { params: weights + biases, weights, biases, macs, flops: macs.saturating_mul(2) }
    }
}

fn layer_row(net: &Net, id: NodeId, field: ReceptiveField, batch_size: u64) -> LayerRow {
    let node = net.node(id);
    let inputs = net.input_shapes(id);
    let parameters = node.op.parameters(&inputs);
    let elements =
        |role: Role| parameters.iter().filter(|parameter| parameter.role == role).map(|p| p.elements() as u64).sum();
    LayerRow {
        name: node.name.clone(),
        op: node.op.name(),
        settings: node.op.settings(&inputs),
        inputs: node.inputs.iter().map(|&id| net.node(id).name.clone()).collect(),
        input: inputs.first().map(Shape::dims).unwrap_or_default(),
        output: node.shape.dims(),
        weights: elements(Role::Weight),
        biases: elements(Role::Bias),
        macs: node.op.macs(&inputs, node.shape),
        receptive_field: field.size,
        effective_stride: field.stride,
        activation_bytes: picture_bytes(node).saturating_mul(batch_size),
    }
}

/// What one element of each node sees.
fn receptive_fields(net: &Net) -> Vec<ReceptiveField> {
    // Beside the field, the height and width that a linear layer would cover: a vector keeps those of its maps.
    let mut seen: Vec<(ReceptiveField, [usize; 2])> = Vec::with_capacity(net.nodes().len());
    for node in net.nodes() {
        let start = (ReceptiveField::PIXEL, [1; 2]);
        let merged =
            node.inputs.iter().map(|id| seen[id.0]).reduce(|(field, extent), (other, _)| (field.merge(other), extent));
        let (field, extent) = merged.unwrap_or(start);
        let covering = Window { kernel: extent, ..Window::square(1) };
        let inputs: Vec<Shape> = node.inputs.iter().map(|&id| net.node(id).shape).collect();
        let through = match (node.op.window(&inputs), &node.op) {
            (Some(window), _) => field.through(&window),
            (None, Op::Linear(linear)) if !linear.per_pixel => field.through(&covering),
            (None, _) => field,
        };
        let extent = match (node.shape, &node.op) {
            (Shape::Map([_, h, w]), _) => [h, w],
            (Shape::Vector(_), Op::Linear(_)) => [1; 2],
            (Shape::Vector(_), _) => extent,
        };
        seen.push((through, extent));
    }
    seen.into_iter().map(|(field, _)| field).collect()
}

fn picture_bytes(node: &Node) -> u64 {
    node.shape.elements() as u64 * ELEMENT_BYTES
}

/// Most bytes alive at once for one picture, when each output is freed after its last reader has run; without the nodes
/// that only auxiliary outputs need.
fn peak_bytes(net: &Net, auxiliary: &dyn Fn(usize) -> bool) -> u64 {
    let runs: Vec<usize> = (0..net.nodes().len()).filter(|&index| !auxiliary(index)).collect();
    let mut last_reader: Vec<usize> = (0..net.nodes().len()).collect();
    for &index in &runs {
        net.nodes()[index].inputs.iter().for_each(|id| last_reader[id.0] = index);
    }
    let mut dying = vec![0; net.nodes().len()];
    for &index in &runs {
        dying[last_reader[index]] += picture_bytes(&net.nodes()[index]);
    }
    let (mut alive, mut peak) = (0, 0);
    for index in runs {
        alive += picture_bytes(&net.nodes()[index]);
        peak = peak.max(alive);
        alive -= dying[index];
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::rewrite::without_auxiliaries;
    use crate::ops::{Conv2d, Linear};
    use crate::zoo::{Cnn, ZooOptions, by_name, cnn};

    fn lecture_cnn(batch_size: u64) -> Table {
        cnn(&Cnn::default()).unwrap().table(batch_size)
    }

    #[test]
    fn lecture_l15_shapes() {
        let table = lecture_cnn(1);
        let output = |name: &str| table.layers.iter().find(|row| row.name == name).unwrap().output.clone();
        assert_eq!(output("pool1"), [32, 14, 14]);
        assert_eq!(output("pool2"), [64, 7, 7]);
        assert_eq!(output("flatten"), [3136]);
        assert_eq!(output("head"), [10]);
    }

    #[test]
    fn lecture_l8_weights_and_biases_apart() {
        let mut net = Net::new("l8", Shape::Map([128, 9, 9])).unwrap();
        net.then("conv", Op::Conv2d(Conv2d::new(64, Window::square(3)))).unwrap();
        let row = &net.table(1).layers[0];
        assert_eq!((row.weights, row.biases, row.macs), (73_728, 64, 73_728 * 49));
    }

    #[test]
    fn lecture_l11_two_3x3_see_what_one_5x5_sees() {
        let mut net = Net::new("l11", Shape::Map([128, 9, 9])).unwrap();
        let conv = |kernel| Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(128, Window::square(kernel)) });
        net.then("first", conv(3)).unwrap();
        net.then("second", conv(3)).unwrap();
        net.add("wide", conv(5), &[NodeId(0)]).unwrap();
        let table = net.table(1);
        assert_eq!(table.layers[0].weights + table.layers[1].weights, 294_912);
        assert_eq!(table.layers[2].weights, 409_600);
        assert_eq!(table.layers[1].receptive_field, table.layers[2].receptive_field);
    }

    #[test]
    fn sums_of_the_lectures_cnn() {
        let table = lecture_cnn(2);
        assert_eq!((table.total.params, table.total.macs), (3_363_786, 7_182_080));
        assert_eq!(table.total.params, table.features.params + table.classifier.params);
        assert_eq!(table.features.params, 288 + 32 + 64 + 18_432 + 64 + 128);
        assert_eq!(table.classifier.weights, 3136 * 1024 + 1024 * 128 + 128 * 10);
        // Batch 2: the largest neighbours are the 32x28x28 outputs of the first convolution and its batch norm.
        assert_eq!(table.inference_activation_bytes, 2 * 2 * 4 * 32 * 28 * 28);
        let outputs: u64 = table.layers.iter().map(|row| row.activation_bytes).sum();
        assert_eq!(table.training_activation_bytes, outputs + 2 * 4 * 28 * 28);
    }

    #[test]
    fn fields_of_the_lectures_cnn() {
        let table = lecture_cnn(1);
        let field = |name: &str| {
            let row = table.layers.iter().find(|row| row.name == name).unwrap();
            (row.receptive_field, row.effective_stride)
        };
        assert_eq!(field("conv1"), ([3; 2], [1; 2]));
        assert_eq!(field("pool1"), ([4; 2], [2; 2]));
        assert_eq!(field("conv2"), ([8; 2], [2; 2]));
        assert_eq!(field("flatten"), ([10; 2], [4; 2]));
        // All 7x7 elements: 10 + 6 · 4, more than the picture because of the padding.
        assert_eq!(field("linear1"), ([34; 2], [4; 2]));
        assert_eq!(field("head"), ([34; 2], [4; 2]));
    }

    #[test]
    fn memory_of_a_branch_waits_for_its_last_reader() {
        let mut net = Net::new("branch", Shape::Vector(100)).unwrap();
        net.then("a", Op::Linear(Linear::new(10))).unwrap();
        net.then("b", Op::Linear(Linear::new(20))).unwrap();
        let plain = net.table(1).inference_activation_bytes;
        net.add("c", Op::Linear(Linear::new(1)), &[NodeId(0)]).unwrap();
        assert_eq!(plain, 4 * 110);
        // While b runs, a is read and the input still waits for c.
        assert_eq!(net.table(1).inference_activation_bytes, 4 * 130);
        assert_eq!(net.table(u64::MAX).training_activation_bytes, u64::MAX);
    }

    #[test]
    fn lecture_l12_an_inception_branch_reduces_before_it_convolves() {
        let mut net = Net::new("l12", Shape::Map([128, 9, 9])).unwrap();
        let conv =
            |channels, kernel| Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(channels, Window::square(kernel)) });
        net.then("wide", conv(128, 3)).unwrap();
        net.add("reduce", conv(32, 1), &[NodeId(0)]).unwrap();
        net.then("narrow", conv(128, 3)).unwrap();
        let weights: Vec<u64> = net.table(1).layers.iter().map(|row| row.weights).collect();
        assert_eq!(weights, [147_456, 4_096, 36_864]);
        assert_eq!(weights[1] + weights[2], 40_960);
    }

    #[test]
    fn lecture_l12_googlenet_is_smaller_than_alexnet_and_alexnet_than_vgg() {
        let params = |name| by_name(name, &ZooOptions::default()).unwrap().table(1);
        let googlenet = params("googlenet");
        assert_eq!(googlenet.total.params, 13_004_888);
        let auxiliary = googlenet.auxiliary.unwrap();
        assert_eq!(googlenet.total.params - auxiliary.params, 6_624_904);
        let plain = without_auxiliaries(&by_name("googlenet", &ZooOptions::default()).unwrap()).unwrap().table(1);
        assert_eq!((plain.total.params, plain.auxiliary), (6_624_904, None));
        assert_eq!((plain.features, plain.classifier), (googlenet.features, googlenet.classifier));
        assert_eq!(plain.inference_activation_bytes, googlenet.inference_activation_bytes);
        assert!(plain.total.params < params("alexnet").total.params);
        assert!(params("alexnet").total.params < params("vgg16").total.params);
    }

    #[test]
    fn lecture_l5_features_and_classifier_apart() {
        // The fully connected part of AlexNet has nearly all weights, that of the later networks ever fewer.
        let share = |name| {
            let table = without_auxiliaries(&by_name(name, &ZooOptions::default()).unwrap()).unwrap().table(1);
            assert_eq!(table.features.params + table.classifier.params, table.total.params);
            (100.0 * table.classifier.params as f64 / table.total.params as f64).round()
        };
        assert_eq!(["alexnet", "vgg16", "googlenet", "resnet50"].map(share), [96.0, 89.0, 15.0, 8.0]);
    }

    #[test]
    fn fields_are_the_published_ones() {
        // Of the last layer under a path.
        let field = |net: &str, path: &str| {
            let table = by_name(net, &ZooOptions::default()).unwrap().table(1);
            table.layers.iter().rfind(|row| row.name.starts_with(path)).unwrap().receptive_field
        };
        assert_eq!(field("vgg16", "features."), [212; 2]);
        assert_eq!(field("resnet18", "layer4."), [435; 2]);
        assert_eq!(field("resnet50", "layer4."), [427; 2]);
    }

    #[test]
    fn a_net_of_vectors_is_all_classifier() {
        let mut net = Net::new("mlp", Shape::Vector(8)).unwrap();
        net.then("head", Op::Linear(Linear::new(2))).unwrap();
        let table = net.table(1);
        assert_eq!((table.features.params, table.classifier.params), (0, 18));
    }
}
