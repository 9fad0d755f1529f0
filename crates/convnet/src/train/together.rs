//! A run that several processes train together: the first writes its folder, the others follow.

use std::env;
use std::fs;

use super::saved::{Restored, Saved};
use super::{Prepared, RunFolder, TrainConfig, Trainer};
use crate::data::{Dataset, Splits};
use crate::distributed::{Processes, Shards};
use crate::exec::Engine;
use crate::weights::{sha256, weights_sha256};
use crate::{Error, Result};

impl Trainer {
    /// The same with other processes, each of which calls this with the same program, net, data and recipe. The result is that of one
    /// process with as many [shards](super::Recipe::shards). The first process alone keeps the run in a folder.
    ///
    /// # Errors
    /// [`Error::Setting`] when the number of processes does not divide that of the shards; [`Error::Invalid`] when something is not the same
    /// in all processes. Each fails where one does.
    pub fn across(self, processes: &Processes) -> Result<Trainer> {
        let shards = processes.agree(Shards::new(self.recipe.shards(), processes.rank(), processes.size()))?;
        let trainer = Trainer { shards, processes: processes.clone(), ..self };
        trainer.expect_same_beginning()?;
        Ok(trainer)
    }

    /// [`Trainer::resume`] for the other processes, once the first has returned from it: reads the folder and leaves it as it is.
    ///
    /// # Errors
    /// When there is no such folder for this process, the checkpoint cannot be loaded, or the data do not fit.
    pub fn follow(folder: &RunFolder, config: &TrainConfig, splits: Splits, engine: &Engine) -> Result<Trainer> {
        match Saved::read(folder, &splits.train)? {
            Some(restored) => Trainer::restored(restored, splits, config.recipe.clone(), engine)
                .map_err(|error| Error::file(folder.last_safetensors(), error.to_string())),
            None => {
                let classifier = Prepared::classifier(config, &splits.train)?;
                Trainer::with_engine(classifier, splits, config.recipe.clone(), engine)
            }
        }
    }

    /// A trainer that stands where a checkpoint was made.
    pub(super) fn restored(
        restored: Restored,
        splits: Splits,
        recipe: super::Recipe,
        engine: &Engine,
    ) -> Result<Trainer> {
        let Restored { classifier, average, optimizer, progress, epochs } = restored;
        let mut trainer = Trainer::at_epoch(classifier, splits, recipe, engine, progress.epoch)?;
        trainer.training.restore(&optimizer, progress.step)?;
        average.iter().try_for_each(|average| trainer.training.restore_average(average))?;
        Ok(Trainer { progress, epochs, ..trainer })
    }

    /// All processes begin with the same program, settings, data and weights.
    fn expect_same_beginning(&self) -> Result<()> {
        if self.processes.size() == 1 {
            return Ok(());
        }
        let own = self.processes.agree(self.beginning())?;
        self.processes.expect_same(own)
    }

    /// What this process begins with.
    fn beginning(&self) -> Result<Vec<(String, String)>> {
        let program = env::current_exe().and_then(fs::read).map(|program| sha256(&program)).unwrap_or_default();
        let engine = &self.engine;
        let set = format!("{}, {:?}, {}", engine.isa(), engine.conv(), engine.precision());
        let recipe = serde_json::to_string(&self.recipe).map_err(|error| Error::invalid(error.to_string()))?;
        let watched = self.watched.as_ref().map(|(_, data)| data.fingerprint()).transpose()?;
        let of = [
            ("program", program),
            ("instruction set, way of computing convolutions or precision", set),
            ("recipe", recipe),
            ("bucket_cap_mb", self.processes.bucket().to_string()),
            ("network", format!("{:?}", self.description.metadata())),
            ("set of training pictures", self.train.fingerprint()?),
            ("set of pictures to evaluate", watched.unwrap_or_default()),
            ("place in the run", format!("step {}", self.progress.step)),
            ("set of weights", weights_sha256(&self.training.weights())),
        ];
        Ok(of.map(|(what, is)| (what.to_owned(), is)).to_vec())
    }
}

impl Dataset {
    /// By what another set shows: classes, labels and names of all pictures, and what some of them show.
    fn fingerprint(&self) -> Result<String> {
        const SHOWN: usize = 16;
        let mut text = format!("{:?}{:?}{:?}", self.shape(), self.classes(), self.labels()).into_bytes();
        (0..self.len()).for_each(|index| text.extend(self.image_name(index).bytes()));
        for index in (0..self.len()).step_by(self.len().div_ceil(SHOWN).max(1)) {
            // One that cannot be decoded is told of when it is trained on.
            text.extend(self.image(index).iter().flat_map(|planes| planes.iter().copied()));
        }
        Ok(sha256(&text))
    }
}
