//! Small nets of every operation and every kind of branch, named and random.

use crate::geometry::{Padding, Window};
use crate::net::{Net, NodeId};
use crate::ops::{
    Activation, AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, Dropout, LayerNorm2d, Linear, LocalResponseNorm,
    MaxPool2d, Op, PadChannels, Shape, activation,
};
use crate::zoo;

pub(in crate::exec) fn conv(out_channels: usize, window: Window) -> Op {
    Op::Conv2d(Conv2d::new(out_channels, window))
}

/// Every operation, in and out of the combinations that are fused.
pub(in crate::exec) fn nets() -> Vec<Net> {
    let cnn = zoo::Cnn { xdim: [1, 12, 10], cdims: vec![5, 20], hdims: vec![30, 7], ydim: 5, ..zoo::Cnn::default() };
    let plain = zoo::Cnn { xdim: [3, 9, 8], batch_norm: false, ..cnn.clone() };
    let mut mixed = Net::new("mixed", Shape::Map([6, 11, 13])).unwrap();
    let bn = || Op::BatchNorm2d(BatchNorm2d::default());
    let layers = [
        ("dead", conv(3, Window::square(1))),
        ("conv1", Op::Conv2d(Conv2d { groups: 2, bias: false, ..Conv2d::new(8, Window::square(3).padding(1)) })),
        ("relu1", Op::RELU),
        ("bn1", bn()),
        ("drop1", Op::Dropout(Dropout { p: 0.2 })),
        ("conv2", conv(18, Window { stride: [2, 1], padding: Padding::Same, ..Window::square(3) })),
        ("bn2", bn()),
        ("drop2", Op::Dropout2d(Dropout { p: 0.3 })),
        ("pool2", Op::MaxPool2d(MaxPool2d { window: Window::square(3).stride(2).padding(1) })),
        ("relu2", Op::RELU),
        ("bn3", bn()),
        ("pool3", Op::AvgPool2d(AvgPool2d { window: Window::square(2), count_include_pad: true })),
        ("drop3", Op::Dropout2d(Dropout { p: 0.3 })),
        ("flatten", Op::Flatten),
        ("relu3", Op::RELU),
        ("linear", Op::Linear(Linear { bias: false, ..Linear::new(9) })),
        ("drop4", Op::Dropout(Dropout { p: 0.5 })),
        ("head", Op::Linear(Linear::new(4))),
    ];
    for (name, op) in layers {
        let input = if name == "conv1" { mixed.find("input").unwrap() } else { mixed.output() };
        mixed.add(name, op, &[input]).unwrap();
    }
    let mut rows = Net::new("rows", Shape::Vector(21)).unwrap();
    rows.then("linear1", Op::Linear(Linear::new(18))).unwrap();
    rows.then("relu1", Op::RELU).unwrap();
    rows.then("drop1", Op::Dropout(Dropout { p: 0.5 })).unwrap();
    rows.then("linear2", Op::Linear(Linear::new(3))).unwrap();
    let cnns = [zoo::cnn(&cnn).unwrap(), zoo::cnn(&plain).unwrap()];
    [cnns.to_vec(), vec![mixed, rows, residual(), dense(16), dense(12), inception(), tangle(), shared_places()]]
        .concat()
}

/// Adds layers to a net by name, so that tests of branches read like the nets.
pub(in crate::exec) struct Layers(pub(in crate::exec) Net);

impl Layers {
    pub(in crate::exec) fn new(name: &str, input: [usize; 3]) -> Layers {
        Layers(Net::new(name, Shape::Map(input)).unwrap())
    }

    pub(in crate::exec) fn add(&mut self, op: Op, inputs: &[NodeId]) -> NodeId {
        self.0.add(&format!("{}{}", op.name(), self.0.nodes().len()), op, inputs).unwrap()
    }

    pub(in crate::exec) fn norm(&mut self, input: NodeId) -> NodeId {
        self.add(Op::BatchNorm2d(BatchNorm2d::default()), &[input])
    }

