//! Graphs built here, read and run, against what they compute by hand or against nets of ours; and files that lie.

use std::fs;
use std::path::Path;
use std::time::Instant;

use prost::Message;

use super::proto::{
    Attribute, Dimension, EXTERNAL, Entry, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
};
use super::{Export, Imported, Options, read, write};
use crate::classifier::Classifier;
use crate::exec::{Engine, Inference};
use crate::net::Net;
use crate::weights::{Fitting, NetChoice};
use crate::zoo::{self, ZooOptions};
use crate::{Result, StateDict};
use convnet_kernels::reference::gradcheck::pattern;

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor { name: name.into(), dims: dims.to_vec(), data_type: 1, raw_data: Some(raw.into()), ..Tensor::default() }
}

fn ints(name: &str, values: &[i64]) -> Tensor {
    let dims = vec![values.len() as i64];
    Tensor { name: name.into(), dims, data_type: 7, int64_data: values.to_vec(), ..Tensor::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, &[i64])]) -> Node {
    let attribute = |&(name, ints): &(&str, &[i64])| match ints {
        &[i] if !matches!(name, "axes" | "perm") => Attribute { name: name.into(), i, kind: 2, ..Attribute::default() },
        ints => Attribute { name: name.into(), ints: ints.to_vec(), kind: 7, ..Attribute::default() },
    };
    Node {
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: vec![output.into()],
        name: format!("/{output}/{operator}"),
        op_type: operator.into(),
        attribute: attributes.iter().map(attribute).collect(),
        ..Node::default()
    }
}

fn value(name: &str, dims: &[Option<i64>]) -> ValueInfo {
    let dim = dims.iter().map(|&value| Dimension { value, param: value.is_none().then(|| "n".into()) }).collect();
    let tensor = TensorType { element: 1, shape: Some(Shape { dim }) };
    ValueInfo { name: name.into(), kind: Some(Type { tensor: Some(tensor) }) }
}

fn model(input: &[Option<i64>], nodes: Vec<Node>, initializer: Vec<Tensor>) -> Model {
    let output = nodes.last().and_then(|node| node.output.first()).map(|name| value(name, &[])).into_iter().collect();
    let graph = Graph { node: nodes, name: "g".into(), initializer, input: vec![value("x", input)], output };
    Model {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: 17 }],
        ..Model::default()
    }
}

fn in_file(model: &Model, options: &Options) -> Result<Imported> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();
    read(&path, options)
}

