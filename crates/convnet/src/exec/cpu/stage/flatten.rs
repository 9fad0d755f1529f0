//! Maps to a vector, in the order channel, row, column: a copy, unless linear layers alone read it, which read the maps as
//! they lie. Backward keeps nothing.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use crate::ops::{Activation, Op};
use convnet_kernels::layout::{MapsMut, from_blocked_rows, to_blocked_rows};
use convnet_kernels::merge;

#[derive(Debug)]
struct Flatten {
    from: [usize; 3],
}

/// Adds the stage of a flattening that has to copy.
pub(in crate::exec::cpu) fn lower(lowering: &mut Lowering<'_>, node: usize) -> Result<()> {
    if is_read_as_maps(lowering, node) {
        lowering.skip(node);
        return Ok(());
    }
    let (from, layout) = (lowering.map(node), Layout::of(lowering.node(node).shape));
    lowering.push(node, node, Box::new(Flatten { from }), layout)
}

/// Whether only linear layers, some with a dropout before them, read a flattened node, which then needs no copy: they read
/// its maps, which nobody else wants elsewhere. They multiply the maps' padding, so there may be little of it: a copy of
/// the lecture CNN's maps takes a twentieth of its linear layer's time.
fn is_read_as_maps(lowering: &Lowering<'_>, node: usize) -> bool {
    let linear = |&reader: &usize| matches!(lowering.reader_op(reader), Some(Op::Linear(_)));
    let reads_maps = |reader: &usize| match lowering.reader_op(*reader) {
        Some(Op::Dropout(_)) => lowering.readers(*reader).iter().all(linear),
        Some(_) | None => linear(reader),
    };
    let (maps, row) = (lowering.input_layout(node, 0), Layout::of(lowering.node(node).shape));
    let unpadded = matches!(maps, Layout::Blocked(_)) && maps.len() - row.len() <= row.len() / 20;
    let input = lowering.node(node).inputs[0].index();
    unpadded && lowering.readers(input) == [node] && lowering.readers(node).iter().all(reads_maps)
}

impl Compute for Flatten {
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

    fn backward_scratch(&self, batch: usize, _threads: usize, flows: &[Flow]) -> usize {
        if flows == [Flow::Accumulate] { batch * Layout::Blocked(self.from).len() } else { 0 }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view], [c, h, w]) = (run.count(), run.views(), self.from);
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        from_blocked_rows(run.threads, [count, c, h * w], x_view.maps(x), y);
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
        let (dy_view, count, [c, h, w]) = (run.output_gradient(), run.count, self.from);
        let shape = [count, c, h * w];
        if !accumulate {
            let ([dy], [dx]) = run.arena.split([dy_view.span(count)], [dx_view.span(count)]);
            return to_blocked_rows(run.threads, shape, dy, dx_view.maps_mut(dx));
        }
        let writes = [dx_view.span(count), run.scratch.clone()];
        let ([dy], [dx, scratch]) = run.arena.split([dy_view.span(count)], writes);
        to_blocked_rows(run.threads, shape, dy, MapsMut::packed(scratch, dx_view.len));
        let unflattened = MapsMut::packed(scratch, dx_view.len);
        merge::accumulate(
            run.isa,
            run.threads,
            shape,
            unflattened.as_maps(),
            Activation::Identity,
            dx_view.maps_mut(dx),
        );
    }
}
