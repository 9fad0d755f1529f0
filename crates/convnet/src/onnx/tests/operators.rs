//! Operators that a net computes in another way.

use super::super::proto::{Attribute, Model, Node, OperatorSet, Tensor};
use super::{floats, imported, ints, model, node, operations, problem, run};

fn close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    assert!(off < 1e-5, "{found:?}, expected {expected:?}");
}

/// Over channels alone, over everything, and as a sum.
#[test]
fn means_over_channels() {
    let input = [None, Some(2), Some(1), Some(2)];
    let of = |operator: &str, settings: &[(&str, &[i64])], tensors: Vec<Tensor>| {
        let inputs: Vec<&str> = std::iter::once("x").chain(tensors.iter().map(|tensor| &tensor.name[..])).collect();
        run(
            &imported(&model(&input, vec![node(operator, &inputs, "y", settings)], tensors.clone())),
            &[1.0, 2.0, 3.0, 6.0],
            1,
        )
    };
    close(&of("ReduceMean", &[("axes", &[1])], Vec::new()), &[2.0, 4.0]);
    close(&of("ReduceMean", &[("axes", &[1, 2, 3])], Vec::new()), &[3.0]);
    close(&of("ReduceSum", &[], vec![ints("axes", &[1])]), &[4.0, 8.0]);
    close(&of("ReduceSum", &[("keepdims", &[0])], vec![ints("axes", &[-1, -3])]), &[12.0]);
}

/// Batch, channels and length: windows of one axis.
#[test]
fn windows_over_one_axis() {
    let input = [None, Some(1), Some(4)];
    let of = |operator: Node, tensors: Vec<Tensor>| {
        let found = imported(&model(&input, vec![operator, node("Relu", &["y"], "z", &[])], tensors));
        run(&found, &[1.0, 2.0, 3.0, 4.0], 1)
    };
    let conv = node("Conv", &["x", "w"], "y", &[("pads", &[1, 0]), ("strides", &[2])]);
    // One number is an attribute of one number otherwise.
    let listed = |node: Node| {
        let attribute = node.attribute.into_iter().map(|Attribute { name, i, ints, .. }| {
            let ints = if ints.is_empty() { vec![i] } else { ints };
            Attribute { name, ints, kind: 7, ..Attribute::default() }
        });
        Node { attribute: attribute.collect(), ..node }
    };
    close(&of(listed(conv), vec![floats("w", &[1, 1, 3], &[1.0, 10.0, 100.0])]), &[210.0, 432.0]);
    let max = node("MaxPool", &["x"], "y", &[("kernel_shape", &[2]), ("strides", &[2])]);
    close(&of(listed(max), Vec::new()), &[2.0, 4.0]);
    let mean = node("AveragePool", &["x"], "y", &[("kernel_shape", &[2])]);
    close(&of(listed(mean), Vec::new()), &[1.5, 2.5, 3.5]);
    close(&of(node("GlobalAveragePool", &["x"], "y", &[]), Vec::new()), &[2.5]);
}

/// Every second pixel; a window with fewer pixels than others would need another divisor.
#[test]
fn means_with_dilation() {
    let of = |more: &[(&str, &[i64])]| {
        let settings = [&[("kernel_shape", &[1, 2][..]), ("dilations", &[1, 2])][..], more].concat();
        model(&[None, Some(1), Some(1), Some(4)], vec![node("AveragePool", &["x"], "y", &settings)], Vec::new())
    };
    close(&run(&imported(&of(&[])), &[1.0, 2.0, 3.0, 6.0], 1), &[2.0, 4.0]);
    let padded: [(&str, &[i64]); 2] = [("pads", &[0, 1, 0, 0]), ("count_include_pad", &[1])];
    close(&run(&imported(&of(&padded)), &[1.0, 2.0, 3.0, 6.0], 1), &[1.0, 2.0, 4.0]);
    assert!(problem(&of(&padded[..1])).contains("windows of as many pixels each"));
}

