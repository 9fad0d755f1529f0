//! Nodes whose inputs are all known: arithmetic on shapes, constants and settings that a program has written as operators.

use std::sync::Arc;

use super::call::{Call, axis_of};
use super::constant::{Constant, Data, FLOATS, MAX_COMPUTED, elements};

/// The inputs of a node, all of them known; `None` where an optional one is left out.
#[derive(Clone, Copy)]
pub(super) struct Known<'a>(pub(super) &'a [Option<&'a Constant>]);

impl<'a> Known<'a> {
    /// An input that may be left out.
    fn given(self, index: usize) -> Option<&'a Constant> {
        self.0.get(index).copied().flatten()
    }

    /// An input that must be there.
    fn needed(self, index: usize) -> Result<&'a Constant, String> {
        self.given(index).ok_or_else(|| format!("expected an input {index}"))
    }

    fn all(self) -> impl Iterator<Item = &'a Constant> {
        self.0.iter().copied().flatten()
    }
}

/// A function of each element, as a floating-point number.
pub(super) fn map(known: Known<'_>, f: fn(f32) -> f32) -> Result<Constant, String> {
    let x = known.needed(0)?;
    Ok(Constant::floats(x.dims.clone(), x.to_floats().into_iter().map(f).collect()))
}

/// A function of each element, which keeps integers.
fn unary(known: Known<'_>, floats: fn(f32) -> f32, ints: fn(i64) -> Option<i64>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let Data::Ints(values) = &x.data else { return map(known, floats) };
    let values: Option<Vec<i64>> = values.iter().map(|&value| ints(value)).collect();
    Ok(Constant { dims: x.dims.clone(), data: Data::Ints(values.ok_or("integers that are too large")?) })
}

pub(super) fn abs(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    unary(known, f32::abs, i64::checked_abs)
}

pub(super) fn neg(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    unary(known, |value| -value, i64::checked_neg)
}

pub(super) fn pow(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    pair(known, f32::powf, |a, b| u32::try_from(b).ok().and_then(|b| a.checked_pow(b)))
}

pub(super) fn remainder(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    match call.int("fmod", 0) {
        0 => pair(known, |_, _| f32::NAN, signed_remainder),
        _ => pair(known, |a, b| a % b, i64::checked_rem),
    }
}

pub(super) fn equal(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let equal = pair(known, |a, b| f32::from(a == b), |a, b| Some(i64::from(a == b)))?;
    Ok(Constant { data: to_ints(&equal.data), ..equal })
}

/// Elements between two bounds, either of which may be left out: inputs, or attributes before opset 11.
pub(super) fn clip(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let mut x = known.needed(0)?.clone();
    let bound = |index: usize, name: &str, otherwise: f32| {
        let said = Some(call.float(name, otherwise)).filter(|&bound| bound != otherwise);
        known.given(index).cloned().or_else(|| said.map(|bound| Constant::floats(Vec::new(), vec![bound])))
    };
    if let Some(low) = bound(1, "min", f32::MIN) {
        x = of_two(&x, &low, f32::max, |a, b| Some(a.max(b)))?;
    }
    if let Some(high) = bound(2, "max", f32::MAX) {
        x = of_two(&x, &high, f32::min, |a, b| Some(a.min(b)))?;
    }
    Ok(x)
}

pub(super) fn reshape(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let dims = call.reshaped(&x.dims, known.needed(1)?.to_ints()?)?;
    Ok(Constant { dims, data: x.data.clone() })
}

pub(super) fn flatten(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let axis = axis_of(call.int("axis", 1), x.dims.len() + 1)?;
    let dims = vec![x.dims[..axis].iter().product(), x.dims[axis..].iter().product()];
    Ok(Constant { dims, data: x.data.clone() })
}

pub(super) fn expand(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let wanted = elements(known.needed(1)?.to_ints()?)?.0;
    let dims = broadcast(&x.dims, &wanted)?;
    spread(x, &dims)
}