fn imported(model: &Model) -> Imported {
    in_file(model, &Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn problem(model: &Model) -> String {
    in_file(model, &Options::default()).err().map(|error| error.to_string()).unwrap_or_default()
}

fn run(imported: &Imported, pictures: &[f32], count: usize) -> Vec<f32> {
    let engine = Engine::new(1).unwrap();
    let mut inference = Inference::new(&imported.net, &engine, count, &imported.weights).unwrap();
    inference.run(pictures, count).unwrap().to_vec()
}

fn operations(net: &Net) -> Vec<&str> {
    net.nodes().iter().map(|node| node.op.name()).collect()
}

/// Pictures of NHWC, a product on channels, a mean over pixels, a head: no transpose is left.
#[test]
fn what_is_written_in_nhwc_is_a_net_of_ours() {
    let nodes = vec![
        node("Transpose", &["x"], "nchw", &[("perm", &[0, 3, 1, 2])]),
        node("Relu", &["nchw"], "relu", &[]),
        node("Transpose", &["relu"], "nhwc", &[("perm", &[0, 2, 3, 1])]),
        node("MatMul", &["nhwc", "w"], "product", &[]),
        node("Add", &["product", "b"], "sum", &[]),
        node("ReduceMean", &["sum"], "mean", &[("axes", &[1, 2]), ("keepdims", &[0])]),
        node("MatMul", &["mean", "head"], "logits", &[]),
    ];
    let tensors = vec![
        floats("w", &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]),
        floats("b", &[2], &[0.5, -0.5]),
        floats("head", &[2, 2], &[1.0, 2.0, 0.0, 1.0]),
    ];
    let imported = imported(&model(&[None, Some(2), Some(1), Some(3)], nodes, tensors));
    let expected = ["input", "relu", "linear", "adaptive_avg_pool2d", "flatten", "linear"];
    assert_eq!(operations(&imported.net), expected);
    // A picture of two pixels, channel by channel: (1, 2, -3) and (3, -4, 5).
    let logits = run(&imported, &[1.0, 3.0, 2.0, -4.0, -3.0, 5.0], 1);
    // Pixels give (1, 2) and (8, 5) plus the bias; their mean is (5, 3).
    assert_eq!(logits, [5.0, 13.0]);
}

/// Elements of a map in the order of NHWC go through a matrix: its columns are put in our order.
#[test]
fn a_flattened_map_of_nhwc_keeps_its_order() {
    let nodes = vec![
        node("Transpose", &["x"], "nhwc", &[("perm", &[0, 2, 3, 1])]),
        node("Reshape", &["nhwc", "shape"], "flat", &[]),
        node("Gemm", &["flat", "w", "b"], "logits", &[("transB", &[1])]),
    ];
    let weight: Vec<f32> = (0..8).map(|index| index as f32).collect();
    let tensors = vec![ints("shape", &[-1, 8]), floats("w", &[1, 8], &weight), floats("b", &[1], &[1.0])];
    let imported = imported(&model(&[None, Some(2), Some(2), Some(2)], nodes, tensors));
    assert_eq!(operations(&imported.net), ["input", "flatten", "linear"]);
    // One pixel of one channel at a time: channel c at pixel p has the factor 2p + c.
    for (place, factor) in [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0].into_iter().enumerate() {
        let mut picture = [0.0; 8];
        picture[place] = 1.0;
        assert_eq!(run(&imported, &picture, 1), [factor + 1.0]);
    }
}

#[test]
fn any_number_of_pictures_of_any_size() {
    let nodes = vec![
        node("Shape", &["x"], "shape", &[]),
        node("Gather", &["shape", "zero"], "n", &[("axis", &[0])]),
        node("GlobalAveragePool", &["x"], "mean", &[]),
        node("Concat", &["n", "open"], "dims", &[("axis", &[0])]),
        node("Reshape", &["mean", "dims"], "logits", &[]),
    ];
    let tensors = vec![ints("zero", &[0]), ints("open", &[-1])];
    let model = model(&[None, Some(3), None, None], nodes, tensors);
    let found = imported(&model);
    assert_eq!(
        (found.net.input_shape().to_string(), found.assumed),
        ("3x224x224".into(), vec!["pictures of 3x224x224".into()])
    );
    let small = in_file(&model, &Options { input: Some([3, 1, 2]) }).unwrap();
    assert!(small.assumed.is_empty());
    let pictures: Vec<f32> = (0..12).map(|index| index as f32).collect();
    assert_eq!(run(&small, &pictures, 2), [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]);
}

#[test]
fn all_that_is_not_read_is_named_at_once() {
    let nodes = vec![
        node("Resize", &["x"], "a", &[]),
        node("Relu", &["a"], "b", &[]),
        node("Einsum", &["b"], "c", &[]),
        node("Resize", &["c"], "d", &[]),
    ];
    let message = problem(&model(&[None, Some(3), Some(4), Some(4)], nodes, Vec::new()));
    for expected in ["net.onnx: nodes that", "opset 17, written by test", "Einsum: is not supported: '/c/Einsum'"] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(message.contains("Resize: is not supported: '/a/Resize', '/d/Resize'"), "{message}");
    let two = Model { opset_import: vec![OperatorSet { domain: String::new(), version: 3 }], ..Model::default() };
    let message = problem(&Model { graph: Some(Graph::default()), ir_version: 3, ..two });
    assert!(message.contains("an opset from 7 to 28, got 3"), "{message}");
}

#[test]
fn elements_in_other_files_stay_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, outside) = (folder.path().join("in"), folder.path().join("secret"));
    fs::create_dir(&inside).unwrap();
    let content: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(&outside, &content).unwrap();
    fs::write(inside.join("w.data"), &content).unwrap();
    let read_from = |location: &str, offset: &str| {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        let external_data = vec![entry("location", location), entry("offset", offset)];
        let tensor = Tensor { data_location: EXTERNAL, external_data, raw_data: None, ..floats("w", &[2, 1], &[]) };
        let nodes = vec![node("MatMul", &["x", "w"], "y", &[])];
        let path = inside.join("net.onnx");
        fs::write(&path, model(&[None, Some(2)], nodes, vec![tensor]).encode_to_vec()).unwrap();
        read(&path, &Options::default()).map_err(|error| error.to_string())
    };
    let imported = read_from("w.data", "8").unwrap();
    assert_eq!(imported.weights.values().next().unwrap().data(), [3.0, 4.0]);
    for location in ["../secret", "/etc/passwd", "a\\..\\secret", outside.to_str().unwrap(), ".", ""] {
        let message = read_from(location, "0").unwrap_err();
        assert!(message.contains("in the folder of the model"), "{location}: {message}");
    }
    assert!(read_from("w.data", "12").unwrap_err().contains("which has 16"));
    assert!(read_from("w.data", "18446744073709551615").unwrap_err().contains("which has 16"));
    assert!(read_from("gone", "0").unwrap_err().contains("gone"));
    link(&outside, &inside.join("link"));
    assert!(read_from("link", "0").unwrap_err().contains("link"));
}

