//! Files as other programs leave them, read for a net: flat ones as safetensors, nested ones as pickles.

use std::collections::BTreeMap;

use super::*;
use crate::Tensor;
use crate::classifier::Classifier;
use crate::net::Net;
use crate::zoo::{Cnn, cnn};

/// A net for colour pictures in three classes whose weights all differ, in small numbers.
fn net(channels: usize, ydim: usize) -> Net {
    cnn(&Cnn { xdim: [channels, 8, 8], ydim, cdims: vec![2, 3], hdims: vec![4], ..Cnn::default() }).unwrap()
}

fn own() -> StateDict {
    let ramp = |i: usize, tensor: &Tensor| {
        let data = (0..tensor.data().len()).map(|at| (i * 100 + at) as f32 / 64.0 + 0.5).collect();
        Tensor::new(tensor.shape().to_vec(), data)
    };
    let weights = init(&net(3, 3), 0);
    weights.iter().enumerate().map(|(i, (name, tensor))| (name.clone(), ramp(i, tensor))).collect()
}

fn renamed(new: impl Fn(&str) -> String) -> StateDict {
    own().into_iter().map(|(name, tensor)| (new(&name), tensor)).collect()
}

/// What comes out of a file of these tensors for a net.
fn open_for(net: Net, tensors: &StateDict, fitting: &Fitting) -> Result<(StateDict, Vec<Note>)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    safetensors::write(&path, tensors, &BTreeMap::new()).unwrap();
    Classifier::open(&path, &NetChoice::Net(net), fitting).map(|(classifier, notes)| (classifier.weights, notes))
}

fn opened(tensors: &StateDict) -> Result<(StateDict, Vec<Note>)> {
    open_for(net(3, 3), tensors, &Fitting::default())
}

