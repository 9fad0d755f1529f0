//! Forward and by data: `y[n, c, q] = Σ_t x[n, c, s·q + shift(t)] · w[c, t]` for each phase of the outputs (`conv/axis.rs`).
//!
//! A unit of work is a strip of rows of one block of channels of one picture, a task some neighbouring units; how many follows
//! from shapes alone. A unit walks its rows in tiles. An input that is stored in bf16 is first widened into scratch, as far as
//! the strip reads it; an output that is waits there for its last sum. An addend is added in a pass over the finished strip,
//! which is still in a cache. Scratch: [`Correlation::scratch_len`] a thread.

use super::super::axis::Axis;
use super::super::correlation::Call;
use super::finish::Finish;
use super::taps::Taps;
use super::tile::{self, Row, Start};
use crate::activation::Bounds;
use crate::layout::{MapsMut, Placing};
use crate::precision::{Bf16, Element, F32, Precision};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::statistics::SumPixels;
use crate::threads::{Parts, Threads};
use std::marker::PhantomData;
use std::ops::Range;

/// Products of vectors of a unit, and its pixels, at most, where it has several rows. The statistics of one are sums in `f32`.
const UNIT_PRODUCTS: usize = 32 * 1024;
const UNIT_PIXELS: usize = 1024;
/// Products of a task, at least, unless that leaves too few tasks.
const TASK_PRODUCTS: usize = 4 * 1024;
/// Tasks that are enough for any number of threads.
const TASKS: usize = 16;

/// A planned correlation of one direction.
#[derive(Clone, Debug)]
pub(super) struct Correlation {
    blocks: usize,
    /// Rows and columns of the kernel.
    kernel: [usize; 2],
    axes: [Axis; 2],
    /// The phases of each axis.
    phases: [Vec<Taps>; 2],
    /// Rows `q` of a strip.
    rows: usize,
    /// How input and output are stored.
    stored: [Precision; 2],
}

impl Correlation {
    pub(super) fn new(blocks: usize, kernel: [usize; 2], axes: [Axis; 2]) -> Correlation {
        let phases = [0, 1].map(|axis| axes[axis].phases.iter().map(Taps::new).collect());
        let mut plan = Correlation { blocks, kernel, axes, phases, rows: 1, stored: [Precision::F32; 2] };
        let count = plan.axes[0].count();
        let pixels = plan.output_plane() / LANES;
        let strips = plan.plane_products().div_ceil(UNIT_PRODUCTS).max(pixels.div_ceil(UNIT_PIXELS)).clamp(1, count);
        plan.rows = count.div_ceil(strips);
        plan
    }

    /// Plans for another way in which input and output are stored.
    pub(super) fn set_stored(&mut self, stored: [Precision; 2]) {
        self.stored = stored;
    }

    /// Products of vectors for a block of channels of a picture, those with padding among them.
    fn plane_products(&self) -> usize {
        let along = |axis: usize| self.phases[axis].iter().map(|taps| taps.outputs * taps.count).sum::<usize>();
        along(0) * along(1)
    }

    fn strips(&self) -> usize {
        self.axes[0].count().div_ceil(self.rows)
    }

    /// Parts of the statistics of `batch` pictures: each strip of each.
    pub(super) fn statistics_parts(&self, batch: usize) -> usize {
        batch * self.strips()
    }

    /// Numbers of an input block.
    fn input_plane(&self) -> usize {
        self.axes[0].input * self.axes[1].input * LANES
    }

    /// Numbers of an output block.
    fn output_plane(&self) -> usize {
        self.axes[0].output * self.axes[1].output * LANES
    }

    pub(super) fn input_len(&self) -> usize {
        self.blocks * self.input_plane()
    }

    pub(super) fn output_len(&self) -> usize {
        self.blocks * self.output_plane()
    }

    /// Floats of scratch that one thread needs, for widened inputs and for sums.
    pub(super) fn scratch_len(&self) -> usize {
        self.widened_len() + self.sums_len()
    }

    fn widened_len(&self) -> usize {
        match self.stored[0] {
            Precision::F32 => 0,
            Precision::Bf16 => self.reach(self.rows) * self.axes[1].input * LANES,
        }
    }

    fn sums_len(&self) -> usize {
        match self.stored[1] {
            Precision::F32 => 0,
            Precision::Bf16 => self.output_rows(0..self.rows).len() * self.axes[1].output * LANES,
        }
    }

