//! How far a run is: what a checkpoint holds besides weights and optimizer, so that a run can go on from the middle of an
//! epoch as if it had never stopped.

use serde::{Deserialize, Serialize};

use super::{EpochMetrics, Plateau};
use crate::evaluate::Evaluation;
use crate::exec::Step;

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Epochs that have ended.
    pub epoch: usize,
    /// Steps made in all.
    pub step: u64,
    /// Batches of the running epoch that have been learned from.
    pub batch: usize,
    /// Pictures in them.
    pub images: usize,
    /// How many of these were recognised.
    pub correct: usize,
    /// Sum of their cross-entropies.
    pub loss: f64,
    /// Time spent learning from them.
    pub seconds: f64,
    /// Seconds of these in which training waited for pictures.
    pub waited: f64,
    /// The epoch whose weights are kept as the best, 0 before there is one: that of the best accuracy on the validation
    /// pictures, or the last where there are none.
    pub best_epoch: usize,
    /// Its accuracy.
    pub best_accuracy: f64,
    /// Whether the validation loss still falls, where the schedule asks.
    pub plateau: Plateau,
    /// How many epochs are in the average of [`ScheduleConfig::swa_epochs`](super::ScheduleConfig::swa_epochs).
    pub averaged: u64,
    /// The number of the last one of them.
    pub averaged_epoch: usize,
}

/// What was found after an epoch.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// On the pictures that are watched.
    pub(super) watched: Option<Evaluation>,
    /// On a sample of the training pictures.
    pub(super) train: Option<Evaluation>,
    /// Time it took.
    pub(super) seconds: f64,
}

impl Progress {
    /// Adds a step over so many pictures, the time that it took and how much of that they were waited for.
    pub(super) fn add(&mut self, step: Step, images: usize, [seconds, waited]: [f64; 2]) {
        self.step += 1;
        self.batch += 1;
        self.images += images;
        self.correct += step.correct;
        self.loss += step.loss * images as f64;
        self.seconds += seconds;
        self.waited += waited;
    }

    /// Mean loss of the running epoch.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images as f64
    }

    /// Share of the running epoch's pictures that were recognised.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images as f64
    }

    /// Pictures learned from in a second of the running epoch.
    pub fn images_per_second(&self) -> f64 {
        self.images as f64 / self.seconds
    }

    /// Share of the time of the running epoch's steps in which pictures were waited for, 0 to 1.
    pub fn data_wait(&self) -> f64 {
        if self.seconds > 0.0 { self.waited / self.seconds } else { 0.0 }
    }

    /// Ends the epoch. Says what it came to, and whether its weights are to be kept: the best where the evaluation chooses,
    /// else the last.
    pub(super) fn end_epoch(&mut self, found: &Found, selects: bool) -> (EpochMetrics, bool) {
        let (watched, train) = (found.watched.as_ref(), found.train.as_ref());
        let metrics = EpochMetrics {
            epoch: self.epoch + 1,
            train_loss: self.mean_loss(),
            train_accuracy: self.accuracy(),
            train_eval_loss: train.map(|found| found.loss),
            train_eval_accuracy: train.map(|found| found.top1),
            val_loss: watched.map(|found| found.loss),
            val_accuracy: watched.map(|found| found.top1),
            seconds: self.seconds + found.seconds,
            data_wait: self.data_wait(),
        };
        let accuracy = metrics.val_accuracy.unwrap_or(metrics.accuracy_in_training());
        let best = !selects || self.best_epoch == 0 || accuracy > self.best_accuracy;
        let (best_epoch, best_accuracy) =
            if best { (metrics.epoch, accuracy) } else { (self.best_epoch, self.best_accuracy) };
        let Progress { step, plateau, averaged, averaged_epoch, .. } = *self;
        let epoch = metrics.epoch;
        let fresh = Progress { epoch, step, best_epoch, best_accuracy, plateau, ..Progress::default() };
        *self = Progress { averaged, averaged_epoch, ..fresh };
        (metrics, best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_the_mean_over_its_pictures() {
        let mut progress = Progress::default();
        progress.add(Step { loss: 1.0, correct: 3 }, 4, [0.5, 0.25]);
        progress.add(Step { loss: 4.0, correct: 0 }, 2, [0.5, 0.0]);
        assert_eq!((progress.mean_loss(), progress.accuracy(), progress.images_per_second()), (2.0, 0.5, 6.0));
        let found = |top1| {
            let watched = Evaluation { images: 2, top1, loss: 0.25, ..Evaluation::default() };
            let train = Evaluation { top1: 0.75, loss: 0.125, ..watched.clone() };
            Found { watched: Some(watched), train: Some(train), seconds: 1.0 }
        };
        let (metrics, best) = progress.end_epoch(&found(0.5), true);
        assert_eq!((metrics.train_eval_loss, metrics.train_eval_accuracy), (Some(0.125), Some(0.75)));
        assert_eq!((metrics.train_accuracy, metrics.accuracy_in_training()), (0.5, 0.75));
        assert_eq!(
            (metrics.epoch, metrics.train_loss, metrics.val_accuracy, metrics.seconds, metrics.data_wait),
            (1, 2.0, Some(0.5), 2.0, 0.25)
        );
        assert!(best);
        assert_eq!(progress, Progress { epoch: 1, step: 2, best_epoch: 1, best_accuracy: 0.5, ..Progress::default() });
        assert!(!progress.clone().end_epoch(&found(0.5), true).1);
        assert!(progress.clone().end_epoch(&found(0.5), false).1, "nothing is chosen by test pictures");
        assert!(progress.clone().end_epoch(&Found::default(), false).1);
        assert!(progress.end_epoch(&found(0.6), true).1);
    }
}
