//! A batch in shards: each is a pass of its own, and what the passes find is added up in the order of a tree. Of the last shard's
//! gradients each part is added as soon as backward has completed it, and sent from where it is while backward goes on.

use super::{Step, Training};
use crate::Result;
use crate::distributed::Node;
use crate::exec::{Engine, Targets};
use convnet_kernels::activation::Activation;
use convnet_kernels::layout::{Maps, MapsMut};
use convnet_kernels::memory::{Buffer, BufferPart};
use convnet_kernels::merge;
use std::iter::{Enumerate, Peekable};
use std::ops::Range;
use std::slice::Iter;
use std::time::{Duration, Instant};

/// What shards of a batch add up to: each shard counts by its share of the batch's pictures.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Gradients of the mean loss over the whole batch: from the first on, as many as nobody has been sent.
    pub(crate) gradients: BufferPart,
    /// How far the running statistics move.
    pub(crate) moves: Buffer,
}

/// Memory of sums that nobody needs at the moment.
#[derive(Debug, Default)]
pub(super) struct Spare {
    sums: Vec<Sums>,
    pub(super) buckets: Vec<BufferPart>,
}

/// A shard of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard {
    /// Its number, which decides what dropout drops.
    pub(crate) index: usize,
    /// Its share of the batch's pictures.
    pub(crate) share: f64,
}

/// A part of the gradients that is complete once backward has passed a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    stage: usize,
    pub(crate) range: Range<usize>,
}

/// Buckets as backward completes them.
pub(super) struct Completion<'b>(Peekable<Enumerate<Iter<'b, Bucket>>>);

impl<'b> Completion<'b> {
    pub(super) fn of(buckets: &'b [Bucket]) -> Completion<'b> {
        Completion(buckets.iter().enumerate().peekable())
    }

    /// The next one that is complete after a stage's backward, with its number.
    pub(super) fn after(&mut self, stage: usize) -> Option<(usize, &'b Bucket)> {
        self.0.next_if(|(_, bucket)| stage <= bucket.stage)
    }
}

/// Is told by backward after each stage, with the gradients so far, from which it may take those of this stage and of those behind it.
pub(crate) type Watch<'a> = dyn FnMut(usize, &mut BufferPart) + 'a;

/// Calls [`Training::shard`] for a shard and says its share of the batch; does nothing for one without pictures, whose share is 0.
pub(crate) type ShardPass<'a> = dyn FnMut(&mut Training, usize, &mut Watch<'_>) -> Result<f64> + 'a;

impl Training {
    /// The gradients in parts of at least so many numbers, as long as there are so many, in the order in which backward completes them.
    pub(crate) fn buckets(&self, least: usize) -> Vec<Bucket> {
        let graph = &self.session.plan.graph;
        // Where the parameters of the stages below each stage end.
        let mut below = vec![0; graph.stages.len() + 1];
        for slot in &graph.parameters.trained {
            below[slot.stage + 1] = slot.range.end.max(below[slot.stage + 1]);
        }
        for stage in 1..below.len() {
            below[stage] = below[stage].max(below[stage - 1]);
        }
        let (mut end, mut buckets) = (self.weights.flat.len(), Vec::new());
        for stage in (0..graph.stages.len()).rev() {
            let first = below[stage];
            if end > first && (first == 0 || end - first >= least) {
                buckets.push(Bucket { stage, range: first..end });
                end = first;
            }
        }
        buckets
    }

