//! Random numbers without state: a number depends on a seed and an index alone, so that any thread can compute any
//! element's, and the backward pass computes a dropout mask again instead of storing it.
//!
//! The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
//! addressed by a counter: output `i` of the sequence that `seed` begins is `finalise(seed + (i + 1) · γ)`.

/// The odd constant `2^64 / golden ratio`: successive multiples are far apart.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whether dropout with probability `p` of dropping keeps element `index`: true with probability `1 - p`, to within
/// 2^-24. With `p` 0 every element is kept.
#[inline]
pub fn keep(seed: u64, index: u64, p: f32) -> bool {
    let bits = finalise(seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)));
    // The top 24 bits as a number from 0 to below 1, exact in f32.
    (bits >> 40) as f32 * (1.0 / 16_777_216.0) >= p
}

/// A seed for one of many independent streams. A node's seed in one training step is
/// `mix(mix(run_seed, step), node_index)`.
#[inline]
pub fn mix(seed: u64, stream: u64) -> u64 {
    finalise(finalise(seed.wrapping_add(GAMMA)) ^ stream.wrapping_mul(GAMMA))
}

/// Variant 13 of Stafford's mixers: a bijection in which every input bit changes each output bit half of the time.
#[inline]
const fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count of `n` draws with probability `q` stays within five standard deviations.
    fn assert_share(count: usize, n: usize, q: f64) {
        let deviation = (n as f64 * q * (1.0 - q)).sqrt();
        let distance = (count as f64 - n as f64 * q).abs();
        assert!(distance <= 5.0 * deviation, "{count} of {n} at probability {q}");
    }

    #[test]
    fn the_sequence_is_splitmix64() {
        // The first output of the published generator with seed 1234567.
        assert_eq!(finalise(1_234_567_u64.wrapping_add(GAMMA)), 6_457_827_717_110_365_317);
    }

    #[test]
    fn share_of_kept_elements() {
        let n = 100_000;
        for p in [0.1, 0.5, 0.9] {
            for seed in [0, 1, mix(7, 3)] {
                let kept = (0..n).filter(|&i| keep(seed, i as u64, p)).count();
                assert_share(kept, n, 1.0 - f64::from(p));
            }
        }
        assert!((0..1000).all(|i| keep(5, i, 0.0)));
    }

    #[test]
    fn neighbours_are_independent() {
        let n = 100_000;
        let half = |seed: u64, i: usize| keep(seed, i as u64, 0.5);
        for lag in [1, 2, 16, 64, 784] {
            assert_share((0..n).filter(|&i| half(3, i) == half(3, i + lag)).count(), n, 0.5);
        }
        for (a, b) in [(0, 1), (1, 2), (1, 256)] {
            let same_step = (0..n).filter(|&i| half(mix(9, a), i) == half(mix(9, b), i)).count();
            assert_share(same_step, n, 0.5);
            let same_node = (0..n).filter(|&i| half(mix(mix(9, a), 4), i) == half(mix(mix(9, b), 4), i)).count();
            assert_share(same_node, n, 0.5);
        }
    }

    #[test]
    fn streams_differ() {
        let mut seeds: Vec<u64> = (0..50).flat_map(|seed| (0..50).map(move |stream| mix(seed, stream))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 2500);
    }
}
