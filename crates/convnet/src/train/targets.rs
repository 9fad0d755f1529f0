//! What the outputs of a batch are compared with: classes, or shares of classes where pictures are mixed; and the loss by which.

use crate::data::augment::{Mix, RandomKey};
use crate::data::{Batch, Dataset};
use crate::exec::{Loss, Targets};
use crate::train::{ClassWeights, Recipe};
use crate::{Error, Result};

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
        // Weights of classes divide the loss of labels and that of shares by different sums, and one run takes one of them.
        let always_shares = recipe.is_weighted() && recipe.mixing.is_some();
        if mix == Mix::None && !always_shares {
            return Ok((batch.images(), Targets::Labels(batch.labels())));
        }
        self.shares.resize(count * classes, 0.0);
        let (images, labels) = batch.parts_mut();
        mix.apply(images, shape, labels, classes, &mut self.shares, &mut self.first)?;
        Ok((batch.images(), Targets::Probabilities(&self.shares)))
    }
}

/// Pictures and targets that outlast their batch.
pub(super) struct KeptBatch {
    pub(super) images: Vec<f32>,
    labels: Vec<u32>,
    /// Empty where there are labels.
    shares: Vec<f32>,
}

impl KeptBatch {
    pub(super) fn of(images: &[f32], targets: Targets<'_>) -> KeptBatch {
        let (labels, shares) = match targets {
            Targets::Labels(labels) => (labels.to_vec(), Vec::new()),
            Targets::Probabilities(shares) => (Vec::new(), shares.to_vec()),
        };
        KeptBatch { images: images.to_vec(), labels, shares }
    }

    pub(super) fn targets(&self) -> Targets<'_> {
        if self.shares.is_empty() { Targets::Labels(&self.labels) } else { Targets::Probabilities(&self.shares) }
    }
}

impl Recipe {
    /// Whether classes have weights.
    fn is_weighted(&self) -> bool {
        self.class_weights != ClassWeights::None
    }

    /// The loss on these training pictures.
    ///
    /// # Errors
    /// [`Error::Setting`] when there are weights for another number of classes.
    pub(super) fn loss(&self, train: &Dataset) -> Result<Loss> {
        let classes = train.classes().len();
        let class_weights = match &self.class_weights {
            ClassWeights::None => Vec::new(),
            ClassWeights::Balanced => balanced(train.labels(), classes),
            ClassWeights::Given(weights) if weights.len() == classes => weights.iter().map(|&w| w as f32).collect(),
            ClassWeights::Given(weights) => {
                let expected = format!("{classes} numbers, one for each class in their order");
                return Err(Error::setting("class_weights", expected, weights.len()));
            }
        };
        let (label_smoothing, focal_gamma) = (self.label_smoothing as f32, self.focal_gamma as f32);
        Ok(Loss { label_smoothing, class_weights, focal_gamma })
    }
}

/// For each class the number of pictures over that of classes and of its own pictures, as scikit-learn's
/// `compute_class_weight("balanced")`, so that all classes together weigh the same and a picture 1 on average. A class without
/// pictures is not counted, and has no weight.
fn balanced(labels: &[u32], classes: usize) -> Vec<f32> {
    let mut counts = vec![0_u32; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    let present = counts.iter().filter(|&&count| count > 0).count();
    let weight = |count: u32| labels.len() as f64 / (present as f64 * f64::from(count));
    counts.into_iter().map(|count| if count > 0 { weight(count) as f32 } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn: `compute_class_weight("balanced", classes=[0, 1, 3], y=[0, 0, 0, 1, 3, 3, 0, 0])`.
    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        let weights = balanced(&[0, 0, 0, 1, 3, 3, 0, 0], 4);
        assert_eq!(weights, [8.0 / 15.0, 8.0 / 3.0, 0.0, 4.0 / 3.0]);
    }
}
