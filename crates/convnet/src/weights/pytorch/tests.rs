//! Files of both forms that these tests assemble themselves: sound ones, damaged ones, and ones that mean harm.

use std::io::Cursor;

use proptest::prelude::*;

use super::write::{Zip, empty_dict, global, number, pickle, text, write_to};
use super::*;
use crate::data::test_data;
use crate::weights::{Checkpoint, weights_sha256};
use crate::{StateDict, Tensor};

/// What reading may take besides the tensors and the file itself.
const MEMORY: u64 = 128 << 20;

fn sample() -> StateDict {
    let tensors = [
        ("conv.weight", Tensor::new([2, 1, 1, 2], vec![1.0, -2.5, f32::NAN, f32::INFINITY])),
        ("empty", Tensor::zeros([0, 3])),
        ("scalar", Tensor::new([], vec![7.0])),
    ];
    tensors.map(|(name, tensor)| (name.into(), tensor)).into()
}

/// Reads a file, and checks that this does not take more memory than it may.
fn parse_bytes(bytes: &[u8]) -> Result<Contents, Problem> {
    let mut result = None;
    let measured = allocation_counter::measure(|| result = Some(parse(Cursor::new(bytes), bytes.len() as u64)));
    // Four bytes for each of the elements that a file may always give.
    let cap = MEMORY + 8 * bytes.len() as u64 + (4 << 20);
    assert!(measured.bytes_max < cap, "took {} bytes for a file of {}", measured.bytes_max, bytes.len());
    result.unwrap()
}

fn problem(bytes: &[u8]) -> String {
    let problem = parse_bytes(bytes).expect_err("was read");
    assert!(problem.len() < 1000, "{problem}");
    problem
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut zip = Zip::new(&mut bytes);
    entries.iter().for_each(|(name, data)| zip.bytes(name, data).unwrap());
    zip.end().unwrap();
    bytes
}

/// The zip form of a pickle and its storages.
fn zip_form(pickle: &[u8], storages: &[(&str, usize, Vec<u8>)]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, ..)| format!("data/{key}")).collect();
    let data = names.iter().zip(storages).map(|(name, (.., data))| (name.as_str(), &data[..]));
    zip_of(&[(DATA, pickle)].into_iter().chain(data).collect::<Vec<_>>())
}

/// The stream form of a pickle and its storages: their names, numbers of elements, and bytes.
fn stream_form(pickle: &[u8], storages: &[(&str, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![op::PROTO, 2, op::LONG1, 10];
    bytes.extend(stream::MAGIC);
    bytes.extend([op::STOP, op::PROTO, 2, op::BININT2]);
    bytes.extend((stream::VERSION as u16).to_le_bytes());
    bytes.extend([op::STOP, op::PROTO, 2, op::EMPTY_DICT]);
    text(&mut bytes, "little_endian");
    bytes.extend([op::NEWTRUE, op::SETITEM, op::STOP]);
    bytes.extend(pickle);
    bytes.extend([op::PROTO, 2, op::EMPTY_LIST, op::MARK]);
    storages.iter().for_each(|(key, ..)| text(&mut bytes, key));
    bytes.extend([op::APPENDS, op::STOP]);
    for (_, elements, data) in storages {
        bytes.extend((*elements as u64).to_le_bytes());
        bytes.extend(data);
    }
    bytes
}

/// Reads both forms of a pickle and its storages, which must give the same.
fn both(pickle: &[u8], storages: &[(&str, usize, Vec<u8>)]) -> Result<StateDict, Problem> {
    let zip = parse_bytes(&zip_form(pickle, storages)).map(|contents| contents.tensors);
    let stream = parse_bytes(&stream_form(pickle, storages)).map(|contents| contents.tensors);
    assert_eq!(zip.as_ref().map(weights_sha256).ok(), stream.as_ref().map(weights_sha256).ok());
    zip
}

/// What both forms say of a pickle without storages: the same but for the place.
fn pickle_problem(pickle: &[u8]) -> String {
    let alone = zip_of(&[(DATA, pickle)]);
    let (zip, stream) = (problem(&alone), problem(&stream_form(pickle, &[])));
    // The place differs, and so do the bytes that follow.
    let what =
        |problem: &str| problem.split_once(": ").and_then(|(_, what)| Some(what.split(", got").next()?.to_owned()));
    assert_eq!(what(&zip), what(&stream));
    zip
}

/// What a pickle says of a tensor.
#[derive(Clone)]
struct Claim<'a> {
    kind: &'a str,
    key: &'a str,
    elements: usize,
    offset: usize,
    shape: &'a [usize],
    strides: &'a [usize],
}

/// A tensor that is all of a storage of floats.
const WHOLE: Claim = Claim { kind: "FloatStorage", key: "0", elements: 6, offset: 0, shape: &[2, 3], strides: &[3, 1] };

impl Claim<'_> {
    fn tensor(&self, function: &str) -> Vec<u8> {
        let mut pickle = Vec::new();
        global(&mut pickle, "torch._utils", function);
        pickle.extend([op::MARK, op::MARK]);
        text(&mut pickle, "storage");
        global(&mut pickle, "torch", self.kind);
        text(&mut pickle, self.key);
        text(&mut pickle, "cuda:0");
        number(&mut pickle, self.elements);
        pickle.extend([op::NONE, op::TUPLE, op::BINPERSID]);
        number(&mut pickle, self.offset);
        for lengths in [self.shape, self.strides] {
            pickle.push(op::MARK);
            lengths.iter().for_each(|&length| number(&mut pickle, length));
            pickle.push(op::TUPLE);
        }
        pickle.extend([op::TUPLE, op::REDUCE]);
        pickle
    }
}

