//! Every setting of a run, said once: where it stands in TOML, what it is called in flags and in the environment, what its
//! value looks like and what it means. Layers of [`Settings`] (a file, the environment, flags) are nested tables, checked
//! against this list as they are made.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Kind, TrainConfig};
use crate::suggest::hint;
use crate::{Error, Result};

/// A setting of a run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in TOML, with its table: `optimizer.lr`.
    pub path: &'static str,
    /// Its short name, which no other has: `lr`. In the environment it is `CONVNET_LR`.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// What is taken where it is not set, if that is not a value of its own.
    pub otherwise: Option<&'static str>,
    /// Whether a run can go on with another value.
    pub may_change: bool,
}

const fn setting(path: &'static str, name: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { path, name, kind, help, otherwise: None, may_change: false }
}

impl Setting {
    const fn or(self, otherwise: &'static str) -> Setting {
        Setting { otherwise: Some(otherwise), ..self }
    }

    const fn changeable(self) -> Setting {
        Setting { may_change: true, ..self }
    }

    /// What is taken where it is not set.
    pub fn default(&self) -> String {
        static DEFAULTS: LazyLock<Table> =
            LazyLock::new(|| Table::try_from(TrainConfig::default()).unwrap_or_default());
        let of_defaults = || {
            let value = get(&DEFAULTS, self.path)?;
            Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        self.otherwise.map(str::to_owned).or_else(of_defaults).unwrap_or_default()
    }
}

/// All settings, in the order of a configuration.
pub const SETTINGS: &[Setting] = &[
    setting("epochs", "epochs", Kind::Count, "Passes over the training pictures").changeable(),
    setting("max_steps", "max_steps", Kind::Count, "Stop after so many steps, counted from the run's beginning")
        .or("no limit")
        .changeable(),
    setting(
        "patience",
        "patience",
        Kind::Count,
        "Stop after so many epochs without a better accuracy on the validation pictures",
    )
    .or("no limit")
    .changeable(),
    setting("batch_size", "batch_size", Kind::Count, "Pictures per step"),
    setting(
        "shards",
        "shards",
        Kind::Count,
        "Virtual shards of a batch, each with its own statistics of batch norm unless sync_batch_norm is on; the processes that mpirun starts share them, and results \
         depend on the shards, not on the processes",
    )
    .or("the number of processes"),
    setting(
        "sync_batch_norm",
        "sync_batch_norm",
        Kind::Switch,
        "Batch norms take the statistics of all shards together, as SyncBatchNorm does, if there are several; a process then has all of its \
         shards in memory at once",
    ),
    setting(
        "base_batch_size",
        "base_batch_size",
        Kind::Count,
        "Batch size that the learning rate is for: with another one the rate is multiplied by batch_size / base_batch_size, and \
         warmup_epochs begin at the rate as it is",
    )
    .or("batch_size"),
    setting(
        "freeze",
        "freeze",
        Kind::Texts,
        "Layers that are not trained, by name or its beginning; backbone is all but the layer that gives the classes",
    )
    .or("none"),
    setting(
        "unfreeze_every",
        "unfreeze_every",
        Kind::Count,
        "Gradual unfreezing: at first the layer that gives the classes is trained alone, and after every so many epochs one more \
         stage below; a stage ends where maps get smaller",
    )
    .or("all stages from the beginning"),
    setting("seed", "seed", Kind::Count, "Decides initial weights, order of the pictures, the split and dropout"),
    setting(
        "shuffle",
        "shuffle",
        Kind::Shuffle,
        "Order of the training pictures: all, or window=N, which draws each from the next N as they lie: for shards on disks that \
         read slowly out of order",
    ),
    setting(
        "data.source",
        "data",
        Kind::Text,
        "Pictures: digits (built in), mnist (in the cache folder), a folder with train/CLASS/* and val/CLASS/* or with \
         CLASS/* alone, a tar or zip of one, shards such as photos-{000..146}.tar, a list path,label as .csv or .txt, or a folder \
         with CIFAR's binary files or IDX files",
    )
    .changeable(),
    setting(
        "data.input",
        "input",
        Kind::Size,
        "Size that pictures from files are brought to, such as 3x224x224 or 224x224",
    )
    .or("that of the network, which is the pictures' own where they are all of one size"),
    setting(
        "data.val_split",
        "val_split",
        Kind::Number,
        "Share of the training pictures of each class that is held out for validation, where the data have no such part",
    )
    .or("0.2 of folders of classes alone; else 0"),
    setting(
        "data.limit",
        "limit",
        Kind::Count,
        "Train with about so many pictures, the same share of each class, chosen by the seed",
    )
    .or("all"),
    setting(
        "data.workers",
        "workers",
        Kind::Count,
        "Threads that read, decode and change pictures; results do not depend on it",
    )
    .or("1 for pictures in memory, else one per core")
    .changeable(),
    setting(
        "data.cache",
        "cache",
        Kind::Count,
        "MiB of decoded pictures that are kept in memory; larger sets are decoded anew in each epoch; results do not depend on it",
    )
    .changeable(),
    setting(
        "data.skip_bad",
        "skip_bad",
        Kind::Switch,
        "Leave out pictures that cannot be read, which are found by decoding all of them once; else they are an error",
    ),
    setting("model.name", "model", Kind::Text, "Name of the network, see `convnet models`")
        .or(
            "cnn for pictures of one size whose shorter side has at most 64 pixels, resnet18 at 3x128x128 for others; with input by that \
             size; with weights that know their network that",
        ),
    setting("model.net", "net", Kind::File, "TOML file that describes the network, or an ONNX file, without its weights"),
    setting(
        "model.weights",
        "weights",
        Kind::File,
        "Begin with the weights of this file (fine-tuning); a last layer for other classes is initialised",
    )
    .or("initialised from the seed"),
    setting("model.key", "key", Kind::Text, "Which weights of a file that holds several")
        .or("those that are usual"),
    setting("model.cdims", "cdims", Kind::Counts, "cnn: output channels of each convolution").or("32,64"),
    setting("model.hdims", "hdims", Kind::Counts, "cnn: features of each hidden linear layer, \"\" for none")
        .or("1024,128"),
    setting("model.ksize", "ksize", Kind::Count, "cnn: side of the square kernels").or("3"),
    setting("model.batch_norm", "batch_norm", Kind::Switch, "cnn: batch norm after each convolution").or("true"),
    setting("model.dropout", "dropout", Kind::Number, "Probability of dropout, 0 for none")
        .or("the network's own; cnn: 0.5"),
    setting(
        "model.shortcut",
        "shortcut",
        Kind::Choice(&["a", "b", "c"]),
        "resnet20 and its like: what carries a block's input past it, the paper's options",
    )
    .or("a"),
    setting("optimizer.name", "optimizer", Kind::Choice(&["adam", "adamw", "sgd", "lamb", "muon"]), "How gradients change weights; muon is for the weights between the first layer and the one that gives the classes, and adamw for the rest"),
    setting("optimizer.lr", "lr", Kind::Number, "Learning rate"),
    setting(
        "optimizer.momentum",
        "momentum",
        Kind::Number,
        "sgd: share of the last step that is added to the next; muon: share of the gradient's mean that is kept",
    )
    .or("0.9; muon: 0.95"),
    setting("optimizer.nesterov", "nesterov", Kind::Switch, "sgd, muon: Nesterov's form of momentum")
        .or("false; muon: true"),
    setting(
        "optimizer.muon_rate",
        "muon_rate",
        Kind::Choice(&["original", "match_rms_adamw"]),
        "muon: how long a step is; match_rms_adamw for learning rates as AdamW has them, original for its author's, about 0.02",
    ),
    setting("optimizer.adamw_lr", "adamw_lr", Kind::Number, "muon: factor of the learning rate of what adamw updates"),
    setting(
        "optimizer.weight_decay",
        "weight_decay",
        Kind::Number,
        "Share of each weight taken off, times the learning rate",
    )
    .or("0; adamw, lamb: 0.01; muon: 0.1"),
    setting("optimizer.norm_weight_decay", "norm_weight_decay", Kind::Number, "Weight decay of the parameters of norms")
        .or("weight_decay"),
    setting("optimizer.bias_weight_decay", "bias_weight_decay", Kind::Number, "Weight decay of biases, those of norms included")
        .or("weight_decay"),
    setting("optimizer.betas", "betas", Kind::Numbers, "adam, lamb, muon's adamw: decay of the means of gradient and squared gradient"),
    setting("optimizer.eps", "eps", Kind::Number, "adam, lamb, muon's adamw: added to the denominator"),
    setting(
        "schedule.name",
        "schedule",
        Kind::Choice(&["constant", "cosine", "one-cycle", "linear", "polynomial", "step", "multi-step", "plateau"]),
        "How the learning rate changes over the epochs",
    ),
    setting(
        "schedule.warmup_epochs",
        "warmup_epochs",
        Kind::Number,
        "Epochs in which the learning rate first rises in a straight line; the schedule begins after them",
    ),
    setting(
        "schedule.warmup_factor",
        "warmup_factor",
        Kind::Number,
        "Factor of the learning rate at the beginning of the warm-up",
    ),
    setting(
        "schedule.min_factor",
        "min_factor",
        Kind::Number,
        "Lowest factor of the learning rate in a schedule that lets it fall",
    ),
    setting("schedule.step_size", "step_size", Kind::Count, "step: epochs between two reductions"),
    setting("schedule.milestones", "milestones", Kind::Counts, "multi-step: the epochs after which the rate is reduced")
        .or("none"),
    setting("schedule.gamma", "gamma", Kind::Number, "step, multi-step, plateau: factor of a reduction"),
    setting("schedule.power", "power", Kind::Number, "polynomial: exponent, 1 for a straight line"),
    setting(
        "schedule.plateau_patience",
        "plateau_patience",
        Kind::Count,
        "plateau: epochs without a lower validation loss before a reduction",
    ),
    setting(
        "schedule.swa_epochs",
        "swa_epochs",
        Kind::Count,
        "Stochastic weight averaging: the last epochs, whose weights are averaged, evaluated and kept so; the schedule ends before \
         them; 0 for none",
    ),
    setting("schedule.swa_factor", "swa_factor", Kind::Number, "Factor of the learning rate in the epochs that are averaged"),
    setting("optimizer.backbone_lr", "backbone_lr", Kind::Number, "Factor of the learning rate below the layer that gives the classes"),
    setting("optimizer.bias_lr", "bias_lr", Kind::Number, "Factor of the learning rate of biases, those of norms included"),
    setting("optimizer.clip_grad_norm", "clip_grad_norm", Kind::Number, "Gradients whose norm is larger are scaled to it")
        .or("none"),
    setting("label_smoothing", "label_smoothing", Kind::Number, "Share of each target that is spread over all classes"),
    setting(
        "class_weights",
        "class_weights",
        Kind::ClassWeights,
        "How much a mistake about each class costs: none for the same, balanced for more where a class has few training pictures \
         (their number / (classes × pictures of the class)), or a number for each class in their order, such as 1,2.5,1",
    )
    .or("none"),
    setting(
        "focal_gamma",
        "focal_gamma",
        Kind::Number,
        "Focal loss: the loss of a class with the probability p is multiplied by (1 - p)^γ, so that what is recognised well \
         counts less; 2 is usual, 0 is cross-entropy",
    ),
    setting(
        "augment",
        "augment",
        Kind::Augmentation,
        "How training pictures are changed: none, cifar, imagenet, alexnet, imagenet_v2, light, or a list of torchvision's \
         transforms in TOML; a list whose first change of size is random_resized_crop or resize gets pictures at their own size, \
         others at the network's",
    )
    .or("none"),
    setting("mixing.mixup_alpha", "mixup_alpha", Kind::Number, "Mixup of a batch's pictures: parameter of the Beta distribution, 0 for none"),
    setting("mixing.cutmix_alpha", "cutmix_alpha", Kind::Number, "CutMix of a batch's pictures: parameter of the Beta distribution, 0 for none"),
    setting("mixing.p", "mixing_p", Kind::Number, "Probability that a batch is mixed"),
    setting(
        "ema",
        "ema",
        Kind::Number,
        "Decay by step of an exponential moving average of the weights, which is evaluated and kept in their place, such as 0.999",
    )
    .or("none"),
    setting(
        "train_eval",
        "train_eval",
        Kind::Count,
        "Training pictures that are measured after each epoch as the validation pictures are, 0 for none",
    )
    .or("a fifth of them, at most 2000")
    .changeable(),
    setting(
        "precise_bn",
        "precise_bn",
        Kind::Count,
        "Batches from which the statistics of batch norm are taken anew before each evaluation; 0 for the running ones",
    )
    .or("50 where the running ones lag: where they are more than 0.05 nats from those of 8 batches, in any layer")
    .changeable(),
    setting("engine.threads", "threads", Kind::Count, "Threads, 0 for one per core; results do not depend on it")
        .changeable(),
    setting(
        "engine.conv",
        "conv",
        Kind::Choice(&["auto", "direct", "winograd"]),
        "How 3×3 convolutions are computed: auto takes the faster of direct and winograd for each layer, direct rounds least",
    )
    .changeable(),
    setting(
        "engine.precision",
        "precision",
        Kind::Choice(&["f32", "bf16"]),
        "What products are computed with: f32, or bf16, which is faster on a CPU with AVX512-BF16 and less precise",
    )
    .changeable(),
    setting(
        "engine.bucket_cap_mb",
        "bucket_cap_mb",
        Kind::Count,
        "MiB of gradients that processes exchange at a time while backward goes on, 0 to exchange all of them after it; results do not \
         depend on it",
    )
    .changeable(),
    setting(
        "output.tensorboard",
        "tensorboard",
        Kind::Switch,
        "Write TensorBoard's event files into the run's folder, too: tensorboard --logdir runs",
    )
    .changeable(),
    setting(
        "output.checkpoint_every",
        "checkpoint_every",
        Kind::Count,
        "Steps after which there is a checkpoint, beside those after each epoch",
    )
    .or("every ten minutes")
    .changeable(),
];

/// The setting of that path or short name.
///
/// # Errors
/// There is none; the message has a suggestion when a name is near.
pub(super) fn find(key: &str) -> Result<&'static Setting, String> {
    let key = key.replace('-', "_");
    SETTINGS.iter().find(|setting| setting.path == key || setting.name == key).ok_or_else(|| {
        let hint = hint(&key, SETTINGS.iter().flat_map(|setting| [setting.name, setting.path]));
        format!("there is no setting '{key}'{hint}")
    })
}

