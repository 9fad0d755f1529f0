//! How a run is configured: defaults, then layers of [`TrainOverrides`] (a TOML file, the environment, flags), of which
//! later ones win, give a [`TrainConfig`]. The TOML is flat, and its keys are the flags' names with underscores.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::data::Target;
use crate::exec::{ConvChoice, Precision, Update};
use crate::net::Net;
use crate::ops::Shape;
use crate::zoo::{self, Shortcut, ZooOptions};
use crate::{Error, Result};

/// Before the name of a setting in the environment.
const ENVIRONMENT: &str = "CONVNET_";

/// How weights are moved along their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Kingma and Ba 2015; weight decay is added to the gradient.
    #[default]
    Adam,
    /// Loshchilov and Hutter 2019: Adam with weight decay apart from the gradient.
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// Everything that decides a training run, with every default filled in but the network's own settings, where `None` is
/// what the network has by default: what a run folder's `config.toml` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// A built-in data set's name, a folder or an archive.
    pub data: String,
    /// Channels, height and width that pictures from files are brought to, and that the net takes; without it the
    /// pictures must all be of one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<[usize; 3]>,
    /// A named network.
    pub model: String,
    /// A TOML file that describes the network, instead of `model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<PathBuf>,
    /// Probability of every dropout, 0 for none, instead of the network's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// What carries a block's input past it, where the network leaves that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortcut: Option<Shortcut>,
    /// Model `cnn`: output channels of each convolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdims: Option<Vec<usize>>,
    /// Model `cnn`: output features of each hidden linear layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hdims: Option<Vec<usize>>,
    /// Model `cnn`: side of the square kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ksize: Option<usize>,
    /// Model `cnn`: whether each convolution is followed by batch norm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<bool>,
    /// Passes over the training set.
    pub epochs: usize,
    /// Steps after which training stops, wherever in an epoch it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Pictures per step.
    pub batch_size: usize,
    /// How weights are moved.
    pub optimizer: Optimizer,
    /// Learning rate.
    pub lr: f64,
    /// How the learning rate moves over the run's epochs.
    pub schedule: Schedule,
    /// SGD: share of the last step that is added to the next.
    pub momentum: f64,
    /// SGD: Nesterov's form of momentum.
    pub nesterov: bool,
    /// Share of each weight taken off, times the learning rate. 0.01 for AdamW and 0 for the others, unless set.
    pub weight_decay: f64,
    /// Adam: decay of the running means of gradient and squared gradient.
    pub betas: [f64; 2],
    /// Adam: added to the denominator.
    pub eps: f64,
    /// Decides first weights, order of the pictures and dropout.
    pub seed: u64,
    /// Threads; 0 takes all cores. The result does not depend on it.
    pub threads: usize,
    /// How 3×3 convolutions are computed. The result depends on it in its last digits.
    pub conv: ConvChoice,
    /// What products are computed with. The result depends on it in its third digit or so.
    pub precision: Precision,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            data: "digits".into(),
            input: None,
            model: "cnn".into(),
            net: None,
            dropout: None,
            shortcut: None,
            cdims: None,
            hdims: None,
            ksize: None,
            batch_norm: None,
            epochs: 10,
            max_steps: None,
            batch_size: 256,
            optimizer: Optimizer::default(),
            lr: 1e-3,
            schedule: Schedule::default(),
            momentum: 0.9,
            nesterov: false,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            seed: 0,
            threads: 0,
            conv: ConvChoice::default(),
            precision: Precision::default(),
        }
    }
}

/// A layer of settings over [`TrainConfig`]'s defaults: what is `None` is left to the layers below.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the one of the same name in TrainConfig")]
pub struct TrainOverrides {
    pub data: Option<String>,
    pub input: Option<[usize; 3]>,
    pub model: Option<String>,
    pub net: Option<PathBuf>,
    pub cdims: Option<Vec<usize>>,
    pub hdims: Option<Vec<usize>>,
    pub ksize: Option<usize>,
    pub batch_norm: Option<bool>,
    pub dropout: Option<f64>,
    pub shortcut: Option<Shortcut>,
    pub epochs: Option<usize>,
    pub max_steps: Option<u64>,
    pub batch_size: Option<usize>,
    pub optimizer: Option<Optimizer>,
    pub lr: Option<f64>,
    pub schedule: Option<Schedule>,
    pub momentum: Option<f64>,
    pub nesterov: Option<bool>,
    pub weight_decay: Option<f64>,
    pub betas: Option<[f64; 2]>,
    pub eps: Option<f64>,
    pub seed: Option<u64>,
    pub threads: Option<usize>,
    pub conv: Option<ConvChoice>,
    pub precision: Option<Precision>,
}