#[cfg(unix)]
fn link(target: &Path, place: &Path) {
    std::os::unix::fs::symlink(target, place).unwrap();
}

#[cfg(not(unix))]
fn link(target: &Path, place: &Path) {
    fs::copy(target, place).unwrap();
}

/// Files of some bytes that stand for gigabytes, and files that lie about their sizes: an error at once.
#[test]
fn bombs_and_lies_are_errors_at_once() {
    let start = Instant::now();
    let input = [None, Some(3), Some(4), Some(4)];
    let huge = || ints("huge", &[1 << 20, 1 << 20]);
    let of_shape = node("ConstantOfShape", &["huge"], "w", &[]);
    let conv = node("Conv", &["x", "w"], "y", &[]);
    for (expected, model) in [
        ("at most 16777216 elements", model(&input, vec![of_shape, conv.clone()], vec![huge()])),
        ("at most 16777216 elements", {
            let expand = node("Expand", &["one", "huge"], "w", &[]);
            model(&input, vec![expand, conv.clone()], vec![huge(), floats("one", &[1], &[1.0])])
        }),
        ("expected 64 bytes", model(&input, vec![conv.clone()], vec![floats("w", &[4, 4], &[1.0])])),
        ("a shape of", model(&input, vec![conv.clone()], vec![floats("w", &[i64::MAX, 8], &[1.0])])),
        ("a shape of", model(&input, vec![conv.clone()], vec![floats("w", &[-1], &[1.0])])),
        (
            "in a circle",
            model(&input, vec![node("Relu", &["y"], "z", &[]), node("Relu", &["z"], "y", &[])], Vec::new()),
        ),
        ("two nodes give the tensor 'y'", {
            model(&input, vec![node("Relu", &["x"], "y", &[]), node("Tanh", &["x"], "y", &[])], Vec::new())
        }),
        ("at most 100000 nodes", model(&input, vec![Node::default(); 100_001], Vec::new())),
        (
            "does not depend on its input",
            model(&input, vec![node("Identity", &["c"], "y", &[])], vec![floats("c", &[1], &[0.0])]),
        ),
        ("expected an input 'gone'", model(&input, vec![node("Relu", &["gone"], "y", &[])], Vec::new())),
    ] {
        let message = problem(&model);
        assert!(message.contains(expected), "expected '{expected}': {message}");
    }
    // A graph of 10 million nodes in 20 MB.
    let nodes = [0x0a_u8, 0].repeat(10_000_000);
    let mut bytes = vec![0x08, 8, 0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    fs::write(&path, bytes).unwrap();
    assert!(read(&path, &Options::default()).unwrap_err().to_string().contains("fields"));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// Every way in which a sound file can be cut off or have a byte changed: an error or a net, never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let nodes = vec![
        node("Conv", &["x", "w"], "y", &[("pads", &[1, 1, 1, 1])]),
        node("Shape", &["y"], "shape", &[]),
        node("Slice", &["shape", "zero", "two"], "dims", &[]),
        node("Concat", &["dims", "open"], "all", &[("axis", &[0])]),
        node("Reshape", &["y", "all"], "z", &[]),
        node("Softmax", &["z"], "last", &[("axis", &[1])]),
    ];
    let tensors =
        vec![floats("w", &[2, 3, 3, 3], &[0.5; 54]), ints("zero", &[0]), ints("two", &[2]), ints("open", &[-1])];
    let bytes = model(&[None, Some(3), Some(4), Some(4)], nodes, tensors).encode_to_vec();
    let external = super::External::default();
    let parse = |bytes: Vec<u8>| super::parse(bytes.into(), &external, "net", &Options::default()).map(|_| ());
    for length in 0..bytes.len() {
        let _ = parse(bytes[..length].to_vec());
    }
    for place in 0..bytes.len() {
        for change in [0x01, 0x80, 0xff, 0x7f] {
            let mut damaged = bytes.clone();
            damaged[place] ^= change;
            let _ = parse(damaged);
        }
    }
}

