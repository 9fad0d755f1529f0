//! The stem of a net in training: a first convolution of few products, and the norm chain (`norm`) that alone reads it, with
//! the convolution's output never stored. It is many times as large as the picture, and to write it and to read it three
//! times takes longer than what is computed in its place. Backward knows what it needs of it from the chain's marks
//! (`norm/marks.rs`), a bit for each of its numbers.
//!
//! `x_o = w_o · p + bias_o` for every patch `p` of K = channels · kernel height · kernel width numbers
//! (zeros in the padding), so with mean `μ` and covariance `C` of the N patches of a batch, which follow in f64 from their
//! Gram matrix (`patches.rs`),
//!
//! - the mean of `x_o` is `w_o · μ + bias_o`, and its variance `w_oᵀ C w_o`;
//! - with `dz` the gradient of `scale · x + shift` and `D_o = Σ dz_o (p - μ)`, `Σ dz_o (x_o - mean_o)` is `w_o · D_o`;
//! - the gradient of `w_o` is `a · D_o + b · N · C w_o`, for `a` and `b` of [`NormChain::backward_data`]. That of the bias is
//!   0, as of any constant that a norm takes away.
//!
//! Pictures are plain, weights lie as [`Conv`] packs them, output and its gradient are `[n][c/16][h][w][16]`. A picture's
//! rows are cut into pieces, whose sums are kept apart in f32 and added in f64 in order, and pieces into strips, whose
//! convolution stays in the L1 cache between the register tile and the chain: by shape alone, so results do not depend on
//! the threads. Checked against the references in `stem/tests.rs`.

mod patches;
mod strips;

use crate::activation::Activation;
use crate::conv::{Conv, ConvShape, PLAIN_CHANNELS, Panel};
use crate::layout::{Maps, MapsMut, blocks};
use crate::norm::{Drop, NormChain};
use crate::simd::LANES;
use crate::threads::{Parts, Threads};
use patches::{PatchStatistics, Patches, products};
use std::ops::Range;
use strips::{Backward, EachStrip, Forward, SumProducts};

/// Most products of an output, those of 3×3 kernels on 4 channels: more would ask for more channels by the bound below than
/// most first convolutions have (5×5 on 3 channels for 240).
const MOST_PRODUCTS: usize = 36;
/// A patch's products with itself, of which there are as many as products squared, for each channel whose numbers need not be
/// stored. Time of forward and backward relative to storing the convolution, out of memory, against products²/channels: 0.5
/// (2.5: 1 → 32 channels, 28×28, pooling), 0.65 and 0.8 (11: 3 → 64, with and without pooling), 0.9 (20: 5×5 on 1 → 32,
/// pooling), 0.8 (20: 4 → 64, pooling), 0.95 and 1.0 (23: 3 → 32), 1.1 (41: 4 → 32, pooling), 1.1 and 0.9 to 1.2 (46: 3 → 16 of
/// 32×32, which ResNet-20 begins with). `cargo bench -p convnet-kernels --bench stem`, three runs on two virtual cores of an
/// EPYC (Zen 4), 2026-11-26.
const SQUARE_PER_CHANNEL: usize = 24;
/// Floats of a strip: its patches, and the convolution in a panel.
const STRIP_FLOATS: usize = 10 * 1024;
/// Floats of the patches that are multiplied with each other, which cost less from L2 than more strips, each of which ends
/// with sums over lanes.
const MATRIX_FLOATS: usize = 14 * 1024;
/// Pixels of a piece, about.
const PIECE: usize = 1024;

/// A planned convolution with its chain.
#[derive(Clone, Debug)]
pub struct Stem {
    conv: Conv,
    chain: NormChain,
    /// For the statistics.
    statistics: (Cut, Patches),
    /// For forward and backward.
    strips: (Cut, Patches),
    /// Place in the matrix and in the strip of each of its pixels.
    pixels: Vec<[u32; 2]>,
}

/// What all directions read.
#[derive(Clone, Copy)]
pub struct StemInput<'a> {
    /// Pictures.
    pub batch: usize,
    /// Plain, in NCHW.
    pub x: Maps<'a>,
    /// Packed.
    pub weights: &'a [f32],
    /// Padded to whole blocks.
    pub bias: Option<&'a [f32]>,
}

/// What happens to the convolution: as in [`NormChain::forward`].
#[derive(Clone, Copy)]
pub struct StemNorm<'a> {
    /// Per channel.
    pub scale: &'a [f32],
    /// Per channel.
    pub shift: &'a [f32],
    /// The dropout of this step.
    pub drop: Option<Drop>,
}