/// A dict of these values, as a part of a pickle.
fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut part = vec![op::EMPTY_DICT, op::MARK];
    for (key, value) in entries {
        text(&mut part, key);
        part.extend(value);
    }
    part.push(op::SETITEMS);
    part
}

fn whole_pickle(part: &[u8]) -> Vec<u8> {
    [&[op::PROTO, 2], part, &[op::STOP]].concat()
}

/// A pickle of a state dict with these tensors.
fn state_dict_of(claims: &[(&str, Claim)]) -> Vec<u8> {
    let tensors: Vec<_> = claims.iter().map(|(name, claim)| (*name, claim.tensor("_rebuild_tensor"))).collect();
    whole_pickle(&dict(&tensors))
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn six() -> Vec<u8> {
    floats((0..6_u8).map(f32::from))
}

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
    assert_eq!(read(&a).unwrap(), Contents { tensors: many, metadata: BTreeMap::new() });
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

#[test]
fn foreign_names_are_refused_by_name() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "exec"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("torchvision.models.resnet", "ResNet"),
        ("collections", "OrderedDict.fromkeys"),
    ] {
        let mut called = Vec::new();
        global(&mut called, module, name);
        text(&mut called, "id");
        called.extend([op::TUPLE1, op::REDUCE]);
        let mut on_stack = Vec::new();
        text(&mut on_stack, module);
        text(&mut on_stack, name);
        on_stack.extend([op::STACK_GLOBAL, op::EMPTY_TUPLE, op::NEWOBJ]);
        for part in [called, on_stack] {
            // Beside weights, too, where its value would not be needed.
            let pickle = whole_pickle(&dict(&[("a", WHOLE.tensor("_rebuild_tensor")), ("b", part)]));
            let message = pickle_problem(&pickle);
            assert!(message.contains(&format!("it wants to use '{module}.{name}'")), "{message}");
        }
    }
}

