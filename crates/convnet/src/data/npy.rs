//! Arrays in NumPy's `.npy` files: little-endian `f32` in row-major order, format versions 1 to 3.
//!
//! `\x93NUMPY`, version, length of the header, a Python dictionary, then the elements.
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. The header is bounded, and its shape
//! is held against the size of the file before anything is reserved.

use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::{Error, Result, Tensor, files};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const MAX_HEADER: usize = 64 << 10;
const MAX_BYTES: u64 = 2 << 30;

/// Reads an array of any shape.
///
/// # Errors
/// A file that cannot be read, is no `.npy` file, holds other numbers than little-endian `f32` in row-major order, or
/// is shorter or longer than its header says.
pub fn read(path: &Path) -> Result<Tensor> {
    let (file, size) = super::open(path)?;
    parse(BufReader::new(file), size).map_err(|problem| Error::file(path, problem))
}

/// Reads a batch of pictures: an array of count × channels × height × width, the last three as given by `shape`.
///
/// # Errors
/// Those of [`read`], an empty batch, or another shape.
pub fn read_batch(path: &Path, shape: [usize; 3]) -> Result<Tensor> {
    let batch = read(path)?;
    match batch.shape() {
        [count, found @ ..] if *count > 0 && *found == shape => {
            match batch.data().iter().position(|x| !x.is_finite()) {
                None => Ok(batch),
                Some(at) => {
                    let (picture, value) = (at / shape.iter().product::<usize>(), batch.data()[at]);
                    Err(Error::file(
                        path,
                        format!("picture {picture} has a pixel that is {value}: expected finite numbers"),
                    ))
                }
            }
        }
        found => {
            let [c, h, w] = shape;
            let problem = format!("an array of shape {found:?}, but the net takes a batch: [n, {c}, {h}, {w}], n > 0");
            Err(Error::file(path, problem))
        }
    }
}

/// Writes an array in format version 1.
///
/// # Errors
/// A disk that does not take it.
pub fn write(path: &Path, array: &Tensor) -> Result<()> {
    let shape: String = array.shape().iter().map(|axis| format!("{axis}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    // The elements begin at a multiple of 64 bytes; the header ends with a line feed.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut file = [&MAGIC[..], &[1, 0], &(length as u16).to_le_bytes()].concat();
    file.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    file.extend(array.data().iter().flat_map(|x| x.to_le_bytes()));
    files::write_atomic(path, |out| out.write_all(&file))
}

/// What a header says of its array.
struct Header {
    shape: Vec<usize>,
    /// Bytes of the file up to the first element.
    bytes: u64,
}

fn parse(mut source: impl Read, size: u64) -> Result<Tensor, String> {
    let Header { shape, bytes } = header(&mut source)?;
    let elements = shape.iter().try_fold(1_usize, |n, &axis| n.checked_mul(axis));
    let claimed = elements.and_then(|n| n.checked_mul(4)).map(|n| n as u64);
    let held = size.saturating_sub(bytes);
    if claimed != Some(held) || held > MAX_BYTES {
        return Err(format!(
            "the header says shape {shape:?} of 4 bytes each, but {held} bytes follow (and none may hold more than \
             {MAX_BYTES}): cut short, or not what it claims"
        ));
    }
    let mut data = Vec::new();
    data.try_reserve_exact(held as usize / 4).map_err(|_| format!("not enough memory for {held} bytes"))?;
    let mut buffer = [0; 16 << 10];
    let mut left = held as usize;
    while left > 0 {
        let chunk = &mut buffer[..left.min(16 << 10)];
        source.read_exact(chunk).map_err(unreadable)?;
        left -= chunk.len();
        data.extend(chunk.as_chunks().0.iter().map(|&element| f32::from_le_bytes(element)));
    }
    Ok(Tensor::new(shape, data))
}

fn header(source: &mut impl Read) -> Result<Header, String> {
    let [m @ .., major, _minor] = exactly::<8>(source)?;
    if &m != MAGIC {
        return Err("not an .npy file: save it with numpy.save".into());
    }
    let (length, prefix) = match major {
        1 => (u16::from_le_bytes(exactly(source)?) as usize, 10),
        2 | 3 => (u32::from_le_bytes(exactly(source)?) as usize, 12),
        _ => return Err(format!("format version {major}; expected 1, 2 or 3")),
    };
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes; expected at most {MAX_HEADER}"));
    }
    let mut text = vec![0; length];
    source.read_exact(&mut text).map_err(unreadable)?;
    let shape = std::str::from_utf8(&text).ok().and_then(fields).ok_or("a header that is not a NumPy dictionary")??;
    Ok(Header { shape, bytes: (prefix + length) as u64 })
}

/// The shape in a header such as `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 8, 8), }`, or what is wrong
/// with the other two; nothing where it cannot be understood.
fn fields(text: &str) -> Option<Result<Vec<usize>, String>> {
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("'{key}'")).or_else(|| text.split_once(&format!("\"{key}\"")))?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("descr")?;
    let kind = descr.split(['\'', '"']).nth(1).filter(|_| descr.starts_with(['\'', '"'])).unwrap_or("a structure");
    if kind != "<f4" {
        return Some(Err(format!(
            "elements of type {kind}; expected little-endian float32 (<f4): convert with array.astype('<f4')"
        )));
    }
    if !value("fortran_order")?.starts_with("False") {
        return Some(Err("column-major (Fortran) order; convert with numpy.ascontiguousarray(array)".into()));
    }
    let (axes, _) = value("shape")?.strip_prefix('(')?.split_once(')')?;
    let axes = axes.trim().trim_end_matches(',');
    if axes.is_empty() {
        return Some(Ok(Vec::new()));
    }
    let shape: Option<Vec<usize>> = axes.split(',').map(|axis| axis.trim().parse().ok()).collect();
    shape.map(Ok)
}

