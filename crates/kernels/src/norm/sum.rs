//! A norm whose result something is added to, in one pass: `y = activation(scale · x + shift + addend)`, the end of a
//! residual block (He, Zhang, Ren and Sun 2016), without pooling or dropout.
//!
//! Backward, the activation's gradient `dz`, which follows from `y`, is that of both parts of the sum. The first pass leaves it in the place of `dy`,
//! puts it or adds it where the addend's gradient lies, and sums what the norm needs; the second is the norm's own
//! ([`NormChain::backward_data`]), which has no activation of its own here.

use super::{NormChain, add_totals};
use crate::activation::{Activation, Clear, Function, GradientFrom, WithFunction};
use crate::layout::{Maps, MapsMut, blocks};
use crate::simd::{Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};

/// What the first pass of backward reads.
#[derive(Clone, Copy)]
pub struct SumGiven<'a> {
    /// Pictures.
    pub batch: usize,
    /// The norm's input.
    pub x: Maps<'a>,
    /// What was computed of the sum.
    pub activation: Activation,
    /// The output, where the activation's gradient is computed from it.
    pub y: Option<Maps<'a>>,
    /// Around which products with `x` are summed.
    pub mean: &'a [f32],
}

/// What the first pass of backward writes.
pub struct SumGradients<'a> {
    /// The output's gradient, which becomes the sum's.
    pub dy: MapsMut<'a>,
    /// The addend's, unless it lies in `dy` or is not wanted, and whether it is added to what stands there.
    pub addend: Option<(MapsMut<'a>, bool)>,
    /// As in [`NormChain::backward_sums`].
    pub sums: [&'a mut [f32]; 2],
}

impl NormChain {
    /// Whether it has neither activation nor pooling.
    fn is_linear(&self) -> bool {
        self.activation == Activation::Identity && !self.pool
    }

    /// Whether a sum may have this activation: its gradient must not need the sum itself, which is not kept.
    pub fn sum_takes(activation: Activation) -> bool {
        activation.gradient_from() != GradientFrom::Input
    }

    /// `y = activation(scale · x + shift + addend)`.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says, or the chain has an activation or pooling of its own.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one chain")]
    pub fn forward_sum(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        [scale, shift]: [&[f32]; 2],
        addend: Maps<'_>,
        activation: Activation,
        y: MapsMut<'_>,
    ) {
        assert!(self.is_linear() && y.as_maps().hold(batch, self.output_len()));
        let (blocks, plane) = (blocks(self.channels), self.input_pixels() * LANES);
        let ragged = activation.ragged(self.channels);
        let (y_stride, y) = (y.stride, Parts::new(y.data));
        threads.run(batch * blocks, &|task, _| {
            let (n, block) = (task / blocks, task % blocks);
            let (channels, at) = (block * LANES..(block + 1) * LANES, n * y_stride + block * plane);
            self.isa.run(ForwardSum {
                x: &x.data[n * x.stride + block * plane..][..plane],
                addend: &addend.data[n * addend.stride + block * plane..][..plane],
                scale: &scale[channels.clone()],
                shift: &shift[channels],
                activation,
                clear: ragged.filter(|ragged| ragged.block == block).map(|ragged| Clear::piece(ragged, 0, 0)),
                // SAFETY: each task has a block of its own.
                y: unsafe { y.part(at..at + plane) },
            });
        });
    }

    /// The first pass of backward: the activation's gradient, also for the addend, and the sums of
    /// [`NormChain::backward_sums`].
    ///
    /// # Panics
    /// When a slice is shorter than its layout says, the chain has an activation or pooling of its own, or the activation's
    /// gradient needs more than it is given.
    pub fn backward_sums_of_sum(
        &self,
        threads: &Threads,
        given: &SumGiven<'_>,
        gradients: SumGradients<'_>,
        scratch: &mut [f32],
    ) {
        let SumGradients { dy, addend, sums } = gradients;
        assert!(self.is_linear() && dy.as_maps().hold(given.batch, self.output_len()));
        let from = given.activation.gradient_from();
        assert!(from == GradientFrom::Nothing || (from == GradientFrom::Output && given.y.is_some()));
        assert!(addend.as_ref().is_none_or(|(da, _)| da.as_maps().hold(given.batch, self.output_len())));
        let (blocks, plane) = (blocks(self.channels), self.input_pixels() * LANES);
        let (dy_stride, dy) = (dy.stride, Parts::new(dy.data));
        let addend = addend.map(|(da, accumulate)| (da.stride, Parts::new(da.data), accumulate));
        self.each_plane(threads, given.batch, scratch, &|task, sums| {
            let (n, block) = (task / blocks, task % blocks);
            let place = |stride: usize| n * stride + block * plane..n * stride + (block + 1) * plane;
            // SAFETY: each task has a block of its own, of both.
            let (dy, addend) = unsafe {
                let addend = addend.map(|(stride, da, accumulate)| (da.part(place(stride)), accumulate));
                (dy.part(place(dy_stride)), addend)
            };
            self.isa.run(BackwardSums {
                x: &given.x.data[place(given.x.stride)],
                activation: given.activation,
                y: given.y.map(|y| &y.data[place(y.stride)]),
                mean: &given.mean[block * LANES..][..LANES],
                dy,
                addend,
                sums,
            });
        });
        add_totals(given.batch, blocks, scratch, sums);
    }
}

struct ForwardSum<'a> {
    x: &'a [f32],
    addend: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    activation: Activation,
    clear: Option<Clear>,
    y: &'a mut [f32],
}

