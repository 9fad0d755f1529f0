//! A session: a plan's memory, run forward and backward. Parameters are given with each call.

use super::plan::{BackwardPlan, Plan};
use super::stage::{Backward, Fixed, Forward, Part, Pass, State};
use super::statistics::Statistics;
use crate::exec::Watch;
use crate::exec::arena::{Arena, View};
use crate::exec::batch_tiling::TileGroup;
use crate::exec::gradient_placement::Flow;
use crate::exec::graph::Layout;
use crate::exec::parameters::Packed;
use crate::exec::profile::Profile;
use convnet_kernels::layout::{from_blocked, to_blocked};
use convnet_kernels::memory::BufferPart;
use convnet_kernels::statistics::{merge as merge_statistics, sum as sum_statistics};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a plan needs to run.
#[derive(Debug)]
pub(in crate::exec) struct Session {
    pub(in crate::exec) plan: Arc<Plan>,
    pub(in crate::exec) arena: Arena,
    /// What is copied at each of the graph's taps.
    pub(in crate::exec) taps: Vec<Tapped>,
    states: Vec<State>,
    /// Statistics of each stage's output that a norm reads.
    statistics: Vec<Option<Statistics>>,
    pub(in crate::exec) profile: Profile,
}

impl Session {
    /// Memory for a plan.
    pub(in crate::exec) fn new(plan: Plan) -> Session {
        Session::of(Arc::new(plan))
    }

    /// Memory for a plan that others may have as well.
    pub(in crate::exec) fn of(plan: Arc<Plan>) -> Session {
        let tapped = |&stage: &usize| {
            let len = plan.batch * plan.graph.stages[stage].output.elements();
            let gradient = if plan.backward.is_some() { len } else { 0 };
            Tapped { value: vec![0.0; len], gradient: vec![0.0; gradient] }
        };
        let taps = plan.graph.taps.iter().map(tapped).collect();
        let statistics = plan.graph.stages.iter().zip(&plan.steps).map(|(stage, step)| {
            let channels = || stage.output.channels_and_pixels()[0];
            (!step.parts.range.is_empty()).then(|| Statistics::of(channels()))
        });
        let (statistics, states) = (statistics.collect(), plan.computes.iter().map(|c| c.state(plan.batch)).collect());
        let arena = plan.layout.allocate();
        Session { plan, arena, taps, states, statistics, profile: Profile::default() }
    }

    /// Lets stages take what they need of parameters that never change again.
    pub(in crate::exec) fn fix_parameters(&mut self, weights: &Packed, running: &[f32]) {
        let plan = &*self.plan;
        let slots = &plan.graph.parameters;
        for (compute, state) in plan.computes.iter().zip(&mut self.states) {
            let weights = weights.of(&slots.trained);
            compute.fix_parameters(Fixed { weights, running, running_slots: &slots.buffers, state });
        }
    }

    /// Bytes of values, gradients, scratch, and what stages keep for each picture.
    pub(in crate::exec) fn bytes(&self) -> usize {
        self.arena.bytes() + self.states.iter().map(|state| state.bytes).sum::<usize>()
    }

    /// Runs all stages on pictures in plain NCHW. Running statistics are read unless parameters are fixed, and moved
    /// in training.
    pub(in crate::exec) fn forward(&mut self, parameters: (&Packed, &mut [f32]), images: &[f32], pass: Pass) {
        let all: ControlFlow<()> = self.forward_each(parameters, images, pass, |_, _| ControlFlow::Continue(()));
        debug_assert!(all.is_continue());
    }

    /// The name of the first stage whose output is not finite, and the first such number.
    pub(in crate::exec) fn first_not_finite(
        &mut self,
        parameters: (&Packed, &mut [f32]),
        images: &[f32],
        pass: Pass,
    ) -> Option<(String, f32)> {
        let found = self.forward_each(parameters, images, pass, |session, index| {
            let (stage, count) = (&session.plan.graph.stages[index], pass.count);
            let mut values = vec![0.0; count * stage.output.elements()];
            session.read_output(index, count, &mut values);
            match values.into_iter().find(|value| !value.is_finite()) {
                Some(value) => ControlFlow::Break((stage.name.clone(), value)),
                None => ControlFlow::Continue(()),
            }
        });
        found.break_value()
    }

