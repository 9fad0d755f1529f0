//! What stands between two convolutions, in one pass over memory: batch normalisation, ReLU, 2×2 maximum pooling at
//! stride 2, and channel dropout, each of them optional.
//!
//! `z = scale · x + shift` per channel, `y = drop(pool(max(z, 0)))`, where training's `scale = γ / √(var + eps)` and
//! `shift = β - mean · scale` come from the batch (Ioffe and Szegedy 2015, algorithm 1) and a chain without
//! normalisation has scale 1 and shift 0. Everything is in the blocked layout `[n][c/16][h][w][16]`; numbers per channel
//! are padded with zeros to whole blocks.
//!
//! Nothing but `x` is kept for backward: which pixel won and whether it was positive are computed again from `x` exactly
//! as forward did, and dropout from its seed. Backward takes two passes, because the gradient of a normalised element
//! needs the sums over its whole channel (ibid., section 3). Sums go over one channel of one picture in f32, around a
//! pivot from the picture, and over pictures in f64, in order: they do not depend on the threads.

use crate::geometry::Window;
use crate::layout::blocks;
use crate::random;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// Channel dropout of one step: `keep` of `random.rs` with index `n · channels + c`.
#[derive(Clone, Copy, Debug)]
pub struct Drop {
    /// Of this step and layer.
    pub seed: u64,
    /// Probability of being set to zero.
    pub p: f32,
}

/// A planned chain.
#[derive(Clone, Copy, Debug)]
pub struct NormChain {
    channels: usize,
    input: [usize; 2],
    relu: bool,
    pool: bool,
    isa: Isa,
}

/// Two sums per channel and picture, 16 channels of a block side by side.
const SUMS: usize = 2 * LANES;

impl NormChain {
    /// Plans a chain over `channels` maps of `input` `[height, width]`; `pool` needs at least 2 × 2 pixels.
    pub fn new(channels: usize, input: [usize; 2], relu: bool, pool: bool, isa: Isa) -> NormChain {
        assert!(!pool || (input[0] >= 2 && input[1] >= 2), "pooling needs 2 x 2 pixels");
        NormChain { channels, input, relu, pool, isa }
    }

    /// Whether a maximum pooling is the one that this chain has.
    pub fn pools(window: &Window, input: [usize; 2]) -> bool {
        *window == Window::square(2).stride(2) && input[0] >= 2 && input[1] >= 2
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        if self.pool { self.input.map(|n| n / 2) } else { self.input }
    }

    /// Pixels of one channel of one input picture.
    pub fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Floats of one input picture.
    pub fn input_len(&self) -> usize {
        blocks(self.channels) * self.input_pixels() * LANES
    }

    /// Floats of one output picture.
    pub fn output_len(&self) -> usize {
        let [h, w] = self.output();
        blocks(self.channels) * h * w * LANES
    }

    /// Floats of scratch that [`NormChain::statistics`] and [`NormChain::backward_sums`] need.
    pub fn scratch_len(&self, batch: usize) -> usize {
        batch * blocks(self.channels) * SUMS
    }

