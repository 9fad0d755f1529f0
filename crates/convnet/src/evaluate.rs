//! How well a classifier does on labelled pictures: accuracy among its first guess and its first five, mean cross-entropy,
//! and precision, recall and F1 of each class. Softmax and its logarithm are computed in f64, with the largest logit taken
//! off first.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::classifier::Description;
use crate::data::{Dataset, Loader, LoaderOptions, Order};
use crate::exec::{Engine, Inference};
use crate::predictor::{Input, Predictor};
use crate::{Error, Result, StateDict};

/// A guess counts as near when it is among so many.
const NEAR: usize = 5;
/// Of more classes, the table of which was taken for which is not made.
const MOST_CONFUSED: usize = 100;

/// What an evaluation came to. Also the form in which the command line prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of pictures.
    pub images: usize,
    /// Share of pictures whose class was the first guess, 0 to 1.
    pub top1: f64,
    /// Share of pictures whose class was among the first five guesses, 0 to 1; of five classes or fewer it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Time it took.
    pub seconds: f64,
    /// Each class that has pictures, or that pictures were taken for.
    pub classes: Vec<ClassMeasures>,
    /// For each class, a row: how many of its pictures were taken for which class. Of up to 100 classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
}

/// How well one class is told from the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassMeasures {
    /// What it is called.
    pub label: String,
    /// Number of its pictures.
    pub images: u64,
    /// Share of the pictures taken for it that are of it; 0 where none was.
    pub precision: f64,
    /// Share of its pictures that were taken for it; 0 where it has none.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
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
    evaluate_in(Order::Sequential, description, weights, data, engine, batch_size, watch)
}

