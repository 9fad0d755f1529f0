//! A trained net as something that can be asked: pictures in, labels with probabilities out.
//!
//! ```
//! # fn main() -> convnet::Result<()> {
//! use convnet::classifier::{Classifier, Description};
//! use convnet::predictor::{Input, Predictor};
//! use convnet::{weights, zoo};
//!
//! // A trained one comes from `Classifier::load(None, "weights.safetensors".as_ref())?`.
//! let description = Description::customary(zoo::by_name("cnn", &zoo::ZooOptions::default())?)?;
//! let weights = weights::init(description.net(), 0);
//! let mut predictor = Predictor::new(Classifier { description, weights })?.top(3);
//!
//! let prediction = predictor.predict(Input::pixels([0; 28 * 28], 28, 28, 1))?;
//! println!("{} ({:.1} %)", prediction.label(), 100.0 * prediction.top[0].probability);
//!
//! // A bad picture does not keep the others from being answered.
//! for answer in predictor.predict_all([Input::bytes(*b"no picture"), Input::pixels([0; 30 * 40], 30, 40, 1)])? {
//!     match answer.result {
//!         Ok(prediction) => println!("{}: {}", answer.name, prediction.label()),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Pictures are decoded ahead on background threads while the net computes; memory is that of a few batches, however many
//! pictures come.

mod among;
mod decoders;
mod input;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::iter::Fuse;

use serde::Serialize;

pub use self::among::PredictionsAmong;
use self::decoders::Decoders;
pub use self::input::Input;
use self::input::{Prepared, Values};
use crate::classifier::{Classifier, Description};
use crate::data::{Normalizer, PictureError, TargetSize};
use crate::evaluate::{ranking, softmax};
use crate::exec::{Engine, Inference};
use crate::weights::not_finite;
use crate::{Error, Result, Tensor};

/// Pictures for which a predictor chooses the methods of convolutions, so that an answer's bits do not depend on the pictures that
/// go through the net beside it: [`InferenceBuilder::methods_for`](crate::exec::InferenceBuilder::methods_for).
pub const METHODS_FOR: usize = 16;
/// Pictures that go through the net at once, unless something else is said.
const BATCH: usize = 16;
/// Guesses of a picture, unless something else is said.
const GUESSES: usize = 5;
/// Threads that decode: beyond that, the net is what takes the time.
const MOST_DECODERS: usize = 4;

/// A classifier that is ready to be asked.
#[derive(Debug)]
pub struct Predictor {
    description: Description,
    /// The first tensor of the weights that is not finite.
    not_finite: Option<String>,
    normalizer: Normalizer,
    /// Planned for as many pictures as have come at once so far.
    inference: Inference,
    /// Values that are asked for beside the output.
    features: Vec<String>,
    batch: usize,
    top: usize,
    logits: bool,
    planes: bool,
    strict: bool,
}

/// What a net sees in a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Guesses, the most probable first.
    pub top: Vec<Guess>,
    /// The net's outputs before softmax, where they were asked for.
    pub logits: Option<Vec<f32>>,
    /// The values that [`Predictor::with_features`] asked for: channels × height × width, or a row.
    pub features: BTreeMap<String, Tensor>,
    /// The picture as the net saw it, before it was normalised, where that was asked for and it was no array: channels ×
    /// height × width bytes.
    pub planes: Option<Vec<u8>>,
    /// What is damaged in the picture's file.
    pub warnings: Vec<String>,
}

/// A class that a picture may be of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guess {
    /// Number of the class.
    pub class: usize,
    /// What it is called.
    pub label: String,
    /// How probable it is, 0 to 1.
    pub probability: f64,
}

/// One picture's answer.
#[derive(Debug)]
pub struct Answer {
    /// What the picture is called: its name, its path, or its number.
    pub name: String,
    /// What the net sees in it, or why it cannot be seen.
    pub result: Result<Prediction>,
}

impl Prediction {
    /// The most probable class; empty where no guesses were asked for.
    pub fn label(&self) -> &str {
        self.top.first().map_or("", |guess| &guess.label)
    }
}

impl Predictor {
    /// On all cores of this machine.
    ///
    /// # Errors
    /// As [`Engine::new`] and [`Predictor::with_engine`].
    pub fn new(classifier: Classifier) -> Result<Predictor> {
        Predictor::with_engine(classifier, &Engine::new(0)?)
    }

    /// On an engine that there is already.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] when the weights do not fit the net; a normalisation that cannot be used.
    pub fn with_engine(classifier: Classifier, engine: &Engine) -> Result<Predictor> {
        Predictor::with_features(classifier, engine, [""; 0])
    }

