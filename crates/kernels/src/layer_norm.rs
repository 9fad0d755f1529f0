//! Layer normalisation (Ba, Kiros and Hinton 2016) over the channels of each pixel of blocked maps (ConvNeXt; Liu et al.
//! 2022); a vector of features is a map of one pixel.
//!
//! `y = γ · (x - mean) / √(var + eps) + β` with mean and biased variance of the pixel's channels, and γ and β of each
//! channel, padded with zeros to whole blocks. Values are taken relative to the pixel's first channel, and variance comes
//! from a second pass over the centred values, so that the result does not suffer from a large mean. Passes after the first
//! find a tile's values in the cache.
//!
//! Backward computes mean and variance again. With `g = γ · dy` and `x̂ = (x - mean) / √(var + eps)` it gives
//! `dx = (g - Σg / C - x̂ · Σ(g · x̂) / C) / √(var + eps)`, sums over a pixel's channels, `dγ = Σ dy · x̂` and `dβ = Σ dy` over
//! pixels: within a task in f32, over tasks in f64, in order. Checked in f64 against the definition.

use crate::layout::{Maps, MapsMut};
use crate::norm::add_totals;
use crate::pixel_tiles::{Columns, Tile, each_tile, source, sum_lanes};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// A planned layer normalisation.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    columns: Columns,
    eps: f32,
    isa: Isa,
}

/// What backward is given.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// Pictures.
    pub batch: usize,
    /// The input.
    pub x: Maps<'a>,
    /// Gradient of the output; nothing where `dx` holds it, which its own gradient replaces.
    pub dy: Option<Maps<'a>>,
    /// As in forward.
    pub gamma: &'a [f32],
}

/// Floats of a block's sums in scratch: of `dy` and of `dy · x̂`.
const SUMS: usize = 2 * LANES;

impl LayerNorm {
    /// Plans it for `channels` maps of `pixels`.
    pub fn new(channels: usize, pixels: usize, eps: f32, isa: Isa) -> LayerNorm {
        LayerNorm { columns: Columns { channels, pixels }, eps, isa }
    }

    /// Floats of scratch that [`LayerNorm::backward`] needs.
    pub fn scratch_len(&self, batch: usize) -> usize {
        self.columns.tasks(batch) * self.columns.blocks() * SUMS
    }

    /// Normalises `batch` pictures; without `x` those that `y` holds.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        x: Option<Maps<'_>>,
        [gamma, beta]: [&[f32]; 2],
        y: MapsMut<'_>,
    ) {
        assert!(y.as_maps().hold(batch, self.columns.len()));
        let padded = self.columns.blocks() * LANES;
        let (gamma, beta) = (&gamma[..padded], &beta[..padded]);
        let (stride, y) = (y.stride, Parts::new(y.data));
        self.columns.each_task(threads, batch, &|_, pictures, pixels| {
            self.isa.run(Forward { norm: self, x, gamma, beta, y, stride, pictures, pixels });
        });
    }

    /// `dx`: the gradient of the input, added to what `dx` holds if asked, and `[dgamma, dbeta]`, those of the parameters.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says, or when a gradient is to be added to the `dy` that `dx` holds.
    pub fn backward(
        &self,
        threads: &Threads,
        given: &Given<'_>,
        dx: MapsMut<'_>,
        accumulate: bool,
        [dgamma, dbeta]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (batch, blocks) = (given.batch, self.columns.blocks());
        assert!(dx.as_maps().hold(batch, self.columns.len()));
        assert!(!accumulate || given.dy.is_some(), "a gradient cannot be added to that of the output");
        let given = &Given { gamma: &given.gamma[..blocks * LANES], ..*given };
        let scratch = &mut scratch[..self.scratch_len(batch)];
        let (stride, dx, sums) = (dx.stride, Parts::new(dx.data), Parts::new(scratch));
        self.columns.each_task(threads, batch, &|task, pictures, pixels| {
            // SAFETY: each task has sums of its own.
            let sums = unsafe { sums.part(task * blocks * SUMS..(task + 1) * blocks * SUMS) };
            self.isa.run(Backward { norm: self, given, dx, stride, accumulate, pictures, pixels, sums });
        });
        add_totals(self.columns.tasks(batch), blocks, scratch, [dbeta, dgamma]);
    }

    /// `1 / √(squares / C + eps)`
    #[inline(always)]
    fn inverse_deviation<S: Simd>(&self, s: S, squares: S::V) -> S::V {
        let var = s.fma(squares, self.share(s), s.splat(self.eps));
        s.div(s.splat(1.0), s.sqrt(var))
    }

    /// `1 / C`
    #[inline(always)]
    fn share<S: Simd>(&self, s: S) -> S::V {
        s.splat(1.0 / self.columns.channels as f32)
    }
}

