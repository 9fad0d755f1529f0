//! Pooling over blocked maps: `y[n, c, q] = max or mean over the window's pixels of x[n, c, s·q + d·t - pad]`.
//!
//! Padding never wins a maximum; the mean's divisor counts it or not (PyTorch's `count_include_pad`; in ceil mode a window
//! is cut at the end of the padded input first). A NaN makes the results of its windows NaN, and so do infinities of both
//! signs in one window. Backward computes the winner again from `x`: the first of equals, row by
//! row. A task is one block of 16 channels of one picture. Checked against `reference/pool.rs`.

use crate::geometry::{TooSmall, Window, adaptive_span};
use crate::layout::{Maps, MapsMut, blocks};
use crate::precision::{Element, F32, Map, map};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

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
    dilation: [usize; 2],
    /// The span of every placement, along each axis.
    spans: [Vec<Span>; 2],
    kind: PoolKind,
    isa: Isa,
}

impl Pool {
    /// Plans a pooling over `channels` maps of `input` `[height, width]`.
    ///
    /// # Errors
    /// [`TooSmall`] when the input does not hold one placement.
    ///
    /// # Panics
    /// When a window holds padding alone, which padding of at most half the kernel excludes unless it is dilated.
    pub fn new(channels: usize, input: [usize; 2], window: Window, kind: PoolKind, isa: Isa) -> Result<Pool, TooSmall> {
        let output = window.output(input)?;
        let spans = [0, 1].map(|axis| spans(&window, axis, input, output[axis]));
        Ok(Pool { channels, input, output, dilation: window.dilation, spans, kind, isa })
    }

    /// Plans a mean pooling to `output` `[height, width]`, whose windows are [`adaptive_span`]s.
    pub fn adaptive(channels: usize, input: [usize; 2], output: [usize; 2], isa: Isa) -> Pool {
        let span = |axis: usize, index: usize| {
            let pixels = adaptive_span(index, input[axis], output[axis]);
            Span { first: pixels.start, taps: pixels.len(), padded: pixels.len() }
        };
        let spans = [0, 1].map(|axis| (0..output[axis]).map(|index| span(axis, index)).collect());
        let kind = PoolKind::Avg { count_include_pad: false };
        Pool { channels, input, output, dilation: [1, 1], spans, kind, isa }
    }

    /// Whether [`Pool::backward`] reads `x`.
    pub fn backward_reads_input(&self) -> bool {
        self.kind == PoolKind::Max
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
    pub fn forward(&self, threads: &Threads, batch: usize, x: Maps<'_>, y: MapsMut<'_>) {
        let (blocks, [from, to]) = (blocks(self.channels), self.lens());
        assert!(y.as_maps().hold_stored(batch, blocks * to));
        let (placing, y) = (y.placing(), Parts::new(y.data));
        threads.run(batch * blocks, &|task, _| {
            let (n, block) = (task / blocks, task % blocks);
            // SAFETY: each task has a block of its own.
            let y = unsafe { y.part(placing.range(n, block * to, to)) };
            map(self.isa, [x.stored, placing.stored], Forward { pool: self, x: x.part(n, block * from, from), y });
        });
    }

    /// `dx`: the gradient of `x` from `dy`, that of the output; added to what `dx` holds if asked. A mean does not read
    /// `x`, which may then be empty.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dx: MapsMut<'_>,
        accumulate: bool,
    ) {
        let (blocks, [from, to]) = (blocks(self.channels), self.lens());
        assert!(dx.as_maps().hold(batch, blocks * from));
        let (dx_stride, dx) = (dx.stride, Parts::new(dx.data));
        threads.run(batch * blocks, &|task, _| {
            let (n, block) = (task / blocks, task % blocks);
            let at = n * dx_stride + block * from;
            // SAFETY: each task has a block of its own.
            let dx = unsafe { dx.part(at..at + from) };
            if !accumulate {
                dx.fill(0.0);
            }
            let dy = &dy.data[n * dy.stride + block * to..][..to];
            let x = match self.backward_reads_input() {
                true => &x.data[n * x.stride + block * from..][..from],
                false => &[],
            };
            self.isa.run(Backward { pool: self, x, dy, dx });
        });
    }
}

/// What one placement of the window meets along one axis.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Pixel under the first tap that is not on padding.
    first: usize,
    /// Taps that are not on padding.
    taps: usize,
    /// Taps that are on the padded input.
    padded: usize,
}