impl Kernel for ForwardSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.activation.with(ForwardWith(s, &mut self));
        if let Some(clear) = self.clear {
            clear.run(s, self.y);
        }
    }
}

struct ForwardWith<'a, 'b, S>(S, &'a mut ForwardSum<'b>);

impl<S: Simd> WithFunction for ForwardWith<'_, '_, S> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let ForwardWith(s, ForwardSum { x, addend, scale, shift, y, .. }) = self;
        let (scale, shift) = (s.read(scale), s.read(shift));
        let values = x.chunks_exact(LANES).zip(addend.chunks_exact(LANES));
        for (y, (x, addend)) in y.chunks_exact_mut(LANES).zip(values) {
            let z = s.add(s.fma(s.read(x), scale, shift), s.read(addend));
            s.write(y, function.value(s, z));
        }
    }
}

struct BackwardSums<'a> {
    x: &'a [f32],
    activation: Activation,
    y: Option<&'a [f32]>,
    mean: &'a [f32],
    dy: &'a mut [f32],
    addend: Option<(&'a mut [f32], bool)>,
    sums: &'a mut [f32],
}

impl Kernel for BackwardSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.addend.is_some() {
            false => self.activation.with(BackwardWith::<S, false>(s, self)),
            true => self.activation.with(BackwardWith::<S, true>(s, self)),
        }
    }
}

struct BackwardWith<'a, S, const ADDEND: bool>(S, BackwardSums<'a>);

