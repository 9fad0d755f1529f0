//! Inception v3: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, "Rethinking the Inception architecture for computer
//! vision", arXiv:1512.00567, table 1 and figures 5 to 7.
//!
//! | name | parameters | multiply-adds at 3×299×299 |
//! | --- | --- | --- |
//! | `inception_v3` | 23,834,568 | 5,713,216,096 |
//!
//! GoogLeNet's successor: 5×5 kernels become two of 3×3, and n×n kernels become 1×n and n×1. Counts are without the auxiliary
//! head, which training adds after `Mixed_6e` with 0.4 of its loss; it takes pictures of 299×299 and is left out for smaller ones. Names, and weights at the start, are torchvision's (whose
//! normal distributions are cut at 20 deviations or more, which changes nothing), and so is batch norm's eps of 1e-3.

use super::conv_norm::ConvNorm;
use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::{Padding, Window};
use crate::net::{Net, NodeId};
use crate::ops::{Activation, AvgPool2d, Conv2d, InitRule, Linear, Op, Shape};

pub(super) const FAMILY: Family = Family {
    name: "Inception v3",
    paper: "Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, Rethinking the Inception architecture for computer vision, arXiv:1512.00567",
    input: [3, 299, 299],
    classes: 1000,
};

pub(super) const MODELS: &[Model] =
    &[FAMILY.row("inception_v3", "48 layers in 11 inception modules", 23_834_568, inception_v3)];

/// Factor of the auxiliary loss.
const AUXILIARY_WEIGHT: f32 = 0.4;

/// Smallest side of the maps that the auxiliary head takes: those of pictures of 299×299.
const AUXILIARY_SIDE: usize = 17;

/// A convolution of a branch: its name, channels and window.
type Unit = (&'static str, usize, Window);

fn inception_v3(model: &Model, options: &ZooOptions) -> Result<Net> {
    let classes = model.classes_or(options);
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let strided = square(3).stride(2);
    let x = units(
        &mut root,
        INPUT,
        &[
            ("Conv2d_1a_3x3", 32, strided),
            ("Conv2d_2a_3x3", 32, square(3)),
            ("Conv2d_2b_3x3", 64, square(3).padding(1)),
        ],
    )?;
    let x = root.chain(x, [("maxpool1", max_pool(strided))])?;
    let x = units(&mut root, x, &[("Conv2d_3b_1x1", 80, square(1)), ("Conv2d_4a_3x3", 192, square(3))])?;
    let mut x = root.chain(x, [("maxpool2", max_pool(strided))])?;
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        x = inception_a(root.below(name), x, pooled)?;
    }
    x = inception_b(root.below("Mixed_6a"), x)?;
    for (name, inner) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
        x = inception_c(root.below(name), x, inner)?;
    }
    let fits = matches!(root.shape(x), Shape::Map([_, h, w]) if h.min(w) >= AUXILIARY_SIDE);
    if options.auxiliaries.unwrap_or(fits) {
        let head = auxiliary(root.below("AuxLogits"), x, classes)?;
        root.auxiliary(head, AUXILIARY_WEIGHT)?;
    }
    x = inception_d(root.below("Mixed_7a"), x)?;
    for name in ["Mixed_7b", "Mixed_7c"] {
        x = inception_e(root.below(name), x)?;
    }
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("dropout", dropout(options.dropout_or(0.5))),
        ("flatten", Op::Flatten),
        ("fc", linear(classes, 0.1)),
    ];
    root.chain(x, head)?;
    Ok(net)
}

/// 1×1; 1×1 and 5×5; 1×1 and twice 3×3; 1×1 of `pooled` channels after pooling (figure 5).
fn inception_a(mut at: Path, x: NodeId, pooled: usize) -> Result<NodeId> {
    let (one, three) = (square(1), square(3).padding(1));
    let branches = [
        units(&mut at, x, &[("branch1x1", 64, one)])?,
        units(&mut at, x, &[("branch5x5_1", 48, one), ("branch5x5_2", 64, square(5).padding(2))])?,
        units(
            &mut at,
            x,
            &[("branch3x3dbl_1", 64, one), ("branch3x3dbl_2", 96, three), ("branch3x3dbl_3", 96, three)],
        )?,
        pooled_unit(&mut at, x, pooled)?,
    ];
    at.join("concat", Op::Concat, &branches)
}

/// Half the sides: 3×3; 1×1 and twice 3×3; pooling.
fn inception_b(mut at: Path, x: NodeId) -> Result<NodeId> {
    let (three, strided) = (square(3).padding(1), square(3).stride(2));
    let branches = [
        units(&mut at, x, &[("branch3x3", 384, strided)])?,
        units(
            &mut at,
            x,
            &[("branch3x3dbl_1", 64, square(1)), ("branch3x3dbl_2", 96, three), ("branch3x3dbl_3", 96, strided)],
        )?,
        at.chain(x, [("branch_pool", max_pool(strided))])?,
    ];
    at.join("concat", Op::Concat, &branches)
}

