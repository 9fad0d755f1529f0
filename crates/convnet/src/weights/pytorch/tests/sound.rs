//! Sound files: what is in them comes out.

use super::*;

#[test]
fn what_is_written_is_read_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.pt"), folder.path().join("b.pt"));
    let metadata = BTreeMap::from([("note".to_owned(), "π \"quoted\"".to_owned())]);
    write(&a, &sample(), &metadata).unwrap();
    let contents = read(&a).unwrap();
    assert_eq!((weights_sha256(&contents.tensors), &contents.metadata), (weights_sha256(&sample()), &metadata));
    write(&b, &contents.tensors, &contents.metadata).unwrap();
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let many: StateDict = (0..2500).map(|i| (format!("{i}"), Tensor::new([1], vec![i as f32]))).collect();
    write(&a, &many, &BTreeMap::new()).unwrap();
    assert_eq!(read(&a).unwrap(), Contents { tensors: many, ..Contents::default() });
    assert!(read(folder.path()).unwrap_err().to_string().contains("expected a regular file"));
}

#[test]
fn both_forms_are_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("any.name");
    let tensor = |name: &'static str| (name, WHOLE.tensor("_rebuild_tensor_v2"));
    let weights = whole_pickle(&dict(&[tensor("module.a.weight"), tensor("module.denselayer1.norm.1.bias")]));
    let storages = [("0", 6, six())];
    for bytes in [zip_form(&weights, &storages), stream_form(&weights, &storages)] {
        std::fs::write(&path, bytes).unwrap();
        let checkpoint = Checkpoint::load(&path).unwrap();
        assert_eq!(checkpoint.weights.keys().collect::<Vec<_>>(), ["a.weight", "denselayer1.norm1.bias"]);
        assert_eq!(checkpoint.weights["a.weight"], Tensor::new([2, 3], (0..6_u8).map(f32::from).collect()));
    }
    std::fs::write(&path, &zip_form(&weights, &storages)[..500]).unwrap();
    let message = Checkpoint::load(&path).unwrap_err().to_string();
    assert!(message.contains("any.name: truncated"), "{message}");
}

