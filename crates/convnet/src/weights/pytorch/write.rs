//! Writing the zip form: a state dict as PyTorch reads it, with `weights_only=True` too.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use flate2::Crc;

use super::op;
use super::zip::{DIRECTORY_HEADER, END, LOCAL_HEADER, LOCAL_LEN};
use super::{DATA, METADATA};
use crate::files::write_atomic;
use crate::weights::digest::for_each_le_chunk;
use crate::{Error, Result, StateDict, Tensor};

/// Folder of the archive that all entries lie in.
const PREFIX: &str = "archive/";
/// What each entry's data is aligned to, as PyTorch does it.
const ALIGNMENT: u64 = 64;
/// Most bytes of an archive without 64-bit records, which are not written.
const MAX_BYTES: u64 = u32::MAX as u64;
/// Most entries of such an archive.
const MAX_ENTRIES: usize = u16::MAX as usize;
/// Room for what is not a tensor's data: headers, names and padding of an entry, and its part of the pickle.
const ROOM: u64 = 4 << 10;
/// Entries of a dict that one instruction takes, as Python does it.
const BATCH: usize = 1000;

/// Writes a file atomically: an `OrderedDict` of contiguous `f32` tensors, in name order, that `torch.load` gives back.
/// The metadata stand in an entry of their own, which PyTorch passes over and [`read`](super::read) finds. Equal content
/// gives equal bytes.
///
/// # Errors
/// [`Error::Io`] as [`write_atomic`]; [`Error::File`] for more than 4 GB or some 65,000 tensors.
pub fn write(path: &Path, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    let bytes: u64 =
        tensors.iter().map(|(name, tensor)| ROOM + name.len() as u64 + size_of_val(tensor.data()) as u64).sum();
    let strings: u64 = metadata.iter().map(|(key, value)| 8 * (key.len() + value.len()) as u64).sum();
    if bytes + strings + ROOM > MAX_BYTES || tensors.len() + 8 > MAX_ENTRIES {
        let problem = "PyTorch files of more than 4 GB or 65,000 tensors are not written: use .safetensors";
        return Err(Error::file(path, problem));
    }
    write_atomic(path, |out| write_to(out, tensors, metadata))
}

/// Writes the whole file content.
pub(super) fn write_to(
    out: &mut dyn Write,
    tensors: &StateDict,
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut zip = Zip::new(out);
    zip.bytes(DATA, &pickle(tensors))?;
    zip.bytes("byteorder", b"little")?;
    if !metadata.is_empty() {
        zip.bytes(METADATA, &serde_json::to_vec(metadata)?)?;
    }
    for (i, tensor) in tensors.values().enumerate() {
        zip.entry(&format!("data/{i}"), |each| for_each_le_chunk(tensor.data(), each))?;
    }
    zip.bytes("version", b"3\n")?;
    zip.end()
}

/// An archive that is being written.
pub(super) struct Zip<'a> {
    out: &'a mut dyn Write,
    /// Bytes so far.
    at: u64,
    directory: Vec<u8>,
    entries: u16,
}

/// Takes the next piece of some data.
type Each<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

