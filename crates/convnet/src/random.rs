//! Random numbers that mean the same on every machine and in every release.
//!
//! ChaCha8 is specified; what is made of its words here uses integers and exactly rounded floating-point operations
//! alone. Each use has its own key (from the seed and a purpose) and each item its own stream, so that neither the
//! number of threads nor the order of the work can show in a result.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random numbers.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// Stream `index` of the numbers that `seed` gives for `purpose`.
    pub(crate) fn stream(seed: u64, purpose: [u8; 8], index: u64) -> Random {
        Random::substream(seed, purpose, [0; 2], index)
    }

    /// Stream `index` of the numbers that `seed` gives for `purpose`, apart for each pair of `parts`.
    pub(crate) fn substream(seed: u64, purpose: [u8; 8], parts: [u64; 2], index: u64) -> Random {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&purpose);
        key[16..24].copy_from_slice(&parts[0].to_le_bytes());
        key[24..].copy_from_slice(&parts[1].to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Random(rng)
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// Uniform in `low..high`.
    pub(crate) fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Bell-shaped around 0 with standard deviation `deviation`, never beyond 3.5 of them (a sum of four uniforms).
    pub(crate) fn bell(&mut self, deviation: f32) -> f32 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * deviation * 3.0_f32.sqrt()
    }

    /// Uniform in `0..n`; 0 when `n` is 0. The bias is below n / 2⁶⁴.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let draw = |seed, purpose: &[u8; 8], index| Random::stream(seed, *purpose, index).below(usize::MAX);
        assert_eq!(draw(1, b"shuffle.", 0), draw(1, b"shuffle.", 0));
        let all = [draw(1, b"shuffle.", 0), draw(2, b"shuffle.", 0), draw(1, b"digits..", 0), draw(1, b"shuffle.", 1)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        let mut random = Random::stream(3, *b"test....", 0);
        let mut sum = (0.0, 0.0);
        for _ in 0..10_000 {
            assert!((0.0..1.0).contains(&random.unit()));
            assert!(random.below(7) < 7);
            let x = random.bell(2.0);
            assert!(x.abs() <= 7.0);
            sum = (sum.0 + x, sum.1 + x * x);
        }
        assert!((sum.0 / 10_000.0).abs() < 0.1, "the mean is 0");
        assert!((sum.1 / 10_000.0 - 4.0).abs() < 0.2, "the variance is 4");
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..100).collect();
        Random::stream(0, *b"test....", 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
