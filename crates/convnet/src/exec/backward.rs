//! The backward direction: gradients of every stage's input and parameters, in reverse running order.
//!
//! With S stages, stage `i` runs forward at moment `i`, the loss stands at S, and stage `i` runs backward at `2S - i`.
//! A chain's gradient takes the place of its input, a ReLU's and a dropout's that of its output's gradient.

use super::arena::BufferId;
use super::forward::{ChainState, Executor, ForwardPlan, Mode, dropout};
use super::parameters::flat_len;
use super::stage::{Kind, Layout, Norm, Stage};
use convnet_kernels::memory::Buffer;
use convnet_kernels::norm::Given;
use convnet_kernels::{activation, layout, reduce};

/// Where gradients and scratch lie.
#[derive(Debug)]
pub(super) struct BackwardPlan {
    /// Of each stage's output; nothing for the input's.
    gradients: Vec<Option<BufferId>>,
    scratch: Vec<BufferId>,
    /// Whether a convolution's bias stands before a batch norm, which takes every constant away again: its gradient is
    /// 0, and PyTorch's rounding noise in its place.
    idle_bias: Vec<bool>,
}

/// Gradients of the parameters, and what chains need on the way.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) weights: Buffer,
    chains: Vec<Option<ChainGradient>>,
}

/// Numbers per channel of a chain's backward.
#[derive(Debug)]
struct ChainGradient {
    sum: Buffer,
    product: Buffer,
    factor: Buffer,
    slope: Buffer,
    offset: Buffer,
}

impl Gradients {
    pub(super) fn new(executor: &Executor) -> Gradients {
        let chain = |state: &ChainState| {
            let zeros = || Buffer::zeros(state.scale.len());
            let mut gradient =
                ChainGradient { sum: zeros(), product: zeros(), factor: zeros(), slope: zeros(), offset: zeros() };
            gradient.factor.fill(1.0);
            gradient
        };
        Gradients {
            weights: Buffer::zeros(flat_len(&executor.slots.trained)),
            chains: executor.chains.iter().map(|state| state.as_ref().map(chain)).collect(),
        }
    }
}

impl ChainGradient {
    /// Gradients of γ and β, and the three numbers of `NormChain::backward_data`.
    fn fold(&mut self, norm: &Norm, state: &ChainState, elements: usize, gamma: &mut [f32], beta: &mut [f32]) {
        for c in 0..self.sum.len() {
            let inverse = 1.0 / (state.var[c] + norm.eps).sqrt();
            gamma[c] = self.product[c] * inverse;
            beta[c] = self.sum[c];
            let scale = state.scale[c] / elements as f32;
            self.factor[c] = state.scale[c];
            self.slope[c] = -scale * gamma[c] * inverse;
            self.offset[c] = -scale * self.sum[c] - self.slope[c] * state.mean[c];
        }
    }
}

/// Whether a stage's backward reads its output, which then may not be overwritten before.
fn reads_output(stages: &[Stage], index: usize) -> bool {
    match stages[index].kind {
        Kind::Conv { relu, .. } | Kind::Linear { relu, .. } => relu,
        Kind::Relu => true,
        Kind::Dropout { .. } => reads_output(stages, stages[index].input),
        Kind::Load | Kind::Chain { .. } | Kind::Pool(_) | Kind::Flatten { .. } => false,
    }
}

