//! ReLU and dropout in place, for any layout whose padding is 0.
//!
//! Dropout multiplies with 0 or `1 / (1 - p)`: `random::keep` decides by the element's index in plain NCHW order, or the
//! channel's, so that a mask is never stored: the gradient's call computes it again.

use crate::layout::blocks;
use crate::random;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// Floats that one task works on.
const BLOCK: usize = 16 * 1024;

/// `y = max(y, 0)`; a NaN stays one. The length is a multiple of 16.
pub fn relu_forward(isa: Isa, threads: &Threads, y: &mut [f32]) {
    let (len, parts) = (y.len(), Parts::new(y));
    threads.run(len.div_ceil(BLOCK), &|i, _| {
        // SAFETY: blocks do not overlap.
        let y = unsafe { parts.part(i * BLOCK..((i + 1) * BLOCK).min(len)) };
        isa.run(Relu { y });
    });
}

/// `dy = 0` where the ReLU's output `y` is not positive. Both have one length, a multiple of 16.
///
/// # Panics
/// When the lengths differ.
pub fn relu_backward(isa: Isa, threads: &Threads, y: &[f32], dy: &mut [f32]) {
    assert_eq!(y.len(), dy.len());
    let (len, parts) = (dy.len(), Parts::new(dy));
    threads.run(len.div_ceil(BLOCK), &|i, _| {
        let range = i * BLOCK..((i + 1) * BLOCK).min(len);
        // SAFETY: blocks do not overlap.
        let dy = unsafe { parts.part(range.clone()) };
        isa.run(ReluBackward { y: &y[range], dy });
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
pub fn dropout(threads: &Threads, [batch, features]: [usize; 2], seed: u64, p: f32, data: &mut [f32]) {
    let len = blocks(features) * LANES;
    let parts = Parts::new(&mut data[..batch * len]);
    threads.run(batch, &|n, _| {
        // SAFETY: each task has a row of its own.
        let row = unsafe { parts.part(n * len..(n + 1) * len) };
        for (i, x) in row[..features].iter_mut().enumerate() {
            *x *= factor(seed, n * features + i, p);
        }
    });
}

/// Dropout of single elements of blocked maps; the index is that of the element in NCHW.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn dropout_maps(threads: &Threads, shape: [usize; 3], seed: u64, p: f32, data: &mut [f32]) {
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
pub fn dropout_channels(threads: &Threads, shape: [usize; 3], seed: u64, p: f32, data: &mut [f32]) {
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
    data: &mut [f32],
    task: &(dyn Fn(usize, usize, &mut [f32]) + Sync),
) {
    let (blocks, len) = (blocks(channels), pixels * LANES);
    let parts = Parts::new(&mut data[..batch * blocks * len]);
    threads.run(batch * blocks, &|i, _| {
        // SAFETY: each task has a block of its own.
        let block = unsafe { parts.part(i * len..(i + 1) * len) };
        task(i / blocks, i % blocks * LANES, block);
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
            let x = numbers(BLOCK + 32);
            let (mut y, mut dy) = (x.clone(), x.iter().rev().copied().collect::<Vec<f32>>());
            relu_forward(isa, &threads, &mut y);
            assert!(x.iter().zip(&y).all(|(x, y)| *y == x.max(0.0)));
            let before = dy.clone();
            relu_backward(isa, &threads, &y, &mut dy);
            assert!((0..x.len()).all(|i| dy[i] == if x[i] > 0.0 { before[i] } else { 0.0 }));
        }
    }

    #[test]
    fn dropout_agrees_with_the_reference_in_every_layout() {
        let threads = Threads::new(2).unwrap();
        let (seed, p) = (5, 0.3);
        let [batch, channels, pixels] = [3, 20, 7];
        let plain = numbers(batch * channels * pixels);
        let keep = |i: u64| random::keep(seed, i, p);
        let through = |drop: &dyn Fn(&mut [f32])| {
            let mut blocked = vec![0.0; batch * blocks(channels) * LANES * pixels];
            to_blocked(&threads, [batch, channels, pixels], &plain, &mut blocked);
            drop(&mut blocked);
            let mut back = vec![0.0; plain.len()];
            from_blocked(&threads, [batch, channels, pixels], &blocked, &mut back);
            back
        };
        let maps = through(&|data| dropout_maps(&threads, [batch, channels, pixels], seed, p, data));
        assert_eq!(maps, reference::elements(&plain, p, keep));
        let whole = through(&|data| dropout_channels(&threads, [batch, channels, pixels], seed, p, data));
        assert_eq!(whole, reference::channels(&plain, pixels, p, keep));
        // A row of features is a map of one pixel.
        let features = channels * pixels;
        let mut rows = vec![0.0; batch * blocks(features) * LANES];
        to_blocked(&threads, [batch, features, 1], &plain, &mut rows);
        dropout(&threads, [batch, features], seed, p, &mut rows);
        let mut want = vec![f32::NAN; rows.len()];
        to_blocked(&threads, [batch, features, 1], &reference::elements(&plain, p, keep), &mut want);
        assert_eq!(rows, want);
    }
}
