//! The numbers that products are computed with: `f32`, or bf16 pairs in words of 32 bits.
//!
//! Gradients, sums and statistics are `f32` always, and so are weights that change. With [`Precision::Bf16`] a kernel rounds both sides of its
//! products to bf16 (8 bits of significand) when it copies or packs them, two neighbours of the sum to a word, and the
//! register tile multiplies words (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training"). Values may be
//! stored as such words of two neighbouring channels ([`crate::layout::Maps::stored`]): a convolution that multiplies them
//! reads them in place.

use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::marker::PhantomData;

/// What the two sides of a product are rounded to, or values that are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// bf16; products in convolutions (but for Winograd's, and gradients by weights of plain inputs) and linear layers.
    Bf16,
}

impl Precision {
    /// Numbers in a word.
    pub fn per_word(self) -> usize {
        match self {
            Precision::F32 => F32::PER_WORD,
            Precision::Bf16 => Bf16::PER_WORD,
        }
    }

    /// Sixteen numbers that are stored so, `at` numbers behind `p`.
    ///
    /// # Safety
    /// Their words are readable there, and `at` numbers are whole words.
    #[inline(always)]
    pub(crate) unsafe fn load<S: Simd>(self, s: S, p: *const f32, at: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Precision::F32 => F32::load(s, p.add(at)),
                Precision::Bf16 => Bf16::load(s, p.add(at / 2)),
            }
        }
    }

    /// Sixteen numbers to be stored so, `at` numbers behind `p`.
    ///
    /// # Safety
    /// Their words are writable there, and `at` numbers are whole words.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(self, s: S, p: *mut f32, at: usize, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Precision::F32 => F32::store(s, p.add(at), v),
                Precision::Bf16 => Bf16::store(s, p.add(at / 2), v),
            }
        }
    }
}

/// What the register tile multiplies, and how numbers are stored.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Numbers in a word.
    const PER_WORD: usize;
    /// The words of whole vectors of numbers, of neighbours where a word has two.
    fn copy<S: Simd>(s: S, numbers: &[f32], words: &mut [f32]);
    /// Sixteen numbers from memory.
    ///
    /// # Safety
    /// `p` is valid for reads of their words.
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::V;
    /// Sixteen numbers to memory.
    ///
    /// # Safety
    /// `p` is valid for writes of their words.
    unsafe fn store<S: Simd>(s: S, p: *mut f32, v: S::V);
    /// The first sixteen numbers of a slice.
    ///
    /// # Panics
    /// When the slice is shorter.
    #[inline(always)]
    fn read<S: Simd>(s: S, words: &[f32]) -> S::V {
        let block = &words[..LANES / Self::PER_WORD];
        // SAFETY: the slice has 16 numbers.
        unsafe { Self::load(s, block.as_ptr()) }
    }
    /// Over the first sixteen numbers of a slice.
    ///
    /// # Panics
    /// When the slice is shorter.
    #[inline(always)]
    fn write<S: Simd>(s: S, words: &mut [f32], v: S::V) {
        let block = &mut words[..LANES / Self::PER_WORD];
        // SAFETY: the slice has 16 numbers.
        unsafe { Self::store(s, block.as_mut_ptr(), v) }
    }
    /// `a · b + c`, of whole words.
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V;
    /// Runs a kernel that multiplies such elements.
    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output;
}

/// A number of 32 bits.
#[derive(Clone, Copy)]
pub(crate) struct F32;

impl Element for F32 {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn copy<S: Simd>(_: S, numbers: &[f32], words: &mut [f32]) {
        words.copy_from_slice(numbers);
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load(p) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store(p, v) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.fma(a, b, c)
    }

    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
        isa.run(kernel)
    }
}

/// Two numbers of 16 bits.
#[derive(Clone, Copy)]
pub(crate) struct Bf16;

