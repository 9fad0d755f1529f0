//! Interleaves groups of channels. Backward keeps nothing.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use convnet_kernels::channel_shuffle;

#[derive(Debug)]
struct ChannelShuffle {
    groups: usize,
}

/// Adds the stage of a channel shuffle.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, groups: usize) -> Result<()> {
    lowering.push_alone(node, Box::new(ChannelShuffle { groups }))
}

impl Compute for ChannelShuffle {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::None,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        let (x, y) = (x_view.maps(x), y_view.maps_mut(y));
        channel_shuffle::forward(run.threads, [count, channels, pixels], self.groups, x, y);
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
        let (dy_view, count) = (run.output_gradient(), run.count);
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let ([dy], [dx]) = run.arena.split([dy_view.span(count)], [dx_view.span(count)]);
        let (dy, dx) = (dy_view.maps(dy), dx_view.maps_mut(dx));
        channel_shuffle::backward(run.threads, [count, channels, pixels], self.groups, dy, dx, accumulate);
    }
}