/// A layer of settings over the defaults: those that are set, each of its kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings(Table);

impl Settings {
    /// Reads a layer from a TOML file, in tables as a run's `config.toml` has them or with short names alone.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read; [`Error::File`] with the line and the key when it is not TOML, or a key
    /// is unknown or its value of the wrong kind.
    pub fn read(path: &Path) -> Result<Settings> {
        let text = fs::read_to_string(path).map_err(Error::io("reading", path))?;
        Settings::from_toml(&text).map_err(|problem| Error::file(path, problem))
    }

    /// The same from a text.
    ///
    /// # Errors
    /// As [`Settings::read`], without the file.
    pub fn from_toml(text: &str) -> Result<Settings, String> {
        let unreadable = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        let values: Table = text.parse().map_err(unreadable)?;
        let places = DeTable::parse(text).map_err(unreadable)?;
        let mut layer = Settings::default();
        layer.take(text, "", values, places.get_ref())?;
        Ok(layer)
    }

    /// Takes the values of a table called `prefix`, whose keys lie at `places`.
    fn take(&mut self, text: &str, prefix: &str, values: Table, places: &DeTable<'_>) -> Result<(), String> {
        for (key, value) in values {
            let place = places.iter().find(|(place, _)| *place.get_ref() == key);
            let start = place.map_or(0, |(place, _)| place.span().start);
            let at = |problem: String| {
                let line = 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
                format!("line {line}: {problem}")
            };
            let path = format!("{prefix}{key}");
            let inner = place.map(|(_, inner)| Spanned::get_ref(inner)).and_then(DeValue::as_table);
            match (value, inner) {
                (Value::Table(table), Some(inner)) if prefix.is_empty() && is_table(&key) => {
                    self.take(text, &format!("{key}."), table, inner)?;
                }
                (value, _) => {
                    let setting = find(&path).map_err(at)?;
                    let value = setting.kind.check(value).map_err(|problem| at(format!("{path}: {problem}")))?;
                    self.insert(setting, value);
                }
            }
        }
        Ok(())
    }