impl Element for Bf16 {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn copy<S: Simd>(s: S, numbers: &[f32], words: &mut [f32]) {
        let (pairs, last) = numbers.as_chunks::<{ 2 * LANES }>();
        for (i, pair) in pairs.iter().enumerate() {
            s.write(&mut words[i * LANES..], s.narrow(s.read(pair), s.read(&pair[LANES..])));
        }
        if !last.is_empty() {
            let word = s.lanes(s.narrow(s.read(last), s.splat(0.0)));
            words[pairs.len() * LANES..].copy_from_slice(&word[..LANES / 2]);
        }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { s.load_words(p) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(s: S, p: *mut f32, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { s.store_words(p, v) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.dot(a, b, c)
    }

    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
        isa.run_bf16(kernel)
    }
}

/// Work on numbers in `f32` that are read and written as they are stored.
pub(crate) trait Map {
    /// Implementations are `#[inline(always)]`.
    fn run<S: Simd, X: Element, Y: Element>(self, s: S);
}

/// Runs a map from numbers that are stored in one way to numbers that are stored in another.
pub(crate) fn map(isa: Isa, [x, y]: [Precision; 2], map: impl Map) {
    match (x, y) {
        (Precision::F32, Precision::F32) => isa.run(MapOf::<F32, F32, _>(map, PhantomData)),
        (Precision::F32, Precision::Bf16) => isa.run_bf16(MapOf::<F32, Bf16, _>(map, PhantomData)),
        (Precision::Bf16, Precision::F32) => isa.run_bf16(MapOf::<Bf16, F32, _>(map, PhantomData)),
        (Precision::Bf16, Precision::Bf16) => isa.run_bf16(MapOf::<Bf16, Bf16, _>(map, PhantomData)),
    }
}

struct MapOf<X, Y, M>(M, PhantomData<(X, Y)>);

impl<X: Element, Y: Element, M: Map> Kernel for MapOf<X, Y, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.run::<S, X, Y>(s);
    }
}

/// Words of neighbouring rows of `lanes` numbers: row `i` holds the pairs of rows `2i` and `2i + 1`; an odd last row is
/// beside zeros.
#[inline(always)]
pub(crate) fn pair_rows<S: Simd>(s: S, lanes: usize, rows: &[f32], words: &mut [f32]) {
    let (twos, last) = rows.split_at(rows.len() / (2 * lanes) * 2 * lanes);
    let (pairs, rest) = words.split_at_mut(twos.len() / 2);
    for (two, pairs) in twos.chunks_exact(2 * lanes).zip(pairs.chunks_exact_mut(lanes)) {
        let (lower, upper) = two.split_at(lanes);
        for at in (0..lanes).step_by(LANES) {
            s.write(&mut pairs[at..], s.pair(s.read(&lower[at..]), s.read(&upper[at..])));
        }
    }
    for at in (0..last.len()).step_by(LANES) {
        s.write(&mut rest[at..], s.pair(s.read(&last[at..]), s.splat(0.0)));
    }
}

/// [`pair_rows`] of groups of so many rows each, a share of them per task.
pub(crate) fn pair_groups(isa: Isa, threads: &Threads, [group, lanes]: [usize; 2], numbers: &[f32], words: &mut [f32]) {
    /// Rows of a task, about.
    const ROWS: usize = 256;
    let [from, to] = [group * lanes, group.div_ceil(2) * lanes];
    let groups = numbers.len() / from;
    let share = ROWS.div_ceil(group);
    let words = Parts::new(&mut words[..groups * to]);
    threads.run(groups.div_ceil(share), &|task, _| {
        let range = task * share..((task + 1) * share).min(groups);
        // SAFETY: shares do not overlap.
        let words = unsafe { words.part(range.start * to..range.end * to) };
        isa.run_bf16(PairGroups { group, lanes, numbers: &numbers[range.start * from..range.end * from], words });
    });
}

/// Some groups of rows.
pub(crate) struct PairGroups<'a> {
    pub(crate) group: usize,
    pub(crate) lanes: usize,
    pub(crate) numbers: &'a [f32],
    pub(crate) words: &'a mut [f32],
}

impl Kernel for PairGroups<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PairGroups { group, lanes, .. } = self;
        let words = self.words.chunks_exact_mut(group.div_ceil(2) * lanes);
        for (rows, words) in self.numbers.chunks_exact(group * lanes).zip(words) {
            pair_rows(s, lanes, rows, words);
        }
    }
}

/// Numbers as they are stored in bf16.
#[cfg(test)]
pub(crate) fn words(numbers: &[f32]) -> Vec<f32> {
    numbers.as_chunks::<2>().0.iter().map(|&[lower, upper]| crate::simd::bf16::word(lower, upper)).collect()
}

/// The bits of floats, or of words: a word may be a NaN.
#[cfg(test)]
pub(crate) fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|float| float.to_bits()).collect()
}
