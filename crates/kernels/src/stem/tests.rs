//! All directions on every instruction set against the references in f64.

use super::*;
use crate::activation::Activation;
use crate::caches::Caches;
use crate::conv::{Choice, Setting};
use crate::geometry::{Padding, Window};
use crate::layout::{from_blocked, to_blocked};
use crate::precision::Precision;
use crate::random;
use crate::reference::batch_norm::BatchNorm;
use crate::reference::conv2d::{self, ConvProblem};
use crate::reference::gradcheck::pattern;
use crate::reference::pool::{self, PoolProblem};
use crate::reference::{activation, dropout};
use crate::simd::Isa;

/// A stem with what surrounds it.
#[derive(Clone, Copy, Debug)]
struct Case {
    problem: ConvProblem,
    bias: bool,
    after: Activation,
    pool: bool,
    drop: Option<Drop>,
}

/// What is compared.
#[derive(Debug, PartialEq)]
struct Results<T> {
    mean: Vec<T>,
    var: Vec<T>,
    y: Vec<T>,
    dgamma: Vec<T>,
    dbeta: Vec<T>,
    dw: Vec<T>,
}

/// Numbers that f32 holds.
fn numbers(tag: u32, len: usize) -> Vec<f64> {
    pattern(tag, len).iter().map(|&x| f64::from(x as f32)).collect()
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&x| x as f32).collect()
}

const EPS: f32 = 1e-5;

impl Case {
    fn input(&self) -> Vec<f64> {
        numbers(1, self.problem.input_len()).iter().map(|x| f64::from((x + 3.0) as f32)).collect()
    }

    fn parameters(&self) -> [Vec<f64>; 4] {
        let channels = self.problem.out_channels;
        [numbers(2, self.problem.weight_len()), numbers(3, channels), numbers(4, channels), numbers(5, channels)]
    }

    fn output(&self) -> [usize; 2] {
        let [h, w] = self.problem.output();
        if self.pool { [h / 2, w / 2] } else { [h, w] }
    }

    fn gradient(&self) -> Vec<f64> {
        let [h, w] = self.output();
        numbers(6, self.problem.batch * self.problem.out_channels * h * w)
    }

    fn expected(&self) -> Results<f64> {
        let Case { problem, after, .. } = *self;
        let ConvProblem { batch, out_channels, .. } = problem;
        let [weight, bias, gamma, beta] = self.parameters();
        let input = self.input();
        let x = conv2d::forward(&problem, &input, &weight, self.bias.then_some(&bias[..]));
        let [h, w] = problem.output();
        let norm = BatchNorm { batch, pixels: h * w, weight: &gamma, bias: &beta, eps: EPS.into() };
        let statistics = norm.statistics(&x);
        let z = norm.forward(&x, &statistics);
        let active = activation::forward(after, &z);
        let window = if self.pool { Window::square(2).stride(2) } else { Window::square(1) };
        let of_pool = PoolProblem { planes: batch * out_channels, input: [h, w], window };
        let pooled = pool::max_forward(&of_pool, &active);
        let pixels = pooled.output.len() / (batch * out_channels);
        let drop_channels = |v: &[f64]| match self.drop {
            Some(Drop { seed, p }) => dropout::channels(v, pixels, p, |i| random::keep(seed, i, p)),
            None => v.to_vec(),
        };
        let d = pool::max_backward(&of_pool, &pooled.winners, &drop_channels(&self.gradient()));
        let d = activation::backward(after, &z, &d);
        let gradients = norm.backward_training(&x, &statistics, &d);
        Results {
            mean: statistics.mean,
            var: statistics.var,
            y: drop_channels(&pooled.output),
            dgamma: gradients.weight,
            dbeta: gradients.bias,
            dw: conv2d::backward_weights(&problem, &input, &gradients.input),
        }
    }

