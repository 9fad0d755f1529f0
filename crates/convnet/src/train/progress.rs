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
    /// Seconds of these in which it waited for other processes.
    pub exchanged: f64,
    /// Sum of the norms of its steps' gradients, where they are measured.
    pub grad_norms: f64,
    /// How many of them there are.
    pub measured: u64,
    /// The epoch whose weights are kept as the best, 0 before there is one: that of the best accuracy on the validation
    /// pictures, of equals the one with the lowest loss, or the last where there are none.
    pub best_epoch: usize,
    /// Its accuracy.
    pub best_accuracy: f64,
    /// Its loss on the validation pictures; `None` where it is not finite.
    pub best_loss: Option<f64>,
    /// The epoch since which no other has had a better accuracy, 0 in checkpoints of before: see [`Progress::waited_epochs`].
    pub improved_epoch: usize,
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
    /// The learning rate of the epoch's last step.
    pub(super) lr: f64,
}

impl Progress {
    /// Adds a step over so many pictures, the time that it took and how much of that pictures and other processes were waited for.
    pub(super) fn add(&mut self, step: Step, images: usize, [seconds, waited, exchanged]: [f64; 3]) {
        self.step += 1;
        self.batch += 1;
        self.images += images;
        self.correct += step.correct;
        self.loss += step.loss * images as f64;
        self.seconds += seconds;
        self.waited += waited;
        self.exchanged += exchanged;
    }

    /// Adds the norm of a step's gradient.
    pub(super) fn add_norm(&mut self, norm: f64) {
        if norm.is_finite() {
            self.grad_norms += norm;
            self.measured += 1;
        }
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

    /// The same for other processes; nothing where there are none.
    pub fn process_wait(&self) -> Option<f64> {
        (self.exchanged > 0.0 && self.seconds > 0.0).then(|| self.exchanged / self.seconds)
    }

    /// Epochs since the accuracy on the validation pictures was last better than ever: what patience is compared with.
    pub fn waited_epochs(&self) -> usize {
        self.epoch - self.improvement()
    }

    fn improvement(&self) -> usize {
        if self.improved_epoch == 0 { self.best_epoch } else { self.improved_epoch }
    }

    /// Ends the epoch. Says what it came to, and whether its weights are to be kept: the best where the evaluation chooses,
    /// else the last.
    pub(super) fn end_epoch(&mut self, found: &Found, selects: bool) -> (EpochMetrics, bool) {
        let (watched, train) = (found.watched.as_ref(), found.train.as_ref());
        let is_finite = |value: &f64| value.is_finite();
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
            process_wait: self.process_wait(),
            images_per_second: Some(self.images_per_second()).filter(is_finite),
            lr: Some(found.lr),
            grad_norm: (self.measured > 0).then(|| self.grad_norms / self.measured as f64),
        };
        let accuracy = metrics.val_accuracy.unwrap_or(metrics.accuracy_in_training());
        let loss = metrics.val_loss.filter(is_finite);
        let is_first = !selects || self.best_epoch == 0;
        let best = is_first || is_better((accuracy, loss), (self.best_accuracy, self.best_loss));
        let improved_epoch = if is_first || accuracy > self.best_accuracy { metrics.epoch } else { self.improvement() };
        let Progress { step, plateau, averaged, averaged_epoch, best_epoch, best_accuracy, best_loss, .. } = *self;
        let (best_epoch, best_accuracy, best_loss) =
            if best { (metrics.epoch, accuracy, loss) } else { (best_epoch, best_accuracy, best_loss) };
        let epoch = metrics.epoch;
        let fresh = Progress { epoch, step, plateau, averaged, averaged_epoch, ..Progress::default() };
        *self = Progress { best_epoch, best_accuracy, best_loss, improved_epoch, ..fresh };
        (metrics, best)
    }
}

