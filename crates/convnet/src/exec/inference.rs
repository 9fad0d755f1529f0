//! Inference: a net rewritten for it, planned once, and run on batch after batch.

use super::Engine;
use super::cut::cut;
use super::forward::{Executor, Mode, plan};
use super::profile::ProfileRow;
use super::stage::{Layout, Purpose, Weights};
use super::stored::choose_storage;
use super::waves;
use crate::net::{Net, rewrite};
use crate::{Result, StateDict};
use convnet_kernels::layout::from_blocked;

/// A net ready to run: batch norm folded, ReLU fused, memory planned.
#[derive(Debug)]
pub struct Inference {
    executor: Executor,
    output: Vec<f32>,
    input_len: usize,
    output_len: usize,
}

impl Inference {
    /// Plans a net for batches of up to `batch` pictures. `weights` holds every parameter and buffer of the net.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when `batch` is 0 or a parameter is missing or has another shape.
    pub fn new(net: &Net, engine: &Engine, batch: usize, weights: &StateDict) -> Result<Inference> {
        Inference::in_waves(net, engine, batch, weights, |net| waves::pictures(net, batch))
    }

    /// The same, with as many pictures at a time for each node of the net as it is run.
    pub(super) fn in_waves(
        net: &Net,
        engine: &Engine,
        batch: usize,
        weights: &StateDict,
        pictures: impl Fn(&Net) -> Vec<usize>,
    ) -> Result<Inference> {
        super::check_batch(net, batch)?;
        let (net, state) = rewrite::inference(net, weights)?;
        let mut stages = cut(&net, Purpose::Inference, engine, batch, pictures(&net))?;
        choose_storage(&mut stages, engine);
        let plan = plan(&stages, Purpose::Inference, batch, engine.threads());
        let mut executor = Executor::new(engine, stages, plan, batch, &state)?;
        fold_running(&mut executor);
        prepare_weights(&mut executor);
        let output_len = net.output_shape().elements();
        let input_len = net.input_shape().elements();
        Ok(Inference { executor, output: vec![0.0; batch * output_len], input_len, output_len })
    }

    /// The net's output for `count` pictures, `[count, classes]` (or `[count, C, H, W]`), row-major. `images` is NCHW.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when `count` is above the planned batch or `images` has another length.
    pub fn run(&mut self, images: &[f32], count: usize) -> Result<&[f32]> {
        super::check_images(images.len(), self.input_len, count, self.executor.batch)?;
        self.executor.forward(images, count, Mode::Inference);
        let executor = &self.executor;
        let last = executor.outputs[0];
        let view = executor.values[last];
        let value = executor.arena.get(&view.span(count));
        let output = &mut self.output[..count * self.output_len];
        match executor.stages[last].output {
            Layout::Plain(len) => output.copy_from_slice(&value[..count * len]),
            Layout::Blocked([c, h, w]) => {
                from_blocked(executor.engine.pool(), [count, c, h * w], view.maps(value), output)
            }
            layout @ Layout::Row(features) => {
                for (to, from) in output.chunks_exact_mut(features).zip(value.chunks_exact(layout.len())) {
                    to.copy_from_slice(&from[..features]);
                }
            }
        }
        Ok(&self.output[..count * self.output_len])
    }

    /// Bytes of activations and scratch.
    pub fn arena_bytes(&self) -> usize {
        self.executor.arena.bytes()
    }

    /// Switches the measuring of each stage on or off, and forgets what was measured.
    pub fn profile(&mut self, on: bool) {
        self.executor.profile.switch(on);
    }

    /// What was measured since profiling was switched on.
    pub fn profile_rows(&self) -> Vec<ProfileRow> {
        self.executor.profile.rows().to_vec()
    }
}

/// Chains that are left normalise with the running statistics.
fn fold_running(executor: &mut Executor) {
    for (stage, state) in executor.stages.iter().zip(&mut executor.chains) {
        if let (Some(norm), Some(state)) = (stage.kind.norm(), state) {
            let [mean, var] = norm.running.map(|i| &executor.running[executor.slots.buffers[i].range.clone()]);
            state.mean.copy_from_slice(mean);
            state.var.copy_from_slice(var);
            let slot = |i: usize| &executor.weights[executor.slots.trained[i].range.clone()];
            state.fold(norm.eps, slot(norm.weight), slot(norm.bias));
        }
    }
}

/// Brings weights, which do not change any more, into the form that kernels multiply.
fn prepare_weights(executor: &mut Executor) {
    let threads = executor.engine.pool();
    for stage in &executor.stages {
        let Some((weight, packing)) = stage.kind.weights() else { continue };
        let packed = &mut executor.weights[executor.slots.trained[weight].range.clone()];
        match packing {
            Weights::Conv(conv) => conv.prepare_weights(threads, packed),
            Weights::Linear(linear) => linear.prepare_weights(threads, packed),
        }
    }
}
