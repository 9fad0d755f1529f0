//! GoogLeNet: Szegedy et al. 2015, "Going deeper with convolutions", arXiv:1409.4842, table 1.
//!
//! | name | parameters | with auxiliary heads | multiply-adds at 3×224×224 |
//! | --- | --- | --- | --- |
//! | `googlenet` | 6,624,904 | 13,004,888 | 1,498,376,192 |
//! | `googlenet_v1` | 6,998,552 | 13,378,280 | 1,582,671,872 |
//!
//! `googlenet` is torchvision's, with its names. It differs from the paper: batch norm (eps 1e-3) in place of biases and
//! local response norm; the 5×5 branch is 3×3 (a mistake that the published weights keep); the last pooling is 2×2;
//! dropout is 0.2, not 0.4; the heads pool adaptively to 4×4. Its published weights also expect pictures normalised with
//! mean and deviation 0.5 (`transform_input`), not with ImageNet's. `googlenet_v1` is the paper's, under the same names.
//!
//! Pooling rounds up. Two auxiliary heads, whose losses count 0.3 each, exist for training; inference leaves them out.
//! Weights start as in torchvision, normal with deviation 0.01; the paper does not say, and without batch norm that is too
//! little for so many layers, so `googlenet_v1` starts as He et al. 2015.

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{AvgPool2d, BatchNorm2d, Conv2d, InitRule, Linear, LocalResponseNorm, Op};

pub(super) const FAMILY: Family = Family {
    name: "GoogLeNet",
    paper: "Szegedy et al. 2015, Going deeper with convolutions, arXiv:1409.4842",
    input: [3, 224, 224],
    classes: 1000,
};

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("googlenet", "as torchvision has it, with batch norm", 6_624_904, |m, o| googlenet(m, o, Form::Torchvision)),
    FAMILY.row("googlenet_v1", "the paper's, with local response norm", 6_998_552, |m, o| googlenet(m, o, Form::Paper)),
];

/// One of the layers between stem and head.
enum Layer {
    /// Channels of the branches: 1×1; 1×1 before 3×3, 3×3; 1×1 before 5×5, 5×5; 1×1 after pooling.
    Inception(&'static str, [usize; 6]),
    /// Maximum pooling at stride 2, and the side of torchvision's window; the paper's is always 3.
    Pool(&'static str, usize),
    /// A head for training alone.
    Auxiliary(&'static str),
}

const LAYERS: [Layer; 13] = [
    Layer::Inception("inception3a", [64, 96, 128, 16, 32, 32]),
    Layer::Inception("inception3b", [128, 128, 192, 32, 96, 64]),
    Layer::Pool("maxpool3", 3),
    Layer::Inception("inception4a", [192, 96, 208, 16, 48, 64]),
    Layer::Auxiliary("aux1"),
    Layer::Inception("inception4b", [160, 112, 224, 24, 64, 64]),
    Layer::Inception("inception4c", [128, 128, 256, 24, 64, 64]),
    Layer::Inception("inception4d", [112, 144, 288, 32, 64, 64]),
    Layer::Auxiliary("aux2"),
    Layer::Inception("inception4e", [256, 160, 320, 32, 128, 128]),
    Layer::Pool("maxpool4", 2),
    Layer::Inception("inception5a", [256, 160, 320, 32, 128, 128]),
    Layer::Inception("inception5b", [384, 192, 384, 48, 128, 128]),
];

/// Factor of each auxiliary loss (the paper's section 5).
const AUXILIARY_WEIGHT: f32 = 0.3;

fn googlenet(model: &Model, options: &ZooOptions, form: Form) -> Result<Net> {
    let classes = model.classes_or(options);
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let mut x = form.stem(&mut root)?;
    for layer in LAYERS {
        match layer {
            Layer::Inception(name, channels) => x = form.inception(root.below(name), x, channels)?,
            Layer::Pool(name, _) if form == Form::Paper => x = root.chain(x, [(name, pool(3))])?,
            Layer::Pool(name, kernel) => x = root.chain(x, [(name, pool(kernel))])?,
            Layer::Auxiliary(_) if !options.auxiliaries.unwrap_or(true) => {}
            Layer::Auxiliary(name) => {
                let head = form.auxiliary(root.below(name), x, classes, options.dropout_or(0.7))?;
                root.auxiliary(head, AUXILIARY_WEIGHT)?;
            }
        }
    }
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Op::Flatten),
        ("dropout", dropout(options.dropout_or(if form == Form::Paper { 0.4 } else { 0.2 }))),
        ("fc", form.linear(classes)),
    ];
    root.chain(x, head)?;
    Ok(net)
}

/// Whose form of the network.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Torchvision,
    Paper,
}