/// What forward leaves for backward.
#[derive(Clone, Debug)]
pub struct StemState {
    patches: PatchStatistics,
    /// `[n][block][pixel of y]`, as `norm/marks.rs` says.
    marks: Vec<u16>,
    /// Backward's sum of parts.
    sums: Vec<f64>,
}

impl StemState {
    /// Bytes of the marks.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.marks[..])
    }
}

/// How a picture's rows of outputs are cut: into pieces, and these into strips.
#[derive(Clone, Copy, Debug)]
struct Cut {
    rows: usize,
    strip: usize,
    piece: usize,
}

impl Cut {
    /// Into strips of up to so many pixels, or of `unit` rows, of `[rows, columns]`.
    fn new([rows, columns]: [usize; 2], unit: usize, pixels: usize) -> Cut {
        let units = rows / unit;
        let fitting = (pixels / (unit * columns)).clamp(1, units);
        let strip = units.div_ceil(units.div_ceil(fitting)) * unit;
        Cut { rows: units * unit, strip, piece: (PIECE / (strip * columns)).max(1) * strip }
    }

    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.piece)
    }

    /// The strips of a piece.
    fn strips(self, piece: usize) -> impl Iterator<Item = Range<usize>> {
        let end = ((piece + 1) * self.piece).min(self.rows);
        (piece * self.piece..end).step_by(self.strip).map(move |from| from..(from + self.strip).min(end))
    }
}

impl Stem {
    /// Whether a stem's chain may have this activation: of others, backward would need the convolution's output.
    pub fn takes_activation(activation: Activation) -> bool {
        matches!(activation, Activation::Identity | Activation::Relu)
    }

    /// Whether a convolution of a plain picture is faster in a stem than by itself.
    pub fn takes(shape: &ConvShape) -> bool {
        let (products, channels) = (products(shape), blocks(shape.out_channels) * LANES);
        let plain = shape.groups == 1 && shape.in_channels <= PLAIN_CHANNELS;
        plain && products <= MOST_PRODUCTS && products * products <= SQUARE_PER_CHANNEL * channels
    }

    /// Plans a convolution of a plain picture with the chain that reads it.
    ///
    /// # Panics
    /// When an output has more than 36 products, the picture is not plain, or the chain is not one of the convolution's
    /// output, or has an activation that a stem does not take.
    pub fn new(conv: Conv, chain: NormChain) -> Stem {
        let (shape, output) = (*conv.shape(), conv.output());
        let plain = conv.input_len() == shape.in_channels * shape.input[0] * shape.input[1];
        assert!(plain && shape.in_channels <= PLAIN_CHANNELS && products(&shape) <= MOST_PRODUCTS);
        assert!(chain.input_len() == conv.output_len() && Stem::takes_activation(chain.activation()));
        let rows = products(&shape) + 1;
        let statistics = Cut::new(output, 1, MATRIX_FLOATS / rows);
        let strips = Cut::new(output, chain.rows_of_output(), STRIP_FLOATS / (rows + widest_lanes(&conv)));
        let pixels = (0..strips.strip * output[1]).map(|pixel| [pixel as u32, (pixel * LANES) as u32]).collect();
        let with_patches = |cut: Cut| (cut, Patches::new(shape, output[1], cut.strip));
        Stem { conv, chain, statistics: with_patches(statistics), strips: with_patches(strips), pixels }
    }

    /// The convolution, which says how weights are packed.
    pub fn conv(&self) -> &Conv {
        &self.conv
    }

    /// Room for what forward leaves for backward, for up to `batch` pictures.
    pub fn state(&self, batch: usize) -> StemState {
        let marks = vec![0; batch * self.blocks() * self.marks_plane()];
        StemState { patches: PatchStatistics::zeros(self.products()), marks, sums: vec![0.0; self.part_len()] }
    }

    fn products(&self) -> usize {
        products(self.conv.shape())
    }

    fn blocks(&self) -> usize {
        blocks(self.conv.shape().out_channels)
    }

    /// Floats of a strip's convolution.
    fn strip_len(&self) -> usize {
        widest_lanes(&self.conv) * self.pixels.len()
    }

    /// Floats of scratch for a thread of forward and backward: patches, a strip, and dropout's factors.
    fn thread_len(&self) -> usize {
        self.strips.1.scratch_len() + self.strip_len() + self.blocks() * LANES
    }

    /// Floats of a part of `Σ dz · p`: for each panel `[product][lane]`, and the sum of `dz` as one product more.
    fn part_len(&self) -> usize {
        (self.products() + 1) * self.blocks() * LANES
    }

