//! VGG: Simonyan and Zisserman 2015, "Very deep convolutional networks for large-scale image recognition",
//! arXiv:1409.1556, table 1, columns A, B, D and E.
//!
//! | name | parameters (`_bn`) | multiply-adds at 3×224×224 |
//! | --- | --- | --- |
//! | `vgg11` | 132,863,336 (132,868,840) | 7,609,090,048 |
//! | `vgg13` | 133,047,848 (133,053,736) | 11,308,466,176 |
//! | `vgg16` | 138,357,544 (138,365,992) | 15,470,264,320 |
//! | `vgg19` | 143,667,240 (143,678,248) | 19,632,062,464 |
//!
//! Names, and weights at the start, are torchvision's. The paper has no batch norm, and trains the deeper nets from the
//! weights of shallower ones; `_bn` norms after each convolution. Maps are pooled to 7×7 before the dense layers, so that
//! any picture fits them; at 224×224 that changes nothing.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool, norm};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::Net;
use crate::ops::{Conv2d, InitRule, Linear, Op};

const FAMILY: Family = Family {
    name: "VGG",
    paper: "Simonyan and Zisserman 2015, Very deep convolutional networks for large-scale image recognition, arXiv:1409.1556",
    input: [3, 224, 224],
    classes: 1000,
};

pub(super) const MODELS: &[Model] = &[
    FAMILY.row("vgg11", "8 convolutions, 3 dense layers", 132_863_336, |m, o| vgg(m, o, [1, 1, 2, 2, 2], false)),
    FAMILY.row("vgg11_bn", "vgg11 with batch norm", 132_868_840, |m, o| vgg(m, o, [1, 1, 2, 2, 2], true)),
    FAMILY.row("vgg13", "10 convolutions, 3 dense layers", 133_047_848, |m, o| vgg(m, o, [2, 2, 2, 2, 2], false)),
    FAMILY.row("vgg13_bn", "vgg13 with batch norm", 133_053_736, |m, o| vgg(m, o, [2, 2, 2, 2, 2], true)),
    FAMILY.row("vgg16", "13 convolutions, 3 dense layers", 138_357_544, |m, o| vgg(m, o, [2, 2, 3, 3, 3], false)),
    FAMILY.row("vgg16_bn", "vgg16 with batch norm", 138_365_992, |m, o| vgg(m, o, [2, 2, 3, 3, 3], true)),
    FAMILY.row("vgg19", "16 convolutions, 3 dense layers", 143_667_240, |m, o| vgg(m, o, [2, 2, 4, 4, 4], false)),
    FAMILY.row("vgg19_bn", "vgg19 with batch norm", 143_678_248, |m, o| vgg(m, o, [2, 2, 4, 4, 4], true)),
];

/// Output channels of the convolutions of each stage, which ends with a pooling.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];

/// `depths`: convolutions of each stage.
fn vgg(model: &Model, options: &ZooOptions, depths: [usize; 5], batch_norm: bool) -> Result<Net> {
    let mut features = Vec::new();
    for (channels, depth) in CHANNELS.into_iter().zip(depths) {
        for _ in 0..depth {
            features.push(conv(channels));
            if batch_norm {
                features.push(norm());
            }
            features.push(Op::RELU);
        }
        features.push(max_pool(Window::square(2).stride(2)));
    }
    let p = options.dropout_or(0.5);
    let classes = linear(model.classes_or(options));
    let classifier = [linear(4096), Op::RELU, dropout(p), linear(4096), Op::RELU, dropout(p), classes];

    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let x = root.below("features").chain(INPUT, (0..).zip(features))?;
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(7)), ("flatten", Op::Flatten)])?;
    root.below("classifier").chain(x, (0..).zip(classifier))?;
    Ok(net)
}

fn conv(channels: usize) -> Op {
    let init = [InitRule::KaimingNormalFanOut, InitRule::Constant(0.0)];
    Op::Conv2d(Conv2d { init, ..Conv2d::new(channels, Window::square(3).padding(1)) })
}

fn linear(features: usize) -> Op {
    let init = [InitRule::Normal(0.01), InitRule::Constant(0.0)];
    Op::Linear(Linear { init, ..Linear::new(features) })
}
