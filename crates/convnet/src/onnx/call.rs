//! A node of an ONNX graph as its operator reads it: attributes with their defaults, and what opset versions say as attributes or
//! as inputs.

use super::constant::{Constant, Data, External, MAX_AXES};
use super::proto::{Attribute, Node};

/// A node, and the opset that says what it means.
#[derive(Debug)]
pub(super) struct Call<'g> {
    pub(super) node: &'g Node,
    pub(super) opset: i64,
    external: &'g External,
}

/// A number that counts from the end where it is negative.
///
/// # Errors
/// An axis that is not there.
pub(super) fn axis_of(axis: i64, rank: usize) -> Result<usize, String> {
    let found = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    let found = found.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank);
    found.ok_or_else(|| format!("expected an axis or index below {rank}, got {axis}"))
}

impl<'g> Call<'g> {
    pub(super) fn new(node: &'g Node, opset: i64, external: &'g External) -> Call<'g> {
        Call { node, opset, external }
    }

    pub(super) fn operator(&self) -> &'g str {
        &self.node.op_type
    }

    fn attribute(&self, name: &str) -> Option<&'g Attribute> {
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub(super) fn int(&self, name: &str, otherwise: i64) -> i64 {
        self.attribute(name).map_or(otherwise, |attribute| attribute.i)
    }

    pub(super) fn float(&self, name: &str, otherwise: f32) -> f32 {
        self.attribute(name).map_or(otherwise, |attribute| attribute.f)
    }

    pub(super) fn text(&self, name: &str, otherwise: &'static str) -> &'g str {
        self.attribute(name).and_then(|attribute| std::str::from_utf8(&attribute.s).ok()).unwrap_or(otherwise)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'g [i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    pub(super) fn floats(&self, name: &str) -> Option<&'g [f32]> {
        self.attribute(name).map(|attribute| &attribute.floats[..])
    }

    /// # Errors
    /// A tensor that cannot be read.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<Constant>, String> {
        let tensor = self.attribute(name).and_then(|attribute| attribute.t.as_ref());
        tensor.map(|tensor| self.external.read(tensor)).transpose()
    }

    /// The value of Constant, in any of its attributes.
    ///
    /// # Errors
    /// A value of texts, or none.
    pub(super) fn constant(&self) -> Result<Constant, String> {
        let number = |data: Data| Constant { dims: Vec::new(), data };
        Ok(match self.tensor("value")? {
            Some(constant) => constant,
            None if self.has("value_float") => number(vec![self.float("value_float", 0.0)].into()),
            None if self.has("value_int") => number(Data::Ints(vec![self.int("value_int", 0)])),
            None => match (self.floats("value_floats"), self.ints("value_ints")) {
                (Some(floats), _) => Constant::floats(vec![floats.len()], floats.to_vec()),
                (None, Some(ints)) => Constant::ints(ints.to_vec()),
                (None, None) => return Err("expected a value of numbers".into()),
            },
        })
    }

    /// Numbers of pixels, from 0 on.
    ///
    /// # Errors
    /// Other numbers.
    pub(super) fn pixels<const N: usize>(&self, name: &str, otherwise: [usize; N]) -> Result<[usize; N], String> {
        let Some(ints) = self.ints(name) else { return Ok(otherwise) };
        let pixels: Option<Vec<usize>> = ints.iter().map(|&int| usize::try_from(int).ok()).collect();
        let pixels = pixels.and_then(|pixels| <[usize; N]>::try_from(pixels).ok());
        pixels.ok_or_else(|| format!("expected {N} numbers of at least 0 as {name}, got {ints:?}"))
    }

    /// The same for a window over maps, or over maps of one row where the node has one axis.
    ///
    /// # Errors
    /// As [`Call::pixels`].
    pub(super) fn sides(&self, axes: usize, name: &str, otherwise: usize) -> Result<[usize; 2], String> {
        match axes {
            1 => self.pixels(name, [otherwise]).map(|[columns]| [1, columns]),
            _ => self.pixels(name, [otherwise; 2]),
        }
    }

    /// Axes of Squeeze, Unsqueeze and the reductions: an attribute at first, later an input.
    ///
    /// # Errors
    /// An input of other numbers.
    pub(super) fn axes(&self, input: Option<&Constant>) -> Result<Option<Vec<i64>>, String> {
        match (self.ints("axes"), input) {
            (Some(axes), _) => Ok(Some(axes.to_vec())),
            (None, Some(axes)) => axes.to_ints().map(|axes| Some(axes.to_vec())),
            (None, None) => Ok(None),
        }
    }

    /// Where Unsqueeze puts dimensions, in ascending order.
    ///
    /// # Errors
    /// A place beyond the end, or one that is named twice.
    pub(super) fn places(&self, axes: Vec<i64>, rank: usize) -> Result<Vec<usize>, String> {
        let all = rank.saturating_add(axes.len());
        if all > MAX_AXES {
            return Err(format!("expected at most {MAX_AXES} axes, got {all}"));
        }
        let mut places = axes.iter().map(|&axis| axis_of(axis, all)).collect::<Result<Vec<_>, _>>()?;
        places.sort_unstable();
        match places.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(format!("expected axes that differ, got {axes:?}")),
            false => Ok(places),
        }
    }

    /// The order of Transpose: backwards where none is said.
    ///
    /// # Errors
    /// What is no order of the axes.
    pub(super) fn order(&self, rank: usize) -> Result<Vec<usize>, String> {
        let Some(order) = self.ints("perm") else { return Ok((0..rank).rev().collect()) };
        let found: Vec<usize> = order.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<_, _>>()?;
        let mut sorted = found.clone();
        sorted.sort_unstable();
        match sorted == (0..rank).collect::<Vec<_>>() {
            true => Ok(found),
            false => Err(format!("expected an order of {rank} axes, got {order:?}")),
        }
    }

    /// The dimensions that Reshape asks for: 0 is the input's, -1 what is left.
    ///
    /// # Errors
    /// Dimensions with another number of elements.
    pub(super) fn reshaped(&self, dims: &[usize], wanted: &[i64]) -> Result<Vec<usize>, String> {
        let problem = || format!("expected dimensions for the elements of {dims:?}, got {wanted:?}");
        let count: usize = dims.iter().product();
        let zero_copies = self.int("allowzero", 0) == 0;
        let dim = |(axis, &dim): (usize, &i64)| match dim {
            0 if zero_copies => dims.get(axis).copied(),
            -1 => Some(1),
            dim => usize::try_from(dim).ok(),
        };
        let mut found: Vec<usize> = wanted.iter().enumerate().map(dim).collect::<Option<_>>().ok_or_else(problem)?;
        let known = found.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim)).ok_or_else(problem)?;
        let mut open = wanted.iter().enumerate().filter(|&(_, &dim)| dim == -1).map(|(axis, _)| axis);
        match (open.next(), open.next()) {
            (None, _) if known == count => {}
            (Some(axis), None) if known > 0 && count.is_multiple_of(known) => found[axis] = count / known,
            _ => return Err(problem()),
        }
        Ok(found)
    }

    /// What Shape gives for these dimensions: some of them, where the node says so.
    pub(super) fn shape(&self, dims: &[usize]) -> Constant {
        let rank = dims.len() as i64;
        let place = |name: &str, otherwise: i64| {
            let place = self.int(name, otherwise);
            (if place < 0 { place.saturating_add(rank) } else { place }).clamp(0, rank) as usize
        };
        let (start, end) = (place("start", 0), place("end", rank));
        Constant::ints(dims[start..end.max(start)].iter().map(|&dim| dim as i64).collect())
    }

    /// The indices that Slice keeps along each of its axes: attributes at first, later inputs.
    ///
    /// # Errors
    /// Inputs that do not fit.
    pub(super) fn slices(&self, dims: &[usize], inputs: &[Option<&Constant>]) -> Result<Vec<(usize, Kept)>, String> {
        let given = |index: usize, name: &str| match (self.ints(name), inputs.get(index).copied().flatten()) {
            (Some(ints), _) => Ok(Some(ints.to_vec())),
            (None, Some(constant)) => constant.to_ints().map(|ints| Some(ints.to_vec())),
            (None, None) => Ok(None),
        };
        let starts = given(1, "starts")?.ok_or("expected starts")?;
        let ends = given(2, "ends")?.ok_or("expected ends")?;
        let axes = given(3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = given(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("expected as many ends, axes and steps as starts".into());
        }
        let mut slices: Vec<(usize, Kept)> = Vec::new();
        for index in 0..starts.len() {
            let axis = axis_of(axes[index], dims.len())?;
            if slices.iter().any(|(other, _)| *other == axis) {
                return Err(format!("expected axes that differ, got {axes:?}"));
            }
            slices.push((axis, kept(dims[axis], starts[index], ends[index], steps[index])?));
        }
        Ok(slices)
    }
}

/// Indices that a slice keeps: so many from the first one on, a step apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) first: i64,
    pub(super) count: usize,
    pub(super) step: i64,
}

impl Kept {
    pub(super) fn indices(self) -> impl Iterator<Item = usize> {
        (0..self.count as i64).map(move |place| (self.first + place * self.step) as usize)
    }
}

/// The indices of a slice, as NumPy counts them.
fn kept(length: usize, start: i64, end: i64, step: i64) -> Result<Kept, String> {
    let long = length as i64;
    let clamp =
        |index: i64, low: i64, high: i64| if index < 0 { index.saturating_add(long) } else { index }.clamp(low, high);
    let (first, span) = match step {
        0 => return Err("expected a step that is not 0".into()),
        1.. => {
            let first = clamp(start, 0, long);
            (first, clamp(end, 0, long) - first)
        }
        _ => {
            let first = clamp(start, -1, long - 1);
            (first, first - clamp(end, -1, long - 1))
        }
    };
    let count = (span.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
    Ok(Kept { first, count, step })
}
