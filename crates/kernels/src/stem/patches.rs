//! The patches of a plain picture as a matrix, and their statistics over a batch.
//!
//! Column `q` of the matrix is what output `q` of a strip multiplies with its weights: K = channels · kernel height ·
//! kernel width numbers, with zeros for the padding, then 1 (so that sums over pixels come with the sums of products). Rows
//! are padded with zeros to whole vectors, so all of a convolution's sums are products of this matrix.

use crate::conv::ConvShape;
use crate::conv::copy::{CopyView, copy_plane};
use crate::precision::F32;
use crate::simd::{LANES, Simd};
use crate::threads::Threads;
use std::ops::Range;

/// Rows of the matrix that are multiplied with as many others at a time: 16 accumulators.
const ROWS: usize = 4;

/// Patches of strips of up to so many rows of outputs.
#[derive(Clone, Debug)]
pub(super) struct Patches {
    shape: ConvShape,
    /// Where a placement of the kernel begins before its pixel.
    begin: [usize; 2],
    /// Outputs in a row.
    width: usize,
    /// Rows and columns of the copied input, of each channel.
    view: [usize; 2],
    /// Floats from one row of the matrix to the next.
    pub(super) stride: usize,
}

/// Numbers of a patch.
pub(super) fn products(shape: &ConvShape) -> usize {
    shape.in_channels * shape.window.kernel[0] * shape.window.kernel[1]
}

impl Patches {
    pub(super) fn new(shape: ConvShape, width: usize, rows: usize) -> Patches {
        let (begin, _) = shape.window.pads(shape.input);
        let mut patches = Patches { shape, begin, width, view: [0; 2], stride: (rows * width).next_multiple_of(LANES) };
        patches.view = [patches.reach(0, rows), patches.reach(1, width)];
        patches
    }

    /// Inputs along an axis that so many neighbouring outputs read.
    fn reach(&self, axis: usize, outputs: usize) -> usize {
        let window = &self.shape.window;
        (outputs - 1) * window.stride[axis] + window.extent()[axis]
    }

    /// Floats of the copied input; vectors may be read beyond it.
    fn view_len(&self) -> usize {
        (self.shape.in_channels * self.view[0] * self.view[1] + LANES).next_multiple_of(LANES)
    }

    /// Floats of scratch: the copied input and the matrix.
    pub(super) fn scratch_len(&self) -> usize {
        self.view_len() + (products(&self.shape) + 1) * self.stride
    }

