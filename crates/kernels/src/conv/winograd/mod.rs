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
//! Error: relative to the root mean square of the results, the root mean square error is at most `1.5e-7 · √channels read`
//! forward and by data, and 1e-6 by weights, and at most 3 times the direct method's (measured: 1.6 to 2.6 times; 8.3e-7
//! against 4.3e-7 at 64 channels, 2.0e-6 against 1.1e-6 at 512; by weights also less). No error is larger than 5e-6 of the
//! largest result. `conv/tests.rs` holds these bounds against the reference in f64.

mod gradient;
mod tiles;
mod transform;
mod weights;

pub(super) use gradient::WeightGradient;

use super::choice::products;
use super::correlation::{Call, Panel};
use super::tile::{self, Sum, Target};
use crate::caches::Caches;
use crate::layout::{MapsMut, Placing};
use crate::precision::{Bf16, F32, Precision};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;
use tiles::{Finish, Grid, Pictures, Strides, TILE};
use transform::{Input, POINTS, SIDE};
use weights::{Direct, Matrices};

/// Products per chunk of a sum, so that a chunk's weights stay in L1.
const CHUNK_PRODUCTS: usize = 160;
/// Floats of `U` that are transformed once for all tasks, because they stay in L2.
const SHARED_WEIGHTS: usize = 256 * 1024;
/// Floats of `U` that a task transforms for itself at a time, at most: with as many rows as that, sums are seldom put down and
/// taken up again (AVX2, 512 → 512 channels, 28×28: 4 blocks of rows took 1.19 times the time of 16; with AVX-512, whose panels
/// are four times as wide, 8 took 1.03 to 1.08 times that of 4; Emerald Rapids, 2026-11-30).
const OWN_FLOATS: usize = 160 * 1024;
/// Floats of `V` that stay in L2 beside a panel's `M` and a shared `U`.
const GROUP_FLOATS: usize = 192 * 1024;
/// Tiles of a group that transforms weights for itself: enough to make that cheap.
const GROUP_TILES: usize = 60;
/// Tiles of the smallest groups, where a batch has few tiles.
const SMALL_GROUP: usize = 12;
/// Groups that are enough for any number of threads.
const GROUPS: usize = 8;
/// Rows that go to the register tile at once: whole tiles of 6, 9 and 14.
const ROWS: usize = 126;

/// Costs in the unit of `choice.rs`: of a product, beside those of the direct method's longer sums; of transforming a tile of
/// a block of channels, in or out; and of 9 vectors of weights.
const PRODUCT_COST: f64 = 1.4;
const TRANSFORM_COST: f64 = 850.0;
const WEIGHTS_COST: f64 = 600.0;

/// What a tile costs in any direction.
fn tile_cost(blocks: [usize; 2]) -> f64 {
    PRODUCT_COST * POINTS as f64 * products(blocks) + TRANSFORM_COST * (blocks[0] + blocks[1]) as f64
}

