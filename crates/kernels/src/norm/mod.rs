//! What stands between two convolutions, in one pass over memory: batch normalisation, an activation, 2×2 maximum pooling
//! at stride 2, and channel dropout, each of them optional.
//!
//! `z = scale · x + shift` per channel, `y = drop(pool(activation(z)))`, where training's `scale = γ / √(var + eps)` and
//! `shift = β - mean · scale` come from the batch (Ioffe and Szegedy 2015, algorithm 1) and a chain without
//! normalisation has scale 1 and shift 0. Everything is in the blocked layout `[n][c/16][h][w][16]`; numbers per channel
//! are padded with zeros to whole blocks.
//!
//! Nothing but `x` is kept for backward (but in a stem, which has marks in its place: `marks.rs`): which pixel won and
//! what the activation saw are computed again from `x` exactly as forward did, and dropout from its seed. Backward takes
//! two passes, because the gradient of a normalised element needs the sums over its whole channel (ibid., section 3). Sums
//! go over one channel of one picture in f32 and over pictures in f64, in order: they do not depend on the threads. Mean
//! and variance are found where `x` is computed (`statistics.rs`).

mod backward;
mod marks;
mod sum;

pub use sum::{SumGiven, SumGradients};

use crate::activation::{Activation, Function, WithFunction};
use crate::geometry::Window;
use crate::layout::{Maps, MapsMut, blocks};
use crate::precision::{Element, Map, map};
use crate::random;
use crate::simd::{Isa, LANES, Simd};
use crate::threads::{Parts, Threads};
use backward::{BackwardData, BackwardSums};
use std::marker::PhantomData;

/// Channel dropout of one step: `keep` of `random.rs` with index `n · channels + c`.
#[derive(Clone, Copy, Debug)]
pub struct Drop {
    /// The seed of this step and layer.
    pub seed: u64,
    /// Probability of being set to zero.
    pub p: f32,
}

/// A planned chain.
#[derive(Clone, Copy, Debug)]
pub struct NormChain {
    channels: usize,
    input: [usize; 2],
    activation: Activation,
    pool: bool,
    isa: Isa,
}

/// Two sums per channel and picture, 16 channels of a block side by side.
const SUMS: usize = 2 * LANES;

impl NormChain {
    /// Plans a chain over `channels` maps of `input` `[height, width]`; `pool` needs at least 2 × 2 pixels.
    ///
    /// # Panics
    /// When the chain cannot pool, or not after this activation ([`NormChain::takes`]).
    pub fn new(channels: usize, input: [usize; 2], activation: Activation, pool: bool, isa: Isa) -> NormChain {
        assert!(!pool || (input[0] >= 2 && input[1] >= 2), "pooling needs 2 x 2 pixels");
        assert!(NormChain::takes(activation, pool), "no chain has {activation:?} before pooling");
        NormChain { channels, input, activation, pool, isa }
    }

    /// Whether a chain may have this activation, with pooling after it or without.
    pub fn takes(activation: Activation, pool: bool) -> bool {
        !pool || matches!(activation, Activation::Identity | Activation::Relu)
    }

    /// Whether the activation is a ReLU.
    fn relu(&self) -> bool {
        self.activation == Activation::Relu
    }

    /// Whether a maximum pooling is the one that this chain has.
    pub fn pools(window: &Window, input: [usize; 2]) -> bool {
        *window == Window::square(2).stride(2) && input[0] >= 2 && input[1] >= 2
    }

