//! From a configuration to a run that can begin: which network, for pictures of which size, with which weights. What the
//! configuration leaves open is chosen by the data and written into it.

use std::fmt;

use super::config::DEFAULT_MODEL;
use super::{RunFolder, TrainConfig};
use crate::classifier::{Classifier, Description};
use crate::columns::counted;
use crate::data::{Dataset, Preprocessing, Sizing, Source, Splits, TargetSize, Unusable, ValSplit};
use crate::net::Net;
use crate::ops::{PictureSize, Shape};
use crate::weights::{self, Fitting, NetChoice, Note};
use crate::zoo;
use crate::{Error, Result};

/// The network for pictures of more than [`SMALL`] pixels where none is named, and the size that they are brought to.
const LARGE_MODEL: &str = "resnet18";
const LARGE_INPUT: [usize; 3] = [3, 128, 128];
/// Pictures whose shorter side has at most so many pixels stay as they are, where they are all of one size.
const SMALL: usize = 64;

/// A run that can begin.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration, in which network and size of the pictures are said.
    pub config: TrainConfig,
    /// The pictures.
    pub splits: Splits,
    /// The network and the weights that training begins with.
    pub classifier: Classifier,
    /// What is worth knowing of how they were made.
    pub notes: Vec<Prologue>,
}

/// What is worth knowing before a run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Prologue {
    /// How the file of weights was read.
    Weights(Note),
    /// These layers of the weights are not used: they are for other classes.
    Head(Vec<String>),
    /// So many training pictures are held out for validation.
    HeldOut(usize),
    /// Pictures are brought to this size, which nobody has asked for.
    Resized([usize; 3]),
}

impl fmt::Display for Prologue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Prologue::Weights(note) => note.fmt(f),
            Prologue::Head(names) => {
                write!(f, "initialised for the classes of the data: {}", names.join(", "))
            }
            Prologue::HeldOut(count) => {
                let pictures = counted(*count, "picture");
                write!(f, "held out for validation: {pictures} of the training part, the same share of each class")
            }
            Prologue::Resized([channels, height, width]) => {
                write!(
                    f,
                    "the pictures are of other sizes than the network takes: they are brought to {channels}x{height}x{width}"
                )
            }
        }
    }
}

/// The network before its classes are known.
enum Start {
    /// With weights from a file.
    Trained(Box<Classifier>),
    /// As a file describes it.
    Described(Box<Net>),
    /// A named one.
    Named(&'static zoo::Model),
    /// None is named.
    Open,
}

impl Prepared {
    /// Reads weights and pictures, and makes the network.
    ///
    /// # Errors
    /// Files that cannot be read, a network that does not fit the pictures or their classes, a single class.
    pub fn new(mut config: TrainConfig, source: &Source) -> Result<Prepared> {
        let mut notes = Vec::new();
        let start = Start::new(&config, &mut notes)?;
        let sizing = config.keeping(start.sizing(config.data.input));
        let unusable = if config.data.skip_bad { Unusable::LeftOut } else { Unusable::Refused };
        let all = source.load_with(sizing, unusable)?;
        let before = all.train.len();
        let splits = all.hold_out(config.val_split());
        let held_out = before - splits.train.len();
        if held_out > 0 {
            config.data.val_split = Some(config.val_split().share_of(splits.test.is_some()));
            notes.push(Prologue::HeldOut(held_out));
        }
        let splits = config.limiting(splits);
        let shape = splits.train.shape();
        if let Some(wanted) = config.data.input.filter(|&wanted| wanted != shape) {
            let [wanted, found] = [wanted, shape].map(Shape::Map);
            return Err(Error::invalid(format!("input: {wanted}, but the pictures are {found} and cannot be resized")));
        }
        if source.has_files() {
            let chosen = sizing.target.is_none() && sizing.otherwise == Some(splits.train.target());
            notes.extend(chosen.then_some(Prologue::Resized(shape)));
            config.data.input = Some(shape);
        }
        let classifier = start.classifier(&mut config, &splits.train, &mut notes)?;
        Ok(Prepared { config, splits, classifier, notes })
    }