/// Forward or by data, planned.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    input: Pictures,
    output: [usize; 2],
    matrices: Matrices,
    /// Whether it reads the forward direction's weights flipped and transposed.
    flip: bool,
    /// Rows of `U` that a task transforms for itself at a time, in blocks of 16, so that they stay in L2.
    own_rows: usize,
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
    /// tile; `flip` says that it is by data.
    pub(super) fn new(
        isa: Isa,
        caches: Caches,
        blocks: [usize; 2],
        size: [usize; 2],
        output: [usize; 2],
        begin: [isize; 2],
        flip: bool,
    ) -> Winograd {
        let input = Pictures { grid: Grid::over(output), size, begin, blocks: blocks[0] };
        let matrices = Matrices::new(blocks[0], blocks[1], isa.tile_width());
        // Three fifths of L2.
        let floats = OWN_FLOATS.min(caches.l2 / size_of::<f32>() / 5 * 3);
        let own_rows = (floats / (POINTS * LANES * LANES * matrices.panels[0].width)).clamp(1, matrices.row_blocks);
        Winograd { input, output, matrices, flip, own_rows }
    }

    /// Whether `U` is transformed once.
    fn shares_weights(&self) -> bool {
        self.matrices.len() <= SHARED_WEIGHTS
    }

    /// Floats of `U` that all tasks read, and of `U` for each thread.
    fn u_lens(&self) -> [usize; 2] {
        match self.shares_weights() {
            true => [self.matrices.len(), 0],
            false => [0, POINTS * self.own_point()],
        }
    }

    /// Floats between points of a thread's own `U`.
    fn own_point(&self) -> usize {
        (self.own_rows * LANES * self.matrices.panels[0].width + 1) * LANES
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
        if self.shares_weights() {
            let most = (GROUP_FLOATS / (POINTS * self.v_tile()) / 6 * 6).max(SMALL_GROUP);
            let group = tiles.div_ceil(GROUPS).clamp(SMALL_GROUP, most);
            match tiles.div_ceil(group) {
                // Few groups are even in number and size, so that threads end together.
                groups @ 2..=GROUPS => Work::Group(tiles.div_ceil(groups.next_multiple_of(2))),
                _ => Work::Group(group),
            }
        } else if tiles >= GROUPS * GROUP_TILES {
            Work::Group(GROUP_TILES)
        } else {
            Work::Panel(tiles.div_ceil(tiles.div_ceil(GROUP_TILES)))
        }
    }

    /// What a call costs, in the unit of `choice.rs`.
    pub(super) fn cost(&self, batch: usize) -> f64 {
        let (Work::Group(group) | Work::Panel(group)) = self.work(batch);
        let transforms = if self.shares_weights() { 1 } else { self.groups(batch, group) };
        let tiles = (batch * self.input.grid.len()) as f64;
        let blocks = [self.input.blocks, self.matrices.blocks];
        tiles * tile_cost(blocks) + WEIGHTS_COST * products(blocks) * transforms as f64
    }

    /// Floats of scratch for up to `batch` pictures: a shared `U`, or one for each thread; an `M` for each thread; and for
    /// groups a `V` for each thread, for panels one of all tiles.
    pub(super) fn scratch_len(&self, batch: usize, threads: usize) -> usize {
        let scratch = |batch: usize| {
            let work = self.work(batch);
            let (Work::Group(group) | Work::Panel(group)) = work;
            let (v, m) = (POINTS * self.v_strides(group).point, POINTS * self.m_strides(group).point);
            let vs = match work {
                Work::Group(_) => threads,
                Work::Panel(_) => self.groups(batch, group),
            };
            vs * v + threads * m
        };
        let [shared, own] = self.u_lens();
        shared + threads * own + self.batches(batch).map(scratch).max().unwrap_or(0)
    }

    /// Batches up to this one that may be cut into more groups or larger ones.
    fn batches(&self, batch: usize) -> impl Iterator<Item = usize> {
        // From so many pictures on, there are always enough groups.
        let many = (GROUPS * GROUP_TILES).div_ceil(self.input.grid.len());
        (1..=batch.min(many)).chain([batch])
    }

    /// Parts of the statistics of `batch` pictures: each group of tiles.
    pub(super) fn statistics_parts(&self, batch: usize) -> usize {
        let (Work::Group(group) | Work::Panel(group)) = self.work(batch);
        self.groups(batch, group)
    }

    /// The most parts of any batch up to this one.
    pub(super) fn most_statistics_parts(&self, batch: usize) -> usize {
        self.batches(batch).map(|batch| self.statistics_parts(batch)).max().unwrap_or(0)
    }

    fn groups(&self, batch: usize, group: usize) -> usize {
        (batch * self.input.grid.len()).div_ceil(group)
    }

    /// `y = correlate(x, weights)` with weights of the direct layout, whose panels are `direct`.
    pub(super) fn run(
        &self,
        isa: Isa,
        threads: &Threads,
        direct: &[Panel],
        call: &Call<'_>,
        y: MapsMut<'_>,
        scratch: &mut [f32],
    ) {
        let blocks = self.matrices.blocks;
        let y_len = blocks * self.output[0] * self.output[1] * LANES;
        assert!(call.x.hold_stored(call.batch, self.input.len()) && y.as_maps().hold_stored(call.batch, y_len));
        assert!(call.bias.is_none_or(|b| b.len() >= blocks * LANES));
        assert!(call.addend.is_none_or(|a| a.hold_stored(call.batch, y_len)));
        let direct = Direct { panels: direct, weights: call.weights, flip: self.flip };
        let ([shared_len, own_len], count) = (self.u_lens(), threads.count());
        let (shared, scratch) = scratch.split_at_mut(shared_len);
        if shared_len > 0 {
            self.matrices.transform(isa, threads, &direct, shared);
        }
        let work = self.work(call.batch);
        let (Work::Group(group) | Work::Panel(group)) = work;
        let groups = self.groups(call.batch, group);
        let (v_len, m_len) = (POINTS * self.v_strides(group).point, POINTS * self.m_strides(group).point);
        let (own, scratch) = scratch.split_at_mut(count * own_len);
        let (m, v) = scratch.split_at_mut(count * m_len);
        let (own, m, v) = (Parts::new(own), Parts::new(m), Parts::new(v));
        let tiles = |i: usize| i * group..((i + 1) * group).min(call.batch * self.input.grid.len());
        let (blocks, panels) = (self.input.blocks, self.matrices.panels.len());
        assert!(call.statistics.is_none_or(|m| m.hold(groups, self.matrices.blocks)));
        let (placing, y) = (y.placing(), Parts::new(y.data));
        let transform = |i: usize, part: usize, blocks: Range<usize>| {
            let at = part * v_len + blocks.start * LANES;
            isa.run(TransformTiles { plan: self, call, group, tiles: tiles(i), blocks, v, at });
        };
        let multiply = |i: usize, part: usize, panels: Range<usize>, thread: usize| {
            let v = v.pointer(part * v_len..(part + 1) * v_len);
            let m = m.pointer(thread * m_len..(thread + 1) * m_len);
            let own = own.pointer(thread * own_len..(thread + 1) * own_len);
            let (tiles, panels) = (tiles(i), &self.matrices.panels[panels]);
            isa.run(MultiplyTiles { plan: self, call, group, tiles, panels, direct, shared, own, v, m, y, placing });
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
        unsafe {
            let (input, x) = (&self.plan.input, self.call.x);
            match x.stored {
                Precision::F32 => input.transform::<S, F32, Input, SIDE>(s, x, self.tiles, self.blocks, v, strides),
                Precision::Bf16 => input.transform::<S, Bf16, Input, SIDE>(s, x, self.tiles, self.blocks, v, strides),
            }
        }
    }
}

