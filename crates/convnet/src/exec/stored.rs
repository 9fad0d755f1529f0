//! How values between stages are stored: in `f32`, or in bf16 where an inference of that precision reads and writes nothing
//! else.
//!
//! A convolution in bf16 rounds its input anyway; stored so, it takes half the memory and is multiplied where it lies. Sums,
//! statistics and whatever stands within a stage stay in `f32`, and so do values that a stage of another kind reads or
//! writes, and the net's output.

use super::Engine;
use super::forward::copied_inputs;
use super::stage::{Kind, Layout, Purpose, Stages};
use super::views::place;
use convnet_kernels::precision::Precision;

/// Decides how each value of an inference is stored, and plans convolutions for it.
pub(super) fn choose_storage(stages: &mut Stages, engine: &Engine) {
    if engine.product_precision() == Precision::F32 {
        return;
    }
    let planned = place(stages, Purpose::Inference);
    // What shares a buffer is stored in one way.
    let root = |index: usize| planned.places[index].root;
    let mut in_bf16 = vec![true; stages.stages.len()];
    for (index, stage) in stages.stages.iter().enumerate() {
        if !stage.kind.takes_bf16() || !copied_inputs(stages, &planned, index).is_empty() {
            stage.inputs.iter().chain([&index]).for_each(|&value| in_bf16[root(value)] = false);
        }
        if !matches!(stage.output, Layout::Blocked(_)) || stages.outputs.contains(&index) {
            in_bf16[root(index)] = false;
        }
    }
    let stored = |index: usize| if in_bf16[root(index)] { Precision::Bf16 } else { Precision::F32 };
    for index in 0..stages.stages.len() {
        let stage = &mut stages.stages[index];
        stage.stored = stored(index);
        let input = stage.inputs.first().map_or(Precision::F32, |&input| stored(input));
        if let Kind::Conv { conv, .. } = &mut stage.kind {
            conv.set_stored([input, stage.stored]);
        }
    }
}
