//! The register tile: `out[r][lane] (+)= Σ_taps Σ_k a[r, tap, k] · b[tap, k, lane]` for `R` rows of `N` vectors.
//!
//! Everything that multiplies matrices here is a walk of this tile. A row is a pixel (forward and by data), an input
//! channel at a tap (by weights) or a picture (linear layers); the lanes are output channels. In each turn `N` vectors of
//! `b` are loaded, and each row's number is broadcast and multiplied into its `N` accumulators, so a turn has `R + N`
//! loads for `R · N` fused multiply-adds (Goto and van de Geijn 2008; Georganas et al. 2018 for the convolution).
//! With [`crate::precision::Bf16`], `a` and `b` are words of two numbers each, whose products a turn adds both.
//! Each output element is summed in one order, tap by tap, whatever the tile's size, so results do not depend on how
//! pixels fall into tiles.

use crate::activation::Bounds;
use crate::precision::{Bf16, Element, F32, Precision};
use crate::simd::{LANES, Simd};

/// What a tile sums over: for each tap, `run` products, or `rest`.
#[derive(Clone, Copy)]
pub(crate) struct Sum<'a> {
    /// Where a tap begins: in `a` in floats from a row's start, in `b` in steps from its start.
    pub(crate) taps: &'a [[u32; 2]],
    /// Products per tap.
    pub(crate) run: usize,
    /// Number of leading taps with `run` products; those after them have `rest`, because their other channels are padding.
    pub(crate) whole: usize,
    /// Products of each tap after these.
    pub(crate) rest: usize,
    /// Floats between two products in `a`.
    pub(crate) a_step: usize,
    /// Floats between two products in `b`: one step.
    pub(crate) b_step: usize,
    /// Floats between two neighbouring vectors of `b`.
    pub(crate) b_lane: usize,
    /// What is prefetched meanwhile.
    pub(crate) ahead: Ahead,
}

impl Sum<'_> {
    /// A sum without taps, padding or prefetch.
    pub(crate) const EMPTY: Sum<'static> = Sum {
        taps: &[],
        run: 0,
        whole: usize::MAX,
        rest: 0,
        a_step: 1,
        b_step: LANES,
        b_lane: LANES,
        ahead: Ahead::NONE,
    };
}

/// Numbers that are read next and are prefetched into L2 while tiles are computed: hardware prefetching comes too late for
/// weights from L3 that only few pixels are multiplied by.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// The first of them; the rest follows.
    pub(crate) from: *const f32,
    /// Vectors of 16 numbers for each tap of each tile.
    pub(crate) vectors: usize,
}

impl Ahead {
    /// No prefetch.
    pub(crate) const NONE: Ahead = Ahead { from: std::ptr::null(), vectors: 0 };
}

/// What the accumulators start from.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// 0.
    Zero,
    /// Floats from here, which lie as the output's numbers do but for the distance between two neighbouring vectors.
    Sums { from: *const f32, lane: usize },
    /// A number per lane, from here.
    Bias(*const f32),
}

/// Where sums go, and what happens on the way.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    /// The output that the rows' offsets count from, in numbers.
    pub(crate) out: *mut f32,
    /// How it is stored: in `f32`, unless products are of bf16.
    pub(crate) stored: Precision,
    /// Numbers between two neighbouring vectors of the output.
    pub(crate) lane: usize,
    /// What the accumulators start from.
    pub(crate) start: Start,
    /// A second tensor that is added.
    pub(crate) addend: Option<Addend>,
    /// To which results are clamped, after the addition.
    pub(crate) bounds: Bounds,
}

/// A second tensor, whose rows lie as the output's do.
#[derive(Clone, Copy)]
pub(crate) struct Addend {
    pub(crate) from: *const f32,
    /// How it is stored: in `f32`, unless products are of bf16.
    pub(crate) stored: Precision,
    /// Numbers between two neighbouring vectors.
    pub(crate) lane: usize,
}

impl Target {
    /// Rows of floats, to which sums are added unless they are the first.
    pub(crate) fn rows(out: *mut f32, first: bool) -> Target {
        let start = if first { Start::Zero } else { Start::Sums { from: out, lane: LANES } };
        Target { out, stored: Precision::F32, lane: LANES, start, addend: None, bounds: Bounds::default() }
    }
}