    /// The matrix of some rows of one picture's outputs.
    #[inline(always)]
    pub(super) fn fill<'a, S: Simd>(&self, s: S, x: &[f32], rows: Range<usize>, scratch: &'a mut [f32]) -> &'a [f32] {
        let (view, matrix) = scratch.split_at_mut(self.view_len());
        let ConvShape { input, window, .. } = &self.shape;
        let [view_rows, columns] = self.view;
        let copy = CopyView {
            rows: self.reach(0, rows.len()),
            columns,
            top: (rows.start * window.stride[0]) as isize - self.begin[0] as isize,
            left: -(self.begin[1] as isize),
            channels: 1,
        };
        let planes = x.chunks_exact(input[0] * input[1]);
        for (plane, target) in planes.zip(view.chunks_exact_mut(view_rows * columns)) {
            copy_plane::<S, F32>(s, &copy, plane, *input, target);
        }
        let pixels = rows.len() * self.width;
        let [height, width] = window.kernel;
        for product in 0..products(&self.shape) {
            let (channel, row, column) = (product / (height * width), product / width % height, product % width);
            let first = (channel * view_rows + row * window.dilation[0]) * columns + column * window.dilation[1];
            for output_row in 0..rows.len() {
                let from = &view[first + output_row * window.stride[0] * columns..];
                // What is written beyond a row is written again by the next one.
                let to = &mut matrix[product * self.stride + output_row * self.width..];
                if window.stride[1] == 1 {
                    for at in (0..self.width).step_by(LANES) {
                        s.write(&mut to[at..], s.read(&from[at..]));
                    }
                } else {
                    for at in 0..self.width {
                        to[at] = from[at * window.stride[1]];
                    }
                }
            }
            matrix[product * self.stride + pixels..(product + 1) * self.stride].fill(0.0);
        }
        let ones = &mut matrix[products(&self.shape) * self.stride..][..self.stride];
        ones[..pixels].fill(1.0);
        ones[pixels..].fill(0.0);
        matrix
    }

    /// Floats of a part of the sums: a square of 4 × 4 for every two groups of rows.
    pub(super) fn part_len(&self) -> usize {
        part_len(products(&self.shape))
    }

    /// Adds the products of every two rows of a matrix with so many columns to a part.
    #[inline(always)]
    pub(super) fn add_products<S: Simd>(&self, s: S, matrix: &[f32], pixels: usize, part: &mut [f32]) {
        let (last, vectors) = (products(&self.shape), pixels.div_ceil(LANES));
        let mut squares = part.chunks_exact_mut(LANES);
        for first in (0..=last).step_by(ROWS) {
            let left = self.group(matrix, first, vectors);
            for second in (first..=last).step_by(ROWS) {
                let right = self.group(matrix, second, vectors);
                let mut sums = [s.splat(0.0); LANES];
                for i in 0..vectors {
                    let mut factors = [s.splat(0.0); ROWS];
                    for column in 0..ROWS {
                        factors[column] = s.read(&right[column][i]);
                    }
                    for row in 0..ROWS {
                        let x = s.read(&left[row][i]);
                        for column in 0..ROWS {
                            sums[row * ROWS + column] = s.fma(x, factors[column], sums[row * ROWS + column]);
                        }
                    }
                }
                let columns = s.transpose(sums);
                let mut total = columns[0];
                for column in &columns[1..] {
                    total = s.add(total, *column);
                }
                let square = squares.next().expect("a part has all squares");
                let total = s.add(s.read(square), total);
                s.write(square, total);
            }
        }
    }

    /// Vectors of four neighbouring rows; the last one stands for those behind it.
    #[inline(always)]
    fn group<'a>(&self, matrix: &'a [f32], first: usize, vectors: usize) -> [&'a [[f32; LANES]]; ROWS] {
        let mut rows: [&[[f32; LANES]]; ROWS] = [&[]; ROWS];
        for (i, row) in rows.iter_mut().enumerate() {
            let at = (first + i).min(products(&self.shape)) * self.stride;
            *row = &matrix[at..at + vectors * LANES].as_chunks().0[..vectors];
        }
        rows
    }
}

fn part_len(products: usize) -> usize {
    let groups = (products + 1).div_ceil(ROWS);
    groups * (groups + 1) / 2 * LANES
}

/// Mean and covariance of a batch's patches.
#[derive(Clone, Debug)]
pub(super) struct PatchStatistics {
    /// `[product]`
    pub(super) mean: Vec<f64>,
    /// `[product][product]`
    pub(super) covariance: Vec<f64>,
    /// Sums of the products of every two rows of the matrix, in squares as in a part.
    sums: Vec<f64>,
}

impl PatchStatistics {
    /// Statistics of patches of so many numbers.
    pub(super) fn zeros(products: usize) -> PatchStatistics {
        PatchStatistics {
            mean: vec![0.0; products],
            covariance: vec![0.0; products * products],
            sums: vec![0.0; part_len(products)],
        }
    }

    /// From the parts of `count` patches, which are added in order.
    pub(super) fn merge(&mut self, threads: &Threads, count: usize, parts: &[f32]) {
        super::add_parts(threads, parts, &mut self.sums);
        let (products, share) = (self.mean.len(), 1.0 / count as f64);
        let groups = (products + 1).div_ceil(ROWS);
        let sums = &self.sums;
        let sum = |i: usize, j: usize| {
            let (row, column) = (i.min(j) / ROWS, i.max(j) / ROWS);
            // Squares of the groups before, of which the k-th has `groups - k`.
            let square = row * groups - row * (row + 1) / 2 + column;
            sums[square * LANES + i.min(j) % ROWS * ROWS + i.max(j) % ROWS]
        };
        for i in 0..products {
            self.mean[i] = sum(i, products) * share;
        }
        for i in 0..products {
            for j in 0..products {
                self.covariance[i * products + j] = sum(i, j) * share - self.mean[i] * self.mean[j];
            }
        }
    }
}
