//! What a training is planned with: the update, which parameters it changes and how far, and which norms are frozen.

use super::muon;
use super::parameters::Slot;
use super::{Engine, Loss, Targets, Training};
use crate::net::Net;
use crate::{Error, Result, StateDict};
use std::collections::BTreeSet;
use std::ops::Range;

/// How gradients change weights; PyTorch's formulas. The learning rate is given with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Update {
    /// Stochastic gradient descent (`torch.optim.SGD`).
    Sgd {
        /// Share of the last update that is kept.
        momentum: f32,
        /// Whether the gradient is taken after the momentum.
        nesterov: bool,
        /// Added to the gradient, times the weight.
        weight_decay: f32,
    },
    /// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).
    Adam {
        /// Decay of the first and of the second moment.
        betas: [f32; 2],
        /// Added to the root of the second moment.
        eps: f32,
        /// Added to the gradient times the weight, or taken from the weight if `decoupled`.
        weight_decay: f32,
        /// AdamW.
        decoupled: bool,
    },
    /// LAMB (You et al. 2020), with each parameter as a layer of its own; where its weight decay is 0, a parameter's step is
    /// AdamW's.
    Lamb {
        /// Decay of the first and of the second moment.
        betas: [f32; 2],
        /// Added to the root of the second moment.
        eps: f32,
        /// Taken from the weight, as a part of the direction whose length is adapted.
        weight_decay: f32,
    },
    /// Muon (Jordan 2024) for the weights of convolutions and linear layers between the first ones and those that give the
    /// classes, AdamW for everything else, depthwise convolutions included (`torch.optim.Muon`, with kernels as matrices of
    /// `[outputs, inputs · height · width]`).
    Muon {
        /// How long a step is.
        rate: MuonRate,
        /// Share of the running mean of the gradient that is kept.
        momentum: f32,
        /// Whether the gradient is taken after the momentum.
        nesterov: bool,
        /// Taken from the weight, of all parameters.
        weight_decay: f32,
        /// AdamW: factor of the learning rate.
        adamw_lr: f32,
        /// AdamW: decay of the first and of the second moment.
        betas: [f32; 2],
        /// AdamW: added to the root of the second moment.
        eps: f32,
    },
}

/// What Muon multiplies the learning rate by for a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum MuonRate {
    /// `√max(1, rows / columns)`, as the author has it; rates are about 0.02.
    #[serde(rename = "original")]
    Original,
    /// `0.2 · √max(rows, columns)`, with which a step is about as long as one of AdamW's, so that its rates do (Liu et al. 2025,
    /// "Muon is scalable for LLM training", section 2.2).
    #[default]
    #[serde(rename = "match_rms_adamw")]
    MatchRmsAdamW,
}

impl Update {
    /// Whether each parameter's step looks at all of it.
    fn is_by_parameter(self) -> bool {
        match self {
            Update::Lamb { .. } => true,
            Update::Sgd { .. } | Update::Adam { .. } | Update::Muon { .. } => false,
        }
    }

    /// Adam as PyTorch has it, without weight decay.
    pub const ADAM: Update = Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false };
}

/// How a parameter is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Factor of the learning rate.
    pub lr: f32,
    /// Factor of the update's weight decay: 0 for none.
    pub weight_decay: f32,
    /// Whether it is trained at all. A parameter that is not has no gradient, no update and no weight decay.
    pub trained: bool,
    /// Updates that were made before it was trained, which the corrections of Adam and LAMB do not count.
    pub first_step: u64,
}

impl ParameterGroup {
    /// Parameters that stay as they are.
    pub const FROZEN: ParameterGroup = ParameterGroup { trained: false, ..ParameterGroup::PLAIN };
    /// Parameters that weight decay does not shrink, as is usual for biases and for the factors of norms.
    pub const NO_DECAY: ParameterGroup = ParameterGroup { weight_decay: 0.0, ..ParameterGroup::PLAIN };

    const PLAIN: ParameterGroup = ParameterGroup { lr: 1.0, weight_decay: 1.0, trained: true, first_step: 0 };

    fn check(self, name: &str) -> Result<()> {
        let factor = |factor: f32| factor.is_finite() && factor >= 0.0;
        match factor(self.lr) && factor(self.weight_decay) {
            true => Ok(()),
            false => {
                let found = format!("lr {} and weight_decay {} for '{name}'", self.lr, self.weight_decay);
                Err(Error::setting("parameter group", "finite factors from 0 on", found))
            }
        }
    }
}

impl Default for ParameterGroup {
    /// Trained with the learning rate and the weight decay as they are.
    fn default() -> ParameterGroup {
        ParameterGroup::PLAIN
    }
}

