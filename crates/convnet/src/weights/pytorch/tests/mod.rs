//! Files of both forms that these tests assemble themselves, and reading them within bounds.

mod hostile;
mod sound;

use std::io::Cursor;

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
    let measured = allocation_counter::measure(|| {
        result = Some(parse(Cursor::new(bytes), bytes.len() as u64, &mut |offers| default_choice(offers, None)))
    });
    // Four bytes for each of the elements that a file may always give.
    let cap = MEMORY + 8 * bytes.len() as u64 + (4 << 20);
    assert!(measured.bytes_max < cap, "took {} bytes for a file of {}", measured.bytes_max, bytes.len());
    result.unwrap().map_err(|failure| failure.to_string())
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
