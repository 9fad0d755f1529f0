//! Maps times one number per channel, the second input: the end of squeeze-and-excitation. Backward keeps both; the maps'
//! gradient takes the place of the output's where they have no other reader.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use convnet_kernels::channel_scale;

#[derive(Debug)]
struct Mul;

/// Adds the stage of a product.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    lowering.push_alone(node, Box::new(Mul))
}

impl Compute for Mul {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::First,
            inputs_kept: InputsKept::All,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Passed,
            changes_gradient: true,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view], s_view) = (run.count(), run.views(), run.input(1));
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let shape = [count, channels, pixels];
        if run.step.in_place.is_some() {
            let ([s], [y]) = run.arena.split([s_view.span(count)], [y_view.span(count)]);
            return channel_scale::in_place(run.isa, run.threads, shape, s_view.maps(s), y_view.maps_mut(y));
        }
        let reads = [x_view.span(count), s_view.span(count)];
        let ([x, s], [y]) = run.arena.split(reads, [y_view.span(count)]);
        let (x, s) = (x_view.maps(x), s_view.maps(s));
        channel_scale::forward(run.isa, run.threads, shape, x, s, y_view.maps_mut(y));
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let (dy_view, x_view, s_view, count) = (run.output_gradient(), run.input(0), run.input(1), run.count);
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let shape = [count, channels, pixels];
        match (run.input_gradient(0), run.input_gradient(1)) {
            (Some((dx_view, accumulate)), flow) => {
                if let Some((ds_view, accumulate)) = flow {
                    let reads = [x_view.span(count), dy_view.span(count)];
                    let ([x, dy], [ds]) = run.arena.split(reads, [ds_view.span(count)]);
                    let (x, dy, ds) = (x_view.maps(x), dy_view.maps(dy), ds_view.maps_mut(ds));
                    channel_scale::backward_scale(run.isa, run.threads, shape, x, dy, ds, accumulate);
                }
                let reads = [dy_view.span(count), s_view.span(count)];
                let ([dy, s], [dx]) = run.arena.split(reads, [dx_view.span(count)]);
                let (dy, s, dx) = (dy_view.maps(dy), s_view.maps(s), dx_view.maps_mut(dx));
                channel_scale::backward_data(run.isa, run.threads, shape, dy, s, dx, accumulate);
            }
            // The maps' gradient lies in the output's, unless nobody asks for it.
            (None, Some((ds_view, accumulate))) => {
                let reads = [x_view.span(count), s_view.span(count)];
                let ([x, s], [dy, ds]) = run.arena.split(reads, [dy_view.span(count), ds_view.span(count)]);
                let (x, s, dy, ds) = (x_view.maps(x), s_view.maps(s), dy_view.maps_mut(dy), ds_view.maps_mut(ds));
                channel_scale::backward_in_place(run.isa, run.threads, shape, x, s, dy, ds, accumulate);
            }
            (None, None) => {
                let ([s], [dy]) = run.arena.split([s_view.span(count)], [dy_view.span(count)]);
                channel_scale::in_place(run.isa, run.threads, shape, s_view.maps(s), dy_view.maps_mut(dy));
            }
        }
    }
}