/// The product of a list of integers.
pub(super) fn product(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    if x.dims.len() > 1 {
        return Err(format!("expected a list of integers, got {:?}", x.dims));
    }
    let product = x.to_ints()?.iter().try_fold(1_i64, |product, &value| product.checked_mul(value));
    let dims = if call.int("keepdims", 1) != 0 { vec![1] } else { Vec::new() };
    Ok(Constant { dims, data: Data::Ints(vec![product.ok_or("a product that is too large")?]) })
}

pub(super) fn shape(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    Ok(call.shape(&known.needed(0)?.dims))
}

pub(super) fn size(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    Ok(Constant { dims: Vec::new(), data: Data::Ints(vec![known.needed(0)?.len() as i64]) })
}

/// Elements of another type: ONNX's numbers of floating-point ones are 1, 10, 11 and 16.
///
/// # Errors
/// Integers of less than 32 bits, which wrap in ways that programs differ in.
pub(super) fn cast(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    /// ONNX's numbers of `i32`, `i64` and truth values.
    const INTS: [i64; 2] = [6, 7];
    const BOOL: i64 = 9;
    let x = known.needed(0)?;
    let data = match call.int("to", FLOATS[0]) {
        to if FLOATS.contains(&to) => Data::Floats(x.share_floats()),
        BOOL => Data::Ints(x.to_floats().into_iter().map(|value| i64::from(value != 0.0)).collect()),
        to if INTS.contains(&to) => to_ints(&x.data),
        to => {
            return Err(format!(
                "expected floating-point numbers, i32, i64 or truth values, got a cast to the type {to}"
            ));
        }
    };
    Ok(Constant { dims: x.dims.clone(), data })
}

/// Elements as integers, cut off.
fn to_ints(data: &Data) -> Data {
    match data {
        Data::Ints(values) => Data::Ints(values.clone()),
        Data::Floats(values) => Data::Ints(values.iter().map(|&value| value as i64).collect()),
    }
}

/// A remainder with the divisor's sign, as Python's.
fn signed_remainder(a: i64, b: i64) -> Option<i64> {
    let rest = a.checked_rem(b)?;
    Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
}

/// The same of all inputs, two at a time.
pub(super) fn of_all(
    known: Known<'_>,
    floats: fn(f32, f32) -> f32,
    ints: fn(i64, i64) -> Option<i64>,
) -> Result<Constant, String> {
    let mut all = known.all();
    let first = all.next().ok_or("expected at least one input")?.clone();
    all.try_fold(first, |found, next| of_two(&found, next, floats, ints))
}

/// The common shape of two that are broadcast (NumPy's rule).
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    let axis = |axis: usize| match (at(a, axis), at(b, axis)) {
        (a, b) if a == b || b == 1 => Some(a),
        (1, b) => Some(b),
        _ => None,
    };
    let dims: Option<Vec<usize>> = (0..rank).map(axis).collect();
    let dims = dims.filter(|dims| computable(dims));
    dims.ok_or_else(|| {
        format!("expected shapes of at most {MAX_COMPUTED} elements that go together, got {a:?} and {b:?}")
    })
}

fn computable(dims: &[usize]) -> bool {
    dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim)).is_some_and(|count| count <= MAX_COMPUTED)
}

/// For each element of `dims` the place of the one that it is in `own`.
fn places(own: &[usize], dims: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    let mut strides = vec![0; dims.len()];
    let mut stride = 1;
    for (axis, &length) in own.iter().enumerate().rev() {
        if length > 1 {
            strides[axis + dims.len() - own.len()] = stride;
        }
        stride *= length;
    }
    for (&length, stride) in dims.iter().zip(strides) {
        places = places.iter().flat_map(|&place| (0..length).map(move |index| place + index * stride)).collect();
    }
    places
}

