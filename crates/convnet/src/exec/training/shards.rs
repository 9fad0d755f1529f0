//! A batch in shards: each is a pass of its own, and what the passes find is added up in the order of a tree.

use super::{Step, Training};
use crate::Result;
use crate::distributed::Node;
use crate::exec::Targets;
use convnet_kernels::activation::Activation;
use convnet_kernels::layout::{Maps, MapsMut};
use convnet_kernels::memory::Buffer;
use convnet_kernels::merge;

/// What shards of a batch add up to: each shard counts by its share of the batch's pictures.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Gradients of the mean loss over the whole batch.
    pub(crate) gradients: Buffer,
    /// How far the running statistics move.
    pub(crate) moves: Buffer,
}

/// A shard of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard {
    /// Its number, which decides what dropout drops.
    pub(crate) index: usize,
    /// Its share of the batch's pictures.
    pub(crate) share: f64,
}

impl Training {
    /// Forward and backward of a shard; to be called by what [`Training::sum_shards`] calls.
    ///
    /// # Errors
    /// As [`Training::gradients`].
    pub(crate) fn shard<'t>(&mut self, images: &[f32], targets: impl Into<Targets<'t>>, shard: Shard) -> Result<Step> {
        self.passes = shard.index as u64;
        self.pass(images, targets.into(), false, shard.share as f32)
    }

    /// Adds up these shards. `pass` calls [`Training::shard`] for one of them and says its share, or does nothing for a shard without
    /// pictures, whose share is 0. Parameters and running statistics stay as they are.
    ///
    /// # Errors
    /// Those of `pass`.
    pub(crate) fn sum_shards(
        &mut self,
        shards: Node,
        pass: &mut dyn FnMut(&mut Training, usize) -> Result<f64>,
    ) -> Result<Sums> {
        match shards.halves() {
            None => self.sums_of(shards.first, pass),
            Some([left, right]) => {
                let mut sums = self.sum_shards(left, pass)?;
                let other = self.sum_shards(right, pass)?;
                self.add(&mut sums.gradients, &other.gradients);
                self.add(&mut sums.moves, &other.moves);
                self.spare.push(other);
                Ok(sums)
            }
        }
    }

    fn sums_of(&mut self, shard: usize, pass: &mut dyn FnMut(&mut Training, usize) -> Result<f64>) -> Result<Sums> {
        let mut sums = self.spare.pop().unwrap_or_else(|| Sums {
            gradients: Buffer::zeros(self.gradients.len()),
            moves: Buffer::zeros(self.running.len()),
        });
        sums.moves.copy_from_slice(&self.running);
        std::mem::swap(&mut self.gradients, &mut sums.gradients);
        let share = pass(self, shard);
        std::mem::swap(&mut self.gradients, &mut sums.gradients);
        let share = share?;
        if share == 0.0 {
            sums.gradients.fill(0.0);
        }
        for (before, running) in sums.moves.iter_mut().zip(self.running.iter_mut()) {
            let moved = share as f32 * (*running - *before);
            *running = *before;
            *before = moved;
        }
        Ok(sums)
    }

    /// Takes what all shards of a batch add up to: as if [`Training::gradients`] had been called for the batch.
    pub(crate) fn take_sums(&mut self, mut sums: Sums) {
        std::mem::swap(&mut self.gradients, &mut sums.gradients);
        self.running.iter_mut().zip(&*sums.moves).for_each(|(running, moves)| *running += moves);
        self.spare.push(sums);
    }

    /// Gives back memory of sums.
    pub(crate) fn spare(&mut self, sums: Sums) {
        self.spare.push(sums);
    }

    fn add(&self, sum: &mut Buffer, other: &Buffer) {
        let (engine, len) = (&self.session.plan.engine, sum.len());
        let other = Maps::packed(other, len);
        merge::accumulate(
            engine.set(),
            engine.pool(),
            [1, len, 1],
            other,
            Activation::Identity,
            MapsMut::packed(sum, len),
        );
    }
}
