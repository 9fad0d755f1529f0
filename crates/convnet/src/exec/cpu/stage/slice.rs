//! Some of the input's channels, copied. Backward keeps nothing; channels that are left out get a gradient of 0.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use convnet_kernels::layout::blocks;
use convnet_kernels::merge::{self, ChannelCopy};
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct Slice {
    start: usize,
}

/// Adds the stage of a slice that begins with a channel.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, start: usize) -> Result<()> {
    lowering.push_alone(node, Box::new(Slice { start }))
}

impl Compute for Slice {
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
        if !channels.is_multiple_of(LANES) {
            let last = channels / LANES..blocks(channels);
            merge::clear_blocks(run.threads, [count, pixels], last, y_view.maps_mut(y));
        }
        let copy = ChannelCopy { batch: count, pixels, count: channels, from: self.start, to: 0 };
        merge::copy_channels(run.threads, &copy, x_view.maps(x), y_view.maps_mut(y), false);
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
        let (dy_view, count) = (run.output_gradient(), run.count);
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let [all, _] = run.producer(0).output.channels_and_pixels();
        let ([dy], [dx]) = run.arena.split([dy_view.span(count)], [dx_view.span(count)]);
        if !accumulate {
            merge::clear_blocks(run.threads, [count, pixels], 0..blocks(all), dx_view.maps_mut(dx));
        }
        let copy = ChannelCopy { batch: count, pixels, count: channels, from: 0, to: self.start };
        merge::copy_channels(run.threads, &copy, dy_view.maps(dy), dx_view.maps_mut(dx), accumulate);
    }
}
