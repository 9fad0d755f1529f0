//! A step: a batch, whole or in shards, of which this process has some.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use convnet_kernels::memory::{Buffer, BufferPart};
use serde::{Deserialize, Serialize};

use super::Trainer;
use super::divergence::Divergence;
use super::targets::{KeptBatch, TargetMaker};
use crate::data::augment::RandomKey;
use crate::data::{Batch, Loader, Parts};
use crate::distributed::{Processes, Shards, Summing, sum_of_steps};
use crate::exec::{Bucket, Shard, ShardExchange, ShardPictures, Step, Sums, Training, Watch};
use crate::{Error, Result};

/// What a batch came to, in all processes together.
pub(super) struct Learned {
    pub(super) step: Step,
    /// Pictures of the batch.
    pub(super) images: usize,
    /// Whether a process wants to stop.
    pub(super) stop: bool,
    /// For how long others were waited for, after all that this process could do by itself.
    pub(super) exchanged: Duration,
}

/// What a process tells the others of its shards.
#[derive(Serialize, Deserialize)]
struct Told {
    /// Loss and pictures that were recognised, of each.
    shards: Vec<(f64, usize)>,
    stop: bool,
}

/// What the shards of a process came to.
struct Own {
    /// How far the running statistics move, by [`Shards::own_nodes`].
    moves: Vec<BufferPart>,
    /// What is left where its gradients have been sent; nothing where copies were.
    sums: Vec<Sums>,
    /// What each shard found.
    steps: Vec<Step>,
    /// For how long others were waited for on the way.
    waited: Duration,
}

impl Trainer {
    /// The parts of the running epoch's batches that this process trains on, in its order, from a batch on.
    pub(super) fn batches(&self, start_batch: usize) -> Result<Loader> {
        self.shards_of_batches(start_batch, self.shards.own())
    }

    /// The same of any shards.
    pub(super) fn shards_of_batches(&self, start_batch: usize, which: Range<usize>) -> Result<Loader> {
        let (shards, batch_size) = (self.shards, self.recipe.batch_size);
        let of_batch = |batch: usize, count: usize| {
            let first = batch * batch_size;
            let places = which.clone().map(move |shard| shards.pictures(shard, batch_size.min(count - first)));
            places.map(move |places| first + places.start..first + places.end).filter(|places| !places.is_empty())
        };
        let parts =
            |count: usize| (start_batch..count.div_ceil(batch_size)).flat_map(|batch| of_batch(batch, count)).collect();
        let order = self.recipe.shuffle.order(self.recipe.seed, self.progress.epoch as u64);
        let customary = self.train.customary_workers().min(self.processes.threads());
        let parts = Parts { order, parts: &parts, workers: self.workers.unwrap_or(customary) };
        Loader::of_parts(Arc::clone(&self.train), self.description.normalization(), parts, &self.recipe.augment)
    }

    /// Forward and backward on the next batch, which may be mixed for that. `stop` says whether this process wants to.
    ///
    /// # Errors
    /// When a picture cannot be made or the loss is no number, in any of the processes; when they lose one another.
    pub(super) fn learn(&mut self, batches: &mut Loader, targets: &mut TargetMaker, stop: bool) -> Result<Learned> {
        let images = self.recipe.batch_size.min(self.train.len() - self.progress.images);
        if self.shards.count() == 1 {
            let step = self.learn_whole(batches, targets)?;
            return Ok(Learned { step, images, stop, exchanged: Duration::ZERO });
        }
        let mut begun = Vec::new();
        let own = match self.recipe.sync_batch_norm && self.takes_statistics {
            true => self.learn_synchronized(batches, targets, images, &mut begun)?,
            false => self.learn_shards(batches, targets, images, &mut begun),
        };
        let start = Instant::now();
        let (mut moves, mut sums, mut waited) = (Vec::new(), Vec::new(), Duration::ZERO);
        let own = match self.failed.take() {
            Some(error) => Err(error),
            None => own,
        };
        let told = self.processes.exchange(own.map(|own| {
            (moves, sums, waited) = (own.moves, own.sums, own.waited);
            Told { shards: own.steps.iter().map(|step| (step.loss, step.correct)).collect(), stop }
        }))?;
        let shares = (0..self.shards.count()).map(|shard| self.share(shard, images));
        let steps = told.iter().flat_map(|told| &told.shards).map(|&(loss, correct)| Step { loss, correct });
        let step = sum_of_steps(&steps.zip(shares).collect::<Vec<_>>());
        if !step.loss.is_finite() {
            let error = Divergence::of(&self.recipe, self.saved.as_ref(), self.progress).of_loss(step.loss);
            self.processes.agree(if self.processes.is_first() { Err(error) } else { Ok(()) })?;
        }
        self.take_sums(begun, sums, moves)?;
        let exchanged = if self.processes.size() > 1 { waited + start.elapsed() } else { Duration::ZERO };
        Ok(Learned { step, images, stop: told.iter().any(|told| told.stop), exchanged })
    }

