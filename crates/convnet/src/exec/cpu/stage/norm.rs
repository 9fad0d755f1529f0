//! Batch norm's numbers, for the stages that begin with one: `scale · x + shift` per channel, and its gradient.

use super::{Backward, Fixed, Forward, Mode};
use crate::exec::cpu::lower::Lowering;
use crate::ops::BatchNorm2d;
use convnet_kernels::memory::Buffer;

/// A batch norm in front of a chain.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    /// Pixels of a channel of one picture.
    pixels: usize,
    eps: f32,
    momentum: f32,
    /// Indices of γ and β among the trained parameters.
    weight: usize,
    bias: usize,
    /// Indices of mean and variance among the buffers.
    running: [usize; 2],
    /// Whether it normalises with its running statistics in training, too, and leaves them as they are.
    frozen: bool,
}

/// Numbers per channel, each padded to whole blocks.
#[derive(Debug)]
pub(super) struct NormState {
    pub(super) mean: Buffer,
    pub(super) var: Buffer,
    pub(super) scale: Buffer,
    pub(super) shift: Buffer,
    /// Backward's sums of `dz` and of `dz · (x - mean)`, which become the gradients of β and γ.
    pub(super) sum: Buffer,
    pub(super) product: Buffer,
    /// `dx = factor · dz + slope · x + offset`.
    pub(super) factor: Buffer,
    pub(super) slope: Buffer,
    pub(super) offset: Buffer,
}

impl NormState {
    /// Numbers that change nothing, for so many channels in whole blocks.
    pub(super) fn identity(len: usize) -> NormState {
        let [zeros, ones] = [0.0, 1.0].map(|value| {
            move || {
                let mut buffer = Buffer::zeros(len);
                buffer.fill(value);
                buffer
            }
        });
        NormState {
            mean: zeros(),
            var: zeros(),
            scale: ones(),
            shift: zeros(),
            sum: zeros(),
            product: zeros(),
            factor: ones(),
            slope: zeros(),
            offset: zeros(),
        }
    }

    /// Backward's two sums.
    pub(super) fn sums(&mut self) -> [&mut [f32]; 2] {
        [&mut self.sum, &mut self.product]
    }

    /// `dx = factor · dz + slope · x + offset`, as kernels take it.
    pub(super) fn linear(&self) -> [&[f32]; 3] {
        [&self.factor, &self.slope, &self.offset]
    }

    /// `scale` and `shift` from mean, variance, γ and β.
    fn fold(&mut self, eps: f32, gamma: &[f32], beta: &[f32]) {
        for c in 0..self.scale.len() {
            self.scale[c] = gamma[c] / (self.var[c] + eps).sqrt();
            self.shift[c] = beta[c] - self.mean[c] * self.scale[c];
        }
    }
}

