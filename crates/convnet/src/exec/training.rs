//! Training: a net planned once, forward, backward and update, and run step by step without allocation.

mod shards;
mod statistics;
mod synchronized;

use self::shards::Spare;
pub(crate) use self::shards::{Bucket, Shard, Sums, Watch};
use self::statistics::Average;
use self::synchronized::ShardMemory;
pub(crate) use self::synchronized::{ShardExchange, ShardPictures};
use super::cpu::lower::{Request, lower};
use super::cpu::plan::Plan;
use super::cpu::session::Session;
use super::cpu::stage::{Mode, Pass};
use super::graph::{Layout, Purpose};
use super::muon::{Muon, MuonStep};
use super::parameters::{Packed, Slot, pack, unpack};
use super::profile::ProfileRow;
use super::training_options::{TrainingBuilder, UpdateRange, count};
use super::{Engine, Loss, Targets, Update};
use crate::net::{Net, NodeId};
use crate::{Error, Result, StateDict, Tensor};
use convnet_kernels::memory::{Buffer, BufferPart};
use convnet_kernels::{loss, optimizer, random, reduce};
use std::collections::BTreeSet;
use std::fmt;

/// What one pass found, before the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The loss of the batch: mean cross-entropy in nats, or what [`TrainingBuilder::loss`] says, plus that of auxiliary outputs,
    /// weighted.
    pub loss: f64,
    /// Pictures whose largest logit is their label's, or that of their likeliest class.
    pub correct: usize,
}

/// A number that should be finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// Where it was found first.
    pub place: Place,
    /// Infinity, its negative, or NaN.
    pub value: f32,
}

/// Where a number that is not finite can be found in training.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In the pictures.
    Input,
    /// In a parameter or running statistic of that name, which an earlier update has changed.
    Tensor(String),
    /// In the output of that layer, though everything before it is finite.
    Layer(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Input => f.write_str("input"),
            Place::Tensor(name) => write!(f, "tensor '{name}'"),
            Place::Layer(name) => write!(f, "output of layer '{name}'"),
        }
    }
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

/// A net in training: [`Training::step`] is [`Training::gradients`] and [`Training::update`], between which a loop of one's own
/// can read and change the gradients.
#[derive(Debug)]
pub struct Training {
    session: Session,
    weights: Packed,
    running: Buffer,
    /// In the slots of the trained parameters, packed as these are; 0 elsewhere.
    gradients: BufferPart,
    /// The sum so far while another batch's gradients are computed; empty until then.
    sum: BufferPart,
    /// Memory of sums over shards that nobody needs at the moment.
    spare: Spare,
    /// Memory of shards that are normalised together.
    synchronized: Vec<ShardMemory>,
    /// Whether the caller may have written where backward does not.
    touched: bool,
    update: Update,
    /// The ranges of the flat buffers that are updated alike.
    groups: Vec<UpdateRange>,
    /// Memory of a step of Muon, where that is the update.
    muon: Muon,
    /// Adam's moments, which are LAMB's, or momentum's velocity and nothing; of weights that Muon updates its running mean and
    /// nothing.
    moments: [Buffer; 2],
    loss: Loss,
    losses: Vec<f32>,
    /// Partial sums of norms.
    sums: Vec<f64>,
    /// Weights of the losses of the net's output and of the auxiliary ones.
    loss_weights: Vec<f32>,
    /// The moving average, once there is one.
    average: Option<Average>,
    /// Parameters of nodes that the output does not need, as they came.
    kept: StateDict,
    input_len: usize,
    classes: usize,
    seed: u64,
    steps: u64,
    /// Passes since the last update.
    passes: u64,
}

impl Training {
    /// Plans training with batches of up to `batch` pictures. `weights` holds every parameter and buffer of the net;
    /// `seed` decides dropout.
    ///
    /// # Errors
    /// As [`TrainingBuilder::build`].
    pub fn new(
        net: &Net,
        engine: &Engine,
        batch: usize,
        weights: &StateDict,
        update: Update,
        seed: u64,
    ) -> Result<Training> {
        Training::builder(net, weights).batch(batch).update(update).seed(seed).build(engine)
    }

    /// Begins to say how a net is trained. `weights` holds every parameter and buffer of the net.
    pub fn builder<'a>(net: &'a Net, weights: &'a StateDict) -> TrainingBuilder<'a> {
        TrainingBuilder::new(net, weights)
    }

