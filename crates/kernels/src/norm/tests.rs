use super::*;
use crate::layout::{from_blocked, padding, to_blocked};
use crate::precision::{Precision, bits, words};
use crate::reference::batch_norm::BatchNorm;
use crate::reference::gradcheck::pattern;
use crate::reference::pool::{self, PoolProblem};
use crate::reference::{activation, dropout};
use crate::statistics;

fn close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() < 1e-5 * want.abs().max(1.0), "{what}[{i}]: got {got}, want {want}");
    }
}

/// The chain by the references: output and gradients of x, γ and β.
fn expected(
    [batch, channels, h, w]: [usize; 4],
    after: Activation,
    pool_on: bool,
    drop: Option<Drop>,
    [x, gamma, beta, dy]: [&[f64]; 4],
) -> (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>) {
    let norm = BatchNorm { batch, pixels: h * w, weight: gamma, bias: beta, eps: 1e-5f32.into() };
    let statistics = norm.statistics(x);
    let z = norm.forward(x, &statistics);
    let active = activation::forward(after, &z);
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
    let d = activation::backward(after, &z, &d);
    let gradients = norm.backward_training(x, &statistics, &d);
    (y, gradients.input, gradients.weight, gradients.bias)
}

fn check(isa: Isa, shape: [usize; 4], after: Activation, pool_on: bool, drop: Option<Drop>) {
    let [batch, channels, h, w] = shape;
    let what = format!("{} {shape:?} {after:?} pool {pool_on} drop {}", isa.name(), drop.is_some());
    let threads = Threads::new(2).unwrap();
    let chain = NormChain::new(channels, [h, w], after, pool_on, isa);
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
    let (want_y, want_dx, want_dgamma, want_dbeta) = expected(shape, after, pool_on, drop, [&x, &gamma, &beta, &dy]);

    let (from, to) = ([batch, channels, h * w], [batch, channels, oh * ow]);
    let mut blocked = vec![f32::NAN; batch * chain.input_len()];
    to_blocked(&threads, from, &narrow(&x), MapsMut::packed(&mut blocked, chain.input_len()));
    let mut scratch = vec![f32::NAN; chain.scratch_len(batch)];
    let mut parts = vec![f32::NAN; statistics::parts_len(batch, channels)];
    let (mut mean, mut var) = (vec![0.0; padded], vec![0.0; padded]);
    statistics::sum(isa, &threads, from, Maps::packed(&blocked, chain.input_len()), &mut parts);
    statistics::merge(isa, &threads, [batch, channels], &parts, &mut mean, &mut var);
    let inverse: Vec<f32> = var.iter().map(|v| 1.0 / (v + 1e-5f32).sqrt()).collect();
    let scale: Vec<f32> = per_channel(&gamma).iter().zip(&inverse).map(|(g, i)| g * i).collect();
    let shift: Vec<f32> = per_channel(&beta).iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
    let mut y = vec![f32::NAN; batch * chain.output_len()];
    let x_maps = Maps::packed(&blocked, chain.input_len());
    chain.forward(&threads, batch, x_maps, &scale, &shift, drop, MapsMut::packed(&mut y, chain.output_len()));
    assert!(padding(&y, channels, oh * ow).all(|y| y == 0.0), "padding {what}");
    let mut plain = vec![0.0; want_y.len()];
    from_blocked(&threads, to, Maps::packed(&y, chain.output_len()), &mut plain);
    close(&format!("y {what}"), &plain, &want_y);

    let mut dy_blocked = vec![f32::NAN; batch * chain.output_len()];
    to_blocked(&threads, to, &narrow(&dy), MapsMut::packed(&mut dy_blocked, chain.output_len()));
    let dy_maps = Maps::packed(&dy_blocked, chain.output_len());
    let given = Given { batch, dy: dy_maps, scale: &scale, shift: &shift, mean: &mean, drop };
    let (mut sum, mut product) = (vec![0.0; padded], vec![0.0; padded]);
    chain.backward_sums(&threads, &given, x_maps, [&mut sum, &mut product], &mut scratch);
    close(&format!("dbeta {what}"), &sum[..channels], &want_dbeta);
    let dgamma: Vec<f32> = product.iter().zip(&inverse).map(|(p, i)| p * i).collect();
    close(&format!("dgamma {what}"), &dgamma[..channels], &want_dgamma);
    let count = (batch * h * w) as f32;
    let b: Vec<f32> = (0..padded).map(|c| -scale[c] * product[c] * inverse[c] * inverse[c] / count).collect();
    let c: Vec<f32> = (0..padded).map(|c| -scale[c] * sum[c] / count - b[c] * mean[c]).collect();
    let (len, linear): (usize, [&[f32]; 3]) = (chain.input_len(), [&scale, &b, &c]);
    let mut separate = vec![f32::NAN; blocked.len()];
    let apart = |accumulate| Source::Apart { x: x_maps, accumulate };
    chain.backward_data(&threads, &given, linear, apart(false), MapsMut::packed(&mut separate, len));
    let mut twice = separate.clone();
    chain.backward_data(&threads, &given, linear, apart(true), MapsMut::packed(&mut twice, len));
    assert!(separate.iter().zip(&twice).all(|(once, twice)| once + once == *twice));
    chain.backward_data(&threads, &given, linear, Source::InPlace, MapsMut::packed(&mut blocked, len));
    assert_eq!(separate, blocked);
    let mut plain = vec![0.0; want_dx.len()];
    from_blocked(&threads, from, Maps::packed(&blocked, len), &mut plain);
    close(&format!("dx {what}"), &plain, &want_dx);
}

