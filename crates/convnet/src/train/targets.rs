//! What the outputs of a batch are compared with: classes, or shares of classes where labels are smoothed or pictures mixed.

use crate::Result;
use crate::data::Batch;
use crate::data::augment::{Mix, RandomKey};
use crate::exec::Targets;
use crate::train::Recipe;

/// Makes the targets of batches, in memory that comes round again.
#[derive(Default)]
pub(super) struct TargetMaker {
    shares: Vec<f32>,
    /// A picture that waits to be mixed.
    first: Vec<f32>,
}

impl TargetMaker {
    /// Mixes the pictures of a batch, if the recipe wants it, and says what their outputs are compared with.
    pub(super) fn make<'a>(
        &'a mut self,
        recipe: &Recipe,
        batch: &'a mut Batch,
        classes: usize,
        key: RandomKey,
    ) -> Result<(&'a [f32], Targets<'a>)> {
        let shape @ [count, _, height, width] = batch.shape();
        let mix = recipe.mixing.draw([height, width], key);
        if mix == Mix::None && recipe.label_smoothing == 0.0 {
            return Ok((batch.images(), Targets::Labels(batch.labels())));
        }
        self.shares.resize(count * classes, 0.0);
        let (images, labels) = batch.parts_mut();
        mix.apply(images, shape, labels, classes, &mut self.shares, &mut self.first)?;
        let smoothing = recipe.label_smoothing as f32;
        if smoothing > 0.0 {
            self.shares.iter_mut().for_each(|share| *share = *share * (1.0 - smoothing) + smoothing / classes as f32);
        }
        Ok((batch.images(), Targets::Probabilities(&self.shares)))
    }
}
