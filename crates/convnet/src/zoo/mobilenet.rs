//! MobileNet v2: Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", arXiv:1801.04381, table 2;
//! v3: Howard et al. 2019, "Searching for MobileNetV3", arXiv:1905.02244, tables 1 and 2.
//!
//! | name | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- |
//! | `mobilenet_v2` | 3,504,872 | 300,774,272 |
//! | `mobilenet_v3_large` | 5,483,032 | 216,589,760 |
//! | `mobilenet_v3_small` | 2,542,856 | 56,510,400 |
//!
//! An inverted residual widens the channels by a 1×1 convolution, filters each on its own (depthwise) and narrows them by
//! another 1×1 without an activation; it is added to its input where shapes agree. Version 3 adds squeeze and excitation and the
//! hard swish. Names, and weights at the start, are torchvision's; so are the batch norms of version 3 (eps 1e-3, momentum 0.01).

use super::conv_norm::{ConvNorm, FAN_OUT, SqueezeExcitation, conv, depthwise, multiple_of_8};
use super::path::{INPUT, Path, adaptive_avg_pool, dropout};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, InitRule, Linear, Op};

const V2: Family = Family {
    name: "MobileNet v2",
    paper: "Sandler, Howard, Zhu, Zhmoginov and Chen 2018, MobileNetV2: inverted residuals and linear bottlenecks, arXiv:1801.04381",
    input: [3, 224, 224],
    classes: 1000,
};
const V3: Family =
    Family { name: "MobileNet v3", paper: "Howard et al. 2019, Searching for MobileNetV3, arXiv:1905.02244", ..V2 };

pub(super) const MODELS: &[Model] = &[
    V2.row("mobilenet_v2", "17 inverted residuals, ReLU6", 3_504_872, mobilenet_v2),
    V3.row("mobilenet_v3_large", "15 inverted residuals, hard swish", 5_483_032, |m, o| {
        mobilenet_v3(m, o, &LARGE, 1280)
    }),
    V3.row("mobilenet_v3_small", "11 inverted residuals, hard swish", 2_542_856, |m, o| {
        mobilenet_v3(m, o, &SMALL, 1024)
    }),
];

/// Expansion, channels, blocks and stride of the first: the paper's t, c, n and s.
const STAGES: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

fn mobilenet_v2(model: &Model, options: &ZooOptions) -> Result<Net> {
    let style = ConvNorm::new(Activation::RELU6);
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut features = root.below("features");
    let mut x = style.add(features.below(0), INPUT, conv(32, 3, 2))?;
    let blocks = STAGES.into_iter().flat_map(|(expansion, channels, blocks, first)| {
        (0..blocks).map(move |block| (expansion, channels, if block == 0 { first } else { 1 }))
    });
    let mut layer = 1;
    for (expansion, channels, stride) in blocks {
        x = inverted_residual_v2(features.below(layer), x, style, (expansion, channels, stride))?;
        layer += 1;
    }
    let x = style.add(features.below(layer), x, conv(1280, 1, 1))?;
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(1)), ("flatten", Op::Flatten)])?;
    let classifier = [dropout(options.dropout_or(0.2)), linear(model.classes_or(options))];
    root.below("classifier").chain(x, (0..).zip(classifier))?;
    Ok(net)
}

fn inverted_residual_v2(
    mut at: Path,
    x: NodeId,
    style: ConvNorm,
    (expansion, channels, stride): (usize, usize, usize),
) -> Result<NodeId> {
    let (narrow, wide) = (at.channels(x), at.channels(x) * expansion);
    let mut branch = at.below("conv");
    let (mut y, mut layer) = (x, 0);
    if expansion != 1 {
        y = style.add(branch.below(layer), y, conv(wide, 1, 1))?;
        layer += 1;
    }
    y = style.add(branch.below(layer), y, depthwise(wide, 3, stride))?;
    y = branch.chain(y, (layer + 1..).zip(style.linear().layers(conv(channels, 1, 1))))?;
    if stride == 1 && narrow == channels { at.join("add", Op::Add, &[x, y]) } else { Ok(y) }
}

