//! How a net is trained, whatever the net and the data: the part of a configuration that a program gives to a
//! [`Trainer`](crate::train::Trainer).

use std::fmt::{self, Debug};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data::Order;
use crate::data::augment::{Augmentation, Mixing};
use crate::exec::{MuonRate, Update};
use crate::train::{Progress, Schedule, Span};
use crate::{Error, Result};

/// How a net is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recipe {
    /// Passes over the training pictures.
    pub epochs: usize,
    /// Steps after which training stops, wherever in an epoch it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Training stops after so many epochs without a better accuracy on the validation pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Pictures per step.
    pub batch_size: usize,
    /// Virtual shards that a batch is cut into, each with its own statistics of batch norm (but see `sync_batch_norm`); `None` is 1. The result depends on it, and
    /// not on how many processes compute them: see [`crate::distributed`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// Whether batch norms take the statistics of all shards together (PyTorch's `SyncBatchNorm`), so that shards find what a batch
    /// that is not cut finds, but for rounding, what is drawn for each shard, and class weights, which each shard normalises.
    pub sync_batch_norm: bool,
    /// The batch size that the learning rate is for: for another one it is multiplied by `batch_size / base_batch_size` (the linear
    /// scaling rule, Goyal et al. 2017, section 2.1), and a warm-up begins at the rate as it is (section 2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_batch_size: Option<usize>,
    /// Layers that are not trained, by name or its beginning; `backbone` is all but the layer that gives the classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Decides initial weights, order of the pictures, the split and dropout.
    pub seed: u64,
    /// In which order an epoch has the training pictures.
    pub shuffle: Shuffle,
    /// How gradients change weights.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    pub schedule: ScheduleConfig,
    /// Share of each target that is spread over all classes (Szegedy et al. 2016, section 7).
    pub label_smoothing: f64,
    /// How much a mistake about each class costs. A batch's loss is divided by the sum of the weights of its labels, as PyTorch's
    /// `CrossEntropyLoss(weight=…)` does, and in recipes that mix pictures by the number of its pictures, as PyTorch does with
    /// shares of classes.
    #[serde(skip_serializing_if = "ClassWeights::is_none")]
    pub class_weights: ClassWeights,
    /// γ of the focal loss: the loss of a class that is given the probability p is multiplied by (1 - p)^γ (Lin et al. 2017); 0
    /// leaves cross-entropy.
    pub focal_gamma: f64,
    /// How training pictures are changed, at their own size or at the network's ([`Augmentation::takes_any_size`]).
    pub augment: Augmentation,
    /// How training pictures are mixed.
    pub mixing: Mixing,
    /// Decay by step of an exponential moving average of the weights, running statistics included, which is evaluated and kept in
    /// their place. See [`Recipe::ema_decay`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Training pictures that are measured after each epoch as the validation pictures are, a sample by the seed; 0 for none.
    /// `None` is a fifth of them, at most 2,000. See [`Recipe::train_sample`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_eval: Option<usize>,
    /// Batches from which the statistics of batch norm are taken anew before each evaluation; 0 leaves the running ones. `None`
    /// takes them from [`Recipe::PRECISE`] batches where the running ones lag behind the weights, and those of averaged weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precise_bn: Option<usize>,
    /// Epochs after which one more stage of the net is trained, from the layer that gives the classes downwards (Howard and Ruder
    /// 2018, "gradual unfreezing"); all of them at once where it is not set. A stage ends where maps get smaller; see
    /// [`Recipe::freeze`] for layers that are never trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfreeze_every: Option<usize>,
}

/// In which order an epoch has the training pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Shuffle {
    /// Any of their orders; written `all`.
    #[default]
    All,
    /// Each picture is drawn from so many that lie side by side, as in [`Order::Windowed`]; written `window=N`. For pictures that are
    /// mixed already, such as those of shards, on disks that read slowly out of order.
    Window(usize),
}

