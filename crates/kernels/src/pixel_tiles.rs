//! What is computed over all channels of each pixel: its tasks, and tiles of up to 8 pixels that walk over the blocks of
//! channels together.
//!
//! The pixels of a tile lie one after the other in each block, and a block begins `16 · pixels` floats after the one before.
//! A tile keeps a vector of 16 partial results for each of its pixels. At the end these vectors are transposed, so that
//! the results of all its pixels are found at once, one in each lane. The order in which a pixel's numbers are added depends
//! on its channels alone, not on the tile.

use crate::layout::{Maps, blocks};
use crate::simd::{LANES, Simd};
use crate::threads::Threads;
use std::ops::Range;

/// Maps whose channels belong together at each pixel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) channels: usize,
    pub(crate) pixels: usize,
}

/// A task's function: called with the task's number, its pictures, and the pixels of each of them.
type Task<'a> = dyn Fn(usize, Range<usize>, Range<usize>) + Sync + 'a;

impl Columns {
    /// Blocks of 16 channels.
    #[inline(always)]
    pub(crate) fn blocks(&self) -> usize {
        blocks(self.channels)
    }

    /// Floats of a picture.
    pub(crate) fn len(&self) -> usize {
        self.blocks() * self.pixels * LANES
    }

    /// Where a block's channels at a pixel begin in a picture.
    #[inline(always)]
    pub(crate) fn place(&self, block: usize, pixel: usize) -> usize {
        (block * self.pixels + pixel) * LANES
    }

    /// Bit `i` is set where lane `i` of a block holds a channel.
    #[inline(always)]
    pub(crate) fn present(&self, block: usize) -> u16 {
        let rest = self.channels - block * LANES;
        if rest >= LANES { u16::MAX } else { (1 << rest) - 1 }
    }

    /// Pictures of a task, and pixels of each.
    fn cut(&self) -> [usize; 2] {
        /// Floats that a task has at most, if a tile has fewer: they fit in L2.
        const FLOATS: usize = 32 * 1024;
        let len = self.len().max(1);
        if len <= FLOATS {
            return [FLOATS / len, self.pixels.max(1)];
        }
        [1, self.pixels.div_ceil(len.div_ceil(FLOATS)).next_multiple_of(LANES)]
    }

    /// Number of tasks for so many pictures.
    pub(crate) fn tasks(&self, batch: usize) -> usize {
        let [pictures, pixels] = self.cut();
        batch.div_ceil(pictures) * self.pixels.div_ceil(pixels)
    }

    /// Calls each task, whose pixels nobody else has.
    pub(crate) fn each_task(&self, threads: &Threads, batch: usize, task: &Task<'_>) {
        let [pictures, pixels] = self.cut();
        let runs = self.pixels.div_ceil(pixels);
        threads.run(self.tasks(batch), &|i, _| {
            let (group, run) = (i / runs, i % runs);
            let end = ((group + 1) * pictures).min(batch);
            task(i, group * pictures..end, run * pixels..((run + 1) * pixels).min(self.pixels));
        });
    }
}

/// Where a picture is read: in other maps, or where nothing is given, in its own place among those that are written.
///
/// # Panics
/// When the other maps do not hold it.
pub(crate) fn source(maps: Option<Maps<'_>>, n: usize, len: usize, own: *mut f32) -> *const f32 {
    maps.map_or(own.cast_const(), |maps| maps.picture(n, len).as_ptr())
}

/// Pixels of a tile. Their partial results fit in registers; with 16, a layer norm of maps from memory runs at 70 % of the
/// speed (Zen 4, 2026-11-28).
const WIDE: usize = 8;

/// Work on one tile.
pub(crate) trait Tile {
    /// Works on `N` pixels from `pixel` on.
    fn run<S: Simd, const N: usize>(&mut self, s: S, pixel: usize);
}

/// Cuts pixels into tiles of 8, and smaller ones at the end.
#[inline(always)]
pub(crate) fn each_tile<S: Simd>(s: S, pixels: Range<usize>, tile: &mut impl Tile) {
    let mut pixel = pixels.start;
    while pixel + WIDE <= pixels.end {
        tile.run::<S, WIDE>(s, pixel);
        pixel += WIDE;
    }
    while pixel + 4 <= pixels.end {
        tile.run::<S, 4>(s, pixel);
        pixel += 4;
    }
    while pixel < pixels.end {
        tile.run::<S, 1>(s, pixel);
        pixel += 1;
    }
}

/// Sums of the lanes of up to 16 vectors: lane `i` has that of vector `i`.
#[inline(always)]
pub(crate) fn sum_lanes<S: Simd>(s: S, vectors: &[S::V]) -> S::V {
    let mut columns = columns(s, vectors);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            columns[i] = s.add(columns[i], columns[i + half]);
        }
    }
    columns[0]
}

/// As [`sum_lanes`], for the largest lane.
#[inline(always)]
pub(crate) fn max_lanes<S: Simd>(s: S, vectors: &[S::V]) -> S::V {
    let mut columns = columns(s, vectors);
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            columns[i] = s.max(columns[i], columns[i + half]);
        }
    }
    columns[0]
}

#[inline(always)]
fn columns<S: Simd>(s: S, vectors: &[S::V]) -> [S::V; LANES] {
    let mut rows = [s.splat(0.0); LANES];
    rows[..vectors.len()].copy_from_slice(vectors);
    s.transpose(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_pixel_has_one_task() {
        let threads = Threads::new(2).unwrap();
        for (channels, pixels, batch) in
            [(5, 7, 3), (768, 49, 5), (96, 3136, 2), (40, 1, 3), (5000, 20, 2), (64, 1, 999)]
        {
            let columns = Columns { channels, pixels };
            let counts: Vec<AtomicUsize> = (0..batch * pixels).map(|_| AtomicUsize::new(0)).collect();
            columns.each_task(&threads, batch, &|task, pictures, pixels_of_each| {
                assert!(task < columns.tasks(batch) && pixels_of_each.start % LANES == 0);
                for n in pictures {
                    for pixel in pixels_of_each.clone() {
                        counts[n * pixels + pixel].fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{columns:?}");
        }
    }
}
