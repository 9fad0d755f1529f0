//! Convolution in blocked layouts: forward, by data and by weights, for any kernel, stride, padding, dilation and groups.
//!
//! `y[n, o, p] = bias[o] + Σ_{i, t} x[n, i, s·p + d·t - pad] · w[o, i, t]`, where `i` runs over the input channels of
//! `o`'s group (cross-correlation, as networks use it).
//!
//! Pictures are `[n][c/16][h][w][16]`; lanes past the last channel hold 0 and stay 0. An input of up to 4 channels is
//! plain NCHW instead. Weights and their gradient lie as the forward direction reads them ([`Conv::pack_weights`]), so
//! that an optimizer can work on them in place; by data repacks them, transposed, into scratch.
//!
//! A sum over channels is computed by `dense.rs`, which chooses between the direct method and Winograd's; groups whose channels
//! are not whole blocks become dense blocks with zeros in between. Where each channel is a group, `depthwise/` filters it alone.

mod axis;
mod backward_weights;
mod choice;
mod conv_depthwise;
pub(crate) mod copy;
mod correlation;
mod cut;
mod dense;
mod depthwise;
mod packing;
mod panels;
mod strip;
pub(crate) mod tile;
mod winograd;

pub use choice::{Choice, Setting, least_products};
pub use conv_depthwise::{ConvDepthwise, Layer};

use crate::activation::{Activation, Ending};
use crate::geometry::{TooSmall, Window};
use crate::layout::{Maps, MapsMut};
use crate::memory::Buffer;
use crate::precision::Precision;
use crate::simd::Isa;
use crate::statistics::{StatisticsParts, parts_len};
use crate::threads::Threads;
use axis::Kernel1d;
use correlation::Call;
pub(crate) use correlation::Panel;
use dense::Dense;
use depthwise::Depthwise;

/// Up to so many input channels, an input of the net is read as plain planes.
pub const PLAIN_CHANNELS: usize = 4;

/// What a convolution computes on one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Parts into which both are divided.
    pub groups: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Kernel, stride, padding and dilation.
    pub window: Window,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// A number per output channel, padded with zeros to whole blocks of 16.
    pub bias: Option<&'a [f32]>,
    /// Maps of the output's shape that are added.
    pub addend: Option<Maps<'a>>,
    /// What is computed of the sums, after the additions.
    pub activation: Activation,
    /// Where the statistics of what is stored go: [`Conv::statistics_parts`] parts.
    pub statistics: Option<StatisticsParts<'a>>,
}

/// A planned convolution: tables for all three directions, made once.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: ConvShape,
    isa: Isa,
    output: [usize; 2],
    plan: Plan,
}

/// What computes all three directions, over weights of one layout.
#[derive(Clone, Debug)]
enum Plan {
    /// Directly or by Winograd's algorithm, for each direction.
    Dense(Box<Dense>),
    /// Channel by channel.
    Depthwise(Box<Depthwise>),
}

impl ConvShape {
    /// Whether each channel of the output is that of the input, filtered.
    pub fn is_depthwise(&self) -> bool {
        [self.in_channels, self.out_channels] == [self.groups; 2]
    }

    /// The kernel along each axis.
    fn kernel(&self) -> [Kernel1d; 2] {
        let (begin, _) = self.window.pads(self.input);
        [0, 1].map(|axis| Kernel1d {
            kernel: self.window.kernel[axis],
            stride: self.window.stride[axis],
            dilation: self.window.dilation[axis],
            begin: begin[axis],
        })
    }
}

impl Conv {
    /// Plans a convolution for an instruction set; `plain` says that the input is plain NCHW.
    ///
    /// # Errors
    /// [`TooSmall`] when the input does not hold one placement of the kernel.
    ///
    /// # Panics
    /// When groups do not divide the channels, or a plain input has groups or more than [`PLAIN_CHANNELS`] channels.
    pub fn new(shape: ConvShape, plain: bool, isa: Isa, setting: Setting) -> Result<Conv, TooSmall> {
        let ConvShape { in_channels, out_channels, groups, input, window } = shape;
        assert!(in_channels.is_multiple_of(groups) && out_channels.is_multiple_of(groups));
        assert!(!plain || (groups == 1 && in_channels <= PLAIN_CHANNELS));
        let output = window.output(input)?;
        let plan = match shape.is_depthwise() && !plain {
            true => Plan::Depthwise(Box::new(Depthwise::new(&shape, output, isa))),
            false => Plan::Dense(Box::new(Dense::new(shape, output, plain, isa, setting))),
        };
        Ok(Conv { shape, isa, output, plan })
    }