impl Form {
    fn stem(self, root: &mut Path) -> Result<NodeId> {
        let x = self.unit(root, INPUT, "conv1", 64, Window::square(7).stride(2).padding(3))?;
        let x = root.chain(x, [("maxpool1", pool(3))].into_iter().chain(self.response_norm("norm1")))?;
        let x = self.unit(root, x, "conv2", 64, Window::square(1))?;
        let x = self.unit(root, x, "conv3", 192, Window::square(3).padding(1))?;
        root.chain(x, self.response_norm("norm2").into_iter().chain([("maxpool2", pool(3))]))
    }

    /// Four branches, whose channels are joined.
    fn inception(self, mut at: Path, x: NodeId, channels: [usize; 6]) -> Result<NodeId> {
        let [one, before_three, three, before_five, five, after_pool] = channels;
        let (conv1x1, conv3x3) = (Window::square(1), Window::square(3).padding(1));
        let conv5x5 = match self {
            Form::Torchvision => conv3x3,
            Form::Paper => Window::square(5).padding(2),
        };
        let branch1 = self.unit(&mut at, x, "branch1", one, conv1x1)?;
        let branch2 = self.unit(&mut at, x, "branch2.0", before_three, conv1x1)?;
        let branch2 = self.unit(&mut at, branch2, "branch2.1", three, conv3x3)?;
        let branch3 = self.unit(&mut at, x, "branch3.0", before_five, conv1x1)?;
        let branch3 = self.unit(&mut at, branch3, "branch3.1", five, conv5x5)?;
        let branch4 = at.chain(x, [("branch4.0", max_pool(Window::square(3).padding(1)))])?;
        let branch4 = self.unit(&mut at, branch4, "branch4.1", after_pool, conv1x1)?;
        at.join("concat", Op::Concat, &[branch1, branch2, branch3, branch4])
    }

    fn auxiliary(self, mut at: Path, x: NodeId, classes: usize, p: f32) -> Result<NodeId> {
        let pool = match self {
            Form::Torchvision => adaptive_avg_pool(4),
            Form::Paper => Op::AvgPool2d(AvgPool2d { window: Window::square(5).stride(3), count_include_pad: false }),
        };
        let x = at.chain(x, [("avgpool", pool)])?;
        let x = self.unit(&mut at, x, "conv", 128, Window::square(1))?;
        let head = [
            ("flatten", Op::Flatten),
            ("fc1", self.linear(1024)),
            ("relu", Op::RELU),
            ("dropout", dropout(p)),
            ("fc2", self.linear(classes)),
        ];
        at.chain(x, head)
    }

    /// Convolution, batch norm where there is one, ReLU.
    fn unit(self, at: &mut Path, x: NodeId, name: &str, channels: usize, window: Window) -> Result<NodeId> {
        let conv = Conv2d::new(channels, window);
        let (conv, norm) = match self {
            Form::Torchvision => {
                let init = [InitRule::Normal(0.01), InitRule::Constant(0.0)];
                let norm = BatchNorm2d { eps: 1e-3, ..BatchNorm2d::default() };
                (Conv2d { bias: false, init, ..conv }, Some(("bn", Op::BatchNorm2d(norm))))
            }
            Form::Paper => (conv, None),
        };
        at.below(name).chain(x, [("conv", Op::Conv2d(conv))].into_iter().chain(norm).chain([("relu", Op::RELU)]))
    }

    fn linear(self, features: usize) -> Op {
        let init = match self {
            Form::Torchvision => [InitRule::Normal(0.01), InitRule::Uniform],
            Form::Paper => InitRule::KAIMING,
        };
        Op::Linear(Linear { init, ..Linear::new(features) })
    }

    fn response_norm(self, name: &'static str) -> Option<(&'static str, Op)> {
        (self == Form::Paper).then_some((name, Op::LocalResponseNorm(LocalResponseNorm::new(5))))
    }
}

/// Pooling at stride 2 that rounds up.
fn pool(kernel: usize) -> Op {
    max_pool(Window { ceil_mode: true, ..Window::square(kernel).stride(2) })
}
