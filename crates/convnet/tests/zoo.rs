//! The named networks against torchvision: `golden/zoo.json`, made by `tests/golden/zoo.py`. Weights and pictures are
//! formulas that both sides compute.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use convnet::exec::reference::{Mode, Reference, Tensors};
use convnet::exec::{Engine, Inference, Training, Update};
use convnet::net::{Net, rewrite};
use convnet::ops::Role;
use convnet::zoo::{self, ZooOptions, by_name};
use convnet::{StateDict, Tensor};
use convnet_kernels::reference::gradcheck::{dot, pattern};
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
    /// Logits of small pictures of two sizes, in f64.
    small: Vec<Small>,
    /// A training step in f64.
    step: WholeStep,
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

/// One step in training on square pictures, with the gradient by every parameter, in the order of their names.
#[derive(Deserialize)]
struct WholeStep {
    batch: usize,
    side: usize,
    loss: f64,
    gradients: Vec<Projected>,
}

/// The 2-norm of a gradient, and its product with `pattern(PROJECTION, …)`.
type Projected = [f64; 2];

const PROJECTION: u32 = 2000;

/// One step in training on `BATCH` square pictures, with gradients by the first and the last weight.
#[derive(Deserialize)]
struct GoldenStep {
    side: usize,
    loss: f64,
    gradients: BTreeMap<String, Digest>,
}

/// Classifiers of torchvision that are CNNs.
const NETWORKS: usize = 68;

/// Pictures and classes of a [`GoldenStep`].
const BATCH: usize = 4;
const CLASSES: usize = 10;

const PLAIN: Update = Update::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

fn golden() -> BTreeMap<String, Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/zoo.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `zoo.py`'s `fill`: every parameter and buffer with its shape, tagged by its place among the sorted names.
fn parameters(net: &Net) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut shapes: Vec<_> = net.parameters().into_iter().map(|(name, _, p)| (name, p.shape)).collect();
    shapes.sort();
    let fill = |(tag, (name, shape)): (u32, (String, Vec<usize>))| {
        let fan_in: usize = shape.iter().skip(1).product();
        let (middle, reach) = match () {
            () if name.ends_with("running_var") => (1.0, 0.5),
            () if shape.len() > 1 => (0.0, (6.0 / fan_in as f64).sqrt()),
            () if name.ends_with("weight") => (0.75, 0.25),
            () => (0.0, 0.125),
        };
        let values = pattern(tag, shape.iter().product()).into_iter().map(|x| (middle + x * reach) as f32).collect();
        (name, shape, values)
    };
    let filled = Mutex::new(Vec::new());
    on_threads((0..).zip(shapes), |parameter| {
        let parameter = fill(parameter);
        filled.lock().unwrap().push(parameter);
    });
    filled.into_inner().unwrap()
}

/// Works on each of some things, up to four at a time, in their order.
fn on_threads<T>(things: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let left = Mutex::new(things);
    let next = || left.lock().unwrap().next();
    let all = || {
        while let Some(thing) = next() {
            work(thing);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(all))));
}

fn state(net: &Net) -> StateDict {
    parameters(net).into_iter().map(|(name, shape, values)| (name, Tensor::new(shape, values))).collect()
}

/// The definition with the same parameters: those of a net that differs in its pictures alone, if they fit, or made anew.
fn reference(net: &Net, others: Tensors<f64>) -> Reference<'_, f64> {
    let made = || parameters(net).into_iter().map(|(name, _, values)| (name, wide(&values))).collect();
    Reference::new(net, others).or_else(|_| Reference::new(net, made())).unwrap()
}

fn pictures(count: usize, [channels, height, width]: [usize; 3]) -> Vec<f32> {
    pattern(1000, count * channels * height * width).into_iter().map(|x| x as f32).collect()
}