/// Computes rows of products of `E` in tiles as tall as registers allow, then what is left in smaller ones.
///
/// # Safety
/// For each row `[x, y]`, tap and product, `a + x + tap[0] + k·a_step` is readable, and so are 16 floats at
/// `b + (tap[1] + k)·b_step + v·b_lane`, at the bias and at the sums to start from, and 16 numbers at the addend; 16 numbers
/// at `out + y + v·lane` are writable, and nobody else uses them. `v` goes up to `width - 1`, and `width` is at most
/// `S::TILE_WIDTH`. Output and addend are stored in bf16 only where `E` is.
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd, E: Element>(
    s: S,
    width: usize,
    sum: &Sum<'_>,
    rows: &[[u32; 2]],
    a: *const f32,
    b: *const f32,
    target: &Target,
) {
    let mut ahead = sum.ahead;
    let ahead = &mut ahead;
    let stored = [Some(target.stored), target.addend.map(|addend| addend.stored)];
    debug_assert!(
        E::PER_WORD == 2 || !stored.contains(&Some(Precision::Bf16)),
        "what is multiplied in f32 is stored in it"
    );
    // SAFETY: the caller's promise, row by row.
    unsafe {
        match width {
            1 if S::TILE_WIDTH == 1 && S::tile_rows(1) == 2 => {
                let rest = each::<S, E, 2, 1>(s, sum, rows, a, b, target, ahead);
                each::<S, E, 1, 1>(s, sum, rest, a, b, target, ahead);
            }
            1 if S::TILE_WIDTH == 1 => {
                let [sixes, fives] = tall(rows.len());
                let (six, rest) = rows.split_at(6 * sixes);
                let (five, rest) = rest.split_at(5 * fives);
                each::<S, E, 6, 1>(s, sum, six, a, b, target, ahead);
                each::<S, E, 5, 1>(s, sum, five, a, b, target, ahead);
                let rest = each::<S, E, 4, 1>(s, sum, rest, a, b, target, ahead);
                let rest = each::<S, E, 2, 1>(s, sum, rest, a, b, target, ahead);
                each::<S, E, 1, 1>(s, sum, rest, a, b, target, ahead);
            }
            1 => {
                let rest = each::<S, E, 16, 1>(s, sum, rows, a, b, target, ahead);
                let rest = each::<S, E, 8, 1>(s, sum, rest, a, b, target, ahead);
                let rest = each::<S, E, 4, 1>(s, sum, rest, a, b, target, ahead);
                each::<S, E, 1, 1>(s, sum, rest, a, b, target, ahead);
            }
            2 if S::TILE_WIDTH >= 2 => {
                let rest = each::<S, E, 14, 2>(s, sum, rows, a, b, target, ahead);
                let rest = each::<S, E, 8, 2>(s, sum, rest, a, b, target, ahead);
                let rest = each::<S, E, 4, 2>(s, sum, rest, a, b, target, ahead);
                let rest = each::<S, E, 2, 2>(s, sum, rest, a, b, target, ahead);
                each::<S, E, 1, 2>(s, sum, rest, a, b, target, ahead);
            }
            3 if S::TILE_WIDTH >= 3 => {
                let rest = each::<S, E, 9, 3>(s, sum, rows, a, b, target, ahead);
                let rest = each::<S, E, 4, 3>(s, sum, rest, a, b, target, ahead);
                let rest = each::<S, E, 2, 3>(s, sum, rest, a, b, target, ahead);
                each::<S, E, 1, 3>(s, sum, rest, a, b, target, ahead);
            }
            4 if S::TILE_WIDTH >= 4 => {
                let rest = each::<S, E, 6, 4>(s, sum, rows, a, b, target, ahead);
                let rest = each::<S, E, 4, 4>(s, sum, rest, a, b, target, ahead);
                let rest = each::<S, E, 2, 4>(s, sum, rest, a, b, target, ahead);
                each::<S, E, 1, 4>(s, sum, rest, a, b, target, ahead);
            }
            width => unreachable!("no tile is {width} vectors wide on this instruction set"),
        }
    }
}

/// How many tiles of 6 and of 5 rows, of two registers each, so that tiles of 4 take the rest where rows are many: fewer than 8
/// accumulators do not hide the latency of a multiply-add.
#[inline(always)]
fn tall(rows: usize) -> [usize; 2] {
    let sixes = rows / 6;
    match rows % 6 {
        5 => [sixes, 1],
        3 if sixes >= 1 => [sixes - 1, 1],
        2 if sixes >= 1 => [sixes - 1, 0],
        1 if sixes >= 2 => [sixes - 2, 1],
        1 if sixes == 1 => [0, 1],
        _ => [sixes, 0],
    }
}

/// Tiles of exactly `R` rows, as many as there are; gives the rows that are left.
#[inline(always)]
unsafe fn each<'r, S: Simd, E: Element, const R: usize, const N: usize>(
    s: S,
    sum: &Sum<'_>,
    rows: &'r [[u32; 2]],
    a: *const f32,
    b: *const f32,
    target: &Target,
    ahead: &mut Ahead,
) -> &'r [[u32; 2]] {
    let (tiles, rest) = rows.as_chunks::<R>();
    for tile_rows in tiles {
        // SAFETY: the caller's promise.
        unsafe { tile::<S, E, R, N>(s, sum, tile_rows, a, b, target, ahead) };
    }
    rest
}

