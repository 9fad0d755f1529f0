//! From views to tensors: each storage is read once, and every view of it copied into a tensor of its own, row-major.

use std::collections::BTreeMap;

use convnet_kernels::memory;

use super::pickle::Problem;
use super::value::{Storage, View};
use crate::weights::printable;
use crate::{StateDict, Tensor};

/// Elements that a file may always give, however small it is.
const ALWAYS: u64 = 1 << 20;

/// The tensors of `views`; `read` gives a storage's bytes, `file` is the file's length.
///
/// Views may overlap and repeat elements without end (a stride of 0), so a small file could ask for any amount of
/// memory. All tensors together get no more elements than the file has bytes, at least a million.
pub(super) fn gather<'a>(
    views: &[(String, &View<'a>)],
    file: u64,
    mut read: impl FnMut(&Storage<'a>) -> Result<Vec<u8>, Problem>,
) -> Result<StateDict, Problem> {
    let cap = file.max(ALWAYS);
    // No product overflows: each was checked when its view was made.
    let count = views.iter().fold(0_u64, |sum, (_, view)| sum.saturating_add(count(view) as u64));
    if count > cap {
        return Err(format!(
            "its tensors repeat their elements: {count} in all, expected at most {cap} in such a file"
        ));
    }
    let mut by_storage: BTreeMap<&str, Vec<(&str, &View<'a>)>> = BTreeMap::new();
    for (name, view) in views {
        by_storage.entry(view.storage.key).or_default().push((name.as_str(), *view));
    }
    let mut tensors = StateDict::new();
    for (key, views) in by_storage {
        let storage = &views[0].1.storage;
        if views
            .iter()
            .any(|(_, view)| (view.storage.element, view.storage.elements) != (storage.element, storage.elements))
        {
            return Err(format!("storage '{}' has two types or two lengths", printable(key)));
        }
        let bytes = read(storage)?;
        for (name, view) in views {
            tensors.insert(name.to_owned(), copy(view, &bytes)?);
        }
    }
    Ok(tensors)
}

/// Elements of a view.
fn count(view: &View) -> usize {
    view.shape.iter().product()
}

/// The elements that a view sees, in row-major order. The view lies within the storage of which `bytes` are the content.
fn copy(view: &View, bytes: &[u8]) -> Result<Tensor, Problem> {
    let count = count(view);
    let room = memory::try_zeros(count);
    let mut values = room.ok_or_else(|| format!("a tensor of {count} elements does not fit into memory"))?;
    let (element, size) = (view.storage.element, view.storage.element.size());
    let run = |start: usize, values: &mut [f32]| {
        element.decode(&bytes[start * size..(start + values.len()) * size], values);
    };
    // An empty view may lie anywhere, even where no storage is.
    if count > 0 && is_contiguous(view) {
        run(view.offset, &mut values);
    } else {
        let mut index = vec![0; view.shape.len()];
        for value in &mut values {
            let at = view.offset + index.iter().zip(&view.strides).map(|(i, stride)| i * stride).sum::<usize>();
            run(at, std::slice::from_mut(value));
            advance(&mut index, &view.shape);
        }
    }
    Ok(Tensor::new(view.shape.clone(), values))
}

/// Whether the elements, of which there are some, lie behind each other, the last axis innermost.
fn is_contiguous(view: &View) -> bool {
    let mut expected = 1;
    let mut axes = view.shape.iter().zip(&view.strides).rev();
    axes.all(|(&length, &stride)| {
        let fits = length == 1 || stride == expected;
        expected *= length;
        fits
    })
}

/// The next index in row-major order; after the last one, the first.
fn advance(index: &mut [usize], shape: &[usize]) {
    for (i, &length) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < length {
            return;
        }
        *i = 0;
    }
}
