//! How a run is configured: defaults, then layers of [`Settings`] (a TOML file, the environment, flags), of which later ones
//! win, give a [`TrainConfig`]. [`SETTINGS`] lists them all.

mod environment;
mod kind;
mod recipe;
mod settings;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use self::kind::Kind;
pub use self::recipe::{ClassWeights, Optimizer, OptimizerConfig, Recipe, ScheduleConfig, Shuffle};
use self::recipe::{expect, is_share};
pub use self::settings::{SETTINGS, Setting, Settings};
use crate::data::Sizing;
use crate::exec::{ConvChoice, Engine, Precision};
use crate::zoo::{self, Shortcut, ZooOptions};
use crate::{Error, Result};

/// The network that is trained when none is named.
pub(super) const DEFAULT_MODEL: &str = "cnn";

/// Everything that decides a run, with every default filled in but the network's own settings, where `None` is what the
/// network has by default: what a run folder's `config.toml` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainConfig {
    /// How the network is trained.
    #[serde(flatten)]
    pub recipe: Recipe,
    /// With which pictures.
    #[serde(default)]
    pub data: DataConfig,
    /// Which network.
    #[serde(default)]
    pub model: ModelConfig,
    /// On what it is computed.
    #[serde(default)]
    pub engine: EngineConfig,
    /// What it leaves beside what every run leaves.
    #[serde(default)]
    pub output: OutputConfig,
}

/// Which pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataConfig {
    /// A built-in data set's name, a folder or an archive.
    pub source: String,
    /// Channels, height and width that pictures from files are brought to, and that the network takes; without it those of
    /// the network, which are the pictures' own where they are all of one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<[usize; 3]>,
    /// Share of each class's training pictures that is held out for validation where the data have no such part. `None` is
    /// 0.2 where they have a training part alone, and 0 where they have a test part; a run's own configuration says what was held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_split: Option<f64>,
    /// About so many training pictures are used, the same share of each class, chosen by the seed after the validation pictures are
    /// held out. `None` is all. See [`Splits::limited`](crate::data::Splits::limited).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Threads that read, decode and change pictures. `None` is one for pictures in memory and one per core for others. The
    /// result does not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// MiB of decoded pictures that are kept in memory. The result does not depend on it. See
    /// [`Sizing::memory`](crate::data::Sizing::memory).
    pub cache: u64,
    /// Whether pictures that cannot be used are left out, which decodes all of them once; else they are an error.
    pub skip_bad: bool,
}

/// Which network, and where its weights come from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelConfig {
    /// A named network. `None` is that of the weights where they know it; else `cnn` for pictures whose shorter side has at most 64
    /// pixels and `resnet18` for larger ones, to whose 128 pixels pictures of several sizes are brought unless `input` says another. A run's
    /// own configuration says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A TOML file that describes the network, instead of `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<PathBuf>,
    /// A file of weights to begin with; a last layer for other classes is initialised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Which of a file's weights, where it holds several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Probability of every dropout, 0 for none, instead of the network's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// What carries a block's input past it, where the network leaves that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// `cnn`: output channels of each convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdims: Option<Vec<usize>>,
    /// `cnn`: output features of each hidden linear layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hdims: Option<Vec<usize>>,
    /// `cnn`: side of the square kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ksize: Option<usize>,
    /// `cnn`: whether each convolution is followed by batch norm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<bool>,
}

/// What a run leaves in its folder beside what every run leaves there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputConfig {
    /// Whether there are TensorBoard's event files.
    pub tensorboard: bool,
    /// Steps after which there is a checkpoint within an epoch. `None` is every ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
}

/// On what a run is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineConfig {
    /// Threads; 0 takes all cores. The result does not depend on it.
    pub threads: usize,
    /// How 3×3 convolutions are computed. The result depends on it in its last digits.
    pub conv: ConvChoice,
    /// What products are computed with. The result depends on it in its third digit or so.
    pub precision: Precision,
    /// MiB of gradients that processes exchange at a time, while backward goes on; 0 exchanges all of them after it. The result does not
    /// depend on it.
    pub bucket_cap_mb: usize,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        let (conv, precision) = (ConvChoice::default(), Precision::default());
        EngineConfig { threads: 0, conv, precision, bucket_cap_mb: 4 }
    }
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig {
            source: "digits".into(),
            input: None,
            val_split: None,
            limit: None,
            workers: None,
            cache: Sizing::MEMORY >> 20,
            skip_bad: false,
        }
    }
}