    pub(super) fn plan(options: TrainingBuilder<'_>, engine: &Engine) -> Result<Training> {
        let TrainingBuilder { net, weights, batch, update, seed, .. } = options;
        super::check_batch(net, batch)?;
        let Layout::Row(classes) = Layout::of(net.output_shape()) else {
            let output = net.node(net.output());
            let problem = format!("expected a vector as the output of a net to train, got {}", output.shape);
            return Err(Error::Layer { layer: output.name.clone(), op: output.op.name(), problem });
        };
        check_outputs(net)?;
        let loss = options.checked_loss(classes)?;
        let lowered = lower(Request {
            frozen: options.frozen(),
            synchronized: options.synchronized,
            trained: &|name| options.trains(name),
            ..Request::new(net, Purpose::Training, engine, batch)
        })?;
        let plan = Plan::new(engine, lowered, Purpose::Training, batch);
        let groups = options.ranges(&plan.graph.parameters.trained)?;
        let (packed, running, kept) = take(&plan, weights)?;
        let len = packed.flat.len();
        let second = match update {
            Update::Adam { .. } | Update::Lamb { .. } | Update::Muon { .. } => len,
            Update::Sgd { .. } => 0,
        };
        let matrices = groups.iter().filter_map(|range| range.matrix);
        let muon = Muon::new(matrices.map(|slot| &plan.graph.parameters.trained[slot]), engine);
        Ok(Training {
            weights: packed,
            running,
            kept,
            gradients: Buffer::zeros(len).into(),
            sum: BufferPart::default(),
            spare: Spare::default(),
            synchronized: Vec::new(),
            touched: false,
            update,
            groups,
            muon,
            moments: [Buffer::zeros(len), Buffer::zeros(second)],
            loss,
            losses: vec![0.0; batch],
            sums: vec![0.0; reduce::squares_len(len).max(optimizer::Lamb::norms_len(len))],
            loss_weights: [1.0].into_iter().chain(net.auxiliaries().iter().map(|a| a.loss_weight)).collect(),
            average: None,
            input_len: net.input_shape().elements(),
            classes,
            seed,
            steps: 0,
            passes: 0,
            session: Session::new(plan),
        })
    }

    /// One step on `labels.len()` pictures in NCHW: forward, mean cross-entropy, backward, update.
    ///
    /// # Errors
    /// [`Error::Setting`] when there are more pictures than planned or none, [`Error::Length`] when `images` has another
    /// length, [`Error::Label`] when a label is not below the number of classes. Nothing has changed then.
    pub fn step(&mut self, images: &[f32], labels: &[u32], lr: f32) -> Result<Step> {
        let step = self.gradients(images, labels)?;
        self.update(lr);
        Ok(step)
    }

