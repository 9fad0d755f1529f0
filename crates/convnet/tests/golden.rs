//! Every implementation against PyTorch: operations, optimizers, and training steps of the lecture's CNN.
//!
//! The cases lie in `golden/*.json`, one file per operation, made by `tests/golden/make.py` in f64; their inputs are
//! formulas that both sides compute. To put another engine to the same test, implement [`Implementation`] for it and
//! add it to [`implementations`].

use std::collections::BTreeMap;
use std::marker::PhantomData;

use convnet::exec::reference::{Mode, Reference, Tensors};
use convnet::exec::{Engine, Inference, MuonRate, Training, Update};
use convnet::geometry::{Padding, Window};
use convnet::net::Net;
use convnet::ops::{Linear, Shape};
use convnet::weights::init;
use convnet::zoo::{Cnn, cnn};
use convnet::{StateDict, Tensor};
use convnet_kernels::activation::Activation;
use convnet_kernels::loss::{Loss, Targets, cross_entropy as cross_entropy_of_rows};
use convnet_kernels::reference::batch_norm::{BatchNorm, Statistics};
use convnet_kernels::reference::conv2d::{self, ConvProblem};
use convnet_kernels::reference::cross_entropy::Weighting;
use convnet_kernels::reference::linear::{self, LinearProblem};
use convnet_kernels::reference::optimizer::{Adam, Moments, Sgd};
use convnet_kernels::reference::pool::{self, PoolProblem};
use convnet_kernels::reference::{Float, activation, cross_entropy, gradcheck};
use convnet_kernels::threads::Threads;
use serde::Deserialize;

/// Tensors by the names that the script gives them, flattened.
type Outputs = BTreeMap<String, Vec<f64>>;

/// One way to compute the operations.
trait Implementation {
    fn name(&self) -> String;
    /// What a case's operation gives, under the names that the case expects. `None`: it does not take part.
    fn run(&self, op: &str, case: &Case) -> Option<Outputs>;
    /// Relative and absolute tolerance.
    fn tolerance(&self) -> [f64; 2];
    /// Whether it can tell this of a case at all.
    fn tells(&self, _op: &str, _output: &str) -> bool {
        true
    }
}

fn implementations() -> Vec<Box<dyn Implementation>> {
    let of_f64 = InReference::<f64> { tolerance: [1e-9, 1e-10], float: PhantomData };
    // The tolerance of torch.testing.assert_close for f32.
    let of_f32 = InReference::<f32> { tolerance: [1.3e-6, 1e-5], float: PhantomData };
    // Its sums are longer than the naive ones between two roundings, and in another order.
    vec![Box::new(of_f64), Box::new(of_f32), Box::new(TheEngine { tolerance: [1e-5, 1e-5] })]
}

#[derive(Deserialize)]
struct Case {
    name: String,
    settings: Settings,
    inputs: BTreeMap<String, Input>,
    expected: Outputs,
}

/// An input as a formula: `offset + scale · pattern`, the pattern rounded down to multiples of `1 / levels`.
#[derive(Deserialize)]
struct Input {
    tag: u32,
    shape: Vec<usize>,
    scale: f64,
    offset: f64,
    levels: f64,
}

/// The settings of all operations; each case has those of its own.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Settings {
    window: WindowSettings,
    out_channels: usize,
    groups: usize,
    count_include_pad: bool,
    training: bool,
    eps: f64,
    momentum: f64,
    labels: Vec<usize>,
    class_weights: Vec<f64>,
    label_smoothing: f64,
    focal_gamma: f64,
    activation: Option<ActivationSettings>,
    optimizer: Option<OptimizerSettings>,
    muon: Option<MuonSettings>,
    steps: usize,
    xdim: [usize; 3],
    cdims: Vec<usize>,
    hdims: Vec<usize>,
    ydim: usize,
}

