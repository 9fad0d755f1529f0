//! MNASNet: Tan et al. 2019, "MnasNet: platform-aware neural architecture search for mobile", arXiv:1807.11626, figure 7,
//! without squeeze and excitation (the variant B1).
//!
//! | name | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- |
//! | `mnasnet0_5` | 2,218,512 | 104,455,968 |
//! | `mnasnet0_75` | 3,170,208 | 215,493,104 |
//! | `mnasnet1_0` | 4,383,312 | 314,415,872 |
//! | `mnasnet1_3` | 6,282,256 | 526,362,432 |
//!
//! Inverted residuals as MobileNet v2's, with ReLU, whose kernels and depths a search has found. Names, and weights at the
//! start, are torchvision's; so is batch norm's momentum of 0.0003.

use super::conv_norm::{ConvNorm, conv, depthwise, multiple_of_8};
use super::path::{INPUT, Path, adaptive_avg_pool, dropout};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, InitRule, Linear, Op};

const FAMILY: Family = Family {
    name: "MNASNet",
    paper: "Tan et al. 2019, MnasNet: platform-aware neural architecture search for mobile, arXiv:1807.11626",
    input: [3, 224, 224],
    classes: 1000,
};

pub(super) const MODELS: &[Model] = &[
    FAMILY.row("mnasnet0_5", "half as wide", 2_218_512, |m, o| mnasnet(m, o, 0.5)),
    FAMILY.row("mnasnet0_75", "three quarters as wide", 3_170_208, |m, o| mnasnet(m, o, 0.75)),
    FAMILY.row("mnasnet1_0", "16 inverted residuals, found by search", 4_383_312, |m, o| mnasnet(m, o, 1.0)),
    FAMILY.row("mnasnet1_3", "1.3 times as wide", 6_282_256, |m, o| mnasnet(m, o, 1.3)),
];

const STYLE: ConvNorm = ConvNorm { momentum: 3e-4, ..ConvNorm::new(Activation::Relu) };

/// Stacks of inverted residuals: channels, kernel, stride of the first, expansion, blocks.
const STACKS: [(f64, usize, usize, usize, usize); 6] = [
    (24.0, 3, 2, 3, 3),
    (40.0, 5, 2, 3, 3),
    (80.0, 5, 2, 6, 3),
    (96.0, 3, 1, 6, 2),
    (192.0, 5, 2, 6, 4),
    (320.0, 3, 1, 6, 1),
];

/// `width`: factor of all channels.
fn mnasnet(model: &Model, options: &ZooOptions, width: f64) -> Result<Net> {
    let channels = |channels: f64| multiple_of_8(channels * width);
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut layers = root.below("layers");
    let separable = STYLE.layers(depthwise(channels(32.0), 3, 1));
    let stem = STYLE.layers(conv(channels(32.0), 3, 2)).chain(separable);
    let stem = stem.chain(STYLE.linear().layers(conv(channels(16.0), 1, 1)));
    let mut x = layers.chain(INPUT, (0..).zip(stem))?;
    for (stack, (wide, kernel, first, expansion, blocks)) in (8..).zip(STACKS) {
        let mut stack = layers.below(stack);
        for block in 0..blocks {
            let stride = if block == 0 { first } else { 1 };
            x = inverted_residual(stack.below(block), x, channels(wide), [kernel, stride, expansion])?;
        }
    }
    let x = layers.chain(x, (8 + STACKS.len()..).zip(STYLE.layers(conv(1280, 1, 1))))?;
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(1)), ("flatten", Op::Flatten)])?;
    let init = [InitRule::UniformFanOut(3.0), InitRule::Constant(0.0)];
    let linear = Linear { init, ..Linear::new(model.classes_or(options)) };
    root.below("classifier").chain(x, (0..).zip([dropout(options.dropout_or(0.2)), Op::Linear(linear)]))?;
    Ok(net)
}

fn inverted_residual(
    mut at: Path,
    x: NodeId,
    channels: usize,
    [kernel, stride, expansion]: [usize; 3],
) -> Result<NodeId> {
    let (narrow, wide) = (at.channels(x), at.channels(x) * expansion);
    let filtered = STYLE.layers(depthwise(wide, kernel, stride));
    let layers = STYLE.layers(conv(wide, 1, 1)).chain(filtered).chain(STYLE.linear().layers(conv(channels, 1, 1)));
    let y = at.below("layers").chain(x, (0..).zip(layers))?;
    // As torchvision has it, a stack's first block may be added to its input, too, where shapes agree.
    if stride == 1 && narrow == channels { at.join("add", Op::Add, &[y, x]) } else { Ok(y) }
}
