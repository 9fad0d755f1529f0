//! Weights of the forward direction, transposed into the order in which by data reads them, as numbers or as words of two.

use super::correlation::Correlation;
use crate::precision::Precision;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// Blocks of 16 × 16 weights that a task moves.
const BLOCKS_PER_TASK: usize = 64;

/// Where each block of 16 × 16 weights comes from and goes to.
#[derive(Clone, Debug)]
pub(super) struct Transposition {
    moves: Vec<Move>,
    precision: Precision,
}

#[derive(Clone, Copy, Debug)]
struct Move {
    from: usize,
    from_row: usize,
    to: usize,
    to_row: usize,
}

impl Move {
    /// Where a row of the transposed block lies.
    #[inline(always)]
    fn row(&self, i: usize) -> std::ops::Range<usize> {
        let at = self.to + i * self.to_row;
        at..at + LANES
    }
}

impl Transposition {
    pub(super) fn new(forward: &Correlation, backward: &Correlation) -> Transposition {
        let mut moves = Vec::new();
        let precision = backward.precision();
        let (per_word, unit) = (precision.per_word(), LANES / precision.per_word());
        let kernel = &forward.phases[0].kernel;
        for target in &backward.panels {
            for phase in &backward.phases {
                for (p, plane) in target.planes.clone().enumerate() {
                    let of_plane = |panel: &&super::Panel| (panel.block..panel.block + panel.width).contains(&plane);
                    let source = forward.panels.iter().find(of_plane).expect("every block is in a panel");
                    for (t, element) in phase.kernel.iter().enumerate() {
                        let tap = kernel.iter().position(|k| k == element).expect("both directions share the kernel");
                        for lane in 0..target.width {
                            let input = target.block + lane - source.planes.start;
                            let from_row = source.width * LANES;
                            let from = (input * kernel.len() + tap) * LANES * from_row + (plane - source.block) * LANES;
                            let to_row = target.width * LANES;
                            let tap_of_panel = target.planes.len() * phase.taps_before + p * phase.kernel.len() + t;
                            let to = target.weights / per_word + tap_of_panel * unit * to_row + lane * LANES;
                            moves.push(Move { from: source.weights + from, from_row, to, to_row });
                        }
                    }
                }
            }
        }
        Transposition { moves, precision }
    }

    pub(super) fn run(&self, isa: Isa, threads: &Threads, weights: &[f32], transposed: &mut [f32]) {
        let transposed = Parts::new(transposed);
        threads.run(self.moves.len().div_ceil(BLOCKS_PER_TASK), &|task, _| {
            let moves = &self.moves[task * BLOCKS_PER_TASK..];
            let moves = &moves[..moves.len().min(BLOCKS_PER_TASK)];
            match self.precision {
                Precision::F32 => isa.run(Moves { moves, weights, transposed, pairs: false }),
                Precision::Bf16 => isa.run_bf16(Moves { moves, weights, transposed, pairs: true }),
            }
        });
    }
}

struct Moves<'a> {
    moves: &'a [Move],
    weights: &'a [f32],
    transposed: Parts<'a, f32>,
    /// Whether two rows become one of words.
    pairs: bool,
}

impl Kernel for Moves<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for m in self.moves {
            let mut columns = [s.splat(0.0); LANES];
            let from = &self.weights[m.from..][..15 * m.from_row + LANES];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = s.read(&from[i * m.from_row..]);
            }
            let rows = s.transpose(columns);
            let count = if self.pairs { LANES / 2 } else { LANES };
            for i in 0..count {
                let row = if self.pairs { s.pair(rows[2 * i], rows[2 * i + 1]) } else { rows[i] };
                // SAFETY: each move has 16 rows of floats, or 8 of words, of its own.
                s.write(unsafe { self.transposed.part(m.row(i)) }, row);
            }
        }
    }
}
