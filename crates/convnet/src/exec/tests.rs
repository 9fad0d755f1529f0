//! The fast executors against the reference in f64, on every instruction set.

use super::reference::{Mode, Reference};
use super::{Engine, Inference, Training, Update};
use crate::geometry::{Padding, Window};
use crate::net::Net;
use crate::ops::{AvgPool2d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, Op, Shape};
use crate::{StateDict, weights, zoo};
use convnet_kernels::reference::gradcheck::pattern;
use convnet_kernels::simd::Isa;

const ADAM: Update = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false };

fn engines() -> Vec<Engine> {
    let sets = Isa::NAMES.into_iter().filter_map(Isa::named);
    sets.map(|isa| Engine::with_isa(2, isa).unwrap()).collect()
}

fn numbers(tag: u32, len: usize) -> Vec<f32> {
    pattern(tag, len).iter().map(|&x| x as f32).collect()
}

/// Weights with nothing trivial: batch norm's too.
fn state(net: &Net) -> StateDict {
    let mut state = weights::init(net, 3);
    for (tag, (name, tensor)) in (100..).zip(&mut state) {
        let noise = numbers(tag, tensor.data().len());
        let shift = if name.ends_with("running_var") { 0.5 } else { 0.0 };
        for (x, noise) in tensor.data_mut().iter_mut().zip(noise) {
            *x += 0.2 * noise + shift;
        }
    }
    state
}

fn conv(out_channels: usize, window: Window) -> Op {
    Op::Conv2d(Conv2d::new(out_channels, window))
}

/// Every operation, in and out of the combinations that are fused.
fn nets() -> Vec<Net> {
    let cnn = zoo::Cnn { xdim: [1, 12, 10], cdims: vec![5, 20], hdims: vec![30, 7], ydim: 5, ..zoo::Cnn::default() };
    let plain = zoo::Cnn { xdim: [3, 9, 8], batch_norm: false, ..cnn.clone() };
    let mut mixed = Net::new("mixed", Shape::Map([6, 11, 13])).unwrap();
    let bn = || Op::BatchNorm2d(BatchNorm2d::default());
    let layers = [
        ("dead", conv(3, Window::square(1))),
        ("conv1", Op::Conv2d(Conv2d { groups: 2, bias: false, ..Conv2d::new(8, Window::square(3).padding(1)) })),
        ("relu1", Op::Relu),
        ("bn1", bn()),
        ("drop1", Op::Dropout(Dropout { p: 0.2 })),
        ("conv2", conv(18, Window { stride: [2, 1], padding: Padding::Same, ..Window::square(3) })),
        ("bn2", bn()),
        ("drop2", Op::Dropout2d(Dropout { p: 0.3 })),
        ("pool2", Op::MaxPool2d(MaxPool2d { window: Window::square(3).stride(2).padding(1) })),
        ("relu2", Op::Relu),
        ("bn3", bn()),
        ("pool3", Op::AvgPool2d(AvgPool2d { window: Window::square(2), count_include_pad: true })),
        ("drop3", Op::Dropout2d(Dropout { p: 0.3 })),
        ("flatten", Op::Flatten),
        ("relu3", Op::Relu),
        ("linear", Op::Linear(Linear { bias: false, ..Linear::new(9) })),
        ("drop4", Op::Dropout(Dropout { p: 0.5 })),
        ("head", Op::Linear(Linear::new(4))),
    ];
    for (name, op) in layers {
        let input = if name == "conv1" { mixed.find("input").unwrap() } else { mixed.output() };
        mixed.add(name, op, &[input]).unwrap();
    }
    let mut rows = Net::new("rows", Shape::Vector(21)).unwrap();
    rows.then("linear1", Op::Linear(Linear::new(18))).unwrap();
    rows.then("relu1", Op::Relu).unwrap();
    rows.then("drop1", Op::Dropout(Dropout { p: 0.5 })).unwrap();
    rows.then("linear2", Op::Linear(Linear::new(3))).unwrap();
    vec![zoo::cnn(&cnn).unwrap(), zoo::cnn(&plain).unwrap(), mixed, rows]
}

fn assert_close(what: &str, got: &[f32], want: &[f64], relative: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-3, |a: f64, b| a.max(b.abs()));
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() < relative * scale, "{what}[{i}]: got {got}, want {want}");
    }
}

