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
    block(threads, [batch, channels, pixels], channels * pixels, plain, blocked);
}

/// Blocked from rows: as [`to_blocked`], with each plain picture padded to whole blocks of 16 floats.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn to_blocked_rows(threads: &Threads, [batch, channels, pixels]: [usize; 3], rows: &[f32], blocked: &mut [f32]) {
    block(threads, [batch, channels, pixels], (channels * pixels).next_multiple_of(LANES), rows, blocked);
}

/// Plain from blocked: the reverse of [`to_blocked`].
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn from_blocked(threads: &Threads, [batch, channels, pixels]: [usize; 3], blocked: &[f32], plain: &mut [f32]) {
    unblock(threads, [batch, channels, pixels], channels * pixels, blocked, plain);
}

/// Rows from blocked: the reverse of [`to_blocked_rows`]; a row's padding becomes 0.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn from_blocked_rows(threads: &Threads, [batch, channels, pixels]: [usize; 3], blocked: &[f32], rows: &mut [f32]) {
    let len = (channels * pixels).next_multiple_of(LANES);
    unblock(threads, [batch, channels, pixels], len, blocked, rows);
    for row in rows[..batch * len].chunks_exact_mut(len) {
        row[channels * pixels..].fill(0.0);
    }
}

/// `picture` is the number of floats from one plain picture to the next.
fn block(threads: &Threads, [batch, channels, pixels]: [usize; 3], picture: usize, plain: &[f32], blocked: &mut [f32]) {
    let blocks = blocks(channels);
    let blocked = Parts::new(blocked);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        // SAFETY: each task has a block of its own.
        let target = unsafe { blocked.part(task * pixels * LANES..(task + 1) * pixels * LANES) };
        let present = (channels - block * LANES).min(LANES);
        let planes = &plain[n * picture + block * LANES * pixels..][..present * pixels];
        for (p, lanes) in target.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (lane, x) in lanes.iter_mut().enumerate() {
                *x = if lane < present { planes[lane * pixels + p] } else { 0.0 };
            }
        }
    });
}

fn unblock(
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    picture: usize,
    blocked: &[f32],
    plain: &mut [f32],
) {
    let blocks = blocks(channels);
    let plain = Parts::new(plain);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let source = &blocked[task * pixels * LANES..][..pixels * LANES];
        let present = (channels - block * LANES).min(LANES);
        let at = n * picture + block * LANES * pixels;
        // SAFETY: each task has the planes of one block of one picture.
        let planes = unsafe { plain.part(at..at + present * pixels) };
        for (lane, plane) in planes.chunks_exact_mut(pixels).enumerate() {
            for (x, lanes) in plane.iter_mut().zip(source.as_chunks::<LANES>().0) {
                *x = lanes[lane];
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let threads = Threads::new(2).unwrap();
        for [batch, channels, pixels] in [[2, 3, 5], [1, 16, 4], [3, 40, 7]] {
            let plain: Vec<f32> = (0..batch * channels * pixels).map(|i| i as f32).collect();
            let mut blocked = vec![f32::NAN; batch * blocks(channels) * LANES * pixels];
            to_blocked(&threads, [batch, channels, pixels], &plain, &mut blocked);
            assert_eq!(blocked[LANES + 1], plain[pixels + 1]);
            let mut back = vec![f32::NAN; plain.len()];
            from_blocked(&threads, [batch, channels, pixels], &blocked, &mut back);
            assert_eq!(back, plain);

            let len = (channels * pixels).next_multiple_of(LANES);
            let mut rows = vec![f32::NAN; batch * len];
            from_blocked_rows(&threads, [batch, channels, pixels], &blocked, &mut rows);
            for (row, picture) in rows.chunks(len).zip(plain.chunks(channels * pixels)) {
                assert_eq!(&row[..picture.len()], picture);
                assert!(row[picture.len()..].iter().all(|&x| x == 0.0));
            }
            let mut again = vec![f32::NAN; blocked.len()];
            to_blocked_rows(&threads, [batch, channels, pixels], &rows, &mut again);
            assert_eq!(again, blocked);
        }
    }
}
