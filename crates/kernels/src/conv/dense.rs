//! A convolution whose outputs sum over channels: a choice of algorithm for each direction, over the same packed weights.
//!
//! The direct method (`correlation.rs`, `backward_weights.rs`) computes everything; Winograd's (`winograd/`) 3×3 kernels of
//! stride 1 where `choice.rs` expects it to be faster. Weights lie as the direct method reads them forward (`panels.rs`).

use super::axis::Axis;
use super::backward_weights::BackwardWeights;
use super::choice::{self, Choice, Setting};
use super::correlation::{Call, Correlation};
use super::packing::Transposition;
use super::panels::{Packing, cut_panels};
use super::winograd::{WeightGradient, Winograd};
use super::{ConvShape, Panel};
use crate::layout::{Maps, MapsMut};
use crate::memory::Buffer;
use crate::precision::Precision;
use crate::simd::{Isa, LANES};
use crate::threads::Threads;

/// Tables for all three directions.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    shape: ConvShape,
    isa: Isa,
    unit: usize,
    fixed_weights: bool,
    /// Whether another batch may have another forward algorithm.
    forward_varies: bool,
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
        let forward = Winograd::new(isa, setting.caches, blocks, input, output, begin, false);
        let backward = Winograd::new(isa, setting.caches, turned, output, input, begin.map(|pixels| 2 - pixels), true);
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

impl Dense {
    /// Plans a convolution whose kernel fits; `plain` says that the input is plain NCHW.
    pub(super) fn new(shape: ConvShape, output: [usize; 2], plain: bool, isa: Isa, setting: Setting) -> Dense {
        let ConvShape { in_channels, out_channels, input, .. } = shape;
        let unit = if plain { 1 } else { LANES };
        let (planes, blocks) = (in_channels.div_ceil(unit), out_channels.div_ceil(LANES));
        let kernel = shape.kernel();
        let axes = [0, 1].map(|axis| Axis::forward(kernel[axis], input[axis], output[axis]));
        let panels = cut_panels(isa, [in_channels, out_channels], shape.groups, unit);
        let mut forward = Correlation::new(setting.precision, [unit, in_channels, blocks], axes, panels);
        forward.place_weights();
        let backward = (!plain).then(|| {
            let axes = [0, 1].map(|axis| Axis::backward(kernel[axis], output[axis], input[axis]));
            let panels = cut_panels(isa, [out_channels, in_channels], shape.groups, LANES);
            let mut backward = Correlation::new(setting.precision, [LANES, out_channels, planes], axes, panels);
            backward.place_weights();
            let transposition = Transposition::new(&forward, &backward);
            (backward, transposition)
        });
        let backward_weights = BackwardWeights::new(&shape, output, unit, &forward);
        let applies = choice::winograd_applies(&shape, plain);
        let winograd = match applies {
            true => WinogradPlans::new(&shape, output, isa, setting),
            false => WinogradPlans::default(),
        };
        let (fixed_weights, forward_varies) = (setting.fixed_weights, applies && setting.choice == Choice::Auto);
        Dense { shape, isa, unit, fixed_weights, forward_varies, forward, backward, backward_weights, winograd }
    }

    /// Plans forward for an input and an output that are stored otherwise than in `f32`, as which they are at first.
    ///
    /// # Panics
    /// When bf16 is asked for, but the input is plain or products are in `f32`.
    pub(super) fn set_stored(&mut self, stored: [Precision; 2]) {
        assert!(self.unit == LANES || stored[0] == Precision::F32, "a plain input is stored in f32");
        let multiplied = self.forward.precision();
        assert!(
            multiplied == Precision::Bf16 || stored == [multiplied; 2],
            "what is multiplied in f32 is stored in it"
        );
        self.forward = self.forward.with_stored(stored);
    }

    /// The panels of output channels in which weights are packed.
    pub(super) fn panels(&self) -> &[Panel] {
        &self.forward.panels
    }

    /// Whether forward, by data and by weights are computed by Winograd's algorithm.
    pub(super) fn takes_winograd(&self) -> [bool; 3] {
        let WinogradPlans { forward, backward, backward_weights } = &self.winograd;
        [forward.is_some(), backward.is_some(), backward_weights.is_some()]
    }

    /// Numbers of one input picture in its layout.
    pub(super) fn input_len(&self) -> usize {
        self.forward.input_len()
    }

    /// Numbers of one output picture in its layout.
    pub(super) fn output_len(&self) -> usize {
        self.forward.output_len()
    }

    /// Floats of the packed weights.
    pub(super) fn weights_len(&self) -> usize {
        self.forward.weights_len()
    }

