//! The direct algorithm: `y[n, o, q] = bias[o] + Σ_{i, t} x[n, i, s·q + shift(t)] · w[o, i, t]` over blocked channels.
//!
//! Layout: `x` is `[n][planes][h][w][unit]`, with blocks of 16 channels (`unit` 16) or, for pictures of 1 to 4 channels,
//! plain planes (`unit` 1); `y` is `[n][blocks][h][w][16]`. Weights are cut into panels of up to `TILE_WIDTH` blocks of
//! output channels, each `[phase][plane][tap][unit][16·width]`, so that a tile reads them from front to back.
//!
//! A task is a strip of output rows of one picture, or of some whole pictures (`cut.rs`). It copies what they read into its
//! thread's scratch, with the padding as zeros, unless no tap leaves the picture; then each panel walks their pixels in
//! register tiles, with the sum cut into chunks whose weights (about 40 KB) stay in the L1 cache. Scratch:
//! [`Correlation::scratch_len`] a thread. Checked against `reference.rs`.
//!
//! With [`Precision::Bf16`] a strip of floats is always copied, as words of two neighbouring channels, and weights are words
//! of two neighbouring rows: a block of 16 channels is 8 words wide, and everything else is the same. An input that is stored
//! in bf16 consists of such words already, and an output that is has its sums wait as floats in scratch. A plain plane's word
//! is a pixel and the one that the next kernel column reads, so that it multiplies two columns; the last column of an odd
//! kernel is beside zero.
//!
//! A sum is cut into runs, whose products lie at even distances: the channels of a pixel, or the columns of a kernel row in a
//! plain plane. A run of a block that has fewer channels ends where its padding begins.

use super::axis::{Axis, Phase};
use super::strip::{Onto, StripTask};
use crate::activation::Ending;
use crate::layout::{Maps, MapsMut};
use crate::precision::{Bf16, Element, F32, Precision, pair_groups};
use crate::simd::{Isa, LANES};
use crate::statistics::StatisticsParts;
use crate::threads::{Parts, Threads};
use std::marker::PhantomData;
use std::ops::Range;

/// Floats of scratch that a strip's input may take: it stays in L2 beside a chunk of weights.
const STRIP_FLOATS: usize = 48 * 1024;
/// The same where weights come from L3, which costs more than an input that leaves L2.
const HEAVY_STRIP_FLOATS: usize = 192 * 1024;
/// Floats of weights that stay in L2 from one task to the next.
const LIGHT_WEIGHTS: usize = 96 * 1024;
/// Products per chunk of a sum: with 64 output channels, 40 KB of weights, which stay in L1 (measured: 15 % faster than
/// chunks of 128 KB for 3×3 kernels).
const CHUNK_PRODUCTS: usize = 160;

/// Blocks of output channels that are computed together, and the input planes that they see.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// First block.
    pub(crate) block: usize,
    /// Number of blocks.
    pub(crate) width: usize,
    /// Input planes.
    pub(crate) planes: Range<usize>,
    /// Where its weights begin, in floats.
    pub(crate) weights: usize,
}

/// A pair of phases, one of each axis: all outputs that share their taps.
#[derive(Clone, Debug)]
pub(super) struct PhasePair {
    /// Kernel elements `[row, column]`.
    pub(super) kernel: Vec<[usize; 2]>,
    /// For every plane and run: place in the input view, and products before it in the panel's weights.
    pub(super) starts: Vec<[u32; 2]>,
    /// Words of a run, and how far apart they are in the view: the channels of a pixel, or a row of the kernel in a plain
    /// plane.
    pub(super) run: usize,
    pub(super) step: usize,
    /// For every output of a full strip: place in the input view and in the output plane.
    pub(super) pixels: Vec<[u32; 2]>,
    /// Outputs in a row and in a column.
    pub(super) counts: [usize; 2],
    /// Kernel elements of all pairs before this one.
    pub(super) taps_before: usize,
    /// Runs of each plane.
    pub(super) runs: usize,
}

