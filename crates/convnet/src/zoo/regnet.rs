//! RegNet: Radosavovic, Kosaraju, Girshick, He and Dollár 2020, "Designing network design spaces", arXiv:2003.13678, tables 2
//! and 3 (their numbers are those of the stages here).
//!
//! | name | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- |
//! | `regnet_x_400mf` | 5,495,976 | 413,812,608 |
//! | `regnet_x_800mf` | 7,259,656 | 799,699,712 |
//! | `regnet_x_1_6gf` | 9,190,136 | 1,602,849,792 |
//! | `regnet_x_3_2gf` | 15,296,552 | 3,176,621,952 |
//! | `regnet_x_8gf` | 39,572,648 | 7,995,132,416 |
//! | `regnet_x_16gf` | 54,278,536 | 15,940,755,456 |
//! | `regnet_x_32gf` | 107,811,560 | 31,735,929,792 |
//! | `regnet_y_400mf` | 4,344,144 | 401,842,848 |
//! | `regnet_y_800mf` | 6,432,512 | 833,856,256 |
//! | `regnet_y_1_6gf` | 11,202,430 | 1,612,076,160 |
//! | `regnet_y_3_2gf` | 19,436,338 | 3,176,482,752 |
//! | `regnet_y_8gf` | 39,381,472 | 8,473,070,592 |
//! | `regnet_y_16gf` | 83,590,140 | 15,911,510,272 |
//! | `regnet_y_32gf` | 145,046,770 | 32,279,552,832 |
//! | `regnet_y_128gf` | 644,812,894 | 127,517,815,680 |
//!
//! ResNeXt's blocks with widths that grow evenly from block to block; Y adds squeeze and excitation. Names, and weights at the
//! start, are torchvision's. There is no dropout unless asked for; it then comes before `fc`.

use super::conv_norm::{ConvNorm, FAN_OUT, SqueezeExcitation, conv};
use super::path::{INPUT, Path, adaptive_avg_pool, dropout};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, Conv2d, InitRule, Linear, Op};

const FAMILY: Family = Family {
    name: "RegNet",
    paper: "Radosavovic, Kosaraju, Girshick, He and Dollár 2020, Designing network design spaces, arXiv:2003.13678",
    input: [3, 224, 224],
    classes: 1000,
};

/// The last number is the channels of a group.
#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("regnet_x_400mf", "22 blocks, 32 to 400 channels", 5_495_976, |m, o| regnet(m, o, X, [(1, 32), (2, 64), (7, 160), (12, 400)], 16)),
    FAMILY.row("regnet_x_800mf", "16 blocks, 64 to 672 channels", 7_259_656, |m, o| regnet(m, o, X, [(1, 64), (3, 128), (7, 288), (5, 672)], 16)),
    FAMILY.row("regnet_x_1_6gf", "18 blocks, 72 to 912 channels", 9_190_136, |m, o| regnet(m, o, X, [(2, 72), (4, 168), (10, 408), (2, 912)], 24)),
    FAMILY.row("regnet_x_3_2gf", "25 blocks, 96 to 1008 channels", 15_296_552, |m, o| regnet(m, o, X, [(2, 96), (6, 192), (15, 432), (2, 1008)], 48)),
    FAMILY.row("regnet_x_8gf", "23 blocks, 80 to 1920 channels", 39_572_648, |m, o| regnet(m, o, X, [(2, 80), (5, 240), (15, 720), (1, 1920)], 120)),
    FAMILY.row("regnet_x_16gf", "22 blocks, 256 to 2048 channels", 54_278_536, |m, o| regnet(m, o, X, [(2, 256), (6, 512), (13, 896), (1, 2048)], 128)),
    FAMILY.row("regnet_x_32gf", "23 blocks, 336 to 2520 channels", 107_811_560, |m, o| regnet(m, o, X, [(2, 336), (7, 672), (13, 1344), (1, 2520)], 168)),
    FAMILY.row("regnet_y_400mf", "16 blocks, 48 to 440 channels", 4_344_144, |m, o| regnet(m, o, Y, [(1, 48), (3, 104), (6, 208), (6, 440)], 8)),
    FAMILY.row("regnet_y_800mf", "14 blocks, 64 to 784 channels", 6_432_512, |m, o| regnet(m, o, Y, [(1, 64), (3, 144), (8, 320), (2, 784)], 16)),
    FAMILY.row("regnet_y_1_6gf", "27 blocks, 48 to 888 channels", 11_202_430, |m, o| regnet(m, o, Y, [(2, 48), (6, 120), (17, 336), (2, 888)], 24)),
    FAMILY.row("regnet_y_3_2gf", "21 blocks, 72 to 1512 channels", 19_436_338, |m, o| regnet(m, o, Y, [(2, 72), (5, 216), (13, 576), (1, 1512)], 24)),
    FAMILY.row("regnet_y_8gf", "17 blocks, 224 to 2016 channels", 39_381_472, |m, o| regnet(m, o, Y, [(2, 224), (4, 448), (10, 896), (1, 2016)], 56)),
    FAMILY.row("regnet_y_16gf", "18 blocks, 224 to 3024 channels", 83_590_140, |m, o| regnet(m, o, Y, [(2, 224), (4, 448), (11, 1232), (1, 3024)], 112)),
    FAMILY.row("regnet_y_32gf", "20 blocks, 232 to 3712 channels", 145_046_770, |m, o| regnet(m, o, Y, [(2, 232), (5, 696), (12, 1392), (1, 3712)], 232)),
    FAMILY.row("regnet_y_128gf", "27 blocks, 528 to 7392 channels", 644_812_894, |m, o| regnet(m, o, Y, [(2, 528), (7, 1056), (17, 2904), (1, 7392)], 264)),
];

