//! ReLU, tanh and dropout in place, for any layout whose padding is 0.
//!
//! Dropout multiplies with 0 or `1 / (1 - p)`: `random::keep` decides by the element's index in plain NCHW order, or the
//! channel's, so that a mask is never stored: the gradient's call computes it again.

use crate::layout::{Maps, MapsMut, blocks, each_piece};
use crate::random;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// A function of single elements that follows a product, a sum or a norm.
///
/// A kernel takes it as data: what is computed with it says [`Activation`] alone, and nobody else names its cases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, low), high)`; 0 and 6 are ReLU6 (Howard et al. 2017).
    Clip {
        /// The least value.
        low: f32,
        /// The largest value.
        high: f32,
    },
    /// `x` where it is above 0, else `slope · x` (Maas et al. 2013).
    LeakyRelu {
        /// Factor of negative numbers, above 0.
        slope: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `min(max(slope · x + offset, 0), 1)`; PyTorch's slope is 1/6 and its offset 1/2.
    HardSigmoid {
        /// Factor of `x`, above 0.
        slope: f32,
        /// The value at 0.
        offset: f32,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// `x · sigmoid(x)` (Elfwing et al. 2018; Ramachandran et al. 2017 as swish).
    Silu,
    /// `x · min(max(x + 3, 0), 6) / 6` (Howard et al. 2019, section 5.2).
    HardSwish,
    /// `x · Φ(x)` with the normal distribution's Φ, by the error function (Hendrycks and Gimpel 2016).
    Gelu,
}

/// What the gradient of an activation is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientFrom {
    /// Nothing: it is the output's gradient.
    Nothing,
    /// The output alone, so that the input need not be kept.
    Output,
    /// The input.
    Input,
}

impl Activation {
    /// PyTorch's hard sigmoid.
    pub const HARD_SIGMOID: Activation = Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 };
    /// ReLU6.
    pub const RELU6: Activation = Activation::Clip { low: 0.0, high: 6.0 };

    /// What the gradient is computed from.
    pub fn gradient_from(self) -> GradientFrom {
        match self {
            Activation::Identity => GradientFrom::Nothing,
            Activation::Relu | Activation::Clip { .. } | Activation::LeakyRelu { .. } => GradientFrom::Output,
            Activation::Sigmoid | Activation::HardSigmoid { .. } | Activation::Tanh => GradientFrom::Output,
            Activation::Silu | Activation::HardSwish | Activation::Gelu => GradientFrom::Input,
        }
    }
}

/// `y = max(y, 0)` in `batch` pictures of `len` floats, a multiple of 16; a NaN stays one.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn relu_forward(isa: Isa, threads: &Threads, shape: [usize; 2], y: MapsMut<'_>) {
    each_piece(threads, shape, y, &|_, _, y| isa.run(Relu { y }));
}

/// `dy = 0` where the ReLU's output `y` is not positive, in `batch` pictures of `len` floats, a multiple of 16.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn relu_backward(isa: Isa, threads: &Threads, shape: [usize; 2], y: Maps<'_>, dy: MapsMut<'_>) {
    each_piece(threads, shape, dy, &|n, range, dy| {
        isa.run(ReluBackward { y: &y.picture(n, range.end)[range], dy });
    });
}

/// `y = tanh(y)` in `batch` pictures of `len` floats.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn tanh_forward(threads: &Threads, shape: [usize; 2], y: MapsMut<'_>) {
    each_piece(threads, shape, y, &|_, _, y| y.iter_mut().for_each(|y| *y = y.tanh()));
}

/// `dy = dy · (1 - y²)` with tanh's output `y`, in `batch` pictures of `len` floats.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn tanh_backward(threads: &Threads, shape: [usize; 2], y: Maps<'_>, dy: MapsMut<'_>) {
    each_piece(threads, shape, dy, &|n, range, dy| {
        for (y, dy) in y.picture(n, range.end)[range].iter().zip(dy) {
            *dy *= 1.0 - y * y;
        }
    });
}

struct Relu<'a> {
    y: &'a mut [f32],
}

impl Kernel for Relu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for y in self.y.chunks_exact_mut(LANES) {
            s.write(y, s.max(s.splat(0.0), s.read(y)));
        }
    }
}

struct ReluBackward<'a> {
    y: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for ReluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(0.0);
        for (y, dy) in self.y.chunks_exact(LANES).zip(self.dy.chunks_exact_mut(LANES)) {
            s.write(dy, s.select(s.gt(s.read(y), zero), s.read(dy), zero));
        }
    }
}

fn factor(seed: u64, index: usize, p: f32) -> f32 {
    if random::keep(seed, index as u64, p) { 1.0 / (1.0 - p) } else { 0.0 }
}

/// Dropout of single elements of rows padded to whole blocks; the index is `n · features + i`.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn dropout(threads: &Threads, [batch, features]: [usize; 2], seed: u64, p: f32, data: MapsMut<'_>) {
    assert!(data.as_maps().hold(batch, features));
    let stride = data.stride;
    let parts = Parts::new(data.data);
    threads.run(batch, &|n, _| {
        // SAFETY: each task has a row of its own.
        let row = unsafe { parts.part(n * stride..n * stride + features) };
        for (i, x) in row[..features].iter_mut().enumerate() {
            *x *= factor(seed, n * features + i, p);
        }
    });
}