impl Shuffle {
    pub(super) const EXPECTED: &str = "all, or window=N with a number of pictures from 1";

    /// The order of an epoch.
    pub fn order(self, seed: u64, epoch: u64) -> Order {
        match self {
            Shuffle::All => Order::Shuffled { seed, epoch },
            Shuffle::Window(window) => Order::Windowed { seed, epoch, window },
        }
    }
}

impl FromStr for Shuffle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Shuffle> {
        let window = || text.strip_prefix("window=")?.parse().ok().filter(|&window| window > 0).map(Shuffle::Window);
        let shuffle = if text == "all" { Some(Shuffle::All) } else { window() };
        shuffle.ok_or_else(|| Error::setting("shuffle", Shuffle::EXPECTED, text))
    }
}

impl fmt::Display for Shuffle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shuffle::All => f.write_str("all"),
            Shuffle::Window(window) => write!(f, "window={window}"),
        }
    }
}

impl TryFrom<String> for Shuffle {
    type Error = Error;

    fn try_from(text: String) -> Result<Shuffle> {
        text.parse()
    }
}

impl From<Shuffle> for String {
    fn from(shuffle: Shuffle) -> String {
        shuffle.to_string()
    }
}

/// How much a mistake about each class costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// The same.
    #[default]
    None,
    /// More for a class of few training pictures: their number over that of the classes and of the class's own pictures, as
    /// scikit-learn's `class_weight="balanced"`.
    Balanced,
    /// These factors, from 0 on, in the order of the classes.
    #[serde(untagged)]
    Given(Vec<f64>),
}

impl ClassWeights {
    fn is_none(&self) -> bool {
        *self == ClassWeights::None
    }

    fn check(&self) -> Result<()> {
        let ClassWeights::Given(weights) = self else { return Ok(()) };
        let fine = weights.iter().all(|&weight| weight.is_finite() && weight >= 0.0);
        let some = weights.iter().any(|&weight| weight > 0.0);
        expect(fine && some, "class_weights", "numbers from 0 on, some of them above it", weights)
    }
}

/// An optimizer and its settings; those of others are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimizerConfig {
    /// Which one.
    pub name: Optimizer,
    /// Learning rate.
    pub lr: f64,
    /// SGD: share of the last step that is added to the next. Muon: share of the gradient's running mean that is kept. `None` is
    /// 0.9 for SGD and 0.95 for Muon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// SGD and Muon: Nesterov's form of momentum. `None` is that for Muon and not for SGD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Muon: what a matrix's learning rate is multiplied by.
    pub muon_rate: MuonRate,
    /// Muon: factor of the learning rate of what AdamW updates.
    pub adamw_lr: f64,
    /// Share of each weight taken off, times the learning rate. `None` is 0.01 for AdamW and LAMB, 0.1 for Muon and 0 for the
    /// others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// The same of the parameters of norms, and `None` for no other than theirs; `bias_weight_decay` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_weight_decay: Option<f64>,
    /// The same of all biases, those of norms included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias_weight_decay: Option<f64>,
    /// Adam, LAMB and Muon's AdamW: decay of the running means of gradient and squared gradient.
    pub betas: [f64; 2],
    /// Adam, LAMB and Muon's AdamW: added to the denominator.
    pub eps: f64,
    /// Factor of the learning rate below the layer that gives the classes.
    pub backbone_lr: f64,
    /// Factor of the learning rate of all biases, those of norms included.
    pub bias_lr: f64,
    /// Gradients whose norm over all parameters is larger are scaled to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
}

/// Which optimizer.
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
    /// You et al. 2020: AdamW whose steps are as long as each parameter is, for large batches.
    Lamb,
    /// Jordan 2024: steps along directions whose singular values are about 1, for the weights between the first layer and the
    /// head, and AdamW for everything else.
    Muon,
}

