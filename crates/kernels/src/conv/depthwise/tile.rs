//! The register tile: `R` neighbouring outputs of a row, each the sum of its taps' products, a vector of 16 channels each.
//!
//! A tap's weights are loaded once for the `R` outputs, whose inputs are the other side of the multiply-adds in memory: `R + 1`
//! loads for `R` independent multiply-adds. A tap that leaves the row for some outputs reads zeros for them. Each output is
//! summed in one order, tap by tap, however a row falls into tiles.
//!
//! AVX-512 has tiles of 14, AVX2 of 6 (12 of its 16 registers); what is left of a row goes to smaller ones.

use crate::activation::Bounds;
use crate::simd::{LANES, Simd};

/// What accumulators start from.
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// 0.
    Zero,
    /// A number per channel, from here.
    Bias(*const f32),
    /// What the output holds.
    Output,
}

/// One row of outputs of a pair of phases.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// The input row of the first tap row, and floats from one tap row's to the next.
    pub(super) x: *const f32,
    pub(super) x_row: usize,
    /// Pixels of an input row.
    pub(super) width: usize,
    /// Rows of taps, and taps of each.
    pub(super) taps: [usize; 2],
    /// The pixel that the first output's first tap reads, and pixels from one tap's to the next.
    pub(super) shift: isize,
    pub(super) shift_step: usize,
    /// Pixels from one output's to the next.
    pub(super) stride: usize,
    /// The first tap's weights, and floats to the next row's and the next tap's.
    pub(super) weights: *const f32,
    pub(super) weights_steps: [isize; 2],
    pub(super) start: Start,
    /// Whether negative results become 0.
    pub(super) bounds: Bounds,
    /// The first output, floats from one to the next, and how many there are.
    pub(super) out: *mut f32,
    pub(super) out_step: usize,
    pub(super) outputs: usize,
}

/// What a tap reads of the padding.
#[repr(align(64))]
struct Zeros([f32; LANES]);
static ZEROS: Zeros = Zeros([0.0; LANES]);

/// Computes a row; `STRIDE` is its stride, or 0 for any.
///
/// # Safety
/// For each tap row, `width` vectors are readable from `x + i·x_row` on, and the weights of each tap; `outputs` vectors,
/// `out_step` floats apart, are readable and writable from `out` on, and nobody else uses them.
#[inline(always)]
pub(super) unsafe fn row<S: Simd, const STRIDE: usize>(s: S, row: &Row) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut q = 0;
        let known = if STRIDE > 0 && row.shift_step == 1 { row.taps[1] } else { 0 };
        if S::TILE_WIDTH > 1 {
            q = match known {
                2 => tiles_of::<S, STRIDE, 7, 2>(s, row, q),
                3 => tiles_of::<S, STRIDE, 7, 3>(s, row, q),
                5 => tiles_of::<S, STRIDE, 7, 5>(s, row, q),
                7 => tiles_of::<S, STRIDE, 7, 7>(s, row, q),
                _ => tiles::<S, STRIDE, 14>(s, row, q),
            };
            q = tiles::<S, STRIDE, 7>(s, row, q);
            q = tiles::<S, STRIDE, 4>(s, row, q);
        } else if S::tile_rows(1) > 2 {
            q = match known {
                2 => tiles_of::<S, STRIDE, 4, 2>(s, row, q),
                3 => tiles_of::<S, STRIDE, 4, 3>(s, row, q),
                5 if STRIDE == 1 => tiles_of::<S, STRIDE, 4, 5>(s, row, q),
                7 if STRIDE == 1 => tiles_of::<S, STRIDE, 4, 7>(s, row, q),
                _ => tiles::<S, STRIDE, 6>(s, row, q),
            };
            q = match known {
                2 => tiles_of::<S, STRIDE, 3, 2>(s, row, q),
                3 => tiles_of::<S, STRIDE, 3, 3>(s, row, q),
                5 if STRIDE == 1 => tiles_of::<S, STRIDE, 3, 5>(s, row, q),
                7 if STRIDE == 1 => tiles_of::<S, STRIDE, 3, 7>(s, row, q),
                _ => tiles::<S, STRIDE, 3>(s, row, q),
            };
        }
        q = tiles::<S, STRIDE, 2>(s, row, q);
        tiles::<S, STRIDE, 1>(s, row, q);
    }
}

/// Tiles of `R` outputs from output `q` on, as many as there are; gives the first output that is left.
///
/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn tiles<S: Simd, const STRIDE: usize, const R: usize>(s: S, row: &Row, mut q: usize) -> usize {
    while q + R <= row.outputs {
        // SAFETY: the caller's promise.
        unsafe { tile::<S, STRIDE, R>(s, row, q) };
        q += R;
    }
    q
}

