//! ResNet for CIFAR, and the plain nets beside it: He, Zhang, Ren and Sun 2016, arXiv:1512.03385, section 4.2.
//!
//! | name | blocks of each stage | parameters | multiply-adds at 3×32×32 |
//! | --- | --- | --- | --- |
//! | `resnet20`, `plain20` | 3 | 269,722 | 40,551,040 |
//! | `resnet32`, `plain32` | 5 | 464,154 | 68,862,592 |
//! | `resnet44`, `plain44` | 7 | 658,586 | 97,174,144 |
//! | `resnet56`, `plain56` | 9 | 853,018 | 125,485,696 |
//! | `resnet110` | 18 | 1,727,962 | 252,887,680 |
//!
//! A 3×3 convolution, three stages of basic blocks with 16, 32 and 64 channels, mean pooling, one dense layer. Shortcuts
//! are the paper's option A unless asked for otherwise ([`Shortcut`]); plain nets have none, and the same parameters.
//! Names are those of the common PyTorch checkpoints (akamaster's resnet20 and its like). Weights start as He et al. 2015.
//! The paper counts two layers fewer than options B and C have. There is no dropout unless asked for; it then comes before
//! the dense layer.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::path::{INPUT, Path, adaptive_avg_pool, dropout, max_pool, norm};
use super::{Family, Model, ZooOptions};
use crate::Result;
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Conv2d, Linear, Op, PadChannels};

pub(super) const FAMILY: Family = Family {
    name: "ResNet for CIFAR",
    paper: "He, Zhang, Ren and Sun 2016, Deep residual learning for image recognition, arXiv:1512.03385",
    input: [3, 32, 32],
    classes: 10,
};
const PLAIN: Family = Family { name: "Plain nets for CIFAR", ..FAMILY };

#[rustfmt::skip]
pub(super) const MODELS: &[Model] = &[
    FAMILY.row("resnet20", "20 layers", 269_722, |m, o| resnet(m, o, 3)),
    FAMILY.row("resnet32", "32 layers", 464_154, |m, o| resnet(m, o, 5)),
    FAMILY.row("resnet44", "44 layers", 658_586, |m, o| resnet(m, o, 7)),
    FAMILY.row("resnet56", "56 layers", 853_018, |m, o| resnet(m, o, 9)),
    FAMILY.row("resnet110", "110 layers", 1_727_962, |m, o| resnet(m, o, 18)),
    PLAIN.row("plain20", "resnet20 without shortcuts", 269_722, |m, o| plain(m, o, 3)),
    PLAIN.row("plain32", "resnet32 without shortcuts", 464_154, |m, o| plain(m, o, 5)),
    PLAIN.row("plain44", "resnet44 without shortcuts", 658_586, |m, o| plain(m, o, 7)),
    PLAIN.row("plain56", "resnet56 without shortcuts", 853_018, |m, o| plain(m, o, 9)),
];

/// What carries a block's input past it (the paper's section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shortcut {
    /// The identity; where shapes change, every second pixel and channels of zeros. No parameters.
    #[default]
    A,
    /// The identity; where shapes change, a 1×1 convolution with batch norm.
    B,
    /// A 1×1 convolution with batch norm in every block.
    C,
}

impl FromStr for Shortcut {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Shortcut, String> {
        match text {
            "a" | "A" => Ok(Shortcut::A),
            "b" | "B" => Ok(Shortcut::B),
            "c" | "C" => Ok(Shortcut::C),
            _ => Err("expected a, b or c".into()),
        }
    }
}

fn resnet(model: &Model, options: &ZooOptions, depth: usize) -> Result<Net> {
    build(model, options, depth, Some(options.shortcut.unwrap_or_default()))
}

fn plain(model: &Model, options: &ZooOptions, depth: usize) -> Result<Net> {
    build(model, options, depth, None)
}