/// The same of the pictures that an order has.
pub(crate) fn evaluate_in(
    order: Order,
    description: &Description,
    weights: &StateDict,
    data: &Arc<Dataset>,
    engine: &Engine,
    batch_size: usize,
    watch: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Evaluation>> {
    let mut tally = Tally::new(description.classes().len());
    description.check_data(data)?;
    let batch_size = batch_size.min(data.len());
    let mut inference = Inference::new(description.net(), engine, batch_size, weights)?;
    let options = LoaderOptions { batch_size, order, start_batch: 0, workers: 1 };
    for batch in Loader::new(Arc::clone(data), description.normalization(), options)? {
        let batch = batch?;
        let logits = inference.run(batch.images(), batch.len())?.chunks_exact(tally.classes);
        logits.zip(batch.labels()).for_each(|(row, &label)| tally.add(row, label));
        if watch(tally.images).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(tally.evaluation(description.classes())))
}

/// Shows labelled pictures to a net as they are drawn from an iterator, in constant memory. A picture that cannot be used
/// does not count; `told` hears of each one that is damaged ([`Told::Damaged`]) or cannot be used ([`Told::Unusable`]).
///
/// # Errors
/// Weights that do not fit the net, a label that it does not have; where no picture can be used, the reason of the last one.
pub fn evaluate_pictures(
    predictor: Predictor,
    pictures: impl Iterator<Item = (Input, u32)>,
    told: &mut dyn FnMut(Told),
) -> Result<Evaluation> {
    let mut predictor = predictor.top(0).logits(true);
    let classes = predictor.description().classes().to_vec();
    let mut tally = Tally::new(classes.len());
    // Pictures are drawn ahead of their answers, which come in the same order.
    let labels = RefCell::new(VecDeque::new());
    let inputs = pictures.map(|(input, label)| {
        labels.borrow_mut().push_back(label);
        input
    });
    let (mut taken, mut failed) = (0, None);
    for answer in predictor.predict_all(inputs)? {
        taken += 1;
        let label = labels.borrow_mut().pop_front().unwrap_or(u32::MAX);
        if label as usize >= classes.len() {
            return Err(Error::Label { label: label as usize, classes: classes.len() });
        }
        match answer.result {
            Ok(prediction) => {
                if !prediction.warnings.is_empty() {
                    told(Told::Damaged { name: &answer.name, warnings: &prediction.warnings });
                }
                tally.add(&prediction.logits.unwrap_or_default(), label);
            }
            Err(error @ (Error::Picture { .. } | Error::Io { .. } | Error::File { .. })) => {
                told(Told::Unusable(&error));
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match (tally.images, failed) {
        (0, Some(error)) => Err(error),
        (0, _) => Err(Error::invalid(format!("none of {taken} pictures can be used"))),
        _ => Ok(tally.evaluation(&classes)),
    }
}

/// What [`evaluate_pictures`] tells of a picture.
#[derive(Debug)]
pub enum Told<'a> {
    /// Its file is damaged, but it counts.
    Damaged {
        /// What it is called.
        name: &'a str,
        /// What is wrong.
        warnings: &'a [String],
    },
    /// It cannot be used, and does not count.
    Unusable(&'a Error),
}

/// Sums over the pictures seen so far.
struct Tally {
    classes: usize,
    images: usize,
    top1: usize,
    top5: usize,
    loss: f64,
    /// How many pictures of the first class were taken for the second.
    taken: BTreeMap<(usize, usize), u64>,
    start: Instant,
}

impl Tally {
    fn new(classes: usize) -> Tally {
        Tally { classes, images: 0, top1: 0, top5: 0, loss: 0.0, taken: BTreeMap::new(), start: Instant::now() }
    }

    fn add(&mut self, logits: &[f32], label: u32) {
        let label = label as usize;
        let rank = rank(logits, label);
        self.images += 1;
        self.top1 += usize::from(rank < 1);
        self.top5 += usize::from(rank < NEAR);
        self.loss += cross_entropy(logits, label);
        *self.taken.entry((label, first(logits))).or_default() += 1;
    }

    fn evaluation(&self, names: &[String]) -> Evaluation {
        let mean = |sum: f64| sum / self.images as f64;
        let sum = |wanted: &dyn Fn(usize, usize) -> bool| -> u64 {
            self.taken.iter().filter(|&(&(is, seen), _)| wanted(is, seen)).map(|(_, count)| count).sum()
        };
        let mut seen: Vec<usize> = self.taken.keys().flat_map(|&(is, seen)| [is, seen]).collect();
        seen.sort_unstable();
        seen.dedup();
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let measures = |class: usize| {
            let (right, of_it) = (sum(&|is, seen| is == class && seen == class), sum(&|is, _| is == class));
            let for_it = sum(&|_, seen| seen == class);
            let f1 = share(2 * right, of_it + for_it);
            let (precision, recall) = (share(right, for_it), share(right, of_it));
            ClassMeasures { label: names[class].clone(), images: of_it, precision, recall, f1 }
        };
        let confusion = (self.classes <= MOST_CONFUSED).then(|| {
            let count = |is: usize, seen: usize| self.taken.get(&(is, seen)).copied().unwrap_or(0);
            (0..self.classes).map(|is| (0..self.classes).map(|seen| count(is, seen)).collect()).collect()
        });
        Evaluation {
            images: self.images,
            top1: mean(self.top1 as f64),
            top5: (self.classes > NEAR).then(|| mean(self.top5 as f64)),
            loss: mean(self.loss),
            seconds: self.start.elapsed().as_secs_f64(),
            classes: seen.into_iter().map(measures).collect(),
            confusion,
        }
    }
}

/// The first guess: of equal ones that with the smaller number.
fn first(logits: &[f32]) -> usize {
    let larger = |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
    (0..logits.len()).reduce(larger).unwrap_or(0)
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
    use crate::data::{Sizing, Source, test_data};
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
        let sizing = Sizing::to(description.target());
        let test = Arc::new(source.load(sizing).unwrap().test.unwrap());
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

    /// scikit-learn 1.7: classification_report([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0]).
    #[test]
    fn classes_are_measured() {
        let mut tally = Tally::new(3);
        for (label, seen) in [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (2, 0)] {
            let mut logits = [0.0; 3];
            logits[seen] = 1.0;
            tally.add(&logits, label);
        }
        let names = ["a", "b", "c"].map(str::to_owned);
        let found = tally.evaluation(&names);
        assert_eq!((found.images, found.top5), (6, None));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(found.top1, 4.0 / 6.0));
        let expected = [(2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 3), (2.0 / 3.0, 1.0, 0.8, 2), (0.0, 0.0, 0.0, 1)];
        for (class, (precision, recall, f1, images)) in found.classes.iter().zip(expected) {
            assert!(
                close(class.precision, precision) && close(class.recall, recall) && close(class.f1, f1),
                "{class:?}"
            );
            assert_eq!(class.images, images);
        }
        assert_eq!(found.confusion, Some(vec![vec![2, 1, 0], vec![0, 2, 0], vec![1, 0, 0]]));
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = [1000.0, 1000.0];
        assert_eq!((softmax(&logits), cross_entropy(&logits, 1)), (vec![0.5, 0.5], 2.0_f64.ln()));
        assert!(cross_entropy(&[f32::NAN, 0.0], 1).is_nan());
    }
}