/// The same for rows of `K` neighbouring taps.
///
/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn tiles_of<S: Simd, const STRIDE: usize, const R: usize, const K: usize>(
    s: S,
    row: &Row,
    mut q: usize,
) -> usize {
    // A row of 4a + 3b outputs is cut into tiles of 4 and of 3.
    let rest = if R == 4 { (4 - row.outputs % 4) % 4 * 3 } else { 0 };
    let end = if rest > row.outputs { row.outputs } else { row.outputs - rest };
    while q + R <= end {
        // SAFETY: the caller's promise.
        unsafe { known_tile::<S, STRIDE, R, K>(s, row, q) };
        q += R;
    }
    q
}

/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn tile<S: Simd, const STRIDE: usize, const R: usize>(s: S, row: &Row, q: usize) {
    let stride = if STRIDE == 0 { row.stride } else { STRIDE };
    let width = row.width as isize;
    // SAFETY: the caller's promise; pixels of the input are read only inside its rows.
    unsafe {
        let out = row.out.add(q * row.out_step);
        let mut acc = start::<S, R>(s, row, out);
        let first = (q * stride) as isize + row.shift;
        let (mut x, mut weights_row) = (row.x, row.weights);
        for _ in 0..row.taps[0] {
            let (mut column, mut weights) = (first, weights_row);
            for _ in 0..row.taps[1] {
                let w = s.load(weights);
                let pixels = x.wrapping_offset(column * LANES as isize);
                if column >= 0 && column + (((R - 1) * stride) as isize) < width {
                    for r in 0..R {
                        acc[r] = s.fma(s.load(pixels.add(r * stride * LANES)), w, acc[r]);
                    }
                } else {
                    for r in 0..R {
                        let inside = ((column + (r * stride) as isize) as usize) < row.width;
                        let pixel = pixels.wrapping_add(r * stride * LANES);
                        let pixel = if inside { pixel } else { ZEROS.0.as_ptr() };
                        acc[r] = s.fma(s.load(pixel), w, acc[r]);
                    }
                }
                column += row.shift_step as isize;
                weights = weights.wrapping_offset(row.weights_steps[1]);
            }
            x = x.wrapping_add(row.x_row);
            weights_row = weights_row.wrapping_offset(row.weights_steps[0]);
        }
        finish(s, row, out, acc);
    }
}

/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn start<S: Simd, const R: usize>(s: S, row: &Row, out: *const f32) -> [S::V; R] {
    let mut acc = [s.splat(0.0); R];
    // SAFETY: the caller's promise.
    unsafe {
        match row.start {
            Start::Zero => {}
            Start::Bias(bias) => acc = [s.load(bias); R],
            Start::Output => {
                for r in 0..R {
                    acc[r] = s.load(out.add(r * row.out_step));
                }
            }
        }
    }
    acc
}

/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn finish<S: Simd, const R: usize>(s: S, row: &Row, out: *mut f32, acc: [S::V; R]) {
    let [low, high] = row.bounds.vectors(s);
    for r in 0..R {
        // SAFETY: the caller's promise.
        unsafe { s.store(out.add(r * row.out_step), s.min(high, s.max(low, acc[r]))) };
    }
}

macro_rules! unroll {
    ($i:ident in $($n:literal)* => $body:block) => { $( { const $i: usize = $n; $body } )* };
}

/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn known_tile<S: Simd, const STRIDE: usize, const R: usize, const K: usize>(s: S, row: &Row, q: usize) {
    let pixels = (R - 1) * STRIDE + K;
    let first = (q * STRIDE) as isize + row.shift;
    let inside = first >= 0 && first as usize + pixels <= row.width;
    // SAFETY: the caller's promise; pixels of the input are read only inside its rows.
    unsafe {
        let out = row.out.add(q * row.out_step);
        let mut acc = start::<S, R>(s, row, out);
        let (mut x, mut weights) = (row.x.wrapping_offset(first * LANES as isize), row.weights);
        for _ in 0..row.taps[0] {
            let mut w = [s.splat(0.0); K];
            for k in 0..K {
                w[k] = s.load(weights.wrapping_offset(k as isize * row.weights_steps[1]));
            }
            if inside {
                unroll!(I in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 => {
                    if I < pixels {
                        let x = s.load(x.add(I * LANES));
                        for k in 0..K {
                            if I >= k && (I - k).is_multiple_of(STRIDE) && (I - k) / STRIDE < R {
                                acc[(I - k) / STRIDE] = s.fma(x, w[k], acc[(I - k) / STRIDE]);
                            }
                        }
                    }
                });
            } else {
                unroll!(I in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 => {
                    if I < pixels && ((first + I as isize) as usize) < row.width {
                        let x = s.load(x.wrapping_add(I * LANES));
                        for k in 0..K {
                            if I >= k && (I - k).is_multiple_of(STRIDE) && (I - k) / STRIDE < R {
                                acc[(I - k) / STRIDE] = s.fma(x, w[k], acc[(I - k) / STRIDE]);
                            }
                        }
                    }
                });
            }
            x = x.wrapping_add(row.x_row);
            weights = weights.wrapping_offset(row.weights_steps[0]);
        }
        finish(s, row, out, acc);
    }
}
