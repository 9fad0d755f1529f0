//! Shards of a batch that are normalised together, as PyTorch's `SyncBatchNorm` does: each batch norm takes the statistics of all of
//! them. They go through the stages side by side, and where a norm needs something of all, it is exchanged before they go on:
//! forward the mean and variance of its input, backward two sums.

use super::shards::{Bucket, add, reused};
use super::{Shard, Step, Training, count};
use crate::Result;
use crate::distributed::{Node, Shards};
use crate::exec::Targets;
use crate::exec::cpu::session::Session;
use crate::exec::cpu::stage::{Mode, Pass};
use crate::exec::cpu::statistics::Statistics;
use convnet_kernels::memory::Buffer;
use convnet_kernels::statistics::{merge, parts_len, write_part};

/// A shard of a batch, with pictures.
pub(crate) struct ShardPictures<'a> {
    pub(crate) shard: Shard,
    pub(crate) images: &'a [f32],
    pub(crate) targets: Targets<'a>,
}

/// What the shards of this process are given of those of all processes. Each process makes the same calls in the same order.
pub(crate) trait Others {
    /// What all shards have laid out, in their order, where `own` has what this process's have.
    ///
    /// # Errors
    /// When the processes lose one another.
    fn gather(&mut self, own: Buffer) -> Result<Buffer>;

    /// The sum over all shards, where `own` has those over each of [`Shards::own_nodes`].
    ///
    /// # Errors
    /// When the processes lose one another.
    fn sum(&mut self, own: Vec<Buffer>) -> Result<Buffer>;

    /// Begins the same for a bucket of gradients.
    ///
    /// # Errors
    /// When the processes lose one another.
    fn send(&mut self, bucket: usize, own: Vec<Buffer>) -> Result<()>;
}

/// Memory of a shard that goes beside others.
#[derive(Debug)]
pub(super) struct Lane {
    session: Session,
    gradients: Buffer,
    running: Buffer,
}

impl Lane {
    pub(super) fn bytes(&self) -> usize {
        self.session.bytes()
    }
}

/// A shard on its way.
struct Walker<'a> {
    lane: &'a mut Lane,
    given: &'a ShardPictures<'a>,
    pass: Pass,
}

/// Where the shards of this process stand among those of all.
struct Company<'a> {
    shards: Shards,
    others: &'a mut dyn Others,
}

impl Training {
    /// Forward and backward of those of this process's shards that have pictures, where the batch has so many of them. Parameters and
    /// running statistics stay as they are; gradients go to [`Others::send`]. Returned are how far the running statistics move, for each
    /// of [`Shards::own_nodes`], and what the shards have found.
    ///
    /// # Errors
    /// Those of `given`, with which this process goes along without pictures, so that none waits for it; as [`Training::gradients`];
    /// when the processes lose one another.
    pub(crate) fn side_by_side(
        &mut self,
        given: Result<Vec<ShardPictures<'_>>>,
        pictures: usize,
        buckets: &[Bucket],
        shards: Shards,
        others: &mut dyn Others,
    ) -> Result<(Vec<Buffer>, Vec<Step>)> {
        let (given, failed) = match given.and_then(|given| self.passes_of(given, pictures)) {
            Ok(given) => (given, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut lanes = std::mem::take(&mut self.lanes);
        lanes.resize_with(lanes.len().max(given.len()), || Lane {
            session: Session::of(self.session.plan.clone()),
            gradients: Buffer::zeros(self.gradients.len()),
            running: Buffer::zeros(self.running.len()),
        });
        let walkers = lanes.iter_mut().zip(&given).map(|(lane, (given, pass))| Walker { lane, given, pass: *pass });
        let found = self.walk(&mut walkers.collect::<Vec<_>>(), buckets, &mut Company { shards, others });
        self.lanes = lanes;
        failed.map_or(found, Err)
    }

    /// The pass of each shard, if its pictures are what was planned for.
    fn passes_of<'a>(
        &self,
        given: Vec<ShardPictures<'a>>,
        normalized: usize,
    ) -> Result<Vec<(ShardPictures<'a>, Pass)>> {
        let pass_of = |given: ShardPictures<'a>| {
            let count = count(given.targets, self.classes)?;
            crate::exec::check_images(given.images.len(), self.input_len, count, self.session.plan.batch)?;
            let mode = Mode::Training { seed: self.pass_seed(given.shard.index as u64) };
            Ok((given, Pass { mode, count, normalized }))
        };
        given.into_iter().map(pass_of).collect()
    }

