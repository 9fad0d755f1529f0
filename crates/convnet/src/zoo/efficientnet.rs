//! EfficientNet: Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks",
//! arXiv:1905.11946, table 1; V2: Tan and Le 2021, "EfficientNetV2: smaller models and faster training", arXiv:2104.00298,
//! table 4.
//!
//! | name | width, depth | parameters | multiply-adds |
//! | --- | --- | --- | --- |
//! | `efficientnet_b0` | 1, 1 | 5,288,548 | 385,814,752 at 3×224×224 |
//! | `efficientnet_b1` | 1, 1.1 | 7,794,184 | 686,802,832 at 3×240×240 |
//! | `efficientnet_b2` | 1.1, 1.2 | 9,109,994 | 1,087,529,456 at 3×288×288 |
//! | `efficientnet_b3` | 1.2, 1.4 | 12,233,232 | 1,827,141,392 at 3×300×300 |
//! | `efficientnet_b4` | 1.4, 1.8 | 19,341,616 | 4,393,771,024 at 3×380×380 |
//! | `efficientnet_b5` | 1.6, 2.2 | 30,389,784 | 10,266,384,752 at 3×456×456 |
//! | `efficientnet_b6` | 1.8, 2.6 | 43,040,704 | 19,067,593,536 at 3×528×528 |
//! | `efficientnet_b7` | 2, 3.1 | 66,347,960 | 37,745,884,192 at 3×600×600 |
//! | `efficientnet_v2_s` | | 21,458,488 | 8,365,617,152 at 3×384×384 |
//! | `efficientnet_v2_m` | | 54,139,356 | 24,582,460,384 at 3×480×480 |
//! | `efficientnet_v2_l` | | 118,515,272 | 56,079,699,008 at 3×480×480 |
//!
//! Inverted residuals (MobileNet v2) with squeeze and excitation and SiLU; B1 to B7 scale channels, depths and pictures of B0
//! together. The first stages of V2 merge the first 1×1 convolution and the depthwise one into one. Names, weights at the start
//! and rates are torchvision's: in training a residual branch is dropped with a probability that grows to 0.2 from the first
//! block to the last, and batch norms have eps 1e-3 in V2 and, with a momentum of 0.01, in B5 to B7. Sizes of pictures are those
//! of torchvision's weights (the paper's B2 takes 260 pixels).

use super::conv_norm::{ConvNorm, FAN_OUT, SqueezeExcitation, conv, depthwise, multiple_of_8};
use super::path::{INPUT, Path, adaptive_avg_pool, dropout, stochastic_depth};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, InitRule, Linear, Op};

pub(super) const FAMILY: Family = Family {
    name: "EfficientNet",
    paper: "Tan and Le 2019, EfficientNet: rethinking model scaling for convolutional neural networks, arXiv:1905.11946",
    input: [3, 224, 224],
    classes: 1000,
};
pub(super) const V2: Family = Family {
    name: "EfficientNet V2",
    paper: "Tan and Le 2021, EfficientNetV2: smaller models and faster training, arXiv:2104.00298",
    ..FAMILY
};

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.sized(224).row("efficientnet_b0", "16 inverted residuals, found by search", 5_288_548, |m, o| scaled(m, o, [1.0, 1.0], DEFAULT, 0.2)),
    FAMILY.sized(240).row("efficientnet_b1", "b0, 1.1 times as deep", 7_794_184, |m, o| scaled(m, o, [1.0, 1.1], DEFAULT, 0.2)),
    FAMILY.sized(288).row("efficientnet_b2", "b0, 1.1 times as wide, 1.2 times as deep", 9_109_994, |m, o| scaled(m, o, [1.1, 1.2], DEFAULT, 0.3)),
    FAMILY.sized(300).row("efficientnet_b3", "b0, 1.2 times as wide, 1.4 times as deep", 12_233_232, |m, o| scaled(m, o, [1.2, 1.4], DEFAULT, 0.3)),
    FAMILY.sized(380).row("efficientnet_b4", "b0, 1.4 times as wide, 1.8 times as deep", 19_341_616, |m, o| scaled(m, o, [1.4, 1.8], DEFAULT, 0.4)),
    FAMILY.sized(456).row("efficientnet_b5", "b0, 1.6 times as wide, 2.2 times as deep", 30_389_784, |m, o| scaled(m, o, [1.6, 2.2], TENSORFLOW, 0.4)),
    FAMILY.sized(528).row("efficientnet_b6", "b0, 1.8 times as wide, 2.6 times as deep", 43_040_704, |m, o| scaled(m, o, [1.8, 2.6], TENSORFLOW, 0.5)),
    FAMILY.sized(600).row("efficientnet_b7", "b0, twice as wide, 3.1 times as deep", 66_347_960, |m, o| scaled(m, o, [2.0, 3.1], TENSORFLOW, 0.5)),
    V2.sized(384).row("efficientnet_v2_s", "40 blocks, the first 10 fused", 21_458_488, |m, o| v2(m, o, &SMALL, 0.2)),
    V2.sized(480).row("efficientnet_v2_m", "57 blocks, the first 13 fused", 54_139_356, |m, o| v2(m, o, &MEDIUM, 0.3)),
    V2.sized(480).row("efficientnet_v2_l", "79 blocks, the first 18 fused", 118_515_272, |m, o| v2(m, o, &LARGE, 0.4)),
];

