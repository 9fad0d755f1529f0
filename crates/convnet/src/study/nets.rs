//! Networks of studies that have no name in the zoo. Each is for pictures of `[channels, height, width]` and so many classes;
//! their names are those of the variants.

use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, Op, Shape};
use crate::zoo::densenet;
use crate::{Error, Result};

/// Convolutions of [`deep`], and its channels.
const DEEP: usize = 8;
const DEEP_CHANNELS: usize = 16;

fn square(side: usize) -> Window {
    Window::square(side).padding(side / 2)
}

fn conv(channels: usize, side: usize) -> Op {
    Op::Conv2d(Conv2d::new(channels, square(side)))
}

fn halving() -> Op {
    Op::MaxPool2d(MaxPool2d { window: Window::square(2).stride(2) })
}

/// Eight 3×3 convolutions of 16 channels, each with batch norm or without and an activation, pooled after every second one, and
/// a linear layer. All weights start as He et al. 2015.
fn deep(name: &str, input: [usize; 3], classes: usize, activation: Activation, batch_norm: bool) -> Result<Net> {
    let mut net = Net::new(name, Shape::Map(input))?;
    for i in 1..=DEEP {
        net.then(&format!("conv{i}"), conv(DEEP_CHANNELS, 3))?;
        if batch_norm {
            net.then(&format!("bn{i}"), BatchNorm2d::default())?;
        }
        net.then(&format!("act{i}"), activation)?;
        if i % 2 == 0 && i < DEEP {
            net.then(&format!("pool{i}"), halving())?;
        }
    }
    net.then("flatten", Op::Flatten)?;
    net.then("linear", Linear::new(classes))?;
    Ok(net)
}

pub(super) fn relu(input: [usize; 3], classes: usize) -> Result<Net> {
    deep("relu", input, classes, Activation::Relu, false)
}

pub(super) fn tanh(input: [usize; 3], classes: usize) -> Result<Net> {
    deep("tanh", input, classes, Activation::Tanh, false)
}

pub(super) fn sigmoid(input: [usize; 3], classes: usize) -> Result<Net> {
    deep("sigmoid", input, classes, Activation::Sigmoid, false)
}

/// [`deep`] with ReLU and without batch norm.
pub(super) fn without_norm(input: [usize; 3], classes: usize) -> Result<Net> {
    deep("without", input, classes, Activation::Relu, false)
}

/// [`deep`] with ReLU and batch norm.
pub(super) fn with_norm(input: [usize; 3], classes: usize) -> Result<Net> {
    deep("with", input, classes, Activation::Relu, true)
}

/// Three 5×5 convolutions of 32, 32 and 64 channels, each with ReLU and pooling, and a linear layer: about the network for CIFAR of
/// Krizhevsky's cuda-convnet. Both poolings make n pixels n / 2, rounded up, so that the parameters are the same.
fn pooled(name: &str, input: [usize; 3], classes: usize, window: Window) -> Result<Net> {
    let mut net = Net::new(name, Shape::Map(input))?;
    for (i, channels) in (1..).zip([32, 32, 64]) {
        net.then(&format!("conv{i}"), conv(channels, 5))?;
        net.then(&format!("relu{i}"), Op::RELU)?;
        net.then(&format!("pool{i}"), MaxPool2d { window })?;
    }
    net.then("flatten", Op::Flatten)?;
    net.then("linear", Linear::new(classes))?;
    Ok(net)
}

pub(super) fn overlapping(input: [usize; 3], classes: usize) -> Result<Net> {
    pooled("overlapping", input, classes, Window::square(3).stride(2).padding(1))
}

pub(super) fn apart(input: [usize; 3], classes: usize) -> Result<Net> {
    pooled("apart", input, classes, Window { ceil_mode: true, ..Window::square(2).stride(2) })
}

/// Three convolutions with pooling, and two hidden linear layers of 256 features, each before dropout: AlexNet's form.
fn dropping(name: &str, input: [usize; 3], classes: usize, p: f32) -> Result<Net> {
    let mut net = Net::new(name, Shape::Map(input))?;
    for (i, channels) in (1..).zip([16, 32, 64]) {
        net.then(&format!("conv{i}"), conv(channels, 3))?;
        net.then(&format!("relu{i}"), Op::RELU)?;
        net.then(&format!("pool{i}"), halving())?;
    }
    net.then("flatten", Op::Flatten)?;
    for i in 1..=2 {
        net.then(&format!("linear{i}"), Linear::new(256))?;
        net.then(&format!("relu_linear{i}"), Op::RELU)?;
        if p > 0.0 {
            net.then(&format!("dropout{i}"), Op::Dropout(Dropout { p }))?;
        }
    }
    net.then("head", Linear::new(classes))?;
    Ok(net)
}

pub(super) fn no_dropout(input: [usize; 3], classes: usize) -> Result<Net> {
    dropping("none", input, classes, 0.0)
}

pub(super) fn dropout(input: [usize; 3], classes: usize) -> Result<Net> {
    dropping("dropout", input, classes, 0.5)
}

