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
//! is a pixel and the one that the next kernel column reads; a tap is two columns then, the last one of an odd kernel beside
//! zero.

use super::axis::{Axis, Phase};
use super::copy::{CopyView, copy_plane, pair_neighbours};
use super::tile::{self, Addend, Ahead, Start, Sum, Target};
use crate::activation::{Ending, Rows};
use crate::layout::{Maps, MapsMut, Placing};
use crate::precision::{Bf16, Element, F32, Precision, pair_groups};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::statistics::{self, StatisticsParts};
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
    /// For every plane and run of products: place in the input view, and products before it in the panel's weights.
    taps: Vec<[u32; 2]>,
    /// Words of a run, and how far apart they are in the view: the channels of a pixel, or a row of the kernel in a plain
    /// plane.
    run: usize,
    step: usize,
    /// For every output of a full strip: place in the input view and in the output plane.
    pixels: Vec<[u32; 2]>,
    /// Outputs in a row and in a column.
    counts: [usize; 2],
    /// Kernel elements of all pairs before this one.
    pub(super) taps_before: usize,
    /// Entries of `taps` for each plane.
    runs: usize,
}

/// A planned correlation of one direction.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    precision: Precision,
    /// How input and output are stored.
    stored: [Precision; 2],
    /// Numbers of a pixel of an input plane.
    channels: usize,
    /// Words of a pixel in the view that tiles read.
    pub(super) unit: usize,
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
    /// Floats of a picture's sums in a strip of a panel, where they wait in scratch until they are complete.
    sums_len: usize,
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
    /// A correlation of `planes` planes of `channels` numbers a pixel.
    pub(super) fn new(
        precision: Precision,
        [channels, planes, blocks]: [usize; 3],
        axes: [Axis; 2],
        panels: Vec<Panel>,
    ) -> Correlation {
        Correlation::of_stored(precision, [Precision::F32; 2], [channels, planes, blocks], axes, panels)
    }

    /// The same with another way in which input and output are stored.
    pub(super) fn with_stored(&self, stored: [Precision; 2]) -> Correlation {
        let dims = [self.channels, self.planes, self.blocks];
        Correlation::of_stored(self.precision, stored, dims, self.axes.clone(), self.panels.clone())
    }

    fn of_stored(
        precision: Precision,
        stored: [Precision; 2],
        [channels, planes, blocks]: [usize; 3],
        axes: [Axis; 2],
        panels: Vec<Panel>,
    ) -> Correlation {
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
            planes,
            blocks,
            axes,
            panels,
            phases: Vec::new(),
            taps: 0,
            strip: count,
            copy: None,
            sums_len: 0,
        };
        plan.taps = plan.axes.iter().map(|axis| axis.phases.iter().map(|p| p.taps.len()).sum::<usize>()).product();
        let floats = if plan.is_heavy() { HEAVY_STRIP_FLOATS } else { STRIP_FLOATS };
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
                let tap = |p: usize, t: usize| {
                    let [down, right] = shifts[t];
                    let at = p * plane + (down * columns + right) * self.unit;
                    [at as u32, ((p * shifts.len() + t) * run) as u32]
                };
                let runs = shifts.len();
                let taps = (0..planes).flat_map(|p| (0..runs).map(move |t| (p, t))).map(|(p, t)| tap(p, t));
                let pixel = |q: usize, r: usize| {
                    let from = (q * vertical.stride * columns + r * horizontal.stride) * self.unit;
                    let to = (v.first + q * vertical.step) * horizontal.output + h.first + r * horizontal.step;
                    [from as u32, (to * LANES) as u32]
                };
                let pixels = (0..self.strip.min(v.count)).flat_map(|q| (0..h.count).map(move |r| (q, r)));
                let pair = PhasePair {
                    taps: taps.collect(),
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
                [taps.len().div_ceil(of_word), step, taps.len()]
            }
            _ => [self.unit, 1, 1],
        }
    }

    /// The input coordinate, relative to `stride·q`, where the view begins.
    fn origin(&self, axis: usize) -> isize {
        if self.copy.is_some() { self.axes[axis].first_shift() } else { 0 }
    }

    /// Rows and columns of a plane of the view that tiles read.
    fn view(&self) -> [usize; 2] {
        self.copy.unwrap_or([self.axes[0].input, self.axes[1].input])
    }

    pub(super) fn view_plane(&self) -> usize {
        let [rows, columns] = self.view();
        rows * columns * self.unit
    }

    /// Whether weights are read from L3 by every task.
    pub(super) fn is_heavy(&self) -> bool {
        self.words_len() > LIGHT_WEIGHTS
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
    fn sums_plane(&self) -> usize {
        self.strip * self.axes[1].output * LANES
    }

    /// Taps of all planes in a chunk of the sum.
    fn chunk(&self, phase: &PhasePair) -> usize {
        (CHUNK_PRODUCTS / (phase.runs.max(1) * phase.run)).max(1) * phase.runs.max(1)
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
    fn words(&self, floats: usize) -> usize {
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

/// Where the results of a task go.
#[derive(Clone, Copy)]
pub(super) enum Onto<'a> {
    /// Maps of whole pictures.
    Maps(Parts<'a, f32>, Placing),
    /// The task's rows alone, in `f32`, of one panel, whose blocks are so many floats apart.
    Rows(Parts<'a, f32>, usize),
}

/// Where a panel's rows are written.
struct Place {
    /// Numbers of a picture before them; they are as many as `len`.
    first: usize,
    len: usize,
    out: *mut f32,
    stored: Precision,
    /// Numbers from one block to the next.
    plane: usize,
}

/// Some panels of one strip of a picture, or of some pictures.
struct StripTask<'a, E> {
    element: PhantomData<E>,
    plan: &'a Correlation,
    call: &'a Call<'a>,
    onto: Onto<'a>,
    /// The pictures' copied strips, and sums that are not complete yet.
    copied: &'a mut [f32],
    sums: Parts<'a, f32>,
    pictures: Range<usize>,
    /// Its first row `q`, and how many it has, at most.
    from: usize,
    rows: usize,
    panels: &'a [Panel],
}

impl<E: Element> Kernel for StripTask<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let StripTask { plan, call, panels, from, .. } = self;
        let Some(first) = panels.first() else { return };
        let planes =
            panels.iter().fold(first.planes.clone(), |a, b| a.start.min(b.planes.start)..a.end.max(b.planes.end));
        let copied = planes.len() * plan.view_plane();
        if plan.copy.is_some() {
            for (picture, view) in self.pictures.clone().zip(self.copied.chunks_exact_mut(copied)) {
                let x = call.x.picture(picture, plan.input_len());
                copy_strip::<S, E>(s, plan, x, from, self.rows, planes.clone(), view);
            }
        }
        for panel in panels {
            for phase in &plan.phases {
                let (runs, chunk) = (panel.planes.len() * phase.runs, plan.chunk(phase));
                for c in 0..runs.div_ceil(chunk).max(1) {
                    let taps = (c * chunk).min(runs)..((c + 1) * chunk).min(runs);
                    for (i, picture) in self.pictures.clone().enumerate() {
                        let view = match plan.copy {
                            Some(_) => {
                                &self.copied[i * copied + (panel.planes.start - planes.start) * plan.view_plane()..]
                            }
                            None => {
                                let [vertical, horizontal] = &plan.axes;
                                let row = from * vertical.stride * horizontal.input * plan.unit;
                                let x = call.x.picture(picture, plan.input_len());
                                &x[panel.planes.start * plan.view_plane() + row..]
                            }
                        };
                        self.add_chunk(s, i, panel, phase, taps.clone(), view);
                        if taps.end == runs {
                            self.activate(s, i, panel);
                            self.sum_statistics(s, picture, panel);
                        }
                    }
                }
            }
        }
    }
}

impl<E: Element> StripTask<'_, E> {
    /// Adds a chunk of the sum to outputs of one panel and phase of the task's picture `i`; `view` begins with the panel's
    /// first plane.
    #[inline(always)]
    fn add_chunk<S: Simd>(&self, s: S, i: usize, panel: &Panel, phase: &PhasePair, taps: Range<usize>, view: &[f32]) {
        let StripTask { plan, call, from, .. } = *self;
        let picture = self.pictures.start + i;
        let Place { first, len, out, stored, plane } = self.place(picture, panel);
        let lanes = panel.width * LANES;
        let rows = self.rows.min(phase.counts[0].saturating_sub(from));
        let pixels = &phase.pixels[..rows * phase.counts[1]];
        let runs = panel.planes.len() * phase.runs;
        let (is_first, is_last) = (taps.start == 0, taps.end == runs);
        let weights = plan.words(panel.weights) + panel.planes.len() * phase.taps_before * plan.unit * lanes;
        let weights = &call.weights[weights..][..runs * phase.run * lanes];
        let ahead = match i {
            0 => self.ahead::<S>(phase, panel, pixels.len(), taps.len(), &weights[taps.end * phase.run * lanes..]),
            _ => Ahead::NONE,
        };
        let taps = &phase.taps[taps];
        let sum = Sum { taps, run: phase.run, a_step: phase.step, b_step: lanes, b_lane: LANES, ahead };
        // Where a sum waits for its next chunk.
        let (sums, lane) = match plan.sums_len {
            0 => (out, plane),
            len => (self.sums.pointer(i * len..(i + 1) * len), plan.sums_plane()),
        };
        let start = match call.bias {
            Some(bias) if is_first => Start::Bias(bias[panel.block * LANES..][..lanes].as_ptr()),
            None if is_first && !call.accumulate => Start::Zero,
            _ => Start::Sums { from: sums, lane },
        };
        let target = match is_last {
            true => {
                let addend = call.addend.map(|addend| {
                    let from = addend.part(picture, first, len).as_ptr();
                    Addend { from, stored: addend.stored, lane: plane }
                });
                // What an activation's pass reads is not rounded before.
                let (out, stored, lane) = match call.ending.pass {
                    Some(_) => (sums, Precision::F32, lane),
                    None => (out, stored, plane),
                };
                Target { out, stored, lane, start, addend, bounds: call.ending.bounds }
            }
            false => Target { lane, start, ..Target::rows(sums, true) },
        };
        // SAFETY: a task's pictures, strips, phases and panels are pixels that no other task writes. Every tap of every
        // pixel lies in the view by the tables' construction, and weights, bias and addend were sliced to the lengths that
        // the tile reads.
        unsafe {
            tile::rows::<S, E>(s, panel.width, &sum, pixels, view.as_ptr(), weights.as_ptr(), &target);
        }
    }
}

