//! What a stage is given to run, forward and backward.

use super::State;
use super::dropout::DropNode;
use crate::exec::arena::{Arena, Span, View};
use crate::exec::cpu::plan::Step;
use crate::exec::cpu::statistics::Statistics;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::Stage;
use crate::exec::parameters::{Slot, WeightsRef};
use convnet_kernels::activation::Activation;
use convnet_kernels::merge;
use convnet_kernels::norm::Drop;
use convnet_kernels::random;
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use std::any::Any;

/// What forward is run for.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec) enum Mode {
    /// With dropout of this seed, which is the step's, and moving running statistics.
    Training { seed: u64 },
    /// Without dropout, for the sake of the running statistics, which move towards the batch's by this share.
    Statistics { momentum: f32 },
    /// With running statistics and no dropout, backward included.
    Evaluation,
    /// The same of parameters that are fixed.
    Inference,
}

impl Mode {
    /// A layer's dropout in this step.
    pub(super) fn drop(self, drop: Option<DropNode>) -> Option<Drop> {
        match (self, drop) {
            (Mode::Training { seed }, Some(DropNode { node, p })) => {
                Some(Drop { seed: random::mix(seed, node as u64), p })
            }
            (Mode::Training { .. }, None) | (Mode::Statistics { .. } | Mode::Evaluation | Mode::Inference, _) => None,
        }
    }

    /// The share by which running statistics move towards the batch's, where a norm's own is that.
    pub(super) fn momentum(self, own: f32) -> f32 {
        match self {
            Mode::Statistics { momentum } => momentum,
            Mode::Training { .. } | Mode::Evaluation | Mode::Inference => own,
        }
    }
}

/// A call of all stages.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec) struct Pass {
    pub(in crate::exec) mode: Mode,
    /// Its pictures.
    pub(in crate::exec) count: usize,
    /// Pictures that are normalised together: these, or those of all shards of a batch.
    pub(in crate::exec) normalized: usize,
}

impl Pass {
    /// A call that knows of no other pictures.
    pub(in crate::exec) fn of(count: usize, mode: Mode) -> Pass {
        Pass { mode, count, normalized: count }
    }
}

/// Pictures of a batch.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec) struct Part {
    pub(in crate::exec) first: usize,
    pub(in crate::exec) count: usize,
}

/// Forward of one stage.
pub(in crate::exec) struct Forward<'a> {
    pub(in crate::exec) threads: &'a Threads,
    pub(in crate::exec) isa: Isa,
    /// The part's pictures, in plain NCHW.
    pub(in crate::exec) images: &'a [f32],
    pub(in crate::exec) part: Part,
    pub(in crate::exec) mode: Mode,
    /// Pictures that are normalised together.
    pub(in crate::exec) normalized: usize,
    pub(in crate::exec) stages: &'a [Stage],
    pub(in crate::exec) index: usize,
    pub(in crate::exec) step: &'a Step,
    pub(in crate::exec) views: &'a [View],
    pub(in crate::exec) arena: &'a mut Arena,
    pub(in crate::exec) weights: WeightsRef<'a>,
    pub(in crate::exec) running: &'a mut [f32],
    pub(in crate::exec) running_slots: &'a [Slot],
    /// Statistics of each stage's output that a norm reads.
    pub(in crate::exec) statistics: &'a [Option<Statistics>],
    pub(in crate::exec) state: &'a mut State,
}

impl Forward<'_> {
    pub(super) fn stage(&self) -> &Stage {
        &self.stages[self.index]
    }

    pub(super) fn count(&self) -> usize {
        self.part.count
    }

    /// The stage that computes an input.
    pub(super) fn producer(&self, input: usize) -> &Stage {
        &self.stages[self.stage().inputs[input]]
    }

    /// Pictures of an input.
    pub(super) fn input(&self, input: usize) -> View {
        self.views[self.stage().inputs[input]].at_picture(self.part.first)
    }

    /// Pictures of the output.
    pub(super) fn output(&self) -> View {
        self.views[self.index].at_picture(self.part.first)
    }

    /// The first input and the output.
    pub(super) fn views(&self) -> [View; 2] {
        [self.input(0), self.output()]
    }

    pub(super) fn scratch(&self) -> Span {
        self.step.scratch.clone()
    }

    /// Calls `stage` with the stage's own state beside the rest.
    pub(super) fn with_state<T: Any>(&mut self, stage: impl FnOnce(&mut Self, &mut T)) {
        let mut state = std::mem::replace(self.state, State::none());
        stage(self, state.get());
        *self.state = state;
    }
}