    /// The rows of the output that belong to rows `q`.
    fn output_rows(&self, rows: Range<usize>) -> Range<usize> {
        let Axis { step, output, .. } = self.axes[0];
        rows.start * step..(rows.end * step).min(output)
    }

    /// Rows of the input that so many rows `q` read, at most.
    pub(super) fn reach(&self, rows: usize) -> usize {
        let vertical = &self.axes[0];
        vertical.reach(rows).min(vertical.input)
    }

    /// The rows of the input that rows `q` read.
    pub(super) fn input_rows(&self, rows: Range<usize>) -> Range<usize> {
        let vertical = &self.axes[0];
        let begin = (rows.start * vertical.stride) as isize + vertical.first_shift();
        let end = begin + vertical.reach(rows.len()) as isize;
        let inside = |row: isize| row.clamp(0, vertical.input as isize) as usize;
        inside(begin)..inside(end)
    }

    /// `y = correlate(x, weights)`; `scratch` holds [`Correlation::scratch_len`] for each thread.
    pub(super) fn run(&self, isa: Isa, threads: &Threads, call: &Call<'_>, y: MapsMut<'_>, scratch: &mut [f32]) {
        let Call { batch, x, addend, .. } = *call;
        assert!(x.hold_stored(batch, self.input_len()) && y.as_maps().hold_stored(batch, self.output_len()));
        assert!([x.stored, y.stored] == self.stored, "input and output are stored as planned");
        assert!(call.weights.len() >= self.blocks * self.kernel[0] * self.kernel[1] * LANES);
        assert!(call.bias.is_none_or(|bias| bias.len() >= self.blocks * LANES));
        assert!(addend.is_none_or(|addend| addend.hold_stored(batch, self.output_len())));
        assert!(!call.accumulate || (call.bias.is_none() && y.stored == Precision::F32));
        let parts = self.statistics_parts(batch);
        assert!(call.statistics.is_none_or(|m| y.stored == Precision::F32 && m.hold(parts, self.blocks)));
        let units = batch * self.blocks * self.strips();
        let products = batch * self.blocks * self.plane_products();
        let tasks = (products / TASK_PRODUCTS).max(TASKS).min(units);
        let (placing, y, scratch) = (y.placing(), Parts::new(y.data), Parts::new(scratch));
        threads.run(tasks, &|task, thread| {
            let len = self.scratch_len();
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * len..(thread + 1) * len) };
            for unit in task * units / tasks..(task + 1) * units / tasks {
                self.run_unit(isa, call, [y, Parts::new(scratch)], placing, unit);
            }
        });
    }

    /// One strip of one block of one picture.
    fn run_unit(&self, isa: Isa, call: &Call<'_>, [y, scratch]: [Parts<'_, f32>; 2], placing: Placing, unit: usize) {
        let (strips, count) = (self.strips(), self.axes[0].count());
        let (picture, block, strip) = (unit / strips / self.blocks, unit / strips % self.blocks, unit % strips);
        let rows = strip * self.rows..((strip + 1) * self.rows).min(count);
        let x_row = self.axes[1].input * LANES;
        let reads = self.input_rows(rows.clone());
        let x = call.x.part(picture, block * self.input_plane() + reads.start * x_row, reads.len() * x_row);
        let x = match self.stored[0] {
            Precision::F32 => x,
            Precision::Bf16 => {
                // SAFETY: the scratch is this thread's, and sums lie behind this part.
                let floats = unsafe { scratch.part(0..reads.len() * x_row) };
                isa.run(Widen { words: x, floats });
                floats
            }
        };
        let place = self.run_rows(isa, call, [y, scratch], placing, [picture, block], rows, x);
        if let Some(statistics) = call.statistics {
            // SAFETY: a unit has its strip of its block, and their part of the statistics, to itself.
            unsafe {
                let part = statistics.part(picture * strips + strip, block);
                isa.run(SumPixels { pixels: y.part(place), part });
            }
        }
    }

    /// Rows `q` of one block of one picture, from `x`, all the rows of the block's input that they read, in `f32`
    /// ([`Correlation::input_rows`]); gives their place in the output. Sums wait in the scratch where it has room for them.
    #[expect(clippy::too_many_arguments, reason = "what one strip is computed from")]
    pub(super) fn run_rows(
        &self,
        isa: Isa,
        call: &Call<'_>,
        [y, scratch]: [Parts<'_, f32>; 2],
        placing: Placing,
        [picture, block]: [usize; 2],
        rows: Range<usize>,
        x: &[f32],
    ) -> Range<usize> {
        let (top, y_row) = (self.input_rows(rows.clone()).start, self.axes[1].output * LANES);
        let writes = self.output_rows(rows.clone());
        let (from, len) = (block * self.output_plane() + writes.start * y_row, writes.len() * y_row);
        let place = placing.range(picture, from, len);
        let out = y.pointer(place.clone());
        let sums = match self.stored[1] {
            Precision::F32 => out,
            Precision::Bf16 => scratch.pointer(self.widened_len()..self.scratch_len()),
        };
        let finishes = self.stored[1] == Precision::Bf16 || call.addend.is_some() || call.ending.pass.is_some();
        let bounds = if finishes { Bounds::default() } else { call.ending.bounds };
        let start = match call.bias {
            _ if call.accumulate => Start::Output,
            Some(bias) => Start::Bias(bias[block * LANES..][..LANES].as_ptr()),
            None => Start::Zero,
        };
        let taps = self.kernel[0] * self.kernel[1] * LANES;
        let weights = &call.weights[block * taps..][..taps];
        isa.run(Strip { plan: self, x, top, weights, start, bounds, rows, out: sums });
        if finishes {
            let addend = call.addend.map(|addend| (addend.part(picture, from, len), addend.stored));
            let (ending, pixels) = (call.ending, len / LANES);
            match self.stored[1] {
                Precision::F32 => {
                    F32::run(isa, Finish::<F32> { stored: PhantomData, sums, addend, ending, block, out, pixels })
                }
                Precision::Bf16 => {
                    Bf16::run(isa, Finish::<Bf16> { stored: PhantomData, sums, addend, ending, block, out, pixels })
                }
            }
        }
        place
    }
}

