//! A linear layer with its bias and an activation. It reads maps as they lie where a flattening is left out. Backward keeps
//! the input and, for the activation, the output.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout};
use crate::exec::parameters::Packing;
use crate::ops::{self, Activation};
use convnet_kernels::linear::Linear;
use convnet_kernels::memory::Buffer;
use convnet_kernels::reduce;
use convnet_kernels::threads::Threads;

#[derive(Debug)]
struct LinearStage {
    linear: Linear,
    weight: usize,
    bias: Option<usize>,
    activation: Activation,
}

impl Packing for Linear {
    fn pack(&self, threads: &Threads, plain: &[f32], packed: &mut [f32]) {
        self.pack_weights(threads, plain, packed);
    }

    fn unpack(&self, packed: &[f32], plain: &mut [f32]) {
        self.unpack_weights(packed, plain);
    }

    fn fix(&self, threads: &Threads, packed: &mut [f32]) {
        self.prepare_weights(threads, packed);
    }

    fn words(&self, _threads: &Threads, _packed: &[f32]) -> Option<Buffer> {
        None
    }

    fn reads_words(&self) -> bool {
        false
    }
}

/// Adds the stage of a linear layer.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &ops::Linear) -> Result<()> {
    let maps = lowering.input_layout(node, 0).channels_and_pixels();
    let setting = lowering.setting();
    let linear = Linear::new(maps, op.out_features, lowering.isa(), setting.precision, setting.fixed_weights);
    let weight = lowering.packed(node, "weight", linear.weights_len());
    let bias = op.bias.then(|| lowering.vector(node, "bias"));
    let (last, activation) = lowering.take_activation(node);
    let layout = Layout::of(lowering.node(node).shape);
    lowering.push(node, last, Box::new(LinearStage { linear, weight, bias, activation }), layout)
}

impl Compute for LinearStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: super::activation::output_kept(self.activation),
            input_gradients: InputGradients::Computed,
            changes_gradient: self.activation != Activation::Identity,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward_scratch(&self, _pictures: usize, threads: usize) -> usize {
        self.linear.scratch_len(threads)
    }

    fn backward_scratch(&self, _batch: usize, threads: usize, _flows: &[Flow]) -> usize {
        self.linear.scratch_len(threads)
    }

    fn packing(&self, _weight: usize) -> Option<&dyn Packing> {
        Some(&self.linear)
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view], scratch) = (run.count(), run.views(), run.scratch());
        let ([x], [y, scratch]) = run.arena.split([x_view.span(count)], [y_view.span(count), scratch]);
        let (weights, bias) = (run.weights.get(self.weight), self.bias.map(|bias| run.weights.get(bias)));
        self.linear.forward(run.threads, count, x, weights, bias, self.activation, y, scratch);
    }

    fn backward(&self, run: &mut Backward<'_>) {
        super::activation::backward_in_place(run, self.activation);
        let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [scratch]) = run.arena.split(reads, [run.scratch.clone()]);
        if let Some(slot) = run.weights.gradient(self.weight) {
            self.linear.backward_weights(run.threads, count, x, dy, &mut run.weight_gradients[slot], scratch);
        }
        if let Some(bias) = self.bias.and_then(|bias| run.weights.gradient(bias)) {
            let db = &mut run.weight_gradients[bias];
            reduce::sum_rows(run.isa, run.threads, [count, self.linear.output_len()], dy_view.maps(dy), db);
        }
        if let Some((dx_view, accumulate)) = run.input_gradient(0) {
            let writes = [dx_view.span(count), run.scratch.clone()];
            let ([dy], [dx, scratch]) = run.arena.split([dy_view.span(count)], writes);
            let weights = run.weights.get(self.weight);
            self.linear.backward_data(run.threads, count, dy, weights, dx, accumulate, scratch);
        }
    }
}