/// An ONNX file is a file of weights that knows its net; classes that its metadata name are taken.
#[test]
fn a_classifier_of_an_onnx_file() {
    let nodes = vec![
        node("Conv", &["x", "stem.conv.weight"], "y", &[]),
        node("GlobalAveragePool", &["y"], "z", &[]),
        node("Flatten", &["z"], "logits", &[("axis", &[1])]),
    ];
    let weight = floats("stem.conv.weight", &[2, 3, 1, 1], &[1.0; 6]);
    let metadata_props = vec![Entry { key: "classes".into(), value: "[\"cat\", \"dog\"]".into() }];
    let model = Model { metadata_props, ..model(&[None, Some(3), Some(8), Some(8)], nodes, vec![weight]) };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pets.onnx");
    fs::write(&path, model.encode_to_vec()).unwrap();
    let classifier = Classifier::load(None, &path).unwrap();
    assert_eq!(
        (classifier.description.net().name(), classifier.description.classes()),
        ("pets", &["cat", "dog"].map(String::from)[..])
    );
    assert_eq!(classifier.weights.keys().collect::<Vec<_>>(), ["stem.conv.weight"]);
    let message = Classifier::load(Some(classifier.description.net().clone()), &path).unwrap_err().to_string();
    assert!(message.contains("pets.onnx: not weights: it is an ONNX model"), "{message}");
}

/// What was padded before a pooling that rounds up is not the pooling's own padding: a last window may begin in it.
#[test]
fn a_pooling_that_rounds_up_keeps_windows_in_what_was_padded() {
    let tensors = vec![ints("pads", &[0, 0, 0, 0, 0, 0, 1, 1])];
    let nodes = vec![
        node("Relu", &["x"], "r", &[]),
        node("Pad", &["r", "pads"], "p", &[]),
        node("MaxPool", &["p"], "y", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2]), ("ceil_mode", &[1])]),
    ];
    let found = imported(&model(&[None, Some(2), Some(4), Some(4)], nodes, tensors));
    assert_eq!(found.net.output_shape().to_string(), "2x3x3");
}

