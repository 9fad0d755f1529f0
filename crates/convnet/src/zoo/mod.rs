//! The named networks, one file per family, each with its rows in the table behind [`models`].
//!
//! ```
//! use convnet::zoo::{self, ZooOptions};
//!
//! # fn main() -> convnet::Result<()> {
//! assert!(zoo::models().count() >= 68);
//! let options = ZooOptions { classes: Some(3), input: Some([3, 160, 224]), ..ZooOptions::default() };
//! let net = zoo::by_name("mobilenet_v3_small", &options)?;
//! assert_eq!(net.output_shape().elements(), 3);
//! # Ok(())
//! # }
//! ```

mod airbench;
mod alexnet;
mod cnn;
mod conv_norm;
mod convnext;
pub(crate) mod densenet;
mod efficientnet;
mod googlenet;
mod inception;
mod lenet;
mod mnasnet;
mod mobilenet;
mod path;
mod regnet;
mod resnet;
mod resnet_cifar;
mod shufflenet;
mod squeezenet;
mod vgg;

pub use cnn::{Cnn, cnn};
pub use resnet_cifar::Shortcut;

use serde::Serialize;

use crate::net::Net;
use crate::ops::Shape;
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
    /// Largest probability of a stochastic depth (ConvNeXt, EfficientNet); 0 leaves it out.
    pub stochastic_depth: Option<f32>,
    /// Whether auxiliary heads for training are built (GoogLeNet, Inception v3): yes, unless this says no.
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
        let (cnn, drops) = (&[cnn::FAMILY.name][..], [convnext::FAMILY, efficientnet::FAMILY, efficientnet::V2]);
        let drops = drops.map(|family| family.name);
        let settings = [
            ("ksize", self.ksize.is_some(), cnn),
            ("cdims", self.cdims.is_some(), cnn),
            ("hdims", self.hdims.is_some(), cnn),
            ("batch_norm", self.batch_norm.is_some(), cnn),
            ("shortcut", self.shortcut.is_some(), &[resnet_cifar::FAMILY.name]),
            ("auxiliaries", self.auxiliaries.is_some(), &[googlenet::FAMILY.name, inception::FAMILY.name]),
            ("stochastic_depth", self.stochastic_depth.is_some(), &drops),
        ];
        match settings.iter().find(|(_, asked, families)| *asked && !families.contains(&model.family)) {
            None => Ok(()),
            Some(&(setting, _, families)) => {
                Err(Error::NoSuchSetting { setting, model: model.name, families: families.to_vec() })
            }
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
    /// The same for square pictures of another size.
    const fn sized(&self, side: usize) -> Family {
        Family { input: [self.input[0], side, side], ..*self }
    }

    const fn row(&self, name: &'static str, description: &'static str, params: u64, build: Build) -> Model {
        let Family { name: family, paper, input, classes } = *self;
        Model { name, family, paper, description, params, input, classes, build }
    }
}

/// The lecture's families, then the others by age.
const FAMILIES: &[&[Model]] = &[
    cnn::MODELS,
    lenet::MODELS,
    alexnet::MODELS,
    vgg::MODELS,
    googlenet::MODELS,
    resnet::MODELS,
    resnet_cifar::MODELS,
    densenet::MODELS,
    inception::MODELS,
    squeezenet::MODELS,
    mobilenet::MODELS,
    shufflenet::MODELS,
    mnasnet::MODELS,
    efficientnet::MODELS,
    regnet::MODELS,
    convnext::MODELS,
    airbench::MODELS,
];

/// Largest side of a picture that is tried to find out what a network can take.
const LARGEST_TRIED: usize = 1 << 13;

impl Model {
    /// Builds the network.
    ///
    /// # Errors
    /// [`Error::TooSmall`] with the smallest picture that the network can take; [`Error::NoSuchSetting`] for another family's
    /// options; [`Error::Setting`] or [`Error::Layer`] when the options do not fit together.
    pub fn net(&self, options: &ZooOptions) -> Result<Net> {
        options.check_family(self)?;
        (self.build)(self, options).map_err(|error| {
            let [channels, height, width] = options.input.unwrap_or(self.input);
            match self.smallest_input(options) {
                Some(smallest) if smallest[1] > height.min(width) => {
                    Error::TooSmall { model: self.name, smallest, found: [channels, height, width] }
                }
                _ => error,
            }
        })
    }

