//! The gradient by weights as F(3×3, 4×4): a tile of 4×4 of the output's gradient is the kernel, 6×6 inputs are correlated
//! with it, and the sum runs over tiles.
//!
//! `dw[o, i] = Aᵀ [ Σ_tiles (G dy Gᵀ) ⊙ (Bᵀ x B) ] A`. At each point the sum is a product of matrices
//! `dU[i][o] = Σ_tile V[tile][i] · W[tile][o]`, in the register tile: rows are input channels, lanes output channels. `V` is
//! the forward direction's, `W` is `[point][panel][tile][16·width]`, `dU` lies as transformed weights do.
//!
//! Where `dU` stays in L2, a task has a share of the tiles: it transforms them group by group and adds to a `dU` of its own;
//! the shares are added in order while they are transformed back. Else the tiles are cut into waves, of which first all
//! transforms and then all products are computed, a task per point and panel. Both cuts depend on shapes alone.
//! Scratch: [`WeightGradient::scratch_len`].

use super::super::choice::products;
use super::super::correlation::Panel;
use super::super::tile::{Sum, Target};
use super::tiles::{Grid, Pictures, Strides};
use super::transform::{Gradient, Input, POINTS, SIDE};
use super::weights::Matrices;
use super::{CHUNK_PRODUCTS, TILE, even_rows, tile_cost};
use crate::layout::Maps;
use crate::precision::F32;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// Floats of `dU` that a task may have of its own.
const OWN_FLOATS: usize = 320 * 1024;
/// Floats of `V` and `W` of a group, beside a `dU` in L2.
const GROUP_FLOATS: usize = 160 * 1024;
/// Floats of `V` and `W` of a wave, in L3.
const WAVE_FLOATS: usize = 4 * 1024 * 1024;
/// Shares that are enough for any number of threads.
const SHARES: usize = 8;
/// Cost of 36 vectors of a `dU`, in the unit of `choice.rs`: written, read and transformed back.
const SUMS_COST: f64 = 1500.0;

/// The gradient by weights, planned.
#[derive(Clone, Debug)]
pub(in super::super) struct WeightGradient {
    input: Pictures,
    output: Pictures,
    matrices: Matrices,
}

impl WeightGradient {
    /// As [`super::Winograd::new`], of the forward direction.
    pub(in super::super) fn new(
        isa: Isa,
        blocks: [usize; 2],
        size: [usize; 2],
        output: [usize; 2],
        begin: [isize; 2],
    ) -> WeightGradient {
        let grid = Grid::over(output);
        WeightGradient {
            input: Pictures { grid, size, begin, blocks: blocks[0] },
            output: Pictures { grid, size: output, begin: [0; 2], blocks: blocks[1] },
            matrices: Matrices::new(blocks[0], blocks[1], isa.tile_width()),
        }
    }

    fn tiles(&self, batch: usize) -> usize {
        batch * self.input.grid.len()
    }

    fn shared(&self) -> bool {
        self.matrices.len() <= OWN_FLOATS
    }

    /// Tiles of a group or wave.
    fn group(&self, batch: usize) -> usize {
        let floats = if self.shared() { GROUP_FLOATS } else { WAVE_FLOATS };
        let fitting = floats / (POINTS * (self.v_tile() + self.output.blocks * LANES));
        fitting.clamp(TILE, self.tiles(batch).max(TILE))
    }

    /// Parts of the tiles that are summed apart.
    fn shares(&self, batch: usize) -> usize {
        if self.shared() { self.tiles(batch).div_ceil(self.group(batch)).min(SHARES) } else { 1 }
    }

    /// As [`super::Winograd::cost`].
    pub(in super::super) fn cost(&self, batch: usize) -> f64 {
        let blocks = [self.input.blocks, self.output.blocks];
        let sums = SUMS_COST * products(blocks) * self.shares(batch) as f64;
        self.tiles(batch) as f64 * tile_cost(blocks) + sums
    }

    fn v_tile(&self) -> usize {
        (self.input.blocks + 1) * LANES
    }

    fn v_point(&self, group: usize) -> usize {
        group * self.v_tile() + LANES
    }

    fn w_point(&self, group: usize) -> usize {
        (group * self.output.blocks + 1) * LANES
    }

    /// Floats of `V` and `W`.
    fn transformed_len(&self, group: usize) -> usize {
        POINTS * (self.v_point(group) + self.w_point(group))
    }

    /// Floats of scratch for up to `batch` pictures: for shares `V` and `W` for each thread and a `dU` for each share, else
    /// `V` and `W` of a wave and one `dU`.
    pub(in super::super) fn scratch_len(&self, batch: usize, threads: usize) -> usize {
        let parts = if self.shared() { threads } else { 1 };
        parts * self.transformed_len(self.group(batch)) + self.shares(batch) * self.matrices.len()
    }

