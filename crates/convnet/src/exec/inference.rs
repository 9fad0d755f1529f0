//! Inference: a net rewritten for it, planned once, and run on batch after batch.
//!
//! Sessions for different batch sizes share the rewritten net and the packed weights. Packing does not depend on the batch size,
//! but for convolutions in bf16 that Winograd's algorithm computes at some sizes: their weights are held in both forms.

use super::cpu::lower::{Request, lower};
use super::cpu::plan::Plan;
use super::cpu::session::Session;
use super::cpu::stage::{Mode, Pass};
use super::graph::Purpose;
use super::parameters::{Packed, Slot, pack};
use super::profile::ProfileRow;
use super::taps::Taps;
use super::{Engine, Gradients, batch_tiling};
use crate::net::rewrite::{self, Rewritten};
use crate::net::{Net, NodeId};
use crate::ops::Shape;
use crate::{Result, StateDict};
use convnet_kernels::memory::Buffer;
use std::borrow::Cow;
use std::sync::Arc;

/// The parameters and buffers of a net that an inference is planned for: lent, or given. Given ones are freed while they are
/// packed, so that there are never two copies of all of them.
#[derive(Clone, Debug)]
pub struct Weights<'a>(rewrite::Parameters<'a>);

impl<'a> From<&'a StateDict> for Weights<'a> {
    fn from(state: &'a StateDict) -> Weights<'a> {
        Weights(rewrite::borrowed(state))
    }
}

impl From<StateDict> for Weights<'_> {
    fn from(state: StateDict) -> Self {
        Weights(state.into_iter().map(|(name, tensor)| (name, Cow::Owned(tensor))).collect())
    }
}

/// What an inference is planned for: see [`Inference::builder`].
#[derive(Clone, Debug)]
pub struct InferenceBuilder<'a> {
    net: &'a Net,
    weights: Weights<'a>,
    batch: usize,
    methods: Option<usize>,
    taps: Vec<String>,
    guided: bool,
}

impl InferenceBuilder<'_> {
    /// Most pictures of a call; 1 unless this is called.
    #[must_use]
    pub fn batch(self, pictures: usize) -> Self {
        InferenceBuilder { batch: pictures, ..self }
    }

    /// Chooses the method of each convolution as for batches of so many pictures, whatever [`InferenceBuilder::batch`] says. A
    /// picture's values then have the same bits in sessions of every batch size ([`Inference::with_batch`]); otherwise methods
    /// are those that are fastest for the batch, and values may differ by rounding.
    #[must_use]
    pub fn methods_for(self, pictures: usize) -> Self {
        InferenceBuilder { methods: Some(pictures.max(1)), ..self }
    }

    /// Layers whose values are kept for the caller: names of nodes, or the path that the names of a block's nodes begin with
    /// (`layer4`), which stands for the block's last node. Each is an output of its own then: nothing is fused past it.
    #[must_use]
    pub fn taps<T: Into<String>>(mut self, layers: impl IntoIterator<Item = T>) -> Self {
        self.taps.extend(layers.into_iter().map(Into::into));
        self
    }

    /// In [`InferenceBuilder::build_gradients`], whether each ReLU passes back the positive part of its output's gradient alone
    /// (guided backpropagation, Springenberg et al. 2015). What is found then is no gradient.
    #[must_use]
    pub fn guided(self, guided: bool) -> Self {
        InferenceBuilder { guided, ..self }
    }

    /// Plans the inference.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] when the batch is 0, [`crate::Error::Unknown`] when a tap is no layer of the net, [`crate::Error::Missing`] or
    /// [`crate::Error::Shape`] when a parameter is missing or has another shape.
    pub fn build(self, engine: &Engine) -> Result<Inference> {
        let batch = self.batch;
        self.in_tiles(engine, |net| batch_tiling::pictures_in(net, batch, engine.caches()))
    }

    /// The same, with as many pictures at a time for each node of the net as it is run.
    pub(super) fn in_tiles(self, engine: &Engine, pictures: impl Fn(&Net) -> Vec<usize>) -> Result<Inference> {
        super::check_batch(self.net, self.batch)?;
        let taps = Taps::new(self.net, &self.taps)?;
        let (structure, parameters) = Structure::new(self.net, self.weights.0, taps)?;
        let structure = Structure { methods: self.methods, ..structure };
        let pictures = pictures(&structure.net);
        let plan = structure.plan(engine, self.batch, pictures)?;
        let weights = Fixed::pack(&plan, parameters)?;
        Ok(Inference::of(Arc::new(structure), Arc::new(weights), plan))
    }

    /// Plans forward and backward instead: gradients in evaluation mode, by the taps.
    ///
    /// # Errors
    /// As [`InferenceBuilder::build`], and when there is no tap or the output does not depend on one.
    pub fn build_gradients(self, engine: &Engine) -> Result<Gradients> {
        super::check_batch(self.net, self.batch)?;
        let taps = Taps::new(self.net, &self.taps)?;
        Gradients::plan(self.net, self.weights.0, taps, engine, (self.batch, self.guided))
    }
}

