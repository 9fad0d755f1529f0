//! The forward direction, for training and inference.

use super::Engine;
use super::arena::{Arena, BufferId, Lives};
use super::parameters::{flat_len, pack};
use super::profile::Profile;
use super::stage::{DropNode, Kind, Layout, Norm, Stage, Stages};
use crate::{Result, StateDict};
use convnet_kernels::conv::Epilogue;
use convnet_kernels::layout::{blocks, from_blocked_rows, to_blocked};
use convnet_kernels::memory::Buffer;
use convnet_kernels::norm::Drop;
use convnet_kernels::simd::LANES;
use convnet_kernels::{activation, random};

/// Numbers per channel that a chain computes with, each padded to whole blocks.
#[derive(Debug)]
pub(super) struct ChainState {
    pub(super) mean: Buffer,
    pub(super) var: Buffer,
    pub(super) scale: Buffer,
    pub(super) shift: Buffer,
}

impl ChainState {
    /// Of a chain that normalises nothing.
    fn identity(len: usize) -> ChainState {
        let zeros = || Buffer::zeros(len);
        let mut state = ChainState { mean: zeros(), var: zeros(), scale: zeros(), shift: zeros() };
        state.scale.fill(1.0);
        state
    }

    /// `scale` and `shift` from mean, variance, γ and β.
    pub(super) fn fold(&mut self, eps: f32, gamma: &[f32], beta: &[f32]) {
        for c in 0..self.scale.len() {
            self.scale[c] = gamma[c] / (self.var[c] + eps).sqrt();
            self.shift[c] = beta[c] - self.mean[c] * self.scale[c];
        }
    }
}

/// What forward is run for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    /// With the batch's statistics and dropout of this seed, which is the step's.
    Training { seed: u64 },
    /// With running statistics and no dropout.
    Inference,
}

impl Mode {
    /// A layer's dropout in this step.
    pub(super) fn drop(self, drop: Option<DropNode>) -> Option<Drop> {
        match (self, drop) {
            (Mode::Training { seed }, Some(DropNode { node, p })) => {
                Some(Drop { seed: random::mix(seed, node as u64), p })
            }
            (Mode::Training { .. }, None) | (Mode::Inference, _) => None,
        }
    }
}

/// Stages with their memory and parameters.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) engine: Engine,
    pub(super) stages: Vec<Stage>,
    pub(super) arena: Arena,
    /// Each stage's output.
    pub(super) values: Vec<BufferId>,
    /// Each stage's scratch in the forward direction.
    scratch: Vec<BufferId>,
    pub(super) slots: super::parameters::Parameters,
    pub(super) weights: Buffer,
    pub(super) running: Buffer,
    pub(super) chains: Vec<Option<ChainState>>,
    pub(super) profile: Profile,
    pub(super) batch: usize,
}

/// Values, scratch and their lives in the forward direction: stage `i` runs at moment `i`.
pub(super) struct ForwardPlan {
    pub(super) lives: Lives,
    pub(super) values: Vec<BufferId>,
    pub(super) scratch: Vec<BufferId>,
}

pub(super) fn plan(stages: &[Stage], batch: usize, threads: usize) -> ForwardPlan {
    let mut lives = Lives::default();
    let mut values: Vec<BufferId> = Vec::with_capacity(stages.len());
    let mut scratch = Vec::with_capacity(stages.len());
    for (i, stage) in stages.iter().enumerate() {
        if !matches!(stage.kind, Kind::Load) {
            lives.use_at(values[stage.input], i);
        }
        values.push(match stage.in_place() {
            true => values[stage.input],
            false => lives.begin(stage.output.len() * batch, i),
        });
        let len = match &stage.kind {
            Kind::Conv { conv, .. } => conv.forward_scratch(threads),
            Kind::Chain { chain, norm: Some(_), .. } => chain.scratch_len(batch),
            Kind::Linear { linear, .. } => linear.scratch_len(threads),
            Kind::Chain { norm: None, .. } | Kind::Load | Kind::Pool(_) => 0,
            Kind::Relu | Kind::Dropout { .. } | Kind::Flatten { .. } => 0,
        };
        scratch.push(lives.begin(len, i));
    }
    lives.use_at(values[stages.len() - 1], stages.len());
    ForwardPlan { lives, values, scratch }
}

impl Executor {
    /// Places the plan's buffers and packs the parameters.
    pub(super) fn new(
        engine: &Engine,
        stages: Stages,
        plan: ForwardPlan,
        batch: usize,
        state: &StateDict,
    ) -> Result<Executor> {
        let Stages { stages, parameters } = stages;
        let weights = pack(&parameters.trained, &stages, "", state)?;
        let running = pack(&parameters.buffers, &stages, "", state)?;
        let chains = stages.iter().map(|stage| match (&stage.kind, stage.output) {
            (Kind::Chain { .. }, Layout::Blocked([c, ..])) => Some(ChainState::identity(blocks(c) * LANES)),
            (_, _) => None,
        });
        Ok(Executor {
            chains: chains.collect(),
            engine: engine.clone(),
            arena: plan.lives.place(),
            values: plan.values,
            scratch: plan.scratch,
            slots: parameters,
            weights,
            running,
            profile: Profile::default(),
            batch,
            stages,
        })
    }

    /// Floats of the trained parameters.
    pub(super) fn weights_len(&self) -> usize {
        flat_len(&self.slots.trained)
    }

