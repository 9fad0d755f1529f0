//! Files that lie, or stand for more than they are: errors at once.

use std::fs;
use std::path::Path;
use std::time::Instant;

use prost::Message;

use super::super::proto::{EXTERNAL, Entry, Graph, Model, Node, Tensor};
use super::super::{External, Options, parse, read, read_bytes};
use super::{floats, imported, ints, model, node, problem};

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
        ("'w': another one has its name", {
            model(&input, vec![conv.clone()], vec![floats("w", &[1], &[1.0]), floats("w", &[1], &[2.0])])
        }),
        (
            "gives the tensor 'w', which is there already",
            model(&input, vec![node("Relu", &["x"], "w", &[])], vec![floats("w", &[1], &[1.0])]),
        ),
        (
            "gives the tensor 'x', which is there already",
            model(&input, vec![node("Relu", &["w"], "x", &[])], vec![floats("w", &[1], &[1.0])]),
        ),
        ("at most 100000 nodes", model(&input, vec![Node::default(); 100_001], Vec::new())),
        (
            "does not depend on its input",
            model(&input, vec![node("Identity", &["c"], "y", &[])], vec![floats("c", &[1], &[0.0])]),
        ),
        ("expected a tensor 'gone'", model(&input, vec![node("Relu", &["gone"], "y", &[])], Vec::new())),
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

/// Graphs within attributes within nodes, 2,000 deep, and groups of an older encoding: refused by name, without recursion.
#[test]
fn deep_nesting_is_no_recursion() {
    /// Field 6 of an attribute, a graph; field 1 of a graph, a node; field 5 of a node, an attribute.
    const NESTED: [u8; 3] = [0x32, 0x0a, 0x2a];
    let mut attribute = vec![0x0a, 4];
    attribute.extend(b"body");
    for _ in 0..2_000 {
        for key in NESTED {
            let mut outer = vec![key];
            prost::encoding::encode_varint(attribute.len() as u64, &mut outer);
            outer.extend(&attribute);
            attribute = outer;
        }
    }
    let sound = model(&[None, Some(3), Some(4), Some(4)], vec![node("If", &["x"], "y", &[])], Vec::new());
    let of_node = Message::encode_to_vec(&sound.graph.as_ref().unwrap().node[0]);
    let nested = [of_node, vec![0x2a], varint(attribute.len()), attribute].concat();
    let graph = Graph { node: Vec::new(), ..sound.graph.clone().unwrap() };
    let graph = [Message::encode_to_vec(&graph), vec![0x0a], varint(nested.len()), nested].concat();
    let rest = Model { graph: None, ..sound };
    let bytes = [Message::encode_to_vec(&rest), vec![0x3a], varint(graph.len()), graph].concat();
    let message = read_bytes(bytes, "net", &Options::default()).unwrap_err().to_string();
    assert!(message.contains("If: is not supported"), "{message}");
    // A group that begins a million times, in a field that is read and in one that is not.
    for key in [0x3b, 0xa3] {
        let message = read_bytes([key, 1].repeat(1_000_000), "net", &Options::default()).unwrap_err().to_string();
        assert!(message.contains("damaged"), "{message}");
    }
}

fn varint(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes
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
    let external = External::default();
    let parse = |bytes: Vec<u8>| parse(bytes.into(), &external, "net", &Options::default()).map(|_| ());
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

/// As many nodes as are read at all, and constants that are looked at by each of them.
#[test]
fn many_nodes_take_no_time() {
    let start = Instant::now();
    let chain = |operator: &str, second: Option<&str>, count: usize| {
        let names: Vec<String> =
            (0..=count).map(|index| if index == 0 { "x".into() } else { format!("a{index}") }).collect();
        let inputs = |index: usize| [Some(&names[index][..]), second].into_iter().flatten().collect::<Vec<_>>();
        (0..count).map(|index| node(operator, &inputs(index), &names[index + 1], &[])).collect::<Vec<_>>()
    };
    let message = problem(&model(&[None, Some(3), Some(4), Some(4)], chain("Relu", None, 100_000), Vec::new()));
    assert!(message.contains("expected at most 10000 nodes in a net"), "{message}");
    imported(&model(&[None, Some(3), Some(4), Some(4)], chain("Relu", None, 9_000), Vec::new()));
    let large = floats("c", &[1 << 20], &vec![1.0; 1 << 20]);
    let message = problem(&model(&[None, Some(1 << 20)], chain("Max", Some("c"), 50_000), vec![large]));
    assert!(message.contains("elements that are computed"), "{message}");
    // Two seconds of one core without optimisation; what grows with the square takes many minutes.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