#[inline(always)]
unsafe fn tile<S: Simd, E: Element, const R: usize, const N: usize>(
    s: S,
    sum: &Sum<'_>,
    rows: &[[u32; 2]; R],
    a: *const f32,
    b: *const f32,
    target: &Target,
    ahead: &mut Ahead,
) {
    // SAFETY: the caller's promise covers each pointer below.
    unsafe {
        let mut starts = [a; R];
        for r in 0..R {
            starts[r] = a.add(rows[r][0] as usize);
        }
        let mut acc = [[s.splat(0.0); N]; R];
        match target.start {
            Start::Zero => {}
            Start::Sums { from, lane } => {
                for r in 0..R {
                    for v in 0..N {
                        acc[r][v] = s.load(from.add(rows[r][1] as usize + v * lane));
                    }
                }
            }
            Start::Bias(bias) => {
                for v in 0..N {
                    let bias = s.load(bias.add(v * LANES));
                    for r in 0..R {
                        acc[r][v] = bias;
                    }
                }
            }
        }
        for (tap, &[a_tap, b_tap]) in sum.taps.iter().enumerate() {
            let mut at = a_tap as usize;
            let mut weights = b.add(b_tap as usize * sum.b_step);
            for _ in 0..ahead.vectors {
                s.prefetch(ahead.from);
                ahead.from = ahead.from.wrapping_add(LANES);
            }
            let products = if tap < sum.whole { sum.run } else { sum.rest };
            for _ in 0..products {
                let mut vectors = [s.splat(0.0); N];
                for v in 0..N {
                    vectors[v] = s.load(weights.add(v * sum.b_lane));
                }
                for r in 0..R {
                    let x = s.splat(*starts[r].add(at));
                    for v in 0..N {
                        acc[r][v] = E::multiply_add(s, x, vectors[v], acc[r][v]);
                    }
                }
                at += sum.a_step;
                weights = weights.wrapping_add(sum.b_step);
            }
        }
        match target.addend {
            None => {}
            Some(addend) if addend.stored == Precision::Bf16 && E::PER_WORD == 2 => {
                add::<S, Bf16, R, N>(s, &mut acc, rows, addend);
            }
            Some(addend) => add::<S, F32, R, N>(s, &mut acc, rows, addend),
        }
        if let Some(low) = target.bounds.low {
            for r in 0..R {
                for v in 0..N {
                    acc[r][v] = s.max(s.splat(low), acc[r][v]);
                }
            }
        }
        if let Some(high) = target.bounds.high {
            for r in 0..R {
                for v in 0..N {
                    acc[r][v] = s.min(s.splat(high), acc[r][v]);
                }
            }
        }
        match target.stored {
            Precision::Bf16 if E::PER_WORD == 2 => store::<S, Bf16, R, N>(s, &acc, rows, target.lane, target.out),
            Precision::F32 | Precision::Bf16 => store::<S, F32, R, N>(s, &acc, rows, target.lane, target.out),
        }
    }
}

/// Adds a second tensor. (Short loops over all accumulators are unrolled, and these stay in registers.)
///
/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn add<S: Simd, E: Element, const R: usize, const N: usize>(
    s: S,
    acc: &mut [[S::V; N]; R],
    rows: &[[u32; 2]; R],
    addend: Addend,
) {
    for r in 0..R {
        for v in 0..N {
            let at = (rows[r][1] as usize + v * addend.lane) / E::PER_WORD;
            // SAFETY: the caller's promise.
            acc[r][v] = s.add(acc[r][v], unsafe { E::load(s, addend.from.add(at)) });
        }
    }
}

/// # Safety
/// As [`rows`].
#[inline(always)]
unsafe fn store<S: Simd, E: Element, const R: usize, const N: usize>(
    s: S,
    acc: &[[S::V; N]; R],
    rows: &[[u32; 2]; R],
    lane: usize,
    out: *mut f32,
) {
    if E::PER_WORD == 2 && !S::ROUNDS {
        // So many instructions for each vector are not unrolled, and would have all accumulators in memory all the time.
        let mut tile = [[[0.0; LANES]; N]; R];
        for r in 0..R {
            for v in 0..N {
                s.write(&mut tile[r][v], acc[r][v]);
            }
        }
        for (row, vectors) in rows.iter().zip(&tile) {
            for (v, vector) in vectors.iter().enumerate() {
                let at = (row[1] as usize + v * lane) / E::PER_WORD;
                // SAFETY: the caller's promise.
                unsafe { E::store(s, out.add(at), s.read(vector)) };
            }
        }
        return;
    }
    for r in 0..R {
        for v in 0..N {
            let at = (rows[r][1] as usize + v * lane) / E::PER_WORD;
            // SAFETY: the caller's promise.
            unsafe { E::store(s, out.add(at), acc[r][v]) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tall;

    #[test]
    fn all_rows_are_in_tiles_and_small_tiles_are_rare() {
        for rows in 0..200_usize {
            let [sixes, fives] = tall(rows);
            let rest = rows.checked_sub(6 * sixes + 5 * fives).unwrap();
            assert!(if rows > 7 { rest.is_multiple_of(4) && rest <= 8 } else { rest <= 4 }, "{rows}: {rest}");
        }
    }
}
