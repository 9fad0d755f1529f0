//! One buffer for everything that lives only within a step, coloured by liveness.
//!
//! Every buffer is live from one time to another (both counted in); two buffers share memory only when their lives do
//! not meet. Buffers are placed in order of size, the largest first, each at the lowest place that is free during its
//! life. All of this happens once, when the plan is made.

use convnet_kernels::layout::{Maps, MapsMut};
use convnet_kernels::memory::Buffer;
use convnet_kernels::precision::Precision;
use std::ops::Range;
use std::sync::Arc;

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
    /// A buffer of `len` floats that is used at a time.
    pub(super) fn begin(&mut self, len: usize, from: usize) -> BufferId {
        self.0.push(Life { len: len.next_multiple_of(16), from, to: from });
        BufferId(self.0.len() - 1)
    }

    /// Says that a buffer is used at a time.
    pub(super) fn use_at(&mut self, id: BufferId, time: usize) {
        let life = &mut self.0[id.0];
        life.from = life.from.min(time);
        life.to = life.to.max(time);
    }

    /// Gives every buffer its place.
    pub(super) fn place(self) -> ArenaLayout {
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
        ArenaLayout { ranges: ranges.into(), len }
    }
}

/// Places of buffers in one piece of memory.
#[derive(Debug)]
pub(super) struct ArenaLayout {
    ranges: Arc<[Range<usize>]>,
    len: usize,
}

impl ArenaLayout {
    /// Memory with this layout.
    pub(super) fn allocate(&self) -> Arena {
        Arena { memory: Buffer::zeros(self.len), ranges: self.ranges.clone() }
    }
}

/// Buffers in one piece of memory.
#[derive(Debug)]
pub(super) struct Arena {
    memory: Buffer,
    ranges: Arc<[Range<usize>]>,
}

impl Arena {
    /// Bytes of all buffers together.
    pub(super) fn bytes(&self) -> usize {
        self.memory.len() * size_of::<f32>()
    }

    /// Some floats of a buffer.
    pub(super) fn get(&self, span: &Span) -> &[f32] {
        &self.memory[self.place(span)]
    }

    fn place(&self, span: &Span) -> Range<usize> {
        let buffer = &self.ranges[span.buffer.0];
        assert!(span.range.end <= buffer.len(), "{span:?} is not inside its buffer of {}", buffer.len());
        buffer.start + span.range.start..buffer.start + span.range.end
    }

    /// Some spans to read, which may be one, and others to write.
    ///
    /// # Panics
    /// When what is written overlaps with anything else: a mistake in the plan.
    pub(super) fn split<const R: usize, const W: usize>(
        &mut self,
        reads: [Span; R],
        writes: [Span; W],
    ) -> ([&[f32]; R], [&mut [f32]; W]) {
        const MOST: usize = 4;
        assert!(W < MOST, "at most {} spans are written at once", MOST - 1);
        let reads = reads.map(|span| self.place(&span));
        let writes = writes.map(|span| self.place(&span));
        // What is written is cut out in order; what is read lies in one of the gaps.
        let mut order: [usize; W] = std::array::from_fn(|i| i);
        order.sort_unstable_by_key(|&i| (writes[i].start, writes[i].end));
        let mut gaps: [(usize, &[f32]); MOST] = [(0, &[]); MOST];
        let mut written: [&mut [f32]; W] = std::array::from_fn(|_| &mut [][..]);
        let (mut rest, mut at) = (&mut self.memory[..], 0);
        for (gap, i) in order.into_iter().enumerate() {
            let Range { start, end } = writes[i];
            assert!(start >= at, "buffers that are written together do not overlap");
            let (before, after) = rest.split_at_mut(start - at);
            let (own, after) = after.split_at_mut(end - start);
            gaps[gap] = (at, before);
            written[i] = own;
            (rest, at) = (after, end);
        }
        gaps[W] = (at, rest);
        let read = |range: Range<usize>| {
            let holds = |&&(at, gap): &&(usize, &[f32])| at <= range.start && range.end <= at + gap.len();
            let (at, gap) = gaps.iter().find(holds).expect("what is read is not written at once");
            &gap[range.start - at..range.end - at]
        };
        (reads.map(read), written)
    }
}

/// Some floats of a buffer.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) buffer: BufferId,
    pub(super) range: Range<usize>,
}

impl Span {
    /// None of a buffer's floats.
    pub(super) fn empty(buffer: BufferId) -> Span {
        Span { buffer, range: 0..0 }
    }
}

/// A stage's output or its gradient: pictures of `len` floats in a buffer, each `stride` after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) buffer: BufferId,
    pub(super) offset: usize,
    pub(super) stride: usize,
    pub(super) len: usize,
    /// Whether the buffer has room for the pictures of one tile of the batch alone.
    pub(super) of_tile: bool,
    /// How its numbers are stored.
    pub(super) stored: Precision,
}

impl View {
    /// A buffer's only tenant, for the pictures of a batch in `f32`.
    pub(super) fn whole(buffer: BufferId, len: usize) -> View {
        View { buffer, offset: 0, stride: len, len, of_tile: false, stored: Precision::F32 }
    }

    /// What a tile that begins with picture `first` sees.
    pub(super) fn at_picture(self, first: usize) -> View {
        let before = if self.of_tile { 0 } else { first * self.stride };
        View { offset: self.offset + before, ..self }
    }

    /// The first `count` pictures.
    pub(super) fn span(&self, count: usize) -> Span {
        Span { buffer: self.buffer, range: self.offset..self.offset + (count - 1) * self.stride + self.len }
    }

    pub(super) fn maps<'a>(&self, data: &'a [f32]) -> Maps<'a> {
        Maps { data, stride: self.stride, stored: self.stored }
    }

    pub(super) fn maps_mut<'a>(&self, data: &'a mut [f32]) -> MapsMut<'a> {
        MapsMut { data, stride: self.stride, stored: self.stored }
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
        let mut arena = lives.place().allocate();
        // a and c share; b lies beside both.
        assert_eq!(arena.bytes(), (112 + 64) * 4);
        let span = |buffer, range| Span { buffer, range };
        let ([again, x], [y, z]) = arena.split([span(b, 0..64), span(b, 8..64)], [span(c, 0..112), span(empty, 0..0)]);
        assert_eq!((again.len(), x.len(), y.len(), z.len()), (64, 56, 112, 0));
        assert_eq!(arena.get(&span(a, 100..112)).len(), 12);
    }

    #[test]
    fn parts_of_a_buffer_are_read_beside_those_that_are_written() {
        let mut lives = Lives::default();
        let a = lives.begin(48, 0);
        let mut arena = lives.place().allocate();
        let span = |range| Span { buffer: a, range };
        let (_, [right, left]) = arena.split([], [span(32..48), span(0..16)]);
        right.fill(2.0);
        left.fill(1.0);
        let ([before, after], [middle]) = arena.split([span(0..16), span(32..48)], [span(16..32)]);
        assert_eq!((before, after, middle.len()), (&[1.0; 16][..], &[2.0; 16][..], 16));
    }

    #[test]
    #[should_panic(expected = "is not written at once")]
    fn what_is_written_is_not_read() {
        let mut lives = Lives::default();
        let a = lives.begin(48, 0);
        let mut arena = lives.place().allocate();
        let span = |range| Span { buffer: a, range };
        arena.split([span(0..20)], [span(16..32)]);
    }
}