    /// What follows the norm.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        if self.pool { self.input.map(|n| n / 2) } else { self.input }
    }

    /// Pixels of one channel of one input picture.
    pub fn input_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Numbers of one input picture.
    pub fn input_len(&self) -> usize {
        blocks(self.channels) * self.input_pixels() * LANES
    }

    /// Numbers of one output picture.
    pub fn output_len(&self) -> usize {
        let [h, w] = self.output();
        blocks(self.channels) * h * w * LANES
    }

    /// Floats of scratch that [`NormChain::backward_sums`] needs.
    pub fn scratch_len(&self, batch: usize) -> usize {
        batch * blocks(self.channels) * SUMS
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

    /// `y = drop(pool(activation(scale · x + shift)))`.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one chain")]
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        scale: &[f32],
        shift: &[f32],
        drop: Option<Drop>,
        y: MapsMut<'_>,
    ) {
        let blocks = blocks(self.channels);
        let (from, to) = (self.input_len() / blocks, self.output_len() / blocks);
        assert!(y.as_maps().hold_stored(batch, self.output_len()));
        let (placing, y) = (y.placing(), Parts::new(y.data));
        threads.run(batch * blocks, &|task, _| {
            let (n, block) = (task / blocks, task % blocks);
            let channels = block * LANES..(block + 1) * LANES;
            let forward = Forward {
                chain: self,
                x: x.part(n, block * from, from),
                scale: &scale[channels.clone()],
                shift: &shift[channels],
                factor: self.factors(drop, task),
                marks: None,
                // SAFETY: each task has a block of its own.
                y: unsafe { y.part(placing.range(n, block * to, to)) },
            };
            map(self.isa, [x.stored, placing.stored], forward);
        });
    }

    /// What dropout multiplies each channel of a block with, and 0 for lanes past the last channel, whatever the activation
    /// makes of them; `task` counts the blocks of all pictures.
    pub(crate) fn factors(&self, drop: Option<Drop>, task: usize) -> [f32; LANES] {
        let (picture, block) = (task / blocks(self.channels), task % blocks(self.channels));
        let factor = |lane: usize| {
            let channel = block * LANES + lane;
            if channel >= self.channels {
                return 0.0;
            }
            match drop {
                None => 1.0,
                Some(Drop { seed, p }) => match random::keep(seed, (picture * self.channels + channel) as u64, p) {
                    true => 1.0 / (1.0 - p),
                    false => 0.0,
                },
            }
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
        x: Maps<'_>,
        sums: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let blocks = blocks(self.channels);
        let (from, to) = (self.input_len() / blocks, self.output_len() / blocks);
        self.each_plane(threads, given.batch, scratch, &|task, sums| {
            let (n, block) = (task / blocks, task % blocks);
            let channels = block * LANES..(block + 1) * LANES;
            self.isa.run(BackwardSums {
                chain: self,
                x: &x.data[n * x.stride + block * from..][..from],
                dy: &given.dy.data[n * given.dy.stride + block * to..][..to],
                scale: &given.scale[channels.clone()],
                shift: &given.shift[channels.clone()],
                mean: &given.mean[channels],
                factor: self.factors(given.drop, task),
                sums,
            });
        });
        add_totals(given.batch, blocks, scratch, sums);
    }

    /// `dx = a · dz + b · x + c` per channel, for the three numbers in `linear`. For a normalisation `a = scale`,
    /// `b = -scale · Σdz(x - mean) / (N · (var + eps))` and `c = -scale · Σdz / N - b · mean`, with N the elements of a
    /// channel in the batch; else 1, 0 and 0.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward_data(
        &self,
        threads: &Threads,
        given: &Given<'_>,
        linear: [&[f32]; 3],
        x: Source<'_>,
        dx: MapsMut<'_>,
    ) {
        let blocks = blocks(self.channels);
        let (from, to) = (self.input_len() / blocks, self.output_len() / blocks);
        assert!(dx.as_maps().hold(given.batch, self.input_len()));
        let (dx_stride, dx) = (dx.stride, Parts::new(dx.data));
        threads.run(given.batch * blocks, &|task, _| {
            let (n, block) = (task / blocks, task % blocks);
            let channels = block * LANES..(block + 1) * LANES;
            let at = n * dx_stride + block * from;
            let (x, accumulate) = match x {
                Source::InPlace => (None, false),
                Source::Apart { x, accumulate } => (Some(&x.data[n * x.stride + block * from..][..from]), accumulate),
            };
            self.isa.run(BackwardData {
                chain: self,
                dy: &given.dy.data[n * given.dy.stride + block * to..][..to],
                scale: &given.scale[channels.clone()],
                shift: &given.shift[channels.clone()],
                linear: linear.map(|v| &v[channels.clone()]),
                factor: self.factors(given.drop, task),
                x,
                accumulate,
                // SAFETY: each task has a block of its own.
                dx: unsafe { dx.part(at..at + from) },
            });
        });
    }
}

/// Both sums of every channel from those of each picture's.
pub(crate) fn add_totals(batch: usize, blocks: usize, scratch: &[f32], sums: [&mut [f32]; 2]) {
    for (which, totals) in sums.into_iter().enumerate() {
        for (c, total) in totals.iter_mut().enumerate().take(blocks * LANES) {
            let at = |n: usize| (n * blocks + c / LANES) * SUMS + which * LANES + c % LANES;
            *total = (0..batch).map(|n| f64::from(scratch[at(n)])).sum::<f64>() as f32;
        }
    }
}

