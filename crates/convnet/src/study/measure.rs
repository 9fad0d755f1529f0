//! What a study measures beside its runs.

use std::sync::Arc;
use std::time::Instant;

use super::nets::weighted;
use super::{Budget, LayerGradient};
use crate::classifier::Description;
use crate::data::{Dataset, Loader, LoaderOptions, Order};
use crate::exec::{Engine, Training, Update};
use crate::net::Net;
use crate::{Result, StateDict, weights};

/// Pictures on which gradients are measured.
const PICTURES: usize = 256;
/// Seed of the steps that are timed.
const SEED: u64 = 0;
const LEARNING_RATE: f32 = 1e-3;

/// Root mean square of the gradients of each layer's weights on the first training pictures, as they are, before and after training.
///
/// # Errors
/// Pictures that cannot be read.
pub(super) fn gradients(
    description: &Description,
    [before, after]: [&StateDict; 2],
    data: &Arc<Dataset>,
    engine: &Engine,
) -> Result<Vec<LayerGradient>> {
    let count = PICTURES.min(data.len());
    let order = Order::Sample { seed: SEED, count };
    let options = LoaderOptions { batch_size: count, order, start_batch: 0, workers: 1 };
    let mut loader = Loader::new(Arc::clone(data), description.normalization(), options)?;
    let Some(batch) = loader.next().transpose()? else { return Ok(Vec::new()) };
    let layers = weighted(description.net());
    let sizes = |weights: &StateDict| -> Result<Vec<f64>> {
        let mut training = Training::new(description.net(), engine, count, weights, Update::ADAM, SEED)?;
        training.gradients(batch.images(), batch.labels())?;
        layers.iter().map(|layer| Ok(root_mean_square(training.gradient(&format!("{layer}.weight"))?.data()))).collect()
    };
    let (before, after) = (sizes(before)?, sizes(after)?);
    let row = |((layer, before), after): ((&String, f64), f64)| LayerGradient {
        layer: layer.clone(),
        before: significant(before),
        after: significant(after),
    };
    Ok(layers.iter().zip(before).zip(after).map(row).collect())
}

fn root_mean_square(numbers: &[f32]) -> f64 {
    let squares: f64 = numbers.iter().map(|&number| f64::from(number).powi(2)).sum();
    (squares / numbers.len().max(1) as f64).sqrt()
}

/// Four significant digits, as they are written down.
fn significant(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}

/// Milliseconds of a training step of each net on pictures of noise: the least of some, which whatever else the machine does can
/// only lengthen. The nets take turns.
///
/// # Errors
/// A net that cannot be trained.
pub(super) fn step_times(nets: &[Net], engine: &Engine, batch: usize, budget: Budget) -> Result<Vec<f64>> {
    let rounds = if budget == Budget::Seconds { 3 } else { 31 };
    let make = |net: &Net| Training::new(net, engine, batch, &weights::init(net, SEED), Update::ADAM, SEED);
    let mut trainings = nets.iter().map(make).collect::<Result<Vec<Training>>>()?;
    let mut least = vec![f64::INFINITY; nets.len()];
    for round in 0..=rounds {
        for ((training, net), least) in trainings.iter_mut().zip(nets).zip(&mut least) {
            let images = noise(batch * net.input_shape().elements());
            let labels: Vec<u32> = (0..batch).map(|i| (i % net.output_shape().elements()) as u32).collect();
            let start = Instant::now();
            training.step(&images, &labels, LEARNING_RATE)?;
            // The first one reserves memory and fills caches.
            if round > 0 {
                *least = least.min(1e3 * start.elapsed().as_secs_f64());
            }
        }
    }
    Ok(least)
}

/// Numbers that look random, from -1 to 1.
fn noise(count: usize) -> Vec<f32> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}
