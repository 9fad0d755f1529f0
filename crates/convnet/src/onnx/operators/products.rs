//! Convolutions and products with matrices.

use std::borrow::Cow;

use super::arithmetic::affine;
use crate::Tensor;
use crate::geometry::{Padding, Window};
use crate::onnx::call::Call;
use crate::onnx::constant::Constant;
use crate::onnx::fold::turn;
use crate::onnx::graph::{Operation, Surround};
use crate::onnx::reader::{Inputs, Reader, Value, View, given, needed, tensor, view};
use crate::ops::Conv2d;

pub(super) fn conv<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let weight = given(inputs, 1)?.ok_or("expected a weight W")?;
    let groups = usize::try_from(call.int("group", 1)).unwrap_or_default();
    let (map, axes) = reader.maps_or_lists(needed(inputs, 0, "X")?)?;
    let (out_channels, in_channels, kernel) = match (axes, &weight.dims[..]) {
        (1, &[outputs, inputs, columns]) => (outputs, inputs, [1, columns]),
        (2, &[outputs, inputs, rows, columns]) => (outputs, inputs, [rows, columns]),
        _ => return Err(format!("expected a weight of {} axes, got {:?}", axes + 2, weight.dims)),
    };
    let window = Window {
        kernel,
        stride: call.sides(axes, "strides", 1)?,
        dilation: call.sides(axes, "dilations", 1)?,
        padding: Padding::NONE,
        ceil_mode: false,
    };
    let [_, height, width] = reader.graph.shape(map);
    let window = Window { padding: padding(call, axes, window, [height, width])?, ..window };
    let (map, window) = around(reader, map, window, 0.0);
    let bias = given(inputs, 2)?;
    let op = Conv2d { groups, bias: bias.is_some(), ..Conv2d::new(out_channels, window) };
    let shape = [out_channels, in_channels, kernel[0], kernel[1]];
    let mut tensors = vec![("weight", Tensor::sharing(shape, weight.share_floats()))];
    tensors.extend(bias.map(|bias| ("bias", tensor(bias))));
    let node = reader.graph.net(op, &[map], tensors)?;
    Ok(reader.of_axes(axes, node))
}

/// The padding that a node says, for a window over maps of that height and width.
///
/// # Errors
/// Settings that are none.
pub(super) fn padding(call: &Call<'_>, axes: usize, window: Window, input: [usize; 2]) -> Result<Padding, String> {
    let same = Window { padding: Padding::Same, ..window };
    match call.text("auto_pad", "NOTSET") {
        "SAME_UPPER" => Ok(Padding::Same),
        "SAME_LOWER" => {
            let (begin, end) = same.pads(input);
            Ok(Padding::Explicit { begin: end, end: begin })
        }
        "VALID" => Ok(Padding::NONE),
        "NOTSET" | "" => {
            let [top, left, bottom, right] = match axes {
                1 => call.pixels("pads", [0; 2]).map(|[left, right]| [0, left, 0, right])?,
                _ => call.pixels("pads", [0; 4])?,
            };
            Ok(Padding::Explicit { begin: [top, left], end: [bottom, right] })
        }
        other => Err(format!("expected auto_pad to be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got {other}")),
    }
}

/// A window over what was padded, where its own padding can be that: the input of the padding and the larger window. `value` is
/// what the window takes its own padding for.
pub(super) fn around(reader: &Reader<'_>, map: usize, window: Window, value: f32) -> (usize, Window) {
    let node = &reader.graph.nodes[map];
    match (&node.operation, window.padding) {
        (Operation::Pad(pad), Padding::Explicit { begin, end }) if pad.value == value => {
            let Surround { begin: before, end: after, .. } = *pad;
            let sum = |a: [usize; 2], b: [usize; 2]| [a[0] + b[0], a[1] + b[1]];
            let padding = Padding::Explicit { begin: sum(begin, before), end: sum(end, after) };
            (node.inputs[0], Window { padding, ..window })
        }
        _ => (map, window),
    }
}

/// `α A B + β C` with a batch of features A and constants B and C.
pub(super) fn gemm<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "A")?)?.clone();
    let matrix = given(inputs, 1)?.ok_or("expected a matrix B")?;
    let turned = call.int("transA", 0) != 0;
    let order: &[usize] = if turned { &[1, 0] } else { &[0, 1] };
    if view.layout.rank() != 2 {
        return Err(format!("expected a matrix A, got {}", reader.described(&view)));
    }
    let view = View { layout: view.layout.transpose(order), ..view };
    let matrix = if call.int("transB", 0) != 0 { Cow::Borrowed(matrix) } else { Cow::Owned(turn(matrix)?) };
    let product = product(reader, &view, &matrix, call.float("alpha", 1.0))?;
    let Some(addend) = given(inputs, 2)? else { return Ok(Value::View(product)) };
    let beta = call.float("beta", 1.0);
    affine(reader, &product, addend, |number| [1.0, beta * number])
}

pub(super) fn mat_mul<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "A")?)?.clone();
    let matrix = given(inputs, 1)?.ok_or("expected a matrix B")?;
    product(reader, &view, &turn(matrix)?, 1.0).map(Value::View)
}

/// A tensor's last dimension multiplied with `[outputs, inputs]`: a linear layer on the channels of each pixel, or on everything.
fn product(reader: &mut Reader<'_>, view: &View, matrix: &Constant, factor: f32) -> Result<View, String> {
    let shape @ [channels, ..] = reader.graph.shape(view.node);
    let last = view.layout.rank().checked_sub(1).ok_or("expected a tensor with axes")?;
    let expected = view.layout.dims()[last];
    let &[outputs, length] = &matrix.dims[..] else { return Err(format!("expected a matrix, got {:?}", matrix.dims)) };
    if length != expected || outputs == 0 {
        return Err(format!("expected a matrix for {expected} numbers, got {length}"));
    }
    let Some(places) = view.layout.places(last, shape) else {
        return Err(format!("expected channels as the last dimension, got {}", reader.described(view)));
    };
    let of_all = places.len() != channels;
    // Rows of the matrix in the order of the tensor; those of the layer in the order of the value.
    let weight = if factor == 1.0 && places.iter().copied().eq(0..length) {
        matrix.share_floats()
    } else {
        let numbers = matrix.as_floats();
        let mut weight = vec![0.0; numbers.len()];
        for (row, target) in numbers.chunks_exact(length).zip(weight.chunks_exact_mut(length)) {
            places.iter().zip(row).for_each(|(&place, number)| target[place] = factor * number);
        }
        weight.into()
    };
    let node = reader.graph.linear(view.node, of_all, Tensor::sharing([outputs, length], weight));
    Ok(View { node, layout: view.layout.with_channels(last, outputs) })
}
