//! Where each stage's output lies: in a buffer of its own, in its input's place, or among the channels of a concatenation.
//!
//! A stage that works in place ([`Kind::works_in_place`]) takes the place of an input that nobody else reads and whose
//! value backward does not miss. The inputs of a concatenation are written straight into its buffer where they come in whole
//! blocks of 16 channels and the concatenation is the last to read them, so that dense blocks and inceptions copy nothing;
//! other inputs are copied. No stage but these reads and writes one buffer at once.

use super::stage::{Kind, Layout, Purpose, Stages};
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
pub(super) fn place(stages: &Stages, purpose: Purpose) -> Places {
    let mut planner = Planner {
        stages,
        readers: stages.readers(),
        in_place: vec![None; stages.stages.len()],
        within: vec![None; stages.stages.len()],
    };
    for index in 0..stages.stages.len() {
        planner.in_place[index] = planner.replaceable_input(index, purpose);
    }
    for index in (0..stages.stages.len()).rev() {
        planner.gather(index);
    }
    while let Some(index) = planner.conflict() {
        planner.separate(index);
    }
    let places = (0..stages.stages.len()).map(|index| planner.place(index)).collect();
    Places { places, in_place: planner.in_place }
}

/// A stage and, back to the first, those in whose place it works.
pub(super) fn sharing<'a>(
    stages: &'a Stages,
    in_place: &'a [Option<usize>],
    index: usize,
) -> impl Iterator<Item = usize> + 'a {
    std::iter::successors(Some(index), |&index| in_place[index].map(|input| stages.stages[index].inputs[input]))
}

/// Channels of a concatenation's inputs before each of them.
pub(super) fn channel_offsets(stages: &Stages, concat: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
    stages.stages[concat].inputs.iter().scan(0, |next, &input| {
        let first = *next;
        *next += stages.stages[input].output.channels_and_pixels()[0];
        Some((input, first))
    })
}

struct Planner<'a> {
    stages: &'a Stages,
    readers: Vec<Vec<usize>>,
    in_place: Vec<Option<usize>>,
    /// The concatenation in whose buffer an output lies, by the first stage of those that share a place.
    within: Vec<Option<usize>>,
}

impl Planner<'_> {
    fn replaceable_input(&self, index: usize, purpose: Purpose) -> Option<usize> {
        let stage = &self.stages.stages[index];
        let replaceable = |&input: &usize| {
            let kind = &self.stages.stages[input].kind;
            let missed = match stage.kind {
                // Dropout leaves the signs that a ReLU's gradient looks at, where it leaves anything.
                Kind::Dropout { .. } => self.sharing(input).any(|kind| matches!(kind, Kind::Tanh)),
                _ => self.sharing(input).any(Kind::backward_reads_output),
            };
            let kept = self.stages.outputs.contains(&input) || matches!(kind, Kind::Load | Kind::Concat);
            self.readers[input] == [index] && !kept && !(missed && purpose == Purpose::Training)
        };
        stage.kind.works_in_place().then(|| stage.inputs.iter().position(replaceable)).flatten()
    }

    /// What the stages compute that have shared a place up to this one.
    fn sharing(&self, index: usize) -> impl Iterator<Item = &Kind> {
        sharing(self.stages, &self.in_place, index).map(|index| &self.stages.stages[index].kind)
    }

    /// The first of the stages that share a place.
    fn first(&self, index: usize) -> usize {
        sharing(self.stages, &self.in_place, index).last().expect("a stage shares its place with itself")
    }

    /// Puts a concatenation's inputs into its buffer where that is possible.
    fn gather(&mut self, concat: usize) {
        let stage = &self.stages.stages[concat];
        if !matches!((&stage.kind, stage.output), (Kind::Concat, Layout::Blocked(_))) {
            return;
        }
        for (position, (input, offset)) in channel_offsets(self.stages, concat).enumerate() {
            let [channels, _] = self.stages.stages[input].output.channels_and_pixels();
            let whole = channels.is_multiple_of(LANES) || position + 1 == stage.inputs.len();
            let last_reader = self.readers[input].iter().filter(|&&reader| reader >= concat).count() == 1;
            let first = self.first(input);
            let free = self.within[first].is_none() && !self.stages.outputs.contains(&input);
            let loaded = matches!(self.stages.stages[first].kind, Kind::Load);
            if offset.is_multiple_of(LANES) && whole && last_reader && free && !loaded {
                self.within[first] = Some(concat);
            }
        }
    }

    fn place(&self, index: usize) -> Place {
        let first = self.first(index);
        let Some(concat) = self.within[first] else { return Place { root: first, offset: 0 } };
        let inputs = channel_offsets(self.stages, concat);
        let of_first = inputs.filter(|&(input, _)| self.first(input) == first);
        let (_, channels) = of_first.last().expect("a concatenation gathers its own inputs");
        let [_, pixels] = self.stages.stages[index].output.channels_and_pixels();
        let place = self.place(concat);
        Place { offset: place.offset + channels * pixels, ..place }
    }

    /// A stage whose output should not lie where it does: it is read and another part of its buffer written by a stage that
    /// does not work in place there, or does not find it where a concatenation has it.
    fn conflict(&self) -> Option<usize> {
        (0..self.stages.stages.len()).find_map(|index| {
            let stage = &self.stages.stages[index];
            let own = self.place(index);
            if matches!(stage.kind, Kind::Concat) {
                let misplaced = |&(input, channels): &(usize, usize)| {
                    let [_, pixels] = self.stages.stages[input].output.channels_and_pixels();
                    let place = self.place(input);
                    place.root == own.root && place.offset != own.offset + channels * pixels
                };
                return channel_offsets(self.stages, index).find(misplaced).map(|(input, _)| input);
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