/// A net as it was described and as it is run.
#[derive(Debug)]
pub(super) struct Structure {
    described: Net,
    pub(super) taps: Taps,
    /// Rewritten for inference; the others are of its nodes.
    pub(super) net: Net,
    pub(super) output: NodeId,
    pub(super) tapped: Vec<NodeId>,
    /// Pictures for which methods are chosen, where that is not the batch.
    methods: Option<usize>,
}

impl Structure {
    /// Rewrites a net, and its parameters.
    pub(super) fn new<'w>(
        net: &Net,
        parameters: rewrite::Parameters<'w>,
        taps: Taps,
    ) -> Result<(Structure, rewrite::Parameters<'w>)> {
        let nodes = taps.nodes();
        let rewritten = rewrite::inference_keeping(net, parameters, &nodes)?;
        let (output, tapped) = (rewritten.kept(net.output()), nodes.iter().map(|&node| rewritten.kept(node)).collect());
        let Rewritten { net: run, parameters, .. } = rewritten;
        Ok((Structure { described: net.clone(), taps, net: run, output, tapped, methods: None }, parameters))
    }

    /// Other weights of the net, as it is run.
    pub(super) fn rewritten<'w>(&self, weights: Weights<'w>) -> Result<rewrite::Parameters<'w>> {
        Ok(rewrite::inference_keeping(&self.described, weights.0, &self.taps.nodes())?.parameters)
    }

    fn plan(&self, engine: &Engine, batch: usize, pictures: Vec<usize>) -> Result<Plan> {
        let outputs = vec![self.output];
        let methods = batch_tiling::pictures(&self.net, self.methods.unwrap_or(batch));
        let request = Request::new(&self.net, Purpose::Inference, engine, batch);
        let mut lowered = lower(Request { pictures, methods, outputs, taps: self.tapped.clone(), ..request })?;
        lowered.choose_storage(engine);
        Ok(Plan::new(engine, lowered, Purpose::Inference, batch))
    }
}

/// Packed weights that do not change, for plans of any batch size.
#[derive(Debug)]
struct Fixed {
    packed: Packed,
    running: Buffer,
}

impl Fixed {
    fn pack(plan: &Plan, mut parameters: rewrite::Parameters<'_>) -> Result<Fixed> {
        let (slots, threads) = (&plan.graph.parameters, plan.engine.pool());
        let packing = |slot: &Slot| plan.packing(slot);
        let flat = pack(threads, &slots.trained, packing, "", |name| parameters.remove(name))?;
        let running = pack(threads, &slots.buffers, packing, "", |name| parameters.remove(name))?;
        Ok(Fixed { packed: Packed::fixed(flat, &slots.trained, packing, threads), running })
    }
}

/// A net ready to run: batch norm folded, ReLU fused, memory planned.
#[derive(Debug)]
pub struct Inference {
    structure: Arc<Structure>,
    weights: Arc<Fixed>,
    session: Session,
    output: Vec<f32>,
    /// Pictures of the last run.
    count: usize,
}