    /// Runs all stages on `count` pictures in plain NCHW.
    pub(super) fn forward(&mut self, images: &[f32], count: usize, mode: Mode) {
        for index in 0..self.stages.len() {
            let start = self.profile.start();
            self.forward_stage(index, images, count, mode);
            let stage = &self.stages[index];
            self.profile.stop(start, &stage.name, "forward", stage.macs * self.batch as u64);
        }
    }

    fn forward_stage(&mut self, index: usize, images: &[f32], count: usize, mode: Mode) {
        let stage = &self.stages[index];
        let (threads, isa) = (self.engine.pool(), self.engine.set());
        let (input, output, scratch) = (self.values[stage.input], self.values[index], self.scratch[index]);
        let slot = |i: usize| self.slots.trained[i].range.clone();
        match &stage.kind {
            Kind::Load => {
                let [to] = self.arena.get_mut([output]);
                load(threads, stage.output, count, images, to);
            }
            Kind::Conv { conv, weight, bias, relu } => {
                let [x, y, scratch] = self.arena.get_mut([input, output, scratch]);
                let bias = bias.map(|b| &self.weights[slot(b)]);
                let epilogue = Epilogue { bias, addend: None, relu: *relu };
                conv.forward(threads, count, x, &self.weights[slot(*weight)], &epilogue, y, scratch);
            }
            Kind::Chain { chain, norm, drop } => {
                let [x, y, scratch] = self.arena.get_mut([input, output, scratch]);
                let state = self.chains[index].as_mut().expect("a chain has its numbers");
                if let (Some(norm), Mode::Training { .. }) = (norm, mode) {
                    chain.statistics(threads, count, x, &mut state.mean, &mut state.var, scratch);
                    state.fold(norm.eps, &self.weights[slot(norm.weight)], &self.weights[slot(norm.bias)]);
                    let elements = x.len() / self.batch / state.mean.len() * count;
                    let running = norm.running.map(|i| self.slots.buffers[i].range.clone());
                    let [mean, var] = self.running.get_disjoint_mut(running).expect("slots do not overlap");
                    update_running(norm, elements, state, mean, var);
                }
                chain.forward(threads, count, x, &state.scale, &state.shift, mode.drop(*drop), y);
            }
            Kind::Linear { linear, weight, bias, relu } => {
                let [x, y, scratch] = self.arena.get_mut([input, output, scratch]);
                let bias = bias.map(|b| &self.weights[slot(b)]);
                linear.forward(threads, count, x, &self.weights[slot(*weight)], bias, *relu, y, scratch);
            }
            Kind::Pool(pool) => {
                let [x, y] = self.arena.get_mut([input, output]);
                pool.forward(threads, count, x, y);
            }
            Kind::Relu => {
                let [y] = self.arena.get_mut([output]);
                activation::relu_forward(isa, threads, &mut y[..count * stage.output.len()]);
            }
            Kind::Dropout { drop, channels } => {
                let [y] = self.arena.get_mut([output]);
                if let Some(drop) = mode.drop(Some(*drop)) {
                    dropout(&self.engine, drop, *channels, stage.output, count, y);
                }
            }
            Kind::Flatten { from: [c, h, w] } => {
                let [x, y] = self.arena.get_mut([input, output]);
                from_blocked_rows(threads, [count, *c, h * w], x, y);
            }
        }
    }
}

/// The caller's plain pictures in a stage's layout.
fn load(threads: &convnet_kernels::threads::Threads, layout: Layout, count: usize, images: &[f32], to: &mut [f32]) {
    match layout {
        Layout::Plain(len) => to[..count * len].copy_from_slice(&images[..count * len]),
        Layout::Blocked([c, h, w]) => to_blocked(threads, [count, c, h * w], images, to),
        Layout::Row(features) => {
            for (row, image) in to.chunks_exact_mut(layout.len()).zip(images.chunks_exact(features)) {
                row[..features].copy_from_slice(image);
                row[features..].fill(0.0);
            }
        }
    }
}

/// Dropout in place, of the values or of their gradient.
pub(super) fn dropout(engine: &Engine, drop: Drop, channels: bool, layout: Layout, count: usize, data: &mut [f32]) {
    let threads = engine.pool();
    match layout {
        Layout::Blocked([c, h, w]) if channels => {
            activation::dropout_channels(threads, [count, c, h * w], drop.seed, drop.p, data);
        }
        Layout::Blocked([c, h, w]) => activation::dropout_maps(threads, [count, c, h * w], drop.seed, drop.p, data),
        Layout::Row(features) => activation::dropout(threads, [count, features], drop.seed, drop.p, data),
        Layout::Plain(_) => unreachable!("only a convolution reads a plain input"),
    }
}

/// Moves the running mean and variance towards the batch's (PyTorch: the variance is the unbiased one).
fn update_running(norm: &Norm, elements: usize, batch: &ChainState, mean: &mut [f32], var: &mut [f32]) {
    let unbiased = elements as f32 / (elements.max(2) - 1) as f32;
    for c in 0..batch.mean.len() {
        mean[c] = (1.0 - norm.momentum) * mean[c] + norm.momentum * batch.mean[c];
        var[c] = (1.0 - norm.momentum) * var[c] + norm.momentum * batch.var[c] * unbiased;
    }
}