/// The spans of every placement along an axis.
fn spans(window: &Window, axis: usize, input: [usize; 2], outputs: usize) -> Vec<Span> {
    let (begin, end) = window.pads(input);
    let (kernel, stride, dilation) = (window.kernel[axis], window.stride[axis], window.dilation[axis]);
    let span = |placement: usize| {
        // Counted in pixels of the padded input.
        let start = placement * stride;
        let taps_before = |limit: usize| limit.saturating_sub(start).div_ceil(dilation).min(kernel);
        let skipped = taps_before(begin[axis]);
        let last = taps_before(begin[axis] + input[axis]);
        let padded = taps_before(begin[axis] + input[axis] + end[axis]);
        assert!(skipped < last, "a window of {kernel} at {placement} holds padding alone");
        Span { first: start + skipped * dilation - begin[axis], taps: last - skipped, padded }
    };
    (0..outputs).map(span).collect()
}

impl Pool {
    /// Every placement with its output pixel's number.
    #[inline(always)]
    fn windows(&self) -> impl Iterator<Item = (usize, [Span; 2])> {
        let [rows, columns] = &self.spans;
        rows.iter().flat_map(|&row| columns.iter().map(move |&column| [row, column])).enumerate()
    }

    /// The number of a window's pixel.
    #[inline(always)]
    fn pixel(&self, [rows, columns]: [Span; 2], i: usize, j: usize) -> usize {
        let [down, right] = self.dilation;
        (rows.first + i * down) * self.input[1] + columns.first + j * right
    }

    /// The mean's divisor.
    #[inline(always)]
    fn divisor(&self, [rows, columns]: [Span; 2], count_include_pad: bool) -> f32 {
        (if count_include_pad { rows.padded * columns.padded } else { rows.taps * columns.taps }) as f32
    }

    /// The largest elements and the sums of a window. Loops are written out here and below: see `simd/mod.rs`.
    #[inline(always)]
    fn look<S: Simd, X: Element>(&self, s: S, window: [Span; 2], x: &[f32]) -> [S::V; 2] {
        let (mut best, mut sum) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
        for i in 0..window[0].taps {
            for j in 0..window[1].taps {
                let x = X::read(s, &x[self.pixel(window, i, j) * LANES / X::PER_WORD..]);
                best = s.max(best, x);
                sum = s.add(sum, x);
            }
        }
        [best, sum]
    }
}

