//! Where each stage's output lies: in a buffer of its own, in its input's place, or among the channels of a concatenation.
//!
//! A stage that works in place ([`InPlace`]) takes the place of an input that nobody else reads and whose
//! value backward does not miss. The inputs of a concatenation are written straight into its buffer where they come in whole
//! blocks of 16 channels and the concatenation is the last to read them, so that dense blocks and inceptions copy nothing;
//! other inputs are copied. No stage but these reads and writes one buffer at once.

use super::graph::{Form, Graph, InPlace, Layout, OutputKept, Purpose};
use convnet_kernels::simd::LANES;

/// A stage's output within a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The stage whose output the buffer holds as a whole.
    pub(super) root: usize,
    /// Numbers of a picture before it.
    pub(super) offset: usize,
}

/// The places of all outputs.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) places: Vec<Place>,
    /// For each stage that works in place, the input whose place it takes, as an index into its inputs.
    pub(super) in_place: Vec<Option<usize>>,
}

/// Finds a place for every output.
pub(super) fn place(graph: &Graph, purpose: Purpose) -> Places {
    let mut planner = Planner {
        graph,
        readers: graph.readers(),
        in_place: vec![None; graph.stages.len()],
        within: vec![None; graph.stages.len()],
    };
    for index in 0..graph.stages.len() {
        planner.in_place[index] = planner.replaceable_input(index, purpose);
    }
    for index in (0..graph.stages.len()).rev() {
        planner.gather(index);
    }
    while let Some(index) = planner.conflict() {
        planner.separate(index);
    }
    let places = (0..graph.stages.len()).map(|index| planner.place(index)).collect();
    Places { places, in_place: planner.in_place }
}

/// A stage and, back to the first, those in whose place it works.
pub(super) fn sharing<'a>(
    graph: &'a Graph,
    in_place: &'a [Option<usize>],
    index: usize,
) -> impl Iterator<Item = usize> + 'a {
    std::iter::successors(Some(index), |&index| in_place[index].map(|input| graph.stages[index].inputs[input]))
}

/// The inputs of a concatenation that do not lie in its buffer, with the channels before each; of another stage, none.
pub(super) fn copied_inputs(graph: &Graph, places: &Places, concat: usize) -> Vec<(usize, usize)> {
    if graph.stages[concat].facts.form != Form::Concat {
        return Vec::new();
    }
    let own = places.places[concat];
    let belongs = |input: usize, channels: usize| {
        let [_, pixels] = graph.stages[input].output.channels_and_pixels();
        let place = places.places[input];
        place.root == own.root && place.offset == own.offset + channels * pixels
    };
    graph.channel_offsets(concat).filter(|&(input, channels)| !belongs(input, channels)).collect()
}

struct Planner<'a> {
    graph: &'a Graph,
    readers: Vec<Vec<usize>>,
    in_place: Vec<Option<usize>>,
    /// The concatenation in whose buffer an output lies, by the first stage of those that share a place.
    within: Vec<Option<usize>>,
}

impl Planner<'_> {
    fn replaceable_input(&self, index: usize, purpose: Purpose) -> Option<usize> {
        let facts = &self.graph.stages[index].facts;
        let inputs = &self.graph.stages[index].inputs;
        let (candidates, keeps_signs) = match facts.in_place {
            InPlace::Never => (0, false),
            InPlace::First => (1, false),
            InPlace::FirstKeepingSigns => (1, true),
            InPlace::Any => (inputs.len(), false),
        };
        let missed = |kept: OutputKept| match kept {
            OutputKept::Nothing => false,
            OutputKept::Sign => !keeps_signs,
            OutputKept::Value => true,
        };
        let replaceable = |&position: &usize| {
            let input = inputs[position];
            let form = self.graph.stages[input].facts.form;
            let kept = facts.inputs_kept.contains(position) || self.sharing(input).any(missed);
            self.readers[input] == [index]
                && !self.graph.outputs.contains(&input)
                && form == Form::Other
                && !(kept && purpose == Purpose::Training)
        };
        (0..candidates).find(replaceable)
    }

    /// What backward reads of the outputs of the stages that have shared a place up to this one.
    fn sharing(&self, index: usize) -> impl Iterator<Item = OutputKept> {
        sharing(self.graph, &self.in_place, index).map(|index| self.graph.stages[index].facts.output_kept)
    }

    /// The first of the stages that share a place.
    fn first(&self, index: usize) -> usize {
        sharing(self.graph, &self.in_place, index).last().expect("a stage shares its place with itself")
    }

    /// Puts a concatenation's inputs into its buffer where that is possible.
    fn gather(&mut self, concat: usize) {
        let stage = &self.graph.stages[concat];
        if stage.facts.form != Form::Concat || !matches!(stage.output, Layout::Blocked(_)) {
            return;
        }
        for (position, (input, offset)) in self.graph.channel_offsets(concat).enumerate() {
            let [channels, _] = self.graph.stages[input].output.channels_and_pixels();
            let whole = channels.is_multiple_of(LANES) || position + 1 == stage.inputs.len();
            let last_reader = self.readers[input].iter().filter(|&&reader| reader >= concat).count() == 1;
            let first = self.first(input);
            let free = self.within[first].is_none() && !self.graph.outputs.contains(&input);
            let loaded = self.graph.stages[first].facts.form == Form::Source;
            if offset.is_multiple_of(LANES) && whole && last_reader && free && !loaded {
                self.within[first] = Some(concat);
            }
        }
    }

    fn place(&self, index: usize) -> Place {
        let first = self.first(index);
        let Some(concat) = self.within[first] else { return Place { root: first, offset: 0 } };
        let inputs = self.graph.channel_offsets(concat);
        let of_first = inputs.filter(|&(input, _)| self.first(input) == first);
        let (_, channels) = of_first.last().expect("a concatenation gathers its own inputs");
        let [_, pixels] = self.graph.stages[index].output.channels_and_pixels();
        let place = self.place(concat);
        Place { offset: place.offset + channels * pixels, ..place }
    }

    /// A stage whose output should not lie where it does: it is read and another part of its buffer written by a stage that
    /// does not work in place there, or does not find it where a concatenation has it.
    fn conflict(&self) -> Option<usize> {
        (0..self.graph.stages.len()).find_map(|index| {
            let stage = &self.graph.stages[index];
            let own = self.place(index);
            if stage.facts.form == Form::Concat {
                let misplaced = |&(input, channels): &(usize, usize)| {
                    let [_, pixels] = self.graph.stages[input].output.channels_and_pixels();
                    let place = self.place(input);
                    place.root == own.root && place.offset != own.offset + channels * pixels
                };
                return self.graph.channel_offsets(index).find(misplaced).map(|(input, _)| input);
            }
            let shared = |(position, &input): (usize, &usize)| {
                self.in_place[index] != Some(position) && self.place(input).root == own.root
            };
            stage.inputs.iter().enumerate().any(shared).then_some(index)
        })
    }

    /// Takes a stage's output out of the buffer that it shares with its input.
    fn separate(&mut self, index: usize) {
        let first = self.first(index);
        if self.within[first].take().is_none() {
            self.in_place[index] = None;
        }
    }
}
