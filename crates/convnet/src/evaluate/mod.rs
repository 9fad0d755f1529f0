//! How well a classifier does on labelled pictures: accuracy among its first guess and its first five with its confidence
//! interval, mean cross-entropy, precision, recall and F1 of each class, which classes are confused, and how well
//! probabilities agree with the share of right guesses. Memory does not grow with the number of pictures.

mod calibration;
mod interval;
mod logits;
mod measures;
mod predictions_csv;
mod tally;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;

pub use self::calibration::{Calibration, CalibrationBin};
pub use self::interval::wilson_interval;
pub use self::logits::{ranking, softmax};
pub use self::measures::{ClassMeasures, ConfusedPair, MeanMeasures};
pub use self::predictions_csv::PredictionsCsv;
use self::tally::{Answer, Tally};
use crate::classifier::Description;
use crate::data::augment::Augmentation;
use crate::data::{Batch, Dataset, Loader, Order, Parts};
use crate::distributed::Processes;
use crate::exec::{Engine, Inference};
use crate::predictor::{Input, Predictor};
use crate::{Error, Result, StateDict};

/// A guess counts as near when it is among so many.
const NEAR: usize = 5;

/// What an evaluation came to. Also the form in which the command line prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of pictures.
    pub images: usize,
    /// Share of pictures whose class was the first guess, 0 to 1.
    pub top1: f64,
    /// Its 95 % confidence interval: see [`wilson_interval`].
    pub top1_interval: [f64; 2],
    /// Share of pictures whose class was among the first five guesses, 0 to 1; of five classes or fewer it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Its 95 % confidence interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5_interval: Option<[f64; 2]>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Time it took.
    pub seconds: f64,
    /// Means of precision, recall and F1 in which every class of `classes` counts the same.
    pub macro_mean: MeanMeasures,
    /// The same in which every class counts by the number of its pictures.
    pub weighted_mean: MeanMeasures,
    /// Each class that has pictures, or that pictures were taken for.
    pub classes: Vec<ClassMeasures>,
    /// The pairs of classes that are confused most, at most 20.
    pub confused: Vec<ConfusedPair>,
    /// Whether the net is as sure as it is right.
    pub calibration: Calibration,
    /// For each class, a row: how many of its pictures were taken for which class. Of up to 100 classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<Vec<Vec<u64>>>,
}

/// A picture that was shown to a net.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What it is called.
    pub name: &'a str,
    /// The number of its class.
    pub label: usize,
    /// The net's outputs before softmax.
    pub logits: &'a [f32],
    /// The picture as the net saw it, before it was normalised: channels × height × width bytes. Empty where nobody has asked
    /// for it ([`Predictor::planes`]) or it came as an array.
    pub planes: &'a [u8],
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
    let (order, processes) = (Order::Sequential, &Processes::alone());
    Measurement { order, description, weights, data, engine, batch_size, processes }.evaluate(watch)
}

/// The same of the pictures that an order has, by several processes.
#[derive(Clone, Copy)]
pub(crate) struct Measurement<'a> {
    pub(crate) order: Order,
    pub(crate) description: &'a Description,
    pub(crate) weights: &'a StateDict,
    pub(crate) data: &'a Arc<Dataset>,
    pub(crate) engine: &'a Engine,
    pub(crate) batch_size: usize,
    /// Each has every so many batches.
    pub(crate) processes: &'a Processes,
}

