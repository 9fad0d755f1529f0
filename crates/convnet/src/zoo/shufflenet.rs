//! ShuffleNet v2: Ma, Zhang, Zheng and Sun 2018, "ShuffleNet V2: practical guidelines for efficient CNN architecture design",
//! arXiv:1807.11164, table 5.
//!
//! | name | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- |
//! | `shufflenet_v2_x0_5` | 1,366,792 | 40,476,448 |
//! | `shufflenet_v2_x1_0` | 2,278,604 | 144,907,992 |
//! | `shufflenet_v2_x1_5` | 3,503,624 | 295,759,392 |
//! | `shufflenet_v2_x2_0` | 7,393,996 | 583,253,464 |
//!
//! A unit leaves half of its channels as they are, works on the others and shuffles both together (figure 3). Names, and
//! weights at the start, are torchvision's. There is no dropout unless asked for; it then comes before `fc`.

use super::conv_norm::ConvNorm;
use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, ChannelShuffle, Conv2d, InitRule, Linear, Op, Slice};

const FAMILY: Family = Family {
    name: "ShuffleNet v2",
    paper: "Ma, Zhang, Zheng and Sun 2018, ShuffleNet V2: practical guidelines for efficient CNN architecture design, arXiv:1807.11164",
    input: [3, 224, 224],
    classes: 1000,
};

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("shufflenet_v2_x0_5", "48 to 192 channels", 1_366_792, |m, o| shufflenet(m, o, [48, 96, 192], 1024)),
    FAMILY.row("shufflenet_v2_x1_0", "116 to 464 channels", 2_278_604, |m, o| shufflenet(m, o, [116, 232, 464], 1024)),
    FAMILY.row("shufflenet_v2_x1_5", "176 to 704 channels", 3_503_624, |m, o| shufflenet(m, o, [176, 352, 704], 1024)),
    FAMILY.row("shufflenet_v2_x2_0", "244 to 976 channels", 7_393_996, |m, o| shufflenet(m, o, [244, 488, 976], 2048)),
];

/// Units of each stage.
const DEPTHS: [usize; 3] = [4, 8, 4];

const STYLE: ConvNorm = ConvNorm::new(Activation::Relu);

/// `channels` of each stage, and of the `last` convolution.
fn shufflenet(model: &Model, options: &ZooOptions, channels: [usize; 3], last: usize) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let x = STYLE.add(root.below("conv1"), INPUT, conv(24, 3, 2))?;
    let mut x = root.chain(x, [("maxpool", max_pool(Window::square(3).stride(2).padding(1)))])?;
    for (stage, (channels, depth)) in (2..).zip(channels.into_iter().zip(DEPTHS)) {
        let mut stage = root.below(format!("stage{stage}"));
        x = halving_unit(stage.below(0), x, channels)?;
        for unit in 1..depth {
            x = split_unit(stage.below(unit), x, channels)?;
        }
    }
    let x = STYLE.add(root.below("conv5"), x, conv(last, 1, 1))?;
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Op::Flatten),
        ("dropout", dropout(options.dropout_or(0.0))),
        ("fc", Op::Linear(Linear { init: InitRule::PYTORCH, ..Linear::new(model.classes_or(options)) })),
    ];
    root.chain(x, head)?;
    Ok(net)
}

/// The first unit of a stage: half the sides, both branches from all channels (figure 3 d).
fn halving_unit(mut at: Path, x: NodeId, channels: usize) -> Result<NodeId> {
    let first = [
        Op::Conv2d(depthwise(at.channels(x), 2)),
        STYLE.norm(),
        Op::Conv2d(conv(channels / 2, 1, 1)),
        STYLE.norm(),
        Op::RELU,
    ];
    let first = at.below("branch1").chain(x, (0..).zip(first))?;
    let second = branch(at.below("branch2"), x, channels / 2, 2)?;
    shuffled(at, first, second)
}

/// Any other unit: the first half of the channels stays, the second passes the branch (figure 3 c).
fn split_unit(mut at: Path, x: NodeId, channels: usize) -> Result<NodeId> {
    let half = channels / 2;
    let mut chunk = |name: &str, start| at.join(name, Op::Slice(Slice { start, end: start + half }), &[x]);
    let (first, second) = (chunk("chunk1", 0)?, chunk("chunk2", half)?);
    let second = branch(at.below("branch2"), second, half, 1)?;
    shuffled(at, first, second)
}

fn branch(mut at: Path, x: NodeId, channels: usize, stride: usize) -> Result<NodeId> {
    let pointwise = || STYLE.layers(conv(channels, 1, 1));
    let between = STYLE.linear().layers(depthwise(channels, stride));
    at.chain(x, (0..).zip(pointwise().chain(between).chain(pointwise())))
}

fn shuffled(mut at: Path, first: NodeId, second: NodeId) -> Result<NodeId> {
    let x = at.join("concat", Op::Concat, &[first, second])?;
    at.chain(x, [("shuffle", Op::ChannelShuffle(ChannelShuffle { groups: 2 }))])
}

/// A convolution that starts as PyTorch's do.
fn conv(channels: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d { init: InitRule::PYTORCH, ..super::conv_norm::conv(channels, kernel, stride) }
}

fn depthwise(channels: usize, stride: usize) -> Conv2d {
    Conv2d { groups: channels, ..conv(channels, 3, stride) }
}
