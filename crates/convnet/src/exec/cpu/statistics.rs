//! Where training finds the means and variances that batch norms need.
//!
//! A channel's are found once, right after its stage has computed it: a convolution leaves them on the way, of any other
//! stage's output they are summed. A concatenation has those of its inputs, so the norms of a dense block, which read the
//! same channels again and again, sum nothing.

use super::stage::Compute;
use crate::exec::graph::{Form, Graph};
use convnet_kernels::layout::blocks;
use convnet_kernels::memory::Buffer;
use convnet_kernels::simd::LANES;
use convnet_kernels::statistics::parts_len;

/// Mean and biased variance of a stage's output, padded to whole blocks of channels.
#[derive(Debug)]
pub(in crate::exec) struct Statistics {
    pub(in crate::exec) mean: Buffer,
    pub(in crate::exec) var: Buffer,
}

impl Statistics {
    pub(in crate::exec) fn of(channels: usize) -> Statistics {
        let zeros = || Buffer::zeros(blocks(channels) * LANES);
        Statistics { mean: zeros(), var: zeros() }
    }
}

/// For each stage that normalises its input with the batch's statistics, the stages whose outputs are that input's
/// channels, and the first channel of each; for others nothing.
pub(in crate::exec) fn sources(graph: &Graph) -> Vec<Vec<(usize, usize)>> {
    let of_stage = |index: usize| {
        let stage = &graph.stages[index];
        let mut found = Vec::new();
        if stage.facts.normalizes {
            collect(graph, stage.inputs[0], 0, &mut found);
        }
        found
    };
    (0..graph.stages.len()).map(of_stage).collect()
}

fn collect(graph: &Graph, index: usize, channel: usize, found: &mut Vec<(usize, usize)>) {
    if graph.stages[index].facts.form != Form::Concat {
        return found.push((index, channel));
    }
    for (input, before) in graph.channel_offsets(index) {
        collect(graph, input, channel + before, found);
    }
}

/// Floats of the parts that a stage's statistics are merged from.
pub(in crate::exec) fn scratch_len(graph: &Graph, computes: &[Box<dyn Compute>], index: usize, batch: usize) -> usize {
    match computes[index].statistics() {
        Some(leaves) => leaves.len(batch),
        None => parts_len(batch, graph.stages[index].output.channels_and_pixels()[0]),
    }
}
