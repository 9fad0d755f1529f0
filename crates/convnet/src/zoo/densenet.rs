//! DenseNet: Huang, Liu, van der Maaten and Weinberger 2017, "Densely connected convolutional networks",
//! arXiv:1608.06993, table 1; for CIFAR, section 3 ("implementation details") and table 2.
//!
//! | name | growth | blocks | parameters | multiply-adds |
//! | --- | --- | --- | --- | --- |
//! | `densenet121` | 32 | 6, 12, 24, 16 | 7,978,856 | 2,834,161,664 at 3×224×224 |
//! | `densenet161` | 48 | 6, 12, 36, 24 | 28,681,000 | 7,727,907,072 at 3×224×224 |
//! | `densenet169` | 32 | 6, 12, 32, 32 | 14,149,480 | 3,359,843,328 at 3×224×224 |
//! | `densenet201` | 32 | 6, 12, 48, 32 | 20,013,928 | 4,291,365,888 at 3×224×224 |
//! | `densenet_bc_100_12` | 12 | 16, 16, 16 | 769,162 | 287,929,692 at 3×32×32 |
//! | `densenet_40_12` | 12 | 12, 12, 12, no bottleneck, no compression | 1,019,722 | 264,812,928 at 3×32×32 |
//!
//! A layer of a dense block sees the block's input and all layers before it: the block keeps one concatenation, to which
//! each layer joins its `growth` maps. Transitions halve channels (compression 0.5) and sides. Names, and weights at the
//! start, are torchvision's; the nets for CIFAR have the same names. Where torchvision and the paper's own code differ, it
//! is torchvision's: the classifier's weights start even within `1 / √fan_in`. There is no dropout unless asked for (the
//! paper: 0.2 without data augmentation); it then comes after each layer's last convolution.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool, norm};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{AvgPool2d, Conv2d, InitRule, Linear, Op};

const FAMILY: Family = Family {
    name: "DenseNet",
    paper: "Huang, Liu, van der Maaten and Weinberger 2017, Densely connected convolutional networks, arXiv:1608.06993",
    input: [3, 224, 224],
    classes: 1000,
};
const DENSENET_CIFAR: Family = Family { name: "DenseNet for CIFAR", input: [3, 32, 32], classes: 10, ..FAMILY };

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("densenet121", "121 layers, growth 32", 7_978_856, |m, o| densenet(m, o, &imagenet(32, &[6, 12, 24, 16]))),
    FAMILY.row("densenet161", "161 layers, growth 48", 28_681_000, |m, o| densenet(m, o, &imagenet(48, &[6, 12, 36, 24]))),
    FAMILY.row("densenet169", "169 layers, growth 32", 14_149_480, |m, o| densenet(m, o, &imagenet(32, &[6, 12, 32, 32]))),
    FAMILY.row("densenet201", "201 layers, growth 32", 20_013_928, |m, o| densenet(m, o, &imagenet(32, &[6, 12, 48, 32]))),
    DENSENET_CIFAR.row("densenet_bc_100_12", "100 layers, growth 12, bottlenecks and compression", 769_162, |m, o| densenet(m, o, &BC_100_12)),
    DENSENET_CIFAR.row("densenet_40_12", "40 layers, growth 12, as first described", 1_019_722, |m, o| densenet(m, o, &PLAIN_40_12)),
];

struct DenseNet<'a> {
    /// Channels that each layer adds.
    growth: usize,
    /// Layers of each dense block.
    blocks: &'a [usize],
    /// Channels of the first convolution.
    stem: usize,
    /// Whether the first convolution is 7×7 at stride 2 and pooled, for large pictures, or 3×3.
    large: bool,
    /// Bottlenecks (a 1×1 convolution to four times the growth before each 3×3) and compression (half the channels after
    /// each block): the paper's DenseNet-BC.
    bc: bool,
}

const BC_100_12: DenseNet<'static> = DenseNet { growth: 12, blocks: &[16, 16, 16], stem: 24, large: false, bc: true };
const PLAIN_40_12: DenseNet<'static> =
    DenseNet { growth: 12, blocks: &[12, 12, 12], stem: 16, large: false, bc: false };