    /// A batch that is not cut.
    fn learn_whole(&mut self, batches: &mut Loader, targets: &mut TargetMaker) -> Result<Step> {
        let mut batch = next(batches)?;
        let key = self.key(0);
        let (images, made) = targets.make(&self.recipe, &mut batch, self.description.classes().len(), key)?;
        let step = self.training.gradients(images, made)?;
        let divergence = Divergence::of(&self.recipe, self.saved.as_ref(), self.progress);
        divergence.expect_finite_loss(&mut self.training, batch.images(), batch.len(), step.loss)?;
        Ok(step)
    }

    /// The shards of this process. Their gradients are sent to the others as soon as they are complete, bucket by bucket, whatever fails.
    fn learn_shards(
        &mut self,
        batches: &mut Loader,
        targets: &mut TargetMaker,
        images: usize,
        begun: &mut Vec<(Range<usize>, Summing)>,
    ) -> Result<Own> {
        let keys: Vec<RandomKey> = self.shards.own().map(|shard| self.key(shard)).collect();
        let shares: Vec<f64> = self.shards.own().map(|shard| self.share(shard, images)).collect();
        let first = self.shards.own().start;
        let Trainer { training, recipe, description, shards, progress, saved, processes, .. } = self;
        let divergence = Divergence::of(recipe, saved.as_ref(), *progress);
        let mut steps = Vec::new();
        let mut pass = |training: &mut Training, shard: usize, watch: &mut Watch<'_>| {
            let (key, share) = (keys[shard - first], shares[shard - first]);
            if share == 0.0 {
                steps.push(Step { loss: 0.0, correct: 0 });
                return Ok(share);
            }
            let mut batch = next(batches)?;
            let (images, made) = targets.make(recipe, &mut batch, description.classes().len(), key)?;
            let step = training.shard(images, made, Shard { index: shard, share }, watch)?;
            divergence.expect_finite_loss(training, batch.images(), batch.len(), step.loss)?;
            steps.push(step);
            Ok(share)
        };
        let (nodes, buckets) = (shards.own_nodes(), training.buckets(processes.bucket()));
        let mut parts: Vec<Vec<BufferPart>> = buckets.iter().map(|_| Vec::new()).collect();
        let (mut sums, mut failed) = (Vec::new(), None);
        for &node in &nodes {
            let mut send = |bucket: usize, part: BufferPart| {
                parts[bucket].push(part);
                if parts[bucket].len() == nodes.len() {
                    match processes.begin_sum(*shards, std::mem::take(&mut parts[bucket])) {
                        Ok(summing) => begun.push((buckets[bucket].range.clone(), summing)),
                        Err(error) => failed = Some(error),
                    }
                }
            };
            match training.sum_shards(node, &buckets, &mut pass, &mut send) {
                Ok(own) => sums.push(own),
                Err(error) => failed = Some(error),
            }
        }
        let moves = sums.iter().map(|sums| sums.moves.clone().into()).collect();
        failed.map_or(Ok(Own { moves, sums, steps, waited: Duration::ZERO }), Err)
    }

    /// The same of shards that are normalised together. What fails in this process alone is told when all have gone through the step.
    ///
    /// # Errors
    /// When the processes lose one another.
    fn learn_synchronized(
        &mut self,
        batches: &mut Loader,
        targets: &mut TargetMaker,
        images: usize,
        begun: &mut Vec<(Range<usize>, Summing)>,
    ) -> Result<Result<Own>> {
        let shard_of = |index: usize| Shard { index, share: self.share(index, images) };
        let own: Vec<(Shard, RandomKey)> = self.shards.own().map(|index| (shard_of(index), self.key(index))).collect();
        let Trainer { training, recipe, description, shards, progress, saved, processes, .. } = self;
        let filled: Vec<_> = own.iter().filter(|(shard, _)| shard.share > 0.0).collect();
        let keep = |&&(_, key): &&(Shard, RandomKey)| {
            let mut batch = next(batches)?;
            let (images, made) = targets.make(recipe, &mut batch, description.classes().len(), key)?;
            Ok(KeptBatch::of(images, made))
        };
        let (kept, mut failed) = no_or_all(filled.iter().map(keep).collect::<Result<Vec<KeptBatch>>>());
        let pictures = filled.iter().zip(&kept).map(|(&&(shard, _), kept)| ShardPictures {
            shard,
            images: &kept.images,
            targets: kept.targets(),
        });
        let (planned, other) = no_or_all(training.plan_shards(pictures.collect(), images));
        failed = failed.or(other);
        let buckets = training.buckets(processes.bucket());
        let mut exchange =
            ProcessExchange { processes, shards: *shards, buckets: &buckets, begun, waited: Duration::ZERO };
        let (moves, steps) = training.synchronized_pass(&planned, &buckets, *shards, &mut exchange)?;
        let waited = exchange.waited;
        let divergence = Divergence::of(recipe, saved.as_ref(), *progress);
        // One number that is none makes the losses of all shards none: the shard that has it says where.
        for (step, (kept, (shard, _))) in steps.iter().zip(kept.iter().zip(&filled)) {
            if failed.is_none() && !step.loss.is_finite() {
                training.look_back_at(*shard);
                let count = shards.pictures(shard.index, images).len();
                failed = divergence.find(training, &kept.images, count).unwrap_or_else(Some);
            }
        }
        let (mut steps, none) = (steps.into_iter(), Step { loss: 0.0, correct: 0 });
        let step_of = |(shard, _): &(Shard, RandomKey)| match shard.share > 0.0 {
            true => steps.next().unwrap_or(none),
            false => none,
        };
        let steps = own.iter().map(step_of).collect();
        Ok(failed.map_or(Ok(Own { moves, sums: Vec::new(), steps, waited }), Err))
    }

    /// Takes what all processes have found as the gradients of the step.
    fn take_sums(
        &mut self,
        begun: Vec<(Range<usize>, Summing)>,
        mut sums: Vec<Sums>,
        moves: Vec<BufferPart>,
    ) -> Result<()> {
        let moves = self.processes.begin_sum(self.shards, moves)?;
        // The last bucket begins with the first gradient.
        for (range, summing) in begun.into_iter().rev() {
            let own = summing.wait()?;
            if sums.is_empty() {
                self.training.take_bucket(range, &own[0]);
                own.into_iter().for_each(|memory| self.training.keep_bucket(memory));
            } else {
                sums.iter_mut().zip(own).for_each(|(sums, bucket)| sums.gradients.join(bucket));
            }
        }
        self.training.take_sums(sums);
        moves.wait()?.first().into_iter().for_each(|moves| self.training.move_statistics(moves));
        Ok(())
    }

    /// A shard's share of a batch of so many pictures.
    fn share(&self, shard: usize, images: usize) -> f64 {
        self.shards.pictures(shard, images).len() as f64 / images as f64
    }

    /// What is drawn for a shard of the next batch depends on it.
    fn key(&self, shard: usize) -> RandomKey {
        let index = self.progress.batch as u64 * self.shards.count() as u64 + shard as u64;
        RandomKey { seed: self.recipe.seed, epoch: self.progress.epoch as u64, index }
    }
}

