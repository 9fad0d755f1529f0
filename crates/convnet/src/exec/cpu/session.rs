//! A session: a plan's memory and parameters, run forward and backward.

use super::plan::{BackwardPlan, Plan};
use super::stage::{Backward, Fixed, Forward, Mode, Part, State, WeightsRef};
use super::statistics::Moments;
use crate::exec::arena::{Arena, View};
use crate::exec::batch_tiling::TileGroup;
use crate::exec::gradient_placement::Flow;
use crate::exec::parameters::pack;
use crate::exec::profile::Profile;
use crate::{Result, Tensor};
use convnet_kernels::memory::Buffer;
use convnet_kernels::moments::{merge as merge_moments, sum as sum_moments};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a plan needs to run.
#[derive(Debug)]
pub(in crate::exec) struct Session {
    pub(in crate::exec) plan: Arc<Plan>,
    pub(in crate::exec) arena: Arena,
    /// Trained parameters, packed.
    pub(in crate::exec) weights: Buffer,
    pub(in crate::exec) running: Buffer,
    states: Vec<State>,
    /// Of each stage's output that a norm reads.
    moments: Vec<Option<Moments>>,
    pub(in crate::exec) profile: Profile,
}

impl Session {
    /// Memory for a plan, and its parameters, packed.
    pub(in crate::exec) fn new<T: Borrow<Tensor>>(plan: Plan, state: &BTreeMap<String, T>) -> Result<Session> {
        let packing = |stage: usize| plan.packing(stage);
        let weights = pack(&plan.graph.parameters.trained, packing, "", state)?;
        let running = pack(&plan.graph.parameters.buffers, packing, "", state)?;
        let moments = plan.graph.stages.iter().zip(&plan.steps).map(|(stage, step)| {
            let channels = || stage.output.channels_and_pixels()[0];
            (!step.parts.range.is_empty()).then(|| Moments::of(channels()))
        });
        let (moments, states) = (moments.collect(), plan.computes.iter().map(|c| c.state(plan.batch)).collect());
        let arena = plan.layout.allocate();
        Ok(Session { plan: Arc::new(plan), arena, weights, running, states, moments, profile: Profile::default() })
    }

    /// Brings parameters that never change again into the form that forward reads.
    pub(in crate::exec) fn fix_parameters(&mut self) {
        let plan = &*self.plan;
        for (compute, state) in plan.computes.iter().zip(&mut self.states) {
            compute.fix_parameters(Fixed {
                threads: plan.engine.pool(),
                weights: &mut self.weights,
                slots: &plan.graph.parameters,
                running: &self.running,
                state,
            });
        }
    }

    /// Bytes of values, gradients, scratch, and what stages keep for each picture.
    pub(in crate::exec) fn bytes(&self) -> usize {
        self.arena.bytes() + self.states.iter().map(|state| state.bytes).sum::<usize>()
    }

    /// Runs all stages on `count` pictures in plain NCHW.
    pub(in crate::exec) fn forward(&mut self, images: &[f32], count: usize, mode: Mode) {
        let image = images.len() / count;
        let plan = self.plan.clone();
        for TileGroup { stages, pictures } in &plan.groups {
            for first in (0..count).step_by(*pictures) {
                let part = Part { first, count: (*pictures).min(count - first) };
                let images = &images[first * image..][..part.count * image];
                for index in stages.clone() {
                    let start = self.profile.start();
                    self.forward_stage(&plan, index, images, part, mode);
                    self.find_moments(&plan, index, count);
                    let stage = &plan.graph.stages[index];
                    self.profile.stop(start, &stage.name, "forward", stage.macs * part.count as u64);
                }
            }
        }
    }

    fn forward_stage(&mut self, plan: &Plan, index: usize, images: &[f32], part: Part, mode: Mode) {
        plan.computes[index].forward(&mut Forward {
            threads: plan.engine.pool(),
            isa: plan.engine.set(),
            images,
            part,
            mode,
            stages: &plan.graph.stages,
            index,
            step: &plan.steps[index],
            views: &plan.views,
            arena: &mut self.arena,
            weights: WeightsRef { flat: &self.weights, slots: &plan.graph.parameters.trained },
            running: &mut self.running,
            running_slots: &plan.graph.parameters.buffers,
            moments: &self.moments,
            state: &mut self.states[index],
        });
    }

    /// Mean and variance of a stage's output, where a norm needs them.
    fn find_moments(&mut self, plan: &Plan, index: usize, count: usize) {
        let Some(Moments { mean, var }) = &mut self.moments[index] else { return };
        let (threads, isa) = (plan.engine.pool(), plan.engine.set());
        let view = plan.views[index];
        let [channels, pixels] = plan.graph.stages[index].output.channels_and_pixels();
        let parts = plan.steps[index].parts.clone();
        let ([values], [parts]) = self.arena.split([view.span(count)], [parts]);
        let number = match plan.computes[index].moments() {
            Some(leaves) => leaves.parts(count),
            None => {
                sum_moments(isa, threads, [count, channels, pixels], view.maps(values), parts);
                count
            }
        };
        merge_moments(isa, threads, [number, channels], parts, mean, var);
    }

    /// The gradient of a stage that the caller reads, which its loss writes.
    pub(in crate::exec) fn output_gradient(&self, stage: usize) -> View {
        self.backward_plan().gradients[stage].expect("outputs have gradients")
    }

    fn backward_plan(&self) -> &BackwardPlan {
        self.plan.backward.as_ref().expect("planned for training")
    }

    /// All gradients, from those of the outputs; those of the parameters go to `weight_gradients`.
    pub(in crate::exec) fn backward(&mut self, weight_gradients: &mut [f32], count: usize, mode: Mode) {
        let plan = self.plan.clone();
        let backward = plan.backward.as_ref().expect("planned for training");
        for (index, stage) in plan.graph.stages.iter().enumerate().rev() {
            if backward.gradients[index].is_none() {
                continue;
            }
            let start = self.profile.start();
            plan.computes[index].backward(&mut Backward {
                threads: plan.engine.pool(),
                isa: plan.engine.set(),
                count,
                mode,
                stages: &plan.graph.stages,
                index,
                step: &plan.steps[index],
                scratch: &backward.scratch[index],
                idle_bias: backward.idle_bias[index],
                views: &plan.views,
                gradients: &backward.gradients,
                flows: &backward.flows[index],
                arena: &mut self.arena,
                weights: WeightsRef { flat: &self.weights, slots: &plan.graph.parameters.trained },
                weight_gradients,
                state: &mut self.states[index],
            });
            // By weights, and by data unless nobody asks for it.
            let wanted = backward.flows[index].iter().any(|flow| *flow != Flow::Unwanted);
            let directions = if stage.macs > 0 && wanted { 2 } else { 1 };
            self.profile.stop(start, &stage.name, "backward", directions * stage.macs * count as u64);
        }
    }
}
