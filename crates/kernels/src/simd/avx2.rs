//! AVX2 and FMA: two 256-bit registers are a vector.
//!
//! A tile of 6 rows × 1 vector holds 12 accumulators; with two registers of weights and one broadcast they fill 15 of the
//! 16 registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

type V = [__m256; 2];

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// # Safety
/// [`available`] has said yes.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

impl Simd for Avx2 {
    type V = V;
    const TILE_WIDTH: usize = 1;

    #[inline(always)]
    fn tile_rows(_: usize) -> usize {
        6
    }
    #[inline(always)]
    fn splat(self, x: f32) -> V {
        // SAFETY: `self` proves the features, here and below.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }
    #[inline(always)]
    fn power_of_two(self, n: V) -> V {
        // SAFETY: `self`.
        unsafe { [half_power_of_two(n[0]), half_power_of_two(n[1])] }
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        // SAFETY: `self`.
        unsafe { [_mm256_sqrt_ps(a[0]), _mm256_sqrt_ps(a[1])] }
    }
    #[inline(always)]
    fn gt(self, a: V, b: V) -> u16 {
        // SAFETY: `self`.
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1]));
            (low | high << 8) as u16
        }
    }
    #[inline(always)]
    fn select(self, bits: u16, a: V, b: V) -> V {
        // SAFETY: `self`.
        unsafe { [half(i32::from(bits), a[0], b[0]), half(i32::from(bits >> 8), a[1], b[1])] }
    }
    #[inline(always)]
    fn dot(self, a: V, b: V, c: V) -> V {
        // SAFETY: `self`.
        unsafe { [half_dot(a[0], b[0], c[0]), half_dot(a[1], b[1], c[1])] }
    }
}

/// `2^n` of eight lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn half_power_of_two(n: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
}

/// The dot product of eight lanes.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[inline(always)]
unsafe fn half_dot(a: __m256, b: __m256, c: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let upper = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32));
        let sum = _mm256_fmadd_ps(_mm256_and_ps(a, upper), _mm256_and_ps(b, upper), c);
        let a = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(a)));
        let b = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(b)));
        _mm256_fmadd_ps(a, b, sum)
    }
}

/// `a` in the lanes whose bit among the lowest eight is set, else `b`.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn half(bits: i32, a: __m256, b: __m256) -> __m256 {
    // SAFETY: the caller's promise.
    unsafe {
        let lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let mask = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits), lane), lane);
        _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask))
    }
}