    /// Sets one, by its path or its short name, from a text.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown name or a value of another kind.
    pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
        let setting = find(key).map_err(Error::invalid)?;
        let value = setting.kind.parse(text).map_err(|problem| Error::invalid(format!("{key}: {problem}")))?;
        self.insert(setting, value);
        Ok(())
    }

    pub(super) fn insert(&mut self, setting: &Setting, value: Value) {
        put(&mut self.0, setting.path, value);
    }

    /// Whether this one is set.
    pub fn has(&self, setting: &Setting) -> bool {
        get(&self.0, setting.path).is_some()
    }

    /// What a setting is set to, in words.
    pub fn text(&self, setting: &Setting) -> Option<String> {
        let value = get(&self.0, setting.path)?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// Lays another layer over this one. A network that the other names or describes takes the place of this one's.
    #[must_use]
    pub fn under(mut self, above: &Settings) -> Settings {
        for (chosen, other) in [("model.net", "name"), ("model.name", "net")] {
            if let (Some(_), Some(Value::Table(model))) = (get(&above.0, chosen), self.0.get_mut("model")) {
                model.remove(other);
            }
        }
        for setting in SETTINGS {
            if let Some(value) = get(&above.0, setting.path) {
                self.insert(setting, value.clone());
            }
        }
        self
    }

    /// The nested table.
    pub(super) fn into_table(self) -> Table {
        self.0
    }
}