    /// Floats of scratch that [`Stem::statistics`] and [`Stem::forward`] need for up to `batch` pictures.
    pub fn forward_scratch(&self, batch: usize, threads: usize) -> usize {
        let (cut, patches) = &self.statistics;
        let statistics = patches.scratch_len() * threads + batch * cut.pieces() * patches.part_len();
        statistics.max(self.thread_len() * threads)
    }

    /// Floats of scratch that [`Stem::backward_sums`] needs for up to `batch` pictures.
    pub fn backward_scratch(&self, batch: usize, threads: usize) -> usize {
        self.thread_len() * threads + batch * self.strips.0.pieces() * self.part_len()
    }

    /// Mean and biased variance of each channel of the convolution, padded to whole blocks, and the statistics of the patches
    /// from which they follow.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn statistics(
        &self,
        threads: &Threads,
        input: &StemInput<'_>,
        state: &mut StemState,
        [mean, var]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (cut, patches) = &self.statistics;
        let (pieces, part_len) = (cut.pieces(), patches.part_len());
        let (own, parts) = scratch.split_at_mut(patches.scratch_len() * threads.count());
        let parts = &mut parts[..input.batch * pieces * part_len];
        {
            let (own, parts) = (Parts::new(own), Parts::new(parts));
            threads.run(input.batch * pieces, &|task, thread| {
                // SAFETY: a thread's number is its own, and each task has a part of its own.
                let (scratch, part) = unsafe {
                    let own = own.part(thread * patches.scratch_len()..(thread + 1) * patches.scratch_len());
                    (own, parts.part(task * part_len..(task + 1) * part_len))
                };
                let x = input.x.picture(task / pieces, self.conv.input_len());
                self.conv.isa().run(SumProducts { stem: self, x, piece: task % pieces, scratch, part });
            });
        }
        let [height, width] = self.conv.output();
        let found = &mut state.patches;
        found.merge(threads, input.batch * height * width, parts);
        for block in self.each_block() {
            let (mut sum, mut square) = ([0.0; LANES], [0.0; LANES]);
            for product in 0..self.products() {
                let weights = block.lanes(input.weights, product);
                let slope = block.covary(found, input.weights, product);
                for lane in 0..LANES {
                    sum[lane] += f64::from(weights[lane]) * found.mean[product];
                    square[lane] += f64::from(weights[lane]) * slope[lane];
                }
            }
            for (lane, channel) in block.channels().enumerate() {
                mean[channel] = (sum[lane] + input.bias.map_or(0.0, |bias| f64::from(bias[channel]))) as f32;
                var[channel] = square[lane].max(0.0) as f32;
            }
        }
    }

    /// `y = drop(pool(max(scale · conv(x) + shift, 0)))`.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn forward(
        &self,
        threads: &Threads,
        input: &StemInput<'_>,
        norm: &StemNorm<'_>,
        state: &mut StemState,
        y: MapsMut<'_>,
        scratch: &mut [f32],
    ) {
        assert!(y.as_maps().hold(input.batch, self.chain.output_len()));
        let (pieces, len) = (self.strips.0.pieces(), self.thread_len());
        let (y_stride, y, scratch) = (y.stride, Parts::new(y.data), Parts::new(scratch));
        let marks = Parts::new(&mut state.marks);
        threads.run(input.batch * pieces, &|task, thread| {
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * len..(thread + 1) * len) };
            let (picture, piece) = (task / pieces, task % pieces);
            let (first_mark, first) = (picture * self.blocks() * self.marks_plane(), picture * y_stride);
            let work = Forward { input, norm, marks, first_mark, y, first };
            let (stem, x, drop) = (self, input.x, norm.drop);
            self.conv.isa().run(EachStrip { stem, x, picture, piece, drop, scratch, work });
        });
    }

    /// The sums over batch and pixels of `dz` and of `dz · (x - mean)`, as [`NormChain::backward_sums`] gives them, and in
    /// `dw`, as weights are packed, `Σ dz · (p - μ)`.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one stem")]
    pub fn backward_sums(
        &self,
        threads: &Threads,
        input: &StemInput<'_>,
        drop: Option<Drop>,
        state: &mut StemState,
        dy: Maps<'_>,
        dw: &mut [f32],
        [sums, products]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (pieces, len, part_len) = (self.strips.0.pieces(), self.thread_len(), self.part_len());
        let marks_len = self.blocks() * self.marks_plane();
        let (own, parts) = scratch.split_at_mut(len * threads.count());
        let parts = &mut parts[..input.batch * pieces * part_len];
        {
            let (own, parts) = (Parts::new(own), Parts::new(parts));
            threads.run(input.batch * pieces, &|task, thread| {
                // SAFETY: a thread's number is its own, and each task has a part of its own.
                let (scratch, part) = unsafe {
                    (own.part(thread * len..(thread + 1) * len), parts.part(task * part_len..(task + 1) * part_len))
                };
                let (picture, piece) = (task / pieces, task % pieces);
                let dy = dy.picture(picture, self.chain.output_len());
                let marks = &state.marks[picture * marks_len..][..marks_len];
                part.fill(0.0);
                let (stem, x, work) = (self, input.x, Backward { marks, dy, part });
                self.conv.isa().run(EachStrip { stem, x, picture, piece, drop, scratch, work });
            });
        }
        add_parts(threads, parts, &mut state.sums);
        for block in self.each_block() {
            let total = |product: usize| block.total(&state.sums, product);
            let sum = total(self.products());
            let mut with_weights = [0.0; LANES];
            for product in 0..self.products() {
                let (total, weights) = (total(product), block.lanes(input.weights, product));
                for lane in 0..LANES {
                    let centred = total[lane] - sum[lane] * state.patches.mean[product];
                    with_weights[lane] += f64::from(weights[lane]) * centred;
                    dw[block.row(product) + lane] = centred as f32;
                }
            }
            for (lane, channel) in block.channels().enumerate() {
                sums[channel] = sum[lane] as f32;
                products[channel] = with_weights[lane] as f32;
            }
        }
    }

    /// The gradient of the weights, in the place of what [`Stem::backward_sums`] left in `dw`, for `a` and `b` of
    /// [`NormChain::backward_data`].
    pub fn backward_weights(
        &self,
        batch: usize,
        weights: &[f32],
        state: &StemState,
        [a, b]: [&[f32]; 2],
        dw: &mut [f32],
    ) {
        let [height, width] = self.conv.output();
        let count = (batch * height * width) as f64;
        for block in self.each_block() {
            for product in 0..self.products() {
                let slope = block.covary(&state.patches, weights, product);
                for (lane, channel) in block.channels().enumerate() {
                    let dw = &mut dw[block.row(product) + lane];
                    let sum = f64::from(a[channel]) * f64::from(*dw) + f64::from(b[channel]) * count * slope[lane];
                    *dw = sum as f32;
                }
            }
        }
    }

    fn each_block(&self) -> impl Iterator<Item = Block<'_>> {
        let products = self.products();
        self.conv.panels().iter().flat_map(move |panel| (0..panel.width).map(move |at| Block { panel, at, products }))
    }
}

