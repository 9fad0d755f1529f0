//! By weights: `dw[c, t] = Σ_{n, p} x[n, c, s·p + d·t - pad] · dy[n, c, p]`.
//!
//! A row of the gradient is loaded once for a group of taps, whose sums over it stay in registers: up to three rows of taps of
//! up to seven, as registers allow. A row's sums are then added to the block's in memory. A task has a share of all rows of a
//! batch of one block of channels; how many shares there are follows from shapes alone. Each has its own sum in scratch, and they
//! are added in order. Scratch: [`BackwardWeights::scratch_len`].

use super::super::axis::Kernel1d;
use super::super::backward_weights::add_shares;
use crate::layout::Maps;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// Products of vectors of a task, at least, unless that leaves too few tasks.
const TASK_PRODUCTS: usize = 8 * 1024;
/// Tasks that are enough for any number of threads.
const TASKS: usize = 32;

/// Tables of the gradient by weights.
#[derive(Clone, Debug)]
pub(super) struct BackwardWeights {
    blocks: usize,
    kernel: [Kernel1d; 2],
    input: [usize; 2],
    output: [usize; 2],
}

impl BackwardWeights {
    pub(super) fn new(blocks: usize, kernel: [Kernel1d; 2], input: [usize; 2], output: [usize; 2]) -> BackwardWeights {
        BackwardWeights { blocks, kernel, input, output }
    }

    fn taps(&self) -> usize {
        self.kernel[0].kernel * self.kernel[1].kernel
    }

    fn weights_len(&self) -> usize {
        self.blocks * self.taps() * LANES
    }

    /// Shares of a batch's rows that are summed apart.
    fn shares(&self, batch: usize) -> usize {
        let rows = batch * self.output[0];
        let products = rows * self.output[1] * self.taps();
        (products / TASK_PRODUCTS).min(TASKS.div_ceil(self.blocks)).clamp(1, rows.max(1))
    }

    /// Floats of scratch for up to `batch` pictures: a sum per share.
    pub(super) fn scratch_len(&self, batch: usize) -> usize {
        match self.shares(batch) {
            1 => 0,
            shares => shares * self.weights_len(),
        }
    }

    /// `dw`, of `[x, dy]`.
    pub(super) fn run(
        &self,
        isa: Isa,
        threads: &Threads,
        maps: [Maps<'_>; 2],
        batch: usize,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (shares, rows, len) = (self.shares(batch), batch * self.output[0], self.weights_len());
        let sums = &mut scratch[..self.scratch_len(batch)];
        let target = Parts::new(if shares == 1 { &mut *dw } else { &mut *sums });
        threads.run(shares * self.blocks, &|task, _| {
            let (share, block) = (task % shares, task / shares);
            let at = share * len + block * self.taps() * LANES;
            // SAFETY: each task has a block of a share of its own.
            let sums = unsafe { target.part(at..at + self.taps() * LANES) };
            let rows = share * rows / shares..(share + 1) * rows / shares;
            isa.run(SumRows { plan: self, maps, block, rows, sums });
        });
        if shares > 1 {
            add_shares(isa, threads, sums, dw);
        }
    }
}

/// The sums of a block of channels over some rows of the gradient of a batch.
struct SumRows<'a> {
    plan: &'a BackwardWeights,
    maps: [Maps<'a>; 2],
    block: usize,
    rows: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SumRows { plan, maps: [x, dy], block, rows, sums } = self;
        let ([height, width], [out_height, out_width]) = (plan.input, plan.output);
        let [vertical, horizontal] = plan.kernel;
        sums.fill(0.0);
        for row in rows {
            let (picture, q) = (row / out_height, row % out_height);
            let x = x.part(picture, block * height * width * LANES, height * width * LANES);
            let dy = dy.part(picture, (block * out_height + q) * out_width * LANES, out_width * LANES);
            // The first tap row reads this input row; those that leave the picture add nothing.
            let top = (q * vertical.stride) as isize - vertical.begin as isize;
            let first = (-top).max(0) as usize;
            let first = first.div_ceil(vertical.dilation).min(vertical.kernel);
            let below = (height as isize - top).max(0) as usize;
            let end = below.div_ceil(vertical.dilation).clamp(first, vertical.kernel);
            let mut tap_row = first;
            while tap_row < end {
                let begin = (top + (tap_row * vertical.dilation) as isize) as usize;
                let group = Group {
                    x: &x[begin * width * LANES..],
                    x_row: vertical.dilation * width * LANES,
                    width,
                    dy,
                    stride: horizontal.stride,
                    dilation: horizontal.dilation,
                    begin: -(horizontal.begin as isize),
                };
                let sums = &mut sums[tap_row * horizontal.kernel * LANES..];
                tap_row += group.tap_rows(s, end - tap_row, horizontal.kernel, sums);
            }
        }
    }
}