    pub(in crate::exec) fn conv_norm(
        &mut self,
        channels: usize,
        kernel: usize,
        stride: usize,
        input: NodeId,
    ) -> NodeId {
        let window = Window::square(kernel).padding(kernel / 2).stride(stride);
        let conv = self.add(Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(channels, window) }), &[input]);
        self.norm(conv)
    }

    pub(in crate::exec) fn relu(&mut self, input: NodeId) -> NodeId {
        self.add(Op::RELU, &[input])
    }

    /// A depthwise convolution.
    fn depthwise(&mut self, kernel: usize, stride: usize, input: NodeId) -> NodeId {
        let [channels, ..] = self.map(input);
        let window = Window::square(kernel).padding(kernel / 2).stride(stride);
        self.add(Op::Conv2d(Conv2d { groups: channels, ..Conv2d::new(channels, window) }), &[input])
    }

    /// Squeeze-and-excitation with its activations.
    fn squeeze_and_excitation(&mut self, input: NodeId) -> NodeId {
        let [channels, ..] = self.map(input);
        let squeezed = self.add(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [1, 1] }), &[input]);
        let squeezed = self.add(conv(5, Window::square(1)), &[squeezed]);
        let squeezed = self.add(Op::Activation(Activation::Silu), &[squeezed]);
        let factors = self.add(conv(channels, Window::square(1)), &[squeezed]);
        let factors = self.add(Op::Activation(Activation::Sigmoid), &[factors]);
        self.add(Op::Mul, &[input, factors])
    }

    /// Channels, height and width of a value.
    pub(in crate::exec) fn map(&self, value: NodeId) -> [usize; 3] {
        let Shape::Map(dims) = self.0.node(value).shape else { panic!("expected maps") };
        dims
    }

    /// Several linear layers that read flattened maps, some with a dropout before them, and rows joined or added.
    pub(in crate::exec) fn flat_head(mut self, maps: [NodeId; 2], joined: bool) -> Net {
        let rows = maps.map(|maps| self.add(Op::Flatten, &[maps]));
        let dropped = self.add(Op::Dropout(Dropout { p: 0.25 }), &[rows[0]]);
        let read = [rows[0], dropped, rows[1]];
        let read = read.map(|row| self.add(Op::Linear(Linear::new(7)), &[row]));
        let row = self.add(if joined { Op::Concat } else { Op::Add }, &read);
        let row = self.relu(row);
        self.add(Op::Linear(Linear::new(5)), &[row]);
        self.0
    }

    pub(in crate::exec) fn head(mut self, input: NodeId) -> Net {
        let pooled = self.add(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [2, 1] }), &[input]);
        let row = self.add(Op::Flatten, &[pooled]);
        let row = self.add(Op::Dropout(Dropout { p: 0.25 }), &[row]);
        self.add(Op::Linear(Linear::new(5)), &[row]);
        self.0
    }
}

/// Identity, projected and padded shortcuts; a sum before its batch norm.
pub(in crate::exec) fn residual() -> Net {
    let mut net = Layers::new("residual", [3, 9, 8]);
    let input = net.0.output();
    let stem = net.conv_norm(20, 3, 1, input);
    let stem = net.relu(stem);
    let (a, b) = (net.conv_norm(20, 3, 1, stem), NodeId::clone(&stem));
    let a = net.relu(a);
    let a = net.conv_norm(20, 3, 1, a);
    let sum = net.add(Op::Add, &[a, b]);
    let x = net.relu(sum);
    let main = net.conv_norm(36, 3, 2, x);
    let projected = net.conv_norm(36, 1, 2, x);
    let sum = net.add(Op::Add, &[main, projected]);
    let x = net.relu(sum);
    let main = net.conv_norm(40, 3, 1, x);
    let padded = net.add(Op::PadChannels(PadChannels { before: 2, after: 2 }), &[x]);
    let sum = net.add(Op::Add, &[padded, main]);
    let before = net.norm(sum);
    let before = net.relu(before);
    let inner = net.conv_norm(40, 3, 1, before);
    let sum = net.add(Op::Add, &[sum, inner]);
    net.head(sum)
}

