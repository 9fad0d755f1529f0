//! Damaged files and ones that mean harm: an error that says why, within bounded memory.

use proptest::prelude::*;

use super::*;

#[test]
fn foreign_names_are_told_beside_weights_and_refused_in_place_of_them() {
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
            let weights = || ("a.weight", WHOLE.tensor("_rebuild_tensor"));
            let storages = [("0", 6, six())];
            let beside = whole_pickle(&dict(&[("state_dict", dict(&[weights()])), ("b", part.clone())]));
            let contents = parse_bytes(&zip_form(&beside, &storages)).unwrap();
            assert_eq!(contents.tensors.keys().collect::<Vec<_>>(), ["a.weight"]);
            let full = format!("{module}.{name}");
            let told = [Note::Objects(vec![full.clone()])];
            let of_torch = ["torch", "collections"].contains(&module.split('.').next().unwrap());
            let of_torch = of_torch || module.starts_with("torchvision");
            assert_eq!(contents.notes, if of_torch { &[][..] } else { &told });
            assert_eq!(
                contents.notes.iter().any(Note::is_warning),
                matches!(module, "os" | "posix") || ["eval", "exec"].contains(&name)
            );
            for in_place in [dict(&[weights(), ("b.weight", part.clone())]), dict(&[("bias", part.clone())])] {
                let message = both(&whole_pickle(&in_place), &storages).unwrap_err();
                assert!(message.contains(&format!("is no tensor but an object of '{full}'; nothing was")), "{message}");
            }
            assert!(pickle_problem(&whole_pickle(&part)).contains(&format!("found an object of '{full}'")));
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
    let pairs = [op::EMPTY_LIST, op::NONE, op::APPEND, op::TUPLE1];
    assert!(with("collections", "OrderedDict", &pairs).contains("no list of pairs"));
    assert!(with("collections", "OrderedDict", &[op::NONE]).contains("no tuple"));
    let called = [op::EMPTY_LIST, op::EMPTY_TUPLE, op::REDUCE];
    assert!(pickle_problem(&whole_pickle(&called)).contains("no function"));
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
    // Mentions of one value without end, in a list.
    let mut mentions = vec![op::EMPTY_LIST, op::BINPUT, 0];
    (0..200).for_each(|_| {
        mentions.push(op::MARK);
        mentions.extend([op::BINGET, 0].repeat(60_000));
        mentions.push(op::APPENDS);
    });
    assert!(pickle_problem(&whole_pickle(&mentions)).contains("its values take more than"));
}

/// A module that has itself below it, and one of modules that share all that is below them.
#[test]
fn modules_without_end_are_refused() {
    let module = |below: &[u8]| {
        let mut part = Vec::new();
        global(&mut part, "torch.nn.modules.container", "Sequential");
        part.extend([op::EMPTY_TUPLE, op::NEWOBJ, op::BINPUT, 0]);
        part.extend(dict(&[("_parameters", dict(&[])), ("_buffers", dict(&[])), ("_modules", below.to_vec())]));
        part.push(op::BUILD);
        part
    };
    let itself = module(&dict(&[("0", vec![op::BINGET, 0])]));
    assert!(pickle_problem(&whole_pickle(&itself)).contains("more than 64 modules within each other"));
    let shared = (0..40).fold(module(&dict(&[])), |inner, depth| {
        let mention = [op::LONG_BINGET, depth, 1, 0, 0];
        let mut first = inner;
        first.extend([op::LONG_BINPUT, depth, 1, 0, 0]);
        module(&dict(&[("0", first), ("1", mention.to_vec()), ("2", mention.to_vec())]))
    });
    assert!(pickle_problem(&whole_pickle(&shared)).contains("more than 131072 tensors"));
}

/// What deflate makes small.
#[test]
fn compressed_archives_are_bounded() {
    use std::io::Write as _;
    let deflated = |bytes: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let pickle = state_dict_of(&[("a", WHOLE)]);
    let whole = |data: &[u8], says: usize| {
        let mut bytes = zip_form(&pickle, &[("0", says / 4, deflated(data))]);
        let find = |bytes: &[u8], magic: &[u8], nth: usize| {
            bytes.windows(4).enumerate().filter(|(_, w)| *w == magic).nth(nth).unwrap().0
        };
        let (local, listed) = (find(&bytes, zip::LOCAL_HEADER, 1), find(&bytes, zip::DIRECTORY_HEADER, 1));
        let mut crc = flate2::Crc::new();
        crc.update(data);
        for (method, sum, size) in [(local + 8, local + 14, local + 22), (listed + 10, listed + 16, listed + 24)] {
            bytes[method] = 8;
            bytes[sum..sum + 4].copy_from_slice(&crc.sum().to_le_bytes());
            bytes[size..size + 4].copy_from_slice(&(says as u32).to_le_bytes());
        }
        bytes
    };
    let sound = parse_bytes(&whole(&six(), 24)).unwrap();
    assert_eq!(sound.tensors["a"], Tensor::new([2, 3], (0..6_u8).map(f32::from).collect()));
    assert!(problem(&whole(&six(), 25)).contains("has 25 bytes: expected 24"));
    assert!(problem(&whole(&[1; 23], 24)).contains("'archive/data/0' cannot be unpacked"));
    assert!(problem(&whole(&[1; 100_000], 24)).contains("'archive/data/0' cannot be unpacked"));
    let bomb = vec![0; 64 << 20];
    assert!(problem(&whole(&bomb, bomb.len())).contains("a zip archive of entries of"));
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
        (Claim { kind: "OrderedDict", ..WHOLE }, "expected a storage"),
        (Claim { kind: "Size", ..WHOLE }, "expected a storage"),
        // A file of a few hundred bytes that would become 64 GB.
        (Claim { shape: &[1 << 34], strides: &[0], ..WHOLE }, "repeat their elements: 17179869184 in all"),
    ] {
        let message = both(&state_dict_of(&[("a", claim)]), &storages).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    // Nothing of a storage that is not there.
    let empty = Claim { offset: huge, shape: &[0, huge, huge], strides: &[1, 1, 1], ..WHOLE };
    assert_eq!(both(&state_dict_of(&[("a", empty)]), &storages).unwrap()["a"].data(), [0.0; 0]);
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
        (vec![(second + 10, 8), (local + 8, 8)], "'archive/data/0' cannot be unpacked"),
        (vec![(second + 10, 9), (local + 8, 9)], "'archive/data/0' is compressed by method 9"),
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