    /// Mean and biased variance of each channel over the batch.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn statistics(
        &self,
        threads: &Threads,
        batch: usize,
        x: &[f32],
        mean: &mut [f32],
        var: &mut [f32],
        scratch: &mut [f32],
    ) {
        let plane = self.input_pixels() * LANES;
        self.each_plane(threads, batch, scratch, &|task, sums| {
            self.isa.run(PlaneSums { x: &x[task * plane..][..plane], sums });
        });
        let (blocks, pixels) = (blocks(self.channels), self.input_pixels() as f64);
        for (c, (mean, var)) in mean.iter_mut().zip(&mut *var).enumerate().take(blocks * LANES) {
            let (block, lane) = (c / LANES, c % LANES);
            // Chan, Golub and LeVeque 1979: the squares around the mean of all from those around each picture's.
            let (mut m, mut squares) = (0.0, 0.0);
            for n in 0..batch {
                let at = (n * blocks + block) * SUMS + lane;
                let (sum, square) = (f64::from(scratch[at]), f64::from(scratch[at + LANES]));
                let own = f64::from(x[(n * blocks + block) * plane + lane]) + sum / pixels;
                let (delta, before) = (own - m, n as f64);
                m += delta / (before + 1.0);
                squares += square - sum * sum / pixels + delta * delta * pixels * before / (before + 1.0);
            }
            *mean = m as f32;
            *var = (squares.max(0.0) / (pixels * batch as f64)) as f32;
        }
    }

    /// Calls a task for each block of 16 channels of each picture with its own two sums.
    fn each_plane(
        &self,
        threads: &Threads,
        batch: usize,
        scratch: &mut [f32],
        task: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        let sums = Parts::new(scratch);
        threads.run(batch * blocks(self.channels), &|i, _| {
            // SAFETY: each task has sums of its own.
            task(i, unsafe { sums.part(i * SUMS..(i + 1) * SUMS) });
        });
    }

    /// `y = drop(pool(max(scale · x + shift, 0)))`.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one chain")]
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        x: &[f32],
        scale: &[f32],
        shift: &[f32],
        drop: Option<Drop>,
        y: &mut [f32],
    ) {
        let blocks = blocks(self.channels);
        let (from, to) = (self.input_len() / blocks, self.output_len() / blocks);
        let y = Parts::new(&mut y[..batch * self.output_len()]);
        threads.run(batch * blocks, &|task, _| {
            let channels = task % blocks * LANES..(task % blocks + 1) * LANES;
            self.isa.run(Forward {
                chain: self,
                x: &x[task * from..][..from],
                scale: &scale[channels.clone()],
                shift: &shift[channels],
                factor: self.factors(drop, task),
                // SAFETY: each task has a block of its own.
                y: unsafe { y.part(task * to..(task + 1) * to) },
            });
        });
    }

    /// What dropout multiplies each channel of a block with.
    fn factors(&self, drop: Option<Drop>, task: usize) -> [f32; LANES] {
        let Some(Drop { seed, p }) = drop else { return [1.0; LANES] };
        let blocks = blocks(self.channels);
        let first = task / blocks * self.channels + task % blocks * LANES;
        let factor = |lane: usize| match random::keep(seed, (first + lane) as u64, p) {
            true => 1.0 / (1.0 - p),
            false => 0.0,
        };
        std::array::from_fn(factor)
    }

    /// The sums over batch and pixels that both passes of backward need, per channel: of `dz`, the gradient of
    /// `scale · x + shift`, and of `dz · (x - mean)`. The first is the gradient of β (or of the convolution's bias, where
    /// nothing is normalised), the second times `1 / √(var + eps)` that of γ.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward_sums(
        &self,
        threads: &Threads,
        given: &Given<'_>,
        x: &[f32],
        sums: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let blocks = blocks(self.channels);
        let (from, to) = (self.input_len() / blocks, self.output_len() / blocks);
        self.each_plane(threads, given.batch, scratch, &|task, sums| {
            let channels = task % blocks * LANES..(task % blocks + 1) * LANES;
            self.isa.run(BackwardSums {
                chain: self,
                x: &x[task * from..][..from],
                dy: &given.dy[task * to..][..to],
                scale: &given.scale[channels.clone()],
                shift: &given.shift[channels.clone()],
                mean: &given.mean[channels],
                factor: self.factors(given.drop, task),
                sums,
            });
        });
        for (which, totals) in sums.into_iter().enumerate() {
            for (c, total) in totals.iter_mut().enumerate().take(blocks * LANES) {
                let at = |n: usize| (n * blocks + c / LANES) * SUMS + which * LANES + c % LANES;
                *total = (0..given.batch).map(|n| f64::from(scratch[at(n)])).sum::<f64>() as f32;
            }
        }
    }

    /// `dx = a · dz + b · x + c` per channel, for the three numbers in `linear`; `x` is what `dx` holds before, or
    /// lies elsewhere. For a normalisation `a = scale`, `b = -scale · Σdz(x - mean) / (N · (var + eps))` and
    /// `c = -scale · Σdz / N - b · mean`, with N the elements of a channel in the batch; else 1, 0 and 0.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward_data(
        &self,
        threads: &Threads,
        given: &Given<'_>,
        linear: [&[f32]; 3],
        x: Option<&[f32]>,
        dx: &mut [f32],
    ) {
        let blocks = blocks(self.channels);
        let (from, to) = (self.input_len() / blocks, self.output_len() / blocks);
        let dx = Parts::new(&mut dx[..given.batch * self.input_len()]);
        threads.run(given.batch * blocks, &|task, _| {
            let channels = task % blocks * LANES..(task % blocks + 1) * LANES;
            // SAFETY: each task has a block of its own.
            let dx = unsafe { dx.part(task * from..(task + 1) * from) };
            if let Some(x) = x {
                dx.copy_from_slice(&x[task * from..][..from]);
            }
            self.isa.run(BackwardData {
                chain: self,
                dy: &given.dy[task * to..][..to],
                scale: &given.scale[channels.clone()],
                shift: &given.shift[channels.clone()],
                linear: linear.map(|v| &v[channels.clone()]),
                factor: self.factors(given.drop, task),
                dx,
            });
        });
    }
}

