//! Between plain NCHW and the engine's blocked layout `[n][c/16][h][w][16]`.
//!
//! Lanes past the last channel are written as 0 on the way in and not read on the way out.

use crate::simd::LANES;
use crate::threads::{Parts, Threads};

/// Blocks of 16 that hold so many channels.
pub const fn blocks(channels: usize) -> usize {
    channels.div_ceil(LANES)
}

/// Blocked from plain: `batch` pictures of `channels` planes of `pixels`.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn to_blocked(threads: &Threads, [batch, channels, pixels]: [usize; 3], plain: &[f32], blocked: &mut [f32]) {
    let blocks = blocks(channels);
    let blocked = Parts::new(blocked);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        // SAFETY: each task has a block of its own.
        let target = unsafe { blocked.part(task * pixels * LANES..(task + 1) * pixels * LANES) };
        let present = (channels - block * LANES).min(LANES);
        let planes = &plain[(n * channels + block * LANES) * pixels..][..present * pixels];
        for (p, lanes) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (lane, x) in lanes.iter_mut().enumerate() {
                *x = if lane < present { planes[lane * pixels + p] } else { 0.0 };
            }
        }
    });
}

/// Plain from blocked: the reverse of [`to_blocked`].
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn from_blocked(threads: &Threads, [batch, channels, pixels]: [usize; 3], blocked: &[f32], plain: &mut [f32]) {
    let blocks = blocks(channels);
    let plain = Parts::new(plain);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let source = &blocked[task * pixels * LANES..][..pixels * LANES];
        let present = (channels - block * LANES).min(LANES);
        let at = (n * channels + block * LANES) * pixels;
        // SAFETY: each task has the planes of one block of one picture.
        let planes = unsafe { plain.part(at..at + present * pixels) };
        for (lane, plane) in planes.chunks_exact_mut(pixels).enumerate() {
            for (x, lanes) in plane.iter_mut().zip(source.as_chunks::<LANES>().0) {
                *x = lanes[lane];
            }
        }
    });
}
