//! The safetensors format: 8 bytes of header length, a JSON header (names, types, shapes, offsets, metadata strings), then
//! the tensors' little-endian bytes. Read by several threads, each a part at a time, and written as a stream, so that memory is
//! that of the tensors.
//!
//! Nothing is believed: the header is bounded, its offsets must cover exactly the bytes that follow, and only then is
//! memory asked for. Files are written in a fixed order: equal content gives equal bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use convnet_kernels::memory;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value, json};

use super::choose::{Choose, Offer, default_choice};
use super::digest::for_each_le_chunk;
use super::element::Element;
use super::{Contents, kind, printable};
use crate::data::{open, stored};
use crate::files::write_atomic;
use crate::{Error, Result, StateDict, Tensor, parallel};

/// Largest header that is read: room for tens of thousands of tensors. Parsed, it takes a small multiple of this.
const MAX_HEADER: u64 = 4 << 20;
/// Most axes of a tensor that is read.
const MAX_AXES: usize = 16;
/// Bytes before the header: its length.
const PREFIX: u64 = 8;
/// Bytes of a tensor that are converted at a time; every element size divides it.
const CHUNK: usize = 64 << 10;
/// Elements of a tensor that a thread reads before it looks for other work.
const PART: usize = 1 << 20;
/// Where the format keeps its metadata strings.
const METADATA: &str = "__metadata__";

/// Reads a file. Floating-point numbers and integers of any width become the nearest `f32`; NaN and infinity are let
/// through.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::File`] when it is truncated, damaged or of another format, and
/// when a tensor has another type of element.
pub fn read(path: &Path) -> Result<Contents> {
    read_chosen(path, &mut |offers| default_choice(offers, None))
}

/// Reads a file's metadata strings and nothing else.
///
/// # Errors
/// As [`read`], but for the elements of tensors.
pub(crate) fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let (file, length) = open(path)?;
    let header = read_header(path, &file, length)?;
    Ok(header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The same, once `choose` has seen what the file holds.
pub(super) fn read_chosen(path: &Path, choose: Choose) -> Result<Contents> {
    let (file, length) = open(path)?;
    parse(path, &file, length, choose)
}

/// Bytes that are read from any place.
trait Bytes: Sync {
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Bytes for File {
    fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        stored::read_at(self, start, buffer)
    }
}

/// Writes a file atomically: tensors as `F32`, in name order.
///
/// # Errors
/// [`Error::Io`] as [`write_atomic`].
pub fn write(path: &Path, tensors: &StateDict, metadata: &BTreeMap<String, String>) -> Result<()> {
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    write_atomic(path, |out| write_to(out, &tensors, metadata))
}

/// Writes the whole file content, tensors in the order given.
pub(super) fn write_to(
    out: &mut dyn Write,
    tensors: &[(String, &Tensor)],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert(METADATA.into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in tensors {
        let end = offset + size_of_val(tensor.data());
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape().to_vec(), data_offsets: (offset, end) };
        header.insert(name.clone(), json!(info));
        offset = end;
    }
    let mut header = Value::from(header).to_string().into_bytes();
    // The format asks for data aligned to 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    tensors.iter().try_for_each(|(_, tensor)| for_each_le_chunk(tensor.data(), |bytes| out.write_all(bytes)))
}

/// Reads the content of a file of `length` bytes; `path` is for messages.
fn parse(path: &Path, file: &impl Bytes, length: u64, choose: Choose) -> Result<Contents> {
    let header = read_header(path, file, length)?;
    let shapes = header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone()));
    let choice = choose(&[Offer { key: String::new(), shapes: shapes.collect() }]);
    let mut contents =
        Contents { notes: choice.map_err(|problem| problem.in_file(path))?.notes, ..Contents::default() };
    contents.metadata.extend(header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
    let first = length - header.data_len() as u64;
    let mut tensors = Vec::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let (element, tensor) = room(path, &name, info)?;
        tensors.push((name, element, first + info.data_offsets.0 as u64, tensor));
    }
    let parts =
        tensors.iter_mut().flat_map(|(_, element, start, tensor)| parts_of(*element, *start, tensor.data_mut()));
    read_parts(path, file, parts.collect())?;
    contents.tensors.extend(tensors.into_iter().map(|(name, _, _, tensor)| (name, tensor)));
    Ok(contents)
}

/// Reads and converts a tensor that begins there in a file.
#[cfg(feature = "onnx")]
pub(crate) fn read_tensor(path: &Path, file: &File, element: Element, start: u64, values: &mut [f32]) -> Result<()> {
    read_parts(path, file, parts_of(element, start, values).collect())
}

/// A tensor that begins there, in parts for [`read_parts`].
fn parts_of(element: Element, start: u64, values: &mut [f32]) -> impl Iterator<Item = (Element, u64, &mut [f32])> {
    let parts = values.chunks_mut(PART).enumerate();
    parts.map(move |(index, values)| (element, start + (index * PART * element.size()) as u64, values))
}