/// What both passes of backward are given.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Pictures.
    pub batch: usize,
    /// Gradient of the output.
    pub dy: &'a [f32],
    /// As in forward.
    pub scale: &'a [f32],
    /// As in forward.
    pub shift: &'a [f32],
    /// Around which products with `x` are summed.
    pub mean: &'a [f32],
    /// As in forward.
    pub drop: Option<Drop>,
}

/// Σ(x - p) and Σ(x - p)² over a plane, with its first pixel as the pivot p.
struct PlaneSums<'a> {
    x: &'a [f32],
    sums: &'a mut [f32],
}

impl Kernel for PlaneSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pivot = s.read(self.x);
        let mut sums = [[s.splat(0.0); 2]; 4];
        for pixels in self.x.chunks(4 * LANES) {
            for (pixel, sum) in pixels.chunks_exact(LANES).zip(&mut sums) {
                let x = s.sub(s.read(pixel), pivot);
                sum[0] = s.add(sum[0], x);
                sum[1] = s.fma(x, x, sum[1]);
            }
        }
        for which in 0..2 {
            let pairs = [s.add(sums[0][which], sums[1][which]), s.add(sums[2][which], sums[3][which])];
            s.write(&mut self.sums[which * LANES..], s.add(pairs[0], pairs[1]));
        }
    }
}

/// The four pixels of a pooling window, as places of their first channel in a plane.
#[inline(always)]
fn quad(width: usize, row: usize, column: usize) -> [usize; 4] {
    let at = (2 * row * width + 2 * column) * LANES;
    [at, at + LANES, at + width * LANES, at + (width + 1) * LANES]
}

/// The four vectors of a pooling window. (Loops here and below are written out: a closure would be compiled without the
/// instruction set.)
#[inline(always)]
fn read_quad<S: Simd>(s: S, plane: &[f32], places: [usize; 4]) -> [S::V; 4] {
    let mut x = [s.splat(0.0); 4];
    for k in 0..4 {
        x[k] = s.read(&plane[places[k]..]);
    }
    x
}

/// `scale · x + shift` of four vectors.
#[inline(always)]
fn affine<S: Simd>(s: S, x: [S::V; 4], scale: S::V, shift: S::V) -> [S::V; 4] {
    let mut z = x;
    for k in 0..4 {
        z[k] = s.fma(x[k], scale, shift);
    }
    z
}

/// The largest of four and, for each, the lanes in which it is that: the first of equals.
#[inline(always)]
fn winner<S: Simd>(s: S, z: [S::V; 4]) -> (S::V, [u16; 4]) {
    let mut best = z[0];
    let mut later = [0; 4];
    for k in 1..4 {
        later[k] = s.gt(z[k], best);
        best = s.select(later[k], z[k], best);
    }
    let [_, one, two, three] = later;
    (best, [!(one | two | three), one & !(two | three), two & !three, three])
}