/// 1×1; 7×7 in two parts; 7×7 twice in four parts; 1×1 after pooling (figure 6); `inner` channels between the parts.
fn inception_c(mut at: Path, x: NodeId, inner: usize) -> Result<NodeId> {
    let (one, row, column) = (square(1), flat([1, 7]), flat([7, 1]));
    let branches = [
        units(&mut at, x, &[("branch1x1", 192, one)])?,
        units(&mut at, x, &[("branch7x7_1", inner, one), ("branch7x7_2", inner, row), ("branch7x7_3", 192, column)])?,
        units(
            &mut at,
            x,
            &[
                ("branch7x7dbl_1", inner, one),
                ("branch7x7dbl_2", inner, column),
                ("branch7x7dbl_3", inner, row),
                ("branch7x7dbl_4", inner, column),
                ("branch7x7dbl_5", 192, row),
            ],
        )?,
        pooled_unit(&mut at, x, 192)?,
    ];
    at.join("concat", Op::Concat, &branches)
}

/// Half the sides: 1×1 and 3×3; 1×1, 7×7 in two parts and 3×3; pooling.
fn inception_d(mut at: Path, x: NodeId) -> Result<NodeId> {
    let (one, strided) = (square(1), square(3).stride(2));
    let branches = [
        units(&mut at, x, &[("branch3x3_1", 192, one), ("branch3x3_2", 320, strided)])?,
        units(
            &mut at,
            x,
            &[
                ("branch7x7x3_1", 192, one),
                ("branch7x7x3_2", 192, flat([1, 7])),
                ("branch7x7x3_3", 192, flat([7, 1])),
                ("branch7x7x3_4", 192, strided),
            ],
        )?,
        at.chain(x, [("branch_pool", max_pool(strided))])?,
    ];
    at.join("concat", Op::Concat, &branches)
}

/// 1×1; 1×1, then 1×3 beside 3×1; 1×1, 3×3, then 1×3 beside 3×1; 1×1 after pooling (figure 7).
fn inception_e(mut at: Path, x: NodeId) -> Result<NodeId> {
    let one = square(1);
    let first = units(&mut at, x, &[("branch1x1", 320, one)])?;
    let three = units(&mut at, x, &[("branch3x3_1", 384, one)])?;
    let three = split(&mut at, three, "branch3x3", ["branch3x3_2a", "branch3x3_2b"])?;
    let doubled = [("branch3x3dbl_1", 448, one), ("branch3x3dbl_2", 384, square(3).padding(1))];
    let doubled = units(&mut at, x, &doubled)?;
    let doubled = split(&mut at, doubled, "branch3x3dbl", ["branch3x3dbl_3a", "branch3x3dbl_3b"])?;
    let pooled = pooled_unit(&mut at, x, 192)?;
    at.join("concat", Op::Concat, &[first, three, doubled, pooled])
}

/// A 1×3 beside a 3×1 convolution, joined.
fn split(at: &mut Path, x: NodeId, name: &str, [row, column]: [&'static str; 2]) -> Result<NodeId> {
    let row = units(at, x, &[(row, 384, flat([1, 3]))])?;
    let column = units(at, x, &[(column, 384, flat([3, 1]))])?;
    at.join(name, Op::Concat, &[row, column])
}

/// The head for training alone (section 4).
fn auxiliary(mut at: Path, x: NodeId, classes: usize) -> Result<NodeId> {
    let pool = AvgPool2d { window: square(5).stride(3), count_include_pad: true };
    let x = at.chain(x, [("avgpool", Op::AvgPool2d(pool))])?;
    let x = units(&mut at, x, &[("conv0", 128, square(1))])?;
    let x = unit(at.below("conv1"), x, 768, square(5), 0.01)?;
    at.chain(x, [("pool", adaptive_avg_pool(1)), ("flatten", Op::Flatten), ("fc", linear(classes, 0.001))])
}

fn pooled_unit(at: &mut Path, x: NodeId, channels: usize) -> Result<NodeId> {
    let pool = AvgPool2d { window: square(3).padding(1), count_include_pad: true };
    let x = at.chain(x, [("avg_pool", Op::AvgPool2d(pool))])?;
    units(at, x, &[("branch_pool", channels, square(1))])
}

/// Convolutions one after another.
fn units(at: &mut Path, x: NodeId, units: &[Unit]) -> Result<NodeId> {
    units.iter().try_fold(x, |x, &(name, channels, window)| unit(at.below(name), x, channels, window, 0.1))
}

/// Convolution, batch norm and ReLU; weights start with the standard deviation `std`.
fn unit(mut at: Path, x: NodeId, channels: usize, window: Window, std: f32) -> Result<NodeId> {
    let init = [InitRule::Normal(std), InitRule::Constant(0.0)];
    let conv = Conv2d { bias: false, init, ..Conv2d::new(channels, window) };
    let style = ConvNorm { eps: 1e-3, ..ConvNorm::new(Activation::Relu) };
    at.chain(x, ["conv", "bn", "relu"].into_iter().zip(style.layers(conv)))
}

fn linear(features: usize, std: f32) -> Op {
    Op::Linear(Linear { init: [InitRule::Normal(std), InitRule::Uniform], ..Linear::new(features) })
}

const fn square(side: usize) -> Window {
    Window::square(side)
}

/// A kernel of one row or column that keeps the sides.
fn flat([height, width]: [usize; 2]) -> Window {
    let padding = Padding::per_axis([height / 2, width / 2]);
    Window { kernel: [height, width], padding, ..Window::square(1) }
}
