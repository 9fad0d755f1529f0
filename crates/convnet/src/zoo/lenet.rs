//! LeNet-5: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition",
//! section II.B.
//!
//! | name | parameters | multiply-adds at 1×28×28 |
//! | --- | --- | --- |
//! | `lenet5` | 61,706 | 416,520 |
//!
//! The paper takes 32×32 pixels; a picture with a smaller side, such as MNIST's 28×28, is padded by 2 pixels all around.
//! What differs from the paper, as in most of today's forms: pooling has no trained factor and bias and no activation
//! after it, each map of the second convolution sees all maps of the first (not a chosen few), tanh is not scaled, and the
//! last layer is linear, not radial basis functions. Names are those of PyTorch's tutorial. Weights start as in PyTorch,
//! even within `1 / √fan_in`, where the paper has `2.4 / fan_in`.

use super::path::{INPUT, Path, dropout};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::Net;
use crate::ops::{AvgPool2d, Conv2d, InitRule, Linear, Op};

const FAMILY: Family = Family {
    name: "LeNet",
    paper: "LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition",
    input: [1, 28, 28],
    classes: 10,
};

pub(super) const MODELS: &[Model] =
    &[FAMILY.row("lenet5", "2 convolutions and 3 dense layers, with tanh", 61_706, lenet5)];

/// Side of the paper's pictures.
const SIDE: usize = 32;

fn lenet5(model: &Model, options: &ZooOptions) -> Result<Net> {
    let [_, height, width] = options.input.unwrap_or(model.input);
    let padding = if height.min(width) < SIDE { 2 } else { 0 };
    let conv = |channels, padding| {
        let window = Window::square(5).padding(padding);
        Op::Conv2d(Conv2d { init: InitRule::PYTORCH, ..Conv2d::new(channels, window) })
    };
    let linear = |features| Op::Linear(Linear { init: InitRule::PYTORCH, ..Linear::new(features) });
    let pool = || Op::AvgPool2d(AvgPool2d { window: Window::square(2).stride(2), count_include_pad: true });
    let layers = [
        ("conv1", conv(6, padding)),
        ("tanh1", Op::TANH),
        ("pool1", pool()),
        ("conv2", conv(16, 0)),
        ("tanh2", Op::TANH),
        ("pool2", pool()),
        ("flatten", Op::Flatten),
        ("fc1", linear(120)),
        ("tanh3", Op::TANH),
        ("fc2", linear(84)),
        ("tanh4", Op::TANH),
        ("dropout", dropout(options.dropout_or(0.0))),
        ("fc3", linear(model.classes_or(options))),
    ];
    let mut net = model.begin(options)?;
    Path::root(&mut net).chain(INPUT, layers)?;
    Ok(net)
}