    /// The smallest square picture, of as many channels as are asked for, for which the network can be built with these
    /// options, if there is any.
    pub fn smallest_input(&self, options: &ZooOptions) -> Option<[usize; 3]> {
        let [channels, ..] = options.input.unwrap_or(self.input);
        let square = |side: usize| [channels, side, side];
        let fits = |side: usize| {
            let options = ZooOptions { input: Some(square(side)), ..options.clone() };
            (self.build)(self, &options).is_ok()
        };
        // What takes a picture takes a larger one, until one is absurdly large.
        let sides = std::iter::successors(Some(1), |side| Some(side * 2));
        let mut enough = sides.take_while(|&side| side <= LARGEST_TRIED).find(|&side| fits(side))?;
        let mut too_small = enough / 2;
        while enough - too_small > 1 {
            let middle = too_small.midpoint(enough);
            *(if fits(middle) { &mut enough } else { &mut too_small }) = middle;
        }
        Some(square(enough))
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
/// [`Error::Unknown`] with a suggestion when there is none.
pub fn find(name: &str) -> Result<&'static Model> {
    let unknown = || Error::unknown("model", name, models().map(|model| model.name));
    models().find(|model| model.name == name).ok_or_else(unknown)
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
    use crate::columns::thousands;
    use crate::net::rewrite::without_auxiliaries;
    use crate::ops::{Dropout, Op};

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

    #[test]
    fn headers_of_the_families_are_right() {
        let headers = [
            include_str!("cnn.rs"),
            include_str!("lenet.rs"),
            include_str!("alexnet.rs"),
            include_str!("vgg.rs"),
            include_str!("googlenet.rs"),
            include_str!("resnet.rs"),
            include_str!("resnet_cifar.rs"),
            include_str!("densenet.rs"),
            include_str!("inception.rs"),
            include_str!("squeezenet.rs"),
            include_str!("mobilenet.rs"),
            include_str!("shufflenet.rs"),
            include_str!("mnasnet.rs"),
            include_str!("efficientnet.rs"),
            include_str!("regnet.rs"),
            include_str!("convnext.rs"),
            include_str!("airbench.rs"),
        ];
        let rows: Vec<&str> =
            headers.iter().flat_map(|text| text.lines()).filter(|l| l.starts_with("//! | `")).collect();
        // A name that ends in _bn shares a row with the one without.
        let mut problems = String::new();
        for model in models().filter(|model| model.name != "cnn") {
            let name = format!("`{}`", model.name.trim_end_matches("_bn"));
            let table = without_auxiliaries(&model.net(&ZooOptions::default()).unwrap()).unwrap().table(1);
            let row = rows.iter().find(|row| row.contains(&name)).copied().unwrap_or_default();
            for number in [table.total.params, table.total.macs].map(thousands) {
                if !row.contains(&number) {
                    problems += &format!("{}: no {number} in {row}\n", model.name);
                }
            }
        }
        assert!(problems.is_empty(), "\n{problems}");
    }

    #[test]
    fn pictures_that_are_too_small_are_refused_with_the_smallest() {
        let refused = |name, input| {
            let options = ZooOptions { input: Some(input), ..ZooOptions::default() };
            by_name(name, &options).unwrap_err().to_string()
        };
        let expected = "vgg16: expected a picture of at least 3x32x32, got 3x40x31";
        assert_eq!(refused("vgg16", [3, 40, 31]), expected);
        let later = [("inception_v3", 75), ("squeezenet1_1", 17), ("mobilenet_v2", 1), ("convnext_tiny", 32)];
        for (name, smallest) in later.into_iter().chain([
            ("alexnet", 63),
            ("googlenet", 15),
            ("densenet121", 29),
            ("lenet5", 12),
            ("cnn", 4),
        ]) {
            let model = find(name).unwrap();
            let [channels, side, _] = model.smallest_input(&ZooOptions::default()).unwrap();
            assert_eq!(side, smallest, "{name}");
            if side > 1 {
                let message = refused(name, [channels, 300, side - 1]);
                assert!(message.contains(&format!("at least {channels}x{side}x{side}")), "{message}");
            }
            let options = ZooOptions { input: Some([channels, side, 300]), ..ZooOptions::default() };
            assert!(by_name(name, &options).is_ok(), "{name}");
        }
        // Other problems stay what they are.
        assert!(refused("resnet18", [0, 32, 32]).contains("at least 1 along every axis"));
    }

    #[test]
    fn input_classes_and_dropout_reach_every_network() {
        for model in models() {
            let [_, side, _] = model.smallest_input(&ZooOptions::default()).unwrap();
            let input = [5, side + 3, side + 10];
            let count_dropouts = |p: f32| {
                let options =
                    ZooOptions { input: Some(input), classes: Some(7), dropout: Some(p), ..ZooOptions::default() };
                let net = model.net(&options).unwrap();
                assert_eq!(net.input_shape(), Shape::Map(input), "{}", model.name);
                assert_eq!(net.output_shape(), Shape::Vector(7), "{}", model.name);
                assert!(net.auxiliaries().iter().all(|head| net.node(head.node).shape == Shape::Vector(7)));
                let with = |p| [Op::Dropout(Dropout { p }), Op::Dropout2d(Dropout { p })];
                net.nodes().iter().filter(|node| with(p).contains(&node.op)).count()
            };
            assert!(count_dropouts(0.125) > 0, "{}", model.name);
            assert_eq!(count_dropouts(0.0), 0, "{}", model.name);
        }
    }

    #[test]
    fn settings_of_another_family_are_refused() {
        for (name, options, expected) in [
            (
                "resnet18",
                ZooOptions { shortcut: Some(Shortcut::B), ..ZooOptions::default() },
                "shortcut: 'resnet18' has",
            ),
            ("plain20", ZooOptions { shortcut: Some(Shortcut::A), ..ZooOptions::default() }, "shortcut: 'plain20' has"),
            ("vgg11", ZooOptions { ksize: Some(3), ..ZooOptions::default() }, "for networks of the family CNN"),
            (
                "cnn",
                ZooOptions { auxiliaries: Some(true), ..ZooOptions::default() },
                "of the families GoogLeNet, Inception v3",
            ),
        ] {
            let message = by_name(name, &options).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let without = ZooOptions { auxiliaries: Some(false), ..ZooOptions::default() };
        assert_eq!(by_name("googlenet", &without).unwrap().parameter_count(), 6_624_904);
        assert_eq!(by_name("googlenet", &ZooOptions::default()).unwrap().parameter_count(), 13_004_888);
    }

    #[test]
    fn stochastic_depth_grows_and_can_be_left_out() {
        let rates = |name, stochastic_depth| {
            let net = by_name(name, &ZooOptions { stochastic_depth, ..ZooOptions::default() }).unwrap();
            let rate = |op: &Op| if let Op::StochasticDepth(op) = op { Some(op.p) } else { None };
            net.nodes().iter().filter_map(|node| rate(&node.op)).collect::<Vec<f32>>()
        };
        // 18 blocks, the first of which is always there; 16 blocks, of which 9 have a shortcut.
        let convnext = rates("convnext_tiny", None);
        assert_eq!((convnext.len(), convnext[0], convnext[16]), (17, 0.1 / 17.0, 0.1));
        let efficientnet = rates("efficientnet_b0", None);
        assert_eq!((efficientnet.len(), efficientnet[0], efficientnet[8]), (9, 0.2 * 2.0 / 16.0, 0.2 * 14.0 / 16.0));
        assert_eq!(rates("convnext_tiny", Some(0.0)).len(), 0);
        assert_eq!(rates("convnext_tiny", Some(0.34))[0], 0.02);
    }

    #[test]
    fn the_inception_head_for_training_is_left_out_for_small_pictures() {
        let heads = |side, auxiliaries| {
            let options = ZooOptions { input: Some([3, side, side]), auxiliaries, ..ZooOptions::default() };
            by_name("inception_v3", &options).map(|net| net.auxiliaries().len())
        };
        assert_eq!((heads(299, None).unwrap(), heads(299, Some(false)).unwrap(), heads(96, None).unwrap()), (1, 0, 0));
        assert!(heads(96, Some(true)).is_err());
    }
}