fn labels(batch: usize) -> Vec<u32> {
    (0..batch as u32).map(|i| i * 3 % CLASSES as u32).collect()
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
    let golden = golden();
    assert_eq!(golden.len(), NETWORKS);
    for (name, golden) in golden {
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
        // What the tests by the definition rely on.
        let trained = net.parameters().iter().filter(|(_, _, p)| p.role != Role::Buffer).count();
        assert_eq!((golden.small.len(), golden.step.gradients.len()), (2, trained), "{name}: logits and gradients");
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
    let _alone = alone();
    let engine = Engine::new(0).unwrap();
    let mut failures = Vec::new();
    for (name, golden) in golden() {
        let sizes = [([224, 224], &golden.logits_224x224), ([160, 224], &golden.logits_160x224)];
        let large = sizes.into_iter().filter_map(|(size, golden)| Some((size, golden.as_ref()?)));
        // No parameter's shape depends on the pictures' size.
        let weights = state(&net(&name, [3, 224, 224], None));
        for (size, golden) in large.chain(golden.small.iter().map(|small| (small.size, &small.logits))) {
            let input = [3, size[0], size[1]];
            let net = net(&name, input, None);
            let mut inference = Inference::new(&net, &engine, 1, weights.clone()).unwrap();
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

/// Largest relative difference between the definition's f64 and torchvision's.
const TOLERANCE: f64 = 1e-5;

/// Holds what the definition computes in f64 against torchvision's: logits of two sizes of pictures in inference, and a
/// training step's loss and gradients by every parameter. The largest networks come first.
fn check_by_definition(which: impl Fn(&str) -> bool) {
    let mut networks: Vec<_> = golden().into_iter().filter(|(name, _)| which(name)).collect();
    networks.sort_by_key(|(_, golden)| Reverse(golden.params));
    let failures = Mutex::new(Vec::new());
    on_threads(networks.into_iter(), |(name, golden)| {
        let start = Instant::now();
        let mut tensors = Tensors::new();
        let logits = golden.small.iter().map(|small| small_logits(&name, small, &mut tensors));
        let mut found: Vec<(String, f64)> = logits.collect();
        found.extend(loss_and_gradients(&name, &golden.step, tensors));
        let largest = found.iter().map(|(_, off)| *off).fold(0.0, f64::max);
        println!("{name}: {largest:.1e}, {:.1} s", start.elapsed().as_secs_f64());
        let wrong = found.into_iter().filter(|(_, off)| off.is_nan() || *off > TOLERANCE);
        failures.lock().unwrap().extend(wrong.map(|(what, off)| format!("{name}: {what} is off by {off:e}")));
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
}

/// How far the definition's logits are from torchvision's.
fn small_logits(name: &str, golden: &Small, tensors: &mut Tensors<f64>) -> (String, f64) {
    let [height, width] = golden.size;
    let input = [3, height, width];
    let net = net(name, input, None);
    let mut reference = reference(&net, mem::take(tensors));
    let found = reference.forward(&wide(&pictures(1, input)), Mode::Inference).unwrap();
    *tensors = mem::take(reference.tensors_mut());
    (format!("a logit of {height}x{width}"), distance(&found, &golden.logits))
}

/// How far the definition's loss of a training step and its gradients are from torchvision's: each gradient relative to its
/// norm, or to [`NOTHING`] of the largest norm.
fn loss_and_gradients(name: &str, golden: &WholeStep, tensors: Tensors<f64>) -> Vec<(String, f64)> {
    let input = [3, golden.side, golden.side];
    let net = net(name, input, None);
    let labels: Vec<usize> = labels(golden.batch).into_iter().map(|label| label as usize).collect();
    let mut gradients: BTreeMap<String, Projected> = BTreeMap::new();
    let mut take = |name, gradient: Vec<f64>| {
        let projection = dot(&gradient, &pattern(PROJECTION, gradient.len()));
        gradients.insert(name, [dot(&gradient, &gradient).sqrt(), projection]);
    };
    let mode = Mode::Training { run_seed: 0, step: 0 };
    let images = wide(&pictures(golden.batch, input));
    let pass = reference(&net, tensors).pass_to(&images, &labels, mode, &mut take).unwrap();
    assert_eq!(gradients.len(), golden.gradients.len(), "{name}: gradients");
    let largest = golden.gradients.iter().fold(0.0, |largest: f64, [norm, _]| largest.max(*norm));
    let off = |found: Projected, golden: Projected| {
        let difference = (found[0] - golden[0]).abs() + (found[1] - golden[1]).abs();
        difference / golden[0].max(NOTHING * largest)
    };
    let loss = ("the loss".to_string(), (pass.loss - golden.loss).abs() / golden.loss);
    let gradients = gradients.into_iter().zip(&golden.gradients);
    let gradients = gradients.map(|((key, found), golden)| (format!("the gradient by {key}"), off(found, *golden)));
    [loss].into_iter().chain(gradients).collect()
}

/// Below this share of the largest gradient's norm, a gradient is what rounding leaves of 0: that by a shift which the next
/// batch norm takes away (620 of 17,315, all below 2e-16; the smallest other one is 1.5e-7).
const NOTHING: f64 = 1e-9;

#[test]
fn small_networks_by_the_definition_are_torchvisions() {
    check_by_definition(|name| FAST.contains(&name));
}

/// The smallest network of each family without a fast one.
fn of_each_family() -> Vec<String> {
    let family = |name: &str| zoo::find(name).unwrap().family;
    let mut smallest: BTreeMap<&str, (u64, String)> = BTreeMap::new();
    for (name, golden) in golden() {
        let found = smallest.entry(family(&name)).or_insert((golden.params, name.clone()));
        if golden.params < found.0 {
            *found = (golden.params, name);
        }
    }
    FAST.iter().for_each(|name| drop(smallest.remove(family(name))));
    smallest.into_values().map(|(_, name)| name).collect()
}

#[test]
#[ignore = "slow: a network of each family in f64; needs 4 GB of memory"]
fn a_network_of_each_family_by_the_definition_is_torchvisions() {
    let _alone = alone();
    let networks = of_each_family();
    check_by_definition(|name| networks.iter().any(|network| network == name));
}

#[test]
#[ignore = "minutes: 62 networks in f64; needs 8 GB of memory"]
fn larger_networks_by_the_definition_are_torchvisions() {
    let _alone = alone();
    check_by_definition(|name| !FAST.contains(&name));
}

/// Held by tests that take gigabytes of memory, or every core: one of them runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One network of each family. A gradient may be off by 1e-3, or by as much as it moves when weights move by a millionth.
#[test]
#[ignore = "seconds per network"]
fn gradients_of_the_engine_are_torchvisions() {
    let engine = Engine::new(0).unwrap();
    for (name, golden) in golden() {
        let Some(golden) = golden.training else { continue };
        let input = [3, golden.side, golden.side];
        let net = net(&name, input, Some(CLASSES));
        let mut training = Training::new(&net, &engine, BATCH, &state(&net), PLAIN, 0).unwrap();
        let loss = training.step(&pictures(BATCH, input), &labels(BATCH), 0.0).unwrap().loss;
        let off = (loss - golden.loss).abs() / golden.loss;
        println!("{name}: loss {off:.1e}");
        assert!(off <= 1e-3, "{name}: loss {loss}, not {}", golden.loss);
        let gradients = training.last_gradients();
        for (key, golden) in &golden.gradients {
            let distance = distance(&wide(gradients[key].data()), golden);
            println!("{name} {key}: {distance:.1e}");
            assert!(distance <= 1e-3_f64.max(golden.noise), "{name}: the gradient by {key} is off by {distance:e}");
        }
    }
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
    let _alone = alone();
    let engine = Engine::new(0).unwrap();
    for model in zoo::models() {
        let input = small_input(model);
        let net = net(model.name, input, Some(CLASSES));
        let weights = convnet::weights::init(&net, 0);
        let mut training = Training::new(&net, &engine, BATCH, &weights, PLAIN, 0).unwrap();
        let loss = training.step(&pictures(BATCH, input), &labels(BATCH), 0.01).unwrap().loss;
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