    /// Forward, mean cross-entropy and backward, without the update: running statistics move, and the gradients of the mean loss
    /// take the place of those from before.
    ///
    /// # Errors
    /// As [`Training::step`], and [`Error::Setting`] when a target is no probabilities. Nothing has changed then.
    pub fn gradients<'t>(&mut self, images: &[f32], targets: impl Into<Targets<'t>>) -> Result<Step> {
        self.pass(images, targets.into(), false, (1.0, &mut |_, _| ()))
    }

    /// The same, and the gradients are added to those of the passes since the last update, if there are any: after k batches of
    /// one size their mean is what [`Training::scale_gradients`] by 1/k leaves. The first addition allocates room for a second
    /// set of gradients.
    ///
    /// # Errors
    /// As [`Training::gradients`].
    pub fn accumulate<'t>(&mut self, images: &[f32], targets: impl Into<Targets<'t>>) -> Result<Step> {
        self.pass(images, targets.into(), self.passes > 0, (1.0, &mut |_, _| ()))
    }

    /// The gradients are multiplied by `share`, and `watch` may take them as they become complete.
    fn pass(
        &mut self,
        images: &[f32],
        targets: Targets<'_>,
        add: bool,
        (share, watch): (f32, &mut Watch<'_>),
    ) -> Result<Step> {
        let count = count(targets, self.classes)?;
        super::check_images(images.len(), self.input_len, count, self.session.plan.batch)?;
        if add {
            if self.sum.len() < self.gradients.len() {
                self.sum = Buffer::zeros(self.gradients.len()).into();
            }
            std::mem::swap(&mut self.sum, &mut self.gradients);
        }
        if self.touched {
            self.gradients.fill(0.0);
        }
        let pass = Pass::of(count, Mode::Training { seed: self.pass_seed(self.passes) });
        self.session.forward((&self.weights, &mut self.running), images, pass);
        let start = self.session.profile.start();
        let step = self.losses(targets, count, share);
        self.session.profile.stop(start, "cross_entropy", "forward", 0);
        self.session.backward(&self.weights, &mut self.gradients, pass, watch);
        if add {
            shards::add(&self.session.plan.engine, &mut self.gradients, &self.sum);
        }
        self.passes += 1;
        Ok(step)
    }

    /// Each pass drops other values, and the first of a step what the step drops.
    fn pass_seed(&self, pass: u64) -> u64 {
        let of_step = random::mix(self.seed, self.steps);
        if pass == 0 { of_step } else { random::mix(of_step, pass) }
    }

    /// After a pass whose loss was no finite number, and before an update: what is the first not to be finite, in the order of
    /// computation. These are the parameters and running statistics, then the outputs of the layers, for which forward runs
    /// once more as it did, on the same pictures.
    ///
    /// # Errors
    /// As [`Training::gradients`].
    pub fn find_not_finite(&mut self, images: &[f32], count: usize) -> Result<Option<NotFinite>> {
        super::check_images(images.len(), self.input_len, count, self.session.plan.batch)?;
        if let Some(found) = self.first_tensor_not_finite() {
            return Ok(Some(found));
        }
        if let Some(&value) = images.iter().find(|value| !value.is_finite()) {
            return Ok(Some(NotFinite { place: Place::Input, value }));
        }
        let mode = Mode::Training { seed: self.pass_seed(self.passes.saturating_sub(1)) };
        let mut running = self.running.clone();
        let session = synchronized::session_in_use(&mut self.session, &mut self.synchronized);
        let found = session.first_not_finite((&self.weights, &mut running), images, Pass::of(count, mode));
        Ok(found.map(|(layer, value)| NotFinite { place: Place::Layer(layer), value }))
    }

    /// The first parameter or running statistic, as they are trained, that is not finite.
    pub fn first_tensor_not_finite(&self) -> Option<NotFinite> {
        let parameters = &self.session.plan.graph.parameters;
        let slots = parameters.trained.iter().map(|slot| (slot, &self.weights.flat));
        let slots = slots.chain(parameters.buffers.iter().map(|slot| (slot, &self.running)));
        let mut found = slots.filter_map(|(slot, flat)| {
            let value = *flat[slot.range.clone()].iter().find(|value| !value.is_finite())?;
            Some(NotFinite { place: Place::Tensor(slot.name.clone()), value })
        });
        found.next()
    }

    /// The losses of all outputs, and their gradients by the outputs, which are multiplied by `share`.
    fn losses(&mut self, targets: Targets<'_>, count: usize, share: f32) -> Step {
        let session = &mut self.session;
        let plan = session.plan.clone();
        let (mut total, mut correct) = (0.0, 0);
        for (which, &weight) in self.loss_weights.iter().enumerate() {
            let stage = plan.graph.outputs[which];
            let (logits, gradient) = (plan.views[stage].span(count), session.output_gradient(stage).span(count));
            let ([logits], [gradient]) = session.arena.split([logits], [gradient]);
            let (threads, losses) = (plan.engine.pool(), &mut self.losses[..count]);
            let shape = [count, self.classes];
            let (loss, right) = loss::cross_entropy(threads, shape, logits, targets, &self.loss, losses, gradient);
            if which == 0 {
                (total, correct) = (loss, right);
            } else {
                total += f64::from(weight) * loss;
            }
            let factor = weight * share;
            if factor != 1.0 {
                gradient.iter_mut().for_each(|gradient| *gradient *= factor);
            }
        }
        Step { loss: total, correct }
    }

    /// Changes the trained parameters by the gradients as they stand, which remain.
    pub fn update(&mut self, lr: f32) {
        let start = self.session.profile.start();
        self.steps += 1;
        self.passes = 0;
        let plan = &self.session.plan;
        let (isa, threads) = (plan.engine.set(), plan.engine.pool());
        for UpdateRange { range, group, matrix } in &self.groups {
            let lr = lr * group.lr;
            let steps = self.steps.saturating_sub(group.first_step).max(1);
            let (weights, gradients) = (&mut self.weights.flat[range.clone()], &self.gradients[range.clone()]);
            let [first, second] = &mut self.moments;
            let first = &mut first[range.clone()];
            match self.update {
                Update::Sgd { momentum, nesterov, weight_decay } => {
                    let weight_decay = weight_decay * group.weight_decay;
                    let sgd = optimizer::Sgd { lr, momentum, nesterov, weight_decay };
                    sgd.step(isa, threads, weights, gradients, first);
                }
                Update::Adam { betas, eps, weight_decay, decoupled } => {
                    let weight_decay = weight_decay * group.weight_decay;
                    let adam = optimizer::Adam { lr, betas, eps, weight_decay, decoupled };
                    let second = &mut second[range.clone()];
                    adam.step(isa, threads, steps, weights, gradients, first, second);
                }
                Update::Lamb { betas, eps, weight_decay } => {
                    let weight_decay = weight_decay * group.weight_decay;
                    let lamb = optimizer::Lamb { lr, betas, eps, weight_decay };
                    let moments = [first, &mut second[range.clone()]];
                    lamb.step(isa, threads, steps, weights, gradients, moments, &mut self.sums);
                }
                Update::Muon { rate, momentum, nesterov, weight_decay, adamw_lr, betas, eps } => {
                    let weight_decay = weight_decay * group.weight_decay;
                    if let Some(slot) = matrix.map(|slot| &plan.graph.parameters.trained[slot]) {
                        let rule = MuonStep { lr, rate, momentum, nesterov, weight_decay };
                        self.muon.step(rule, &plan.engine, (slot, plan.packing(slot)), [weights, first], gradients);
                    } else {
                        let adam = optimizer::Adam { lr: lr * adamw_lr, betas, eps, weight_decay, decoupled: true };
                        let second = &mut second[range.clone()];
                        adam.step(isa, threads, steps, weights, gradients, first, second);
                    }
                }
            }
        }
        self.session.profile.stop(start, "optimizer", "update", 0);
    }

    /// Number of updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All parameters and running statistics as they stand.
    pub fn weights(&self) -> StateDict {
        self.state(&self.weights.flat, &self.running)
    }

    /// Tensors by name from what lies as the parameters do, and as the running statistics do.
    fn state(&self, weights: &[f32], running: &[f32]) -> StateDict {
        let mut state = self.kept.clone();
        self.unpack_trained("", weights, &mut state);
        let plan = &self.session.plan;
        unpack(&plan.graph.parameters.buffers, |slot| plan.packing(slot), "", running, &mut state);
        state
    }

    /// Replaces all parameters and running statistics, as if planned with them; the optimizer's memory stays.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] when one is missing or has another shape; nothing has changed then.
    pub fn set_weights(&mut self, weights: &StateDict) -> Result<()> {
        (self.weights, self.running, self.kept) = take(&self.session.plan, weights)?;
        Ok(())
    }

    /// Gradients of all parameters from the last pass, as they stand; 0 for those that are not trained.
    pub fn last_gradients(&self) -> StateDict {
        let mut state = StateDict::new();
        self.unpack_trained("", &self.gradients, &mut state);
        state
    }

    /// The gradient of one parameter.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the net has no such parameter.
    pub fn gradient(&self, parameter: &str) -> Result<Tensor> {
        let plan = &self.session.plan;
        let slot = &plan.graph.parameters.trained[self.slot(parameter)?];
        let mut tensor = Tensor::zeros(slot.shape.clone());
        slot.unpack(|slot| plan.packing(slot), &self.gradients[slot.range.clone()], tensor.data_mut());
        Ok(tensor)
    }

    /// Replaces the gradient of one parameter; that of one that is not trained stays 0.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the net has no such parameter, [`Error::Shape`] when its shape is another.
    pub fn set_gradient(&mut self, parameter: &str, gradient: &Tensor) -> Result<()> {
        let plan = &self.session.plan;
        let slot = &plan.graph.parameters.trained[self.slot(parameter)?];
        if gradient.shape() != slot.shape {
            let of = format!("gradient of '{parameter}'");
            return Err(Error::Shape { of, expected: slot.shape.clone(), found: gradient.shape().to_vec() });
        }
        if slot.trained {
            let target = &mut self.gradients[slot.range.clone()];
            slot.pack(plan.engine.pool(), |slot| plan.packing(slot), gradient.data(), target);
            self.touched = true;
        }
        Ok(())
    }

    /// A parameter's place among the others.
    fn slot(&self, parameter: &str) -> Result<usize> {
        let slots = &self.session.plan.graph.parameters.trained;
        let unknown = || Error::unknown("parameter", parameter, slots.iter().map(|slot| slot.name.as_str()));
        slots.iter().position(|slot| slot.name == parameter).ok_or_else(unknown)
    }

    /// All gradients as one slice. The parameters stand in running order, each as kernels read it, with zeros as padding. The
    /// order is the same wherever net, instruction set and precision are, so that processes can average their gradients.
    pub fn flat_gradients(&self) -> &[f32] {
        &self.gradients
    }

    /// The same, to change. What is padding, or belongs to a parameter that is not trained, must stay 0.
    pub fn flat_gradients_mut(&mut self) -> &mut [f32] {
        self.touched = true;
        &mut self.gradients
    }

    /// Multiplies all gradients by a number.
    pub fn scale_gradients(&mut self, factor: f32) {
        optimizer::scale(self.session.plan.engine.pool(), &mut self.gradients, factor);
    }

    /// The 2-norm of all gradients together; the same bits for any number of threads.
    pub fn grad_norm(&mut self) -> f64 {
        let engine = &self.session.plan.engine;
        reduce::sum_of_squares(engine.set(), engine.pool(), &self.gradients, &mut self.sums).sqrt()
    }

    /// Scales all gradients so that their norm is at most `max_norm` (`torch.nn.utils.clip_grad_norm_`); the norm before. A norm
    /// that is no number leaves them as they are.
    pub fn clip_grad_norm(&mut self, max_norm: f32) -> f64 {
        let norm = self.grad_norm();
        if norm > f64::from(max_norm) && norm.is_finite() {
            self.scale_gradients((f64::from(max_norm) / (norm + 1e-6)) as f32);
        }
        norm
    }

    /// Tensors that lie as the trained parameters do, added to `state` under their names with `prefix` before them.
    fn unpack_trained(&self, prefix: &str, flat: &[f32], state: &mut StateDict) {
        let plan = &self.session.plan;
        unpack(&plan.graph.parameters.trained, |slot| plan.packing(slot), prefix, flat, state);
    }

    /// Names of the optimizer's tensors, before the parameter's. Muon's running mean of a gradient stands where AdamW's is.
    fn moment_names(&self) -> &'static [&'static str] {
        match self.update {
            Update::Adam { .. } | Update::Lamb { .. } | Update::Muon { .. } => &["exp_avg.", "exp_avg_sq."],
            Update::Sgd { .. } => &["momentum_buffer."],
        }
    }

    /// The optimizer's memory: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>`, or `momentum_buffer.<parameter>`. A weight
    /// that Muon updates has a running mean, and zeros for the second.
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
    /// [`Error::Missing`] or [`Error::Shape`] when one is missing or has another shape; nothing has changed then.
    pub fn restore(&mut self, optimizer: &StateDict, steps: u64) -> Result<()> {
        let mut moments = std::mem::take(&mut self.moments);
        let plan = &self.session.plan;
        let slots = &plan.graph.parameters.trained;
        let packed = self.moment_names().iter().map(|prefix| {
            pack(plan.engine.pool(), slots, |slot| plan.packing(slot), prefix, |name| optimizer.get(name))
        });
        let packed: Result<Vec<Buffer>> = packed.collect();
        let packed = packed.map(|packed| {
            for (target, packed) in moments.iter_mut().zip(packed) {
                *target = packed;
            }
            (self.steps, self.passes) = (steps, 0);
        });
        self.moments = moments;
        packed
    }

    /// Bytes of activations, gradients of activations, and scratch.
    pub fn arena_bytes(&self) -> usize {
        // The first of them stands for the training's own.
        let others = self.synchronized.iter().skip(1).map(|shard| shard.session.bytes());
        self.session.bytes() + others.sum::<usize>()
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

/// Parameters and running statistics as a plan has them, and whatever else the weights hold.
fn take(plan: &Plan, weights: &StateDict) -> Result<(Packed, Buffer, StateDict)> {
    let (parameters, packing) = (&plan.graph.parameters, |slot: &Slot| plan.packing(slot));
    let flat = pack(plan.engine.pool(), &parameters.trained, packing, "", |name| weights.get(name))?;
    let running = pack(plan.engine.pool(), &parameters.buffers, packing, "", |name| weights.get(name))?;
    let slots = parameters.trained.iter().chain(&parameters.buffers);
    let known: BTreeSet<&str> = slots.map(|slot| slot.name.as_str()).collect();
    let others = weights.iter().filter(|(name, _)| !known.contains(name.as_str()));
    let kept = others.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    Ok((Packed::changing(flat), running, kept))
}
