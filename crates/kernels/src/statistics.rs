//! Mean and variance of every channel over a batch, from parts: sums over a few rows of pixels, left by whoever has just
//! computed those and still has them in its cache.
//!
//! A part of a block of 16 channels is four vectors: how many pixels it has, a pivot `p` near its mean (that of some of
//! its pixels), `Σ(x - p)` and `Σ(x - p)²`, so that what is rounded is as small as the values differ, however large they
//! are. A tensor's parts lie as `[part][block][4][16]`. Sums within a part are in f32; parts are merged in f64, in order,
//! as Chan, Golub and LeVeque 1979 do: squares around the mean of all from those around each part's own. How a batch is
//! cut into parts depends on shapes alone, so results do not depend on the threads.

use crate::layout::{Maps, blocks};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// Floats of one part of a block of channels.
const PART: usize = 4 * LANES;
/// Sums that are kept apart, so that one need not wait for the other.
const APART: usize = 4;
/// Pixels whose mean is the pivot.
const SAMPLES: usize = 8;

/// Floats of so many parts of so many channels.
pub const fn parts_len(parts: usize, channels: usize) -> usize {
    parts * blocks(channels) * PART
}

/// Writes the one part that stands for many pixels, from the mean and biased variance of each channel, padded to whole blocks.
///
/// # Panics
/// When `part` is shorter than [`parts_len`] of one part says.
pub fn write_part(pixels: usize, mean: &[f32], var: &[f32], part: &mut [f32]) {
    let lanes = mean.chunks_exact(LANES).zip(var.chunks_exact(LANES));
    for ((mean, var), part) in lanes.zip(part[..mean.len() * PART / LANES].chunks_exact_mut(PART)) {
        let [count, pivot, sum, squares] = part.as_chunks_mut::<LANES>().0 else {
            unreachable!("a part is four vectors")
        };
        count.fill(pixels as f32);
        pivot.copy_from_slice(mean);
        sum.fill(0.0);
        squares.iter_mut().zip(var).for_each(|(squares, var)| *squares = var * pixels as f32);
    }
}

/// Where a tensor's parts go.
#[derive(Clone, Copy)]
pub struct StatisticsParts<'a> {
    data: Parts<'a, f32>,
    blocks: usize,
}

impl<'a> StatisticsParts<'a> {
    /// Parts for a tensor of so many channels; `data` holds [`parts_len`] floats.
    pub fn new(data: &'a mut [f32], channels: usize) -> StatisticsParts<'a> {
        StatisticsParts { data: Parts::new(data), blocks: blocks(channels) }
    }

    /// Whether there is room for so many parts of so many blocks of channels.
    pub(crate) fn hold(&self, parts: usize, blocks: usize) -> bool {
        self.blocks == blocks && self.data.len() >= parts * blocks * PART
    }

    /// A part of a block of channels.
    ///
    /// # Safety
    /// Nobody else uses this part of this block.
    pub(crate) unsafe fn part(&self, part: usize, block: usize) -> &'a mut [f32] {
        assert!(block < self.blocks);
        let at = (part * self.blocks + block) * PART;
        // SAFETY: parts do not overlap; the caller's promise.
        unsafe { self.data.part(at..at + PART) }
    }
}

/// A part in the making.
#[derive(Clone, Copy)]
pub(crate) struct Tally<S: Simd> {
    pivot: S::V,
    sums: [[S::V; 2]; APART],
    pixels: usize,
}

impl<S: Simd> Tally<S> {
    /// A tally of no pixels yet.
    #[inline(always)]
    pub(crate) fn around(s: S, pivot: S::V) -> Tally<S> {
        Tally { pivot, sums: [[s.splat(0.0); 2]; APART], pixels: 0 }
    }

    /// Adds a pixel to the `i % 4`th of the sums that are kept apart.
    #[inline(always)]
    pub(crate) fn add(&mut self, s: S, i: usize, x: S::V) {
        let (x, [sum, squares]) = (s.sub(x, self.pivot), self.sums[i % APART]);
        self.sums[i % APART] = [s.add(sum, x), s.fma(x, x, squares)];
        self.pixels += 1;
    }

    #[inline(always)]
    pub(crate) fn write(&self, s: S, part: &mut [f32]) {
        s.write(part, s.splat(self.pixels as f32));
        s.write(&mut part[LANES..], self.pivot);
        for which in 0..2 {
            let [a, b, c, d] = self.sums;
            let sum = s.add(s.add(a[which], b[which]), s.add(c[which], d[which]));
            s.write(&mut part[(2 + which) * LANES..], sum);
        }
    }
}

