//! Softmax over the channels of each pixel, or over features. Backward keeps the output.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use convnet_kernels::softmax;

#[derive(Debug)]
struct Softmax;

/// Adds the stage of a softmax.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    let layout = Layout::of(lowering.node(node).shape);
    lowering.push(node, node, Box::new(Softmax), layout)
}

impl Compute for Softmax {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::First,
            inputs_kept: InputsKept::None,
            output_kept: OutputKept::Value,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward_scratch(&self, _pictures: usize, _threads: usize) -> usize {
        0
    }

    fn backward_scratch(&self, _batch: usize, _threads: usize, _flows: &[Flow]) -> usize {
        0
    }

    fn forward(&self, run: &mut Forward<'_>) {
        run.copy_unless_in_place();
        let (view, count) = (run.output(), run.count());
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let ([], [y]) = run.arena.split([], [view.span(count)]);
        softmax::forward(run.isa, run.threads, [count, channels, pixels], None, view.maps_mut(y));
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
        let (y_view, dy_view, count) = (run.output(), run.output_gradient(), run.count);
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let reads = [y_view.span(count), dy_view.span(count)];
        let ([y, dy], [dx]) = run.arena.split(reads, [dx_view.span(count)]);
        let (y, dy, dx) = (y_view.maps(y), Some(dy_view.maps(dy)), dx_view.maps_mut(dx));
        softmax::backward(run.isa, run.threads, [count, channels, pixels], y, dy, dx, accumulate);
    }
}
