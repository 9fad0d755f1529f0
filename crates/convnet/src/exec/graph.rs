//! A net as stages in running order, as far as placement in memory has to know them: what each reads, keeps and changes.
//!
//! A device lowers a net to a graph (`cpu/lower.rs`) and keeps beside it what computes each stage. This file, `placement.rs`,
//! `gradient_placement.rs`, `storage.rs`, `batch_tiling.rs` and `arena.rs` know no device.

use super::parameters::Parameters;
use crate::ops::Shape;
use convnet_kernels::layout::blocks;
use convnet_kernels::precision::Precision;
use convnet_kernels::simd::LANES;

/// How a value lies in memory, for one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// NCHW, of the net's input.
    Plain(usize),
    /// `[c/16][h][w][16]`.
    Blocked([usize; 3]),
    /// Features, padded to whole blocks of 16.
    Row(usize),
}

impl Layout {
    pub(super) fn of(shape: Shape) -> Layout {
        match shape {
            Shape::Map(dims) => Layout::Blocked(dims),
            Shape::Vector(features) => Layout::Row(features),
        }
    }

    /// Numbers of one picture.
    pub(super) fn len(self) -> usize {
        match self {
            Layout::Plain(len) => len,
            Layout::Blocked([c, h, w]) => blocks(c) * LANES * h * w,
            Layout::Row(features) => blocks(features) * LANES,
        }
    }

    /// Numbers of one picture without padding.
    pub(super) fn elements(self) -> usize {
        match self {
            Layout::Plain(len) => len,
            Layout::Blocked(dims) => dims.iter().product(),
            Layout::Row(features) => features,
        }
    }

    /// Channels and pixels of what lies in blocks of 16; a row is maps of one pixel.
    pub(super) fn channels_and_pixels(self) -> [usize; 2] {
        match self {
            Layout::Plain(_) => unreachable!("only a convolution reads a plain input"),
            Layout::Blocked([c, h, w]) => [c, h * w],
            Layout::Row(features) => [features, 1],
        }
    }
}

/// What a stage is to those that decide where values lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The net's input: nobody works in its place.
    Source,
    /// All inputs' channels, one after the other: inputs may be written where they belong in it.
    Concat,
    /// Any other.
    Other,
}

/// Whose place a stage's output may take, which is then changed or added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InPlace {
    /// Nobody's.
    Never,
    /// The first input's.
    First,
    /// The first input's, whose signs stay, but for zeros through which no gradient passes.
    FirstKeepingSigns,
    /// That of any input.
    Any,
}

/// Which values backward reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputsKept {
    /// None.
    None,
    /// The first input.
    First,
    /// All inputs.
    All,
}

impl InputsKept {
    pub(super) fn contains(self, position: usize) -> bool {
        match self {
            InputsKept::None => false,
            InputsKept::First => position == 0,
            InputsKept::All => true,
        }
    }
}

/// What backward reads of a stage's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputKept {
    /// Nothing.
    Nothing,
    /// Whether each number is above 0.
    Sign,
    /// The numbers.
    Value,
}

/// How the gradients of a stage's inputs come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputGradients {
    /// Each is computed from the output's, elsewhere.
    Computed,
    /// The first is the output's after the stage has changed it in place; others are computed before that.
    Passed,
    /// The first is computed number by number beside the first input, whose place it may take.
    ReplacesInput,
    /// As [`InputGradients::ReplacesInput`], and the second input's is the output's, which the first is computed from.
    ReplacesInputBesideAddend,
    /// All are the output's.
    Sum,
    /// They are the output's channels.
    Parts,
}

/// What those that place values have to know of a stage. A stage says all of it: there are no defaults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) form: Form,
    pub(super) in_place: InPlace,
    pub(super) inputs_kept: InputsKept,
    pub(super) output_kept: OutputKept,
    pub(super) input_gradients: InputGradients,
    /// Whether backward changes the output's gradient where it lies.
    pub(super) changes_gradient: bool,
    /// Whether the first input is normalised with the batch's statistics, which take every constant away.
    pub(super) normalizes: bool,
    /// Whether in inference all inputs and the output may be stored in bf16.
    pub(super) takes_bf16: bool,
}

/// One kernel call and its place.
#[derive(Debug)]
pub(super) struct Stage {
    /// The name of the first node in it.
    pub(super) name: String,
    pub(super) facts: Facts,
    /// The stages whose outputs it reads.
    pub(super) inputs: Vec<usize>,
    pub(super) output: Layout,
    /// How the output is stored.
    pub(super) stored: Precision,
    /// Multiply-adds of a picture.
    pub(super) macs: u64,
    /// Pictures that it computes at a time, at most.
    pub(super) pictures: usize,
    /// Whether a parameter of it is trained.
    pub(super) trained: bool,
}

impl Stage {
    /// Floats of memory that a picture of the output takes.
    pub(super) fn floats(&self) -> usize {
        self.output.len() / self.stored.per_word()
    }
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Training,
    Inference,
}

/// A net as stages in running order.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) stages: Vec<Stage>,
    pub(super) parameters: Parameters,
    /// The stages whose outputs the caller reads: the net's output, then the auxiliary ones.
    pub(super) outputs: Vec<usize>,
    /// The stages whose outputs are copied for the caller as soon as they are computed, and so are their gradients.
    pub(super) taps: Vec<usize>,
    /// The stages that end with a ReLU which passes back positive gradients alone.
    pub(super) guided: Vec<usize>,
}

impl Graph {
    /// For each stage those that read its output, in running order; one that reads it twice stands there twice.
    pub(super) fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.stages.len()];
        for (index, stage) in self.stages.iter().enumerate() {
            stage.inputs.iter().for_each(|&input| readers[input].push(index));
        }
        readers
    }

    /// For each stage whether its output's gradient is computed: where a trained parameter or a tap stands at the stage or
    /// before it, and an output depends on it. Those of the outputs themselves are given.
    pub(super) fn wanted_gradients(&self) -> Vec<bool> {
        let mut leads: Vec<bool> = (0..self.stages.len()).map(|index| self.outputs.contains(&index)).collect();
        for (index, stage) in self.stages.iter().enumerate().rev() {
            if leads[index] {
                stage.inputs.iter().for_each(|&input| leads[input] = true);
            }
        }
        let mut asked = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            asked.push(stage.trained || self.taps.contains(&index) || stage.inputs.iter().any(|&input| asked[input]));
        }
        let wanted = |index: usize| leads[index] && (asked[index] || self.outputs.contains(&index));
        (0..self.stages.len()).map(wanted).collect()
    }

    /// Channels of a concatenation's inputs before each of them.
    pub(super) fn channel_offsets(&self, concat: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.stages[concat].inputs.iter().scan(0, |next, &input| {
            let first = *next;
            *next += self.stages[input].output.channels_and_pixels()[0];
            Some((input, first))
        })
    }
}
