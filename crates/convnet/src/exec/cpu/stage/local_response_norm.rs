//! Local response normalisation. Backward keeps the input.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use crate::ops;
use convnet_kernels::local_response_norm::LocalResponseNorm;

#[derive(Debug)]
struct LocalResponseNormStage {
    norm: LocalResponseNorm,
}

/// Adds the stage of a local response normalisation.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &ops::LocalResponseNorm) -> Result<()> {
    let [channels, h, w] = lowering.map(node);
    let norm = LocalResponseNorm::new(channels, h * w, op.size, [op.alpha, op.beta, op.k], lowering.isa());
    lowering.push_alone(node, Box::new(LocalResponseNormStage { norm }))
}

impl Compute for LocalResponseNormStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        self.norm.forward(run.threads, count, x_view.maps(x), y_view.maps_mut(y));
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
        let (x_view, dy_view, count) = (run.input(0), run.output_gradient(), run.count);
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [dx]) = run.arena.split(reads, [dx_view.span(count)]);
        let (x, dy, dx) = (x_view.maps(x), dy_view.maps(dy), dx_view.maps_mut(dx));
        self.norm.backward(run.threads, count, x, dy, dx, accumulate);
    }
}