/// What a tile knows of its pixels: a value is centred by subtracting its pixel's pivot and then its mean around that.
struct Centre<const N: usize> {
    pivot: [f32; N],
    mean: [f32; LANES],
}

impl<const N: usize> Centre<N> {
    /// Around the first channels of the tile at `x`.
    ///
    /// # Safety
    /// `x` is valid for reads of the tile's pixels in the first block.
    #[inline(always)]
    unsafe fn new(x: *const f32) -> Centre<N> {
        let mut pivot = [0.0; N];
        for i in 0..N {
            // SAFETY: the caller's promise.
            pivot[i] = unsafe { *x.add(i * LANES) };
        }
        Centre { pivot, mean: [0.0; LANES] }
    }

    /// A pixel's centred values.
    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, i: usize, x: S::V) -> S::V {
        s.sub(s.sub(x, s.splat(self.pivot[i])), s.splat(self.mean[i]))
    }
}

struct Forward<'a> {
    norm: &'a LayerNorm,
    x: Option<Maps<'a>>,
    gamma: &'a [f32],
    beta: &'a [f32],
    y: Parts<'a, f32>,
    stride: usize,
    pictures: Range<usize>,
    pixels: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { norm, gamma, beta, stride, .. } = self;
        let len = norm.columns.len();
        for n in self.pictures {
            let y = self.y.pointer(n * stride..n * stride + len);
            let x = source(self.x, n, len, y);
            each_tile(s, self.pixels.clone(), &mut ForwardTile { norm, x, gamma, beta, y });
        }
    }
}

/// A task of one picture: `x` and `y` point at [`Columns::len`] floats, of which a task alone has its pixels.
struct ForwardTile<'a> {
    norm: &'a LayerNorm,
    x: *const f32,
    gamma: &'a [f32],
    beta: &'a [f32],
    y: *mut f32,
}

impl Tile for ForwardTile<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(&mut self, s: S, pixel: usize) {
        let ForwardTile { norm, x, y, .. } = *self;
        let (columns, zero) = (norm.columns, s.splat(0.0));
        // SAFETY: here and below, the pixels are inside the picture, and nobody else uses them.
        let mut centre = unsafe { Centre::<N>::new(x.add(columns.place(0, pixel))) };
        let mut sums = [zero; N];
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            for i in 0..N {
                // SAFETY: as above.
                let x = unsafe { s.load(x.add(at + i * LANES)) };
                sums[i] = s.add(sums[i], s.select(present, centre.apply(s, i, x), zero));
            }
        }
        centre.mean = s.lanes(s.mul(sum_lanes(s, &sums), norm.share(s)));
        let mut squares = [zero; N];
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            for i in 0..N {
                // SAFETY: as above.
                let x = unsafe { s.load(x.add(at + i * LANES)) };
                let centred = s.select(present, centre.apply(s, i, x), zero);
                squares[i] = s.fma(centred, centred, squares[i]);
            }
        }
        let inverse = s.lanes(norm.inverse_deviation(s, sum_lanes(s, &squares)));
        for block in 0..columns.blocks() {
            let at = columns.place(block, pixel);
            let (gamma, beta) = (s.read(&self.gamma[block * LANES..]), s.read(&self.beta[block * LANES..]));
            for i in 0..N {
                // SAFETY: as above.
                unsafe {
                    let x = s.load(x.add(at + i * LANES));
                    let normal = s.mul(centre.apply(s, i, x), s.splat(inverse[i]));
                    s.store(y.add(at + i * LANES), s.fma(normal, gamma, beta));
                }
            }
        }
    }
}