const fn imagenet(growth: usize, blocks: &'static [usize; 4]) -> DenseNet<'static> {
    DenseNet { growth, blocks, stem: 2 * growth, large: true, bc: true }
}

fn densenet(model: &Model, options: &ZooOptions, settings: &DenseNet) -> Result<Net> {
    build(model.begin(options)?, model.classes_or(options), options.dropout_or(0.0), settings)
}

/// A DenseNet-BC for small pictures with three dense blocks of so many layers each, which [`models`](super::models) does not list.
pub(crate) fn of_growth(net: Net, classes: usize, growth: usize, layers: usize) -> Result<Net> {
    let settings = DenseNet { growth, blocks: &[layers; 3], stem: 2 * growth, large: false, bc: true };
    build(net, classes, 0.0, &settings)
}

/// Adds the layers to a net that has its input alone.
fn build(mut net: Net, classes: usize, p: f32, settings: &DenseNet<'_>) -> Result<Net> {
    let mut root = Path::root(&mut net);
    let mut features = root.below("features");
    let mut x = settings.stem(&mut features)?;
    for (number, &layers) in (1..).zip(settings.blocks) {
        if number > 1 {
            x = settings.transition(features.below(format!("transition{}", number - 1)), x)?;
        }
        let mut block = features.below(format!("denseblock{number}"));
        for i in 1..=layers {
            let new = settings.layer(block.below(format!("denselayer{i}")), x, p)?;
            x = block.join(format!("concat{i}"), Op::Concat, &[x, new])?;
        }
    }
    let x = features.chain(x, [("norm5", norm())])?;
    let init = [InitRule::Uniform, InitRule::Constant(0.0)];
    let classes = Linear { init, ..Linear::new(classes) };
    let head = [
        ("relu", Op::RELU),
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Op::Flatten),
        ("classifier", Op::Linear(classes)),
    ];
    root.chain(x, head)?;
    Ok(net)
}

impl DenseNet<'_> {
    fn stem(&self, features: &mut Path) -> Result<NodeId> {
        if !self.large {
            return features.chain(INPUT, [("conv0", conv(self.stem, Window::square(3).padding(1)))]);
        }
        let stem = [
            ("conv0", conv(self.stem, Window::square(7).stride(2).padding(3))),
            ("norm0", norm()),
            ("relu0", Op::RELU),
            ("pool0", max_pool(Window::square(3).stride(2).padding(1))),
        ];
        features.chain(INPUT, stem)
    }

    /// `growth` new maps from all maps so far.
    fn layer(&self, mut at: Path, x: NodeId, p: f32) -> Result<NodeId> {
        let conv3x3 = conv(self.growth, Window::square(3).padding(1));
        let before = [("norm1", norm()), ("relu1", Op::RELU)];
        let x = at.chain(x, before)?;
        if !self.bc {
            return at.chain(x, [("conv1", conv3x3), ("dropout", dropout(p))]);
        }
        let bottleneck = [
            ("conv1", conv(4 * self.growth, Window::square(1))),
            ("norm2", norm()),
            ("relu2", Op::RELU),
            ("conv2", conv3x3),
            ("dropout", dropout(p)),
        ];
        at.chain(x, bottleneck)
    }

    fn transition(&self, mut at: Path, x: NodeId) -> Result<NodeId> {
        let channels = if self.bc { at.channels(x) / 2 } else { at.channels(x) };
        let pool = AvgPool2d { window: Window::square(2).stride(2), count_include_pad: true };
        let layers = [
            ("norm", norm()),
            ("relu", Op::RELU),
            ("conv", conv(channels, Window::square(1))),
            ("pool", Op::AvgPool2d(pool)),
        ];
        at.chain(x, layers)
    }
}

fn conv(channels: usize, window: Window) -> Op {
    Op::Conv2d(Conv2d { bias: false, init: InitRule::KAIMING, ..Conv2d::new(channels, window) })
}