impl Measurement<'_> {
    /// The evaluation, the same in every process; nothing where `watch` breaks off in one of them.
    pub(crate) fn evaluate(self, watch: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<Option<Evaluation>> {
        let Measurement { description, processes, .. } = self;
        let (classes, alone) = (description.classes().len(), processes.size() == 1);
        let (mut tally, mut sent) = (Tally::new(classes), Vec::new());
        let shown = self.show(&mut |first, logits, batch| {
            let labels = batch.labels();
            let answers = logits.chunks_exact(classes).zip(labels).map(|(row, &label)| Answer::of(row, label as usize));
            match alone {
                true => answers.for_each(|answer| tally.take(answer)),
                false => sent.push(answers.map(Answer::to_numbers).collect()),
            }
            watch(first + labels.len())
        });
        if alone {
            return shown.map(|whole| whole.is_continue().then(|| tally.evaluation(description.classes())));
        }
        // Batches come round the processes, in whose order the sums are.
        let all: Vec<(bool, Vec<Vec<[u64; 5]>>)> =
            processes.exchange(shown.map(|whole| (whole.is_continue(), sent)))?;
        let rounds = all.iter().map(|(_, batches)| batches.len()).max().unwrap_or_default();
        for batches in (0..rounds).flat_map(|round| all.iter().filter_map(move |(_, batches)| batches.get(round))) {
            batches.iter().for_each(|&numbers| tally.take(Answer::of_numbers(numbers)));
        }
        let whole = all.iter().all(|(whole, _)| *whole);
        Ok(whole.then(|| tally.evaluation(description.classes())))
    }

    /// Hands out the net's outputs of batch after batch, until the receiver breaks off.
    fn show(self, receive: &mut Receive) -> Result<ControlFlow<()>> {
        let Measurement { order, description, weights, data, engine, batch_size, processes } = self;
        description.check_data(data)?;
        let batch_size = batch_size.min(data.len());
        let mut inference = Inference::new(description.net(), engine, batch_size, weights)?;
        let (rank, size) = (processes.rank(), processes.size());
        let parts = |count: usize| {
            let begin = |batch: usize| (batch * batch_size).min(count);
            (rank..count.div_ceil(batch_size)).step_by(size).map(|batch| begin(batch)..begin(batch + 1)).collect()
        };
        let workers = data.customary_workers().min(processes.threads());
        let parts = Parts { order, parts: &parts, workers };
        let batches = Loader::of_parts(Arc::clone(data), description.normalization(), parts, &Augmentation::none())?;
        for (batch, index) in batches.zip((rank..).step_by(size)) {
            let batch = batch?;
            let logits = inference.run(batch.images(), batch.len())?;
            if receive(index * batch_size, logits, &batch).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The same in which `each` is told of every picture, in the order of the data set, and nothing breaks off.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_each(
    description: &Description,
    weights: &StateDict,
    data: &Arc<Dataset>,
    engine: &Engine,
    batch_size: usize,
    each: &mut dyn FnMut(Seen),
) -> Result<Evaluation> {
    let mut tally = Tally::new(description.classes().len());
    let normalizer = description.normalization().normalizer(description.input()[0])?;
    let size = description.input().iter().product();
    let mut planes = vec![0; size];
    let (order, processes) = (Order::Sequential, &Processes::alone());
    let measurement = Measurement { order, description, weights, data, engine, batch_size, processes };
    let _ = measurement.show(&mut |first, logits, batch| {
        let rows = logits.chunks_exact(description.classes().len());
        for (((logits, &label), image), index) in
            rows.zip(batch.labels()).zip(batch.images().chunks_exact(size)).zip(first..)
        {
            let label = label as usize;
            tally.add(logits, label);
            normalizer.undo(image, &mut planes);
            each(Seen { name: &data.image_name(index), label, logits, planes: &planes });
        }
        ControlFlow::Continue(())
    })?;
    Ok(tally.evaluation(description.classes()))
}

/// Takes a batch: the number of its first picture, the net's outputs and the pictures.
type Receive<'a> = dyn FnMut(usize, &[f32], &Batch) -> ControlFlow<()> + 'a;

/// Shows labelled pictures to a net as they are drawn from an iterator, in constant memory. A picture that cannot be used
/// does not count; `told` hears of every picture, and ends the evaluation with an error of its own.
///
/// # Errors
/// Weights that do not fit the net, a label that it does not have; where no picture can be used, the reason of the last one;
/// an error of `told`.
pub fn evaluate_pictures(
    predictor: Predictor,
    pictures: impl Iterator<Item = (Input, u32)>,
    told: &mut dyn FnMut(Told) -> Result<()>,
) -> Result<Evaluation> {
    evaluate_pictures_among(&Processes::alone(), predictor, pictures, told)
}

/// The same with other processes, each of which calls this with the same pictures and hears the same: the evaluation of one process.
///
/// # Errors
/// As [`evaluate_pictures`]; where one process fails, all do.
pub fn evaluate_pictures_among(
    processes: &Processes,
    predictor: Predictor,
    pictures: impl Iterator<Item = (Input, u32)>,
    told: &mut dyn FnMut(Told) -> Result<()>,
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
    for answer in predictor.predict_all_among(processes, inputs)? {
        taken += 1;
        let label = labels.borrow_mut().pop_front().map_or(usize::MAX, |label| label as usize);
        if label >= classes.len() {
            return Err(Error::Label { label, classes: classes.len() });
        }
        let name = &answer.name;
        match answer.result {
            Ok(prediction) => {
                if !prediction.warnings.is_empty() {
                    told(Told::Damaged { name, warnings: &prediction.warnings })?;
                }
                let logits = prediction.logits.unwrap_or_default();
                tally.add(&logits, label);
                let planes = prediction.planes.unwrap_or_default();
                told(Told::Seen(Seen { name, label, logits: &logits, planes: &planes }))?;
            }
            Err(error) if error.is_of_a_picture() => {
                told(Told::Unusable(&error))?;
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match (tally.images, failed) {
        (0, Some(error)) => Err(error),
        (0, _) => Err(Error::invalid(format!("no picture can be used, of {taken}"))),
        _ => Ok(tally.evaluation(&classes)),
    }
}

/// What [`evaluate_pictures`] tells of a picture.
#[derive(Debug)]
pub enum Told<'a> {
    /// The net has seen it.
    Seen(Seen<'a>),
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
}
