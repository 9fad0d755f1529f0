//! Gradients in evaluation mode, by layers and by the input: what saliency maps and Grad-CAM need.
//!
//! The net is rewritten as for inference, without dropout and with batch norms folded; those that are left take their running
//! statistics. No parameter's gradient is computed, and none of a value below the lowest tap.

use super::Engine;
use super::cpu::lower::{Request, lower};
use super::cpu::plan::Plan;
use super::cpu::session::Session;
use super::cpu::stage::{Mode, Pass};
use super::graph::Purpose;
use super::inference::Structure;
use super::parameters::{Packed, Slot, pack};
use super::taps::Taps;
use crate::net::{Net, NodeId, rewrite};
use crate::ops::{Op, Shape};
use crate::{Error, Result, StateDict};
use convnet_kernels::memory::{Buffer, BufferPart};

/// A net whose output is differentiated by values inside it, in evaluation mode: built by
/// [`InferenceBuilder::build_gradients`](super::InferenceBuilder::build_gradients).
///
/// The gradient of a class's logit by the picture, for a net of one's own:
///
/// ```
/// use convnet::prelude::*;
/// # fn main() -> convnet::Result<()> {
/// let mut net = Net::new("small", Shape::Map([1, 8, 8]))?;
/// net.then("conv", Conv2d::new(4, 3))?;
/// net.then("relu", Activation::Relu)?;
/// net.then("flatten", Op::Flatten)?;
/// net.then("head", Linear::new(3))?;
/// let weights = weights::init(&net, 0);
/// let mut session = Inference::builder(&net, &weights).taps(["input", "relu"]).build_gradients(&Engine::new(1)?)?;
/// let logits = session.forward(&[0.5; 64], 1)?;
/// assert_eq!(logits.len(), 3);
/// session.backward(&[0.0, 1.0, 0.0])?;
/// let (shape, saliency) = session.gradient("input")?;
/// assert_eq!((shape, saliency.len()), (Shape::Map([1, 8, 8]), 64));
/// let (maps, by_maps) = (session.feature("relu")?.1, session.gradient("relu")?.1);
/// assert_eq!(maps.len(), by_maps.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Gradients {
    structure: Structure,
    packed: Packed,
    running: Buffer,
    session: Session,
    /// Gradients of parameters: none is wanted.
    none: BufferPart,
    output: Vec<f32>,
    /// Pictures of the last forward pass.
    count: usize,
    state: State,
}

/// What a session has computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Nothing,
    Forward,
    Backward,
}

impl Gradients {
    /// Plans for up to `batch` pictures; `guided` as [`InferenceBuilder::guided`](super::InferenceBuilder::guided).
    pub(super) fn plan(
        net: &Net,
        parameters: rewrite::Parameters<'_>,
        taps: Taps,
        engine: &Engine,
        (batch, guided): (usize, bool),
    ) -> Result<Gradients> {
        let (structure, parameters) = Structure::new(net, parameters, taps)?;
        if structure.tapped.is_empty() {
            return Err(Error::invalid("gradients: expected a tap, as 'input', by which to differentiate"));
        }
        let reached = structure.net.needed_by([structure.output]);
        if let Some(&node) = structure.tapped.iter().find(|node| !reached[node.index()]) {
            let node = structure.net.node(node);
            let problem = "the output does not depend on this layer, so there is no gradient by it".into();
            return Err(Error::Layer { layer: node.name.clone(), op: node.op.name(), problem });
        }
        let relus = structure.net.nodes().iter().enumerate().filter(|(_, node)| guided && node.op == Op::RELU);
        let lowered = lower(Request {
            outputs: vec![structure.output],
            taps: structure.tapped.clone(),
            guided: relus.map(|(node, _)| NodeId(node)).filter(|node| reached[node.index()]).collect(),
            frozen: vec![true; structure.net.nodes().len()],
            trained: &|_| false,
            ..Request::new(&structure.net, Purpose::Training, engine, batch)
        })?;
        let plan = Plan::new(engine, lowered, Purpose::Training, batch);
        let (packed, running) = packed(&plan, parameters)?;
        let output = vec![0.0; batch * net.output_shape().elements()];
        let session = Session::new(plan);
        let none = BufferPart::default();
        Ok(Gradients { structure, packed, running, session, none, output, count: 0, state: State::Nothing })
    }