/// Some panels of outputs of a group of tiles.
struct MultiplyTiles<'a> {
    plan: &'a Winograd,
    call: &'a Call<'a>,
    group: usize,
    tiles: Range<usize>,
    panels: &'a [Panel],
    direct: Direct<'a>,
    /// All of `U`, or nothing.
    shared: &'a [f32],
    /// Room for some rows of `U`, where it is not shared.
    own: *mut f32,
    v: *const f32,
    m: *mut f32,
    y: Parts<'a, f32>,
    placing: Placing,
}

impl MultiplyTiles<'_> {
    /// `M += V · U` at all points, for some rows of `U` that lie at `u`, with `u_point` floats between points.
    ///
    /// # Safety
    /// These rows are there, and `V` and `M` of a group.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, s: S, width: usize, rows: Range<usize>, u: *const f32, u_point: usize) {
        let (v_strides, m_strides) = (self.plan.v_strides(self.group), self.plan.m_strides(self.group));
        let lanes = width * LANES;
        for point in 0..POINTS {
            for from in rows.clone().step_by(CHUNK_PRODUCTS) {
                let run = CHUNK_PRODUCTS.min(rows.end - from);
                let sum = Sum { taps: &[[0; 2]], run, a_step: 1, b_step: lanes, b_lane: LANES, ..Sum::EMPTY };
                // SAFETY: the caller's promise.
                unsafe {
                    let v = self.v.add(point * v_strides.point + from);
                    let u = u.add(point * u_point + (from - rows.start) * lanes);
                    let out = self.m.add(point * m_strides.point);
                    let target = Target::rows(out, from == 0);
                    even_rows(s, width, &sum, self.tiles.len(), [v_strides.tile, m_strides.tile], v, u, &target);
                }
            }
        }
    }
}

impl Kernel for MultiplyTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let MultiplyTiles { plan, call, ref tiles, .. } = self;
        let m_strides = plan.m_strides(self.group);
        let (row_blocks, own_point) = (plan.matrices.row_blocks, plan.own_point());
        let plane = plan.output[0] * plan.output[1] * LANES;
        for panel in self.panels {
            if plan.shares_weights() {
                let u = self.shared[panel.weights..].as_ptr();
                // SAFETY: the scratch holds `V` and `M` of a group, and this task has its own `M`; all of `U` is there.
                unsafe { self.multiply(s, panel.width, 0..row_blocks * LANES, u, plan.matrices.point()) }
            } else {
                for first in (0..row_blocks).step_by(plan.own_rows) {
                    let blocks = first..(first + plan.own_rows).min(row_blocks);
                    // SAFETY: as above, and this task has its own room for rows of `U`.
                    unsafe {
                        for block in blocks.clone() {
                            let to = self.own.add((block - first) * LANES * panel.width * LANES);
                            self.direct.transform_rows(s, panel, block, to, own_point);
                        }
                        let rows = first * LANES..blocks.end * LANES;
                        self.multiply(s, panel.width, rows, self.own, own_point);
                    }
                }
            }
            for block in 0..panel.width {
                let finish = Finish {
                    grid: plan.input.grid,
                    size: plan.output,
                    bias: call.bias.map(|bias| &bias[(panel.block + block) * LANES..]),
                    addend: call.addend,
                    first: (panel.block + block) * plane,
                    stored: self.placing.stored,
                    accumulate: call.accumulate,
                    ending: call.ending,
                    block: panel.block + block,
                };
                let out = self.y.pointer(0..self.placing.range(call.batch - 1, finish.first, plane).end);
                // SAFETY: the sums of this block were computed above; no other task has these tiles of this block, nor
                // their part of the statistics.
                unsafe {
                    let statistics = call.statistics.map(|m| m.part(tiles.start / self.group, panel.block + block));
                    let sums = self.m.add(block * LANES);
                    finish.block(s, tiles.clone(), sums, m_strides, out, self.placing.stride, statistics);
                }
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
        unsafe { tile::rows::<S, F32>(s, width, sum, &rows[..some], a, b, target) };
    }
}