impl BackwardPlan {
    pub(super) fn new(stages: &[Stage], forward: &mut ForwardPlan, batch: usize, threads: usize) -> BackwardPlan {
        let last = stages.len();
        let lives = &mut forward.lives;
        let values = &forward.values;
        let mut gradients = vec![None; last];
        gradients[last - 1] = Some(lives.begin(stages[last - 1].output.len() * batch, last));
        let mut scratch = vec![lives.begin(0, last); last];
        let mut idle_bias = vec![false; last];
        for (i, stage) in stages.iter().enumerate().rev() {
            let moment = 2 * last - i;
            let Some(gradient) = gradients[i] else { continue };
            lives.use_at(gradient, moment);
            if reads_output(stages, i) {
                lives.use_at(values[i], moment);
            }
            let input = stage.input;
            let wanted = !matches!(stages[input].kind, Kind::Load);
            let mut fresh = || lives.begin(stages[input].output.len() * batch, moment);
            let of_input = match &stage.kind {
                Kind::Load => None,
                Kind::Relu | Kind::Dropout { .. } => wanted.then_some(gradient),
                Kind::Chain { .. } if !reads_output(stages, input) => wanted.then_some(values[input]),
                Kind::Chain { .. } | Kind::Conv { .. } | Kind::Linear { .. } | Kind::Pool(_) | Kind::Flatten { .. } => {
                    wanted.then(&mut fresh)
                }
            };
            gradients[input] = of_input.or(gradients[input]);
            let len = match &stage.kind {
                Kind::Conv { conv, .. } => {
                    conv.backward_weights_scratch(batch, threads).max(conv.backward_data_scratch(threads))
                }
                Kind::Linear { linear, .. } => linear.scratch_len(threads),
                Kind::Chain { chain, .. } => chain.scratch_len(batch),
                Kind::Load | Kind::Pool(_) | Kind::Relu | Kind::Dropout { .. } | Kind::Flatten { .. } => 0,
            };
            scratch[i] = lives.begin(len, moment);
            match &stage.kind {
                Kind::Load | Kind::Relu | Kind::Dropout { .. } | Kind::Flatten { .. } => {}
                Kind::Conv { .. } | Kind::Linear { .. } | Kind::Pool(_) => lives.use_at(values[input], moment),
                Kind::Chain { norm, .. } => {
                    lives.use_at(values[input], moment);
                    idle_bias[input] = norm.is_some() && matches!(stages[input].kind, Kind::Conv { relu: false, .. });
                }
            }
        }
        BackwardPlan { gradients, scratch, idle_bias }
    }

    /// The gradient of the net's output, which the loss writes.
    pub(super) fn loss_gradient(&self) -> BufferId {
        self.gradients[self.gradients.len() - 1].expect("the output has a gradient")
    }

    /// All gradients, from that of the output.
    pub(super) fn run(&self, executor: &mut Executor, gradients: &mut Gradients, count: usize, mode: Mode) {
        for index in (0..executor.stages.len()).rev() {
            let start = executor.profile.start();
            self.run_stage(executor, gradients, index, count, mode);
            let stage = &executor.stages[index];
            // By weights, and by data unless nobody asks for it.
            let directions = if stage.macs > 0 && self.gradients[stage.input].is_some() { 2 } else { 1 };
            let macs = directions * stage.macs * executor.batch as u64;
            executor.profile.stop(start, &stage.name, "backward", macs);
        }
    }

    fn run_stage(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize, mode: Mode) {
        let stage = &executor.stages[index];
        let Some(dy) = self.gradients[index] else { return };
        let dx = self.gradients[stage.input].filter(|_| stage.input != index);
        let (x, y) = (executor.values[stage.input], executor.values[index]);
        let (isa, threads) = (executor.engine.set(), executor.engine.pool());
        let filled = count * stage.output.len();
        match &stage.kind {
            Kind::Load => {}
            Kind::Conv { relu: true, .. } | Kind::Linear { relu: true, .. } | Kind::Relu => {
                let [y, dy] = executor.arena.get_mut([y, dy]);
                activation::relu_backward(isa, threads, &y[..filled], &mut dy[..filled]);
            }
            Kind::Dropout { drop, channels } => {
                let [dy] = executor.arena.get_mut([dy]);
                if let Some(drop) = mode.drop(Some(*drop)) {
                    dropout(&executor.engine, drop, *channels, stage.output, count, dy);
                }
            }
            Kind::Pool(pool) => {
                if let Some(dx) = dx {
                    let [x, dy, dx] = executor.arena.get_mut([x, dy, dx]);
                    pool.backward(threads, count, x, dy, dx);
                }
            }
            Kind::Flatten { from: [c, h, w] } => {
                if let Some(dx) = dx {
                    let [dy, dx] = executor.arena.get_mut([dy, dx]);
                    layout::to_blocked_rows(threads, [count, *c, h * w], dy, dx);
                }
            }
            Kind::Chain { .. } => self.run_chain(executor, gradients, index, count, mode),
            Kind::Conv { relu: false, .. } | Kind::Linear { relu: false, .. } => {}
        }
        self.run_product(executor, gradients, index, count);
    }