impl TrainOverrides {
    /// Reads a layer from a TOML file in which every key is optional.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] with the line and the key when it is not TOML, or a key
    /// is unknown or of the wrong type.
    pub fn read(path: &Path) -> Result<TrainOverrides> {
        read_toml(path)
    }

    /// Reads a layer from environment variables: `CONVNET_BATCH_SIZE=64`, `CONVNET_CDIMS=16,32`, for each setting its name
    /// in capitals. Other variables are left alone, and so are empty ones.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the variable, when a value is of the wrong type.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<TrainOverrides> {
        let unusable = |error: &dyn std::fmt::Display| Error::invalid(format!("configuration: {error}"));
        let nothing = serde_json::to_value(TrainOverrides::default()).map_err(|e| unusable(&e))?;
        let mut layer = toml::Table::new();
        for key in nothing.as_object().into_iter().flat_map(|settings| settings.keys()) {
            let name = format!("{ENVIRONMENT}{}", key.to_uppercase());
            if let Some(text) = variable(&name).filter(|text| !text.is_empty()) {
                layer.extend(setting(key, &text).map_err(|problem| Error::invalid(format!("{name}: {problem}")))?);
            }
        }
        layer.try_into().map_err(|e: toml::de::Error| unusable(&e))
    }
}

/// One setting from a text: a value of TOML, the inside of a list, or a text without quotes.
fn setting(key: &str, text: &str) -> std::result::Result<toml::Table, String> {
    let values = [format!("{key} = {text}"), format!("{key} = [{text}]")];
    let values = values.iter().filter(|_| !text.contains('\n')).filter_map(|line| line.parse::<toml::Table>().ok());
    let plain = toml::Table::from_iter([(key.to_owned(), toml::Value::String(text.to_owned()))]);
    let mut problem = String::new();
    for candidate in values.chain([plain]) {
        match TrainOverrides::deserialize(candidate.clone()) {
            Ok(_) => return Ok(candidate),
            // The first names the type that was expected of what looks like a value.
            Err(error) if problem.is_empty() => problem = error.message().to_owned(),
            Err(_) => {}
        }
    }
    Err(problem)
}

impl TrainConfig {
    /// Lays the layers over the defaults, later ones over earlier ones, and checks the result.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the setting, when a value makes no sense.
    ///
    /// ```
    /// use convnet::train::{TrainConfig, TrainOverrides};
    /// let file = TrainOverrides { epochs: Some(3), lr: Some(0.01), ..Default::default() };
    /// let flags = TrainOverrides { epochs: Some(5), ..Default::default() };
    /// let config = TrainConfig::resolve([file, flags]).unwrap();
    /// assert_eq!((config.epochs, config.lr, config.batch_size), (5, 0.01, 256));
    /// ```
    pub fn resolve(layers: impl IntoIterator<Item = TrainOverrides>) -> Result<TrainConfig> {
        let unusable = |error: &dyn std::fmt::Display| Error::invalid(format!("configuration: {error}"));
        let mut merged = toml::Table::new();
        for layer in layers {
            merged.extend(toml::Table::try_from(layer).map_err(|e| unusable(&e))?);
        }
        let decays = merged.contains_key("weight_decay");
        let mut config: TrainConfig = merged.try_into().map_err(|e: toml::de::Error| unusable(&e))?;
        if config.optimizer == Optimizer::AdamW && !decays {
            config.weight_decay = 0.01;
        }
        config.check()?;
        Ok(config)
    }

