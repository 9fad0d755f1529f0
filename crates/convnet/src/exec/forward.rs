//! The forward direction, for training and inference.

use super::Engine;
use super::arena::{Arena, BufferId, Lives, Span};
use super::moments::{self, Moments};
use super::parameters::{flat_len, pack};
use super::profile::Profile;
use super::stage::{self, DropNode, Kind, Layout, Norm, Purpose, Stage, Stages};
use super::views::{Places, channel_offsets, place};
use super::waves::{Wave, homes, waves};
use crate::{Result, Tensor};
use convnet_kernels::activation::{self, Activation};
use convnet_kernels::conv::Epilogue;
use convnet_kernels::layout::{Maps, MapsMut, blocks, from_blocked_rows, to_blocked};
use convnet_kernels::memory::Buffer;
use convnet_kernels::merge::{self, ChannelCopy};
use convnet_kernels::moments::{MomentParts, merge as merge_moments, sum as sum_moments};
use convnet_kernels::norm::Drop;
use convnet_kernels::precision::Precision;
use convnet_kernels::simd::LANES;
use convnet_kernels::stem::{StemInput, StemNorm, StemState};
use convnet_kernels::threads::Threads;
use convnet_kernels::{dropout, random};
use std::borrow::Borrow;
use std::collections::BTreeMap;

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

/// A stage's output or its gradient: pictures of `len` floats in a buffer, each `stride` after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) buffer: BufferId,
    pub(super) offset: usize,
    pub(super) stride: usize,
    pub(super) len: usize,
    /// Whether the buffer has room for the pictures of one wave alone.
    pub(super) of_wave: bool,
    /// How its numbers are stored.
    pub(super) stored: Precision,
}

impl View {
    /// A buffer's only tenant, for the pictures of a batch in `f32`.
    pub(super) fn whole(buffer: BufferId, len: usize) -> View {
        View { buffer, offset: 0, stride: len, len, of_wave: false, stored: Precision::F32 }
    }

    /// What a wave that begins with picture `first` sees.
    fn at_picture(self, first: usize) -> View {
        let before = if self.of_wave { 0 } else { first * self.stride };
        View { offset: self.offset + before, ..self }
    }

    /// The first `count` pictures.
    pub(super) fn span(&self, count: usize) -> Span {
        Span { buffer: self.buffer, range: self.offset..self.offset + (count - 1) * self.stride + self.len }
    }

    pub(super) fn maps<'a>(&self, data: &'a [f32]) -> Maps<'a> {
        Maps { data, stride: self.stride, stored: self.stored }
    }

    pub(super) fn maps_mut<'a>(&self, data: &'a mut [f32]) -> MapsMut<'a> {
        MapsMut { data, stride: self.stride, stored: self.stored }
    }
}

/// Stages with their memory and parameters.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) engine: Engine,
    pub(super) stages: Vec<Stage>,
    /// The stages whose outputs the caller reads: the net's output, then the auxiliary ones.
    pub(super) outputs: Vec<usize>,
    pub(super) arena: Arena,
    /// Each stage's output.
    pub(super) values: Vec<View>,
    waves: Vec<Wave>,
    forward: Vec<Step>,
    pub(super) slots: super::parameters::Parameters,
    pub(super) weights: Buffer,
    pub(super) running: Buffer,
    pub(super) chains: Vec<Option<ChainState>>,
    pub(super) stems: Vec<Option<StemState>>,
    /// Of each stage's output that a norm reads.
    moments: Vec<Option<Moments>>,
    pub(super) profile: Profile,
    pub(super) batch: usize,
}

/// Pictures of a batch.
#[derive(Clone, Copy, Debug)]
struct Part {
    first: usize,
    count: usize,
}

/// What forward knows of a stage beside what it computes.
#[derive(Debug)]
struct Step {
    scratch: Span,
    /// The input whose place the output takes.
    in_place: Option<usize>,
    /// A concatenation's inputs that are not written where they belong: index, and channels before it.
    copied: Vec<(usize, usize)>,
    /// Parts of the output's moments.
    parts: Span,
    /// The stages that have the moments of a norm's input, and the first channel of each.
    sources: Vec<(usize, usize)>,
}

