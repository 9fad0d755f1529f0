//! Between plain NCHW and the engine's blocked layout `[n][c/16][h][w][16]`.
//!
//! Lanes past the last channel are written as 0 on the way in and not read on the way out.

use crate::precision::Precision;
use crate::simd::LANES;
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// Blocks of 16 that hold so many channels.
pub const fn blocks(channels: usize) -> usize {
    channels.div_ceil(LANES)
}

/// Pictures in the blocked layout (or rows of features), the first at the start of `data` and each `stride` floats after the
/// one before: a whole tensor, or a range of whole blocks of channels of a larger one. Where they are stored in bf16, two
/// neighbouring channels take a float's place; only convolutions' forward direction, norm chains and poolings read or write
/// that.
#[derive(Clone, Copy)]
pub struct Maps<'a> {
    /// From the first picture's first float to at least the last one's last.
    pub data: &'a [f32],
    /// Floats from one picture to the next.
    pub stride: usize,
    /// How numbers are stored.
    pub stored: Precision,
}

impl<'a> Maps<'a> {
    /// Pictures that begin `len` floats apart.
    pub fn packed(data: &'a [f32], len: usize) -> Maps<'a> {
        Maps { data, stride: len, stored: Precision::F32 }
    }

    /// A picture's `len` numbers, as floats or as words of two.
    ///
    /// # Panics
    /// When the data end before.
    pub fn picture(&self, n: usize, len: usize) -> &'a [f32] {
        self.part(n, 0, len)
    }

    /// `len` numbers of a picture from a whole block on.
    pub(crate) fn part(&self, n: usize, from: usize, len: usize) -> &'a [f32] {
        &self.data[Placing { stride: self.stride, stored: self.stored }.range(n, from, len)]
    }

    /// Whether there are `batch` pictures of `len` floats.
    pub fn hold(&self, batch: usize, len: usize) -> bool {
        self.stored == Precision::F32 && self.hold_stored(batch, len)
    }

    /// Whether there are `batch` pictures of `len` numbers, however they are stored.
    pub(crate) fn hold_stored(&self, batch: usize, len: usize) -> bool {
        hold(self.data.len(), self.stride, batch, len / self.stored.per_word())
    }
}

/// As [`Maps`], to write to.
pub struct MapsMut<'a> {
    /// From the first picture's first float to at least the last one's last.
    pub data: &'a mut [f32],
    /// Floats from one picture to the next.
    pub stride: usize,
    /// How numbers are stored.
    pub stored: Precision,
}

impl<'a> MapsMut<'a> {
    /// Pictures that begin `len` floats apart.
    pub fn packed(data: &'a mut [f32], len: usize) -> MapsMut<'a> {
        MapsMut { data, stride: len, stored: Precision::F32 }
    }

    /// Where the pictures lie in the data.
    pub(crate) fn placing(&self) -> Placing {
        Placing { stride: self.stride, stored: self.stored }
    }

    /// The same pictures, to read.
    pub fn as_maps(&self) -> Maps<'_> {
        Maps { data: self.data, stride: self.stride, stored: self.stored }
    }
}

/// Where pictures lie in a buffer, for tasks that share it.
#[derive(Clone, Copy)]
pub(crate) struct Placing {
    /// Floats from one picture to the next.
    pub(crate) stride: usize,
    /// How numbers are stored.
    pub(crate) stored: Precision,
}

impl Placing {
    /// The place of `len` numbers of a picture, from a whole block on.
    pub(crate) fn range(self, n: usize, from: usize, len: usize) -> Range<usize> {
        let [from, len] = [from, len].map(|numbers| numbers / self.stored.per_word());
        n * self.stride + from..n * self.stride + from + len
    }
}

/// Pictures must not overlap, and must all be there.
fn hold(data: usize, stride: usize, batch: usize, len: usize) -> bool {
    batch == 0 || ((stride >= len || batch == 1) && data >= (batch - 1) * stride + len)
}

/// Work on a piece of a picture: the picture's number, the piece's range within it, and the piece of the output.
type PieceTask<'a> = dyn Fn(usize, Range<usize>, &mut [f32]) + Sync + 'a;

/// Calls a task for each piece of `len` floats of each of `batch` pictures, with the picture's number, the piece's range
/// within the picture, and the piece of `out`.
///
/// # Panics
/// When `out` does not hold the pictures.
pub(crate) fn each_piece(threads: &Threads, [batch, len]: [usize; 2], out: MapsMut<'_>, task: &PieceTask<'_>) {
    /// Floats that one task works on.
    const PIECE: usize = 16 * 1024;
    assert!(out.as_maps().hold(batch, len));
    let (pieces, stride) = (len.div_ceil(PIECE), out.stride);
    let parts = Parts::new(out.data);
    threads.run(batch * pieces, &|i, _| {
        let (n, piece) = (i / pieces, i % pieces);
        let range = piece * PIECE..((piece + 1) * PIECE).min(len);
        // SAFETY: pictures do not overlap, nor do pieces of a picture.
        let part = unsafe { parts.part(n * stride + range.start..n * stride + range.end) };
        task(n, range, part);
    });
}