/// The elements at these places.
fn picked(x: &Constant, dims: Vec<usize>, places: &[usize]) -> Constant {
    let data = match &x.data {
        Data::Floats(values) => places.iter().map(|&place| values[place]).collect::<Vec<f32>>().into(),
        Data::Ints(values) => Data::Ints(places.iter().map(|&place| values[place]).collect()),
    };
    Constant { dims, data }
}

fn spread(x: &Constant, dims: &[usize]) -> Result<Constant, String> {
    Ok(picked(x, dims.to_vec(), &places(&x.dims, dims)))
}

/// A function of the elements of two, which are broadcast.
pub(super) fn pair(
    known: Known<'_>,
    floats: fn(f32, f32) -> f32,
    ints: fn(i64, i64) -> Option<i64>,
) -> Result<Constant, String> {
    of_two(known.needed(0)?, known.needed(1)?, floats, ints)
}

fn of_two(
    a: &Constant,
    b: &Constant,
    floats: fn(f32, f32) -> f32,
    ints: fn(i64, i64) -> Option<i64>,
) -> Result<Constant, String> {
    let dims = broadcast(&a.dims, &b.dims)?;
    let (a, b) = (spread(a, &dims)?, spread(b, &dims)?);
    let data = match (&a.data, &b.data) {
        (Data::Ints(a), Data::Ints(b)) => {
            let values = a.iter().zip(b).map(|(&a, &b)| ints(a, b)).collect::<Option<Vec<_>>>();
            Data::Ints(values.ok_or("integers that are too large, or a division by 0")?)
        }
        _ => a.to_floats().into_iter().zip(b.to_floats()).map(|(a, b)| floats(a, b)).collect::<Vec<f32>>().into(),
    };
    Ok(Constant { dims, data })
}

pub(super) fn choose(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let (condition, yes, no) = (known.needed(0)?, known.needed(1)?, known.needed(2)?);
    let dims = broadcast(&broadcast(&condition.dims, &yes.dims)?, &no.dims)?;
    let (condition, yes, no) = (spread(condition, &dims)?, spread(yes, &dims)?, spread(no, &dims)?);
    let condition = condition.to_ints()?;
    let data = match (&yes.data, &no.data) {
        (Data::Ints(yes), Data::Ints(no)) => Data::Ints(
            condition.iter().zip(yes.iter().zip(no)).map(|(&c, (&y, &n))| if c != 0 { y } else { n }).collect(),
        ),
        _ => {
            let both = yes.to_floats().into_iter().zip(no.to_floats());
            condition.iter().zip(both).map(|(&c, (y, n))| if c != 0 { y } else { n }).collect::<Vec<f32>>().into()
        }
    };
    Ok(Constant { dims, data })
}

pub(super) fn concat(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let parts: Vec<&Constant> = known.all().collect();
    let first = parts.first().ok_or("expected at least one input")?;
    let rank = first.dims.len();
    let axis = axis_of(call.int("axis", 0), rank)?;
    let fits = |part: &&Constant| {
        part.dims.len() == rank && (0..rank).all(|other| other == axis || part.dims[other] == first.dims[other])
    };
    if !parts.iter().all(fits) {
        return Err("expected inputs of the same shape but for one axis".into());
    }
    let outer: usize = first.dims[..axis].iter().product();
    let mut dims = first.dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    if !computable(&dims) {
        return Err(format!("a constant of {dims:?}: expected at most {MAX_COMPUTED} elements"));
    }
    let all_ints = parts.iter().all(|part| matches!(part.data, Data::Ints(_)));
    let run = |part: &Constant| part.dims[axis..].iter().product::<usize>();
    let data = if all_ints {
        let slices: Vec<&[i64]> = parts.iter().map(|part| part.to_ints()).collect::<Result<_, _>>()?;
        let rows =
            (0..outer).flat_map(|row| slices.iter().zip(&parts).map(move |(slice, part)| (row, *slice, run(part))));
        Data::Ints(rows.flat_map(|(row, slice, run)| slice[row * run..][..run].iter().copied()).collect())
    } else {
        let slices: Vec<Vec<f32>> = parts.iter().map(|part| part.to_floats()).collect();
        let mut values = Vec::new();
        for row in 0..outer {
            for (slice, part) in slices.iter().zip(&parts) {
                values.extend_from_slice(&slice[row * run(part)..][..run(part)]);
            }
        }
        values.into()
    };
    Ok(Constant { dims, data })
}