    /// `dw` in the direct layout, whose panels are `direct`.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one convolution")]
    pub(in super::super) fn run(
        &self,
        isa: Isa,
        threads: &Threads,
        direct: &[Panel],
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(x.hold(batch, self.input.len()) && dy.hold(batch, self.output.len()));
        let (tiles, group, shares) = (self.tiles(batch), self.group(batch), self.shares(batch));
        let parts = if self.shared() { threads.count() } else { 1 };
        let len = self.transformed_len(group);
        let (transformed, sums) = scratch.split_at_mut(parts * len);
        let sums = &mut sums[..shares * self.matrices.len()];
        {
            let (transformed, sums) = (Parts::new(transformed), Parts::new(sums));
            let task = Task { plan: self, x, dy, group, transformed, sums };
            let (groups, all) = (tiles.div_ceil(group), self.matrices.panels.len());
            let tiles_of = |i: usize| i * group..((i + 1) * group).min(tiles);
            if self.shared() {
                threads.run(shares, &|share, thread| {
                    let own = share * groups / shares..(share + 1) * groups / shares;
                    for i in own.clone() {
                        let at = Place { transformed: thread * len, sums: share * self.matrices.len() };
                        isa.run(TransformX { task, at, tiles: tiles_of(i), blocks: 0..self.input.blocks });
                        isa.run(TransformDy { task, at, tiles: tiles_of(i), panels: 0..all });
                        let first = i == own.start;
                        isa.run(Accumulate {
                            task,
                            at,
                            tiles: tiles_of(i).len(),
                            points: 0..POINTS,
                            panels: 0..all,
                            first,
                        });
                    }
                });
            } else {
                let at = Place { transformed: 0, sums: 0 };
                for i in 0..groups {
                    let blocks = self.input.blocks;
                    threads.run(blocks + all, &|part, _| match part.checked_sub(blocks) {
                        None => isa.run(TransformX { task, at, tiles: tiles_of(i), blocks: part..part + 1 }),
                        Some(panel) => {
                            isa.run(TransformDy { task, at, tiles: tiles_of(i), panels: panel..panel + 1 });
                        }
                    });
                    threads.run(POINTS * all, &|part, _| {
                        let (point, panel) = (part / all, part % all);
                        let (points, panels) = (point..point + 1, panel..panel + 1);
                        isa.run(Accumulate { task, at, tiles: tiles_of(i).len(), points, panels, first: i == 0 });
                    });
                }
            }
        }
        self.matrices.gradient(isa, threads, direct, sums, dw);
    }
}

/// What all tasks of a call share.
#[derive(Clone, Copy)]
struct Task<'a> {
    plan: &'a WeightGradient,
    x: Maps<'a>,
    dy: Maps<'a>,
    group: usize,
    transformed: Parts<'a, f32>,
    sums: Parts<'a, f32>,
}

/// Where a task's `V` and `W`, and its `dU`, begin.
#[derive(Clone, Copy)]
struct Place {
    transformed: usize,
    sums: usize,
}

impl Task<'_> {
    /// `V` and `W` of a group.
    fn v_and_w(&self, at: Place) -> [*mut f32; 2] {
        let len = self.plan.transformed_len(self.group);
        let v = self.transformed.pointer(at.transformed..at.transformed + len);
        [v, v.wrapping_add(POINTS * self.plan.v_point(self.group))]
    }

    fn v_strides(&self) -> Strides {
        Strides { point: self.plan.v_point(self.group), tile: self.plan.v_tile() }
    }
}

/// Some blocks of `V`.
struct TransformX<'a> {
    task: Task<'a>,
    at: Place,
    tiles: Range<usize>,
    blocks: Range<usize>,
}

impl Kernel for TransformX<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TransformX { task, tiles, blocks, .. } = self;
        let [v, _] = task.v_and_w(self.at);
        let (to, strides) = (v.wrapping_add(blocks.start * LANES), task.v_strides());
        // SAFETY: `V` holds all blocks of a group; a task has blocks of its own.
        unsafe { task.plan.input.transform::<S, F32, Input, SIDE>(s, task.x, tiles, blocks, to, strides) }
    }
}

/// Some panels of `W`.
struct TransformDy<'a> {
    task: Task<'a>,
    at: Place,
    tiles: Range<usize>,
    panels: Range<usize>,
}

impl Kernel for TransformDy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TransformDy { task, .. } = self;
        let [_, w] = task.v_and_w(self.at);
        for panel in &task.plan.matrices.panels[self.panels] {
            let strides = Strides { point: task.plan.w_point(task.group), tile: panel.width * LANES };
            let to = w.wrapping_add(task.group * panel.block * LANES);
            let blocks = panel.block..panel.block + panel.width;
            // SAFETY: `W` holds all panels of a group; a task has panels of its own.
            unsafe {
                task.plan.output.transform::<S, F32, Gradient, TILE>(
                    s,
                    task.dy,
                    self.tiles.clone(),
                    blocks,
                    to,
                    strides,
                )
            }
        }
    }
}

/// `dU += Vᵀ W` of some points and panels.
struct Accumulate<'a> {
    task: Task<'a>,
    at: Place,
    tiles: usize,
    points: Range<usize>,
    panels: Range<usize>,
    first: bool,
}

impl Kernel for Accumulate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Accumulate { task, tiles, .. } = self;
        let plan = task.plan;
        let [v, w] = task.v_and_w(self.at);
        let rows = plan.input.blocks * LANES;
        for point in self.points {
            for panel in &plan.matrices.panels[self.panels.clone()] {
                let lanes = panel.width * LANES;
                let to = self.at.sums + point * plan.matrices.point() + panel.weights;
                let out = task.sums.pointer(to..to + rows * lanes);
                for from in (0..tiles).step_by(CHUNK_PRODUCTS) {
                    let run = CHUNK_PRODUCTS.min(tiles - from);
                    let sum =
                        Sum { taps: &[[0; 2]], run, a_step: plan.v_tile(), b_step: lanes, b_lane: LANES, ..Sum::EMPTY };
                    let target = Target::rows(out, self.first && from == 0);
                    // SAFETY: `V` and `W` hold a group's tiles, and were written before; each task has a point and a panel
                    // of a `dU` of its own.
                    unsafe {
                        let a = v.add(point * plan.v_point(task.group) + from * plan.v_tile());
                        let b =
                            w.add(point * plan.w_point(task.group) + task.group * panel.block * LANES + from * lanes);
                        even_rows(s, panel.width, &sum, rows, [1, lanes], a, b, &target);
                    }
                }
            }
        }
    }
}
