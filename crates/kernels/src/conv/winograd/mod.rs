//! Winograd's algorithm F(4×4, 3×3) for 3×3 kernels at stride 1: 36 multiplications where the direct method takes 144.
//!
//! `y = Aᵀ [ Σ_i (G w_i Gᵀ) ⊙ (Bᵀ x_i B) ] A` for each tile of 4×4 outputs, which reads 6×6 inputs (Lavin and Gray 2016,
//! algorithm 1). The sum over channels is, at each of the 36 points of a tile, a product of matrices
//! `M[tile][o] = Σ_i V[tile][i] · U[i][o]`, which the register tile computes (`conv/tile.rs`): rows are tiles, lanes are
//! output channels. By data is the same with flipped, transposed weights; by weights is `gradient.rs`.
//!
//! Layouts: `V` is `[point][tile][i]`, `U` is `[point][panel][i][16·width]` (`weights.rs`), `M` is `[point][tile][64]` of one
//! panel. Inputs and outputs are blocked, and are read and written once; tiles that reach over the edge are computed whole.
//! Many tiles are cut into groups whose `V` stays in L2, a task each ([`Work::Group`]). Few tiles with large `U` are
//! transformed first, and then each panel of output channels is a task, so that `U` is read once ([`Work::Panel`]).
//! The cut depends on shapes alone, and every sum has one order. Scratch: [`Winograd::scratch_len`].
//!
//! Error: see `transform.rs` for the points; `conv/tests.rs` holds the bound against the reference in f64.

mod gradient;
mod tiles;
mod transform;
mod weights;

pub(super) use gradient::WeightGradient;

use super::correlation::{Call, Panel};
use super::tile::{self, Start, Sum, Target};
use crate::layout::MapsMut;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;
pub(super) use tiles::Grid;
use tiles::{Finish, Pictures, Strides, TILE};
use transform::{Input, POINTS, SIDE};
use weights::Matrices;

/// Products per chunk of a sum, so that a chunk's weights stay in L1.
const CHUNK_PRODUCTS: usize = 160;
/// Floats of `V` that stay in L2 beside a panel's `M` and weights.
const GROUP_FLOATS: usize = 192 * 1024;
/// Tiles of a group: a multiple of the register tile's rows, and enough to read weights from L3 for.
const GROUP_TILES: Range<usize> = 30..96;
/// Tiles of the smallest groups, where a batch has few tiles.
const SMALL_GROUP: usize = 12;
/// Groups that are enough for any number of threads.
const GROUPS: usize = 8;
/// Floats of `U` that every task may read, because they stay in L2.
const SHARED_WEIGHTS: usize = 256 * 1024;
/// Rows that go to the register tile at once: whole tiles of 6, 9 and 14.
const ROWS: usize = 126;

/// Forward or by data, planned.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    input: Pictures,
    output: [usize; 2],
    matrices: Matrices,
}

/// How a batch is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// A task transforms a group of so many tiles and computes all their outputs.
    Group(usize),
    /// All tiles are transformed first; a task computes one panel of outputs of a group of so many tiles.
    Panel(usize),
}

impl Winograd {
    /// A correlation of `[input, output]` blocks of channels, whose picture of inputs lies `begin` pixels inside the first
    /// tile.
    pub(super) fn new(
        isa: Isa,
        blocks: [usize; 2],
        size: [usize; 2],
        output: [usize; 2],
        begin: [isize; 2],
    ) -> Winograd {
        let input = Pictures { grid: Grid::over(output), size, begin, blocks: blocks[0] };
        Winograd { input, output, matrices: Matrices::new(blocks[0], blocks[1], isa.tile_width()) }
    }

    /// Floats of transformed weights.
    pub(super) fn weights_len(&self) -> usize {
        self.matrices.len()
    }

    /// Transforms weights of the direct layout; `flip` says that they are another direction's.
    pub(super) fn transform_weights(
        &self,
        isa: Isa,
        threads: &Threads,
        direct: &[Panel],
        flip: bool,
        weights: &[f32],
        transformed: &mut [f32],
    ) {
        self.matrices.transform(isa, threads, direct, flip, weights, transformed);
    }

    /// Floats between tiles of `V`: not a power of two, so that tiles do not meet in one set of a cache.
    fn v_tile(&self) -> usize {
        (self.input.blocks + 1) * LANES
    }

    fn v_strides(&self, tiles: usize) -> Strides {
        Strides { point: tiles * self.v_tile() + LANES, tile: self.v_tile() }
    }

