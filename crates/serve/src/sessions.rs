//! A network that is planned, tried and ready: inference for 1, 2, 4, … pictures at once, and an explainer once one is asked for.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use convnet::classifier::{Classifier, Description};
use convnet::exec::{Engine, Inference};
use convnet::explain::Explainer;
use convnet::{Error, Result, StateDict};

use crate::queue::Failure;

/// A version of a model.
pub(crate) struct Sessions {
    pub(crate) description: Description,
    /// Counts the versions that a model has had, from 1.
    pub(crate) version: u64,
    engine: Engine,
    /// Sessions by ascending size; they share their weights.
    plans: Mutex<Vec<Inference>>,
    /// Seconds of a batch on each plan, as an average over the last ones; the bits of an `f64`.
    seconds: Vec<(usize, AtomicU64)>,
    /// The explainer, and when it was used last.
    explainer: Mutex<Option<(Explainer, Instant)>>,
    /// Seconds of explanations and the like by kind, averaged in the same way.
    tasks: Mutex<BTreeMap<&'static str, f64>>,
    /// Seconds of a batch of theirs, which pictures wait for; the bits of an `f64`, 0 before the first.
    step: AtomicU64,
    /// Fingerprint of the weights that are served.
    fingerprint: u64,
}

/// Numbers of a tensor that its fingerprint is made of, at least.
const SAMPLES: usize = 256;
/// Share of the average that the last batch replaces.
const LAST: f64 = 0.2;
/// Predictions that a task takes as long as, before it has been measured: by kind, and any other.
const GUESSED: [(&str, f64); 3] = [("occlusion", 300.0), ("smooth-grad", 150.0), ("integrated-gradients", 150.0)];
const GUESSED_OTHERS: f64 = 4.0;

impl Sessions {
    /// Plans a classifier and tries each plan.
    pub(crate) fn new(classifier: Classifier, engine: &Engine, max_batch: usize, version: u64) -> Result<Sessions> {
        let Classifier { description, weights } = classifier;
        let fingerprint = fingerprint(&weights);
        // Answers do not depend on the pictures beside them, and are those of `Predictor`.
        let methods = convnet::predictor::METHODS_FOR;
        let first = Inference::builder(description.net(), weights).methods_for(methods).build(engine)?;
        let mut plans = vec![first];
        for size in sizes(max_batch).into_iter().skip(1) {
            plans.push(plans[0].with_batch(size)?);
        }
        let picture: usize = description.input().iter().product();
        let mut seconds = Vec::new();
        for plan in &mut plans {
            let (size, images) = (plan.batch(), vec![0.0; plan.batch() * picture]);
            plan.run(&images, size)?;
            let start = Instant::now();
            let output = plan.run(&images, size)?;
            if let Some(value) = output.iter().find(|value| !value.is_finite()) {
                return Err(Error::invalid(format!("the network's output for an empty picture is {value}")));
            }
            seconds.push((size, AtomicU64::new(start.elapsed().as_secs_f64().to_bits())));
        }
        Ok(Sessions {
            description,
            version,
            engine: engine.clone(),
            plans: Mutex::new(plans),
            seconds,
            explainer: Mutex::new(None),
            tasks: Mutex::default(),
            step: AtomicU64::new(0),
            fingerprint,
        })
    }

    /// Most pictures at once.
    pub(crate) fn max_batch(&self) -> usize {
        self.seconds.last().map_or(1, |&(size, _)| size)
    }

    /// The outputs for pictures, at most [`Sessions::max_batch`] of them, one row each.
    pub(crate) fn run(&self, images: &[f32], count: usize) -> Result<Vec<f32>> {
        let (mut plans, index) = (lock(&self.plans), self.plan_for(count));
        let start = Instant::now();
        let output = plans[index].run(images, count)?.to_vec();
        let (taken, average) = (start.elapsed().as_secs_f64(), &self.seconds[index].1);
        let before = f64::from_bits(average.load(Ordering::Relaxed));
        average.store((before + LAST * (taken - before)).to_bits(), Ordering::Relaxed);
        Ok(output)
    }

    fn plan_for(&self, count: usize) -> usize {
        self.seconds.iter().position(|&(size, _)| size >= count).unwrap_or(self.seconds.len() - 1)
    }