/// An inverted residual of version 3: kernel, expanded channels, channels, squeeze and excitation, hard swish (else ReLU),
/// stride.
struct Block(usize, usize, usize, bool, bool, usize);

const LARGE: [Block; 15] = [
    Block(3, 16, 16, false, false, 1),
    Block(3, 64, 24, false, false, 2),
    Block(3, 72, 24, false, false, 1),
    Block(5, 72, 40, true, false, 2),
    Block(5, 120, 40, true, false, 1),
    Block(5, 120, 40, true, false, 1),
    Block(3, 240, 80, false, true, 2),
    Block(3, 200, 80, false, true, 1),
    Block(3, 184, 80, false, true, 1),
    Block(3, 184, 80, false, true, 1),
    Block(3, 480, 112, true, true, 1),
    Block(3, 672, 112, true, true, 1),
    Block(5, 672, 160, true, true, 2),
    Block(5, 960, 160, true, true, 1),
    Block(5, 960, 160, true, true, 1),
];

const SMALL: [Block; 11] = [
    Block(3, 16, 16, true, false, 2),
    Block(3, 72, 24, false, false, 2),
    Block(3, 88, 24, false, false, 1),
    Block(5, 96, 40, true, true, 2),
    Block(5, 240, 40, true, true, 1),
    Block(5, 240, 40, true, true, 1),
    Block(5, 120, 48, true, true, 1),
    Block(5, 144, 48, true, true, 1),
    Block(5, 288, 96, true, true, 2),
    Block(5, 576, 96, true, true, 1),
    Block(5, 576, 96, true, true, 1),
];

/// `features`: outputs of the first dense layer.
fn mobilenet_v3(model: &Model, options: &ZooOptions, blocks: &[Block], features: usize) -> Result<Net> {
    let style = ConvNorm { eps: 1e-3, momentum: 0.01, activation: Activation::HardSwish };
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut layers = root.below("features");
    let mut x = style.add(layers.below(0), INPUT, conv(16, 3, 2))?;
    for (layer, block) in (1..).zip(blocks) {
        x = block.add(layers.below(layer), x, style)?;
    }
    let last = conv(6 * layers.channels(x), 1, 1);
    let x = style.add(layers.below(blocks.len() + 1), x, last)?;
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(1)), ("flatten", Op::Flatten)])?;
    let classifier = [
        linear(features),
        Op::Activation(Activation::HardSwish),
        dropout(options.dropout_or(0.2)),
        linear(model.classes_or(options)),
    ];
    root.below("classifier").chain(x, (0..).zip(classifier))?;
    Ok(net)
}

impl Block {
    fn add(&self, mut at: Path, x: NodeId, style: ConvNorm) -> Result<NodeId> {
        let Block(kernel, expanded, channels, squeezes, hard_swish, stride) = *self;
        let activation = if hard_swish { Activation::HardSwish } else { Activation::Relu };
        let (style, narrow) = (ConvNorm { activation, ..style }, at.channels(x));
        let mut branch = at.below("block");
        let (mut y, mut layer) = (x, 0);
        if expanded != narrow {
            y = style.add(branch.below(layer), y, conv(expanded, 1, 1))?;
            layer += 1;
        }
        y = style.add(branch.below(layer), y, depthwise(expanded, kernel, stride))?;
        layer += 1;
        if squeezes {
            let (squeezed, gate) = (multiple_of_8((expanded / 4) as f64), Activation::HARD_SIGMOID);
            let squeeze = SqueezeExcitation { squeezed, activation: Activation::Relu, gate, init: FAN_OUT };
            y = squeeze.add(branch.below(layer), y)?;
            layer += 1;
        }
        y = style.linear().add(branch.below(layer), y, conv(channels, 1, 1))?;
        if stride == 1 && narrow == channels { at.join("add", Op::Add, &[x, y]) } else { Ok(y) }
    }
}

fn linear(features: usize) -> Op {
    Op::Linear(Linear { init: [InitRule::Normal(0.01), InitRule::Constant(0.0)], ..Linear::new(features) })
}