/// A planned correlation of one direction.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    precision: Precision,
    /// How input and output are stored.
    pub(super) stored: [Precision; 2],
    /// Numbers of a pixel of an input plane.
    pub(super) channels: usize,
    /// Words of a pixel in the view that tiles read.
    pub(super) unit: usize,
    /// Channels that are no padding, and the planes that hold them.
    inputs: usize,
    pub(super) planes: usize,
    blocks: usize,
    pub(super) axes: [Axis; 2],
    pub(super) panels: Vec<Panel>,
    pub(super) phases: Vec<PhasePair>,
    /// Kernel elements of all phases.
    pub(super) taps: usize,
    /// Rows `q` of a strip, at most.
    pub(super) strip: usize,
    /// The copied strip's rows and columns, or nothing where the input is read in place.
    pub(super) copy: Option<[usize; 2]>,
    /// Whether weights are read from L3 by every task.
    pub(super) heavy: bool,
    /// Floats of a picture's sums in a strip of a panel, where they wait in scratch until they are complete.
    pub(super) sums_len: usize,
}

/// What one call computes with.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) batch: usize,
    pub(super) x: Maps<'a>,
    pub(super) weights: &'a [f32],
    /// A number per output channel, padded to whole blocks.
    pub(super) bias: Option<&'a [f32]>,
    /// Added before the activation.
    pub(super) addend: Option<Maps<'a>>,
    /// The activation.
    pub(super) ending: Ending,
    /// Whether the sums are added to what `y` holds; there is no bias then.
    pub(super) accumulate: bool,
    /// Where the results' statistics go, a part for each strip of each picture.
    pub(super) statistics: Option<StatisticsParts<'a>>,
}

impl Correlation {
    /// A correlation of `inputs` channels, in planes of `channels` numbers a pixel.
    pub(super) fn new(
        precision: Precision,
        [channels, inputs, blocks]: [usize; 3],
        axes: [Axis; 2],
        panels: Vec<Panel>,
    ) -> Correlation {
        Correlation::of_stored(precision, [Precision::F32; 2], [channels, inputs, blocks], axes, panels)
    }

    /// The same with another way in which input and output are stored.
    pub(super) fn with_stored(&self, stored: [Precision; 2]) -> Correlation {
        let dims = [self.channels, self.inputs, self.blocks];
        Correlation::of_stored(self.precision, stored, dims, self.axes.clone(), self.panels.clone())
    }

    fn of_stored(
        precision: Precision,
        stored: [Precision; 2],
        [channels, inputs, blocks]: [usize; 3],
        axes: [Axis; 2],
        panels: Vec<Panel>,
    ) -> Correlation {
        let planes = inputs.div_ceil(channels);
        let unit = (channels / precision.per_word()).max(1);
        let count = axes[0].count();
        let row = planes * unit * axes[1].reach(axes[1].count());
        // An input is read in place where its words are those that are multiplied.
        let inside = precision == stored[0] && axes.iter().all(Axis::inside);
        let mut plan = Correlation {
            precision,
            stored,
            channels,
            unit,
            inputs,
            planes,
            blocks,
            axes,
            panels,
            phases: Vec::new(),
            taps: 0,
            strip: count,
            copy: None,
            heavy: false,
            sums_len: 0,
        };
        plan.taps = plan.axes.iter().map(|axis| axis.phases.iter().map(|p| p.taps.len()).sum::<usize>()).product();
        plan.heavy = plan.words_len() > LIGHT_WEIGHTS;
        let floats = if plan.heavy { HEAVY_STRIP_FLOATS } else { STRIP_FLOATS };
        let fitting = (1..=count).rev().find(|&q| plan.axes[0].reach(q) * row <= floats).unwrap_or(1);
        plan.strip = count.div_ceil(count.div_ceil(fitting));
        plan.copy = (!inside).then(|| [plan.axes[0].reach(plan.strip), plan.axes[1].reach(plan.axes[1].count())]);
        plan.make_phases();
        if stored[1] == Precision::Bf16 {
            plan.sums_len = plan.panels.iter().map(|panel| panel.width).max().unwrap_or(0) * plan.sums_plane();
        }
        plan
    }