/// Values, scratch and their lives in the forward direction: stage `i` runs at moment `i`.
pub(super) struct ForwardPlan {
    pub(super) lives: Lives,
    pub(super) values: Vec<View>,
    pub(super) places: Places,
    waves: Vec<Wave>,
    scratch: Vec<Span>,
    parts: Vec<Span>,
    sources: Vec<Vec<(usize, usize)>>,
}

pub(super) fn plan(stages: &Stages, purpose: Purpose, batch: usize, threads: usize) -> ForwardPlan {
    let mut lives = Lives::default();
    let places = place(stages, purpose);
    let list = &stages.stages;
    let waves = waves(list);
    let homes = homes(stages, &places, &waves);
    let mut buffers = vec![None; list.len()];
    for wave in &waves {
        for i in wave.stages.clone() {
            let root = places.places[i].root;
            let pictures = if homes[root].is_some() { wave.pictures } else { batch };
            buffers[root].get_or_insert_with(|| lives.begin(list[root].floats() * pictures, i));
            for &value in list[i].inputs.iter().chain([&i]) {
                let root = places.places[value].root;
                let buffer = buffers[root].expect("stages stand in running order");
                lives.use_at(buffer, i);
                if homes[root].is_none() {
                    // Pictures of it are written or read whenever the wave comes round.
                    lives.use_at(buffer, wave.stages.start);
                    lives.use_at(buffer, wave.stages.end - 1);
                }
            }
        }
    }
    let view = |i: usize| {
        let (place, len, stored) = (places.places[i], list[i].floats(), list[i].stored);
        let buffer = buffers[place.root].expect("every stage has a root");
        let (stride, of_wave) = (list[place.root].floats(), homes[place.root].is_some());
        View { buffer, offset: place.offset / stored.per_word(), stride, len, of_wave, stored }
    };
    let values: Vec<View> = (0..list.len()).map(view).collect();
    for &output in &stages.outputs {
        lives.use_at(values[output].buffer, list.len());
    }
    let scratch = list.iter().enumerate().map(|(i, stage)| {
        let len = match &stage.kind {
            Kind::Conv { conv, .. } => conv.forward_scratch(stage.pictures, threads),
            Kind::Stem { stem, .. } => stem.forward_scratch(batch, threads),
            Kind::Linear { linear, .. } => linear.scratch_len(threads),
            Kind::Chain { .. } | Kind::NormSum { .. } | Kind::Load | Kind::Pool(_) | Kind::LocalResponseNorm(_) => 0,
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Flatten { .. } => 0,
            Kind::Add { .. } | Kind::Concat | Kind::PadChannels { .. } => 0,
        };
        Span { buffer: lives.begin(len, i), range: 0..len }
    });
    let scratch = scratch.collect();
    let sources = moments::sources(stages, purpose);
    let parts = (0..list.len()).map(|i| {
        let wanted = sources.iter().flatten().any(|&(source, _)| source == i);
        let len = if wanted { moments::scratch_len(stages, i, batch) } else { 0 };
        Span { buffer: lives.begin(len, i), range: 0..len }
    });
    let parts = parts.collect();
    ForwardPlan { lives, values, places, waves, scratch, parts, sources }
}

