//! SqueezeNet: Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
//! arXiv:1602.07360, table 1; version 1.1 from the authors' repository (forresti/SqueezeNet).
//!
//! | name | parameters | multiply-adds at 3×224×224 |
//! | --- | --- | --- |
//! | `squeezenet1_0` | 1,248,424 | 818,924,576 |
//! | `squeezenet1_1` | 1,235,496 | 349,151,936 |
//!
//! A fire module squeezes the channels by a 1×1 convolution and expands them by one of 1×1 and one of 3×3, whose channels it
//! joins. There are no dense layers: the last convolution gives a map for each class, whose mean is the result. Names, and
//! weights at the start, are torchvision's.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Conv2d, InitRule, Op};

const FAMILY: Family = Family {
    name: "SqueezeNet",
    paper: "Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, arXiv:1602.07360",
    input: [3, 224, 224],
    classes: 1000,
};

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("squeezenet1_0", "8 fire modules, the first kernels 7x7", 1_248_424, |m, o| squeezenet(m, o, (96, 7), [2, 6, 11])),
    FAMILY.row("squeezenet1_1", "8 fire modules, pooled earlier, the first kernels 3x3", 1_235_496, |m, o| squeezenet(m, o, (64, 3), [2, 5, 8])),
];

/// Channels of the fire modules: squeezed, and of each of the two expansions.
const FIRES: [(usize, usize); 8] =
    [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)];

/// `stem`: channels and kernel of the first convolution; `pools`: numbers of the layers that are poolings.
fn squeezenet(model: &Model, options: &ZooOptions, (stem, kernel): (usize, usize), pools: [usize; 3]) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut features = root.below("features");
    let first = conv(stem, Window::square(kernel).stride(2));
    let mut x = features.chain(INPUT, [(0, first), (1, Op::RELU)])?;
    let mut fires = FIRES.into_iter();
    for layer in 2..2 + FIRES.len() + pools.len() {
        let pool = max_pool(Window { ceil_mode: true, ..Window::square(3).stride(2) });
        x = match pools.contains(&layer) {
            true => features.chain(x, [(layer, pool)])?,
            false => fire(features.below(layer), x, fires.next().expect("the other layers are fire modules"))?,
        };
    }
    let init = [InitRule::Normal(0.01), InitRule::Constant(0.0)];
    let last = Conv2d { init, ..Conv2d::new(model.classes_or(options), Window::square(1)) };
    let layers = [dropout(options.dropout_or(0.5)), Op::Conv2d(last), Op::RELU, adaptive_avg_pool(1)];
    let x = root.below("classifier").chain(x, (0..).zip(layers))?;
    root.chain(x, [("flatten", Op::Flatten)])?;
    Ok(net)
}

fn fire(mut at: Path, x: NodeId, (squeezed, expanded): (usize, usize)) -> Result<NodeId> {
    let narrow = Window::square(1);
    let x = at.chain(x, [("squeeze", conv(squeezed, narrow)), ("squeeze_activation", Op::RELU)])?;
    let one = at.chain(x, [("expand1x1", conv(expanded, narrow)), ("expand1x1_activation", Op::RELU)])?;
    let wide = conv(expanded, Window::square(3).padding(1));
    let three = at.chain(x, [("expand3x3", wide), ("expand3x3_activation", Op::RELU)])?;
    at.join("concat", Op::Concat, &[one, three])
}

fn conv(channels: usize, window: Window) -> Op {
    let init = [InitRule::KaimingUniform, InitRule::Constant(0.0)];
    Op::Conv2d(Conv2d { init, ..Conv2d::new(channels, window) })
}
