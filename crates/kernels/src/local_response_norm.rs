//! Local response normalisation across channels of blocked maps; the formula stands in
//! `reference/local_response_norm.rs`, against which this is checked.
//!
//! A task is a run of pixels of one picture. The channels around a block's lie in the blocks beside it, so that a sum of up to
//! [`MAX_SIZE`] channels is that many shifted reads of three blocks' squares. Backward computes the sums again.

use crate::layout::{Maps, MapsMut, blocks};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// Most channels that are summed.
pub const MAX_SIZE: usize = 2 * LANES + 1;

/// Pixels of a task.
const PIXELS: usize = 64;

/// A planned normalisation.
#[derive(Clone, Copy, Debug)]
pub struct LocalResponseNorm {
    blocks: usize,
    pixels: usize,
    size: usize,
    factor: f32,
    beta: f32,
    k: f32,
    isa: Isa,
}

impl LocalResponseNorm {
    /// Plans it for `channels` maps of `pixels`, with the sum's size and `[alpha, beta, k]`.
    ///
    /// # Panics
    /// When the size is 0 or above [`MAX_SIZE`].
    pub fn new(channels: usize, pixels: usize, size: usize, [alpha, beta, k]: [f32; 3], isa: Isa) -> Self {
        assert!((1..=MAX_SIZE).contains(&size), "expected a size from 1 to {MAX_SIZE}, got {size}");
        LocalResponseNorm { blocks: blocks(channels), pixels, size, factor: alpha / size as f32, beta, k, isa }
    }

    fn len(&self) -> usize {
        self.blocks * self.pixels * LANES
    }

    /// Normalises `batch` pictures.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn forward(&self, threads: &Threads, batch: usize, x: Maps<'_>, y: MapsMut<'_>) {
        let (stride, tasks) = (y.stride, self.pixels.div_ceil(PIXELS));
        assert!(y.as_maps().hold(batch, self.len()));
        let y = Parts::new(y.data);
        threads.run(batch * tasks, &|task, _| {
            let (n, pixels) = (task / tasks, self.run_of_pixels(task % tasks));
            let x = x.picture(n, self.len());
            self.isa.run(Forward { lrn: self, x, y, at: n * stride, pixels });
        });
    }

    /// `dx`: the gradient of `x` from `dy`, that of the output; added to what `dx` holds if asked.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dx: MapsMut<'_>,
        accumulate: bool,
    ) {
        let (stride, tasks) = (dx.stride, self.pixels.div_ceil(PIXELS));
        assert!(dx.as_maps().hold(batch, self.len()));
        let dx = Parts::new(dx.data);
        threads.run(batch * tasks, &|task, _| {
            let (n, pixels) = (task / tasks, self.run_of_pixels(task % tasks));
            let [x, dy] = [x, dy].map(|maps| maps.picture(n, self.len()));
            self.isa.run(Backward { lrn: self, x, dy, dx, at: n * stride, pixels, accumulate });
        });
    }

    fn run_of_pixels(&self, index: usize) -> Range<usize> {
        index * PIXELS..((index + 1) * PIXELS).min(self.pixels)
    }

    /// Where a block's channels at a pixel begin in a picture.
    #[inline(always)]
    fn place(&self, block: usize, pixel: usize) -> usize {
        (block * self.pixels + pixel) * LANES
    }

    /// `k + alpha / size · Σ x²` of a block's channels at a pixel.
    #[inline(always)]
    fn base<S: Simd>(&self, s: S, x: &[f32], block: usize, pixel: usize) -> S::V {
        let mut squares = [0.0; 3 * LANES];
        for beside in 0..3 {
            if (1..=self.blocks).contains(&(block + beside)) {
                let x = s.read(&x[self.place(block + beside - 1, pixel)..]);
                s.write(&mut squares[beside * LANES..], s.mul(x, x));
            }
        }
        let mut sum = s.splat(0.0);
        for shift in 0..self.size {
            sum = s.add(sum, s.read(&squares[LANES - self.size / 2 + shift..]));
        }
        s.fma(sum, s.splat(self.factor), s.splat(self.k))
    }

    /// `base^-beta`; the usual 0.75 by square roots.
    #[inline(always)]
    fn power<S: Simd>(&self, s: S, base: S::V) -> S::V {
        if self.beta == 0.75 {
            let root = s.sqrt(base);
            return s.div(s.splat(1.0), s.mul(root, s.sqrt(root)));
        }
        let mut lanes = s.lanes(base);
        for lane in &mut lanes {
            *lane = lane.powf(-self.beta);
        }
        s.read(&lanes)
    }
}