impl<E: Element> StripTask<'_, E> {
    /// The chunk of weights that is read after one, where it may not be in L2.
    #[inline(always)]
    fn ahead<S: Simd>(&self, phase: &PhasePair, panel: &Panel, pixels: usize, taps: usize, next: &[f32]) -> Ahead {
        let StripTask { plan, call, .. } = self;
        if call.batch > 1 && !plan.is_heavy() {
            return Ahead::NONE;
        }
        let chunk = plan.chunk(phase) * phase.run * panel.width;
        let tiles = taps * pixels.div_ceil(S::tile_rows(panel.width)).max(1);
        // None where there are many pixels for each weight.
        Ahead { from: next.as_ptr(), vectors: (chunk + tiles / 2) / tiles.max(1) }
    }

    /// Where the task's rows of a panel go.
    #[inline(always)]
    fn place(&self, picture: usize, panel: &Panel) -> Place {
        let [vertical, horizontal] = &self.plan.axes;
        let (row, plane) = (horizontal.output * LANES, vertical.output * horizontal.output * LANES);
        let first = self.from * vertical.step;
        let rows = (self.rows * vertical.step).min(vertical.output - first);
        let len = |plane: usize| (panel.width - 1) * plane + rows * row;
        let first = panel.block * plane + first * row;
        match self.onto {
            Onto::Maps(y, placing) => {
                let out = y.pointer(placing.range(picture, first, len(plane)));
                Place { first, len: len(plane), out, stored: placing.stored, plane }
            }
            Onto::Rows(rows, plane) => {
                let out = rows.pointer(0..len(plane));
                Place { first, len: len(plane), out, stored: Precision::F32, plane }
            }
        }
    }

    /// The activation of the finished strip of the task's picture `i`, where it takes a pass: in place, or from the scratch in
    /// which sums wait.
    #[inline(always)]
    fn activate<S: Simd>(&self, s: S, i: usize, panel: &Panel) {
        let StripTask { plan, call, .. } = *self;
        let Some(pass) = call.ending.pass else { return };
        let Place { len, out, stored, plane, .. } = self.place(self.pictures.start + i, panel);
        let len = len - (panel.width - 1) * plane;
        let to = Rows { first: out, stride: plane };
        let shape = [panel.width, len];
        let last = pass.ragged.filter(|ragged| ragged.block + 1 == panel.block + panel.width);
        // SAFETY: a task has its strips of its panels' blocks to itself, and scratch in which their sums wait.
        unsafe {
            if E::PER_WORD == 2 && stored == Precision::Bf16 {
                let sums = self.sums.pointer(i * plan.sums_len..(i + 1) * plan.sums_len);
                let sums = Rows { first: sums.cast_const(), stride: plan.sums_plane() };
                pass.activation.apply_rows::<S, E>(s, shape, sums, to);
                if let Some(ragged) = last {
                    let block = to.first.add((panel.width - 1) * plane / E::PER_WORD);
                    ragged.clear_each::<S, E>(s, len / LANES, block, LANES);
                }
            } else {
                let sums = Rows { first: to.first.cast_const(), stride: plane };
                pass.activation.apply_rows::<S, F32>(s, shape, sums, to);
                if let Some(ragged) = last {
                    ragged.clear_each::<S, F32>(s, len / LANES, to.first.add((panel.width - 1) * plane), LANES);
                }
            }
        }
    }

    /// Leaves the statistics of a picture's finished strip, which is still in a cache, where they are asked for.
    #[inline(always)]
    fn sum_statistics<S: Simd>(&self, s: S, picture: usize, panel: &Panel) {
        let StripTask { plan, call, from, .. } = *self;
        let (Some(statistics), Onto::Maps(y, placing)) = (call.statistics, self.onto) else { return };
        let [vertical, horizontal] = &plan.axes;
        let (row, rows) = (horizontal.output * LANES, self.rows.min(vertical.output - from));
        for block in panel.block..panel.block + panel.width {
            let place = placing.range(picture, (block * vertical.output + from) * row, rows * row);
            // SAFETY: a task has its strips of its panels' blocks, and their parts, to itself.
            unsafe {
                let pixels = y.part(place);
                statistics::sum_pixels(s, pixels, statistics.part(picture * plan.strips() + from / plan.strip, block));
            }
        }
    }
}

