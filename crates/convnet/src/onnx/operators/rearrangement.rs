//! Operators that compute nothing: other dimensions, parts, joins, padding.

use std::ops::Range;

use crate::onnx::call::{Call, axis_of};
use crate::onnx::constant::{Constant, Data};
use crate::onnx::fold;
use crate::onnx::graph::Surround;
use crate::onnx::layout::Layout;
use crate::onnx::reader::{Inputs, Reader, Value, View, given, needed, view};
use crate::ops::{Op, PadChannels, Slice};

pub(super) fn reshape<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "data")?)?;
    let wanted = match (call.ints("shape"), given(inputs, 1)?) {
        (Some(shape), _) => shape.to_vec(),
        (None, Some(shape)) => shape.to_ints()?.to_vec(),
        (None, None) => return Err("expected a shape".into()),
    };
    let dims = call.reshaped(&view.layout.dims(), &wanted)?;
    reshaped(reader, view, &dims)
}

fn reshaped(reader: &Reader<'_>, view: &View, dims: &[usize]) -> Result<Value, String> {
    match view.layout.reshape(dims) {
        Some(layout) => Ok(Value::View(View { layout, ..view.clone() })),
        None => Err(format!(
            "expected dimensions that keep pictures and axes apart, got {dims:?} from {}",
            reader.described(view)
        )),
    }
}

pub(super) fn flatten<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "input")?)?;
    let dims = view.layout.dims();
    let axis = axis_of(call.int("axis", 1), dims.len() + 1)?;
    reshaped(reader, view, &[dims[..axis].iter().product(), dims[axis..].iter().product()])
}

pub(super) fn transpose<'g>(_: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "data")?)?;
    let layout = view.layout.transpose(&call.order(view.layout.rank())?);
    Ok(Value::View(View { layout, ..view.clone() }))
}

pub(super) fn squeeze<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "data")?)?;
    let rank = view.layout.rank();
    let layout = match call.axes(given(inputs, 1)?)? {
        None => view.layout.squeeze(|_| true),
        Some(axes) => {
            let axes = axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?;
            let layout = view.layout.squeeze(|dim| axes.contains(&dim));
            if layout.rank() + axes.len() != rank {
                return Err(format!("expected axes {axes:?} of length 1, got {}", reader.described(view)));
            }
            layout
        }
    };
    Ok(Value::View(View { layout, ..view.clone() }))
}

pub(super) fn unsqueeze<'g>(_: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "data")?)?;
    let places = call.places(call.axes(given(inputs, 1)?)?.unwrap_or_default(), view.layout.rank())?;
    Ok(Value::View(View { layout: view.layout.unsqueeze(&places), ..view.clone() }))
}

/// What has these dimensions already.
pub(super) fn expand<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "input")?)?;
    let wanted = given(inputs, 1)?.ok_or("expected a shape")?.to_ints()?;
    let dims = view.layout.dims();
    let fits = wanted.len() <= dims.len()
        && wanted.iter().rev().zip(dims.iter().rev()).all(|(&wanted, &own)| wanted == 1 || wanted == own as i64);
    match fits {
        true => Ok(Value::View(view.clone())),
        false => {
            Err(format!("expected dimensions that are there already, got {wanted:?} from {}", reader.described(view)))
        }
    }
}

pub(super) fn shape<'g>(_: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let dims = view(needed(inputs, 0, "data")?)?.layout.dims();
    Ok(Value::Constant(call.shape(&dims).into()))
}

pub(super) fn size<'g>(_: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let count = view(needed(inputs, 0, "data")?)?.layout.dims().iter().product::<usize>();
    Ok(Value::Constant(Constant { dims: Vec::new(), data: Data::Ints(vec![count as i64]) }.into()))
}

