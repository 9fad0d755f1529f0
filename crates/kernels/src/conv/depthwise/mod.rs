//! Depthwise convolution: `y[n, c, p] = bias[c] + Σ_t x[n, c, s·p + d·t - pad] · w[c, t]`, every channel by itself.
//!
//! A vector holds 16 channels of a pixel, so a product is one of vectors, lane by lane, and nothing is summed over lanes.
//! Forward and by data are one algorithm (`correlation.rs`) over tiles of neighbouring outputs of a row (`tile.rs`); by weights
//! sums over rows (`backward_weights.rs`). Inputs are read where they lie; what a tap reads of the padding is 0.
//!
//! Weights and their gradient are `[c/16][tap][16]`; lanes past the last channel are 0. Products are in `f32` always. Checked
//! against `reference/conv2d.rs` by `conv/tests.rs`.

mod backward_weights;
mod correlation;
mod finish;
mod taps;
mod tile;

use super::ConvShape;
use super::axis::Axis;
use super::correlation::Call;
use crate::layout::{Maps, MapsMut, Placing, blocks};
use crate::precision::Precision;
use crate::simd::{Isa, LANES};
use crate::threads::{Parts, Threads};
use backward_weights::BackwardWeights;
use correlation::Correlation;
use std::ops::Range;

/// Tables for all three directions.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    isa: Isa,
    channels: usize,
    /// Elements of a channel's kernel.
    taps: usize,
    forward: Correlation,
    backward: Correlation,
    backward_weights: BackwardWeights,
}

impl Depthwise {
    /// Plans a convolution of as many groups as channels, whose kernel fits.
    pub(super) fn new(shape: &ConvShape, output: [usize; 2], isa: Isa) -> Depthwise {
        let (channels, input, kernel) = (shape.in_channels, shape.input, shape.kernel());
        let (blocks, sides) = (blocks(channels), kernel.map(|axis| axis.kernel));
        let forward = [0, 1].map(|axis| Axis::forward(kernel[axis], input[axis], output[axis]));
        let backward = [0, 1].map(|axis| Axis::backward(kernel[axis], output[axis], input[axis]));
        Depthwise {
            isa,
            channels,
            taps: sides[0] * sides[1],
            forward: Correlation::new(blocks, sides, forward),
            backward: Correlation::new(blocks, sides, backward),
            backward_weights: BackwardWeights::new(blocks, kernel, input, output),
        }
    }

    /// Plans forward for an input and an output that are stored so.
    pub(super) fn set_stored(&mut self, stored: [Precision; 2]) {
        self.forward.set_stored(stored);
    }

    /// Numbers of one input picture.
    pub(super) fn input_len(&self) -> usize {
        self.forward.input_len()
    }

    /// Numbers of one output picture.
    pub(super) fn output_len(&self) -> usize {
        self.forward.output_len()
    }

    /// Floats of the packed weights.
    pub(super) fn weights_len(&self) -> usize {
        blocks(self.channels) * self.taps * LANES
    }

    /// Packs weights from `[c][tap]`; the rest of the packed blocks is 0.
    pub(super) fn pack_weights(&self, plain: &[f32], packed: &mut [f32]) {
        packed[..self.weights_len()].fill(0.0);
        for (c, taps) in plain.chunks_exact(self.taps).take(self.channels).enumerate() {
            for (t, &weight) in taps.iter().enumerate() {
                packed[self.place(c, t)] = weight;
            }
        }
    }

    /// The reverse of [`Depthwise::pack_weights`].
    pub(super) fn unpack_weights(&self, packed: &[f32], plain: &mut [f32]) {
        for (c, taps) in plain.chunks_exact_mut(self.taps).take(self.channels).enumerate() {
            for (t, weight) in taps.iter_mut().enumerate() {
                *weight = packed[self.place(c, t)];
            }
        }
    }

    /// Where a channel's weight of a tap lies.
    fn place(&self, channel: usize, tap: usize) -> usize {
        (channel / LANES * self.taps + tap) * LANES + channel % LANES
    }

    /// Parts of the statistics of the output of `batch` pictures.
    pub(super) fn statistics_parts(&self, batch: usize) -> usize {
        self.forward.statistics_parts(batch)
    }

    /// Floats of scratch that [`Depthwise::forward`] needs.
    pub(super) fn forward_scratch(&self, threads: usize) -> usize {
        self.forward.scratch_len() * threads
    }

    /// Floats of scratch that [`Depthwise::backward_weights`] needs for up to `batch` pictures.
    pub(super) fn backward_weights_scratch(&self, batch: usize) -> usize {
        self.backward_weights.scratch_len(batch)
    }

    /// `y = x ∗ weights`, then the epilogue.
    pub(super) fn forward(&self, threads: &Threads, call: &Call<'_>, y: MapsMut<'_>, scratch: &mut [f32]) {
        self.forward.run(self.isa, threads, call, y, scratch);
    }

    /// Rows of the input, padding among them, that so many rows of the output read.
    pub(super) fn forward_reach(&self, rows: usize) -> usize {
        self.forward.reach(rows)
    }

    /// The rows of the input that rows of the output read.
    pub(super) fn forward_reads(&self, rows: Range<usize>) -> Range<usize> {
        self.forward.input_rows(rows)
    }

    /// Rows of one block of one picture's output from `x`, the rows of the block's input that they read, all in `f32`.
    pub(super) fn forward_rows(
        &self,
        call: &Call<'_>,
        places: [Parts<'_, f32>; 2],
        placing: Placing,
        [picture, block]: [usize; 2],
        rows: Range<usize>,
        x: &[f32],
    ) {
        self.forward.run_rows(self.isa, call, places, placing, [picture, block], rows, x);
    }

    /// `dx` from `dy`, which the call names `x`.
    pub(super) fn backward_data(&self, threads: &Threads, call: &Call<'_>, dx: MapsMut<'_>) {
        self.backward.run(self.isa, threads, call, dx, &mut []);
    }

    /// `dw`: the gradient of the packed weights, summed over the batch.
    pub(super) fn backward_weights(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(x.hold(batch, self.input_len()) && dy.hold(batch, self.output_len()));
        self.backward_weights.run(self.isa, threads, [x, dy], batch, &mut dw[..self.weights_len()], scratch);
    }
}

#[cfg(test)]
mod tests;
