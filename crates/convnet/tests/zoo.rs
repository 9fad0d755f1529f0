//! The named networks against torchvision: `golden/zoo.json`, made by `tests/golden/zoo.py`. Weights and pictures are
//! formulas that both sides compute.

use std::collections::BTreeMap;
use std::fmt::Write;

use convnet::exec::reference::{Mode, Reference};
use convnet::exec::{Engine, Inference, Training, Update};
use convnet::net::{Net, rewrite};
use convnet::ops::Role;
use convnet::zoo::{self, ZooOptions, by_name};
use convnet::{StateDict, Tensor};
use convnet_kernels::reference::gradcheck::pattern;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// What torchvision says of a network.
#[derive(Deserialize)]
struct Golden {
    params: u64,
    auxiliary_params: u64,
    macs: u64,
    keys: String,
    logits_224x224: Option<Digest>,
    logits_160x224: Option<Digest>,
    /// Logits of small pictures, in f64.
    #[serde(default)]
    small: Vec<Small>,
    training: Option<GoldenStep>,
    /// The gradient of a logit by a picture as large as those of training, in inference.
    input_gradient: Option<Digest>,
}

/// The first elements of a tensor, and the 2-norm of all.
#[derive(Deserialize)]
struct Digest {
    first: Vec<f64>,
    norm: f64,
    /// How far a gradient moves when weights move by a millionth.
    #[serde(default)]
    noise: f64,
}

/// Logits of a picture of that height and width.
#[derive(Deserialize)]
struct Small {
    size: [usize; 2],
    #[serde(flatten)]
    logits: Digest,
}

/// One step in training on square pictures.
#[derive(Deserialize)]
struct GoldenStep {
    side: usize,
    loss: f64,
    gradients: BTreeMap<String, Digest>,
}

/// Pictures and classes of a [`GoldenStep`].
const BATCH: usize = 4;
const CLASSES: usize = 10;

const PLAIN: Update = Update::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

fn golden() -> BTreeMap<String, Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/zoo.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `zoo.py`'s `state`: every parameter and buffer, tagged by its place among the sorted names.
fn state(net: &Net) -> StateDict {
    let mut shapes: Vec<_> = net.parameters().into_iter().map(|(name, _, p)| (name, p.shape)).collect();
    shapes.sort();
    let tensor = |(tag, (name, shape)): (u32, (String, Vec<usize>))| {
        let fan_in: usize = shape.iter().skip(1).product();
        let value = |x: f64| match () {
            () if name.ends_with("running_var") => 1.0 + x / 2.0,
            () if shape.len() > 1 => x * (6.0 / fan_in as f64).sqrt(),
            () if name.ends_with("weight") => 0.75 + x / 4.0,
            () => x / 8.0,
        };
        let values = pattern(tag, shape.iter().product()).into_iter().map(|x| value(x) as f32).collect();
        (name, Tensor::new(shape, values))
    };
    (0..).zip(shapes).map(tensor).collect()
}

fn pictures(count: usize, [channels, height, width]: [usize; 3]) -> Vec<f32> {
    pattern(1000, count * channels * height * width).into_iter().map(|x| x as f32).collect()
}

fn labels() -> Vec<u32> {
    (0..BATCH as u32).map(|i| i * 3 % CLASSES as u32).collect()
}