    fn make_phases(&mut self) {
        let [vertical, horizontal] = &self.axes;
        let [_, columns] = self.view();
        let plane = self.view_plane();
        let planes = self.panels.iter().map(|p| p.planes.len()).max().unwrap_or(0);
        let mut taps_before = 0;
        for v in &vertical.phases {
            for h in &horizontal.phases {
                let mut kernel = Vec::new();
                let mut shifts = Vec::new();
                let [run, step, taps_of_run] = self.runs(h);
                for &(row, down) in &v.taps {
                    kernel.extend(h.taps.iter().map(|&(column, _)| [row, column]));
                    for &(_, right) in h.taps.iter().step_by(taps_of_run) {
                        shifts.push([down - self.origin(0), right - self.origin(1)].map(|shift| shift as usize));
                    }
                }
                let start = |p: usize, r: usize| {
                    let [down, right] = shifts[r];
                    let at = p * plane + (down * columns + right) * self.unit;
                    [at as u32, ((p * shifts.len() + r) * run) as u32]
                };
                let runs = shifts.len();
                let starts = (0..planes).flat_map(|p| (0..runs).map(move |r| (p, r))).map(|(p, r)| start(p, r));
                let pixel = |q: usize, r: usize| {
                    let from = (q * vertical.stride * columns + r * horizontal.stride) * self.unit;
                    let to = (v.first + q * vertical.step) * horizontal.output + h.first + r * horizontal.step;
                    [from as u32, (to * LANES) as u32]
                };
                let pixels = (0..self.strip.min(v.count)).flat_map(|q| (0..h.count).map(move |r| (q, r)));
                let pair = PhasePair {
                    starts: starts.collect(),
                    pixels: pixels.map(|(q, r)| pixel(q, r)).collect(),
                    counts: [v.count, h.count],
                    run,
                    step,
                    taps_before,
                    runs,
                    kernel,
                };
                taps_before += pair.kernel.len();
                self.phases.push(pair);
            }
        }
    }

    /// Words of a run, how far apart they are, and how many columns of the kernel they multiply.
    fn runs(&self, columns: &Phase) -> [usize; 3] {
        match self.channels {
            1 => {
                let (taps, of_word) = (&columns.taps, if self.pairs_columns() { 2 } else { 1 });
                let step = taps.get(of_word).map_or(1, |second| (second.1 - taps[0].1) as usize);
                [taps.len().div_ceil(of_word), step, taps.len().max(1)]
            }
            _ => [self.unit, 1, 1],
        }
    }

    /// The input coordinate, relative to `stride·q`, where the view begins.
    pub(super) fn origin(&self, axis: usize) -> isize {
        if self.copy.is_some() { self.axes[axis].first_shift() } else { 0 }
    }

    /// Rows and columns of a plane of the view that tiles read.
    pub(super) fn view(&self) -> [usize; 2] {
        self.copy.unwrap_or([self.axes[0].input, self.axes[1].input])
    }

    pub(super) fn view_plane(&self) -> usize {
        let [rows, columns] = self.view();
        rows * columns * self.unit
    }

    /// The plan's own strips of a picture.
    pub(super) fn strips(&self) -> usize {
        self.axes[0].count().div_ceil(self.strip)
    }

    /// Parts of the statistics of `batch` pictures: each strip of each.
    pub(super) fn statistics_parts(&self, batch: usize) -> usize {
        batch * self.strips()
    }

    /// Floats of scratch that one thread needs for up to `batch` pictures: for copies and for sums.
    pub(super) fn scratch_len(&self, batch: usize, threads: usize) -> usize {
        self.pictures(batch, threads) * (self.copied_len() + self.sums_len)
    }

