//! Numbers that are none any more: found before they are saved, and named by layer, step and batch.

use super::saved::Saved;
use super::{Progress, Recipe, Trainer};
use crate::exec::{NotFinite, Place, Training};
use crate::{Error, Result, StateDict};

/// What the error of a run that has diverged tells beside the number.
#[derive(Clone, Copy)]
pub(super) struct Divergence<'a> {
    recipe: &'a Recipe,
    saved: Option<&'a Saved>,
    progress: Progress,
}

impl Trainer {
    /// What the last update has made.
    pub(super) fn expect_finite_tensors(&self, what: &str, tensors: &StateDict) -> Result<()> {
        for (name, tensor) in tensors {
            if let Some(&value) = tensor.data().iter().find(|value| !value.is_finite()) {
                let of = Divergence::of(&self.recipe, self.saved.as_ref(), self.progress);
                return Err(of.error(format!("{what} '{name}'"), value.into(), self.progress));
            }
        }
        Ok(())
    }
}

impl<'a> Divergence<'a> {
    /// For a run that stands there.
    pub(super) fn of(recipe: &'a Recipe, saved: Option<&'a Saved>, progress: Progress) -> Divergence<'a> {
        Divergence { recipe, saved, progress }
    }

    /// The loss of the next step; where it is no number, the error names the layer in which that begins.
    pub(super) fn expect_finite_loss(
        self,
        training: &mut Training,
        images: &[f32],
        count: usize,
        loss: f64,
    ) -> Result<()> {
        match loss.is_finite() {
            true => Ok(()),
            false => Err(self.find(training, images, count)?.unwrap_or_else(|| self.of_loss(loss))),
        }
    }

    /// Where the last pass was no longer finite, which had these pictures, if that is found.
    pub(super) fn find(self, training: &mut Training, images: &[f32], count: usize) -> Result<Option<Error>> {
        let found = training.find_not_finite(images, count)?;
        Ok(found.map(|NotFinite { place, value }| {
            let when = if matches!(place, Place::Tensor(_)) { self.progress } else { self.next() };
            self.error(place.to_string(), value.into(), when)
        }))
    }

    /// The loss of the next step is no number, wherever that begins.
    pub(super) fn of_loss(self, loss: f64) -> Error {
        self.error("loss".into(), loss, self.next())
    }

    fn next(self) -> Progress {
        Progress { step: self.progress.step + 1, batch: self.progress.batch + 1, ..self.progress }
    }

    fn error(self, what: String, value: f64, when: Progress) -> Error {
        let last = self.saved.map(|saved| saved.folder.last_safetensors());
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
