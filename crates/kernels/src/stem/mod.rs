//! The stem of a net in training: a first convolution of few products, and the norm chain (`norm`) that alone reads it, with
//! the convolution's output never stored. It is 16 and more times as large as the picture, and to write and read it takes
//! longer than to compute it again.
//!
//! `x_o = w_o · p + bias_o` for every patch `p` of K = channels · kernel height · kernel width numbers
//! ([`Patches`]), so with mean `μ` and covariance `C` of the N patches of a batch (from their Gram matrix; the design is
//! in `ARCHITECTURE.md`), in f64,
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

pub use patches::PatchMoments;

use crate::conv::tile::{self, Start, Sum, Target};
use crate::conv::{Conv, ConvShape, PLAIN_CHANNELS, Panel};
use crate::layout::{Maps, MapsMut, blocks};
use crate::norm::{Drop, NormChain};
use crate::precision::F32;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use patches::{Patches, products};
use std::ops::Range;

/// Most products of an output: above, it is faster to store the convolution.
const MOST_PRODUCTS: usize = 36;
/// Floats of a strip's convolution, in a panel.
const STRIP_FLOATS: usize = 4 * 1024;
/// Floats of the matrix of patches that is multiplied with itself.
const MATRIX_FLOATS: usize = 6 * 1024;
/// Pixels of a piece, about.
const PIECE: usize = 1024;

/// A planned convolution with its chain.
#[derive(Clone, Debug)]
pub struct Stem {
    conv: Conv,
    chain: NormChain,
    isa: Isa,
    /// For the moments.
    moments: (Cut, Patches),
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
    /// Of this step.
    pub drop: Option<Drop>,
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
    /// Whether a convolution of a plain picture is faster computed again than stored.
    pub fn takes(shape: &ConvShape) -> bool {
        shape.groups == 1 && shape.in_channels <= PLAIN_CHANNELS && products(shape) <= MOST_PRODUCTS
    }

    /// Plans a convolution of a plain picture with the chain that reads it.
    ///
    /// # Panics
    /// When [`Stem::takes`] says no, or the chain is not one of the convolution's output.
    pub fn new(conv: Conv, chain: NormChain, isa: Isa) -> Stem {
        let (shape, output) = (*conv.shape(), conv.output());
        assert!(Stem::takes(&shape) && chain.input_len() == conv.output_len());
        let widest = conv.panels().iter().map(|panel| panel.width).max().unwrap_or(1);
        let matrix = MATRIX_FLOATS / (products(&shape) + 1);
        let moments = Cut::new(output, 1, matrix);
        let strips = Cut::new(output, chain.rows_of_output(), (STRIP_FLOATS / (widest * LANES)).min(matrix));
        let pixels = (0..strips.strip * output[1]).map(|pixel| [pixel as u32, (pixel * LANES) as u32]).collect();
        let with_patches = |cut: Cut| (cut, Patches::new(shape, output[1], cut.strip));
        Stem { conv, chain, isa, moments: with_patches(moments), strips: with_patches(strips), pixels }
    }

    /// The convolution, which says how weights are packed.
    pub fn conv(&self) -> &Conv {
        &self.conv
    }

    /// Room for the moments of a batch's patches.
    pub fn patch_moments(&self) -> PatchMoments {
        PatchMoments::zeros(self.products())
    }

    fn products(&self) -> usize {
        products(self.conv.shape())
    }

    fn blocks(&self) -> usize {
        blocks(self.conv.shape().out_channels)
    }

    /// Floats of a strip's convolution.
    fn strip_len(&self) -> usize {
        let widest = self.conv.panels().iter().map(|panel| panel.width).max().unwrap_or(1);
        widest * self.pixels.len() * LANES
    }

    /// Floats of scratch for a thread of forward and backward: patches, a strip, and dropout's factors.
    fn thread_len(&self) -> usize {
        self.strips.1.scratch_len() + self.strip_len() + self.blocks() * LANES
    }

    /// Floats of a part of `Σ dz · p`: for each panel `[product][lane]`, and the sum of `dz` as one product more.
    fn part_len(&self) -> usize {
        (self.products() + 1) * self.blocks() * LANES
    }

