//! How well a classifier does on labelled pictures: accuracy among its first guess and its first five, and mean
//! cross-entropy. Softmax and its logarithm are computed in f64, with the largest logit taken off first.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::classifier::Description;
use crate::data::{Batch, Dataset, Loader, LoaderOptions, Order};
use crate::exec::{Engine, Inference};
use crate::{Result, StateDict};

/// A guess counts as near when it is among so many.
const NEAR: usize = 5;

/// What an evaluation came to. Also the form in which the command line prints it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of pictures.
    pub images: usize,
    /// Share of pictures whose class was the first guess, 0 to 1.
    pub top1: f64,
    /// Share of pictures whose class was among the first five guesses, 0 to 1.
    pub top5: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Time it took.
    pub seconds: f64,
}

/// Shows all pictures of a data set to a net. `watch` is told after each batch how many have been seen, and can break
/// off: then there is no result.
///
/// # Errors
/// When the data or the weights do not fit the net.
pub fn evaluate(
    description: &Description,
    weights: &StateDict,
    data: &Arc<Dataset>,
    engine: &Engine,
    batch_size: usize,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Evaluation>> {
    let start = Instant::now();
    description.check_data(data)?;
    let batch_size = batch_size.min(data.len());
    let mut inference = Inference::new(description.net(), engine, batch_size, weights)?;
    let options = LoaderOptions { batch_size, order: Order::Sequential, start_batch: 0, workers: 1 };
    let mut sums = Evaluation::default();
    for batch in Loader::new(Arc::clone(data), description.normalization(), options)? {
        sums.add(inference.run(batch.images(), batch.len())?, &batch);
        if watch(sums.images).is_break() {
            return Ok(None);
        }
    }
    let mean = |sum: f64| sum / sums.images as f64;
    let [top1, top5, loss] = [sums.top1, sums.top5, sums.loss].map(mean);
    Ok(Some(Evaluation { top1, top5, loss, seconds: start.elapsed().as_secs_f64(), ..sums }))
}

impl Evaluation {
    /// Adds a batch to what are still sums.
    fn add(&mut self, logits: &[f32], batch: &Batch) {
        let classes = logits.len() / batch.len();
        for (row, &label) in logits.chunks_exact(classes).zip(batch.labels()) {
            let rank = rank(row, label as usize);
            self.images += 1;
            self.top1 += f64::from(rank < 1);
            self.top5 += f64::from(rank < NEAR);
            self.loss += cross_entropy(row, label as usize);
        }
    }
}

/// How many classes are guessed before this one: those with a larger logit, or an equal one and a smaller number. With
/// NaN among the logits nothing counts as recognised.
fn rank(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    let after = |(class, &logit): (usize, &f32)| logit < own || (logit == own && class >= label);
    logits.iter().enumerate().filter(|&guess| !after(guess)).count()
}

fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let largest = largest(logits);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
    sum.ln() - (f64::from(logits[label]) - largest)
}

/// The probability of each class.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = largest(logits);
    let powers: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The classes, the most probable first; of equal ones that with the smaller number.
pub fn ranking(logits: &[f32]) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..logits.len()).collect();
    classes.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    classes
}

fn largest(logits: &[f32]) -> f64 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;
    use crate::data::{Source, test_data};
    use crate::zoo::{ZooOptions, by_name};

    /// He et al.'s ResNet-20, trained by Y. Idelbayev (8.27 % errors on the original pictures): of these, which went through
    /// JPEG, PyTorch recognises 8,103. Rounding may turn a few that are close.
    #[test]
    #[ignore = "decodes and recognises 10,000 pictures"]
    fn the_published_resnet20_recognises_8103_pictures() {
        let (Some(data), Some(weights)) = (test_data("cifar10"), test_data("../weights")) else { return };
        let net = by_name("resnet20", &ZooOptions::default()).unwrap();
        let Classifier { description, weights } =
            Classifier::load(Some(net), &weights.join("resnet20-12fca82f.th")).unwrap();
        let source = Source::parse(data.join("cifar10-jpeg.tar.gz").to_str().unwrap()).unwrap();
        let test = Arc::new(source.load_test(Some(description.target())).unwrap());
        let engine = Engine::new(0).unwrap();
        let mut watch = |_| ControlFlow::Continue(());
        let found = evaluate(&description, &weights, &test, &engine, 256, &mut watch).unwrap().unwrap();
        let right = (found.top1 * found.images as f64).round() as usize;
        assert!(found.images == 10_000 && right.abs_diff(8_103) <= 3, "{right} of {}", found.images);
    }

    #[test]
    fn ranks_count_the_guesses_before() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|label| rank(&logits, label)), [2, 0, 1, 3]);
        assert_eq!(ranking(&logits), [1, 2, 0, 3]);
        assert_eq!([0, 1].map(|label| rank(&[f32::NAN, 1.0], label)), [2, 1]);
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = [1000.0, 1000.0];
        assert_eq!((softmax(&logits), cross_entropy(&logits, 1)), (vec![0.5, 0.5], 2.0_f64.ln()));
        assert!(cross_entropy(&[f32::NAN, 0.0], 1).is_nan());
    }
}
