//! Batch norm of the first input, the second added to it, and an activation or nothing: the end of a residual block in
//! training. Backward keeps the first input and, for the activation, the output.

use super::norm::{Norm, NormState};
use super::{Backward, Compute, Forward, State};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use crate::ops::{Activation, BatchNorm2d};
use convnet_kernels::layout::blocks;
use convnet_kernels::norm::{NormChain, SumGiven, SumGradients};
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct NormAdd {
    chain: NormChain,
    channels: usize,
    norm: Norm,
    activation: Activation,
}

/// In training, the sum that only waits for this node, a batch norm, and the stage with its other part.
pub(super) fn sum_after(lowering: &Lowering<'_>, node: usize) -> Option<(usize, usize)> {
    lowering.is_training().then(|| lowering.waiting_sum(node)).flatten()
}

/// Adds the stage of a batch norm: with the sum that waits for it, or as a chain.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &BatchNorm2d) -> Result<()> {
    let norm = Norm::lower(lowering, node, op);
    let input = lowering.input_stage(node, 0);
    match sum_after(lowering, node) {
        // A sum of a norm with its own input would be read and written in one place in backward.
        Some((sum, addend)) if addend != input => {
            let [channels, h, w] = lowering.map(node);
            let (last, activation) = lowering.take_activation(sum);
            let chain = NormChain::new(channels, [h, w], Activation::Identity, false, lowering.isa());
            let layout = Layout::of(lowering.node(last).shape);
            lowering.push(node, last, Box::new(NormAdd { chain, channels, norm, activation }), layout)?;
            lowering.add_input(addend);
            Ok(())
        }
        Some(_) | None => super::norm_act::lower(lowering, node, norm),
    }
}

impl Compute for NormAdd {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: super::activation::output_kept(self.activation),
            input_gradients: InputGradients::ReplacesInputBesideAddend,
            changes_gradient: true,
            normalizes: self.norm.takes_batch_statistics(),
            takes_bf16: false,
        }
    }

    fn backward_scratch(&self, batch: usize, _threads: usize, _flows: &[Flow]) -> usize {
        self.chain.scratch_len(batch)
    }

    fn state(&self, _batch: usize) -> State {
        State::new(NormState::identity(blocks(self.channels) * LANES), 0)
    }

    fn forward(&self, run: &mut Forward<'_>) {
        run.with_state(|run, state: &mut NormState| {
            self.norm.prepare(run, state);
            let (count, [x_view, y_view], addend_view) = (run.count(), run.views(), run.input(1));
            let reads = [x_view, addend_view].map(|view| view.span(count));
            let ([x, addend], [y]) = run.arena.split(reads, [y_view.span(count)]);
            let (x, addend, y) = (x_view.maps(x), addend_view.maps(addend), y_view.maps_mut(y));
            let numbers: [&[f32]; 2] = [&state.scale, &state.shift];
            self.chain.forward_sum(run.threads, count, x, numbers, addend, self.activation, y);
        });
    }

    /// The gradient through the activation, that of the addend, and the sums that the norm needs.
    fn backward_sums(&self, run: &mut Backward<'_>) {
        run.with_state(|run, state: &mut NormState| {
            let (dy_view, x_view, y_view, count) = (run.output_gradient(), run.input(0), run.output(), run.count);
            let addend = run.input_gradient(1);
            let keeps_output = self.facts().output_kept != OutputKept::Nothing;
            let none = run.no_floats();
            let reads = [x_view.span(count), if keeps_output { y_view.span(count) } else { none.clone() }];
            let addend_span = addend.map_or(none, |(view, _)| view.span(count));
            let writes = [dy_view.span(count), addend_span, run.scratch.clone()];
            let ([x, y], [dy, da, scratch]) = run.arena.split(reads, writes);
            let y = keeps_output.then(|| y_view.maps(y));
            let (x, activation) = (x_view.maps(x), self.activation);
            let given = SumGiven { batch: count, x, y, mean: &state.mean, activation };
            let addend = addend.map(|(view, accumulate)| (view.maps_mut(da), accumulate));
            let sums = [&mut state.sum[..], &mut state.product[..]];
            let gradients = SumGradients { dy: dy_view.maps_mut(dy), addend, sums };
            self.chain.backward_sums_of_sum(run.threads, &given, gradients, scratch);
            if self.norm.needs_sums(run) {
                self.norm.write_gradients(run, state);
            }
        });
    }

    fn sums<'s>(&self, state: &'s mut State) -> [&'s mut [f32]; 2] {
        state.get::<NormState>().sums()
    }

    fn backward(&self, run: &mut Backward<'_>) {
        run.with_state(|run, state: &mut NormState| {
            self.norm.fold_gradient(run, state);
            super::norm_act::backward_data(run, &self.chain, state, None);
        });
    }
}
