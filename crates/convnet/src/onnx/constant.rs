//! Tensors whose elements are known as a graph is read: weights, shapes, settings.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use convnet_kernels::memory;
use prost::bytes::Bytes;

use super::proto::{EXTERNAL, Tensor};
use crate::data::stored;
use crate::weights::{Element, read_tensor};
use crate::{Error, parallel};

/// Most axes of a tensor.
pub(super) const MAX_AXES: usize = 16;
/// ONNX's numbers of floating-point types.
pub(super) const FLOATS: [i64; 4] = [1, 10, 11, 16];
/// Most elements of a constant that is computed, of all of them together: a file of some bytes must not stand for gigabytes.
pub(super) const MAX_COMPUTED: usize = 1 << 24;

/// A tensor of known elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
}

/// Elements; floating-point numbers of any width are `f32`, integers and truth values `i64`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Floats(Arc<Vec<f32>>),
    Ints(Vec<i64>),
}

impl From<Vec<f32>> for Data {
    fn from(values: Vec<f32>) -> Data {
        Data::Floats(values.into())
    }
}

impl Constant {
    pub(super) fn ints(values: Vec<i64>) -> Constant {
        Constant { dims: vec![values.len()], data: Data::Ints(values) }
    }

    pub(super) fn floats(dims: Vec<usize>, values: Vec<f32>) -> Constant {
        Constant { dims, data: values.into() }
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Floats(values) => values.len(),
            Data::Ints(values) => values.len(),
        }
    }

    /// The elements as numbers of a net.
    pub(super) fn to_floats(&self) -> Vec<f32> {
        self.as_floats().into_owned()
    }

    /// The same, shared where they are such numbers.
    pub(super) fn share_floats(&self) -> Arc<Vec<f32>> {
        match &self.data {
            Data::Floats(values) => Arc::clone(values),
            Data::Ints(_) => self.to_floats().into(),
        }
    }

    /// The same where they are, if they are such numbers.
    pub(super) fn as_floats(&self) -> Cow<'_, [f32]> {
        match &self.data {
            Data::Floats(values) => values[..].into(),
            Data::Ints(values) => values.iter().map(|&value| value as f32).collect(),
        }
    }

    /// The elements as numbers that dimensions and axes are said in.
    ///
    /// # Errors
    /// Floating-point numbers.
    pub(super) fn to_ints(&self) -> Result<&[i64], String> {
        match &self.data {
            Data::Ints(values) => Ok(values),
            Data::Floats(_) => Err("expected integers, got floating-point numbers".into()),
        }
    }

    /// The one number that all elements are.
    pub(super) fn uniform(&self) -> Option<f32> {
        let values = self.as_floats();
        let first = *values.first()?;
        values.iter().all(|&value| value == first).then_some(first)
    }
}

/// The product of dimensions that a file says.
pub(super) fn elements(dims: &[i64]) -> Result<(Vec<usize>, usize), String> {
    let axes: Option<Vec<usize>> = dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let axes = axes.filter(|axes| axes.len() <= MAX_AXES);
    let counted = axes.and_then(|axes| {
        let count = axes.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
        Some((axes, count))
    });
    counted.ok_or_else(|| format!("a shape of {dims:?}"))
}

/// Where elements may lie beside the file.
#[derive(Debug, Default)]
pub(super) struct External {
    /// The file's folder; without one nothing is read.
    folder: Option<PathBuf>,
    /// Bytes that were read of each file: no more than it has.
    taken: RefCell<HashMap<PathBuf, u64>>,
}

impl External {
    /// For a model in that folder.
    pub(super) fn beside(folder: PathBuf) -> External {
        External { folder: Some(folder), ..External::default() }
    }