/// A learning-rate schedule and its settings; those of others are ignored. Each factor is one of the learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleConfig {
    /// Which one.
    pub name: Schedule,
    /// Epochs, whole or not, before the schedule begins, in which the rate rises in a straight line.
    pub warmup_epochs: f64,
    /// Factor at the beginning of the warm-up.
    pub warmup_factor: f64,
    /// Cosine, linear, polynomial: factor at the end. Step, multi-step, plateau: the lowest factor.
    pub min_factor: f64,
    /// Step: epochs between two reductions.
    pub step_size: usize,
    /// Multi-step: the epochs after which the rate is reduced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<usize>,
    /// Step, multi-step, plateau: factor of a reduction.
    pub gamma: f64,
    /// Polynomial: exponent.
    pub power: f64,
    /// Plateau: epochs without a lower validation loss that are waited for.
    pub plateau_patience: usize,
    /// The last epochs, after each of which the weights join an equal average, which is evaluated and kept (stochastic weight
    /// averaging, Izmailov et al. 2018); 0 for none. The schedule spans the epochs before, if there are any.
    pub swa_epochs: usize,
    /// Factor of the learning rate in these epochs.
    pub swa_factor: f64,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            epochs: 10,
            max_steps: None,
            patience: None,
            batch_size: 256,
            shards: None,
            sync_batch_norm: false,
            base_batch_size: None,
            freeze: Vec::new(),
            seed: 0,
            shuffle: Shuffle::All,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            label_smoothing: 0.0,
            class_weights: ClassWeights::None,
            focal_gamma: 0.0,
            augment: Augmentation::none(),
            mixing: Mixing::default(),
            ema: None,
            train_eval: None,
            precise_bn: None,
            unfreeze_every: None,
        }
    }
}

impl Default for ScheduleConfig {
    /// A constant rate; the other values are PyTorch's, or those of torchvision's `references/classification`.
    fn default() -> ScheduleConfig {
        ScheduleConfig {
            name: Schedule::default(),
            warmup_epochs: 0.0,
            warmup_factor: 0.01,
            min_factor: 0.0,
            step_size: 30,
            milestones: Vec::new(),
            gamma: 0.1,
            power: 0.9,
            plateau_patience: 10,
            swa_epochs: 0,
            swa_factor: 0.5,
        }
    }
}

impl Default for OptimizerConfig {
    fn default() -> OptimizerConfig {
        OptimizerConfig {
            name: Optimizer::default(),
            lr: 1e-3,
            momentum: None,
            nesterov: None,
            muon_rate: MuonRate::default(),
            adamw_lr: 1.0,
            weight_decay: None,
            norm_weight_decay: None,
            bias_weight_decay: None,
            betas: [0.9, 0.999],
            eps: 1e-8,
            backbone_lr: 1.0,
            bias_lr: 1.0,
            clip_grad_norm: None,
        }
    }
}

impl OptimizerConfig {
    /// The weight decay that is set, or this optimizer's own.
    pub fn weight_decay(&self) -> f64 {
        self.weight_decay.unwrap_or(match self.name {
            Optimizer::AdamW | Optimizer::Lamb => 0.01,
            Optimizer::Muon => 0.1,
            Optimizer::Adam | Optimizer::Sgd => 0.0,
        })
    }

    /// The momentum that is set, or this optimizer's own.
    pub fn momentum(&self) -> f64 {
        self.momentum.unwrap_or(if self.name == Optimizer::Muon { 0.95 } else { 0.9 })
    }

    /// Whether momentum has Nesterov's form.
    pub fn nesterov(&self) -> bool {
        self.nesterov.unwrap_or(self.name == Optimizer::Muon)
    }

