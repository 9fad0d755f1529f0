//! Where gradients lie, and how they arrive: a plan of backward's memory.
//!
//! With S stages, stage `i` runs forward at moment `i`, the losses stand at S, and stage `i` runs backward at `2S - i`. A
//! value that several stages read gets the sum of what they give: the first to run backward writes, the others add.
//!
//! A gradient needs no buffer of its own where it
//! - is its reader's (a ReLU's, a dropout's, a sum's inputs): [`Home::With`];
//! - is a range of channels of a concatenation's: [`Home::Within`];
//! - can take the place of the value, because a chain alone reads that, forward and backward: [`Home::Value`].

use super::arena::{BufferId, Span};
use super::forward::{ForwardPlan, View, copied_inputs};
use super::stage::{Kind, Stages};
use super::views::{channel_offsets, sharing};

/// How a stage's gradient of an input arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nobody asks for it.
    Unwanted,
    /// It lies in the gradient of the output.
    Shared,
    /// It is the first, and is written.
    Write,
    /// It is added to what is there.
    Accumulate,
}

/// Gradients of outputs, how each stage gives those of its inputs, and its scratch.
#[derive(Debug)]
pub(super) struct Flows {
    /// Of each stage's output; nothing for the net's input.
    pub(super) gradients: Vec<Option<View>>,
    pub(super) inputs: Vec<Vec<Flow>>,
    pub(super) scratch: Vec<Span>,
}

/// Where a gradient lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// In a buffer of its own, or it is not wanted.
    Own,
    /// In the place of a reader's gradient.
    With(usize),
    /// In a concatenation's gradient, after so many channels.
    Within(usize, usize),
    /// In the place of the value.
    Value,
}

impl Flows {
    pub(super) fn plan(stages: &Stages, forward: &mut ForwardPlan, batch: usize, threads: usize) -> Flows {
        let planner = Planner::new(stages, forward);
        let inputs = planner.flows();
        let gradients = planner.views(forward, batch);
        let last = stages.stages.len();
        for &output in &stages.outputs {
            let gradient = gradients[output].expect("outputs have gradients");
            forward.lives.use_at(gradient.buffer, last);
        }
        let mut scratch = Vec::with_capacity(last);
        for (i, stage) in stages.stages.iter().enumerate() {
            let moment = 2 * last - i;
            if let Some(gradient) = gradients[i] {
                forward.lives.use_at(gradient.buffer, moment);
            }
            if stage.kind.backward_reads_output() {
                forward.lives.use_at(forward.values[i].buffer, moment);
            }
            for (position, &input) in stage.inputs.iter().enumerate() {
                if stage.kind.backward_reads_input(position) {
                    forward.lives.use_at(forward.values[input].buffer, moment);
                }
                if let Some(gradient) = gradients[input] {
                    forward.lives.use_at(gradient.buffer, moment);
                }
            }
            let len = match &stage.kind {
                Kind::Conv { conv, .. } => {
                    conv.backward_weights_scratch(batch, threads).max(conv.backward_data_scratch(batch, threads))
                }
                Kind::Linear { linear, .. } => linear.scratch_len(threads),
                Kind::Chain { chain, .. } | Kind::NormSum { chain, .. } => chain.scratch_len(batch),
                Kind::Stem { stem, .. } => stem.backward_scratch(batch, threads),
                Kind::Flatten { .. } if inputs[i] == [Flow::Accumulate] => {
                    batch * stages.stages[stage.inputs[0]].output.len()
                }
                Kind::Load | Kind::Pool(_) | Kind::LocalResponseNorm(_) | Kind::Relu | Kind::Tanh => 0,
                Kind::Dropout { .. } | Kind::Flatten { .. } => 0,
                Kind::Add { .. } | Kind::Concat | Kind::PadChannels { .. } => 0,
            };
            scratch.push(Span { buffer: forward.lives.begin(len, moment), range: 0..len });
        }
        Flows { gradients, inputs, scratch }
    }
}

struct Planner<'a> {
    stages: &'a Stages,
    readers: Vec<Vec<usize>>,
    homes: Vec<Home>,
}