struct Forward<'a> {
    lrn: &'a LocalResponseNorm,
    x: &'a [f32],
    y: Parts<'a, f32>,
    /// Where the picture begins in `y`.
    at: usize,
    pixels: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { lrn, x, y, at, pixels } = self;
        for block in 0..lrn.blocks {
            for pixel in pixels.clone() {
                let place = lrn.place(block, pixel);
                let power = lrn.power(s, lrn.base(s, x, block, pixel));
                // SAFETY: a task alone writes its pixels.
                let y = unsafe { y.part(at + place..at + place + LANES) };
                s.write(y, s.mul(s.read(&x[place..]), power));
            }
        }
    }
}

struct Backward<'a> {
    lrn: &'a LocalResponseNorm,
    x: &'a [f32],
    dy: &'a [f32],
    dx: Parts<'a, f32>,
    /// Where the picture begins in `dx`.
    at: usize,
    pixels: Range<usize>,
    accumulate: bool,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { lrn, x, dy, dx, at, pixels, accumulate } = self;
        let factor = s.splat(-2.0 * lrn.factor * lrn.beta);
        for block in 0..lrn.blocks {
            for pixel in pixels.clone() {
                // dy · y / base of this block's channels and of those beside it.
                let mut terms = [0.0; 3 * LANES];
                let mut gradient = s.splat(0.0);
                for beside in 0..3 {
                    if !(1..=lrn.blocks).contains(&(block + beside)) {
                        continue;
                    }
                    let block = block + beside - 1;
                    let place = lrn.place(block, pixel);
                    let base = lrn.base(s, x, block, pixel);
                    let scaled = s.mul(s.read(&dy[place..]), lrn.power(s, base));
                    if beside == 1 {
                        gradient = scaled;
                    }
                    s.write(&mut terms[beside * LANES..], s.div(s.mul(scaled, s.read(&x[place..])), base));
                }
                // The channels whose sums hold this one lie the other way round.
                let mut sum = s.splat(0.0);
                for shift in 0..lrn.size {
                    sum = s.add(sum, s.read(&terms[LANES - (lrn.size - 1) / 2 + shift..]));
                }
                let place = lrn.place(block, pixel);
                let gradient = s.fma(s.mul(factor, s.read(&x[place..])), sum, gradient);
                // SAFETY: a task alone writes its pixels.
                let dx = unsafe { dx.part(at + place..at + place + LANES) };
                let before = if accumulate { s.read(dx) } else { s.splat(0.0) };
                s.write(dx, s.add(before, gradient));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{from_blocked, to_blocked};
    use crate::reference::gradcheck::pattern;
    use crate::reference::local_response_norm::{self as reference, LrnProblem};

    #[test]
    fn agrees_with_the_reference_on_every_set() {
        let threads = Threads::new(2).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for (channels, pixels, size, beta) in
                [(96, 70, 5, 0.75), (20, 3, 4, 0.5), (40, 65, 33, 0.75), (3, 1, 1, 1.0)]
            {
                let problem = LrnProblem { batch: 2, channels, pixels, size, alpha: 0.5, beta, k: 2.0 };
                let dims = [2, channels, pixels];
                let [x, dy] = [1, 2].map(|tag| pattern(tag, 2 * channels * pixels));
                let (want_y, want_dx) = (reference::forward(&problem, &x), reference::backward(&problem, &x, &dy));
                let lrn = LocalResponseNorm::new(channels, pixels, size, [0.5, beta as f32, 2.0], isa);
                let len = lrn.len();
                let [x, dy] = [x, dy].map(|plain| {
                    let plain: Vec<f32> = plain.into_iter().map(|x| x as f32).collect();
                    let mut data = vec![f32::NAN; 2 * len];
                    to_blocked(&threads, dims, &plain, MapsMut::packed(&mut data, len));
                    data
                });
                let (x, dy) = (Maps::packed(&x, len), Maps::packed(&dy, len));
                let (mut y, mut dx) = (vec![f32::NAN; 2 * len], vec![f32::NAN; 2 * len]);
                lrn.forward(&threads, 2, x, MapsMut::packed(&mut y, len));
                lrn.backward(&threads, 2, x, dy, MapsMut::packed(&mut dx, len), false);
                let mut twice = dx.clone();
                lrn.backward(&threads, 2, x, dy, MapsMut::packed(&mut twice, len), true);
                assert!(dx.iter().zip(&twice).all(|(once, twice)| once + once == *twice));
                for (got, want) in [(y, want_y), (dx, want_dx)] {
                    let mut plain = vec![0.0; want.len()];
                    from_blocked(&threads, dims, Maps::packed(&got, len), &mut plain);
                    for (got, want) in plain.iter().zip(want) {
                        assert!((f64::from(*got) - want).abs() < 1e-5, "{} {problem:?}: {got} {want}", isa.name());
                    }
                    let total = |v: &[f32]| v.iter().map(|&x| f64::from(x.abs())).sum::<f64>();
                    assert!((total(&got) - total(&plain)).abs() < 1e-9, "lanes past the last channel hold 0");
                }
            }
        }
    }
}
