//! The closed set of operations. Each file holds one: its settings, shape rule, parameters, multiply-adds and window.
//!
//! Shapes here are of one picture: the batch is the executor's concern. Matches on [`Op`] are exhaustive, without a
//! wildcard, so that the compiler lists what a new operation needs.

pub(crate) mod activation;
mod batch_norm;
mod category;
mod channel_shuffle;
mod conv2d;
mod convert;
pub(crate) mod describe;
mod dropout;
mod head;
mod init;
mod layer_norm;
mod layer_scale;
mod linear;
mod local_response_norm;
mod merge;
mod pad_channels;
mod pool;
#[cfg(test)]
pub(crate) mod samples;
mod slice;
mod stochastic_depth;

pub use activation::Activation;
pub use batch_norm::BatchNorm2d;
pub use category::Category;
pub use channel_shuffle::ChannelShuffle;
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub(crate) use head::Head;
pub use init::{Init, InitRule};
pub use layer_norm::LayerNorm2d;
pub use layer_scale::LayerScale;
pub use linear::Linear;
pub use local_response_norm::LocalResponseNorm;
pub use pad_channels::PadChannels;
pub use pool::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d};
pub use slice::Slice;
pub use stochastic_depth::StochasticDepth;

use crate::geometry::{Padding, Window};

/// Most elements of an output for one picture, or of one parameter: 2³⁰, which is 4 GiB of `f32`. A net that asks for
/// more is refused before anything is allocated.
pub const MAX_ELEMENTS: usize = 1 << 30;

