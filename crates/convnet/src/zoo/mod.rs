//! The named networks, one file per family, each with its rows in the table behind [`models`].

mod cnn;

pub use cnn::{Cnn, cnn};

use serde::Serialize;

use crate::net::Net;
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
    /// Side of the square kernels (`cnn`).
    pub ksize: Option<usize>,
    /// Output channels of each convolution (`cnn`).
    pub cdims: Option<Vec<usize>>,
    /// Output features of each hidden linear layer (`cnn`).
    pub hdims: Option<Vec<usize>>,
    /// Whether each convolution is followed by batch norm (`cnn`).
    pub batch_norm: Option<bool>,
}

/// A network that has a name.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// What [`by_name`] calls it.
    pub name: &'static str,
    /// One line about it.
    pub description: &'static str,
    /// Trained elements with its default settings.
    pub params: u64,
    /// Channels, height and width of a picture by default.
    pub input: [usize; 3],
    /// Outputs of the last layer by default.
    pub classes: usize,
    #[serde(skip)]
    build: fn(&ZooOptions) -> Result<Net>,
}

const MODELS: &[Model] = &[Model {
    name: "cnn",
    description: "the lecture's CNN: convolutions and pooling, then linear layers",
    params: 3_363_786,
    input: [1, 28, 28],
    classes: 10,
    build: |options| cnn(&Cnn::from(options)),
}];

impl Model {
    /// Builds the network.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Layer`] when the options do not fit together.
    pub fn net(&self, options: &ZooOptions) -> Result<Net> {
        (self.build)(options)
    }
}

/// Every network that has a name.
pub fn models() -> &'static [Model] {
    MODELS
}

/// The row of [`models`] with that name.
///
/// # Errors
/// [`Error::Invalid`] with a suggestion when there is none.
pub fn find(name: &str) -> Result<&'static Model> {
    MODELS.iter().find(|model| model.name == name).ok_or_else(|| {
        let known = suggest(name, MODELS.iter().map(|model| model.name));
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
    use crate::ops::Shape;

    #[test]
    fn every_row_says_what_its_network_is() {
        for model in models() {
            let net = by_name(model.name, &ZooOptions::default()).unwrap();
            assert_eq!(net.name(), model.name);
            assert_eq!(net.parameter_count(), model.params, "{}", model.name);
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
