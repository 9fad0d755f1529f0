//! The closed set of operations. Each file holds one: its settings, shape rule, parameters, multiply-adds and window.
//!
//! Shapes here are of one picture: the batch is the executor's concern. Matches on [`Op`] are exhaustive, without a
//! wildcard, so that the compiler lists what a new operation needs.

mod batch_norm;
mod conv2d;
mod dropout;
mod linear;
mod pool;

pub use batch_norm::BatchNorm2d;
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use linear::Linear;
pub use pool::{AvgPool2d, MaxPool2d};

use crate::geometry::Window;

/// What flows along an edge of the net, for one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Feature maps: channels, height, width.
    Map([usize; 3]),
    /// A plain vector of features.
    Vector(usize),
}

impl Shape {
    /// Length of each axis, without the batch.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Shape::Map(dims) => dims.to_vec(),
            Shape::Vector(features) => vec![*features],
        }
    }

    /// Number of elements for one picture.
    pub fn elements(&self) -> usize {
        match self {
            Shape::Map([c, h, w]) => c * h * w,
            Shape::Vector(features) => *features,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shape::Map([c, h, w]) => write!(f, "{c}x{h}x{w}"),
            Shape::Vector(features) => write!(f, "{features}"),
        }
    }
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with mean 0 and variance `2 / fan_in` (He et al. 2015, eq. 10).
    HeNormal {
        /// Inputs that one output sums.
        fan_in: usize,
    },
    /// All the same.
    Constant(f32),
}

/// What a named tensor of an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A trained factor.
    Weight,
    /// A trained addend.
    Bias,
    /// Kept and saved but not trained: running statistics.
    Buffer,
}

/// A named tensor that an operation owns; the full name is `<node>.<name>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// PyTorch's name: `weight`, `bias`, `running_mean`, `running_var`.
    pub name: &'static str,
    /// Row-major shape, PyTorch's order (OIHW for convolutions, `[out, in]` for linear layers).
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// How it starts.
    pub init: Init,
}

/// An operation with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The net's input.
    Input(Shape),
    /// Convolution (cross-correlation) over height and width.
    Conv2d(Conv2d),
    /// Fully connected layer.
    Linear(Linear),
    /// Normalisation of each channel over batch and pixels.
    BatchNorm2d(BatchNorm2d),
    /// `max(x, 0)`.
    Relu,
    /// Largest element of each window.
    MaxPool2d(MaxPool2d),
    /// Mean of each window.
    AvgPool2d(AvgPool2d),
    /// Sets single elements to zero in training.
    Dropout(Dropout),
    /// Sets whole channels to zero in training.
    Dropout2d(Dropout),
    /// Maps to a vector, in the order channel, row, column.
    Flatten,
}

/// Why an operation cannot take an input: what was expected and what came. The net adds the layer's name.
pub type Problem = String;

impl Op {
    /// PyTorch's name of the operation in lower case, as the text form of a net writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Conv2d(_) => "conv2d",
            Op::Linear(_) => "linear",
            Op::BatchNorm2d(_) => "batch_norm2d",
            Op::Relu => "relu",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::Dropout(_) => "dropout",
            Op::Dropout2d(_) => "dropout2d",
            Op::Flatten => "flatten",
        }
    }

    /// Shape of the output for inputs of these shapes.
    ///
    /// # Errors
    /// What was expected and what came, when they do not fit.
    pub fn output(&self, inputs: &[Shape]) -> Result<Shape, Problem> {
        let expected = usize::from(!matches!(self, Op::Input(_)));
        if inputs.len() != expected {
            return Err(format!("expected {expected} input(s), got {}", inputs.len()));
        }
        match self {
            Op::Input(shape) => Ok(*shape),
            Op::Conv2d(op) => op.output(inputs[0]),
            Op::Linear(op) => op.output(inputs[0]),
            Op::BatchNorm2d(op) => op.output(inputs[0]),
            Op::Relu => Ok(inputs[0]),
            Op::MaxPool2d(op) => op.output(inputs[0]),
            Op::AvgPool2d(op) => op.output(inputs[0]),
            Op::Dropout(op) => op.output(inputs[0]),
            Op::Dropout2d(op) => op.output(expect_map(inputs[0]).map(Shape::Map)?),
            Op::Flatten => Ok(Shape::Vector(inputs[0].elements())),
        }
    }

    /// The tensors that the operation owns, in PyTorch's order, for inputs that [`Op::output`] has accepted.
    pub fn parameters(&self, inputs: &[Shape]) -> Vec<Parameter> {
        match self {
            Op::Conv2d(op) => op.parameters(inputs[0]),
            Op::Linear(op) => op.parameters(inputs[0]),
            Op::BatchNorm2d(_) => BatchNorm2d::parameters(inputs[0]),
            Op::Input(_) | Op::Relu | Op::MaxPool2d(_) | Op::AvgPool2d(_) => Vec::new(),
            Op::Dropout(_) | Op::Dropout2d(_) | Op::Flatten => Vec::new(),
        }
    }

    /// Multiply-adds for one picture, counted for convolutions and linear layers as fvcore counts its "flops".
    pub fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        match self {
            Op::Conv2d(op) => op.macs(inputs[0], output),
            Op::Linear(op) => (inputs[0].elements() * op.out_features) as u64,
            Op::Input(_) | Op::BatchNorm2d(_) | Op::Relu | Op::MaxPool2d(_) | Op::AvgPool2d(_) => 0,
            Op::Dropout(_) | Op::Dropout2d(_) | Op::Flatten => 0,
        }
    }

    /// The sliding window, for operations that have one.
    pub fn window(&self) -> Option<&Window> {
        match self {
            Op::Conv2d(op) => Some(&op.window),
            Op::MaxPool2d(op) => Some(&op.window),
            Op::AvgPool2d(op) => Some(&op.window),
            Op::Input(_) | Op::Linear(_) | Op::BatchNorm2d(_) | Op::Relu => None,
            Op::Dropout(_) | Op::Dropout2d(_) | Op::Flatten => None,
        }
    }
}

/// The channels, height and width, or a sentence that says maps were expected.
fn expect_map(shape: Shape) -> Result<[usize; 3], Problem> {
    match shape {
        Shape::Map(dims) => Ok(dims),
        Shape::Vector(features) => {
            Err(format!("expected feature maps (channels x height x width), got a vector of {features} features"))
        }
    }
}

/// Settings of a window that mean something: no zeros, and padding below the kernel's extent.
fn check_window(window: &Window) -> Result<(), Problem> {
    let positive = |what: &str, pair: [usize; 2]| match pair.contains(&0) {
        true => Err(format!("expected a {what} of at least 1, got {}x{}", pair[0], pair[1])),
        false => Ok(()),
    };
    positive("kernel", window.kernel)?;
    positive("stride", window.stride)?;
    positive("dilation", window.dilation)
}
