//! Norms, and softmax.

use crate::onnx::call::{Call, axis_of};
use crate::onnx::graph::Affine;
use crate::onnx::layout::Axis;
use crate::onnx::reader::{BROADCASTING, Inputs, Reader, Value, given, needed, tensor, view};
use crate::ops::{BatchNorm2d, LocalResponseNorm, Op};

pub(super) fn batch<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let trains = match call.opset < BROADCASTING {
        true => call.int("is_test", 0) == 0,
        false => call.int("training_mode", 0) != 0,
    };
    if trains || call.int("spatial", 1) != 1 {
        return Err("expected running statistics of each channel".into());
    }
    let view = reader.in_order(view(needed(inputs, 0, "X")?)?)?;
    if !view.layout.has_channels(1, reader.graph.shape(view.node)) {
        return Err(format!("expected channels as the second dimension, got {}", reader.described(&view)));
    }
    let names = [("weight", "scale"), ("bias", "B"), ("running_mean", "mean"), ("running_var", "var")];
    let mut tensors = Vec::new();
    for (index, (own, name)) in names.into_iter().enumerate() {
        let constant = given(inputs, index + 1)?.ok_or_else(|| format!("expected {name}"))?;
        tensors.push((own, tensor(constant)));
    }
    let op = BatchNorm2d { eps: call.float("epsilon", 1e-5), momentum: 1.0 - call.float("momentum", 0.9) };
    let node = reader.graph.net(op, &[view.node], tensors)?;
    Ok(reader.like(&view, node))
}

pub(super) fn local_response<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let size = usize::try_from(call.int("size", 0)).unwrap_or_default();
    if size.is_multiple_of(2) {
        return Err(format!("expected an odd size, got {size}"));
    }
    let (alpha, beta, k) = (call.float("alpha", 1e-4), call.float("beta", 0.75), call.float("bias", 1.0));
    let map = reader.map(needed(inputs, 0, "X")?)?;
    let node = reader.graph.net(LocalResponseNorm { size, alpha, beta, k }, &[map], Vec::new())?;
    Ok(reader.maps(node))
}

pub(super) fn layer<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?.clone();
    let (shape, rank) = (reader.graph.shape(view.node), view.layout.rank());
    let axis = axis_of(call.int("axis", -1), rank)?;
    if axis + 1 != rank || !view.layout.has_channels(axis, shape) {
        return Err(format!("expected the channels as the last dimension, got {}", reader.described(&view)));
    }
    let norm = reader.graph.plain_layer_norm(view.node, call.float("epsilon", 1e-5))?;
    let numbers = |index: usize, otherwise: f32| match given(inputs, index)? {
        None => Ok(vec![otherwise; shape[0]]),
        Some(constant) if constant.len() == shape[0] => Ok(constant.to_floats()),
        Some(constant) => Err(format!("expected {} numbers, got {}", shape[0], constant.len())),
    };
    let node = reader.graph.affine(norm, Affine { scale: numbers(1, 1.0)?, shift: numbers(2, 0.0)? });
    Ok(reader.like(&view, node))
}

pub(super) fn softmax<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "input")?)?;
    let (shape, rank) = (reader.graph.shape(view.node), view.layout.rank());
    let axis = axis_of(call.int("axis", if call.opset < 13 { 1 } else { -1 }), rank)?;
    // Before opset 13 all axes from this one on are one.
    let axes: Vec<usize> = if call.opset < 13 { (axis..rank).collect() } else { vec![axis] };
    let axes = view.layout.axes_of(&axes, shape);
    if axes != Some(vec![Axis::Channel]) {
        return Err(format!("expected the channels as axis, got axis {axis} of {}", reader.described(view)));
    }
    let node = reader.graph.net(Op::Softmax, &[view.node], Vec::new())?;
    Ok(reader.like(view, node))
}