fn problem(error: Error) -> Problem {
    match error {
        Error::Weights { file: Some(_), problem } => *problem,
        other => panic!("{other}"),
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn with_key(key: &str) -> Fitting {
    Fitting { key: Some(key.to_owned()), ..Fitting::default() }
}

#[test]
fn what_wrappers_put_before_names_is_taken_off() {
    assert_eq!(opened(&own()).unwrap(), (own(), vec![]));
    for prefix in ["module.", "model.", "backbone.", "net.", "_orig_mod.", "module.model._orig_mod.", "1."] {
        let mut tensors = renamed(|name| format!("{prefix}{name}"));
        tensors.insert("n_averaged".into(), Tensor::new([], vec![3.0]));
        tensors.insert(format!("{prefix}bn1.num_batches_tracked"), Tensor::zeros([]));
        tensors.insert(format!("{prefix}conv1.total_ops"), Tensor::zeros([1]));
        assert_eq!(opened(&tensors).unwrap(), (own(), vec![Note::Prefix(prefix.to_owned())]), "{prefix}");
    }
}

#[test]
fn tensors_of_no_net_are_left_and_told() {
    let mut tensors = renamed(|name| format!("model.{name}"));
    tensors.insert("criterion.weight".into(), Tensor::zeros([3]));
    let told = vec![Note::Prefix("model.".into()), Note::Left(texts(&["criterion.weight"]))];
    assert_eq!(opened(&tensors).unwrap(), (own(), told));
    for stranger in ["loss_fn.pos_weight", "queue", "projector.0.weight"] {
        let mut tensors = own();
        tensors.insert(stranger.into(), Tensor::zeros([3]));
        let (weights, notes) = opened(&tensors).unwrap();
        assert_eq!((weights, notes), (own(), vec![Note::Left(texts(&[stranger]))]));
    }
}

/// All that the net needs is there, but the weights are plainly those of another.
#[test]
fn tensors_that_belong_to_a_net_are_not_left() {
    for (layer, more) in [("conv3", "weight"), ("linear2", "bias"), ("conv1", "scale"), ("norm1", "running_mean")] {
        let mut tensors = own();
        tensors.insert(format!("{layer}.{more}"), Tensor::zeros([3]));
        let Problem::Misfit(misfit) = problem(opened(&tensors).unwrap_err()) else { panic!("{layer}") };
        assert_eq!((misfit.unexpected, misfit.missing), (vec![format!("{layer}.{more}")], vec![]));
        let fitting = Fitting { ignored: texts(&[layer]), ..Fitting::default() };
        let (weights, notes) = open_for(net(3, 3), &tensors, &fitting).unwrap();
        assert_eq!((weights, notes), (own(), vec![Note::Left(vec![format!("{layer}.{more}")])]));
    }
}

#[test]
fn a_head_is_found_under_other_names() {
    for other in ["fc", "classifier.1", "head.1", "last_linear", "net.fc"] {
        let mut tensors = renamed(|name| name.replace("head.", &format!("{other}.")));
        let pairs = ["weight", "bias"].map(|p| (format!("{other}.{p}"), format!("head.{p}")));
        assert_eq!(opened(&tensors).unwrap(), (own(), vec![Note::Renamed(pairs.to_vec())]), "{other}");
        // Two layers are another head.
        if other.contains('.') {
            let parent = other.split('.').next().unwrap();
            tensors.insert(format!("{parent}.7.weight"), Tensor::zeros([5, 3]));
            let Problem::Misfit(misfit) = problem(opened(&tensors).unwrap_err()) else { panic!("{other}") };
            assert_eq!(misfit.missing, ["head.weight", "head.bias"]);
        }
    }
    let apart =
        renamed(|name| if name.starts_with("head.") { format!("top.{name}") } else { format!("backbone.{name}") });
    let (weights, notes) = opened(&apart).unwrap();
    assert_eq!((weights, &notes[0]), (own(), &Note::Prefix("backbone.".into())));
    // A trained head that is not used does not go without a word.
    let fitting = Fitting { ignored: texts(&["head"]), ..Fitting::default() };
    let mut other = own();
    other.insert("head.0.weight".into(), other["head.weight"].clone());
    other.remove("head.weight");
    other.remove("head.bias");
    other.insert("head.2.weight".into(), Tensor::zeros([3, 3]));
    let (_, notes) = open_for(net(3, 3), &other, &fitting).unwrap();
    let expected =
        [Note::Left(texts(&["head.0.weight", "head.2.weight"])), Note::Initial(texts(&["head.weight", "head.bias"]))];
    assert_eq!(notes, expected);
}

#[test]
fn two_nets_in_one_file() {
    let two = |first: &str, second: &str| {
        let mut tensors = renamed(|name| format!("{first}.{name}"));
        tensors.extend(init(&net(3, 3), 1).into_iter().map(|(name, tensor)| (format!("{second}.{name}"), tensor)));
        tensors
    };
    let plain = two("student", "teacher");
    let several = Problem::Several { keys: texts(&["student", "teacher"]) };
    assert_eq!(problem(opened(&plain).unwrap_err()), several);
    assert_eq!(open_for(net(3, 3), &plain, &with_key("student")).unwrap().0, own());
    assert_eq!(open_for(net(3, 3), &plain, &with_key("teacher")).unwrap().0, init(&net(3, 3), 1));
    let missing = problem(open_for(net(3, 3), &plain, &with_key("tutor")).unwrap_err());
    let known = Problem::NoSuchKey { key: "tutor".into(), known: texts(&["student", "teacher"]) };
    assert_eq!(missing, known);
    // An average follows the net that learns.
    for (first, second) in
        [("module.encoder_q", "module.encoder_k"), ("net", "net_ema"), ("backbone", "backbone_momentum")]
    {
        let (weights, notes) = opened(&two(first, second)).unwrap();
        let told = Note::Chosen { key: first.to_owned(), others: texts(&[second]) };
        assert_eq!((weights, notes), (own(), vec![Note::Prefix(format!("{first}.")), told]));
        assert_eq!(open_for(net(3, 3), &two(second, first), &with_key(second)).unwrap().0, own());
    }
}

#[test]
fn first_kernels_for_grey_pictures() {
    let kernel = &own()["conv1.weight"];
    let plane = kernel.data().len() / 6;
    let (grey, notes) = open_for(net(1, 3), &own(), &Fitting::default()).unwrap();
    assert_eq!(notes, [Note::Adapted("conv1.weight".into(), 3, 1)]);
    let sum = |filter: usize, at: usize| (0..3).map(|c| kernel.data()[(filter * 3 + c) * plane + at]).sum::<f32>();
    let expected: Vec<f32> = (0..2).flat_map(|filter| (0..plane).map(move |at| sum(filter, at))).collect();
    assert_eq!((grey["conv1.weight"].shape(), grey["conv1.weight"].data()), (&[2, 1, 3, 3][..], &expected[..]));
    let (colour, notes) = opened(&grey).unwrap();
    assert_eq!(notes, [Note::Adapted("conv1.weight".into(), 1, 3)]);
    assert_eq!(colour["conv1.weight"].data()[plane], expected[0] / 3.0);
}

#[test]
fn classes_and_channels_are_those_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let model = crate::zoo::find("resnet20").unwrap();
    let options = |classes, input| crate::zoo::ZooOptions { classes, input, ..Default::default() };
    let grey = model.net(&options(Some(7), Some([1, 32, 32]))).unwrap();
    safetensors::write(&path, &init(&grey, 0), &BTreeMap::new()).unwrap();
    let open = |options| Classifier::open(&path, &NetChoice::Model(model, options), &Fitting::default());
    let (classifier, notes) = open(options(None, None)).unwrap();
    assert_eq!((classifier.description.classes().len(), classifier.description.input()), (7, [1, 32, 32]));
    assert_eq!(notes, [Note::Classes(7), Note::Channels(1)]);
    let Problem::Misfit(misfit) = problem(open(options(Some(5), None)).unwrap_err()) else { panic!() };
    assert!(misfit.only_head);
}

#[test]
fn other_spellings_of_a_net() {
    let model = crate::zoo::find("resnet20").unwrap();
    let options = crate::zoo::ZooOptions { shortcut: Some(crate::zoo::Shortcut::B), ..Default::default() };
    let net = model.net(&options).unwrap();
    let own = init(&net, 3);
    let respelt = |name: &String| name.replace("shortcut.", "downsample.").replace("linear.", "fc.");
    let theirs = own.iter().map(|(name, tensor)| (respelt(name), tensor.clone())).collect();
    let (weights, notes) = open_for(net, &theirs, &Fitting::default()).unwrap();
    assert_eq!(weights, own);
    assert!(matches!(&notes[..], [Note::Renamed(_), Note::Renamed(_)]), "{notes:?}");
    // `nn.Sequential(*resnet.children())` numbers the outermost modules.
    let resnet =
        crate::zoo::by_name("resnet18", &crate::zoo::ZooOptions { classes: Some(2), ..Default::default() }).unwrap();
    let own = init(&resnet, 4);
    let order = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"];
    let number = |name: &str| {
        let (first, rest) = name.split_once('.').unwrap();
        format!("encoder.{}.{rest}", order.iter().position(|module| *module == first).unwrap())
    };
    let theirs = own.iter().map(|(name, tensor)| (number(name), tensor.clone())).collect();
    assert_eq!(open_for(resnet, &theirs, &Fitting::default()).unwrap().0, own);
}

#[test]
fn weights_in_parts_are_put_together() {
    let mut tensors = own();
    let whole = tensors.remove("linear1.weight").unwrap();
    let mask: Vec<f32> = (0..whole.data().len()).map(|i| (i % 2) as f32).collect();
    tensors.insert("linear1.weight_mask".into(), Tensor::new(whole.shape().to_vec(), mask.clone()));
    tensors.insert("linear1.weight_orig".into(), whole.clone());
    let (weights, notes) = opened(&tensors).unwrap();
    assert_eq!(notes, [Note::Merged(texts(&["linear1.weight"]))]);
    let pruned: Vec<f32> = whole.data().iter().zip(&mask).map(|(w, m)| w * m).collect();
    assert_eq!(weights["linear1.weight"].data(), pruned);
    // Direction and length: rows of length 2 and 3, in both spellings.
    let (direction, length) = (Tensor::new([2, 2], vec![3.0, 4.0, 0.0, -5.0]), Tensor::new([2, 1], vec![2.0, 3.0]));
    for (v, g) in
        [("a.weight_v", "a.weight_g"), ("a.parametrizations.weight.original1", "a.parametrizations.weight.original0")]
    {
        let mut parts = StateDict::from([(v.to_owned(), direction.clone()), (g.to_owned(), length.clone())]);
        assert_eq!(merged::merge(&mut parts).unwrap(), ["a.weight"]);
        assert_eq!(parts["a.weight"], Tensor::new([2, 2], vec![1.2, 1.6, 0.0, -3.0]));
    }
    // A spectral norm whose largest singular value is 4.
    let values = Tensor::new([2, 2], vec![4.0, 0.0, 0.0, 1.0]);
    let unit = || Tensor::new([2], vec![1.0, 0.0]);
    let mut parts: StateDict = [("a.weight_orig", values.clone()), ("a.weight_u", unit()), ("a.weight_v", unit())]
        .map(|(n, t)| (n.to_owned(), t))
        .into();
    assert_eq!(merged::merge(&mut parts).unwrap(), ["a.weight"]);
    assert_eq!(parts, StateDict::from([("a.weight".to_owned(), Tensor::new([2, 2], vec![1.0, 0.0, 0.0, 0.25]))]));
    let mut unknown = StateDict::from([("a.parametrizations.weight.original".to_owned(), values)]);
    assert!(matches!(merged::merge(&mut unknown), Err(Problem::Parametrized { .. })));
}

#[test]
fn numbers_that_are_none_are_refused_by_name() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut tensors = own();
        tensors.get_mut("bn2.running_var").unwrap().data_mut()[1] = value;
        let message = opened(&tensors).unwrap_err().to_string();
        let expected = format!("tensor 'bn2.running_var' holds {value} at element 1; 1 of its 3 elements");
        assert!(message.contains("some.safetensors: ") && message.contains(&expected), "{message}");
        // What is left is none of the net's.
        let mut tensors = own();
        tensors.insert("queue".into(), Tensor::new([1], vec![value]));
        opened(&tensors).unwrap();
    }
}

