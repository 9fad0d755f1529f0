use super::*;
use crate::ops::samples::Sample;
use crate::ops::{AdaptiveAvgPool2d, AvgPool2d, Dropout, Linear, LocalResponseNorm, PadChannels, StochasticDepth};
use crate::zoo::{Cnn, cnn};
use convnet_kernels::reference::gradcheck::{assert_gradient, pattern};

const TRAINING: Mode = Mode::Training { run_seed: 11, step: 3 };

/// Parameters that are neither zero nor alike; variances are positive.
fn tensors(net: &Net) -> Tensors<f64> {
    let tensor = |(tag, (name, _, parameter)): (usize, (String, NodeId, crate::ops::Parameter))| {
        let values = pattern(tag as u32 + 1, parameter.shape.iter().product());
        let offset = if parameter.name == "running_var" { 1.5 } else { 0.1 };
        (name, values.into_iter().map(|x| offset + x / 2.0).collect())
    };
    net.parameters().into_iter().enumerate().map(tensor).collect()
}

fn small_cnn() -> Net {
    let settings = Cnn { xdim: [1, 12, 12], cdims: vec![4, 6], hdims: vec![10], ydim: 5, ..Cnn::default() };
    cnn(&settings).unwrap()
}

/// Average pooling, dropout of elements, strides, groups, no biases: what the lecture's CNN leaves out.
fn other_net() -> Net {
    let mut net = Net::new("other", Shape::Map([2, 7, 9])).unwrap();
    let conv = Conv2d { groups: 2, bias: false, ..Conv2d::new(4, Window { stride: [1, 2], ..Window::square(3) }) };
    net.then("conv", Op::Conv2d(conv)).unwrap();
    let window = Window { kernel: [2, 3], ..Window::square(2).stride(2).padding(1) };
    net.then("pool", Op::AvgPool2d(AvgPool2d { window, count_include_pad: false })).unwrap();
    net.then("relu", Op::RELU).unwrap();
    net.then("drop", Op::Dropout(Dropout { p: 0.25 })).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Op::Linear(Linear { bias: false, ..Linear::new(3) })).unwrap();
    net
}

/// Branches, their sums and concatenations, an auxiliary output, and the operations around them.
fn branched_net() -> Net {
    let mut net = Net::new("branched", Shape::Map([3, 6, 5])).unwrap();
    let conv = |channels| Op::Conv2d(Conv2d::new(channels, Window::square(3).padding(1)));
    let stem = net.then("stem", conv(4)).unwrap();
    let lrn = Op::LocalResponseNorm(LocalResponseNorm { size: 3, alpha: 0.5, beta: 0.75, k: 1.0 });
    let lrn = net.then("lrn", lrn).unwrap();
    let tanh = net.add("tanh", Op::TANH, &[stem]).unwrap();
    let joined = net.add("joined", Op::Concat, &[lrn, tanh, stem]).unwrap();
    let aside = net.then("aside_flatten", Op::Flatten).unwrap();
    let aside = net.add("aside", Op::Linear(Linear::new(4)), &[aside]).unwrap();
    net.add_auxiliary(aside, 0.3).unwrap();
    let pad = net.add("pad", Op::PadChannels(PadChannels { before: 3, after: 5 }), &[stem]).unwrap();
    let sum = net.add("sum", Op::Add, &[joined, pad, joined]).unwrap();
    net.add("pool", Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [4, 2] }), &[sum]).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Op::Linear(Linear::new(4))).unwrap();
    net
}

#[test]
fn gradients_of_branches() {
    check_gradients(&branched_net(), 2, TRAINING);
    check_gradients(&branched_net(), 1, Mode::Inference);
}

/// The gradients of every parameter and of the input against finite differences.
fn check_gradients(net: &Net, batch: usize, mode: Mode) {
    let classes = net.output_shape().elements();
    let input = pattern(100, batch * net.input_shape().elements());
    let labels: Vec<usize> = (0..batch).map(|n| (3 * n + 1) % classes).collect();
    let reference = Reference::new(net, tensors(net)).unwrap();
    let pass = reference.pass(&input, &labels, mode).unwrap();
    let loss = |reference: &Reference<f64>, input: &[f64]| reference.pass(input, &labels, mode).unwrap().loss;
    assert_eq!(loss(&reference, &input), pass.loss);
    assert_gradient("input", &input, &pass.input_gradient, |input| loss(&reference, input));
    for (name, _, parameter) in net.parameters() {
        if parameter.role == Role::Buffer {
            assert!(!pass.gradients.contains_key(&name));
            continue;
        }
        let mut changed = reference.clone();
        assert_gradient(&name, &reference.tensors[&name], &pass.gradients[&name], |values| {
            changed.tensors_mut().get_mut(&name).unwrap().copy_from_slice(values);
            loss(&changed, &input)
        });
    }
}