impl EngineConfig {
    /// An engine as it says.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn engine(&self) -> Result<Engine> {
        Ok(Engine::new(self.threads)?.with_conv(self.conv).with_precision(self.precision))
    }
}

impl ModelConfig {
    /// Names of settings that a network which is described in a file cannot be given.
    fn named_settings(&self) -> impl Iterator<Item = &'static str> {
        let set = [
            ("model", self.name.is_some()),
            ("cdims", self.cdims.is_some()),
            ("hdims", self.hdims.is_some()),
            ("ksize", self.ksize.is_some()),
            ("batch_norm", self.batch_norm.is_some()),
            ("dropout", self.dropout.is_some()),
            ("shortcut", self.shortcut.is_some()),
        ];
        set.into_iter().filter_map(|(name, is_set)| is_set.then_some(name))
    }

    /// What a named network is given.
    pub fn options(&self, input: Option<[usize; 3]>, classes: Option<usize>) -> ZooOptions {
        ZooOptions {
            input,
            classes,
            dropout: self.dropout.map(|p| p as f32),
            auxiliaries: None,
            stochastic_depth: None,
            shortcut: self.shortcut,
            ksize: self.ksize,
            cdims: self.cdims.clone(),
            hdims: self.hdims.clone(),
            batch_norm: self.batch_norm,
        }
    }

    fn check(&self) -> Result<()> {
        if let Some(name) = &self.name {
            zoo::find(name)?;
        }
        if let (Some(_), Some(name)) = (&self.net, self.named_settings().next()) {
            return Err(Error::invalid(format!(
                "{name} cannot be used with net: the file describes the whole network"
            )));
        }
        let ksize = self.ksize.unwrap_or(1);
        expect(ksize > 0, "ksize", "at least 1", &ksize)?;
        let dropout = self.dropout.unwrap_or_default();
        expect(is_share(dropout), "dropout", "a number from 0 to below 1", &dropout)
    }
}

impl TrainConfig {
    /// Lays the layers over the defaults, later ones over earlier ones, and checks the result.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the setting, when a value makes no sense.
    ///
    /// ```
    /// use convnet::train::{Settings, TrainConfig};
    /// let file = Settings::from_toml("epochs = 3\n[optimizer]\nlr = 0.01").unwrap();
    /// let mut flags = Settings::default();
    /// flags.set("epochs", "5").unwrap();
    /// let config = TrainConfig::resolve([file, flags]).unwrap();
    /// assert_eq!((config.recipe.epochs, config.recipe.optimizer.lr, config.recipe.batch_size), (5, 0.01, 256));
    /// ```
    pub fn resolve(layers: impl IntoIterator<Item = Settings>) -> Result<TrainConfig> {
        let merged = layers.into_iter().fold(Settings::default(), |below, above| below.under(&above));
        let unusable = |error: toml::de::Error| Error::invalid(format!("configuration: {}", error.message()));
        let config: TrainConfig = merged.into_table().try_into().map_err(unusable)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a resolved configuration, as a run folder holds it.
    ///
    /// # Errors
    /// As [`Settings::read`], and [`Error::File`] when a value makes no sense.
    pub fn read(path: &Path) -> Result<TrainConfig> {
        let settings = Settings::read(path)?;
        TrainConfig::resolve([settings]).map_err(|e| Error::file(path, e.to_string()))
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a number is larger than TOML can hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::invalid(format!("configuration: {e}")))
    }

    /// What the network is called, in a run's name.
    pub fn net_name(&self) -> String {
        let stem = self.model.net.as_deref().and_then(Path::file_stem);
        let name = || self.model.name.clone().unwrap_or_else(|| DEFAULT_MODEL.into());
        stem.map_or_else(name, |stem| stem.to_string_lossy().into_owned())
    }

