//! Each channel times a trained number: a norm chain whose scale is that number and which normalises nothing. Backward keeps
//! the input, whose place its gradient may take.

use super::norm::NormState;
use super::norm_act::{backward_data, given};
use super::{Backward, Compute, Forward, State};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use crate::ops::Activation;
use convnet_kernels::layout::blocks;
use convnet_kernels::norm::NormChain;
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct LayerScale {
    chain: NormChain,
    channels: usize,
    scale: usize,
}

/// Adds the stage of a layer scale.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    let [channels, h, w] = lowering.map(node);
    let chain = NormChain::new(channels, [h, w], Activation::Identity, false, lowering.isa());
    let scale = lowering.vector(node, "layer_scale");
    lowering.push_alone(node, Box::new(LayerScale { chain, channels, scale }))
}

impl Compute for LayerScale {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::ReplacesInput,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: true,
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
            let (count, [x_view, y_view]) = (run.count(), run.views());
            let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
            let (x, y, scale) = (x_view.maps(x), y_view.maps_mut(y), run.weights.get(self.scale));
            self.chain.forward(run.threads, count, x, scale, &state.shift, None, y);
        });
    }

    fn backward(&self, run: &mut Backward<'_>) {
        run.with_state(|run, state: &mut NormState| {
            let scale = run.weights.get(self.scale);
            state.scale.copy_from_slice(scale);
            state.factor.copy_from_slice(scale);
            if let Some(slot) = run.weights.gradient(self.scale) {
                let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
                let reads = [x_view.span(count), dy_view.span(count)];
                let ([x, dy], [scratch]) = run.arena.split(reads, [run.scratch.clone()]);
                let given = given(count, dy_view.maps(dy), [&state.scale, &state.shift, &state.mean], None);
                let sums = [&mut state.sum[..], &mut run.weight_gradients[slot]];
                self.chain.backward_sums(run.threads, &given, x_view.maps(x), sums, scratch);
            }
            backward_data(run, &self.chain, state, None);
        });
    }
}
