//! Antialiased resizing of part of a picture in memory that is used again, to the same bytes as Pillow's `resize`: the weights
//! and the rounding are those of [`resize`](super::resize), the horizontal pass comes first. It reads planes, or the interleaved
//! pixels that decoders give, and writes planes. Only what is kept is computed, so that nothing in between is larger than the
//! original, however long and thin it is.

use super::augment::Area;
use super::resize::{Axis, Interpolation, rounded};

/// How the bytes of a picture lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data) enum Layout {
    /// One channel after the other.
    Planes,
    /// The channels of a pixel beside each other.
    Pixels,
}

/// A picture of `shape` (channels, height, width).
#[derive(Clone, Copy, Debug)]
pub(in crate::data) struct Source<'a> {
    pub(in crate::data) bytes: &'a [u8],
    pub(in crate::data) layout: Layout,
    pub(in crate::data) shape: [usize; 3],
}

/// The weights along both axes, and what the horizontal pass leaves.
#[derive(Debug, Default)]
pub(in crate::data) struct Resampling {
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
    /// The weights that make the resized pixels that are kept. All pixels get the same number, even where there is room, of
    /// which some are 0, so that the loops over them have few lengths.
    fn prepare(&mut self, axis: Axis, interpolation: Interpolation) {
        let Taps { count, firsts, weights, ragged, ends } = self;
        firsts.clear();
        weights.clear();
        ragged.clear();
        ends.clear();
        *count = 0;
        for pixel in axis.start..axis.start + axis.kept {
            let start = ragged.len();
            firsts.push(axis.weigh(pixel, interpolation, ragged));
            ends.push(ragged.len());
            *count = (*count).max(ragged.len() - start);
        }
        *count = count.next_multiple_of(2).min(axis.original);
        weights.resize(axis.kept * *count, 0);
        let mut start = 0;
        for ((first, &end), weights) in firsts.iter_mut().zip(&*ends).zip(weights.chunks_exact_mut(*count)) {
            let moved = (*first).min(axis.original - *count);
            weights[*first - moved..][..end - start].copy_from_slice(&ragged[start..end]);
            (*first, start) = (moved, end);
        }
    }

    /// The originals that are read, from the first to the end.
    fn reach(&self) -> std::ops::Range<usize> {
        let first = self.firsts.iter().min().copied().unwrap_or(0);
        first..self.firsts.iter().max().map_or(0, |last| last + self.count)
    }

    /// Resizes a row of one channel.
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

    /// Resizes a row of interleaved pixels of three channels into a row of each.
    fn across_colours(&self, row: &[[u8; 3]], out: [&mut [u8]; 3]) {
        match self.count {
            2 => self.across_colours_by::<2>(row, out),
            4 => self.across_colours_by::<4>(row, out),
            6 => self.across_colours_by::<6>(row, out),
            8 => self.across_colours_by::<8>(row, out),
            count => {
                let [red, green, blue] = out;
                let outs = red.iter_mut().zip(green).zip(blue);
                for ((((r, g), b), &first), weights) in outs.zip(&self.firsts).zip(self.weights.chunks_exact(count)) {
                    let mut sums = [0; 3];
                    for (pixel, &weight) in row[first..first + count].iter().zip(weights) {
                        (0..3).for_each(|c| sums[c] += weight * i32::from(pixel[c]));
                    }
                    [*r, *g, *b] = sums.map(rounded);
                }
            }
        }
    }

    fn across_colours_by<const N: usize>(&self, row: &[[u8; 3]], [red, green, blue]: [&mut [u8]; 3]) {
        let (weights, _) = self.weights.as_chunks::<N>();
        let outs = red.iter_mut().zip(green).zip(blue);
        for ((((r, g), b), &first), weights) in outs.zip(&self.firsts).zip(weights) {
            let pixels = &row[first..first + N];
            let sum = |c: usize| rounded((0..N).map(|i| weights[i] * i32::from(pixels[i][c])).sum());
            [*r, *g, *b] = [sum(0), sum(1), sum(2)];
        }
    }

