//! The net's input, from the caller's plain NCHW. A picture of few channels stays plain when only convolutions without
//! groups read it.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use crate::ops::{Op, Shape};
use convnet_kernels::conv::PLAIN_CHANNELS;
use convnet_kernels::layout::to_blocked;

#[derive(Debug)]
struct Load;

/// Adds the stage of the net's input.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize, shape: Shape) -> Result<()> {
    let plain = |&reader: &usize| matches!(lowering.reader_op(reader), Some(Op::Conv2d(op)) if op.groups == 1);
    let layout = match shape {
        Shape::Map([c, h, w]) if c <= PLAIN_CHANNELS && lowering.readers(node).iter().all(plain) => {
            Layout::Plain(c * h * w)
        }
        Shape::Map(_) | Shape::Vector(_) => Layout::of(shape),
    };
    lowering.push(node, node, Box::new(Load), layout)
}

impl Compute for Load {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Source,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::None,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: false,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (view, count, images, layout) = (run.output(), run.count(), run.images, run.stage().output);
        let ([], [to]) = run.arena.split([], [view.span(count)]);
        match layout {
            Layout::Plain(len) => to.copy_from_slice(&images[..count * len]),
            Layout::Blocked([c, h, w]) => to_blocked(run.threads, [count, c, h * w], images, view.maps_mut(to)),
            Layout::Row(features) => {
                for (row, image) in to.chunks_exact_mut(layout.len()).zip(images.chunks_exact(features)) {
                    row[..features].copy_from_slice(image);
                    row[features..].fill(0.0);
                }
            }
        }
    }

    /// A tap has the gradient already.
    fn backward(&self, _run: &mut Backward<'_>) {}
}
