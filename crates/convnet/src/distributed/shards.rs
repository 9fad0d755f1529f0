//! Which pictures of a batch belong to which shard, and which shards to which process.

use std::ops::Range;

use super::Node;
use crate::{Error, Result};

/// The virtual shards of a batch, of which a process computes some that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shards {
    count: usize,
    own: [usize; 2],
}

impl Shards {
    /// So many shards in one process.
    pub fn alone(count: usize) -> Shards {
        Shards { count, own: [0, count] }
    }

    /// The shards of process `rank` of `size`, each of which has as many.
    ///
    /// # Errors
    /// [`Error::Setting`] when the number of processes does not divide that of the shards.
    pub fn new(count: usize, rank: usize, size: usize) -> Result<Shards> {
        if count == 0 || !count.is_multiple_of(size) {
            return Err(Error::setting("shards", format!("a multiple of {size}, the number of processes"), count));
        }
        let each = count / size;
        Ok(Shards { count, own: [rank * each, (rank + 1) * each] })
    }

    /// How many there are in all processes together.
    pub fn count(self) -> usize {
        self.count
    }

    /// Those of this process.
    pub fn own(self) -> Range<usize> {
        self.own[0]..self.own[1]
    }

    /// The pictures of a shard, by their places in a batch of so many: shards differ by one picture at most, and those of a batch of
    /// fewer pictures than shards can be empty.
    pub fn pictures(self, shard: usize, batch: usize) -> Range<usize> {
        batch * shard / self.count..batch * (shard + 1) / self.count
    }

    /// Pictures of the largest shard of a batch.
    pub fn largest(self, batch: usize) -> usize {
        batch.div_ceil(self.count)
    }

    /// Sums that this process can add up by itself.
    pub(crate) fn own_nodes(self) -> Vec<Node> {
        Node::all(self.count).within(&self.own())
    }

    /// The same of each process, with its number: all of them together are all shards.
    pub(crate) fn nodes(self) -> Vec<(usize, Node)> {
        let each = (self.own[1] - self.own[0]).max(1);
        let of = |rank: usize| Node::all(self.count).within(&(rank * each..(rank + 1) * each));
        (0..self.count / each).flat_map(|rank| of(rank).into_iter().map(move |node| (rank, node))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_batch_and_processes_have_all_of_them() {
        for count in 1..9 {
            for batch in [1, 2, 7, 8, 9, 64] {
                let shards = Shards::alone(count);
                let sizes: Vec<usize> = (0..count).map(|shard| shards.pictures(shard, batch).len()).collect();
                let ends: Vec<usize> = (0..count).map(|shard| shards.pictures(shard, batch).end).collect();
                assert!((1..count).all(|shard| shards.pictures(shard, batch).start == ends[shard - 1]));
                assert_eq!((sizes.iter().sum::<usize>(), ends[count - 1]), (batch, batch));
                assert!(sizes.iter().all(|&size| size == batch / count || size == shards.largest(batch)));
            }
            for size in (1..=count).filter(|size| count % size == 0) {
                let own = (0..size).flat_map(|rank| Shards::new(count, rank, size).unwrap().own());
                assert!(own.eq(0..count));
                let nodes = Shards::new(count, 0, size).unwrap().nodes();
                assert_eq!(nodes.iter().map(|(_, node)| node.end - node.first).sum::<usize>(), count);
            }
        }
        let message = Shards::new(4, 0, 3).unwrap_err().to_string();
        assert_eq!(message, "shards: expected a multiple of 3, the number of processes, got 4");
    }
}
