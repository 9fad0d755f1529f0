//! Weights of the direct layout transformed, `U = G g Gᵀ`, forward and, flipped and transposed, by data; and the way back of
//! their gradient, `dg = Aᵀ (Σ shares) A`.
//!
//! `U` is `[point][panel][k][16·width]`: a matrix per point, whose rows `k` are the channels that a direction reads.

use super::super::correlation::Panel;
use super::transform::{Kernel3, KernelSum, POINTS, SIDE, square};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// Elements of a 3×3 kernel.
const TAPS: usize = 9;
/// Blocks of the widest panel of any instruction set.
const MOST_WIDTH: usize = 4;

/// How transformed weights lie.
#[derive(Clone, Debug)]
pub(super) struct Matrices {
    /// Blocks of channels that are read: rows of the matrices.
    pub(super) row_blocks: usize,
    /// Panels of the blocks that are written.
    pub(super) panels: Vec<Panel>,
    /// Blocks of channels that are written.
    pub(super) blocks: usize,
}

impl Matrices {
    pub(super) fn new(row_blocks: usize, blocks: usize, tile_width: usize) -> Matrices {
        let rows = row_blocks * LANES;
        let panel = |block: usize| {
            let (width, weights) = (tile_width.min(blocks - block), rows * block * LANES);
            Panel { block, width, planes: 0..row_blocks, weights }
        };
        Matrices { row_blocks, blocks, panels: (0..blocks).step_by(tile_width).map(panel).collect() }
    }

    /// Floats from one point to the next; not a power of two, so that a row's points do not meet in one set of a cache.
    pub(super) fn point(&self) -> usize {
        (self.row_blocks * self.blocks * LANES + 1) * LANES
    }

    /// Floats of all points.
    pub(super) fn len(&self) -> usize {
        POINTS * self.point()
    }

    /// Transforms all weights.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub(super) fn transform(&self, isa: Isa, threads: &Threads, direct: &Direct<'_>, transformed: &mut [f32]) {
        let transformed = Parts::new(&mut transformed[..self.len()]);
        threads.run(self.panels.len() * self.row_blocks, &|task, _| {
            let (panel, rows) = (&self.panels[task / self.row_blocks], task % self.row_blocks);
            let to = panel.weights + rows * LANES * panel.width * LANES;
            isa.run(TransformRows { direct, panel, rows, transformed, to, point: self.point() });
        });
    }

    /// The gradient of weights of the direct layout, from that of the transformed weights, which is the sum of `shares`
    /// such gradients, added in order.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub(super) fn gradient(&self, isa: Isa, threads: &Threads, direct: &[Panel], shares: &[f32], dw: &mut [f32]) {
        let dw = Parts::new(dw);
        threads.run(self.panels.len() * self.row_blocks, &|task, _| {
            let (panel, rows) = (&self.panels[task / self.row_blocks], task % self.row_blocks);
            isa.run(GradientRows { from: self, panel, rows, direct, shares, dw });
        });
    }
}

/// Weights in the direct layout of the forward direction.
#[derive(Clone, Copy)]
pub(super) struct Direct<'a> {
    /// The forward direction's panels.
    pub(super) panels: &'a [Panel],
    pub(super) weights: &'a [f32],
    /// Whether they are read for by data: flipped and transposed.
    pub(super) flip: bool,
}

/// The block of weights of a block of inputs and one of outputs in the direct layout: its first float, and floats from row
/// to row and from kernel element to kernel element.
fn block_of(direct: &[Panel], input: usize, output: usize) -> [usize; 3] {
    let panel = &direct[output / direct[0].width];
    let row = panel.width * LANES;
    [panel.weights + input * TAPS * LANES * row + (output - panel.block) * LANES, row, LANES * row]
}