    /// Floats of a picture's copied strip.
    fn copied_len(&self) -> usize {
        self.copy.map_or(0, |_| self.planes * self.view_plane())
    }

    /// Floats of a block of sums that wait.
    pub(super) fn sums_plane(&self) -> usize {
        self.strip * self.axes[1].output * LANES
    }

    /// Runs in a chunk of the sum.
    pub(super) fn chunk(&self, phase: &PhasePair) -> usize {
        (CHUNK_PRODUCTS / (phase.runs * phase.run).max(1)).max(1) * phase.runs.max(1)
    }

    /// Words of the last plane's channels that are no padding.
    pub(super) fn words_of_last(&self) -> usize {
        (self.inputs - (self.planes - 1) * self.channels).div_ceil(self.precision.per_word())
    }

    /// Runs of a panel before those of a plane whose last channels are padding.
    pub(super) fn whole_runs(&self, panel: &Panel, phase: &PhasePair) -> usize {
        let padded = panel.planes.end == self.planes && self.words_of_last() < self.unit;
        (panel.planes.len() - usize::from(padded)) * phase.runs
    }

    pub(super) fn input_len(&self) -> usize {
        self.planes * self.axes[0].input * self.axes[1].input * self.channels
    }

    pub(super) fn output_len(&self) -> usize {
        self.blocks * self.axes[0].output * self.axes[1].output * LANES
    }

    /// Floats of packed weights: the panels' one after the other.
    pub(super) fn weights_len(&self) -> usize {
        self.panels.iter().map(|p| self.panel_len(p)).sum()
    }

    /// Floats of a panel's packed weights.
    pub(super) fn panel_len(&self, panel: &Panel) -> usize {
        panel.planes.len() * self.taps * self.channels * panel.width * LANES
    }

    /// Words of packed weights.
    pub(super) fn words_len(&self) -> usize {
        self.words(self.weights_len())
    }

    /// The words of so many floats of packed weights, whole planes' of panels.
    pub(super) fn words(&self, floats: usize) -> usize {
        match self.pairs_columns() {
            true => floats / self.columns() * self.columns().div_ceil(2),
            false => floats / self.precision.per_word(),
        }
    }

    /// Whether words hold two kernel columns of a plain plane.
    fn pairs_columns(&self) -> bool {
        self.channels == 1 && self.precision == Precision::Bf16
    }

    /// Columns of the kernel, of a correlation with one phase.
    fn columns(&self) -> usize {
        self.axes[1].phases[0].taps.len()
    }

    /// What products are computed with.
    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The weights' words of two rows each, from packed floats.
    pub(super) fn pair_weights(&self, isa: Isa, threads: &Threads, weights: &[f32], words: &mut [f32]) {
        for panel in &self.panels {
            self.pair_panel(isa, threads, panel, &weights[panel.weights..], words);
        }
    }

    /// The same in the weights' place; what is left behind the words means nothing.
    pub(super) fn pair_weights_in_place(&self, isa: Isa, threads: &Threads, weights: &mut [f32]) {
        for panel in &self.panels {
            // A panel's words end before the next panel's floats begin.
            let floats = weights[panel.weights..][..self.panel_len(panel)].to_vec();
            self.pair_panel(isa, threads, panel, &floats, weights);
        }
    }

    fn pair_panel(&self, isa: Isa, threads: &Threads, panel: &Panel, floats: &[f32], words: &mut [f32]) {
        let group = if self.pairs_columns() { self.columns() } else { self.channels };
        let len = self.panel_len(panel);
        let words = &mut words[self.words(panel.weights)..][..self.words(len)];
        pair_groups(isa, threads, [group, panel.width * LANES], &floats[..len], words);
    }

