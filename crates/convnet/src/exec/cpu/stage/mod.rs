//! Stages: what one kernel call computes, forward and backward.
//!
//! A stage's file says everything about it: which nodes it takes ([`super::lower::Lowering`] dispatches on the operation,
//! once), what placement has to know of it ([`Facts`]), its scratch, its state, and its two directions.

pub(super) mod activation;
pub(super) mod add;
pub(super) mod channel_shuffle;
pub(super) mod concat;
pub(super) mod conv;
mod conv_depthwise;
pub(super) mod dropout;
pub(super) mod flatten;
pub(super) mod layer_norm;
pub(super) mod layer_scale;
pub(super) mod linear;
pub(super) mod load;
pub(super) mod local_response_norm;
pub(super) mod mul;
mod norm;
pub(super) mod norm_act;
pub(super) mod norm_add;
pub(super) mod pad_channels;
pub(super) mod pool;
mod run;
pub(super) mod slice;
pub(super) mod softmax;
pub(super) mod stem;

pub(in crate::exec) use run::{Backward, Forward, Mode, Part, Pass};

use crate::exec::gradient_placement::Flow;
use crate::exec::graph::Facts;
use crate::exec::parameters::{Packing, Slot, WeightsRef};
use convnet_kernels::precision::Precision;
use std::any::Any;
use std::fmt::Debug;

/// What one kernel call computes.
pub(in crate::exec) trait Compute: Debug + Send + Sync {
    /// What placement has to know.
    fn facts(&self) -> Facts;

    /// Floats of scratch of forward for up to so many pictures, for a stage that uses it.
    fn forward_scratch(&self, _pictures: usize, _threads: usize) -> usize {
        0
    }

    /// Floats of scratch of backward, which gives the gradients of the inputs as `flows` say, for a stage that uses it.
    fn backward_scratch(&self, _batch: usize, _threads: usize, _flows: &[Flow]) -> usize {
        0
    }

    /// The output of some pictures.
    fn forward(&self, run: &mut Forward<'_>);

    /// The first half of backward, of a stage that normalises with the batch's statistics: its own gradients, and sums over the
    /// batch, without which it cannot say the gradient of its input.
    fn backward_sums(&self, _run: &mut Backward<'_>) {}

    /// These sums, each padded to whole blocks of channels: where several batches are normalised together, they become those of all
    /// before backward goes on.
    fn sums<'s>(&self, _state: &'s mut State) -> [&'s mut [f32]; 2] {
        [&mut [], &mut []]
    }

    /// Gradients of inputs and parameters from that of the output.
    fn backward(&self, run: &mut Backward<'_>);

    /// What a session keeps for the stage between calls.
    fn state(&self, _batch: usize) -> State {
        State::none()
    }

    /// How a weight lies, by its number among those that the stage packs.
    fn packing(&self, _weight: usize) -> Option<&dyn Packing> {
        None
    }

    /// Takes what it needs of parameters that never change again into its state, in inference.
    fn fix_parameters(&self, _fixed: Fixed<'_>) {}

    /// The parts of the output's statistics that forward leaves, where it does.
    fn statistics(&self) -> Option<&dyn LeavesStatistics> {
        None
    }

    /// Says how the first input and the output are stored, for a stage that takes bf16.
    fn set_stored(&mut self, _stored: [Precision; 2]) {}

    /// Says how far apart pictures of the output's gradient lie.
    fn set_gradient_stride(&mut self, _stride: usize) {}
}

/// A stage that leaves parts of its output's statistics where it is asked to.
pub(in crate::exec) trait LeavesStatistics {
    /// Floats for up to so many pictures.
    fn len(&self, batch: usize) -> usize;
    /// Parts of so many pictures.
    fn parts(&self, count: usize) -> usize;
}

/// What a session keeps for a stage: a value of the stage's own type.
#[derive(Debug)]
pub(in crate::exec) struct State {
    own: Box<dyn Any + Send + Sync>,
    /// Bytes that grow with the batch.
    pub(in crate::exec) bytes: usize,
}

impl State {
    fn none() -> State {
        State::new((), 0)
    }

    fn new<T: Any + Send + Sync>(own: T, bytes: usize) -> State {
        State { own: Box::new(own), bytes }
    }

    /// The value, of the type that the stage's [`Compute::state`] made.
    fn get<T: Any>(&mut self) -> &mut T {
        self.own.downcast_mut().expect("a stage's state is of its own type")
    }
}

/// Parameters that never change again.
pub(in crate::exec) struct Fixed<'a> {
    pub(in crate::exec) weights: WeightsRef<'a>,
    pub(in crate::exec) running: &'a [f32],
    pub(in crate::exec) running_slots: &'a [Slot],
    pub(in crate::exec) state: &'a mut State,
}
