//! The loops of a chain's backward direction, over a block of 16 channels of a picture: the sums over pixels, and the gradient
//! of the input.

use super::{NormChain, affine, quad, read_quad, winner};
use crate::activation::{Function, WithFunction};
use crate::precision::F32;
use crate::simd::{Kernel, LANES, Simd};

/// One block's share of the sums that both passes need.
pub(super) struct BackwardSums<'a> {
    pub(super) chain: &'a NormChain,
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) mean: &'a [f32],
    pub(super) factor: [f32; LANES],
    pub(super) sums: &'a mut [f32],
}

impl Kernel for BackwardSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.chain.pool, self.chain.relu()) {
            (false, _) => self.chain.activation.with(FlatSums(s, self)),
            (true, false) => self.pooled::<S, false>(s),
            (true, true) => self.pooled::<S, true>(s),
        }
    }
}

impl BackwardSums<'_> {
    #[inline(always)]
    fn pooled<S: Simd, const RELU: bool>(self, s: S) {
        let BackwardSums { chain, x, dy, .. } = self;
        let (scale, shift, mean) = (s.read(self.scale), s.read(self.shift), s.read(self.mean));
        let (factor, zero) = (s.read(&self.factor), s.splat(0.0));
        let mut sums = [zero; 2];
        let ([_, width], [_, columns]) = (chain.input, chain.output());
        for (row, line) in dy.chunks_exact(columns * LANES).enumerate() {
            for (column, dy) in line.chunks_exact(LANES).enumerate() {
                let x = read_quad::<S, F32>(s, x, quad(width, row, column));
                let (z, won) = winner(s, affine(s, x, scale, shift));
                let low = s.select(won[1], x[1], x[0]);
                let high = s.select(won[3], x[3], x[2]);
                let x = s.select(won[0] | won[1], low, high);
                let dy = s.mul(s.read(dy), factor);
                let dz = if RELU { s.select(s.gt(z, zero), dy, zero) } else { dy };
                sums = add_sums(s, sums, s.sub(x, mean), dz);
            }
        }
        s.write(self.sums, sums[0]);
        s.write(&mut self.sums[LANES..], sums[1]);
    }
}

/// The sums without pooling.
struct FlatSums<'a, S>(S, BackwardSums<'a>);

impl<S: Simd> WithFunction for FlatSums<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let FlatSums(s, BackwardSums { x, dy, scale, shift, mean, factor, sums: out, .. }) = self;
        let (scale, shift, mean) = (s.read(scale), s.read(shift), s.read(mean));
        let (factor, mut sums) = (s.read(&factor), [s.splat(0.0); 2]);
        for (x, dy) in x.chunks_exact(LANES).zip(dy.chunks_exact(LANES)) {
            let x = s.read(x);
            let z = s.fma(x, scale, shift);
            let dz = function.gradient_at(s, z, s.mul(s.read(dy), factor));
            sums = add_sums(s, sums, s.sub(x, mean), dz);
        }
        s.write(out, sums[0]);
        s.write(&mut out[LANES..], sums[1]);
    }
}

/// Adds `dz` and `dz · (x - mean)` of one pixel.
#[inline(always)]
fn add_sums<S: Simd>(s: S, sums: [S::V; 2], centred: S::V, dz: S::V) -> [S::V; 2] {
    [s.add(sums[0], dz), s.fma(dz, centred, sums[1])]
}

/// One block's gradient of the input.
pub(super) struct BackwardData<'a> {
    pub(super) chain: &'a NormChain,
    pub(super) dy: &'a [f32],
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) linear: [&'a [f32]; 3],
    pub(super) factor: [f32; LANES],
    /// Nothing where `dx` holds x.
    pub(super) x: Option<&'a [f32]>,
    pub(super) accumulate: bool,
    pub(super) dx: &'a mut [f32],
}

impl Kernel for BackwardData<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.x.is_some(), self.accumulate) {
            (false, _) => self.run_as::<S, false, false>(s),
            (true, false) => self.run_as::<S, true, false>(s),
            (true, true) => self.run_as::<S, true, true>(s),
        }
    }
}

/// The gradient, or its sum with what stands there.
#[inline(always)]
fn put<S: Simd, const ADD: bool>(s: S, at: &mut [f32], gradient: S::V) {
    let sum = if ADD { s.add(s.read(at), gradient) } else { gradient };
    s.write(at, sum);
}

impl BackwardData<'_> {
    #[inline(always)]
    fn run_as<S: Simd, const APART: bool, const ADD: bool>(self, s: S) {
        match self.chain.pool {
            false => self.chain.activation.with(FlatData::<S, APART, ADD>(s, self)),
            true => self.pooled::<S, APART, ADD>(s),
        }
    }

    #[inline(always)]
    fn pooled<S: Simd, const APART: bool, const ADD: bool>(self, s: S) {
        let BackwardData { chain, dy, dx, .. } = self;
        let relu = chain.relu();
        let apart = self.x.unwrap_or_default();
        let (scale, shift, zero) = (s.read(self.scale), s.read(self.shift), s.splat(0.0));
        let [a, b, c] = self.linear;
        let (a, b, c) = (s.read(a), s.read(b), s.read(c));
        // `a` and dropout's factor both multiply the gradient.
        let a = s.mul(a, s.read(&self.factor));
        let [height, width] = chain.input;
        let [rows, columns] = chain.output();
        for (row, line) in dy.chunks_exact(columns * LANES).enumerate() {
            for (column, dy) in line.chunks_exact(LANES).enumerate() {
                let places = quad(width, row, column);
                let x = if APART { read_quad::<S, F32>(s, apart, places) } else { read_quad::<S, F32>(s, dx, places) };
                let (z, won) = winner(s, affine(s, x, scale, shift));
                let active = if relu { s.gt(z, zero) } else { u16::MAX };
                let dz = s.mul(s.read(dy), a);
                for k in 0..4 {
                    let rest = s.fma(x[k], b, c);
                    put::<S, ADD>(s, &mut dx[places[k]..], s.select(won[k] & active, s.add(rest, dz), rest));
                }
            }
        }
        if 2 * rows == height && 2 * columns == width {
            return;
        }
        // Pixels that no window covers.
        for (place, dx) in dx.chunks_exact_mut(LANES).enumerate() {
            if place / width >= 2 * rows || place % width >= 2 * columns {
                let x = if APART { s.read(&apart[place * LANES..]) } else { s.read(dx) };
                put::<S, ADD>(s, dx, s.fma(x, b, c));
            }
        }
    }
}

/// The gradient without pooling.
struct FlatData<'a, S, const APART: bool, const ADD: bool>(S, BackwardData<'a>);

impl<S: Simd, const APART: bool, const ADD: bool> WithFunction for FlatData<'_, S, APART, ADD> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let FlatData(s, BackwardData { dy, scale, shift, linear, factor, x: apart, dx, .. }) = self;
        let (apart, [a, b, c]) = (apart.unwrap_or_default(), linear);
        let (scale, shift) = (s.read(scale), s.read(shift));
        // `a` and dropout's factor both multiply the gradient.
        let (a, b, c) = (s.mul(s.read(a), s.read(&factor)), s.read(b), s.read(c));
        for (place, (dx, dy)) in dx.chunks_exact_mut(LANES).zip(dy.chunks_exact(LANES)).enumerate() {
            let x = if APART { s.read(&apart[place * LANES..]) } else { s.read(dx) };
            let dz = function.gradient_at(s, s.fma(x, scale, shift), s.read(dy));
            put::<S, ADD>(s, dx, s.fma(dz, a, s.fma(x, b, c)));
        }
    }
}
