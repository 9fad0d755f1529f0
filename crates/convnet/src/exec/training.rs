//! Training: a net planned once, forward, backward and update, and run step by step without allocation.

use super::Engine;
use super::cpu::lower::lower;
use super::cpu::plan::Plan;
use super::cpu::session::Session;
use super::cpu::stage::Mode;
use super::graph::{Layout, Purpose};
use super::parameters::{flat_len, pack, unpack};
use super::profile::ProfileRow;
use crate::net::{Net, NodeId};
use crate::{Error, Result, StateDict};
use convnet_kernels::memory::Buffer;
use convnet_kernels::{loss, optimizer, random};
use std::collections::BTreeSet;

/// How gradients change weights; PyTorch's formulas. The learning rate is given with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// Stochastic gradient descent (`torch.optim.SGD`).
    Sgd {
        /// Share of the last update that is kept.
        momentum: f32,
        /// Whether the gradient is taken after the momentum.
        nesterov: bool,
        /// Added to the gradient, times the weight.
        weight_decay: f32,
    },
    /// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).
    Adam {
        /// Decay of the first and of the second moment.
        betas: [f32; 2],
        /// Added to the root of the second moment.
        eps: f32,
        /// Added to the gradient times the weight, or taken from the weight if `decoupled`.
        weight_decay: f32,
        /// AdamW.
        decoupled: bool,
    },
}

impl Update {
    /// Adam as PyTorch has it, without weight decay.
    pub const ADAM: Update = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false };
}

/// What one step found, before its update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Mean cross-entropy of the batch, in nats, plus that of auxiliary outputs, weighted.
    pub loss: f64,
    /// Pictures whose largest logit is their label's.
    pub correct: usize,
}

/// Something is trained, and auxiliary outputs give what the output gives and are others.
fn check_outputs(net: &Net) -> Result<()> {
    let (expected, input) = (net.output_shape(), NodeId(0));
    if net.output() == input {
        return Err(Error::invalid(format!("net '{}': expected a layer to train, got an input alone", net.name())));
    }
    for node in net.auxiliaries().iter().map(|auxiliary| auxiliary.node) {
        let found = net.node(node);
        let problem = match found.shape {
            _ if node == input || node == net.output() => {
                "expected an auxiliary output between the input and the last layer, whose loss counts as it is".into()
            }
            shape if shape != expected => format!("an auxiliary output of {shape}, but the net's output is {expected}"),
            _ => continue,
        };
        return Err(Error::Layer { layer: found.name.clone(), op: found.op.name(), problem });
    }
    Ok(())
}

/// A net in training.
#[derive(Debug)]
pub struct Training {
    session: Session,
    /// Of the trained parameters, packed as these are.
    gradients: Buffer,
    update: Update,
    /// Adam's moments, or momentum's velocity and nothing.
    moments: [Buffer; 2],
    losses: Vec<f32>,
    /// Of the net's output and of the auxiliary ones.
    loss_weights: Vec<f32>,
    /// Parameters of nodes that the output does not need, as they came.
    kept: StateDict,
    input_len: usize,
    classes: usize,
    seed: u64,
    steps: u64,
}

impl Training {
    /// Plans training with batches of up to `batch` pictures. `weights` holds every parameter and buffer of the net;
    /// `seed` decides dropout.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `batch` is 0, the net's output is not a vector, or a parameter is missing or has another
    /// shape.
    pub fn new(
        net: &Net,
        engine: &Engine,
        batch: usize,
        weights: &StateDict,
        update: Update,
        seed: u64,
    ) -> Result<Training> {
        Training::with_frozen(net, engine, batch, weights, update, seed, vec![false; net.nodes().len()])
    }

    /// The same, with batch norms that take their running statistics, and leave them, where their node is `frozen`.
    pub(super) fn with_frozen(
        net: &Net,
        engine: &Engine,
        batch: usize,
        weights: &StateDict,
        update: Update,
        seed: u64,
        frozen: Vec<bool>,
    ) -> Result<Training> {
        super::check_batch(net, batch)?;
        let Layout::Row(classes) = Layout::of(net.output_shape()) else {
            let shape = net.output_shape();
            return Err(Error::invalid(format!("training needs a net whose output is a vector, got {shape}")));
        };
        check_outputs(net)?;
        let lowered = lower(net, Purpose::Training, engine, batch, vec![batch; net.nodes().len()], frozen)?;
        let session = Session::new(Plan::new(engine, lowered, Purpose::Training, batch), weights)?;
        let parameters = &session.plan.graph.parameters;
        let len = flat_len(&parameters.trained);
        let second = match update {
            Update::Adam { .. } => len,
            Update::Sgd { .. } => 0,
        };
        let slots = parameters.trained.iter().chain(&parameters.buffers);
        let known: BTreeSet<&str> = slots.map(|slot| slot.name.as_str()).collect();
        let kept = weights.iter().filter(|(name, _)| !known.contains(name.as_str()));
        let kept = kept.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Ok(Training {
            kept,
            gradients: Buffer::zeros(len),
            update,
            moments: [Buffer::zeros(len), Buffer::zeros(second)],
            losses: vec![0.0; batch],
            loss_weights: [1.0].into_iter().chain(net.auxiliaries().iter().map(|a| a.loss_weight)).collect(),
            input_len: net.input_shape().elements(),
            classes,
            seed,
            steps: 0,
            session,
        })
    }