#[test]
fn views_share_storages() {
    let view = |offset, shape, strides| Claim { offset, shape, strides, ..WHOLE };
    let claims = [
        ("whole", WHOLE, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        ("transposed", view(0, &[3, 2], &[1, 3]), vec![0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        ("column", view(1, &[2], &[3]), vec![1.0, 4.0]),
        ("row", view(3, &[1, 3], &[99, 1]), vec![3.0, 4.0, 5.0]),
        ("repeated", view(5, &[2, 2], &[0, 0]), vec![5.0; 4]),
        ("empty", view(6, &[0, 7], &[7, 1]), vec![]),
        ("scalar", view(2, &[], &[]), vec![2.0]),
    ];
    let named: Vec<_> = claims.iter().map(|(name, claim, _)| (*name, claim.clone())).collect();
    let tensors = both(&state_dict_of(&named), &[("0", 6, six())]).unwrap();
    for (name, claim, values) in claims {
        assert_eq!(tensors[name], Tensor::new(claim.shape, values), "{name}");
    }
}

#[test]
fn every_type_of_storage() {
    let kinds = [
        ("DoubleStorage", (-2.5f64).to_le_bytes().to_vec(), -2.5),
        ("FloatStorage", (-2.5f32).to_le_bytes().to_vec(), -2.5),
        ("HalfStorage", 0xc100u16.to_le_bytes().to_vec(), -2.5),
        ("BFloat16Storage", 0xc020u16.to_le_bytes().to_vec(), -2.5),
        ("LongStorage", (-25i64).to_le_bytes().to_vec(), -25.0),
        ("IntStorage", (-25i32).to_le_bytes().to_vec(), -25.0),
        ("ShortStorage", (-25i16).to_le_bytes().to_vec(), -25.0),
        ("CharStorage", (-25i8).to_le_bytes().to_vec(), -25.0),
        ("ByteStorage", vec![25], 25.0),
        ("BoolStorage", vec![1], 1.0),
    ];
    for (kind, bytes, value) in kinds {
        let claim = Claim { kind, elements: 2, shape: &[2], strides: &[1], ..WHOLE };
        let tensors = both(&state_dict_of(&[("a", claim)]), &[("0", 2, bytes.repeat(2))]).unwrap();
        assert_eq!(tensors["a"].data(), [value; 2], "{kind}");
    }
}

#[test]
fn wrappers_and_whatever_is_beside_the_weights() {
    let storages = [("0", 6, six())];
    let weights = dict(&[("a.weight", WHOLE.tensor("_rebuild_tensor")), ("a.note", vec![op::NONE])]);
    let mut namespace = Vec::new();
    global(&mut namespace, "argparse", "Namespace");
    namespace.extend([op::EMPTY_TUPLE, op::NEWOBJ]);
    namespace.extend(dict(&[("lr", [&[op::BINFLOAT][..], &[0; 8]].concat())]));
    namespace.push(op::BUILD);
    let mut parameter = Vec::new();
    global(&mut parameter, "torch._utils", "_rebuild_parameter");
    parameter.push(op::MARK);
    parameter.extend(WHOLE.tensor("_rebuild_tensor_v2"));
    parameter.push(op::NEWTRUE);
    empty_dict(&mut parameter);
    parameter.extend([op::TUPLE, op::REDUCE]);
    let mut averaged = Vec::new();
    empty_dict(&mut averaged);
    averaged.push(op::MARK);
    text(&mut averaged, "a.weight");
    averaged.extend(&parameter);
    averaged.push(op::SETITEMS);
    // An OrderedDict's attribute, as a module's state dict has it.
    averaged.extend(dict(&[("_metadata", vec![op::NONE])]));
    averaged.push(op::BUILD);
    for wrapped in [
        weights.clone(),
        averaged.clone(),
        dict(&[("state_dict", weights.clone())]),
        dict(&[("epoch", WHOLE.tensor("_rebuild_tensor")), ("args", namespace), ("net", weights.clone())]),
        dict(&[("state_dict_ema", dict(&[])), ("model", dict(&[("state_dict", weights.clone())]))]),
        dict(&[("optimizer", dict(&[("state", vec![op::EMPTY_LIST])])), ("state_dict_ema", averaged)]),
    ] {
        let tensors = both(&whole_pickle(&wrapped), &storages).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a.weight"]);
    }
    let message = pickle_problem(&whole_pickle(&dict(&[("epoch", vec![op::NONE]), ("\u{1b}", vec![op::NONE])])));
    assert_eq!(message, "expected a state dict (names and tensors), found a dict of [epoch, \u{fffd}]");
    assert!(pickle_problem(&whole_pickle(&[op::EMPTY_LIST])).contains("found something else"));
}

/// A pickled module: attributes as `torch.nn.Module` has them, without its base class.
fn module(
    class: &str,
    parameters: &[(&str, Vec<u8>)],
    buffers: &[(&str, Vec<u8>)],
    below: &[(&str, Vec<u8>)],
) -> Vec<u8> {
    let mut part = Vec::new();
    global(&mut part, "torchvision.models.resnet", class);
    part.extend([op::EMPTY_TUPLE, op::NEWOBJ]);
    // A set of one name, which `state_dict()` leaves out.
    let mut unsaved = Vec::new();
    global(&mut unsaved, "__builtin__", "set");
    unsaved.push(op::EMPTY_LIST);
    text(&mut unsaved, "unsaved");
    unsaved.extend([op::APPEND, op::TUPLE1, op::REDUCE]);
    part.extend(dict(&[
        ("training", vec![op::NEWTRUE]),
        ("_parameters", dict(parameters)),
        ("_buffers", dict(buffers)),
        ("_non_persistent_buffers_set", unsaved),
        ("_modules", dict(below)),
    ]));
    part.push(op::BUILD);
    part
}

#[test]
fn whole_modules_are_their_state_dicts() {
    let tensor = || WHOLE.tensor("_rebuild_tensor_v2");
    let inner = module("Inner", &[("weight", tensor()), ("bias", vec![op::NONE])], &[], &[]);
    let norm = module("Norm", &[("weight", tensor())], &[("running_mean", tensor()), ("unsaved", tensor())], &[]);
    let net =
        module("ResNet", &[], &[], &[("conv1", inner.clone()), ("layer1", module("Block", &[], &[], &[("0", norm)]))]);
    let names = ["conv1.weight", "layer1.0.running_mean", "layer1.0.weight"];
    for whole in [net.clone(), dict(&[("model", net.clone()), ("epoch", vec![op::NONE])])] {
        let tensors = both(&whole_pickle(&whole), &[("0", 6, six())]).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), names);
        assert_eq!(tensors["conv1.weight"], Tensor::new([2, 3], (0..6_u8).map(f32::from).collect()));
    }
    // Before 1.6 a class was pickled with its source.
    let mut with_source = vec![op::MARK];
    text(&mut with_source, "module");
    global(&mut with_source, "mine", "Net");
    ["net.py", "class Net: …"].iter().for_each(|part| text(&mut with_source, part));
    with_source.extend([op::TUPLE, op::BINPERSID, op::EMPTY_TUPLE, op::NEWOBJ]);
    let state = [("_parameters", dict(&[("weight", tensor())])), ("_buffers", dict(&[])), ("_modules", dict(&[]))];
    with_source.extend(dict(&state));
    with_source.push(op::BUILD);
    let tensors = both(&whole_pickle(&with_source), &[("0", 6, six())]).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["weight"]);
}

