//! Numbers that are none any more: found before they are saved, and named by layer, step and batch.

use super::{Progress, Trainer};
use crate::data::Batch;
use crate::exec::{NotFinite, Place};
use crate::{Error, Result, StateDict};

impl Trainer {
    /// What the last update has made.
    pub(super) fn expect_finite_tensors(&self, what: &str, tensors: &StateDict) -> Result<()> {
        for (name, tensor) in tensors {
            if let Some(&value) = tensor.data().iter().find(|value| !value.is_finite()) {
                return Err(self.diverged(format!("{what} '{name}'"), value.into(), self.progress));
            }
        }
        Ok(())
    }

    /// The loss of the next step; where it is no number, the error names the layer in which that begins.
    pub(super) fn expect_finite_loss(&mut self, batch: &Batch, loss: f64) -> Result<()> {
        if loss.is_finite() {
            return Ok(());
        }
        let done = self.progress;
        let next = Progress { step: done.step + 1, batch: done.batch + 1, ..done };
        Err(match self.training.find_not_finite(batch.images(), batch.len())? {
            Some(NotFinite { place, value }) => {
                let when = if matches!(place, Place::Tensor(_)) { done } else { next };
                self.diverged(place.to_string(), value.into(), when)
            }
            None => self.diverged("loss".into(), loss, next),
        })
    }

    fn diverged(&self, what: String, value: f64, when: Progress) -> Error {
        let last = self.saved.as_ref().map(|saved| saved.folder.last_safetensors());
        Error::Diverged {
            what,
            value,
            step: when.step,
            epoch: when.epoch + 1,
            batch: when.batch,
            lr: self.recipe.optimizer.lr,
            kept: last.filter(|last| last.exists()),
        }
    }
}
