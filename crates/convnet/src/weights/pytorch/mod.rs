//! PyTorch's files. `torch.save` writes a pickle of the object, in which each tensor is a view of a storage, and the
//! storages' bytes: since 1.6 as entries of a zip archive, before that one after the other. Both are read; the zip form is
//! written.
//!
//! A file is opened in steps, each of which believes nothing that the one before has not checked: `source` (bytes, never
//! beyond the end), `zip` or `stream` (where the pickle and the storages lie), `pickle` (values, without executing
//! anything), `state_dict` (which of them are the weights), `tensors` (the elements). Memory is that of the tensors and of
//! the largest storage, and less than 128 MB for the rest.

mod op;
mod pickle;
mod source;
mod state_dict;
mod stream;
mod tensors;
#[cfg(test)]
mod tests;
mod value;
mod write;
mod zip;

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;

pub use write::write;

use super::{Contents, printable};
use crate::data::open;
use crate::{Error, Result};
use pickle::{Pickle, Problem};
use source::Source;
use stream::Stream;
use value::Storage;
use zip::Archive;

/// With which a zip archive and a pickle begin.
const ZIP_MAGIC: &[u8] = zip::LOCAL_HEADER;
const PICKLE_MAGIC: &[u8] = &[op::PROTO];
/// Entry of the zip form in which we keep strings; PyTorch passes over it.
const METADATA: &str = "extra/convnet.json";
/// Entry of the zip form that holds the pickle.
const DATA: &str = "data.pkl";

/// Reads the state dict of a file that `torch.save` wrote, in either form: its own, or the one under `state_dict`,
/// `model_state_dict`, `model` or the like. Floating-point numbers and integers of any width become the nearest `f32`;
/// NaN and infinity are let through. Whatever else the file holds is passed over.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened; [`Error::File`] when it is truncated, damaged or of another format,
/// when its pickle mentions a name that weights do not need, and when it exceeds a limit.
pub fn read(path: &Path) -> Result<Contents> {
    let (file, length) = open(path)?;
    parse(file, length).map_err(|problem| Error::file(path, problem))
}

/// Whether a file that begins so is of either form. A pickle's first byte may be a safetensors file's, too, but only that
/// has a brace after eight bytes.
pub(super) fn is_start(start: &[u8]) -> bool {
    start.starts_with(ZIP_MAGIC) || start.starts_with(PICKLE_MAGIC) && start.get(8) != Some(&b'{')
}

fn parse(reader: impl Read + Seek, length: u64) -> Result<Contents, Problem> {
    let mut source = Source::new(reader, length);
    let start = source.read(0, length.min(ZIP_MAGIC.len() as u64))?;
    if start.starts_with(ZIP_MAGIC) { parse_zip(&mut source) } else { parse_stream(&mut source) }
}

fn parse_stream<R: Read + Seek>(source: &mut Source<R>) -> Result<Contents, Problem> {
    let (head, length) = (stream::head(source)?, source.length());
    let stream = Stream::parse(&head)?;
    let places = stream.places(source)?;
    let read = |storage: &Storage| {
        let missing = || format!("storage '{}' is missing", printable(storage.key));
        let start = *places.get(storage.key).ok_or_else(missing)?;
        source.read(start, storage.bytes())
    };
    let tensors = tensors::gather(&state_dict::find(&stream.object)?, length, read)?;
    Ok(Contents { tensors, metadata: BTreeMap::new() })
}

fn parse_zip<R: Read + Seek>(source: &mut Source<R>) -> Result<Contents, Problem> {
    let archive = Archive::open(source)?;
    let prefix = prefix(&archive)?.to_owned();
    let small = |source: &mut Source<R>, name: &str, most: usize| {
        let name = format!("{prefix}{name}");
        match archive.size(&name) {
            None => Ok(None),
            Some(size) if size > most as u64 => {
                Err(format!("zip entry '{}' has {size} bytes: at most {most} are read", printable(&name)))
            }
            Some(_) => archive.read(source, &name).map(Some),
        }
    };
    if small(source, "byteorder", 16)?.is_some_and(|order| order.trim_ascii() != b"little") {
        return Err("a PyTorch file of a big-endian machine: save it again on another".into());
    }
    let metadata = match small(source, METADATA, pickle::MAX_BYTES)? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_slice(&json)
            .map_err(|e| format!("zip entry '{METADATA}': {}", printable(&e.to_string())))?,
    };
    let data = small(source, DATA, pickle::MAX_BYTES)?.unwrap_or_default();
    let length = source.length();
    let (pickle, _) = Pickle::parse(&data)?;
    let read = |storage: &Storage| {
        let name = format!("{prefix}data/{}", storage.key);
        match archive.size(&name) {
            Some(size) if size != storage.bytes() => {
                Err(format!("zip entry '{}' has {size} bytes: expected {}", printable(&name), storage.bytes()))
            }
            _ => archive.read(source, &name),
        }
    };
    let tensors = tensors::gather(&state_dict::find(&pickle)?, length, read)?;
    Ok(Contents { tensors, metadata })
}

/// The folder that all entries lie in, its slash included.
fn prefix(archive: &Archive) -> Result<&str, Problem> {
    let folders = archive.names().filter_map(|name| name.strip_suffix(DATA));
    let mut folders = folders.filter(|folder| folder.find('/').is_none_or(|at| at + 1 == folder.len()));
    match (folders.next(), folders.next()) {
        (Some(folder), None) if archive.size(&format!("{folder}constants.pkl")).is_some() => {
            Err("a TorchScript program: load it with PyTorch and save its state_dict".into())
        }
        (Some(folder), None) => Ok(folder),
        (None, _) => Err(format!("a zip archive, but not one of torch.save: it has no {DATA}")),
        (Some(_), Some(_)) => Err(format!("a zip archive with more than one {DATA}")),
    }
}
