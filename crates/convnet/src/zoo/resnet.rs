//! ResNet: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", arXiv:1512.03385, table 1;
//! ResNeXt: Xie et al. 2017, arXiv:1611.05431; wide ResNet: Zagoruyko and Komodakis 2016, arXiv:1605.07146.
//!
//! | name | blocks | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- | --- |
//! | `resnet18` | 2, 2, 2, 2 | 11,689,512 | 1,814,073,344 |
//! | `resnet34` | 3, 4, 6, 3 | 21,797,672 | 3,663,761,408 |
//! | `resnet50` | 3, 4, 6, 3, bottleneck | 25,557,032 | 4,089,184,256 |
//! | `resnet101` | 3, 4, 23, 3, bottleneck | 44,549,160 | 7,801,405,440 |
//! | `resnet152` | 3, 8, 36, 3, bottleneck | 60,192,808 | 11,513,626,624 |
//! | `resnext50_32x4d` | as resnet50, 32 groups of 4 channels | 25,028,904 | 4,230,479,872 |
//! | `resnext101_32x8d` | as resnet101, 32 groups of 8 channels | 88,791,336 | 16,414,015,488 |
//! | `resnext101_64x4d` | as resnet101, 64 groups of 4 channels | 83,455,272 | 15,460,270,080 |
//! | `wide_resnet50_2` | as resnet50, twice the inner channels | 68,883,240 | 11,398,021,120 |
//! | `wide_resnet101_2` | as resnet101, twice the inner channels | 126,886,696 | 22,753,050,624 |
//!
//! Names, and weights at the start, are torchvision's. So is the form: a bottleneck strides in its 3×3 convolution, where
//! the paper's strides in its first 1×1. The receptive field of `resnet50` before the last pooling is therefore 427 pixels
//! (the paper's form: 483), that of `resnet18` 435. The shortcut is the identity where shapes agree, else a 1×1
//! convolution with batch norm (the paper's option B). There is no dropout unless asked for; it then comes before `fc`.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool, norm};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Conv2d, InitRule, Linear, Op};

const FAMILY: Family = Family {
    name: "ResNet",
    paper: "He, Zhang, Ren and Sun 2016, Deep residual learning for image recognition, arXiv:1512.03385",
    input: [3, 224, 224],
    classes: 1000,
};
const RESNEXT: Family = Family {
    name: "ResNeXt",
    paper: "Xie, Girshick, Dollár, Tu and He 2017, Aggregated residual transformations for deep neural networks, arXiv:1611.05431",
    ..FAMILY
};
const WIDE_RESNET: Family = Family {
    name: "Wide ResNet",
    paper: "Zagoruyko and Komodakis 2016, Wide residual networks, arXiv:1605.07146",
    ..FAMILY
};

/// The residual branch of a block.
enum Block {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3 and 1×1. The 3×3 works on `groups` times `width` channels in the first stage, twice as many in each later
    /// one; the last gives four times the stage's channels.
    Bottleneck { groups: usize, width: usize },
}

const BASIC: Block = Block::Basic;
const BOTTLENECK: Block = Block::Bottleneck { groups: 1, width: 64 };
const WIDE: Block = Block::Bottleneck { groups: 1, width: 128 };
const GROUPS_32X4: Block = Block::Bottleneck { groups: 32, width: 4 };
const GROUPS_32X8: Block = Block::Bottleneck { groups: 32, width: 8 };
const GROUPS_64X4: Block = Block::Bottleneck { groups: 64, width: 4 };

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("resnet18", "18 layers in basic blocks", 11_689_512, |m, o| resnet(m, o, BASIC, [2, 2, 2, 2])),
    FAMILY.row("resnet34", "34 layers in basic blocks", 21_797_672, |m, o| resnet(m, o, BASIC, [3, 4, 6, 3])),
    FAMILY.row("resnet50", "50 layers in bottlenecks", 25_557_032, |m, o| resnet(m, o, BOTTLENECK, [3, 4, 6, 3])),
    FAMILY.row("resnet101", "101 layers in bottlenecks", 44_549_160, |m, o| resnet(m, o, BOTTLENECK, [3, 4, 23, 3])),
    FAMILY.row("resnet152", "152 layers in bottlenecks", 60_192_808, |m, o| resnet(m, o, BOTTLENECK, [3, 8, 36, 3])),
    RESNEXT.row("resnext50_32x4d", "resnet50 in 32 groups of 4 channels", 25_028_904, |m, o| resnet(m, o, GROUPS_32X4, [3, 4, 6, 3])),
    RESNEXT.row("resnext101_32x8d", "resnet101 in 32 groups of 8 channels", 88_791_336, |m, o| resnet(m, o, GROUPS_32X8, [3, 4, 23, 3])),
    RESNEXT.row("resnext101_64x4d", "resnet101 in 64 groups of 4 channels", 83_455_272, |m, o| resnet(m, o, GROUPS_64X4, [3, 4, 23, 3])),
    WIDE_RESNET.row("wide_resnet50_2", "resnet50, twice as wide inside", 68_883_240, |m, o| resnet(m, o, WIDE, [3, 4, 6, 3])),
    WIDE_RESNET.row("wide_resnet101_2", "resnet101, twice as wide inside", 126_886_696, |m, o| resnet(m, o, WIDE, [3, 4, 23, 3])),
];