/// A mean that was turned before it is subtracted is another one: no layer norm.
#[test]
fn a_turned_mean_is_no_part_of_a_layer_norm() {
    let of = |turned: &str| {
        let nodes = vec![
            node("ReduceMean", &["x"], "m", &[("axes", &[1])]),
            node("Transpose", &["m"], "mt", &[("perm", &[0, 1, 3, 2])]),
            node("Sub", &["x", turned], "c", &[]),
            node("Mul", &["c", "c"], "s", &[]),
            node("ReduceMean", &["s"], "v", &[("axes", &[1])]),
            node("Add", &["v", "eps"], "e", &[]),
            node("Sqrt", &["e"], "d", &[]),
            node("Div", &["c", "d"], "y", &[]),
        ];
        model(&[None, Some(3), Some(4), Some(4)], nodes, vec![floats("eps", &[], &[1e-5])])
    };
    assert_eq!(operations(&imported(&of("m")).net), ["input", "layer_norm2d"]);
    assert!(problem(&of("mt")).contains("Sub: expected"), "{}", problem(&of("mt")));
}

#[test]
fn what_would_be_another_number_is_refused() {
    let input = [None, Some(2), Some(4), Some(4)];
    let of = |node: Node, tensors: Vec<Tensor>| problem(&model(&input, vec![node], tensors));
    assert!(of(node("Cast", &["x"], "y", &[("to", &[7])]), Vec::new()).contains("a cast to the type 7"));
    let dropout = node("Dropout", &["x", "", "training"], "y", &[]);
    assert!(of(dropout, vec![ints("training", &[1])]).contains("dropout of training"));
    // A product over rows, which are as many as channels of another tensor.
    let square = [None, Some(4), Some(4), Some(4)];
    for nodes in [
        vec![node("MatMul", &["x", "w"], "y", &[])],
        vec![node("Transpose", &["x"], "t", &[("perm", &[0, 1, 3, 2])]), node("MatMul", &["t", "w"], "y", &[])],
    ] {
        let message = problem(&model(&square, nodes, vec![floats("w", &[4, 4], &[1.0; 16])]));
        assert!(message.contains("expected channels as the last dimension"), "{message}");
    }
    let gemm = node("Gemm", &["x", "w", "c"], "y", &[]);
    let empty = vec![floats("w", &[2, 3], &[0.0; 6]), floats("c", &[0], &[])];
    assert!(problem(&model(&[None, Some(2)], vec![gemm], empty)).contains("not empty"));
    let twice = node("Slice", &["k", "zero", "one", "axes"], "y", &[]);
    let tensors = vec![ints("k", &[1, 2]), ints("zero", &[0, 0]), ints("one", &[1, 1]), ints("axes", &[0, 0])];
    assert!(of(twice, tensors).contains("axes that differ"));
}