/// The elements at some indices along an axis.
pub(super) fn along(x: &Constant, axis: usize, indices: &[usize]) -> Constant {
    let inner: usize = x.dims[axis + 1..].iter().product();
    let outer: usize = x.dims[..axis].iter().product();
    let block = x.dims[axis] * inner;
    let rows = (0..outer).flat_map(|row| indices.iter().map(move |&index| row * block + index * inner));
    let places: Vec<usize> = rows.flat_map(|start| start..start + inner).collect();
    let mut dims = x.dims.clone();
    dims[axis] = indices.len();
    picked(x, dims, &places)
}

pub(super) fn gather(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let (x, indices) = (known.needed(0)?, known.needed(1)?);
    let axis = axis_of(call.int("axis", 0), x.dims.len())?;
    let length = x.dims[axis];
    let index = |&index: &i64| axis_of(index, length);
    let chosen: Vec<usize> = indices.to_ints()?.iter().map(index).collect::<Result<_, _>>()?;
    let mut dims = x.dims.clone();
    dims.splice(axis..=axis, indices.dims.iter().copied());
    if !computable(&dims) {
        return Err(format!("a constant of {dims:?}: expected at most {MAX_COMPUTED} elements"));
    }
    Ok(Constant { dims, ..along(x, axis, &chosen) })
}

pub(super) fn slice(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let mut sliced = x.clone();
    for (axis, kept) in call.slices(&x.dims, known.0)? {
        sliced = along(&sliced, axis, &kept.indices().collect::<Vec<_>>());
    }
    Ok(sliced)
}

pub(super) fn transposed(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    transpose(x, &call.order(x.dims.len())?)
}

/// `α A B + β C`.
pub(super) fn gemm(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let turned = |index: usize, flag: &str| match call.int(flag, 0) {
        0 => known.needed(index).cloned(),
        _ => turn(known.needed(index)?),
    };
    let (alpha, beta) = (call.float("alpha", 1.0), call.float("beta", 1.0));
    let mut product = matrices(&turned(0, "transA")?, &turned(1, "transB")?)?;
    if let Data::Floats(values) = &mut product.data {
        Arc::make_mut(values).iter_mut().for_each(|value| *value *= alpha);
    }
    let Some(addend) = known.given(2) else { return Ok(product) };
    let addend = Constant::floats(addend.dims.clone(), addend.to_floats().iter().map(|value| beta * value).collect());
    of_two(&product, &addend, |a, b| a + b, i64::checked_add)
}

pub(super) fn mat_mul(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    matrices(known.needed(0)?, known.needed(1)?)
}

/// A matrix with its axes in the other order.
///
/// # Errors
/// What is no matrix.
pub(super) fn turn(matrix: &Constant) -> Result<Constant, String> {
    match matrix.dims.len() {
        2 => transpose(matrix, &[1, 0]),
        _ => Err(format!("expected a constant matrix, got {:?}", matrix.dims)),
    }
}

