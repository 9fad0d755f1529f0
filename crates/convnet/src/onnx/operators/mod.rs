//! ONNX's operators, each as what it makes of values: a table, and a file for each kind.

mod arithmetic;
mod pooling;
mod products;
mod rearrangement;
mod reductions;

use super::call::Call;
use super::constant::{Constant, Data, FLOATS};
use super::graph::tidy;
use super::reader::{Inputs, Reader, Value, given, needed, tensor, view};
use crate::ops::{Activation, BatchNorm2d, LocalResponseNorm, Op};

/// What reads a node of an operator.
type Read = for<'g> fn(&mut Reader<'g>, &Call<'g>, &Inputs) -> Result<Value, String>;

/// The operators that are read, but for those that [`super::fold`] alone computes.
const TABLE: &[(&str, Read)] = &[
    ("Add", arithmetic::add),
    ("AveragePool", pooling::average),
    ("BatchNormalization", batch_normalization),
    ("Cast", cast),
    ("Clip", clip),
    ("Concat", rearrangement::concat),
    ("Constant", constant),
    ("Conv", products::conv),
    ("Div", arithmetic::div),
    ("Dropout", dropout),
    ("Erf", arithmetic::erf),
    ("Expand", rearrangement::expand),
    ("Flatten", rearrangement::flatten),
    ("Gather", rearrangement::gather),
    ("Gelu", gelu),
    ("Gemm", products::gemm),
    ("GlobalAveragePool", reductions::global_average),
    ("GlobalMaxPool", pooling::global_max),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", |reader, _, inputs| activation(reader, inputs, Activation::HardSwish)),
    ("Identity", same),
    ("LRN", local_response_norm),
    ("LayerNormalization", reductions::layer_normalization),
    ("LeakyRelu", |reader, call, inputs| {
        activation(reader, inputs, Activation::LeakyRelu { slope: call.float("alpha", 0.01) })
    }),
    ("MatMul", products::mat_mul),
    ("Max", arithmetic::max),
    ("MaxPool", pooling::max),
    ("Min", arithmetic::min),
    ("Mul", arithmetic::mul),
    ("Neg", arithmetic::neg),
    ("PRelu", prelu),
    ("Pad", rearrangement::pad),
    ("Pow", arithmetic::pow),
    ("ReduceMax", reductions::max),
    ("ReduceMean", reductions::mean),
    ("ReduceSum", reductions::sum),
    ("Relu", |reader, _, inputs| activation(reader, inputs, Activation::Relu)),
    ("Reshape", rearrangement::reshape),
    ("Shape", rearrangement::shape),
    ("Sigmoid", |reader, _, inputs| activation(reader, inputs, Activation::Sigmoid)),
    ("Size", rearrangement::size),
    ("Slice", rearrangement::slice),
    ("Softmax", softmax),
    ("Softsign", |reader, _, inputs| activation(reader, inputs, Activation::Softsign)),
    ("Sqrt", arithmetic::sqrt),
    ("Squeeze", rearrangement::squeeze),
    ("Sub", arithmetic::sub),
    ("Sum", arithmetic::add),
    ("Swish", swish),
    ("Tanh", |reader, _, inputs| activation(reader, inputs, Activation::Tanh)),
    ("Transpose", rearrangement::transpose),
    ("Unsqueeze", rearrangement::unsqueeze),
];

/// Whether a node's operator is in the table.
pub(super) fn is_known(call: &Call<'_>) -> bool {
    call.operator() == "Split" || TABLE.iter().any(|(name, _)| *name == call.operator())
}

/// The outputs of a node.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Vec<Value>, String> {
    if call.operator() == "Split" {
        return rearrangement::split(reader, call, inputs);
    }
    match TABLE.iter().find(|(name, _)| *name == call.operator()) {
        Some((_, read)) => read(reader, call, inputs).map(|value| vec![value]),
        None => Err("is not supported".into()),
    }
}

/// Between floating-point numbers of any width, which are all of 32 bits here.
fn cast<'g>(_: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match call.int("to", FLOATS[0]) {
        to if FLOATS.contains(&to) => needed(inputs, 0, "input").cloned(),
        to => Err(format!("expected floating-point numbers, got a cast to the type {to}")),
    }
}

fn dropout<'g>(_: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match given(inputs, 2)?.and_then(Constant::uniform) {
        None | Some(0.0) => needed(inputs, 0, "data").cloned(),
        Some(_) => Err("expected inference, got dropout of training".into()),
    }
}

/// Leaves its input as it is.
fn same<'g>(_: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    needed(inputs, 0, "data").cloned()
}