    /// `M` of one panel.
    fn m_strides(&self, tiles: usize) -> Strides {
        let lanes = self.matrices.panels[0].width * LANES;
        Strides { point: tiles * lanes + LANES, tile: lanes }
    }

    fn work(&self, batch: usize) -> Work {
        let tiles = batch * self.input.grid.len();
        let fitting = GROUP_FLOATS / (POINTS * self.v_tile()) / 6 * 6;
        let group = fitting.clamp(GROUP_TILES.start, GROUP_TILES.end);
        if tiles >= GROUPS * group {
            Work::Group(group)
        } else if self.matrices.len() <= SHARED_WEIGHTS || self.matrices.panels.len() == 1 {
            Work::Group(tiles.div_ceil(GROUPS).next_multiple_of(6).clamp(SMALL_GROUP, group))
        } else {
            Work::Panel(tiles.div_ceil(tiles.div_ceil(GROUP_TILES.end)))
        }
    }

    /// Floats of scratch: for groups a `V` and an `M` for each thread, for panels one `V` of the batch and an `M` for each
    /// thread. Enough for any number of pictures up to `batch`.
    pub(super) fn scratch_len(&self, batch: usize, threads: usize) -> usize {
        let certainly_groups = (GROUPS * GROUP_TILES.end).div_ceil(self.input.grid.len());
        (1..=batch.min(certainly_groups)).map(|batch| self.scratch_of(batch, threads)).max().unwrap_or(0)
    }

    fn scratch_of(&self, batch: usize, threads: usize) -> usize {
        let m = |group: usize| POINTS * self.m_strides(group).point;
        let v = |group: usize| POINTS * self.v_strides(group).point;
        match self.work(batch) {
            Work::Group(group) => threads * (v(group) + m(group)),
            Work::Panel(group) => self.groups(batch, group) * v(group) + threads * m(group),
        }
    }

    fn groups(&self, batch: usize, group: usize) -> usize {
        (batch * self.input.grid.len()).div_ceil(group)
    }

    /// `y = correlate(x, weights)` with transformed weights.
    pub(super) fn run(&self, isa: Isa, threads: &Threads, call: &Call<'_>, y: MapsMut<'_>, scratch: &mut [f32]) {
        let blocks = self.matrices.panels.last().map_or(0, |panel| panel.block + panel.width);
        let y_len = blocks * self.output[0] * self.output[1] * LANES;
        assert!(call.x.hold(call.batch, self.input.len()) && y.as_maps().hold(call.batch, y_len));
        assert!(call.weights.len() >= self.weights_len());
        assert!(call.bias.is_none_or(|b| b.len() >= blocks * LANES));
        assert!(call.addend.is_none_or(|a| a.hold(call.batch, y_len)));
        let work = self.work(call.batch);
        let (Work::Group(group) | Work::Panel(group)) = work;
        let groups = self.groups(call.batch, group);
        let (v_len, m_len) = (POINTS * self.v_strides(group).point, POINTS * self.m_strides(group).point);
        let vs = if matches!(work, Work::Group(_)) { threads.count() } else { groups };
        let (v, m) = scratch[..vs * v_len + threads.count() * m_len].split_at_mut(vs * v_len);
        let (v, m) = (Parts::new(v), Parts::new(m));
        let tiles = |i: usize| i * group..((i + 1) * group).min(call.batch * self.input.grid.len());
        let (blocks, panels) = (self.input.blocks, self.matrices.panels.len());
        let (y_stride, y) = (y.stride, Parts::new(y.data));
        let transform = |i: usize, part: usize, blocks: Range<usize>| {
            let at = part * v_len + blocks.start * LANES;
            isa.run(TransformTiles { plan: self, call, group, tiles: tiles(i), blocks, v, at });
        };
        let multiply = |i: usize, part: usize, panels: Range<usize>, thread: usize| {
            let (v, m) = (v.pointer(part * v_len..(part + 1) * v_len), m.pointer(thread * m_len..(thread + 1) * m_len));
            let panels = &self.matrices.panels[panels];
            isa.run(MultiplyTiles { plan: self, call, group, tiles: tiles(i), panels, v, m, y, y_stride });
        };
        match work {
            Work::Group(_) => threads.run(groups, &|i, thread| {
                transform(i, thread, 0..blocks);
                multiply(i, thread, 0..panels, thread);
            }),
            Work::Panel(_) => {
                threads.run(groups * blocks, &|task, _| {
                    let (i, block) = (task / blocks, task % blocks);
                    transform(i, i, block..block + 1);
                });
                threads.run(groups * panels, &|task, thread| {
                    let (i, panel) = (task / panels, task % panels);
                    multiply(i, i, panel..panel + 1, thread);
                });
            }
        }
    }
}

