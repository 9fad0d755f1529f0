//! Batch norm or nothing, an activation or nothing, 2×2 pooling or nothing, channel dropout or nothing: one pass over memory
//! in each direction (`kernels/norm`). Backward keeps the input alone and computes winners and masks again; its gradient may
//! take the input's place.

use super::dropout::DropNode;
use super::norm::{Norm, NormState};
use super::{Backward, Compute, Fixed, Forward, State};
use crate::Result;
use crate::exec::cpu::lower::Lowering;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::{Facts, Form, InPlace, InputGradients, InputsKept, Layout, OutputKept};
use crate::ops::{Activation, BatchNorm2d, Op, Shape};
use convnet_kernels::layout::{Maps, blocks};
use convnet_kernels::norm::{Drop, Given, NormChain, Source};
use convnet_kernels::simd::LANES;

#[derive(Debug)]
struct NormAct {
    chain: NormChain,
    channels: usize,
    norm: Option<Norm>,
    drop: Option<DropNode>,
}

/// A chain, and the last of its nodes.
pub(super) struct Chained {
    pub(super) chain: NormChain,
    pub(super) drop: Option<DropNode>,
    pub(super) last: usize,
}

/// Adds the chain that begins with a batch norm.
pub(super) fn lower(lowering: &mut Lowering<'_>, node: usize, norm: Norm) -> Result<()> {
    let chained = chain_after(lowering, node);
    push(lowering, node, chained, Some(norm))
}

/// Adds the chain that begins with an activation before a pooling; whether it does.
pub(super) fn lower_pooled(lowering: &mut Lowering<'_>, node: usize, activation: Activation) -> Result<bool> {
    let pooled = matches!(lowering.node(node).shape, Shape::Map(_)) && pool_after(lowering, node, activation).is_some();
    if pooled {
        let chained = chain(lowering, node, node, activation);
        push(lowering, node, chained, None)?;
    }
    Ok(pooled)
}

fn push(lowering: &mut Lowering<'_>, node: usize, chained: Chained, norm: Option<Norm>) -> Result<()> {
    let [channels, ..] = lowering.map(node);
    let Chained { chain, drop, last } = chained;
    let layout = Layout::of(lowering.node(last).shape);
    lowering.push(node, last, Box::new(NormAct { chain, channels, norm, drop }), layout)
}

/// The batch norm of a node that alone reads it, in training, unless it joins a sum.
pub(super) fn norm_after(lowering: &Lowering<'_>, node: usize) -> Option<(usize, BatchNorm2d)> {
    let next = lowering.only_reader(node).filter(|_| lowering.is_training())?;
    let Op::BatchNorm2d(op) = lowering.op(next) else { return None };
    super::norm_add::sum_after(lowering, next).is_none().then(|| (next, op.clone()))
}

/// The chain that begins with a node, which is a batch norm.
pub(super) fn chain_after(lowering: &Lowering<'_>, node: usize) -> Chained {
    let (last, activation) = match lowering.only_reader(node).map(|next| (next, lowering.op(next))) {
        Some((next, &Op::Activation(activation))) => (next, activation),
        Some(_) | None => (node, Activation::Identity),
    };
    chain(lowering, node, last, activation)
}

/// The chain of the nodes from `first` to `last`, which ends with the activation, and what follows.
fn chain(lowering: &Lowering<'_>, first: usize, last: usize, activation: Activation) -> Chained {
    let [channels, h, w] = lowering.map(first);
    let pool = pool_after(lowering, last, activation);
    let mut last = pool.unwrap_or(last);
    let mut drop = None;
    if let Some(next) = lowering.only_reader(last)
        && let Op::Dropout2d(op) = lowering.op(next)
    {
        drop = Some(DropNode { node: next, p: op.p });
        last = next;
    }
    let chain = NormChain::new(channels, [h, w], activation, pool.is_some(), lowering.isa());
    Chained { chain, drop, last }
}

/// The 2×2 pooling that alone reads a node, an activation that a chain can have before one.
pub(in crate::exec::cpu) fn pool_after(lowering: &Lowering<'_>, node: usize, activation: Activation) -> Option<usize> {
    let next = lowering.only_reader(node)?;
    match (lowering.op(next), lowering.node(node).shape) {
        (Op::MaxPool2d(op), Shape::Map([_, h, w]))
            if NormChain::takes(activation, true) && NormChain::pools(&op.window, [h, w]) =>
        {
            Some(next)
        }
        (_, _) => None,
    }
}