impl Executor {
    /// Places the plan's buffers and packs the parameters.
    pub(super) fn new<T: Borrow<Tensor>>(
        engine: &Engine,
        stages: Stages,
        plan: ForwardPlan,
        batch: usize,
        state: &BTreeMap<String, T>,
    ) -> Result<Executor> {
        let ForwardPlan { lives, values, places, waves, scratch, parts, sources } = plan;
        let left = stages.stages.iter().zip(&parts).map(|(stage, parts)| {
            let channels = || stage.output.channels_and_pixels()[0];
            (!parts.range.is_empty()).then(|| Moments::of(channels()))
        });
        let moments = left.collect();
        let steps = scratch.into_iter().zip(parts).zip(sources).enumerate().map(|(i, ((scratch, parts), sources))| {
            let copied = copied_inputs(&stages, &places, i);
            Step { scratch, in_place: places.in_place[i], copied, parts, sources }
        });
        let forward = steps.collect();
        let Stages { stages, parameters, outputs } = stages;
        let weights = pack(&parameters.trained, &stages, "", state)?;
        let running = pack(&parameters.buffers, &stages, "", state)?;
        let chains = stages.iter().map(|stage| match (&stage.kind, stage.output) {
            (Kind::Chain { .. } | Kind::NormSum { .. } | Kind::Stem { .. }, Layout::Blocked([c, ..])) => {
                Some(ChainState::identity(blocks(c) * LANES))
            }
            (_, _) => None,
        });
        let stems = stages.iter().map(|stage| {
            let Kind::Stem { stem, .. } = &stage.kind else { return None };
            Some(stem.state(batch))
        });
        Ok(Executor {
            chains: chains.collect(),
            stems: stems.collect(),
            moments,
            engine: engine.clone(),
            arena: lives.place(),
            values,
            waves,
            forward,
            slots: parameters,
            weights,
            running,
            profile: Profile::default(),
            batch,
            stages,
            outputs,
        })
    }

    /// Floats of the trained parameters.
    pub(super) fn weights_len(&self) -> usize {
        flat_len(&self.slots.trained)
    }

    /// Runs all stages on `count` pictures in plain NCHW.
    pub(super) fn forward(&mut self, images: &[f32], count: usize, mode: Mode) {
        let image = images.len() / count;
        for wave in 0..self.waves.len() {
            let Wave { stages, pictures } = self.waves[wave].clone();
            for first in (0..count).step_by(pictures) {
                let part = Part { first, count: pictures.min(count - first) };
                let images = &images[first * image..][..part.count * image];
                for index in stages.clone() {
                    let start = self.profile.start();
                    if let Mode::Training { .. } = mode {
                        self.find_stem_moments(index, count);
                        self.prepare_norm(index, count);
                    }
                    self.forward_stage(index, images, part, mode);
                    self.find_moments(index, count);
                    let stage = &self.stages[index];
                    self.profile.stop(start, &stage.name, "forward", stage.macs * part.count as u64);
                }
            }
        }
    }

    /// A stage's output of some pictures.
    fn value(&self, stage: usize, part: Part) -> View {
        self.values[stage].at_picture(part.first)
    }