#[test]
fn several_state_dicts() {
    let one = |name: &str| dict(&[(name, WHOLE.tensor("_rebuild_tensor"))]);
    let read = |part: &[u8], key: Option<&str>| {
        let bytes = zip_form(&whole_pickle(part), &[("0", 6, six())]);
        let contents = parse(Cursor::new(&bytes), bytes.len() as u64, &mut |offers| default_choice(offers, key));
        contents.map_err(|failure| failure.to_string())
    };
    let names = |contents: Contents| contents.tensors.into_keys().collect::<Vec<_>>();
    // The net's own, and a word about the average.
    let averaged = dict(&[("model_ema", one("b.weight")), ("model", one("a.weight")), ("optimizer", one("c.weight"))]);
    let contents = read(&averaged, None).unwrap();
    let told = Note::Chosen { key: "model".into(), others: vec!["model_ema".into()] };
    assert_eq!((&contents.notes[..], names(contents.clone())), (&[told][..], vec!["a.weight".to_owned()]));
    assert_eq!(names(read(&averaged, Some("model_ema")).unwrap()), ["b.weight"]);
    // None is usual.
    let two = dict(&[("nets", dict(&[("student", one("a.weight")), ("teacher", one("b.weight"))]))]);
    let message = read(&two, None).unwrap_err();
    assert!(message.ends_with("which is meant: nets.student, nets.teacher"), "{message}");
    for key in ["teacher", "nets.teacher"] {
        assert_eq!(names(read(&two, Some(key)).unwrap()), ["b.weight"]);
    }
    let message = read(&two, Some("tutor")).unwrap_err();
    assert_eq!(message, "no weights under 'tutor': there are nets.student, nets.teacher");
    // In a tuple or a list, and in a dict of a class of its author's.
    let mut tuple = one("a.weight");
    tuple.extend([op::NONE, op::TUPLE2]);
    assert_eq!(names(read(&tuple, None).unwrap()), ["a.weight"]);
    let mut attributes = Vec::new();
    global(&mut attributes, "easydict", "EasyDict");
    attributes.extend([op::EMPTY_TUPLE, op::NEWOBJ, op::MARK]);
    text(&mut attributes, "a.weight");
    attributes.extend(WHOLE.tensor("_rebuild_tensor"));
    attributes.push(op::SETITEMS);
    let contents = read(&attributes, None).unwrap();
    assert_eq!(contents.notes, [Note::Objects(vec!["easydict.EasyDict".into()])]);
    assert_eq!(names(contents), ["a.weight"]);
}

#[test]
fn types_without_a_storage_class_and_tensors_that_are_not_read() {
    let typed = |dtype: &str, bytes: usize, elements: usize| {
        let claim = Claim { kind: "ByteStorage", elements: bytes, shape: &[], strides: &[], ..WHOLE };
        let mut part = claim.tensor("_rebuild_tensor_v3");
        // Without shape, strides and the call.
        part.truncate(part.len() - 6);
        part.push(op::MARK);
        number(&mut part, elements);
        part.push(op::TUPLE);
        part.extend([op::MARK, op::BININT1, 1, op::TUPLE, op::NEWFALSE, op::EMPTY_DICT]);
        global(&mut part, "torch", dtype);
        part.extend([op::TUPLE, op::REDUCE]);
        whole_pickle(&dict(&[("w.weight", part)]))
    };
    let bytes: Vec<u8> = [7_u16, 65_535].into_iter().flat_map(u16::to_le_bytes).collect();
    let tensors = both(&typed("uint16", 4, 2), &[("0", 4, bytes)]).unwrap();
    assert_eq!(tensors["w.weight"], Tensor::new([2], vec![7.0, 65_535.0]));
    let message = both(&typed("uint16", 3, 1), &[("0", 3, vec![0; 3])]).unwrap_err();
    assert!(message.contains("no whole number of elements"), "{message}");
    let message = both(&typed("complex64", 8, 1), &[("0", 8, vec![0; 8])]).unwrap_err();
    assert!(message.contains("tensor 'w.weight' is complex"), "{message}");
    for (function, kind) in [
        ("_rebuild_qtensor", "quantised"),
        ("_rebuild_sparse_tensor", "sparse"),
        ("_rebuild_meta_tensor_no_storage", "without elements"),
        ("_rebuild_wrapper_subclass", "of a kind that only PyTorch"),
    ] {
        let special = |name| dict(&[("a.weight", WHOLE.tensor("_rebuild_tensor")), (name, WHOLE.tensor(function))]);
        let message = both(&whole_pickle(&special("b")), &[("0", 6, six())]).unwrap_err();
        assert!(message.contains(&format!("tensor 'b' is {kind}")), "{message}");
        // Beside the weights it does no harm.
        let beside = dict(&[
            ("state_dict", dict(&[("a.weight", WHOLE.tensor("_rebuild_tensor"))])),
            ("x", WHOLE.tensor(function)),
        ]);
        assert_eq!(both(&whole_pickle(&beside), &[("0", 6, six())]).unwrap().len(), 1);
    }
}