/// `depths`: blocks of each stage.
fn resnet(model: &Model, options: &ZooOptions, block: Block, depths: [usize; 4]) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let stem = [
        ("conv1", conv(64, Window::square(7).stride(2).padding(3))),
        ("bn1", norm()),
        ("relu", Op::RELU),
        ("maxpool", max_pool(Window::square(3).stride(2).padding(1))),
    ];
    let mut x = root.chain(INPUT, stem)?;
    for (stage, depth) in depths.into_iter().enumerate() {
        for i in 0..depth {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            x = residual(root.below(format!("layer{}.{i}", stage + 1)), x, block.branch(stage, stride), stride)?;
        }
    }
    let classes = Linear { init: InitRule::PYTORCH, ..Linear::new(model.classes_or(options)) };
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Op::Flatten),
        ("dropout", dropout(options.dropout_or(0.0))),
        ("fc", Op::Linear(classes)),
    ];
    root.chain(x, head)?;
    Ok(net)
}

impl Block {
    fn branch(&self, stage: usize, stride: usize) -> Vec<(&'static str, Op)> {
        let channels = 64 << stage;
        let conv3x3 = Window::square(3).padding(1);
        match *self {
            Block::Basic => vec![
                ("conv1", conv(channels, conv3x3.stride(stride))),
                ("bn1", norm()),
                ("relu1", Op::RELU),
                ("conv2", conv(channels, conv3x3)),
                ("bn2", norm()),
            ],
            Block::Bottleneck { groups, width } => {
                let inner = (groups * width) << stage;
                vec![
                    ("conv1", conv(inner, Window::square(1))),
                    ("bn1", norm()),
                    ("relu1", Op::RELU),
                    ("conv2", grouped_conv(inner, conv3x3.stride(stride), groups)),
                    ("bn2", norm()),
                    ("relu2", Op::RELU),
                    ("conv3", conv(4 * channels, Window::square(1))),
                    ("bn3", norm()),
                ]
            }
        }
    }
}

/// `relu(branch(x) + shortcut(x))` (the paper's equations 1 and 2).
fn residual(mut at: Path, x: NodeId, branch: Vec<(&str, Op)>, stride: usize) -> Result<NodeId> {
    let y = at.chain(x, branch)?;
    let shortcut = if stride == 1 && at.channels(x) == at.channels(y) {
        x
    } else {
        let projection = conv(at.channels(y), Window::square(1).stride(stride));
        at.chain(x, [("downsample.0", projection), ("downsample.1", norm())])?
    };
    let sum = at.join("add", Op::Add, &[y, shortcut])?;
    at.chain(sum, [("relu", Op::RELU)])
}

fn conv(channels: usize, window: Window) -> Op {
    grouped_conv(channels, window, 1)
}

fn grouped_conv(channels: usize, window: Window, groups: usize) -> Op {
    let init = [InitRule::KaimingNormalFanOut, InitRule::Constant(0.0)];
    Op::Conv2d(Conv2d { groups, bias: false, init, ..Conv2d::new(channels, window) })
}