    fn forward_stage(&mut self, index: usize, images: &[f32], part: Part, mode: Mode) {
        let count = part.count;
        let stage = &self.stages[index];
        let threads = self.engine.pool();
        let (y_view, scratch) = (self.value(index, part), self.forward[index].scratch.clone());
        let x_view = self.value(stage.inputs.first().copied().unwrap_or(index), part);
        let slot = |i: usize| self.slots.trained[i].range.clone();
        match &stage.kind {
            Kind::Load => {
                let ([], [to]) = self.arena.split([], [y_view.span(count)]);
                load(threads, stage.output, count, images, y_view.maps_mut(to));
            }
            Kind::Conv { conv, weight, bias, addend, relu } => {
                let addend_view = if *addend { self.value(stage.inputs[1], part) } else { x_view };
                let reads = [x_view, addend_view].map(|view| view.span(count));
                let writes = [y_view.span(count), scratch, self.forward[index].parts.clone()];
                let ([x, other], [y, scratch, parts]) = self.arena.split(reads, writes);
                let bias = bias.map(|b| &self.weights[slot(b)]);
                let moments = self.moments[index].is_some();
                let moments = moments.then(|| MomentParts::new(parts, conv.shape().out_channels));
                let addend = addend.then(|| addend_view.maps(other));
                let epilogue = Epilogue { bias, addend, activation: stage::activation(*relu), moments };
                let (x, y) = (x_view.maps(x), y_view.maps_mut(y));
                conv.forward(threads, count, x, &self.weights[slot(*weight)], &epilogue, y, scratch);
            }
            Kind::Chain { chain, drop, .. } => {
                let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
                let (x, y) = (x_view.maps(x), y_view.maps_mut(y));
                let state = self.chains[index].as_ref().expect("a chain has its numbers");
                chain.forward(threads, count, x, &state.scale, &state.shift, mode.drop(*drop), y);
            }
            Kind::Stem { stem, weight, bias, drop, .. } => {
                let ([x], [y, scratch]) = self.arena.split([x_view.span(count)], [y_view.span(count), scratch]);
                let bias = bias.map(|b| &self.weights[slot(b)]);
                let state = self.chains[index].as_ref().expect("a chain has its numbers");
                let (x, y) = (x_view.maps(x), y_view.maps_mut(y));
                let input = StemInput { batch: count, x, weights: &self.weights[slot(*weight)], bias };
                let norm = StemNorm { scale: &state.scale, shift: &state.shift, drop: mode.drop(*drop) };
                let state = self.stems[index].as_mut().expect("a stem has a state");
                stem.forward(threads, &input, &norm, state, y, scratch);
            }
            Kind::NormSum { chain, relu, .. } => {
                let addend_view = self.value(stage.inputs[1], part);
                let reads = [x_view, addend_view].map(|view| view.span(count));
                let ([x, addend], [y]) = self.arena.split(reads, [y_view.span(count)]);
                let (x, addend, y) = (x_view.maps(x), addend_view.maps(addend), y_view.maps_mut(y));
                let state = self.chains[index].as_ref().expect("a chain has its numbers");
                chain.forward_sum(threads, count, x, [&state.scale, &state.shift], addend, stage::activation(*relu), y);
            }
            Kind::Linear { linear, weight, bias, relu } => {
                let ([x], [y, scratch]) = self.arena.split([x_view.span(count)], [y_view.span(count), scratch]);
                let bias = bias.map(|b| &self.weights[slot(b)]);
                linear.forward(
                    threads,
                    count,
                    x,
                    &self.weights[slot(*weight)],
                    bias,
                    stage::activation(*relu),
                    y,
                    scratch,
                );
            }
            Kind::Pool(pool) => {
                let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
                pool.forward(threads, count, x_view.maps(x), y_view.maps_mut(y));
            }
            Kind::LocalResponseNorm(lrn) => {
                let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
                lrn.forward(threads, count, x_view.maps(x), y_view.maps_mut(y));
            }
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } => self.run_in_place(index, part, mode),
            Kind::Flatten { from: [c, h, w] } => {
                let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
                from_blocked_rows(threads, [count, *c, h * w], x_view.maps(x), y);
            }
            Kind::Add { relu } => self.add(index, *relu, part),
            Kind::Concat => self.concat(index, part),
            Kind::PadChannels { before } => {
                let [channels, pixels] = self.stages[stage.inputs[0]].output.channels_and_pixels();
                let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
                let copy = ChannelCopy { batch: count, pixels, count: channels, from: 0, to: *before };
                let all = 0..y_view.len / (pixels * LANES);
                merge::clear_blocks(threads, [count, pixels], all, y_view.maps_mut(y));
                merge::copy_channels(threads, &copy, x_view.maps(x), y_view.maps_mut(y), false);
            }
        }
    }

    /// What a norm computes with, from the moments of its input, and its running statistics.
    fn prepare_norm(&mut self, index: usize, count: usize) {
        let stage = &self.stages[index];
        let Some(norm) = stage.kind.norm() else { return };
        let state = self.chains[index].as_mut().expect("a chain has its numbers");
        for &(source, first) in &self.forward[index].sources {
            let [channels, _] = self.stages[source].output.channels_and_pixels();
            let found = self.moments[source].as_ref().expect("what a norm reads has moments");
            state.mean[first..first + channels].copy_from_slice(&found.mean[..channels]);
            state.var[first..first + channels].copy_from_slice(&found.var[..channels]);
        }
        let slot = |i: usize| self.slots.trained[i].range.clone();
        state.fold(norm.eps, &self.weights[slot(norm.weight)], &self.weights[slot(norm.bias)]);
        let running = norm.running.map(|i| self.slots.buffers[i].range.clone());
        let [mean, var] = self.running.get_disjoint_mut(running).expect("slots do not overlap");
        update_running(norm, count * norm.pixels, state, mean, var);
    }

    /// Mean and variance of a stem's convolution, from its patches.
    fn find_stem_moments(&mut self, index: usize, count: usize) {
        let stage = &self.stages[index];
        let Kind::Stem { stem, weight, bias, .. } = &stage.kind else { return };
        let x_view = self.values[stage.inputs[0]];
        let ([x], [scratch]) = self.arena.split([x_view.span(count)], [self.forward[index].scratch.clone()]);
        let slot = |i: usize| self.slots.trained[i].range.clone();
        let bias = bias.map(|b| &self.weights[slot(b)]);
        let input = StemInput { batch: count, x: x_view.maps(x), weights: &self.weights[slot(*weight)], bias };
        let state = self.chains[index].as_mut().expect("a chain has its numbers");
        let own = self.stems[index].as_mut().expect("a stem has a state");
        stem.moments(self.engine.pool(), &input, own, [&mut state.mean, &mut state.var], scratch);
    }

    /// Mean and variance of a stage's output, where a norm needs them. A convolution has left their parts.
    fn find_moments(&mut self, index: usize, count: usize) {
        let Some(Moments { mean, var }) = &mut self.moments[index] else { return };
        let (threads, isa) = (self.engine.pool(), self.engine.set());
        let (stage, view) = (&self.stages[index], self.values[index]);
        let [channels, pixels] = stage.output.channels_and_pixels();
        let ([values], [parts]) = self.arena.split([view.span(count)], [self.forward[index].parts.clone()]);
        let number = if let Kind::Conv { conv, .. } = &stage.kind {
            conv.moment_parts(count)
        } else {
            sum_moments(isa, threads, [count, channels, pixels], view.maps(values), parts);
            count
        };
        merge_moments(isa, threads, [number, channels], parts, mean, var);
    }

    /// ReLU, tanh and dropout, after a copy of the input where its place could not be taken.
    fn run_in_place(&mut self, index: usize, part: Part, mode: Mode) {
        let count = part.count;
        let stage = &self.stages[index];
        let (threads, isa) = (self.engine.pool(), self.engine.set());
        let (x_view, y_view) = (self.value(stage.inputs[0], part), self.value(index, part));
        let shape = [count, y_view.len];
        let [channels, pixels] = stage.output.channels_and_pixels();
        if self.forward[index].in_place.is_none() {
            let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
            merge::copy(threads, shape, x_view.maps(x), y_view.maps_mut(y));
        }
        let ([], [y]) = self.arena.split([], [y_view.span(count)]);
        let y = y_view.maps_mut(y);
        match &stage.kind {
            Kind::Relu => activation::forward(isa, threads, [count, channels, pixels], Activation::Relu, y),
            Kind::Tanh => activation::forward(isa, threads, [count, channels, pixels], Activation::Tanh, y),
            Kind::Dropout { drop, channels } => {
                if let Some(drop) = mode.drop(Some(*drop)) {
                    dropout(threads, drop, *channels, stage.output, count, y);
                }
            }
            kind => unreachable!("{kind:?} is not computed in place"),
        }
    }

    /// The sum of all inputs; the last addition has the ReLU.
    fn add(&mut self, index: usize, relu: bool, part: Part) {
        let count = part.count;
        let (threads, isa) = (self.engine.pool(), self.engine.set());
        let y_view = self.value(index, part);
        let inputs = &self.stages[index].inputs;
        let [channels, pixels] = self.stages[index].output.channels_and_pixels();
        let shape = [count, channels, pixels];
        let start = match self.forward[index].in_place {
            Some(_) => 0,
            None => {
                let views = [0, 1].map(|i| self.value(inputs[i], part));
                let ([a, b], [y]) = self.arena.split(views.map(|view| view.span(count)), [y_view.span(count)]);
                let sum = [views[0].maps(a), views[1].maps(b)];
                merge::add(isa, threads, shape, sum, stage::activation(relu && inputs.len() == 2), y_view.maps_mut(y));
                2
            }
        };
        let own = self.forward[index].in_place;
        let last = (start..inputs.len()).rev().find(|&i| own != Some(i));
        for i in (start..inputs.len()).filter(|&i| own != Some(i)) {
            let x_view = self.value(inputs[i], part);
            let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
            merge::accumulate(
                isa,
                threads,
                shape,
                x_view.maps(x),
                stage::activation(relu && last == Some(i)),
                y_view.maps_mut(y),
            );
        }
    }

    /// Copies those inputs of a concatenation that are not where they belong.
    fn concat(&mut self, index: usize, part: Part) {
        let count = part.count;
        let threads = self.engine.pool();
        let y_view = self.value(index, part);
        let [channels, pixels] = self.stages[index].output.channels_and_pixels();
        let copied = &self.forward[index].copied;
        // The lanes past the last channel stay 0. A last input that lies where it belongs has seen to that itself.
        let ends = copied.last().map(|&(input, _)| input) == self.stages[index].inputs.last().copied();
        if !channels.is_multiple_of(LANES) && ends {
            let ([], [y]) = self.arena.split([], [y_view.span(count)]);
            let last = channels / LANES..blocks(channels);
            merge::clear_blocks(threads, [count, pixels], last, y_view.maps_mut(y));
        }
        for &(input, to) in copied {
            let x_view = self.value(input, part);
            let [own, _] = self.stages[input].output.channels_and_pixels();
            let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
            let copy = ChannelCopy { batch: count, pixels, count: own, from: 0, to };
            merge::copy_channels(threads, &copy, x_view.maps(x), y_view.maps_mut(y), false);
        }
    }
}