    /// Makes row `pixel` of the resized picture from the rows of the original, of which the first `skipped` are not there.
    fn down(&self, pixel: usize, rows: &[u8], skipped: usize, out: &mut [u8]) {
        let weights = &self.weights[pixel * self.count..][..self.count];
        let rows = &rows[(self.firsts[pixel] - skipped) * out.len()..];
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
    /// Resizes an area of a picture to this size.
    pub(in crate::data) fn resized_crop(
        &mut self,
        source: Source<'_>,
        area: Area,
        [high, wide]: [usize; 2],
        interpolation: Interpolation,
        out: &mut [u8],
    ) {
        let whole = |original, resized| Axis { original, resized, start: 0, kept: resized };
        self.resample(source, area, [whole(area.height, high), whole(area.width, wide)], interpolation, out);
    }

    /// Resizes an area of a picture, whose height and width are the originals of the two axes, and keeps what they say, in
    /// planes.
    pub(in crate::data) fn resample(
        &mut self,
        source: Source<'_>,
        area: Area,
        [vertical, horizontal]: [Axis; 2],
        interpolation: Interpolation,
        out: &mut [u8],
    ) {
        let Resampling { columns, rows, narrow } = self;
        let (across, down) = (horizontal.original != horizontal.resized, vertical.original != vertical.resized);
        let (high, wide) = (vertical.kept, horizontal.kept);
        if across {
            columns.prepare(horizontal, interpolation);
        }
        let read = match down {
            true => {
                rows.prepare(vertical, interpolation);
                rows.reach()
            }
            false => vertical.start..vertical.start + high,
        };
        let columns = across.then_some(&*columns);
        let left = area.left + if across { 0 } else { horizontal.start };
        let window = Area { top: area.top + read.start, height: read.len(), left, width: area.width };
        if !down {
            return narrowed(source, window, columns, wide, out);
        }
        narrow.resize(source.shape[0] * read.len() * wide, 0);
        narrowed(source, window, columns, wide, narrow);
        for (narrow, out) in narrow.chunks_exact(read.len() * wide).zip(out.chunks_exact_mut(high * wide)) {
            for (pixel, out) in out.chunks_exact_mut(wide).enumerate() {
                rows.down(pixel, narrow, read.start, out);
            }
        }
    }
}

/// The horizontal pass over the rows of a window, into planes of `wide` columns; without taps it copies.
fn narrowed(source: Source<'_>, window: Area, columns: Option<&Taps>, wide: usize, out: &mut [u8]) {
    let Source { bytes, layout, shape: [channels, height, width] } = source;
    let size = window.height * wide;
    if layout == Layout::Pixels && channels == 3 {
        let (pixels, _) = bytes.as_chunks::<3>();
        let lines = pixels.chunks_exact(width).skip(window.top).take(window.height);
        let (red, rest) = out.split_at_mut(size);
        let (green, blue) = rest.split_at_mut(size);
        let outs = red.chunks_exact_mut(wide).zip(green.chunks_exact_mut(wide)).zip(blue.chunks_exact_mut(wide));
        for (line, ((red, green), blue)) in lines.zip(outs) {
            match columns {
                Some(taps) => taps.across_colours(&line[window.left..][..window.width], [red, green, blue]),
                None => apart(&line[window.left..][..wide], [red, green, blue]),
            }
        }
        return;
    }
    for (plane, out) in bytes.chunks_exact(height * width).zip(out.chunks_exact_mut(size)) {
        let lines = plane.chunks_exact(width).skip(window.top).take(window.height);
        for (line, out) in lines.zip(out.chunks_exact_mut(wide)) {
            match columns {
                Some(taps) => taps.across(&line[window.left..][..window.width], out),
                None => out.copy_from_slice(&line[window.left..][..wide]),
            }
        }
    }
}

fn apart(pixels: &[[u8; 3]], [red, green, blue]: [&mut [u8]; 3]) {
    for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*r, *g, *b] = *pixel;
    }
}

/// Interleaved pixels as planes.
pub(in crate::data) fn planes_of(pixels: &[u8], channels: usize, out: &mut [u8]) {
    if channels != 3 {
        return out.copy_from_slice(pixels);
    }
    let size = pixels.len() / 3;
    let (red, rest) = out.split_at_mut(size);
    let (green, blue) = rest.split_at_mut(size);
    apart(pixels.as_chunks::<3>().0, [red, green, blue]);
}