    /// Floats of scratch that [`Stem::moments`] and [`Stem::forward`] need for up to `batch` pictures.
    pub fn forward_scratch(&self, batch: usize, threads: usize) -> usize {
        let (cut, patches) = &self.moments;
        let moments = patches.scratch_len() * threads + batch * cut.pieces() * patches.part_len();
        moments.max(self.thread_len() * threads)
    }

    /// Floats of scratch that [`Stem::backward_sums`] needs for up to `batch` pictures.
    pub fn backward_scratch(&self, batch: usize, threads: usize) -> usize {
        self.thread_len() * threads + batch * self.strips.0.pieces() * self.part_len()
    }

    /// Mean and biased variance of each channel of the convolution, padded to whole blocks, and the moments of the patches
    /// from which they follow.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn moments(
        &self,
        threads: &Threads,
        input: &StemInput<'_>,
        found: &mut PatchMoments,
        [mean, var]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (cut, patches) = &self.moments;
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
                self.isa.run(SumProducts { stem: self, x, piece: task % pieces, scratch, part });
            });
        }
        let [height, width] = self.conv.output();
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
        y: MapsMut<'_>,
        scratch: &mut [f32],
    ) {
        assert!(y.as_maps().hold(input.batch, self.chain.output_len()));
        let (pieces, len) = (self.strips.0.pieces(), self.thread_len());
        let (y_stride, y, scratch) = (y.stride, Parts::new(y.data), Parts::new(scratch));
        threads.run(input.batch * pieces, &|task, thread| {
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * len..(thread + 1) * len) };
            let piece = Piece { stem: self, input, norm, picture: task / pieces, piece: task % pieces, scratch };
            self.isa.run(Forward { piece, y, y_stride });
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
        norm: &StemNorm<'_>,
        moments: &PatchMoments,
        dy: Maps<'_>,
        dw: &mut [f32],
        [sums, products]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (pieces, len, part_len) = (self.strips.0.pieces(), self.thread_len(), self.part_len());
        let (own, parts) = scratch.split_at_mut(len * threads.count());
        let parts = &mut parts[..input.batch * pieces * part_len];
        {
            let (own, parts) = (Parts::new(own), Parts::new(parts));
            threads.run(input.batch * pieces, &|task, thread| {
                // SAFETY: a thread's number is its own, and each task has a part of its own.
                let (scratch, part) = unsafe {
                    (own.part(thread * len..(thread + 1) * len), parts.part(task * part_len..(task + 1) * part_len))
                };
                let piece = Piece { stem: self, input, norm, picture: task / pieces, piece: task % pieces, scratch };
                let dy = dy.picture(piece.picture, self.chain.output_len());
                self.isa.run(Backward { piece, dy, part });
            });
        }
        for block in self.each_block() {
            let total = |product: usize| block.total(parts, part_len, product);
            let sum = total(self.products());
            let mut with_weights = [0.0; LANES];
            for product in 0..self.products() {
                let (total, weights) = (total(product), block.lanes(input.weights, product));
                for lane in 0..LANES {
                    let centred = total[lane] - sum[lane] * moments.mean[product];
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
        moments: &PatchMoments,
        [a, b]: [&[f32]; 2],
        dw: &mut [f32],
    ) {
        let [height, width] = self.conv.output();
        let count = (batch * height * width) as f64;
        for block in self.each_block() {
            for product in 0..self.products() {
                let slope = block.covary(moments, weights, product);
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
    fn covary(&self, moments: &PatchMoments, weights: &[f32], product: usize) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for other in 0..self.products {
            let covariance = moments.covariance[product * self.products + other];
            let weights = self.lanes(weights, other);
            for lane in 0..LANES {
                sums[lane] += covariance * f64::from(weights[lane]);
            }
        }
        sums
    }

    /// Sum of all parts' `Σ dz · p` of a product.
    fn total(&self, parts: &[f32], len: usize, product: usize) -> [f64; LANES] {
        let first = self.panel.block * (self.products + 1) + product * self.panel.width + self.at;
        let mut sums = [0.0; LANES];
        for part in parts.chunks_exact(len) {
            let lanes: &[f32; LANES] = part[first * LANES..].first_chunk().expect("parts are whole blocks");
            for lane in 0..LANES {
                sums[lane] += f64::from(lanes[lane]);
            }
        }
        sums
    }
}

/// Sums the products of every two rows of the patches of a piece.
struct SumProducts<'a> {
    stem: &'a Stem,
    x: &'a [f32],
    piece: usize,
    scratch: &'a mut [f32],
    part: &'a mut [f32],
}

impl Kernel for SumProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (cut, patches) = &self.stem.moments;
        let [_, width] = self.stem.conv.output();
        self.part.fill(0.0);
        for rows in cut.strips(self.piece) {
            let pixels = rows.len() * width;
            let matrix = patches.fill(s, self.x, rows, self.scratch);
            patches.add_products(s, matrix, pixels, self.part);
        }
    }
}

/// A piece of a picture, and a thread's scratch.
struct Piece<'a> {
    stem: &'a Stem,
    input: &'a StemInput<'a>,
    norm: &'a StemNorm<'a>,
    picture: usize,
    piece: usize,
    scratch: &'a mut [f32],
}