    /// The same, and each picture's prediction has the values of these layers, by name or the beginning of a block's, such as
    /// `layer4` or `avgpool`.
    ///
    /// ```
    /// # fn main() -> convnet::Result<()> {
    /// use convnet::prelude::*;
    /// let net = zoo::by_name("resnet20", &zoo::ZooOptions::default())?;
    /// let classifier = Classifier::untrained(net, 0)?;
    /// let mut predictor = Predictor::with_features(classifier, &Engine::new(0)?, ["layer3"])?;
    /// let prediction = predictor.predict(convnet::predictor::Input::pixels([0; 32 * 32 * 3], 32, 32, 3))?;
    /// assert_eq!(prediction.features["layer3"].shape(), [64, 8, 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Predictor::with_engine`], and [`Error::Unknown`] when the net has no such layer.
    pub fn with_features<N: Into<String>>(
        classifier: Classifier,
        engine: &Engine,
        layers: impl IntoIterator<Item = N>,
    ) -> Result<Predictor> {
        let Classifier { description, weights } = classifier;
        let normalizer = description.normalization().normalizer(description.input()[0])?;
        let not_finite = not_finite(&weights).map(str::to_owned);
        let features: Vec<String> = layers.into_iter().map(Into::into).collect();
        let builder = Inference::builder(description.net(), weights);
        // An answer does not depend on how many pictures go through the net beside it.
        let inference = builder.taps(features.iter().cloned()).methods_for(METHODS_FOR).build(engine)?;
        Ok(Predictor {
            description,
            not_finite,
            normalizer,
            inference,
            features,
            batch: BATCH,
            top: GUESSES,
            logits: false,
            planes: false,
            strict: false,
        })
    }

    /// The same with up to so many pictures going through the net at once (16 otherwise).
    #[must_use]
    pub fn batch_size(self, batch: usize) -> Predictor {
        Predictor { batch: batch.max(1), ..self }
    }

    /// The same with so many guesses for each picture (5 otherwise).
    #[must_use]
    pub fn top(self, top: usize) -> Predictor {
        Predictor { top, ..self }
    }

    /// The same with the net's outputs before softmax, or without.
    #[must_use]
    pub fn logits(self, logits: bool) -> Predictor {
        Predictor { logits, ..self }
    }

    /// The same with the pictures as the net sees them, or without.
    #[must_use]
    pub fn planes(self, planes: bool) -> Predictor {
        Predictor { planes, ..self }
    }

    /// The same that refuses damaged pictures, or reads them with a warning as libjpeg does.
    #[must_use]
    pub fn strict(self, strict: bool) -> Predictor {
        Predictor { strict, ..self }
    }

    /// What it does to pictures, and what the classes are called.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// What the net sees in one picture.
    ///
    /// # Errors
    /// A picture that cannot be read or decoded ([`Error::Picture`], [`Error::Io`]), or an output that is no number.
    pub fn predict(&mut self, input: impl Into<Input>) -> Result<Prediction> {
        let input = input.into();
        let name = input.name(0);
        let prepared = input.prepare(&name, self.target())?;
        let mut answers = self.run(vec![(name, Ok(prepared))])?;
        answers.pop_front().map_or_else(|| Err(Error::invalid("no picture")), |answer| answer.result)
    }

