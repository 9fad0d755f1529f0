//! Functions of single elements, and what leaves them as they are.

use super::arithmetic::affine;
use crate::onnx::call::Call;
use crate::onnx::constant::{Constant, FLOATS};
use crate::onnx::graph::{Affine, tidy};
use crate::onnx::reader::{BROADCASTING, Inputs, Reader, Value, View, given, needed, view};
use crate::ops::{Activation, Op, Shape};

/// Between floating-point numbers of any width, which are all of 32 bits here.
pub(super) fn cast<'g>(_: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match call.int("to", FLOATS[0]) {
        to if FLOATS.contains(&to) => needed(inputs, 0, "input").cloned(),
        to => Err(format!("expected floating-point numbers, got a cast to the type {to}")),
    }
}

pub(super) fn dropout<'g>(_: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let is_test = call.opset >= BROADCASTING || call.int("is_test", 0) != 0;
    match given(inputs, 2)?.and_then(Constant::uniform) {
        None | Some(0.0) if is_test => needed(inputs, 0, "data").cloned(),
        _ => Err("expected inference, got dropout of training".into()),
    }
}

/// Leaves its input as it is.
pub(super) fn same<'g>(_: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    needed(inputs, 0, "data").cloned()
}

/// A function of single elements, in any layout.
pub(super) fn activation(reader: &mut Reader<'_>, inputs: &Inputs, activation: Activation) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?;
    let shape = Shape::Map(reader.graph.shape(view.node));
    // Settings that the engine cannot have.
    Op::Activation(activation).output(&[shape])?;
    let node = reader.graph.activation(activation, view.node);
    Ok(reader.like(view, node))
}

pub(super) fn clip<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let bound = |index: usize, name: &str, otherwise: f32| match given(inputs, index)? {
        Some(constant) if constant.len() == 1 => Ok(constant.to_floats()[0]),
        Some(_) => Err(format!("expected one number as {name}")),
        None => Ok(call.float(name, otherwise)),
    };
    let (low, high) = (bound(1, "min", f32::MIN)?, bound(2, "max", f32::MAX)?);
    if low > high {
        // All numbers are the largest one then.
        let all = Constant::floats(Vec::new(), vec![high]);
        return affine(reader, view(needed(inputs, 0, "input")?)?, &all, |high| [0.0, high]);
    }
    clipped(reader, inputs, low, high)
}

/// Numbers below `low` and above `high` as these.
pub(super) fn clipped(reader: &mut Reader<'_>, inputs: &Inputs, low: f32, high: f32) -> Result<Value, String> {
    match [low.max(f32::MIN), high.min(f32::MAX)] {
        [f32::MIN, f32::MAX] => needed(inputs, 0, "data").cloned(),
        [0.0, f32::MAX] => activation(reader, inputs, Activation::Relu),
        [low, high] => activation(reader, inputs, Activation::Clip { low, high }),
    }
}

pub(super) fn gelu<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match call.text("approximate", "none") {
        "none" => activation(reader, inputs, Activation::Gelu),
        other => Err(format!("expected the exact function, got the approximation '{other}'")),
    }
}

pub(super) fn swish<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match call.float("alpha", 1.0) {
        1.0 => activation(reader, inputs, Activation::Silu),
        other => Err(format!("expected an alpha of 1, got {other}")),
    }
}

pub(super) fn hard_sigmoid<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (slope, offset) = (call.float("alpha", 0.2), call.float("beta", 0.5));
    activation(reader, inputs, tidy(Activation::HardSigmoid { slope, offset }))
}

pub(super) fn prelu<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?;
    let slopes = given(inputs, 1)?.ok_or("expected slopes")?;
    if let Some(slope) = reader.number(view, slopes) {
        return activation(reader, inputs, Activation::LeakyRelu { slope });
    }
    let slopes = &match &slopes.dims[..] {
        // A list is of the channels at first, and of the last dimension later.
        &[count] if call.opset < BROADCASTING => {
            let after = view.layout.rank().saturating_sub(2);
            let dims = std::iter::once(count).chain(std::iter::repeat_n(1, after)).collect();
            Constant { dims, data: slopes.data.clone() }
        }
        _ => slopes.clone(),
    };
    // relu(x) - slope · relu(-x)
    let channels = reader.graph.shape(view.node)[0];
    let above = reader.graph.activation(Activation::Relu, view.node);
    let negative = reader.graph.affine(view.node, Affine::uniform(channels, -1.0, 0.0));
    let below = reader.graph.activation(Activation::Relu, negative);
    let Value::View(below) = affine(reader, &View { node: below, ..view.clone() }, slopes, |slope| [-slope, 0.0])?
    else {
        return Err("expected a tensor that depends on the picture".into());
    };
    let node = reader.graph.net(Op::Add, &[above, below.node], Vec::new())?;
    Ok(reader.like(view, node))
}

pub(super) fn leaky_relu<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    activation(reader, inputs, Activation::LeakyRelu { slope: call.float("alpha", 0.01) })
}