#[test]
fn gradients_of_the_lecture_cnn() {
    check_gradients(&small_cnn(), 3, TRAINING);
    check_gradients(&small_cnn(), 1, Mode::Inference);
}

#[test]
fn gradients_of_the_other_operations() {
    check_gradients(&other_net(), 2, TRAINING);
    check_gradients(&other_net(), 1, Mode::Inference);
}

#[test]
fn a_branch_that_nothing_asks_for_changes_nothing() {
    let net = small_cnn();
    let (input, labels) = (pattern(1, 2 * 144), [0, 4]);
    let expected = Reference::new(&net, tensors(&net)).unwrap().pass(&input, &labels, Mode::Inference).unwrap();

    let mut branched = Net::new("branched", net.input_shape()).unwrap();
    for node in &net.nodes()[1..] {
        let last = branched.find(&net.node(node.inputs[0]).name).unwrap();
        let id = branched.add(&node.name, node.op.clone(), &[last]).unwrap();
        if node.name == "pool1" {
            branched.add("aside", Op::Conv2d(Conv2d::new(2, Window::square(3))), &[id]).unwrap();
        }
    }
    let mut with_aside = tensors(&net);
    with_aside.insert("aside.weight".into(), vec![1.0; 2 * 4 * 9]);
    with_aside.insert("aside.bias".into(), vec![1.0; 2]);
    let mut found = Reference::new(&branched, with_aside).unwrap().pass(&input, &labels, Mode::Inference).unwrap();
    assert_eq!(found.gradients.remove("aside.weight"), Some(vec![0.0; 72]));
    assert_eq!(found.gradients.remove("aside.bias"), Some(vec![0.0; 2]));
    assert_eq!(found, expected);
}

#[test]
fn dropout_follows_seed_step_and_node() {
    let net = small_cnn();
    let reference = Reference::new(&net, tensors(&net)).unwrap();
    let input = pattern(1, 4 * 144);
    let logits = |run_seed, step| reference.forward(&input, Mode::Training { run_seed, step }).unwrap();
    assert_eq!(logits(1, 2), logits(1, 2));
    assert_ne!(logits(1, 2), logits(1, 3));
    assert_ne!(logits(1, 2), logits(2, 2));
    let seed = random::mix(random::mix(1, 2), 5);
    let keep = keep(NodeId(5), Mode::Training { run_seed: 1, step: 2 }).unwrap();
    assert!((0..1000).all(|i| keep(i, 0.5) == random::keep(seed, i, 0.5)));
}

#[test]
fn inference_leaves_buffers_and_training_moves_them() {
    let net = small_cnn();
    let reference = Reference::new(&net, tensors(&net)).unwrap();
    let buffers = |mode| reference.pass(&pattern(1, 288), &[1, 2], mode).unwrap().buffers;
    let kept = buffers(Mode::Inference);
    assert_eq!(
        kept.keys().collect::<Vec<_>>(),
        ["bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var"]
    );
    assert!(kept.iter().all(|(name, values)| &reference.tensors[name] == values));
    assert!(buffers(TRAINING).iter().all(|(name, values)| &reference.tensors[name] != values));
}

#[test]
fn mistakes_are_named() {
    let net = small_cnn();
    let reference = Reference::new(&net, tensors(&net)).unwrap();
    let message = |result: Result<Pass<f64>>| result.unwrap_err().to_string();
    let input = pattern(1, 288);
    assert!(message(reference.pass(&input[1..], &[0, 1], TRAINING)).contains("whole pictures of 1x12x12, got 287"));
    assert!(message(reference.pass(&input, &[0, 5], TRAINING)).contains("labels below 5, "));
    assert!(message(reference.pass(&input, &[0], TRAINING)).contains("labels of the pictures: expected 2"));
    let mut missing = tensors(&net);
    missing.remove("conv2.bias");
    assert!(Reference::new(&net, missing).unwrap_err().to_string().contains("'conv2.bias'"));
    let mut stranger = tensors(&net);
    stranger.insert("conv3.bias".into(), Vec::new());
    let stranger = Reference::new(&net, stranger).unwrap_err().to_string();
    assert_eq!(stranger, "unknown parameter 'conv3.bias': did you mean 'conv1.bias'?");
    let mut short = tensors(&net);
    short.get_mut("head.bias").unwrap().pop();
    assert!(Reference::new(&net, short).unwrap_err().to_string().contains("'head.bias': expected 5, got 4"));

    let mut tiny = Net::new("tiny", Shape::Map([2, 1, 1])).unwrap();
    tiny.then("bn", Op::BatchNorm2d(BatchNorm2d::default())).unwrap();
    let reference = Reference::new(&tiny, tensors(&tiny)).unwrap();
    assert!(message(reference.pass(&[1.0, 2.0], &[0], TRAINING)).contains("layer 'bn'"));
    assert!(reference.pass(&[1.0, 2.0], &[0], Mode::Inference).is_ok());
}