    /// One step on `labels.len()` pictures in NCHW: forward, mean cross-entropy, backward, update.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are more pictures than planned or none, `images` has another length, or a label is
    /// not below the number of classes. Nothing has changed then.
    pub fn step(&mut self, images: &[f32], labels: &[u32], lr: f32) -> Result<Step> {
        let step = self.gradients(images, labels)?;
        let start = self.session.profile.start();
        self.update(lr);
        self.session.profile.stop(start, "optimizer", "update", 0);
        Ok(step)
    }

    /// Forward and backward, without the update.
    fn gradients(&mut self, images: &[f32], labels: &[u32]) -> Result<Step> {
        let count = labels.len();
        super::check_images(images.len(), self.input_len, count, self.session.plan.batch)?;
        if let Some(label) = labels.iter().find(|&&label| label as usize >= self.classes) {
            return Err(Error::invalid(format!("expected labels below {}, got {label}", self.classes)));
        }
        let mode = Mode::Training { seed: random::mix(self.seed, self.steps) };
        self.session.forward(images, count, mode);
        let start = self.session.profile.start();
        let step = self.losses(labels);
        self.session.profile.stop(start, "cross_entropy", "forward", 0);
        self.session.backward(&mut self.gradients, count, mode);
        Ok(step)
    }

    /// The losses of all outputs, and their gradients by the outputs.
    fn losses(&mut self, labels: &[u32]) -> Step {
        let count = labels.len();
        let session = &mut self.session;
        let plan = session.plan.clone();
        let (mut total, mut correct) = (0.0, 0);
        for (which, &weight) in self.loss_weights.iter().enumerate() {
            let stage = plan.graph.outputs[which];
            let (logits, gradient) = (plan.views[stage].span(count), session.output_gradient(stage).span(count));
            let ([logits], [gradient]) = session.arena.split([logits], [gradient]);
            let (threads, losses) = (plan.engine.pool(), &mut self.losses[..count]);
            let shape = [count, self.classes];
            let (loss, right) = loss::cross_entropy(threads, shape, logits, labels, losses, gradient);
            if which == 0 {
                (total, correct) = (loss, right);
            } else {
                total += f64::from(weight) * loss;
                gradient.iter_mut().for_each(|gradient| *gradient *= weight);
            }
        }
        Step { loss: total, correct }
    }

    fn update(&mut self, lr: f32) {
        self.steps += 1;
        let plan = &self.session.plan;
        let (isa, threads) = (plan.engine.set(), plan.engine.pool());
        let (weights, gradients) = (&mut self.session.weights, &self.gradients);
        let [first, second] = &mut self.moments;
        match self.update {
            Update::Sgd { momentum, nesterov, weight_decay } => {
                let sgd = optimizer::Sgd { lr, momentum, nesterov, weight_decay };
                sgd.step(isa, threads, weights, gradients, first);
            }
            Update::Adam { betas, eps, weight_decay, decoupled } => {
                let adam = optimizer::Adam { lr, betas, eps, weight_decay, decoupled };
                adam.step(isa, threads, self.steps, weights, gradients, first, second);
            }
        }
    }

    /// Number of steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All parameters and running statistics as they stand.
    pub fn weights(&self) -> StateDict {
        let mut state = self.kept.clone();
        self.unpack_trained("", &self.session.weights, &mut state);
        let plan = &self.session.plan;
        let buffers = &plan.graph.parameters.buffers;
        unpack(buffers, |stage| plan.packing(stage), "", &self.session.running, &mut state);
        state
    }

    /// Gradients of all trained parameters from the last step.
    pub fn last_gradients(&self) -> StateDict {
        let mut state = StateDict::new();
        self.unpack_trained("", &self.gradients, &mut state);
        state
    }

    /// Tensors that lie as the trained parameters do, added to `state` under their names with `prefix` before them.
    fn unpack_trained(&self, prefix: &str, flat: &[f32], state: &mut StateDict) {
        let plan = &self.session.plan;
        unpack(&plan.graph.parameters.trained, |stage| plan.packing(stage), prefix, flat, state);
    }

    /// Names of the optimizer's tensors, before the parameter's.
    fn moment_names(&self) -> &'static [&'static str] {
        match self.update {
            Update::Adam { .. } => &["exp_avg.", "exp_avg_sq."],
            Update::Sgd { .. } => &["momentum_buffer."],
        }
    }

    /// The optimizer's memory: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>`, or `momentum_buffer.<parameter>`.
    pub fn optimizer_state(&self) -> StateDict {
        let mut state = StateDict::new();
        for (prefix, moments) in self.moment_names().iter().zip(&self.moments) {
            self.unpack_trained(prefix, moments, &mut state);
        }
        state
    }

    /// Takes up training where another stopped: its optimizer's memory and its number of steps. The weights are those
    /// that this training was made with.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a tensor is missing or has another shape; nothing has changed then.
    pub fn restore(&mut self, optimizer: &StateDict, steps: u64) -> Result<()> {
        let mut moments = std::mem::take(&mut self.moments);
        let plan = &self.session.plan;
        let slots = &plan.graph.parameters.trained;
        let packed =
            self.moment_names().iter().map(|prefix| pack(slots, |stage| plan.packing(stage), prefix, optimizer));
        let packed: Result<Vec<Buffer>> = packed.collect();
        let packed = packed.map(|packed| {
            for (target, packed) in moments.iter_mut().zip(packed) {
                *target = packed;
            }
            self.steps = steps;
        });
        self.moments = moments;
        packed
    }

    /// Bytes of activations, gradients of activations, and scratch.
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
