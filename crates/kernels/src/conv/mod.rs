//! Convolution in blocked layouts: forward, by data and by weights, for any kernel, stride, padding, dilation and groups.
//!
//! `y[n, o, p] = bias[o] + Σ_{i, t} x[n, i, s·p + d·t - pad] · w[o, i, t]`, where `i` runs over the input channels of
//! `o`'s group (cross-correlation, as networks use it).
//!
//! Pictures are `[n][c/16][h][w][16]`; lanes past the last channel hold 0 and stay 0. An input of up to 4 channels is
//! plain NCHW instead. Weights and their gradient lie as the forward direction reads them ([`Conv::pack_weights`]), so
//! that an optimizer can work on them in place; by data repacks them, transposed, into scratch.
//! Groups whose channels are not whole blocks are computed as dense blocks with zeros in between.

mod axis;
mod backward_weights;
mod choice;
pub(crate) mod copy;
mod correlation;
mod cut;
mod packing;
pub(crate) mod tile;
mod winograd;

pub use choice::{Choice, Setting};

use crate::activation::{Activation, Ending};
use crate::geometry::{TooSmall, Window};
use crate::layout::{Maps, MapsMut};
use crate::moments::{MomentParts, parts_len};
use crate::precision::Precision;
use crate::simd::{Isa, LANES};
use crate::threads::Threads;
use axis::{Axis, Kernel1d};
use backward_weights::BackwardWeights;
pub(crate) use correlation::Panel;
use correlation::{Call, Correlation};
use packing::Transposition;
use std::ops::Range;
use winograd::{WeightGradient, Winograd};

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
    /// Where the moments of what is stored go: [`Conv::moment_parts`] parts.
    pub moments: Option<MomentParts<'a>>,
}

/// A planned convolution: tables for all three directions, made once.
#[derive(Clone, Debug)]
pub struct Conv {
    shape: ConvShape,
    isa: Isa,
    output: [usize; 2],
    unit: usize,
    fixed_weights: bool,
    forward: Correlation,
    /// Absent for plain inputs, whose gradient nobody asks for.
    backward: Option<(Correlation, Transposition)>,
    backward_weights: BackwardWeights,
    winograd: WinogradPlans,
}

/// The directions that Winograd's algorithm computes.
#[derive(Clone, Debug, Default)]
struct WinogradPlans {
    forward: Option<Winograd>,
    backward: Option<Winograd>,
    backward_weights: Option<WeightGradient>,
}

impl WinogradPlans {
    fn new(shape: &ConvShape, output: [usize; 2], isa: Isa, setting: Setting) -> WinogradPlans {
        let ConvShape { in_channels, out_channels, input, window, .. } = *shape;
        let begin = window.pads(input).0.map(|pixels| pixels as isize);
        let blocks = [in_channels, out_channels].map(|channels| channels.div_ceil(LANES));
        let turned = [blocks[1], blocks[0]];
        let forward = Winograd::new(isa, blocks, input, output, begin, false);
        let backward = Winograd::new(isa, turned, output, input, begin.map(|pixels| 2 - pixels), true);
        let by_weights = WeightGradient::new(isa, blocks, input, output, begin);
        let takes = |cost: f64, direct: f64| setting.takes_winograd(cost, direct);
        let (batch, direct_by_weights) = (setting.batch, setting.direct_cost_by_weights(blocks, output));
        WinogradPlans {
            forward: takes(forward.cost(batch), setting.direct_cost(blocks, output)).then_some(forward),
            backward: takes(backward.cost(batch), setting.direct_cost(turned, input)).then_some(backward),
            backward_weights: takes(by_weights.cost(batch), direct_by_weights).then_some(by_weights),
        }
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
        let (begin, _) = window.pads(input);
        let kernel = |axis: usize| Kernel1d {
            kernel: window.kernel[axis],
            stride: window.stride[axis],
            dilation: window.dilation[axis],
            begin: begin[axis],
        };
        let unit = if plain { 1 } else { LANES };
        let (planes, blocks) = (in_channels.div_ceil(unit), out_channels.div_ceil(LANES));
        let axes = [0, 1].map(|axis| Axis::forward(kernel(axis), input[axis], output[axis]));
        let panels = panels(isa, [in_channels, out_channels], groups, unit);
        let mut forward = Correlation::new(setting.precision, [unit, planes, blocks], axes, panels);
        place_weights(&mut forward);
        let backward = (!plain).then(|| {
            let axes = [0, 1].map(|axis| Axis::backward(kernel(axis), output[axis], input[axis]));
            let panels = self::panels(isa, [out_channels, in_channels], groups, LANES);
            let mut backward = Correlation::new(setting.precision, [LANES, blocks, planes], axes, panels);
            place_weights(&mut backward);
            let transposition = Transposition::new(&forward, &backward);
            (backward, transposition)
        });
        let backward_weights = BackwardWeights::new(&shape, output, unit, &forward);
        let winograd = match choice::winograd_applies(&shape, plain) {
            true => WinogradPlans::new(&shape, output, isa, setting),
            false => WinogradPlans::default(),
        };
        let fixed_weights = setting.fixed_weights;
        Ok(Conv { shape, isa, output, unit, fixed_weights, forward, backward, backward_weights, winograd })
    }

