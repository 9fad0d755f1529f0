//! How values between stages are stored: in `f32`, or in bf16 where an inference of that precision reads and writes nothing
//! else.
//!
//! A convolution in bf16 rounds its input anyway; stored so, it takes half the memory and is multiplied where it lies. Sums,
//! statistics and whatever stands within a stage stay in `f32`, and so do values that a stage of another kind reads or
//! writes, and whatever the caller reads.

use super::graph::{Graph, Layout, Purpose};
use super::placement::{copied_inputs, place};
use convnet_kernels::precision::Precision;

/// How each value of an inference is stored whose products have the given precision.
pub(super) fn choose_storage(graph: &Graph, precision: Precision) -> Vec<Precision> {
    if precision == Precision::F32 {
        return vec![Precision::F32; graph.stages.len()];
    }
    let placed = place(graph, Purpose::Inference);
    let mut in_bf16 = vec![true; graph.stages.len()];
    // What shares a buffer is stored in one way.
    let root = |index: usize| placed.places[index].root;
    for (index, stage) in graph.stages.iter().enumerate() {
        if !stage.facts.takes_bf16 || !copied_inputs(graph, &placed, index).is_empty() {
            stage.inputs.iter().chain([&index]).for_each(|&value| in_bf16[root(value)] = false);
        }
        if !matches!(stage.output, Layout::Blocked(_)) || graph.outputs.contains(&index) || graph.taps.contains(&index)
        {
            in_bf16[root(index)] = false;
        }
    }
    let stored = |index: usize| if in_bf16[root(index)] { Precision::Bf16 } else { Precision::F32 };
    (0..graph.stages.len()).map(stored).collect()
}
