//! A task of the direct algorithm: a strip of rows of one picture, or of some, for some panels. It copies what the strip reads,
//! walks each panel's pixels in register tiles chunk by chunk, and ends with the activation and the statistics.

use super::copy::{CopyView, copy_plane, pair_neighbours};
use super::correlation::{Call, Correlation, Panel, PhasePair};
use super::tile::{self, Addend, Ahead, Start, Sum, Target};
use crate::activation::Rows;
use crate::layout::Placing;
use crate::precision::{Element, F32, Precision};
use crate::simd::{Kernel, LANES, Simd};
use crate::statistics;
use crate::threads::Parts;
use std::marker::PhantomData;
use std::ops::Range;

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
pub(super) struct StripTask<'a, E> {
    pub(super) element: PhantomData<E>,
    pub(super) plan: &'a Correlation,
    pub(super) call: &'a Call<'a>,
    pub(super) onto: Onto<'a>,
    /// The pictures' copied strips, and sums that are not complete yet.
    pub(super) copied: &'a mut [f32],
    pub(super) sums: Parts<'a, f32>,
    pub(super) pictures: Range<usize>,
    /// Its first row `q`, and how many it has, at most.
    pub(super) from: usize,
    pub(super) rows: usize,
    pub(super) panels: &'a [Panel],
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
                    let part = (c * chunk).min(runs)..((c + 1) * chunk).min(runs);
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
                        self.add_chunk(s, i, panel, phase, part.clone(), view);
                        if part.end == runs {
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
    fn add_chunk<S: Simd>(&self, s: S, i: usize, panel: &Panel, phase: &PhasePair, part: Range<usize>, view: &[f32]) {
        let StripTask { plan, call, from, .. } = *self;
        let picture = self.pictures.start + i;
        let Place { first, len, out, stored, plane } = self.place(picture, panel);
        let lanes = panel.width * LANES;
        let rows = self.rows.min(phase.counts[0].saturating_sub(from));
        let pixels = &phase.pixels[..rows * phase.counts[1]];
        let runs = panel.planes.len() * phase.runs;
        let (is_first, is_last) = (part.start == 0, part.end == runs);
        let weights = plan.words(panel.weights) + panel.planes.len() * phase.taps_before * plan.unit * lanes;
        let weights = &call.weights[weights..][..runs * phase.run * lanes];
        let ahead = match i {
            0 => self.ahead::<S>(phase, panel, pixels.len(), part.len(), &weights[part.end * phase.run * lanes..]),
            _ => Ahead::NONE,
        };
        let sum = Sum {
            taps: &phase.starts[part.clone()],
            run: phase.run,
            whole: plan.whole_runs(panel, phase).saturating_sub(part.start),
            rest: plan.words_of_last(),
            a_step: phase.step,
            b_step: lanes,
            b_lane: LANES,
            ahead,
        };
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
    fn ahead<S: Simd>(&self, phase: &PhasePair, panel: &Panel, pixels: usize, runs: usize, next: &[f32]) -> Ahead {
        let StripTask { plan, call, .. } = self;
        if call.batch > 1 && !plan.heavy {
            return Ahead::NONE;
        }
        let chunk = plan.chunk(phase) * phase.run * panel.width;
        let slots = (runs * pixels.div_ceil(S::tile_rows(panel.width))).max(1);
        // Rounds to 0 where each weight meets many pixels.
        Ahead { from: next.as_ptr(), vectors: (chunk + slots / 2) / slots }
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