    /// The pictures of an earlier run, sized and split as they were.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn splits_of_run(run: &RunFolder, config: &TrainConfig, source: &Source) -> Result<Splits> {
        let has_learned = run.has_weights();
        let sizing = match config.model.weights {
            // The preprocessing is that of the weights, which need not be there any more.
            Some(_) if has_learned => Sizing::to(Classifier::of_run(run)?.description.target()),
            _ => Start::new(config, &mut Vec::new())?.sizing(config.data.input),
        };
        let left_out = run.left_out()?;
        let unusable = match (&left_out, config.data.skip_bad) {
            (Some(known), _) => Unusable::Known(known),
            (None, true) => Unusable::LeftOut,
            (None, false) => Unusable::Refused,
        };
        Ok(config.limiting(source.load_with(config.keeping(sizing), unusable)?.hold_out(config.val_split())))
    }

    /// The classifier that a run begins with.
    pub(super) fn classifier(config: &TrainConfig, train: &Dataset) -> Result<Classifier> {
        let mut notes = Vec::new();
        Start::new(config, &mut notes)?.classifier(&mut config.clone(), train, &mut notes)
    }
}

impl TrainConfig {
    /// Which of the training pictures are held out.
    pub fn val_split(&self) -> ValSplit {
        ValSplit { share: self.data.val_split, seed: self.recipe.seed }
    }

    /// The same pictures, but no more to train on than are wanted.
    fn limiting(&self, splits: Splits) -> Splits {
        match self.data.limit {
            Some(most) => splits.limited(most, self.recipe.seed),
            None => splits,
        }
    }

    /// The sizes of pictures, and which of them are kept in memory decoded.
    fn keeping(&self, sizing: Sizing) -> Sizing {
        Sizing {
            whole: self.recipe.augment.takes_any_size(),
            memory: self.data.cache.saturating_mul(1 << 20),
            ..sizing
        }
    }
}

impl Start {
    fn new(config: &TrainConfig, notes: &mut Vec<Prologue>) -> Result<Start> {
        let model = &config.model;
        let input = config.data.input.map(PictureSize::from);
        // Settings that only the cnn has ask for it.
        let asks =
            model.cdims.is_some() || model.hdims.is_some() || model.ksize.is_some() || model.batch_norm.is_some();
        let default = (asks && model.net.is_none() && model.weights.is_none()).then_some(DEFAULT_MODEL);
        let named = model.name.as_deref().or(default).map(zoo::find).transpose()?;
        let described = model.net.as_deref().map(|path| Net::load_for(path, input)).transpose()?;
        let Some(path) = &model.weights else {
            return Ok(match (described, named) {
                (Some(net), _) => Start::Described(Box::new(net)),
                (None, Some(model)) => Start::Named(model),
                (None, None) => Start::Open,
            });
        };
        let choice = match (described, named) {
            (Some(net), _) => NetChoice::Net(net),
            (None, Some(named)) => NetChoice::Model(named, model.options(None, None)),
            (None, None) => NetChoice::Own,
        };
        let fitting = Fitting { key: model.key.clone(), ignored: Vec::new(), input };
        let (classifier, found) = Classifier::open(path, &choice, &fitting)?;
        notes.extend(found.into_iter().map(Prologue::Weights));
        Ok(Start::Trained(Box::new(classifier)))
    }

    /// What pictures are brought to, when this size is asked for or none is.
    fn sizing(&self, wanted: Option<[usize; 3]>) -> Sizing {
        let open = |input: [usize; 3]| Sizing {
            otherwise: Some(TargetSize::customary(input)),
            largest: SMALL.max(input[1].min(input[2])),
            ..Sizing::default()
        };
        match (self, wanted) {
            (Start::Trained(classifier), wanted) => {
                let description = &classifier.description;
                let wanted = wanted.unwrap_or(description.input());
                let preprocessing = description.preprocessing().clone().for_input(description.input(), wanted);
                Sizing::to(preprocessing.target(wanted))
            }
            (_, Some(wanted)) => Sizing::to(TargetSize::customary(wanted)),
            (Start::Described(net), None) => match net.input_shape() {
                Shape::Map(input) => Sizing::to(TargetSize::customary(input)),
                Shape::Vector(_) => Sizing::default(),
            },
            // The lecture's pictures are grey, but its network takes colour as well.
            (Start::Named(model), None) if model.name == DEFAULT_MODEL => open([3, model.input[1], model.input[2]]),
            (Start::Named(model), None) => open(model.input),
            (Start::Open, None) => Sizing { largest: SMALL, ..open(LARGE_INPUT) },
        }
    }