/// The product of two matrices.
fn matrices(a: &Constant, b: &Constant) -> Result<Constant, String> {
    let (&[rows, inner], &[others, columns]) = (&a.dims[..], &b.dims[..]) else {
        return Err(format!("expected constant matrices, got {:?} and {:?}", a.dims, b.dims));
    };
    let work = rows.checked_mul(inner).and_then(|count| count.checked_mul(columns));
    if inner != others || work.is_none_or(|work| work > MAX_COMPUTED) {
        let (a, b) = (&a.dims, &b.dims);
        return Err(format!(
            "expected matrices of at most {MAX_COMPUTED} products that go together, got {a:?} and {b:?}"
        ));
    }
    let (a, b) = (a.to_floats(), b.to_floats());
    let mut found = vec![0.0; rows * columns];
    for row in 0..rows {
        for place in 0..inner {
            let factor = a[row * inner + place];
            let of_row = &mut found[row * columns..][..columns];
            of_row.iter_mut().zip(&b[place * columns..]).for_each(|(sum, other)| *sum += factor * other);
        }
    }
    Ok(Constant::floats(vec![rows, columns], found))
}

/// A constant whose axes come in another order.
pub(super) fn transpose(x: &Constant, order: &[usize]) -> Result<Constant, String> {
    let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis]).collect();
    let mut strides = vec![1; x.dims.len()];
    for axis in (1..x.dims.len()).rev() {
        strides[axis - 1] = strides[axis] * x.dims[axis];
    }
    let mut places = vec![0];
    for (&axis, &length) in order.iter().zip(&dims) {
        let stride = strides[axis];
        places = places.iter().flat_map(|&place| (0..length).map(move |index| place + index * stride)).collect();
    }
    Ok(picked(x, dims, &places))
}

pub(super) fn squeeze(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let axes = call.axes(known.given(1))?;
    let axes: Option<Vec<usize>> =
        axes.map(|axes| axes.iter().map(|&axis| axis_of(axis, x.dims.len())).collect()).transpose()?;
    if let Some(&axis) = axes.iter().flatten().find(|&&axis| x.dims[axis] != 1) {
        return Err(format!("expected an axis of length 1, got axis {axis} of {:?}", x.dims));
    }
    let removed = |axis: usize, length: usize| length == 1 && axes.as_ref().is_none_or(|axes| axes.contains(&axis));
    let kept = x.dims.iter().enumerate().filter(|&(axis, &length)| !removed(axis, length));
    Ok(Constant { dims: kept.map(|(_, &length)| length).collect(), data: x.data.clone() })
}

pub(super) fn unsqueeze(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let x = known.needed(0)?;
    let mut dims = x.dims.clone();
    for place in call.places(call.axes(known.given(1))?.unwrap_or_default(), x.dims.len())? {
        dims.insert(place.min(dims.len()), 1);
    }
    Ok(Constant { dims, data: x.data.clone() })
}

pub(super) fn filled(call: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let (dims, count) = elements(known.needed(0)?.to_ints()?)?;
    if count > MAX_COMPUTED {
        return Err(format!(
            "a constant of {dims:?}: expected at most {MAX_COMPUTED} elements that are not in the file"
        ));
    }
    let data = match call.tensor("value")?.map(|value| value.data) {
        Some(Data::Ints(values)) => Data::Ints(vec![values.first().copied().unwrap_or_default(); count]),
        Some(Data::Floats(values)) => vec![values.first().copied().unwrap_or_default(); count].into(),
        None => vec![0.0; count].into(),
    };
    Ok(Constant { dims, data })
}

pub(super) fn range(_: &Call<'_>, known: Known<'_>) -> Result<Constant, String> {
    let number = |index: usize| {
        let first = known.needed(index)?.to_ints()?.first().copied();
        first.ok_or_else(|| "expected a number".to_owned())
    };
    let (first, limit, step) = (number(0)?, number(1)?, number(2)?);
    if step == 0 {
        return Err("expected a step that is not 0".into());
    }
    let goes_on = |&value: &i64| if step > 0 { value < limit } else { value > limit };
    let values = std::iter::successors(Some(first), |value| value.checked_add(step)).take_while(goes_on);
    let values: Vec<i64> = values.take(MAX_COMPUTED + 1).collect();
    match values.len() <= MAX_COMPUTED {
        true => Ok(Constant::ints(values)),
        false => Err(format!("expected a range of at most {MAX_COMPUTED} numbers")),
    }
}
