//! The fast executors against the reference in f64, on every instruction set.

mod families;
pub(crate) mod nets;
mod sessions;
mod taps;

use super::cpu::lower::{Lowered, Request, lower};
use super::cpu::statistics::sources;
use super::graph::{Form, Layout, Purpose};
use super::placement::{copied_inputs, place};
use super::reference::{Mode, Reference};
use super::{ConvChoice, Engine, Inference, Precision, Training, Update};
use crate::geometry::Window;
use crate::net::{Net, NodeId, rewrite};
use crate::ops::{Dropout, Linear, Op, Shape};
use crate::{StateDict, weights};
use convnet_kernels::reference::gradcheck::pattern;
use convnet_kernels::simd::Isa;

use nets::{Layers, conv, dense, inception, nets, of_every_activation, of_every_operation, residual};

pub(super) use nets::random_net;

/// An engine may be off by so many times the error of a naive run in f32, whose sums are taken in another order.
const ROUNDING: f64 = 30.0;
/// What numbers are compared with where all are smaller.
const FLOOR: f64 = 1e-2;
const ADAM: Update = Update::ADAM;

fn engines() -> Vec<Engine> {
    let sets = Isa::NAMES.into_iter().filter_map(Isa::named);
    let both = |isa: Isa| {
        let engine = Engine::with_isa(2, isa).unwrap();
        [ConvChoice::Direct, ConvChoice::Winograd].map(|conv| engine.clone().with_conv(conv))
    };
    sets.flat_map(both).collect()
}

/// A net lowered for whole batches.
fn lowered(net: &Net, purpose: Purpose, engine: &Engine, batch: usize) -> Lowered {
    lower(Request::new(net, purpose, engine, batch)).unwrap()
}

/// How many stages are of a type, by its name.
fn count(lowered: &Lowered, kind: &str) -> usize {
    lowered.computes.iter().filter(|compute| kind_of(&format!("{compute:?}")) == kind).count()
}

fn kind_of(debug: &str) -> &str {
    debug.split([' ', '(']).next().unwrap()
}

pub(crate) fn numbers(tag: u32, len: usize) -> Vec<f32> {
    pattern(tag, len).iter().map(|&x| x as f32).collect()
}

/// Weights with nothing trivial: batch norm's too.
pub(crate) fn state(net: &Net) -> StateDict {
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

/// Loss and gradients of a step against the reference in f64.
fn check_training(net: &Net, engine: &Engine, tolerance: f64) {
    let (state, batch, seed) = (state(net), 3, 5);
    let images = numbers(1, batch * net.input_shape().elements());
    let labels: Vec<u32> = (0..batch as u32).collect();
    let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
    let oracle = Reference::<f64>::from_state(net, &state).unwrap();
    let want = oracle.pass(&wide, &[0, 1, 2], Mode::Training { run_seed: seed, step: 0 }).unwrap();
    let mut training = Training::new(net, engine, batch, &state, ADAM, seed).unwrap();
    let step = training.step(&images, &labels, 1e-3).unwrap();
    assert!((step.loss - want.loss).abs() < 1e-4 * want.loss.abs().max(1.0), "{}: loss", net.name());
    let largest = want.gradients.values().map(|gradient| size(gradient)).fold(0.0, f64::max);
    let naive = || {
        let narrow = Reference::<f32>::from_state(net, &state).unwrap();
        narrow.pass(&images, &[0, 1, 2], Mode::Training { run_seed: seed, step: 0 }).unwrap().gradients
    };
    for (name, gradient) in &training.last_gradients() {
        let want = &want.gradients[name];
        // A bias that a batch norm takes away has a gradient of rounding errors alone, which grow with the others.
        let floor = if size(want) < 1e-9 * largest { (0.1 * largest).max(FLOOR) } else { FLOOR };
        let (allowed, error) = (tolerance * size(want).max(floor), largest_error(gradient.data(), want));
        // Norms over few numbers enlarge rounding, the naive run's in f32 as well.
        let explained = || error < ROUNDING * largest_error(&naive()[name], want);
        assert!(error < allowed || explained(), "{} {name}: off by {error:.2e} of {:.2e}", net.name(), size(want));
    }
}

/// The most by which numbers differ from what is wanted.
fn largest_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(&got, want)| (f64::from(got) - want).abs()).fold(0.0, f64::max)
}

#[test]
fn any_net_of_branches_is_planned_and_run_right() {
    let engine = Engine::with_isa(2, Isa::best()).unwrap();
    (0..60).for_each(|seed| check_training(&random_net(seed), &engine, 1e-3));
}