struct Forward<'a> {
    chain: &'a NormChain,
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    factor: [f32; LANES],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { chain, x, y, .. } = self;
        let (scale, shift, factor) = (s.read(self.scale), s.read(self.shift), s.read(&self.factor));
        let zero = s.splat(0.0);
        let [_, width] = chain.input;
        if !chain.pool {
            for (x, y) in x.chunks_exact(LANES).zip(y.chunks_exact_mut(LANES)) {
                let z = s.fma(s.read(x), scale, shift);
                let z = if chain.relu { s.max(zero, z) } else { z };
                s.write(y, s.mul(z, factor));
            }
            return;
        }
        let columns = chain.output()[1];
        for (row, line) in y.chunks_exact_mut(columns * LANES).enumerate() {
            for (column, y) in line.chunks_exact_mut(LANES).enumerate() {
                let z = affine(s, read_quad(s, x, quad(width, row, column)), scale, shift);
                let best = s.max(s.max(z[0], z[1]), s.max(z[2], z[3]));
                let best = if chain.relu { s.max(zero, best) } else { best };
                s.write(y, s.mul(best, factor));
            }
        }
    }
}

struct BackwardSums<'a> {
    chain: &'a NormChain,
    x: &'a [f32],
    dy: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    mean: &'a [f32],
    factor: [f32; LANES],
    sums: &'a mut [f32],
}

impl Kernel for BackwardSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardSums { chain, x, dy, .. } = self;
        let (scale, shift, mean) = (s.read(self.scale), s.read(self.shift), s.read(self.mean));
        let (factor, zero) = (s.read(&self.factor), s.splat(0.0));
        let mut sums = [zero; 2];
        let [_, width] = chain.input;
        if chain.pool {
            let columns = chain.output()[1];
            for (row, line) in dy.chunks_exact(columns * LANES).enumerate() {
                for (column, dy) in line.chunks_exact(LANES).enumerate() {
                    let x = read_quad(s, x, quad(width, row, column));
                    let (z, won) = winner(s, affine(s, x, scale, shift));
                    let low = s.select(won[1], x[1], x[0]);
                    let high = s.select(won[3], x[3], x[2]);
                    let x = s.select(won[0] | won[1], low, high);
                    sums = add_sums(s, sums, chain.relu, s.sub(x, mean), z, s.mul(s.read(dy), factor));
                }
            }
        } else {
            for (x, dy) in x.chunks_exact(LANES).zip(dy.chunks_exact(LANES)) {
                let x = s.read(x);
                let z = s.fma(x, scale, shift);
                sums = add_sums(s, sums, chain.relu, s.sub(x, mean), z, s.mul(s.read(dy), factor));
            }
        }
        s.write(self.sums, sums[0]);
        s.write(&mut self.sums[LANES..], sums[1]);
    }
}

/// Adds `dz` and `dz · (x - mean)` of one pixel, where `z` is what the ReLU sees.
#[inline(always)]
fn add_sums<S: Simd>(s: S, sums: [S::V; 2], relu: bool, centred: S::V, z: S::V, dy: S::V) -> [S::V; 2] {
    let zero = s.splat(0.0);
    let dz = if relu { s.select(s.gt(z, zero), dy, zero) } else { dy };
    [s.add(sums[0], dz), s.fma(dz, centred, sums[1])]
}

struct BackwardData<'a> {
    chain: &'a NormChain,
    dy: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    linear: [&'a [f32]; 3],
    factor: [f32; LANES],
    /// Holds x, and then its gradient.
    dx: &'a mut [f32],
}