impl<S: Simd, const ADDEND: bool> WithFunction for BackwardWith<'_, S, ADDEND> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let BackwardWith(s, BackwardSums { x, y, mean, dy, addend, sums: out, .. }) = self;
        let (mean, y) = (s.read(mean), y.unwrap_or_default());
        let (addend, accumulate) = addend.unwrap_or_default();
        let mut sums = [s.splat(0.0); 2];
        for (place, (x, dy)) in x.chunks_exact(LANES).zip(dy.chunks_exact_mut(LANES)).enumerate() {
            let mut dz = s.read(dy);
            if F::FROM == GradientFrom::Output {
                dz = function.gradient(s, s.read(&y[place * LANES..]), dz);
                s.write(dy, dz);
            }
            if ADDEND {
                let at = &mut addend[place * LANES..][..LANES];
                let sum = if accumulate { s.add(s.read(at), dz) } else { dz };
                s.write(at, sum);
            }
            sums = [s.add(sums[0], dz), s.fma(dz, s.sub(s.read(x), mean), sums[1])];
        }
        s.write(out, sums[0]);
        s.write(&mut out[LANES..], sums[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{from_blocked, padding, to_blocked};
    use crate::norm::{Given, Source};
    use crate::reference::activation;
    use crate::reference::batch_norm::BatchNorm;
    use crate::reference::gradcheck::pattern;
    use crate::simd::Isa;
    use crate::statistics;

    /// Numbers that are the same in f32 and f64.
    fn numbers(tag: u32, len: usize) -> Vec<f64> {
        pattern(tag, len).iter().map(|&x| f64::from(x as f32)).collect()
    }

    fn narrow(wide: &[f64]) -> Vec<f32> {
        wide.iter().map(|&x| x as f32).collect()
    }

    struct Case {
        isa: Isa,
        shape: [usize; 4],
        after: Activation,
        /// Whether the addend's gradient lies apart, and is added to what stands there.
        apart: Option<bool>,
    }

    impl Case {
        fn close(&self, what: &str, got: &[f32], want: &[f64]) {
            let Case { isa, shape, after, apart } = self;
            assert_eq!(got.len(), want.len());
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                let error = (f64::from(*got) - want).abs();
                let what = || format!("{what}[{i}] {} {shape:?} {after:?} apart {apart:?}", isa.name());
                assert!(error < 1e-5 * want.abs().max(1.0), "{}: got {got}, want {want}", what());
            }
        }

        fn check(&self) {
            let Case { isa, shape: [batch, channels, h, w], after, apart } = *self;
            let (threads, dims, padded) =
                (Threads::new(2).unwrap(), [batch, channels, h * w], blocks(channels) * LANES);
            let len = batch * channels * h * w;
            let [x, addend, dy] = [1, 2, 3].map(|tag| numbers(tag, len));
            let [gamma, beta] = [4, 5].map(|tag| numbers(tag, channels));
            let norm = BatchNorm { batch, pixels: h * w, weight: &gamma, bias: &beta, eps: 1e-5f32.into() };
            let statistics = norm.statistics(&x);
            let sum: Vec<f64> = norm.forward(&x, &statistics).iter().zip(&addend).map(|(z, a)| z + a).collect();
            let want_y = activation::forward(after, &sum);
            let dz = activation::backward(after, &sum, &dy);
            let want = norm.backward_training(&x, &statistics, &dz);

            let chain = NormChain::new(channels, [h, w], Activation::Identity, false, isa);
            let picture = chain.input_len();
            let blocked = |plain: &[f64]| {
                let mut data = vec![f32::NAN; batch * picture];
                to_blocked(&threads, dims, &narrow(plain), MapsMut::packed(&mut data, picture));
                data
            };
            let plain = |blocked: &[f32]| {
                let mut plain = vec![0.0; len];
                from_blocked(&threads, dims, Maps::packed(blocked, picture), &mut plain);
                plain
            };
            let (x, addend, mut dy) = (blocked(&x), blocked(&addend), blocked(&dy));
            let x_maps = Maps::packed(&x, picture);
            let mut parts = vec![f32::NAN; statistics::parts_len(batch, channels)];
            let (mut mean, mut var) = (vec![0.0; padded], vec![0.0; padded]);
            statistics::sum(isa, &threads, dims, x_maps, &mut parts);
            statistics::merge(isa, &threads, [batch, channels], &parts, &mut mean, &mut var);
            let inverse: Vec<f32> = var.iter().map(|v| 1.0 / (v + 1e-5f32).sqrt()).collect();
            let (mut scale, mut shift) = (vec![0.0; padded], vec![0.0; padded]);
            for c in 0..channels {
                scale[c] = gamma[c] as f32 * inverse[c];
                shift[c] = beta[c] as f32 - mean[c] * scale[c];
            }
            let mut y = vec![f32::NAN; x.len()];
            let (addend_maps, y_maps) = (Maps::packed(&addend, picture), MapsMut::packed(&mut y, picture));
            chain.forward_sum(&threads, batch, x_maps, [&scale, &shift], addend_maps, after, y_maps);
            self.close("y", &plain(&y), &want_y);
            assert!(padding(&y, channels, h * w).all(|y| y == 0.0), "padding {after:?}");

            let (mut sum, mut product) = (vec![0.0; padded], vec![0.0; padded]);
            let mut da = vec![1.0; x.len()];
            let y_maps = (after.gradient_from() == GradientFrom::Output).then(|| Maps::packed(&y, picture));
            let given = SumGiven { batch, x: x_maps, activation: after, y: y_maps, mean: &mean };
            let gradients = SumGradients {
                dy: MapsMut::packed(&mut dy, picture),
                addend: apart.map(|accumulate| (MapsMut::packed(&mut da, picture), accumulate)),
                sums: [&mut sum, &mut product],
            };
            chain.backward_sums_of_sum(&threads, &given, gradients, &mut vec![f32::NAN; chain.scratch_len(batch)]);
            self.close("dz", &plain(&dy), &dz);
            if let Some(accumulate) = apart {
                let before = if accumulate { 1.0 } else { 0.0 };
                self.close("da", &plain(&da), &dz.iter().map(|dz| dz + before).collect::<Vec<_>>());
            }
            self.close("dbeta", &sum[..channels], &want.bias);
            let dgamma: Vec<f32> = product.iter().zip(&inverse).map(|(p, i)| p * i).collect();
            self.close("dgamma", &dgamma[..channels], &want.weight);

            let count = (batch * h * w) as f32;
            let b: Vec<f32> = (0..padded).map(|c| -scale[c] * product[c] * inverse[c] * inverse[c] / count).collect();
            let c: Vec<f32> = (0..padded).map(|c| -scale[c] * sum[c] / count - b[c] * mean[c]).collect();
            let dy_maps = Maps::packed(&dy, picture);
            let given = Given { batch, dy: dy_maps, scale: &scale, shift: &shift, mean: &mean, drop: None };
            let (mut dx, source) = (vec![f32::NAN; x.len()], Source::Apart { x: x_maps, accumulate: false });
            chain.backward_data(&threads, &given, [&scale, &b, &c], source, MapsMut::packed(&mut dx, picture));
            self.close("dx", &plain(&dx), &want.input);
        }
    }

    #[test]
    fn agrees_with_the_references_on_every_set() {
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            for shape in [[3, 20, 6, 8], [1, 33, 2, 3], [4, 16, 3, 3]] {
                for after in activation::all().into_iter().filter(|&after| NormChain::sum_takes(after)) {
                    [None, Some(false), Some(true)]
                        .into_iter()
                        .for_each(|apart| Case { isa, shape, after, apart }.check());
                }
            }
        }
    }
}