#[derive(Deserialize, Default)]
struct WindowSettings {
    kernel: [usize; 2],
    stride: [usize; 2],
    begin: [usize; 2],
    end: [usize; 2],
    dilation: [usize; 2],
    ceil_mode: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ActivationSettings {
    Relu,
    Hardtanh { low: f32, high: f32 },
    LeakyRelu { slope: f32 },
    Sigmoid,
    HardSigmoid { slope: f32, offset: f32 },
    Tanh,
    Silu,
    HardSwish,
    Gelu,
    Softsign,
}

impl From<ActivationSettings> for Activation {
    fn from(settings: ActivationSettings) -> Activation {
        match settings {
            ActivationSettings::Relu => Activation::Relu,
            ActivationSettings::Hardtanh { low, high } => Activation::Clip { low, high },
            ActivationSettings::LeakyRelu { slope } => Activation::LeakyRelu { slope },
            ActivationSettings::Sigmoid => Activation::Sigmoid,
            ActivationSettings::HardSigmoid { slope, offset } => Activation::HardSigmoid { slope, offset },
            ActivationSettings::Tanh => Activation::Tanh,
            ActivationSettings::Silu => Activation::Silu,
            ActivationSettings::HardSwish => Activation::HardSwish,
            ActivationSettings::Gelu => Activation::Gelu,
            ActivationSettings::Softsign => Activation::Softsign,
        }
    }
}

#[derive(Deserialize, Clone, Copy)]
struct MuonSettings {
    lr: f32,
    weight_decay: f32,
    momentum: f32,
    nesterov: bool,
    rate: MuonRate,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum OptimizerSettings {
    Sgd { lr: f64, momentum: f64, nesterov: bool, weight_decay: f64 },
    Adam { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64 },
    Adamw { lr: f64, betas: [f64; 2], eps: f64, weight_decay: f64 },
}

impl Case {
    /// The window of a convolution or pooling.
    fn window(&self) -> Window {
        let WindowSettings { kernel, stride, begin, end, dilation, ceil_mode } = self.settings.window;
        Window { kernel, stride, padding: Padding::Explicit { begin, end }, dilation, ceil_mode }
    }

    fn values<T: Float>(&self, name: &str) -> Vec<T> {
        let Input { tag, shape, scale, offset, levels } = &self.inputs[name];
        let value = |x: f64| T::from_f64(offset + scale * (x * levels).floor() / levels);
        gradcheck::pattern(*tag, shape.iter().product()).into_iter().map(value).collect()
    }

    fn shape<const N: usize>(&self, name: &str) -> [usize; N] {
        self.inputs[name].shape.as_slice().try_into().expect("an input of as many axes")
    }

    fn optimizer(&self) -> OptimizerSettings {
        self.settings.optimizer.expect("an optimizer in the case")
    }