impl Kernel for BackwardData<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardData { chain, dy, dx, .. } = self;
        let (scale, shift, zero) = (s.read(self.scale), s.read(self.shift), s.splat(0.0));
        let [a, b, c] = self.linear;
        let (a, b, c) = (s.read(a), s.read(b), s.read(c));
        // `a` and dropout's factor both multiply the gradient.
        let a = s.mul(a, s.read(&self.factor));
        let [height, width] = chain.input;
        if !chain.pool {
            for (x, dy) in dx.chunks_exact_mut(LANES).zip(dy.chunks_exact(LANES)) {
                let (value, dy) = (s.read(x), s.read(dy));
                let z = s.fma(value, scale, shift);
                let dz = if chain.relu { s.select(s.gt(z, zero), dy, zero) } else { dy };
                s.write(x, s.fma(dz, a, s.fma(value, b, c)));
            }
            return;
        }
        let [rows, columns] = chain.output();
        for (row, line) in dy.chunks_exact(columns * LANES).enumerate() {
            for (column, dy) in line.chunks_exact(LANES).enumerate() {
                let places = quad(width, row, column);
                let x = read_quad(s, dx, places);
                let (z, won) = winner(s, affine(s, x, scale, shift));
                let active = if chain.relu { s.gt(z, zero) } else { u16::MAX };
                let dz = s.mul(s.read(dy), a);
                for k in 0..4 {
                    let rest = s.fma(x[k], b, c);
                    s.write(&mut dx[places[k]..], s.select(won[k] & active, s.add(rest, dz), rest));
                }
            }
        }
        // Pixels that no window covers.
        let beyond = |place: usize| place / width >= 2 * rows || place % width >= 2 * columns;
        if 2 * rows < height || 2 * columns < width {
            for (place, x) in dx.chunks_exact_mut(LANES).enumerate() {
                if beyond(place) {
                    s.write(x, s.fma(s.read(x), b, c));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{from_blocked, to_blocked};
    use crate::reference::batch_norm::BatchNorm;
    use crate::reference::gradcheck::pattern;
    use crate::reference::pool::{self, PoolProblem};
    use crate::reference::{dropout, relu};

    fn close(what: &str, got: &[f32], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((f64::from(*got) - want).abs() < 1e-5 * want.abs().max(1.0), "{what}[{i}]: got {got}, want {want}");
        }
    }

    /// The chain by the references: output and gradients of x, γ and β.
    fn expected(
        [batch, channels, h, w]: [usize; 4],
        relu_on: bool,
        pool_on: bool,
        drop: Option<Drop>,
        [x, gamma, beta, dy]: [&[f64]; 4],
    ) -> (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>) {
        let norm = BatchNorm { batch, pixels: h * w, weight: gamma, bias: beta, eps: 1e-5f32.into() };
        let statistics = norm.statistics(x);
        let z = norm.forward(x, &statistics);
        let active = if relu_on { relu::forward(&z) } else { z.clone() };
        let window = if pool_on { Window::square(2).stride(2) } else { Window::square(1) };
        let problem = PoolProblem { planes: batch * channels, input: [h, w], window };
        let pooled = pool::max_forward(&problem, &active);
        let pixels = pooled.output.len() / (batch * channels);
        let drop_channels = |v: &[f64]| match drop {
            Some(Drop { seed, p }) => dropout::channels(v, pixels, p, |i| random::keep(seed, i, p)),
            None => v.to_vec(),
        };
        let y = drop_channels(&pooled.output);
        let d = pool::max_backward(&problem, &pooled.winners, &drop_channels(dy));
        let d = if relu_on { relu::backward(&z, &d) } else { d };
        let gradients = norm.backward_training(x, &statistics, &d);
        (y, gradients.input, gradients.weight, gradients.bias)
    }

    fn check(isa: Isa, shape: [usize; 4], relu_on: bool, pool_on: bool, drop: Option<Drop>) {
        let [batch, channels, h, w] = shape;
        let what = format!("{} {shape:?} relu {relu_on} pool {pool_on} drop {}", isa.name(), drop.is_some());
        let threads = Threads::new(2).unwrap();
        let chain = NormChain::new(channels, [h, w], relu_on, pool_on, isa);
        let [oh, ow] = chain.output();
        let x: Vec<f64> = pattern(1, batch * channels * h * w).iter().map(|x| x + 3.0).collect();
        let (gamma, beta) = (pattern(2, channels), pattern(3, channels));
        let dy = pattern(4, batch * channels * oh * ow);
        let narrow = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let exact = |v: &[f64]| v.iter().map(|&x| f64::from(x as f32)).collect::<Vec<f64>>();
        let padded = blocks(channels) * LANES;
        let per_channel = |v: &[f64]| {
            let mut v = narrow(v);
            v.resize(padded, 0.0);
            v
        };
        let (x, gamma, beta, dy) = (exact(&x), exact(&gamma), exact(&beta), exact(&dy));
        let (want_y, want_dx, want_dgamma, want_dbeta) =
            expected(shape, relu_on, pool_on, drop, [&x, &gamma, &beta, &dy]);

        let (from, to) = ([batch, channels, h * w], [batch, channels, oh * ow]);
        let mut blocked = vec![f32::NAN; batch * chain.input_len()];
        to_blocked(&threads, from, &narrow(&x), &mut blocked);
        let mut scratch = vec![f32::NAN; chain.scratch_len(batch)];
        let (mut mean, mut var) = (vec![0.0; padded], vec![0.0; padded]);
        chain.statistics(&threads, batch, &blocked, &mut mean, &mut var, &mut scratch);
        let inverse: Vec<f32> = var.iter().map(|v| 1.0 / (v + 1e-5f32).sqrt()).collect();
        let scale: Vec<f32> = per_channel(&gamma).iter().zip(&inverse).map(|(g, i)| g * i).collect();
        let shift: Vec<f32> =
            per_channel(&beta).iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
        let mut y = vec![f32::NAN; batch * chain.output_len()];
        chain.forward(&threads, batch, &blocked, &scale, &shift, drop, &mut y);
        let mut plain = vec![0.0; want_y.len()];
        from_blocked(&threads, to, &y, &mut plain);
        close(&format!("y {what}"), &plain, &want_y);

        let mut dy_blocked = vec![f32::NAN; batch * chain.output_len()];
        to_blocked(&threads, to, &narrow(&dy), &mut dy_blocked);
        let given = Given { batch, dy: &dy_blocked, scale: &scale, shift: &shift, mean: &mean, drop };
        let (mut sum, mut product) = (vec![0.0; padded], vec![0.0; padded]);
        chain.backward_sums(&threads, &given, &blocked, [&mut sum, &mut product], &mut scratch);
        close(&format!("dbeta {what}"), &sum[..channels], &want_dbeta);
        let dgamma: Vec<f32> = product.iter().zip(&inverse).map(|(p, i)| p * i).collect();
        close(&format!("dgamma {what}"), &dgamma[..channels], &want_dgamma);
        let count = (batch * h * w) as f32;
        let b: Vec<f32> = (0..padded).map(|c| -scale[c] * product[c] * inverse[c] * inverse[c] / count).collect();
        let c: Vec<f32> = (0..padded).map(|c| -scale[c] * sum[c] / count - b[c] * mean[c]).collect();
        let mut separate = vec![f32::NAN; blocked.len()];
        chain.backward_data(&threads, &given, [&scale, &b, &c], Some(&blocked), &mut separate);
        chain.backward_data(&threads, &given, [&scale, &b, &c], None, &mut blocked);
        assert_eq!(separate, blocked);
        let mut plain = vec![0.0; want_dx.len()];
        from_blocked(&threads, from, &blocked, &mut plain);
        close(&format!("dx {what}"), &plain, &want_dx);
    }

    #[test]
    fn agrees_with_the_references_on_every_set() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for shape in [[3, 20, 6, 8], [2, 16, 7, 5], [1, 33, 2, 3], [5, 4, 3, 3]] {
                for (relu_on, pool_on) in [(true, true), (true, false), (false, true), (false, false)] {
                    check(isa, shape, relu_on, pool_on, None);
                    check(isa, shape, relu_on, pool_on, Some(Drop { seed: 7, p: 0.5 }));
                }
            }
        }
    }
}
