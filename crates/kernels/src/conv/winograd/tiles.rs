//! Tiles of pictures: where they lie, from pictures into matrices, and from sums back into pictures.
//!
//! A picture of outputs is cut into tiles of 4×4, row by row; tiles are numbered through all pictures of a batch. What a
//! tile reads beyond the picture is 0, and what it computes beyond the picture is left out.

use super::transform::{Line, Output, SIDE, square};
use crate::activation::Ending;
use crate::layout::Maps;
use crate::precision::{Element, Precision};
use crate::simd::{LANES, Simd};
use crate::statistics::Tally;
use std::ops::Range;

/// Outputs along the side of a tile.
pub(super) const TILE: usize = 4;

/// The tiles of one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Rows and columns of tiles.
    counts: [usize; 2],
}

/// A tile's picture, and its place in it in tiles.
#[derive(Clone, Copy, Debug)]
struct Place {
    picture: usize,
    row: usize,
    column: usize,
}

impl Grid {
    /// The tiles that cover so many outputs.
    pub(super) fn over(output: [usize; 2]) -> Grid {
        Grid { counts: output.map(|n| n.div_ceil(TILE)) }
    }

    /// Tiles of a picture.
    pub(super) fn len(&self) -> usize {
        self.counts[0] * self.counts[1]
    }

    fn place(&self, tile: usize) -> Place {
        let (picture, rest) = (tile / self.len(), tile % self.len());
        Place { picture, row: rest / self.counts[1], column: rest % self.counts[1] }
    }

    #[inline(always)]
    fn advance(&self, place: &mut Place) {
        place.column += 1;
        if place.column == self.counts[1] {
            (place.column, place.row) = (0, place.row + 1);
        }
        if place.row == self.counts[0] {
            (place.row, place.picture) = (0, place.picture + 1);
        }
    }
}

/// Pictures that tiles are read from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pictures {
    /// The tiles.
    pub(super) grid: Grid,
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Pixels that the first tile begins before the picture.
    pub(super) begin: [isize; 2],
    /// Blocks of channels.
    pub(super) blocks: usize,
}

/// How transformed tiles lie: `[point][tile][…16]`, each in floats.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strides {
    /// From one point to the next.
    pub(super) point: usize,
    /// From one tile to the next.
    pub(super) tile: usize,
}

impl Pictures {
    /// Numbers of a picture.
    pub(super) fn len(&self) -> usize {
        self.blocks * self.plane()
    }

    /// Numbers of a block of channels.
    pub(super) fn plane(&self) -> usize {
        self.size[0] * self.size[1] * LANES
    }

    /// Transforms tiles of `I` × `I` pixels of some blocks of channels, each block 16 floats after the one before.
    ///
    /// # Safety
    /// `x` holds the tiles' pictures, stored as `E` says; 16 floats are writable at each point, tile and block from `to`, and
    /// nobody else uses them.
    #[inline(always)]
    pub(super) unsafe fn transform<S: Simd, E: Element, L: Line<I, SIDE>, const I: usize>(
        &self,
        s: S,
        x: Maps<'_>,
        tiles: Range<usize>,
        blocks: Range<usize>,
        to: *mut f32,
        strides: Strides,
    ) {
        let mut place = self.grid.place(tiles.start);
        let pixel_step = LANES / E::PER_WORD;
        for tile in 0..tiles.len() {
            let top = (place.row * TILE) as isize - self.begin[0];
            let left = (place.column * TILE) as isize - self.begin[1];
            let inside = |from: isize, size: usize| {
                let first = (-from).clamp(0, I as isize) as usize;
                first..(size as isize - from).clamp(first as isize, I as isize) as usize
            };
            let (rows, columns) = (inside(top, self.size[0]), inside(left, self.size[1]));
            let picture = x.picture(place.picture, self.len());
            let corner = (top * self.size[1] as isize + left) * pixel_step as isize;
            for (i, block) in blocks.clone().enumerate() {
                let start = picture[block * self.plane() / E::PER_WORD..].as_ptr().wrapping_offset(corner);
                let mut pixels = [[s.splat(0.0); I]; I];
                for (r, line) in pixels.iter_mut().enumerate() {
                    if rows.contains(&r) {
                        for (c, pixel) in line.iter_mut().enumerate() {
                            if columns.contains(&c) {
                                // SAFETY: this row and column are inside the picture.
                                *pixel = unsafe { E::load(s, start.wrapping_add((r * self.size[1] + c) * pixel_step)) };
                            }
                        }
                    }
                }
                let transformed = square::<S, L, I, SIDE>(s, pixels);
                for (r, line) in transformed.into_iter().enumerate() {
                    for (c, v) in line.into_iter().enumerate() {
                        let at = (r * SIDE + c) * strides.point + tile * strides.tile + i * LANES;
                        // SAFETY: the caller's promise.
                        unsafe { s.store(to.add(at), v) };
                    }
                }
            }
            self.grid.advance(&mut place);
        }
    }
}

