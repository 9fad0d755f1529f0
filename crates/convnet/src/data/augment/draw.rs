//! Where the random numbers of an augmentation come from, and their distributions.
//!
//! A stream is named by seed, epoch, index and purpose, and nothing else: the number of workers, the order of the work
//! and a resumed run change no draw. A transform's purpose follows from its name and from how many of that name stand
//! before it in the list, so a transform that is added, moved or left out leaves the draws of the others as they are.
//! Logarithms are `libm`'s, which gives the same bits on every machine.

use crate::random::Random;

/// Which picture is drawn for (or which batch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomKey {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the epoch.
    pub epoch: u64,
    /// Index of the picture in its data set, or number of the batch in its epoch.
    pub index: u64,
}

/// A stream of random numbers.
pub(super) struct Draw {
    random: Random,
    /// The second of a pair of normal numbers.
    spare: Option<f64>,
}

/// The purpose of the transform of this name that has `before` others of the same name before it: FNV-1a, 64 bits.
pub(super) fn purpose(name: &str, before: u32) -> u64 {
    let bytes = name.bytes().chain(before.to_le_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

impl Draw {
    pub(super) fn new(RandomKey { seed, epoch, index }: RandomKey, purpose: u64) -> Draw {
        Draw { random: Random::substream(seed, *b"augment.", [epoch, purpose], index), spare: None }
    }

    /// The numbers that a key gives which another stream drew.
    pub(super) fn of_key(key: u64) -> Draw {
        Draw { random: Random::stream(key, *b"augnoise", 0), spare: None }
    }

    /// A key for [`Draw::of_key`].
    pub(super) fn key(&mut self) -> u64 {
        let half = |random: &mut Random| random.below(1 << 32) as u64;
        half(&mut self.random) << 32 | half(&mut self.random)
    }

    /// Uniform in `0.0..1.0`, in steps of 2⁻⁵³.
    pub(super) fn unit(&mut self) -> f64 {
        self.random.below(1 << 53) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform from `low` to `high`.
    pub(super) fn uniform(&mut self, [low, high]: [f64; 2]) -> f64 {
        (low + (high - low) * self.unit()).clamp(low, high)
    }

    /// Whether something of probability `p` happens.
    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in `0..n`; 0 when `n` is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.random.below(n)
    }

    /// Puts `items` into a random order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.random.shuffle(items);
    }

    /// Normal with mean 0 and standard deviation 1 (the polar method of Marsaglia and Bray 1964).
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let stretch = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(y * stretch);
                return x * stretch;
            }
        }
    }

    /// The logarithm of a number from the gamma distribution of this shape and scale 1 (Marsaglia and Tsang 2000; below
    /// shape 1 by their note at the end). Logarithms, since for small shapes the numbers themselves are all 0.
    fn log_gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::log(1.0 - self.unit()) / shape;
            return self.log_gamma(shape + 1.0) + boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            let v = root * root * root;
            if v > 0.0 && libm::log(1.0 - self.unit()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return libm::log(d) + libm::log(v);
            }
        }
    }

    /// From Beta(alpha, alpha).
    pub(super) fn beta(&mut self, alpha: f64) -> f64 {
        let mut shares = [0.0; 2];
        self.dirichlet(alpha, &mut shares);
        shares[0]
    }

    /// Shares that add up to 1, from the Dirichlet distribution whose parameters are all `alpha`.
    pub(super) fn dirichlet(&mut self, alpha: f64, shares: &mut [f64]) {
        shares.fill_with(|| self.log_gamma(alpha));
        let most = shares.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for share in shares.iter_mut() {
            *share = libm::exp(*share - most);
        }
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
    }
}
