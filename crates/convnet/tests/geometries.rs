//! The list of layers that the kernels' benchmarks measure (`crates/kernels/benches/kernels/geometries.txt`) is what the
//! zoo has.

use std::fmt::Write;
use std::path::Path;

use convnet::geometry::{Padding, Window};
use convnet::net::Net;
use convnet::ops::{Op, Shape};
use convnet::zoo::{ZooOptions, by_name};

/// Those that `bench/peers` measures.
const NETS: [&str; 8] = ["cnn", "resnet20", "alexnet", "vgg16", "googlenet", "resnet18", "resnet50", "densenet121"];

const HEAD: &str = "\
# The layers of some of the zoo's nets, checked by crates/convnet/tests/geometries.rs: channels (or features) read and
# written, side of the picture, kernel, stride and padding as far as the kind has them, and the nets.
";

const KINDS: [&str; 6] = ["conv", "linear", "norm", "max", "max-ceil", "avg"];

/// A layer's kind and numbers, where the benchmarks have its kind.
fn layer(net: &Net, index: usize) -> Option<(&'static str, Vec<usize>)> {
    let node = &net.nodes()[index];
    let input = node.inputs.first().map(|input| net.node(*input).shape)?;
    let (kind, rest) = match &node.op {
        Op::Conv2d(conv) => ("conv", [vec![conv.out_channels, side(input)], window(&conv.window)].concat()),
        Op::Linear(linear) => ("linear", vec![linear.out_features]),
        Op::BatchNorm2d(_) => ("norm", vec![side(input)]),
        Op::MaxPool2d(pool) => {
            let kind = if pool.window.ceil_mode { "max-ceil" } else { "max" };
            (kind, [vec![side(input)], window(&pool.window)].concat())
        }
        Op::AvgPool2d(pool) => ("avg", [vec![side(input)], window(&pool.window)].concat()),
        _ => return None,
    };
    let read = match input {
        Shape::Map([channels, ..]) => channels,
        Shape::Vector(features) => features,
    };
    Some((kind, [vec![read], rest].concat()))
}

fn side(shape: Shape) -> usize {
    let Shape::Map([_, height, width]) = shape else { panic!("expected a map, got {shape}") };
    assert_eq!(height, width);
    height
}

/// Kernel, stride and padding of a square window.
fn window(window: &Window) -> Vec<usize> {
    let Window { kernel: [kernel, _], stride: [stride, _], .. } = *window;
    let ([padding, _], _) = window.pads([224; 2]);
    let square = Window::square(kernel).stride(stride).padding(padding);
    let same = Window { ceil_mode: window.ceil_mode, padding: Padding::symmetric(padding), ..square };
    assert!(*window == same || window.padding == Padding::Same && stride == 1 && kernel % 2 == 1, "{window:?}");
    vec![kernel, stride, padding]
}

/// The file's text: layers of one kind together, in the order of the nets, equal ones once.
fn list() -> String {
    let mut layers: Vec<(&str, Vec<usize>, Vec<&str>)> = Vec::new();
    for name in NETS {
        let auxiliaries = (name == "googlenet").then_some(false);
        let net = by_name(name, &ZooOptions { auxiliaries, ..ZooOptions::default() }).unwrap();
        for (kind, numbers) in (0..net.nodes().len()).filter_map(|index| layer(&net, index)) {
            match layers.iter_mut().find(|layer| (layer.0, &layer.1) == (kind, &numbers)) {
                Some((.., nets)) if nets.contains(&name) => {}
                Some((.., nets)) => nets.push(name),
                None => layers.push((kind, numbers, vec![name])),
            }
        }
    }
    let mut text = HEAD.to_owned();
    for kind in KINDS {
        for (_, numbers, nets) in layers.iter().filter(|layer| layer.0 == kind) {
            let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
            writeln!(text, "{kind} {} {}", numbers.join(" "), nets.join(",")).unwrap();
        }
    }
    text
}

#[test]
fn the_benchmarks_list_is_what_the_zoo_has() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels/benches/kernels/geometries.txt");
    let (expected, found) = (list(), std::fs::read_to_string(&file).unwrap_or_default());
    if found != expected {
        let right = Path::new(env!("CARGO_TARGET_TMPDIR")).join("geometries.txt");
        std::fs::write(&right, expected).unwrap();
        panic!("{} is not what the zoo has: put {} in its place", file.display(), right.display());
    }
}
