//! Arrays of 16 floats, which LLVM turns into whatever vectors the target always has (SSE2 on x86-64, NEON on aarch64).
//!
//! Where the target always has fused multiply-adds (aarch64, x86-64-v3), a product and its addition are one, and a tile has 6
//! rows × 1 vector: 24 accumulators of 4 lanes in NEON's 32 registers, or 12 of 8 lanes in AVX2's 16. Elsewhere they are rounded
//! apart, and 2 rows keep 8 accumulators of 4 lanes in 16 registers.

use super::{Kernel, LANES, Simd};

/// Needs nothing of the CPU.
#[derive(Clone, Copy)]
pub(super) struct Portable;

type V = [f32; LANES];

/// Whether every CPU of the target multiplies and adds in one instruction.
const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Portable)
}

#[inline(always)]
fn map2(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

impl Simd for Portable {
    type V = V;
    const TILE_WIDTH: usize = 1;

    #[inline(always)]
    fn tile_rows(_: usize) -> usize {
        if FUSED { 6 } else { 2 }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<V>().write_unaligned(v) }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        let mut out = c;
        for i in 0..LANES {
            out[i] = if FUSED { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] };
        }
        out
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn power_of_two(self, n: V) -> V {
        // Where neighbouring floats are 1 apart, their last bits count.
        const WHOLE: f32 = 1.5 * (1 << 23) as f32 + 127.0;
        map2(n, n, |n, _| f32::from_bits((n + WHOLE).to_bits() << 23))
    }
    #[inline(always)]
    fn sqrt(self, a: V) -> V {
        map2(a, a, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn gt(self, a: V, b: V) -> u16 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u16::from(a[i] > b[i]) << i;
        }
        bits
    }
    #[inline(always)]
    fn select(self, bits: u16, a: V, b: V) -> V {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = if bits >> i & 1 == 1 { a[i] } else { b[i] };
        }
        out
    }
    #[inline(always)]
    fn dot(self, a: V, b: V, c: V) -> V {
        let (upper, lower) =
            (|x: f32| f32::from_bits(x.to_bits() & 0xffff_0000), |x: f32| f32::from_bits(x.to_bits() << 16));
        let mut out = c;
        for i in 0..LANES {
            // Products are exact, so that it makes no difference whether they are fused.
            out[i] += upper(a[i]) * upper(b[i]);
            out[i] += lower(a[i]) * lower(b[i]);
        }
        out
    }
}
