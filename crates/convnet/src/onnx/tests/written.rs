//! What is written is what was meant, and is read again to the bit.

use std::fs;

use prost::Message;

use super::super::proto::{Model, ValueInfo};
use super::super::{Export, write};
use crate::StateDict;
use crate::classifier::Classifier;
use crate::exec::{Engine, Inference};
use crate::net::Net;
use crate::weights::{Fitting, NetChoice};
use crate::zoo::{self, ZooOptions};
use convnet_kernels::reference::gradcheck::pattern;

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

/// A file that normalises pictures itself gives for bytes what the net gives for what they are normalised to.
#[test]
fn a_file_that_takes_bytes_normalises_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes.onnx");
    let options = ZooOptions { input: Some([3, 32, 40]), classes: Some(4), ..ZooOptions::default() };
    let net = zoo::by_name("resnet18", &options).unwrap();
    let classifier = Classifier::untrained(net, 1).unwrap();
    write(&path, &classifier, &Export { with_preprocessing: true, ..Export::default() }).unwrap();
    let (found, notes) = Classifier::open(&path, &NetChoice::Own, &Fitting::default()).unwrap();
    assert_eq!((notes, found.description.input()), (Vec::new(), [3, 32, 40]));
    let engine = Engine::new(0).unwrap();
    let pixels: Vec<f32> = (0..3 * 32 * 40).map(|index| (index * 37 % 256) as f32 / 255.0).collect();
    let run = |classifier: &Classifier| {
        let normalization = classifier.description.normalization();
        let of_channel = |(index, pixel): (usize, &f32)| {
            let channel = index / (32 * 40);
            (pixel - normalization.mean[channel]) / normalization.std[channel]
        };
        let input: Vec<f32> = pixels.iter().enumerate().map(of_channel).collect();
        let net = classifier.description.net();
        Inference::new(net, &engine, 1, &classifier.weights).unwrap().run(&input, 1).unwrap().to_vec()
    };
    let (expected, found) = (run(&classifier), run(&found));
    let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    assert!(expected.iter().zip(&found).all(|(a, b)| (a - b).abs() <= 1e-5 * largest), "{expected:?}, {found:?}");
}
