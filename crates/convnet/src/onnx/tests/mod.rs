//! Graphs built here, read and run, against what they compute by hand or against nets of ours; and files that lie.

mod hostile;
mod operators;
mod refused;
mod written;

use std::fs;

use prost::Message;

use super::proto::{
    Attribute, Dimension, Entry, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
};
use super::{Imported, Options, read};
use crate::Result;
use crate::classifier::Classifier;
use crate::exec::{Engine, Inference};
use crate::net::Net;
use crate::weights::{Fitting, NetChoice};

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
    let small = in_file(&model, &Options { input: Some([3, 1, 2].into()) }).unwrap();
    assert!(small.assumed.is_empty());
    let pictures: Vec<f32> = (0..12).map(|index| index as f32).collect();
    assert_eq!(run(&small, &pictures, 2), [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]);
}

/// A tensor of one picture as a list, of which all is taken: it stays what it was.
#[test]
fn all_elements_of_a_list_are_the_list() {
    let all: Vec<i64> = (0..4).collect();
    let nodes = vec![
        node("Reshape", &["x", "list"], "flat", &[]),
        node("Gather", &["flat", "all"], "taken", &[("axis", &[0])]),
        node("Reshape", &["taken", "vector"], "again", &[]),
        node("Gemm", &["again", "w", "b"], "logits", &[("transB", &[1])]),
    ];
    let tensors = vec![
        ints("list", &[4]),
        ints("all", &all),
        ints("vector", &[1, 4]),
        floats("w", &[1, 4], &[1.0, 2.0, 3.0, 4.0]),
        floats("b", &[1], &[0.5]),
    ];
    let imported = imported(&model(&[Some(1), Some(1), Some(2), Some(2)], nodes, tensors));
    assert_eq!(run(&imported, &[1.0, 1.0, 1.0, 1.0], 1), [10.5]);
}

/// Padding that a program computes from sizes, as timm does for TensorFlow's "same": at least 0.
#[test]
fn known_numbers_are_kept_between_bounds() {
    let nodes = vec![
        node("Clip", &["pads", "zero"], "at_least", &[]),
        node("Clip", &["at_least", "", "two"], "between", &[]),
        node("Pad", &["x", "between"], "padded", &[]),
        node("Conv", &["padded", "ones"], "sum", &[]),
        node("Flatten", &["sum"], "logits", &[]),
    ];
    let scalar = |name: &str, value: i64| Tensor { dims: Vec::new(), ..ints(name, &[value]) };
    let tensors = vec![ints("pads", &[0, 0, -3, 0, 0, 0, 9, 1]), scalar("zero", 0), scalar("two", 2)];
    let tensors = [tensors, vec![floats("ones", &[1, 1, 4, 3], &[1.0; 12])]].concat();
    let imported = imported(&model(&[None, Some(1), Some(2), Some(2)], nodes, tensors));
    // Two rows below and a column to the right make one place of the kernel.
    assert_eq!(run(&imported, &[4.0, 3.0, 2.0, 1.0], 1), [10.0]);
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

/// Features of two axes go through norms and arithmetic as channels of one pixel.
#[test]
fn features_go_through_norms_and_arithmetic() {
    let ones = |name: &str, value: f32| floats(name, &[2], &[value; 2]);
    let nodes = vec![
        node("Mul", &["x", "two"], "m", &[]),
        node("BatchNormalization", &["m", "one", "zero", "zero", "one"], "n", &[]),
        node("Add", &["n", "one"], "a", &[]),
        node("Gemm", &["a", "w"], "y", &[]),
    ];
    let tensors = vec![ones("two", 2.0), ones("one", 1.0), ones("zero", 0.0), floats("w", &[2, 1], &[1.0, 1.0])];
    let found = imported(&model(&[None, Some(2)], nodes, tensors));
    let off = (run(&found, &[1.0, 2.0], 1)[0] - 8.0).abs();
    assert!(off < 1e-4, "{off}");
}

/// Zeros around positive numbers are left to a pooling, up to half its kernel.
#[test]
fn padding_beyond_half_a_kernel_stays_where_it_was() {
    let tensors = vec![ints("pads", &[0, 0, 3, 3, 0, 0, 3, 3])];
    let nodes = vec![
        node("Relu", &["x"], "r", &[]),
        node("Pad", &["r", "pads"], "p", &[]),
        node("MaxPool", &["p"], "y", &[("kernel_shape", &[2, 2]), ("strides", &[2, 2])]),
    ];
    let found = imported(&model(&[None, Some(1), Some(2), Some(2)], nodes, tensors));
    assert_eq!(operations(&found.net), ["input", "relu", "conv2d", "max_pool2d"]);
    let expected = [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(run(&found, &[1.0, 2.0, 3.0, 4.0], 1), expected);
}

#[test]
fn what_is_assumed_is_told() {
    let turned = vec![node("Transpose", &["x"], "t", &[("perm", &[0, 3, 1, 2])]), node("Relu", &["t"], "y", &[])];
    let found = imported(&model(&[None, Some(8), Some(6), Some(3)], turned, Vec::new()));
    assert_eq!(found.net.input_shape().to_string(), "3x8x6");
    let expected = "pictures of height, width and channels, as the last axis of its input has length 3";
    assert_eq!(found.assumed, [expected]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ten.onnx");
    let head = vec![
        node("GlobalAveragePool", &["x"], "m", &[]),
        node("Flatten", &["m"], "f", &[]),
        node("Gemm", &["f", "w"], "y", &[]),
    ];
    let weight = floats("w", &[3, 10], &[0.0; 30]);
    fs::write(&path, model(&[None, Some(3), None, None], head, vec![weight]).encode_to_vec()).unwrap();
    let fitting = Fitting { input: Some([3, 32, 32].into()), ..Fitting::default() };
    let (classifier, notes) = Classifier::open(&path, &NetChoice::Own, &fitting).unwrap();
    assert_eq!((classifier.description.input(), notes), ([3, 32, 32], Vec::new()));
    assert_eq!(classifier.description.classes()[9], "9");
}