/// Sizes that only a header says, and graphs whose paths are as many as 2^40: errors or nets at once.
#[test]
fn what_is_large_or_deep_takes_no_time() {
    let start = Instant::now();
    for features in [1_i64 << 62, 1 << 36, 1 << 21] {
        let add = node("Add", &["x", "one"], "y", &[]);
        let message = problem(&model(&[None, Some(features)], vec![add], vec![floats("one", &[], &[1.0])]));
        assert!(message.contains("at most"), "{message}");
    }
    let mut nodes = vec![node("Relu", &["x"], "a0", &[])];
    for level in 0..40 {
        let (from, to) = (format!("a{level}"), format!("a{}", level + 1));
        nodes.push(node("Add", &[&from, &from], &to, &[]));
    }
    nodes.push(node("Pad", &["a40", "pads"], "p", &[]));
    nodes.push(node("MaxPool", &["p"], "y", &[("kernel_shape", &[2, 2])]));
    let pads = vec![ints("pads", &[0, 0, 1, 1, 0, 0, 0, 0])];
    imported(&model(&[None, Some(2), Some(4), Some(4)], nodes, pads));
    // Scales of four million features, a hundred times.
    let input = [None, Some(1 << 20)];
    let mut nodes = vec![node("Add", &["x", "one"], "a0", &[])];
    for level in 0..100 {
        nodes.push(node("Add", &[&format!("a{level}"), "one"], &format!("a{}", level + 1), &[]));
    }
    assert!(problem(&model(&input, nodes, vec![floats("one", &[], &[1.0])])).contains("elements that are computed"));
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

/// One of each family, and the lecture's: written and read again, they give the same bits.
#[test]
fn what_is_written_is_read_again_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(0).unwrap();
    let options = ZooOptions { input: Some([3, 64, 64]), classes: Some(7), ..ZooOptions::default() };
    for name in [
        "resnet18",
        "squeezenet1_1",
        "densenet121",
        "googlenet",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "mnasnet0_5",
        "shufflenet_v2_x0_5",
        "efficientnet_b0",
        "regnet_y_400mf",
        "convnext_tiny",
        "resnet20",
        "cnn",
        "airbench94",
    ] {
        let options = if zoo::find(name).unwrap().input[1] < 64 {
            ZooOptions { input: None, ..options.clone() }
        } else {
            options.clone()
        };
        let net = zoo::by_name(name, &options).unwrap();
        let classifier = Classifier::untrained(net, 3).unwrap();
        let path = folder.path().join(format!("{name}.onnx"));
        let pictures: Vec<f32> = pattern(5, 2 * classifier.description.net().input_shape().elements())
            .into_iter()
            .map(|x| x as f32)
            .collect();
        let run = |net: &Net, weights: &StateDict| {
            Inference::new(net, &engine, 2, weights).unwrap().run(&pictures, 2).unwrap().to_vec()
        };
        let expected = run(classifier.description.net(), &classifier.weights);
        for folded in [false, true] {
            write(&path, &classifier, &Export { folded, ..Export::default() }).unwrap();
            let (found, notes) = Classifier::open(&path, &NetChoice::Own, &Fitting::default()).unwrap();
            assert_eq!(notes, [], "{name}");
            assert_eq!(run(found.description.net(), &found.weights), expected, "{name}, folded: {folded}");
            assert_eq!(found.description.preprocessing(), classifier.description.preprocessing(), "{name}");
        }
    }
}

/// What is written beside the weights, and how.
#[test]
fn a_written_file_says_its_classes_and_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.onnx");
    let net = zoo::by_name("cnn", &ZooOptions { classes: Some(2), ..ZooOptions::default() }).unwrap();
    let mut classifier = Classifier::untrained(net, 0).unwrap();
    classifier.description = classifier.description.with_classes(vec!["cat".into(), "dog".into()]).unwrap();
    write(&path, &classifier, &Export { batch: Some(4), softmax: true, half: true, ..Export::default() }).unwrap();
    let model = Model::decode(&fs::read(&path).unwrap()[..]).unwrap();
    let graph = model.graph.unwrap();
    let dims = |value: &ValueInfo| {
        let shape = value.kind.clone().unwrap().tensor.unwrap().shape.unwrap();
        shape.dim.iter().map(|dim| dim.value).collect::<Vec<_>>()
    };
    assert_eq!(dims(&graph.input[0]), [4, 1, 28, 28].map(Some));
    assert_eq!((dims(&graph.output[0]), &graph.output[0].name[..]), ([4, 2].map(Some).to_vec(), "probabilities"));
    assert!(graph.initializer.iter().all(|tensor| tensor.data_type == 10));
    let found = Classifier::load(None, &path).unwrap();
    assert_eq!(found.description.classes(), ["cat", "dog"]);
    let off = |name: &str| {
        let pairs = found.weights[name].data().iter().zip(classifier.weights[name].data());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(off("conv1.weight") > 0.0 && off("conv1.weight") < 1e-3);
}