    /// A tensor of the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(&self, tensor: &Tensor) -> Result<Constant, String> {
        self.read_all(std::slice::from_ref(tensor)).remove(0)
    }

    /// Tensors of the file, decoded by all cores.
    ///
    /// # Errors
    /// Of each what is wrong with it.
    pub(super) fn read_all(&self, tensors: &[Tensor]) -> Vec<Result<Constant, String>> {
        let mut found: Vec<Result<Begun, String>> = tensors.iter().map(|tensor| self.begin(tensor)).collect();
        let parts = found.iter_mut().flatten().filter_map(Begun::parts).flatten().collect::<Vec<_>>();
        parallel::for_each(
            parts,
            || (),
            |(element, bytes, values): (Element, &[u8], &mut [f32]), ()| {
                element.decode(bytes, values);
            },
        );
        found.into_iter().map(|found| found.map(Begun::into_constant)).collect()
    }

    /// A tensor whose floating-point numbers wait to be decoded.
    fn begin(&self, tensor: &Tensor) -> Result<Begun, String> {
        let (dims, count) = elements(&tensor.dims)?;
        let element = element(tensor.data_type)?;
        let length = count.checked_mul(element.size()).ok_or_else(|| format!("a shape of {dims:?}"))?;
        let bytes = if tensor.data_location == EXTERNAL {
            let (path, file, start) = self.place(tensor, length)?;
            let problem = |error: Error| format!("its elements lie in another file: {error}");
            if !element.is_integer() {
                let mut values = memory::zeros(count);
                read_tensor(&path, &file, element, start, &mut values).map_err(problem)?;
                return Ok(Begun::Known(Constant::floats(dims, values)));
            }
            let mut bytes = vec![0; length];
            stored::read_at(&file, start, &mut bytes).map_err(|error| problem(Error::io("reading", &path)(error)))?;
            bytes.into()
        } else if let Some(raw) = &tensor.raw_data {
            if raw.len() != length {
                return Err(format!("expected {length} bytes for shape {dims:?}, got {}", raw.len()));
            }
            raw.clone()
        } else {
            let data = listed(element, tensor);
            let found = match &data {
                Data::Floats(values) => values.len(),
                Data::Ints(values) => values.len(),
            };
            if found != count {
                return Err(format!("expected {count} elements for shape {dims:?}, got {found}"));
            }
            return Ok(Begun::Known(Constant { dims, data }));
        };
        Ok(match element.is_integer() {
            true => Begun::Known(Constant { dims, data: Data::Ints(integers(element, &bytes)) }),
            false => Begun::Floats { dims, element, bytes, values: memory::zeros(count) },
        })
    }

    /// Where so many bytes of a tensor lie in a file of the same folder.
    fn place(&self, tensor: &Tensor, length: usize) -> Result<(PathBuf, File, u64), String> {
        let entry =
            |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value[..]);
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => {
                text.parse::<u64>().map(Some).map_err(|_| format!("expected a number as {key}, got '{text}'"))
            }
        };
        let location = entry("location").ok_or("its elements lie in another file, which is not named")?;
        let (offset, said) = (number("offset")?.unwrap_or(0), number("length")?);
        if said.is_some_and(|said| said != length as u64) {
            return Err(format!("expected {length} bytes in '{location}', the file says {}", said.unwrap_or_default()));
        }
        let path = self.inside(location)?;
        let failed = |error: std::io::Error| format!("its elements lie in {}: {error}", path.display());
        let file = File::open(&path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if offset.checked_add(length as u64).is_none_or(|end| end > found) {
            return Err(format!("expected {length} bytes from {offset} on in {}, which has {found}", path.display()));
        }
        let mut taken = self.taken.borrow_mut();
        let taken = taken.entry(path.clone()).or_default();
        *taken = taken.saturating_add(length as u64);
        if *taken > found {
            return Err(format!("expected each byte of {} to be an element of one tensor", path.display()));
        }
        Ok((path, file, offset))
    }

    /// The path of a file that must lie in the folder: no absolute path, no way out, no link.
    fn inside(&self, location: &str) -> Result<PathBuf, String> {
        let Some(folder) = &self.folder else {
            return Err(format!("its elements lie in another file, '{location}'"));
        };
        let relative = Path::new(location);
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain || location.contains('\\') {
            return Err(format!("expected a file in the folder of the model, got '{location}'"));
        }
        let mut path = folder.clone();
        for part in relative.components() {
            path.push(part);
            let kind =
                fs::symlink_metadata(&path).map_err(|e| format!("its elements lie in {}: {e}", path.display()))?;
            if kind.is_symlink() {
                return Err(format!("expected a file in the folder of the model, got the link '{location}'"));
            }
        }
        match fs::metadata(&path).is_ok_and(|kind| kind.is_file()) {
            true => Ok(path),
            false => Err(format!("expected a file in the folder of the model, got '{location}'")),
        }
    }
}

/// ONNX's numbers of element types.
fn element(kind: i32) -> Result<Element, String> {
    Ok(match kind {
        1 => Element::F32,
        2 => Element::U8,
        3 => Element::I8,
        4 => Element::U16,
        5 => Element::I16,
        6 => Element::I32,
        7 => Element::I64,
        9 => Element::Bool,
        10 => Element::F16,
        11 => Element::F64,
        12 => Element::U32,
        13 => Element::U64,
        16 => Element::BF16,
        _ => return Err(format!("elements of the type {kind}, which are no plain numbers")),
    })
}

/// A tensor as it is read.
enum Begun {
    Known(Constant),
    Floats { dims: Vec<usize>, element: Element, bytes: Bytes, values: Vec<f32> },
}

impl Begun {
    /// What is to be decoded, in parts: the type of elements, their bytes, and where they go.
    fn parts(&mut self) -> Option<impl Iterator<Item = (Element, &[u8], &mut [f32])>> {
        /// Elements of a part.
        const PART: usize = 1 << 20;
        let Begun::Floats { element, bytes, values, .. } = self else { return None };
        let element = *element;
        let parts = bytes.chunks(PART * element.size()).zip(values.chunks_mut(PART));
        Some(parts.map(move |(bytes, values)| (element, bytes, values)))
    }

    fn into_constant(self) -> Constant {
        match self {
            Begun::Known(constant) => constant,
            Begun::Floats { dims, values, .. } => Constant::floats(dims, values),
        }
    }
}

/// Integers from their bytes.
fn integers(element: Element, bytes: &[u8]) -> Vec<i64> {
    let size = element.size();
    let signed = element.is_signed();
    let value = |bytes: &[u8]| {
        let negative = signed && bytes[size - 1] >= 0x80;
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..size].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    };
    bytes.chunks_exact(size).map(value).collect()
}

/// Elements that are listed one by one.
fn listed(element: Element, tensor: &Tensor) -> Data {
    match element {
        Element::F32 => tensor.float_data.clone().into(),
        Element::F64 => tensor.double_data.iter().map(|&value| value as f32).collect::<Vec<_>>().into(),
        Element::F16 | Element::BF16 => {
            let bytes: Vec<u8> = tensor.int32_data.iter().flat_map(|&value| (value as u16).to_le_bytes()).collect();
            let mut values = vec![0.0; tensor.int32_data.len()];
            element.decode(&bytes, &mut values);
            values.into()
        }
        Element::I64 => Data::Ints(tensor.int64_data.clone()),
        Element::U32 | Element::U64 => Data::Ints(tensor.uint64_data.iter().map(|&value| value as i64).collect()),
        _ => Data::Ints(tensor.int32_data.iter().map(|&value| value.into()).collect()),
    }
}