/// `depth`: blocks of each stage.
fn build(model: &Model, options: &ZooOptions, depth: usize, shortcut: Option<Shortcut>) -> Result<Net> {
    let mut net = model.begin(options)?;
    let mut root = Path::root(&mut net);
    let stem = [("conv1", conv(16, Window::square(3).padding(1))), ("bn1", norm()), ("relu", Op::RELU)];
    let mut x = root.chain(INPUT, stem)?;
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for i in 0..depth {
            let stride = if stage > 0 && i == 0 { 2 } else { 1 };
            x = block(root.below(format!("layer{}.{i}", stage + 1)), x, channels, stride, shortcut)?;
        }
    }
    let head = [
        ("avgpool", adaptive_avg_pool(1)),
        ("flatten", Op::Flatten),
        ("dropout", dropout(options.dropout_or(0.0))),
        ("linear", Op::Linear(Linear::new(model.classes_or(options)))),
    ];
    root.chain(x, head)?;
    Ok(net)
}

fn block(mut at: Path, x: NodeId, channels: usize, stride: usize, shortcut: Option<Shortcut>) -> Result<NodeId> {
    let branch = [
        ("conv1", conv(channels, Window::square(3).stride(stride).padding(1))),
        ("bn1", norm()),
        ("relu1", Op::RELU),
        ("conv2", conv(channels, Window::square(3).padding(1))),
        ("bn2", norm()),
    ];
    let mut y = at.chain(x, branch)?;
    if let Some(shortcut) = shortcut {
        let x = past(at.below("shortcut"), x, channels, stride, shortcut)?;
        y = at.join("add", Op::Add, &[y, x])?;
    }
    at.chain(y, [("relu", Op::RELU)])
}

/// The block's input in the shape of its output.
fn past(mut at: Path, x: NodeId, channels: usize, stride: usize, shortcut: Shortcut) -> Result<NodeId> {
    let missing = channels - at.channels(x);
    let project = [("0", conv(channels, Window::square(1).stride(stride))), ("1", norm())];
    let every_second = max_pool(Window::square(1).stride(stride));
    let pad = Op::PadChannels(PadChannels { before: missing / 2, after: missing - missing / 2 });
    match shortcut {
        Shortcut::C => at.chain(x, project),
        Shortcut::A | Shortcut::B if stride == 1 => Ok(x),
        Shortcut::A => at.chain(x, [("subsample", every_second), ("pad", pad)]),
        Shortcut::B => at.chain(x, project),
    }
}

fn conv(channels: usize, window: Window) -> Op {
    Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(channels, window) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::by_name;

    fn resnet20(shortcut: Shortcut) -> Net {
        by_name("resnet20", &ZooOptions { shortcut: Some(shortcut), ..ZooOptions::default() }).unwrap()
    }

    /// Names of the weights, without `.weight`.
    fn weights(net: &Net) -> Vec<String> {
        net.parameters().into_iter().filter_map(|(name, ..)| name.strip_suffix(".weight").map(str::to_owned)).collect()
    }

    #[test]
    fn names_are_those_of_common_checkpoints() {
        let expected = "conv1 bn1 layer1.0.conv1 layer1.0.bn1 layer1.0.conv2 layer1.0.bn2";
        let names = weights(&resnet20(Shortcut::A));
        assert_eq!(names[..6].join(" "), expected);
        assert_eq!(names.last().unwrap(), "linear");
        assert_eq!(names.len(), 2 + 3 * 3 * 4 + 1);
        let projected = |shortcut| {
            let names = weights(&resnet20(shortcut));
            names.into_iter().filter_map(|name| name.strip_suffix(".shortcut.0").map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(projected(Shortcut::B), ["layer2.0", "layer3.0"]);
        assert_eq!(projected(Shortcut::C).len(), 9);
    }

    #[test]
    fn options_cost_what_the_paper_says() {
        let b = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64;
        let c = 3 * (16 * 16 + 2 * 16) + 2 * (32 * 32 + 2 * 32) + 2 * (64 * 64 + 2 * 64);
        assert_eq!(resnet20(Shortcut::A).parameter_count(), 269_722);
        assert_eq!(resnet20(Shortcut::B).parameter_count(), 269_722 + b);
        assert_eq!(resnet20(Shortcut::C).parameter_count(), 269_722 + b + c);
    }

    #[test]
    fn plain_nets_add_nothing() {
        let plain = by_name("plain20", &ZooOptions::default()).unwrap();
        assert!(plain.nodes().iter().all(|node| node.op != Op::Add && node.inputs.len() <= 1));
        assert_eq!(weights(&plain), weights(&resnet20(Shortcut::A)));
    }
}