/// Copies the rows that a strip reads into scratch, with zeros where a tap leaves the picture.
#[inline(always)]
fn copy_strip<S: Simd, E: Element>(
    s: S,
    plan: &Correlation,
    x: &[f32],
    from: usize,
    rows: usize,
    planes: Range<usize>,
    scratch: &mut [f32],
) {
    let [vertical, horizontal] = &plan.axes;
    let (rows, [_, columns]) = (vertical.reach(rows), plan.view());
    let top = (from * vertical.stride) as isize + plan.origin(0);
    // Words are copied as they are.
    let words = plan.stored[0] == Precision::Bf16;
    let channels = if words { plan.unit } else { plan.channels };
    let view = CopyView { rows, columns, top, left: plan.origin(1), channels };
    let size = [vertical.input, horizontal.input];
    let len = size[0] * size[1] * channels;
    for (p, target) in planes.zip(scratch.chunks_exact_mut(plan.view_plane())) {
        let plane = &x[p * len..][..len];
        if plan.channels < E::PER_WORD {
            copy_plane::<S, F32>(s, &view, plane, size, target);
            let taps = &horizontal.phases[0].taps;
            let next = taps.get(1).map_or(0, |second| (second.1 - taps[0].1) as usize);
            pair_neighbours(s, columns, next, &mut target[..rows * columns]);
            continue;
        }
        match words {
            true => copy_plane::<S, F32>(s, &view, plane, size, target),
            false => copy_plane::<S, E>(s, &view, plane, size, target),
        }
    }
}