struct Backward<'a> {
    norm: &'a LayerNorm,
    given: &'a Given<'a>,
    dx: Parts<'a, f32>,
    stride: usize,
    accumulate: bool,
    pictures: Range<usize>,
    pixels: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { norm, given, stride, accumulate, sums, .. } = self;
        sums.fill(0.0);
        let len = norm.columns.len();
        for n in self.pictures {
            let dx = self.dx.pointer(n * stride..n * stride + len);
            let x = given.x.picture(n, len).as_ptr();
            let dy = source(given.dy, n, len, dx);
            let mut tile = BackwardTile { norm, x, dy, gamma: given.gamma, dx, accumulate, sums };
            each_tile(s, self.pixels.clone(), &mut tile);
        }
    }
}

/// A task of one picture: `x`, `dy` and `dx` point at [`Columns::len`] floats, of which a task alone has its pixels.
struct BackwardTile<'a> {
    norm: &'a LayerNorm,
    x: *const f32,
    dy: *const f32,
    gamma: &'a [f32],
    dx: *mut f32,
    accumulate: bool,
    sums: &'a mut [f32],
}

impl Tile for BackwardTile<'_> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(&mut self, s: S, pixel: usize) {
        let (x, dy, columns) = (self.x, self.dy, self.norm.columns);
        let (zero, share) = (s.splat(0.0), self.norm.share(s));
        // SAFETY: here and below, the pixels are inside the picture, and nobody else uses them.
        let mut centre = unsafe { Centre::<N>::new(x.add(columns.place(0, pixel))) };
        let (mut sums, mut gradients) = ([zero; N], [zero; N]);
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            let gamma = s.read(&self.gamma[block * LANES..]);
            for i in 0..N {
                // SAFETY: as above.
                let (x, dy) = unsafe { (s.load(x.add(at + i * LANES)), s.load(dy.add(at + i * LANES))) };
                sums[i] = s.add(sums[i], s.select(present, centre.apply(s, i, x), zero));
                gradients[i] = s.fma(dy, gamma, gradients[i]);
            }
        }
        centre.mean = s.lanes(s.mul(sum_lanes(s, &sums), share));
        let gradient = s.lanes(s.mul(sum_lanes(s, &gradients), share));
        let (mut squares, mut products) = ([zero; N], [zero; N]);
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            let gamma = s.read(&self.gamma[block * LANES..]);
            for i in 0..N {
                // SAFETY: as above.
                let (x, dy) = unsafe { (s.load(x.add(at + i * LANES)), s.load(dy.add(at + i * LANES))) };
                let centred = s.select(present, centre.apply(s, i, x), zero);
                squares[i] = s.fma(centred, centred, squares[i]);
                products[i] = s.fma(s.mul(dy, gamma), centred, products[i]);
            }
        }
        let inverse = self.norm.inverse_deviation(s, sum_lanes(s, &squares));
        let product = s.lanes(s.mul(s.mul(sum_lanes(s, &products), share), inverse));
        self.write::<S, N>(s, pixel, &centre, [s.lanes(inverse), gradient, product]);
    }
}

