//! The named networks, one file per family, each with its rows in the table behind [`models`].

mod alexnet;
mod cnn;
mod densenet;
mod googlenet;
mod lenet;
mod path;
mod resnet;
mod resnet_cifar;
mod vgg;

pub use cnn::{Cnn, cnn};
pub use resnet_cifar::Shortcut;

use serde::Serialize;

use crate::net::Net;
use crate::ops::Shape;
use crate::suggest::suggest;
use crate::{Error, Result};

/// What can be asked of a named network; `None` is the network's own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZooOptions {
    /// Channels, height and width of a picture.
    pub input: Option<[usize; 3]>,
    /// Outputs of the last layer.
    pub classes: Option<usize>,
    /// Probability of every dropout; 0 leaves dropout out.
    pub dropout: Option<f32>,
    /// Whether auxiliary heads for training are built (GoogLeNet): yes, unless this says no.
    pub auxiliaries: Option<bool>,
    /// What carries a block's input past it (`resnet20` and its like).
    pub shortcut: Option<Shortcut>,
    /// Side of the square kernels (`cnn`).
    pub ksize: Option<usize>,
    /// Output channels of each convolution (`cnn`).
    pub cdims: Option<Vec<usize>>,
    /// Output features of each hidden linear layer (`cnn`).
    pub hdims: Option<Vec<usize>>,
    /// Whether each convolution is followed by batch norm (`cnn`).
    pub batch_norm: Option<bool>,
}

impl ZooOptions {
    fn dropout_or(&self, default: f32) -> f32 {
        self.dropout.unwrap_or(default)
    }

    /// Settings of one family mean nothing to the others.
    fn check_family(&self, model: &Model) -> Result<()> {
        let settings = [
            ("ksize", self.ksize.is_some(), cnn::FAMILY.name),
            ("cdims", self.cdims.is_some(), cnn::FAMILY.name),
            ("hdims", self.hdims.is_some(), cnn::FAMILY.name),
            ("batch_norm", self.batch_norm.is_some(), cnn::FAMILY.name),
            ("shortcut", self.shortcut.is_some(), resnet_cifar::FAMILY.name),
            ("auxiliaries", self.auxiliaries.is_some(), googlenet::FAMILY.name),
        ];
        match settings.iter().find(|(_, asked, family)| *asked && *family != model.family) {
            None => Ok(()),
            Some((name, _, family)) => Err(Error::invalid(format!(
                "{name}: '{}' has no such setting, which is for networks of the family {family}",
                model.name
            ))),
        }
    }
}

/// A network that has a name.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// What [`by_name`] calls it.
    pub name: &'static str,
    /// What its family is called.
    pub family: &'static str,
    /// Who described it, when and where.
    pub paper: &'static str,
    /// One line about it.
    pub description: &'static str,
    /// Trained elements with its default settings, without auxiliary outputs.
    pub params: u64,
    /// Channels, height and width of a picture by default.
    pub input: [usize; 3],
    /// Outputs of the last layer by default.
    pub classes: usize,
    #[serde(skip)]
    build: Build,
}

type Build = fn(&Model, &ZooOptions) -> Result<Net>;

/// What the rows of a family have in common.
struct Family {
    name: &'static str,
    paper: &'static str,
    input: [usize; 3],
    classes: usize,
}

impl Family {
    const fn row(&self, name: &'static str, description: &'static str, params: u64, build: Build) -> Model {
        let Family { name: family, paper, input, classes } = *self;
        Model { name, family, paper, description, params, input, classes, build }
    }
}

const FAMILIES: &[&[Model]] = &[
    cnn::MODELS,
    lenet::MODELS,
    alexnet::MODELS,
    vgg::MODELS,
    googlenet::MODELS,
    resnet::MODELS,
    resnet_cifar::MODELS,
    densenet::MODELS,
];

/// Largest side of a picture that is tried to find out what a network can take.
const LARGEST_TRIED: usize = 1 << 13;

impl Model {
    /// Builds the network.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the smallest picture that the network can take, for a smaller one; else [`Error::Invalid`]
    /// or [`Error::Layer`] when the options do not fit together, or are another family's.
    pub fn net(&self, options: &ZooOptions) -> Result<Net> {
        options.check_family(self)?;
        (self.build)(self, options).map_err(|error| {
            let [channels, height, width] = options.input.unwrap_or(self.input);
            match self.smallest_side(options, channels) {
                Some(side) if side > height.min(width) => Error::invalid(format!(
                    "{}: expected a picture of at least {channels}x{side}x{side}, got {channels}x{height}x{width}",
                    self.name
                )),
                _ => error,
            }
        })
    }