fn exactly<const N: usize>(source: &mut impl Read) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn unreadable(error: io::Error) -> String {
    format!("cut short or unreadable: {error}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn file(version: u8, dictionary: &str, elements: &[f32]) -> Vec<u8> {
        let length = match version {
            1 => (dictionary.len() as u16).to_le_bytes().to_vec(),
            _ => (dictionary.len() as u32).to_le_bytes().to_vec(),
        };
        let elements: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
        [&MAGIC[..], &[version, 0], &length, dictionary.as_bytes(), &elements].concat()
    }

    fn parse_bytes(bytes: &[u8]) -> Result<Tensor, String> {
        parse(bytes, bytes.len() as u64)
    }

    const PAIR: &str = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";

    #[test]
    fn arrays_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("array.npy");
        for shape in [vec![], vec![3], vec![2, 1, 3, 2], vec![0, 3]] {
            let elements: usize = shape.iter().product();
            let array = Tensor::new(shape, (0..elements).map(|i| i as f32 - 1.5).collect());
            write(&path, &array).unwrap();
            assert_eq!(fs::read(&path).unwrap().len() % 64, elements * 4 % 64);
            assert_eq!(read(&path).unwrap(), array);
        }
        let array = Tensor::zeros([2, 1, 3, 5000]);
        write(&path, &array).unwrap();
        assert_eq!(read_batch(&path, [1, 3, 5000]).unwrap(), array);
        let error = read_batch(&path, [1, 28, 28]).unwrap_err().to_string();
        assert!(error.contains("shape [2, 1, 3, 5000], but the net takes a batch: [n, 1, 28, 28]"), "{error}");
        write(&path, &Tensor::zeros([0, 1, 2, 2])).unwrap();
        assert!(read_batch(&path, [1, 2, 2]).is_err());
    }

    #[test]
    fn every_version_and_spelling_is_read() {
        for version in 1..=3 {
            assert_eq!(parse_bytes(&file(version, PAIR, &[1.0, 2.0])).unwrap().data(), [1.0, 2.0]);
        }
        let other = r#"{"shape":(1,2),"fortran_order":False,"descr":"<f4"}"#;
        assert_eq!(parse_bytes(&file(1, other, &[1.0, 2.0])).unwrap().shape(), [1, 2]);
    }

    #[test]
    fn other_arrays_are_refused() {
        let error = |from: &str, to: &str| parse_bytes(&file(1, &PAIR.replace(from, to), &[1.0, 2.0])).unwrap_err();
        assert!(error("<f4", "<f8").contains("elements of type <f8; expected little-endian float32"));
        assert!(error("<f4", ">f4").contains(">f4"));
        assert!(error("'<f4'", "[('a', '<f4')]").contains("a structure"));
        assert!(error("False", "True").contains("column-major"));
        assert!(error("(2,)", "(3,)").contains("but 8 bytes follow"));
        assert!(error("(2,)", "(-2,)").contains("not a NumPy dictionary"));
        assert!(error("(2,)", "(4294967296, 4294967296, 4294967296)").contains("cut short"));
        assert!(error("(2,)", "(").contains("not a NumPy dictionary"));
        assert!(error("descr", "x").contains("not a NumPy dictionary"));
        assert!(parse_bytes(&file(4, PAIR, &[])).unwrap_err().contains("version 4"));
        assert!(parse_bytes(b"PK\x03\x04....").unwrap_err().contains("not an .npy file"));
        let long = [&MAGIC[..], &[2, 0], &u32::MAX.to_le_bytes()].concat();
        assert!(parse_bytes(&long).unwrap_err().contains("expected at most 65536"));
    }

    #[test]
    fn truncation_at_every_byte_is_an_error() {
        let whole = file(1, PAIR, &[1.0, 2.0]);
        for end in 0..whole.len() {
            assert!(parse_bytes(&whole[..end]).is_err(), "{end} bytes");
        }
        assert!(parse_bytes(&[&whole[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = file(1, PAIR, &[1.0, 2.0]);
            for (place, byte) in &edits {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
            }
            let _ = parse_bytes(&bytes);
        }
    }
}
