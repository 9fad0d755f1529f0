//! Features and gradients at taps against the reference in f64, and against differences.

use super::nets::{nets, of_every_activation, of_every_operation, random_net};
use super::{FLOOR, ROUNDING, engines, largest_error, numbers, size, state};
use crate::exec::reference::{Mode, Reference, Values};
use crate::exec::{Engine, Inference, Precision};
use crate::geometry::Window;
use crate::net::{Net, NodeId};
use crate::ops::{Activation, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, Op, Shape};
use convnet_kernels::random;
use convnet_kernels::simd::Isa;

const BATCH: usize = 3;

/// A net's pictures, a gradient by its output, and what the reference finds with them in a precision.
struct Case {
    images: Vec<f32>,
    by_output: Vec<f32>,
    want: Values<f64>,
    /// What rounding in f32 makes of it.
    naive: Values<f32>,
}

impl Case {
    fn new(net: &Net) -> Case {
        let images = numbers(1, BATCH * net.input_shape().elements());
        let by_output = numbers(2, BATCH * net.output_shape().elements());
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let state = state(net);
        let want = Reference::<f64>::from_state(net, &state).unwrap();
        let want = want.values(&wide(&images), &wide(&by_output), Mode::Inference).unwrap();
        let naive = Reference::<f32>::from_state(net, &state).unwrap();
        let naive = naive.values(&images, &by_output, Mode::Inference).unwrap();
        Case { images, by_output, want, naive }
    }
}

/// Within a share of the largest number, or as near as a naive run in f32.
fn assert_like(what: &str, got: &[f32], want: &[f64], naive: &[f32], tolerance: f64) {
    let error = largest_error(got, want);
    let allowed = (tolerance * size(want).max(FLOOR)).max(ROUNDING * largest_error(naive, want));
    assert!(error < allowed, "{what}: off by {error:.2e} of {:.2e}", size(want));
}

/// Some nodes of a net, by their names.
fn some_nodes(net: &Net, seed: u64, among: impl Fn(usize) -> bool) -> Vec<String> {
    let found: Vec<usize> = (0..net.nodes().len()).filter(|&node| among(node)).collect();
    let pick = |k: u64| found[(random::mix(seed, k) >> 33) as usize % found.len()];
    let mut names: Vec<String> = (0..4).map(|k| net.nodes()[pick(k)].name.clone()).collect();
    names.push("input".into());
    names
}

fn check_features(net: &Net, engine: &Engine, seed: u64) {
    let (case, state) = (Case::new(net), state(net));
    let taps = some_nodes(net, seed, |_| true);
    let builder = Inference::builder(net, &state).batch(BATCH + 1).taps(&taps[..]);
    let any = |node: usize| 1 + (random::mix(seed, node as u64) >> 33) as usize % BATCH;
    let mut inference = match seed % 2 {
        0 => builder.build(engine).unwrap(),
        _ => builder.in_tiles(engine, |net| (0..net.nodes().len()).map(any).collect()).unwrap(),
    };
    let output = inference.run(&case.images, BATCH).unwrap();
    let last = net.output().index();
    let tolerance = if engine.precision() == Precision::Bf16 { 0.05 } else { 1e-4 };
    let what = format!("{} {} {:?}", net.name(), engine.isa(), engine.precision());
    assert_like(&what, output, &case.want.outputs[last], &case.naive.outputs[last], tolerance);
    for name in &taps {
        let node = net.find(name).unwrap();
        let (shape, found) = inference.feature(name).unwrap();
        assert_eq!(shape, net.node(node).shape);
        let (want, naive) = (&case.want.outputs[node.index()], &case.naive.outputs[node.index()]);
        assert_like(&format!("{what} {name}"), found, want, naive, tolerance);
    }
}

fn check_gradients(net: &Net, engine: &Engine, seed: u64) {
    let (case, state) = (Case::new(net), state(net));
    let reached = net.needed(false);
    let taps = some_nodes(net, seed, |node| reached[node]);
    let reaches = |name: &&String| reached[net.find(name).unwrap().index()];
    let taps: Vec<&String> = taps.iter().filter(reaches).collect();
    let builder = Inference::builder(net, &state).batch(BATCH + 1).taps(taps.iter().map(|name| name.as_str()));
    let mut session = builder.build_gradients(engine).unwrap();
    // A second pass does not see what the first one left.
    for _ in 0..2 {
        session.forward(&case.images, BATCH).unwrap();
        session.backward(&case.by_output).unwrap();
    }
    for name in taps {
        let node = net.find(name).unwrap().index();
        let what = format!("{} {} {name}", net.name(), engine.isa());
        let (_, found) = session.feature(name).unwrap();
        assert_like(&what, found, &case.want.outputs[node], &case.naive.outputs[node], 1e-4);
        let (shape, found) = session.gradient(name).unwrap();
        assert_eq!(shape, net.nodes()[node].shape);
        assert_like(&format!("by {what}"), found, &case.want.gradients[node], &case.naive.gradients[node], 1e-3);
    }
}

#[test]
fn any_node_of_any_net_can_be_tapped() {
    let engine = Engine::with_isa(2, Isa::best()).unwrap();
    for seed in 0..60 {
        let net = random_net(seed);
        check_features(&net, &engine, seed);
        check_gradients(&net, &engine, seed);
    }
    let coarse = engine.with_precision(Precision::Bf16);
    (0..10).for_each(|seed| check_features(&random_net(seed), &coarse, seed));
}

#[test]
fn taps_are_right_on_every_set_and_beside_every_operation() {
    for engine in engines() {
        for (seed, net) in nets().iter().enumerate() {
            check_features(net, &engine, seed as u64);
            check_gradients(net, &engine, seed as u64);
        }
    }
    let engine = Engine::with_isa(2, Isa::best()).unwrap();
    for (seed, net) in of_every_operation().iter().chain(&of_every_activation()).enumerate() {
        check_features(net, &engine, seed as u64);
        check_gradients(net, &engine, seed as u64);
    }
}

