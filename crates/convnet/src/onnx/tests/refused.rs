//! What is not read is named, with the reason.

use super::super::proto::{Graph, Model, Node, OperatorSet, Tensor};
use super::{floats, imported, ints, model, node, operations, problem};

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
    assert!(message.contains("an opset from 6 to 28, got 3"), "{message}");
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

/// What a net cannot compute is named as what the reader does not know: node, operator, opset and producer, all of it at once.
#[test]
fn all_that_no_net_computes_is_named_at_once() {
    let nodes = vec![
        node("Erf", &["x"], "e", &[]),
        node("Pad", &["e", "pads", "one"], "p", &[]),
        node("Relu", &["p"], "r", &[]),
        node("Sqrt", &["x"], "m", &[]),
        node("GlobalAveragePool", &["r"], "a", &[]),
        node("GlobalAveragePool", &["m"], "b", &[]),
        node("Concat", &["a", "b"], "y", &[("axis", &[1])]),
    ];
    let tensors = vec![ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]), floats("one", &[], &[1.0])];
    let message = problem(&model(&[None, Some(2), Some(4), Some(4)], nodes, tensors));
    for expected in [
        "nodes that this version does not read (opset 17, written by test):",
        "Erf: expected an error function to be a part of GELU: '/e/Erf'",
        "Sqrt: expected a square root to be a part of a layer norm: '/m/Sqrt'",
    ] {
        assert!(message.contains(expected), "{message}");
    }
    let nodes = vec![node("Pad", &["x", "pads", "one"], "p", &[]), node("Relu", &["p"], "y", &[])];
    let tensors = vec![ints("pads", &[0, 0, 1, 1, 0, 0, 1, 1]), floats("one", &[], &[1.0])];
    let message = problem(&model(&[None, Some(2), Some(4), Some(4)], nodes, tensors));
    assert!(message.contains("Pad: expected padding of zeros where no pooling takes it, got 1: '/p/Pad'"), "{message}");
}

#[test]
fn files_without_opset_or_producer() {
    let relu = || vec![node("Relu", &["x"], "y", &[])];
    let input = [None, Some(2), Some(4), Some(4)];
    let none = Model { opset_import: Vec::new(), ..model(&input, relu(), Vec::new()) };
    assert!(problem(&none).ends_with("expected an opset from 6 to 28, got none"), "{}", problem(&none));
    let unknown = vec![node("Einsum", &["x"], "y", &[])];
    let nameless = Model { producer_name: String::new(), ..model(&input, unknown, Vec::new()) };
    assert!(problem(&nameless).contains("does not read (opset 17):"), "{}", problem(&nameless));
}

/// A net takes any number of pictures, each by itself.
#[test]
fn pictures_stay_apart() {
    let input = [Some(1), Some(4), Some(2), Some(2)];
    let first = vec![node("Gather", &["x", "zero"], "g", &[("axis", &[0])]), node("Relu", &["g"], "y", &[])];
    let scalar = Tensor { dims: Vec::new(), ..ints("zero", &[0]) };
    let message = problem(&model(&input, first, vec![scalar]));
    assert!(
        message.contains("Gather: expected all pictures of the batch, got 1 indices from 0 on of axis 0: '/g/Gather'"),
        "{message}"
    );
    let nodes = vec![node("Reshape", &["x", "shape"], "r", &[]), node("Relu", &["r"], "y", &[])];
    let message = problem(&model(&input, nodes, vec![ints("shape", &[4, -1])]));
    let expected = "Reshape: puts pictures and something else into one dimension: '/r/Reshape'";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn further_outputs_are_named_where_they_are_used() {
    let input = [None, Some(2), Some(4), Some(4)];
    let dropout = Node { output: vec!["d".into(), "mask".into()], ..node("Dropout", &["x"], "d", &[]) };
    let of = |nodes: Vec<Node>| problem(&model(&input, nodes, Vec::new()));
    let message = of(vec![dropout.clone(), node("Relu", &["mask"], "y", &[])]);
    let expected = "Relu: expected the first output of Dropout, got a further one, 'mask', which is not computed";
    assert!(message.contains(expected), "{message}");
    imported(&model(&input, vec![dropout, node("Relu", &["d"], "y", &[])], Vec::new()));
}