/// A strip's convolution in a panel, which lies as `[block][pixel][16]`.
struct Strip<'a> {
    rows: Range<usize>,
    panel: &'a Panel,
    pixels: usize,
    matrix: &'a [f32],
    x: &'a mut [f32],
    /// Dropout's, of all blocks.
    factors: &'a [[f32; LANES]],
}

impl Piece<'_> {
    /// Computes the convolution strip by strip and panel by panel, and calls what happens to it.
    #[inline(always)]
    fn each_strip<S: Simd>(self, s: S, mut work: impl StripWork) {
        let Piece { stem, input, norm, picture, piece, scratch } = self;
        let (cut, patches) = &stem.strips;
        let (scratch, rest) = scratch.split_at_mut(patches.scratch_len());
        let (x, factors) = rest.split_at_mut(stem.strip_len());
        let factors = factors.as_chunks_mut::<LANES>().0;
        for (block, factors) in factors.iter_mut().enumerate() {
            *factors = stem.chain.factors(norm.drop, picture * stem.blocks() + block);
        }
        let [_, width] = stem.conv.output();
        let plain = input.x.picture(picture, stem.conv.input_len());
        for rows in cut.strips(piece) {
            let pixels = rows.len() * width;
            let matrix = patches.fill(s, plain, rows.clone(), scratch);
            for panel in stem.conv.panels() {
                stem.convolve(s, panel, input, matrix, pixels, x);
                let x = &mut x[..panel.width * pixels * LANES];
                work.run(s, Strip { rows: rows.clone(), panel, pixels, matrix, x, factors });
            }
        }
    }
}

/// What happens to a strip's convolution.
trait StripWork {
    fn run<S: Simd>(&mut self, s: S, strip: Strip<'_>);
}

impl Stem {
    /// A panel's convolution of some pixels' patches.
    #[inline(always)]
    fn convolve<S: Simd>(
        &self,
        s: S,
        panel: &Panel,
        input: &StemInput<'_>,
        matrix: &[f32],
        pixels: usize,
        x: &mut [f32],
    ) {
        let (products, stride, lanes) = (self.products(), self.strips.1.stride, panel.width * LANES);
        let weights = &input.weights[panel.weights..][..products * lanes];
        let start = match input.bias {
            Some(bias) => Start::Bias(bias[panel.block * LANES..][..lanes].as_ptr()),
            None => Start::Zero,
        };
        let sum = Sum { taps: &[[0; 2]], run: products, a_step: stride, b_step: lanes, b_lane: LANES };
        let (matrix, x) = (&matrix[..products * stride], &mut x[..pixels * lanes]);
        let target = Target { out: x.as_mut_ptr(), lane: pixels * LANES, start, addend: std::ptr::null(), relu: false };
        // SAFETY: a pixel is a column of the matrix, of which each product reads a row; weights, bias and strip were sliced
        // to the lengths that the tile reads and writes, and the strip is this thread's own.
        unsafe {
            let (a, b) = (matrix.as_ptr(), weights.as_ptr());
            tile::rows::<S, F32>(s, panel.width, &sum, &self.pixels[..pixels], a, b, &target);
        }
    }

    /// The chain over a strip.
    fn strip_chain(&self, strip: &Strip<'_>) -> NormChain {
        self.chain.of_rows(strip.rows.len())
    }

