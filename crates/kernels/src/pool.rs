//! Pooling over blocked maps: `y[n, c, q] = max or mean over the window's pixels of x[n, c, s·q + d·t - pad]`.
//!
//! Padding never wins a maximum; the mean's divisor counts it or not (PyTorch's `count_include_pad`; in ceil mode a window
//! is cut at the end of the padded input first). Backward computes the winner again from `x`: the first of equals, row by
//! row. A task is one block of 16 channels of one picture. Checked against `reference/pool.rs`.

use crate::geometry::{TooSmall, Window};
use crate::layout::blocks;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// What a window gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Its largest element.
    Max,
    /// Its mean.
    Avg {
        /// Whether the divisor counts padding.
        count_include_pad: bool,
    },
}

/// A planned pooling.
#[derive(Clone, Debug)]
pub struct Pool {
    channels: usize,
    input: [usize; 2],
    output: [usize; 2],
    window: Window,
    kind: PoolKind,
    isa: Isa,
}

impl Pool {
    /// Plans a pooling over `channels` maps of `input` `[height, width]`.
    ///
    /// # Errors
    /// [`TooSmall`] when the input does not hold one placement.
    pub fn new(channels: usize, input: [usize; 2], window: Window, kind: PoolKind, isa: Isa) -> Result<Pool, TooSmall> {
        let output = window.output(input)?;
        Ok(Pool { channels, input, output, window, kind, isa })
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    fn lens(&self) -> [usize; 2] {
        [self.input, self.output].map(|[h, w]| h * w * LANES)
    }

    /// Pools `batch` pictures.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn forward(&self, threads: &Threads, batch: usize, x: &[f32], y: &mut [f32]) {
        let (tasks, [from, to]) = (batch * blocks(self.channels), self.lens());
        let y = Parts::new(&mut y[..tasks * to]);
        threads.run(tasks, &|task, _| {
            // SAFETY: each task has a block of its own.
            let y = unsafe { y.part(task * to..(task + 1) * to) };
            self.isa.run(Forward { pool: self, x: &x[task * from..][..from], y });
        });
    }

    /// `dx`: the gradient of `x` from `dy`, that of the output.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward(&self, threads: &Threads, batch: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (tasks, [from, to]) = (batch * blocks(self.channels), self.lens());
        let dx = Parts::new(&mut dx[..tasks * from]);
        threads.run(tasks, &|task, _| {
            // SAFETY: each task has a block of its own.
            let dx = unsafe { dx.part(task * from..(task + 1) * from) };
            let (x, dy) = (&x[task * from..][..from], &dy[task * to..][..to]);
            self.isa.run(Backward { pool: self, x, dy, dx });
        });
    }

    /// Pixels of the input along an axis that a placement meets, and how many of the padded input.
    #[inline(always)]
    fn meets(&self, axis: usize, placement: usize) -> (Span, usize) {
        let window = &self.window;
        let (begin, end) = window.pads(self.input);
        let (dilation, kernel) = (window.dilation[axis], window.kernel[axis]);
        let start = (placement * window.stride[axis]) as isize - begin[axis] as isize;
        let skipped = usize::try_from(-start).unwrap_or(0).div_ceil(dilation);
        let limit = |length: usize| {
            let room = length as isize - start;
            usize::try_from(room).unwrap_or(0).div_ceil(dilation).min(kernel)
        };
        let (last, padded) = (limit(self.input[axis]), limit(self.input[axis] + end[axis]));
        (Span { start, dilation, taps: skipped.min(last)..last }, padded)
    }

    /// The mean's divisor.
    #[inline(always)]
    fn divisor(&self, rows: &(Span, usize), columns: &(Span, usize)) -> f32 {
        match self.kind {
            PoolKind::Avg { count_include_pad: true } => (rows.1 * columns.1) as f32,
            PoolKind::Avg { count_include_pad: false } | PoolKind::Max => {
                (rows.0.taps.len() * columns.0.taps.len()) as f32
            }
        }
    }
}

/// The pixels of one axis that a window meets: `start + dilation · tap`.
struct Span {
    start: isize,
    dilation: usize,
    taps: Range<usize>,
}

impl Span {
    #[inline(always)]
    fn pixel(&self, tap: usize) -> usize {
        (self.start + (tap * self.dilation) as isize) as usize
    }
}

struct Forward<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { pool, x, y } = self;
        let [_, width] = pool.input;
        for (q, line) in y.chunks_exact_mut(pool.output[1] * LANES).enumerate() {
            let rows = pool.meets(0, q);
            for (r, y) in line.chunks_exact_mut(LANES).enumerate() {
                let columns = pool.meets(1, r);
                let max = pool.kind == PoolKind::Max;
                let mut result = s.splat(if max { f32::NEG_INFINITY } else { 0.0 });
                for i in rows.0.taps.clone() {
                    for j in columns.0.taps.clone() {
                        let at = (rows.0.pixel(i) * width + columns.0.pixel(j)) * LANES;
                        let x = s.read(&x[at..]);
                        result = if max { s.max(result, x) } else { s.add(result, x) };
                    }
                }
                let divisor = if max { 1.0 } else { pool.divisor(&rows, &columns) };
                s.write(y, s.div(result, s.splat(divisor)));
            }
        }
    }
}