/// Most pixels of a kernel's side, a stride, a dilation or a padding.
pub const MAX_PIXELS: usize = 1 << 16;

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

    /// Channels of maps, or features of a vector.
    pub fn channels(&self) -> usize {
        match self {
            Shape::Map([channels, ..]) => *channels,
            Shape::Vector(features) => *features,
        }
    }

    /// Number of elements for one picture; `usize::MAX` where that overflows.
    pub fn elements(&self) -> usize {
        match self {
            Shape::Map(dims) => saturating_product(dims),
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

/// A size of pictures whose channels may be left to the network.
///
/// ```
/// use convnet::ops::PictureSize;
/// let size = PictureSize { channels: None, height: 192, width: 256 };
/// assert_eq!(size.with_channels(3), [3, 192, 256]);
/// assert_eq!(PictureSize::from([1, 28, 28]).with_channels(3), [1, 28, 28]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    /// Channels, or those of the network.
    pub channels: Option<usize>,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
}

impl PictureSize {
    /// Channels, height and width, for a network that takes so many channels.
    pub fn with_channels(self, own: usize) -> [usize; 3] {
        [self.channels.unwrap_or(own), self.height, self.width]
    }
}

impl From<[usize; 3]> for PictureSize {
    fn from([channels, height, width]: [usize; 3]) -> PictureSize {
        PictureSize { channels: Some(channels), height, width }
    }
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
    /// PyTorch's name: `weight`, `bias`, `running_mean`, `running_var`, `layer_scale`.
    pub name: &'static str,
    /// Row-major shape, PyTorch's order (OIHW for convolutions, `[out, in]` for linear layers).
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// How it starts.
    pub init: Init,
}

impl Parameter {
    /// Number of elements; `usize::MAX` where that overflows.
    pub fn elements(&self) -> usize {
        saturating_product(&self.shape)
    }
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
    /// Normalisation of each pixel, or of a vector, over its channels.
    LayerNorm2d(LayerNorm2d),
    /// Normalisation across neighbouring channels.
    LocalResponseNorm(LocalResponseNorm),
    /// A function of single elements.
    Activation(Activation),
    /// `e^x` over the sum of `e^x`, across the channels of each pixel or the features of a vector: numbers that sum to 1.
    Softmax,
    /// Each channel times a trained number.
    LayerScale(LayerScale),
    /// Largest element of each window.
    MaxPool2d(MaxPool2d),
    /// Mean of each window.
    AvgPool2d(AvgPool2d),
    /// Mean of each of a given number of windows, whatever the input's size.
    AdaptiveAvgPool2d(AdaptiveAvgPool2d),
    /// Sum of two or more inputs of the same shape.
    Add,
    /// Maps times one number per channel, the second input.
    Mul,
    /// Channels (or features) of two or more inputs, one after the other.
    Concat,
    /// Channels of zeros before and after the input's.
    PadChannels(PadChannels),
    /// Some of the channels (or features).
    Slice(Slice),
    /// Interleaves groups of channels.
    ChannelShuffle(ChannelShuffle),
    /// Sets single elements to zero in training.
    Dropout(Dropout),
    /// Sets whole channels to zero in training.
    Dropout2d(Dropout),
    /// Sets whole pictures to zero in training.
    StochasticDepth(StochasticDepth),
    /// Maps to a vector, in the order channel, row, column.
    Flatten,
}

/// Why an operation cannot take an input: what was expected and what came. The net adds the layer's name.
pub type Problem = String;

impl Op {
    /// `max(x, 0)`.
    pub const RELU: Op = Op::Activation(Activation::Relu);
    /// Hyperbolic tangent.
    pub const TANH: Op = Op::Activation(Activation::Tanh);

    /// PyTorch's name of the operation in lower case, as the text form of a net writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Conv2d(_) => "conv2d",
            Op::Linear(_) => "linear",
            Op::BatchNorm2d(_) => "batch_norm2d",
            Op::LayerNorm2d(_) => "layer_norm2d",
            Op::LocalResponseNorm(_) => "local_response_norm",
            Op::Activation(op) => activation::name(*op),
            Op::Softmax => "softmax",
            Op::LayerScale(_) => "layer_scale",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::AdaptiveAvgPool2d(_) => "adaptive_avg_pool2d",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Concat => "concat",
            Op::PadChannels(_) => "pad_channels",
            Op::Slice(_) => "slice",
            Op::ChannelShuffle(_) => "channel_shuffle",
            Op::Dropout(_) => "dropout",
            Op::Dropout2d(_) => "dropout2d",
            Op::StochasticDepth(_) => "stochastic_depth",
            Op::Flatten => "flatten",
        }
    }

    /// Shape of the output for inputs of these shapes.
    ///
    /// # Errors
    /// What was expected and what came, when they do not fit, or when the output or a parameter would have more than
    /// [`MAX_ELEMENTS`].
    pub fn output(&self, inputs: &[Shape]) -> Result<Shape, Problem> {
        let shape = self.shape_rule(inputs)?;
        check_elements("the output", &shape.dims())?;
        for parameter in self.parameters(inputs) {
            check_elements(parameter.name, &parameter.shape)?;
        }
        Ok(shape)
    }

    fn shape_rule(&self, inputs: &[Shape]) -> Result<Shape, Problem> {
        self.check_arity(inputs.len())?;
        match self {
            Op::Input(shape) if shape.elements() == 0 => {
                Err(format!("expected at least 1 along every axis, got {shape}"))
            }
            Op::Input(shape) => Ok(*shape),
            Op::Conv2d(op) => op.output(inputs[0]),
            Op::Linear(op) => op.output(inputs[0]),
            Op::BatchNorm2d(op) => op.output(inputs[0]),
            Op::LayerNorm2d(op) => op.output(inputs[0]),
            Op::LocalResponseNorm(op) => op.output(inputs[0]),
            Op::Activation(op) => activation::check(*op).map(|()| inputs[0]),
            Op::Softmax => Ok(inputs[0]),
            Op::LayerScale(op) => op.output(inputs[0]),
            Op::MaxPool2d(op) => op.output(inputs[0]),
            Op::AvgPool2d(op) => op.output(inputs[0]),
            Op::AdaptiveAvgPool2d(op) => op.output(inputs[0]),
            Op::Add => merge::add(inputs),
            Op::Mul => merge::mul(inputs),
            Op::Concat => merge::concat(inputs),
            Op::PadChannels(op) => op.output(inputs[0]),
            Op::Slice(op) => op.output(inputs[0]),
            Op::ChannelShuffle(op) => op.output(inputs[0]),
            Op::Dropout(op) => op.output(inputs[0]),
            Op::Dropout2d(op) => op.output(expect_map(inputs[0]).map(Shape::Map)?),
            Op::StochasticDepth(op) => op.output(inputs[0]),
            Op::Flatten => Ok(Shape::Vector(inputs[0].elements())),
        }
    }

    fn check_arity(&self, inputs: usize) -> Result<(), Problem> {
        let (least, most) = match self.category() {
            Category::Input => (0, 0),
            Category::Merge if *self == Op::Mul => (2, 2),
            Category::Merge | Category::Join => (2, usize::MAX),
            Category::Convolution | Category::Linear | Category::Pooling | Category::Normalization => (1, 1),
            Category::Pointwise | Category::Dropout | Category::Rearrangement | Category::Reshape => (1, 1),
        };
        match (least..=most).contains(&inputs) {
            true => Ok(()),
            false => {
                let more = if most > least { " or more" } else { "" };
                let plural = if least == 1 { "" } else { "s" };
                Err(format!("expected {least}{more} input{plural}, got {inputs}"))
            }
        }
    }

    /// The tensors that the operation owns, in PyTorch's order, for inputs that [`Op::output`] has accepted.
    pub fn parameters(&self, inputs: &[Shape]) -> Vec<Parameter> {
        match self {
            Op::Conv2d(op) => op.parameters(inputs[0]),
            Op::Linear(op) => op.parameters(inputs[0]),
            Op::BatchNorm2d(_) => BatchNorm2d::parameters(inputs[0]),
            Op::LayerNorm2d(_) => LayerNorm2d::parameters(inputs[0]),
            Op::LayerScale(op) => op.parameters(inputs[0]),
            Op::Input(_) | Op::LocalResponseNorm(_) | Op::Activation(_) | Op::Softmax => Vec::new(),
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => Vec::new(),
            Op::Add | Op::Mul | Op::Concat => Vec::new(),
            Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) | Op::Flatten => Vec::new(),
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => Vec::new(),
        }
    }

    /// Multiply-adds for one picture, counted for convolutions and linear layers as fvcore counts its "flops".
    pub fn macs(&self, inputs: &[Shape], output: Shape) -> u64 {
        match self {
            Op::Conv2d(op) => op.macs(inputs[0], output),
            Op::Linear(op) => op.macs(inputs[0]),
            Op::Input(_) | Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::LocalResponseNorm(_) => 0,
            Op::Activation(_) | Op::Softmax | Op::LayerScale(_) => 0,
            Op::MaxPool2d(_) | Op::AvgPool2d(_) | Op::AdaptiveAvgPool2d(_) => 0,
            Op::Add | Op::Mul | Op::Concat => 0,
            Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) | Op::Flatten => 0,
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => 0,
        }
    }

    /// The sliding window over inputs of these shapes, for operations that have one.
    pub fn window(&self, inputs: &[Shape]) -> Option<Window> {
        match self {
            Op::Conv2d(op) => Some(op.window),
            Op::MaxPool2d(op) => Some(op.window),
            Op::AvgPool2d(op) => Some(op.window),
            Op::AdaptiveAvgPool2d(op) => op.window(inputs[0]),
            Op::Input(_) | Op::Linear(_) => None,
            Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::LocalResponseNorm(_) => None,
            Op::Activation(_) | Op::Softmax | Op::LayerScale(_) => None,
            Op::Add | Op::Mul | Op::Concat => None,
            Op::PadChannels(_) | Op::Slice(_) | Op::ChannelShuffle(_) | Op::Flatten => None,
            Op::Dropout(_) | Op::Dropout2d(_) | Op::StochasticDepth(_) => None,
        }
    }
}

