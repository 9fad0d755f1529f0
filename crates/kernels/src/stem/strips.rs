//! What a task of the stem computes: the strips of a piece of one picture, each while it is in a cache.

use super::{MOST_PRODUCTS, Stem, StemInput, StemNorm};
use crate::conv::Panel;
use crate::conv::tile::{self, Start, Sum, Target};
use crate::layout::Maps;
use crate::norm::{Drop, NormChain};
use crate::precision::F32;
use crate::simd::{Kernel, LANES, Simd};
use crate::threads::Parts;
use std::ops::Range;

/// Sums the products of every two rows of the patches of a piece.
pub(super) struct SumProducts<'a> {
    pub(super) stem: &'a Stem,
    pub(super) x: &'a [f32],
    pub(super) piece: usize,
    pub(super) scratch: &'a mut [f32],
    pub(super) part: &'a mut [f32],
}

impl Kernel for SumProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (cut, patches) = &self.stem.statistics;
        let [_, width] = self.stem.conv.output();
        self.part.fill(0.0);
        for rows in cut.strips(self.piece) {
            let pixels = rows.len() * width;
            let matrix = patches.fill(s, self.x, rows, self.scratch);
            patches.add_products(s, matrix, pixels, self.part);
        }
    }
}

/// What happens to each strip of a piece of a picture, in a thread's scratch.
pub(super) struct EachStrip<'a, W> {
    pub(super) stem: &'a Stem,
    pub(super) x: Maps<'a>,
    pub(super) picture: usize,
    pub(super) piece: usize,
    pub(super) drop: Option<Drop>,
    pub(super) scratch: &'a mut [f32],
    pub(super) work: W,
}

/// Some rows of the convolution's outputs, and their patches.
pub(super) struct Strip<'a> {
    /// Pixels of the convolution.
    pixels: usize,
    matrix: &'a [f32],
    /// The chain of these rows alone, and the place of its pixels in a plane of the output.
    chain: NormChain,
    place: Range<usize>,
}

impl Strip<'_> {
    /// The place of its marks among those of a block of a picture.
    fn marks(&self) -> Range<usize> {
        let of_pixel = self.chain.marks_of_pixel();
        self.place.start * of_pixel..self.place.end * of_pixel
    }

    /// The place of its floats in a block of a picture of the output.
    fn floats(&self) -> Range<usize> {
        self.place.start * LANES..self.place.end * LANES
    }
}

/// A thread's scratch: a strip of a panel's convolution or its gradient, which lies as `[block][pixel][16]`, and dropout's
/// factors of all blocks.
pub(super) struct Own<'a> {
    strip: &'a mut [f32],
    factors: &'a [[f32; LANES]],
}

/// One direction's part in [`EachStrip`].
pub(super) trait Work {
    fn run<S: Simd>(&mut self, s: S, stem: &Stem, strip: &Strip<'_>, own: &mut Own<'_>);
}

impl<W: Work> Kernel for EachStrip<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let EachStrip { stem, x, picture, piece, drop, scratch, mut work } = self;
        let (cut, patches) = &stem.strips;
        let (scratch, rest) = scratch.split_at_mut(patches.scratch_len());
        let (strip, factors) = rest.split_at_mut(stem.strip_len());
        let factors = factors.as_chunks_mut::<LANES>().0;
        for (block, factors) in factors.iter_mut().enumerate() {
            *factors = stem.chain.factors(drop, picture * stem.blocks() + block);
        }
        let mut own = Own { strip, factors };
        let x = x.picture(picture, stem.conv.input_len());
        let (unit, width) = (stem.chain.rows_of_output(), stem.chain.output()[1]);
        for rows in cut.strips(piece) {
            let pixels = rows.len() * stem.conv.output()[1];
            let place = rows.start / unit * width..rows.end / unit * width;
            let chain = stem.chain.of_rows(rows.len());
            let matrix = patches.fill(s, x, rows, scratch);
            work.run(s, stem, &Strip { pixels, matrix, chain, place }, &mut own);
        }
    }
}

impl Stem {
    /// Pixels of a block of a picture of the output.
    fn output_plane(&self) -> usize {
        let [height, width] = self.chain.output();
        height * width
    }

    /// Marks of a block of a picture.
    pub(super) fn marks_plane(&self) -> usize {
        self.output_plane() * self.chain.marks_of_pixel()
    }

