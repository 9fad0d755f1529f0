//! The backward direction: gradients of every stage's inputs and parameters, in reverse running order. Where gradients lie
//! and which of several comes first is planned in `flows.rs`.

use super::arena::Span;
use super::flows::{Flow, Flows};
use super::forward::{ChainState, Executor, ForwardPlan, Mode, View, copied_inputs, dropout};
use super::parameters::flat_len;
use super::stage::{self, Kind, Layout, Norm, Stages};
use convnet_kernels::activation::{self, Activation};
use convnet_kernels::layout::{Maps, MapsMut, blocks, to_blocked_rows};
use convnet_kernels::memory::Buffer;
use convnet_kernels::merge::{self, ChannelCopy};
use convnet_kernels::norm::{Drop, Given, Source, SumGiven, SumGradients};
use convnet_kernels::reduce;
use convnet_kernels::simd::LANES;
use convnet_kernels::stem::StemInput;

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

    /// Where a chain's two sums go.
    fn sums(&mut self, index: usize) -> [&mut [f32]; 2] {
        let ChainGradient { sum, product, .. } = self.chains[index].as_mut().expect("a chain has its numbers");
        [sum, product]
    }

    /// From a chain's sums, the gradients of its norm's parameters and what its input's gradient is computed with.
    fn fold(&mut self, executor: &Executor, index: usize, count: usize) {
        let stage = &executor.stages[index];
        let norm = stage.kind.norm().expect("only a norm has sums");
        let slots = [norm.weight, norm.bias].map(|i| executor.slots.trained[i].range.clone());
        let [gamma, beta] = self.weights.get_disjoint_mut(slots).expect("slots do not overlap");
        let state = executor.chains[index].as_ref().expect("a chain has its numbers");
        let gradient = self.chains[index].as_mut().expect("a chain has its numbers");
        gradient.fold(norm, state, count * norm.pixels, gamma, beta);
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

/// Where gradients and scratch lie, and how they arrive.
#[derive(Debug)]
pub(super) struct BackwardPlan {
    flows: Flows,
    /// Whether a convolution's bias stands before a batch norm, which takes every constant away again: its gradient is
    /// 0, and PyTorch's rounding noise in its place.
    idle_bias: Vec<bool>,
    /// A concatenation's inputs whose gradients are not parts of its own: index, and channels before it.
    copied: Vec<Vec<(usize, usize)>>,
}

impl BackwardPlan {
    pub(super) fn new(stages: &mut Stages, forward: &mut ForwardPlan, batch: usize, threads: usize) -> BackwardPlan {
        let flows = Flows::plan(stages, forward, batch, threads);
        let readers = stages.readers();
        let normalised = |i: usize| match readers[i][..] {
            [reader] => stages.stages[reader].kind.norm().is_some() && stages.stages[reader].inputs[0] == i,
            _ => false,
        };
        let idle = |i: usize| matches!(stages.stages[i].kind, Kind::Conv { relu: false, .. }) && normalised(i);
        let idle_bias = (0..stages.stages.len()).map(idle).collect();
        let copied = (0..stages.stages.len()).map(|i| copied_inputs(stages, &forward.places, i)).collect();
        for (stage, gradient) in stages.stages.iter_mut().zip(&flows.gradients) {
            if let (Kind::Conv { conv, .. }, Some(gradient)) = (&mut stage.kind, gradient) {
                conv.set_gradient_stride(gradient.stride);
            }
        }
        BackwardPlan { flows, idle_bias, copied }
    }

    /// The gradient of a stage that the caller reads, which its loss writes.
    pub(super) fn of_output(&self, stage: usize) -> View {
        self.flows.gradients[stage].expect("outputs have gradients")
    }

    /// All gradients, from those of the outputs.
    pub(super) fn run(&self, executor: &mut Executor, gradients: &mut Gradients, count: usize, mode: Mode) {
        for index in (0..executor.stages.len()).rev() {
            let start = executor.profile.start();
            self.run_stage(executor, gradients, index, count, mode);
            let stage = &executor.stages[index];
            // By weights, and by data unless nobody asks for it.
            let wanted = self.flows.inputs[index].iter().any(|flow| *flow != Flow::Unwanted);
            let directions = if stage.macs > 0 && wanted { 2 } else { 1 };
            let macs = directions * stage.macs * count as u64;
            executor.profile.stop(start, &stage.name, "backward", macs);
        }
    }

    /// Where an input's gradient lies and whether it is added to what stands there, unless nobody asks for it or it has
    /// arrived already.
    fn target(&self, executor: &Executor, index: usize, input: usize) -> Option<(View, bool)> {
        let view = self.flows.gradients[executor.stages[index].inputs[input]]?;
        match self.flows.inputs[index][input] {
            Flow::Unwanted | Flow::Shared => None,
            Flow::Write => Some((view, false)),
            Flow::Accumulate => Some((view, true)),
        }
    }

    fn run_stage(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize, mode: Mode) {
        let Some(dy_view) = self.flows.gradients[index] else { return };
        let stage = &executor.stages[index];
        let threads = executor.engine.pool();
        match &stage.kind {
            Kind::Load => {}
            Kind::Conv { .. } | Kind::Linear { .. } => {
                self.mask(executor, index, count, mode);
                self.run_product(executor, gradients, index, count);
            }
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Add { .. } => {
                self.mask(executor, index, count, mode);
                for input in 0..executor.stages[index].inputs.len() {
                    self.pass_on(executor, index, input, count);
                }
            }
            Kind::Pool(pool) => {
                if let Some((dx_view, accumulate)) = self.target(executor, index, 0) {
                    let x_view = executor.values[stage.inputs[0]];
                    // A mean's input may be gone by now.
                    let x_span = if pool.backward_reads_input() { x_view.span(count) } else { dy_view.span(count) };
                    let ([x, dy], [dx]) = executor.arena.split([x_span, dy_view.span(count)], [dx_view.span(count)]);
                    let (x, dy, dx) = (x_view.maps(x), dy_view.maps(dy), dx_view.maps_mut(dx));
                    pool.backward(threads, count, x, dy, dx, accumulate);
                }
            }
            Kind::LocalResponseNorm(lrn) => {
                if let Some((dx_view, accumulate)) = self.target(executor, index, 0) {
                    let x_view = executor.values[stage.inputs[0]];
                    let reads = [x_view.span(count), dy_view.span(count)];
                    let ([x, dy], [dx]) = executor.arena.split(reads, [dx_view.span(count)]);
                    let (x, dy, dx) = (x_view.maps(x), dy_view.maps(dy), dx_view.maps_mut(dx));
                    lrn.backward(threads, count, x, dy, dx, accumulate);
                }
            }
            Kind::Flatten { from: [c, h, w] } => {
                let shape = [count, *c, h * w];
                self.unflatten(executor, index, shape);
            }
            Kind::Chain { norm, .. } => {
                if norm.is_some() {
                    self.sum_chain(executor, gradients, index, count, mode);
                    gradients.fold(executor, index, count);
                }
                self.run_chain(executor, gradients, index, count, mode);
            }
            Kind::Stem { .. } => self.run_stem(executor, gradients, index, count, mode),
            Kind::NormSum { .. } => {
                self.sum_norm_sum(executor, gradients, index, count);
                gradients.fold(executor, index, count);
                self.run_chain(executor, gradients, index, count, mode);
            }
            Kind::Concat => self.split_concat(executor, index, count),
            Kind::PadChannels { before } => {
                let before = *before;
                self.take_channels(executor, index, 0, before, count);
            }
        }
    }

    /// The gradient through what a stage does to its sum: ReLU, tanh or dropout, in place.
    fn mask(&self, executor: &mut Executor, index: usize, count: usize, mode: Mode) {
        let stage = &executor.stages[index];
        let (threads, isa) = (executor.engine.pool(), executor.engine.set());
        let (y_view, dy_view) = (executor.values[index], self.of_output(index));
        let [channels, pixels] = stage.output.channels_and_pixels();
        let shape = [count, channels, pixels];
        let reads = if stage.kind.backward_reads_output() {
            y_view.span(count)
        } else {
            Span { buffer: dy_view.buffer, range: 0..0 }
        };
        let ([y], [dy]) = executor.arena.split([reads], [dy_view.span(count)]);
        let (y, dy) = (y_view.maps(y), dy_view.maps_mut(dy));
        match &stage.kind {
            Kind::Conv { relu, .. } | Kind::Linear { relu, .. } | Kind::Add { relu } => {
                if *relu {
                    activation::backward(isa, threads, shape, Activation::Relu, y, dy);
                }
            }
            Kind::Relu => activation::backward(isa, threads, shape, Activation::Relu, y, dy),
            Kind::Tanh => activation::backward(isa, threads, shape, Activation::Tanh, y, dy),
            Kind::Dropout { drop, channels } => {
                if let Some(drop) = mode.drop(Some(*drop)) {
                    dropout(threads, drop, *channels, stage.output, count, dy);
                }
            }
            kind => unreachable!("{kind:?} has no mask"),
        }
    }

    /// An input's gradient where it is the output's.
    fn pass_on(&self, executor: &mut Executor, index: usize, input: usize, count: usize) {
        let Some((dx_view, accumulate)) = self.target(executor, index, input) else { return };
        let dy_view = self.of_output(index);
        let (threads, isa) = (executor.engine.pool(), executor.engine.set());
        let [channels, pixels] = executor.stages[index].output.channels_and_pixels();
        let ([dy], [dx]) = executor.arena.split([dy_view.span(count)], [dx_view.span(count)]);
        let (dy, dx) = (dy_view.maps(dy), dx_view.maps_mut(dx));
        match accumulate {
            true => merge::accumulate(isa, threads, [count, channels, pixels], dy, Activation::Identity, dx),
            false => merge::copy(threads, [count, dx_view.len], dy, dx),
        }
    }

    fn unflatten(&self, executor: &mut Executor, index: usize, shape: [usize; 3]) {
        let Some((dx_view, accumulate)) = self.target(executor, index, 0) else { return };
        let dy_view = self.of_output(index);
        let (threads, isa, count) = (executor.engine.pool(), executor.engine.set(), shape[0]);
        if !accumulate {
            let ([dy], [dx]) = executor.arena.split([dy_view.span(count)], [dx_view.span(count)]);
            return to_blocked_rows(threads, shape, dy, dx_view.maps_mut(dx));
        }
        let scratch = self.flows.scratch[index].clone();
        let ([dy], [dx, scratch]) = executor.arena.split([dy_view.span(count)], [dx_view.span(count), scratch]);
        to_blocked_rows(threads, shape, dy, MapsMut::packed(scratch, dx_view.len));
        let unflattened = MapsMut::packed(scratch, dx_view.len);
        let (dx, identity) = (dx_view.maps_mut(dx), Activation::Identity);
        merge::accumulate(isa, threads, shape, unflattened.as_maps(), identity, dx);
    }

    /// The gradients of a concatenation's inputs that are not parts of its own.
    fn split_concat(&self, executor: &mut Executor, index: usize, count: usize) {
        for &(input, before) in &self.copied[index] {
            let inputs = &executor.stages[index].inputs;
            let same = |position: &usize| {
                let channels = |&i: &usize| executor.stages[i].output.channels_and_pixels()[0];
                inputs[*position] == input && inputs[..*position].iter().map(channels).sum::<usize>() == before
            };
            let position = (0..inputs.len()).find(same).expect("a copied input is an input");
            self.take_channels(executor, index, position, before, count);
        }
    }

    /// An input's gradient where it is a range of the output's channels.
    fn take_channels(&self, executor: &mut Executor, index: usize, input: usize, before: usize, count: usize) {
        let Some((dx_view, accumulate)) = self.target(executor, index, input) else { return };
        let dy_view = self.of_output(index);
        let threads = executor.engine.pool();
        let [channels, pixels] = executor.stages[executor.stages[index].inputs[input]].output.channels_and_pixels();
        let ([dy], [dx]) = executor.arena.split([dy_view.span(count)], [dx_view.span(count)]);
        if !channels.is_multiple_of(LANES) && !accumulate {
            let last = channels / LANES..blocks(channels);
            merge::clear_blocks(threads, [count, pixels], last, dx_view.maps_mut(dx));
        }
        let copy = ChannelCopy { batch: count, pixels, count: channels, from: before, to: 0 };
        merge::copy_channels(threads, &copy, dy_view.maps(dy), dx_view.maps_mut(dx), accumulate);
    }

    /// A convolution or linear layer: gradients of its parameters and of its input.
    fn run_product(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize) {
        let stage = &executor.stages[index];
        let (dy_view, x_view) = (self.of_output(index), executor.values[stage.inputs[0]]);
        let target = self.target(executor, index, 0);
        let (isa, threads) = (executor.engine.set(), executor.engine.pool());
        let slot = |i: usize| executor.slots.trained[i].range.clone();
        let scratch = || self.flows.scratch[index].clone();
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [scratch_values]) = executor.arena.split(reads, [scratch()]);
        match (&stage.kind, stage.output) {
            (Kind::Conv { conv, weight, bias, .. }, Layout::Blocked([c, h, w])) => {
                let (x, dy) = (x_view.maps(x), dy_view.maps(dy));
                let dw = &mut gradients.weights[slot(*weight)];
                conv.backward_weights(threads, count, x, dy, dw, scratch_values);
                if let Some(bias) = bias.filter(|_| !self.idle_bias[index]) {
                    let db = &mut gradients.weights[slot(bias)];
                    reduce::sum_pixels(isa, threads, [count, c, h * w], dy, db);
                }
                if let Some((dx_view, accumulate)) = target {
                    let writes = [dx_view.span(count), scratch()];
                    let ([dy], [dx, scratch]) = executor.arena.split([dy_view.span(count)], writes);
                    let (dy, dx) = (dy_view.maps(dy), dx_view.maps_mut(dx));
                    let weights = &executor.weights[slot(*weight)];
                    conv.backward_data(threads, count, dy, weights, dx, accumulate, scratch);
                }
            }
            (Kind::Linear { linear, weight, bias, .. }, _) => {
                let dw = &mut gradients.weights[slot(*weight)];
                linear.backward_weights(threads, count, x, dy, dw, scratch_values);
                if let Some(bias) = *bias {
                    let db = &mut gradients.weights[slot(bias)];
                    reduce::sum_rows(isa, threads, [count, linear.output_len()], dy_view.maps(dy), db);
                }
                if let Some((dx_view, accumulate)) = target {
                    let writes = [dx_view.span(count), scratch()];
                    let ([dy], [dx, scratch]) = executor.arena.split([dy_view.span(count)], writes);
                    let weights = &executor.weights[slot(*weight)];
                    linear.backward_data(threads, count, dy, weights, dx, accumulate, scratch);
                }
            }
            (_, _) => {}
        }
    }

    /// A stem: gradients of its parameters. That of its bias stays 0.
    fn run_stem(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize, mode: Mode) {
        let stage = &executor.stages[index];
        let Kind::Stem { stem, weight, bias, drop, .. } = &stage.kind else { return };
        let (dy_view, x_view) = (self.of_output(index), executor.values[stage.inputs[0]]);
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [scratch]) = executor.arena.split(reads, [self.flows.scratch[index].clone()]);
        let slot = |i: usize| executor.slots.trained[i].range.clone();
        let (weights, bias) = (&executor.weights[slot(*weight)], bias.map(|b| &executor.weights[slot(b)]));
        let input = StemInput { batch: count, x: x_view.maps(x), weights, bias };
        let state = executor.stems[index].as_mut().expect("a stem has a state");
        let dw = &mut gradients.weights[slot(*weight)];
        let ChainGradient { sum, product, .. } = gradients.chains[index].as_mut().expect("a chain has its numbers");
        let (threads, drop, dy) = (executor.engine.pool(), mode.drop(*drop), dy_view.maps(dy));
        stem.backward_sums(threads, &input, drop, state, dy, dw, [sum, product], scratch);
        gradients.fold(executor, index, count);
        let Kind::Stem { stem, weight, .. } = &executor.stages[index].kind else { return };
        let slot = executor.slots.trained[*weight].range.clone();
        let state = executor.stems[index].as_ref().expect("a stem has a state");
        let ChainGradient { factor, slope, .. } = gradients.chains[index].as_ref().expect("a chain has its numbers");
        let dw = &mut gradients.weights[slot.clone()];
        stem.backward_weights(count, &executor.weights[slot], state, [factor, slope], dw);
    }

    /// The sums that a chain's norm needs.
    fn sum_chain(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize, mode: Mode) {
        let stage = &executor.stages[index];
        let Kind::Chain { chain, drop, .. } = &stage.kind else { return };
        let (dy_view, x_view) = (self.of_output(index), executor.values[stage.inputs[0]]);
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [scratch]) = executor.arena.split(reads, [self.flows.scratch[index].clone()]);
        let state = executor.chains[index].as_ref().expect("a chain has its numbers");
        let given = given(count, dy_view.maps(dy), state, mode.drop(*drop));
        let sums = gradients.sums(index);
        chain.backward_sums(executor.engine.pool(), &given, x_view.maps(x), sums, scratch);
    }

    /// The same where something is added to the norm, which gets its gradient too; the ReLU after it has been gone back
    /// through then.
    fn sum_norm_sum(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize) {
        let addend = self.target(executor, index, 1);
        let stage = &executor.stages[index];
        let Kind::NormSum { chain, relu, .. } = &stage.kind else { return };
        let (dy_view, x_view, y_view) =
            (self.of_output(index), executor.values[stage.inputs[0]], executor.values[index]);
        let scratch = self.flows.scratch[index].clone();
        let none = Span { buffer: scratch.buffer, range: 0..0 };
        let reads = [x_view.span(count), if *relu { y_view.span(count) } else { none.clone() }];
        let addend_span = addend.map_or(none, |(view, _)| view.span(count));
        let ([x, y], [dy, da, scratch]) = executor.arena.split(reads, [dy_view.span(count), addend_span, scratch]);
        let state = executor.chains[index].as_ref().expect("a chain has its numbers");
        let (activation, y) = (stage::activation(*relu), relu.then(|| y_view.maps(y)));
        let given = SumGiven { batch: count, x: x_view.maps(x), activation, y, mean: &state.mean };
        let addend = addend.map(|(view, accumulate)| (view.maps_mut(da), accumulate));
        let gradients = SumGradients { dy: dy_view.maps_mut(dy), addend, sums: gradients.sums(index) };
        chain.backward_sums_of_sum(executor.engine.pool(), &given, gradients, scratch);
    }

    /// A chain's gradient of its input.
    fn run_chain(&self, executor: &mut Executor, gradients: &mut Gradients, index: usize, count: usize, mode: Mode) {
        let stage = &executor.stages[index];
        let (chain, drop) = match &stage.kind {
            Kind::Chain { chain, drop, .. } => (chain, mode.drop(*drop)),
            Kind::NormSum { chain, .. } => (chain, None),
            kind => unreachable!("{kind:?} is not a chain"),
        };
        let (dy_view, x_view) = (self.of_output(index), executor.values[stage.inputs[0]]);
        let threads = executor.engine.pool();
        let state = executor.chains[index].as_ref().expect("a chain has its numbers");
        let chain_gradient = gradients.chains[index].as_mut().expect("a chain has its numbers");
        let ChainGradient { factor, slope, offset, .. } = chain_gradient;
        let linear: [&[f32]; 3] = [factor, slope, offset];
        let Some((dx_view, accumulate)) = self.target(executor, index, 0) else { return };
        if dx_view == x_view {
            let ([dy], [dx]) = executor.arena.split([dy_view.span(count)], [dx_view.span(count)]);
            let given = given(count, dy_view.maps(dy), state, drop);
            return chain.backward_data(threads, &given, linear, Source::InPlace, dx_view.maps_mut(dx));
        }
        let ([x, dy], [dx]) = executor.arena.split([x_view.span(count), dy_view.span(count)], [dx_view.span(count)]);
        let source = Source::Apart { x: x_view.maps(x), accumulate };
        chain.backward_data(
            threads,
            &given(count, dy_view.maps(dy), state, drop),
            linear,
            source,
            dx_view.maps_mut(dx),
        );
    }
}

fn given<'a>(batch: usize, dy: Maps<'a>, state: &'a ChainState, drop: Option<Drop>) -> Given<'a> {
    Given { batch, dy, scale: &state.scale, shift: &state.shift, mean: &state.mean, drop }
}
