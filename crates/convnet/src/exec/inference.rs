//! Inference: a net rewritten for it, planned once, and run on batch after batch.

use super::Engine;
use super::batch_tiling;
use super::cpu::lower::lower;
use super::cpu::plan::Plan;
use super::cpu::session::Session;
use super::cpu::stage::Mode;
use super::graph::{Layout, Purpose};
use super::profile::ProfileRow;
use crate::net::{Net, rewrite};
use crate::{Result, StateDict};
use convnet_kernels::layout::from_blocked;

/// A net ready to run: batch norm folded, ReLU fused, memory planned.
#[derive(Debug)]
pub struct Inference {
    session: Session,
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
        Inference::in_tiles(net, engine, batch, weights, |net| batch_tiling::pictures(net, batch))
    }

    /// The same, with as many pictures at a time for each node of the net as it is run.
    pub(super) fn in_tiles(
        net: &Net,
        engine: &Engine,
        batch: usize,
        weights: &StateDict,
        pictures: impl Fn(&Net) -> Vec<usize>,
    ) -> Result<Inference> {
        super::check_batch(net, batch)?;
        let (net, state) = rewrite::inference(net, weights)?;
        let nodes = net.nodes().len();
        let mut lowered = lower(&net, Purpose::Inference, engine, batch, pictures(&net), vec![true; nodes])?;
        lowered.choose_storage(engine);
        let mut session = Session::new(Plan::new(engine, lowered, Purpose::Inference, batch), &state)?;
        session.fix_parameters();
        let output_len = net.output_shape().elements();
        let input_len = net.input_shape().elements();
        Ok(Inference { session, output: vec![0.0; batch * output_len], input_len, output_len })
    }

    /// The net's output for `count` pictures, `[count, classes]` (or `[count, C, H, W]`), row-major. `images` is NCHW.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when `count` is above the planned batch or `images` has another length.
    pub fn run(&mut self, images: &[f32], count: usize) -> Result<&[f32]> {
        super::check_images(images.len(), self.input_len, count, self.session.plan.batch)?;
        self.session.forward(images, count, Mode::Inference);
        let plan = &self.session.plan;
        let last = plan.graph.outputs[0];
        let view = plan.views[last];
        let value = self.session.arena.get(&view.span(count));
        let output = &mut self.output[..count * self.output_len];
        match plan.graph.stages[last].output {
            Layout::Plain(len) => output.copy_from_slice(&value[..count * len]),
            Layout::Blocked([c, h, w]) => from_blocked(plan.engine.pool(), [count, c, h * w], view.maps(value), output),
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
        self.session.bytes()
    }

    /// Switches the measuring of each stage on or off, and forgets what was measured.
    pub fn profile(&mut self, on: bool) {
        self.session.profile.switch(on);
    }

    /// What was measured since profiling was switched on.
    pub fn profile_rows(&self) -> Vec<ProfileRow> {
        self.session.profile.rows().to_vec()
    }
}