#[test]
fn calls_of_anything_else_are_refused() {
    let with = |module: &str, name: &str, arguments: &[u8]| {
        let mut part = Vec::new();
        global(&mut part, module, name);
        part.extend(arguments);
        part.push(op::REDUCE);
        pickle_problem(&whole_pickle(&part))
    };
    assert!(with("torch", "FloatStorage", &[op::EMPTY_TUPLE]).contains("a call of StorageType(F32) with 0 arguments"));
    assert!(with("torch._utils", "_rebuild_tensor", &[op::EMPTY_TUPLE]).contains("RebuildTensor with 0"));
    assert!(with("torch._utils", "_rebuild_parameter", &[op::NONE, op::TUPLE1]).contains("without a tensor"));
    assert!(with("collections", "OrderedDict", &[op::NONE, op::TUPLE1]).contains("no list of pairs"));
    assert!(with("collections", "OrderedDict", &[op::NONE]).contains("no known function"));
    let called = [op::NONE, op::EMPTY_TUPLE, op::REDUCE];
    assert!(pickle_problem(&whole_pickle(&called)).contains("no known function"));
    for (part, expected) in [
        (&[op::POP][..], "the stack is empty"),
        (&[op::NONE, op::MARK, op::POP], "the stack is empty"),
        (&[op::NONE, op::MARK, op::TUPLE1], "the stack is empty"),
        (&[op::TUPLE], "never begun"),
        (&[op::BINGET, 7], "value 7 was never remembered"),
        (&[op::NONE, op::NONE, op::NONE, op::BINPERSID], "expected a storage"),
        (&[op::EMPTY_TUPLE, op::NONE, op::APPEND], "no list"),
        (&[op::EMPTY_LIST, op::NONE, op::NONE, op::SETITEM], "no dict"),
        (&[op::EMPTY_DICT, op::MARK, op::NONE, op::SETITEMS], "a key without a value"),
        (&[op::PROTO, 9], "protocol 9"),
        (b"I7\n", "instruction 0x49"),
        (&[0x82, 1], "instruction 0x82"),
        (&[op::SHORT_BINUNICODE, 1, 0xff], "UTF-8"),
    ] {
        let message = pickle_problem(&whole_pickle(part));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn pickles_that_ask_for_memory_do_not_get_it() {
    let length = |op: u8, bytes: &[u8]| [&[op], bytes].concat();
    for (part, expected) in [
        (length(op::BINUNICODE8, &u64::MAX.to_le_bytes()), "truncated: expected 18446744073709551615 more bytes"),
        (length(op::BINBYTES8, &(1_u64 << 40).to_le_bytes()), "truncated"),
        (length(op::BINUNICODE, &u32::MAX.to_le_bytes()), "truncated"),
        (length(op::LONG4, &u32::MAX.to_le_bytes()), "truncated"),
        (vec![op::NONE; 1 << 17], "values on the stack"),
        (vec![op::MARK; 1 << 17], "values within each other"),
        ([op::NONE, op::POP].repeat(1 << 21), "its values take more than"),
        // A billion laughs: lists of ten mentions of the list before.
        (
            [vec![op::EMPTY_LIST, op::BINPUT, 0]]
                .into_iter()
                .chain((0..20).map(|i| {
                    let mentions = [op::BINGET, i].repeat(10);
                    [&[op::MARK][..], &mentions, &[op::TUPLE, op::BINPUT, i + 1]].concat()
                }))
                .collect::<Vec<_>>()
                .concat(),
            "found something else",
        ),
        // Each list within the one before, too deep for a destructor that recurses.
        (
            [op::EMPTY_LIST, op::MEMOIZE].repeat(60_000).into_iter().chain([op::APPEND; 59_999]).collect(),
            "something else",
        ),
    ] {
        let message = pickle_problem(&whole_pickle(&part));
        assert!(message.contains(expected), "{message}");
    }
    // Memo: a place far away costs nothing, and a million places are enough.
    let mut far = vec![op::NONE, op::LONG_BINPUT];
    far.extend(u32::MAX.to_le_bytes());
    assert!(pickle_problem(&whole_pickle(&far)).contains("found something else"));
    let places = (0..1_100_000_u32).flat_map(|i| [&[op::LONG_BINPUT][..], &i.to_le_bytes()].concat());
    let flood: Vec<u8> = [op::NONE].into_iter().chain(places).collect();
    assert!(pickle_problem(&whole_pickle(&flood)).contains("values to mention again"));
    // Copies of a long list of pairs.
    let mut copies = vec![op::EMPTY_LIST, op::BINPUT, 0, op::MARK, op::NONE, op::NONE, op::TUPLE2, op::BINPUT, 1];
    copies.extend([op::BINGET, 1].repeat(60_000));
    copies.extend([op::APPENDS, op::TUPLE1, op::BINPUT, 2]);
    global(&mut copies, "collections", "OrderedDict");
    copies.extend([op::BINPUT, 3]);
    copies.extend([op::BINGET, 3, op::BINGET, 2, op::REDUCE, op::POP].repeat(100_000));
    assert!(pickle_problem(&whole_pickle(&copies)).contains("its values take more than"));
    // A pickle that is itself too long.
    let long = zip_of(&[(DATA, &vec![op::NONE; pickle::MAX_BYTES + 1])]);
    assert!(problem(&long).contains("at most 8388608 are read"), "{}", problem(&long));
}

#[test]
fn tensors_that_lie_about_their_size() {
    let huge = usize::MAX / 2;
    let storages = [("0", 6, six())];
    for (claim, expected) in [
        (Claim { offset: 1, ..WHOLE }, "leaves its storage '0' of 6 elements"),
        (Claim { shape: &[3, 3], ..WHOLE }, "leaves its storage"),
        (Claim { strides: &[4, 1], ..WHOLE }, "leaves its storage"),
        (Claim { shape: &[huge, huge], strides: &[0, 0], ..WHOLE }, "leaves its storage"),
        (Claim { shape: &[huge, huge, 0], strides: &[0, 0, 0], ..WHOLE }, "leaves its storage"),
        (Claim { strides: &[huge, huge], shape: &[2, 2], ..WHOLE }, "leaves its storage"),
        (Claim { strides: &[1], ..WHOLE }, "2 axes and 1 strides"),
        (Claim { shape: &[1; 17], strides: &[1; 17], ..WHOLE }, "at most 16"),
        (Claim { elements: huge, ..WHOLE }, "expected a storage"),
        (Claim { kind: "OrderedDict", ..WHOLE }, "it wants to use 'torch.OrderedDict'"),
        (Claim { kind: "Size", ..WHOLE }, "expected a storage"),
        // A file of a few hundred bytes that would become 64 GB.
        (Claim { shape: &[1 << 34], strides: &[0], ..WHOLE }, "repeat their elements: 17179869184 in all"),
    ] {
        let message = both(&state_dict_of(&[("a", claim)]), &storages).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    let million = Claim { shape: &[1 << 20], strides: &[0], ..WHOLE };
    let message = both(&state_dict_of(&[("a", million.clone()), ("b", million)]), &storages).unwrap_err();
    assert!(message.contains("2097152 in all"), "{message}");
    let other = Claim { kind: "IntStorage", ..WHOLE };
    let message = both(&state_dict_of(&[("a", WHOLE), ("b", other)]), &storages).unwrap_err();
    assert!(message.contains("storage '0' has two types"), "{message}");
    let pickle = state_dict_of(&[("a", WHOLE)]);
    for storages in [vec![("0", 5, six()[4..].to_vec())], vec![("1", 6, six())], vec![]] {
        both(&pickle, &storages).unwrap_err();
    }
    let twice = [("0", 6, six()), ("0", 6, six())];
    assert!(problem(&stream_form(&pickle, &twice)).contains("two storages are called '0'"));
}

/// Damaged files of either form.
#[test]
fn truncation_at_every_byte_and_stray_bytes_are_errors() {
    let storages = [("0", 6, six())];
    let mut zip = Vec::new();
    write_to(&mut zip, &sample(), &BTreeMap::new()).unwrap();
    for mut bytes in [zip, stream_form(&state_dict_of(&[("a", WHOLE)]), &storages)] {
        parse_bytes(&bytes).unwrap();
        for length in 0..bytes.len() {
            problem(&bytes[..length]);
        }
        bytes.push(0);
        problem(&bytes);
    }
}

#[test]
fn the_beginning_of_a_stream_must_be_known() {
    let pickle = state_dict_of(&[("a", WHOLE)]);
    let stream = stream_form(&pickle, &[("0", 6, six())]);
    let changed = |at: usize, value: u8| {
        let mut bytes = stream.clone();
        bytes[at] = value;
        problem(&bytes)
    };
    assert!(changed(4, 0).contains("not one of torch.save"));
    assert!(problem(&pickle).contains("not one of torch.save"));
    assert!(changed(18, 0).contains("unknown version"));
    let order = stream.iter().position(|&byte| byte == op::NEWTRUE).unwrap();
    assert!(changed(order, op::NEWFALSE).contains("big-endian"));
}

#[test]
fn archives_that_lie() {
    let pickle = state_dict_of(&[("a", WHOLE)]);
    let sound = zip_form(&pickle, &[("0", 6, six())]);
    parse_bytes(&sound).unwrap();
    let find = |magic: &[u8], from: usize| from + sound[from..].windows(4).position(|w| w == magic).unwrap();
    let directory = find(zip::DIRECTORY_HEADER, 0);
    let second = find(zip::DIRECTORY_HEADER, directory + 4);
    let end = find(zip::END, second);
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = sound.clone();
        changes.iter().for_each(|&(at, value)| bytes[at] = value);
        problem(&bytes)
    };
    let local = u32::from_le_bytes(*sound[second + 42..].first_chunk().unwrap()) as usize;
    for (changes, expected) in [
        // Two entries at one place, with each other's headers or not.
        (vec![(second + 42, 0), (second + 43, 0)], "overlaps what follows it"),
        (vec![(second + 20, 250), (second + 24, 250)], "'archive/data/0': its own header says something else"),
        (vec![(second + 20, 250), (second + 24, 250), (local + 18, 250), (local + 22, 250)], "overlaps"),
        (vec![(second + 24, 250)], "says 24 bytes and 250 bytes"),
        (vec![(second + 20, 255), (second + 21, 255), (second + 22, 255), (second + 23, 255)], "directory is damaged"),
        (vec![(second + 10, 8)], "its own header says something else"),
        (vec![(second + 10, 8), (local + 8, 8)], "'archive/data/0' is compressed"),
        (vec![(second + 8, 1), (local + 6, 1)], "is encrypted"),
        (vec![(local + 30, b'b')], "its own header says something else"),
        (vec![(second + 42, 255), (second + 43, 255)], "truncated"),
        (vec![(second + 28, 255)], "directory is damaged"),
        (vec![(second, 0)], "directory is damaged"),
        (vec![(end + 10, 9)], "says 9 entries, but lists 2"),
        (vec![(end + 15, 255)], "a zip directory of"),
        (vec![(end + 16, 255)], "a zip directory of"),
        (vec![(end + 20, 1)], "must end with its directory"),
        (vec![(directory - 1, 99)], "does not match its checksum"),
    ] {
        let message = with(&changes);
        assert!(message.contains(expected), "{changes:?}: {message}");
    }
    for (entries, expected) in [
        (&[("data.pkl", &pickle[..]), ("data.pkl", &pickle)][..], "two zip entries are called"),
        (&[("data.pkl", &pickle)], "expected a zip entry 'archive/data/0'"),
        (&[("data.pkl", &pickle), ("data/0", b"four")], "has 4 bytes: expected 24"),
        (&[("readme.txt", b"hello")], "not one of torch.save"),
        (&[("data.pkl", &pickle), ("constants.pkl", b"")], "a TorchScript program"),
        (&[("data.pkl", &pickle), ("byteorder", b"big")], "big-endian"),
        (&[("data.pkl", &pickle), ("extra/convnet.json", b"[]")], "'extra/convnet.json': invalid type"),
    ] {
        let message = problem(&zip_of(entries));
        assert!(message.contains(expected), "{message}");
    }
    // A checksum of 0 was left out by whoever wrote the file.
    let mut unchecked = sound.clone();
    unchecked[second + 16..second + 20].fill(0);
    parse_bytes(&unchecked).unwrap();
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
    assert_eq!(weights["linear.bias"].data()[8..], [0.022_100_32, -0.270_259_41]);
    let numbers = || trained().flat_map(|(_, tensor)| tensor.data()).map(|&number| f64::from(number));
    let (sum, squares) = (numbers().sum::<f64>(), numbers().map(|number| number * number).sum::<f64>());
    assert!((sum + 1034.773_912_279_465_8).abs() < 1e-6, "{sum}");
    assert!((squares - 3060.507_618_035_488_6).abs() < 1e-6, "{squares}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_files_never_panic(
        zip: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let pickle = state_dict_of(&[("a", WHOLE), ("b", Claim { offset: 3, shape: &[3], strides: &[1], ..WHOLE })]);
        let storages = [("0", 6, six())];
        let mut bytes = if zip { zip_form(&pickle, &storages) } else { stream_form(&pickle, &storages) };
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        let _ = parse_bytes(&bytes);
    }

    /// The archive's checksum would hide most of these behind itself.
    #[test]
    fn mutated_pickles_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut pickle = pickle(&sample());
        for (place, value) in changes {
            let place = place.index(pickle.len());
            pickle[place] = value;
        }
        let storages = [("0", 4, vec![0; 16]), ("1", 0, vec![]), ("2", 1, vec![0; 4])];
        let _ = parse_bytes(&zip_form(&pickle, &storages));
    }

    #[test]
    fn arbitrary_instructions_never_panic(
        instructions in prop::collection::vec(
            prop_oneof![
                prop::sample::select(&b"(0N)]}tasueRQbqKX\x81\x85\x86\x87\x88\x8f\x90\x91\x92\x93\x94"[..]).prop_map(|op| vec![op]),
                (0_u8..4).prop_map(|i| vec![op::BINGET, i]),
                (0_u8..4).prop_map(|i| vec![op::BINPUT, i]),
                (0_u8..9).prop_map(|i| vec![op::BININT1, i]),
                Just(b"ccollections\nOrderedDict\n".to_vec()),
                Just(b"ctorch._utils\n_rebuild_tensor\n".to_vec()),
                Just(b"ctorch\nFloatStorage\n".to_vec()),
                Just(WHOLE.tensor("_rebuild_tensor")),
            ],
            0..60,
        ),
    ) {
        let pickle = whole_pickle(&instructions.concat());
        let _ = parse_bytes(&zip_form(&pickle, &[("0", 6, six())]));
    }
}