/// A net whose input goes through a layer with a number for each of its elements, then as many times as asked through the
/// operation, to a classifier.
fn net_of(sample: &Sample) -> Net {
    let mut net = Net::new("sample", sample.inputs[0]).unwrap();
    let inputs: Vec<NodeId> =
        (0..).zip(&sample.inputs).map(|(index, &shape)| input_of(&mut net, index, shape)).collect();
    net.add("op", sample.op.clone(), &inputs).unwrap();
    net.then("flatten", Op::Flatten).unwrap();
    net.then("head", Op::Linear(Linear::new(3))).unwrap();
    net
}

/// A node of that shape: the net's input for the first, of others a function of it.
fn input_of(net: &mut Net, index: usize, shape: Shape) -> NodeId {
    let name = |step: usize| format!("input{index}.{step}");
    match shape {
        _ if index == 0 => NodeId(0),
        Shape::Map([channels, h, w]) => {
            let pool = Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [h, w] });
            let pooled = net.add(&name(0), pool, &[NodeId(0)]).unwrap();
            net.add(&name(1), Op::Conv2d(Conv2d::new(channels, Window::square(1))), &[pooled]).unwrap()
        }
        Shape::Vector(features) => net.add(&name(0), Op::Linear(Linear::new(features)), &[NodeId(0)]).unwrap(),
    }
}

#[test]
fn gradients_of_every_operation() {
    for sample in Op::samples().into_iter().filter(|sample| !sample.inputs.is_empty()) {
        let net = net_of(&sample);
        check_gradients(&net, 2, TRAINING);
        check_gradients(&net, 1, Mode::Inference);
    }
}

#[test]
fn stochastic_depth_drops_whole_pictures_and_scales_the_others() {
    let mut net = Net::new("net", Shape::Map([2, 3, 1])).unwrap();
    net.then("depth", Op::StochasticDepth(StochasticDepth { p: 0.75 })).unwrap();
    let reference = Reference::new(&net, Tensors::new()).unwrap();
    let input = pattern(1, 40 * 6);
    assert_eq!(reference.forward(&input, Mode::Inference).unwrap(), input);
    let output = reference.forward(&input, TRAINING).unwrap();
    let keep = keep(NodeId(1), TRAINING).unwrap();
    let kept = (0..40).filter(|&n| keep(n, 0.75)).count();
    assert!((1..30).contains(&kept), "{kept} of 40 are kept");
    for (n, (x, y)) in input.chunks(6).zip(output.chunks(6)).enumerate() {
        let factor = if keep(n as u64, 0.75) { 4.0 } else { 0.0 };
        assert!(x.iter().zip(y).all(|(x, y)| *y == factor * x), "picture {n}");
    }
}

#[test]
fn a_linear_layer_at_each_pixel_is_the_layer_on_each_pixels_vector() {
    let layer = Linear { per_pixel: true, ..Linear::new(4) };
    let mut maps = Net::new("maps", Shape::Map([3, 2, 1])).unwrap();
    maps.then("fc", Op::Linear(layer)).unwrap();
    let mut vector = Net::new("vector", Shape::Vector(3)).unwrap();
    vector.then("fc", Op::Linear(Linear::new(4))).unwrap();
    assert_eq!(tensors(&maps), tensors(&vector));
    let run = |net: &Net, x: &[f64]| Reference::new(net, tensors(net)).unwrap().forward(x, Mode::Inference).unwrap();
    let [a, b] = [[1.0, 2.0, 3.0], [-4.0, 0.5, 6.0]];
    let interleaved = |[a, b]: [&[f64]; 2]| a.iter().zip(b).flat_map(|(a, b)| [*a, *b]).collect::<Vec<f64>>();
    let found = run(&maps, &interleaved([&a, &b]));
    let expected = interleaved([&run(&vector, &a), &run(&vector, &b)]);
    assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12));
    // Without being asked, a linear layer refuses maps, and says what to do.
    let message = maps.then("plain", Op::Linear(Linear::new(1))).unwrap_err().to_string();
    assert!(message.contains("put a flatten layer before it"), "{message}");
}
