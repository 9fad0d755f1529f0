//! Arguments that several subcommands share.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use convnet::net::Net;
use convnet::ops::Shape;
use convnet::zoo::{self, ZooOptions};
use convnet::{Error, Result};

/// The network that is meant when none is named.
const DEFAULT_MODEL: &str = "cnn";

/// Which network: by name with its settings, or from a TOML file. Flatten it last, for its help heading stays in force.
#[derive(Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct ModelArgs {
    /// Name of the network, see `convnet models` [default: cnn]
    #[arg(short, long, value_name = "NAME", conflicts_with = "net")]
    model: Option<String>,

    /// TOML file that describes the network
    #[arg(long, value_name = "FILE")]
    net: Option<PathBuf>,

    /// Size of a picture, such as 3x224x224 or 28x28 [default: the network's own]
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputSize>,

    /// Number of classes [default: the network's own]
    #[arg(long, value_name = "N", conflicts_with = "net")]
    classes: Option<usize>,

    /// cnn: output channels of each convolution [default: 32,64]
    #[arg(long, value_name = "N,N,…", conflicts_with = "net")]
    cdims: Option<Dims>,

    /// cnn: features of each hidden linear layer, "" for none [default: 1024,128]
    #[arg(long, value_name = "N,N,…", conflicts_with = "net")]
    hdims: Option<Dims>,

    /// cnn: side of the square kernels [default: 3]
    #[arg(long, value_name = "N", conflicts_with = "net")]
    ksize: Option<usize>,

    /// cnn: leave out batch norm [default: one after each convolution]
    #[arg(long, conflicts_with = "net")]
    no_batch_norm: bool,

    /// Probability of dropout, 0 for none [default: the network's own; cnn: 0.5]
    #[arg(long, value_name = "P", conflicts_with = "net")]
    dropout: Option<f32>,
}

impl ModelArgs {
    /// The network that the flags describe. `positional` is a name given without a flag; its argument must conflict with
    /// `model` and `net`.
    ///
    /// # Errors
    /// When the name or the file is not known, or the settings do not fit together.
    pub(crate) fn net(&self, positional: Option<&str>) -> Result<Net> {
        if let Some(path) = &self.net {
            let net = Net::load(path)?;
            return match &self.input {
                Some(size) => net.with_input(size.shape(net.input_shape())?),
                None => Ok(net),
            };
        }
        let model = zoo::find(positional.or(self.model.as_deref()).unwrap_or(DEFAULT_MODEL))?;
        let input = match &self.input {
            Some(size) => Some(size.picture(model.input)?),
            None => None,
        };
        model.net(&ZooOptions {
            input,
            classes: self.classes,
            dropout: self.dropout,
            ksize: self.ksize,
            cdims: self.cdims.clone().map(|Dims(dims)| dims),
            hdims: self.hdims.clone().map(|Dims(dims)| dims),
            batch_norm: self.no_batch_norm.then_some(false),
        })
    }
}

/// `3x224x224`, `28x28`, or `784` for nets that take vectors.
#[derive(Clone, Debug, PartialEq)]
struct InputSize(Vec<usize>);

impl InputSize {
    /// Channels, height and width, where the channels may come from the network's own input.
    fn picture(&self, [channels, ..]: [usize; 3]) -> Result<[usize; 3]> {
        match self.0[..] {
            [height, width] => Ok([channels, height, width]),
            [channels, height, width] => Ok([channels, height, width]),
            _ => {
                Err(Error::invalid("--input: this network takes pictures: expected a size such as 3x224x224 or 28x28"))
            }
        }
    }

    fn shape(&self, own: Shape) -> Result<Shape> {
        match (own, &self.0[..]) {
            (Shape::Map(own), _) => self.picture(own).map(Shape::Map),
            (Shape::Vector(_), &[features]) => Ok(Shape::Vector(features)),
            (Shape::Vector(_), _) => Err(Error::invalid("--input: this network takes a vector: expected one number")),
        }
    }
}

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<InputSize, String> {
        let numbers = text.split(['x', 'X']).map(|number| number.parse().ok().filter(|&n| n > 0)).collect();
        let size: Option<Vec<usize>> = numbers;
        let size = size.filter(|size| size.len() <= 3).map(InputSize);
        size.ok_or_else(|| "expected positive whole numbers such as 3x224x224 or 28x28".to_owned())
    }
}

/// Whole numbers between commas; none at all is an empty text.
#[derive(Clone, Debug, PartialEq)]
struct Dims(Vec<usize>);

impl FromStr for Dims {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Dims, String> {
        let numbers = text.split(',').filter(|_| !text.is_empty()).map(|number| number.trim().parse());
        let dims: std::result::Result<Vec<usize>, _> = numbers.collect();
        dims.map(Dims).map_err(|_| "expected whole numbers between commas, such as 32,64".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_are_read() {
        let size = |text: &str| text.parse::<InputSize>().map(|InputSize(dims)| dims).ok();
        assert_eq!(size("3x224x200"), Some(vec![3, 224, 200]));
        assert_eq!(size("28X28"), Some(vec![28, 28]));
        for bad in ["", "x", "3x", "0x28", "-1x28", "1x2x3x4", "28 x 28", "99999999999999999999999x1"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        let dims = |text: &str| text.parse::<Dims>().map(|Dims(dims)| dims).ok();
        assert_eq!(dims("32,64"), Some(vec![32, 64]));
        assert_eq!(dims(""), Some(vec![]));
        assert_eq!(dims("32,,64"), None);
    }

    #[test]
    fn missing_channels_are_the_networks_own() {
        assert_eq!(InputSize(vec![8, 9]).picture([3, 1, 1]).unwrap(), [3, 8, 9]);
        assert!(InputSize(vec![8]).picture([3, 1, 1]).is_err());
        assert_eq!(InputSize(vec![8]).shape(Shape::Vector(2)).unwrap(), Shape::Vector(8));
        assert!(InputSize(vec![8, 9]).shape(Shape::Vector(2)).is_err());
    }
}