impl Inference {
    /// Plans a net for batches of up to `batch` pictures. `weights` holds every parameter and buffer of the net.
    ///
    /// # Errors
    /// As [`InferenceBuilder::build`].
    pub fn new<'a>(net: &'a Net, engine: &Engine, batch: usize, weights: impl Into<Weights<'a>>) -> Result<Inference> {
        Inference::builder(net, weights).batch(batch).build(engine)
    }

    /// Begins to say what to plan a net for. `weights` holds every parameter and buffer of the net.
    ///
    /// ```
    /// use convnet::prelude::*;
    /// # fn main() -> convnet::Result<()> {
    /// let net = zoo::by_name("resnet20", &zoo::ZooOptions::default())?;
    /// let weights = weights::init(&net, 0);
    /// let mut inference = Inference::builder(&net, &weights).batch(2).taps(["layer2"]).build(&Engine::new(1)?)?;
    /// inference.run(&vec![0.5; 2 * 3 * 32 * 32], 2)?;
    /// let (shape, features) = inference.feature("layer2")?;
    /// assert_eq!((shape, features.len()), (Shape::Map([32, 16, 16]), 2 * 32 * 16 * 16));
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder<'a>(net: &'a Net, weights: impl Into<Weights<'a>>) -> InferenceBuilder<'a> {
        InferenceBuilder { net, weights: weights.into(), batch: 1, methods: None, taps: Vec::new(), guided: false }
    }

    /// The same net, taps and weights for batches of another size, with memory of its own; what does not depend on the size is
    /// shared. Neither sees the other's [`Inference::set_weights`].
    ///
    /// # Errors
    /// [`crate::Error::Setting`] when `batch` is 0, [`crate::Error::Layer`] when it is too large.
    pub fn with_batch(&self, batch: usize) -> Result<Inference> {
        super::check_batch(&self.structure.described, batch)?;
        let engine = &self.session.plan.engine;
        let pictures = batch_tiling::pictures_in(&self.structure.net, batch, engine.caches());
        let plan = self.structure.plan(engine, batch, pictures)?;
        Ok(Inference::of(Arc::clone(&self.structure), Arc::clone(&self.weights), plan))
    }

    fn of(structure: Arc<Structure>, weights: Arc<Fixed>, plan: Plan) -> Inference {
        let output = vec![0.0; plan.batch * structure.described.output_shape().elements()];
        let mut session = Session::new(plan);
        session.fix_parameters(&weights.packed, &weights.running);
        Inference { structure, weights, session, output, count: 0 }
    }

    /// Replaces all parameters and buffers.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] or [`crate::Error::Shape`] when one is missing or has another shape; nothing has changed then.
    pub fn set_weights(&mut self, weights: &StateDict) -> Result<()> {
        let weights = Fixed::pack(&self.session.plan, self.structure.rewritten(weights.into())?)?;
        self.session.fix_parameters(&weights.packed, &weights.running);
        self.weights = Arc::new(weights);
        Ok(())
    }

    /// Most pictures of a call.
    pub fn batch(&self) -> usize {
        self.session.plan.batch
    }

    /// The net's output for `count` pictures, `[count, classes]` (or `[count, C, H, W]`), row-major. `images` is NCHW.
    ///
    /// # Errors
    /// [`crate::Error::Setting`] when `count` is 0 or above the planned batch, [`crate::Error::Length`] when `images` has another length.
    pub fn run(&mut self, images: &[f32], count: usize) -> Result<&[f32]> {
        let described = &self.structure.described;
        super::check_images(images.len(), described.input_shape().elements(), count, self.session.plan.batch)?;
        self.session.forward((&self.weights.packed, &mut []), images, Pass::of(count, Mode::Inference));
        self.count = count;
        let output = &mut self.output[..count * described.output_shape().elements()];
        self.session.read_output(self.session.plan.graph.outputs[0], count, output);
        Ok(output)
    }

    /// What the last run found at a tap, under the name it was given: the shape of a picture's values, and those of all
    /// pictures, NCHW or one row each.
    ///
    /// # Errors
    /// [`crate::Error::Unknown`] when the session has no such tap.
    pub fn feature(&self, tap: &str) -> Result<(Shape, &[f32])> {
        let (index, shape) = self.structure.taps.get(tap)?;
        Ok((shape, &self.session.taps[index].value[..self.count * shape.elements()]))
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

    /// Whether two sessions read the same packed weights, and the bytes of these.
    #[cfg(test)]
    pub(super) fn shares_weights(&self, other: &Inference) -> (bool, usize) {
        (Arc::ptr_eq(&self.weights, &other.weights), self.weights.packed.bytes())
    }
}
