//! From a recipe to a planned training: which parameters an epoch trains, and how. A run is planned once, and again where another
//! stage is unfrozen.

use super::groups::{Epoch, Groups};
use super::{Observer, Recipe, Trainer};
use crate::classifier::Description;
use crate::data::Dataset;
use crate::distributed::Shards;
use crate::exec::{Engine, Training};
use crate::net::Node;
use crate::{Result, StateDict};

impl Trainer {
    /// Trains one more stage where an epoch begins with one: plans anew with everything as it stands.
    pub(super) fn unfreeze(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let epoch = self.progress.epoch;
        let groups = groups(&self.description, &self.train, &self.recipe, epoch)?;
        let Some((stages, layers)) = groups.unfrozen().filter(|(stages, _)| *stages != self.stages) else {
            return Ok(());
        };
        let weights = self.training.weights();
        let mut training = plan(&self.description, &weights, &self.train, &self.recipe, &self.engine, &groups)?;
        training.restore(&self.training.optimizer_state(), self.training.steps())?;
        if let Some(average) = self.training.averaged_weights() {
            training.restore_average(&average)?;
        }
        (self.training, self.stages) = (training, stages);
        self.takes_statistics = takes_statistics(&self.description, &groups);
        observer.unfrozen(epoch + 1, layers);
        Ok(())
    }
}

/// How parameters are trained in an epoch.
pub(super) fn groups(description: &Description, train: &Dataset, recipe: &Recipe, epoch: usize) -> Result<Groups> {
    let steps = train.len().div_ceil(recipe.batch_size) as u64;
    Groups::new(description.net(), recipe, Epoch { index: epoch, steps })
}

/// A training of these weights.
pub(super) fn plan(
    description: &Description,
    weights: &StateDict,
    train: &Dataset,
    recipe: &Recipe,
    engine: &Engine,
    groups: &Groups,
) -> Result<Training> {
    Training::builder(description.net(), weights)
        .batch(Shards::alone(recipe.shards()).largest(recipe.batch_size.min(train.len())))
        .update(recipe.optimizer.update())
        .seed(recipe.seed)
        .synchronized(recipe.sync_batch_norm && recipe.shards() > 1)
        .loss(recipe.loss(train)?)
        .parameters(|name| groups.of(name))
        .frozen_norms(|layer| groups.is_frozen(layer))
        .build(engine)
}

/// Whether there are norms whose statistics move.
pub(super) fn takes_statistics(description: &Description, groups: &Groups) -> bool {
    let moves = |node: &Node| node.op.has_running_statistics() && !groups.is_frozen(&node.name);
    description.net().nodes().iter().any(moves)
}