/// A part of the flat buffers that is updated alike.
#[derive(Clone, Debug)]
pub(super) struct UpdateRange {
    pub(super) range: Range<usize>,
    pub(super) group: ParameterGroup,
    /// The number of its parameter, where it is one that Muon updates.
    pub(super) matrix: Option<usize>,
}

/// What a training is planned for: see [`Training::builder`].
pub struct TrainingBuilder<'a> {
    pub(super) net: &'a Net,
    pub(super) weights: &'a StateDict,
    pub(super) batch: usize,
    pub(super) update: Update,
    pub(super) seed: u64,
    pub(super) synchronized: bool,
    loss: Loss,
    frozen_norms: Box<dyn Fn(&str) -> bool + 'a>,
    groups: Box<dyn Fn(&str) -> ParameterGroup + 'a>,
}

impl<'a> TrainingBuilder<'a> {
    pub(super) fn new(net: &'a Net, weights: &'a StateDict) -> TrainingBuilder<'a> {
        TrainingBuilder {
            net,
            weights,
            batch: 1,
            update: Update::ADAM,
            seed: 0,
            synchronized: false,
            loss: Loss::default(),
            frozen_norms: Box::new(|_| false),
            groups: Box::new(|_| ParameterGroup::default()),
        }
    }

    /// Most pictures of a step; 1 unless this is called.
    #[must_use]
    pub fn batch(self, pictures: usize) -> Self {
        TrainingBuilder { batch: pictures, ..self }
    }

    /// How gradients change weights; [`Update::ADAM`] unless this is called.
    #[must_use]
    pub fn update(self, update: Update) -> Self {
        TrainingBuilder { update, ..self }
    }

    /// Decides what dropout drops; 0 unless this is called.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        TrainingBuilder { seed, ..self }
    }

    /// Whether batch norms can take the statistics of all shards of a batch.
    #[must_use]
    pub(crate) fn synchronized(self, synchronized: bool) -> Self {
        TrainingBuilder { synchronized, ..self }
    }

    /// What a wrong answer costs: smoothing of labels, weights of classes, focal loss; plain cross-entropy unless this is called.
    ///
    /// ```
    /// use convnet::exec::Loss;
    /// use convnet::prelude::*;
    /// # fn main() -> convnet::Result<()> {
    /// let mut net = Net::new("small", Shape::Vector(4))?;
    /// net.then("head", Linear::new(2))?;
    /// let weights = weights::init(&net, 0);
    /// // A mistake about the second class costs three times as much.
    /// let loss = Loss { class_weights: vec![1.0, 3.0], ..Loss::default() };
    /// let mut training = Training::builder(&net, &weights).batch(2).loss(loss).build(&Engine::new(1)?)?;
    /// training.step(&[0.5; 8], &[0, 1], 0.1)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn loss(self, loss: Loss) -> Self {
        TrainingBuilder { loss, ..self }
    }

    /// The batch norms, by the names of their nodes, that normalise with their running statistics and leave them as they are.
    /// All others take the batch's statistics, whether their factors are trained or not.
    #[must_use]
    pub fn frozen_norms(self, frozen: impl Fn(&str) -> bool + 'a) -> Self {
        TrainingBuilder { frozen_norms: Box::new(frozen), ..self }
    }

    /// How each parameter is trained, by its name. It is asked once, when the training is planned; what no trained parameter
    /// needs of backward is never computed.
    ///
    /// ```
    /// use convnet::prelude::*;
    /// # fn main() -> convnet::Result<()> {
    /// let net = zoo::by_name("resnet20", &zoo::ZooOptions::default())?;
    /// let weights = weights::init(&net, 0);
    /// // A new head on a frozen backbone, whose norms keep their statistics; no weight decay for its bias.
    /// let head = |name: &str| match name {
    ///     "linear.weight" => ParameterGroup::default(),
    ///     "linear.bias" => ParameterGroup::NO_DECAY,
    ///     _ => ParameterGroup::FROZEN,
    /// };
    /// let builder = Training::builder(&net, &weights).parameters(head).frozen_norms(|_| true);
    /// let mut training = builder.build(&Engine::new(1)?)?;
    /// training.step(&vec![0.5; 3 * 32 * 32], &[7], 0.1)?;
    /// assert_eq!(training.weights()["conv1.weight"], weights["conv1.weight"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn parameters(self, group: impl Fn(&str) -> ParameterGroup + 'a) -> Self {
        TrainingBuilder { groups: Box::new(group), ..self }
    }

    /// Plans the training.
    ///
    /// # Errors
    /// [`Error::Setting`] when the batch is 0, a parameter group has a factor below 0 or the loss a number that makes no sense, [`Error::Layer`] when the net's output is
    /// not a vector, [`Error::Missing`] or [`Error::Shape`] when a parameter is missing or has another shape,
    /// [`Error::Invalid`] when no parameter is trained.
    pub fn build(self, engine: &Engine) -> Result<Training> {
        Training::plan(self, engine)
    }

    /// For each node of the net whether it is a batch norm that is frozen.
    pub(super) fn frozen(&self) -> Vec<bool> {
        let frozen = |node: &crate::net::Node| node.op.has_running_statistics() && (self.frozen_norms)(&node.name);
        self.net.nodes().iter().map(frozen).collect()
    }

    /// The loss, if it makes sense for so many classes.
    pub(super) fn checked_loss(&self, classes: usize) -> Result<Loss> {
        let Loss { label_smoothing, class_weights, focal_gamma } = &self.loss;
        let from_0 = |number: &f32| number.is_finite() && *number >= 0.0;
        let (len, some) = (class_weights.len(), class_weights.iter().any(|&weight| weight > 0.0));
        if len > 0 && len != classes {
            return Err(Error::Length { of: "weights of classes".into(), expected: classes, found: len });
        }
        let problem = match () {
            () if !(0.0..1.0).contains(label_smoothing) => {
                ("label_smoothing", "a number from 0 to below 1", label_smoothing.to_string())
            }
            () if len > 0 && !(some && class_weights.iter().all(from_0)) => {
                ("class_weights", "finite numbers from 0 on, some of them above it", format!("{class_weights:?}"))
            }
            () if !from_0(focal_gamma) => ("focal_gamma", "a finite number from 0 on", focal_gamma.to_string()),
            () => return Ok(self.loss.clone()),
        };
        let (setting, expected, found) = problem;
        Err(Error::setting(setting, expected, found))
    }

    pub(super) fn trains(&self, parameter: &str) -> bool {
        (self.groups)(parameter).trained
    }

    /// The ranges of the flat buffer of parameters that are trained alike, in order; each parameter's own where the update looks
    /// at one at a time.
    pub(super) fn ranges(&self, slots: &[Slot]) -> Result<Vec<UpdateRange>> {
        let one_by_one = self.update.is_by_parameter();
        let matrices = match self.update {
            Update::Muon { .. } => muon::weights(self.net),
            Update::Sgd { .. } | Update::Adam { .. } | Update::Lamb { .. } => BTreeSet::new(),
        };
        let mut ranges: Vec<UpdateRange> = Vec::new();
        for (index, slot) in slots.iter().enumerate() {
            let group = (self.groups)(&slot.name);
            group.check(&slot.name)?;
            let matrix = matrices.contains(&slot.name).then_some(index);
            let alike = |last: &UpdateRange| {
                !one_by_one
                    && [last.matrix, matrix] == [None; 2]
                    && last.group == group
                    && last.range.end == slot.range.start
            };
            match ranges.last_mut() {
                Some(last) if alike(last) => last.range.end = slot.range.end,
                _ if group.trained => ranges.push(UpdateRange { range: slot.range.clone(), group, matrix }),
                _ => {}
            }
        }
        match ranges.is_empty() {
            true => Err(Error::invalid(format!("net '{}': expected a parameter that is trained", self.net.name()))),
            false => Ok(ranges),
        }
    }
}