    /// How long the engine takes for so many pictures.
    pub(crate) fn predicted(&self, pictures: usize) -> Duration {
        let most = self.max_batch();
        let of = |count: usize| match count {
            0 => 0.0,
            _ => f64::from_bits(self.seconds[self.plan_for(count)].1.load(Ordering::Relaxed)),
        };
        Duration::from_secs_f64((pictures / most) as f64 * of(most) + of(pictures % most))
    }

    /// How long the engine takes for a task of a kind.
    pub(crate) fn predicted_task(&self, kind: &str) -> Duration {
        let guessed = || {
            let predictions = GUESSED.iter().find(|(other, _)| *other == kind).map_or(GUESSED_OTHERS, |&(_, of)| of);
            predictions * self.predicted(1).as_secs_f64()
        };
        Duration::from_secs_f64(lock(&self.tasks).get(kind).copied().unwrap_or_else(guessed))
    }

    /// How long a batch of a task takes.
    pub(crate) fn predicted_step(&self) -> Duration {
        match f64::from_bits(self.step.load(Ordering::Relaxed)) {
            0.0 => self.predicted(self.max_batch()),
            seconds => Duration::from_secs_f64(seconds),
        }
    }

    /// A task of a kind has taken so long.
    pub(crate) fn has_taken(&self, kind: &'static str, taken: Duration) {
        let mut tasks = lock(&self.tasks);
        let average = tasks.entry(kind).or_insert(taken.as_secs_f64());
        *average += LAST * (taken.as_secs_f64() - *average);
    }

    /// A batch of a task has taken so long.
    pub(crate) fn has_stepped(&self, taken: Duration) {
        let (before, taken) = (f64::from_bits(self.step.load(Ordering::Relaxed)), taken.as_secs_f64());
        let average = if before == 0.0 { taken } else { before + LAST * (taken - before) };
        self.step.store(average.to_bits(), Ordering::Relaxed);
    }

    /// Calls with the explainer, which `load` gives weights to where it has none.
    pub(crate) fn explained<T>(
        &self,
        load: impl FnOnce() -> Result<Classifier>,
        ask: impl FnOnce(&mut Explainer) -> Result<T>,
    ) -> Result<T, Failure> {
        let mut kept = lock(&self.explainer);
        if kept.is_none() {
            let Classifier { description, weights } = load().map_err(Failure::Error)?;
            let own = self.description.net();
            if fingerprint(&weights) != self.fingerprint || description.net().to_toml() != own.to_toml() {
                return Err(Failure::Changed);
            }
            let classifier = Classifier { description: self.description.clone(), weights };
            let explainer = Explainer::with_engine(classifier, &self.engine).map_err(Failure::Error)?;
            *kept = Some((explainer, Instant::now()));
        }
        let (explainer, used) = kept.as_mut().expect("made above");
        let found = ask(explainer);
        *used = Instant::now();
        found.map_err(|error| match error {
            Error::Stopped => Failure::Stopping,
            error => Failure::Error(error),
        })
    }

    /// Gives back the explainer's memory where it has not been used for so long.
    pub(crate) fn release(&self, idle: Duration) {
        // Where it is locked it is in use.
        if let Ok(mut kept) = self.explainer.try_lock()
            && kept.as_ref().is_some_and(|(_, used)| used.elapsed() >= idle)
        {
            *kept = None;
        }
    }
}

/// A number that other weights hardly have: from names, shapes and some numbers of each tensor.
fn fingerprint(weights: &StateDict) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, tensor) in weights {
        (name, tensor.shape()).hash(&mut hasher);
        let step = (tensor.data().len() / SAMPLES).max(1);
        tensor.data().iter().step_by(step).for_each(|number| number.to_bits().hash(&mut hasher));
    }
    hasher.finish()
}

/// 1, 2, 4, … and the most.
fn sizes(max_batch: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(1), |size| Some(2 * size)).take_while(|&size| size < max_batch).collect();
    sizes.push(max_batch.max(1));
    sizes.dedup();
    sizes
}

/// A panic while it was held has left nothing half done that a later call would read.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_double_up_to_the_most() {
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(16), [1, 2, 4, 8, 16]);
        assert_eq!(sizes(6), [1, 2, 4, 6]);
        assert_eq!(sizes(0), [1]);
    }
}
