//! Sums over the shards of all processes, in the order of their tree.

use std::ops::Range;

use convnet_kernels::memory::Buffer;

use super::{Collectives, Node, Shards};
use crate::Result;
use crate::exec::Step;

/// Floats of a cache line, in which slices begin.
const LINE: usize = 16;

/// Memory for what others send, used again for the next sum.
#[derive(Default)]
pub(super) struct Received(Vec<Buffer>);

/// The slice of a vector of `len` numbers that a process adds up.
fn slice(len: usize, rank: usize, size: usize) -> Range<usize> {
    let lines = len.div_ceil(LINE);
    let at = |rank: usize| (lines * rank / size * LINE).min(len);
    at(rank)..at(rank + 1)
}

impl Received {
    /// Adds up what all processes have: `own` holds a vector for each of [`Shards::own_nodes`]. The first of them becomes the sum.
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(super) fn sum(&mut self, group: &mut dyn Collectives, shards: Shards, own: &mut [Buffer]) -> Result<()> {
        let (rank, size) = (group.rank(), group.size());
        let len = own[0].len();
        let slices: Vec<Range<usize>> = (0..size).map(|rank| slice(len, rank, size)).collect();
        let nodes = shards.nodes();
        let each = nodes.iter().filter(|(of, _)| *of == 0).count();
        let most = (0..size).map(|rank| nodes.iter().filter(|(of, _)| *of == rank).count()).max().unwrap_or(each);
        let mine = slices[rank].len();
        self.0.resize_with(most.max(self.0.len()), Buffer::default);
        for (index, received) in self.0[..most].iter_mut().enumerate() {
            if received.len() < mine * size {
                *received = Buffer::zeros(mine * size);
            }
            let has = |of: usize| nodes.iter().filter(|(rank, _)| *rank == of).count() > index;
            let none: &[f32] = &[];
            let (sent, counts) = match own.get(index) {
                Some(own) => (&**own, slices.iter().map(Range::len).collect()),
                None => (none, vec![0; size]),
            };
            let counts: [Vec<usize>; 2] = [counts, (0..size).map(|rank| if has(rank) { mine } else { 0 }).collect()];
            let received = &mut received[..counts[1].iter().sum()];
            group.all_to_all((sent, &counts[0]), (received, &counts[1]))?;
        }
        let sum = self.sum_of_slices(&nodes, shards, mine);
        let (target, parts) = (&mut own[0], slices.iter().map(Range::len).collect::<Vec<_>>());
        group.all_gather(&self.0[sum.0][sum.1..sum.1 + mine], &mut target[..], &parts)
    }

    /// Adds up the slices that have come; where the sum stands.
    fn sum_of_slices(&mut self, nodes: &[(usize, Node)], shards: Shards, len: usize) -> (usize, usize) {
        let mut begun = vec![0; self.0.len()];
        let places = nodes.iter().scan((usize::MAX, 0), |(before, index), &(rank, node)| {
            (*before, *index) = (rank, if rank == *before { *index + 1 } else { 0 });
            let at = begun[*index];
            begun[*index] += len;
            Some((node, (*index, at)))
        });
        let places: Vec<(Node, (usize, usize))> = places.collect();
        let received = &mut self.0;
        let mut add_slices = |into: (usize, usize), from: (usize, usize)| {
            let (into_buffer, from_buffer) = two(received, into, from, len);
            add(into_buffer, from_buffer);
            into
        };
        Node::all(shards.count()).sum(&mut places.into_iter().peekable(), &mut add_slices).unwrap_or_default()
    }
}

/// Adds numbers to others, one by one.
pub(super) fn add(sum: &mut [f32], terms: &[f32]) {
    sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += *term);
}

/// A slice to change and another one to read, of the same buffer or of two.
fn two(buffers: &mut [Buffer], into: (usize, usize), from: (usize, usize), len: usize) -> (&mut [f32], &[f32]) {
    if into.0 == from.0 {
        // Terms are added in their order, so the one that is changed is the earlier one.
        let (before, after) = buffers[into.0].split_at_mut(from.1);
        return (&mut before[into.1..into.1 + len], &after[..len]);
    }
    let (low, high) = (into.0.min(from.0), into.0.max(from.0));
    let (before, after) = buffers.split_at_mut(high);
    let (low, high) = (&mut before[low], &mut after[0]);
    let (target, source) = if into.0 < from.0 { (low, high) } else { (high, low) };
    (&mut target[into.1..into.1 + len], &source[from.1..from.1 + len])
}

/// The step over all shards: `steps` has one for each, with its share of the batch.
pub(crate) fn sum_of_steps(steps: &[(Step, f64)]) -> Step {
    let leaf = |shard: usize| Node { first: shard, end: shard + 1 };
    let losses = steps.iter().enumerate().map(|(shard, (step, share))| (leaf(shard), share * step.loss));
    let loss = Node::all(steps.len()).sum(&mut losses.peekable(), &mut |a, b| a + b).unwrap_or_default();
    Step { loss, correct: steps.iter().map(|(step, _)| step.correct).sum() }
}