#[test]
fn archives_that_were_unpacked_and_zipped_again_have_more_folders() {
    let pickle = state_dict_of(&[("a", WHOLE)]);
    let entries: [(&str, &[u8]); 4] =
        [("inner/", b""), ("inner/data.pkl", &pickle), ("inner/data/0", &six()), ("x/._data.pkl", b"a Mac's note")];
    assert_eq!(parse_bytes(&zip_of(&entries)).unwrap().tensors.len(), 1);
    for (entries, expected) in [
        (&[("net.pth", &b"PK"[..])][..], "a zip archive that holds 'archive/net.pth': unpack it first"),
        (&[("a.npy", b"")], "NumPy arrays"),
        (&[("config.json", b""), ("model.weights.h5", b"")], "a Keras model"),
    ] {
        let message = problem(&zip_of(entries));
        assert!(message.contains(expected), "{message}");
    }
}

/// A file of which our writer's 32 bits and PyTorch's 64 bits must be read alike.
#[test]
fn records_of_64_bits_are_read() {
    let mut bytes = zip_form(&state_dict_of(&[("a", WHOLE)]), &[("0", 6, six())]);
    let end = bytes.split_off(bytes.len() - 22);
    let at = bytes.len() as u64;
    let number = |at: usize, length: usize| source::le(&end, at, length);
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend([number(10, 2), number(10, 2), number(12, 4), number(16, 4)].map(u64::to_le_bytes).concat());
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(at.to_le_bytes());
    bytes.extend([1, 0, 0, 0]);
    let mut last = end;
    last[8..20].fill(0xff);
    bytes.extend(&last);
    assert_eq!(parse_bytes(&bytes).unwrap().tensors["a"].data().len(), 6);
    let elsewhere = bytes.len() - 22 - 12;
    bytes[elsewhere] ^= 1;
    assert!(problem(&bytes).contains("not where it should be"));
}

/// He et al.'s ResNet-20 for CIFAR-10 with shortcut option A, as PyTorch reads it: shapes, sum and norm are its own.
#[test]
fn a_checkpoint_of_2019() {
    let Some(folder) = test_data("../weights") else { return };
    let path = folder.join("resnet20-12fca82f.th");
    if !path.exists() {
        return eprintln!("skipped: no resnet20-12fca82f.th in {}", folder.display());
    }
    let weights = Checkpoint::load(&path).unwrap().weights;
    let trained = || weights.iter().filter(|(name, _)| !name.contains("running_") && !name.contains("num_batches"));
    assert_eq!((weights.len(), trained().count()), (97, 59));
    assert_eq!(trained().map(|(_, tensor)| tensor.data().len()).sum::<usize>(), 269_722);
    for (name, shape) in [
        ("conv1.weight", &[16, 3, 3, 3][..]),
        ("bn1.running_var", &[16]),
        ("layer1.0.conv1.weight", &[16, 16, 3, 3]),
        ("layer2.0.conv1.weight", &[32, 16, 3, 3]),
        ("layer3.2.bn2.bias", &[64]),
        ("linear.weight", &[10, 64]),
        ("linear.bias", &[10]),
    ] {
        assert_eq!(weights[name].shape(), shape, "{name}");
    }
    assert_eq!(weights["conv1.weight"].data()[..2], [-0.138_181_46, -0.162_417_68]);
    assert_eq!(weights["linear.bias"].data()[8..], [0.022_100_32, -0.270_259_4]);
    let numbers = || trained().flat_map(|(_, tensor)| tensor.data()).map(|&number| f64::from(number));
    let (sum, squares) = (numbers().sum::<f64>(), numbers().map(|number| number * number).sum::<f64>());
    assert!((sum + 1_034.773_912_279).abs() < 1e-6, "{sum}");
    assert!((squares - 3_060.507_618_035).abs() < 1e-6, "{squares}");
}