/// The part of some pixels of a block, which lie one after the other.
#[inline(always)]
pub(crate) fn sum_pixels<S: Simd>(s: S, pixels: &[f32], part: &mut [f32]) {
    // Several pixels from all over, because a single one may be an outlier: a ReLU's only positive one, say.
    let mut samples = s.splat(0.0);
    for i in 0..SAMPLES {
        let pixel = pixels.len() / LANES * i / SAMPLES;
        samples = s.add(samples, s.read(&pixels[pixel * LANES..]));
    }
    let mut tally = Tally::around(s, s.mul(samples, s.splat(1.0 / SAMPLES as f32)));
    let (fours, rest) = pixels.as_chunks::<{ APART * LANES }>();
    for four in fours {
        for i in 0..APART {
            tally.add(s, i, s.read(&four[i * LANES..]));
        }
    }
    for (i, pixel) in rest.chunks_exact(LANES).enumerate() {
        tally.add(s, i, s.read(pixel));
    }
    tally.write(s, part);
}

/// The parts of a tensor `[batch, channels, pixels]`, of which each picture is one.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn sum(isa: Isa, threads: &Threads, [batch, channels, pixels]: [usize; 3], x: Maps<'_>, parts: &mut [f32]) {
    let (blocks, plane) = (blocks(channels), pixels * LANES);
    let parts = StatisticsParts::new(parts, channels);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        // SAFETY: each task has a block of a picture of its own.
        let part = unsafe { parts.part(n, block) };
        isa.run(SumPixels { pixels: &x.data[n * x.stride + block * plane..][..plane], part });
    });
}

/// A part, of some pixels of a block.
pub(crate) struct SumPixels<'a> {
    pub(crate) pixels: &'a [f32],
    pub(crate) part: &'a mut [f32],
}

impl Kernel for SumPixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        sum_pixels(s, self.pixels, self.part);
    }
}

/// Mean and biased variance of each channel, padded to whole blocks, from `parts` parts. One of no pixels counts nothing.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn merge(
    isa: Isa,
    threads: &Threads,
    [parts, channels]: [usize; 2],
    data: &[f32],
    mean: &mut [f32],
    var: &mut [f32],
) {
    let (data, blocks) = (&data[..parts_len(parts, channels)], blocks(channels));
    let (mean, var) = (Parts::new(mean), Parts::new(var));
    threads.run(blocks, &|block, _| {
        let lanes = block * LANES..(block + 1) * LANES;
        // SAFETY: each task has a block of its own.
        let (mean, var) = unsafe { (mean.part(lanes.clone()), var.part(lanes)) };
        isa.run(Merge { data: &data[block * PART..], step: blocks * PART, mean, var });
    });
}

/// One block's parts, each `step` floats after the one before.
struct Merge<'a> {
    data: &'a [f32],
    step: usize,
    mean: &'a mut [f32],
    var: &'a mut [f32],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Merge { data, step, mean, var } = self;
        let (mut pixels, mut total, mut squares) = (0.0, [0.0; LANES], [0.0; LANES]);
        for part in data.chunks(step) {
            let [count, pivot, sum, _] = lines(part);
            let count = f64::from(count[0]);
            pixels += count;
            for lane in 0..LANES {
                total[lane] += f64::from(pivot[lane]) * count + f64::from(sum[lane]);
            }
        }
        let centre = total.map(|total| total / pixels);
        for part in data.chunks(step) {
            let [count, pivot, sum, square] = lines(part);
            let count = f64::from(count[0]);
            let share = if count > 0.0 { 1.0 / count } else { 0.0 };
            for lane in 0..LANES {
                let sum = f64::from(sum[lane]);
                let delta = f64::from(pivot[lane]) + sum * share - centre[lane];
                squares[lane] += f64::from(square[lane]) - sum * sum * share + count * delta * delta;
            }
        }
        for lane in 0..LANES {
            mean[lane] = centre[lane] as f32;
            var[lane] = (squares[lane].max(0.0) / pixels) as f32;
        }
    }
}