/// The inputs of a concatenation that do not lie in its buffer, with the channels before each; of another stage, none.
pub(super) fn copied_inputs(stages: &Stages, places: &Places, concat: usize) -> Vec<(usize, usize)> {
    if !matches!(stages.stages[concat].kind, Kind::Concat) {
        return Vec::new();
    }
    let own = places.places[concat];
    let belongs = |input: usize, channels: usize| {
        let [_, pixels] = stages.stages[input].output.channels_and_pixels();
        let place = places.places[input];
        place.root == own.root && place.offset == own.offset + channels * pixels
    };
    channel_offsets(stages, concat).filter(|&(input, channels)| !belongs(input, channels)).collect()
}

/// The caller's plain pictures in a stage's layout.
fn load(threads: &Threads, layout: Layout, count: usize, images: &[f32], to: MapsMut<'_>) {
    match layout {
        Layout::Plain(len) => to.data.copy_from_slice(&images[..count * len]),
        Layout::Blocked([c, h, w]) => to_blocked(threads, [count, c, h * w], images, to),
        Layout::Row(features) => {
            for (row, image) in to.data.chunks_exact_mut(layout.len()).zip(images.chunks_exact(features)) {
                row[..features].copy_from_slice(image);
                row[features..].fill(0.0);
            }
        }
    }
}

/// Dropout in place, of the values or of their gradient.
pub(super) fn dropout(threads: &Threads, drop: Drop, channels: bool, layout: Layout, count: usize, data: MapsMut<'_>) {
    match layout {
        Layout::Blocked([c, h, w]) if channels => {
            dropout::channels(threads, [count, c, h * w], drop.seed, drop.p, data);
        }
        Layout::Blocked([c, h, w]) => dropout::maps(threads, [count, c, h * w], drop.seed, drop.p, data),
        Layout::Row(features) => dropout::rows(threads, [count, features], drop.seed, drop.p, data),
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