/// A network that drops nothing.
fn net(name: &str, input: [usize; 3], classes: Option<usize>) -> Net {
    let drops = ["EfficientNet", "EfficientNet V2", "ConvNeXt"].contains(&zoo::find(name).unwrap().family);
    let stochastic_depth = drops.then_some(0.0);
    let options =
        ZooOptions { input: Some(input), classes, dropout: Some(0.0), stochastic_depth, ..ZooOptions::default() };
    by_name(name, &options).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// How far a tensor is from the golden one, relative to its largest element that is known, or to its norm.
fn distance(found: &[f64], golden: &Digest) -> f64 {
    let largest = golden.first.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let norm = found.iter().map(|x| x * x).sum::<f64>().sqrt();
    let first = found.iter().zip(&golden.first).map(|(f, g)| (f - g).abs() / largest);
    // Unlike `max`, this keeps a NaN.
    first.chain([(norm - golden.norm).abs() / golden.norm]).fold(0.0, |most, d| if d <= most { most } else { d })
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[test]
fn parameters_multiply_adds_and_keys_are_torchvisions() {
    for (name, golden) in golden() {
        let net = by_name(&name, &ZooOptions::default()).unwrap();
        let counted = rewrite::without_auxiliaries(&net).unwrap();
        assert_eq!(counted.parameter_count(), golden.params, "{name}");
        assert_eq!(net.parameter_count(), golden.params + golden.auxiliary_params, "{name}");
        assert_eq!(counted.table(1).total.macs, golden.macs, "{name}");
        let mut lines: Vec<String> =
            net.parameters().into_iter().map(|(key, _, p)| format!("{key} {:?}\n", p.shape)).collect();
        lines.sort();
        let digest = Sha256::digest(lines.concat()).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        assert_eq!(digest, golden.keys, "{name}: keys\n{}", lines.concat());
    }
}

#[test]
fn receptive_fields_are_the_published_ones() {
    for (name, layer, field) in [
        ("vgg16", "features.30", 212),
        ("resnet18", "layer4.1.relu", 435),
        ("resnet50", "layer4.2.relu", 427),
        ("alexnet", "features.12", 195),
    ] {
        let table = by_name(name, &ZooOptions::default()).unwrap().table(1);
        let row = table.layers.iter().find(|row| row.name == layer).unwrap();
        assert_eq!(row.receptive_field, [field; 2], "{name}");
    }
}

#[test]
#[ignore = "seconds per network; needs 3 GB of memory"]
fn logits_are_torchvisions() {
    let engine = Engine::new(0).unwrap();
    let mut failures = Vec::new();
    for (name, golden) in golden() {
        let sizes = [([224, 224], &golden.logits_224x224), ([160, 224], &golden.logits_160x224)];
        let large = sizes.into_iter().filter_map(|(size, golden)| Some((size, golden.as_ref()?)));
        for (size, golden) in large.chain(golden.small.iter().map(|small| (small.size, &small.logits))) {
            let input = [3, size[0], size[1]];
            let net = net(&name, input, None);
            let mut inference = Inference::new(&net, &engine, 1, &state(&net)).unwrap();
            let distance = distance(&wide(inference.run(&pictures(1, input), 1).unwrap()), golden);
            println!("{name} {size:?}: {distance:.1e}");
            if distance.is_nan() || distance > 1e-3 {
                failures.push(format!("{name} {size:?}: {distance:e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Those that take a second or less by the definition.
const FAST: [&str; 6] =
    ["squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf"];

/// Holds logits of small pictures by the definition, in f64, against torchvision's in f64.
fn check_small_logits(which: impl Fn(&str) -> bool) {
    for (name, golden) in golden().into_iter().filter(|(name, _)| which(name)) {
        for Small { size: [height, width], logits } in golden.small {
            let input = [3, height, width];
            let net = net(&name, input, None);
            let reference = Reference::<f64>::from_state(&net, &state(&net)).unwrap();
            let found = reference.forward(&wide(&pictures(1, input)), Mode::Inference).unwrap();
            let distance = distance(&found, &logits);
            println!("{name} {height}x{width}: {distance:.1e}");
            assert!(distance <= 1e-5, "{name} {height}x{width}: {distance:e}");
        }
    }
}

#[test]
fn logits_by_the_definition_are_torchvisions() {
    check_small_logits(|name| FAST.contains(&name));
}

#[test]
#[ignore = "naive: a minute"]
fn logits_of_larger_networks_by_the_definition_are_torchvisions() {
    check_small_logits(|name| !FAST.contains(&name));
}

/// Holds a training step of one network of each family against torchvision's in f64. A gradient may be off by
/// `tolerance`, or by `noises` times as much as it moves when weights move by a millionth.
fn check_steps(
    which: impl Fn(&str) -> bool,
    tolerance: f64,
    noises: f64,
    step: impl Fn(&Net, &[f32], &[u32]) -> (f64, BTreeMap<String, Vec<f64>>),
) {
    for (name, golden) in golden().into_iter().filter(|(name, _)| which(name)) {
        let Some(golden) = golden.training else { continue };
        let input = [3, golden.side, golden.side];
        let (loss, gradients) = step(&net(&name, input, Some(CLASSES)), &pictures(BATCH, input), &labels());
        let off = (loss - golden.loss).abs() / golden.loss;
        println!("{name}: loss {off:.1e}");
        assert!(off <= tolerance, "{name}: loss {loss}, not {}", golden.loss);
        for (key, golden) in &golden.gradients {
            let distance = distance(&gradients[key], golden);
            println!("{name} {key}: {distance:.1e}");
            assert!(
                distance <= tolerance.max(noises * golden.noise),
                "{name}: the gradient by {key} is off by {distance:e}"
            );
        }
    }
}

/// A training step by the definition, in f64.
fn step_by_definition(net: &Net, images: &[f32], labels: &[u32]) -> (f64, BTreeMap<String, Vec<f64>>) {
    let reference = Reference::<f64>::from_state(net, &state(net)).unwrap();
    let labels: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
    let pass = reference.pass(&wide(images), &labels, Mode::Training { run_seed: 0, step: 0 }).unwrap();
    (pass.loss, pass.gradients)
}

#[test]
fn gradients_of_small_networks_by_the_definition_are_torchvisions() {
    check_steps(|name| FAST.contains(&name), 1e-5, 0.0, step_by_definition);
}

#[test]
#[ignore = "naive: minutes"]
fn gradients_by_the_definition_are_torchvisions() {
    check_steps(|name| !FAST.contains(&name), 1e-5, 0.0, step_by_definition);
}

#[test]
#[ignore = "seconds per network"]
fn gradients_of_the_engine_are_torchvisions() {
    let engine = Engine::new(0).unwrap();
    check_steps(
        |_| true,
        1e-3,
        1.0,
        |net, images, labels| {
            let mut training = Training::new(net, &engine, BATCH, &state(net), PLAIN, 0).unwrap();
            let loss = training.step(images, labels, 0.0).unwrap().loss;
            let gradients = training.last_gradients().into_iter().map(|(name, t)| (name, wide(t.data())));
            (loss, gradients.collect())
        },
    );
}

/// One network of each family, with the class whose logit `zoo.py` differentiates.
#[test]
#[ignore = "seconds per network"]
fn gradients_by_the_picture_are_torchvisions() {
    let engine = Engine::new(0).unwrap();
    let mut logit = [0.0; CLASSES];
    logit[3] = 1.0;
    for (name, golden) in golden() {
        let (Some(step), Some(want)) = (golden.training, golden.input_gradient) else { continue };
        let input = [3, step.side, step.side];
        let net = net(&name, input, Some(CLASSES));
        let state = state(&net);
        let mut session = Inference::builder(&net, &state).taps(["input"]).build_gradients(&engine).unwrap();
        session.forward(&pictures(1, input), 1).unwrap();
        session.backward(&logit).unwrap();
        let distance = distance(&wide(session.gradient("input").unwrap().1), &want);
        println!("{name}: {distance:.1e}, noise {:.1e}", want.noise);
        assert!(distance <= 1e-3_f64.max(want.noise), "{name}: the gradient by the picture is off by {distance:e}");
    }
}

/// The smallest square picture of at least 32 pixels that a network takes.
fn small_input(model: &zoo::Model) -> [usize; 3] {
    let [channels, side, _] = model.smallest_input(&ZooOptions::default()).unwrap();
    [channels, side.max(32), side.max(32)]
}

#[test]
#[ignore = "seconds per network; needs 3 GB of memory"]
fn one_step_gives_every_parameter_a_finite_gradient() {
    let engine = Engine::new(0).unwrap();
    for model in zoo::models() {
        let input = small_input(model);
        let net = net(model.name, input, Some(CLASSES));
        let weights = convnet::weights::init(&net, 0);
        let mut training = Training::new(&net, &engine, BATCH, &weights, PLAIN, 0).unwrap();
        let loss = training.step(&pictures(BATCH, input), &labels(), 0.01).unwrap().loss;
        assert!(loss.is_finite(), "{}: loss {loss}", model.name);
        let gradients = training.last_gradients();
        for (name, _, parameter) in net.parameters() {
            if parameter.role == Role::Buffer {
                continue;
            }
            let gradient = &gradients.get(&name).unwrap_or_else(|| panic!("{}: no gradient by {name}", model.name));
            assert_eq!(gradient.shape(), parameter.shape, "{}: {name}", model.name);
            assert!(gradient.data().iter().all(|x| x.is_finite()), "{}: {name}", model.name);
        }
    }
}

#[test]
#[ignore = "minutes"]
fn each_family_overfits_32_pictures() {
    let engine = Engine::new(0).unwrap();
    let mut families = BTreeMap::new();
    for model in zoo::models() {
        families.entry(model.family).or_insert(model);
    }
    // SqueezeNet's logits go through a ReLU, which at one pixel is dead for most classes: it does not learn from such pictures.
    families.remove("SqueezeNet").expect("a family of torchvision's");
    for (family, model) in families {
        let input = small_input(model);
        let net = net(model.name, input, Some(CLASSES));
        let images = pictures(32, input);
        let labels: Vec<u32> = (0..32).map(|i| i * 7 % CLASSES as u32).collect();
        let adam = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false };
        let weights = convnet::weights::init(&net, 0);
        let mut training = Training::new(&net, &engine, 32, &weights, adam, 0).unwrap();
        let lr = if model.params > 30_000_000 { 1e-4 } else { 1e-3 };
        let learnt = (1..=MOST_STEPS).find(|_| training.step(&images, &labels, lr).unwrap().correct == 32);
        println!("{family}: {} in {learnt:?} steps", model.name);
        assert!(learnt.is_some(), "{family}: {} has not learnt 32 pictures in {MOST_STEPS} steps", model.name);
    }
}

/// After which overfitting has failed.
const MOST_STEPS: usize = 300;
