//! Dropout in place, for any layout whose padding is 0.
//!
//! Elements, or whole channels, are multiplied by 0 or `1 / (1 - p)`: `random::keep` decides by the element's index in plain
//! NCHW order, or the channel's. The mask is never stored: the gradient's call computes it again.

use crate::layout::{MapsMut, blocks};
use crate::random;
use crate::simd::LANES;
use crate::threads::{Parts, Threads};

fn factor(seed: u64, index: usize, p: f32) -> f32 {
    if random::keep(seed, index as u64, p) { 1.0 / (1.0 - p) } else { 0.0 }
}

/// Dropout of single elements of rows padded to whole blocks; the index is `n · features + i`.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn rows(threads: &Threads, [batch, features]: [usize; 2], seed: u64, p: f32, data: MapsMut<'_>) {
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
pub fn maps(threads: &Threads, shape: [usize; 3], seed: u64, p: f32, data: MapsMut<'_>) {
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
pub fn channels(threads: &Threads, shape: [usize; 3], seed: u64, p: f32, data: MapsMut<'_>) {
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
    use crate::layout::{Maps, from_blocked, to_blocked};
    use crate::reference::dropout as reference;
    use crate::reference::gradcheck::pattern;

    #[test]
    fn dropout_agrees_with_the_reference_in_every_layout() {
        let threads = Threads::new(2).unwrap();
        let (seed, p) = (5, 0.3);
        let [batch, count, pixels] = [3, 20, 7];
        let plain = pattern(1, batch * count * pixels).iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let keep = |i: u64| random::keep(seed, i, p);
        let through = |drop: &dyn Fn(MapsMut<'_>)| {
            let len = blocks(count) * LANES * pixels;
            let mut blocked = vec![0.0; batch * len];
            to_blocked(&threads, [batch, count, pixels], &plain, MapsMut::packed(&mut blocked, len));
            drop(MapsMut::packed(&mut blocked, len));
            let mut back = vec![0.0; plain.len()];
            from_blocked(&threads, [batch, count, pixels], Maps::packed(&blocked, len), &mut back);
            back
        };
        let maps = through(&|data| maps(&threads, [batch, count, pixels], seed, p, data));
        assert_eq!(maps, reference::elements(&plain, p, keep));
        let whole = through(&|data| channels(&threads, [batch, count, pixels], seed, p, data));
        assert_eq!(whole, reference::channels(&plain, pixels, p, keep));
        // A row of features is a map of one pixel.
        let features = count * pixels;
        let len = blocks(features) * LANES;
        let mut padded = vec![0.0; batch * len];
        to_blocked(&threads, [batch, features, 1], &plain, MapsMut::packed(&mut padded, len));
        rows(&threads, [batch, features], seed, p, MapsMut::packed(&mut padded, len));
        let mut want = vec![f32::NAN; padded.len()];
        let dropped = reference::elements(&plain, p, keep);
        to_blocked(&threads, [batch, features, 1], &dropped, MapsMut::packed(&mut want, len));
        assert_eq!(padded, want);
    }
}