impl<'a> Planner<'a> {
    fn new(stages: &'a Stages, forward: &ForwardPlan) -> Planner<'a> {
        let count = stages.stages.len();
        let mut planner = Planner { stages, readers: stages.readers(), homes: vec![Home::Own; count] };
        for index in 0..count {
            match stages.stages[index].kind {
                Kind::Concat => {
                    let copied = copied_inputs(stages, &forward.places, index);
                    for part @ (input, channels) in channel_offsets(stages, index) {
                        if !copied.contains(&part) {
                            planner.homes[input] = Home::Within(index, channels);
                        }
                    }
                }
                Kind::Add { .. } => planner.share_sum(index),
                Kind::Relu | Kind::Tanh | Kind::Dropout { .. } => {
                    let input = stages.stages[index].inputs[0];
                    if planner.is_only_reader(index, input) {
                        planner.share(input, index);
                    }
                }
                Kind::Chain { .. } => planner.replace_value(index, forward),
                Kind::NormSum { .. } => {
                    planner.replace_value(index, forward);
                    planner.share_addend(index);
                }
                Kind::Load | Kind::Conv { .. } | Kind::Stem { .. } | Kind::Linear { .. } | Kind::Pool(_) => {}
                Kind::LocalResponseNorm(_) | Kind::Flatten { .. } | Kind::PadChannels { .. } => {}
            }
        }
        while let Some(index) = planner.conflict() {
            planner.homes[index] = Home::Own;
        }
        planner
    }

    /// A chain's gradient of its input may take the input's place, because the chain reads both at once.
    fn replace_value(&mut self, chain: usize, forward: &ForwardPlan) {
        let stages = self.stages;
        let input = stages.stages[chain].inputs[0];
        let read = sharing(stages, &forward.places.in_place, input)
            .any(|index| stages.stages[index].kind.backward_reads_output());
        let kept = read || matches!(stages.stages[input].kind, Kind::Load | Kind::Concat);
        let whole = forward.values[input].stride == forward.values[input].len;
        if self.is_only_reader(chain, input) && whole && !kept {
            self.homes[input] = Home::Value;
        }
    }

    fn is_only_reader(&self, reader: usize, input: usize) -> bool {
        self.readers[input] == [reader] && !self.stages.outputs.contains(&input)
    }

    fn share(&mut self, input: usize, reader: usize) {
        if self.wanted(input) && self.homes[input] == Home::Own {
            self.homes[input] = Home::With(reader);
        }
    }

    fn wanted(&self, index: usize) -> bool {
        !matches!(self.stages.stages[index].kind, Kind::Load)
    }

    /// Whether a stage's backward leaves the gradient of its output as it was.
    fn only_reads_gradient(&self, index: usize) -> bool {
        match &self.stages.stages[index].kind {
            Kind::Conv { relu, .. } | Kind::Linear { relu, .. } => !relu,
            Kind::Load | Kind::Chain { .. } | Kind::Stem { .. } | Kind::Pool(_) => true,
            Kind::LocalResponseNorm(_) | Kind::Flatten { .. } | Kind::PadChannels { .. } => true,
            Kind::Relu | Kind::Tanh | Kind::Dropout { .. } | Kind::Add { .. } | Kind::Concat => false,
            Kind::NormSum { .. } => false,
        }
    }

    /// Whether a stage is the last to read a value, hence the first to give its gradient.
    fn is_last_reader(&self, reader: usize, input: usize) -> bool {
        let later = self.readers[input].iter().filter(|&&other| other >= reader).count();
        later == 1 && !self.stages.outputs.contains(&input)
    }

    /// What is added to a norm may have the sum's gradient: the norm reads it before anyone changes it.
    fn share_addend(&mut self, index: usize) {
        let addend = self.stages.stages[index].inputs[1];
        if self.is_last_reader(index, addend) {
            self.share(addend, index);
        }
    }

    /// Inputs of a sum may all have the sum's gradient, if those that change it or add to it do so after the others have read
    /// it: at most one of them, and it stands before the others.
    fn share_sum(&mut self, sum: usize) {
        let inputs = &self.stages.stages[sum].inputs;
        let (reading, changing): (Vec<usize>, Vec<usize>) = inputs
            .iter()
            .filter(|&&input| self.is_last_reader(sum, input))
            .partition(|&&input| self.readers[input] == [sum] && self.only_reads_gradient(input));
        let changing = changing.first().copied();
        let changed_from = changing.map(|input| {
            let others = self.readers[input].iter().copied().filter(|&reader| reader != sum);
            others.max().unwrap_or(0).max(input)
        });
        let reading = reading.into_iter().filter(|&input| changed_from.is_none_or(|changed| input > changed));
        for input in reading.chain(changing).collect::<Vec<_>>() {
            self.share(input, sum);
        }
    }

    /// The stage whose buffer holds a gradient, whether that is its value's, and the channels before it.
    fn root(&self, index: usize) -> (usize, bool, usize) {
        match self.homes[index] {
            Home::Own => (index, false, 0),
            Home::With(reader) => self.root(reader),
            Home::Value => (index, true, 0),
            Home::Within(concat, channels) => {
                let (root, value, before) = self.root(concat);
                (root, value, before + channels)
            }
        }
    }

    /// A gradient that lies where a stage reads another one and writes it, and should have a buffer of its own.
    fn conflict(&self) -> Option<usize> {
        let same = |a: usize, b: usize| {
            let ((a, a_value, _), (b, b_value, _)) = (self.root(a), self.root(b));
            (a, a_value) == (b, b_value)
        };
        for (index, stage) in self.stages.stages.iter().enumerate() {
            for &input in stage.inputs.iter().filter(|&&input| self.wanted(input)) {
                if self.shared(index, input) || !same(index, input) {
                    continue;
                }
                let moves = self.movable(input).or_else(|| self.movable(index));
                return Some(moves.expect("gradients that meet are not all where their values are"));
            }
        }
        None
    }

    /// What could have a buffer of its own instead, on the way from a gradient to the buffer that it lies in.
    fn movable(&self, index: usize) -> Option<usize> {
        match self.homes[index] {
            Home::With(_) | Home::Value => Some(index),
            Home::Within(concat, _) => self.movable(concat),
            Home::Own => None,
        }
    }

    /// Whether an input's gradient lies in its reader's.
    fn shared(&self, reader: usize, input: usize) -> bool {
        match self.homes[input] {
            Home::With(other) | Home::Within(other, _) => other == reader,
            Home::Own | Home::Value => false,
        }
    }

    fn flows(&self) -> Vec<Vec<Flow>> {
        let mut arrived: Vec<bool> = (0..self.homes.len()).map(|i| self.stages.outputs.contains(&i)).collect();
        let mut flows = vec![Vec::new(); self.homes.len()];
        for (index, stage) in self.stages.stages.iter().enumerate().rev() {
            assert!(arrived[index] || stage.inputs.is_empty(), "every stage leads to an output");
            for &input in &stage.inputs {
                flows[index].push(match arrived[input] {
                    _ if !self.wanted(input) => Flow::Unwanted,
                    false if self.shared(index, input) => Flow::Shared,
                    false => Flow::Write,
                    true => Flow::Accumulate,
                });
                arrived[input] = true;
            }
        }
        flows
    }

    fn views(&self, forward: &mut ForwardPlan, batch: usize) -> Vec<Option<View>> {
        let count = self.homes.len();
        let mut buffers: Vec<Option<BufferId>> = vec![None; count];
        let mut view = |index: usize| {
            let stage = &self.stages.stages[index];
            let (root, value, channels) = self.root(index);
            let of_root = if value {
                forward.values[root]
            } else {
                let len = self.stages.stages[root].output.len();
                let new = || forward.lives.begin(len * batch, 2 * count - root);
                View::whole(*buffers[root].get_or_insert_with(new), len)
            };
            let [_, pixels] = stage.output.channels_and_pixels();
            View { offset: of_root.offset + channels * pixels, len: stage.output.len(), ..of_root }
        };
        (0..count).map(|index| self.wanted(index).then(|| view(index))).collect()
    }
}
