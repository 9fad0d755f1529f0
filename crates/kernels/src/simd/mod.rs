//! One way to write a kernel for every instruction set: a trait over vectors of 16 floats, an implementation per set, and
//! the choice between them at run time.
//!
//! A kernel is a [`Kernel`]: its `run` is generic over [`Simd`] and is compiled once per instruction set, inside a
//! function that has the set's `#[target_feature]`, so that everything marked `#[inline(always)]` below it becomes that
//! set's instructions. Values of the implementing types are the proof that the CPU has the features: they are made only
//! by [`Isa::run`], after detection.
//!
//! A kernel's hot loops hold no closure that calls a vector's method: the closure would be a function of its own,
//! compiled without the instruction set, and the optimiser may or may not inline it after all
//! (measured: a chain of norm, ReLU and pooling ran at 40 % of its speed).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod bf16;
mod portable;

use std::fmt::Debug;

/// Lanes of a vector, and channels of a block in the blocked layout, on every instruction set.
pub const LANES: usize = 16;

/// Vectors of 16 floats of one instruction set.
///
/// The arithmetic is safe, because a value of `Self` proves that the CPU has the instructions; loads and stores go
/// through raw pointers, because a tile's rows lie anywhere in a buffer, and are `unsafe`.
pub trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen floats.
    type V: Copy + Debug;

    /// Most vectors that one tile is wide: see `conv/tile.rs`.
    const TILE_WIDTH: usize;

    /// Whether the CPU rounds to bf16 itself.
    const ROUNDS: bool = false;

    /// Rows of the tile that is `width` vectors wide, so that accumulators, weights and one broadcast fit in registers.
    fn tile_rows(width: usize) -> usize;

    /// The same number in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Sixteen floats from memory.
    ///
    /// # Safety
    /// `p` is valid for reads of 16 floats; no alignment is needed.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Sixteen floats to memory.
    ///
    /// # Safety
    /// `p` is valid for writes of 16 floats; no alignment is needed.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// A hint to fetch the line at `p` into L2; `p` need not be valid.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: every CPU of this kind has it, and it neither changes nor gives anything, wherever `p` points.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
    }
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each lane; `b` where one is NaN, so that `max(0, x)` keeps a NaN visible.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each lane; `b` where one is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Square root.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `2^n` for whole `n` from -126 to 127, and any number for others.
    fn power_of_two(self, n: Self::V) -> Self::V;
    /// Bit `i` is set where lane `i` of `a` is greater than that of `b`; NaN is not.
    fn gt(self, a: Self::V, b: Self::V) -> u16;
    /// `a` where the bit is set, else `b`.
    fn select(self, bits: u16, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c` where each lane of `a` and `b` is a word of two bf16 numbers: the products of the upper and of the lower
    /// ones are added to `c`, in this order. They are exact in `f32`; each addition rounds.
    fn dot(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `v · 2^n` for whole `n` from -252 to 254, rounded once for `v` from 2^-126 to 2.
    #[inline(always)]
    fn scale(self, v: Self::V, n: Self::V) -> Self::V {
        // In two steps, because the power alone may be smaller than any normal number.
        let half = self.round(self.mul(n, self.splat(0.5)));
        let rest = self.sub(n, half);
        self.mul(self.mul(v, self.power_of_two(half)), self.power_of_two(rest))
    }

    /// The nearest whole number, of two the even one, for numbers up to 2²² in size.
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        // From here on, neighbouring floats are 1 apart.
        let whole = self.splat(1.5 * (1 << 23) as f32);
        self.sub(self.add(a, whole), whole)
    }

    /// Absolute value; NaN stays NaN.
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        self.max(self.sub(self.splat(0.0), a), a)
    }

    /// Words of the numbers' neighbours rounded to bf16: lane 0 has `first[0]` in its lower half and `first[1]` in its upper,
    /// lane 8 `second[0]` and `second[1]`.
    #[inline(always)]
    fn narrow(self, first: Self::V, second: Self::V) -> Self::V {
        let (first, second) = (self.lanes(first), self.lanes(second));
        let mut words = [0.0; LANES];
        for i in 0..LANES / 2 {
            words[i] = bf16::word(first[2 * i], first[2 * i + 1]);
            words[i + LANES / 2] = bf16::word(second[2 * i], second[2 * i + 1]);
        }
        self.read(&words)
    }

    /// Sixteen numbers from memory, where they are words of two neighbours in bf16.
    ///
    /// # Safety
    /// `p` is valid for reads of 8 words; no alignment is needed.
    #[inline(always)]
    unsafe fn load_words(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's promise.
        let words: [u32; LANES / 2] = unsafe { p.cast::<[u32; LANES / 2]>().read_unaligned() };
        let mut numbers = [0.0; LANES];
        for (i, word) in words.into_iter().enumerate() {
            numbers[2 * i] = f32::from_bits(word << 16);
            numbers[2 * i + 1] = f32::from_bits(word & 0xffff_0000);
        }
        self.read(&numbers)
    }

    /// Sixteen numbers to memory, as words of two neighbours rounded to bf16.
    ///
    /// # Safety
    /// `p` is valid for writes of 8 words; no alignment is needed.
    #[inline(always)]
    unsafe fn store_words(self, p: *mut f32, v: Self::V) {
        let words = self.lanes(self.narrow(v, v));
        // SAFETY: the caller's promise.
        unsafe { p.copy_from_nonoverlapping(words.as_ptr(), LANES / 2) }
    }

    /// Words of two vectors' lanes rounded to bf16: `lower[i]` and `upper[i]` in lane `i`.
    #[inline(always)]
    fn pair(self, lower: Self::V, upper: Self::V) -> Self::V {
        let (lower, upper) = (self.lanes(lower), self.lanes(upper));
        let mut words = [0.0; LANES];
        for i in 0..LANES {
            words[i] = bf16::word(lower[i], upper[i]);
        }
        self.read(&words)
    }

    /// Rows become columns: lane `j` of vector `i` changes place with lane `i` of vector `j`.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut lanes = [[0.0; LANES]; LANES];
        for i in 0..LANES {
            self.write(&mut lanes[i], rows[i]);
        }
        let mut columns = rows;
        for (j, column) in columns.iter_mut().enumerate() {
            let mut values = [0.0; LANES];
            for i in 0..LANES {
                values[i] = lanes[i][j];
            }
            *column = self.read(&values);
        }
        columns
    }

    /// Moves a square of 16 × 16 floats, transposed: row `i` begins at `from[i · from_row]` and becomes column `i` of the
    /// square at `to`.
    ///
    /// # Panics
    /// When a slice is shorter.
    #[inline(always)]
    fn transpose_square(self, from: &[f32], from_row: usize, to: &mut [f32], to_row: usize) {
        let mut rows = [self.splat(0.0); LANES];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = self.read(&from[i * from_row..]);
        }
        for (i, column) in self.transpose(rows).into_iter().enumerate() {
            self.write(&mut to[i * to_row..], column);
        }
    }

    /// The first 16 floats of a slice.
    ///
    /// # Panics
    /// When the slice is shorter.
    #[inline(always)]
    fn read(self, slice: &[f32]) -> Self::V {
        let block = &slice[..LANES];
        // SAFETY: the slice has 16 floats.
        unsafe { self.load(block.as_ptr()) }
    }

    /// Over the first 16 floats of a slice.
    ///
    /// # Panics
    /// When the slice is shorter.
    #[inline(always)]
    fn write(self, slice: &mut [f32], v: Self::V) {
        let block = &mut slice[..LANES];
        // SAFETY: the slice has 16 floats.
        unsafe { self.store(block.as_mut_ptr(), v) }
    }

    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self, v: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        self.write(&mut lanes, v);
        lanes
    }
}

/// Work that is compiled for every instruction set.
pub trait Kernel {
    /// What the work gives.
    type Output;
    /// The work. Implementations are `#[inline(always)]`, and so is everything in their hot loops.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// Names that [`Isa::named`] knows, the fastest first.
    pub const NAMES: [&'static str; 3] = ["avx512", "avx2", "portable"];

    /// Arrays that the compiler vectorises with what the target always has.
    pub const PORTABLE: Isa = Isa(Set::Portable);

    /// The fastest one of this machine.
    pub fn best() -> Isa {
        Isa::NAMES.into_iter().find_map(Isa::named).unwrap_or(Isa::PORTABLE)
    }

    /// The one of that name, if this machine has it.
    pub fn named(name: &str) -> Option<Isa> {
        match name {
            #[cfg(target_arch = "x86_64")]
            "avx512" if avx512::available() => Some(Isa(Set::Avx512)),
            #[cfg(target_arch = "x86_64")]
            "avx2" if avx2::available() => Some(Isa(Set::Avx2)),
            "portable" => Some(Isa::PORTABLE),
            _ => None,
        }
    }

    /// `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            Set::Portable => "portable",
        }
    }

    /// Most vectors that one tile is wide.
    pub fn tile_width(self) -> usize {
        struct Width;
        impl Kernel for Width {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::TILE_WIDTH
            }
        }
        self.run(Width)
    }

    /// Runs a kernel with this instruction set.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: `Isa::named` has found the CPU's features before it made this value.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::run(kernel) },
            Set::Portable => portable::run(kernel),
        }
    }

    /// As [`Isa::run`], with the CPU's instructions for bf16 where it has them. Other kernels are not compiled for those.
    pub(crate) fn run_bf16<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: as above, and the instructions have been found just now.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 if avx512::has_bf16() => unsafe { avx512::run_bf16(kernel) },
            _ => self.run(kernel),
        }
    }

    /// Whether the CPU multiplies bf16 numbers itself; otherwise their products are computed in `f32`, with the same
    /// results, and gain nothing.
    pub fn has_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => avx512::has_bf16(),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => false,
            Set::Portable => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Arithmetic;
    impl Kernel for Arithmetic {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let a: [f32; 16] = std::array::from_fn(|i| i as f32 - 7.5);
            let b: [f32; 16] = std::array::from_fn(|i| if i % 3 == 0 { f32::NAN } else { 2.0 });
            let (va, vb) = (s.read(&a), s.read(&b));
            for i in 0..16 {
                assert_eq!(s.lanes(s.fma(va, va, s.splat(1.0)))[i], a[i] * a[i] + 1.0);
                assert_eq!(s.lanes(s.sub(va, s.mul(va, s.splat(0.5))))[i], a[i] - a[i] * 0.5);
                assert_eq!(s.lanes(s.sqrt(s.max(va, s.splat(0.0))))[i], a[i].max(0.0).sqrt());
                assert_eq!(s.lanes(s.div(va, s.splat(3.0)))[i], a[i] / 3.0);
                let gt = s.gt(va, vb) >> i & 1 == 1;
                assert_eq!(gt, a[i] > b[i]);
                assert_eq!(s.lanes(s.select(0b1010_1010_1010_1010, va, s.splat(9.0)))[i], [9.0, a[i]][i % 2]);
            }
            for i in 0..16 {
                assert_eq!(s.lanes(s.min(va, s.splat(0.0)))[i], a[i].min(0.0));
                assert_eq!(s.lanes(s.abs(va))[i], a[i].abs());
                assert_eq!(s.lanes(s.round(va))[i], a[i].round_ties_even());
                let n = i as f32 * 16.0 - 120.0;
                assert_eq!(s.lanes(s.power_of_two(s.mul(s.sub(va, s.splat(0.0)), s.splat(16.0))))[i], n.exp2());
                // From subnormal numbers, which are rounded once, to large ones.
                let (v, n) = (1.0 + i as f32 / 17.0, 16.0 * i as f32 - 144.0);
                let want = (f64::from(v) * f64::from(n).exp2()) as f32;
                assert_eq!(s.lanes(s.scale(s.splat(v), s.splat(n)))[i], want);
            }
            let square: Vec<f32> = (0..16 * 20).map(|i| i as f32).collect();
            let mut transposed = vec![0.0; 16 * 17];
            s.transpose_square(&square, 20, &mut transposed, 17);
            assert!((0..256).all(|i| transposed[i / 16 * 17 + i % 16] == square[i % 16 * 20 + i / 16]));
            // A NaN is never hidden by a ReLU.
            assert!(s.lanes(s.max(s.splat(0.0), vb))[3].is_nan());
            assert!(s.lanes(s.min(s.splat(0.0), vb))[3].is_nan() && s.lanes(s.abs(vb))[3].is_nan());
            assert_eq!(s.lanes(s.add(va, va))[15], 15.0);
        }
    }

    #[test]
    fn every_set_computes_the_same() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            isa.run(Arithmetic);
        }
    }

    /// Random bits, with all kinds of numbers that are special.
    fn numbers(seed: u32) -> [f32; 16] {
        let mut state = seed;
        std::array::from_fn(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let special = [0.0, -0.0, f32::INFINITY, f32::NAN, 1e-40, -1e-39, f32::MAX, f32::MIN_POSITIVE];
            match state >> 28 {
                0 => special[(state >> 8) as usize % special.len()],
                1 => f32::from_bits(((state >> 4) & 0xffff_0000) | 0x8000 | (i as u32 & 1)),
                _ => (state as i32 >> 8) as f32 / 65536.0,
            }
        })
    }

    struct Narrowing(u32);
    impl Kernel for Narrowing {
        type Output = ([[u32; 16]; 3], [f32; 16]);
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> Self::Output {
            let [a, b, c] = [0, 1, 2].map(|i| numbers(3 * self.0 + i));
            let (va, vb) = (s.read(&a), s.read(&b));
            let (narrow, pair) = (s.narrow(va, vb), s.pair(va, vb));
            let mut words = [0.0; 8];
            // SAFETY: there are 8 words.
            let again = unsafe {
                s.store_words(words.as_mut_ptr(), va);
                s.load_words(words.as_ptr())
            };
            let c = c.map(|c| if c.is_normal() { c } else { 0.0 });
            ([narrow, pair, again].map(|v| s.lanes(v).map(f32::to_bits)), s.lanes(s.dot(narrow, pair, s.read(&c))))
        }
    }

    #[test]
    fn every_set_has_the_same_bf16() {
        for seed in 0..20_000 {
            let [a, b] = [0, 1].map(|i| numbers(3 * seed + i));
            let both = [a, b].concat();
            let want = Isa::PORTABLE.run(Narrowing(seed));
            for (i, &word) in want.0[0].iter().enumerate() {
                assert_eq!(word, bf16::word(both[2 * i], both[2 * i + 1]).to_bits());
            }
            assert_eq!(want.0[2], a.map(bf16::round));
            for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
                for got in [isa.run(Narrowing(seed)), isa.run_bf16(Narrowing(seed))] {
                    assert_eq!(got.0, want.0, "{}", isa.name());
                    // Results below the smallest normal number are 0 where the CPU computes them.
                    let same = |(&a, &b): (&f32, &f32)| {
                        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-37
                    };
                    assert!(got.1.iter().zip(&want.1).all(same), "{}: {:?} {:?}", isa.name(), got.1, want.1);
                }
            }
        }
    }
}