/// Two dense blocks with a transition; growth 16 lies in place, growth 12 does not.
pub(in crate::exec) fn dense(growth: usize) -> Net {
    let mut net = Layers::new(&format!("dense{growth}"), [5, 8, 9]);
    let input = net.0.output();
    let mut features = net.add(conv(2 * growth, Window::square(3).padding(1)), &[input]);
    for block in 0..2 {
        for _ in 0..3 {
            let x = net.norm(features);
            let x = net.relu(x);
            let x = net.conv_norm(4 * growth, 1, 1, x);
            let x = net.relu(x);
            let new = net.add(conv(growth, Window::square(3).padding(1)), &[x]);
            features = net.add(Op::Concat, &[features, new]);
        }
        features = net.norm(features);
        features = net.relu(features);
        if block == 0 {
            features = net.add(conv(2 * growth, Window::square(1)), &[features]);
            let window = Window::square(2).stride(2);
            features = net.add(Op::AvgPool2d(AvgPool2d { window, count_include_pad: true }), &[features]);
        }
    }
    net.head(features)
}

/// Branches of several kinds side by side, and two auxiliary outputs.
pub(in crate::exec) fn inception() -> Net {
    let mut net = Layers::new("inception", [3, 10, 10]);
    let input = net.0.output();
    let stem = net.add(conv(24, Window::square(3)), &[input]);
    let stem = net.relu(stem);
    let mut x = net.add(Op::LocalResponseNorm(LocalResponseNorm { alpha: 0.5, ..LocalResponseNorm::new(5) }), &[stem]);
    for channels in [16, 10] {
        let one = net.conv_norm(channels, 1, 1, x);
        let one = net.relu(one);
        let three = net.add(conv(8, Window::square(1)), &[x]);
        let three = net.relu(three);
        let three = net.add(conv(32, Window::square(3).padding(1)), &[three]);
        let three = net.relu(three);
        let window = Window { ceil_mode: true, ..Window::square(3).padding(1) };
        let pooled = net.add(Op::MaxPool2d(MaxPool2d { window }), &[x]);
        let pooled = net.add(conv(channels, Window::square(1)), &[pooled]);
        let pooled = net.add(Op::TANH, &[pooled]);
        x = net.add(Op::Concat, &[one, three, pooled]);
        let aside = net.add(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [1, 1] }), &[x]);
        let aside = net.add(Op::Flatten, &[aside]);
        let aside = net.add(Op::Linear(Linear::new(5)), &[aside]);
        net.0.add_auxiliary(aside, 0.3).unwrap();
    }
    net.head(x)
}

/// What no one would build: every value read again and again, sums of twins, concatenations of concatenations and rows.
pub(in crate::exec) fn tangle() -> Net {
    let mut net = Layers::new("tangle", [16, 6, 5]);
    let x = net.0.output();
    let a = net.add(conv(16, Window::square(3).padding(1)), &[x]);
    let twice = net.add(Op::Add, &[a, a]);
    let b = net.add(Op::TANH, &[a]);
    let c = net.add(conv(16, Window::square(1)), &[b]);
    let joined = net.add(Op::Concat, &[a, c, x]);
    let again = net.add(Op::Concat, &[joined, c, joined]);
    let d = net.add(conv(16, Window::square(1)), &[again]);
    let normed = net.norm(a);
    let sum = net.add(Op::Add, &[d, normed, twice, c]);
    let relu = net.relu(sum);
    let dropped = net.add(Op::Dropout2d(Dropout { p: 0.3 }), &[sum]);
    let beside = net.add(Op::Concat, &[sum, relu]);
    let more = net.add(Op::Concat, &[dropped, sum, normed]);
    let rows: Vec<NodeId> = [beside, more, a].map(|maps| net.add(Op::Flatten, &[maps])).to_vec();
    let row = net.add(Op::Concat, &[rows[0], rows[1], rows[2]]);
    let first = net.add(Op::Linear(Linear::new(7)), &[row]);
    let second = net.add(Op::Linear(Linear::new(7)), &[row]);
    let third = net.add(Op::TANH, &[first]);
    let third = net.add(Op::Dropout(Dropout { p: 0.2 }), &[third]);
    let sum = net.add(Op::Add, &[second, first, third]);
    net.add(Op::Linear(Linear::new(4)), &[sum]);
    net.0
}