/// Reads and converts parts of tensors: the type of their elements, where they begin, and where they go.
fn read_parts(path: &Path, file: &impl Bytes, parts: Vec<(Element, u64, &mut [f32])>) -> Result<()> {
    let failed = Mutex::new(None);
    let scratch = || vec![0; CHUNK];
    parallel::for_each(parts, scratch, |(element, mut at, values): (Element, u64, &mut [f32]), buffer| {
        for values in values.chunks_mut(CHUNK / element.size()) {
            let bytes = &mut buffer[..values.len() * element.size()];
            if let Err(error) = file.read_at(at, bytes) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
            element.decode(bytes, values);
            at += bytes.len() as u64;
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(Error::io("reading", path)(error)),
        None => Ok(()),
    }
}

/// The header, once it is known to describe exactly the rest of the file.
fn read_header(path: &Path, file: &impl Bytes, length: u64) -> Result<Metadata> {
    let read = |start: u64, length: u64| {
        let mut bytes = vec![0; length as usize];
        file.read_at(start, &mut bytes).map_err(Error::io("reading", path))?;
        Ok::<_, Error>(bytes)
    };
    // The header's length and its brace, which tell a stranger.
    let start = read(0, length.min(PREFIX + 1))?;
    let (Some(prefix), Some(b'{')) = (start.first_chunk::<8>(), start.get(8)) else {
        return Err(kind::other(&start).in_file(path));
    };
    let size = u64::from_le_bytes(*prefix);
    if size > MAX_HEADER {
        return Err(Error::file(path, format!("header of {size} bytes: at most {MAX_HEADER} are read")));
    }
    let truncated = |end: u64| Error::file(path, format!("truncated: expected {end} bytes, the file has {length}"));
    if PREFIX + size > length {
        return Err(truncated(PREFIX + size));
    }
    let header = read(PREFIX, size)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| Error::file(path, format!("its header is damaged: {}", printable(&e.to_string()))))?;
    match PREFIX + size + header.data_len() as u64 {
        end if end > length => Err(truncated(end)),
        end if end < length => Err(Error::file(path, format!("{} stray bytes after the last tensor", length - end))),
        _ => Ok(header),
    }
}

/// A tensor of zeros, and the type of its elements. Its size has been bounded by the file's in the header's check.
fn room(path: &Path, name: &str, info: &TensorInfo) -> Result<(Element, Tensor)> {
    let problem = |problem: String| Err(Error::file(path, format!("tensor '{}' {problem}", printable(name))));
    if info.shape.len() > MAX_AXES {
        return problem(format!("has {} axes: expected at most {MAX_AXES}", info.shape.len()));
    }
    let element = match info.dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::BF16,
        Dtype::I64 => Element::I64,
        Dtype::I32 => Element::I32,
        Dtype::I16 => Element::I16,
        Dtype::I8 => Element::I8,
        Dtype::U8 => Element::U8,
        Dtype::U64 => Element::U64,
        Dtype::U32 => Element::U32,
        Dtype::U16 => Element::U16,
        Dtype::BOOL => Element::Bool,
        Dtype::F8_E4M3 => Element::F8E4M3,
        Dtype::F8_E5M2 => Element::F8E5M2,
        other => {
            return problem(format!(
                "is of type {other}: expected F64, F32, F16, BF16, F8_E4M3, F8_E5M2, integers or BOOL"
            ));
        }
    };
    let count = info.shape.iter().product();
    match memory::try_zeros(count) {
        Some(values) => Ok((element, Tensor::new(info.shape.clone(), values))),
        None => problem(format!("of {count} elements does not fit into memory")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Bytes for &[u8] {
        fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
            let bytes = self.get(start as usize..start as usize + buffer.len());
            buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn sample() -> Contents {
        let tensors = [
            ("conv.weight", Tensor::new([2, 1, 1, 2], vec![1.0, -2.5, f32::NAN, f32::INFINITY])),
            ("empty", Tensor::zeros([0, 3])),
            ("scalar", Tensor::new([], vec![7.0])),
        ];
        Contents {
            tensors: tensors.map(|(name, tensor)| (name.into(), tensor)).into(),
            metadata: [("note".into(), "π \"quoted\"".into())].into(),
            notes: Vec::new(),
        }
    }

    fn bytes_of(contents: &Contents) -> Vec<u8> {
        let tensors: Vec<_> = contents.tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        let mut bytes = Vec::new();
        write_to(&mut bytes, &tensors, &contents.metadata).unwrap();
        bytes
    }

    fn parse_bytes(bytes: &[u8]) -> Result<Contents> {
        let choose: Choose = &mut |offers| default_choice(offers, None);
        parse(Path::new("some.safetensors"), &bytes, bytes.len() as u64, choose)
    }

    /// A file with this header and `data` bytes after it.
    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn message(bytes: &[u8]) -> String {
        let message = parse_bytes(bytes).unwrap_err().to_string();
        assert!(message.contains("some.safetensors"), "{message}");
        message
    }

    #[test]
    fn what_is_written_is_read_bit_for_bit() {
        let read = parse_bytes(&bytes_of(&sample())).unwrap();
        assert_eq!(crate::weights::weights_sha256(&read.tensors), crate::weights::weights_sha256(&sample().tensors));
        assert_eq!(read.metadata, sample().metadata);
        assert_eq!(parse_bytes(&bytes_of(&Contents::default())).unwrap(), Contents::default());
    }

    #[test]
    fn the_reference_implementation_reads_what_is_written() {
        let bytes = bytes_of(&sample());
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.len(), 3);
        let weight = reference.tensor("conv.weight").unwrap();
        assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[2, 1, 1, 2][..]));
        assert_eq!(weight.data()[..8], [0, 0, 128, 63, 0, 0, 32, 192]);
    }

    #[test]
    fn files_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let contents = Contents { tensors: [("b".into(), Tensor::zeros([3]))].into(), ..sample() };
        write(&path, &contents.tensors, &contents.metadata).unwrap();
        assert_eq!(read(&path).unwrap(), contents);
        assert!(read(folder.path()).unwrap_err().to_string().contains("expected a regular file"));
        assert!(read(&folder.path().join("none")).unwrap_err().to_string().starts_with("opening "));
    }

    #[test]
    fn other_types_become_f32() {
        let cases: [(&str, Vec<u8>, f32); 6] = [
            ("F16", 0xc100u16.to_le_bytes().into(), -2.5),
            ("BF16", 0xc020u16.to_le_bytes().into(), -2.5),
            ("F64", (-2.5f64).to_le_bytes().into(), -2.5),
            ("I64", (-25i64).to_le_bytes().into(), -25.0),
            ("U16", 65_535u16.to_le_bytes().into(), 65_535.0),
            ("F8_E4M3", vec![0xc2], -2.5),
        ];
        for (dtype, data, value) in cases {
            let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[],"data_offsets":[0,{}]}}}}"#, data.len());
            let mut bytes = file(&header, 0);
            bytes.extend(data);
            assert_eq!(parse_bytes(&bytes).unwrap().tensors["a"].data(), [value], "{dtype}");
        }
        let message = message(&file(r#"{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#, 8));
        assert!(message.contains("tensor 'a' is of type C64: expected F64, F32"), "{message}");
    }

    #[test]
    fn truncation_at_every_byte_and_stray_bytes_are_errors() {
        let mut bytes = bytes_of(&sample());
        for length in 0..bytes.len() {
            message(&bytes[..length]);
        }
        assert!(message(&bytes[..bytes.len() - 1]).contains("truncated: expected"));
        bytes.push(0);
        assert!(message(&bytes).contains("1 stray bytes"));
    }

    #[test]
    fn lies_in_the_header_are_errors() {
        let tensor = |fields: &str| file(&format!(r#"{{"a":{{{fields}}}}}"#), 8);
        for fields in [
            r#""dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]"#,
            r#""dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,8]"#,
            r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#,
            r#""dtype":"F32","shape":[1],"data_offsets":[4,8]"#,
            r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#,
            r#""dtype":"F99","shape":[2],"data_offsets":[0,8]"#,
            r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#,
        ] {
            message(&tensor(fields));
        }
        let deep = format!(r#""dtype":"F32","shape":[{}2],"data_offsets":[0,8]"#, "1,".repeat(99));
        assert!(message(&tensor(&deep)).ends_with("tensor 'a' has 100 axes: expected at most 16"));
        let long = format!(r#""dtype":"{}\u001b","shape":[2],"data_offsets":[0,8]"#, "F".repeat(9999));
        assert!(message(&tensor(&long)).len() < 300);
        let mut huge = file("{}", 0);
        huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(message(&huge).contains("at most 4194304 are read"));
        assert!(message(&file(&"[".repeat(100_000).replacen('[', "{", 1), 0)).contains("header is damaged"));
    }

    #[test]
    fn foreign_files_are_named() {
        assert!(message(b"\x89PNG\r\n\x1a\n0000").contains("not weights: it is a PNG picture"));
        assert!(message(b"\0\0\0\0\0\0\0\x01\0\0").contains("not those of safetensors"));
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = bytes_of(&sample());
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            if let Ok(contents) = parse_bytes(&bytes) {
                let elements: usize = contents.tensors.values().map(|t| t.data().len()).sum();
                prop_assert!(elements <= bytes.len());
            }
        }

        #[test]
        fn arbitrary_headers_never_panic(header in r#"\{("[a_]{1,12}":(\{"dtype":"(F32|F4|I64)","shape":\[[0-9]{1,3}\],"data_offsets":\[0,[0-9]{1,2}\]\}|\{\}|1),?){0,3}\}"#, data in 0usize..40) {
            let _ = parse_bytes(&file(&header, data));
        }
    }
}
