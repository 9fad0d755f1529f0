//! Training: a net planned once, forward, backward and update, and run step by step without allocation.

use super::Engine;
use super::backward::{BackwardPlan, Gradients};
use super::cut::cut;
use super::forward::{Executor, Mode, plan};
use super::parameters::{pack, unpack};
use super::profile::ProfileRow;
use super::stage::{Layout, Purpose};
use crate::net::{Net, NodeId};
use crate::{Error, Result, StateDict};
use convnet_kernels::memory::Buffer;
use convnet_kernels::stem::StemState;
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
    executor: Executor,
    backward: BackwardPlan,
    gradients: Gradients,
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
        super::check_batch(net, batch)?;
        let Layout::Row(classes) = Layout::of(net.output_shape()) else {
            let shape = net.output_shape();
            return Err(Error::invalid(format!("training needs a net whose output is a vector, got {shape}")));
        };
        check_outputs(net)?;
        let mut stages = cut(net, Purpose::Training, engine, batch, vec![batch; net.nodes().len()])?;
        let mut forward = plan(&stages, Purpose::Training, batch, engine.threads());
        let backward = BackwardPlan::new(&mut stages, &mut forward, batch, engine.threads());
        let executor = Executor::new(engine, stages, forward, batch, weights)?;
        let len = executor.weights_len();
        let second = match update {
            Update::Adam { .. } => len,
            Update::Sgd { .. } => 0,
        };
        let slots = || executor.slots.trained.iter().chain(&executor.slots.buffers);
        let known: BTreeSet<&str> = slots().map(|slot| slot.name.as_str()).collect();
        let kept = weights.iter().filter(|(name, _)| !known.contains(name.as_str()));
        let kept = kept.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Ok(Training {
            kept,
            gradients: Gradients::new(&executor),
            backward,
            update,
            moments: [Buffer::zeros(len), Buffer::zeros(second)],
            losses: vec![0.0; batch],
            loss_weights: [1.0].into_iter().chain(net.auxiliaries().iter().map(|a| a.loss_weight)).collect(),
            input_len: net.input_shape().elements(),
            classes,
            seed,
            steps: 0,
            executor,
        })
    }

    /// One step on `labels.len()` pictures in NCHW: forward, mean cross-entropy, backward, update.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are more pictures than planned or none, `images` has another length, or a label is
    /// not below the number of classes. Nothing has changed then.
    pub fn step(&mut self, images: &[f32], labels: &[u32], lr: f32) -> Result<Step> {
        let step = self.gradients(images, labels)?;
        let start = self.executor.profile.start();
        self.update(lr);
        self.executor.profile.stop(start, "optimizer", "update", 0);
        Ok(step)
    }

    /// Forward and backward, without the update.
    fn gradients(&mut self, images: &[f32], labels: &[u32]) -> Result<Step> {
        let count = labels.len();
        super::check_images(images.len(), self.input_len, count, self.executor.batch)?;
        if let Some(label) = labels.iter().find(|&&label| label as usize >= self.classes) {
            return Err(Error::invalid(format!("expected labels below {}, got {label}", self.classes)));
        }
        let mode = Mode::Training { seed: random::mix(self.seed, self.steps) };
        self.executor.forward(images, count, mode);
        let start = self.executor.profile.start();
        let executor = &mut self.executor;
        let (mut total, mut correct) = (0.0, 0);
        for (which, &weight) in self.loss_weights.iter().enumerate() {
            let stage = executor.outputs[which];
            let (logits, gradient) = (executor.values[stage].span(count), self.backward.of_output(stage).span(count));
            let ([logits], [gradient]) = executor.arena.split([logits], [gradient]);
            let (threads, losses) = (executor.engine.pool(), &mut self.losses[..count]);
            let shape = [count, self.classes];
            let (loss, right) = loss::cross_entropy(threads, shape, logits, labels, losses, gradient);
            if which == 0 {
                (total, correct) = (loss, right);
            } else {
                total += f64::from(weight) * loss;
                gradient.iter_mut().for_each(|gradient| *gradient *= weight);
            }
        }
        self.executor.profile.stop(start, "cross_entropy", "forward", 0);
        self.backward.run(&mut self.executor, &mut self.gradients, count, mode);
        Ok(Step { loss: total, correct })
    }

    fn update(&mut self, lr: f32) {
        self.steps += 1;
        let (isa, threads) = (self.executor.engine.set(), self.executor.engine.pool());
        let (weights, gradients) = (&mut self.executor.weights, &self.gradients.weights);
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
        let executor = &self.executor;
        let mut state = self.kept.clone();
        unpack(&executor.slots.trained, &executor.stages, "", &executor.weights, &mut state);
        unpack(&executor.slots.buffers, &executor.stages, "", &executor.running, &mut state);
        state
    }

    /// Gradients of all trained parameters from the last step.
    pub fn last_gradients(&self) -> StateDict {
        let mut state = StateDict::new();
        unpack(&self.executor.slots.trained, &self.executor.stages, "", &self.gradients.weights, &mut state);
        state
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
            unpack(&self.executor.slots.trained, &self.executor.stages, prefix, moments, &mut state);
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
        let (slots, stages) = (&self.executor.slots.trained, &self.executor.stages);
        let packed: Result<Vec<Buffer>> =
            self.moment_names().iter().map(|prefix| pack(slots, stages, prefix, optimizer)).collect();
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
        self.executor.arena.bytes() + self.executor.stems.iter().flatten().map(StemState::bytes).sum::<usize>()
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