/// Lanes of the widest panel.
fn widest_lanes(conv: &Conv) -> usize {
    conv.panels().iter().map(|panel| panel.width).max().unwrap_or(1) * LANES
}

/// A block of 16 output channels.
struct Block<'a> {
    panel: &'a Panel,
    /// Its place in the panel.
    at: usize,
    products: usize,
}

impl Block<'_> {
    fn channels(&self) -> Range<usize> {
        let block = self.panel.block + self.at;
        block * LANES..(block + 1) * LANES
    }

    /// Where its weights of a product begin.
    fn row(&self, product: usize) -> usize {
        self.panel.weights + (product * self.panel.width + self.at) * LANES
    }

    fn lanes<'a>(&self, weights: &'a [f32], product: usize) -> &'a [f32; LANES] {
        weights[self.row(product)..].first_chunk().expect("weights are whole blocks")
    }

    /// A row of `C w`.
    fn covary(&self, statistics: &PatchStatistics, weights: &[f32], product: usize) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for other in 0..self.products {
            let covariance = statistics.covariance[product * self.products + other];
            let weights = self.lanes(weights, other);
            for lane in 0..LANES {
                sums[lane] += covariance * f64::from(weights[lane]);
            }
        }
        sums
    }

    /// `Σ dz · p` of a product.
    fn total(&self, sums: &[f64], product: usize) -> [f64; LANES] {
        let at = self.panel.block * (self.products + 1) + product * self.panel.width + self.at;
        *sums[at * LANES..].first_chunk().expect("sums are whole blocks")
    }
}

/// Sums of parts, which are added in order.
fn add_parts(threads: &Threads, parts: &[f32], sums: &mut [f64]) {
    let len = sums.len();
    let sums = Parts::new(sums);
    threads.run(len / LANES, &|task, _| {
        let range = task * LANES..(task + 1) * LANES;
        // SAFETY: each task has lanes of its own.
        let sums = unsafe { sums.part(range.clone()) };
        sums.fill(0.0);
        for part in parts.chunks_exact(len) {
            for (sum, &x) in sums.iter_mut().zip(&part[range.clone()]) {
                *sum += f64::from(x);
            }
        }
    });
}

#[cfg(test)]
mod tests;