/// Stages that could take a place that backward still looks at, and concatenations that hold one value twice.
pub(in crate::exec) fn shared_places() -> Net {
    let mut net = Layers::new("shared places", [16, 6, 5]);
    let x = net.0.output();
    let [a, b] = [1, 3].map(|kernel| net.add(conv(16, Window::square(kernel).padding(kernel / 2)), &[x]));
    // ReLU, dropout and a sum, each in the place of the one before.
    let sum = net.add(Op::Add, &[a, b]);
    let relu = net.relu(sum);
    let dropped = net.add(Op::Dropout(Dropout { p: 0.3 }), &[relu]);
    let sum = net.add(Op::Add, &[dropped, a]);
    let sum = net.relu(sum);
    // A batch norm whose input is a dropout in a ReLU's place.
    let c = net.add(conv(16, Window::square(3).padding(1)), &[sum]);
    let c = net.relu(c);
    let c = net.add(Op::Dropout2d(Dropout { p: 0.2 }), &[c]);
    let c = net.norm(c);
    let inner = net.add(Op::Concat, &[c, b]);
    let after = net.add(Op::Concat, &[inner, c]);
    let d = net.add(conv(16, Window::square(1)), &[after]);
    let e = net.add(conv(16, Window::square(1)), &[c]);
    let inner = net.add(Op::Concat, &[d, e]);
    let before = net.add(Op::Concat, &[d, inner]);
    net.head(before)
}

/// Whether an operation has one input, which are maps before and after it.
fn is_unary(op: &Op) -> bool {
    let of_maps = op.output(&[Shape::Map([6, 6, 6])]).or_else(|_| op.output(&[Shape::Map([16, 6, 6])]));
    matches!(of_maps, Ok(Shape::Map(_))) && !matches!(op, Op::Input(_))
}

/// Each operation between others: after a convolution and before a norm, and alone with the net's input and output.
pub(crate) fn of_every_operation() -> Vec<Net> {
    let samples = Op::samples().into_iter().filter(|sample| !matches!(sample.op, Op::Input(_)));
    let nets = samples.enumerate().flat_map(|(i, sample)| {
        [false, true].map(|between| {
            let [map, vector] = [Shape::Map([6, 5, 7]), Shape::Vector(6)];
            let mut net = Layers::new(&format!("{} {i} {between}", sample.op.name()), [6, 5, 7]);
            let input = net.0.output();
            let x = if between { net.add(conv(6, Window::square(3).padding(1)), &[input]) } else { input };
            let mut inputs = Vec::new();
            for (position, &shape) in sample.inputs.iter().enumerate() {
                inputs.push(match shape {
                    Shape::Map(_) if shape == map && (position == 0 || between) => x,
                    Shape::Map([channels, 1, 1]) => {
                        let pooled = net.add(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [1, 1] }), &[x]);
                        net.add(conv(channels, Window::square(1)), &[pooled])
                    }
                    Shape::Map([channels, ..]) => net.add(conv(channels, Window::square(1)), &[x]),
                    Shape::Vector(features) => {
                        let pooled = net.add(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [1, 1] }), &[x]);
                        let row = net.add(Op::Flatten, &[pooled]);
                        if shape == vector { row } else { net.add(Op::Linear(Linear::new(features)), &[row]) }
                    }
                });
            }
            let y = net.add(sample.op.clone(), &inputs);
            match net.0.node(y).shape {
                Shape::Map(_) => {
                    let y = if between { net.conv_norm(7, 1, 1, y) } else { y };
                    net.head(y)
                }
                Shape::Vector(_) => {
                    net.add(Op::Linear(Linear::new(5)), &[y]);
                    net.0
                }
            }
        })
    });
    nets.collect()
}