    /// `y = correlate(x, weights)`; `scratch` holds [`Correlation::scratch_len`] for each thread.
    pub(super) fn run(&self, isa: Isa, threads: &Threads, call: &Call<'_>, y: MapsMut<'_>, scratch: &mut [f32]) {
        match self.precision {
            Precision::F32 => self.run_with::<F32>(isa, threads, call, y, scratch),
            Precision::Bf16 => self.run_with::<Bf16>(isa, threads, call, y, scratch),
        }
    }

    fn run_with<E: Element>(&self, isa: Isa, threads: &Threads, call: &Call<'_>, y: MapsMut<'_>, scratch: &mut [f32]) {
        assert!(call.x.hold_stored(call.batch, self.input_len()));
        assert!(y.as_maps().hold_stored(call.batch, self.output_len()));
        assert!(call.weights.len() >= self.words_len());
        assert!(call.bias.is_none_or(|b| b.len() >= self.blocks * LANES));
        assert!(call.addend.is_none_or(|a| a.hold_stored(call.batch, self.output_len())));
        assert!(call.addend.is_none_or(|a| a.stored == Precision::F32 || self.precision == Precision::Bf16));
        assert!([call.x.stored, y.stored] == self.stored, "input and output are stored as planned");
        let stored_once = self.phases.len() == 1 && !call.accumulate && call.statistics.is_none();
        assert!(self.stored[1] == Precision::F32 || stored_once, "sums that are not stored as floats are stored once");
        assert!(!call.accumulate || call.bias.is_none());
        assert!(call.ending.pass.is_none() || self.phases.len() == 1, "results are complete after one phase");
        assert!(
            call.statistics
                .is_none_or(|m| self.phases.len() == 1 && m.hold(self.statistics_parts(call.batch), self.blocks))
        );
        let cut = self.cut(call.batch, threads.count(), call.statistics.is_some());
        let strips = self.axes[0].count().div_ceil(cut.rows);
        let placing = y.placing();
        let (onto, scratch) = (Onto::Maps(Parts::new(y.data), placing), Parts::new(scratch));
        let most = self.pictures(call.batch, threads.count());
        let [copied_len, sums_len] = [self.copied_len(), self.sums_len].map(|len| most * len);
        let scratch_len = copied_len + sums_len;
        threads.run(call.batch.div_ceil(cut.pictures) * strips * cut.panels, &|task, thread| {
            let (group, strip, part) = (task / cut.panels / strips, task / cut.panels % strips, task % cut.panels);
            let share = |part: usize| part * self.panels.len() / cut.panels;
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * scratch_len..(thread + 1) * scratch_len) };
            let (copied, sums) = scratch.split_at_mut(copied_len);
            let sums = Parts::new(sums);
            let first = group * cut.pictures;
            let pictures = first..(first + cut.pictures).min(call.batch);
            let (from, rows, panels) = (strip * cut.rows, cut.rows, &self.panels[share(part)..share(part + 1)]);
            let element = PhantomData::<E>;
            E::run(isa, StripTask { element, plan: self, call, onto, copied, sums, pictures, from, rows, panels });
        });
    }

    /// Whether inputs are read where they lie and sums wait in the output, so that strips need no scratch.
    pub(super) fn works_in_place(&self) -> bool {
        self.precision == Precision::F32 && self.phases.len() == 1 && self.copy.is_none()
    }

    /// Rows `from` on, at most a strip's, of one panel of a picture, by a correlation that works in place.
    pub(super) fn run_panel(
        &self,
        isa: Isa,
        call: &Call<'_>,
        onto: Onto<'_>,
        [picture, from, rows]: [usize; 3],
        panel: &Panel,
    ) {
        assert!(self.works_in_place() && rows <= self.strip);
        let (sums, pictures, panels) = (Parts::new(&mut []), picture..picture + 1, std::slice::from_ref(panel));
        let (element, copied) = (PhantomData::<F32>, &mut [][..]);
        isa.run(StripTask { element, plan: self, call, onto, copied, sums, pictures, from, rows, panels });
    }
}
