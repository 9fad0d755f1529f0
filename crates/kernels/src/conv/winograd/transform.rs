//! The transforms of F(4×4, 3×3) and F(3×3, 4×4) along one axis, and squared.
//!
//! With points `p` of 0, ±3/4, ±3/2 and ∞, a correlation of 6 numbers `d` with a kernel `g` of `r` is
//! `y = Aᵀ [(G g) ⊙ (Bᵀ d)]` (Winograd 1980; Lavin and Gray 2016, section 4; Cook and Toom's construction). Row `p` of `Bᵀ`
//! has the coefficients of `Π (x - q)` over all other finite points `q`; row `p` of `G` has `pʲ / N`, where
//! `N = Π (p - q)`, and `Aᵀ` has `pᵏ`; at ∞ stand the leading coefficients. `Bᵀ` depends on the points alone, so both
//! algorithms share it.
//!
//! All numbers of `Aᵀ` and `Bᵀ` are multiples of 1/64, hence exact. `1 / N` is left out of the transforms that run once a
//! tile and multiplied in where weights are read or written; scaling a row by it changes no error. Points in pairs `±p`
//! share their even and odd parts: [`Input`] takes 12 instructions for 6 numbers.

use crate::simd::Simd;

/// Numbers along an axis of a transformed tile: one per point.
pub(super) const SIDE: usize = 6;
/// Numbers of a transformed tile.
pub(super) const POINTS: usize = SIDE * SIDE;
/// The finite points are 0 and these, of either sign.
const NEAR: f32 = 0.75;
const FAR: f32 = 1.5;
const NEAR2: f32 = NEAR * NEAR;
const FAR2: f32 = FAR * FAR;
/// `1 / N` of the points 0, ±[`NEAR`] and ±[`FAR`]; 1 at ∞.
const NORM_ZERO: f32 = (1.0 / (0.75f64 * 0.75 * 1.5 * 1.5)) as f32;
const NORM_NEAR: f32 = (1.0 / (2.0 * 0.75f64 * 0.75 * (0.75 * 0.75 - 1.5 * 1.5))) as f32;
const NORM_FAR: f32 = (1.0 / (2.0 * 1.5f64 * 1.5 * (1.5 * 1.5 - 0.75 * 0.75))) as f32;

/// A linear map of `I` numbers along an axis to `O`.
pub(super) trait Line<const I: usize, const O: usize> {
    /// Implementations are `#[inline(always)]`.
    fn line<S: Simd>(s: S, x: [S::V; I]) -> [S::V; O];
}

/// `Bᵀ`: of the input's tiles, in all directions.
pub(super) struct Input;
/// `G` of a kernel of 3.
pub(super) struct Kernel3;
/// `G` of a kernel of 4 without `1 / N`: of the output's gradient, by weights.
pub(super) struct Gradient;
/// `Aᵀ` to 4 numbers: of sums, forward and by data.
pub(super) struct Output;
/// `Aᵀ` to 3 numbers with [`Gradient`]'s `1 / N`: of sums, by weights.
pub(super) struct KernelSum;

impl Line<6, 6> for Input {
    #[inline(always)]
    fn line<S: Simd>(s: S, d: [S::V; 6]) -> [S::V; 6] {
        let (product, sum) = (s.splat(NEAR2 * FAR2), s.splat(-(NEAR2 + FAR2)));
        let (near2, far2) = (s.splat(-NEAR2), s.splat(-FAR2));
        let near_even = s.fma(far2, d[2], d[4]);
        let near_odd = s.fma(far2, d[1], d[3]);
        let far_even = s.fma(near2, d[2], d[4]);
        let far_odd = s.fma(near2, d[1], d[3]);
        [
            s.fma(product, d[0], s.fma(sum, d[2], d[4])),
            s.fma(s.splat(NEAR), near_odd, near_even),
            s.fma(s.splat(-NEAR), near_odd, near_even),
            s.fma(s.splat(FAR), far_odd, far_even),
            s.fma(s.splat(-FAR), far_odd, far_even),
            s.fma(product, d[1], s.fma(sum, d[3], d[5])),
        ]
    }
}

