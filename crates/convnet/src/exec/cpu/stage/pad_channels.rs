//! Channels of zeros around the input's. Backward keeps nothing.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use convnet_kernels::merge::{self, ChannelCopy};
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct PadChannels {
    before: usize,
}

/// Adds the stage of a padding of channels.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, before: usize) -> Result<()> {
    lowering.push_alone(node, Box::new(PadChannels { before }))
}

impl Compute for PadChannels {
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
        let [channels, pixels] = run.producer(0).output.channels_and_pixels();
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        let copy = ChannelCopy { batch: count, pixels, count: channels, from: 0, to: self.before };
        let all = 0..y_view.len / (pixels * LANES);
        merge::clear_blocks(run.threads, [count, pixels], all, y_view.maps_mut(y));
        merge::copy_channels(run.threads, &copy, x_view.maps(x), y_view.maps_mut(y), false);
    }

    fn backward(&self, run: &mut Backward<'_>) {
        super::concat::take_channels(run, 0, self.before);
    }
}
