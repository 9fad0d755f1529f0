//! A plan: everything that is decided before the first picture comes, and does not change. Sessions share it.

use super::lower::Lowered;
use super::stage::Compute;
use super::statistics;
use crate::exec::Engine;
use crate::exec::arena::{ArenaLayout, Span, View};
use crate::exec::batch_tiling::TileGroup;
use crate::exec::gradient_placement::{Flow, Gradients, backward_time};
use crate::exec::graph::{Graph, Purpose};
use crate::exec::parameters::{Packing, Slot};
use crate::exec::placement::copied_inputs;
use crate::exec::values::Values;

/// Stages, their places in memory, and what each needs to run.
#[derive(Debug)]
pub(in crate::exec) struct Plan {
    pub(in crate::exec) engine: Engine,
    pub(in crate::exec) graph: Graph,
    pub(in crate::exec) computes: Vec<Box<dyn Compute>>,
    /// Each stage's output.
    pub(in crate::exec) views: Vec<View>,
    pub(in crate::exec) groups: Vec<TileGroup>,
    pub(in crate::exec) steps: Vec<Step>,
    /// In training.
    pub(in crate::exec) backward: Option<BackwardPlan>,
    pub(in crate::exec) layout: ArenaLayout,
    pub(in crate::exec) batch: usize,
}

/// What a stage is given beside its values.
#[derive(Debug)]
pub(in crate::exec) struct Step {
    pub(in crate::exec) scratch: Span,
    /// The input whose place the output takes.
    pub(in crate::exec) in_place: Option<usize>,
    /// A concatenation's inputs that are not written where they belong.
    pub(in crate::exec) copied: Vec<Copied>,
    /// Parts of the output's statistics.
    pub(in crate::exec) parts: Span,
    /// The stages that have the statistics of a norm's input, and the first channel of each.
    pub(in crate::exec) sources: Vec<(usize, usize)>,
}

/// An input of a concatenation that is copied to, and whose gradient is copied from, a channel on.
#[derive(Clone, Copy, Debug)]
pub(in crate::exec) struct Copied {
    /// Its position among the inputs.
    pub(in crate::exec) input: usize,
    pub(in crate::exec) channel: usize,
}

/// Where gradients and scratch lie, and how they arrive.
#[derive(Debug)]
pub(in crate::exec) struct BackwardPlan {
    /// The gradient of each stage's output; none for the net's input.
    pub(in crate::exec) gradients: Vec<Option<View>>,
    /// How each stage gives the gradients of its inputs.
    pub(in crate::exec) flows: Vec<Vec<Flow>>,
    pub(in crate::exec) scratch: Vec<Span>,
    /// Whether a stage's bias stands before a batch norm of the batch's statistics, which takes every constant away.
    pub(in crate::exec) idle_bias: Vec<bool>,
}

impl Plan {
    /// Places values, gradients (in training) and scratch of batches of up to `batch` pictures.
    pub(in crate::exec) fn new(engine: &Engine, lowered: Lowered, purpose: Purpose, batch: usize) -> Plan {
        let Lowered { graph, mut computes } = lowered;
        let threads = engine.threads();
        let mut values = Values::place(&graph, purpose, batch);
        let mut scratch = |time: usize, len: usize| Span { buffer: values.lives.begin(len, time), range: 0..len };
        let lens = graph.stages.iter().zip(&computes);
        let lens = lens.map(|(stage, compute)| compute.forward_scratch(stage.pictures, threads));
        let forward: Vec<Span> = lens.enumerate().map(|(i, len)| scratch(i, len)).collect();
        let sources = if purpose == Purpose::Training { statistics::sources(&graph) } else { Vec::new() };
        let parts_len = |i: usize| {
            let wanted = sources.iter().flatten().any(|&(source, _)| source == i);
            if wanted { statistics::scratch_len(&graph, &computes, i, batch) } else { 0 }
        };
        let parts: Vec<Span> = (0..graph.stages.len()).map(|i| scratch(i, parts_len(i))).collect();
        let mut sources = sources.into_iter();
        let steps = forward.into_iter().zip(parts).enumerate().map(|(i, (scratch, parts))| Step {
            scratch,
            in_place: values.places.in_place[i],
            copied: copied(&graph, &values, i),
            parts,
            sources: sources.next().unwrap_or_default(),
        });
        let steps = steps.collect();
        let backward = (purpose == Purpose::Training)
            .then(|| BackwardPlan::new(&graph, &mut computes, &mut values, batch, threads));
        let Values { lives, views, groups, .. } = values;
        let (engine, layout) = (engine.clone(), lives.place());
        Plan { engine, graph, computes, views, groups, steps, backward, layout, batch }
    }

    /// What packs a weight.
    pub(in crate::exec) fn packing(&self, slot: &Slot) -> &dyn Packing {
        self.computes[slot.stage].packing(slot.weight).expect("a stage with a packed weight says how it packs")
    }
}

/// The inputs of a concatenation that do not lie in its buffer, by their position.
fn copied(graph: &Graph, values: &Values, concat: usize) -> Vec<Copied> {
    let found = copied_inputs(graph, &values.places, concat);
    if found.is_empty() {
        return Vec::new();
    }
    let all = graph.channel_offsets(concat).enumerate();
    all.filter(|(_, part)| found.contains(part)).map(|(input, (_, channel))| Copied { input, channel }).collect()
}

impl BackwardPlan {
    fn new(
        graph: &Graph,
        computes: &mut [Box<dyn Compute>],
        values: &mut Values,
        batch: usize,
        threads: usize,
    ) -> BackwardPlan {
        let Gradients { views: gradients, inputs: flows } = Gradients::place(graph, values, batch);
        for (compute, gradient) in computes.iter_mut().zip(&gradients) {
            if let Some(gradient) = gradient {
                compute.set_gradient_stride(gradient.stride);
            }
        }
        let scratch = computes.iter().enumerate().map(|(i, compute)| {
            let len = compute.backward_scratch(batch, threads, &flows[i]);
            Span { buffer: values.lives.begin(len, backward_time(graph, i)), range: 0..len }
        });
        let scratch = scratch.collect();
        let readers = graph.readers();
        let idle = |i: usize| match readers[i][..] {
            [reader] => {
                let reader = &graph.stages[reader];
                !graph.stages[i].facts.changes_gradient && reader.facts.normalizes && reader.inputs[0] == i
            }
            _ => false,
        };
        let idle_bias = (0..graph.stages.len()).map(idle).collect();
        BackwardPlan { gradients, flows, scratch, idle_bias }
    }
}
