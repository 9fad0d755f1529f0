//! Exponentials, sigmoid, tanh and the normal distribution of sixteen numbers.
//!
//! Values are within 4 units in the last place of the exact ones over the whole range, subnormal results included, and at ±∞
//! they are the limits. AVX2 and AVX-512 give the same bits; portable code, which rounds a product before it adds, gives others.
//! The polynomials come from `tests/golden/polynomials.py`.

use crate::simd::Simd;

/// Beyond this, `x·e^-x` is 0 in `f32`.
const FAR: f32 = 110.0;
/// Beyond this, `x·Φ(-x)` is 0 in `f32`.
const NORMAL_FAR: f32 = 15.0;
/// From here on, tanh is computed from exponentials.
const TANH_LARGE: f32 = 0.625;
/// `1 / √(2π)`
const DENSITY_AT_0: f32 = 0.398_942_3;

/// ln 2 in two parts: a product of the first with an exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `e^r = 1 + r + r²·P(r)` for `|r|` up to 0.35.
const EXP: [f32; 6] = [0.5, 1.666_666_6e-1, 4.166_628e-2, 8.333_503e-3, 1.394_574_4e-3, 1.978_929_4e-4];
/// `tanh x = x·(1 + z·P(z))` with `z = x²`, for `|x|` up to 0.625.
const TANH: [f32; 5] = [-3.333_328e-1, 1.333_144_2e-1, -5.373_97e-2, 2.063_902e-2, -5.704_908e-3];
/// Where the next polynomial's variable is 0.
const MILLS_CENTRE: f32 = 3.5;
/// `Φ(-t)·e^(t²/2) = P(v) / (t + 3.5)` with `v = (t - 3.5) / (t + 3.5)`, for `t` from 0 to 15.
const MILLS: [f32; 10] = [
    7.444_160_6e-1,
    -5.655_617e-1,
    3.154_251e-1,
    -1.160_531_7e-1,
    1.740_582_1e-2,
    6.493_728_6e-3,
    -3.172_825_6e-3,
    -4.950_414_3e-4,
    4.183_188e-4,
    1.086_920_3e-4,
];

/// A polynomial, the lowest power's coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, coefficients: &[f32; N], x: S::V) -> S::V {
    let mut sum = s.splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.fma(sum, x, s.splat(coefficients[i]));
    }
    sum
}

/// `significand · 2^exponent`.
#[derive(Clone, Copy)]
pub(super) struct Scaled<S: Simd> {
    pub(super) significand: S::V,
    exponent: S::V,
}

impl<S: Simd> Scaled<S> {
    /// `e^(x + rest)` for `x` from -120 to 0 and `|rest|` up to 0.03.
    #[inline(always)]
    fn exp(s: S, x: S::V, rest: Option<S::V>) -> Scaled<S> {
        let exponent = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
        let [high, low] = LN_2.map(|part| s.splat(-part));
        let mut r = s.fma(exponent, low, s.fma(exponent, high, x));
        if let Some(rest) = rest {
            r = s.add(r, rest);
        }
        let significand = s.add(s.splat(1.0), s.fma(s.mul(r, r), polynomial(s, &EXP, r), r));
        Scaled { significand, exponent }
    }

    /// `v · 2^exponent`.
    #[inline(always)]
    pub(super) fn scale(&self, s: S, v: S::V) -> S::V {
        s.scale(v, self.exponent)
    }

    #[inline(always)]
    pub(super) fn value(&self, s: S) -> S::V {
        self.scale(s, self.significand)
    }
}

/// `e^-|x|`; that of 110 from there on.
#[inline(always)]
pub(super) fn exp_of_minus_abs<S: Simd>(s: S, x: S::V) -> Scaled<S> {
    let t = s.min(s.splat(FAR), s.abs(x));
    Scaled::exp(s, s.sub(s.splat(0.0), t), None)
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let (e, one) = (exp_of_minus_abs(s, x).value(s), s.splat(1.0));
    s.div(s.select(s.gt(s.splat(0.0), x), e, one), s.add(one, e))
}

