//! ConvNeXt: Liu, Mao, Wu, Feichtenhofer, Darrell and Xie 2022, "A ConvNet for the 2020s", arXiv:2201.03545, section 3.
//!
//! | name | channels | blocks | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- | --- | --- |
//! | `convnext_tiny` | 96 to 768 | 3, 3, 9, 3 | 28,589,128 | 4,455,531,264 |
//! | `convnext_small` | 96 to 768 | 3, 3, 27, 3 | 50,223,688 | 8,683,712,256 |
//! | `convnext_base` | 128 to 1024 | 3, 3, 27, 3 | 88,591,464 | 15,354,729,472 |
//! | `convnext_large` | 192 to 1536 | 3, 3, 27, 3 | 197,767,336 | 34,361,433,600 |
//!
//! ResNet's plan with a transformer's habits: patches of 4×4 pixels, depthwise 7×7 kernels, an inverted bottleneck of linear
//! layers at each pixel, GELU, and layer norm in place of batch norm. Names, weights at the start and rates are torchvision's: the
//! linear layers keep their weights as `[out, in]`, a block's branch is scaled by 1e-6 at first and dropped in training with a
//! probability that grows from 0 at the first block to 0.1 (tiny), 0.4 (small) or 0.5 at the last. There is no dropout unless asked
//! for; it then comes before the classifier's linear layer.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, stochastic_depth};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, Conv2d, InitRule, LayerNorm2d, LayerScale, Linear, Op};

pub(super) const FAMILY: Family = Family {
    name: "ConvNeXt",
    paper: "Liu, Mao, Wu, Feichtenhofer, Darrell and Xie 2022, A ConvNet for the 2020s, arXiv:2201.03545",
    input: [3, 224, 224],
    classes: 1000,
};

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("convnext_tiny", "18 blocks, 96 to 768 channels", 28_589_128, |m, o| convnext(m, o, 96, [3, 3, 9, 3], 0.1)),
    FAMILY.row("convnext_small", "36 blocks, 96 to 768 channels", 50_223_688, |m, o| convnext(m, o, 96, [3, 3, 27, 3], 0.4)),
    FAMILY.row("convnext_base", "36 blocks, 128 to 1024 channels", 88_591_464, |m, o| convnext(m, o, 128, [3, 3, 27, 3], 0.5)),
    FAMILY.row("convnext_large", "36 blocks, 192 to 1536 channels", 197_767_336, |m, o| convnext(m, o, 192, [3, 3, 27, 3], 0.5)),
];

/// How convolutions and linear layers start.
const INIT: [InitRule; 2] = [InitRule::Normal(0.02), InitRule::Constant(0.0)];

/// `channels` of the first stage, twice as many in each later one; `depths`: blocks of each stage; `depth_p`: largest
/// probability that a branch is dropped.
fn convnext(model: &Model, options: &ZooOptions, channels: usize, depths: [usize; 4], depth_p: f32) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut features = root.below("features");
    let mut x = features.below(0).chain(INPUT, [(0, patches(channels, 4)), (1, norm())])?;
    let blocks: usize = depths.iter().sum();
    let mut before = 0;
    for (stage, depth) in depths.into_iter().enumerate() {
        if stage > 0 {
            let halving = [(0, norm()), (1, patches(channels << stage, 2))];
            x = features.below(2 * stage).chain(x, halving)?;
        }
        let mut stage_path = features.below(2 * stage + 1);
        for i in 0..depth {
            let p = options.stochastic_depth.unwrap_or(depth_p) * before as f32 / (blocks - 1) as f32;
            x = block(&mut stage_path, i, x, p)?;
            before += 1;
        }
    }
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(1))])?;
    let classes = Linear { init: INIT, ..Linear::new(model.classes_or(options)) };
    let x = root.below("classifier").chain(x, [(0, norm()), (1, Op::Flatten)])?;
    let x = root.chain(x, [("dropout", dropout(options.dropout_or(0.0)))])?;
    root.below("classifier").chain(x, [(2, Op::Linear(classes))])?;
    Ok(net)
}

/// A residual block of that number (figure 4). Its layer scale has the block's own name, so that its factors have
/// torchvision's.
fn block(at: &mut Path, number: usize, x: NodeId, p: f32) -> Result<NodeId> {
    let channels = at.channels(x);
    let window = Window::square(7).padding(3);
    let linear = |features| Op::Linear(Linear { init: INIT, per_pixel: true, ..Linear::new(features) });
    let layers = [
        ("block.0", Op::Conv2d(Conv2d { groups: channels, init: INIT, ..Conv2d::new(channels, window) })),
        ("block.2", norm()),
        ("block.3", linear(4 * channels)),
        ("block.4", Op::Activation(Activation::Gelu)),
        ("block.5", linear(channels)),
    ];
    let y = at.below(number).chain(x, layers)?;
    let y = at.chain(y, [(number, Op::LayerScale(LayerScale { init: 1e-6 }))])?;
    let mut inside = at.below(number);
    let y = inside.chain(y, [("stochastic_depth", stochastic_depth(p))])?;
    inside.join("add", Op::Add, &[y, x])
}

/// A convolution whose windows touch and do not overlap.
fn patches(channels: usize, side: usize) -> Op {
    Op::Conv2d(Conv2d { init: INIT, ..Conv2d::new(channels, Window::square(side).stride(side)) })
}

fn norm() -> Op {
    Op::LayerNorm2d(LayerNorm2d { eps: 1e-6 })
}
