//! Small nets with the shapes of the families, for tests.

use super::{Net, NodeId};
use crate::geometry::Window;
use crate::ops::{AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, Linear, MaxPool2d, Op, Shape};

pub(super) fn conv(channels: usize, window: Window) -> Op {
    Op::Conv2d(Conv2d { bias: false, ..Conv2d::new(channels, window) })
}

pub(super) fn norm() -> Op {
    Op::BatchNorm2d(BatchNorm2d::default())
}

fn max_pool(window: Window) -> Op {
    Op::MaxPool2d(MaxPool2d { window })
}

/// Convolution, batch norm and ReLU under the name of a path.
fn conv_norm_relu(net: &mut Net, name: &str, from: NodeId, channels: usize, window: Window) -> NodeId {
    net.add(&format!("{name}.conv"), conv(channels, window), &[from]).unwrap();
    net.then(&format!("{name}.bn"), norm()).unwrap();
    net.then(&format!("{name}.relu"), Op::RELU).unwrap()
}

fn classifier(net: &mut Net) {
    net.then("avgpool", Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [1, 1] })).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("fc", Op::Linear(Linear::new(10))).unwrap();
}

/// Residual blocks as torchvision names them, two to a layer; the first of every layer but the first has a projection.
pub(super) fn residual(layers: usize) -> Net {
    let mut net = Net::new("residual", Shape::Map([3, 64, 64])).unwrap();
    net.then("conv1", conv(64, Window::square(7).stride(2).padding(3))).unwrap();
    net.then("bn1", norm()).unwrap();
    net.then("relu", Op::RELU).unwrap();
    let mut last = net.then("maxpool", max_pool(Window::square(3).stride(2).padding(1))).unwrap();
    for (layer, block) in (0..layers).flat_map(|layer| [(layer, 0), (layer, 1)]) {
        let path = format!("layer{}.{block}", layer + 1);
        let (channels, stride) = (64 << layer, if layer > 0 && block == 0 { 2 } else { 1 });
        net.add(&format!("{path}.conv1"), conv(channels, Window::square(3).stride(stride).padding(1)), &[last])
            .unwrap();
        net.then(&format!("{path}.bn1"), norm()).unwrap();
        net.then(&format!("{path}.relu1"), Op::RELU).unwrap();
        net.then(&format!("{path}.conv2"), conv(channels, Window::square(3).padding(1))).unwrap();
        let main = net.then(&format!("{path}.bn2"), norm()).unwrap();
        if stride == 2 {
            net.add(&format!("{path}.downsample.0"), conv(channels, Window::square(1).stride(2)), &[last]).unwrap();
            last = net.then(&format!("{path}.downsample.1"), norm()).unwrap();
        }
        net.add(&format!("{path}.add"), Op::Add, &[main, last]).unwrap();
        last = net.then(&format!("{path}.relu2"), Op::RELU).unwrap();
    }
    classifier(&mut net);
    net
}

/// The first inception block of GoogLeNet, with an auxiliary output after it.
pub(super) fn inception() -> Net {
    let mut net = Net::new("inception", Shape::Map([192, 28, 28])).unwrap();
    let stem = conv_norm_relu(&mut net, "stem", NodeId(0), 192, Window::square(3).padding(1));
    let path = |branch: &str| format!("inception3a.{branch}");
    let one = conv_norm_relu(&mut net, &path("branch1"), stem, 64, Window::square(1));
    let reduced = conv_norm_relu(&mut net, &path("branch2.0"), stem, 96, Window::square(1));
    let two = conv_norm_relu(&mut net, &path("branch2.1"), reduced, 128, Window::square(3).padding(1));
    let reduced = conv_norm_relu(&mut net, &path("branch3.0"), stem, 16, Window::square(1));
    let three = conv_norm_relu(&mut net, &path("branch3.1"), reduced, 32, Window::square(3).padding(1));
    let pooled = net.add(&path("branch4.0"), max_pool(Window::square(3).padding(1)), &[stem]).unwrap();
    let four = conv_norm_relu(&mut net, &path("branch4.1"), pooled, 32, Window::square(1));
    let joined = net.add(&path("concat"), Op::Concat, &[one, two, three, four]).unwrap();
    net.add("aux.avgpool", Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [4, 4] }), &[joined]).unwrap();
    net.then("aux.flatten", Op::Flatten).unwrap();
    let aux = net.then("aux.fc", Op::Linear(Linear::new(10))).unwrap();
    net.add("maxpool", max_pool(Window::square(3).stride(2)), &[joined]).unwrap();
    classifier(&mut net);
    net.add_auxiliary(aux, 0.3).unwrap();
    net
}

/// A dense block of some layers with growth 32, each reading all that there is, and a transition.
pub(super) fn dense(layers: usize) -> Net {
    let mut net = Net::new("dense", Shape::Map([3, 56, 56])).unwrap();
    let mut features = vec![net.then("features.conv0", conv(64, Window::square(3).padding(1))).unwrap()];
    for layer in 1..=layers {
        let path = format!("features.denseblock1.denselayer{layer}");
        let from = match features[..] {
            [only] => only,
            _ => net.add(&format!("{path}.concat"), Op::Concat, &features).unwrap(),
        };
        net.add(&format!("{path}.norm1"), norm(), &[from]).unwrap();
        net.then(&format!("{path}.relu1"), Op::RELU).unwrap();
        net.then(&format!("{path}.conv1"), conv(128, Window::square(1))).unwrap();
        net.then(&format!("{path}.norm2"), norm()).unwrap();
        net.then(&format!("{path}.relu2"), Op::RELU).unwrap();
        features.push(net.then(&format!("{path}.conv2"), conv(32, Window::square(3).padding(1))).unwrap());
    }
    let channels = 64 + 32 * layers;
    net.add("features.denseblock1.concat", Op::Concat, &features).unwrap();
    net.then("features.transition1.norm", norm()).unwrap();
    net.then("features.transition1.relu", Op::RELU).unwrap();
    net.then("features.transition1.conv", conv(channels / 2, Window::square(1))).unwrap();
    let window = Window::square(2).stride(2);
    net.then("features.transition1.pool", Op::AvgPool2d(AvgPool2d { window, count_include_pad: true })).unwrap();
    classifier(&mut net);
    net
}