struct Forward<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Map for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, X: Element, Y: Element>(self, s: S) {
        let Forward { pool, x, y } = self;
        for (q, window) in pool.windows() {
            let [best, sum] = pool.look::<S, X>(s, window, x);
            let result = match pool.kind {
                PoolKind::Max => {
                    // `max` forgets a NaN that a number follows, a sum does not.
                    let number = s.gt(sum, s.splat(f32::NEG_INFINITY)) | s.gt(s.splat(f32::INFINITY), sum);
                    s.select(number, best, sum)
                }
                PoolKind::Avg { count_include_pad } => s.div(sum, s.splat(pool.divisor(window, count_include_pad))),
            };
            Y::write(s, &mut y[q * LANES / Y::PER_WORD..], result);
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
        let (pool, x, dy) = (self.pool, self.x, self.dy.as_chunks::<LANES>().0);
        let dx = self.dx.as_chunks_mut::<LANES>().0;
        let zero = s.splat(0.0);
        for (q, window) in pool.windows() {
            let mut share = s.read(&dy[q]);
            let mut best = zero;
            match pool.kind {
                PoolKind::Max => best = pool.look::<S, F32>(s, window, x)[0],
                PoolKind::Avg { count_include_pad } => {
                    share = s.div(share, s.splat(pool.divisor(window, count_include_pad)));
                }
            }
            // Lanes whose winner has not come yet.
            let mut open = u16::MAX;
            for i in 0..window[0].taps {
                for j in 0..window[1].taps {
                    let at = pool.pixel(window, i, j);
                    let mut part = share;
                    if pool.kind == PoolKind::Max {
                        let here = open & !s.gt(best, s.read(&x[at * LANES..]));
                        open &= !here;
                        part = s.select(here, share, zero);
                    }
                    let sum = s.add(s.read(&dx[at]), part);
                    s.write(&mut dx[at], sum);
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
    use crate::precision::{Precision, bits, words};
    use crate::reference::gradcheck::pattern;
    use crate::reference::pool::{self as reference, AdaptiveProblem, PoolProblem};

    fn check(isa: Isa, [batch, channels]: [usize; 2], input: [usize; 2], window: Window, kind: PoolKind) {
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
        compare(&what, &pool, [batch, channels], [&x, &dy], [&y, &dx]);
    }

    /// Output and gradient, which is once written and once added, against those of the reference.
    fn compare(what: &str, pool: &Pool, [batch, channels]: [usize; 2], given: [&[f64]; 2], want: [&[f64]; 2]) {
        let threads = Threads::new(2).unwrap();
        let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let [from, to] = [pool.input, pool.output()].map(|[h, w]| [batch, channels, h * w]);
        let [from_len, to_len] = pool.lens().map(|len| len * blocks(channels));
        let blocked = |dims: [usize; 3], len: usize, v: &[f64]| {
            let mut out = vec![f32::NAN; batch * len];
            to_blocked(&threads, dims, &narrow(v), MapsMut::packed(&mut out, len));
            out
        };
        let (x, dy) = (blocked(from, from_len, given[0]), blocked(to, to_len, given[1]));
        let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
        let in_words = words(&x);
        let (x, dy) = (Maps::packed(&x, from_len), Maps::packed(&dy, to_len));
        pool.forward(&threads, batch, x, MapsMut::packed(&mut y, to_len));
        // Stored in bf16, `x` is rounded (the mean's input is), and so is a result.
        let (mut narrow, mut wide) = (vec![f32::NAN; y.len() / 2], vec![f32::NAN; y.len()]);
        let x_words = Maps { data: &in_words, stride: from_len / 2, stored: Precision::Bf16 };
        let y_words = MapsMut { data: &mut narrow, stride: to_len / 2, stored: Precision::Bf16 };
        pool.forward(&threads, batch, x_words, y_words);
        pool.forward(&threads, batch, x_words, MapsMut::packed(&mut wide, to_len));
        assert_eq!(bits(&narrow), bits(&words(&wide)), "{what}: in bf16");
        let near = |(wide, y): (&f32, &f32)| (wide - y).abs() <= 5e-3 * y.abs().max(1.0);
        assert!(wide.iter().zip(&y).all(near), "{what}: from bf16");
        pool.backward(&threads, batch, x, dy, MapsMut::packed(&mut dx, from_len), false);
        let mut twice = dx.clone();
        pool.backward(&threads, batch, x, dy, MapsMut::packed(&mut twice, from_len), true);
        assert!(dx.iter().zip(&twice).all(|(once, twice)| (2.0 * once - twice).abs() < 1e-5), "{what}: twice");
        for (dims, len, got, want) in [(to, to_len, &y, want[0]), (from, from_len, &dx, want[1])] {
            let mut plain = vec![0.0; want.len()];
            from_blocked(&threads, dims, Maps::packed(got, len), &mut plain);
            for (got, want) in plain.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-5, "{what}: got {got}, want {want}");
            }
            let total = |v: &[f32]| v.iter().map(|&x| f64::from(x.abs())).sum::<f64>();
            assert!((total(got) - total(&plain)).abs() < 1e-9, "{what}: lanes past the last channel hold 0");
        }
    }

    #[test]
    fn adaptive_pooling_agrees_with_the_reference() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for (input, output) in [([7, 7], [1, 1]), ([5, 9], [7, 3]), ([6, 4], [6, 4])] {
                let problem = AdaptiveProblem { planes: 2 * 20, input, output };
                let pool = Pool::adaptive(20, input, output, isa);
                let (x, dy) = (pattern(1, 40 * input[0] * input[1]), pattern(2, 40 * output[0] * output[1]));
                let y = reference::adaptive_avg_forward(&problem, &x);
                let dx = reference::adaptive_avg_backward(&problem, &dy);
                compare(&format!("{} {input:?} {output:?}", isa.name()), &pool, [2, 20], [&x, &dy], [&y, &dx]);
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
            for kind in kinds {
                // One window that hangs over the whole input.
                check(isa, [2, 20], [2, 1], Window { kernel: [3, 2], ceil_mode: true, ..windows[0] }, kind);
                check(isa, [1, 3], [1, 2], Window { ceil_mode: true, ..Window::square(5).stride(4).padding(1) }, kind);
            }
            let dilated = Window { dilation: [2, 3], ..Window::square(2) };
            check(isa, [2, 3], [7, 9], dilated, PoolKind::Max);
        }
    }

    #[test]
    fn a_nan_wins_wherever_it_stands() {
        let threads = Threads::new(1).unwrap();
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let pool = Pool::new(16, [3, 3], Window::square(3), PoolKind::Max, isa).unwrap();
            for place in 0..9 * LANES {
                let (mut x, mut y) = ([-1.0; 9 * LANES], [0.0; LANES]);
                x[(place + 5 * LANES) % x.len()] = f32::NEG_INFINITY;
                x[place] = f32::NAN;
                pool.forward(&threads, 1, Maps::packed(&x, x.len()), MapsMut::packed(&mut y, LANES));
                let right = |(lane, y): (usize, &f32)| if lane == place % LANES { y.is_nan() } else { *y == -1.0 };
                assert!(y.iter().enumerate().all(right), "{} {place} {y:?}", isa.name());
            }
        }
    }
}
