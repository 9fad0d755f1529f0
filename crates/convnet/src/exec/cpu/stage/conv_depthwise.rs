//! In inference, a 1×1 convolution with its activation and the depthwise one with its own that alone reads it: the first half
//! of an inverted residual. Products are in `f32`; where they are in bf16, the two are stages of their own.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use crate::exec::parameters::Packing;
use crate::ops::{Activation, Conv2d, Op};
use convnet_kernels::conv::{Conv, ConvDepthwise, Layer};

#[derive(Debug)]
struct ConvDepthwiseStage {
    convolutions: ConvDepthwise,
    weights: [usize; 2],
    biases: [Option<usize>; 2],
    activations: [Activation; 2],
}

/// Adds the stage of a convolution and the one after it, if they are such; else nothing.
pub(super) fn lower(lowering: &mut Lowering<'_>, node: usize, op: &Conv2d, conv: &Conv) -> Result<bool> {
    if lowering.is_training() {
        return Ok(false);
    }
    let (last, activation) = lowering.take_activation(node);
    let Some((next, Op::Conv2d(next_op))) = lowering.only_reader(last).map(|next| (next, lowering.op(next))) else {
        return Ok(false);
    };
    // Another convolution would be planned for nothing.
    if !super::conv::shape(lowering, next, next_op).is_depthwise() || lowering.waiting_sum(next).is_some() {
        return Ok(false);
    }
    let filter = super::conv::plan(lowering, next, next_op, lowering.setting())?;
    let Some(convolutions) = ConvDepthwise::new(conv, &filter) else { return Ok(false) };
    let (end, next_activation) = lowering.take_activation(next);
    let layers = [(node, op, conv), (next, next_op, &filter)];
    let parameters = layers.map(|(node, op, conv)| super::conv::parameters(lowering, node, op, conv));
    let stage = ConvDepthwiseStage {
        convolutions,
        weights: parameters.map(|(weight, _)| weight),
        biases: parameters.map(|(_, bias)| bias),
        activations: [activation, next_activation],
    };
    let layout = Layout::of(lowering.node(next).shape);
    lowering.push(node, end, Box::new(stage), layout)?;
    Ok(true)
}

impl Compute for ConvDepthwiseStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::None,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward_scratch(&self, _pictures: usize, threads: usize) -> usize {
        self.convolutions.forward_scratch(threads)
    }

    fn packing(&self, weight: usize) -> Option<&dyn Packing> {
        self.convolutions.convolutions().into_iter().nth(weight).map(|conv| conv as &dyn Packing)
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let ([x], [y, scratch]) = run.arena.split([x_view.span(count)], [y_view.span(count), run.scratch()]);
        let layers = [0, 1].map(|i| Layer {
            weights: run.weights.get(self.weights[i]),
            bias: self.biases[i].map(|bias| run.weights.get(bias)),
            activation: self.activations[i],
        });
        self.convolutions.forward(run.threads, count, x_view.maps(x), layers, y_view.maps_mut(y), scratch);
    }

    fn backward(&self, _run: &mut Backward<'_>) {
        unreachable!("a stage of inference alone");
    }
}