    /// Side of the smallest square that the network can be built for with these options, if there is any.
    fn smallest_side(&self, options: &ZooOptions, channels: usize) -> Option<usize> {
        let fits = |side: usize| {
            let options = ZooOptions { input: Some([channels, side, side]), ..options.clone() };
            (self.build)(self, &options).is_ok()
        };
        // What takes a picture takes a larger one, until one is absurdly large.
        let mut enough = std::iter::successors(Some(1), |side| Some(side * 2))
            .take_while(|&side| side <= LARGEST_TRIED)
            .find(|&side| fits(side))?;
        let mut too_small = enough / 2;
        while enough - too_small > 1 {
            let middle = too_small.midpoint(enough);
            *(if fits(middle) { &mut enough } else { &mut too_small }) = middle;
        }
        Some(enough)
    }

    /// An empty net of that name for the pictures that are asked for.
    fn begin(&self, options: &ZooOptions) -> Result<Net> {
        Net::new(self.name, Shape::Map(options.input.unwrap_or(self.input)))
    }

    fn classes_or(&self, options: &ZooOptions) -> usize {
        options.classes.unwrap_or(self.classes)
    }
}

/// Every network that has a name, family by family.
pub fn models() -> impl Iterator<Item = &'static Model> {
    FAMILIES.iter().copied().flatten()
}

/// The row of [`models`] with that name.
///
/// # Errors
/// [`Error::Invalid`] with a suggestion when there is none.
pub fn find(name: &str) -> Result<&'static Model> {
    models().find(|model| model.name == name).ok_or_else(|| {
        let known = suggest(name, models().map(|model| model.name));
        Error::invalid(format!("unknown model '{}': {known}", name.escape_debug()))
    })
}

/// Builds the network of that name.
///
/// # Errors
/// As [`find`] and [`Model::net`].
///
/// ```
/// use convnet::zoo::{ZooOptions, by_name};
/// let net = by_name("cnn", &ZooOptions { classes: Some(3), ..ZooOptions::default() }).unwrap();
/// assert_eq!(net.output_shape().dims(), [3]);
/// assert!(by_name("cn", &ZooOptions::default()).unwrap_err().to_string().ends_with("did you mean 'cnn'?"));
/// ```
pub fn by_name(name: &str, options: &ZooOptions) -> Result<Net> {
    find(name)?.net(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::rewrite::without_auxiliaries;

    #[test]
    fn every_row_says_what_its_network_is() {
        for model in models() {
            let net = by_name(model.name, &ZooOptions::default()).unwrap();
            assert_eq!(net.name(), model.name);
            let counted = without_auxiliaries(&net).unwrap().parameter_count();
            assert_eq!(counted, model.params, "{}", model.name);
            assert_eq!(net.input_shape(), Shape::Map(model.input), "{}", model.name);
            assert_eq!(net.output_shape(), Shape::Vector(model.classes), "{}", model.name);
        }
    }

    #[test]
    fn lecture_l15_settings() {
        let options = ZooOptions {
            input: Some([3, 32, 40]),
            classes: Some(7),
            dropout: Some(0.0),
            ksize: Some(5),
            cdims: Some(vec![8, 16, 24]),
            hdims: Some(Vec::new()),
            batch_norm: Some(false),
            ..ZooOptions::default()
        };
        let net = by_name("cnn", &options).unwrap();
        let names: Vec<&str> = net.nodes().iter().map(|node| node.name.as_str()).collect();
        let expected = "input conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 pool3 flatten head";
        assert_eq!(names.join(" "), expected);
        let head = 7 * (24 * 4 * 5) + 7;
        assert_eq!(net.parameter_count(), (8 * 3 + 16 * 8 + 24 * 16) * 25 + 8 + 16 + 24 + head);
    }

    #[test]
    fn absurd_settings_are_errors() {
        let huge = usize::MAX;
        for options in [
            ZooOptions { input: Some([huge; 3]), ..ZooOptions::default() },
            ZooOptions { input: Some([1, 2, 2]), ..ZooOptions::default() },
            ZooOptions { classes: Some(0), ..ZooOptions::default() },
            ZooOptions { classes: Some(huge), ..ZooOptions::default() },
            ZooOptions { dropout: Some(f32::NAN), ..ZooOptions::default() },
            ZooOptions { ksize: Some(0), ..ZooOptions::default() },
            ZooOptions { ksize: Some(huge), ..ZooOptions::default() },
            ZooOptions { cdims: Some(vec![0]), ..ZooOptions::default() },
            ZooOptions { cdims: Some(vec![1; 10]), ..ZooOptions::default() },
            ZooOptions { hdims: Some(vec![huge]), ..ZooOptions::default() },
        ] {
            assert!(by_name("cnn", &options).is_err(), "{options:?}");
        }
    }
}
