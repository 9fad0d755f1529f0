//! PyTorch's files. `torch.save` writes a pickle of the object, in which each tensor is a view of a storage, and the
//! storages' bytes: since 1.6 as entries of a zip archive, before that one after the other. Both are read; the zip form is
//! written.
//!
//! A file is opened in steps, each of which believes nothing that the one before has not checked: `source` (bytes, never
//! beyond the end), `zip` or `stream` (where the pickle and the storages lie), `pickle` (values, without executing
//! anything), `state_dict` (which of them are weights), `tensors` (the elements). Memory is that of the tensors, the pickle
//! and the largest storage, and less than 128 MB for the rest.

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

use super::choose::{Choose, Offer, default_choice};
use super::{Contents, Failure, Note, printable};
#[cfg(doc)]
use crate::Error;
use crate::Result;
use crate::data::open;
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
/// Most bytes of that entry.
const MAX_METADATA: usize = 8 << 20;
/// How many entries of an archive a message names.
const SHOWN: usize = 5;
/// Entry of the zip form that holds the pickle.
const DATA: &str = "data.pkl";

/// Reads the state dict of a file that `torch.save` wrote, in either form: its own, that of a pickled module, or the one
/// under `state_dict`, `model_state_dict`, `model` or the like. Floating-point numbers and integers of any width become the
/// nearest `f32`; NaN and infinity are let through. Whatever else the file holds is passed over, and classes and functions
/// that it mentions are named ([`Note::Objects`]).
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened; [`Error::File`] when it is truncated, damaged or of another format,
/// when a tensor of the state dict cannot be read, and when it exceeds a limit; [`Error::Weights`] when it holds several
/// state dicts of which none is usual.
pub fn read(path: &Path) -> Result<Contents> {
    read_chosen(path, &mut |offers| default_choice(offers, None))
}

/// The same of those state dicts that are chosen.
pub(super) fn read_chosen(path: &Path, choose: Choose) -> Result<Contents> {
    let (file, length) = open(path)?;
    parse(file, length, choose).map_err(|failure| failure.in_file(path))
}

/// Whether a file that begins so is of either form. A pickle's first byte may be a safetensors file's, too, but only that
/// has a brace after eight bytes.
pub(super) fn is_start(start: &[u8]) -> bool {
    start.starts_with(ZIP_MAGIC) || start.starts_with(PICKLE_MAGIC) && start.get(8) != Some(&b'{')
}

fn parse(reader: impl Read + Seek, length: u64, choose: Choose) -> Result<Contents, Failure> {
    let mut source = Source::new(reader, length);
    let start = source.read(0, length.min(ZIP_MAGIC.len() as u64))?;
    if start.starts_with(ZIP_MAGIC) { parse_zip(&mut source, choose) } else { parse_stream(&mut source, choose) }
}

fn parse_stream<R: Read + Seek>(source: &mut Source<R>, choose: Choose) -> Result<Contents, Failure> {
    let length = source.length();
    let mut head_length = length.min(stream::HEAD);
    // Pickles are seldom long; the storages after them are not needed yet.
    let head = loop {
        let head = source.read(0, head_length)?;
        match Stream::parse(&head) {
            Err(_) if head_length < length.min(pickle::MAX_BYTES as u64) => {
                head_length = length.min(pickle::MAX_BYTES as u64).min(head_length * 16);
            }
            Err(problem) => return Err(problem.into()),
            Ok(_) => break head,
        }
    };
    let stream = Stream::parse(&head)?;
    let places = stream.places(source)?;
    let read = |storage: &Storage| {
        let missing = || format!("storage '{}' is missing", printable(storage.key));
        let start = *places.get(storage.key).ok_or_else(missing)?;
        source.read(start, storage.bytes())
    };
    contents(&stream.object, length, choose, read)
}

