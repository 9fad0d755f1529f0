//! One buffer for everything that lives only within a step, coloured by liveness.
//!
//! Every buffer is live from one moment to another (both counted in); two buffers share memory only when their lives do
//! not meet. Buffers are placed in order of size, the largest first, each at the lowest place that is free during its
//! life. All of this happens once, when the plan is made.

use convnet_kernels::memory::Buffer;
use std::ops::Range;

/// A buffer of an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferId(usize);

/// Lives and sizes, before there is memory.
#[derive(Debug, Default)]
pub(super) struct Lives(Vec<Life>);

#[derive(Debug)]
struct Life {
    len: usize,
    from: usize,
    to: usize,
}

impl Lives {
    /// A buffer of `len` floats that is written first at a moment.
    pub(super) fn begin(&mut self, len: usize, from: usize) -> BufferId {
        self.0.push(Life { len: len.next_multiple_of(16), from, to: from });
        BufferId(self.0.len() - 1)
    }

    /// Says that a buffer is still used at a moment.
    pub(super) fn use_at(&mut self, id: BufferId, moment: usize) {
        let life = &mut self.0[id.0];
        life.to = life.to.max(moment);
    }

    /// Gives every buffer its place.
    pub(super) fn place(self) -> Arena {
        let lives = self.0;
        let mut order: Vec<usize> = (0..lives.len()).collect();
        order.sort_by_key(|&i| (usize::MAX - lives[i].len, i));
        let mut ranges: Vec<Range<usize>> = vec![0..0; lives.len()];
        let mut placed: Vec<usize> = Vec::new();
        for &i in order.iter().filter(|&&i| lives[i].len > 0) {
            let meets = |&&j: &&usize| lives[i].from <= lives[j].to && lives[j].from <= lives[i].to;
            let mut taken: Vec<_> = placed.iter().filter(meets).map(|&j| ranges[j].clone()).collect();
            taken.sort_by_key(|range| range.start);
            let mut at = 0;
            for range in taken {
                if range.start >= at + lives[i].len {
                    break;
                }
                at = at.max(range.end);
            }
            ranges[i] = at..at + lives[i].len;
            placed.push(i);
        }
        let len = ranges.iter().map(|r| r.end).max().unwrap_or(0);
        Arena { memory: Buffer::zeros(len), ranges }
    }
}

/// Buffers in one piece of memory.
#[derive(Debug)]
pub(super) struct Arena {
    memory: Buffer,
    ranges: Vec<Range<usize>>,
}

impl Arena {
    /// Bytes of all buffers together.
    pub(super) fn bytes(&self) -> usize {
        self.memory.len() * size_of::<f32>()
    }

    /// One buffer.
    pub(super) fn get(&self, id: BufferId) -> &[f32] {
        &self.memory[self.ranges[id.0].clone()]
    }

    /// Several buffers at once.
    ///
    /// # Panics
    /// When their lives do not meet and they share memory: a mistake in the plan.
    pub(super) fn get_mut<const N: usize>(&mut self, ids: [BufferId; N]) -> [&mut [f32]; N] {
        let ranges = ids.map(|id| self.ranges[id.0].clone());
        self.memory.get_disjoint_mut(ranges).expect("buffers that are used together do not overlap")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_share_memory_only_when_their_lives_do_not_meet() {
        let mut lives = Lives::default();
        let a = lives.begin(100, 0);
        let b = lives.begin(50, 1);
        let c = lives.begin(100, 2);
        let empty = lives.begin(0, 2);
        lives.use_at(a, 1);
        lives.use_at(b, 2);
        let mut arena = lives.place();
        // a and c share; b lies beside both.
        assert_eq!(arena.bytes(), (112 + 64) * 4);
        let [x, y, z] = arena.get_mut([b, c, empty]);
        assert_eq!((x.len(), y.len(), z.len()), (64, 112, 0));
        assert_eq!(arena.get(a).len(), 112);
    }
}