struct Backward<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { pool, x, dy, dx } = self;
        let [_, width] = pool.input;
        dx.fill(0.0);
        let zero = s.splat(0.0);
        for (q, line) in dy.chunks_exact(pool.output[1] * LANES).enumerate() {
            let rows = pool.meets(0, q);
            for (r, dy) in line.chunks_exact(LANES).enumerate() {
                let columns = pool.meets(1, r);
                let place = |i: usize, j: usize| (rows.0.pixel(i) * width + columns.0.pixel(j)) * LANES;
                let mut best = s.splat(f32::NEG_INFINITY);
                let mut dy = s.read(dy);
                if pool.kind == PoolKind::Max {
                    for i in rows.0.taps.clone() {
                        for j in columns.0.taps.clone() {
                            best = s.max(best, s.read(&x[place(i, j)..]));
                        }
                    }
                } else {
                    dy = s.div(dy, s.splat(pool.divisor(&rows, &columns)));
                }
                // Lanes whose winner has not come yet.
                let mut open = u16::MAX;
                for i in rows.0.taps.clone() {
                    for j in columns.0.taps.clone() {
                        let at = place(i, j);
                        let mut here = u16::MAX;
                        if pool.kind == PoolKind::Max {
                            here = open & !s.gt(best, s.read(&x[at..]));
                            open &= !here;
                        }
                        let sum = s.add(s.read(&dx[at..]), s.select(here, dy, zero));
                        s.write(&mut dx[at..], sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Padding;
    use crate::layout::{from_blocked, to_blocked};
    use crate::reference::gradcheck::pattern;
    use crate::reference::pool::{self as reference, PoolProblem};

    fn check(isa: Isa, [batch, channels]: [usize; 2], input: [usize; 2], window: Window, kind: PoolKind) {
        let threads = Threads::new(2).unwrap();
        let what = format!("{} {input:?} {window:?} {kind:?}", isa.name());
        let pool = Pool::new(channels, input, window, kind, isa).unwrap();
        let problem = PoolProblem { planes: batch * channels, input, window };
        // Few distinct numbers, so that there are ties.
        let x: Vec<f64> = pattern(1, problem.input_len()).iter().map(|x| (x * 4.0).round() / 4.0).collect();
        let dy = pattern(2, problem.output_len());
        let (y, dx) = match kind {
            PoolKind::Max => {
                let result = reference::max_forward(&problem, &x);
                let dx = reference::max_backward(&problem, &result.winners, &dy);
                (result.output, dx)
            }
            PoolKind::Avg { count_include_pad } => (
                reference::avg_forward(&problem, count_include_pad, &x),
                reference::avg_backward(&problem, count_include_pad, &dy),
            ),
        };
        let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let [from, to] = [input, pool.output()].map(|[h, w]| [batch, channels, h * w]);
        let blocked = |dims: [usize; 3], v: &[f64]| {
            let mut out = vec![f32::NAN; batch * blocks(channels) * LANES * dims[2]];
            to_blocked(&threads, dims, &narrow(v), &mut out);
            out
        };
        let (x_blocked, dy_blocked) = (blocked(from, &x), blocked(to, &dy));
        let (mut y_blocked, mut dx_blocked) = (vec![f32::NAN; dy_blocked.len()], vec![f32::NAN; x_blocked.len()]);
        pool.forward(&threads, batch, &x_blocked, &mut y_blocked);
        pool.backward(&threads, batch, &x_blocked, &dy_blocked, &mut dx_blocked);
        for (dims, got, want) in [(to, &y_blocked, &y), (from, &dx_blocked, &dx)] {
            let mut plain = vec![0.0; want.len()];
            from_blocked(&threads, dims, got, &mut plain);
            for (got, want) in plain.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{what}: got {got}, want {want}");
            }
        }
    }

    #[test]
    fn agrees_with_the_reference_on_every_set() {
        let padded = |begin, end| Padding::Explicit { begin, end };
        let windows = [
            Window::square(2).stride(2),
            Window::square(3).stride(2),
            Window::square(3).stride(2).padding(1),
            Window { kernel: [3, 2], stride: [1, 2], padding: padded([1, 0], [0, 1]), ..Window::square(3) },
            Window { ceil_mode: true, ..Window::square(3).stride(2) },
            Window { ceil_mode: true, ..Window::square(3).stride(2).padding(1) },
        ];
        let kinds =
            [PoolKind::Max, PoolKind::Avg { count_include_pad: true }, PoolKind::Avg { count_include_pad: false }];
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for window in windows {
                for kind in kinds {
                    check(isa, [2, 20], [7, 10], window, kind);
                    check(isa, [1, 16], [6, 5], window, kind);
                }
            }
            let dilated = Window { dilation: [2, 3], ..Window::square(2) };
            check(isa, [2, 3], [7, 9], dilated, PoolKind::Max);
        }
    }
}
