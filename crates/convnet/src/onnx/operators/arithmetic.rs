//! Sums, products and other arithmetic of two values, or of a value and numbers.

use super::elementwise::clipped;
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::graph::{Affine, Part};
use crate::onnx::layout::Layout;
use crate::onnx::reader::{Inputs, Reader, Value, View, given, needed, view};
use crate::ops::Op;

/// The numbers of a constant for each channel of a tensor.
fn for_channels(reader: &Reader<'_>, view: &View, constant: &Constant) -> Result<Vec<f32>, String> {
    let channels = reader.graph.shape(view.node)[0];
    let places = view.layout.broadcast(&constant.dims, channels).ok_or_else(|| {
        let (found, described) = (&constant.dims, reader.described(view));
        format!("expected a constant of a number, or one for each channel, got {found:?} for {described}")
    })?;
    let numbers = constant.to_floats();
    match numbers.is_empty() {
        true => Err("expected a constant that is not empty".into()),
        false => Ok(places.into_iter().map(|place| numbers[place]).collect()),
    }
}

/// A tensor's layout beside a constant of more dimensions.
fn raised(view: &View, constant: &Constant) -> View {
    let missing = constant.dims.len().saturating_sub(view.layout.rank());
    let places: Vec<usize> = (0..missing).collect();
    View { layout: view.layout.unsqueeze(&places), ..view.clone() }
}

/// Each number of a tensor times a number plus a number, by channel.
pub(super) fn affine(
    reader: &mut Reader<'_>,
    view: &View,
    constant: &Constant,
    numbers: impl Fn(f32) -> [f32; 2],
) -> Result<Value, String> {
    let view = raised(view, constant);
    let of_channels = for_channels(reader, &view, constant)?;
    let (scale, shift) = of_channels.into_iter().map(|number| numbers(number).into()).unzip();
    let node = reader.graph.affine(view.node, Affine { scale, shift });
    Ok(reader.like(&view, node))
}

/// Add, and Sum of any number of inputs.
pub(super) fn add<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let mut views: Vec<View> = Vec::new();
    let mut constants = Vec::new();
    for input in inputs.iter().flatten() {
        match input {
            Value::View(view) => views.push(view.clone()),
            Value::Constant(constant) => constants.push(constant.clone()),
        }
    }
    let mut sum = match &views[..] {
        [] => return Err("expected a tensor that depends on the picture".into()),
        [only] => Value::View(only.clone()),
        [first, rest @ ..] => {
            let mut nodes = vec![first.node];
            for other in rest {
                nodes.push(beside(reader, first, other)?);
            }
            let node = reader.graph.net(Op::Add, &nodes, Vec::new())?;
            reader.like(first, node)
        }
    };
    for constant in constants {
        let before = view(&sum)?.clone();
        sum = affine(reader, &before, &constant, |number| [1.0, number])?;
    }
    Ok(sum)
}

/// The node of a tensor whose elements stand beside another's: of the same layout.
fn beside(reader: &mut Reader<'_>, first: &View, other: &View) -> Result<usize, String> {
    if first.layout == other.layout {
        return Ok(other.node);
    }
    // Channels may be in another order in each.
    let shape = reader.graph.shape(first.node);
    if first.layout.as_map(shape).is_some() && first.layout == Layout::map(reader.batch, shape) {
        return reader.map(&Value::View(other.clone()));
    }
    Err(format!("expected tensors of the same layout, got {} and {}", reader.described(first), reader.described(other)))
}

pub(super) fn sub<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match (needed(inputs, 0, "A")?, needed(inputs, 1, "B")?) {
        (Value::View(view), Value::Constant(constant)) => affine(reader, view, constant, |number| [1.0, -number]),
        (Value::Constant(constant), Value::View(view)) => affine(reader, view, constant, |number| [-1.0, number]),
        (Value::View(a), Value::View(b)) => {
            if a.layout.covers(&b.layout)
                && let Some(node) = reader.graph.centred(a.node, b.node)
            {
                return Ok(reader.like(a, node));
            }
            let other = beside(reader, a, b)?;
            let channels = reader.graph.shape(other)[0];
            let negative = reader.graph.affine(other, Affine::uniform(channels, -1.0, 0.0));
            let node = reader.graph.net(Op::Add, &[a.node, negative], Vec::new())?;
            Ok(reader.like(a, node))
        }
        (Value::Constant(_), Value::Constant(_)) => Err("expected a tensor that depends on the picture".into()),
    }
}