    /// Forward and backward of a shard; to be called by a [`ShardPass`].
    ///
    /// # Errors
    /// As [`Training::gradients`].
    pub(crate) fn shard<'t>(
        &mut self,
        images: &[f32],
        targets: impl Into<Targets<'t>>,
        shard: Shard,
        watch: &mut Watch<'_>,
    ) -> Result<Step> {
        self.passes = shard.index as u64;
        self.pass(images, targets.into(), false, (shard.share as f32, watch))
    }

    /// Adds up these shards; parameters and running statistics stay as they are. `send` gets the sums of the gradients, bucket by
    /// bucket: all of them, of no meaning, where something fails. What is left of the sums is returned.
    ///
    /// # Errors
    /// Those of `pass`.
    pub(crate) fn sum_shards(
        &mut self,
        shards: Node,
        buckets: &[Bucket],
        pass: &mut ShardPass<'_>,
        send: &mut dyn FnMut(usize, BufferPart),
    ) -> Result<Sums> {
        let (mut lefts, mut sent) = (Vec::new(), 0);
        let mut counted = |index: usize, bucket: BufferPart| {
            sent += 1;
            send(index, bucket);
        };
        let sums = self.sum_last(shards, &mut lefts, buckets, pass, &mut counted);
        for (index, bucket) in buckets.iter().enumerate().skip(sent) {
            send(index, Buffer::zeros(bucket.range.len()).into());
        }
        self.spare.sums.append(&mut lefts);
        sums
    }

    /// Adds up the shards of a node that ends with the last one. `lefts` has the sums that stand left of it.
    fn sum_last(
        &mut self,
        shards: Node,
        lefts: &mut Vec<Sums>,
        buckets: &[Bucket],
        pass: &mut ShardPass<'_>,
        send: &mut dyn FnMut(usize, BufferPart),
    ) -> Result<Sums> {
        if let Some([left, right]) = shards.halves() {
            let left = self.sum(left, pass)?;
            lefts.push(left);
            return self.sum_last(right, lefts, buckets, pass, send);
        }
        let engine = self.session.plan.engine.clone();
        let mut completion = Completion::of(buckets);
        let mut complete = |stage: usize, gradients: &mut BufferPart| {
            while let Some((index, Bucket { range, .. })) = completion.after(stage) {
                let mut bucket = gradients.split_off(range.start);
                debug_assert_eq!(bucket.len(), range.len(), "buckets are complete from the end");
                lefts.iter().rev().for_each(|left| add(&engine, &mut bucket, &left.gradients[range.clone()]));
                send(index, bucket);
            }
        };
        let mut sums = self.sums_of(shards.first, pass, &mut complete)?;
        complete(0, &mut sums.gradients);
        lefts.iter().rev().for_each(|left| add(&engine, &mut sums.moves, &left.moves));
        Ok(sums)
    }

    /// Adds up shards that others follow.
    fn sum(&mut self, shards: Node, pass: &mut ShardPass<'_>) -> Result<Sums> {
        let Some([left, right]) = shards.halves() else {
            return self.sums_of(shards.first, pass, &mut |_, _| ());
        };
        let mut sums = self.sum(left, pass)?;
        let other = self.sum(right, pass)?;
        add(&self.session.plan.engine, &mut sums.gradients, &other.gradients);
        add(&self.session.plan.engine, &mut sums.moves, &other.moves);
        self.spare.sums.push(other);
        Ok(sums)
    }

    fn sums_of(&mut self, shard: usize, pass: &mut ShardPass<'_>, watch: &mut Watch<'_>) -> Result<Sums> {
        let mut sums = self.spare.sums.pop().unwrap_or_else(|| Sums {
            gradients: Buffer::zeros(self.weights.flat.len()).into(),
            moves: Buffer::zeros(self.running.len()),
        });
        sums.moves.copy_from_slice(&self.running);
        std::mem::swap(&mut self.gradients, &mut sums.gradients);
        let share = pass(self, shard, watch);
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

    /// A step, and how long after its beginning each bucket was complete; at last how long the update took.
    ///
    /// # Errors
    /// As [`Training::gradients`].
    pub(crate) fn timed_step(
        &mut self,
        images: &[f32],
        labels: &[u32],
        lr: f32,
        buckets: &[Bucket],
    ) -> Result<Vec<Duration>> {
        let (start, mut completion, mut times) = (Instant::now(), Completion::of(buckets), Vec::new());
        let mut watch = |stage: usize, _: &mut BufferPart| {
            while completion.after(stage).is_some() {
                times.push(start.elapsed());
            }
        };
        self.pass(images, labels.into(), false, (1.0, &mut watch))?;
        let end = start.elapsed();
        times.resize(buckets.len(), end);
        self.update(lr);
        times.push(start.elapsed() - end);
        Ok(times)
    }

    /// Takes what shards add up to as the gradients, as if [`Training::gradients`] had been called for the batch: the first of these,
    /// which is whole again. All of them are memory for the next step.
    pub(crate) fn take_sums(&mut self, mut sums: Vec<Sums>) {
        if let Some(sums) = sums.first_mut() {
            assert_eq!(sums.gradients.len(), self.weights.flat.len(), "all buckets have come back");
            std::mem::swap(&mut self.gradients, &mut sums.gradients);
        }
        self.spare.sums.append(&mut sums);
    }

    /// The same of a bucket of the sum that was added up elsewhere.
    pub(crate) fn take_bucket(&mut self, range: Range<usize>, sum: &[f32]) {
        self.gradients[range].copy_from_slice(sum);
    }

    /// Keeps memory of a bucket for the next.
    pub(crate) fn keep_bucket(&mut self, memory: BufferPart) {
        self.spare.buckets.push(memory);
    }

    /// Moves the running statistics as all shards of a batch together do.
    pub(crate) fn move_statistics(&mut self, moves: &[f32]) {
        self.running.iter_mut().zip(moves).for_each(|(running, moved)| *running += moved);
    }
}

/// Memory for so many numbers, of which nobody needs those that stand there.
pub(super) fn reused(free: &mut Vec<BufferPart>, len: usize) -> BufferPart {
    let found = free.iter().position(|memory| memory.len() == len);
    found.map_or_else(|| Buffer::zeros(len).into(), |found| free.swap_remove(found))
}

/// Adds numbers to others, of which there are whole blocks.
pub(super) fn add(engine: &Engine, sum: &mut [f32], other: &[f32]) {
    let len = sum.len();
    if len > 0 {
        let (other, sum) = (Maps::packed(other, len), MapsMut::packed(sum, len));
        merge::accumulate(engine.set(), engine.pool(), [1, len, 1], other, Activation::Identity, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::Update;
    use crate::weights::init;
    use crate::zoo::{ZooOptions, by_name};

    #[test]
    fn buckets_are_all_gradients_from_the_end() {
        let net = by_name("resnet20", &ZooOptions::default()).unwrap();
        let weights = init(&net, 0);
        let training = Training::new(&net, &Engine::new(1).unwrap(), 2, &weights, Update::ADAM, 0).unwrap();
        let whole = training.gradients.len();
        for (least, most) in [(1, 60), (20_000, 14), (whole, 1), (usize::MAX, 1)] {
            let buckets = training.buckets(least);
            let ends: Vec<usize> = buckets.iter().map(|bucket| bucket.range.end).collect();
            let starts: Vec<usize> = buckets.iter().map(|bucket| bucket.range.start).collect();
            assert_eq!((ends[0], starts[starts.len() - 1]), (whole, 0));
            assert_eq!(ends[1..], starts[..starts.len() - 1]);
            assert!(buckets.iter().all(|bucket| bucket.range.len() >= least || bucket.range.start == 0));
            assert!(buckets.windows(2).all(|pair| pair[1].stage < pair[0].stage) && buckets.len() <= most);
        }
    }
}