    /// Runs stage after stage, and lets `watch` look at the session after each.
    fn forward_each<T>(
        &mut self,
        parameters: (&Packed, &mut [f32]),
        images: &[f32],
        pass: Pass,
        watch: impl Fn(&Session, usize) -> ControlFlow<T>,
    ) -> ControlFlow<T> {
        let count = pass.count;
        let image = images.len() / count;
        let (plan, (weights, running)) = (self.plan.clone(), parameters);
        for TileGroup { stages, pictures } in &plan.groups {
            for first in (0..count).step_by(*pictures) {
                let part = Part { first, count: (*pictures).min(count - first) };
                let images = &images[first * image..][..part.count * image];
                for index in stages.clone() {
                    self.forward_part(index, (weights, &mut *running), images, part, pass);
                    watch(self, index)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Runs one stage on all pictures of a call, in training.
    pub(in crate::exec) fn forward_stage(
        &mut self,
        index: usize,
        parameters: (&Packed, &mut [f32]),
        images: &[f32],
        pass: Pass,
    ) {
        self.forward_part(index, parameters, images, Part { first: 0, count: pass.count }, pass);
    }

    /// Runs one stage on some pictures of a call.
    fn forward_part(
        &mut self,
        index: usize,
        (weights, running): (&Packed, &mut [f32]),
        images: &[f32],
        part: Part,
        pass: Pass,
    ) {
        let (plan, start) = (self.plan.clone(), self.profile.start());
        plan.computes[index].forward(&mut Forward {
            threads: plan.engine.pool(),
            isa: plan.engine.set(),
            images,
            part,
            mode: pass.mode,
            normalized: pass.normalized,
            stages: &plan.graph.stages,
            index,
            step: &plan.steps[index],
            views: &plan.views,
            arena: &mut self.arena,
            weights: weights.of(&plan.graph.parameters.trained),
            running,
            running_slots: &plan.graph.parameters.buffers,
            statistics: &self.statistics,
            state: &mut self.states[index],
        });
        self.find_statistics(&plan, index, pass.count);
        self.copy_value(&plan, index, part);
        let stage = &plan.graph.stages[index];
        self.profile.stop(start, &stage.name, "forward", stage.macs * part.count as u64);
    }

    /// Mean and variance of a stage's output, where a norm needs them.
    pub(in crate::exec) fn statistics(&mut self, index: usize) -> Option<&mut Statistics> {
        self.statistics[index].as_mut()
    }

    /// Computes them.
    fn find_statistics(&mut self, plan: &Plan, index: usize, count: usize) {
        let Some(Statistics { mean, var }) = &mut self.statistics[index] else { return };
        let (threads, isa) = (plan.engine.pool(), plan.engine.set());
        let view = plan.views[index];
        let [channels, pixels] = plan.graph.stages[index].output.channels_and_pixels();
        let parts = plan.steps[index].parts.clone();
        let ([values], [parts]) = self.arena.split([view.span(count)], [parts]);
        let number = match plan.computes[index].statistics() {
            Some(leaves) => leaves.parts(count),
            None => {
                sum_statistics(isa, threads, [count, channels, pixels], view.maps(values), parts);
                count
            }
        };
        merge_statistics(isa, threads, [number, channels], parts, mean, var);
    }

    /// Copies what a stage has computed of some pictures where the caller has a tap.
    fn copy_value(&mut self, plan: &Plan, index: usize, part: Part) {
        let view = plan.views[index].at_picture(part.first);
        for (_, tap) in plan.graph.taps.iter().zip(&mut self.taps).filter(|(stage, _)| **stage == index) {
            let len = plan.graph.stages[index].output.elements();
            let target = &mut tap.value[part.first * len..][..part.count * len];
            read(plan, &self.arena, index, view, part.count, target);
        }
    }

    /// Copies the gradient of a stage's output, which is complete when the stage runs backward, where the caller has a tap.
    fn copy_gradient(&mut self, plan: &Plan, index: usize, view: View, count: usize) {
        for (_, tap) in plan.graph.taps.iter().zip(&mut self.taps).filter(|(stage, _)| **stage == index) {
            let len = count * plan.graph.stages[index].output.elements();
            read(plan, &self.arena, index, view, count, &mut tap.gradient[..len]);
        }
    }

    /// Takes what is negative from the gradient of a stage's output.
    fn keep_positive(&mut self, view: View, count: usize) {
        let ([], [gradient]) = self.arena.split([], [view.span(count)]);
        for picture in gradient.chunks_mut(view.stride) {
            picture[..view.len].iter_mut().for_each(|by| *by = by.max(0.0));
        }
    }

    /// The output of a stage that the caller reads, of `count` pictures: NCHW, or rows.
    pub(in crate::exec) fn read_output(&self, stage: usize, count: usize, plain: &mut [f32]) {
        read(&self.plan, &self.arena, stage, self.plan.views[stage], count, plain);
    }

    /// The gradient by the output of a stage that the caller reads, from NCHW or rows.
    pub(in crate::exec) fn write_output_gradient(&mut self, stage: usize, count: usize, plain: &[f32]) {
        let (view, layout) = (self.output_gradient(stage), self.plan.graph.stages[stage].output);
        let ([], [to]) = self.arena.split([], [view.span(count)]);
        match layout {
            Layout::Blocked([c, h, w]) => {
                to_blocked(self.plan.engine.pool(), [count, c, h * w], plain, view.maps_mut(to));
            }
            Layout::Row(features) => {
                for (row, from) in to.chunks_mut(view.stride).zip(plain.chunks_exact(features)) {
                    row[..features].copy_from_slice(from);
                    row[features..layout.len()].fill(0.0);
                }
            }
            Layout::Plain(_) => unreachable!("only a convolution reads a plain input"),
        }
    }

    /// The gradient of a stage that the caller reads, which its loss writes.
    pub(in crate::exec) fn output_gradient(&self, stage: usize) -> View {
        self.backward_plan().gradients[stage].expect("outputs have gradients")
    }

    fn backward_plan(&self) -> &BackwardPlan {
        self.plan.backward.as_ref().expect("planned for training")
    }

    /// All gradients that are wanted, from those of the outputs; those of trained parameters go to `weight_gradients`, of which `watch`
    /// may take what is complete after each stage.
    pub(in crate::exec) fn backward(
        &mut self,
        weights: &Packed,
        weight_gradients: &mut BufferPart,
        pass: Pass,
        watch: &mut Watch<'_>,
    ) {
        for index in (0..self.plan.graph.stages.len()).rev() {
            if self.runs_backward(index) {
                self.backward_sums(index, weights, weight_gradients, pass);
                self.backward_stage(index, weights, weight_gradients, pass);
                watch(index, weight_gradients);
            }
        }
    }

    /// Whether a stage's output has a gradient.
    pub(in crate::exec) fn runs_backward(&self, index: usize) -> bool {
        self.backward_plan().gradients[index].is_some()
    }

    /// The first half of a stage's backward, after which [`Session::sums`] has what it sums over its pictures.
    pub(in crate::exec) fn backward_sums(
        &mut self,
        index: usize,
        weights: &Packed,
        weight_gradients: &mut [f32],
        pass: Pass,
    ) {
        let plan = self.plan.clone();
        let Some(gradient) = self.backward_plan().gradients[index] else { return };
        self.copy_gradient(&plan, index, gradient, pass.count);
        if plan.graph.guided.contains(&index) {
            self.keep_positive(gradient, pass.count);
        }
        let start = self.profile.start();
        plan.computes[index].backward_sums(&mut self.stage_backward(&plan, index, weights, weight_gradients, pass));
        self.profile.stop(start, &plan.graph.stages[index].name, "backward", 0);
    }

    /// What a stage has summed over its pictures, each padded to whole blocks of channels: where several sessions are normalised
    /// together, these become the sums of all before backward goes on.
    pub(in crate::exec) fn sums(&mut self, index: usize) -> [&mut [f32]; 2] {
        self.plan.computes[index].sums(&mut self.states[index])
    }

    /// The second half of a stage's backward.
    pub(in crate::exec) fn backward_stage(
        &mut self,
        index: usize,
        weights: &Packed,
        weight_gradients: &mut [f32],
        pass: Pass,
    ) {
        let (plan, start) = (self.plan.clone(), self.profile.start());
        plan.computes[index].backward(&mut self.stage_backward(&plan, index, weights, weight_gradients, pass));
        // By weights and by data, where they are asked for.
        let stage = &plan.graph.stages[index];
        let wanted = self.backward_plan().flows[index].iter().any(|flow| *flow != Flow::Unwanted);
        let directions = u64::from(stage.trained) + u64::from(wanted);
        self.profile.stop(start, &stage.name, "backward", directions * stage.macs * pass.count as u64);
    }

    fn stage_backward<'a>(
        &'a mut self,
        plan: &'a Plan,
        index: usize,
        weights: &'a Packed,
        weight_gradients: &'a mut [f32],
        pass: Pass,
    ) -> Backward<'a> {
        let backward = plan.backward.as_ref().expect("planned for training");
        Backward {
            threads: plan.engine.pool(),
            isa: plan.engine.set(),
            count: pass.count,
            mode: pass.mode,
            normalized: pass.normalized,
            stages: &plan.graph.stages,
            index,
            step: &plan.steps[index],
            scratch: &backward.scratch[index],
            idle_bias: backward.idle_bias[index],
            views: &plan.views,
            gradients: &backward.gradients,
            flows: &backward.flows[index],
            arena: &mut self.arena,
            weights: weights.of(&plan.graph.parameters.trained),
            weight_gradients,
            state: &mut self.states[index],
        }
    }
}

/// What is copied for the caller at a tap: NCHW, or rows.
#[derive(Debug)]
pub(in crate::exec) struct Tapped {
    pub(in crate::exec) value: Vec<f32>,
    /// Empty without backward.
    pub(in crate::exec) gradient: Vec<f32>,
}

/// Pictures of a stage's output, or of its gradient, in NCHW or rows.
fn read(plan: &Plan, arena: &Arena, stage: usize, view: View, count: usize, plain: &mut [f32]) {
    let values = arena.get(&view.span(count));
    match plan.graph.stages[stage].output {
        Layout::Blocked([c, h, w]) => {
            from_blocked(plan.engine.pool(), [count, c, h * w], view.maps(values), plain);
        }
        Layout::Plain(features) | Layout::Row(features) => {
            for (to, from) in plain.chunks_exact_mut(features).zip(values.chunks(view.stride)) {
                to.copy_from_slice(&from[..features]);
            }
        }
    }
}