const DEFAULT: ConvNorm = ConvNorm::new(Activation::Silu);
/// As the networks were first trained.
const TENSORFLOW: ConvNorm = ConvNorm { eps: 1e-3, momentum: 0.01, ..DEFAULT };

/// Largest probability that a residual branch is dropped.
const STOCHASTIC_DEPTH: f32 = 0.2;

/// Blocks of the same channels: whether they are fused, expansion, kernel, stride of the first, channels, blocks.
#[derive(Clone, Copy)]
struct Stage(Kind, usize, usize, usize, usize, usize);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// 1×1, depthwise, squeeze and excitation, 1×1.
    MbConv,
    /// One convolution in place of the first two, no squeeze and excitation.
    Fused,
}
use Kind::{Fused, MbConv};

const B0: [Stage; 7] = [
    Stage(MbConv, 1, 3, 1, 16, 1),
    Stage(MbConv, 6, 3, 2, 24, 2),
    Stage(MbConv, 6, 5, 2, 40, 2),
    Stage(MbConv, 6, 3, 2, 80, 3),
    Stage(MbConv, 6, 5, 1, 112, 3),
    Stage(MbConv, 6, 5, 2, 192, 4),
    Stage(MbConv, 6, 3, 1, 320, 1),
];
const SMALL: [Stage; 6] = [
    Stage(Fused, 1, 3, 1, 24, 2),
    Stage(Fused, 4, 3, 2, 48, 4),
    Stage(Fused, 4, 3, 2, 64, 4),
    Stage(MbConv, 4, 3, 2, 128, 6),
    Stage(MbConv, 6, 3, 1, 160, 9),
    Stage(MbConv, 6, 3, 2, 256, 15),
];
const MEDIUM: [Stage; 7] = [
    Stage(Fused, 1, 3, 1, 24, 3),
    Stage(Fused, 4, 3, 2, 48, 5),
    Stage(Fused, 4, 3, 2, 80, 5),
    Stage(MbConv, 4, 3, 2, 160, 7),
    Stage(MbConv, 6, 3, 1, 176, 14),
    Stage(MbConv, 6, 3, 2, 304, 18),
    Stage(MbConv, 6, 3, 1, 512, 5),
];
const LARGE: [Stage; 7] = [
    Stage(Fused, 1, 3, 1, 32, 4),
    Stage(Fused, 4, 3, 2, 64, 7),
    Stage(Fused, 4, 3, 2, 96, 7),
    Stage(MbConv, 4, 3, 2, 192, 10),
    Stage(MbConv, 6, 3, 1, 224, 19),
    Stage(MbConv, 6, 3, 2, 384, 25),
    Stage(MbConv, 6, 3, 1, 640, 7),
];

