//! Bilinear, antialiased resizing of 8-bit pictures, to the same bytes as Pillow's `resize(…, BILINEAR)`, which torchvision
//! uses: weights in units of 2⁻²², rounded to 8 bits after the horizontal and after the vertical pass
//! (Pillow's `Resample.c`; version 13 does the vertical pass first for some pictures over twice as high as wide, which
//! changes bytes by 1). Only what is kept is computed, so that nothing in between is larger than the original,
//! however long and thin it is.

/// Bits of a weight below 1.
const PRECISION: u32 = 22;

/// Along one axis: `original` pixels become `resized` ones, of which `kept` stay from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) original: usize,
    pub(super) resized: usize,
    pub(super) start: usize,
    pub(super) kept: usize,
}

/// What a pixel is made from: neighbours from the first on, with their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes interleaved pixels of `channels` bytes along both axes.
///
/// # Panics
/// When there are fewer pixels than the axes say.
pub(super) fn resize(pixels: &[u8], channels: usize, height: Axis, width: Axis) -> Vec<u8> {
    let (rows, columns) = (height.taps(), width.taps());
    let top = rows.first().map_or(0, |taps| taps.first);
    let bottom = rows.last().map_or(0, |taps| taps.first + taps.weights.len());
    let line = width.kept * channels;
    let mut narrow = Vec::with_capacity((bottom - top) * line);
    for row in pixels.chunks_exact(width.original * channels).take(bottom).skip(top) {
        for taps in &columns {
            narrow.extend((0..channels).map(|c| taps.of(row[taps.first * channels + c..].iter().step_by(channels))));
        }
    }
    let mut resized = Vec::with_capacity(height.kept * line);
    for taps in &rows {
        let from = &narrow[(taps.first - top) * line..];
        resized.extend((0..line).map(|i| taps.of(from[i..].iter().step_by(line))));
    }
    resized
}

impl Axis {
    /// A triangle around each pixel's centre, one original pixel wide to each side, or one new pixel where those are larger.
    fn taps(&self) -> Vec<Taps> {
        let scale = self.original as f64 / self.resized as f64;
        let support = scale.max(1.0);
        let taps = |pixel: usize| {
            let center = (pixel as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(self.original);
            let height = |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
            let sum: f64 = (first..end).map(height).sum();
            let weight = |x| (height(x) / sum * f64::from(1 << PRECISION) + 0.5) as i32;
            Taps { first, weights: (first..end).map(weight).collect() }
        };
        (self.start..self.start + self.kept).map(taps).collect()
    }
}

impl Taps {
    /// The weighted sum of pixels, of which there are at least as many as weights.
    fn of<'a>(&self, pixels: impl Iterator<Item = &'a u8>) -> u8 {
        let products = self.weights.iter().zip(pixels).map(|(&weight, &pixel)| weight * i32::from(pixel));
        let sum = (1 << (PRECISION - 1)) + products.sum::<i32>();
        (sum >> PRECISION).clamp(0, 255) as u8
    }
}