impl Line<3, 6> for Kernel3 {
    #[inline(always)]
    fn line<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; 6] {
        let near_even = s.mul(s.splat(NORM_NEAR), s.fma(s.splat(NEAR2), g[2], g[0]));
        let far_even = s.mul(s.splat(NORM_FAR), s.fma(s.splat(FAR2), g[2], g[0]));
        let (near, far) = (NEAR * NORM_NEAR, FAR * NORM_FAR);
        [
            s.mul(s.splat(NORM_ZERO), g[0]),
            s.fma(s.splat(near), g[1], near_even),
            s.fma(s.splat(-near), g[1], near_even),
            s.fma(s.splat(far), g[1], far_even),
            s.fma(s.splat(-far), g[1], far_even),
            g[2],
        ]
    }
}

impl Line<4, 6> for Gradient {
    #[inline(always)]
    fn line<S: Simd>(s: S, g: [S::V; 4]) -> [S::V; 6] {
        let (near2, far2) = (s.splat(NEAR2), s.splat(FAR2));
        let (near_even, near_odd) = (s.fma(near2, g[2], g[0]), s.fma(near2, g[3], g[1]));
        let (far_even, far_odd) = (s.fma(far2, g[2], g[0]), s.fma(far2, g[3], g[1]));
        [
            g[0],
            s.fma(s.splat(NEAR), near_odd, near_even),
            s.fma(s.splat(-NEAR), near_odd, near_even),
            s.fma(s.splat(FAR), far_odd, far_even),
            s.fma(s.splat(-FAR), far_odd, far_even),
            g[3],
        ]
    }
}

impl Line<6, 4> for Output {
    #[inline(always)]
    fn line<S: Simd>(s: S, m: [S::V; 6]) -> [S::V; 4] {
        let (near_even, near_odd) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (far_even, far_odd) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(m[0], s.add(near_even, far_even)),
            s.fma(s.splat(NEAR), near_odd, s.mul(s.splat(FAR), far_odd)),
            s.fma(s.splat(NEAR2), near_even, s.mul(s.splat(FAR2), far_even)),
            s.fma(s.splat(NEAR2 * NEAR), near_odd, s.fma(s.splat(FAR2 * FAR), far_odd, m[5])),
        ]
    }
}

impl Line<6, 3> for KernelSum {
    #[inline(always)]
    fn line<S: Simd>(s: S, m: [S::V; 6]) -> [S::V; 3] {
        let (norm_near, norm_far) = (s.splat(NORM_NEAR), s.splat(NORM_FAR));
        let (near_even, near_odd) = (s.mul(norm_near, s.add(m[1], m[2])), s.mul(norm_near, s.sub(m[1], m[2])));
        let (far_even, far_odd) = (s.mul(norm_far, s.add(m[3], m[4])), s.mul(norm_far, s.sub(m[3], m[4])));
        [
            s.fma(s.splat(NORM_ZERO), m[0], s.add(near_even, far_even)),
            s.fma(s.splat(NEAR), near_odd, s.mul(s.splat(FAR), far_odd)),
            s.fma(s.splat(NEAR2), near_even, s.fma(s.splat(FAR2), far_even, m[5])),
        ]
    }
}