pub(super) fn mul<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match (needed(inputs, 0, "A")?, needed(inputs, 1, "B")?) {
        (Value::View(view), Value::Constant(constant)) | (Value::Constant(constant), Value::View(view)) => {
            affine(reader, view, constant, |number| [number, 0.0])
        }
        (Value::View(a), Value::View(b)) => {
            let (a, b) = (widest(reader, a, b).clone(), narrowest(reader, a, b).clone());
            if a.layout != b.layout && !a.layout.covers(&b.layout) {
                let (a, b) = (reader.described(&a), reader.described(&b));
                return Err(format!(
                    "expected tensors of the same layout, or a number for each channel, got {a} and {b}"
                ));
            }
            let node = reader.graph.product(a.node, b.node)?;
            Ok(reader.like(&a, node))
        }
        (Value::Constant(_), Value::Constant(_)) => Err("expected a tensor that depends on the picture".into()),
    }
}

/// Of two tensors the one with more elements; the first of equal ones.
fn widest<'v>(reader: &Reader<'_>, a: &'v View, b: &'v View) -> &'v View {
    if is_wider(reader, b, a) { b } else { a }
}

fn narrowest<'v>(reader: &Reader<'_>, a: &'v View, b: &'v View) -> &'v View {
    if is_wider(reader, b, a) { a } else { b }
}

fn is_wider(reader: &Reader<'_>, a: &View, b: &View) -> bool {
    let elements = |view: &View| reader.graph.shape(view.node).iter().product::<usize>();
    elements(a) > elements(b)
}

pub(super) fn div<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match (needed(inputs, 0, "A")?, needed(inputs, 1, "B")?) {
        (Value::View(view), Value::Constant(constant)) => affine(reader, view, constant, |number| [1.0 / number, 0.0]),
        (Value::View(a), Value::View(b)) if a.layout.covers(&b.layout) => {
            match reader.graph.layer_norm(a.node, b.node) {
                Some(node) => Ok(reader.like(a, node)),
                None => Err("expected a constant to divide by".into()),
            }
        }
        (Value::View(_), Value::View(_)) => Err("expected a constant to divide by".into()),
        (Value::Constant(_), _) => Err("expected a tensor that depends on the picture to be divided".into()),
    }
}

pub(super) fn neg<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?;
    affine(reader, view, &Constant::floats(Vec::new(), vec![-1.0]), |number| [number, 0.0])
}

pub(super) fn max<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (tensor, number) = with_number(reader, inputs)?;
    clipped(reader, &[Some(tensor)], number, f32::MAX)
}

pub(super) fn min<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (tensor, number) = with_number(reader, inputs)?;
    clipped(reader, &[Some(tensor)], f32::MIN, number)
}

/// A tensor and one number.
fn with_number(reader: &Reader<'_>, inputs: &Inputs) -> Result<(Value, f32), String> {
    let (view, constant) = match (needed(inputs, 0, "A")?, needed(inputs, 1, "B")?) {
        (Value::View(view), Value::Constant(constant)) | (Value::Constant(constant), Value::View(view)) => {
            (view, constant)
        }
        _ => return Err("expected a tensor and a number".into()),
    };
    let number = reader.number(view, constant).filter(|_| inputs.len() == 2);
    number.map(|number| (Value::View(view.clone()), number)).ok_or_else(|| "expected a tensor and a number".into())
}

/// A square or a root, as a layer norm that is written as arithmetic has it.
pub(super) fn pow<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let base = view(needed(inputs, 0, "X")?)?;
    let exponent = given(inputs, 1)?.and_then(|exponent| reader.number(base, exponent));
    let part = match exponent {
        Some(1.0) => return needed(inputs, 0, "X").cloned(),
        Some(2.0) => Part::Square,
        Some(0.5) => Part::SquareRoot,
        _ => return Err("expected an exponent of 2 or 1/2".into()),
    };
    self::part(reader, inputs, part)
}

pub(super) fn sqrt<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    part(reader, inputs, Part::SquareRoot)
}

pub(super) fn erf<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    part(reader, inputs, Part::Erf)
}

fn part(reader: &mut Reader<'_>, inputs: &Inputs, part: Part) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?;
    let node = reader.graph.part(part, view.node);
    Ok(reader.like(view, node))
}
