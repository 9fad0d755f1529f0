//! AVX-512 (F): one 512-bit register is a vector.
//!
//! Tiles of 6 × 4, 9 × 3 or 14 × 2 vectors hold 24 to 28 accumulators; with 2 to 4 registers of weights and one broadcast
//! they fill the 32 registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX-512 F, DQ, BW and VL, and FMA.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("fma")
}

/// # Safety
/// [`available`] has said yes.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

impl Simd for Avx512 {
    type V = __m512;
    const TILE_WIDTH: usize = 4;

    #[inline(always)]
    fn tile_rows(width: usize) -> usize {
        [0, 16, 14, 9, 6][width]
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves the features, here and below.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn gt(self, a: __m512, b: __m512) -> u16 {
        // SAFETY: `self`.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }
    #[inline(always)]
    fn select(self, bits: u16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_mask_blend_ps(bits, b, a) }
    }
    #[inline(always)]
    fn transpose(self, rows: [__m512; 16]) -> [__m512; 16] {
        // SAFETY: `self`.
        unsafe {
            // Pairs of rows, then fours within each 128 bits, then the 128-bit parts twice.
            let mut a = rows;
            for i in (0..16).step_by(2) {
                a[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                a[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
            }
            let mut b = a;
            for i in (0..16).step_by(4) {
                for half in 0..2 {
                    let (x, y) = (_mm512_castps_pd(a[i + half]), _mm512_castps_pd(a[i + half + 2]));
                    b[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                    b[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
                }
            }
            let mut c = b;
            for i in 0..4 {
                c[i] = _mm512_shuffle_f32x4::<0x88>(b[i], b[i + 4]);
                c[i + 4] = _mm512_shuffle_f32x4::<0xdd>(b[i], b[i + 4]);
                c[i + 8] = _mm512_shuffle_f32x4::<0x88>(b[i + 8], b[i + 12]);
                c[i + 12] = _mm512_shuffle_f32x4::<0xdd>(b[i + 8], b[i + 12]);
            }
            let mut d = c;
            for i in 0..8 {
                d[i] = _mm512_shuffle_f32x4::<0x88>(c[i], c[i + 8]);
                d[i + 8] = _mm512_shuffle_f32x4::<0xdd>(c[i], c[i + 8]);
            }
            d
        }
    }
}