/// The tensors of the state dicts that are chosen, once `read` gives a storage's bytes; `length` bounds their number.
fn contents<'a>(
    pickle: &Pickle<'a>,
    length: u64,
    choose: Choose,
    read: impl FnMut(&Storage<'a>) -> Result<Vec<u8>, Problem>,
) -> Result<Contents, Failure> {
    let found = state_dict::find(pickle)?;
    let offers: Vec<Offer> = found.iter().map(offer).collect();
    let choice = choose(&offers)?;
    let mut views = Vec::new();
    for &index in &choice.taken {
        let found = &found[index];
        if let Some(problem) = &found.problem {
            return Err(Failure::from(problem.clone()));
        }
        let prefix = if choice.taken.len() > 1 { format!("{}.", found.key) } else { String::new() };
        views.extend(found.tensors.iter().map(|(name, view)| (format!("{prefix}{name}"), *view)));
    }
    let tensors = tensors::gather(&views, length, read)?;
    let mut notes = choice.notes;
    let objects: Vec<String> = pickle
        .foreign()
        .filter(|(module, _)| !is_part_of_torch(module))
        .map(|(module, name)| printable(&format!("{module}.{name}")))
        .collect();
    if !objects.is_empty() {
        notes.push(Note::Objects(objects));
    }
    Ok(Contents { tensors, metadata: BTreeMap::new(), notes })
}

/// PyTorch's own classes lie beside weights in every file of a training script or of a module: they are no news.
fn is_part_of_torch(module: &str) -> bool {
    let package = module.split('.').next();
    matches!(package, Some("torch" | "torchvision" | "numpy" | "collections")) || module == "__torch__"
}

fn offer(found: &state_dict::Found) -> Offer {
    let shapes = found.tensors.iter().map(|(name, view)| (name.clone(), view.shape.clone()));
    Offer { key: found.key.clone(), shapes: shapes.collect() }
}

fn parse_zip<R: Read + Seek>(source: &mut Source<R>, choose: Choose) -> Result<Contents, Failure> {
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
        return Err("a PyTorch file of a big-endian machine: save it again on another".to_owned().into());
    }
    let metadata = match small(source, METADATA, MAX_METADATA)? {
        None => BTreeMap::new(),
        Some(json) => serde_json::from_slice(&json)
            .map_err(|e| format!("zip entry '{METADATA}': {}", printable(&e.to_string())))?,
    };
    let data = small(source, DATA, pickle::MAX_BYTES)?.unwrap_or_default();
    // What was compressed is counted as it was before.
    let length = source.length().max(archive.total_size());
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
    Ok(Contents { metadata, ..contents(&pickle, length, choose, read)? })
}

/// The folder that all entries lie in, its slash included.
fn prefix(archive: &Archive) -> Result<&str, Problem> {
    let folders = archive.names().filter_map(|name| name.strip_suffix(DATA));
    let mut folders = folders.filter(|folder| folder.is_empty() || folder.ends_with('/'));
    match (folders.next(), folders.next()) {
        (Some(folder), None) if archive.size(&format!("{folder}constants.pkl")).is_some() => Err(
            "a TorchScript program (torch.jit.save), not a file of weights: load it with torch.jit.load and save its \
                 state_dict()"
                .into(),
        ),
        (Some(folder), None) => Ok(folder),
        (None, _) => Err(kind_of(archive)),
        (Some(_), Some(_)) => Err(format!("a zip archive with more than one {DATA}")),
    }
}

/// What an archive is that `torch.save` did not write, and what to do.
fn kind_of(archive: &Archive) -> String {
    let ends = |ending: &str| archive.names().find(|name| name.ends_with(ending) && !name.starts_with("__MACOSX/"));
    let inner = [".pth", ".pt", ".safetensors", ".th", ".ckpt", ".bin", ".pth.tar"].into_iter().find_map(ends);
    match inner {
        Some(name) => return format!("a zip archive that holds '{}': unpack it first", printable(name)),
        None if ends("model.weights.h5").is_some() => {
            return "a Keras model, not weights that can be read: export them from Python as safetensors".into();
        }
        None if ends(".npy").is_some() => {
            return "an archive of NumPy arrays (.npz), not weights that can be read: save them as safetensors".into();
        }
        None => {}
    }
    let mut names: Vec<String> = archive.names().take(SHOWN).map(printable).collect();
    if archive.names().nth(SHOWN).is_some() {
        names.push("…".into());
    }
    format!("a zip archive, but not one of torch.save: it has no {DATA}, but [{}]", names.join(", "))
}