/// Some taps, and a row of the gradient.
#[derive(Clone, Copy)]
struct Group<'a> {
    /// From the row that the first tap row reads on, and floats to the next tap row's.
    x: &'a [f32],
    x_row: usize,
    /// Pixels of a row of the input.
    width: usize,
    dy: &'a [f32],
    /// Pixels of the input from one output's to the next, and from one tap's.
    stride: usize,
    dilation: usize,
    /// The pixel that the first output's first tap reads.
    begin: isize,
}

impl Group<'_> {
    /// Adds the sums of some tap rows, as many as fit in registers of those that are left; gives their number.
    #[inline(always)]
    fn tap_rows<S: Simd>(&self, s: S, left: usize, kernel: usize, sums: &mut [f32]) -> usize {
        let has_many = S::TILE_WIDTH > 1;
        match kernel {
            3 if has_many && left >= 3 => self.taps::<S, 3, 3>(s, kernel, sums),
            3 if left >= 2 => self.taps::<S, 2, 3>(s, kernel, sums),
            5 if has_many && left >= 2 => self.taps::<S, 2, 5>(s, kernel, sums),
            7 if has_many && left >= 2 => self.taps::<S, 2, 7>(s, kernel, sums),
            _ => self.tap_row(s, kernel, sums),
        }
    }

    /// One tap row of any length, some taps at a time.
    #[inline(always)]
    fn tap_row<S: Simd>(&self, s: S, kernel: usize, sums: &mut [f32]) -> usize {
        let mut tap = 0;
        while tap < kernel {
            let part = Group { begin: self.begin + (tap * self.dilation) as isize, ..*self };
            let sums = &mut sums[tap * LANES..];
            let left = kernel - tap;
            tap += match left {
                7.. => part.taps::<S, 1, 7>(s, kernel, sums) * 7,
                5.. => part.taps::<S, 1, 5>(s, kernel, sums) * 5,
                3.. => part.taps::<S, 1, 3>(s, kernel, sums) * 3,
                _ => part.taps::<S, 1, 1>(s, kernel, sums),
            };
        }
        1
    }

    /// Adds the sums of `A` rows of `K` taps; a tap row has `kernel`. Gives `A`.
    #[inline(always)]
    fn taps<S: Simd, const A: usize, const K: usize>(&self, s: S, kernel: usize, sums: &mut [f32]) -> usize {
        match self.dilation {
            1 => self.sum::<S, A, K, 1>(s, kernel, sums),
            _ => self.sum::<S, A, K, 0>(s, kernel, sums),
        }
        A
    }

    /// The same; `DILATION` is 0 for any.
    #[inline(always)]
    fn sum<S: Simd, const A: usize, const K: usize, const DILATION: usize>(
        &self,
        s: S,
        kernel: usize,
        sums: &mut [f32],
    ) {
        let dilation = if DILATION == 0 { self.dilation } else { DILATION };
        assert!(self.x.len() >= (A - 1) * self.x_row + self.width * LANES);
        let (mut acc, width) = ([[s.splat(0.0); K]; A], self.width as isize);
        let mut column = self.begin;
        for dy in self.dy.chunks_exact(LANES) {
            let dy = s.read(dy);
            let x = self.x.as_ptr().wrapping_offset(column * LANES as isize);
            let inside = column >= 0 && column + (((K - 1) * dilation) as isize) < width;
            if inside {
                for a in 0..A {
                    for k in 0..K {
                        let pixel = x.wrapping_add(a * self.x_row + k * dilation * LANES);
                        // SAFETY: a pixel inside one of the rows that the slice holds.
                        acc[a][k] = s.fma(unsafe { s.load(pixel) }, dy, acc[a][k]);
                    }
                }
            } else {
                for k in 0..K {
                    if ((column + (k * dilation) as isize) as usize) < self.width {
                        for a in 0..A {
                            let pixel = x.wrapping_add(a * self.x_row + k * dilation * LANES);
                            // SAFETY: as above.
                            acc[a][k] = s.fma(unsafe { s.load(pixel) }, dy, acc[a][k]);
                        }
                    }
                }
            }
            column += self.stride as isize;
        }
        for a in 0..A {
            for k in 0..K {
                let sum = &mut sums[(a * kernel + k) * LANES..];
                s.write(sum, s.add(s.read(sum), acc[a][k]));
            }
        }
    }
}