impl Direct<'_> {
    /// Transforms a panel's weights of a block of 16 rows, to `[point][row][16·width]` with `point` floats between points.
    ///
    /// # Safety
    /// These floats are writable from `to`, and nobody else uses them.
    #[inline(always)]
    pub(super) unsafe fn transform_rows<S: Simd>(&self, s: S, panel: &Panel, rows: usize, to: *mut f32, point: usize) {
        let mut turned = [[[0.0; LANES * LANES]; TAPS]; MOST_WIDTH];
        if self.flip {
            for (block, turned) in turned[..panel.width].iter_mut().enumerate() {
                let [at, row_step, tap_step] = block_of(self.panels, panel.block + block, rows);
                for (tap, square) in turned.iter_mut().enumerate() {
                    s.transpose_square(&self.weights[at + tap * tap_step..], row_step, square, LANES);
                }
            }
        }
        for row in 0..LANES {
            for (block, turned) in turned[..panel.width].iter().enumerate() {
                let (source, [at, row_step, tap_step]) = match self.flip {
                    true => (turned.as_flattened(), [0, LANES, LANES * LANES]),
                    false => (self.weights, block_of(self.panels, rows, panel.block + block)),
                };
                let mut kernel = [[s.splat(0.0); 3]; 3];
                for (i, line) in kernel.iter_mut().enumerate() {
                    for (j, element) in line.iter_mut().enumerate() {
                        let tap = if self.flip { TAPS - 1 - (i * 3 + j) } else { i * 3 + j };
                        *element = s.read(&source[at + tap * tap_step + row * row_step..]);
                    }
                }
                for (i, line) in square::<S, Kernel3, 3, SIDE>(s, kernel).into_iter().enumerate() {
                    for (j, element) in line.into_iter().enumerate() {
                        let to_row = (row * panel.width + block) * LANES;
                        // SAFETY: the caller's promise.
                        unsafe { s.store(to.add(to_row + (i * SIDE + j) * point), element) };
                    }
                }
            }
        }
    }
}

/// Sixteen rows of a panel.
struct TransformRows<'a> {
    direct: &'a Direct<'a>,
    panel: &'a Panel,
    rows: usize,
    transformed: Parts<'a, f32>,
    to: usize,
    point: usize,
}

impl Kernel for TransformRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let last = (POINTS - 1) * self.point + LANES * self.panel.width * LANES;
        let to = self.transformed.pointer(self.to..self.to + last);
        // SAFETY: each task has rows of its own, of which the last float is `last`.
        unsafe { self.direct.transform_rows(s, self.panel, self.rows, to, self.point) }
    }
}

/// As [`TransformRows`], back.
struct GradientRows<'a> {
    from: &'a Matrices,
    panel: &'a Panel,
    rows: usize,
    direct: &'a [Panel],
    shares: &'a [f32],
    dw: Parts<'a, f32>,
}

impl Kernel for GradientRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradientRows { from, panel, rows, .. } = self;
        let lanes = panel.width * LANES;
        for row in 0..LANES {
            for block in 0..panel.width {
                let from_row = panel.weights + (rows * LANES + row) * lanes + block * LANES;
                let mut sums = [[s.splat(0.0); SIDE]; SIDE];
                for share in self.shares.chunks_exact(from.len()) {
                    for (i, line) in sums.iter_mut().enumerate() {
                        for (j, sum) in line.iter_mut().enumerate() {
                            *sum = s.add(*sum, s.read(&share[from_row + (i * SIDE + j) * from.point()..]));
                        }
                    }
                }
                let [at, row_step, tap_step] = block_of(self.direct, rows, panel.block + block);
                for (i, line) in square::<S, KernelSum, SIDE, 3>(s, sums).into_iter().enumerate() {
                    for (j, element) in line.into_iter().enumerate() {
                        let to = at + (i * 3 + j) * tap_step + row * row_step;
                        // SAFETY: each task has rows of its own.
                        s.write(unsafe { self.dw.part(to..to + LANES) }, element);
                    }
                }
            }
        }
    }
}
