//! Where training finds the means and variances that batch norms need.
//!
//! A channel's are found once, right after its stage has computed it: a convolution leaves them on the way, of any other
//! stage's output they are summed. A concatenation has those of its inputs, so the norms of a dense block, which read the
//! same channels again and again, sum nothing.

use super::stage::{Kind, Purpose, Stages};
use super::views::channel_offsets;
use convnet_kernels::layout::blocks;
use convnet_kernels::memory::Buffer;
use convnet_kernels::moments::parts_len;
use convnet_kernels::simd::LANES;

/// Mean and biased variance of a stage's output, padded to whole blocks of channels.
#[derive(Debug)]
pub(super) struct Moments {
    pub(super) mean: Buffer,
    pub(super) var: Buffer,
}

impl Moments {
    pub(super) fn of(channels: usize) -> Moments {
        let zeros = || Buffer::zeros(blocks(channels) * LANES);
        Moments { mean: zeros(), var: zeros() }
    }
}

/// For each stage that normalises its input, the stages whose outputs are that input's channels, and the first channel of
/// each; for others nothing.
pub(super) fn sources(stages: &Stages, purpose: Purpose) -> Vec<Vec<(usize, usize)>> {
    let of_stage = |index: usize| {
        let stage = &stages.stages[index];
        let mut found = Vec::new();
        // A stem normalises what it computes itself.
        let reads = stage.kind.norm().is_some() && !matches!(stage.kind, Kind::Stem { .. });
        if purpose == Purpose::Training && reads {
            collect(stages, stage.inputs[0], 0, &mut found);
        }
        found
    };
    (0..stages.stages.len()).map(of_stage).collect()
}

fn collect(stages: &Stages, index: usize, channel: usize, found: &mut Vec<(usize, usize)>) {
    if !matches!(stages.stages[index].kind, Kind::Concat) {
        return found.push((index, channel));
    }
    for (input, before) in channel_offsets(stages, index) {
        collect(stages, input, channel + before, found);
    }
}

/// Floats of the parts that a stage's moments are merged from.
pub(super) fn scratch_len(stages: &Stages, index: usize, batch: usize) -> usize {
    let stage = &stages.stages[index];
    if let Kind::Conv { conv, .. } = &stage.kind {
        return conv.moments_len(batch);
    }
    parts_len(batch, stage.output.channels_and_pixels()[0])
}