    /// Plans forward for an input and an output that are stored otherwise than in `f32`, as which they are at first.
    ///
    /// # Panics
    /// When bf16 is asked for, but the input is plain, or products that sum over channels are in `f32`.
    pub fn set_stored(&mut self, stored: [Precision; 2]) {
        match &mut self.plan {
            Plan::Dense(dense) => dense.set_stored(stored),
            Plan::Depthwise(depthwise) => depthwise.set_stored(stored),
        }
    }

    /// What it computes.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        self.output
    }

    /// The instruction set that it is planned for.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The panels of output channels in which weights are packed; a depthwise convolution has none.
    pub(crate) fn panels(&self) -> &[Panel] {
        match &self.plan {
            Plan::Dense(dense) => dense.panels(),
            Plan::Depthwise(_) => &[],
        }
    }

    /// Whether forward, by data and by weights are computed by Winograd's algorithm.
    pub fn takes_winograd(&self) -> [bool; 3] {
        match &self.plan {
            Plan::Dense(dense) => dense.takes_winograd(),
            Plan::Depthwise(_) => [false; 3],
        }
    }

    /// Numbers of one input picture in its layout.
    pub fn input_len(&self) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.input_len(),
            Plan::Depthwise(depthwise) => depthwise.input_len(),
        }
    }

    /// Numbers of one output picture in its layout.
    pub fn output_len(&self) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.output_len(),
            Plan::Depthwise(depthwise) => depthwise.output_len(),
        }
    }

    /// Floats of the packed weights.
    pub fn weights_len(&self) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.weights_len(),
            Plan::Depthwise(depthwise) => depthwise.weights_len(),
        }
    }

    /// Packs weights from OIHW; the rest of the packed blocks is 0.
    pub fn pack_weights(&self, threads: &Threads, oihw: &[f32], packed: &mut [f32]) {
        match &self.plan {
            Plan::Dense(dense) => dense.pack_weights(threads, oihw, packed),
            Plan::Depthwise(depthwise) => depthwise.pack_weights(oihw, packed),
        }
    }

    /// The reverse of [`Conv::pack_weights`].
    pub fn unpack_weights(&self, packed: &[f32], oihw: &mut [f32]) {
        match &self.plan {
            Plan::Dense(dense) => dense.unpack_weights(packed, oihw),
            Plan::Depthwise(depthwise) => depthwise.unpack_weights(packed, oihw),
        }
    }

    /// Prepares packed weights that never change again, in their place: as the setting said, forward then expects this.
    ///
    /// # Panics
    /// When the setting did not say that weights are fixed, or the slice is shorter than [`Conv::weights_len`].
    pub fn prepare_weights(&self, threads: &Threads, weights: &mut [f32]) {
        match &self.plan {
            Plan::Dense(dense) => dense.prepare_weights(threads, weights),
            // They are read as they are packed.
            Plan::Depthwise(_) => {}
        }
    }

    /// Whether forward reads fixed weights as words of two, which [`Conv::prepare_weights`] makes of them.
    pub fn reads_words(&self) -> bool {
        match &self.plan {
            Plan::Dense(dense) => dense.reads_words(),
            Plan::Depthwise(_) => false,
        }
    }

    /// Whether that depends on the batch: packed weights are the same for any other.
    pub fn form_varies(&self) -> bool {
        match &self.plan {
            Plan::Dense(dense) => dense.form_varies(),
            Plan::Depthwise(_) => false,
        }
    }

    /// The words of packed weights, for a plan of any batch that reads them; none for a depthwise convolution.
    ///
    /// # Panics
    /// When the slice is shorter than [`Conv::weights_len`].
    pub fn words(&self, threads: &Threads, packed: &[f32]) -> Buffer {
        match &self.plan {
            Plan::Dense(dense) => dense.words(threads, packed),
            Plan::Depthwise(_) => Buffer::default(),
        }
    }

    /// Parts of the statistics of the output of `batch` pictures.
    pub fn statistics_parts(&self, batch: usize) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.statistics_parts(batch),
            Plan::Depthwise(depthwise) => depthwise.statistics_parts(batch),
        }
    }

    /// Floats of the parts of up to `batch` pictures.
    pub fn statistics_len(&self, batch: usize) -> usize {
        let parts = match &self.plan {
            Plan::Dense(dense) => dense.most_statistics_parts(batch),
            Plan::Depthwise(depthwise) => depthwise.statistics_parts(batch),
        };
        parts_len(parts, self.shape.out_channels)
    }

    /// Floats of scratch that [`Conv::forward`] needs for up to `batch` pictures.
    pub fn forward_scratch(&self, batch: usize, threads: usize) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.forward_scratch(batch, threads),
            Plan::Depthwise(depthwise) => depthwise.forward_scratch(threads),
        }
    }

    /// Floats of scratch that [`Conv::backward_data`] needs for up to `batch` pictures.
    pub fn backward_data_scratch(&self, batch: usize, threads: usize) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.backward_data_scratch(batch, threads),
            Plan::Depthwise(_) => 0,
        }
    }

    /// Floats of scratch that [`Conv::backward_weights`] needs for up to `batch` pictures.
    pub fn backward_weights_scratch(&self, batch: usize, threads: usize) -> usize {
        match &self.plan {
            Plan::Dense(dense) => dense.backward_weights_scratch(batch, threads),
            Plan::Depthwise(depthwise) => depthwise.backward_weights_scratch(batch),
        }
    }

    /// `y = x ∗ weights`, then the epilogue, for `batch` pictures.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one convolution")]
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        weights: &[f32],
        epilogue: &Epilogue<'_>,
        y: MapsMut<'_>,
        scratch: &mut [f32],
    ) {
        let Epilogue { bias, addend, activation, statistics } = *epilogue;
        let ending = activation.ending(self.shape.out_channels);
        let call = Call { batch, x, weights, bias, addend, ending, accumulate: false, statistics };
        match &self.plan {
            Plan::Dense(dense) => dense.forward(threads, &call, y, scratch),
            Plan::Depthwise(depthwise) => depthwise.forward(threads, &call, y, scratch),
        }
    }

    /// `dx`: the gradient of `x`, from the gradient `dy` of the output; added to what `dx` holds if asked.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says, or the input is plain.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one convolution")]
    pub fn backward_data(
        &self,
        threads: &Threads,
        batch: usize,
        dy: Maps<'_>,
        weights: &[f32],
        dx: MapsMut<'_>,
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let (bias, addend, ending, statistics) = (None, None, Ending::default(), None);
        let call = Call { batch, x: dy, weights, bias, addend, ending, accumulate, statistics };
        match &self.plan {
            Plan::Dense(dense) => dense.backward_data(threads, &call, dx, scratch),
            Plan::Depthwise(depthwise) => depthwise.backward_data(threads, &call, dx),
        }
    }

    /// Plans for gradients of the output whose pictures are so many floats apart; at first they are one right after the
    /// other.
    pub fn set_gradient_stride(&mut self, stride: usize) {
        match &mut self.plan {
            Plan::Dense(dense) => dense.set_gradient_stride(stride),
            // It takes any stride.
            Plan::Depthwise(_) => {}
        }
    }

    /// `dw`: the gradient of the packed weights, summed over the batch.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says, or pictures of `dy` are not as far apart as planned.
    pub fn backward_weights(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        match &self.plan {
            Plan::Dense(dense) => dense.backward_weights(threads, batch, x, dy, dw, scratch),
            Plan::Depthwise(depthwise) => depthwise.backward_weights(threads, batch, x, dy, dw, scratch),
        }
    }
}

#[cfg(test)]
mod tests;