    /// What the net sees in many pictures: an answer for each, in their order, as they are drawn from the iterator.
    ///
    /// # Errors
    /// [`Error::Thread`] when the system refuses a thread, [`Error::Layer`] when the batch is too large.
    pub fn predict_all<I>(&mut self, inputs: I) -> Result<Predictions<'_, I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Into<Input>,
    {
        crate::exec::check_batch(self.description.net(), self.batch)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, MOST_DECODERS);
        let decoders = Decoders::start(threads, self.batch + threads, self.target())?;
        Ok(Predictions { predictor: self, inputs: inputs.into_iter().fuse(), decoders, answers: VecDeque::new() })
    }

    fn target(&self) -> TargetSize {
        TargetSize { strict: self.strict, ..self.description.target() }
    }

    /// Shows pictures to the net, at most as many as a batch.
    fn run(&mut self, pictures: Vec<(String, Result<Prepared>)>) -> Result<VecDeque<Answer>> {
        let good = pictures.iter().filter_map(|(_, prepared)| prepared.as_ref().ok());
        let mut outputs = self.outputs(&good.map(|prepared| &prepared.values).collect::<Vec<_>>())?.into_iter();
        let answer = |(name, prepared): (String, Result<Prepared>)| {
            let result =
                prepared.and_then(|prepared| self.prediction(&name, outputs.next().unwrap_or_default(), prepared));
            Answer { name, result }
        };
        Ok(pictures.into_iter().map(answer).collect())
    }

    /// What the net makes of each picture.
    fn outputs(&mut self, pictures: &[&Values]) -> Result<Vec<Outputs>> {
        if pictures.len() > self.inference.batch() {
            self.inference = self.inference.with_batch(pictures.len())?;
        }
        if pictures.is_empty() {
            return Ok(Vec::new());
        }
        let (description, inference) = (&self.description, &mut self.inference);
        let size: usize = description.input().iter().product();
        let mut images = vec![0.0; pictures.len() * size];
        for (values, image) in pictures.iter().zip(images.chunks_exact_mut(size.max(1))) {
            match values {
                Values::Planes(planes) => self.normalizer.apply(planes, image),
                Values::Array(values) => image.copy_from_slice(values),
            }
        }
        let logits = inference.run(&images, pictures.len())?.chunks_exact(description.classes().len().max(1));
        let mut outputs: Vec<_> =
            logits.map(|logits| Outputs { logits: logits.to_vec(), features: BTreeMap::new() }).collect();
        for layer in &self.features {
            let (shape, values) = inference.feature(layer)?;
            for (outputs, values) in outputs.iter_mut().zip(values.chunks_exact(shape.elements())) {
                outputs.features.insert(layer.clone(), Tensor::new(shape.dims(), values.to_vec()));
            }
        }
        Ok(outputs)
    }

    fn prediction(&self, name: &str, outputs: Outputs, prepared: Prepared) -> Result<Prediction> {
        let Outputs { logits, features } = outputs;
        check_outputs(&self.description, &logits).map_err(|problem| {
            let problem = match problem {
                PictureError::Output { class, value, .. } => {
                    PictureError::Output { class, value, tensor: self.not_finite.clone() }
                }
                other => other,
            };
            Error::Picture { name: name.to_owned(), problem }
        })?;
        let top = if self.top == 0 { Vec::new() } else { guesses(&self.description, &logits, self.top) };
        let Prepared { values, warnings } = prepared;
        let planes = match values {
            Values::Planes(planes) => self.planes.then_some(planes),
            Values::Array(_) => None,
        };
        Ok(Prediction { top, logits: self.logits.then_some(logits), features, planes, warnings })
    }
}

/// Checks that a net's outputs for a picture are finite.
///
/// # Errors
/// [`PictureError::Output`] for the first that is not.
///
/// # Panics
/// When there are fewer classes than outputs.
pub fn check_outputs(description: &Description, logits: &[f32]) -> Result<(), PictureError> {
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(()),
        Some(class) => {
            let name = description.classes()[class].clone();
            Err(PictureError::Output { class: name, value: logits[class], tensor: None })
        }
    }
}

/// The most probable classes by a net's outputs before softmax, the most probable first.
///
/// # Panics
/// When there are fewer classes than outputs.
pub fn guesses(description: &Description, logits: &[f32], top: usize) -> Vec<Guess> {
    let probabilities = softmax(logits);
    let classes = description.classes();
    let guess = |class: usize| Guess { class, label: classes[class].clone(), probability: probabilities[class] };
    ranking(logits).into_iter().take(top).map(guess).collect()
}

/// What the net makes of a picture.
#[derive(Default)]
struct Outputs {
    logits: Vec<f32>,
    features: BTreeMap<String, Tensor>,
}

/// The answers for many pictures, in their order: an iterator.
pub struct Predictions<'a, I> {
    predictor: &'a mut Predictor,
    inputs: Fuse<I>,
    decoders: Decoders,
    answers: VecDeque<Answer>,
}

impl<I> fmt::Debug for Predictions<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predictions").field("ready", &self.answers.len()).finish_non_exhaustive()
    }
}

impl<I> Predictions<'_, I>
where
    I: Iterator,
    I::Item: Into<Input>,
{
    /// Hands in pictures while there is room.
    fn fill(&mut self) {
        while self.decoders.has_room() {
            let Some(input) = self.inputs.next() else { return };
            self.decoders.give(input.into());
        }
    }
}

impl<I> Iterator for Predictions<'_, I>
where
    I: Iterator,
    I::Item: Into<Input>,
{
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        if self.answers.is_empty() {
            let mut pictures = Vec::with_capacity(self.predictor.batch);
            while pictures.len() < self.predictor.batch {
                self.fill();
                let Some(picture) = self.decoders.take() else { break };
                pictures.push(picture);
            }
            // The next ones are decoded while the net computes.
            self.fill();
            let name = pictures.first().map_or_else(String::new, |(name, _)| name.clone());
            self.answers = match self.predictor.run(pictures) {
                Ok(answers) => answers,
                Err(error) => return Some(Answer { name, result: Err(error) }),
            };
        }
        self.answers.pop_front()
    }
}

#[cfg(test)]
mod tests;