    /// Values that each make sense by themselves. Whether a net fits its data is the net's matter.
    fn check(&self) -> Result<()> {
        self.recipe.check()?;
        self.model.check()?;
        let (threads, most) = (self.engine.threads, Engine::MAX_THREADS);
        let every = self.output.checkpoint_every.unwrap_or(1);
        expect(every > 0, "checkpoint_every", "a number of steps from 1", &every)?;
        expect(threads <= most, "threads", &format!("a whole number from 0 to {most}"), &threads)?;
        let (workers, most) = (self.data.workers.unwrap_or(1), Engine::MAX_THREADS);
        expect((1..=most).contains(&workers), "workers", &format!("a whole number from 1 to {most}"), &workers)?;
        let input = self.data.input.unwrap_or([1; 3]);
        expect(!input.contains(&0), "input", "channels, height and width above 0", &input)?;
        expect(self.data.limit != Some(0), "limit", "at least 1 picture", &0)?;
        let val_split = self.data.val_split.unwrap_or_default();
        expect(is_share(val_split), "val_split", "a number from 0 to below 1", &val_split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Schedule;
    use std::fs;

    /// Every setting, and none to its default.
    fn full() -> Settings {
        let mut layer = Settings::default();
        for (name, text) in [
            ("epochs", "2"),
            ("max_steps", "7"),
            ("patience", "2"),
            ("batch_size", "32"),
            ("shards", "4"),
            ("sync_batch_norm", "true"),
            ("base_batch_size", "16"),
            ("seed", "3"),
            ("shuffle", "window=50"),
            ("data", "mnist"),
            ("input", "3x32x32"),
            ("val_split", "0.5"),
            ("limit", "500"),
            ("workers", "3"),
            ("cache", "100"),
            ("skip_bad", "true"),
            ("model", "resnet20"),
            ("weights", "w.pt"),
            ("key", "ema"),
            ("freeze", "backbone"),
            ("dropout", "0.25"),
            ("shortcut", "b"),
            ("cdims", "8"),
            ("hdims", ""),
            ("ksize", "5"),
            ("batch_norm", "false"),
            ("optimizer", "sgd"),
            ("lr", "0.1"),
            ("momentum", "0.5"),
            ("nesterov", "true"),
            ("muon_rate", "original"),
            ("adamw_lr", "0.05"),
            ("weight_decay", "5e-4"),
            ("betas", "0.8,0.99"),
            ("eps", "1e-7"),
            ("norm_weight_decay", "0"),
            ("bias_weight_decay", "1e-5"),
            ("schedule", "one-cycle"),
            ("warmup_epochs", "0.5"),
            ("warmup_factor", "0.1"),
            ("min_factor", "0.2"),
            ("step_size", "3"),
            ("milestones", "4,6"),
            ("gamma", "0.5"),
            ("power", "2"),
            ("plateau_patience", "5"),
            ("backbone_lr", "0.1"),
            ("bias_lr", "64"),
            ("clip_grad_norm", "2"),
            ("label_smoothing", "0.1"),
            ("class_weights", "balanced"),
            ("focal_gamma", "2"),
            ("augment", "imagenet_v2"),
            ("mixup_alpha", "0.2"),
            ("cutmix_alpha", "1"),
            ("mixing_p", "0.5"),
            ("train_eval", "100"),
            ("precise_bn", "20"),
            ("unfreeze_every", "2"),
            ("swa_epochs", "1"),
            ("swa_factor", "0.75"),
            ("threads", "1"),
            ("conv", "direct"),
            ("precision", "bf16"),
            ("bucket_cap_mb", "16"),
            ("tensorboard", "true"),
            ("checkpoint_every", "500"),
        ] {
            layer.set(name, text).unwrap();
        }
        layer
    }

    #[test]
    fn no_layers_give_the_defaults() {
        assert_eq!(TrainConfig::resolve([]).unwrap(), TrainConfig::default());
    }

    /// Each setting of the list is a field, and each field is in the list.
    #[test]
    fn every_setting_reaches_the_configuration_and_survives_the_file() {
        let full = full();
        let unset: Vec<&str> = SETTINGS.iter().filter(|s| !full.has(s)).map(|s| s.name).collect();
        assert_eq!(unset, ["net", "ema"]);
        let config = TrainConfig::resolve([full.clone()]).unwrap();
        let text = config.to_toml().unwrap();
        assert_eq!(Settings::from_toml(&text).unwrap(), full, "{text}");
        assert_eq!(TrainConfig::resolve([Settings::from_toml(&text).unwrap()]).unwrap(), config);
    }

    #[test]
    fn later_layers_win_and_leave_the_rest() {
        let mut flags = Settings::default();
        flags.set("optimizer.lr", "0.2").unwrap();
        let config = TrainConfig::resolve([full(), flags]).unwrap();
        let Recipe { optimizer, schedule, .. } = config.recipe;
        assert_eq!((optimizer.lr, optimizer.momentum, schedule.name), (0.2, Some(0.5), Schedule::OneCycle));
    }

    #[test]
    fn adamw_decays_unless_told_otherwise() {
        let decay = |text: &str| {
            let config = TrainConfig::resolve([Settings::from_toml(text).unwrap()]).unwrap();
            config.recipe.optimizer.weight_decay()
        };
        assert_eq!((decay("optimizer = 'adamw'"), decay("optimizer = 'adam'")), (0.01, 0.0));
        assert_eq!(decay("optimizer = 'adamw'\nweight_decay = 0"), 0.0);
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        for (name, text, expected) in [
            ("batch_size", "0", "batch_size: expected at least 1, got 0"),
            ("shards", "0", "shards: expected from 1 to 256, the pictures of a batch, got 0"),
            ("shards", "257", "shards: expected from 1 to 256, the pictures of a batch, got 257"),
            ("base_batch_size", "0", "base_batch_size: expected at least 1, got 0"),
            ("epochs", "0", "epochs: "),
            ("patience", "0", "patience: expected at least 1 epoch, got 0"),
            ("ema", "1", "ema: expected a number from 0 to below 1, got 1.0"),
            ("lr", "NaN", "lr: expected a number above 0, got NaN"),
            ("betas", "0.9,1", "betas: "),
            ("schedule", "multi-step", "milestones: expected at least one epoch with schedule multi-step, got []"),
            ("milestones", "30,10", "milestones: expected epochs in ascending order, got [30, 10]"),
            ("gamma", "1.5", "gamma: expected a number from 0 to 1, got 1.5"),
            ("warmup_epochs", "-1", "warmup_epochs: expected a number of at least 0, got -1.0"),
            ("bias_weight_decay", "0.1", "bias_weight_decay: expected 0 where weight_decay is 0, got 0.1"),
            ("dropout", "1", "dropout: "),
            (
                "class_weights",
                "1,-1",
                "class_weights: expected numbers from 0 on, some of them above it, got [1.0, -1.0]",
            ),
            ("class_weights", "0,0", "class_weights: expected numbers from 0 on"),
            ("unfreeze_every", "0", "unfreeze_every: expected at least 1 epoch, got 0"),
            ("focal_gamma", "-1", "focal_gamma: expected a number of at least 0, got -1.0"),
            ("limit", "0", "limit: expected at least 1 picture, got 0"),
            ("val_split", "1", "val_split: expected a number from 0 to below 1, got 1.0"),
            ("model", "resnet51", "did you mean"),
        ] {
            let mut layer = Settings::default();
            layer.set(name, text).unwrap();
            let message = TrainConfig::resolve([layer]).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let still = Settings::from_toml("nesterov = true\nmomentum = 0").unwrap();
        let message = TrainConfig::resolve([still]).unwrap_err().to_string();
        assert!(message.starts_with("momentum: expected more than 0 with nesterov"), "{message}");
        let both = Settings::from_toml("ema = 0.9\nswa_epochs = 2").unwrap();
        let message = TrainConfig::resolve([both]).unwrap_err().to_string();
        assert!(message.starts_with("swa_epochs: expected 0 with ema"), "{message}");
        let longer = Settings::from_toml("epochs = 2\nswa_epochs = 5").unwrap();
        let message = TrainConfig::resolve([longer]).unwrap_err().to_string();
        assert_eq!(message, "swa_epochs: expected at most 2, the number of epochs, got 5");
        let both = Settings::from_toml("net = 'x.toml'\ncdims = [3]").unwrap();
        let message = TrainConfig::resolve([both]).unwrap_err().to_string();
        assert_eq!(message, "cdims cannot be used with net: the file describes the whole network");
    }

    #[test]
    fn messages_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        fs::write(&path, "lr = -1.0").unwrap();
        let message = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(message.ends_with("my.toml: lr: expected a number above 0, got -1.0"), "{message}");
        fs::write(&path, "epochs = 3\nbach_size = 4").unwrap();
        let message = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(message.contains("my.toml: line 2: there is no setting 'bach_size'"), "{message}");
    }
}
