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