/// Dropout of single elements of blocked maps; the index is that of the element in NCHW.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn dropout_maps(threads: &Threads, shape: [usize; 3], seed: u64, p: f32, data: MapsMut<'_>) {
    let [_, channels, pixels] = shape;
    each_block(threads, shape, data, &|n, first, lanes_of_pixels| {
        let present = (channels - first).min(LANES);
        for (pixel, lanes) in lanes_of_pixels.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (lane, x) in lanes[..present].iter_mut().enumerate() {
                *x *= factor(seed, (n * channels + first + lane) * pixels + pixel, p);
            }
        }
    });
}

/// Dropout of whole channels of blocked maps; the index is `n · channels + c`.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn dropout_channels(threads: &Threads, shape: [usize; 3], seed: u64, p: f32, data: MapsMut<'_>) {
    let [_, channels, _] = shape;
    each_block(threads, shape, data, &|n, first, lanes_of_pixels| {
        let factors: [f32; LANES] = std::array::from_fn(|lane| factor(seed, n * channels + first + lane, p));
        for lanes in lanes_of_pixels.as_chunks_mut::<LANES>().0 {
            for (x, factor) in lanes.iter_mut().zip(factors) {
                *x *= factor;
            }
        }
    });
}

/// Calls a task with each picture's number, each block's first channel, and the block's pixels.
fn each_block(
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    data: MapsMut<'_>,
    task: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
) {
    let (blocks, len) = (blocks(channels), pixels * LANES);
    assert!(data.as_maps().hold(batch, blocks * len));
    let stride = data.stride;
    let parts = Parts::new(data.data);
    threads.run(batch * blocks, &|i, _| {
        let (n, block) = (i / blocks, i % blocks);
        // SAFETY: each task has a block of its own.
        let part = unsafe { parts.part(n * stride + block * len..n * stride + (block + 1) * len) };
        task(n, block * LANES, part);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{from_blocked, to_blocked};
    use crate::reference::dropout as reference;
    use crate::reference::gradcheck::pattern;

    fn numbers(len: usize) -> Vec<f32> {
        pattern(1, len).iter().map(|&x| x as f32).collect()
    }

    #[test]
    fn relu_and_its_gradient() {
        let threads = Threads::new(2).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            // Two pictures, each of more than a piece.
            let (x, len) = (numbers(2 * (16 * 1024 + 32)), 16 * 1024 + 32);
            let (mut y, mut dy) = (x.clone(), x.iter().rev().copied().collect::<Vec<f32>>());
            relu_forward(isa, &threads, [2, len], MapsMut::packed(&mut y, len));
            assert!(x.iter().zip(&y).all(|(x, y)| *y == x.max(0.0)));
            let before = dy.clone();
            relu_backward(isa, &threads, [2, len], Maps::packed(&y, len), MapsMut::packed(&mut dy, len));
            assert!((0..x.len()).all(|i| dy[i] == if x[i] > 0.0 { before[i] } else { 0.0 }));
        }
    }

    #[test]
    fn tanh_and_its_gradient_leave_what_lies_between_pictures() {
        let threads = Threads::new(2).unwrap();
        let x = numbers(3 * 20);
        let (mut y, mut dy) = (x.clone(), vec![2.0; x.len()]);
        tanh_forward(&threads, [3, 16], MapsMut::packed(&mut y, 20));
        tanh_backward(&threads, [3, 16], Maps::packed(&y, 20), MapsMut::packed(&mut dy, 20));
        for (i, x) in x.into_iter().enumerate() {
            let (want_y, want_dy) = if i % 20 < 16 { (x.tanh(), 2.0 * (1.0 - x.tanh() * x.tanh())) } else { (x, 2.0) };
            assert_eq!((y[i], dy[i]), (want_y, want_dy));
        }
    }

    #[test]
    fn dropout_agrees_with_the_reference_in_every_layout() {
        let threads = Threads::new(2).unwrap();
        let (seed, p) = (5, 0.3);
        let [batch, channels, pixels] = [3, 20, 7];
        let plain = numbers(batch * channels * pixels);
        let keep = |i: u64| random::keep(seed, i, p);
        let through = |drop: &dyn Fn(MapsMut<'_>)| {
            let len = blocks(channels) * LANES * pixels;
            let mut blocked = vec![0.0; batch * len];
            to_blocked(&threads, [batch, channels, pixels], &plain, MapsMut::packed(&mut blocked, len));
            drop(MapsMut::packed(&mut blocked, len));
            let mut back = vec![0.0; plain.len()];
            from_blocked(&threads, [batch, channels, pixels], Maps::packed(&blocked, len), &mut back);
            back
        };
        let maps = through(&|data| dropout_maps(&threads, [batch, channels, pixels], seed, p, data));
        assert_eq!(maps, reference::elements(&plain, p, keep));
        let whole = through(&|data| dropout_channels(&threads, [batch, channels, pixels], seed, p, data));
        assert_eq!(whole, reference::channels(&plain, pixels, p, keep));
        // A row of features is a map of one pixel.
        let features = channels * pixels;
        let len = blocks(features) * LANES;
        let mut rows = vec![0.0; batch * len];
        to_blocked(&threads, [batch, features, 1], &plain, MapsMut::packed(&mut rows, len));
        dropout(&threads, [batch, features], seed, p, MapsMut::packed(&mut rows, len));
        let mut want = vec![f32::NAN; rows.len()];
        let dropped = reference::elements(&plain, p, keep);
        to_blocked(&threads, [batch, features, 1], &dropped, MapsMut::packed(&mut want, len));
        assert_eq!(rows, want);
    }
}