/// Blocked from plain: `batch` pictures of `channels` planes of `pixels`.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn to_blocked(threads: &Threads, [batch, channels, pixels]: [usize; 3], plain: &[f32], blocked: MapsMut<'_>) {
    block(threads, [batch, channels, pixels], channels * pixels, plain, blocked);
}

/// Blocked from rows: as [`to_blocked`], with each plain picture padded to whole blocks of 16 floats.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn to_blocked_rows(threads: &Threads, [batch, channels, pixels]: [usize; 3], rows: &[f32], blocked: MapsMut<'_>) {
    block(threads, [batch, channels, pixels], (channels * pixels).next_multiple_of(LANES), rows, blocked);
}

/// Plain from blocked: the reverse of [`to_blocked`].
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn from_blocked(threads: &Threads, [batch, channels, pixels]: [usize; 3], blocked: Maps<'_>, plain: &mut [f32]) {
    unblock(threads, [batch, channels, pixels], channels * pixels, blocked, plain);
}

/// Rows from blocked: the reverse of [`to_blocked_rows`]; a row's padding becomes 0.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn from_blocked_rows(
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    blocked: Maps<'_>,
    rows: &mut [f32],
) {
    let len = (channels * pixels).next_multiple_of(LANES);
    unblock(threads, [batch, channels, pixels], len, blocked, rows);
    for row in rows[..batch * len].chunks_exact_mut(len) {
        row[channels * pixels..].fill(0.0);
    }
}

/// `picture` is the number of floats from one plain picture to the next.
fn block(
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    picture: usize,
    plain: &[f32],
    blocked: MapsMut<'_>,
) {
    let blocks = blocks(channels);
    let stride = blocked.stride;
    assert!(blocked.as_maps().hold(batch, blocks * pixels * LANES));
    let blocked = Parts::new(blocked.data);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let at = n * stride + block * pixels * LANES;
        // SAFETY: each task has a block of its own.
        let target = unsafe { blocked.part(at..at + pixels * LANES) };
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
    blocked: Maps<'_>,
    plain: &mut [f32],
) {
    let blocks = blocks(channels);
    let plain = Parts::new(plain);
    threads.run(batch * blocks, &|task, _| {
        let (n, block) = (task / blocks, task % blocks);
        let source = &blocked.data[n * blocked.stride + block * pixels * LANES..][..pixels * LANES];
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

/// What lies in the lanes past the last channel of packed maps.
#[cfg(test)]
pub(crate) fn padding(maps: &[f32], channels: usize, pixels: usize) -> impl Iterator<Item = f32> {
    let (block, count) = (pixels * LANES, blocks(channels));
    let channel = move |i: usize| i / block % count * LANES + i % LANES;
    maps.iter().enumerate().filter(move |&(i, _)| channel(i) >= channels).map(|(_, &x)| x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let threads = Threads::new(2).unwrap();
        for [batch, channels, pixels] in [[2, 3, 5], [1, 16, 4], [3, 40, 7]] {
            let plain: Vec<f32> = (0..batch * channels * pixels).map(|i| i as f32).collect();
            let whole = blocks(channels) * LANES * pixels;
            let mut blocked = vec![f32::NAN; batch * whole];
            to_blocked(&threads, [batch, channels, pixels], &plain, MapsMut::packed(&mut blocked, whole));
            assert_eq!(blocked[LANES + 1], plain[pixels + 1]);
            let mut back = vec![f32::NAN; plain.len()];
            from_blocked(&threads, [batch, channels, pixels], Maps::packed(&blocked, whole), &mut back);
            assert_eq!(back, plain);

            let len = (channels * pixels).next_multiple_of(LANES);
            let mut rows = vec![f32::NAN; batch * len];
            from_blocked_rows(&threads, [batch, channels, pixels], Maps::packed(&blocked, whole), &mut rows);
            for (row, picture) in rows.chunks(len).zip(plain.chunks(channels * pixels)) {
                assert_eq!(&row[..picture.len()], picture);
                assert!(row[picture.len()..].iter().all(|&x| x == 0.0));
            }
            let mut again = vec![f32::NAN; blocked.len()];
            to_blocked_rows(&threads, [batch, channels, pixels], &rows, MapsMut::packed(&mut again, whole));
            assert_eq!(again, blocked);
        }
    }
}