/// B0 with its channels and depths times as much.
fn scaled(model: &Model, options: &ZooOptions, [width, depth]: [f64; 2], style: ConvNorm, p: f32) -> Result<Net> {
    let scale = |Stage(kind, expansion, kernel, stride, channels, blocks)| {
        let (channels, blocks) = (multiple_of_8(channels as f64 * width), (blocks as f64 * depth).ceil() as usize);
        Stage(kind, expansion, kernel, stride, channels, blocks)
    };
    let stages = B0.map(scale);
    let last = 4 * stages[6].4;
    efficientnet(model, options, style, (multiple_of_8(32.0 * width), &stages, last), p)
}

fn v2(model: &Model, options: &ZooOptions, stages: &[Stage], p: f32) -> Result<Net> {
    efficientnet(model, options, ConvNorm { eps: 1e-3, ..DEFAULT }, (stages[0].4, stages, 1280), p)
}

/// Channels of the first convolution, stages, channels of the last; `p`: the dropout before the classifier.
fn efficientnet(
    model: &Model,
    options: &ZooOptions,
    style: ConvNorm,
    (first, stages, last): (usize, &[Stage], usize),
    p: f32,
) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut features = root.below("features");
    let mut x = style.add(features.below(0), INPUT, conv(first, 3, 2))?;
    let all: usize = stages.iter().map(|stage| stage.5).sum();
    let mut before = 0;
    for (number, stage) in (1..).zip(stages) {
        let mut stage_path = features.below(number);
        for block in 0..stage.5 {
            let p = options.stochastic_depth.unwrap_or(STOCHASTIC_DEPTH) * before as f32 / all as f32;
            x = stage.block(stage_path.below(block), x, style, (block == 0, p))?;
            before += 1;
        }
    }
    let x = style.add(features.below(stages.len() + 1), x, conv(last, 1, 1))?;
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(1)), ("flatten", Op::Flatten)])?;
    let init = [InitRule::UniformFanOut(1.0), InitRule::Constant(0.0)];
    let linear = Linear { init, ..Linear::new(model.classes_or(options)) };
    root.below("classifier").chain(x, (0..).zip([dropout(options.dropout_or(p)), Op::Linear(linear)]))?;
    Ok(net)
}

impl Stage {
    /// A block, the first of its stage or a later one, whose branch is dropped with probability `p`.
    fn block(&self, mut at: Path, x: NodeId, style: ConvNorm, (first, p): (bool, f32)) -> Result<NodeId> {
        let Stage(kind, expansion, kernel, stride, channels, _) = *self;
        let stride = if first { stride } else { 1 };
        let (narrow, wide) = (at.channels(x), at.channels(x) * expansion);
        let project = (style.linear(), conv(channels, 1, 1));
        let parts = match (kind, expansion) {
            (MbConv, 1) => vec![(style, depthwise(wide, kernel, stride)), project],
            (MbConv, _) => vec![(style, conv(wide, 1, 1)), (style, depthwise(wide, kernel, stride)), project],
            (Fused, 1) => vec![(style, conv(channels, kernel, stride))],
            (Fused, _) => vec![(style, conv(wide, kernel, stride)), project],
        };
        let (mut branch, mut y, last) = (at.below("block"), x, parts.len() - 1);
        let mut number = 0;
        for (index, (style, conv)) in parts.into_iter().enumerate() {
            if kind == MbConv && index == last {
                let (activation, gate) = (Activation::Silu, Activation::Sigmoid);
                let squeeze = SqueezeExcitation { squeezed: (narrow / 4).max(1), activation, gate, init: FAN_OUT };
                y = squeeze.add(branch.below(number), y)?;
                number += 1;
            }
            y = style.add(branch.below(number), y, conv)?;
            number += 1;
        }
        if stride != 1 || narrow != channels {
            return Ok(y);
        }
        let y = at.chain(y, [("stochastic_depth", stochastic_depth(p))])?;
        at.join("add", Op::Add, &[y, x])
    }
}
