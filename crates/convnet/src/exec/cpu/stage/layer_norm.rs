//! Layer norm over the channels of each pixel. Backward keeps the input, from which it finds each pixel's mean and variance
//! again.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use crate::ops::LayerNorm2d;
use convnet_kernels::layer_norm::{Given, LayerNorm};
use convnet_kernels::layout::{MapsMut, blocks};
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct LayerNormStage {
    norm: LayerNorm,
    /// Numbers of a picture.
    len: usize,
    /// In whole blocks.
    channels: usize,
    weight: usize,
    bias: usize,
}

/// Adds the stage of a layer norm.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &LayerNorm2d) -> Result<()> {
    let layout = Layout::of(lowering.node(node).shape);
    let [channels, pixels] = layout.channels_and_pixels();
    let norm = LayerNorm::new(channels, pixels, op.eps, lowering.isa());
    let [weight, bias] = ["weight", "bias"].map(|name| lowering.vector(node, name));
    let (len, channels) = (layout.len(), blocks(channels) * LANES);
    lowering.push(node, node, Box::new(LayerNormStage { norm, len, channels, weight, bias }), layout)
}

impl LayerNormStage {
    /// Floats for an input's gradient that nobody asks for.
    fn unwanted_len(&self, batch: usize, flow: Flow) -> usize {
        if flow == Flow::Unwanted { batch * self.len } else { 0 }
    }
}

impl Compute for LayerNormStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::First,
            inputs_kept: InputsKept::First,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn backward_scratch(&self, batch: usize, _threads: usize, flows: &[Flow]) -> usize {
        self.norm.scratch_len(batch) + self.unwanted_len(batch, flows[0]) + 2 * self.channels
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let numbers = [self.weight, self.bias].map(|slot| run.weights.get(slot));
        if run.step.in_place.is_some() {
            let ([], [y]) = run.arena.split([], [y_view.span(count)]);
            return self.norm.forward(run.threads, count, None, numbers, y_view.maps_mut(y));
        }
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        self.norm.forward(run.threads, count, Some(x_view.maps(x)), numbers, y_view.maps_mut(y));
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
        let target = run.input_gradient(0);
        let span = target.map_or_else(|| run.no_floats(), |(view, _)| view.span(count));
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [dx, scratch]) = run.arena.split(reads, [span, run.scratch.clone()]);
        let (sums, scratch) = scratch.split_at_mut(2 * self.channels);
        let (of_weight, of_bias) = sums.split_at_mut(self.channels);
        let gamma = run.weights.get(self.weight);
        let given = Given { batch: count, x: x_view.maps(x), dy: Some(dy_view.maps(dy)), gamma };
        match target {
            Some((view, accumulate)) => {
                self.norm.backward(run.threads, &given, view.maps_mut(dx), accumulate, [of_weight, of_bias], scratch);
            }
            None => {
                let (unwanted, scratch) = scratch.split_at_mut(self.unwanted_len(count, Flow::Unwanted));
                let unwanted = MapsMut::packed(unwanted, self.len);
                self.norm.backward(run.threads, &given, unwanted, false, [of_weight, of_bias], scratch);
            }
        }
        for (slot, gradient) in [(self.weight, of_weight), (self.bias, of_bias)] {
            if let Some(range) = run.weights.gradient(slot) {
                run.weight_gradients[range].copy_from_slice(gradient);
            }
        }
    }
}
