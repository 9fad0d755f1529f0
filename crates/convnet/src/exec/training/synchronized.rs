//! Shards of a batch that are normalised together, as PyTorch's `SyncBatchNorm` does: each batch norm takes the statistics of all of
//! them. They run stage by stage, and where a norm needs something of all, it is exchanged before they go on: forward the mean and
//! variance of its input, backward two sums.

use super::shards::{Bucket, Completion, add, reused};
use super::{Shard, Step, Training, count};
use crate::Result;
use crate::distributed::{Node, Shards};
use crate::exec::Targets;
use crate::exec::cpu::session::Session;
use crate::exec::cpu::stage::{Mode, Pass};
use crate::exec::cpu::statistics::Statistics;
use convnet_kernels::memory::{Buffer, BufferPart};
use convnet_kernels::statistics::{merge, parts_len, write_part};

/// The pictures of a shard that has some.
pub(crate) struct ShardPictures<'a> {
    pub(crate) shard: Shard,
    pub(crate) images: &'a [f32],
    pub(crate) targets: Targets<'a>,
}

/// The same, known to be what was planned for.
pub(crate) struct PlannedShard<'a> {
    given: ShardPictures<'a>,
    pass: Pass,
}

/// What is exchanged with the shards of other processes. Each process makes the same calls in the same order.
pub(crate) trait ShardExchange {
    /// What all shards have laid out, in their order, where `own` has what this process's have.
    ///
    /// # Errors
    /// When the processes lose one another.
    fn gather(&mut self, own: Buffer) -> Result<Buffer>;

    /// The sum over all shards, where `own` has those over each of [`Shards::own_nodes`].
    ///
    /// # Errors
    /// When the processes lose one another.
    fn sum(&mut self, own: Vec<BufferPart>) -> Result<BufferPart>;

    /// Begins the same for a bucket of gradients.
    ///
    /// # Errors
    /// When the processes lose one another.
    fn send(&mut self, bucket: usize, own: Vec<BufferPart>) -> Result<()>;
}

/// What a shard needs for itself.
#[derive(Debug)]
pub(super) struct ShardMemory {
    pub(super) session: Session,
    gradients: Buffer,
    running: Buffer,
}

impl ShardMemory {
    fn statistics(&mut self, stage: usize) -> &mut Statistics {
        self.session.statistics(stage).expect("all sessions of a plan have the same statistics")
    }
}

/// The session for what is computed beside the steps: the first shard's, where there are any, so that the memory of the training's own
/// is never touched.
pub(super) fn session_in_use<'a>(own: &'a mut Session, shards: &'a mut [ShardMemory]) -> &'a mut Session {
    shards.first_mut().map_or(own, |shard| &mut shard.session)
}

/// A shard that is computed.
struct Run<'a> {
    memory: &'a mut ShardMemory,
    given: &'a ShardPictures<'a>,
    pass: Pass,
}

/// The shards of this process among all.
struct Among<'a> {
    shards: Shards,
    exchange: &'a mut dyn ShardExchange,
}