/// All of some things, or none and why.
fn no_or_all<T>(all: Result<Vec<T>>) -> (Vec<T>, Option<Error>) {
    match all {
        Ok(all) => (all, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// What the shards of this process exchange with those of others.
struct ProcessExchange<'a> {
    processes: &'a Processes,
    shards: Shards,
    buckets: &'a [Bucket],
    begun: &'a mut Vec<(Range<usize>, Summing)>,
    waited: Duration,
}

impl ProcessExchange<'_> {
    fn timed<T>(&mut self, wait: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let found = wait(self);
        self.waited += start.elapsed();
        found
    }
}

impl ShardExchange for ProcessExchange<'_> {
    fn gather(&mut self, own: Buffer) -> Result<Buffer> {
        self.timed(|exchange| exchange.processes.gather_numbers(own))
    }

    fn sum(&mut self, own: Vec<BufferPart>) -> Result<BufferPart> {
        self.timed(|exchange| Ok(exchange.processes.begin_sum(exchange.shards, own)?.wait()?.swap_remove(0)))
    }

    fn send(&mut self, bucket: usize, own: Vec<BufferPart>) -> Result<()> {
        self.begun.push((self.buckets[bucket].range.clone(), self.processes.begin_sum(self.shards, own)?));
        Ok(())
    }
}

fn next(batches: &mut Loader) -> Result<Batch> {
    batches.next().unwrap_or_else(|| Err(Error::invalid("the epoch has fewer batches than expected")))
}
