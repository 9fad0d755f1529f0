//! A first convolution of few products and the chain with a norm that alone reads it, in training: the convolution's output
//! is never stored (`kernels/stem`).

use super::conv::ConvPacking;
use super::dropout::DropNode;
use super::norm::{Norm, NormState};
use super::{Backward, Compute, Forward, State};
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use crate::exec::parameters::Packing;
use convnet_kernels::layout::blocks;
use convnet_kernels::simd::LANES;
use convnet_kernels::stem::{Stem, StemInput, StemNorm, StemState};

#[derive(Debug)]
pub(super) struct StemStage {
    pub(super) stem: Stem,
    pub(super) channels: usize,
    pub(super) weight: usize,
    pub(super) bias: Option<usize>,
    pub(super) norm: Norm,
    pub(super) drop: Option<DropNode>,
}

/// What a session keeps for it.
struct Kept {
    norm: NormState,
    stem: StemState,
}

impl Compute for StemStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            // It normalises what it computes itself.
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward_scratch(&self, pictures: usize, threads: usize) -> usize {
        self.stem.forward_scratch(pictures, threads)
    }

    fn backward_scratch(&self, batch: usize, threads: usize, _flows: &[Flow]) -> usize {
        self.stem.backward_scratch(batch, threads)
    }

    fn state(&self, batch: usize) -> State {
        let stem = self.stem.state(batch);
        let bytes = stem.bytes();
        State::new(Kept { norm: NormState::identity(blocks(self.channels) * LANES), stem }, bytes)
    }

    fn packing(&self, _weight: usize) -> Option<&dyn Packing> {
        Some(self.stem.conv() as &ConvPacking)
    }

    fn forward(&self, run: &mut Forward<'_>) {
        run.with_state(|run, Kept { norm: numbers, stem: own }: &mut Kept| {
            let (count, [x_view, y_view], drop) = (run.count(), run.views(), run.mode.drop(self.drop));
            let (weights, bias) = (run.weights.get(self.weight), self.bias.map(|bias| run.weights.get(bias)));
            let scratch = run.scratch();
            let ([x], [scratch]) = run.arena.split([x_view.span(count)], [scratch]);
            let input = StemInput { batch: count, x: x_view.maps(x), weights, bias };
            self.stem.statistics(run.threads, &input, own, [&mut numbers.mean, &mut numbers.var], scratch);
            self.norm.take_batch(run, numbers);
            let scratch = run.scratch();
            let ([x], [y, scratch]) = run.arena.split([x_view.span(count)], [y_view.span(count), scratch]);
            let input = StemInput { batch: count, x: x_view.maps(x), weights, bias };
            let norm = StemNorm { scale: &numbers.scale, shift: &numbers.shift, drop };
            self.stem.forward(run.threads, &input, &norm, own, y_view.maps_mut(y), scratch);
        });
    }

    /// Gradients of the parameters, all of which are trained where it runs. That of the convolution's bias stays 0.
    fn backward(&self, run: &mut Backward<'_>) {
        run.with_state(|run, Kept { norm: numbers, stem: own }: &mut Kept| {
            let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
            let reads = [x_view.span(count), dy_view.span(count)];
            let ([x, dy], [scratch]) = run.arena.split(reads, [run.scratch.clone()]);
            let (weights, bias) = (run.weights.get(self.weight), self.bias.map(|bias| run.weights.get(bias)));
            let input = StemInput { batch: count, x: x_view.maps(x), weights, bias };
            let slot = run.weights.slots[self.weight].range.clone();
            let dw = &mut run.weight_gradients[slot.clone()];
            let sums = [&mut numbers.sum[..], &mut numbers.product[..]];
            let (drop, dy) = (run.mode.drop(self.drop), dy_view.maps(dy));
            self.stem.backward_sums(run.threads, &input, drop, own, dy, dw, sums, scratch);
            self.norm.write_gradients(run, numbers);
            self.norm.fold_gradient(run, numbers);
            let dw = &mut run.weight_gradients[slot];
            self.stem.backward_weights(count, weights, own, [&numbers.factor, &numbers.slope], dw);
        });
    }
}