/// A 3×3 convolution to 32 channels and a pooling; then twice so many convolutions of a kernel and a pooling, which leave the 32
/// channels as they are; then a linear layer. A ReLU follows each convolution, as in VGG.
fn kernels(name: &str, input: [usize; 3], classes: usize, count: usize, side: usize) -> Result<Net> {
    const CHANNELS: usize = 32;
    let mut net = Net::new(name, Shape::Map(input))?;
    net.then("stem", conv(CHANNELS, 3))?;
    net.then("relu_stem", Op::RELU)?;
    net.then("pool_stem", halving())?;
    for stage in 1..=2 {
        for i in 1..=count {
            net.then(&format!("conv{stage}_{i}"), conv(CHANNELS, side))?;
            net.then(&format!("relu{stage}_{i}"), Op::RELU)?;
        }
        net.then(&format!("pool{stage}"), halving())?;
    }
    net.then("flatten", Op::Flatten)?;
    net.then("linear", Linear::new(classes))?;
    Ok(net)
}

pub(super) fn two_3x3(input: [usize; 3], classes: usize) -> Result<Net> {
    kernels("two-3x3", input, classes, 2, 3)
}

pub(super) fn one_5x5(input: [usize; 3], classes: usize) -> Result<Net> {
    kernels("one-5x5", input, classes, 1, 5)
}

/// A residual net of three stages, whose blocks are 1×1, 3×3 and 1×1 convolutions with 16, 32 and 64 channels inside and four times
/// as many outside (He et al. 2016, figure 5), with projected shortcuts where shapes change. With three blocks in a stage it
/// stands beside `resnet20`, whose blocks are two 3×3 convolutions: 17 w² multiply-adds at a pixel, or 18 w².
pub(super) fn bottleneck(input: [usize; 3], classes: usize) -> Result<Net> {
    let mut net = Net::new("bottleneck", Shape::Map(input))?;
    let bare = |channels, window| Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(channels, window) });
    let norm = || Op::BatchNorm2d(BatchNorm2d::default());
    net.then("conv1", bare(16, square(3)))?;
    net.then("bn1", norm())?;
    let mut x = net.then("relu", Op::RELU)?;
    for (stage, inner) in (1..).zip([16, 32, 64]) {
        for i in 0..3 {
            let stride = if stage > 1 && i == 0 { 2 } else { 1 };
            let at = |name: &str| format!("layer{stage}.{i}.{name}");
            let chain = |net: &mut Net, from: NodeId, layers: Vec<(&str, Op)>| {
                layers.into_iter().try_fold(from, |last, (name, op)| net.add(&at(name), op, &[last]))
            };
            let branch = vec![
                ("conv1", bare(inner, square(1))),
                ("bn1", norm()),
                ("relu1", Op::RELU),
                ("conv2", bare(inner, square(3).stride(stride))),
                ("bn2", norm()),
                ("relu2", Op::RELU),
                ("conv3", bare(4 * inner, square(1))),
                ("bn3", norm()),
            ];
            let y = chain(&mut net, x, branch)?;
            let past = match i {
                0 => {
                    let projection = bare(4 * inner, Window::square(1).stride(stride));
                    chain(&mut net, x, vec![("shortcut.0", projection), ("shortcut.1", norm())])?
                }
                _ => x,
            };
            let sum = net.add(&at("add"), Op::Add, &[y, past])?;
            x = net.add(&at("relu"), Op::RELU, &[sum])?;
        }
    }
    net.then("avgpool", AdaptiveAvgPool2d::new([1, 1]))?;
    net.then("flatten", Op::Flatten)?;
    net.then("linear", Linear::new(classes))?;
    Ok(net)
}

/// DenseNet-BC with three dense blocks of four layers.
fn dense(name: &str, input: [usize; 3], classes: usize, growth: usize) -> Result<Net> {
    densenet::of_growth(Net::new(name, Shape::Map(input))?, classes, growth, 4)
}

pub(super) fn growth_4(input: [usize; 3], classes: usize) -> Result<Net> {
    dense("k4", input, classes, 4)
}

pub(super) fn growth_8(input: [usize; 3], classes: usize) -> Result<Net> {
    dense("k8", input, classes, 8)
}

pub(super) fn growth_12(input: [usize; 3], classes: usize) -> Result<Net> {
    dense("k12", input, classes, 12)
}

/// Layers with weights that are multiplied, in running order: convolutions and linear layers.
pub(super) fn weighted(net: &Net) -> Vec<String> {
    let has_weights = |op: &Op| matches!(op, Op::Conv2d(_) | Op::Linear(_));
    net.nodes().iter().filter(|node| has_weights(&node.op)).map(|node| node.name.clone()).collect()
}

/// The smallest side of a picture that all of these can be built for.
pub(super) const SMALLEST: usize = 16;

/// Checks that a picture is large enough for the networks here.
///
/// # Errors
/// [`Error::Setting`] when it is not.
pub(super) fn check_size([_, height, width]: [usize; 3]) -> Result<()> {
    match height.min(width) >= SMALLEST {
        true => Ok(()),
        false => Err(Error::setting(
            "pictures of a study",
            format!("at least {SMALLEST}×{SMALLEST} pixels"),
            format!("{height}×{width}"),
        )),
    }
}