impl Norm {
    /// A node's numbers and parameters.
    pub(super) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &BatchNorm2d) -> Norm {
        let [_, h, w] = lowering.map(node);
        Norm {
            pixels: h * w,
            eps: op.eps,
            momentum: op.momentum,
            weight: lowering.vector(node, "weight"),
            bias: lowering.vector(node, "bias"),
            running: ["running_mean", "running_var"].map(|name| lowering.vector(node, name)),
            frozen: lowering.is_frozen(node),
        }
    }

    /// Whether it normalises with the batch's statistics in training.
    pub(super) fn takes_batch_statistics(&self) -> bool {
        !self.frozen
    }

    /// Whether backward needs the sums in a state: for the norm's own gradients, or those of the batch's statistics.
    pub(super) fn needs_sums(&self, run: &Backward<'_>) -> bool {
        !self.frozen || [self.weight, self.bias].into_iter().any(|slot| run.weights.gradient(slot).is_some())
    }

    /// Prepares `state` for a forward call: from the statistics of the stage's input, where the batch's statistics are taken.
    pub(super) fn prepare(&self, run: &mut Forward<'_>, state: &mut NormState) {
        match (run.mode, self.frozen) {
            // Parameters are fixed, and folded already.
            (Mode::Inference, _) => {}
            (Mode::Training { .. } | Mode::Statistics { .. } | Mode::Evaluation, true) => {
                let [mean, var] = self.running.map(|slot| &run.running[run.running_slots[slot].range.clone()]);
                state.mean.copy_from_slice(mean);
                state.var.copy_from_slice(var);
                state.fold(self.eps, run.weights.get(self.weight), run.weights.get(self.bias));
            }
            (Mode::Training { .. } | Mode::Statistics { .. } | Mode::Evaluation, false) => {
                for &(source, first) in &run.step.sources {
                    let [channels, _] = run.stages[source].output.channels_and_pixels();
                    let found = run.statistics[source].as_ref().expect("what a norm reads has statistics");
                    state.mean[first..first + channels].copy_from_slice(&found.mean[..channels]);
                    state.var[first..first + channels].copy_from_slice(&found.var[..channels]);
                }
                self.take_batch(run, state);
            }
        }
    }

    /// Takes the batch's mean and variance in `state`, and moves the running ones towards them.
    pub(super) fn take_batch(&self, run: &mut Forward<'_>, state: &mut NormState) {
        state.fold(self.eps, run.weights.get(self.weight), run.weights.get(self.bias));
        let running = self.running.map(|slot| run.running_slots[slot].range.clone());
        let [mean, var] = run.running.get_disjoint_mut(running).expect("slots do not overlap");
        let elements = run.normalized * self.pixels;
        update_running(run.mode.momentum(self.momentum), elements, state, mean, var);
    }

    /// Folds the running statistics into the stage's state, for an inference.
    pub(super) fn fix(&self, fixed: Fixed<'_>) {
        let Fixed { weights, running, running_slots, state } = fixed;
        let state: &mut NormState = state.get();
        let [mean, var] = self.running.map(|slot| &running[running_slots[slot].range.clone()]);
        state.mean.copy_from_slice(mean);
        state.var.copy_from_slice(var);
        state.fold(self.eps, weights.get(self.weight), weights.get(self.bias));
    }

    fn inverse_deviation(&self, var: f32) -> f32 {
        1.0 / (var + self.eps).sqrt()
    }

    /// From the two sums in `state`, the gradients of γ and β.
    pub(super) fn write_gradients(&self, run: &mut Backward<'_>, state: &mut NormState) {
        for (product, &var) in state.product.iter_mut().zip(state.var.iter()) {
            *product *= self.inverse_deviation(var);
        }
        for (slot, gradient) in [(self.weight, &state.product), (self.bias, &state.sum)] {
            if let Some(range) = run.weights.gradient(slot) {
                run.weight_gradients[range].copy_from_slice(gradient);
            }
        }
    }

    /// What the input's gradient is computed with, from these sums over all that is normalised together.
    pub(super) fn fold_gradient(&self, run: &Backward<'_>, state: &mut NormState) {
        state.factor.copy_from_slice(&state.scale);
        // Frozen statistics do not change with the input.
        if self.frozen {
            return;
        }
        let elements = (run.normalized * self.pixels) as f32;
        for c in 0..state.sum.len() {
            let inverse = self.inverse_deviation(state.var[c]);
            let scale = state.scale[c] / elements;
            state.slope[c] = -scale * state.product[c] * inverse;
            state.offset[c] = -scale * state.sum[c] - state.slope[c] * state.mean[c];
        }
    }
}

/// Moves the running mean and variance towards the batch's (PyTorch: the variance is the unbiased one).
fn update_running(momentum: f32, elements: usize, batch: &NormState, mean: &mut [f32], var: &mut [f32]) {
    let unbiased = elements as f32 / (elements.max(2) - 1) as f32;
    for c in 0..batch.mean.len() {
        mean[c] = (1.0 - momentum) * mean[c] + momentum * batch.mean[c];
        var[c] = (1.0 - momentum) * var[c] + momentum * batch.var[c] * unbiased;
    }
}