fn constant<'g>(_: &mut Reader<'g>, call: &Call<'g>, _: &Inputs) -> Result<Value, String> {
    let constant = match call.tensor("value")? {
        Some(constant) => constant,
        None if call.has("value_float") => Constant::floats(Vec::new(), vec![call.float("value_float", 0.0)]),
        None if call.has("value_int") => {
            Constant { dims: Vec::new(), data: Data::Ints(vec![call.int("value_int", 0)]) }
        }
        None => match (call.floats("value_floats"), call.ints("value_ints")) {
            (Some(floats), _) => Constant::floats(vec![floats.len()], floats.to_vec()),
            (None, Some(ints)) => Constant::ints(ints.to_vec()),
            (None, None) => return Err("expected a value of numbers".into()),
        },
    };
    Ok(Value::Constant(constant.into()))
}

/// A function of single elements, in any layout.
fn activation(reader: &mut Reader<'_>, inputs: &Inputs, activation: Activation) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?;
    let shape = crate::ops::Shape::Map(reader.graph.shape(view.node));
    // Settings that the engine cannot have.
    Op::Activation(activation).output(&[shape])?;
    let node = reader.graph.activation(activation, view.node);
    Ok(reader.like(view, node))
}

fn clip<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let bound = |index: usize, name: &str, otherwise: f32| match given(inputs, index)? {
        Some(constant) if constant.len() == 1 => Ok(constant.to_floats()[0]),
        Some(_) => Err(format!("expected one number as {name}")),
        None => Ok(call.float(name, otherwise)),
    };
    let (low, high) = (bound(1, "min", f32::MIN)?, bound(2, "max", f32::MAX)?);
    clipped(reader, inputs, low, high)
}

/// Numbers below `low` and above `high` as these.
fn clipped(reader: &mut Reader<'_>, inputs: &Inputs, low: f32, high: f32) -> Result<Value, String> {
    match [low.max(f32::MIN), high.min(f32::MAX)] {
        [f32::MIN, f32::MAX] => needed(inputs, 0, "data").cloned(),
        [0.0, f32::MAX] => activation(reader, inputs, Activation::Relu),
        [low, high] => activation(reader, inputs, Activation::Clip { low, high }),
    }
}

fn gelu<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match call.text("approximate", "none") {
        "none" => activation(reader, inputs, Activation::Gelu),
        other => Err(format!("expected the exact function, got the approximation '{other}'")),
    }
}

fn swish<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    match call.float("alpha", 1.0) {
        1.0 => activation(reader, inputs, Activation::Silu),
        other => Err(format!("expected an alpha of 1, got {other}")),
    }
}

fn hard_sigmoid<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let (slope, offset) = (call.float("alpha", 0.2), call.float("beta", 0.5));
    activation(reader, inputs, tidy(Activation::HardSigmoid { slope, offset }))
}

fn prelu<'g>(reader: &mut Reader<'g>, _: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "X")?)?;
    let slope = given(inputs, 1)?.and_then(|slope| reader.number(view, slope));
    let slope = slope.ok_or("expected one slope for all channels")?;
    activation(reader, inputs, Activation::LeakyRelu { slope })
}

fn batch_normalization<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    if call.int("training_mode", 0) != 0 || call.int("spatial", 1) != 1 {
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

fn local_response_norm<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let size = usize::try_from(call.int("size", 0)).unwrap_or_default();
    if size.is_multiple_of(2) {
        return Err(format!("expected an odd size, got {size}"));
    }
    let (alpha, beta, k) = (call.float("alpha", 1e-4), call.float("beta", 0.75), call.float("bias", 1.0));
    let map = reader.map(needed(inputs, 0, "X")?)?;
    let node = reader.graph.net(LocalResponseNorm { size, alpha, beta, k }, &[map], Vec::new())?;
    Ok(reader.maps(node))
}

fn softmax<'g>(reader: &mut Reader<'g>, call: &Call<'g>, inputs: &Inputs) -> Result<Value, String> {
    let view = view(needed(inputs, 0, "input")?)?;
    let (shape, rank) = (reader.graph.shape(view.node), view.layout.rank());
    let axis = call.axis(call.int("axis", if call.opset < 13 { 1 } else { -1 }), rank)?;
    // Before opset 13 all axes from this one on are one.
    let axes: Vec<usize> = if call.opset < 13 { (axis..rank).collect() } else { vec![axis] };
    let axes = view.layout.axes_of(&axes, shape);
    if axes != Some(vec![super::layout::Axis::Channel]) {
        return Err(format!("expected the channels as axis, got axis {axis} of {}", reader.described(view)));
    }
    let node = reader.graph.net(Op::Softmax, &[view.node], Vec::new())?;
    Ok(reader.like(view, node))
}