    fn walk(
        &mut self,
        walkers: &mut [Walker<'_>],
        buckets: &[Bucket],
        company: &mut Company<'_>,
    ) -> Result<(Vec<Buffer>, Vec<Step>)> {
        let stages = self.session.plan.graph.stages.len();
        for Walker { lane, .. } in &mut *walkers {
            lane.running.copy_from_slice(&self.running);
        }
        for index in 0..stages {
            for Walker { lane: Lane { session, running, .. }, given, pass } in &mut *walkers {
                session.forward_stage(index, (&self.weights, running), given.images, *pass);
            }
            if self.session.statistics(index).is_some() {
                self.share_statistics(index, walkers, company)?;
            }
        }
        let steps = walkers.iter_mut().map(|walker| self.losses_of(walker)).collect();
        let mut rest = buckets.iter().enumerate().peekable();
        for index in (0..stages).rev() {
            self.backward_of_all(index, walkers, company)?;
            while let Some((number, Bucket { range, .. })) = rest.next_if(|(_, bucket)| index <= bucket.stage) {
                let gradients = |lane: &mut Lane, own: &mut [f32]| own.copy_from_slice(&lane.gradients[range.clone()]);
                let own = self.node_sums(range.len(), walkers, company.shards, &gradients);
                company.others.send(number, own)?;
            }
        }
        for Walker { lane, given, .. } in &mut *walkers {
            let share = given.shard.share as f32;
            lane.running.iter_mut().zip(&*self.running).for_each(|(to, from)| *to = share * (*to - from));
        }
        let moves = |lane: &mut Lane, own: &mut [f32]| own.copy_from_slice(&lane.running);
        Ok((self.node_sums(self.running.len(), walkers, company.shards, &moves), steps))
    }

    /// The losses of a shard. Where one is no number, it is the shard's pass that [`Training::find_not_finite`] looks at.
    fn losses_of(&mut self, walker: &mut Walker<'_>) -> Step {
        let Walker { lane, given: ShardPictures { shard, targets, .. }, pass } = walker;
        std::mem::swap(&mut self.session, &mut lane.session);
        let step = self.losses(*targets, pass.count, shard.share as f32);
        std::mem::swap(&mut self.session, &mut lane.session);
        if !step.loss.is_finite() {
            self.passes = shard.index as u64 + 1;
        }
        step
    }

    /// Gives all shards the mean and variance of all of them, of a stage's output.
    fn share_statistics(&mut self, index: usize, walkers: &mut [Walker<'_>], company: &mut Company<'_>) -> Result<()> {
        let plan = self.session.plan.clone();
        let [channels, pixels] = plan.graph.stages[index].output.channels_and_pixels();
        let (len, own_shards) = (parts_len(1, channels), company.shards.own());
        let mut own = reused(&mut self.spare.buckets, len * own_shards.len());
        own.fill(0.0);
        for Walker { lane, given, pass } in &mut *walkers {
            let Statistics { mean, var } =
                lane.session.statistics(index).expect("every session of a plan has the same");
            let at = given.shard.index - own_shards.start;
            write_part(pass.count * pixels, mean, var, &mut own[at * len..][..len]);
        }
        let all = company.others.gather(own)?;
        let shape = [company.shards.count(), channels];
        for Walker { lane, .. } in walkers {
            let Statistics { mean, var } =
                lane.session.statistics(index).expect("every session of a plan has the same");
            merge(plan.engine.set(), plan.engine.pool(), shape, &all, mean, var);
        }
        self.spare.buckets.push(all);
        Ok(())
    }

    /// A stage's backward, between whose halves all shards get the sums over all of them, where it normalises.
    fn backward_of_all(&mut self, index: usize, walkers: &mut [Walker<'_>], company: &mut Company<'_>) -> Result<()> {
        let plan = self.session.plan.clone();
        if !self.session.runs_backward(index) {
            return Ok(());
        }
        for Walker { lane: Lane { session, gradients, .. }, pass, .. } in &mut *walkers {
            session.backward_sums(index, &self.weights, gradients, *pass);
        }
        if plan.graph.stages[index].facts.normalizes {
            let sums = |lane: &mut Lane, own: &mut [f32]| {
                let [sum, product] = lane.session.sums(index);
                own[..sum.len()].copy_from_slice(sum);
                own[sum.len()..].copy_from_slice(product);
            };
            let len = self.session.sums(index).iter().map(|sum| sum.len()).sum();
            let own = self.node_sums(len, walkers, company.shards, &sums);
            let all = company.others.sum(own)?;
            for Walker { lane, .. } in &mut *walkers {
                let [sum, product] = lane.session.sums(index);
                let (of_all, of_products) = all.split_at(sum.len());
                sum.copy_from_slice(of_all);
                product.copy_from_slice(of_products);
            }
            self.spare.buckets.push(all);
        }
        for Walker { lane: Lane { session, gradients, .. }, pass, .. } in walkers {
            session.backward_stage(index, &self.weights, gradients, *pass);
        }
        Ok(())
    }

    /// What shards have, added up for each of [`Shards::own_nodes`]: so many numbers, which `read` writes for a shard. Those without
    /// pictures have zeros.
    fn node_sums(
        &mut self,
        len: usize,
        walkers: &mut [Walker<'_>],
        shards: Shards,
        read: &dyn Fn(&mut Lane, &mut [f32]),
    ) -> Vec<Buffer> {
        let mut own = |shard: usize, numbers: &mut [f32]| match walkers
            .iter_mut()
            .find(|walker| walker.given.shard.index == shard)
        {
            Some(walker) => read(walker.lane, numbers),
            None => numbers.fill(0.0),
        };
        shards.own_nodes().into_iter().map(|node| self.node_sum(node, len, &mut own)).collect()
    }

    fn node_sum(&mut self, node: Node, len: usize, own: &mut dyn FnMut(usize, &mut [f32])) -> Buffer {
        let Some([left, right]) = node.halves() else {
            let mut numbers = reused(&mut self.spare.buckets, len);
            own(node.first, &mut numbers);
            return numbers;
        };
        let mut sum = self.node_sum(left, len, own);
        let other = self.node_sum(right, len, own);
        add(&self.session.plan.engine, &mut sum, &other);
        self.spare.buckets.push(other);
        sum
    }
}
