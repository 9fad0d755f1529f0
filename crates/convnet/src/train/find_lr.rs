//! A range test of learning rates (Smith 2017, "Cyclical learning rates", section 3.3): a step at each of 100 rates from 1e-7 to 10,
//! each larger than the one before by the same factor. The loss is flat at first, falls, and ends by growing without bounds. A good
//! rate is where it falls fastest, before its least.
//!
//! The range and the number of steps are fastai's (`Learner.lr_find`), which stops when the smoothed loss is four times its least;
//! smoothing and suggestion are those of the package torch-lr-finder (the mean of the losses so far with a weight of 0.05 for the
//! next; the steepest descent over the logarithm of the rate, without the first 10 and the last 5 rates), except that rates past the least
//! smoothed loss are not suggested: a loss that has jumped may fall again, faster than before.

use serde::Serialize;

use super::learning::Learned;
use super::targets::TargetMaker;
use super::{Observer, Trainer};
use crate::{Error, Result};

/// The first and the last rate.
const RATES: [f64; 2] = [1e-7, 10.0];
/// Rates that are tried.
const STEPS: u32 = 100;
/// Weight of a batch in the smoothed loss.
const TAKEN: f64 = 0.05;
/// Times its least that the smoothed loss may be.
const DIVERGED: f64 = 4.0;
/// Rates at the beginning and at the end that are not suggested.
const SKIPPED: [usize; 2] = [10, 5];

/// What a range test of learning rates found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RateSearch {
    /// Every rate that was tried.
    pub tried: Vec<TriedRate>,
    /// The rate at which the loss falls fastest; `None` where it does not fall.
    pub suggestion: Option<f64>,
}

/// A rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TriedRate {
    /// The learning rate.
    pub lr: f64,
    /// The loss of a batch, before the step at this rate.
    pub loss: f64,
    /// The mean over this loss and those before, of which the later count more.
    pub smoothed: f64,
}

impl RateSearch {
    /// The next rate, as long as there is one.
    fn next(&self) -> Option<f64> {
        let step = self.tried.len() as u32;
        let share = f64::from(step) / f64::from(STEPS - 1);
        (step < STEPS).then(|| RATES[0] * libm::pow(RATES[1] / RATES[0], share))
    }

    /// Takes the loss before the step at a rate. Says whether it is worth going on.
    fn add(&mut self, lr: f64, loss: f64) -> bool {
        let smoothed = self.tried.last().map_or(loss, |last| TAKEN * loss + (1.0 - TAKEN) * last.smoothed);
        if !smoothed.is_finite() {
            return false;
        }
        self.tried.push(TriedRate { lr, loss, smoothed });
        let least = self.tried.iter().map(|tried| tried.smoothed).fold(f64::INFINITY, f64::min);
        smoothed <= DIVERGED * least
    }

    /// Finds the suggestion: central differences over rates that lie evenly on a logarithmic axis.
    fn concluded(mut self) -> RateSearch {
        let by_loss = |a: &(usize, &TriedRate), b: &(usize, &TriedRate)| a.1.smoothed.total_cmp(&b.1.smoothed);
        let least = self.tried.iter().enumerate().min_by(by_loss).map_or(0, |(index, _)| index);
        let end = least.min(self.tried.len().saturating_sub(SKIPPED[1]));
        let slopes = self.tried.windows(3).zip(1..).filter(|(_, middle)| (SKIPPED[0]..end).contains(middle));
        let slopes = slopes.map(|(near, _)| (near[2].smoothed - near[0].smoothed, near[1].lr));
        self.suggestion = slopes.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(slope, _)| *slope < 0.0).map(|(_, lr)| lr);
        self
    }
}

impl Trainer {
    /// Tries learning rates from 1e-7 to 10, one a step, with everything else as the recipe says but for its schedule. The weights that
    /// this leaves are of no use. It ends before when the loss has grown to four times its least or is no number, or when the
    /// observer stops it.
    ///
    /// # Errors
    /// When a batch cannot be made.
    pub fn find_lr(mut self, observer: &mut dyn Observer) -> Result<RateSearch> {
        let (mut search, mut targets) = (RateSearch::default(), TargetMaker::default());
        loop {
            let mut batches = self.batches(0)?;
            while self.progress.images < self.train.len() {
                let Some(lr) = search.next() else { return Ok(search.concluded()) };
                let Learned { step, images, .. } = match self.learn(&mut batches, &mut targets, false) {
                    // Rates grow until the loss does.
                    Err(Error::Diverged { .. }) => return Ok(search.concluded()),
                    learned => learned?,
                };
                self.update(lr);
                self.progress.add(step, images, [0.0; 3]);
                observer.step(&self.progress, step.loss);
                if !search.add(lr, step.loss) || observer.stop() {
                    return Ok(search.concluded());
                }
            }
            self.progress.epoch += 1;
            (self.progress.batch, self.progress.images) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The search over losses that are a function of the rate.
    fn search(loss: impl Fn(f64) -> f64) -> RateSearch {
        let mut search = RateSearch::default();
        while let Some(lr) = search.next() {
            if !search.add(lr, loss(lr)) {
                break;
            }
        }
        search.concluded()
    }

    #[test]
    fn rates_lie_evenly_on_a_logarithmic_axis() {
        let RateSearch { tried, suggestion } = search(|_| 1.0);
        assert_eq!((tried.len(), tried[0].lr, suggestion), (100, 1e-7, None));
        assert!((tried[99].lr - 10.0).abs() < 1e-12);
        let factor = 1e8f64.powf(1.0 / 99.0);
        assert!(tried.windows(2).all(|pair| (pair[1].lr / pair[0].lr - factor).abs() < 1e-9));
    }

    #[test]
    fn the_suggestion_is_where_the_loss_falls_fastest() {
        // A cliff of losses from 2 to 1 around 1e-3, which the smoothed loss follows some steps later.
        let found = search(|lr| 1.5 - (lr.log10() + 3.0).tanh() / 2.0);
        let suggestion = found.suggestion.unwrap();
        assert!((1e-3..1e-2).contains(&suggestion), "{suggestion}");
        let at = found.tried.iter().position(|tried| tried.lr == suggestion).unwrap();
        let fall = |at: usize| found.tried[at - 1].smoothed - found.tried[at + 1].smoothed;
        assert!((11..94).all(|other| fall(other) <= fall(at)));
    }

    #[test]
    fn a_loss_that_falls_again_after_a_jump_is_not_trusted() {
        let found = search(|lr| match lr {
            _ if lr < 1e-3 => 3.0 - 500.0 * lr,
            _ if lr < 1e-2 => 8.0,
            _ => 2.9,
        });
        assert!(found.tried.len() == 100 && found.suggestion.is_some_and(|lr| lr < 1e-3), "{:?}", found.suggestion);
    }

    #[test]
    fn divergence_ends_the_search() {
        let found = search(|lr| if lr < 0.1 { 1.0 - lr } else { 1000.0 * lr });
        assert!(found.tried.last().unwrap().lr < 0.2 && found.suggestion.is_some_and(|lr| lr < 0.1), "{found:?}");
        let nan = search(|lr| if lr < 0.1 { 1.0 - lr } else { f64::NAN });
        assert!(nan.tried.iter().all(|tried| tried.loss.is_finite()) && nan.tried.len() < 100);
    }
}
