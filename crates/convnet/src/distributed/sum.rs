//! Sums over the shards of all processes, in the order of their tree.

use std::iter;
use std::ops::Range;

use convnet_kernels::memory::{Buffer, BufferPart};

use super::{Collectives, Node, Shards};
use crate::Result;
use crate::exec::Step;

/// Floats of a cache line, in which slices begin.
const LINE: usize = 16;

/// Memory for what others send, used again for the next sum.
#[derive(Default)]
pub(super) struct Received(Buffer);

/// The slice of a vector of `len` numbers that a process adds up.
fn slice(len: usize, rank: usize, size: usize) -> Range<usize> {
    let lines = len.div_ceil(LINE);
    let at = |rank: usize| (lines * rank / size * LINE).min(len);
    at(rank)..at(rank + 1)
}

impl Received {
    /// Adds up what all processes have: `own` holds a vector for each of [`Shards::own_nodes`]. The first becomes the sum, the others
    /// are of no use afterwards.
    ///
    /// # Errors
    /// When the processes lose one another.
    pub(super) fn sum(&mut self, group: &mut dyn Collectives, shards: Shards, own: &mut [BufferPart]) -> Result<()> {
        let (rank, size) = (group.rank(), group.size());
        if size == 1 {
            return Ok(());
        }
        let len = own[0].len();
        let slices: Vec<Range<usize>> = (0..size).map(|rank| slice(len, rank, size)).collect();
        let (nodes, mine) = (shards.nodes(), slices[rank].clone());
        let others = nodes.iter().filter(|(of, _)| *of != rank);
        let needed = others.clone().count() * mine.len();
        if self.0.len() < needed {
            self.0 = Buffer::zeros(needed);
        }
        let received = others.map(|(of, _)| *of).zip(parts(&mut self.0, iter::repeat(mine.len()))).collect();
        let sent =
            own.iter().flat_map(|own| slices.iter().enumerate().map(move |(of, slice)| (of, &own[slice.clone()])));
        let sent: Vec<(usize, &[f32])> = sent.filter(|(of, _)| *of != rank).collect();
        group.swap(&sent, received)?;

        let mut of_own = own.iter_mut().enumerate().map(|(index, own)| (index == 0, &mut own[mine.clone()]));
        let mut of_others = parts(&mut self.0, iter::repeat(mine.len())).map(|part| (false, part));
        let term =
            |&(of, node): &(usize, Node)| Some((node, if of == rank { of_own.next() } else { of_others.next() }?));
        Node::all(shards.count()).sum(&mut nodes.iter().filter_map(term).peekable(), &mut add_terms);
        gather(group, parts(&mut own[0], slices.iter().map(Range::len)).collect())
    }
}

/// Two terms of a sum become one: that which is to be the sum, or the left one.
fn add_terms<'a>(left: (bool, &'a mut [f32]), right: (bool, &'a mut [f32])) -> (bool, &'a mut [f32]) {
    let (sum, term) = if right.0 { (right, left) } else { (left, right) };
    add(sum.1, term.1);
    sum
}

/// Parts of some numbers that lie one after the other, of these lengths, as long as there are any.
fn parts(numbers: &mut [f32], lengths: impl Iterator<Item = usize>) -> impl Iterator<Item = &mut [f32]> {
    let mut rest = Some(numbers);
    lengths.map_while(move |length| {
        let (part, after) = rest.take()?.split_at_mut_checked(length)?;
        rest = Some(after);
        Some(part)
    })
}

/// Gives each process what all have: its own part is there already.
fn gather(group: &mut dyn Collectives, parts: Vec<&mut [f32]>) -> Result<()> {
    let rank = group.rank();
    let mut others: Vec<(usize, &mut [f32])> = parts.into_iter().enumerate().collect();
    let (_, own) = others.remove(rank);
    let sent: Vec<(usize, &[f32])> = others.iter().map(|(of, _)| (*of, &*own)).collect();
    group.swap(&sent, others)
}

/// The numbers that each process has, one after the other; all of them have as many.
///
/// # Errors
/// When the processes lose one another.
pub(super) fn gather_numbers(group: &mut dyn Collectives, own: &[f32]) -> Result<Buffer> {
    let mut all = Buffer::zeros(own.len() * group.size());
    let mut of_all: Vec<_> = parts(&mut all, iter::repeat_n(own.len(), group.size())).collect();
    of_all[group.rank()].copy_from_slice(own);
    gather(group, of_all)?;
    Ok(all)
}

/// Adds numbers to others, one by one.
pub(super) fn add(sum: &mut [f32], terms: &[f32]) {
    sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum += *term);
}

/// The step over all shards: `steps` has one for each, with its share of the batch.
pub(crate) fn sum_of_steps(steps: &[(Step, f64)]) -> Step {
    let leaf = |shard: usize| Node { first: shard, end: shard + 1 };
    let losses = steps.iter().enumerate().map(|(shard, (step, share))| (leaf(shard), share * step.loss));
    let loss = Node::all(steps.len()).sum(&mut losses.peekable(), &mut |a, b| a + b).unwrap_or_default();
    Step { loss, correct: steps.iter().map(|(step, _)| step.correct).sum() }
}
