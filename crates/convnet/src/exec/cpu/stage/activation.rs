//! An activation by itself, and what the stages share that have one in their epilogue.
//!
//! Backward changes the output's gradient in place, from the output or from the input, as the activation says; so an
//! activation whose gradient needs the input is computed in a stage of its own in training, unless a chain has it, which
//! keeps its input anyway.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use crate::ops::Activation;
use convnet_kernels::activation::{self, GradientFrom};
use convnet_kernels::merge;

#[derive(Debug)]
struct ActivationStage {
    activation: Activation,
}

/// Adds the stage of an activation, or of the chain that begins with it.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, activation: Activation) -> Result<()> {
    if super::norm_act::lower_pooled(lowering, node, activation)? {
        return Ok(());
    }
    let layout = lowering.input_layout(node, 0);
    lowering.push(node, node, Box::new(ActivationStage { activation }), layout)
}

/// Whether a stage can have the activation in its epilogue: in training, its gradient must not need what is not stored.
pub(in crate::exec::cpu) fn fuses(activation: Activation, training: bool) -> bool {
    !training || activation.gradient_from() != GradientFrom::Input
}

/// What backward reads of a stage's output that ends with the activation.
pub(super) fn output_kept(activation: Activation) -> OutputKept {
    match (activation, activation.gradient_from()) {
        (Activation::Relu | Activation::LeakyRelu { .. }, _) => OutputKept::Sign,
        (_, GradientFrom::Output) => OutputKept::Value,
        (_, GradientFrom::Nothing | GradientFrom::Input) => OutputKept::Nothing,
    }
}

/// The gradient through an activation in a stage's epilogue, in place.
pub(super) fn backward_in_place(run: &mut Backward<'_>, activation: Activation) {
    let from = match activation.gradient_from() {
        GradientFrom::Nothing => return,
        GradientFrom::Output => run.output(),
        GradientFrom::Input => run.input(0),
    };
    let dy_view = run.output_gradient();
    let [channels, pixels] = run.stage().output.channels_and_pixels();
    let ([values], [dy]) = run.arena.split([from.span(run.count)], [dy_view.span(run.count)]);
    let (values, dy) = (from.maps(values), dy_view.maps_mut(dy));
    activation::backward(run.isa, run.threads, [run.count, channels, pixels], activation, values, dy);
}

impl Compute for ActivationStage {
    fn facts(&self) -> Facts {
        let reads_input = self.activation.gradient_from() == GradientFrom::Input;
        Facts {
            form: Form::Other,
            in_place: InPlace::First,
            inputs_kept: if reads_input { InputsKept::First } else { InputsKept::None },
            output_kept: output_kept(self.activation),
            input_gradients: InputGradients::Passed,
            changes_gradient: true,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        run.copy_unless_in_place();
        let (view, count) = (run.output(), run.count());
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let ([], [y]) = run.arena.split([], [view.span(count)]);
        activation::forward(run.isa, run.threads, [count, channels, pixels], self.activation, view.maps_mut(y));
    }

    fn backward(&self, run: &mut Backward<'_>) {
        backward_in_place(run, self.activation);
        run.pass_on(0);
    }
}

impl Forward<'_> {
    /// Copies the first input to the output where the stage does not work in its place.
    pub(super) fn copy_unless_in_place(&mut self) {
        if self.step.in_place.is_none() {
            let (count, [x_view, y_view]) = (self.count(), self.views());
            let ([x], [y]) = self.arena.split([x_view.span(count)], [y_view.span(count)]);
            merge::copy(self.threads, [count, y_view.len], x_view.maps(x), y_view.maps_mut(y));
        }
    }
}