/// Where results go, and what happens on the way.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    /// The tiles.
    pub(super) grid: Grid,
    /// Height and width of a picture of results.
    pub(super) size: [usize; 2],
    /// A number per channel of the block.
    pub(super) bias: Option<&'a [f32]>,
    /// Added to the results.
    pub(super) addend: Option<Maps<'a>>,
    /// The numbers of a picture before the block.
    pub(super) first: usize,
    /// How results are stored.
    pub(super) stored: Precision,
    /// Whether what is there is added.
    pub(super) accumulate: bool,
    /// The activation.
    pub(super) ending: Ending,
    /// The block of channels.
    pub(super) block: usize,
}

impl Finish<'_> {
    /// The results of one block of channels, from the sums of its tiles, and their part of the statistics.
    ///
    /// # Safety
    /// 16 floats are readable at each point and tile from `sums`; `out` points to the first picture, the tiles' pictures are
    /// `out_stride` floats apart and all there, as are the addend's, and nobody else uses these tiles of this block of them.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what is read, and what is written")]
    pub(super) unsafe fn block<S: Simd>(
        &self,
        s: S,
        tiles: Range<usize>,
        sums: *const f32,
        strides: Strides,
        out: *mut f32,
        out_stride: usize,
        statistics: Option<&mut [f32]>,
    ) {
        let mut place = self.grid.place(tiles.start);
        let mut tally = Tally::around(s, s.splat(0.0));
        let bias = match self.bias {
            Some(bias) => s.read(bias),
            None => s.splat(0.0),
        };
        let [low, high] = self.ending.bounds.vectors(s);
        for tile in 0..tiles.len() {
            let mut m = [[s.splat(0.0); SIDE]; SIDE];
            for (r, line) in m.iter_mut().enumerate() {
                for (c, v) in line.iter_mut().enumerate() {
                    // SAFETY: the caller's promise.
                    *v = unsafe { s.load(sums.add((r * SIDE + c) * strides.point + tile * strides.tile)) };
                }
            }
            let mut results = square::<S, Output, SIDE, TILE>(s, m);
            let (top, left) = (place.row * TILE, place.column * TILE);
            let (height, width) = (TILE.min(self.size[0] - top), TILE.min(self.size[1] - left));
            for (r, line) in results.iter_mut().enumerate() {
                if r >= height {
                    break;
                }
                for (c, result) in line.iter_mut().enumerate() {
                    if c >= width {
                        break;
                    }
                    let pixel = self.first + ((top + r) * self.size[1] + left + c) * LANES;
                    let mut v = s.add(*result, bias);
                    // SAFETY: this pixel is inside its picture; the caller's promise.
                    unsafe {
                        if let Some(addend) = self.addend {
                            let picture = addend.data.as_ptr().add(place.picture * addend.stride);
                            v = s.add(v, addend.stored.load(s, picture, pixel));
                        }
                        let out = out.add(place.picture * out_stride);
                        if self.accumulate {
                            v = s.add(v, self.stored.load(s, out, pixel));
                        }
                        v = s.min(high, s.max(low, v));
                        self.stored.store(s, out, pixel, v);
                    }
                    *result = v;
                }
            }
            // In the place of what has just been stored.
            if let Some(pass) = self.ending.pass {
                pass.activation.apply(s, results.as_flattened_mut());
                let ragged = pass.ragged.filter(|ragged| ragged.block == self.block);
                for (r, line) in results.iter_mut().enumerate().take(height) {
                    for (c, result) in line.iter_mut().enumerate().take(width) {
                        if let Some(ragged) = ragged {
                            *result = ragged.clear(s, *result);
                        }
                        let pixel = self.first + ((top + r) * self.size[1] + left + c) * LANES;
                        // SAFETY: as above.
                        unsafe { self.stored.store(s, out.add(place.picture * out_stride), pixel, *result) };
                    }
                }
            }
            if statistics.is_some() {
                if tile == 0 {
                    tally = Tally::around(s, mean(s, &results, [height, width]));
                }
                for (r, line) in results.into_iter().enumerate() {
                    if r >= height {
                        break;
                    }
                    for (c, v) in line.into_iter().enumerate() {
                        if c >= width {
                            break;
                        }
                        tally.add(s, c, v);
                    }
                }
            }
            self.grid.advance(&mut place);
        }
        if let Some(part) = statistics {
            tally.write(s, part);
        }
    }
}

/// The mean of a tile's results inside the picture, whose height and width these are.
#[inline(always)]
fn mean<S: Simd>(s: S, results: &[[S::V; TILE]; TILE], [height, width]: [usize; 2]) -> S::V {
    let mut sum = s.splat(0.0);
    for line in &results[..height] {
        for &v in &line[..width] {
            sum = s.add(sum, v);
        }
    }
    s.mul(sum, s.splat(1.0 / (height * width) as f32))
}
