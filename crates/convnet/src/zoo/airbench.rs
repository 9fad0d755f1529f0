//! The network of airbench: Jordan 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498, section 3;
//! descended from Page's ResNet-9 of 2018 ("How to train your ResNet", DAWNBench).
//!
//! | name | widths | parameters | multiply-adds at 3×32×32 |
//! | --- | --- | --- | --- |
//! | `airbench94` | 64, 256, 256 | 1,973,048 | 118,147,360 |
//!
//! A 2×2 convolution that whitens the pictures' patches ([`crate::weights::whiten`]), then three blocks of two 3×3 convolutions
//! with max pooling after the first, batch norm and GELU, the largest number of each map, and a dense layer whose input is
//! divided by 9. There are few layers, and all are wide, so that processors work near their peak. Each 3×3 convolution starts
//! with filters that hand its input on.
//!
//! What differs from the paper: batch norm has factors, which are trained, and PyTorch's eps; the bias of the whitening layer
//! is trained for 3 epochs there and here only where it is not frozen; the division is a layer of factors (`scale`), which
//! `freeze` keeps. There is no dropout unless asked for; it then comes before `head`.

use super::path::{INPUT, Path, dropout, max_pool};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::Net;
use crate::ops::{Activation, BatchNorm2d, Conv2d, InitRule, LayerScale, Linear, Op, Shape};

const FAMILY: Family = Family {
    name: "airbench",
    paper: "Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, arXiv:2404.00498",
    input: [3, 32, 32],
    classes: 10,
};

pub(super) const MODELS: &[Model] = &[FAMILY.row(
    "airbench94",
    "6 wide convolutions behind one that whitens, for CIFAR in a few epochs",
    1_973_048,
    |m, o| airbench(m, o, [64, 256, 256]),
)];

const GELU: Op = Op::Activation(Activation::Gelu);
/// Side of the whitening kernels.
const SIDE: usize = 2;
const WHITENING: [InitRule; 2] = [InitRule::Whitening, InitRule::Constant(0.0)];
const DIRAC: [InitRule; 2] = [InitRule::Dirac, InitRule::Constant(0.0)];
/// What the input of the dense layer is multiplied with.
const SCALE: f32 = 1.0 / 9.0;

fn airbench(model: &Model, options: &ZooOptions, widths: [usize; 3]) -> Result<Net> {
    let [channels, ..] = options.input.unwrap_or(model.input);
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    // A filter and its opposite for each element of a patch.
    let filters = channels.saturating_mul(2 * SIDE * SIDE);
    let whiten = Op::Conv2d(Conv2d { init: WHITENING, ..Conv2d::new(filters, SIDE) });
    let mut x = root.chain(INPUT, [("whiten", whiten), ("gelu", GELU)])?;
    for (block, width) in (1..).zip(widths) {
        let layers = [
            ("conv1", conv(width)),
            ("pool", max_pool(Window::square(2).stride(2))),
            ("norm1", norm()),
            ("gelu1", GELU),
            ("conv2", conv(width)),
            ("norm2", norm()),
            ("gelu2", GELU),
        ];
        x = root.below(format!("block{block}")).chain(x, layers)?;
    }
    let whole = match root.shape(x) {
        Shape::Map([_, height, width]) => Window { kernel: [height, width], ..Window::square(1) },
        Shape::Vector(_) => Window::square(1),
    };
    let classes = Linear { bias: false, init: InitRule::PYTORCH, ..Linear::new(model.classes_or(options)) };
    let head = [
        ("pool", max_pool(whole)),
        ("scale", Op::LayerScale(LayerScale { init: SCALE })),
        ("flatten", Op::Flatten),
        ("dropout", dropout(options.dropout_or(0.0))),
        ("head", Op::Linear(classes)),
    ];
    root.chain(x, head)?;
    Ok(net)
}

fn conv(channels: usize) -> Op {
    Op::Conv2d(Conv2d { bias: false, init: DIRAC, ..Conv2d::new(channels, Window::square(3).padding(1)) })
}

/// Batch norm whose running statistics follow quickly, since training is short.
fn norm() -> Op {
    Op::BatchNorm2d(BatchNorm2d { momentum: 0.4, ..BatchNorm2d::default() })
}
