//! ONNX's operators, each as what it gives where its inputs are known and what it makes of tensors that depend on the picture: a
//! table, and a file for each kind.

mod arithmetic;
mod elementwise;
mod normalization;
mod pooling;
mod products;
mod rearrangement;
mod reductions;

use super::call::Call;
use super::constant::Constant;
use super::fold::{self, Known};
use super::reader::{Inputs, Reader, Value};
use crate::ops::Activation;

/// What computes an operator whose inputs are all known.
type Fold = for<'g> fn(&Call<'g>, Known<'_>) -> Result<Constant, String>;
/// What reads a node of an operator, by its first output.
type Read = for<'g> fn(&mut Reader<'g>, &Call<'g>, &Inputs) -> Result<Value, String>;
/// The same by all its outputs.
type ReadAll = for<'g> fn(&mut Reader<'g>, &Call<'g>, &Inputs) -> Result<Vec<Value>, String>;

/// An operator that is read.
pub(super) struct Operator {
    name: &'static str,
    fold: Option<Fold>,
    read: Reading,
}

/// What becomes of a node with an input that depends on the picture.
enum Reading {
    None,
    First(Read),
    All(ReadAll),
}

/// Of constants alone: arithmetic on shapes and settings.
const fn of_constants(name: &'static str, fold: Fold) -> Operator {
    Operator { name, fold: Some(fold), read: Reading::None }
}

/// Of tensors that depend on the picture.
const fn of_tensors(name: &'static str, read: Read) -> Operator {
    Operator { name, fold: None, read: Reading::First(read) }
}

const fn of_both(name: &'static str, fold: Fold, read: Read) -> Operator {
    Operator { name, fold: Some(fold), read: Reading::First(read) }
}

#[rustfmt::skip]
const TABLE: &[Operator] = &[
    of_constants("Abs", fold::abs),
    of_both("Add", |_, known| fold::pair(known, |a, b| a + b, i64::checked_add), arithmetic::add),
    of_tensors("AveragePool", pooling::average),
    of_tensors("BatchNormalization", normalization::batch),
    of_both("Cast", fold::cast, elementwise::cast),
    of_constants("Ceil", |_, known| fold::map(known, f32::ceil)),
    of_both("Clip", fold::clip, elementwise::clip),
    of_both("Concat", fold::concat, rearrangement::concat),
    of_constants("ConstantOfShape", fold::filled),
    of_tensors("Conv", products::conv),
    of_both("Div", |_, known| fold::pair(known, |a, b| a / b, i64::checked_div), arithmetic::div),
    of_tensors("Dropout", elementwise::dropout),
    of_constants("Equal", fold::equal),
    of_tensors("Erf", arithmetic::erf),
    of_constants("Exp", |_, known| fold::map(known, f32::exp)),
    of_both("Expand", fold::expand, rearrangement::expand),
    of_both("Flatten", fold::flatten, rearrangement::flatten),
    of_constants("Floor", |_, known| fold::map(known, f32::floor)),
    of_both("Gather", fold::gather, rearrangement::gather),
    of_tensors("Gelu", elementwise::gelu),
    of_both("Gemm", fold::gemm, products::gemm),
    of_tensors("GlobalAveragePool", reductions::global_average),
    of_tensors("GlobalMaxPool", pooling::global_max),
    of_tensors("HardSigmoid", elementwise::hard_sigmoid),
    of_tensors("HardSwish", |reader, _, inputs| elementwise::activation(reader, inputs, Activation::HardSwish)),
    of_tensors("Identity", elementwise::same),
    of_tensors("LRN", normalization::local_response),
    of_tensors("LayerNormalization", normalization::layer),
    of_tensors("LeakyRelu", elementwise::leaky_relu),
    of_both("MatMul", fold::mat_mul, products::mat_mul),
    of_both("Max", |_, known| fold::of_all(known, f32::max, |a, b| Some(a.max(b))), arithmetic::max),
    of_tensors("MaxPool", pooling::max),
    of_both("Min", |_, known| fold::of_all(known, f32::min, |a, b| Some(a.min(b))), arithmetic::min),
    of_constants("Mod", fold::remainder),
    of_both("Mul", |_, known| fold::pair(known, |a, b| a * b, i64::checked_mul), arithmetic::mul),
    of_both("Neg", fold::neg, arithmetic::neg),
    of_tensors("PRelu", elementwise::prelu),
    of_tensors("Pad", rearrangement::pad),
    of_both("Pow", fold::pow, arithmetic::pow),
    of_constants("Range", fold::range),
    of_constants("Reciprocal", |_, known| fold::map(known, f32::recip)),
    of_tensors("ReduceMax", reductions::max),
    of_tensors("ReduceMean", reductions::mean),
    of_constants("ReduceProd", fold::product),
    of_tensors("ReduceSum", reductions::sum),
    of_tensors("Relu", |reader, _, inputs| elementwise::activation(reader, inputs, Activation::Relu)),
    of_both("Reshape", fold::reshape, rearrangement::reshape),
    of_both("Shape", fold::shape, rearrangement::shape),
    of_tensors("Sigmoid", |reader, _, inputs| elementwise::activation(reader, inputs, Activation::Sigmoid)),
    of_both("Size", fold::size, rearrangement::size),
    of_both("Slice", fold::slice, rearrangement::slice),
    of_tensors("Softmax", normalization::softmax),
    of_tensors("Softsign", |reader, _, inputs| elementwise::activation(reader, inputs, Activation::Softsign)),
    Operator { name: "Split", fold: None, read: Reading::All(rearrangement::split) },
    of_both("Sqrt", |_, known| fold::map(known, f32::sqrt), arithmetic::sqrt),
    of_both("Squeeze", fold::squeeze, rearrangement::squeeze),
    of_both("Sub", |_, known| fold::pair(known, |a, b| a - b, i64::checked_sub), arithmetic::sub),
    of_both("Sum", |_, known| fold::of_all(known, |a, b| a + b, i64::checked_add), arithmetic::add),
    of_tensors("Swish", elementwise::swish),
    of_tensors("Tanh", |reader, _, inputs| elementwise::activation(reader, inputs, Activation::Tanh)),
    of_both("Transpose", fold::transposed, rearrangement::transpose),
    of_both("Unsqueeze", fold::unsqueeze, rearrangement::unsqueeze),
    of_constants("Where", fold::choose),
];

impl Operator {
    /// The operator of that name.
    ///
    /// # Errors
    /// It is not read.
    pub(super) fn find(name: &str) -> Result<&'static Operator, String> {
        TABLE.iter().find(|operator| operator.name == name).ok_or_else(|| "is not supported".into())
    }

    /// What it gives for known inputs, where that is computed here.
    pub(super) fn known<'g>(&self, call: &Call<'g>, inputs: Known<'_>) -> Option<Result<Constant, String>> {
        self.fold.map(|fold| fold(call, inputs))
    }

    /// The outputs of a node.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn read<'g>(
        &self,
        reader: &mut Reader<'g>,
        call: &Call<'g>,
        inputs: &Inputs,
    ) -> Result<Vec<Value>, String> {
        match self.read {
            Reading::First(read) => read(reader, call, inputs).map(|value| vec![value]),
            Reading::All(read) => read(reader, call, inputs),
            Reading::None => Err("is supported for constants alone, not for tensors that depend on the picture".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_stand_once_in_their_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