#[test]
fn training_agrees_with_the_reference() {
    for net in nets() {
        let state = state(&net);
        let (batch, seed) = (7, 11);
        let images = numbers(1, batch * net.input_shape().elements());
        let classes = net.output_shape().elements();
        let labels: Vec<u32> = (0..batch as u32).map(|n| n % classes as u32).collect();
        let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
        let indices: Vec<usize> = labels.iter().map(|&l| l as usize).collect();
        let oracle = Reference::<f64>::from_state(&net, &state).unwrap();
        let want = oracle.pass(&wide, &indices, Mode::Training { run_seed: seed, step: 0 }).unwrap();
        for engine in engines() {
            // Planned for more pictures than come.
            let mut training = Training::new(&net, &engine, batch + 2, &state, ADAM, seed).unwrap();
            let step = training.step(&images, &labels, 1e-3).unwrap();
            let what = |name: &str| format!("{} {} {name}", net.name(), engine.isa());
            assert!((step.loss - want.loss).abs() < 1e-5 * want.loss.abs().max(1.0), "{}", what("loss"));
            let gradients = training.last_gradients();
            for (name, gradient) in &gradients {
                assert_close(&what(name), gradient.data(), &want.gradients[name], 5e-5);
            }
            let after = training.weights();
            assert_eq!(after.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>());
            for (name, buffer) in &want.buffers {
                if !name.starts_with("dead") {
                    assert_close(&what(name), after[name].data(), buffer, 1e-5);
                }
            }
            assert_eq!(after.get("dead.weight"), state.get("dead.weight"));
        }
    }
}

#[test]
fn inference_agrees_with_the_reference() {
    for net in nets() {
        let state = state(&net);
        let batch = 5;
        let images = numbers(1, batch * net.input_shape().elements());
        let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
        let want = Reference::<f64>::from_state(&net, &state).unwrap().forward(&wide, Mode::Inference).unwrap();
        for engine in engines() {
            let mut inference = Inference::new(&net, &engine, batch, &state).unwrap();
            let what = format!("{} {}", net.name(), engine.isa());
            assert_close(&what, inference.run(&images, batch).unwrap(), &want, 1e-5);
            let one = net.input_shape().elements();
            let classes = net.output_shape().elements();
            assert_close(&what, inference.run(&images[..one], 1).unwrap(), &want[..classes], 1e-5);
        }
    }
}

#[test]
fn weights_do_not_depend_on_threads() {
    let net = &nets()[0];
    let images = numbers(1, 9 * net.input_shape().elements());
    let labels: Vec<u32> = (0..9).map(|n| n % 5).collect();
    let run = |threads: usize| {
        let engine = Engine::with_isa(threads, Isa::best()).unwrap();
        let mut training = Training::new(net, &engine, 9, &state(net), ADAM, 1).unwrap();
        for _ in 0..3 {
            training.step(&images, &labels, 1e-2).unwrap();
        }
        weights::weights_sha256(&training.weights())
    };
    let one = run(1);
    for threads in [2, 4, 8, 16] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
}

#[test]
fn training_taken_up_again_is_the_same() {
    let net = &nets()[2];
    let engine = Engine::with_isa(2, Isa::best()).unwrap();
    let images = numbers(1, 6 * net.input_shape().elements());
    let labels = [0, 1, 2, 3, 0, 1];
    for update in [ADAM, Update::Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 }] {
        let mut whole = Training::new(net, &engine, 6, &state(net), update, 1).unwrap();
        let mut first = Training::new(net, &engine, 6, &state(net), update, 1).unwrap();
        for _ in 0..2 {
            whole.step(&images, &labels, 1e-2).unwrap();
            first.step(&images, &labels, 1e-2).unwrap();
        }
        let mut second = Training::new(net, &engine, 6, &first.weights(), update, 1).unwrap();
        second.restore(&first.optimizer_state(), first.steps()).unwrap();
        for _ in 0..2 {
            whole.step(&images, &labels, 1e-2).unwrap();
            second.step(&images, &labels, 1e-2).unwrap();
        }
        assert_eq!(whole.weights(), second.weights());
        assert_eq!(whole.optimizer_state(), second.optimizer_state());
        assert!(second.restore(&StateDict::new(), 0).is_err());
    }
}

#[test]
fn bad_calls_are_errors() {
    let net = &nets()[0];
    let engine = Engine::with_isa(1, Isa::best()).unwrap();
    let state = state(net);
    assert!(Training::new(net, &engine, 0, &state, ADAM, 0).is_err());
    assert!(Inference::new(net, &engine, usize::MAX / 1000, &state).is_err());
    assert!(Inference::new(net, &engine, 1, &StateDict::new()).is_err());
    let mut training = Training::new(net, &engine, 2, &state, ADAM, 0).unwrap();
    let one = net.input_shape().elements();
    assert!(training.step(&vec![0.0; 3 * one], &[0, 0, 0], 0.1).is_err());
    assert!(training.step(&vec![0.0; one], &[0, 0], 0.1).is_err());
    assert!(training.step(&vec![0.0; one], &[5], 0.1).unwrap_err().to_string().contains("below 5, got 5"));
    assert!(training.step(&[], &[], 0.1).is_err());
    assert_eq!(training.weights(), state);
    let mut maps = Net::new("maps", Shape::Map([1, 8, 8])).unwrap();
    maps.then("conv", conv(2, Window::square(3))).unwrap();
    let state = weights::init(&maps, 0);
    assert!(Training::new(&maps, &engine, 1, &state, ADAM, 0).is_err());
    assert_eq!(Inference::new(&maps, &engine, 1, &state).unwrap().run(&[1.0; 64], 1).unwrap().len(), 72);
}