/// Where [`NormChain::backward_data`] finds x, and what becomes of what `dx` holds.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// `dx` holds x, which its gradient replaces.
    InPlace,
    /// Elsewhere.
    Apart {
        /// The chain's input.
        x: Maps<'a>,
        /// Whether the gradient is added to what `dx` holds.
        accumulate: bool,
    },
}

/// What both passes of backward are given.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Pictures.
    pub batch: usize,
    /// Gradient of the output.
    pub dy: Maps<'a>,
    /// As in forward.
    pub scale: &'a [f32],
    /// As in forward.
    pub shift: &'a [f32],
    /// Around which products with `x` are summed.
    pub mean: &'a [f32],
    /// As in forward.
    pub drop: Option<Drop>,
}

/// The four pixels of a pooling window, as places of their first channel among a plane's numbers.
#[inline(always)]
fn quad(width: usize, row: usize, column: usize) -> [usize; 4] {
    let at = (2 * row * width + 2 * column) * LANES;
    [at, at + LANES, at + width * LANES, at + (width + 1) * LANES]
}

/// The four vectors of a pooling window. (Loops here and below are written out: a closure would be compiled without the
/// instruction set.)
#[inline(always)]
fn read_quad<S: Simd, X: Element>(s: S, plane: &[f32], places: [usize; 4]) -> [S::V; 4] {
    let mut x = [s.splat(0.0); 4];
    for k in 0..4 {
        x[k] = X::read(s, &plane[places[k] / X::PER_WORD..]);
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
    /// Where the lanes are marked that a gradient reaches (`marks.rs`), if they are asked for.
    marks: Option<&'a mut [u16]>,
    y: &'a mut [f32],
}

impl Map for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd, X: Element, Y: Element>(self, s: S) {
        self.run_as::<S, X, Y, false>(s);
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn run_as<S: Simd, X: Element, Y: Element, const MARK: bool>(self, s: S) {
        if !MARK && !self.chain.pool {
            let Forward { chain, x, scale, shift, factor, y, .. } = self;
            return chain.activation.with(Flat { s, x, scale, shift, factor, y, stored: PhantomData::<(X, Y)> });
        }
        let Forward { chain, x, y, .. } = self;
        let (marks, relu) = (self.marks.unwrap_or_default(), chain.relu());
        let (scale, shift, factor) = (s.read(self.scale), s.read(self.shift), s.read(&self.factor));
        let zero = s.splat(0.0);
        let [_, width] = chain.input;
        let (x_pixel, y_pixel) = (LANES / X::PER_WORD, LANES / Y::PER_WORD);
        if !chain.pool {
            for (pixel, (x, y)) in x.chunks_exact(x_pixel).zip(y.chunks_exact_mut(y_pixel)).enumerate() {
                let z = s.fma(X::read(s, x), scale, shift);
                marks[pixel] = if relu { s.gt(z, zero) } else { u16::MAX };
                let z = if relu { s.max(zero, z) } else { z };
                Y::write(s, y, s.mul(z, factor));
            }
            return;
        }
        let columns = chain.output()[1];
        for (row, line) in y.chunks_exact_mut(columns * y_pixel).enumerate() {
            for (column, y) in line.chunks_exact_mut(y_pixel).enumerate() {
                let z = affine(s, read_quad::<S, X>(s, x, quad(width, row, column)), scale, shift);
                let best = if MARK {
                    let (best, won) = winner(s, z);
                    let active = if relu { s.gt(best, zero) } else { u16::MAX };
                    for k in 0..4 {
                        marks[(row * columns + column) * 4 + k] = won[k] & active;
                    }
                    best
                } else {
                    s.max(s.max(z[0], z[1]), s.max(z[2], z[3]))
                };
                let best = if relu { s.max(zero, best) } else { best };
                Y::write(s, y, s.mul(best, factor));
            }
        }
    }
}

/// Forward without pooling or marks.
struct Flat<'a, S, P> {
    s: S,
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    factor: [f32; LANES],
    y: &'a mut [f32],
    stored: PhantomData<P>,
}

impl<S: Simd, X: Element, Y: Element> WithFunction for Flat<'_, S, (X, Y)> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let Flat { s, x, y, .. } = self;
        let (scale, shift, factor) = (s.read(self.scale), s.read(self.shift), s.read(&self.factor));
        for (x, y) in x.chunks_exact(LANES / X::PER_WORD).zip(y.chunks_exact_mut(LANES / Y::PER_WORD)) {
            let z = s.fma(X::read(s, x), scale, shift);
            Y::write(s, y, s.mul(function.value(s, z), factor));
        }
    }
}

#[cfg(test)]
mod tests;