/// A map along both axes of a square of rows: first down each column, then along each row.
#[inline(always)]
pub(super) fn square<S: Simd, L: Line<I, O>, const I: usize, const O: usize>(
    s: S,
    x: [[S::V; I]; I],
) -> [[S::V; O]; O] {
    let mut half = [[s.splat(0.0); I]; O];
    for j in 0..I {
        let mut column = [s.splat(0.0); I];
        for i in 0..I {
            column[i] = x[i][j];
        }
        let column = L::line(s, column);
        for k in 0..O {
            half[k][j] = column[k];
        }
    }
    let mut out = [[s.splat(0.0); O]; O];
    for k in 0..O {
        out[k] = L::line(s, half[k]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel};

    const FINITE: [f64; 5] = [0.0, 0.75, -0.75, 1.5, -1.5];

    /// Coefficients of `Π (x - q)`, the constant first.
    fn polynomial(roots: &[f64]) -> Vec<f64> {
        roots.iter().fold(vec![1.0], |p, root| {
            let mut product = vec![0.0; p.len() + 1];
            for (i, coefficient) in p.iter().enumerate() {
                product[i + 1] += coefficient;
                product[i] -= root * coefficient;
            }
            product
        })
    }

    fn others(i: usize) -> Vec<f64> {
        (0..5).filter(|&l| l != i).map(|l| FINITE[l]).collect()
    }

    fn norm(i: usize) -> f64 {
        if i == 5 { 1.0 } else { 1.0 / others(i).iter().map(|q| FINITE[i] - q).product::<f64>() }
    }

    /// `Bᵀ`, by Cook and Toom.
    fn input(i: usize, j: usize) -> f64 {
        let row = if i == 5 { polynomial(&FINITE) } else { polynomial(&others(i)) };
        row.get(j).copied().unwrap_or(0.0)
    }

    /// `pʲ`, and at ∞ the last of `len` alone.
    fn power(i: usize, j: usize, len: usize) -> f64 {
        if i == 5 { f64::from(u8::from(j + 1 == len)) } else { FINITE[i].powi(j as i32) }
    }

    struct Matrix<L, const I: usize, const O: usize>(std::marker::PhantomData<L>);

    impl<L: Line<I, O>, const I: usize, const O: usize> Kernel for Matrix<L, I, O> {
        type Output = [[f32; I]; O];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [[f32; I]; O] {
            let mut matrix = [[0.0; I]; O];
            for j in 0..I {
                let mut unit = [s.splat(0.0); I];
                unit[j] = s.splat(1.0);
                for (i, v) in L::line(s, unit).into_iter().enumerate() {
                    matrix[i][j] = s.lanes(v)[0];
                }
            }
            matrix
        }
    }

    fn check<L: Line<I, O>, const I: usize, const O: usize>(want: impl Fn(usize, usize) -> f64) {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let matrix = isa.run(Matrix::<L, I, O>(std::marker::PhantomData));
            for (i, row) in matrix.iter().enumerate() {
                for (j, &got) in row.iter().enumerate() {
                    let want = want(i, j);
                    assert!((f64::from(got) - want).abs() <= 1.2e-7 * want.abs(), "[{i}][{j}]: got {got}, want {want}");
                }
            }
        }
    }

    #[test]
    fn matrices_are_cook_and_tooms() {
        check::<Input, 6, 6>(input);
        check::<Kernel3, 3, 6>(|i, j| power(i, j, 3) * norm(i));
        check::<Gradient, 4, 6>(|i, j| power(i, j, 4));
        check::<Output, 6, 4>(|k, i| power(i, k, 4));
        check::<KernelSum, 6, 3>(|k, i| power(i, k, 3) * norm(i));
    }

    /// The matrices of the definition give the correlation, to the last digits of f64.
    #[test]
    fn the_construction_is_a_correlation() {
        let d: [f64; 6] = [0.3, -1.2, 2.5, 0.7, -0.4, 1.9];
        for r in [3, 4] {
            let g = [1.1, -0.6, 0.2, 0.9];
            for k in 0..7 - r {
                let product = |i: usize| {
                    let g: f64 = (0..r).map(|j| power(i, j, r) * norm(i) * g[j]).sum();
                    g * (0..6).map(|j| input(i, j) * d[j]).sum::<f64>()
                };
                let got: f64 = (0..6).map(|i| power(i, k, 7 - r) * product(i)).sum();
                let want: f64 = (0..r).map(|j| d[k + j] * g[j]).sum();
                assert!((got - want).abs() < 1e-14, "{r}: {got} {want}");
            }
        }
    }
}