    fn stem(&self, isa: Isa) -> Stem {
        let ConvProblem { batch, in_channels, out_channels, groups, input, window } = self.problem;
        let shape = ConvShape { in_channels, out_channels, groups, input, window };
        let (precision, caches) = (Precision::F32, Caches::TYPICAL);
        let setting = Setting { batch, choice: Choice::Auto, precision, fixed_weights: false, caches };
        let conv = Conv::new(shape, true, isa, setting).unwrap();
        let chain = NormChain::new(out_channels, conv.output(), self.after, self.pool, isa);
        Stem::new(conv, chain)
    }

    fn computed(&self, isa: Isa, threads: usize) -> Results<f32> {
        let threads = Threads::new(threads).unwrap();
        let (stem, batch, channels) = (self.stem(isa), self.problem.batch, self.problem.out_channels);
        let padded = blocks(channels) * LANES;
        let [weight, bias, gamma, beta] = self.parameters().map(|v| narrow(&v));
        let per_channel = |v: &[f32]| [v, &vec![0.0; padded - channels]].concat();
        let (bias, gamma, beta) = (per_channel(&bias), per_channel(&gamma), per_channel(&beta));
        let mut weights = vec![f32::NAN; stem.conv().weights_len()];
        stem.conv().pack_weights(&threads, &weight, &mut weights);
        let x = narrow(&self.input());
        let x = Maps::packed(&x, stem.conv().input_len());
        let input = StemInput { batch, x, weights: &weights, bias: self.bias.then_some(&bias) };
        let mut scratch = vec![f32::NAN; stem.forward_scratch(batch, threads.count())];

        // Planned for more pictures than come.
        let mut state = stem.state(batch + 1);
        let (mut mean, mut var) = (vec![f32::NAN; padded], vec![f32::NAN; padded]);
        stem.statistics(&threads, &input, &mut state, [&mut mean, &mut var], &mut scratch);
        let inverse: Vec<f32> = var.iter().map(|var| 1.0 / (var + EPS).sqrt()).collect();
        let scale: Vec<f32> = (0..padded).map(|c| gamma[c] * inverse[c]).collect();
        let shift: Vec<f32> = (0..padded).map(|c| beta[c] - mean[c] * scale[c]).collect();
        let norm = StemNorm { scale: &scale, shift: &shift, drop: self.drop };

        // Pictures of the output lie apart, as in a concatenation.
        let [h, w] = self.output();
        let (len, dims) = (padded * h * w, [batch, channels, h * w]);
        let mut y = vec![f32::NAN; batch * (len + LANES)];
        scratch.fill(f32::NAN);
        stem.forward(&threads, &input, &norm, &mut state, MapsMut::packed(&mut y, len + LANES), &mut scratch);
        let mut plain = vec![f32::NAN; batch * channels * h * w];
        from_blocked(&threads, dims, Maps::packed(&y, len + LANES), &mut plain);

        let mut dy = vec![f32::NAN; batch * (len + LANES)];
        to_blocked(&threads, dims, &narrow(&self.gradient()), MapsMut::packed(&mut dy, len + LANES));
        let dy = Maps::packed(&dy, len + LANES);
        let mut scratch = vec![f32::NAN; stem.backward_scratch(batch, threads.count())];
        let mut dw = vec![f32::NAN; weights.len()];
        let (mut sum, mut product) = (vec![f32::NAN; padded], vec![f32::NAN; padded]);
        let sums = [&mut sum[..], &mut product];
        stem.backward_sums(&threads, &input, self.drop, &mut state, dy, &mut dw, sums, &mut scratch);
        let count = (batch * self.problem.output()[0] * self.problem.output()[1]) as f32;
        let slope: Vec<f32> = (0..padded).map(|c| -scale[c] * product[c] * inverse[c] * inverse[c] / count).collect();
        stem.backward_weights(batch, &weights, &state, [&scale, &slope], &mut dw);
        let mut oihw = vec![f32::NAN; weight.len()];
        stem.conv().unpack_weights(&dw, &mut oihw);
        let dgamma = (0..channels).map(|c| product[c] * inverse[c]).collect();
        assert!(mean[channels..].iter().chain(&var[channels..]).chain(&sum[channels..]).all(|&x| x == 0.0));
        let present = |mut v: Vec<f32>| {
            v.truncate(channels);
            v
        };
        Results { mean: present(mean), var: present(var), y: plain, dgamma, dbeta: present(sum), dw: oihw }
    }