    /// Reads a resolved configuration, as a run folder holds it.
    ///
    /// # Errors
    /// As [`TrainOverrides::read`], and [`Error::File`] when a value makes no sense.
    pub fn read(path: &Path) -> Result<TrainConfig> {
        let config: TrainConfig = read_toml(path)?;
        config.check().map_err(|e| Error::file(path, e.to_string()))?;
        Ok(config)
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a number is larger than TOML can hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::invalid(format!("configuration: {e}")))
    }

    /// What pictures from files are to be brought to: `input`, else what a net from a TOML file takes.
    ///
    /// # Errors
    /// As [`Net::load`].
    pub fn target(&self) -> Result<Option<Target>> {
        let input = match (self.input, &self.net) {
            (Some(input), _) => Some(input),
            (None, Some(path)) => match Net::load(path)?.input_shape() {
                Shape::Map(input) => Some(input),
                Shape::Vector(_) => None,
            },
            (None, None) => None,
        };
        Ok(input.map(Target::customary))
    }

    /// The net, for pictures of shape `input` (channels, height, width) and so many classes. A net from a TOML file is
    /// as it is there.
    ///
    /// # Errors
    /// As [`Net::load`], [`zoo::by_name`] and [`Net::add`]; pictures that are not as `self.input` says.
    pub fn build(&self, input: [usize; 3], classes: usize) -> Result<Net> {
        if let Some(wanted) = self.input.filter(|&wanted| wanted != input) {
            let [wanted, found] = [wanted, input].map(Shape::Map);
            return Err(Error::invalid(format!("input: {wanted}, but the pictures are {found} and cannot be resized")));
        }
        let Some(path) = &self.net else {
            let options = ZooOptions {
                input: Some(input),
                classes: Some(classes),
                dropout: self.dropout.map(|p| p as f32),
                auxiliaries: None,
                stochastic_depth: None,
                shortcut: self.shortcut,
                ksize: self.ksize,
                cdims: self.cdims.clone(),
                hdims: self.hdims.clone(),
                batch_norm: self.batch_norm,
            };
            return zoo::by_name(&self.model, &options);
        };
        let (net, input) = (Net::load(path)?, Shape::Map(input));
        if net.input_shape() != input {
            let problem = format!("its input is {}, but the pictures are {input}", net.input_shape());
            return Err(Error::file(path, problem));
        }
        match net.output_shape() {
            Shape::Vector(outputs) if outputs == classes => Ok(net),
            output => Err(Error::file(path, format!("its output is {output}, but there are {classes} classes"))),
        }
    }

    /// How weights are moved.
    pub fn update(&self) -> Update {
        let weight_decay = self.weight_decay as f32;
        match self.optimizer {
            Optimizer::Sgd => Update::Sgd { momentum: self.momentum as f32, nesterov: self.nesterov, weight_decay },
            Optimizer::Adam | Optimizer::AdamW => Update::Adam {
                betas: self.betas.map(|beta| beta as f32),
                eps: self.eps as f32,
                weight_decay,
                decoupled: self.optimizer == Optimizer::AdamW,
            },
        }
    }

    /// Values that each make sense by themselves. Whether a net fits its data is the net's matter.
    fn check(&self) -> Result<()> {
        let expect = |fine: bool, name: &str, expected: &str, got: &dyn std::fmt::Debug| match fine {
            true => Ok(()),
            false => Err(Error::invalid(format!("{name}: expected {expected}, got {got:?}"))),
        };
        let input = self.input.unwrap_or([1; 3]);
        if self.net.is_none() {
            zoo::find(&self.model)?;
        }
        expect(!input.contains(&0), "input", "channels, height and width above 0", &input)?;
        let share = |value: f64| (0.0..1.0).contains(&value);
        let below_1 = "a number from 0 to below 1";
        expect(self.epochs > 0, "epochs", "at least 1", &self.epochs)?;
        expect(self.max_steps != Some(0), "max_steps", "at least 1", &0)?;
        expect(self.batch_size > 0, "batch_size", "at least 1", &self.batch_size)?;
        expect(self.lr.is_finite() && self.lr > 0.0, "lr", "a number above 0", &self.lr)?;
        let dropout = self.dropout.unwrap_or_default();
        expect(share(dropout), "dropout", below_1, &dropout)?;
        expect(share(self.momentum), "momentum", below_1, &self.momentum)?;
        expect(!self.nesterov || self.momentum > 0.0, "momentum", "more than 0 with nesterov", &self.momentum)?;
        expect(self.betas.into_iter().all(share), "betas", "two numbers from 0 to below 1", &self.betas)?;
        expect(self.eps.is_finite() && self.eps > 0.0, "eps", "a number above 0", &self.eps)?;
        let decay = self.weight_decay;
        expect(decay.is_finite() && decay >= 0.0, "weight_decay", "a number of at least 0", &decay)?;
        expect(self.seed <= i64::MAX as u64, "seed", "at most 9223372036854775807", &self.seed)
    }
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(Error::io("reading", path))?;
    toml::from_str(&text).map_err(|e| Error::file(path, e.to_string().trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer that sets everything, and nothing to its default.
    fn full() -> TrainOverrides {
        TrainOverrides {
            data: Some("mnist".into()),
            input: Some([3, 32, 32]),
            model: Some("lenet5".into()),
            net: Some("my.toml".into()),
            cdims: Some(vec![8]),
            hdims: Some(vec![]),
            ksize: Some(5),
            batch_norm: Some(false),
            dropout: Some(0.25),
            shortcut: Some(Shortcut::B),
            epochs: Some(2),
            max_steps: Some(7),
            batch_size: Some(32),
            optimizer: Some(Optimizer::Sgd),
            lr: Some(0.1),
            schedule: Some(Schedule::OneCycle),
            momentum: Some(0.5),
            nesterov: Some(true),
            weight_decay: Some(5e-4),
            betas: Some([0.8, 0.99]),
            eps: Some(1e-7),
            seed: Some(3),
            threads: Some(1),
            conv: Some(ConvChoice::Direct),
            precision: Some(Precision::Bf16),
        }
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn no_layers_give_the_defaults() {
        assert_eq!(TrainConfig::resolve([]).unwrap(), TrainConfig::default());
    }

    #[test]
    fn every_override_reaches_the_field_of_its_name_and_survives_the_file() {
        let config = TrainConfig::resolve([full()]).unwrap();
        let (_folder, path) = written(&config.to_toml().unwrap());
        assert_eq!(TrainConfig::read(&path).unwrap(), config);
        assert_eq!(TrainOverrides::read(&path).unwrap(), full());
    }

    #[test]
    fn later_layers_win_and_leave_the_rest() {
        let flags = TrainOverrides { lr: Some(0.2), ..Default::default() };
        let config = TrainConfig::resolve([full(), flags]).unwrap();
        assert_eq!((config.lr, config.ksize), (0.2, Some(5)));
    }

    #[test]
    fn the_environment_is_a_layer() {
        let layer = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
            TrainOverrides::from_env(find)
        };
        let all = [
            ("CONVNET_BATCH_SIZE", "32"),
            ("CONVNET_BATCH_NORM", "false"),
            ("CONVNET_CDIMS", "8"),
            ("CONVNET_HDIMS", "64, 32"),
            ("CONVNET_DATA", "mnist"),
            ("CONVNET_OPTIMIZER", "sgd"),
            ("CONVNET_LR", ""),
            ("CONVNET_ISA", "portable"),
        ];
        let expected = TrainOverrides {
            batch_size: Some(32),
            batch_norm: Some(false),
            cdims: Some(vec![8]),
            hdims: Some(vec![64, 32]),
            data: Some("mnist".into()),
            optimizer: Some(Optimizer::Sgd),
            ..TrainOverrides::default()
        };
        assert_eq!(layer(&all).unwrap(), expected);
        assert_eq!(layer(&[("CONVNET_DATA", "a = 'b\n'")]).unwrap().data.unwrap(), "a = 'b\n'");
        for (name, value, expected) in [
            ("CONVNET_LR", "fast", "CONVNET_LR: invalid type: string \"fast\", expected f64"),
            ("CONVNET_EPOCHS", "-1", "CONVNET_EPOCHS: invalid value: integer `-1`"),
            ("CONVNET_OPTIMIZER", "adagrad", "CONVNET_OPTIMIZER: unknown variant `adagrad`"),
            ("CONVNET_EPOCHS", "1\nlr = 2", "CONVNET_EPOCHS: invalid type: string"),
        ] {
            let message = layer(&[(name, value)]).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn adamw_decays_unless_told_otherwise() {
        let adamw = TrainOverrides { optimizer: Some(Optimizer::AdamW), ..Default::default() };
        assert_eq!(TrainConfig::resolve([adamw.clone()]).unwrap().weight_decay, 0.01);
        let none = TrainOverrides { weight_decay: Some(0.0), ..adamw };
        assert_eq!(TrainConfig::resolve([none]).unwrap().weight_decay, 0.0);
    }

    #[test]
    fn messages_name_file_line_and_key() {
        for (text, parts) in [
            ("epochs = 3\nbach_size = 4", ["line 2", "unknown field `bach_size`"]),
            ("epochs = \"many\"", ["line 1", "invalid type: string \"many\""]),
            ("optimizer = \"adagrad\"", ["unknown variant `adagrad`", "expected one of `adam`, `adamw`, `sgd`"]),
            ("epochs = ", ["line 1", "epochs = "]),
        ] {
            let (_folder, path) = written(text);
            let message = TrainOverrides::read(&path).unwrap_err().to_string();
            assert!(message.contains("my.toml") && parts.iter().all(|part| message.contains(part)), "{message}");
        }
        let (_folder, path) = written("lr = -1.0");
        let message = TrainConfig::read(&path).unwrap_err().to_string();
        assert!(message.ends_with("my.toml: lr: expected a number above 0, got -1.0"), "{message}");
    }

    #[test]
    fn senseless_values_are_refused_by_name() {
        let refused = |layer: TrainOverrides| TrainConfig::resolve([layer]).unwrap_err().to_string();
        let none = TrainOverrides::default();
        assert_eq!(
            refused(TrainOverrides { batch_size: Some(0), ..none.clone() }),
            "batch_size: expected at least 1, got 0"
        );
        assert!(refused(TrainOverrides { epochs: Some(0), ..none.clone() }).starts_with("epochs: "));
        assert!(refused(TrainOverrides { lr: Some(f64::NAN), ..none.clone() }).starts_with("lr: "));
        assert!(refused(TrainOverrides { betas: Some([0.9, 1.0]), ..none.clone() }).starts_with("betas: "));
        assert!(refused(TrainOverrides { dropout: Some(1.0), ..none.clone() }).starts_with("dropout: "));
        let still = TrainOverrides { nesterov: Some(true), momentum: Some(0.0), ..none.clone() };
        assert!(refused(still).starts_with("momentum: expected more than 0 with nesterov"));
        refused(TrainOverrides { seed: Some(u64::MAX), ..none });
    }
}