    /// The classifier for these pictures; what the configuration leaves open is written into it.
    fn classifier(self, config: &mut TrainConfig, train: &Dataset, notes: &mut Vec<Prologue>) -> Result<Classifier> {
        let (shape, classes, seed) = (train.shape(), train.classes(), config.recipe.seed);
        if let [only] = classes {
            let name = train.name();
            let problem = format!("data set '{name}': expected at least two classes to tell apart, got one ('{only}')");
            return Err(Error::invalid(problem));
        }
        let named = |model: &zoo::Model| {
            fresh(model.net(&config.model.options(Some(shape), Some(classes.len())))?, train, seed)
        };
        match self {
            Start::Trained(classifier) => {
                let (classifier, replaced) = classifier.with_input(shape)?.with_classes(classes.to_vec(), seed)?;
                notes.extend((!replaced.is_empty()).then_some(Prologue::Head(replaced)));
                Ok(classifier)
            }
            Start::Described(net) => {
                let path = config.model.net.as_deref().unwrap_or("net".as_ref());
                let net = described(*net, shape, classes.len()).map_err(|problem| Error::file(path, problem))?;
                fresh(net, train, seed)
            }
            Start::Named(model) => named(model),
            Start::Open => {
                let name = if shape[1].min(shape[2]) > SMALL { LARGE_MODEL } else { DEFAULT_MODEL };
                let classifier = named(zoo::find(name)?)?;
                config.model.name = Some(name.into());
                Ok(classifier)
            }
        }
    }
}

/// A net from a file, which must be for these pictures and classes.
fn described(net: Net, input: [usize; 3], classes: usize) -> Result<Net, String> {
    let input = Shape::Map(input);
    if net.input_shape() != input {
        return Err(format!("its input is {}, but the pictures are {input}", net.input_shape()));
    }
    match net.output_shape() {
        Shape::Vector(outputs) if outputs == classes => Ok(net),
        output => Err(format!("its output is {output}, but there are {classes} classes")),
    }
}

/// A net with initial weights. Its pictures are normalised as those of its family, and its first layer is whitened by them if it
/// asks for that.
fn fresh(net: Net, train: &Dataset, seed: u64) -> Result<Classifier> {
    let customary = Description::customary(net.clone())?;
    let preprocessing = Preprocessing::new(customary.input(), customary.normalization().clone());
    let mut weights = weights::init(&net, seed);
    weights::whiten(&net, &mut weights, train, customary.normalization())?;
    Ok(Classifier { description: Description::new(net, preprocessing, train.classes().to_vec())?, weights })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Settings;

    #[test]
    fn a_layer_that_whitens_depends_on_the_pictures_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.toml");
        let layers = "[[layer]]\nop = 'conv2d'\nname = 'first'\nout_channels = 8\nkernel_size = 2\nweight_init = 'whitening'\n\
                      [[layer]]\nop = 'flatten'\n[[layer]]\nop = 'linear'\nname = 'head'\nout_features = 10\n";
        std::fs::write(&path, format!("name = 'small'\ninput = [1, 28, 28]\n{layers}")).unwrap();
        let prepared = |seed: &str| {
            let mut settings = Settings::default();
            settings.set("net", path.to_str().unwrap()).unwrap();
            settings.set("seed", seed).unwrap();
            Prepared::new(TrainConfig::resolve([settings]).unwrap(), &Source::Digits).unwrap()
        };
        let [one, two] = ["1", "2"].map(prepared);
        let mut own = weights::init(one.classifier.description.net(), 1);
        let weights = |prepared: &Prepared, name: &str| prepared.classifier.weights[name].clone();
        assert_eq!(weights(&one, "first.weight"), weights(&two, "first.weight"));
        assert_ne!(weights(&one, "first.weight"), own["first.weight"]);
        assert_eq!(weights(&one, "head.weight"), own["head.weight"]);
        let description = &one.classifier.description;
        weights::whiten(description.net(), &mut own, &one.splits.train, description.normalization()).unwrap();
        assert_eq!(weights(&one, "first.weight"), own["first.weight"]);
    }
}