/// Backward of one stage.
pub(in crate::exec) struct Backward<'a> {
    pub(in crate::exec) threads: &'a Threads,
    pub(in crate::exec) isa: Isa,
    pub(in crate::exec) count: usize,
    pub(in crate::exec) mode: Mode,
    /// Pictures that are normalised together.
    pub(in crate::exec) normalized: usize,
    pub(in crate::exec) stages: &'a [Stage],
    pub(in crate::exec) index: usize,
    pub(in crate::exec) step: &'a Step,
    pub(in crate::exec) scratch: &'a Span,
    /// Whether the stage's bias stands before a batch norm, which takes every constant away again: its gradient is 0, and
    /// PyTorch's rounding noise in its place.
    pub(in crate::exec) idle_bias: bool,
    pub(in crate::exec) views: &'a [View],
    pub(in crate::exec) gradients: &'a [Option<View>],
    pub(in crate::exec) flows: &'a [Flow],
    pub(in crate::exec) arena: &'a mut Arena,
    pub(in crate::exec) weights: WeightsRef<'a>,
    /// Gradients of the parameters, in the slots of those that are trained.
    pub(in crate::exec) weight_gradients: &'a mut [f32],
    pub(in crate::exec) state: &'a mut State,
}

impl Backward<'_> {
    pub(super) fn stage(&self) -> &Stage {
        &self.stages[self.index]
    }

    /// The stage that computes an input.
    pub(super) fn producer(&self, input: usize) -> &Stage {
        &self.stages[self.stage().inputs[input]]
    }

    pub(super) fn input(&self, input: usize) -> View {
        self.views[self.stage().inputs[input]]
    }

    pub(super) fn output(&self) -> View {
        self.views[self.index]
    }

    pub(super) fn output_gradient(&self) -> View {
        self.gradients[self.index].expect("a stage runs backward when its output has a gradient")
    }

    /// Where an input's gradient lies and whether it is added to what stands there, unless nobody asks for it or it has
    /// arrived already.
    pub(super) fn input_gradient(&self, input: usize) -> Option<(View, bool)> {
        let view = self.gradients[self.stage().inputs[input]]?;
        match self.flows[input] {
            Flow::Unwanted | Flow::Shared => None,
            Flow::Write => Some((view, false)),
            Flow::Accumulate => Some((view, true)),
        }
    }

    /// A span of no floats.
    pub(super) fn no_floats(&self) -> Span {
        Span::empty(self.scratch.buffer)
    }

    /// Calls `stage` with the stage's own state beside the rest.
    pub(super) fn with_state<T: Any>(&mut self, stage: impl FnOnce(&mut Self, &mut T)) {
        let mut state = std::mem::replace(self.state, State::none());
        stage(self, state.get());
        *self.state = state;
    }

    /// An input's gradient where it is the output's.
    pub(super) fn pass_on(&mut self, input: usize) {
        let Some((dx_view, accumulate)) = self.input_gradient(input) else { return };
        let dy_view = self.output_gradient();
        let [channels, pixels] = self.stage().output.channels_and_pixels();
        let ([dy], [dx]) = self.arena.split([dy_view.span(self.count)], [dx_view.span(self.count)]);
        let (dy, dx) = (dy_view.maps(dy), dx_view.maps_mut(dx));
        match accumulate {
            true => {
                let shape = [self.count, channels, pixels];
                merge::accumulate(self.isa, self.threads, shape, dy, Activation::Identity, dx)
            }
            false => merge::copy(self.threads, [self.count, dx_view.len], dy, dx),
        }
    }
}