impl<'a> Zip<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Zip<'a> {
        Zip { out, at: 0, directory: Vec::new(), entries: 0 }
    }

    pub(super) fn bytes(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.entry(name, |each| each(data))
    }

    /// An entry whose data `pieces` hands over as often as it is asked: once for size and checksum, which stand before
    /// the data, and once to write.
    fn entry(&mut self, name: &str, pieces: impl Fn(Each) -> io::Result<()>) -> io::Result<()> {
        let (mut crc, mut size) = (Crc::new(), 0);
        pieces(&mut |piece| {
            crc.update(piece);
            size += piece.len() as u64;
            Ok(())
        })?;
        let name = format!("{PREFIX}{name}");
        let start = self.at;
        let unpadded = start + LOCAL_LEN + name.len() as u64 + 4;
        let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
        // Version 2.0, no flags, stored, no time; checksum and sizes; lengths of the name and of what follows it.
        let mut common = [20, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        common.extend([crc.sum(), size as u32, size as u32].map(u32::to_le_bytes).concat());
        common.extend((name.len() as u16).to_le_bytes());
        let mut header = LOCAL_HEADER.to_vec();
        header.extend(&common);
        header.extend((padding as u16 + 4).to_le_bytes());
        header.extend(name.bytes());
        header.extend(b"FB");
        header.extend((padding as u16).to_le_bytes());
        header.resize(header.len() + padding as usize, b'Z');
        self.out.write_all(&header)?;
        pieces(&mut |piece| self.out.write_all(piece))?;
        self.at += header.len() as u64 + size;
        self.directory.extend(DIRECTORY_HEADER);
        self.directory.extend([0, 0]);
        self.directory.extend(common);
        // Nothing follows the name; first disk; no attributes.
        self.directory.extend([0; 12]);
        self.directory.extend((start as u32).to_le_bytes());
        self.directory.extend(name.bytes());
        self.entries += 1;
        Ok(())
    }

    pub(super) fn end(self) -> io::Result<()> {
        self.out.write_all(&self.directory)?;
        let mut end = END.to_vec();
        end.extend([0, 0, self.entries, self.entries].map(u16::to_le_bytes).concat());
        end.extend([self.directory.len() as u32, self.at as u32].map(u32::to_le_bytes).concat());
        end.extend([0, 0]);
        self.out.write_all(&end)
    }
}

/// The state dict as a pickle of protocol 2, whose tensors are views of storages `0`, `1`, … of their own.
pub(super) fn pickle(tensors: &StateDict) -> Vec<u8> {
    let mut pickle = vec![op::PROTO, 2];
    empty_dict(&mut pickle);
    let tensors: Vec<_> = tensors.iter().enumerate().collect();
    for batch in tensors.chunks(BATCH) {
        pickle.push(op::MARK);
        for (i, (name, tensor)) in batch {
            text(&mut pickle, name);
            rebuild(&mut pickle, *i, tensor);
        }
        pickle.push(op::SETITEMS);
    }
    pickle.push(op::STOP);
    pickle
}

/// The call that makes a tensor of storage `key`.
fn rebuild(pickle: &mut Vec<u8>, key: usize, tensor: &Tensor) {
    global(pickle, "torch._utils", "_rebuild_tensor_v2");
    pickle.extend([op::MARK, op::MARK]);
    text(pickle, "storage");
    global(pickle, "torch", "FloatStorage");
    text(pickle, &key.to_string());
    text(pickle, "cpu");
    number(pickle, tensor.data().len());
    pickle.extend([op::TUPLE, op::BINPERSID]);
    number(pickle, 0);
    let shape = tensor.shape();
    let stride = |axis: usize| shape[axis + 1..].iter().product();
    for lengths in [shape.to_vec(), (0..shape.len()).map(stride).collect()] {
        pickle.push(op::MARK);
        lengths.into_iter().for_each(|length| number(pickle, length));
        pickle.push(op::TUPLE);
    }
    // No gradient wanted, no hooks.
    pickle.push(op::NEWFALSE);
    empty_dict(pickle);
    pickle.extend([op::TUPLE, op::REDUCE]);
}

pub(super) fn empty_dict(pickle: &mut Vec<u8>) {
    global(pickle, "collections", "OrderedDict");
    pickle.extend([op::EMPTY_TUPLE, op::REDUCE]);
}

pub(super) fn global(pickle: &mut Vec<u8>, module: &str, name: &str) {
    pickle.push(op::GLOBAL);
    pickle.extend(format!("{module}\n{name}\n").bytes());
}

pub(super) fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(op::BINUNICODE);
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

pub(super) fn number(pickle: &mut Vec<u8>, number: usize) {
    match i32::try_from(number) {
        Ok(number) => {
            pickle.push(op::BININT);
            pickle.extend(number.to_le_bytes());
        }
        Err(_) => {
            pickle.extend([op::LONG1, 8]);
            pickle.extend((number as u64).to_le_bytes());
        }
    }
}
