//! AVX-512 (F): one 512-bit register is a vector.
//!
//! Tiles of 6 × 4, 9 × 3 or 14 × 2 vectors hold 24 to 28 accumulators; with 2 to 4 registers of weights and one broadcast
//! they fill the 32 registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;
use std::mem::transmute;

/// Proof that the CPU has AVX-512 F, DQ, BW and VL, and FMA; and BF16, if so it says.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const BF16: bool>(());

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
    kernel.run(Avx512::<false>(()))
}

/// Whether there are instructions for bf16, beside what [`available`] asks for.
pub(super) fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// # Safety
/// [`available`] and [`has_bf16`] have said yes.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_bf16<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512::<true>(()))
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    const TILE_WIDTH: usize = 4;
    const ROUNDS: bool = BF16;

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
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn power_of_two(self, n: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn scale(self, v: __m512, n: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_scalef_ps(v, n) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: `self`.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
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
    fn dot(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self`; both types are 512 bits of any value.
        unsafe {
            if BF16 {
                return _mm512_dpbf16_ps(c, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b));
            }
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let sum = _mm512_fmadd_ps(_mm512_castsi512_ps(upper(a)), _mm512_castsi512_ps(upper(b)), c);
            let (a, b) = (_mm512_slli_epi32::<16>(a), _mm512_slli_epi32::<16>(b));
            _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
        }
    }
    #[inline(always)]
    fn narrow(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: `self`; both types are 512 bits of any value.
        unsafe {
            if BF16 {
                return transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(second, first));
            }
            let first = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(first)));
            let second = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(second)));
            _mm512_castsi512_ps(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second))
        }
    }
    #[inline(always)]
    unsafe fn load_words(self, p: *const f32) -> __m512 {
        // SAFETY: `self`, and the caller's promise.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }
    #[inline(always)]
    unsafe fn store_words(self, p: *mut f32, v: __m512) {
        // SAFETY: `self`, and the caller's promise; both types are 256 bits of any value.
        unsafe {
            let halves = match BF16 {
                true => transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)),
                false => _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded(v))),
            };
            _mm256_storeu_si256(p.cast(), halves);
        }
    }
    #[inline(always)]
    fn pair(self, lower: __m512, upper: __m512) -> __m512 {
        // SAFETY: `self`; both types are 512 bits of any value.
        unsafe {
            if BF16 {
                let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(upper, lower));
                return _mm512_castsi512_ps(_mm512_permutexvar_epi16(interleaving(), both));
            }
            let lower = _mm512_srli_epi32::<16>(rounded(lower));
            _mm512_castsi512_ps(_mm512_or_si512(lower, rounded(upper)))
        }
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

/// The upper half of each word.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn upper(words: __m512i) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32)) }
}

/// As `bf16::round`.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn rounded(v: __m512) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let sum = _mm512_mask_or_epi32(sum, nan, bits, _mm512_set1_epi32(0x0040_0000));
        let small = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f80_0000));
        upper(_mm512_mask_and_epi32(sum, small, bits, _mm512_set1_epi32(i32::MIN)))
    }
}

/// Where words of pairs take their halves of 16 bits: lane `i` from `i` and `16 + i`.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn interleaving() -> __m512i {
    const HALVES: [u16; 32] = {
        let mut halves = [0; 32];
        let mut i = 0;
        while i < 32 {
            halves[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        halves
    };
    // SAFETY: the caller's promise, and the array is as long as the vector.
    unsafe { _mm512_loadu_si512(HALVES.as_ptr().cast()) }
}