/// Smooth, with norms that are folded, one that is not, dropout and a pooling of means.
fn smooth() -> Net {
    let mut net = Net::new("smooth", Shape::Map([3, 8, 7])).unwrap();
    net.then("norm", BatchNorm2d::default()).unwrap();
    net.then("conv", Conv2d::new(20, Window::square(3).padding(1))).unwrap();
    net.then("bn", BatchNorm2d::default()).unwrap();
    net.then("silu", Activation::Silu).unwrap();
    net.then("drop", Op::Dropout(Dropout { p: 0.5 })).unwrap();
    net.then("pool", crate::ops::AvgPool2d { window: Window::square(2).stride(2), count_include_pad: true }).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Linear::new(4)).unwrap();
    net
}

#[test]
fn the_gradient_by_the_input_is_what_differences_say() {
    let (net, engine) = (smooth(), Engine::with_isa(1, Isa::best()).unwrap());
    let state = state(&net);
    let images = numbers(1, net.input_shape().elements());
    let class = 2;
    let mut session = Inference::builder(&net, &state).taps(["input"]).build_gradients(&engine).unwrap();
    session.forward(&images, 1).unwrap();
    session.backward(&[0.0, 0.0, 1.0, 0.0]).unwrap();
    let (_, gradient) = session.gradient("input").unwrap();
    let reference = Reference::<f64>::from_state(&net, &state).unwrap();
    let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
    for (pixel, &found) in gradient.iter().enumerate() {
        let logit = |change: f64| {
            let mut moved = wide.clone();
            moved[pixel] += change;
            reference.forward(&moved, Mode::Inference).unwrap()[class]
        };
        let want = (logit(1e-5) - logit(-1e-5)) / 2e-5;
        assert!((f64::from(found) - want).abs() < 1e-5, "pixel {pixel}: {found} {want}");
    }
}

#[test]
fn each_part_of_a_fused_stem_can_be_tapped() {
    let mut net = Net::new("stem", Shape::Map([3, 16, 16])).unwrap();
    net.then("conv", Conv2d::new(32, Window::square(3).padding(1))).unwrap();
    net.then("bn", BatchNorm2d::default()).unwrap();
    net.then("relu", Op::RELU).unwrap();
    net.then("pool", Op::MaxPool2d(MaxPool2d { window: Window::square(2).stride(2) })).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Linear::new(4)).unwrap();
    let (case, state) = (Case::new(&net), state(&net));
    for engine in engines() {
        for tap in ["input", "conv", "bn", "relu", "pool", "flatten", "head"] {
            let node = net.find(tap).unwrap().index();
            let mut inference = Inference::builder(&net, &state).batch(BATCH).taps([tap]).build(&engine).unwrap();
            inference.run(&case.images, BATCH).unwrap();
            let (want, naive) = (&case.want, &case.naive);
            let (_, found) = inference.feature(tap).unwrap();
            assert_like(tap, found, &want.outputs[node], &naive.outputs[node], 1e-4);
            let builder = Inference::builder(&net, &state).batch(BATCH).taps([tap]);
            let mut session = builder.build_gradients(&engine).unwrap();
            session.forward(&case.images, BATCH).unwrap();
            session.backward(&case.by_output).unwrap();
            let (_, found) = session.gradient(tap).unwrap();
            assert_like(tap, found, &want.gradients[node], &naive.gradients[node], 1e-3);
        }
    }
}

#[test]
fn taps_that_cannot_be_are_refused() {
    let (net, engine) = (smooth(), Engine::with_isa(1, Isa::PORTABLE).unwrap());
    let state = state(&net);
    let builder = || Inference::builder(&net, &state);
    let problem = |result: crate::Result<Inference>| result.unwrap_err().to_string();
    assert!(problem(builder().taps(["silo"]).build(&engine)).ends_with("no layer 'silo': did you mean 'silu'?"));
    let inference = builder().taps(["silu"]).build(&engine).unwrap();
    assert!(matches!(inference.feature("bn"), Err(crate::Error::Unknown { what: "tap", .. })));
    assert_eq!(inference.feature("silu").unwrap(), (Shape::Map([20, 8, 7]), &[][..]), "before the first run");
    assert!(builder().build_gradients(&engine).unwrap_err().to_string().contains("expected a tap"));
    let mut session = builder().taps(["silu"]).build_gradients(&engine).unwrap();
    assert!(session.backward(&[0.0; 4]).is_err() && session.gradient("silu").is_err());
    session.forward(&[0.5; 168], 1).unwrap();
    assert!(session.backward(&[0.0; 3]).unwrap_err().to_string().contains("expected 4"));
    session.backward(&[0.0; 4]).unwrap();
    assert!(session.gradient("silu").is_ok() && session.backward(&[0.0; 4]).is_err());
    let mut side = net.clone();
    side.add("aside", Op::RELU, &[NodeId(2)]).unwrap();
    side.add("last", Linear::new(2), &[net.output()]).unwrap();
    let state = super::state(&side);
    let refused = Inference::builder(&side, &state).taps(["aside"]).build_gradients(&engine).unwrap_err().to_string();
    assert!(refused.starts_with("layer 'aside' (relu): the output does not depend"), "{refused}");
    let mut inference = Inference::builder(&side, &state).taps(["aside"]).build(&engine).unwrap();
    inference.run(&[0.5; 168], 1).unwrap();
    assert!(inference.feature("aside").unwrap().1.iter().any(|&x| x > 0.0));
}