pub(super) fn concat<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let views = inputs.iter().flatten().map(|input| reader.in_order(view(input)?)).collect::<Result<Vec<_>, _>>()?;
    let first = views.first().ok_or("expected at least one input")?.clone();
    let axis = axis_of(call.int("axis", 1), first.layout.rank())?;
    for view in &views {
        let [_, rows, columns] = reader.graph.shape(view.node);
        let same = [rows, columns] == reader.graph.shape(first.node)[1..]
            && view.layout.has_channels(axis, reader.graph.shape(view.node))
            && view.layout.rank() == first.layout.rank()
            && view.layout.reduced(&[axis]) == first.layout.reduced(&[axis]);
        if !same {
            let (first, other) = (reader.described(&first), reader.described(view));
            return Err(format!(
                "expected tensors to be joined along their channels, got axis {axis} of {first} and {other}"
            ));
        }
    }
    let nodes: Vec<usize> = views.iter().map(|view| view.node).collect();
    let node = match nodes[..] {
        [only] => only,
        _ => reader.graph.net(Op::Concat, &nodes, Vec::new())?,
    };
    let layout = first.layout.with_channels(axis, reader.graph.shape(node)[0]);
    Ok(Value::View(View { node, layout }))
}

/// Some of the channels of a tensor, along one of its dimensions.
fn part(reader: &mut Reader<'_>, view: &View, dim: usize, range: Range<usize>) -> Result<View, String> {
    if range == (0..view.layout.dims()[dim]) {
        return Ok(view.clone());
    }
    let view = &reader.in_order(view)?;
    let channels = reader.graph.shape(view.node)[0];
    let sliced = view.layout.slice(dim, range.clone(), channels).filter(|_| !range.is_empty());
    let ([start, end], layout) = sliced.ok_or_else(|| {
        format!("expected a part of the channels, got {range:?} of axis {dim} of {}", reader.described(view))
    })?;
    let node = reader.graph.net(Slice { start, end }, &[view.node], Vec::new())?;
    Ok(View { node, layout })
}

pub(super) fn slice<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let mut sliced = view(needed(inputs, 0, "data")?)?.clone();
    let constants: Vec<Option<&Constant>> = [None]
        .into_iter()
        .map(Ok)
        .chain((1..inputs.len()).map(|index| given(inputs, index)))
        .collect::<Result<_, String>>()?;
    for (axis, kept) in call.slices(&sliced.layout.dims(), &constants)? {
        if kept.count == 0 {
            return Err("expected a part that is not empty".into());
        }
        if kept.step != 1 && kept.count > 1 {
            return Err("expected elements side by side, in order".into());
        }
        let first = kept.first as usize;
        sliced = part(reader, &sliced, axis, first..first + kept.count)?;
    }
    Ok(Value::View(sliced))
}

/// Indices side by side along a dimension, whose place the dimensions of the indices take: one number takes it away.
pub(super) fn gather<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "data")?)?.clone();
    let indices = given(inputs, 1)?.ok_or("expected indices")?;
    let axis = axis_of(call.int("axis", 0), view.layout.rank())?;
    let length = view.layout.dims()[axis];
    let chosen = indices.to_ints()?.iter().map(|&index| axis_of(index, length)).collect::<Result<Vec<_>, _>>()?;
    let side_by_side = chosen.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let &[first, ..] = &chosen[..] else { return Err("expected indices".into()) };
    // All of an axis is the axis, whatever lies along it: so PyTorch writes strides that change nothing.
    let part = if side_by_side && chosen.len() == length && !indices.dims.is_empty() {
        view
    } else if view.layout.has_batch(axis) {
        let count = chosen.len();
        return Err(format!("expected all pictures of the batch, got {count} indices from {first} on of axis {axis}"));
    } else if side_by_side {
        part(reader, &view, axis, first..first + chosen.len())?
    } else {
        return Err("expected elements side by side, in order".into());
    };
    if indices.dims.len() == 1 {
        return Ok(Value::View(part));
    }
    let mut dims = part.layout.dims();
    dims.splice(axis..=axis, indices.dims.iter().copied());
    reshaped(reader, &part, &dims)
}