#[test]
#[ignore = "slow: five hundred nets"]
fn any_of_five_hundred_nets_is_planned_and_run_right() {
    let engine = Engine::with_isa(2, Isa::best()).unwrap();
    (60..560).for_each(|seed| check_training(&random_net(seed), &engine, 1e-3));
}

#[test]
fn every_operation_is_run_right() {
    for engine in engines() {
        of_every_operation().iter().for_each(|net| check(net, &engine, 1e-4));
    }
}

#[test]
fn every_activation_is_run_right_wherever_it_is_fused() {
    for engine in engines() {
        of_every_activation().iter().for_each(|net| check(net, &engine, 1e-4));
    }
}

/// A step of training, and an inference in either precision, against the reference in f64.
fn check(net: &Net, engine: &Engine, tolerance: f64) {
    check_training(net, engine, tolerance);
    check_inference(net, engine, 0.1 * tolerance);
}

/// An inference in either precision against the reference in f64.
fn check_inference(net: &Net, engine: &Engine, tolerance: f64) {
    let (state, batch) = (state(net), 3);
    let images = numbers(1, batch * net.input_shape().elements());
    let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
    let want = Reference::<f64>::from_state(net, &state).unwrap().forward(&wide, Mode::Inference).unwrap();
    for (precision, tolerance) in [(Precision::F32, tolerance), (Precision::Bf16, 0.05)] {
        let engine = engine.clone().with_precision(precision);
        let mut inference = Inference::new(net, &engine, batch + 1, &state).unwrap();
        let what = format!("{} {} {precision}", net.name(), engine.isa());
        assert_close(&what, inference.run(&images, batch).unwrap(), &want, tolerance);
    }
}

/// Gradients in evaluation mode: a norm that is a stem's, a chain's and a sum's, and a convolution's bias before each.
#[test]
fn frozen_norms_take_and_leave_their_running_statistics() {
    let mut net = Layers::new("frozen", [3, 9, 8]);
    let input = net.0.output();
    let x = net.add(conv(32, Window::square(3).padding(1)), &[input]);
    let x = net.norm(x);
    let x = net.relu(x);
    let y = net.add(conv(32, Window::square(3).padding(1)), &[x]);
    let y = net.norm(y);
    let sum = net.add(Op::Add, &[x, y]);
    let row = net.add(Op::Flatten, &[sum]);
    net.add(Op::Linear(Linear::new(5)), &[row]);
    let (net, batch) = (net.0, 3);
    let (state, images) = (state(&net), numbers(1, batch * net.input_shape().elements()));
    let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
    let want = Reference::<f64>::from_state(&net, &state).unwrap().pass(&wide, &[0, 1, 2], Mode::Inference).unwrap();
    for engine in engines() {
        let builder = Training::builder(&net, &state).batch(batch).seed(5).frozen_norms(|_| true);
        let mut training = builder.build(&engine).unwrap();
        let step = training.step(&images, &[0, 1, 2], 1e-3).unwrap();
        assert!((step.loss - want.loss).abs() < 1e-5 * want.loss.max(1.0), "{}", engine.isa());
        for (name, gradient) in &training.last_gradients() {
            assert_close(&format!("{} {name}", engine.isa()), gradient.data(), &want.gradients[name], 1e-4);
        }
        for (name, running) in training.weights().iter().filter(|(name, _)| name.contains("running")) {
            assert_eq!(running, &state[name], "{name}");
        }
    }
}

#[test]
fn outputs_that_cannot_be_trained_are_refused() {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap();
    let refused = |net: &Net| Training::new(net, &engine, 1, &state(net), ADAM, 0).unwrap_err().to_string();
    let mut net = Net::new("net", Shape::Vector(3)).unwrap();
    assert!(refused(&net).contains("an input alone"));
    let first = net.then("first", Op::Linear(Linear::new(4))).unwrap();
    let last = net.then("last", Op::Linear(Linear::new(3))).unwrap();
    for (node, expected) in [
        (first, "layer 'first' (linear): an auxiliary output of 4"),
        (last, "layer 'last' (linear): expected an auxiliary output between"),
        (NodeId(0), "layer 'input' (input): expected an auxiliary output between"),
    ] {
        let mut net = net.clone();
        net.add_auxiliary(node, 0.5).unwrap();
        assert!(refused(&net).starts_with(expected), "{}", refused(&net));
    }
}

fn assert_close(what: &str, got: &[f32], want: &[f64], relative: f64) {
    assert_near(what, got, want, relative, FLOOR);
}

