//! Where gradients lie, and how they arrive.
//!
//! With S stages, stage `i` runs forward at time `i`, the losses stand at S, and stage `i` runs backward at `2S - i`. A
//! value that several stages read gets the sum of what they give: the first to run backward writes, the others add.
//!
//! A gradient needs no buffer of its own where it
//! - is its reader's (a ReLU's, a dropout's, a sum's inputs): [`Home::With`];
//! - is a range of channels of a concatenation's: [`Home::Within`];
//! - can take the place of the value, because a norm alone reads that, forward and backward: [`Home::Value`].

use super::arena::{BufferId, View};
use super::graph::{Form, Graph, InputGradients, OutputKept};
use super::placement::{copied_inputs, sharing};
use super::values::Values;

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

/// Gradients of outputs, and how each stage gives those of its inputs.
#[derive(Debug)]
pub(super) struct Gradients {
    /// Where the gradient of each stage's output lies, if it is wanted.
    pub(super) views: Vec<Option<View>>,
    pub(super) inputs: Vec<Vec<Flow>>,
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

impl Gradients {
    /// Places the gradients of a batch among the values, whose lives it extends to where backward reads them.
    pub(super) fn place(graph: &Graph, values: &mut Values, batch: usize) -> Gradients {
        let planner = Planner::new(graph, values);
        let inputs = planner.flows();
        let views = planner.views(values, batch);
        let last = graph.stages.len();
        for &output in &graph.outputs {
            let gradient = views[output].expect("outputs have gradients");
            values.lives.use_at(gradient.buffer, last);
        }
        for (i, stage) in graph.stages.iter().enumerate() {
            let time = backward_time(graph, i);
            if let Some(gradient) = views[i] {
                values.lives.use_at(gradient.buffer, time);
            }
            if stage.facts.output_kept != OutputKept::Nothing {
                values.lives.use_at(values.views[i].buffer, time);
            }
            for (position, &input) in stage.inputs.iter().enumerate() {
                if stage.facts.inputs_kept.contains(position) {
                    values.lives.use_at(values.views[input].buffer, time);
                }
                if let Some(gradient) = views[input] {
                    values.lives.use_at(gradient.buffer, time);
                }
            }
        }
        Gradients { views, inputs }
    }
}

/// When a stage runs backward.
pub(super) fn backward_time(graph: &Graph, stage: usize) -> usize {
    2 * graph.stages.len() - stage
}

struct Planner<'a> {
    graph: &'a Graph,
    readers: Vec<Vec<usize>>,
    wanted: Vec<bool>,
    homes: Vec<Home>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, values: &Values) -> Planner<'a> {
        let count = graph.stages.len();
        let wanted = graph.wanted_gradients();
        let mut planner = Planner { graph, readers: graph.readers(), wanted, homes: vec![Home::Own; count] };
        for (index, stage) in graph.stages.iter().enumerate() {
            if !planner.wanted[index] {
                continue;
            }
            match stage.facts.input_gradients {
                InputGradients::Computed => {}
                InputGradients::Parts => {
                    let copied = copied_inputs(graph, &values.places, index);
                    for part @ (input, channels) in graph.channel_offsets(index) {
                        if !copied.contains(&part) {
                            planner.homes[input] = Home::Within(index, channels);
                        }
                    }
                }
                InputGradients::Sum => planner.share_sum(index),
                InputGradients::Passed => {
                    let input = stage.inputs[0];
                    if planner.is_only_reader(index, input) {
                        planner.share(input, index);
                    }
                }
                InputGradients::ReplacesInput => planner.replace_value(index, values),
                InputGradients::ReplacesInputBesideAddend => {
                    planner.replace_value(index, values);
                    planner.share_addend(index);
                }
            }
        }
        while let Some(index) = planner.conflict() {
            planner.homes[index] = Home::Own;
        }
        planner
    }

    /// The gradient of a stage's input may take the input's place, because the stage reads both at once.
    fn replace_value(&mut self, reader: usize, values: &Values) {
        let graph = self.graph;
        let input = graph.stages[reader].inputs[0];
        let read = sharing(graph, &values.places.in_place, input)
            .any(|index| graph.stages[index].facts.output_kept != OutputKept::Nothing);
        let kept = read || graph.stages[input].facts.form != Form::Other;
        let whole = values.views[input].stride == values.views[input].len;
        if self.is_only_reader(reader, input) && whole && !kept {
            self.homes[input] = Home::Value;
        }
    }

    fn is_only_reader(&self, reader: usize, input: usize) -> bool {
        self.readers[input] == [reader] && !self.graph.outputs.contains(&input)
    }

    fn share(&mut self, input: usize, reader: usize) {
        if self.wanted[input] && self.homes[input] == Home::Own {
            self.homes[input] = Home::With(reader);
        }
    }

    /// Whether a stage is the last to read a value, hence the first to give its gradient.
    fn is_last_reader(&self, reader: usize, input: usize) -> bool {
        let later = self.readers[input].iter().filter(|&&other| other >= reader).count();
        later == 1 && !self.graph.outputs.contains(&input)
    }

    /// What is added to a stage's first input may have the sum's gradient: the stage reads it before anyone changes it.
    fn share_addend(&mut self, index: usize) {
        let addend = self.graph.stages[index].inputs[1];
        if self.is_last_reader(index, addend) {
            self.share(addend, index);
        }
    }

    /// Inputs of a sum may all have the sum's gradient, if those that change it or add to it do so after the others have read
    /// it: at most one of them, and it stands before the others.
    fn share_sum(&mut self, sum: usize) {
        let inputs = &self.graph.stages[sum].inputs;
        let (reading, changing): (Vec<usize>, Vec<usize>) = inputs
            .iter()
            .filter(|&&input| self.is_last_reader(sum, input))
            .partition(|&&input| self.readers[input] == [sum] && !self.graph.stages[input].facts.changes_gradient);
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
        for (index, stage) in self.graph.stages.iter().enumerate().filter(|&(index, _)| self.wanted[index]) {
            for &input in stage.inputs.iter().filter(|&&input| self.wanted[input]) {
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
        let mut arrived: Vec<bool> = (0..self.homes.len()).map(|i| self.graph.outputs.contains(&i)).collect();
        let mut flows = vec![Vec::new(); self.homes.len()];
        for (index, stage) in self.graph.stages.iter().enumerate().rev() {
            if !self.wanted[index] {
                flows[index] = vec![Flow::Unwanted; stage.inputs.len()];
                continue;
            }
            assert!(arrived[index], "what is wanted leads to an output");
            for &input in &stage.inputs {
                flows[index].push(match arrived[input] {
                    _ if !self.wanted[input] => Flow::Unwanted,
                    false if self.shared(index, input) => Flow::Shared,
                    false => Flow::Write,
                    true => Flow::Accumulate,
                });
                arrived[input] = true;
            }
        }
        flows
    }

    fn views(&self, values: &mut Values, batch: usize) -> Vec<Option<View>> {
        let count = self.homes.len();
        let mut buffers: Vec<Option<BufferId>> = vec![None; count];
        let mut view = |index: usize| {
            let stage = &self.graph.stages[index];
            let (root, value, channels) = self.root(index);
            let of_root = if value {
                values.views[root]
            } else {
                let len = self.graph.stages[root].output.len();
                let new = || values.lives.begin(len * batch, backward_time(self.graph, root));
                View::whole(*buffers[root].get_or_insert_with(new), len)
            };
            let [_, pixels] = stage.output.channels_and_pixels();
            View { offset: of_root.offset + channels * pixels, len: stage.output.len(), ..of_root }
        };
        (0..count).map(|index| self.wanted[index].then(|| view(index))).collect()
    }
}