    /// A panel's convolution of a strip.
    #[inline(always)]
    fn convolve<S: Simd>(&self, s: S, panel: &Panel, input: &StemInput<'_>, strip: &Strip<'_>, x: &mut [f32]) {
        let (products, stride, lanes) = (self.products(), self.strips.1.stride, panel.width * LANES);
        let weights = &input.weights[panel.weights..][..products * lanes];
        let start = match input.bias {
            Some(bias) => Start::Bias(bias[panel.block * LANES..][..lanes].as_ptr()),
            None => Start::Zero,
        };
        let sum = Sum { taps: &[[0; 2]], run: products, a_step: stride, b_step: lanes, b_lane: LANES, ..Sum::EMPTY };
        let (matrix, x) = (&strip.matrix[..products * stride], &mut x[..strip.pixels * lanes]);
        let target = Target { lane: strip.pixels * LANES, start, ..Target::rows(x.as_mut_ptr(), true) };
        // SAFETY: a pixel is a column of the matrix, of which each product reads a row; weights, bias and strip were sliced
        // to the lengths that the tile reads and writes, and the strip is this thread's own.
        unsafe {
            let (a, b) = (matrix.as_ptr(), weights.as_ptr());
            tile::rows::<S, F32>(s, panel.width, &sum, &self.pixels[..strip.pixels], a, b, &target);
        }
    }

    /// Adds a panel's `Σ dz · p` over a strip to a part: a tile's rows are products, and it sums over pixels.
    #[inline(always)]
    fn correlate<S: Simd>(&self, s: S, panel: &Panel, strip: &Strip<'_>, dz: &[f32], part: &mut [f32]) {
        let (rows, stride, lanes) = (self.products() + 1, self.strips.1.stride, panel.width * LANES);
        let part = &mut part[panel.block * LANES * rows..][..rows * lanes];
        let sum = Sum {
            taps: &[[0; 2]],
            run: strip.pixels,
            a_step: 1,
            b_step: LANES,
            b_lane: strip.pixels * LANES,
            ..Sum::EMPTY
        };
        let target = Target::rows(part.as_mut_ptr(), false);
        let mut places = [[0; 2]; MOST_PRODUCTS + 1];
        for (product, place) in places[..rows].iter_mut().enumerate() {
            *place = [(product * stride) as u32, (product * lanes) as u32];
        }
        let (matrix, dz) = (&strip.matrix[..rows * stride], &dz[..strip.pixels * lanes]);
        // SAFETY: a product is a row of the matrix with a column for each pixel; gradient and part were sliced to the
        // lengths that the tile reads and writes, and the part is this task's own.
        unsafe {
            let (a, b) = (matrix.as_ptr(), dz.as_ptr());
            tile::rows::<S, F32>(s, panel.width, &sum, &places[..rows], a, b, &target);
        }
    }
}

/// The convolution and its chain.
pub(super) struct Forward<'a> {
    pub(super) input: &'a StemInput<'a>,
    pub(super) norm: &'a StemNorm<'a>,
    /// The batch's, and where the picture begins in each.
    pub(super) marks: Parts<'a, u16>,
    pub(super) first_mark: usize,
    pub(super) y: Parts<'a, f32>,
    pub(super) first: usize,
}

impl Work for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd>(&mut self, s: S, stem: &Stem, strip: &Strip<'_>, own: &mut Own<'_>) {
        let Forward { input, norm, .. } = *self;
        let (of_marks, of_floats) = (strip.marks(), strip.floats());
        for panel in stem.conv.panels() {
            stem.convolve(s, panel, input, strip, own.strip);
            for (at, x) in own.strip.chunks_exact(strip.pixels * LANES).take(panel.width).enumerate() {
                let block = panel.block + at;
                let channels = block * LANES..(block + 1) * LANES;
                let plane = self.first + block * stem.output_plane() * LANES;
                let mark = self.first_mark + block * stem.marks_plane();
                // SAFETY: each task has its strips of all blocks to itself.
                let (marks, y) = unsafe {
                    let marks = self.marks.part(mark + of_marks.start..mark + of_marks.end);
                    (marks, self.y.part(plane + of_floats.start..plane + of_floats.end))
                };
                let affine = [&norm.scale[channels.clone()], &norm.shift[channels]];
                strip.chain.forward_block(s, x, affine, own.factors[block], marks, y);
            }
        }
    }
}

/// The sums of `dz` with the patches.
pub(super) struct Backward<'a> {
    /// The picture's.
    pub(super) marks: &'a [u16],
    pub(super) dy: &'a [f32],
    /// To which sums are added.
    pub(super) part: &'a mut [f32],
}

impl Work for Backward<'_> {
    #[inline(always)]
    fn run<S: Simd>(&mut self, s: S, stem: &Stem, strip: &Strip<'_>, own: &mut Own<'_>) {
        let Backward { marks, dy, .. } = *self;
        for panel in stem.conv.panels() {
            for (at, dz) in own.strip.chunks_exact_mut(strip.pixels * LANES).take(panel.width).enumerate() {
                let block = panel.block + at;
                let dy = &dy[block * stem.output_plane() * LANES..][strip.floats()];
                let marks = &marks[block * stem.marks_plane()..][strip.marks()];
                strip.chain.gradient_block(s, dy, own.factors[block], marks, dz);
            }
            stem.correlate(s, panel, strip, own.strip, self.part);
        }
    }
}