impl std::fmt::Debug for TrainingBuilder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("TrainingBuilder");
        debug.field("net", &self.net.name()).field("batch", &self.batch).field("update", &self.update);
        debug.field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// How far the probabilities of a picture may be from a sum of 1.
const SUM_TOLERANCE: f32 = 1e-3;

/// The number of pictures that targets of so many classes are for.
pub(super) fn count(targets: Targets<'_>, classes: usize) -> Result<usize> {
    match targets {
        Targets::Labels(labels) => match labels.iter().find(|&&label| label as usize >= classes) {
            Some(&label) => Err(Error::Label { label: label as usize, classes }),
            None => Ok(labels.len()),
        },
        Targets::Probabilities(all) => {
            if !all.len().is_multiple_of(classes) {
                let expected = all.len().next_multiple_of(classes);
                let of = format!("probabilities of pictures with {classes} classes each");
                return Err(Error::Length { of, expected, found: all.len() });
            }
            let good = |row: &[f32]| {
                let one = 1.0 - SUM_TOLERANCE..1.0 + SUM_TOLERANCE;
                row.iter().all(|&p| p >= 0.0) && one.contains(&row.iter().sum())
            };
            match all.chunks_exact(classes).position(|row| !good(row)) {
                Some(row) => {
                    let found = format!("others for picture {row}");
                    Err(Error::setting("targets", "probabilities from 0 on whose sum is 1", found))
                }
                None => Ok(all.len() / classes),
            }
        }
    }
}