    /// Floats of scratch that [`super::Conv::forward`] needs for up to `batch` pictures.
    pub(super) fn forward_scratch(&self, batch: usize, threads: usize) -> usize {
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
    pub(super) fn prepare_weights(&self, threads: &Threads, weights: &mut [f32]) {
        assert!(self.fixed_weights, "planned for weights that change");
        if self.reads_words() {
            self.forward.pair_weights_in_place(self.isa, threads, weights);
        }
    }

    /// Whether forward reads fixed weights as words of two.
    pub(super) fn reads_words(&self) -> bool {
        self.fixed_weights && self.winograd.forward.is_none() && self.forward.precision() == Precision::Bf16
    }

    /// Whether that depends on the batch.
    pub(super) fn form_varies(&self) -> bool {
        self.fixed_weights && self.forward_varies && self.forward.precision() == Precision::Bf16
    }

    /// The words of packed weights, for a plan of any batch that reads them.
    pub(super) fn words(&self, threads: &Threads, packed: &[f32]) -> Buffer {
        let mut words = Buffer::zeros(self.weights_len());
        words.copy_from_slice(&packed[..self.weights_len()]);
        self.forward.pair_weights_in_place(self.isa, threads, &mut words);
        words.truncate(self.forward.words_len());
        words
    }

    /// What computes forward, unless Winograd's algorithm does, or weights are paired in each call.
    pub(super) fn direct_forward(&self) -> Option<&Correlation> {
        (self.winograd.forward.is_none() && self.own_words() == 0).then_some(&self.forward)
    }

    /// Parts of the statistics of the output of `batch` pictures.
    pub(super) fn statistics_parts(&self, batch: usize) -> usize {
        match &self.winograd.forward {
            Some(winograd) => winograd.statistics_parts(batch),
            None => self.forward.statistics_parts(batch),
        }
    }

    /// The most parts of any batch up to this one.
    pub(super) fn most_statistics_parts(&self, batch: usize) -> usize {
        match &self.winograd.forward {
            Some(winograd) => winograd.most_statistics_parts(batch),
            None => self.forward.statistics_parts(batch),
        }
    }

    /// Floats of scratch that [`super::Conv::backward_data`] needs for up to `batch` pictures.
    pub(super) fn backward_data_scratch(&self, batch: usize, threads: usize) -> usize {
        match (&self.winograd.backward, &self.backward) {
            (Some(winograd), _) => winograd.scratch_len(batch, threads),
            (None, Some((backward, _))) => backward.words_len() + backward.scratch_len(batch, threads) * threads,
            (None, None) => 0,
        }
    }

    /// Floats of scratch that [`super::Conv::backward_weights`] needs for up to `batch` pictures.
    pub(super) fn backward_weights_scratch(&self, batch: usize, threads: usize) -> usize {
        match &self.winograd.backward_weights {
            Some(winograd) => winograd.scratch_len(batch, threads),
            None => self.backward_weights.scratch_len(batch, threads, &self.forward),
        }
    }

    /// `y = x ∗ weights`, then the epilogue.
    pub(super) fn forward(&self, threads: &Threads, call: &Call<'_>, y: MapsMut<'_>, scratch: &mut [f32]) {
        if let Some(winograd) = &self.winograd.forward {
            return winograd.run(self.isa, threads, &self.forward.panels, call, y, scratch);
        }
        let (words, scratch) = scratch.split_at_mut(self.own_words());
        let mut call = *call;
        if !words.is_empty() {
            self.forward.pair_weights(self.isa, threads, call.weights, words);
            call.weights = words;
        }
        self.forward.run(self.isa, threads, &call, y, scratch);
    }

    /// `dx` from `dy`, which the call names `x`.
    ///
    /// # Panics
    /// When the input is plain.
    pub(super) fn backward_data(&self, threads: &Threads, call: &Call<'_>, dx: MapsMut<'_>, scratch: &mut [f32]) {
        let (backward, transposition) = self.backward.as_ref().expect("a plain input has no gradient");
        if let Some(winograd) = &self.winograd.backward {
            return winograd.run(self.isa, threads, &self.forward.panels, call, dx, scratch);
        }
        let (transposed, scratch) = scratch.split_at_mut(backward.words_len());
        transposition.run(self.isa, threads, call.weights, transposed);
        backward.run(self.isa, threads, &Call { weights: transposed, ..*call }, dx, scratch);
    }

    /// Plans for gradients of the output whose pictures are so many floats apart; at first they are one right after the
    /// other.
    pub(super) fn set_gradient_stride(&mut self, stride: usize) {
        self.backward_weights.set_dy_stride(stride);
    }

    /// `dw`: the gradient of the packed weights, summed over the batch.
    pub(super) fn backward_weights(
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
        self.packing().clear_between_groups(dw);
    }

    /// Packs weights from OIHW; the rest of the packed blocks is 0.
    pub(super) fn pack_weights(&self, threads: &Threads, oihw: &[f32], packed: &mut [f32]) {
        self.packing().pack(threads, oihw, packed);
    }

    /// The reverse of [`Dense::pack_weights`].
    pub(super) fn unpack_weights(&self, packed: &[f32], oihw: &mut [f32]) {
        self.packing().unpack(packed, oihw);
    }

    fn packing(&self) -> Packing<'_> {
        Packing { shape: &self.shape, unit: self.unit, panels: &self.forward.panels }
    }
}