/// The slope of [`silu`]: `g + x·g·(1 - g)` with `g = sigmoid(x)`, of which both `g` and `1 - g` may be small.
#[inline(always)]
pub(super) fn silu_slope<S: Simd>(s: S, x: S::V) -> S::V {
    let (e, one) = (exp_of_minus_abs(s, x).value(s), s.splat(1.0));
    let is_negative = s.gt(s.splat(0.0), x);
    let inverse = s.div(one, s.add(one, e));
    let small = s.mul(e, inverse);
    let [g, rest] = [s.select(is_negative, small, inverse), s.select(is_negative, inverse, small)];
    let near = s.min(s.splat(FAR), s.max(s.splat(-FAR), x));
    s.mul(g, s.fma(near, rest, one))
}

/// `x · sigmoid(x)`
#[inline(always)]
pub(super) fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let (exp, is_negative) = (exp_of_minus_abs(s, x), s.gt(s.splat(0.0), x));
    let near = s.max(s.splat(-FAR), x);
    // Scaled last, so that small results are rounded once.
    let numerator = s.select(is_negative, s.mul(near, exp.significand), x);
    let quotient = s.div(numerator, s.add(s.splat(1.0), exp.value(s)));
    s.select(is_negative, exp.scale(s, quotient), quotient)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let z = s.mul(x, x);
    let small = s.fma(s.mul(x, z), polynomial(s, &TANH, z), x);
    let e = exp_of_minus_abs(s, s.add(x, x)).value(s);
    let large = s.div(s.sub(one, e), s.add(one, e));
    let large = s.select(s.gt(zero, x), s.sub(zero, large), large);
    s.select(s.gt(s.splat(TANH_LARGE), s.abs(x)), small, large)
}

/// `t = |x|`, at most 15, with `e^(-t²/2)` and `Φ(-t)·e^(t²/2)`, where `Φ` is the normal distribution.
#[inline(always)]
fn normal_tail<S: Simd>(s: S, x: S::V) -> (S::V, Scaled<S>, S::V) {
    let t = s.min(s.splat(NORMAL_FAR), s.abs(x));
    // t² = high² + (t - high)·(t + high), where high has 12 bits, and its square is exact (Dekker 1971).
    let shifted = s.mul(t, s.splat(4097.0));
    let high = s.sub(shifted, s.sub(shifted, t));
    let minus_half = s.splat(-0.5);
    let square = s.mul(minus_half, s.mul(high, high));
    let rest = s.mul(minus_half, s.mul(s.sub(t, high), s.add(t, high)));
    let centre = s.splat(MILLS_CENTRE);
    let inverse = s.div(s.splat(1.0), s.add(t, centre));
    let mills = s.mul(polynomial(s, &MILLS, s.mul(s.sub(t, centre), inverse)), inverse);
    (t, Scaled::exp(s, square, Some(rest)), mills)
}

/// `x · Φ(x)`, as `max(x, 0) - |x|·Φ(-|x|)`.
#[inline(always)]
pub(super) fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    let (zero, (t, exp, mills)) = (s.splat(0.0), normal_tail(s, x));
    let tail = exp.scale(s, s.mul(s.mul(t, mills), exp.significand));
    s.sub(s.select(s.gt(zero, x), zero, x), tail)
}

/// `Φ(x) + x · φ(x)`, the slope of [`gelu`], where `φ` is the normal density.
#[inline(always)]
pub(super) fn gelu_slope<S: Simd>(s: S, x: S::V) -> S::V {
    let (t, exp, mills) = normal_tail(s, x);
    let left = s.sub(mills, s.mul(t, s.splat(DENSITY_AT_0)));
    let left = exp.scale(s, s.mul(left, exp.significand));
    s.select(s.gt(s.splat(0.0), x), left, s.sub(s.splat(1.0), left))
}