impl Training {
    /// Expects the pictures of shards to be what was planned for. The whole batch has so many.
    ///
    /// # Errors
    /// As [`Training::gradients`].
    pub(crate) fn plan_shards<'a>(
        &self,
        given: Vec<ShardPictures<'a>>,
        pictures: usize,
    ) -> Result<Vec<PlannedShard<'a>>> {
        let planned = |given: ShardPictures<'a>| {
            let count = count(given.targets, self.classes)?;
            crate::exec::check_images(given.images.len(), self.input_len, count, self.session.plan.batch)?;
            let mode = Mode::Training { seed: self.pass_seed(given.shard.index as u64) };
            Ok(PlannedShard { given, pass: Pass { mode, count, normalized: pictures } })
        };
        given.into_iter().map(planned).collect()
    }

    /// Forward and backward of those of this process's shards that have pictures; a process without any goes along. Parameters and
    /// running statistics stay as they are; gradients go to [`ShardExchange::send`]. Returned are how far the running statistics move,
    /// for each of [`Shards::own_nodes`], and what the shards have found.
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(crate) fn synchronized_pass(
        &mut self,
        planned: &[PlannedShard<'_>],
        buckets: &[Bucket],
        shards: Shards,
        exchange: &mut dyn ShardExchange,
    ) -> Result<(Vec<BufferPart>, Vec<Step>)> {
        let mut memory = std::mem::take(&mut self.synchronized);
        memory.resize_with(memory.len().max(planned.len()), || ShardMemory {
            session: Session::of(self.session.plan.clone()),
            gradients: Buffer::zeros(self.weights.flat.len()),
            running: Buffer::zeros(self.running.len()),
        });
        let runs = memory.iter_mut().zip(planned);
        let runs = runs.map(|(memory, PlannedShard { given, pass })| Run { memory, given, pass: *pass });
        let found = self.run_shards(&mut runs.collect::<Vec<_>>(), buckets, &mut Among { shards, exchange });
        self.synchronized = memory;
        found
    }

    /// Says which shard's pass [`Training::find_not_finite`] runs once more.
    pub(crate) fn look_back_at(&mut self, shard: Shard) {
        self.passes = shard.index as u64 + 1;
    }

    fn run_shards(
        &mut self,
        runs: &mut [Run<'_>],
        buckets: &[Bucket],
        among: &mut Among<'_>,
    ) -> Result<(Vec<BufferPart>, Vec<Step>)> {
        let stages = self.session.plan.graph.stages.len();
        for Run { memory, .. } in &mut *runs {
            memory.running.copy_from_slice(&self.running);
        }
        for index in 0..stages {
            for Run { memory: ShardMemory { session, running, .. }, given, pass } in &mut *runs {
                session.forward_stage(index, (&self.weights, running), given.images, *pass);
            }
            if self.session.statistics(index).is_some() {
                self.share_statistics(index, runs, among)?;
            }
        }
        let steps = runs.iter_mut().map(|run| self.losses_of(run)).collect();
        let mut completion = Completion::of(buckets);
        for index in (0..stages).rev() {
            self.backward_of_all(index, runs, among)?;
            while let Some((number, Bucket { range, .. })) = completion.after(index) {
                let gradients = |memory: &mut ShardMemory, own: &mut [f32]| {
                    own.copy_from_slice(&memory.gradients[range.clone()]);
                };
                let own = self.node_sums(range.len(), runs, among.shards, &gradients);
                among.exchange.send(number, own)?;
            }
        }
        for Run { memory, given, .. } in &mut *runs {
            let share = given.shard.share as f32;
            memory.running.iter_mut().zip(&*self.running).for_each(|(to, from)| *to = share * (*to - from));
        }
        let moves = |memory: &mut ShardMemory, own: &mut [f32]| own.copy_from_slice(&memory.running);
        Ok((self.node_sums(self.running.len(), runs, among.shards, &moves), steps))
    }

    fn losses_of(&mut self, run: &mut Run<'_>) -> Step {
        let Run { memory, given: ShardPictures { shard, targets, .. }, pass } = run;
        std::mem::swap(&mut self.session, &mut memory.session);
        let step = self.losses(*targets, pass.count, shard.share as f32);
        std::mem::swap(&mut self.session, &mut memory.session);
        step
    }

    /// Gives all shards the mean and variance of all of them, of a stage's output.
    fn share_statistics(&mut self, index: usize, runs: &mut [Run<'_>], among: &mut Among<'_>) -> Result<()> {
        let plan = self.session.plan.clone();
        let [channels, pixels] = plan.graph.stages[index].output.channels_and_pixels();
        let (len, own_shards) = (parts_len(1, channels), among.shards.own());
        let mut own = Buffer::zeros(len * own_shards.len());
        for Run { memory, given, pass } in &mut *runs {
            let Statistics { mean, var } = memory.statistics(index);
            let at = given.shard.index - own_shards.start;
            write_part(pass.count * pixels, mean, var, &mut own[at * len..][..len]);
        }
        let all = among.exchange.gather(own)?;
        let Some((first, others)) = runs.split_first_mut() else { return Ok(()) };
        let of_all = first.memory.statistics(index);
        let shape = [among.shards.count(), channels];
        merge(plan.engine.set(), plan.engine.pool(), shape, &all, &mut of_all.mean, &mut of_all.var);
        for Run { memory, .. } in others {
            let Statistics { mean, var } = memory.statistics(index);
            mean.copy_from_slice(&of_all.mean);
            var.copy_from_slice(&of_all.var);
        }
        Ok(())
    }

    /// A stage's backward, between whose halves all shards get the sums over all of them, where it normalises.
    fn backward_of_all(&mut self, index: usize, runs: &mut [Run<'_>], among: &mut Among<'_>) -> Result<()> {
        let plan = self.session.plan.clone();
        if !self.session.runs_backward(index) {
            return Ok(());
        }
        for Run { memory: ShardMemory { session, gradients, .. }, pass, .. } in &mut *runs {
            session.backward_sums(index, &self.weights, gradients, *pass);
        }
        if plan.graph.stages[index].facts.normalizes {
            let sums = |memory: &mut ShardMemory, own: &mut [f32]| {
                let [sum, product] = memory.session.sums(index);
                own[..sum.len()].copy_from_slice(sum);
                own[sum.len()..].copy_from_slice(product);
            };
            let len = self.session.sums(index).iter().map(|sum| sum.len()).sum();
            let own = self.node_sums(len, runs, among.shards, &sums);
            let all = among.exchange.sum(own)?;
            for Run { memory, .. } in &mut *runs {
                let [sum, product] = memory.session.sums(index);
                let (of_all, of_products) = all.split_at(sum.len());
                sum.copy_from_slice(of_all);
                product.copy_from_slice(of_products);
            }
            self.spare.buckets.push(all);
        }
        for Run { memory: ShardMemory { session, gradients, .. }, pass, .. } in runs {
            session.backward_stage(index, &self.weights, gradients, *pass);
        }
        Ok(())
    }

    /// What shards have, added up for each of [`Shards::own_nodes`]: so many numbers, which `read` writes for a shard. Those without
    /// pictures have zeros.
    fn node_sums(
        &mut self,
        len: usize,
        runs: &mut [Run<'_>],
        shards: Shards,
        read: &dyn Fn(&mut ShardMemory, &mut [f32]),
    ) -> Vec<BufferPart> {
        let mut own =
            |shard: usize, numbers: &mut [f32]| match runs.iter_mut().find(|run| run.given.shard.index == shard) {
                Some(run) => read(run.memory, numbers),
                None => numbers.fill(0.0),
            };
        shards.own_nodes().into_iter().map(|node| self.node_sum(node, len, &mut own)).collect()
    }

    fn node_sum(&mut self, node: Node, len: usize, own: &mut dyn FnMut(usize, &mut [f32])) -> BufferPart {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Engine, Update};
    use crate::weights::init;
    use crate::zoo::{ZooOptions, by_name};

    /// One process alone, which notes the calls.
    #[derive(Default)]
    struct Alone {
        calls: Vec<(&'static str, usize)>,
        sent: Vec<BufferPart>,
    }

    impl ShardExchange for Alone {
        fn gather(&mut self, own: Buffer) -> Result<Buffer> {
            self.calls.push(("gather", own.len()));
            Ok(own)
        }

        fn sum(&mut self, mut own: Vec<BufferPart>) -> Result<BufferPart> {
            self.calls.push(("sum", own[0].len()));
            Ok(own.swap_remove(0))
        }

        fn send(&mut self, bucket: usize, mut own: Vec<BufferPart>) -> Result<()> {
            self.calls.push(("send", bucket));
            self.sent.push(own.swap_remove(0));
            Ok(())
        }
    }

    /// Some norms frozen, and shards with few pictures, one or none: the same exchanges, and as much memory as in the step before.
    #[test]
    fn every_process_makes_the_same_exchanges_whatever_its_shards_have() {
        let net = by_name("resnet20", &ZooOptions::default()).unwrap();
        let (weights, engine) = (init(&net, 0), Engine::new(1).unwrap());
        let builder = Training::builder(&net, &weights).batch(2).update(Update::ADAM).synchronized(true);
        let builder = builder.frozen_norms(|name| name.starts_with("layer2"));
        let mut training = builder.build(&engine).unwrap();
        let (buckets, shards) = (training.buckets(50_000), Shards::alone(3));
        let picture: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i % 251) as f32 / 251.0).collect();
        let mut calls = |counts: [usize; 3]| {
            let all = counts.iter().sum::<usize>();
            let given = counts.into_iter().enumerate().filter(|(_, count)| *count > 0).map(|(index, count)| {
                let images = &picture[..count * 3 * 32 * 32];
                let shard = Shard { index, share: count as f64 / all as f64 };
                ShardPictures { shard, images, targets: Targets::Labels(&[1, 2][..count]) }
            });
            let planned = training.plan_shards(given.collect(), all).unwrap();
            let mut exchange = Alone::default();
            let found = training.synchronized_pass(&planned, &buckets, shards, &mut exchange).unwrap();
            assert_eq!(found.1.len(), planned.len());
            exchange.sent.into_iter().for_each(|sum| training.keep_bucket(sum));
            training.keep_bucket(found.0.into_iter().next().unwrap());
            (exchange.calls, training.spare.buckets.len())
        };
        let (whole, _) = calls([2, 2, 2]);
        let kinds = |kind: &str| whole.iter().filter(|(call, _)| *call == kind).count();
        // Of the 19 norms those of three blocks are frozen.
        assert_eq!((kinds("gather"), kinds("sum"), kinds("send")), (13, 13, buckets.len()));
        let kept = calls([2, 2, 2]).1;
        for counts in [[2, 0, 1], [1, 0, 0], [0, 0, 0], [2, 2, 2]] {
            let (found, memory) = calls(counts);
            assert_eq!(found, whole, "{counts:?}");
            assert_eq!(memory, kept, "{counts:?}");
        }
    }
}
