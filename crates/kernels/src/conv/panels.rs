//! How the weights of a sum over channels are packed: panels of output channels, and groups in them.
//!
//! A panel is `[plane][tap][unit][16·width]` (`correlation.rs`). Groups whose channels are not whole blocks become dense blocks
//! with zeros in between; their gradient is 0 there, so that they stay zero in training.

use super::ConvShape;
use super::correlation::{Correlation, Panel};
use crate::panel_weights::{PackedPanel, PanelWeights};
use crate::simd::{Isa, LANES};
use crate::threads::Threads;
use std::ops::Range;

/// Where each weight lies.
pub(super) struct Packing<'a> {
    pub(super) shape: &'a ConvShape,
    /// Channels of an input plane.
    pub(super) unit: usize,
    pub(super) panels: &'a [Panel],
}

impl Packing<'_> {
    /// Sets the gradient of what is zero by structure to zero.
    pub(super) fn clear_between_groups(&self, dw: &mut [f32]) {
        let ConvShape { in_channels, out_channels, groups, window, .. } = *self.shape;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        if !mixes_groups(group_in, group_out, groups) {
            return;
        }
        let taps = window.kernel[0] * window.kernel[1];
        for panel in self.panels {
            let (lanes, first) = (panel.width * LANES, panel.block * LANES);
            let len = panel.planes.len() * taps * self.unit * lanes;
            for (row, row_lanes) in dw[panel.weights..][..len].chunks_exact_mut(lanes).enumerate() {
                let group = ((panel.planes.start + row / LANES / taps) * LANES + row % LANES) / group_in;
                // The outputs of the channel's group, as far as they are in the panel.
                let [begin, end] =
                    [group, group + 1].map(|group| (group * group_out).clamp(first, first + lanes) - first);
                row_lanes[..begin].fill(0.0);
                row_lanes[end..].fill(0.0);
            }
        }
    }

    /// Packs weights from OIHW, in the panels.
    pub(super) fn pack(&self, threads: &Threads, oihw: &[f32], packed: &mut [f32]) {
        self.weights().pack(threads, self.panels.len(), &|index| self.panel(index), oihw, packed);
    }

    /// The reverse.
    pub(super) fn unpack(&self, packed: &[f32], oihw: &mut [f32]) {
        self.weights().unpack(self.panels.len(), |index| self.panel(index), packed, oihw);
    }

    fn weights(&self) -> PanelWeights {
        let ConvShape { in_channels, out_channels, groups, window, .. } = *self.shape;
        PanelWeights {
            outputs: out_channels,
            group: [in_channels / groups, out_channels / groups],
            taps: window.kernel[0] * window.kernel[1],
            unit: self.unit,
        }
    }

    fn panel(&self, index: usize) -> PackedPanel {
        let Panel { block, width, ref planes, weights } = self.panels[index];
        PackedPanel { at: weights, first: block * LANES, lanes: width * LANES, planes: planes.clone() }
    }
}

/// Whether blocks of channels would cross groups.
fn mixes_groups(group_in: usize, group_out: usize, groups: usize) -> bool {
    groups > 1 && (!group_in.is_multiple_of(LANES) || !group_out.is_multiple_of(LANES))
}

/// Cuts the output channels into panels, for `[inputs, outputs]` channels of either direction.
pub(super) fn cut_panels(isa: Isa, channels: [usize; 2], groups: usize, unit: usize) -> Vec<Panel> {
    let [inputs, outputs] = channels;
    let (group_in, group_out) = (inputs / groups, outputs / groups);
    let panel = |block: usize, width: usize, planes: Range<usize>| Panel { block, width, planes, weights: 0 };
    if mixes_groups(group_in, group_out, groups) {
        // Blocks mix groups: each block of outputs sees every block of inputs that one of its groups touches.
        let of_block = |block: usize| {
            let last = ((block + 1) * LANES).min(outputs) - 1;
            let (first_group, last_group) = (block * LANES / group_out, last / group_out);
            let planes = first_group * group_in / LANES..((last_group + 1) * group_in).div_ceil(LANES);
            panel(block, 1, planes)
        };
        return (0..outputs.div_ceil(LANES)).map(of_block).collect();
    }
    let (blocks, planes) = (group_out.div_ceil(LANES), group_in.div_ceil(unit));
    let width = isa.tile_width();
    let of_group = |group: usize| {
        let cut = move |first: usize| {
            panel(group * blocks + first, width.min(blocks - first), group * planes..(group + 1) * planes)
        };
        (0..blocks).step_by(width).map(cut)
    };
    (0..groups).flat_map(of_group).collect()
}

impl Correlation {
    /// Gives each panel its place in the packed weights.
    pub(super) fn place_weights(&mut self) {
        let mut at = 0;
        for i in 0..self.panels.len() {
            self.panels[i].weights = at;
            at += self.panel_len(&self.panels[i]);
        }
    }
}
