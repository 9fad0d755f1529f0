//! AlexNet: Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks";
//! `alexnet` is the single tower of Krizhevsky 2014, arXiv:1404.5997.
//!
//! | name | at 3×224×224 | parameters | multiply-adds |
//! | --- | --- | --- | --- |
//! | `alexnet` | 5 convolutions, 3 dense layers | 61,100,840 | 714,188,480 |
//! | `alexnet_2012` | the same in two towers, with local response norm | 60,965,224 | 724,406,816 |
//!
//! `alexnet` has torchvision's form and names. `alexnet_2012` has Caffe's names; its two towers, which the paper put on two
//! GPUs, are the two groups of convolutions 2, 4 and 5. The paper's 224 pixels do not give its 55×55 maps: they do with a
//! padding of 2, as here, or as 227 pixels without. Both pool to 6×6 before the dense layers, so that any picture fits
//! them; at 224×224 that changes nothing.
//!
//! Weights start as in torchvision (PyTorch's default) or as in the paper's section 5: normal with deviation 0.01, biases
//! 1 in convolutions 2, 4, 5 and hidden dense layers, 0 elsewhere.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::Net;
use crate::ops::{Conv2d, InitRule, Linear, LocalResponseNorm, Op};

const FAMILY: Family = Family {
    name: "AlexNet",
    paper: "Krizhevsky, Sutskever and Hinton 2012, ImageNet classification with deep convolutional neural networks",
    input: [3, 224, 224],
    classes: 1000,
};

pub(super) const MODELS: &[Model] = &[
    FAMILY.row("alexnet", "one tower, as torchvision has it", 61_100_840, alexnet),
    FAMILY.row("alexnet_2012", "the paper's two towers, with local response norm", 60_965_224, alexnet_2012),
];

fn alexnet(model: &Model, options: &ZooOptions) -> Result<Net> {
    let conv = |channels, window| Op::Conv2d(Conv2d { init: InitRule::PYTORCH, ..Conv2d::new(channels, window) });
    let linear = |features| Op::Linear(Linear { init: InitRule::PYTORCH, ..Linear::new(features) });
    let pool = || max_pool(Window::square(3).stride(2));
    let p = options.dropout_or(0.5);
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let features = [
        conv(64, Window::square(11).stride(4).padding(2)),
        Op::RELU,
        pool(),
        conv(192, Window::square(5).padding(2)),
        Op::RELU,
        pool(),
        conv(384, Window::square(3).padding(1)),
        Op::RELU,
        conv(256, Window::square(3).padding(1)),
        Op::RELU,
        conv(256, Window::square(3).padding(1)),
        Op::RELU,
        pool(),
    ];
    let x = root.below("features").chain(INPUT, (0..).zip(features))?;
    let x = root.chain(x, [("avgpool", adaptive_avg_pool(6)), ("flatten", Op::Flatten)])?;
    let classes = linear(model.classes_or(options));
    let classifier = [dropout(p), linear(4096), Op::RELU, dropout(p), linear(4096), Op::RELU, classes];
    root.below("classifier").chain(x, (0..).zip(classifier))?;
    Ok(net)
}

fn alexnet_2012(model: &Model, options: &ZooOptions) -> Result<Net> {
    let start = |bias| [InitRule::Normal(0.01), InitRule::Constant(bias)];
    let conv = |channels, window, groups, bias| {
        Op::Conv2d(Conv2d { groups, init: start(bias), ..Conv2d::new(channels, window) })
    };
    let linear = |features, bias| Op::Linear(Linear { init: start(bias), ..Linear::new(features) });
    // The paper's alpha is not divided by the number of channels.
    let norm = || Op::LocalResponseNorm(LocalResponseNorm { size: 5, alpha: 5.0 * 1e-4, beta: 0.75, k: 2.0 });
    let pool = || max_pool(Window::square(3).stride(2));
    let p = options.dropout_or(0.5);
    let mut net = model.begin(options)?;
    let layers = [
        ("conv1", conv(96, Window::square(11).stride(4).padding(2), 1, 0.0)),
        ("relu1", Op::RELU),
        ("norm1", norm()),
        ("pool1", pool()),
        ("conv2", conv(256, Window::square(5).padding(2), 2, 1.0)),
        ("relu2", Op::RELU),
        ("norm2", norm()),
        ("pool2", pool()),
        ("conv3", conv(384, Window::square(3).padding(1), 1, 0.0)),
        ("relu3", Op::RELU),
        ("conv4", conv(384, Window::square(3).padding(1), 2, 1.0)),
        ("relu4", Op::RELU),
        ("conv5", conv(256, Window::square(3).padding(1), 2, 1.0)),
        ("relu5", Op::RELU),
        ("pool5", pool()),
        ("avgpool", adaptive_avg_pool(6)),
        ("flatten", Op::Flatten),
        ("fc6", linear(4096, 1.0)),
        ("relu6", Op::RELU),
        ("drop6", dropout(p)),
        ("fc7", linear(4096, 1.0)),
        ("relu7", Op::RELU),
        ("drop7", dropout(p)),
        ("fc8", linear(model.classes_or(options), 0.0)),
    ];
    Path::root(&mut net).chain(INPUT, layers)?;
    Ok(net)
}