    fn check(&self, isa: Isa) {
        let (got, want) = (self.computed(isa, 2), self.expected());
        let pairs = [
            ("mean", &got.mean, &want.mean),
            ("var", &got.var, &want.var),
            ("y", &got.y, &want.y),
            ("dgamma", &got.dgamma, &want.dgamma),
            ("dbeta", &got.dbeta, &want.dbeta),
            ("dw", &got.dw, &want.dw),
        ];
        for (what, got, want) in pairs {
            assert_eq!(got.len(), want.len());
            let scale = want.iter().fold(1.0f64, |a, b| a.max(b.abs()));
            for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
                let error = (f64::from(got) - want).abs();
                assert!(error <= 1e-5 * scale, "{} {what}[{i}]: got {got}, want {want}: {self:?}", isa.name());
            }
        }
    }
}

fn problem(batch: usize, channels: [usize; 2], input: [usize; 2], window: Window) -> ConvProblem {
    ConvProblem { batch, in_channels: channels[0], out_channels: channels[1], groups: 1, input, window }
}

fn problems() -> Vec<ConvProblem> {
    let uneven = Window {
        kernel: [2, 3],
        stride: [1, 2],
        padding: Padding::Explicit { begin: [0, 2], end: [3, 1] },
        dilation: [2, 1],
        ceil_mode: false,
    };
    vec![
        problem(3, [1, 32], [28, 28], Window::square(3).padding(1)),
        problem(2, [3, 16], [32, 32], Window::square(3).padding(1)),
        problem(3, [2, 20], [13, 9], Window::square(3).padding(1)),
        problem(2, [4, 70], [9, 11], Window::square(3).stride(2)),
        problem(4, [3, 5], [8, 7], uneven),
        problem(1, [1, 17], [70, 50], Window::square(5).padding(2)),
        problem(5, [1, 16], [2, 2], Window::square(1)),
        problem(1, [2, 48], [3, 300], Window::square(3).padding(1)),
    ]
}

fn cases() -> Vec<Case> {
    let each = |(i, problem): (usize, ConvProblem)| {
        [(true, true), (true, false), (false, true), (false, false)].map(|(relu, pool)| {
            let after = if relu { Activation::Relu } else { Activation::Identity };
            let drop = (relu == pool).then_some(Drop { seed: 7, p: 0.5 });
            Case { problem, bias: i % 2 == 0, after, pool, drop }
        })
    };
    problems().into_iter().enumerate().flat_map(each).collect()
}

#[test]
fn agrees_with_the_references_on_every_set() {
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        cases().iter().for_each(|case| case.check(isa));
    }
}

#[test]
fn does_not_depend_on_the_threads() {
    for case in cases() {
        let one = case.computed(Isa::best(), 1);
        for threads in [2, 4, 8] {
            assert_eq!(case.computed(Isa::best(), threads), one, "{threads} threads: {case:?}");
        }
    }
}

#[test]
fn convolutions_of_many_products_are_stored() {
    let shape = |channels: [usize; 2], kernel: usize, groups: usize| ConvShape {
        in_channels: channels[0],
        out_channels: channels[1],
        groups,
        input: [32, 32],
        window: Window::square(kernel).padding(kernel / 2),
    };
    for (channels, kernel) in [([1, 5], 3), ([1, 32], 5), ([3, 24], 3), ([3, 64], 3), ([4, 64], 3)] {
        assert!(Stem::takes(&shape(channels, kernel, 1)), "{channels:?} {kernel}");
    }
    for (channels, kernel) in [([3, 16], 3), ([3, 64], 5), ([3, 64], 7), ([1, 96], 11), ([5, 64], 1)] {
        assert!(!Stem::takes(&shape(channels, kernel, 1)), "{channels:?} {kernel}");
    }
    assert!(!Stem::takes(&shape([2, 64], 3, 2)));
}