/// `V` of some blocks of a group of tiles.
struct TransformTiles<'a> {
    plan: &'a Winograd,
    call: &'a Call<'a>,
    group: usize,
    tiles: Range<usize>,
    blocks: Range<usize>,
    v: Parts<'a, f32>,
    at: usize,
}

impl Kernel for TransformTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let strides = self.plan.v_strides(self.group);
        let last = (POINTS - 1) * strides.point + (self.tiles.len() - 1) * strides.tile + self.blocks.len() * LANES;
        let v = self.v.pointer(self.at..self.at + last);
        // SAFETY: a task has tiles or blocks of its own, of which the last float is `last`; the pictures were counted.
        unsafe { self.plan.input.transform::<S, Input, SIDE>(s, self.call.x, self.tiles, self.blocks, v, strides) }
    }
}

/// Some panels of outputs of a group of tiles.
struct MultiplyTiles<'a> {
    plan: &'a Winograd,
    call: &'a Call<'a>,
    group: usize,
    tiles: Range<usize>,
    panels: &'a [Panel],
    v: *const f32,
    m: *mut f32,
    y: Parts<'a, f32>,
    y_stride: usize,
}

impl Kernel for MultiplyTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let MultiplyTiles { plan, call, ref tiles, .. } = self;
        let (v_strides, m_strides) = (plan.v_strides(self.group), plan.m_strides(self.group));
        let rows = plan.matrices.row_blocks * LANES;
        let plane = plan.output[0] * plan.output[1] * LANES;
        for panel in self.panels {
            let lanes = panel.width * LANES;
            for point in 0..POINTS {
                let weights = &call.weights[point * plan.matrices.point() + panel.weights..][..rows * lanes];
                // SAFETY: the scratch holds `V` and `M` of a group, and this task has its own `M`; the weights of a panel
                // were sliced.
                unsafe {
                    let (v, m) = (self.v.add(point * v_strides.point), self.m.add(point * m_strides.point));
                    for from in (0..rows).step_by(CHUNK_PRODUCTS) {
                        let run = CHUNK_PRODUCTS.min(rows - from);
                        let sum = Sum { taps: &[[0; 2]], run, a_step: 1, b_step: lanes, b_lane: LANES };
                        let start = if from == 0 { Start::Zero } else { Start::Output };
                        let target = Target { out: m, lane: LANES, start, addend: std::ptr::null(), relu: false };
                        let strides = [v_strides.tile, m_strides.tile];
                        let b = weights[from * lanes..].as_ptr();
                        even_rows(s, panel.width, &sum, tiles.len(), strides, v.add(from), b, &target);
                    }
                }
            }
            for block in 0..panel.width {
                let at = (panel.block + block) * plane;
                let finish = Finish {
                    grid: plan.input.grid,
                    size: plan.output,
                    bias: call.bias.map(|bias| &bias[(panel.block + block) * LANES..]),
                    addend: call.addend.map(|a| crate::layout::Maps { data: &a.data[at..], ..a }),
                    accumulate: call.accumulate,
                    relu: call.relu,
                };
                let out = self.y.pointer(at..at + (call.batch - 1) * self.y_stride + plane);
                // SAFETY: the sums of this block were computed above; no other task has these tiles of this block.
                unsafe { finish.block(s, tiles.clone(), self.m.add(block * LANES), m_strides, out, self.y_stride) }
            }
        }
    }
}

/// As [`tile::rows`], for `count` rows at even distances, `[a, out]` floats apart.
///
/// # Safety
/// As [`tile::rows`].
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "a product of matrices")]
unsafe fn even_rows<S: Simd>(
    s: S,
    width: usize,
    sum: &Sum<'_>,
    count: usize,
    strides: [usize; 2],
    a: *const f32,
    b: *const f32,
    target: &Target,
) {
    let mut rows = [[0u32; 2]; ROWS];
    for first in (0..count).step_by(ROWS) {
        let some = ROWS.min(count - first);
        for (i, row) in rows[..some].iter_mut().enumerate() {
            *row = strides.map(|stride| ((first + i) * stride) as u32);
        }
        // SAFETY: the caller's promise.
        unsafe { tile::rows(s, width, sum, &rows[..some], a, b, target) };
    }
}