/// Numbers that are stored in bf16, in `f32`.
struct Widen<'a> {
    words: &'a [f32],
    floats: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (words, floats) in self.words.chunks_exact(LANES / 2).zip(self.floats.chunks_exact_mut(LANES)) {
            s.write(floats, Bf16::read(s, words));
        }
    }
}

/// The sums of some rows `q` of a block.
struct Strip<'a> {
    plan: &'a Correlation,
    /// The block's rows of the input from row `top` on, as many as are read.
    x: &'a [f32],
    top: usize,
    /// The block's.
    weights: &'a [f32],
    start: Start,
    bounds: Bounds,
    rows: Range<usize>,
    /// The first row of the output that belongs to these; all of them are this strip's own.
    out: *mut f32,
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.plan.axes[1].stride {
            1 => self.walk::<S, 1>(s),
            2 => self.walk::<S, 2>(s),
            _ => self.walk::<S, 0>(s),
        }
    }
}

impl Strip<'_> {
    #[inline(always)]
    fn walk<S: Simd, const STRIDE: usize>(&self, s: S) {
        let [vertical, horizontal] = &self.plan.phases;
        for v in vertical {
            for h in horizontal {
                for q in self.rows.start..self.rows.end.min(v.outputs) {
                    // SAFETY: tap rows are those inside the input, of which `x` holds all that these rows read; weights are the
                    // block's; outputs belong to this strip.
                    unsafe { tile::row::<S, STRIDE>(s, &self.row(q, v, h)) };
                }
            }
        }
    }

    /// Row `q` of a pair of phases.
    #[inline(always)]
    fn row(&self, q: usize, v: &Taps, h: &Taps) -> Row {
        let [vertical, horizontal] = &self.plan.axes;
        let (x_row, kernel_row) = (horizontal.input * LANES, self.plan.kernel[1] * LANES);
        let at = q * vertical.stride;
        let rows = v.inside(at, vertical.input);
        let read = if rows.is_empty() { self.top } else { v.place(at, rows.start) as usize };
        let element = v.element as isize + rows.start as isize * v.element_step;
        let weights = element * kernel_row as isize + (h.element * LANES) as isize;
        let out = ((q - self.rows.start) * vertical.step + v.first) * horizontal.output + h.first;
        Row {
            x: self.x.as_ptr().wrapping_add((read - self.top) * x_row),
            x_row: v.shift_step * x_row,
            width: horizontal.input,
            taps: [rows.len(), h.count],
            shift: h.shift,
            shift_step: h.shift_step,
            stride: horizontal.stride,
            weights: self.weights.as_ptr().wrapping_offset(weights),
            weights_steps: [v.element_step * kernel_row as isize, h.element_step * LANES as isize],
            start: self.start,
            bounds: self.bounds,
            out: self.out.wrapping_add(out * LANES),
            out_step: horizontal.step * LANES,
            outputs: h.outputs,
        }
    }
}
