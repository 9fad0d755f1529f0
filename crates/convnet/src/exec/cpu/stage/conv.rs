//! A convolution with its bias and, in its epilogue, what follows it: in inference a sum that waits for it, and an
//! activation. A linear layer at each pixel is a convolution of one pixel. Backward keeps the input and, for the activation,
//! the output.

use super::norm::Norm;
use super::norm_act::{self, Chained};
use super::stem::StemStage;
use super::{Backward, Compute, Forward, LeavesStatistics};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout};
use crate::exec::parameters::Packing;
use crate::geometry::Window;
use crate::ops::{Activation, Conv2d, Linear};
use convnet_kernels::conv::{Conv, ConvShape, Epilogue, Setting};
use convnet_kernels::memory::Buffer;
use convnet_kernels::precision::Precision;
use convnet_kernels::reduce;
use convnet_kernels::statistics::StatisticsParts;
use convnet_kernels::stem::Stem;
use convnet_kernels::threads::Threads;

/// What packs a convolution's weight.
pub(super) type ConvPacking = Conv;

#[derive(Debug)]
struct ConvStage {
    conv: Conv,
    weight: usize,
    bias: Option<usize>,
    /// Whether the second input is added before the activation.
    addend: bool,
    activation: Activation,
}

impl Packing for Conv {
    fn pack(&self, threads: &Threads, plain: &[f32], packed: &mut [f32]) {
        self.pack_weights(threads, plain, packed);
    }

    fn unpack(&self, packed: &[f32], plain: &mut [f32]) {
        self.unpack_weights(packed, plain);
    }

    fn fix(&self, threads: &Threads, packed: &mut [f32]) {
        self.prepare_weights(threads, packed);
    }

    fn words(&self, threads: &Threads, packed: &[f32]) -> Option<Buffer> {
        self.form_varies().then(|| Conv::words(self, threads, packed))
    }

    fn reads_words(&self) -> bool {
        self.form_varies() && Conv::reads_words(self)
    }
}

/// Adds the stage of a convolution.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &Conv2d) -> Result<()> {
    let (shape, plain) = (shape(lowering, node, op), lowering.reads_plain(node));
    let norm = norm_act::norm_after(lowering, node)
        .filter(|&(after, _)| plain && Stem::takes(&shape) && !lowering.is_frozen(after) && !lowering.is_synchronized())
        .filter(|&(after, _)| lowering.trained_as_one([node, after]))
        .filter(|&(after, _)| Stem::takes_activation(norm_act::chain_after(lowering, after).chain.activation()));
    // A stem has too few products to gain from rounding them.
    let precision = if norm.is_some() { Precision::F32 } else { lowering.setting().precision };
    let conv = plan(lowering, node, op, Setting { precision, ..lowering.setting() })?;
    if super::conv_depthwise::lower(lowering, node, op, &conv)? {
        return Ok(());
    }
    let (weight, bias) = parameters(lowering, node, op, &conv);
    if let Some((after, norm)) = norm {
        let norm = Norm::lower(lowering, after, &norm);
        let Chained { chain, drop, last } = norm_act::chain_after(lowering, after);
        let stem = StemStage { stem: Stem::new(conv, chain), channels: shape.out_channels, weight, bias, norm, drop };
        let layout = Layout::of(lowering.node(last).shape);
        return lowering.push(node, last, Box::new(stem), layout);
    }
    let sum = if lowering.is_training() { None } else { lowering.waiting_sum(node) };
    let (last, activation) = lowering.take_activation(sum.map_or(node, |(sum, _)| sum));
    let stage = ConvStage { conv, weight, bias, addend: sum.is_some(), activation };
    let layout = Layout::of(lowering.node(node).shape);
    lowering.push(node, last, Box::new(stage), layout)?;
    if let Some((_, addend)) = sum {
        lowering.add_input(addend);
    }
    Ok(())
}

/// What a convolution computes.
pub(super) fn shape(lowering: &Lowering<'_>, node: usize, op: &Conv2d) -> ConvShape {
    let [in_channels, h, w] = lowering.map(node);
    let [out_channels, _] = Layout::of(lowering.node(node).shape).channels_and_pixels();
    let window = super::pool::explicit(op.window, [h, w]);
    ConvShape { in_channels, out_channels, groups: op.groups, input: [h, w], window }
}