#[test]
fn slopes_of_each_channel() {
    let slopes = floats("slopes", &[2, 1, 1], &[0.5, 2.0]);
    let found = imported(&model(
        &[None, Some(2), Some(1), Some(2)],
        vec![node("PRelu", &["x", "slopes"], "y", &[])],
        vec![slopes],
    ));
    close(&run(&found, &[1.0, -2.0, -3.0, 4.0], 1), &[1.0, -1.0, -6.0, 4.0]);
}

#[test]
fn bounds_in_the_wrong_order_are_the_upper_one() {
    let tensors = vec![floats("low", &[], &[2.0]), floats("high", &[], &[1.0])];
    let found = imported(&model(&[None, Some(2)], vec![node("Clip", &["x", "low", "high"], "y", &[])], tensors));
    close(&run(&found, &[-5.0, 5.0], 1), &[1.0, 1.0]);
}

/// A product of two constants is a matrix like any other.
#[test]
fn products_of_constants() {
    let nodes = vec![
        node("Gemm", &["a", "b", "c"], "ab", &[("transA", &[1])]),
        node("MatMul", &["ab", "a"], "w", &[]),
        node("MatMul", &["x", "w"], "y", &[]),
    ];
    let tensors = vec![
        floats("a", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        floats("b", &[2, 2], &[1.0, 0.0, 0.0, 2.0]),
        floats("c", &[2], &[1.0, 0.0]),
    ];
    let found = imported(&model(&[None, Some(2)], nodes, tensors));
    assert_eq!(operations(&found.net), ["input", "linear"]);
    // [1 3; 2 4] · [1 0; 0 2] + [1 0] = [2 6; 3 8], times a: [20 28; 27 38].
    close(&run(&found, &[1.0, 1.0], 1), &[47.0, 66.0]);
}

/// Opset 6: an axis says where constants stand, and inference is what a flag says.
#[test]
fn opset_6_broadcasts_along_an_axis() {
    let input = [None, Some(2), Some(2), Some(2)];
    let old = |nodes: Vec<Node>, tensors: Vec<Tensor>| Model {
        opset_import: vec![OperatorSet { domain: String::new(), version: 6 }],
        ..model(&input, nodes, tensors)
    };
    let numbers = || vec![floats("c", &[2], &[10.0, 20.0])];
    let add = |settings: &[(&str, &[i64])]| old(vec![node("Add", &["x", "c"], "y", settings)], numbers());
    let along = [("broadcast", &[1][..]), ("axis", &[1])];
    let picture: Vec<f32> = (0..8).map(|index| index as f32).collect();
    close(&run(&imported(&add(&along)), &picture, 1), &[10.0, 11.0, 12.0, 13.0, 24.0, 25.0, 26.0, 27.0]);
    assert!(problem(&add(&along[..1])).contains("expected a constant of a number, or one for each channel"));
    let norm = |settings: &[(&str, &[i64])]| {
        old(vec![node("BatchNormalization", &["x", "c", "c", "c", "c"], "y", settings)], numbers())
    };
    imported(&norm(&[("is_test", &[1])]));
    assert!(problem(&norm(&[])).contains("expected running statistics"));
    assert!(problem(&old(vec![node("Dropout", &["x"], "y", &[])], Vec::new())).contains("expected inference"));
}

/// Parts of constants, as programs split shapes.
#[test]
fn constants_are_split() {
    let split = Node { output: vec!["first".into(), "rest".into()], ..node("Split", &["dims"], "first", &[]) };
    let nodes = vec![
        split,
        node("Concat", &["open", "rest"], "shape", &[("axis", &[0])]),
        node("Reshape", &["x", "shape"], "y", &[]),
    ];
    let found =
        imported(&model(&[None, Some(2), Some(1), Some(2)], nodes, vec![ints("dims", &[9, 4]), ints("open", &[-1])]));
    assert_eq!(found.net.output_shape().to_string(), "4");
}
