//! All inputs' channels, one after the other. Inputs that lie where they belong cost nothing; the others are copied, and so
//! are their gradients.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use convnet_kernels::layout::blocks;
use convnet_kernels::merge::{self, ChannelCopy};
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct Concat;

/// Adds the stage of a concatenation.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    lowering.push_alone(node, Box::new(Concat))
}

impl Compute for Concat {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Concat,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::None,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Parts,
            changes_gradient: true,
            normalizes: false,
            takes_bf16: true,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, y_view) = (run.count(), run.output());
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let (step, inputs) = (run.step, run.stage().inputs.len());
        // The lanes past the last channel stay 0. A last input that lies where it belongs has seen to that itself.
        let ends = step.copied.last().is_some_and(|copied| copied.input + 1 == inputs);
        if !channels.is_multiple_of(LANES) && ends {
            let ([], [y]) = run.arena.split([], [y_view.span(count)]);
            let last = channels / LANES..blocks(channels);
            merge::clear_blocks(run.threads, [count, pixels], last, y_view.maps_mut(y));
        }
        for copied in &step.copied {
            let x_view = run.input(copied.input);
            let [own, _] = run.producer(copied.input).output.channels_and_pixels();
            let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
            let copy = ChannelCopy { batch: count, pixels, count: own, from: 0, to: copied.channel };
            merge::copy_channels(run.threads, &copy, x_view.maps(x), y_view.maps_mut(y), false);
        }
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let step = run.step;
        for copied in &step.copied {
            take_channels(run, copied.input, copied.channel);
        }
    }
}

/// An input's gradient where it is a range of the output's channels.
pub(super) fn take_channels(run: &mut Backward<'_>, input: usize, before: usize) {
    let Some((dx_view, accumulate)) = run.input_gradient(input) else { return };
    let (dy_view, count) = (run.output_gradient(), run.count);
    let [channels, pixels] = run.producer(input).output.channels_and_pixels();
    let ([dy], [dx]) = run.arena.split([dy_view.span(count)], [dx_view.span(count)]);
    if !channels.is_multiple_of(LANES) && !accumulate {
        let last = channels / LANES..blocks(channels);
        merge::clear_blocks(run.threads, [count, pixels], last, dx_view.maps_mut(dx));
    }
    let copy = ChannelCopy { batch: count, pixels, count: channels, from: before, to: 0 };
    merge::copy_channels(run.threads, &copy, dy_view.maps(dy), dx_view.maps_mut(dx), accumulate);
}