    /// The place of a strip's output in the plane of its block.
    fn strip_of_output(&self, strip: &Strip<'_>) -> Range<usize> {
        let (unit, row) = (self.chain.rows_of_output(), self.chain.output()[1] * LANES);
        strip.rows.start / unit * row..strip.rows.end / unit * row
    }

    /// Floats of a block of a picture of the output.
    fn output_plane(&self) -> usize {
        self.chain.output_len() / self.blocks()
    }
}

struct Forward<'a> {
    piece: Piece<'a>,
    y: Parts<'a, f32>,
    y_stride: usize,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Piece { stem, norm, picture, .. } = self.piece;
        self.piece.each_strip(s, ForwardStrip { stem, norm, y: self.y, first: picture * self.y_stride });
    }
}

struct ForwardStrip<'a> {
    stem: &'a Stem,
    norm: &'a StemNorm<'a>,
    y: Parts<'a, f32>,
    /// Where the picture begins.
    first: usize,
}

impl StripWork for ForwardStrip<'_> {
    #[inline(always)]
    fn run<S: Simd>(&mut self, s: S, strip: Strip<'_>) {
        let ForwardStrip { stem, norm, .. } = *self;
        let (chain, place) = (stem.strip_chain(&strip), stem.strip_of_output(&strip));
        for (at, x) in strip.x.chunks_exact(strip.pixels * LANES).enumerate() {
            let block = strip.panel.block + at;
            let channels = block * LANES..(block + 1) * LANES;
            let plane = self.first + block * stem.output_plane();
            // SAFETY: each task has its strips of all blocks to itself.
            let y = unsafe { self.y.part(plane + place.start..plane + place.end) };
            let affine = [&norm.scale[channels.clone()], &norm.shift[channels]];
            chain.forward_block(s, x, affine, strip.factors[block], y);
        }
    }
}

struct Backward<'a> {
    piece: Piece<'a>,
    dy: &'a [f32],
    part: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Piece { stem, norm, .. } = self.piece;
        self.part.fill(0.0);
        self.piece.each_strip(s, BackwardStrip { stem, norm, dy: self.dy, part: self.part });
    }
}

struct BackwardStrip<'a> {
    stem: &'a Stem,
    norm: &'a StemNorm<'a>,
    dy: &'a [f32],
    part: &'a mut [f32],
}

impl StripWork for BackwardStrip<'_> {
    #[inline(always)]
    fn run<S: Simd>(&mut self, s: S, strip: Strip<'_>) {
        let BackwardStrip { stem, norm, dy, .. } = *self;
        let (chain, place) = (stem.strip_chain(&strip), stem.strip_of_output(&strip));
        let Strip { panel, pixels, matrix, x, factors, .. } = strip;
        for (at, x) in x.chunks_exact_mut(pixels * LANES).enumerate() {
            let block = panel.block + at;
            let channels = block * LANES..(block + 1) * LANES;
            let plane = block * stem.output_plane();
            let affine = [&norm.scale[channels.clone()], &norm.shift[channels]];
            chain.gradient_block(s, &dy[plane + place.start..plane + place.end], affine, factors[block], x);
        }
        // `Σ dz · p`: a tile's rows are products, and it sums over pixels.
        let (rows, stride, lanes) = (stem.products() + 1, stem.strips.1.stride, panel.width * LANES);
        let part = &mut self.part[panel.block * LANES * rows..][..rows * lanes];
        let sum = Sum { taps: &[[0; 2]], run: pixels, a_step: 1, b_step: LANES, b_lane: pixels * LANES };
        let (addend, start) = (std::ptr::null(), Start::Output);
        let target = Target { out: part.as_mut_ptr(), lane: LANES, start, addend, relu: false };
        let mut places = [[0; 2]; MOST_PRODUCTS + 1];
        for (product, place) in places[..rows].iter_mut().enumerate() {
            *place = [(product * stride) as u32, (product * lanes) as u32];
        }
        let (matrix, x) = (&matrix[..rows * stride], &x[..panel.width * pixels * LANES]);
        // SAFETY: a product is a row of the matrix with a column for each pixel; gradient and part were sliced to the
        // lengths that the tile reads and writes, and the part is this task's own.
        unsafe {
            tile::rows::<S, F32>(s, panel.width, &sum, &places[..rows], matrix.as_ptr(), x.as_ptr(), &target);
        }
    }
}

#[cfg(test)]
mod tests;