const STYLE: ConvNorm = ConvNorm::new(Activation::Relu);

/// Whether blocks have squeeze and excitation.
const X: bool = false;
const Y: bool = true;

/// `stages`: blocks and channels; `group`: channels of each group, of all channels where they are fewer.
fn regnet(
    model: &Model,
    options: &ZooOptions,
    squeezes: bool,
    stages: [(usize, usize); 4],
    group: usize,
) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut x = STYLE.add(root.below("stem"), INPUT, conv(32, 3, 2))?;
    let mut trunk = root.below("trunk_output");
    for (stage, (depth, channels)) in (1..).zip(stages) {
        let mut stage_path = trunk.below(format!("block{stage}"));
        for i in 0..depth {
            let stride = if i == 0 { 2 } else { 1 };
            let block = Block { channels, stride, groups: channels / group.min(channels), squeezes };
            x = block.add(stage_path.below(format!("block{stage}-{i}")), x)?;
        }
    }
    let init = [InitRule::Normal(0.01), InitRule::Constant(0.0)];
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Op::Flatten),
        ("dropout", dropout(options.dropout_or(0.0))),
        ("fc", Op::Linear(Linear { init, ..Linear::new(model.classes_or(options)) })),
    ];
    root.chain(x, head)?;
    Ok(net)
}

/// A residual block: 1×1, 3×3 in groups, squeeze and excitation where there is one, 1×1 (figure 4).
struct Block {
    channels: usize,
    stride: usize,
    groups: usize,
    squeezes: bool,
}

impl Block {
    fn add(&self, mut at: Path, x: NodeId) -> Result<NodeId> {
        let Block { channels, stride, groups, squeezes } = *self;
        let before = at.channels(x);
        let mut branch = at.below("f");
        let mut y = STYLE.add(branch.below("a"), x, conv(channels, 1, 1))?;
        y = STYLE.add(branch.below("b"), y, Conv2d { groups, ..conv(channels, 3, stride) })?;
        if squeezes {
            // A quarter of the channels that came in, halves to the even number.
            let squeezed = (before as f64 / 4.0).round_ties_even() as usize;
            let (activation, gate) = (Activation::Relu, Activation::Sigmoid);
            let init = [FAN_OUT[0], InitRule::Uniform];
            y = SqueezeExcitation { squeezed, activation, gate, init }.add(branch.below("se"), y)?;
        }
        y = STYLE.linear().add(branch.below("c"), y, conv(channels, 1, 1))?;
        let shortcut = match before != channels || stride != 1 {
            true => STYLE.linear().add(at.below("proj"), x, conv(channels, 1, stride))?,
            false => x,
        };
        let sum = at.join("add", Op::Add, &[shortcut, y])?;
        at.chain(sum, [("activation", Op::RELU)])
    }
}
