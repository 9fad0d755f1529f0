//! Dropout of single elements, of whole channels and of whole pictures (stochastic depth), in place. Backward computes the mask again from the step's seed.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use convnet_kernels::dropout;
use convnet_kernels::layout::MapsMut;
use convnet_kernels::norm::Drop;
use convnet_kernels::simd::Isa;
use convnet_kernels::stochastic_depth::stochastic_depth;
use convnet_kernels::threads::Threads;

/// A dropout's place in its net, which is part of its seed, and its probability.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropNode {
    pub(super) node: usize,
    pub(super) p: f32,
}

/// What is dropped as one.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec::cpu) enum Unit {
    Element,
    Channel,
    Picture,
}

#[derive(Debug)]
struct DropoutStage {
    drop: DropNode,
    unit: Unit,
}

/// Adds the stage of a dropout.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, p: f32, unit: Unit) -> Result<()> {
    let layout = lowering.input_layout(node, 0);
    lowering.push(node, node, Box::new(DropoutStage { drop: DropNode { node, p }, unit }), layout)
}

impl Compute for DropoutStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            // It leaves the signs that a ReLU's gradient looks at, where it leaves anything.
            in_place: InPlace::FirstKeepingSigns,
            inputs_kept: InputsKept::None,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Passed,
            changes_gradient: true,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        run.copy_unless_in_place();
        let (view, count, layout) = (run.output(), run.count(), run.stage().output);
        if let Some(drop) = run.mode.drop(Some(self.drop)) {
            let ([], [y]) = run.arena.split([], [view.span(count)]);
            self.apply((run.isa, run.threads), drop, layout, count, view.maps_mut(y));
        }
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let (view, count, layout) = (run.output_gradient(), run.count, run.stage().output);
        if let Some(drop) = run.mode.drop(Some(self.drop)) {
            let ([], [dy]) = run.arena.split([], [view.span(count)]);
            self.apply((run.isa, run.threads), drop, layout, count, view.maps_mut(dy));
        }
        run.pass_on(0);
    }
}

impl DropoutStage {
    /// Drops values, or their gradient.
    fn apply(&self, (isa, threads): (Isa, &Threads), drop: Drop, layout: Layout, count: usize, data: MapsMut<'_>) {
        let Drop { seed, p } = drop;
        match (layout, self.unit) {
            (_, Unit::Picture) => stochastic_depth(isa, threads, [count, layout.len()], seed, p, data),
            (Layout::Blocked([c, h, w]), Unit::Channel) => {
                dropout::channels(threads, [count, c, h * w], seed, p, data);
            }
            (Layout::Blocked([c, h, w]), Unit::Element) => {
                dropout::maps(threads, [count, c, h * w], seed, p, data);
            }
            (Layout::Row(features), _) => dropout::rows(threads, [count, features], seed, p, data),
            (Layout::Plain(_), _) => unreachable!("only a convolution reads a plain input"),
        }
    }
}