    /// The net's output for `count` pictures, `[count, classes]` (or `[count, C, H, W]`), row-major. `images` is NCHW.
    ///
    /// # Errors
    /// [`Error::Setting`] when `count` is 0 or above the planned batch, [`Error::Length`] when `images` has another length.
    pub fn forward(&mut self, images: &[f32], count: usize) -> Result<&[f32]> {
        let input = self.structure.net.input_shape().elements();
        super::check_images(images.len(), input, count, self.session.plan.batch)?;
        let pass = Pass::of(count, Mode::Evaluation);
        self.session.forward((&self.packed, &mut self.running), images, pass);
        (self.count, self.state) = (count, State::Forward);
        let len = count * self.output_len();
        let output = &mut self.output[..len];
        let stage = self.session.plan.graph.outputs[0];
        self.session.read_output(stage, count, output);
        Ok(output)
    }

    /// The gradients at all taps, for a gradient by the output of the last forward pass, of the output's shape: 1 for one class
    /// and 0 for the others gives those of its logit. Forward's values are gone then.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there was no forward pass since the last backward pass, [`Error::Length`] when the gradient has
    /// another length.
    pub fn backward(&mut self, by_output: &[f32]) -> Result<()> {
        if self.state != State::Forward {
            return Err(Error::invalid("backward: expected a forward pass before each backward pass"));
        }
        let expected = self.count * self.output_len();
        if by_output.len() != expected {
            let of = format!("numbers of the gradient by the output of {} pictures", self.count);
            return Err(Error::Length { of, expected, found: by_output.len() });
        }
        self.session.write_output_gradient(self.session.plan.graph.outputs[0], self.count, by_output);
        let pass = Pass::of(self.count, Mode::Evaluation);
        self.session.backward(&self.packed, &mut self.none, pass, &mut |_, _| ());
        self.state = State::Backward;
        Ok(())
    }

    /// What the last forward pass found at a tap, under the name it was given: the shape of a picture's values, and those of
    /// all pictures, NCHW or one row each.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the session has no such tap.
    pub fn feature(&self, tap: &str) -> Result<(Shape, &[f32])> {
        let (index, shape) = self.structure.taps.get(tap)?;
        Ok((shape, &self.session.taps[index].value[..self.count * shape.elements()]))
    }

    /// The gradient by the value at a tap, which lies as [`Gradients::feature`] does.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the session has no such tap, [`Error::Invalid`] when there was no backward pass since the last
    /// forward pass.
    pub fn gradient(&self, tap: &str) -> Result<(Shape, &[f32])> {
        let (index, shape) = self.structure.taps.get(tap)?;
        match self.state {
            State::Backward => Ok((shape, &self.session.taps[index].gradient[..self.count * shape.elements()])),
            State::Nothing | State::Forward => Err(Error::invalid("gradient: expected a backward pass before it")),
        }
    }

    /// Replaces all parameters and buffers.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] when one is missing or has another shape; nothing has changed then.
    pub fn set_weights(&mut self, weights: &StateDict) -> Result<()> {
        (self.packed, self.running) = packed(&self.session.plan, self.structure.rewritten(weights.into())?)?;
        self.state = State::Nothing;
        Ok(())
    }

    /// Bytes of activations, gradients and scratch.
    pub fn arena_bytes(&self) -> usize {
        self.session.bytes()
    }

    fn output_len(&self) -> usize {
        self.structure.net.node(self.structure.output).shape.elements()
    }
}

fn packed(plan: &Plan, mut parameters: rewrite::Parameters<'_>) -> Result<(Packed, Buffer)> {
    let (slots, packing) = (&plan.graph.parameters, |slot: &Slot| plan.packing(slot));
    let flat = pack(plan.engine.pool(), &slots.trained, packing, "", |name| parameters.remove(name))?;
    let running = pack(plan.engine.pool(), &slots.buffers, packing, "", |name| parameters.remove(name))?;
    Ok((Packed::changing(flat), running))
}