/// A weight of that shape, whose first axis is the outputs and whose others are what one output sums, and a bias if
/// asked; the rules say how each starts.
fn affine(shape: Vec<usize>, bias: bool, [weight_rule, bias_rule]: [InitRule; 2]) -> Vec<Parameter> {
    let (outputs, fan_in) = (shape[0], saturating_product(&shape[1..]));
    let fan_out = outputs.saturating_mul(saturating_product(shape.get(2..).unwrap_or_default()));
    let init = weight_rule.resolve(fan_in, fan_out);
    let weight = Parameter { name: "weight", shape, role: Role::Weight, init };
    let init = bias_rule.resolve(fan_in, fan_out);
    let bias = bias.then(|| Parameter { name: "bias", shape: vec![outputs], role: Role::Bias, init });
    [weight].into_iter().chain(bias).collect()
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

/// Refuses a probability of dropping everything, and numbers that are none.
fn check_probability(p: f32) -> Result<(), Problem> {
    match (0.0..1.0).contains(&p) {
        true => Ok(()),
        false => Err(format!("expected a probability from 0 to below 1, got {p}")),
    }
}

/// Settings of a window that mean something: no zeros, and nothing above [`MAX_PIXELS`].
fn check_window(window: &Window) -> Result<(), Problem> {
    let within =
        |what: &str, least: usize, pair: [usize; 2]| match pair.iter().all(|n| (least..=MAX_PIXELS).contains(n)) {
            true => Ok(()),
            false => Err(format!("expected a {what} from {least} to {MAX_PIXELS}, got {}x{}", pair[0], pair[1])),
        };
    within("kernel", 1, window.kernel)?;
    within("stride", 1, window.stride)?;
    within("dilation", 1, window.dilation)?;
    match window.padding {
        Padding::Explicit { begin, end } => within("padding", 0, begin).and(within("padding", 0, end)),
        Padding::Same => Ok(()),
    }
}

fn check_elements(what: &str, dims: &[usize]) -> Result<(), Problem> {
    match saturating_product(dims) <= MAX_ELEMENTS {
        true => Ok(()),
        false => Err(format!("expected at most {MAX_ELEMENTS} elements, but {what} would have the shape {dims:?}")),
    }
}

fn saturating_product(dims: &[usize]) -> usize {
    dims.iter().fold(1, |product, &dim| product.saturating_mul(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: [usize; 3] = [1 << 20, 1 << 40, usize::MAX];

    fn refused(op: Op, input: Shape) -> String {
        op.output(&[input]).expect_err("absurd settings were accepted")
    }

    #[test]
    fn absurd_settings_are_errors_and_never_overflow() {
        let map = Shape::Map([64, 100, 100]);
        let conv = |out_channels, window| Op::Conv2d(Conv2d::new(out_channels, window));
        for huge in HUGE {
            assert!(refused(conv(huge, Window::square(3)), map).contains("elements"));
            assert!(refused(conv(8, Window::square(huge)), map).contains("kernel"));
            assert!(refused(conv(8, Window::square(3).padding(huge)), map).contains("padding"));
            assert!(refused(conv(8, Window::square(3).stride(huge)), map).contains("stride"));
            let dilated = Window { dilation: [1, huge], ..Window::square(3) };
            assert!(refused(conv(8, dilated), map).contains("dilation"));
            assert!(refused(Op::MaxPool2d(MaxPool2d { window: Window::square(huge) }), map).contains("kernel"));
            assert!(refused(Op::Linear(Linear::new(huge)), Shape::Vector(4096)).contains("elements"));
            assert!(refused(Op::Flatten, Shape::Map([huge, huge, 2])).contains("elements"));
            assert!(Op::Input(Shape::Map([huge, huge, 2])).output(&[]).is_err());
        }
        assert!(refused(conv(8, Window::square(3).padding(MAX_PIXELS)), map).contains("elements"));
        assert!(refused(conv(1 << 16, Window::square(MAX_PIXELS).padding(MAX_PIXELS)), map).contains("elements"));
    }

    #[test]
    fn numbers_that_are_not_finite_are_errors() {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            let norm = |eps, momentum| Op::BatchNorm2d(BatchNorm2d { eps, momentum });
            refused(norm(value, 0.1), Shape::Map([1, 1, 1]));
            refused(norm(1e-5, value), Shape::Map([1, 1, 1]));
            refused(Op::Dropout(Dropout { p: value }), Shape::Vector(1));
        }
    }

    #[test]
    fn a_pooling_window_always_meets_the_input() {
        // A dilated window of 2 over one pixel between two of padding would look past it.
        let window = Window { dilation: [2, 2], ..Window::square(2).padding(1) };
        assert!(refused(Op::MaxPool2d(MaxPool2d { window }), Shape::Map([1, 1, 1])).contains("dilation"));
        assert!(Op::MaxPool2d(MaxPool2d { window }).output(&[Shape::Map([1, 2, 2])]).is_ok());
    }
}