impl BackwardTile<'_> {
    /// Writes a tile's `dx` and adds to the sums, given `1 / √(var + eps)`, `Σg / C` and `Σ(g · x̂) / C` of its pixels.
    #[inline(always)]
    fn write<S: Simd, const N: usize>(
        &mut self,
        s: S,
        pixel: usize,
        centre: &Centre<N>,
        [inverse, gradient, product]: [[f32; LANES]; 3],
    ) {
        let (x, dy, dx, columns) = (self.x, self.dy, self.dx, self.norm.columns);
        let zero = s.splat(0.0);
        for block in 0..columns.blocks() {
            let (at, present) = (columns.place(block, pixel), columns.present(block));
            let gamma = s.read(&self.gamma[block * LANES..]);
            let sums = &mut self.sums[block * SUMS..][..SUMS];
            let (mut dbeta, mut dgamma) = (s.read(sums), s.read(&sums[LANES..]));
            for i in 0..N {
                let at = at + i * LANES;
                // SAFETY: the pixels are inside the picture, and nobody else uses them.
                let (x, dy) = unsafe { (s.load(x.add(at)), s.load(dy.add(at))) };
                let inverse = s.splat(inverse[i]);
                let normal = s.mul(centre.apply(s, i, x), inverse);
                dbeta = s.add(dbeta, dy);
                dgamma = s.fma(dy, normal, dgamma);
                let rest = s.fma(normal, s.splat(product[i]), s.splat(gradient[i]));
                let gradient = s.mul(s.sub(s.mul(dy, gamma), rest), inverse);
                let gradient = s.select(present, gradient, zero);
                // SAFETY: as above.
                unsafe {
                    let before = if self.accumulate { s.load(dx.add(at)) } else { zero };
                    s.store(dx.add(at), s.add(before, gradient));
                }
            }
            s.write(sums, dbeta);
            s.write(&mut sums[LANES..], dgamma);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::gradcheck::{assert_gradient, dot, pattern};
    use crate::test_maps::{SHAPES, TestMaps, assert_close};

    const EPS: f64 = 1e-6;

    /// Mean and `1 / √(var + eps)` of a pixel.
    fn statistics(shape: [usize; 3], x: &[f64], n: usize, pixel: usize) -> [f64; 2] {
        let [_, channels, pixels] = shape;
        let values = || (0..channels).map(|c| x[(n * channels + c) * pixels + pixel]);
        let mean = values().sum::<f64>() / channels as f64;
        let var = values().map(|x| (x - mean).powi(2)).sum::<f64>() / channels as f64;
        [mean, 1.0 / (var + EPS).sqrt()]
    }

    fn naive_forward(shape: [usize; 3], x: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
        let [_, channels, pixels] = shape;
        let value = |i: usize| {
            let (n, c, pixel) = (i / pixels / channels, i / pixels % channels, i % pixels);
            let [mean, inverse] = statistics(shape, x, n, pixel);
            gamma[c] * (x[i] - mean) * inverse + beta[c]
        };
        (0..x.len()).map(value).collect()
    }

    /// `dx`, `dγ` and `dβ`.
    fn naive_backward(shape: [usize; 3], x: &[f64], gamma: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let [batch, channels, pixels] = shape;
        let mut gradients = [vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]];
        for (n, pixel) in (0..batch).flat_map(|n| (0..pixels).map(move |pixel| (n, pixel))) {
            let at = |c: usize| (n * channels + c) * pixels + pixel;
            let [mean, inverse] = statistics(shape, x, n, pixel);
            let normal = |c: usize| (x[at(c)] - mean) * inverse;
            let share = |f: &dyn Fn(usize) -> f64| (0..channels).map(f).sum::<f64>() / channels as f64;
            let sum = share(&|c| gamma[c] * dy[at(c)]);
            let product = share(&|c| gamma[c] * dy[at(c)] * normal(c));
            for c in 0..channels {
                gradients[0][at(c)] = inverse * (gamma[c] * dy[at(c)] - sum - normal(c) * product);
                gradients[1][c] += dy[at(c)] * normal(c);
                gradients[2][c] += dy[at(c)];
            }
        }
        gradients
    }

    #[test]
    fn the_definitions_gradients() {
        let shape = [2, 5, 3];
        let [x, dy] = [1, 2].map(|tag| pattern(tag, 30));
        let [gamma, beta] = [3, 4].map(|tag| pattern(tag, 5));
        let [dx, dgamma, dbeta] = naive_backward(shape, &x, &gamma, &dy);
        assert_gradient("x", &x, &dx, |x| dot(&naive_forward(shape, x, &gamma, &beta), &dy));
        assert_gradient("gamma", &gamma, &dgamma, |gamma| dot(&naive_forward(shape, &x, gamma, &beta), &dy));
        assert_gradient("beta", &beta, &dbeta, |beta| dot(&naive_forward(shape, &x, &gamma, beta), &dy));
    }

    fn padded(plain: &[f64]) -> Vec<f32> {
        let mut padded: Vec<f32> = plain.iter().map(|&x| x as f32).collect();
        padded.resize(plain.len().next_multiple_of(LANES), 0.0);
        padded
    }

    /// All ways of a shape, whose values have this mean.
    fn check(isa: Isa, shape: [usize; 3], offset: f64) {
        let threads = Threads::new(2).unwrap();
        let [batch, channels, pixels] = shape;
        let what = format!("{} {shape:?} around {offset}", isa.name());
        // What f32 holds of the values.
        let x: Vec<f64> =
            pattern(1, batch * channels * pixels).iter().map(|x| f64::from((x + offset) as f32)).collect();
        let dy = pattern(2, x.len());
        let [gamma, beta] = [3, 4].map(|tag| pattern(tag, channels));
        let want_y = naive_forward(shape, &x, &gamma, &beta);
        let [want_dx, want_dgamma, want_dbeta] = naive_backward(shape, &x, &gamma, &dy);
        // A pixel of two nearly equal channels has gradients as large as its deviation is small.
        let largest = want_dx.iter().fold(1.0, |largest: f64, dx| largest.max(dx.abs()));

        let norm = LayerNorm::new(channels, pixels, EPS as f32, isa);
        let (x, dy) = (TestMaps::of(shape, &x, 48), TestMaps::of(shape, &dy, 16));
        let (gamma, beta) = (padded(&gamma), padded(&beta));
        let mut y = TestMaps::empty(shape, 32);
        norm.forward(&threads, batch, Some(x.maps()), [&gamma, &beta], y.maps_mut());
        assert_close(&format!("{what}: y"), &y.plain(), &want_y, 1e-5);
        let mut in_place = x.clone();
        norm.forward(&threads, batch, None, [&gamma, &beta], in_place.maps_mut());
        assert_eq!(y.plain(), in_place.plain(), "{what}: in place");

        let mut scratch = vec![f32::NAN; norm.scratch_len(batch)];
        let mut backward = |dy: Option<Maps<'_>>, dx: &mut TestMaps, accumulate: bool| {
            let given = Given { batch, x: x.maps(), dy, gamma: &gamma };
            let (mut dgamma, mut dbeta) = (vec![f32::NAN; gamma.len()], vec![f32::NAN; gamma.len()]);
            norm.backward(&threads, &given, dx.maps_mut(), accumulate, [&mut dgamma, &mut dbeta], &mut scratch);
            [dgamma, dbeta].map(|v| v.into_iter().map(f64::from).collect::<Vec<f64>>())
        };
        let mut dx = TestMaps::empty(shape, 0);
        let [dgamma, dbeta] = backward(Some(dy.maps()), &mut dx, false);
        assert_close(&format!("{what}: dx"), &dx.plain(), &want_dx, 1e-5 * largest);
        for (got, want) in [(&dgamma, want_dgamma), (&dbeta, want_dbeta)] {
            assert_close(&format!("{what}: parameters"), &got[..channels], &want, 2e-5 * (batch * pixels) as f64);
            assert!(got[channels..].iter().all(|&x| x == 0.0));
        }
        let mut over = dy.clone();
        assert_eq!(backward(None, &mut over, false), [dgamma, dbeta], "{what}: over dy");
        assert_eq!(over.plain(), dx.plain(), "{what}: over dy");
        let once = dx.plain();
        backward(Some(dy.maps()), &mut dx, true);
        assert!(dx.plain().iter().zip(once).all(|(twice, once)| *twice == 2.0 * once), "{what}: added");
    }

    #[test]
    fn agrees_with_the_definition_on_every_set_however_far_from_zero() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for shape in SHAPES.into_iter().chain([[2, 96, 400], [3, 768, 49], [50, 768, 1]]) {
                for offset in [0.0, 100.0] {
                    check(isa, shape, offset);
                }
            }
        }
    }

    #[test]
    fn equal_channels_become_beta() {
        let threads = Threads::new(1).unwrap();
        let norm = LayerNorm::new(20, 3, 1e-6, Isa::best());
        let mut x = TestMaps::of([1, 20, 3], &[1234.567; 60], 0);
        norm.forward(&threads, 1, None, [&padded(&[2.0; 20]), &padded(&[0.25; 20])], x.maps_mut());
        assert_eq!(x.plain(), [0.25; 60]);
    }

    #[test]
    fn does_not_depend_on_the_threads() {
        let shape = [5, 96, 400];
        let plain = pattern(1, 5 * 96 * 400);
        let (x, gamma) = (TestMaps::of(shape, &plain, 0), vec![0.5; 96]);
        let norm = LayerNorm::new(96, 400, 1e-6, Isa::best());
        let given = Given { batch: 5, x: x.maps(), dy: None, gamma: &gamma };
        let run = |threads: usize| {
            let (mut dx, mut sums) = (x.clone(), [vec![0.0; 96], vec![0.0; 96]]);
            let mut scratch = vec![0.0; norm.scratch_len(5)];
            let [dgamma, dbeta] = &mut sums;
            let threads = Threads::new(threads).unwrap();
            norm.backward(&threads, &given, dx.maps_mut(), false, [dgamma, dbeta], &mut scratch);
            (dx.plain(), sums)
        };
        let one = run(1);
        assert!([2, 3, 5].into_iter().all(|threads| run(threads) == one));
    }
}
