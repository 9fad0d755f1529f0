//! The numbers that products are computed with: `f32`, or bf16 pairs in words of 32 bits.
//!
//! Values, weights, gradients and sums are `f32` always. With [`Precision::Bf16`] a kernel rounds both sides of its
//! products to bf16 (8 bits of significand) when it copies or packs them, two neighbours of the sum to a word, and the
//! register tile multiplies words (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training").

use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// What the two sides of a product are rounded to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// bf16, in convolutions (but those of 1 to 4 plain channels, and Winograd's) and linear layers.
    Bf16,
}

impl Precision {
    /// Numbers in a word.
    pub(crate) fn per_word(self) -> usize {
        match self {
            Precision::F32 => F32::PER_WORD,
            Precision::Bf16 => Bf16::PER_WORD,
        }
    }
}

/// What the register tile multiplies.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Numbers in a word.
    const PER_WORD: usize;
    /// The words of whole vectors of numbers, of neighbours where a word has two.
    fn copy<S: Simd>(s: S, numbers: &[f32], words: &mut [f32]);
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
    fn multiply_add<S: Simd>(s: S, a: S::V, b: S::V, c: S::V) -> S::V {
        s.dot(a, b, c)
    }

    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
        isa.run_bf16(kernel)
    }
}

/// Words of neighbouring rows of `lanes` numbers: row `i` holds the pairs of rows `2i` and `2i + 1`.
#[inline(always)]
pub(crate) fn pair_rows<S: Simd>(s: S, lanes: usize, rows: &[f32], words: &mut [f32]) {
    for (two, pairs) in rows.chunks_exact(2 * lanes).zip(words.chunks_exact_mut(lanes)) {
        let (lower, upper) = two.split_at(lanes);
        for at in (0..lanes).step_by(LANES) {
            s.write(&mut pairs[at..], s.pair(s.read(&lower[at..]), s.read(&upper[at..])));
        }
    }
}

/// [`pair_rows`] of a panel of packed weights, a share of rows per task.
pub(crate) fn pair_weights(isa: Isa, threads: &Threads, lanes: usize, weights: &[f32], words: &mut [f32]) {
    /// Pairs of rows of a task.
    const ROWS: usize = 128;
    let pairs = weights.len() / (2 * lanes);
    let words = Parts::new(&mut words[..pairs * lanes]);
    threads.run(pairs.div_ceil(ROWS), &|task, _| {
        let share = task * ROWS..((task + 1) * ROWS).min(pairs);
        // SAFETY: shares do not overlap.
        let words = unsafe { words.part(share.start * lanes..share.end * lanes) };
        isa.run_bf16(PairRows { lanes, rows: &weights[share.start * 2 * lanes..share.end * 2 * lanes], words });
    });
}

struct PairRows<'a> {
    lanes: usize,
    rows: &'a [f32],
    words: &'a mut [f32],
}

impl Kernel for PairRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        pair_rows(s, self.lanes, self.rows, self.words);
    }
}