    /// The formula.
    pub fn update(&self) -> Update {
        let (weight_decay, momentum, nesterov) = (self.weight_decay() as f32, self.momentum() as f32, self.nesterov());
        let (betas, eps) = (self.betas.map(|beta| beta as f32), self.eps as f32);
        match self.name {
            Optimizer::Sgd => Update::Sgd { momentum, nesterov, weight_decay },
            Optimizer::Adam | Optimizer::AdamW => {
                Update::Adam { betas, eps, weight_decay, decoupled: self.name == Optimizer::AdamW }
            }
            Optimizer::Lamb => Update::Lamb { betas, eps, weight_decay },
            Optimizer::Muon => {
                let (rate, adamw_lr) = (self.muon_rate, self.adamw_lr as f32);
                Update::Muon { rate, momentum, nesterov, weight_decay, adamw_lr, betas, eps }
            }
        }
    }

    fn check(&self) -> Result<()> {
        let below_1 = "a number from 0 to below 1";
        expect(is_positive(self.lr), "lr", "a number above 0", &self.lr)?;
        let momentum = self.momentum();
        expect(is_share(momentum), "momentum", below_1, &momentum)?;
        expect(!self.nesterov() || momentum > 0.0, "momentum", "more than 0 with nesterov", &momentum)?;
        expect(is_positive(self.adamw_lr), "adamw_lr", "a number above 0", &self.adamw_lr)?;
        expect(self.betas.into_iter().all(is_share), "betas", "two numbers from 0 to below 1", &self.betas)?;
        expect(is_positive(self.eps), "eps", "a number above 0", &self.eps)?;
        for (name, factor) in [("backbone_lr", self.backbone_lr), ("bias_lr", self.bias_lr)] {
            expect(factor.is_finite() && factor >= 0.0, name, "a number of at least 0", &factor)?;
        }
        let clip = self.clip_grad_norm.unwrap_or(1.0);
        expect(is_positive(clip), "clip_grad_norm", "a number above 0", &clip)?;
        let decay = self.weight_decay();
        expect(decay.is_finite() && decay >= 0.0, "weight_decay", "a number of at least 0", &decay)?;
        for (name, own) in
            [("norm_weight_decay", self.norm_weight_decay), ("bias_weight_decay", self.bias_weight_decay)]
        {
            let own = own.unwrap_or_default();
            expect(own.is_finite() && own >= 0.0, name, "a number of at least 0", &own)?;
            expect(own == 0.0 || decay > 0.0, name, "0 where weight_decay is 0", &own)?;
        }
        Ok(())
    }
}

impl ScheduleConfig {
    fn check(&self) -> Result<()> {
        let (least_0, share) = ("a number of at least 0", "a number from 0 to 1");
        let warmup = self.warmup_epochs;
        expect(warmup.is_finite() && warmup >= 0.0, "warmup_epochs", least_0, &warmup)?;
        for (name, factor) in [
            ("warmup_factor", self.warmup_factor),
            ("min_factor", self.min_factor),
            ("gamma", self.gamma),
            ("swa_factor", self.swa_factor),
        ] {
            expect((0.0..=1.0).contains(&factor), name, share, &factor)?;
        }
        expect(self.step_size > 0, "step_size", "at least 1 epoch", &self.step_size)?;
        expect(is_positive(self.power), "power", "a number above 0", &self.power)?;
        let milestones = &self.milestones;
        let named = !milestones.is_empty() || self.name != Schedule::MultiStep;
        expect(named, "milestones", "at least one epoch with schedule multi-step", milestones)?;
        expect(milestones.is_sorted_by(|a, b| a < b), "milestones", "epochs in ascending order", milestones)
    }
}

impl Recipe {
    /// Batches from which statistics of norms are taken anew where nothing else is said: their error is a hundredth of a channel's
    /// deviation with 10,000 numbers (Wu and Johnson 2021, section 3, take 1,000 to 10,000 pictures).
    pub const PRECISE: usize = 50;

    /// Largest sample of the training pictures where nothing is said, and the largest share of them. A picture costs about a third
    /// of what it costs to learn from it, so that measuring takes some 7 % of an epoch at most.
    const SAMPLE: usize = 2_000;
    const SAMPLED: usize = 5;

