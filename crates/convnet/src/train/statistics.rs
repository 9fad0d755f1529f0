//! What a run does between the last step of an epoch and its evaluation: the weights join the average of stochastic weight averaging,
//! and the statistics of norms are taken anew where the running ones lag behind the weights.

use super::{Observer, Recipe, Trainer};
use crate::Result;

/// Batches whose statistics are compared with the running ones.
const PROBE: usize = 8;
/// Nats from which on running statistics lag: as much as a third of a standard deviation of the mean. Those of a net that has come to
/// rest are nearer by one or two orders of magnitude, and differ by what is drawn.
const LAG: f64 = 0.05;

impl Trainer {
    /// Stochastic weight averaging: takes the weights into the average after each of the last epochs, once. In a run that has been
    /// prolonged the average begins anew.
    pub(super) fn average_epoch(&mut self) {
        let swa = self.recipe.schedule.swa_epochs;
        if swa == 0 {
            return;
        }
        let ending = self.progress.epoch + 1;
        if ending + swa <= self.recipe.epochs {
            self.training.forget_average();
            (self.progress.averaged, self.progress.averaged_epoch) = (0, 0);
        } else if self.progress.averaged_epoch < ending {
            let before = self.progress.averaged as f64;
            self.training.average(before / (before + 1.0));
            (self.progress.averaged, self.progress.averaged_epoch) = (self.progress.averaged + 1, ending);
        }
    }

    /// Takes the statistics of norms anew from the first whole batches of the epoch, as it has trained on them: as many as the
    /// recipe says, else [`Recipe::PRECISE`] where the running ones lag or are an average's.
    pub(super) fn recompute_statistics(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if !self.takes_statistics || self.recipe.precise_bn == Some(0) {
            return Ok(());
        }
        let whole = (self.train.len() / self.recipe.batch_size).max(1);
        let wanted = self.recipe.precise_bn.unwrap_or(Recipe::PRECISE).min(whole);
        // Each process does the same, with all shards.
        let shards = self.shards.count();
        let is_asked = self.recipe.precise_bn.is_none() && self.progress.averaged == 0;
        let before = is_asked.then(|| self.training.running_statistics());
        for (shard, index) in self.shards_of_batches(0, 0..shards)?.take(wanted * shards).zip(0..) {
            let shard = shard?;
            self.training.recompute_statistics(shard.images(), shard.len(), index)?;
            let probed = index as usize + 1 == PROBE.min(wanted) * shards;
            if let Some(before) = before.as_ref().filter(|_| probed) {
                let gap = self.training.statistics_gap(before);
                if gap < LAG {
                    self.training.restore_statistics(before.clone());
                    return Ok(());
                }
                observer.lagging(gap, wanted);
            }
        }
        Ok(())
    }
}
