//! Maximum and mean pooling. Backward of a maximum keeps the input and finds the winners again; that of a mean keeps nothing.

use super::{Backward, Compute, Forward};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, OutputKept};
use crate::geometry::{Padding, Window};
use convnet_kernels::pool::{Pool, PoolKind};

#[derive(Debug)]
struct PoolStage {
    pool: Pool,
}

/// Adds the stage of a pooling by a window.
pub(in crate::exec::cpu) fn lower(
    lowering: &mut Lowering<'_>,
    node: usize,
    window: Window,
    kind: PoolKind,
) -> Result<()> {
    let [channels, h, w] = lowering.map(node);
    let pool = Pool::new(channels, [h, w], explicit(window, [h, w]), kind, lowering.isa());
    let pool = pool.map_err(|problem| lowering.problem(node, problem.to_string()))?;
    push(lowering, node, pool)
}

/// Adds the stage of a mean pooling to a size.
pub(in crate::exec::cpu) fn lower_adaptive(lowering: &mut Lowering<'_>, node: usize, output: [usize; 2]) -> Result<()> {
    let [channels, h, w] = lowering.map(node);
    let pool = Pool::adaptive(channels, [h, w], output, lowering.isa());
    push(lowering, node, pool)
}

fn push(lowering: &mut Lowering<'_>, node: usize, pool: Pool) -> Result<()> {
    lowering.push_alone(node, Box::new(PoolStage { pool }))
}

/// The window with its padding in pixels.
pub(super) fn explicit(window: Window, input: [usize; 2]) -> Window {
    let (begin, end) = window.pads(input);
    Window { padding: Padding::Explicit { begin, end }, ..window }
}

impl Compute for PoolStage {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: if self.pool.backward_reads_input() { InputsKept::First } else { InputsKept::None },
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::Computed,
            changes_gradient: false,
            normalizes: false,
            takes_bf16: true,
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        let (count, [x_view, y_view]) = (run.count(), run.views());
        let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
        self.pool.forward(run.threads, count, x_view.maps(x), y_view.maps_mut(y));
    }

    fn backward(&self, run: &mut Backward<'_>) {
        let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
        let (x_view, dy_view, count) = (run.input(0), run.output_gradient(), run.count);
        // A mean's input may be gone by now.
        let x_span = if self.pool.backward_reads_input() { x_view.span(count) } else { dy_view.span(count) };
        let ([x, dy], [dx]) = run.arena.split([x_span, dy_view.span(count)], [dx_view.span(count)]);
        let (x, dy, dx) = (x_view.maps(x), dy_view.maps(dy), dx_view.maps_mut(dx));
        self.pool.backward(run.threads, count, x, dy, dx, accumulate);
    }
}