/// Whether an epoch of this accuracy and loss on the validation pictures is better than the best before it: it recognises more of
/// them, or as many with a lower loss.
pub(crate) fn is_better(epoch: (f64, Option<f64>), best: (f64, Option<f64>)) -> bool {
    let lower = |loss: f64| best.1.is_none_or(|best| loss < best);
    epoch.0 > best.0 || (epoch.0 == best.0 && epoch.1.is_some_and(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_the_mean_over_its_pictures() {
        let mut progress = Progress::default();
        progress.add(Step { loss: 1.0, correct: 3 }, 4, [0.5, 0.25, 0.125]);
        progress.add(Step { loss: 4.0, correct: 0 }, 2, [0.5, 0.0, 0.0]);
        [2.0, 3.0, f64::NAN].into_iter().for_each(|norm| progress.add_norm(norm));
        assert_eq!((progress.mean_loss(), progress.accuracy(), progress.images_per_second()), (2.0, 0.5, 6.0));
        let found = |top1| {
            let watched = Evaluation { images: 2, top1, loss: 0.25, ..Evaluation::default() };
            let train = Evaluation { top1: 0.75, loss: 0.125, ..watched.clone() };
            Found { watched: Some(watched), train: Some(train), seconds: 1.0, lr: 0.5 }
        };
        let (metrics, best) = progress.end_epoch(&found(0.5), true);
        assert_eq!((metrics.train_eval_loss, metrics.train_eval_accuracy), (Some(0.125), Some(0.75)));
        assert_eq!((metrics.train_accuracy, metrics.accuracy_in_training()), (0.5, 0.75));
        assert_eq!(
            (metrics.epoch, metrics.train_loss, metrics.val_accuracy, metrics.seconds, metrics.data_wait),
            (1, 2.0, Some(0.5), 2.0, 0.25)
        );
        assert_eq!(metrics.process_wait, Some(0.125));
        assert!(best);
        assert_eq!((metrics.images_per_second, metrics.lr, metrics.grad_norm), (Some(6.0), Some(0.5), Some(2.5)));
        let best = Progress {
            best_epoch: 1,
            best_accuracy: 0.5,
            best_loss: Some(0.25),
            improved_epoch: 1,
            ..Progress::default()
        };
        assert_eq!(progress, Progress { epoch: 1, step: 2, ..best });
        assert!(!progress.clone().end_epoch(&found(0.5), true).1);
        assert!(progress.clone().end_epoch(&found(0.5), false).1, "nothing is chosen by test pictures");
        assert!(progress.clone().end_epoch(&Found::default(), false).1);
        assert!(progress.end_epoch(&found(0.6), true).1);
    }

    #[test]
    fn equals_go_by_their_loss_and_wear_patience_out() {
        let mut progress = Progress::default();
        let mut end = |top1, loss| {
            progress.add(Step { loss: 1.0, correct: 1 }, 1, [1.0, 0.0, 0.0]);
            let watched = Evaluation { images: 2, top1, loss, ..Evaluation::default() };
            let (_, best) = progress.end_epoch(&Found { watched: Some(watched), ..Found::default() }, true);
            (best, progress.best_epoch, progress.waited_epochs())
        };
        assert_eq!(end(0.5, 0.7), (true, 1, 0));
        assert_eq!(end(0.5, 0.7), (false, 1, 1));
        assert_eq!(end(0.5, 0.6), (true, 3, 2));
        assert_eq!(end(0.5, f64::NAN), (false, 3, 3));
        assert_eq!(end(0.75, f64::INFINITY), (true, 5, 0));
        assert_eq!(end(0.75, 9.0), (true, 6, 1));
        assert_eq!(end(0.5, 0.1), (false, 6, 2));
        // A checkpoint of before knows neither the loss nor the epoch.
        let mut older: Progress =
            serde_json::from_str(r#"{"epoch":4,"best_epoch":2,"best_accuracy":0.5,"images":1,"seconds":1}"#).unwrap();
        assert_eq!(older.waited_epochs(), 2);
        let watched = Evaluation { images: 2, top1: 0.5, loss: 0.5, ..Evaluation::default() };
        assert!(older.end_epoch(&Found { watched: Some(watched), ..Found::default() }, true).1);
        assert_eq!((older.best_epoch, older.waited_epochs()), (5, 3));
    }
}
