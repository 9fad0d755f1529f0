//! Antialiased resizing of part of a picture, plane by plane, in memory that is used again. The weights, the rounding
//! and so the bytes are those of [`resize`](crate::data::resize) and of Pillow; the horizontal pass comes first.

use super::area::Area;
use crate::data::resize::{Axis, Interpolation, rounded};

/// The weights along both axes, and what the horizontal pass leaves.
#[derive(Debug, Default)]
pub(super) struct Resampling {
    columns: Taps,
    rows: Taps,
    narrow: Vec<u8>,
}

/// For each resized pixel the first of its neighbours, and the weights of `count` of them.
#[derive(Debug, Default)]
struct Taps {
    count: usize,
    firsts: Vec<usize>,
    weights: Vec<i32>,
    /// Weights as the filter gives them, of a different number for each pixel, and where each pixel's end.
    ragged: Vec<i32>,
    ends: Vec<usize>,
}

impl Taps {
    /// The weights that make `resized` pixels of `original`. All pixels get the same number, even where there is room, of
    /// which some are 0, so that the loops over them have few lengths.
    fn prepare(&mut self, original: usize, resized: usize, interpolation: Interpolation) {
        let Taps { count, firsts, weights, ragged, ends } = self;
        let axis = Axis { original, resized, start: 0, kept: resized };
        firsts.clear();
        weights.clear();
        ragged.clear();
        ends.clear();
        *count = 0;
        for pixel in 0..resized {
            let start = ragged.len();
            firsts.push(axis.weigh(pixel, interpolation, ragged));
            ends.push(ragged.len());
            *count = (*count).max(ragged.len() - start);
        }
        *count = count.next_multiple_of(2).min(original);
        weights.resize(resized * *count, 0);
        let mut start = 0;
        for ((first, &end), weights) in firsts.iter_mut().zip(&*ends).zip(weights.chunks_exact_mut(*count)) {
            let moved = (*first).min(original - *count);
            weights[*first - moved..][..end - start].copy_from_slice(&ragged[start..end]);
            (*first, start) = (moved, end);
        }
    }

    /// Resizes a row.
    fn across(&self, row: &[u8], out: &mut [u8]) {
        match self.count {
            2 => self.across_by::<2>(row, out),
            4 => self.across_by::<4>(row, out),
            6 => self.across_by::<6>(row, out),
            8 => self.across_by::<8>(row, out),
            count => {
                for ((out, &first), weights) in out.iter_mut().zip(&self.firsts).zip(self.weights.chunks_exact(count)) {
                    let products = row[first..first + count].iter().zip(weights);
                    *out = rounded(products.map(|(&pixel, &weight)| weight * i32::from(pixel)).sum());
                }
            }
        }
    }

    fn across_by<const N: usize>(&self, row: &[u8], out: &mut [u8]) {
        let (weights, _) = self.weights.as_chunks::<N>();
        for ((out, &first), weights) in out.iter_mut().zip(&self.firsts).zip(weights) {
            let pixels: [u8; N] = std::array::from_fn(|i| row[first..first + N][i]);
            *out = rounded((0..N).map(|i| weights[i] * i32::from(pixels[i])).sum());
        }
    }

    /// Makes row `pixel` of the resized picture from the rows of the original.
    fn down(&self, pixel: usize, rows: &[u8], out: &mut [u8]) {
        let weights = &self.weights[pixel * self.count..][..self.count];
        let rows = &rows[self.firsts[pixel] * out.len()..];
        match self.count {
            2 => down_by::<2>(weights, rows, out),
            4 => down_by::<4>(weights, rows, out),
            6 => down_by::<6>(weights, rows, out),
            8 => down_by::<8>(weights, rows, out),
            _ => {
                let width = out.len();
                for (x, out) in out.iter_mut().enumerate() {
                    let products = weights.iter().zip(rows[x..].iter().step_by(width));
                    *out = rounded(products.map(|(&weight, &pixel)| weight * i32::from(pixel)).sum());
                }
            }
        }
    }
}

fn down_by<const N: usize>(weights: &[i32], rows: &[u8], out: &mut [u8]) {
    let width = out.len();
    let rows: [&[u8]; N] = std::array::from_fn(|i| &rows[i * width..][..width]);
    for x in 0..width {
        out[x] = rounded((0..N).map(|i| weights[i] * i32::from(rows[i][x])).sum());
    }
}

impl Resampling {
    /// Resizes an area of a picture of this shape to the size of `out`.
    pub(super) fn resized_crop(
        &mut self,
        planes: &[u8],
        [_, height, width]: [usize; 3],
        area: Area,
        [high, wide]: [usize; 2],
        interpolation: Interpolation,
        out: &mut [u8],
    ) {
        let Resampling { columns, rows, narrow } = self;
        let (across, down) = (area.width != wide, area.height != high);
        if across {
            columns.prepare(area.width, wide, interpolation);
        }
        if down {
            rows.prepare(area.height, high, interpolation);
        }
        for (plane, out) in planes.chunks_exact(height * width).zip(out.chunks_exact_mut(high * wide)) {
            let lines = plane.chunks_exact(width).skip(area.top).take(area.height);
            let lines = lines.map(|line| &line[area.left..][..area.width]);
            let pass = |line: &[u8], out: &mut [u8]| match across {
                true => columns.across(line, out),
                false => out.copy_from_slice(line),
            };
            if !down {
                lines.zip(out.chunks_exact_mut(wide)).for_each(|(line, out)| pass(line, out));
                continue;
            }
            narrow.resize(area.height * wide, 0);
            lines.zip(narrow.chunks_exact_mut(wide)).for_each(|(line, out)| pass(line, out));
            for (pixel, out) in out.chunks_exact_mut(wide).enumerate() {
                rows.down(pixel, narrow, out);
            }
        }
    }
}
