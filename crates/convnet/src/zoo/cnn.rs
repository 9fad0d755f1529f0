//! The lecture's configurable CNN. Per entry of `cdims`: convolution (stride 1, padding `ksize / 2`), batch norm, ReLU,
//! 2×2 max pooling, channel dropout; then flatten; per entry of `hdims`: linear and ReLU; then linear to the classes.
//!
//! | cdims, hdims on 1×28×28, batch norm | parameters | multiply-adds |
//! | --- | --- | --- |
//! | `[32, 64]`, `[1024, 128]`, yes | 3,363,786 | 7,182,080 |

use super::{Family, Model, ZooOptions};
use crate::geometry::Window;
use crate::net::Net;
use crate::ops::{BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, Op, Shape};
use crate::{Error, Result};

pub(super) const FAMILY: Family =
    Family { name: "CNN", paper: "the lecture's exercise", input: [1, 28, 28], classes: 10 };

pub(super) const MODELS: &[Model] =
    &[FAMILY.row("cnn", "the lecture's CNN: convolutions and pooling, then linear layers", 3_363_786, |_, options| {
        cnn(&Cnn::from(options))
    })];

/// Settings of [`cnn`], with the lecture's names and defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Cnn {
    /// Channels, height and width of a picture.
    pub xdim: [usize; 3],
    /// Side of the square kernels.
    pub ksize: usize,
    /// Output channels of each convolution.
    pub cdims: Vec<usize>,
    /// Output features of each hidden linear layer.
    pub hdims: Vec<usize>,
    /// Classes.
    pub ydim: usize,
    /// Whether each convolution is followed by batch norm.
    pub batch_norm: bool,
    /// Probability of the channel dropout after each pooling; 0 leaves it out.
    pub dropout: f32,
}

impl Default for Cnn {
    fn default() -> Cnn {
        Cnn {
            xdim: [1, 28, 28],
            ksize: 3,
            cdims: vec![32, 64],
            hdims: vec![1024, 128],
            ydim: 10,
            batch_norm: true,
            dropout: 0.5,
        }
    }
}

impl From<&ZooOptions> for Cnn {
    fn from(options: &ZooOptions) -> Cnn {
        let default = Cnn::default();
        Cnn {
            xdim: options.input.unwrap_or(default.xdim),
            ksize: options.ksize.unwrap_or(default.ksize),
            cdims: options.cdims.clone().unwrap_or(default.cdims),
            hdims: options.hdims.clone().unwrap_or(default.hdims),
            ydim: options.classes.unwrap_or(default.ydim),
            batch_norm: options.batch_norm.unwrap_or(default.batch_norm),
            dropout: options.dropout.unwrap_or(default.dropout),
        }
    }
}

/// Builds the lecture's CNN.
///
/// # Errors
/// [`Error::Setting`] or [`Error::Layer`] when the settings do not fit together: a kernel of 0, a picture that is
/// pooled away, no classes.
///
/// ```
/// let net = convnet::zoo::cnn(&convnet::zoo::Cnn::default()).unwrap();
/// assert_eq!(net.parameter_count(), 3_363_786);
/// ```
pub fn cnn(settings: &Cnn) -> Result<Net> {
    let Cnn { xdim, ksize, cdims, hdims, ydim, batch_norm, dropout } = settings;
    if *ksize == 0 {
        return Err(Error::setting("ksize", "at least 1", ksize));
    }
    // Padding would let a larger kernel pass; most of it would never see the picture.
    let [_, height, width] = *xdim;
    if *ksize > height.min(width) && height.min(width) > 0 && !cdims.is_empty() {
        let expected = format!("at most the picture's side, {height}x{width}");
        return Err(Error::setting("ksize", expected, ksize));
    }
    let mut net = Net::new("cnn", Shape::Map(*xdim))?;
    for (i, &channels) in (1..).zip(cdims) {
        let window = Window::square(*ksize).padding(ksize / 2);
        net.then(&format!("conv{i}"), Op::Conv2d(Conv2d::new(channels, window)))?;
        if *batch_norm {
            net.then(&format!("bn{i}"), Op::BatchNorm2d(BatchNorm2d::default()))?;
        }
        net.then(&format!("relu{i}"), Op::RELU)?;
        net.then(&format!("pool{i}"), Op::MaxPool2d(MaxPool2d { window: Window::square(2).stride(2) }))?;
        if *dropout != 0.0 {
            net.then(&format!("drop{i}"), Op::Dropout2d(Dropout { p: *dropout }))?;
        }
    }
    net.then("flatten", Op::Flatten)?;
    for (i, &features) in (1..).zip(hdims) {
        net.then(&format!("linear{i}"), Op::Linear(Linear::new(features)))?;
        net.then(&format!("relu_linear{i}"), Op::RELU)?;
    }
    net.then("head", Op::Linear(Linear::new(*ydim)))?;
    Ok(net)
}