/// Whether settings lie in a table of that name.
fn is_table(name: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.path.split_once('.').is_some_and(|(table, _)| table == name))
}

fn get<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        Some((name, rest)) => get(table.get(name)?.as_table()?, rest),
        None => table.get(path),
    }
}

fn put(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
        None => {
            table.insert(path.into(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        for setting in SETTINGS {
            assert!(setting.name == "net" || !setting.default().is_empty(), "{}", setting.name);
        }
        let names: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        let paths: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.path).collect();
        assert_eq!((names.len(), paths.len()), (SETTINGS.len(), SETTINGS.len()));
    }

    #[test]
    fn tables_and_short_names_say_the_same() {
        let nested = "epochs = 3\n[data]\nsource = 'mnist'\n[optimizer]\nname = 'sgd'\nlr = 1\n[model]\ncdims = [8]\n";
        let flat = "epochs = 3\ndata = 'mnist'\noptimizer = 'sgd'\nlr = 1.0\ncdims = [8]\n";
        assert_eq!(Settings::from_toml(nested).unwrap(), Settings::from_toml(flat).unwrap());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, expected) in [
            ("epochs = 3\nbach_size = 4", "line 2: there is no setting 'bach_size': did you mean 'batch_size'?"),
            (
                "[optimizer]\nname = 'sgd'\nrl = 0.1",
                "line 3: there is no setting 'optimizer.rl': did you mean 'optimizer.lr'?",
            ),
            ("epochs = \"many\"", "line 1: epochs: expected a whole number from 0"),
            ("\n[data]\ninput = [3, 4]", "line 3: data.input: expected a size such as 3x224x224 or 28x28, got a list"),
            (
                "optimizer = \"adagrad\"",
                "line 1: optimizer: expected one of adam, adamw, sgd, lamb, muon, got 'adagrad'",
            ),
            (
                "schedule.name = 'one_cycle'",
                "schedule.name: expected one of constant, cosine, one-cycle, linear, polynomial, step, multi-step, plateau, got \
                 'one_cycle': did you mean 'one-cycle'?",
            ),
            ("cdims = [1, -2]", "line 1: cdims: expected a whole number from 0"),
            ("epochs = ", "TOML parse error at line 1"),
        ] {
            let problem = Settings::from_toml(text).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