/// Each activation after each stage that can have one, with and without a pooling and a dropout after it.
pub(crate) fn of_every_activation() -> Vec<Net> {
    let nets = activation::samples().into_iter().map(|activation| {
        let op = || Op::Activation(activation);
        let mut net = Layers::new(op().name(), [3, 10, 9]);
        let input = net.0.output();
        // Of 3 channels, a first convolution that would be a stem with a ReLU.
        let x = net.conv_norm(32, 3, 1, input);
        let x = net.add(op(), &[x]);
        let x = net.add(Op::MaxPool2d(MaxPool2d { window: Window::square(2).stride(2) }), &[x]);
        let a = net.add(conv(18, Window::square(3).padding(1)), &[x]);
        let a = net.add(op(), &[a]);
        let b = net.depthwise(3, 1, a);
        let b = net.add(op(), &[b]);
        let c = net.conv_norm(18, 1, 1, b);
        let c = net.add(Op::Dropout2d(Dropout { p: 0.25 }), &[c]);
        let c = net.add(op(), &[c]);
        let d = net.conv_norm(18, 3, 1, c);
        let sum = net.add(Op::Add, &[a, d]);
        let sum = net.add(op(), &[sum]);
        let more = net.add(Op::Add, &[sum, b, c]);
        let more = net.add(op(), &[more]);
        let more = net.add(Op::Dropout(Dropout { p: 0.25 }), &[more]);
        let row = net.add(Op::Flatten, &[more]);
        let row = net.add(Op::Linear(Linear::new(19)), &[row]);
        let row = net.add(op(), &[row]);
        let row = net.add(Op::Dropout(Dropout { p: 0.25 }), &[row]);
        net.add(Op::Linear(Linear::new(5)), &[row]);
        net.0
    });
    nets.collect()
}

/// A net of a dozen operations in any order, each on any of the values so far, at several resolutions, and one of the
/// ways in which maps become classes.
pub(in crate::exec) fn random_net(seed: u64) -> Net {
    let mut state = seed;
    let mut below = |n: usize| {
        state = convnet_kernels::random::mix(state, 1);
        (state >> 33) as usize % n
    };
    let mut net = Layers::new(&format!("random {seed}"), [[16, 1][seed as usize % 2], 6, 5]);
    let mut values = vec![net.0.output()];
    for _ in 0..12 {
        // Later values are likelier.
        let mut pick = || values[below(values.len()).max(below(values.len()))];
        let (x, y) = (pick(), pick());
        let [[channels, height, width], [_, other_height, other_width]] = [x, y].map(|value| net.map(value));
        let alike = net.0.node(x).shape == net.0.node(y).shape;
        let joins = [height, width] == [other_height, other_width];
        let mut sample = || {
            let samples = Op::samples();
            samples[below(samples.len())].op.clone()
        };
        let sample = sample();
        values.push(match below(24) {
            0 | 1 => net.add(conv([16, 12][below(2)], Window::square(3).padding(1)), &[x]),
            2 => net.add(conv(16, Window::square(1)), &[x]),
            3 => net.norm(x),
            4 | 5 => net.relu(x),
            6 => net.add(Op::TANH, &[x]),
            7 => net.add(Op::Dropout(Dropout { p: 0.25 }), &[x]),
            8 => net.add(Op::Dropout2d(Dropout { p: 0.25 }), &[x]),
            9 if alike => net.add(Op::Add, &[x, y]),
            10 => net.add(Op::PadChannels(PadChannels { before: 4, after: 0 }), &[x]),
            11 if height >= 4 => {
                let window = [Window::square(2).stride(2), Window::square(3)][below(2)];
                net.add(Op::MaxPool2d(MaxPool2d { window }), &[x])
            }
            12 | 13 => net.depthwise([3, 5][below(2)], 1 + below(2), x),
            14 => net.squeeze_and_excitation(x),
            15 => {
                let activations = activation::samples();
                net.add(Op::Activation(activations[below(activations.len())]), &[x])
            }
            // Of a single channel nothing would be left but rounding errors, which a batch norm enlarges.
            16 if channels > 1 => net.add(Op::LayerNorm2d(LayerNorm2d { eps: 1e-2 }), &[x]),
            17..=20 if channels > 1 && is_unary(&sample) && sample.output(&[net.0.node(x).shape]).is_ok() => {
                net.add(sample, &[x])
            }
            _ if joins => net.add(Op::Concat, &[x, y]),
            _ => net.relu(y),
        });
    }
    let last = net.0.output();
    match below(3) {
        0 => net.head(last),
        way => {
            let other = values[below(values.len())];
            net.flat_head([last, other], way == 1)
        }
    }
}
