//! Recipes that are known by a name: settings in TOML files beside this one, each with its source in its first lines. They say
//! nothing of pictures and machine, so that each goes with any of these, and name a network only where the source is of both.

use std::path::Path;

use serde::Serialize;

use super::Settings;
use crate::{Error, Result};

/// A recipe that has a name.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NamedRecipe {
    /// What it is called.
    pub name: &'static str,
    /// The settings as TOML, with comments that name the source.
    pub toml: &'static str,
}

/// Every recipe that has a name.
pub const RECIPES: [NamedRecipe; 6] = [
    NamedRecipe { name: "lecture", toml: include_str!("lecture.toml") },
    NamedRecipe { name: "cifar", toml: include_str!("cifar.toml") },
    NamedRecipe { name: "cifar-fast", toml: include_str!("cifar-fast.toml") },
    NamedRecipe { name: "imagenet", toml: include_str!("imagenet.toml") },
    NamedRecipe { name: "imagenet-v2", toml: include_str!("imagenet-v2.toml") },
    NamedRecipe { name: "fine-tune", toml: include_str!("fine-tune.toml") },
];

impl NamedRecipe {
    /// The recipe of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`] for another name.
    pub fn find(name: &str) -> Result<NamedRecipe> {
        let unknown = || Error::unknown("recipe", name, RECIPES.iter().map(|recipe| recipe.name));
        RECIPES.into_iter().find(|recipe| recipe.name == name).ok_or_else(unknown)
    }

    /// What it is for, in a line: the first of its comments.
    pub fn about(&self) -> &'static str {
        self.toml.lines().next().map_or("", |line| line.trim_start_matches(['#', ' ']))
    }

    /// Its settings, to lay others over.
    ///
    /// ```
    /// use convnet::train::{NamedRecipe, Optimizer, Settings, TrainConfig};
    /// let mut own = Settings::default();
    /// own.set("epochs", "5").unwrap();
    /// let config = TrainConfig::resolve([NamedRecipe::find("cifar").unwrap().settings().unwrap(), own]).unwrap();
    /// assert_eq!((config.recipe.optimizer.name, config.recipe.epochs), (Optimizer::Sgd, 5));
    /// ```
    ///
    /// # Errors
    /// None for those of [`RECIPES`], which tests read.
    pub fn settings(&self) -> Result<Settings> {
        Settings::from_toml(self.toml).map_err(|problem| Error::invalid(format!("recipe '{}': {problem}", self.name)))
    }
}

impl Settings {
    /// Those of a recipe that has a name, or of a TOML file.
    ///
    /// # Errors
    /// [`Error::Unknown`] when it is neither; as [`Settings::read`] for a file.
    pub fn of_recipe(name_or_file: &str) -> Result<Settings> {
        match Path::new(name_or_file) {
            file if file.is_file() && NamedRecipe::find(name_or_file).is_err() => Settings::read(file),
            _ => NamedRecipe::find(name_or_file)?.settings(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::groups::{Epoch, Groups};
    use crate::train::{Optimizer, Recipe, SETTINGS, Schedule, TrainConfig};

    fn recipe(name: &str) -> Recipe {
        TrainConfig::resolve([Settings::of_recipe(name).unwrap()]).unwrap().recipe
    }

    #[test]
    fn each_has_a_source_and_leaves_pictures_and_machine_alone() {
        for named in RECIPES {
            assert!(named.toml.contains("# Source"), "{}", named.name);
            assert!(named.about().ends_with('.') && named.about().len() < 130, "{}", named.about());
            let settings = named.settings().unwrap();
            let others = ["data.", "model.", "engine.", "output."];
            let is_other = |path: &str| path != "model.name" && others.iter().any(|other| path.starts_with(other));
            let strange = SETTINGS.iter().find(|s| settings.has(s) && is_other(s.path));
            assert!(strange.is_none(), "{}: {strange:?}", named.name);
            TrainConfig::resolve([settings]).unwrap();
        }
    }

    #[test]
    fn recipes_say_what_their_sources_say() {
        assert_eq!(recipe("lecture"), Recipe::default());
        let classic = recipe("imagenet");
        assert_eq!((classic.optimizer.name, classic.optimizer.weight_decay()), (Optimizer::Sgd, 1e-4));
        assert_eq!((classic.schedule.name, classic.schedule.step_size), (Schedule::Step, 30));
        let long = recipe("imagenet-v2");
        assert_eq!(long.mixing, crate::data::augment::Mixing::imagenet_v2());
        assert_eq!((long.optimizer.norm_weight_decay, long.ema), (Some(0.0), Some(0.9999)));
    }

    #[test]
    fn a_recipe_may_bring_its_network_and_any_other_takes_its_place() {
        let resolve = |key: &str, value: &str| {
            let mut own = Settings::default();
            own.set(key, value).unwrap();
            TrainConfig::resolve([Settings::of_recipe("cifar-fast").unwrap(), own]).unwrap()
        };
        let config = resolve("epochs", "3");
        let net = crate::zoo::by_name(config.model.name.as_deref().unwrap(), &Default::default()).unwrap();
        let groups = Groups::new(&net, &config.recipe, Epoch::default()).unwrap();
        let trained = |name: &&String| groups.of(name).trained;
        let parameters: Vec<String> = net.parameters().into_iter().map(|(name, ..)| name).collect();
        let frozen: Vec<&String> = parameters.iter().filter(|name| !trained(name)).collect();
        assert_eq!(frozen, ["whiten.weight", "whiten.bias", "scale.layer_scale"]);
        assert_eq!(resolve("model", "resnet20").model.name.as_deref(), Some("resnet20"));
        let described = resolve("net", "my.toml").model;
        assert_eq!((described.name, described.net), (None, Some("my.toml".into())));
    }

    #[test]
    fn a_recipe_is_a_name_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "epochs = 3").unwrap();
        assert_eq!(recipe(path.to_str().unwrap()).epochs, 3);
        let message = Settings::of_recipe("cifr").unwrap_err().to_string();
        assert_eq!(message, "unknown recipe 'cifr': did you mean 'cifar'?");
    }
}
