//! The sum of all inputs, and an activation or nothing, in the place of an input where that is free. Its gradient is that of
//! all inputs.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout};
use crate::ops::Activation;
use convnet_kernels::merge;

#[derive(Debug)]
struct Add {
    activation: Activation,
}

/// Adds the stage of a sum.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    let (last, activation) = lowering.take_activation(node);
    let layout = Layout::of(lowering.node(node).shape);
    lowering.push(node, last, Box::new(Add { activation }), layout)
}

impl Compute for Add {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Any,
            inputs_kept: InputsKept::None,
            output_kept: super::activation::output_kept(self.activation),
            input_gradients: InputGradients::Sum,
            changes_gradient: true,
            normalizes: false,
            takes_bf16: false,
        }
    }

    /// The last addition has the activation.
    fn forward(&self, run: &mut Forward<'_>) {
        let (count, y_view, inputs) = (run.count(), run.output(), run.stage().inputs.len());
        let [channels, pixels] = run.stage().output.channels_and_pixels();
        let shape = [count, channels, pixels];
        let own = run.step.in_place;
        let activation = |last: bool| if last { self.activation } else { Activation::Identity };
        let start = match own {
            Some(_) => 0,
            None => {
                let views = [0, 1].map(|i| run.input(i));
                let ([a, b], [y]) = run.arena.split(views.map(|view| view.span(count)), [y_view.span(count)]);
                let sum = [views[0].maps(a), views[1].maps(b)];
                merge::add(run.isa, run.threads, shape, sum, activation(inputs == 2), y_view.maps_mut(y));
                2
            }
        };
        let last = (start..inputs).rev().find(|&i| own != Some(i));
        for i in (start..inputs).filter(|&i| own != Some(i)) {
            let x_view = run.input(i);
            let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
            let activation = activation(last == Some(i));
            merge::accumulate(run.isa, run.threads, shape, x_view.maps(x), activation, y_view.maps_mut(y));
        }
    }

    fn backward(&self, run: &mut Backward<'_>) {
        super::activation::backward_in_place(run, self.activation);
        for input in 0..run.stage().inputs.len() {
            run.pass_on(input);
        }
    }
}
