//! The register tile: `R` neighbouring outputs of a row, each the sum of its taps' products, a vector of 16 channels each.
//!
//! Where a row of taps has 2, 3, 5 or 7 neighbours, their weights stay in registers while each pixel of the input is loaded
//! once and multiplied into all outputs that read it: `(R - 1)·s + 2·K` loads for `R·K` multiply-adds. Other kernels load a tap's
//! weights once for `R` outputs, whose inputs are the other side of the multiply-adds in memory: `R + 1` loads for `R`. What a tap
//! reads of the padding is left out, or 0. Each output is summed in one order, tap by tap, however a row falls into tiles.
//!
//! AVX-512 has tiles of 7 outputs, AVX2 of 4 and 3 (8 of its 16 registers, with 2 for the pixel and as many weights as fit); what
//! is left of a row goes to smaller ones. On one core of an EPYC (Zen 4), 2026-11-28, with a peak of 118 GFLOP/s, forward, with
//! the products of padding counted: 3×3 at 28×28 103 (AVX2: 94), at 7×7 69 (61), 5×5 at 14×14 127 (107), 7×7 at 14×14 147 (84).

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
        if S::TILE_WIDTH > 1 {
            q = neighbours::<S, STRIDE, 7>(s, row, q);
            q = tiles::<S, STRIDE, 14>(s, row, q);
            q = tiles::<S, STRIDE, 7>(s, row, q);
            q = tiles::<S, STRIDE, 4>(s, row, q);
        } else if S::tile_rows(1) > 2 {
            q = neighbours::<S, STRIDE, 4>(s, row, q);
            q = neighbours::<S, STRIDE, 3>(s, row, q);
            q = tiles::<S, STRIDE, 6>(s, row, q);
            q = tiles::<S, STRIDE, 3>(s, row, q);
        }
        q = tiles::<S, STRIDE, 2>(s, row, q);
        tiles::<S, STRIDE, 1>(s, row, q);
    }
}

/// Tiles of `R` outputs from output `q` on, as many as there are, where taps are so many neighbours; gives the first output
/// that is left.
///
/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn neighbours<S: Simd, const STRIDE: usize, const R: usize>(s: S, row: &Row, q: usize) -> usize {
    // Few registers do not hold the weights of long rows and the outputs that read a pixel at a larger stride.
    let takes_long = S::TILE_WIDTH > 1 || STRIDE == 1;
    if STRIDE == 0 || row.shift_step != 1 {
        return q;
    }
    // SAFETY: the caller's promise.
    unsafe {
        match row.taps[1] {
            2 => tiles_of::<S, STRIDE, R, 2>(s, row, q),
            3 => tiles_of::<S, STRIDE, R, 3>(s, row, q),
            5 if takes_long => tiles_of::<S, STRIDE, R, 5>(s, row, q),
            7 if takes_long => tiles_of::<S, STRIDE, R, 7>(s, row, q),
            _ => q,
        }
    }
}

/// Tiles of `R` outputs, where rows have `K` neighbouring taps.
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
    let threes = if R == 4 { (4 - row.outputs % 4) % 4 * 3 } else { 0 };
    let end = row.outputs - if threes <= row.outputs { threes } else { 0 };
    while q + R <= end {
        // SAFETY: the caller's promise.
        unsafe { tile_of::<S, STRIDE, R, K>(s, row, q) };
        q += R;
    }
    q
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

/// Loops over so many pixels, at most 21, with their numbers as constants, so that what depends on them is decided by the compiler.
macro_rules! for_each_pixel {
    ($i:ident < $count:expr, $body:block) => {
        for_each_pixel!($i < $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
    };
    ($i:ident < $count:expr, $body:block, $($n:literal)*) => {
        $({
            let $i = $n;
            if $i < $count $body
        })*
    };
}

/// # Safety
/// As [`row`].
#[inline(always)]
unsafe fn tile_of<S: Simd, const STRIDE: usize, const R: usize, const K: usize>(s: S, row: &Row, q: usize) {
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
                for_each_pixel!(i < pixels, {
                    add_pixel::<S, STRIDE, R, K>(s, i, s.load(x.add(i * LANES)), &w, &mut acc);
                });
            } else {
                for_each_pixel!(i < pixels, {
                    if ((first + i as isize) as usize) < row.width {
                        add_pixel::<S, STRIDE, R, K>(s, i, s.load(x.wrapping_add(i * LANES)), &w, &mut acc);
                    }
                });
            }
            x = x.wrapping_add(row.x_row);
            weights = weights.wrapping_offset(row.weights_steps[0]);
        }
        finish(s, row, out, acc);
    }
}

/// Multiplies a tile's pixel `i` into the outputs that read it.
#[inline(always)]
fn add_pixel<S: Simd, const STRIDE: usize, const R: usize, const K: usize>(
    s: S,
    i: usize,
    x: S::V,
    weights: &[S::V; K],
    acc: &mut [S::V; R],
) {
    for k in 0..K {
        if i >= k && (i - k).is_multiple_of(STRIDE) && (i - k) / STRIDE < R {
            acc[(i - k) / STRIDE] = s.fma(x, weights[k], acc[(i - k) / STRIDE]);
        }
    }
}