#[test]
fn agrees_with_the_references_on_every_set() {
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        for shape in [[3, 20, 6, 8], [2, 16, 7, 5], [1, 33, 2, 3], [5, 4, 3, 3]] {
            let chains = activation::all().into_iter().flat_map(|after| [(after, false), (after, true)]);
            for (after, pool_on) in chains.filter(|&(after, pool_on)| NormChain::takes(after, pool_on)) {
                check(isa, shape, after, pool_on, None);
                check(isa, shape, after, pool_on, Some(Drop { seed: 7, p: 0.5 }));
            }
        }
    }
}

/// What is read in bf16 are the same numbers, and a result is rounded once.
#[test]
fn storing_in_bf16_rounds_results_and_nothing_else() {
    let threads = Threads::new(2).unwrap();
    for (isa, pool) in Isa::NAMES.into_iter().filter_map(Isa::named).flat_map(|isa| [(isa, false), (isa, true)]) {
        let chain = NormChain::new(40, [5, 6], Activation::Relu, pool, isa);
        let (x_len, y_len) = (chain.input_len(), chain.output_len());
        let x: Vec<f32> = pattern(1, 2 * x_len).iter().map(|x| (x * 64.0).round() as f32 / 64.0).collect();
        let [scale, shift] = [2, 3].map(|seed| pattern(seed, 48).iter().map(|&x| x as f32).collect::<Vec<f32>>());
        let run = |x: Maps<'_>, y: MapsMut<'_>| chain.forward(&threads, 2, x, &scale, &shift, None, y);
        let (in_words, mut want) = (words(&x), vec![f32::NAN; 2 * y_len]);
        let x = Maps::packed(&x, x_len);
        let x_words = Maps { data: &in_words, stride: x_len / 2, stored: Precision::Bf16 };
        run(x, MapsMut::packed(&mut want, y_len));
        let mut y = vec![f32::NAN; 2 * y_len];
        run(x_words, MapsMut::packed(&mut y, y_len));
        assert_eq!(y, want, "{}", isa.name());
        for x in [x, x_words] {
            let mut y = vec![f32::NAN; y_len];
            run(x, MapsMut { data: &mut y, stride: y_len / 2, stored: Precision::Bf16 });
            assert_eq!(bits(&y), bits(&words(&want)), "{}", isa.name());
        }
    }
}
