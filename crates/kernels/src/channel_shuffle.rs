//! Channel shuffle (Zhang et al. 2018, section 3.1) of blocked maps: the channels, as a matrix of `groups` rows, are
//! transposed, `y[n, j · groups + g] = x[n, g · C / groups + j]`.
//!
//! The gradient is the shuffle of `C / groups` groups, which is the inverse. A task is a block of 16 channels of one
//! picture; it collects each of its lanes from a lane of another block.

use crate::layout::{Maps, MapsMut, blocks};
use crate::simd::LANES;
use crate::threads::{Parts, Threads};

/// Shuffles maps `[batch, channels, pixels]`.
///
/// # Panics
/// When a slice is shorter than its layout says, or when the groups do not divide the channels.
pub fn forward(threads: &Threads, shape: [usize; 3], groups: usize, x: Maps<'_>, y: MapsMut<'_>) {
    shuffle(threads, shape, groups, x, y, false);
}

/// `dx`: the gradient of the input from that of the output, added to what `dx` holds if asked.
///
/// # Panics
/// As [`forward`].
pub fn backward(threads: &Threads, shape: [usize; 3], groups: usize, dy: Maps<'_>, dx: MapsMut<'_>, accumulate: bool) {
    assert!(groups > 0 && shape[1].is_multiple_of(groups), "{groups} groups do not divide {} channels", shape[1]);
    shuffle(threads, shape, shape[1] / groups, dy, dx, accumulate);
}

fn shuffle(
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    groups: usize,
    x: Maps<'_>,
    y: MapsMut<'_>,
    accumulate: bool,
) {
    assert!(groups > 0 && channels.is_multiple_of(groups), "{groups} groups do not divide {channels} channels");
    let (blocks, plane) = (blocks(channels), pixels * LANES);
    assert!(y.as_maps().hold(batch, blocks * plane));
    let (stride, y) = (y.stride, Parts::new(y.data));
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let at = n * stride + block * plane;
        // SAFETY: each task has a block of its own.
        let y = unsafe { y.part(at..at + plane) };
        let x = x.picture(n, blocks * plane);
        // A lane past the last channel is 0 wherever it is read.
        let sources = std::array::from_fn(|lane| {
            let to = block * LANES + lane;
            let from = if to < channels { to % groups * (channels / groups) + to / groups } else { to };
            &x[from / LANES * plane..][..plane][from % LANES..]
        });
        match accumulate {
            true => collect::<true>(sources, y),
            false => collect::<false>(sources, y),
        }
    });
}

/// Each lane of `y` from the first of every 16 floats of a source, which ends with its block.
fn collect<const ADD: bool>(sources: [&[f32]; LANES], y: &mut [f32]) {
    let last = y.len() / LANES * LANES - LANES;
    assert!(sources.iter().all(|source| last < source.len()));
    for (pixel, y) in y.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for lane in 0..LANES {
            // SAFETY: this is at most `last`, which each source has, as was checked.
            let x = unsafe { *sources[lane].get_unchecked(pixel * LANES) };
            y[lane] = if ADD { y[lane] + x } else { x };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::gradcheck::pattern;
    use crate::test_maps::TestMaps;

    #[test]
    fn channels_go_where_the_definition_says_and_gradients_back() {
        let threads = Threads::new(2).unwrap();
        let cases =
            [([1, 1, 6], 1), ([3, 6, 5], 2), ([1, 16, 9], 4), ([3, 17, 2], 17), ([3, 40, 7], 2), ([2, 116, 6], 2)];
        for (shape, groups) in cases.into_iter().chain([([3, 240, 1], 3), ([1, 40, 6], 8), ([1, 48, 1], 1)]) {
            let [batch, channels, pixels] = shape;
            let plain = pattern(1, batch * channels * pixels);
            let mut want = vec![0.0; plain.len()];
            for (n, g, j) in
                (0..batch).flat_map(|n| (0..groups).flat_map(move |g| (0..channels / groups).map(move |j| (n, g, j))))
            {
                let [from, to] = [g * (channels / groups) + j, j * groups + g];
                let [from, to] = [from, to].map(|c| (n * channels + c) * pixels);
                want[to..to + pixels].copy_from_slice(&plain[from..from + pixels]);
            }
            let x = TestMaps::of(shape, &plain, 16);
            let (mut y, mut back) = (TestMaps::empty(shape, 32), TestMaps::empty(shape, 0));
            forward(&threads, shape, groups, x.maps(), y.maps_mut());
            assert_eq!(y.plain(), want, "{shape:?} {groups}");
            backward(&threads, shape, groups, y.maps(), back.maps_mut(), false);
            assert_eq!(back.plain(), plain, "{shape:?} {groups}");
            backward(&threads, shape, groups, y.maps(), back.maps_mut(), true);
            assert!(back.plain().iter().zip(&plain).all(|(twice, x)| *twice == 2.0 * x), "{shape:?} {groups}");
        }
    }
}