/// The four vectors of a part.
#[inline(always)]
fn lines(part: &[f32]) -> [&[f32; LANES]; 4] {
    let lines = part[..PART].as_chunks::<LANES>().0;
    [&lines[0], &lines[1], &lines[2], &lines[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{MapsMut, to_blocked};
    use crate::reference::gradcheck::pattern;

    /// Mean and variance of one channel in f64, in two passes.
    fn expected(x: &[f32], [batch, channels, pixels]: [usize; 3], channel: usize) -> [f64; 2] {
        let values = || (0..batch).flat_map(|n| &x[(n * channels + channel) * pixels..][..pixels]);
        let count = (batch * pixels) as f64;
        let mean = values().map(|&x| f64::from(x)).sum::<f64>() / count;
        [mean, values().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count]
    }

    fn statistics(isa: Isa, threads: usize, x: &[f32], shape: [usize; 3]) -> [Vec<f32>; 2] {
        let [batch, channels, pixels] = shape;
        let threads = Threads::new(threads).unwrap();
        let padded = blocks(channels) * LANES;
        let mut blocked = vec![f32::NAN; batch * padded * pixels];
        to_blocked(&threads, shape, x, MapsMut::packed(&mut blocked, padded * pixels));
        let mut parts = vec![f32::NAN; parts_len(batch, channels)];
        sum(isa, &threads, shape, Maps::packed(&blocked, padded * pixels), &mut parts);
        let mut found = [vec![f32::NAN; padded], vec![f32::NAN; padded]];
        let [mean, var] = &mut found;
        merge(isa, &threads, [batch, channels], &parts, mean, var);
        found
    }

    #[test]
    fn agree_with_two_passes_in_f64_however_far_from_zero() {
        for shape in [[1, 3, 2], [5, 20, 49], [3, 16, 1000], [130, 33, 1]] {
            let [batch, channels, pixels] = shape;
            // A mean of up to 10,000 times the deviation.
            for (offset, deviation) in [(0.0, 1.0), (3.0, 0.1), (-1000.0, 1.0), (1000.0, 0.1)] {
                let x = pattern(7, batch * channels * pixels).into_iter().map(|x| (offset + deviation * x) as f32);
                let x: Vec<f32> = x.collect();
                for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
                    let [mean, var] = statistics(isa, 2, &x, shape);
                    for c in 0..channels {
                        let [want_mean, want_var] = expected(&x, shape, c);
                        let what = format!("{} {shape:?} {offset} ± {deviation}, channel {c}", isa.name());
                        let error = (f64::from(mean[c]) - want_mean).abs();
                        assert!(error <= 1e-7 * want_mean.abs().max(1e-3), "{what}: mean {} {want_mean}", mean[c]);
                        let error = (f64::from(var[c]) - want_var).abs();
                        assert!(error <= 2e-6 * want_var, "{what}: variance {} {want_var}", var[c]);
                    }
                    assert!(mean[channels..].iter().chain(&var[channels..]).all(|&x| x == 0.0));
                }
            }
        }
    }

    #[test]
    fn do_not_depend_on_the_threads() {
        let shape = [9, 50, 30];
        let x: Vec<f32> = pattern(3, 9 * 50 * 30).iter().map(|&x| x as f32).collect();
        let one = statistics(Isa::best(), 1, &x, shape);
        for threads in [2, 5] {
            assert_eq!(one, statistics(Isa::best(), threads, &x, shape));
        }
    }

    #[test]
    fn a_part_may_stand_for_others() {
        let (threads, shape) = (Threads::new(1).unwrap(), [6, 20, 50]);
        let x: Vec<f32> = pattern(5, 6 * 20 * 50).iter().map(|&x| x as f32 + 3.0).collect();
        let whole = statistics(Isa::best(), 1, &x, shape);
        // Pictures 0 and 1, none, the other four.
        let mut parts = vec![0.0; parts_len(3, 20)];
        for (pictures, which) in [(0..2, 0), (2..6, 2)] {
            let [mean, var] =
                statistics(Isa::best(), 1, &x[pictures.start * 1000..pictures.end * 1000], [pictures.len(), 20, 50]);
            let len = parts_len(1, 20);
            write_part(pictures.len() * 50, &mean, &var, &mut parts[which * len..][..len]);
        }
        let (mut mean, mut var) = ([f32::NAN; 32], [f32::NAN; 32]);
        merge(Isa::best(), &threads, [3, 20], &parts, &mut mean, &mut var);
        for c in 0..32 {
            assert!((mean[c] - whole[0][c]).abs() <= 1e-6 && (var[c] - whole[1][c]).abs() <= 1e-6, "channel {c}");
        }
    }

    #[test]
    fn parts_may_differ_in_size() {
        let threads = Threads::new(1).unwrap();
        let x: Vec<f32> = pattern(5, 40 * LANES).iter().map(|&x| x as f32 + 100.0).collect();
        let mut parts = vec![f32::NAN; parts_len(3, LANES)];
        for (part, range) in parts.chunks_exact_mut(PART).zip([0..1, 1..30, 30..40]) {
            Isa::best().run(SumPixels { pixels: &x[range.start * LANES..range.end * LANES], part });
        }
        let (mut mean, mut var) = ([0.0; LANES], [0.0; LANES]);
        merge(Isa::best(), &threads, [3, LANES], &parts, &mut mean, &mut var);
        for lane in 0..LANES {
            let values: Vec<f32> = x.iter().skip(lane).step_by(LANES).copied().collect();
            let [want_mean, want_var] = expected(&values, [1, 1, 40], 0);
            assert!((f64::from(mean[lane]) - want_mean).abs() < 1e-7 * want_mean);
            assert!((f64::from(var[lane]) - want_var).abs() < 2e-6 * want_var);
        }
    }
}