    /// The learning rate of the step that comes next, for a run on so many pictures.
    pub fn learning_rate(&self, progress: &Progress, images: usize) -> f64 {
        let span = Span { epochs: self.epochs, epoch_steps: images.div_ceil(self.batch_size) };
        let scale = self.base_batch_size.map_or(1.0, |base| self.batch_size as f64 / base as f64);
        let schedule = match self.base_batch_size {
            Some(_) if scale > 1.0 => &ScheduleConfig { warmup_factor: 1.0 / scale, ..self.schedule.clone() },
            _ => &self.schedule,
        };
        self.optimizer.lr * scale * schedule.factor(progress.step, span, progress.plateau.reductions)
    }

    /// How many virtual shards a batch has.
    pub fn shards(&self) -> usize {
        self.shards.unwrap_or(1)
    }

    /// How many of the training pictures are measured after each epoch.
    pub fn train_sample(&self, images: usize) -> usize {
        let customary = images.div_ceil(Recipe::SAMPLED).min(Recipe::SAMPLE);
        self.train_eval.unwrap_or(customary).min(images)
    }

    /// How much of the moving average is kept after update number `step`, counted from 1, where there is one: the least of `ema`
    /// and `(1 + step) / (10 + step)`, so that the first weights, which know nothing, do not stay in it for long (TensorFlow's
    /// `ExponentialMovingAverage` with `num_updates`).
    pub fn ema_decay(&self, step: u64) -> Option<f64> {
        self.ema.map(|decay| decay.min((1.0 + step as f64) / (10.0 + step as f64)))
    }

    /// Checks that each value makes sense by itself. Whether a net fits its data is the net's matter.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the setting.
    pub fn check(&self) -> Result<()> {
        expect(self.epochs > 0, "epochs", "at least 1", &self.epochs)?;
        expect(self.max_steps != Some(0), "max_steps", "at least 1", &0)?;
        expect(self.patience != Some(0), "patience", "at least 1 epoch", &0)?;
        expect(
            is_share(self.ema.unwrap_or_default()),
            "ema",
            "a number from 0 to below 1",
            &self.ema.unwrap_or_default(),
        )?;
        expect(self.batch_size > 0, "batch_size", "at least 1", &self.batch_size)?;
        let most = format!("from 1 to {}, the pictures of a batch", self.batch_size);
        expect((1..=self.batch_size).contains(&self.shards()), "shards", &most, &self.shards())?;
        expect(self.base_batch_size != Some(0), "base_batch_size", "at least 1", &0)?;
        expect(self.seed <= i64::MAX as u64, "seed", "at most 9223372036854775807", &self.seed)?;
        expect(is_share(self.label_smoothing), "label_smoothing", "a number from 0 to below 1", &self.label_smoothing)?;
        expect(self.unfreeze_every != Some(0), "unfreeze_every", "at least 1 epoch", &0)?;
        let averaged = self.schedule.swa_epochs;
        expect(averaged == 0 || self.ema.is_none(), "swa_epochs", "0 with ema, which averages as well", &averaged)?;
        let most = format!("at most {}, the number of epochs", self.epochs);
        expect(averaged <= self.epochs, "swa_epochs", &most, &averaged)?;
        self.class_weights.check()?;
        let gamma = self.focal_gamma;
        expect(gamma.is_finite() && gamma >= 0.0, "focal_gamma", "a number of at least 0", &gamma)?;
        self.mixing.check()?;
        self.schedule.check()?;
        self.optimizer.check()
    }
}

/// An error that names a setting, unless its value is fine.
pub(super) fn expect(fine: bool, name: &str, expected: &str, got: &dyn Debug) -> Result<()> {
    match fine {
        true => Ok(()),
        false => Err(Error::invalid(format!("{name}: expected {expected}, got {got:?}"))),
    }
}

/// From 0 to below 1.
pub(super) fn is_share(value: f64) -> bool {
    (0.0..1.0).contains(&value)
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}