    fn net(&self) -> Net {
        let Settings { xdim, cdims, hdims, ydim, .. } = &self.settings;
        let settings = Cnn {
            xdim: *xdim,
            ksize: 3,
            cdims: cdims.clone(),
            hdims: hdims.clone(),
            ydim: *ydim,
            batch_norm: true,
            dropout: 0.0,
        };
        cnn(&settings).expect("a net that fits")
    }
}

/// The cases of one operation.
fn cases(op: &str) -> Vec<Case> {
    let path = format!("{}/tests/golden/{op}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs every implementation over every case of an operation.
#[track_caller]
fn check(op: &str) {
    let mut failures = Vec::new();
    for implementation in implementations() {
        for case in cases(op) {
            let Some(found) = implementation.run(op, &case) else { continue };
            for (name, expected) in case.expected.iter().filter(|(name, _)| implementation.tells(op, name)) {
                let at = format!("{}, {op} '{}', {name}", implementation.name(), case.name);
                let found = found.get(name).unwrap_or_else(|| panic!("{at}: not computed"));
                failures.extend(first_difference(found, expected, implementation.tolerance()).map(|d| at + &d));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Where and by how much two tensors differ first, if they do. NaN differs from everything.
fn first_difference(found: &[f64], expected: &[f64], [rtol, atol]: [f64; 2]) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!(": {} elements, not {}", found.len(), expected.len()));
    }
    let close = |(f, e): (&f64, &f64)| (f - e).abs() <= atol + rtol * e.abs();
    let i = found.iter().zip(expected).position(|pair| !close(pair))?;
    Some(format!("[{i}]: {}, not {}", found[i], expected[i]))
}

#[test]
fn convolution() {
    check("conv2d");
}

#[test]
fn linear_layer() {
    check("linear");
}

#[test]
fn batch_normalisation() {
    check("batch_norm");
}

#[test]
fn activations() {
    check("activation");
}

#[test]
fn pooling() {
    check("max_pool");
    check("avg_pool");
}

#[test]
fn loss() {
    check("cross_entropy");
}

#[test]
fn optimizers() {
    check("optimizers");
}

/// Gradients are given, for three layers between a first one and a head.
#[test]
fn muon() {
    for case in cases("muon") {
        let MuonSettings { lr, weight_decay, momentum, nesterov, rate } = case.settings.muon.expect("settings");
        let update =
            Update::Muon { rate, momentum, nesterov, weight_decay, adamw_lr: 1.0, betas: [0.9, 0.999], eps: 1e-8 };
        let mut net = Net::new("three", Shape::Vector(16)).unwrap();
        for (name, width) in [("first", 12), ("a", 18), ("b", 12), ("c", 12), ("head", 5)] {
            net.then(name, Linear::new(width)).unwrap();
        }
        let mut state = init(&net, 0);
        let tensor = |name: &str, at: &str| Tensor::new(case.inputs[name].shape.clone(), case.values::<f32>(at));
        for name in ["a", "b", "c"] {
            state.insert(format!("{name}.weight"), tensor(name, name));
        }
        let engine = Engine::new(2).expect("threads start");
        let mut training = Training::new(&net, &engine, 1, &state, update, 0).expect("tensors that fit");
        for step in 0..case.settings.steps {
            training.gradients(&[0.5; 16], &[1]).expect("inputs that fit");
            for name in ["a", "b", "c"] {
                let gradient = tensor(name, &format!("{name}{step}"));
                training.set_gradient(&format!("{name}.weight"), &gradient).expect("a gradient that fits");
            }
            training.update(lr);
        }
        let weights = training.weights();
        for (name, expected) in &case.expected {
            let (layer, tolerance) = name.strip_suffix(".bf16").map_or((name.as_str(), 2e-5), |layer| (layer, 4e-3));
            let found: Vec<f64> = weights[&format!("{layer}.weight")].data().iter().map(|&w| w.into()).collect();
            let difference = first_difference(&found, expected, [0.0, tolerance]);
            assert_eq!(difference, None, "{}, {name}", case.name);
        }
        // The first layer and the head are AdamW's: their first steps are as long as the learning rate, and none is longer by much.
        let longest = |name: &str| {
            let moved = weights[name].data().iter().zip(state[name].data()).map(|(a, b)| (a - b).abs());
            moved.fold(0.0, f32::max)
        };
        assert!(longest("first.weight") < 4.0 * lr && longest("head.bias") > 0.5 * lr);
    }
}

#[test]
fn training_the_lecture_cnn() {
    check("cnn");
}

/// The naive kernels and executor, in one floating-point type.
struct InReference<T> {
    tolerance: [f64; 2],
    float: PhantomData<T>,
}

impl<T: Float> Implementation for InReference<T> {
    fn name(&self) -> String {
        format!("reference in {}", std::any::type_name::<T>())
    }

    fn tolerance(&self) -> [f64; 2] {
        self.tolerance
    }

    fn run(&self, op: &str, case: &Case) -> Option<Outputs> {
        let run = match op {
            "conv2d" => run_conv2d::<T>,
            "linear" => run_linear::<T>,
            "batch_norm" => run_batch_norm::<T>,
            "activation" => run_activation::<T>,
            "max_pool" => run_max_pool::<T>,
            "avg_pool" => run_avg_pool::<T>,
            "cross_entropy" => run_cross_entropy::<T>,
            "optimizers" => run_optimizer::<T>,
            "cnn" => run_cnn::<T>,
            _ => panic!("unknown operation {op}"),
        };
        Some(run(case).into_iter().map(|(name, values)| (name, values.into_iter().map(T::to_f64).collect())).collect())
    }
}

fn named<T, const N: usize>(tensors: [(&str, Vec<T>); N]) -> Tensors<T> {
    tensors.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}

fn run_conv2d<T: Float>(case: &Case) -> Tensors<T> {
    let [batch, in_channels, height, width] = case.shape("x");
    let Settings { out_channels, groups, .. } = case.settings;
    let p = &ConvProblem { batch, in_channels, out_channels, groups, input: [height, width], window: case.window() };
    let (x, weight): (Vec<T>, Vec<T>) = (case.values("x"), case.values("weight"));
    let (bias, dy): (Vec<T>, Vec<T>) = (case.values("bias"), case.values("dy"));
    named([
        ("y", conv2d::forward(p, &x, &weight, Some(&bias))),
        ("dx", conv2d::backward_data(p, &weight, &dy)),
        ("dweight", conv2d::backward_weights(p, &x, &dy)),
        ("dbias", conv2d::backward_bias(p, &dy)),
    ])
}

fn run_linear<T: Float>(case: &Case) -> Tensors<T> {
    let ([batch, in_features], [out_features]) = (case.shape("x"), case.shape("bias"));
    let p = &LinearProblem { batch, in_features, out_features };
    let (x, weight): (Vec<T>, Vec<T>) = (case.values("x"), case.values("weight"));
    let (bias, dy): (Vec<T>, Vec<T>) = (case.values("bias"), case.values("dy"));
    named([
        ("y", linear::forward(p, &x, &weight, Some(&bias))),
        ("dx", linear::backward_data(p, &weight, &dy)),
        ("dweight", linear::backward_weights(p, &x, &dy)),
        ("dbias", linear::backward_bias(p, &dy)),
    ])
}

fn run_batch_norm<T: Float>(case: &Case) -> Tensors<T> {
    let [batch, _, height, width] = case.shape("x");
    let (weight, bias): (Vec<T>, Vec<T>) = (case.values("weight"), case.values("bias"));
    let (x, dy): (Vec<T>, Vec<T>) = (case.values("x"), case.values("dy"));
    let eps = T::from_f64(case.settings.eps);
    let norm = BatchNorm { batch, pixels: height * width, weight: &weight, bias: &bias, eps };
    let mut running = Statistics { mean: case.values("running_mean"), var: case.values("running_var") };
    let (y, gradients) = if case.settings.training {
        let statistics = norm.statistics(&x);
        norm.update(&mut running, &statistics, T::from_f64(case.settings.momentum));
        (norm.forward(&x, &statistics), norm.backward_training(&x, &statistics, &dy))
    } else {
        (norm.forward(&x, &running), norm.backward_inference(&x, &running, &dy))
    };
    named([
        ("y", y),
        ("dx", gradients.input),
        ("dweight", gradients.weight),
        ("dbias", gradients.bias),
        ("running_mean", running.mean),
        ("running_var", running.var),
    ])
}

fn run_activation<T: Float>(case: &Case) -> Tensors<T> {
    let (x, dy): (Vec<T>, Vec<T>) = (case.values("x"), case.values("dy"));
    let function = case.settings.activation.expect("a case of an activation has one").into();
    named([("y", activation::forward(function, &x)), ("dx", activation::backward(function, &x, &dy))])
}

fn pool_problem(case: &Case) -> PoolProblem {
    let [batch, channels, height, width] = case.shape("x");
    PoolProblem { planes: batch * channels, input: [height, width], window: case.window() }
}

fn run_max_pool<T: Float>(case: &Case) -> Tensors<T> {
    let p = &pool_problem(case);
    let found = pool::max_forward(p, &case.values::<T>("x"));
    let dx = pool::max_backward(p, &found.winners, &case.values("dy"));
    named([("y", found.output), ("dx", dx)])
}

fn run_avg_pool<T: Float>(case: &Case) -> Tensors<T> {
    let (p, count_include_pad) = (&pool_problem(case), case.settings.count_include_pad);
    let y = pool::avg_forward(p, count_include_pad, &case.values::<T>("x"));
    named([("y", y), ("dx", pool::avg_backward(p, count_include_pad, &case.values("dy")))])
}

fn run_cross_entropy<T: Float>(case: &Case) -> Tensors<T> {
    let [_, classes] = case.shape("x");
    let (x, settings) = (case.values::<T>("x"), &case.settings);
    let labels = &settings.labels;
    let found = if settings.class_weights.is_empty() {
        cross_entropy::forward_backward(&x, labels, classes)
    } else {
        let (weights, smoothing): (Vec<T>, _) =
            (settings.class_weights.iter().map(|&weight| T::from_f64(weight)).collect(), settings.label_smoothing);
        let soft = case.inputs.contains_key("targets");
        let shares: Vec<T> = match soft {
            true => case.values("targets"),
            false => (0..x.len()).map(|i| T::from_usize((labels[i / classes] == i % classes).into())).collect(),
        };
        let smooth = |share: &T| *share * T::from_f64(1.0 - smoothing) + T::from_f64(smoothing / classes as f64);
        let shares: Vec<T> = shares.iter().map(smooth).collect();
        let divisor = if soft { T::from_usize(labels.len()) } else { labels.iter().map(|&label| weights[label]).sum() };
        let weighting = Weighting { weights: &weights, gamma: settings.focal_gamma, divisor };
        cross_entropy::of_weighted(&x, &shares, classes, weighting)
    };
    named([("loss", vec![found.loss]), ("dx", found.grad_logits)])
}

fn run_optimizer<T: Float>(case: &Case) -> Tensors<T> {
    let mut weights = case.values::<T>("weights");
    let mut optimizer = Optimizer::new(case.optimizer(), weights.len());
    for step in 0..case.settings.steps {
        optimizer.step(&mut weights, &case.values(&format!("gradient{step}")));
    }
    named([("weights", weights)])
}

fn run_cnn<T: Float>(case: &Case) -> Tensors<T> {
    let net = case.net();
    let initial = net.parameters().into_iter().map(|(name, ..)| (name.clone(), case.values(&name))).collect();
    let mut reference = Reference::<T>::new(&net, initial).expect("tensors that fit");
    let (x, labels) = (case.values("x"), &case.settings.labels);
    let mut optimizers = BTreeMap::new();
    let mut outputs = Tensors::new();
    let pass = |reference: &Reference<T>, step| {
        reference.pass(&x, labels, Mode::Training { run_seed: 0, step: step as u64 }).expect("inputs that fit")
    };
    let first = pass(&reference, 0);
    outputs.extend(named([("logits", first.logits), ("loss", vec![first.loss]), ("dx", first.input_gradient)]));
    outputs.extend(first.gradients.into_iter().map(|(name, gradient)| (format!("d{name}"), gradient)));
    outputs.extend(first.buffers);
    for step in 0..case.settings.steps {
        let found = pass(&reference, step);
        outputs.insert(format!("loss{step}"), vec![found.loss]);
        for (name, gradient) in &found.gradients {
            let fresh = || Optimizer::new(case.optimizer(), gradient.len());
            let weights = reference.tensors_mut().get_mut(name).expect("a parameter with a gradient");
            optimizers.entry(name.clone()).or_insert_with(fresh).step(weights, gradient);
        }
        reference.tensors_mut().extend(found.buffers);
    }
    if case.settings.steps > 0 {
        outputs.extend(reference.tensors().clone());
    }
    let logits = reference.forward(&x, Mode::Inference).expect("an input that fits");
    outputs.insert("inference_logits".into(), logits);
    outputs
}

/// What users run: the planned training and inference of whole nets. It has no gradient by its input, and no logits of
/// training.
struct TheEngine {
    tolerance: [f64; 2],
}

impl Implementation for TheEngine {
    fn name(&self) -> String {
        "the engine".into()
    }

    fn tolerance(&self) -> [f64; 2] {
        self.tolerance
    }

    fn tells(&self, op: &str, output: &str) -> bool {
        op != "cnn" || !["dx", "logits"].contains(&output)
    }

    fn run(&self, op: &str, case: &Case) -> Option<Outputs> {
        match op {
            "cnn" => Some(engine_outputs(case)),
            "cross_entropy" => Some(engine_loss(case)),
            _ => None,
        }
    }
}

/// The loss of the engine, whose rows are padded.
fn engine_loss(case: &Case) -> Outputs {
    let ([batch, classes], Settings { labels, class_weights, label_smoothing, focal_gamma, .. }) =
        (case.shape("x"), &case.settings);
    let len = classes.next_multiple_of(16);
    let mut logits = vec![f32::NAN; batch * len];
    for (row, values) in logits.chunks_mut(len).zip(case.values::<f32>("x").chunks(classes)) {
        row[..classes].copy_from_slice(values);
    }
    let rule = Loss {
        label_smoothing: *label_smoothing as f32,
        class_weights: class_weights.iter().map(|&weight| weight as f32).collect(),
        focal_gamma: *focal_gamma as f32,
    };
    let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
    let shares = case.inputs.contains_key("targets").then(|| case.values::<f32>("targets"));
    let targets = shares.as_ref().map_or(Targets::Labels(&labels), |shares| Targets::Probabilities(shares));
    let (mut losses, mut gradient) = (vec![0.0; batch], vec![0.0; batch * len]);
    let threads = Threads::new(2).expect("threads start");
    let (loss, _) =
        cross_entropy_of_rows(&threads, [batch, classes], &logits, targets, &rule, &mut losses, &mut gradient);
    let dx = gradient.chunks(len).flat_map(|row| row[..classes].iter().map(|&g| f64::from(g))).collect();
    [("loss".to_owned(), vec![loss]), ("dx".to_owned(), dx)].into()
}

fn engine_outputs(case: &Case) -> Outputs {
    let net = case.net();
    let engine = Engine::new(2).expect("threads start");
    let tensor = |name: &str, shape| Tensor::new(shape, case.values::<f32>(name));
    let mut state: StateDict =
        net.parameters().into_iter().map(|(name, _, p)| (name.clone(), tensor(&name, p.shape))).collect();
    let images = case.values::<f32>("x");
    let labels: Vec<u32> = case.settings.labels.iter().map(|&label| label as u32).collect();
    let optimizer = case.settings.optimizer;
    let (update, lr) = optimizer.map_or((OptimizerSettings::PLAIN, 0.0), OptimizerSettings::update);
    let mut training = Training::new(&net, &engine, labels.len(), &state, update, 0).expect("tensors that fit");
    let mut found = StateDict::new();
    let mut outputs = Outputs::new();
    for step in 0..case.settings.steps.max(1) {
        let loss = training.step(&images, &labels, lr).expect("inputs that fit").loss;
        let name = if case.settings.steps == 0 { "loss".into() } else { format!("loss{step}") };
        outputs.insert(name, vec![loss]);
        if step == 0 {
            found.extend(training.last_gradients().into_iter().map(|(name, g)| (format!("d{name}"), g)));
            outputs.insert("loss".into(), vec![loss]);
        }
    }
    found.extend(training.weights());
    if case.settings.steps > 0 {
        state = training.weights();
    }
    let mut inference = Inference::new(&net, &engine, labels.len(), &state).expect("tensors that fit");
    let logits = inference.run(&images, labels.len()).expect("inputs that fit").to_vec();
    found.insert("inference_logits".into(), Tensor::new([logits.len()], logits));
    let wide = |t: Tensor| t.data().iter().map(|&x| f64::from(x)).collect();
    outputs.extend(found.into_iter().map(|(name, tensor)| (name, wide(tensor))));
    outputs
}

impl OptimizerSettings {
    /// Gradient descent, for cases that take no step.
    const PLAIN: Update = Update::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

    /// The engine's rule and learning rate.
    fn update(self) -> (Update, f32) {
        match self {
            OptimizerSettings::Sgd { lr, momentum, nesterov, weight_decay } => {
                let (momentum, weight_decay) = (momentum as f32, weight_decay as f32);
                (Update::Sgd { momentum, nesterov, weight_decay }, lr as f32)
            }
            OptimizerSettings::Adam { lr, betas, eps, weight_decay }
            | OptimizerSettings::Adamw { lr, betas, eps, weight_decay } => {
                let decoupled = matches!(self, OptimizerSettings::Adamw { .. });
                let betas = betas.map(|beta| beta as f32);
                (Update::Adam { betas, eps: eps as f32, weight_decay: weight_decay as f32, decoupled }, lr as f32)
            }
        }
    }
}

/// A reference optimizer with its state for one parameter.
enum Optimizer<T> {
    Sgd(Sgd, Vec<T>),
    Adam(Adam, Moments<T>),
}

impl<T: Float> Optimizer<T> {
    fn new(settings: OptimizerSettings, len: usize) -> Optimizer<T> {
        match settings {
            OptimizerSettings::Sgd { lr, momentum, nesterov, weight_decay } => {
                Optimizer::Sgd(Sgd { lr, momentum, nesterov, weight_decay }, vec![T::ZERO; len])
            }
            OptimizerSettings::Adam { lr, betas, eps, weight_decay } => {
                Optimizer::Adam(Adam { lr, betas, eps, weight_decay, decoupled: false }, Moments::new(len))
            }
            OptimizerSettings::Adamw { lr, betas, eps, weight_decay } => {
                Optimizer::Adam(Adam { lr, betas, eps, weight_decay, decoupled: true }, Moments::new(len))
            }
        }
    }

    fn step(&mut self, weights: &mut [T], gradient: &[T]) {
        match self {
            Optimizer::Sgd(sgd, momentum) => sgd.step(weights, gradient, momentum),
            Optimizer::Adam(adam, moments) => adam.step(weights, gradient, moments),
        }
    }
}
