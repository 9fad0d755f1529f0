//! A chain whose backward knows no `x`: forward marks the lanes of each pixel that a gradient reaches, because its pixel won
//! and, before a ReLU, was positive. Other activations have no marks. Marks are a word of 16 bits for each pixel that pooling reads: `[pixel of y][4 of its window]`, or
//! one for each pixel of `y` without pooling.

use super::{Forward, NormChain, quad};
use crate::precision::F32;
use crate::simd::{LANES, Simd};

impl NormChain {
    /// The same chain over so many rows of its input alone: whole pooling windows.
    pub(crate) fn of_rows(&self, rows: usize) -> NormChain {
        NormChain { input: [rows, self.input[1]], ..*self }
    }

    /// Rows of its input for each row of its output.
    pub(crate) fn rows_of_output(&self) -> usize {
        if self.pool { 2 } else { 1 }
    }

    /// Marks of each pixel of the output.
    pub(crate) fn marks_of_pixel(&self) -> usize {
        if self.pool { 4 } else { 1 }
    }

    /// [`NormChain::forward`] of a block of 16 channels of one picture, with its marks.
    #[inline(always)]
    pub(crate) fn forward_block<S: Simd>(
        &self,
        s: S,
        x: &[f32],
        [scale, shift]: [&[f32]; 2],
        factor: [f32; LANES],
        marks: &mut [u16],
        y: &mut [f32],
    ) {
        let forward = Forward { chain: self, x, scale, shift, factor, marks: Some(marks), y };
        forward.run_as::<S, F32, F32, true>(s);
    }

    /// `dz`, the gradient of `scale · x + shift`, of a block of 16 channels of one picture, from the marks.
    #[inline(always)]
    pub(crate) fn gradient_block<S: Simd>(
        &self,
        s: S,
        dy: &[f32],
        factor: [f32; LANES],
        marks: &[u16],
        dz: &mut [f32],
    ) {
        let (factor, zero) = (s.read(&factor), s.splat(0.0));
        if !self.pool {
            let gradients = dy.chunks_exact(LANES).zip(dz.chunks_exact_mut(LANES));
            for ((dy, dz), &mark) in gradients.zip(marks) {
                s.write(dz, s.select(mark, s.mul(s.read(dy), factor), zero));
            }
            return;
        }
        let ([_, width], [_, columns]) = (self.input, self.output());
        if !width.is_multiple_of(2) {
            // No window covers the last column.
            dz.fill(0.0);
        }
        let marks = marks.as_chunks::<4>().0;
        let rows = dy.chunks_exact(columns * LANES).zip(marks.chunks_exact(columns));
        for (row, (dy, marks)) in rows.enumerate() {
            for (column, (dy, marks)) in dy.chunks_exact(LANES).zip(marks).enumerate() {
                let (dy, places) = (s.mul(s.read(dy), factor), quad(width, row, column));
                for k in 0..4 {
                    s.write(&mut dz[places[k]..], s.select(marks[k], dy, zero));
                }
            }
        }
    }
}
