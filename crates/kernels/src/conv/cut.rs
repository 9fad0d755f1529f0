//! How a batch is cut into tasks: from geometry, batch and threads. Every sum has one order, whatever the cut.

use super::correlation::Correlation;
use crate::simd::LANES;

/// Floats of scratch that the inputs of several pictures of a task may take: with as many as a strip's, 3×3 layers with
/// outputs of 7×7 pixels took 1 to 10 % more time, and 1×1 layers as much as before (two virtual cores of an EPYC (Zen 4),
/// 2026-11-26, three turns of `cargo bench -p convnet-kernels -- 'forward/conv .*-512.*batch 16'`).
const PICTURES_FLOATS: usize = 12 * 1024;
/// Tasks for each thread, so that all end at about the same time.
pub(super) const TASKS: usize = 4;
/// What a task costs beside its products, in products: to begin it, to read a vector of weights first, to copy a vector.
const TASK_PRODUCTS: usize = 2000;
const WEIGHT_PRODUCTS: usize = 4;
const COPY_PRODUCTS: usize = 2;
/// Pixels of the tile that is used most.
const TILE_PIXELS: usize = 6;

/// The tasks of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Pictures of a task; several only where a strip is a whole picture.
    pub(super) pictures: usize,
    /// Rows `q` of a strip.
    pub(super) rows: usize,
    /// Parts into which the panels are divided.
    pub(super) panels: usize,
}

impl Correlation {
    /// Whole pictures that a task may have.
    pub(super) fn pictures(&self, batch: usize, threads: usize) -> usize {
        let floats = self.planes * self.view_plane();
        match self.heavy && self.strip == self.axes[0].count() {
            // Enough tasks when each has one panel.
            true => (PICTURES_FLOATS / floats).min(batch * self.panels.len() / (TASKS * threads)).max(1),
            false => 1,
        }
    }

    /// The cut of a batch for so many threads. Where statistics are asked for, strips are the plan's own, because each is a
    /// part of the statistics.
    pub(super) fn cut(&self, batch: usize, threads: usize, statistics: bool) -> Cut {
        let (count, fewest, wanted) = (self.axes[0].count(), self.strips(), TASKS * threads);
        let pictures = batch.div_ceil(batch.div_ceil(self.pictures(batch, threads)));
        let groups = batch.div_ceil(pictures);
        let cut = |strips: usize, panels: usize| Cut { pictures, rows: count.div_ceil(strips), panels };
        if threads == 1 || groups * fewest >= 2 * wanted {
            return cut(fewest, 1);
        }
        let most = if statistics { fewest } else { wanted.clamp(fewest, count.max(fewest)) };
        let (all, words) = (self.panels.len(), self.words_len());
        let parts = || std::iter::successors(Some(1), |&parts| (parts < all).then(|| (2 * parts).min(all)));
        let cuts = (fewest..=most).flat_map(|strips| parts().map(move |panels| cut(strips, panels)));
        cuts.min_by_key(|cut| self.time(cut, words, groups, threads)).expect("one part of the panels is a cut")
    }

    /// About how long a cut takes until the last thread is ready, in products of vectors with numbers, with so many words of
    /// weights and groups of pictures.
    fn time(&self, cut: &Cut, words: usize, groups: usize, threads: usize) -> u64 {
        let [vertical, horizontal] = &self.axes;
        let tasks = groups * vertical.count().div_ceil(cut.rows) * cut.panels;
        let vectors = words.div_ceil(cut.panels) / LANES;
        let pixels = (cut.pictures * cut.rows * horizontal.count()).next_multiple_of(TILE_PIXELS);
        let copied = match self.copy {
            Some([_, columns]) => cut.pictures * self.planes * self.unit * vertical.reach(cut.rows) * columns / LANES,
            None => 0,
        };
        let task = (vectors * (pixels + WEIGHT_PRODUCTS) + COPY_PRODUCTS * copied + TASK_PRODUCTS) as u64;
        // The last task seldom ends when the others do.
        tasks.div_ceil(threads) as u64 * task + task / 4
    }
}