#[test]
fn foreign_metadata_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let open = |choice: &NetChoice, key: &str, value: &str| {
        safetensors::write(&path, &own(), &BTreeMap::from([(key.to_owned(), value.to_owned())])).unwrap();
        Classifier::open(&path, choice, &Fitting::default())
    };
    let named = NetChoice::Net(net(3, 3));
    for (key, value) in [
        ("classes", "cat,dog,cow"),
        ("classes", "[\"cat\"]"),
        ("classes", "[1, 2, 3]"),
        ("net", "resnet18"),
        ("preprocessing", "imagenet"),
        ("preprocessing", "{\"mean\": [0.5], \"std\": [0.5]}"),
        ("normalization", "{}"),
        ("format", "pt"),
    ] {
        let (classifier, notes) = open(&named, key, value).unwrap();
        assert_eq!((classifier.description.classes(), notes.len()), (&texts(&["0", "1", "2"])[..], 0), "{key} {value}");
    }
    let (classifier, _) = open(&named, "classes", "[\"cat\", \"dog\", \"cow\"]").unwrap();
    assert_eq!(classifier.description.classes(), ["cat", "dog", "cow"]);
    let unknown = problem(open(&NetChoice::Own, "format", "pt").unwrap_err());
    assert!(matches!(unknown, Problem::UnknownNet { .. }));
}