    /// Plans forward for an input and an output that are stored otherwise than in `f32`, as which they are at first.
    ///
    /// # Panics
    /// When bf16 is asked for, but the input is plain or products are in `f32`.
    pub fn set_stored(&mut self, stored: [Precision; 2]) {
        assert!(self.unit == LANES || stored[0] == Precision::F32, "a plain input is stored in f32");
        let multiplied = self.forward.precision();
        assert!(
            multiplied == Precision::Bf16 || stored == [multiplied; 2],
            "what is multiplied in f32 is stored in it"
        );
        self.forward = self.forward.with_stored(stored);
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

    /// The panels of output channels in which weights are packed.
    pub(crate) fn panels(&self) -> &[Panel] {
        &self.forward.panels
    }

    /// Whether forward, by data and by weights are computed by Winograd's algorithm.
    pub fn takes_winograd(&self) -> [bool; 3] {
        let WinogradPlans { forward, backward, backward_weights } = &self.winograd;
        [forward.is_some(), backward.is_some(), backward_weights.is_some()]
    }

    /// Numbers of one input picture in its layout.
    pub fn input_len(&self) -> usize {
        self.forward.input_len()
    }

    /// Numbers of one output picture in its layout.
    pub fn output_len(&self) -> usize {
        self.forward.output_len()
    }

    /// Floats of the packed weights.
    pub fn weights_len(&self) -> usize {
        self.forward.weights_len()
    }

    /// Floats of scratch that [`Conv::forward`] needs for up to `batch` pictures.
    pub fn forward_scratch(&self, batch: usize, threads: usize) -> usize {
        match &self.winograd.forward {
            Some(winograd) => winograd.scratch_len(batch, threads),
            None => self.own_words() + self.forward.scratch_len(batch, threads) * threads,
        }
    }

    /// Words of weights that each call makes of the packed ones.
    fn own_words(&self) -> usize {
        match self.forward.precision() {
            Precision::Bf16 if !self.fixed_weights => self.forward.words_len(),
            Precision::F32 | Precision::Bf16 => 0,
        }
    }

    /// Prepares packed weights that never change again, in their place: as the setting said, forward then expects this.
    ///
    /// # Panics
    /// When the setting did not say that weights are fixed, or the slice is shorter than [`Conv::weights_len`].
    pub fn prepare_weights(&self, threads: &Threads, weights: &mut [f32]) {
        assert!(self.fixed_weights, "planned for weights that change");
        if self.winograd.forward.is_none() && self.forward.precision() == Precision::Bf16 {
            self.forward.pair_weights_in_place(self.isa, threads, weights);
        }
    }

    /// Parts of the moments of the output of `batch` pictures.
    pub fn moment_parts(&self, batch: usize) -> usize {
        match &self.winograd.forward {
            Some(winograd) => winograd.moment_parts(batch),
            None => self.forward.moment_parts(batch),
        }
    }

    /// Floats of the parts of up to `batch` pictures.
    pub fn moments_len(&self, batch: usize) -> usize {
        let parts = match &self.winograd.forward {
            Some(winograd) => winograd.most_moment_parts(batch),
            None => self.forward.moment_parts(batch),
        };
        parts_len(parts, self.shape.out_channels)
    }

    /// Floats of scratch that [`Conv::backward_data`] needs for up to `batch` pictures.
    pub fn backward_data_scratch(&self, batch: usize, threads: usize) -> usize {
        match (&self.winograd.backward, &self.backward) {
            (Some(winograd), _) => winograd.scratch_len(batch, threads),
            (None, Some((backward, _))) => backward.words_len() + backward.scratch_len(batch, threads) * threads,
            (None, None) => 0,
        }
    }

    /// Floats of scratch that [`Conv::backward_weights`] needs for up to `batch` pictures.
    pub fn backward_weights_scratch(&self, batch: usize, threads: usize) -> usize {
        match &self.winograd.backward_weights {
            Some(winograd) => winograd.scratch_len(batch, threads),
            None => self.backward_weights.scratch_len(batch, threads, &self.forward),
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
        let Epilogue { bias, addend, activation, moments } = *epilogue;
        let ending = activation.ending(self.shape.out_channels);
        let call = Call { batch, x, weights, bias, addend, ending, accumulate: false, moments };
        match &self.winograd.forward {
            Some(winograd) => winograd.run(self.isa, threads, &self.forward.panels, &call, y, scratch),
            None => {
                let (words, scratch) = scratch.split_at_mut(self.own_words());
                let mut call = call;
                if !words.is_empty() {
                    self.forward.pair_weights(self.isa, threads, weights, words);
                    call.weights = words;
                }
                self.forward.run(self.isa, threads, &call, y, scratch);
            }
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
        let (backward, transposition) = self.backward.as_ref().expect("a plain input has no gradient");
        let (bias, addend, ending, moments) = (None, None, Ending::default(), None);
        let call = Call { batch, x: dy, weights, bias, addend, ending, accumulate, moments };
        if let Some(winograd) = &self.winograd.backward {
            return winograd.run(self.isa, threads, &self.forward.panels, &call, dx, scratch);
        }
        let (transposed, scratch) = scratch.split_at_mut(backward.words_len());
        transposition.run(self.isa, threads, weights, transposed);
        backward.run(self.isa, threads, &Call { weights: transposed, ..call }, dx, scratch);
    }

    /// Plans for gradients of the output whose pictures are so many floats apart; at first they are one right after the
    /// other.
    pub fn set_gradient_stride(&mut self, stride: usize) {
        self.backward_weights.set_dy_stride(stride);
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
        if let Some(winograd) = &self.winograd.backward_weights {
            return winograd.run(self.isa, threads, &self.forward.panels, batch, x, dy, dw, scratch);
        }
        self.backward_weights.run(self.isa, threads, &self.forward, batch, x, dy, dw, scratch);
        if self.mixes_groups() {
            self.clear_between_groups(dw);
        }
    }

    /// Whether blocks hold channels of several groups, so that packed weights have zeros between groups.
    fn mixes_groups(&self) -> bool {
        let ConvShape { in_channels, out_channels, groups, .. } = self.shape;
        mixes_groups(in_channels / groups, out_channels / groups, groups)
    }

    /// Sets the gradient of what is zero by structure to zero, so that it stays zero in training.
    fn clear_between_groups(&self, dw: &mut [f32]) {
        let ConvShape { in_channels, out_channels, groups, window, .. } = self.shape;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let taps = window.kernel[0] * window.kernel[1];
        for panel in &self.forward.panels {
            let rows = dw[panel.weights..][..self.forward.panel_len(panel)].as_chunks_mut::<LANES>().0;
            for (row, lanes) in rows.iter_mut().enumerate() {
                let channel = (panel.planes.start + row / LANES / taps) * LANES + row % LANES;
                for (lane, x) in lanes.iter_mut().enumerate() {
                    if channel / group_in != (panel.block * LANES + lane) / group_out {
                        *x = 0.0;
                    }
                }
            }
        }
    }

    /// Packs weights from OIHW; the rest of the packed blocks is 0.
    pub fn pack_weights(&self, oihw: &[f32], packed: &mut [f32]) {
        packed[..self.weights_len()].fill(0.0);
        self.each_weight(|plain, at| packed[at] = oihw[plain]);
    }

    /// The reverse of [`Conv::pack_weights`].
    pub fn unpack_weights(&self, packed: &[f32], oihw: &mut [f32]) {
        self.each_weight(|plain, at| oihw[plain] = packed[at]);
    }

    /// Every weight's place in OIHW and in the packed layout.
    fn each_weight(&self, mut visit: impl FnMut(usize, usize)) {
        let ConvShape { in_channels, out_channels, groups, window, .. } = self.shape;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        let taps = window.kernel[0] * window.kernel[1];
        for panel in &self.forward.panels {
            let lanes = panel.width * LANES;
            let first = panel.block * LANES;
            for o in first..(first + lanes).min(out_channels) {
                for i in 0..group_in {
                    let channel = o / group_out * group_in + i;
                    let plane = channel / self.unit - panel.planes.start;
                    for t in 0..taps {
                        let row = (plane * taps + t) * self.unit + channel % self.unit;
                        visit((o * group_in + i) * taps + t, panel.weights + row * lanes + o - first);
                    }
                }
            }
        }
    }
}

/// Whether blocks of channels would cross groups.
fn mixes_groups(group_in: usize, group_out: usize, groups: usize) -> bool {
    groups > 1 && (!group_in.is_multiple_of(LANES) || !group_out.is_multiple_of(LANES))
}

/// Cuts the output channels into panels, for `[inputs, outputs]` channels of either direction.
fn panels(isa: Isa, channels: [usize; 2], groups: usize, unit: usize) -> Vec<Panel> {
    let [inputs, outputs] = channels;
    let (group_in, group_out) = (inputs / groups, outputs / groups);
    let panel = |block: usize, width: usize, planes: Range<usize>| Panel { block, width, planes, weights: 0 };
    if mixes_groups(group_in, group_out, groups) {
        // Blocks mix groups: each block of outputs sees every block of inputs that one of its groups touches.
        let of_block = |block: usize| {
            let last = ((block + 1) * LANES).min(outputs) - 1;
            let (first_group, last_group) = (block * LANES / group_out, last / group_out);
            let planes = first_group * group_in / LANES..((last_group + 1) * group_in).div_ceil(LANES);
            panel(block, 1, planes)
        };
        return (0..outputs.div_ceil(LANES)).map(of_block).collect();
    }
    let (blocks, planes) = (group_out.div_ceil(LANES), group_in.div_ceil(unit));
    let width = isa.tile_width();
    let of_group = |group: usize| {
        let cut = move |first: usize| {
            panel(group * blocks + first, width.min(blocks - first), group * planes..(group + 1) * planes)
        };
        (0..blocks).step_by(width).map(cut)
    };
    (0..groups).flat_map(of_group).collect()
}

/// Gives each panel its place in the packed weights.
fn place_weights(correlation: &mut Correlation) {
    let mut at = 0;
    for i in 0..correlation.panels.len() {
        correlation.panels[i].weights = at;
        at += correlation.panel_len(&correlation.panels[i]);
    }
}

#[cfg(test)]
mod tests;