    /// The part of a convolution or linear layer that multiplies.
    fn run_product(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize) {
        let stage = &executor.stages[index];
        let Some(dy) = self.gradients[index] else { return };
        let dx = self.gradients[stage.input];
        let (x, scratch) = (executor.values[stage.input], self.scratch[index]);
        let (isa, threads) = (executor.engine.set(), executor.engine.pool());
        let slot = |i: usize| executor.slots.trained[i].range.clone();
        match (&stage.kind, stage.output) {
            (Kind::Conv { conv, weight, bias, .. }, Layout::Blocked([c, h, w])) => {
                let [x, dy_values, scratch_values] = executor.arena.get_mut([x, dy, scratch]);
                let dw = &mut gradients.weights[slot(*weight)];
                conv.backward_weights(threads, count, x, dy_values, dw, scratch_values);
                if let Some(bias) = bias.filter(|_| !self.idle_bias[index]) {
                    let db = &mut gradients.weights[slot(bias)];
                    reduce::sum_pixels(isa, threads, [count, c, h * w], dy_values, db);
                }
                if let Some(dx) = dx {
                    let [dy, dx, scratch] = executor.arena.get_mut([dy, dx, scratch]);
                    conv.backward_data(threads, count, dy, &executor.weights[slot(*weight)], dx, scratch);
                }
            }
            (Kind::Linear { linear, weight, bias, .. }, _) => {
                let [x, dy_values, scratch_values] = executor.arena.get_mut([x, dy, scratch]);
                let dw = &mut gradients.weights[slot(*weight)];
                linear.backward_weights(threads, count, x, dy_values, dw, scratch_values);
                if let Some(bias) = *bias {
                    let db = &mut gradients.weights[slot(bias)];
                    reduce::sum_rows(isa, threads, [count, linear.output_len()], dy_values, db);
                }
                if let Some(dx) = dx {
                    let [dy, dx, scratch] = executor.arena.get_mut([dy, dx, scratch]);
                    linear.backward_data(threads, count, dy, &executor.weights[slot(*weight)], dx, scratch);
                }
            }
            (_, _) => {}
        }
    }

    fn run_chain(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize, mode: Mode) {
        let stage = &executor.stages[index];
        let Kind::Chain { chain, norm, drop } = &stage.kind else { return };
        let Some(dy) = self.gradients[index] else { return };
        let dx = self.gradients[stage.input];
        let x = executor.values[stage.input];
        let threads = executor.engine.pool();
        let state = executor.chains[index].as_ref().expect("a chain has its numbers");
        let chain_gradient = gradients.chains[index].as_mut().expect("a chain has its numbers");
        let given = Given {
            batch: count,
            dy: &[],
            scale: &state.scale,
            shift: &state.shift,
            mean: &state.mean,
            drop: mode.drop(*drop),
        };
        if let Some(norm) = norm {
            let [x, dy, scratch] = executor.arena.get_mut([x, dy, self.scratch[index]]);
            let ChainGradient { sum, product, .. } = chain_gradient;
            chain.backward_sums(threads, &Given { dy, ..given }, x, [sum, product], scratch);
            let slots = [norm.weight, norm.bias].map(|i| executor.slots.trained[i].range.clone());
            let [gamma, beta] = gradients.weights.get_disjoint_mut(slots).expect("slots do not overlap");
            let elements = count * chain.input_pixels();
            chain_gradient.fold(norm, state, elements, gamma, beta);
        }
        let ChainGradient { factor, slope, offset, .. } = chain_gradient;
        let linear: [&[f32]; 3] = [factor, slope, offset];
        match dx {
            None => {}
            Some(dx) if dx == x => {
                let [dy, dx] = executor.arena.get_mut([dy, dx]);
                chain.backward_data(threads, &Given { dy, ..given }, linear, None, dx);
            }
            Some(dx) => {
                let [x, dy, dx] = executor.arena.get_mut([x, dy, dx]);
                chain.backward_data(threads, &Given { dy, ..given }, linear, Some(x), dx);
            }
        }
    }
}
