//! Softmax over the channels of each pixel, or over features. Backward keeps the output.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use convnet_kernels::softmax;

#[derive(Debug)]
struct Softmax;

/// Adds the stage of a softmax.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    lowering.push_alone(node, Box::new(Softmax))
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

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let shape = [count, channels, pixels];
        if run.step.in_place.is_some() {
            let ([], [y]) = run.arena.split([], [y_view.span(count)]);
            return softmax::forward(run.isa, run.threads, shape, None, y_view.maps_mut(y));
        }
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        softmax::forward(run.isa, run.threads, shape, Some(x_view.maps(x)), y_view.maps_mut(y));
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