/// Plans a convolution; its method is chosen for the node's pictures.
pub(super) fn plan(lowering: &Lowering<'_>, node: usize, op: &Conv2d, setting: Setting) -> Result<Conv> {
    // What is chosen may not depend on the threads.
    let setting = Setting { batch: lowering.method_pictures(node), ..setting };
    let conv = Conv::new(shape(lowering, node, op), lowering.reads_plain(node), lowering.isa(), setting);
    conv.map_err(|problem| lowering.problem(node, problem.to_string()))
}

/// Places for a convolution's weight and bias.
pub(super) fn parameters(lowering: &mut Lowering<'_>, node: usize, op: &Conv2d, conv: &Conv) -> (usize, Option<usize>) {
    let weight = lowering.packed(node, "weight", conv.weights_len());
    (weight, op.bias.then(|| lowering.vector(node, "bias")))
}

/// Adds the stage of a linear layer at each pixel.
pub(in crate::exec::cpu) fn lower_linear(lowering: &mut Lowering<'_>, node: usize, op: &Linear) -> Result<()> {
    lower(lowering, node, &Conv2d { bias: op.bias, ..Conv2d::new(op.out_features, Window::square(1)) })
}

impl Compute for ConvStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: super::activation::output_kept(self.activation),
            input_gradients: InputGradients::Computed,
            changes_gradient: self.activation != Activation::Identity,
            normalizes: false,
            takes_bf16: true,
        }
    }

    fn forward_scratch(&self, pictures: usize, threads: usize) -> usize {
        self.conv.forward_scratch(pictures, threads)
    }

    fn backward_scratch(&self, batch: usize, threads: usize, _flows: &[Flow]) -> usize {
        self.conv.backward_weights_scratch(batch, threads).max(self.conv.backward_data_scratch(batch, threads))
    }

    fn packing(&self, _weight: usize) -> Option<&dyn Packing> {
        Some(&self.conv)
    }

    fn statistics(&self) -> Option<&dyn LeavesStatistics> {
        Some(self)
    }

    fn set_stored(&mut self, stored: [Precision; 2]) {
        self.conv.set_stored(stored);
    }

    fn set_gradient_stride(&mut self, stride: usize) {
        self.conv.set_gradient_stride(stride);
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let addend_view = if self.addend { run.input(1) } else { x_view };
        let reads = [x_view, addend_view].map(|view| view.span(count));
        let writes = [y_view.span(count), run.scratch(), run.step.parts.clone()];
        let ([x, other], [y, scratch, parts]) = run.arena.split(reads, writes);
        let wanted = run.statistics[run.index].is_some();
        let statistics = wanted.then(|| StatisticsParts::new(parts, self.conv.shape().out_channels));
        let bias = self.bias.map(|bias| run.weights.get(bias));
        let addend = self.addend.then(|| addend_view.maps(other));
        let epilogue = Epilogue { bias, addend, activation: self.activation, statistics };
        let (x, y) = (x_view.maps(x), y_view.maps_mut(y));
        self.conv.forward(run.threads, count, x, run.weights.get(self.weight), &epilogue, y, scratch);
    }

    fn backward(&self, run: &mut Backward<'_>) {
        super::activation::backward_in_place(run, self.activation);
        let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
        let reads = [x_view.span(count), dy_view.span(count)];
        let ([x, dy], [scratch]) = run.arena.split(reads, [run.scratch.clone()]);
        let (x, dy) = (x_view.maps(x), dy_view.maps(dy));
        if let Some(slot) = run.weights.gradient(self.weight) {
            self.conv.backward_weights(run.threads, count, x, dy, &mut run.weight_gradients[slot], scratch);
        }
        let bias = self.bias.filter(|_| !run.idle_bias).and_then(|bias| run.weights.gradient(bias));
        if let Some(bias) = bias {
            let [channels, pixels] = run.stages[run.index].output.channels_and_pixels();
            let db = &mut run.weight_gradients[bias];
            reduce::sum_pixels(run.isa, run.threads, [count, channels, pixels], dy, db);
        }
        if let Some((dx_view, accumulate)) = run.input_gradient(0) {
            let writes = [dx_view.span(count), run.scratch.clone()];
            let ([dy], [dx, scratch]) = run.arena.split([dy_view.span(count)], writes);
            let (dy, dx, weights) = (dy_view.maps(dy), dx_view.maps_mut(dx), run.weights.get(self.weight));
            self.conv.backward_data(run.threads, count, dy, weights, dx, accumulate, scratch);
        }
    }
}

impl LeavesStatistics for ConvStage {
    fn len(&self, batch: usize) -> usize {
        self.conv.statistics_len(batch)
    }

    fn parts(&self, count: usize) -> usize {
        self.conv.statistics_parts(count)
    }
}