/// The largest number's size.
fn size(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |a, b| a.max(b.abs()))
}

/// Within a share of the largest number, or of `floor` where all are smaller.
fn assert_near(what: &str, got: &[f32], want: &[f64], relative: f64, floor: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = size(want).max(floor);
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() < relative * scale, "{what}[{i}]: got {got}, want {want}");
    }
}

#[test]
fn dense_blocks_and_inceptions_are_not_copied() {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap();
    for (net, copied) in [(dense(16), 0), (dense(12), 2), (inception(), 3)] {
        for purpose in [Purpose::Training, Purpose::Inference] {
            let graph = lowered(&net, purpose, &engine, 1).graph;
            let places = place(&graph, purpose);
            let concats = (0..graph.stages.len()).filter(|&i| graph.stages[i].facts.form == Form::Concat);
            let most = concats.map(|i| copied_inputs(&graph, &places, i).len()).max();
            // Of the inceptions the second has branches of ten channels.
            assert_eq!(most, Some(copied), "{} {purpose:?}", net.name());
        }
    }
}

#[test]
fn residual_blocks_end_in_one_pass() {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap();
    let net = residual();
    let stages = lowered(&net, Purpose::Training, &engine, 1);
    // One shortcut is padded after the norm that it is added to.
    assert_eq!([count(&stages, "NormAdd"), count(&stages, "Add")], [3, 1]);
    // A norm is not added to its own input in one pass.
    let mut net = Layers::new("own input", [16, 4, 4]);
    let x = net.0.output();
    let conv = net.add(conv(16, Window::square(1)), &[x]);
    let normed = net.norm(conv);
    let sum = net.add(Op::Add, &[normed, conv]);
    let net = net.head(sum);
    assert_eq!(count(&lowered(&net, Purpose::Training, &engine, 3), "Add"), 1);
    check_training(&net, &engine, 1e-3);
}

#[test]
fn maps_are_flattened_where_linear_layers_would_multiply_their_padding() {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap();
    // The lecture's CNN, no padding, and a little; a grey picture, whose padding would be 15 times as large, and 20 channels.
    for (map, copied) in
        [([64, 7, 7], 0), ([20, 1, 1], 0), ([31, 2, 1], 0), ([250, 3, 2], 0), ([1, 6, 5], 1), ([20, 3, 2], 1)]
    {
        let mut net = Layers::new("flat", map);
        let row = net.add(Op::Flatten, &[net.0.output()]);
        let row = net.add(Op::Dropout(Dropout { p: 0.25 }), &[row]);
        net.add(Op::Linear(Linear::new(5)), &[row]);
        for purpose in [Purpose::Training, Purpose::Inference] {
            assert_eq!(count(&lowered(&net.0, purpose, &engine, 3), "Flatten"), copied, "{map:?} {purpose:?}");
        }
        check_training(&net.0, &engine, 1e-3);
    }
}