pub(super) fn split<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Vec<Value>, String> {
    let input = needed(inputs, 0, "input")?.clone();
    let dims = match &input {
        Value::View(view) => view.layout.dims(),
        Value::Constant(constant) => constant.dims.clone(),
    };
    let axis = axis_of(call.int("axis", 0), dims.len())?;
    let (length, outputs) = (dims[axis], call.node.output.len().max(1));
    let sizes = match (call.ints("split"), given(inputs, 1)?) {
        (Some(sizes), _) => sizes.to_vec(),
        (None, Some(sizes)) => sizes.to_ints()?.to_vec(),
        (None, None) => {
            let size = length.div_ceil(outputs);
            (0..outputs).map(|part| size.min(length.saturating_sub(part * size)) as i64).collect()
        }
    };
    let sizes: Option<Vec<usize>> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
    let sizes =
        sizes.filter(|sizes| sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size)) == Some(length));
    let sizes = sizes.ok_or_else(|| format!("expected parts of {length} elements in all"))?;
    let mut start = 0;
    let mut parts = Vec::new();
    for size in sizes {
        parts.push(match &input {
            Value::View(view) => Value::View(part(reader, view, axis, start..start + size)?),
            Value::Constant(constant) => {
                Value::Constant(fold::along(constant, axis, &(start..start + size).collect::<Vec<_>>()).into())
            }
        });
        start += size;
    }
    Ok(parts)
}

pub(super) fn pad<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    if call.text("mode", "constant") != "constant" {
        return Err(format!("expected the mode constant, got {}", call.text("mode", "")));
    }
    let view = view(needed(inputs, 0, "data")?)?.clone();
    let rank = view.layout.rank();
    let pads = match (call.ints("pads"), given(inputs, 1)?) {
        (Some(pads), _) => pads.to_vec(),
        (None, Some(pads)) => pads.to_ints()?.to_vec(),
        (None, None) => return Err("expected pads".into()),
    };
    let value = match given(inputs, 2)? {
        Some(value) => value.uniform().ok_or("expected one number to pad with")?,
        None => call.float("value", 0.0),
    };
    let axes = match given(inputs, 3)? {
        Some(axes) => axes.to_ints()?.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("expected two pads for each of {} axes, got {}", axes.len(), pads.len()));
    }
    let mut both = vec![[0; 2]; rank];
    for (index, &axis) in axes.iter().enumerate() {
        let pixels = |pad: i64| usize::try_from(pad).map_err(|_| format!("expected pads of at least 0, got {pad}"));
        both[axis] = [pixels(pads[index])?, pixels(pads[axes.len() + index])?];
    }
    padded(reader, &view, &both, value)
}

/// A tensor with elements around it: before and after each dimension.
fn padded(reader: &mut Reader<'_>, view: &View, pads: &[[usize; 2]], value: f32) -> Result<Value, String> {
    if pads.iter().all(|pad| *pad == [0, 0]) {
        return Ok(Value::View(view.clone()));
    }
    // Dimensions in the order of maps, wherever they stand.
    let order = view.layout.map_order(reader.graph.shape(view.node));
    let order =
        order.ok_or_else(|| format!("expected batch, channels, height and width, got {}", reader.described(view)))?;
    let [batch, channels, rows, columns] = order.map(|dim| pads[dim]);
    if batch != [0, 0] {
        return Err("expected no pictures around the batch".into());
    }
    let mut node = view.node;
    if channels != [0, 0] {
        if value != 0.0 {
            return Err(format!("expected channels of zeros, got {value}"));
        }
        node = reader.graph.net(PadChannels { before: channels[0], after: channels[1] }, &[node], Vec::new())?;
    }
    let around = Surround { begin: [rows[0], columns[0]], end: [rows[1], columns[1]], value };
    node = reader.graph.pad(node, around)?;
    let canonical = Layout::map(reader.batch, reader.graph.shape(node));
    // From the order of maps back to the tensor's own.
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &dim)| places[dim] = place);
    Ok(Value::View(View { node, layout: canonical.transpose(&places) }))
}
