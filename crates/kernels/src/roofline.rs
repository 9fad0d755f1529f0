//! What this machine can do at best, measured: the rate of fused multiply-adds, and how fast memory is read.
//!
//! All threads work at the same time for a twentieth of a second, in short turns. Each thread's best turn counts, for
//! other programs only ever slow a turn down, and the threads' rates are added.

use crate::memory::Buffer;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::Threads;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one figure is measured.
const PATIENCE: Duration = Duration::from_millis(50);

/// Most floats that are read in a turn: 2 MiB.
const TURN: usize = 1 << 19;

/// Vectors in flight: enough to hide the latency of an operation on every instruction set.
const CHAINS: usize = 12;

/// Independent chains of fused multiply-adds, so many operations long. All lanes of all chains start from other numbers and
/// all are added up at the end, so that no two operations can be computed as one: a vector of several registers would be, were
/// its halves equal.
struct Peak {
    rounds: usize,
    starts: [[f32; LANES]; CHAINS],
}

impl Peak {
    const FACTOR: f32 = 0.999;
    const ADDEND: f32 = 0.001;

    fn new(rounds: usize) -> Peak {
        let start = |chain: usize, lane: usize| (chain * LANES + lane) as f32 / 64.0;
        let starts = std::array::from_fn(|chain| std::array::from_fn(|lane| start(chain, lane)));
        Peak { rounds, starts: black_box(starts) }
    }
}

impl Kernel for Peak {
    /// The last number of each chain and lane.
    type Output = [[f32; LANES]; CHAINS];
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let (a, b) = (s.splat(black_box(Peak::FACTOR)), s.splat(black_box(Peak::ADDEND)));
        let mut chains = [s.splat(0.0); CHAINS];
        for (x, start) in chains.iter_mut().zip(&self.starts) {
            *x = s.read(start);
        }
        for _ in 0..self.rounds {
            for x in &mut chains {
                *x = s.fma(*x, a, b);
            }
        }
        let mut ends = self.starts;
        for (end, x) in ends.iter_mut().zip(chains) {
            s.write(end, x);
        }
        ends
    }
}

/// The sum of a slice, without what does not fill a round of vectors.
struct Read<'a>(&'a [f32]);

impl Kernel for Read<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut chains = [s.splat(0.0); CHAINS];
        for round in self.0.chunks_exact(CHAINS * LANES) {
            for (i, x) in chains.iter_mut().enumerate() {
                *x = s.add(*x, s.read(&round[i * LANES..]));
            }
        }
        sum(s, chains)
    }
}

#[inline(always)]
fn sum<S: Simd>(s: S, chains: [S::V; CHAINS]) -> f32 {
    let mut total = 0.0;
    for x in chains {
        total += s.lanes(x)[0];
    }
    total
}

/// Peak of fused multiply-adds in f32 on all threads together, two operations each, in 10⁹ a second.
pub fn gflops(threads: &Threads, isa: Isa) -> f64 {
    const ROUNDS: usize = 10_000;
    let turn = |_, _| {
        black_box(isa.run(Peak::new(ROUNDS)));
        ROUNDS * CHAINS * LANES * 2
    };
    rate(threads, &turn) / 1e9
}

/// How fast all threads together read a working set of so many bytes again and again, each its own part, in 10⁹ bytes a
/// second.
pub fn gigabytes_per_second(threads: &Threads, isa: Isa, bytes: usize) -> f64 {
    let tasks = threads.count();
    let part = (bytes / size_of::<f32>() / tasks).next_multiple_of(CHAINS * LANES);
    let mut buffer = Buffer::zeros(part * tasks);
    // Pages that nobody has written are all one page.
    buffer.fill(1.0);
    // Whole rounds of vectors, of equal length or a little less at a part's end.
    let length = part.div_ceil(part.div_ceil(TURN)).next_multiple_of(CHAINS * LANES);
    let turn = |task: usize, turn: usize| {
        let begin = turn % part.div_ceil(length) * length;
        let read = &buffer[task * part..][begin..part.min(begin + length)];
        black_box(isa.run(Read(read)));
        size_of_val(read)
    };
    rate(threads, &turn) / 1e9
}

/// What the threads do in a second, added: `turn(thread's number, turn's number)` gives how much it has done.
fn rate(threads: &Threads, turn: &(dyn Fn(usize, usize) -> usize + Sync)) -> f64 {
    let sum = Mutex::new(0.0);
    threads.run(threads.count(), &|task, _| {
        let (start, mut best) = (Instant::now(), 0.0_f64);
        // The first turn finds cold caches, but it is all that a very slow machine has time for.
        for number in 0.. {
            let begin = Instant::now();
            let done = turn(task, number);
            // A clock that stood still is no infinite speed.
            best = best.max(done as f64 / begin.elapsed().as_secs_f64().max(1e-9));
            if start.elapsed() >= PATIENCE {
                break;
            }
        }
        *sum.lock().unwrap_or_else(PoisonError::into_inner) += best;
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive_on_every_set_and_any_number_of_threads() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for count in [1, 3] {
                let threads = Threads::new(count).unwrap();
                let rates = [gflops(&threads, isa), gigabytes_per_second(&threads, isa, 1 << 16)];
                assert!(rates.iter().all(|rate| rate.is_finite() && *rate > 0.0), "{}: {rates:?}", isa.name());
            }
        }
    }

    #[test]
    fn every_lane_of_the_peak_is_computed_by_itself() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let ends = isa.run(Peak::new(50));
            for (start, end) in Peak::new(0).starts.iter().zip(&ends) {
                for (&start, &end) in start.iter().zip(end) {
                    let want = (0..50).fold(f64::from(start), |x, _| x * 0.999 + 0.001);
                    assert!((f64::from(end) - want).abs() < 1e-5, "{}: {start} gave {end}, want {want}", isa.name());
                }
            }
            let mut distinct: Vec<u32> = ends.iter().flatten().map(|end| end.to_bits()).collect();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), CHAINS * LANES, "{}", isa.name());
        }
    }

    #[test]
    fn the_whole_working_set_is_read() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let numbers: Vec<f32> = (0..2 * CHAINS * LANES).map(|i| if i % LANES == 0 { 1.0 } else { 0.0 }).collect();
            assert_eq!(isa.run(Read(&numbers)), 2.0 * CHAINS as f32);
        }
    }
}