#[test]
fn a_first_convolution_and_its_norm_are_one_stage_in_training() {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap();
    // A norm that joins a sum, and a convolution that something else reads.
    let mut summed = Layers::new("summed", [3, 8, 8]);
    let x = summed.0.output();
    let [a, b] = [1, 3].map(|kernel| summed.conv_norm(32, kernel, 1, x));
    let sum = summed.add(Op::Add, &[a, b]);
    let summed = summed.head(sum);
    let mut twice = Layers::new("twice", [3, 8, 8]);
    let x = twice.0.output();
    let x = twice.add(conv(32, Window::square(3)), &[x]);
    let y = twice.norm(x);
    let y = twice.conv_norm(32, 1, 1, y);
    let sum = twice.add(Op::Concat, &[x, y]);
    let twice = twice.head(sum);
    for (net, stems) in [(nets()[0].clone(), 1), (residual(), 1), (dense(16), 0), (summed, 1), (twice, 0)] {
        for (purpose, stems) in [(Purpose::Training, stems), (Purpose::Inference, 0)] {
            assert_eq!(count(&lowered(&net, purpose, &engine, 3), "StemStage"), stems, "{} {purpose:?}", net.name());
        }
        check_training(&net, &engine, 1e-3);
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

/// Root of the sum of squares of the differences, relative to that of what is wanted.
fn distance(pairs: impl Iterator<Item = (f32, f64)> + Clone) -> f64 {
    let square = |sum: f64, x: f64| sum + x * x;
    let wanted = pairs.clone().map(|(_, want)| want).fold(0.0, square);
    (pairs.map(|(got, want)| f64::from(got) - want).fold(0.0, square) / wanted).sqrt()
}

/// bf16 rounds 2¹⁶ times as coarsely as f32, so its errors are about as many times larger, however much a net's norms over
/// few numbers enlarge them.
#[test]
fn bf16_is_near_the_reference_on_every_set() {
    for net in nets() {
        let (state, batch, seed) = (state(&net), 7, 11);
        let images = numbers(1, batch * net.input_shape().elements());
        let wide: Vec<f64> = images.iter().map(|&x| f64::from(x)).collect();
        let oracle = Reference::<f64>::from_state(&net, &state).unwrap();
        let labels: Vec<u32> = (0..batch as u32).map(|n| n % net.output_shape().elements() as u32).collect();
        let indices: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
        let want = oracle.pass(&wide, &indices, Mode::Training { run_seed: seed, step: 0 }).unwrap();
        let logits = oracle.forward(&wide, Mode::Inference).unwrap();
        let errors = |engine: &Engine| {
            let mut training = Training::new(&net, engine, batch, &state, ADAM, seed).unwrap();
            let loss = training.step(&images, &labels, 1e-3).unwrap().loss;
            let gradients = training.last_gradients();
            let pairs = gradients.iter().map(|(name, tensor)| (tensor.data(), &want.gradients[name]));
            let pairs = pairs.flat_map(|(got, want)| got.iter().copied().zip(want.iter().copied()));
            let mut inference = Inference::new(&net, engine, batch, &state).unwrap();
            let outputs = inference.run(&images, batch).unwrap();
            let of_logits = distance(outputs.iter().copied().zip(logits.iter().copied()));
            [distance(pairs), of_logits, (loss / want.loss - 1.0).abs()]
        };
        let sets = Isa::NAMES.into_iter().filter_map(Isa::named);
        for (isa, conv) in sets.flat_map(|isa| [(isa, ConvChoice::Direct), (isa, ConvChoice::Winograd)]) {
            let engine = Engine::with_isa(2, isa).unwrap().with_conv(conv);
            let ([fine, fine_logits, _], [coarse, coarse_logits, loss]) =
                (errors(&engine), errors(&engine.with_precision(Precision::Bf16)));
            let what = format!("{} {} {conv:?}", net.name(), isa.name());
            let ratios = [coarse / fine, coarse_logits / fine_logits];
            println!("{what}: {coarse:.1e}, {coarse_logits:.1e}, loss {loss:.1e}; {ratios:.0?} times f32's");
            // A winner of a pooling that changes moves a tiny net's gradient far: one method is enough to compare those.
            let compared = if conv == ConvChoice::Direct { &ratios[..] } else { &ratios[1..] };
            assert!(compared.iter().all(|ratio| (1e3..4e5).contains(ratio)) && loss < 0.02, "{what}");
        }
    }
}

#[test]
fn weights_do_not_depend_on_threads() {
    let labels: Vec<u32> = (0..9).map(|n| n % 5).collect();
    let ways = [
        (ConvChoice::Direct, Precision::F32),
        (ConvChoice::Winograd, Precision::F32),
        (ConvChoice::Direct, Precision::Bf16),
    ];
    let nets = [&nets()[0], &residual(), &dense(16)];
    for (net, (conv, precision)) in nets.into_iter().flat_map(|net| ways.map(|way| (net, way))) {
        let images = numbers(1, 9 * net.input_shape().elements());
        let run = |threads: usize| {
            let engine = Engine::with_isa(threads, Isa::best()).unwrap().with_conv(conv).with_precision(precision);
            let mut training = Training::new(net, &engine, 9, &state(net), ADAM, 1).unwrap();
            for _ in 0..3 {
                training.step(&images, &labels, 1e-2).unwrap();
            }
            weights::weights_sha256(&training.weights())
        };
        let one = run(1);
        for threads in [2, 5, 16] {
            assert_eq!(run(threads), one, "{} {conv:?} {precision:?} {threads} threads", net.name());
        }
    }
}

#[test]
fn a_channel_is_summed_once_and_by_its_convolution() {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap();
    // Of the values that norms read, those that no convolution computes: a mean pooling, and a sum.
    for (net, others) in [(dense(16), 1), (dense(12), 1), (residual(), 1)] {
        let Lowered { graph, computes } = lowered(&net, Purpose::Training, &engine, 1);
        let sources = sources(&graph);
        for (stage, sources) in graph.stages.iter().zip(&sources).filter(|(_, sources)| !sources.is_empty()) {
            let channels = |i: usize| graph.stages[i].output.channels_and_pixels()[0];
            let end = sources.iter().fold(0, |end, &(source, first)| {
                assert_eq!(first, end, "{}", stage.name);
                end + channels(source)
            });
            assert_eq!(end, channels(stage.inputs[0]), "{}", stage.name);
        }
        let mut read: Vec<usize> = sources.iter().flatten().map(|&(source, _)| source).collect();
        read.sort_unstable();
        read.dedup();
        let summed = read.iter().filter(|&&i| computes[i].statistics().is_none()).count();
        assert_eq!(summed, others, "{}", net.name());
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
fn a_profile_counts_the_pictures_that_came() {
    let net = &nets()[2];
    let engine = Engine::with_isa(1, Isa::best()).unwrap();
    let mut training = Training::new(net, &engine, 5, &state(net), ADAM, 1).unwrap();
    training.profile(true);
    training.step(&numbers(1, 2 * net.input_shape().elements()), &[0, 1], 1e-2).unwrap();
    let rows = training.profile_rows();
    let macs =
        |direction: &str| rows.iter().find(|row| row.layer == "head" && row.direction == direction).unwrap().macs;
    assert_eq!([macs("forward"), macs("backward")], [2 * 9 * 4, 2 * 2 * 9 * 4]);
}

#[test]
fn bad_calls_are_errors() {
    let net = &nets()[0];
    let engine = Engine::with_isa(1, Isa::best()).unwrap();
    let state = state(net);
    assert!(Training::new(net, &engine, 0, &state, ADAM, 0).is_err());
    assert!(Inference::new(net, &engine, usize::MAX / 1000, &state).is_err());
    assert!(Inference::new(net, &engine, 1, StateDict::new()).is_err());
    let mut training = Training::new(net, &engine, 2, &state, ADAM, 0).unwrap();
    let one = net.input_shape().elements();
    assert!(training.step(&vec![0.0; 3 * one], &[0, 0, 0], 0.1).is_err());
    assert!(training.step(&vec![0.0; one], &[0, 0], 0.1).is_err());
    assert!(matches!(training.step(&vec![0.0; one], &[5], 0.1), Err(crate::Error::Label { label: 5, classes: 5 })));
    assert!(training.step(&[], &[], 0.1).is_err());
    assert_eq!(training.weights(), state);
    let mut maps = Net::new("maps", Shape::Map([1, 8, 8])).unwrap();
    maps.then("conv", conv(2, Window::square(3))).unwrap();
    let state = weights::init(&maps, 0);
    assert!(Training::new(&maps, &engine, 1, &state, ADAM, 0).is_err());
    assert_eq!(Inference::new(&maps, &engine, 1, &state).unwrap().run(&[1.0; 64], 1).unwrap().len(), 72);
}

/// Maps that an inference in bf16 stores in `f32`, by the names of their stages, and how many it stores in bf16.
fn maps_in_f32(net: &Net, precision: Precision) -> (Vec<String>, usize) {
    let engine = Engine::with_isa(1, Isa::PORTABLE).unwrap().with_precision(precision);
    let (net, _) = rewrite::inference(net, &state(net)).unwrap();
    let mut stages = lowered(&net, Purpose::Inference, &engine, 1);
    stages.choose_storage(&engine);
    let maps = stages.graph.stages.iter().filter(|stage| matches!(stage.output, Layout::Blocked(_)));
    let (in_f32, in_bf16): (Vec<_>, Vec<_>) = maps.partition(|stage| stage.floats() == stage.output.len());
    (in_f32.into_iter().map(|stage| stage.name.clone()).collect(), in_bf16.len())
}

#[test]
fn inference_in_bf16_stores_maps_in_bf16() {
    let f32 = |net: &Net| maps_in_f32(net, Precision::Bf16);
    // What padded channels or a sum of their own read, and what a linear layer does.
    let names = ["conv2d13", "conv2d17", "pad_channels19", "add20", "adaptive_avg_pool2d26"];
    assert_eq!(f32(&residual()), (names.map(String::from).to_vec(), 6));
    assert_eq!(f32(&dense(16)), (["input", "adaptive_avg_pool2d50"].map(String::from).to_vec(), 29));
    // A copied concatenation and what it reads.
    let (copied, others) = f32(&dense(12));
    assert!(copied.contains(&"concat8".into()) && copied.contains(&"conv2d7".into()) && others == 15, "{copied:?}");
    for net in nets() {
        assert_eq!(maps_in_f32(&net, Precision::F32).1, 0, "{}", net.name());
    }
}