impl Compute for NormAct {
    fn facts(&self) -> Facts {
        Facts {
            form: Form::Other,
            in_place: InPlace::Never,
            inputs_kept: InputsKept::First,
            output_kept: OutputKept::Nothing,
            input_gradients: InputGradients::ReplacesInput,
            changes_gradient: false,
            normalizes: self.norm.as_ref().is_some_and(Norm::takes_batch_statistics),
            takes_bf16: true,
        }
    }

    fn backward_scratch(&self, batch: usize, _threads: usize, _flows: &[Flow]) -> usize {
        self.chain.scratch_len(batch)
    }

    fn state(&self, _batch: usize) -> State {
        State::new(NormState::identity(blocks(self.channels) * LANES), 0)
    }

    fn fix_parameters(&self, fixed: Fixed<'_>) {
        if let Some(norm) = &self.norm {
            norm.fix(fixed);
        }
    }

    fn forward(&self, run: &mut Forward<'_>) {
        run.with_state(|run, state: &mut NormState| {
            if let Some(norm) = &self.norm {
                norm.prepare(run, state);
            }
            let (count, [x_view, y_view], drop) = (run.count(), run.views(), run.mode.drop(self.drop));
            let ([x], [y]) = run.arena.split([x_view.span(count)], [y_view.span(count)]);
            let (x, y) = (x_view.maps(x), y_view.maps_mut(y));
            self.chain.forward(run.threads, count, x, &state.scale, &state.shift, drop, y);
        });
    }

    fn backward_sums(&self, run: &mut Backward<'_>) {
        let Some(norm) = self.norm.as_ref().filter(|norm| norm.needs_sums(run)) else { return };
        run.with_state(|run, state: &mut NormState| {
            let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
            let reads = [x_view.span(count), dy_view.span(count)];
            let ([x, dy], [scratch]) = run.arena.split(reads, [run.scratch.clone()]);
            let numbers: [&[f32]; 3] = [&state.scale, &state.shift, &state.mean];
            let given = given(count, dy_view.maps(dy), numbers, run.mode.drop(self.drop));
            let sums = [&mut state.sum[..], &mut state.product[..]];
            self.chain.backward_sums(run.threads, &given, x_view.maps(x), sums, scratch);
            norm.write_gradients(run, state);
        });
    }

    fn sums<'s>(&self, state: &'s mut State) -> [&'s mut [f32]; 2] {
        state.get::<NormState>().sums()
    }

    fn backward(&self, run: &mut Backward<'_>) {
        run.with_state(|run, state: &mut NormState| {
            if let Some(norm) = &self.norm {
                norm.fold_gradient(run, state);
            }
            backward_data(run, &self.chain, state, run.mode.drop(self.drop));
        });
    }
}

/// A chain's gradient of its input.
pub(super) fn backward_data(run: &mut Backward<'_>, chain: &NormChain, state: &NormState, drop: Option<Drop>) {
    let (dy_view, x_view, count) = (run.output_gradient(), run.input(0), run.count);
    let Some((dx_view, accumulate)) = run.input_gradient(0) else { return };
    let numbers: [&[f32]; 3] = [&state.scale, &state.shift, &state.mean];
    if dx_view == x_view {
        let ([dy], [dx]) = run.arena.split([dy_view.span(count)], [dx_view.span(count)]);
        let given = given(count, dy_view.maps(dy), numbers, drop);
        return chain.backward_data(run.threads, &given, state.linear(), Source::InPlace, dx_view.maps_mut(dx));
    }
    let ([x, dy], [dx]) = run.arena.split([x_view.span(count), dy_view.span(count)], [dx_view.span(count)]);
    let source = Source::Apart { x: x_view.maps(x), accumulate };
    let given = given(count, dy_view.maps(dy), numbers, drop);
    chain.backward_data(run.threads, &given, state.linear(), source, dx_view.maps_mut(dx));
}

pub(super) fn given<'a>(
    batch: usize,
    dy: Maps<'a>,
    [scale, shift, mean]: [&'a [f32]; 3],
    drop: Option<Drop>,
) -> Given<'a> {
    Given { batch, dy, scale, shift, mean, drop }
}
