//! How layers that sum over channels pack their weights: a panel of outputs is `[plane][tap][unit][lanes]`, made of row-major
//! `[output][input][tap]`, where a plane has `unit` channels. A linear layer that reads maps has a tap for each pixel.

use crate::threads::{Parts, Threads};
use std::ops::Range;

/// A layer's weights in row-major order.
#[derive(Clone, Copy)]
pub(crate) struct PanelWeights {
    pub(crate) outputs: usize,
    /// Inputs and outputs of a group.
    pub(crate) group: [usize; 2],
    pub(crate) taps: usize,
    /// Channels of a plane.
    pub(crate) unit: usize,
}

/// A panel of a layer's packed weights.
#[derive(Clone)]
pub(crate) struct PackedPanel {
    /// Where it begins, in floats.
    pub(crate) at: usize,
    /// Its first output, and how many it has, padding among them.
    pub(crate) first: usize,
    pub(crate) lanes: usize,
    /// The planes of inputs that it sees.
    pub(crate) planes: Range<usize>,
}

impl PanelWeights {
    /// Packs weights, a task for each of so many panels; what is padding, or lies between groups, becomes 0.
    pub(crate) fn pack(
        &self,
        threads: &Threads,
        panels: usize,
        panel: &(dyn Fn(usize) -> PackedPanel + Sync),
        plain: &[f32],
        packed: &mut [f32],
    ) {
        let packed = Parts::new(packed);
        threads.run(panels, &|index, _| {
            let panel = panel(index);
            // SAFETY: panels do not overlap, and each is one task's.
            let packed = unsafe { packed.part(panel.at..panel.at + self.len(&panel)) };
            packed.fill(0.0);
            self.each(&panel, |from, to| packed[to] = plain[from]);
        });
    }

    /// The reverse.
    pub(crate) fn unpack(
        &self,
        panels: usize,
        panel: impl Fn(usize) -> PackedPanel,
        packed: &[f32],
        plain: &mut [f32],
    ) {
        for panel in (0..panels).map(panel) {
            let packed = &packed[panel.at..][..self.len(&panel)];
            self.each(&panel, |to, from| plain[to] = packed[from]);
        }
    }

    fn len(&self, panel: &PackedPanel) -> usize {
        panel.planes.len() * self.taps * self.unit * panel.lanes
    }

    /// Every weight's place in row-major order and in the panel; plane by plane, which a cache holds in both.
    #[inline]
    fn each(&self, panel: &PackedPanel, mut visit: impl FnMut(usize, usize)) {
        let ([group_in, group_out], tap_step) = (self.group, self.unit * panel.lanes);
        for (index, plane) in panel.planes.clone().enumerate() {
            let channels = plane * self.unit..(plane + 1) * self.unit;
            for output in panel.first..(panel.first + panel.lanes).min(self.outputs) {
                let group = output / group_out * group_in;
                for channel in channels.start.max(group)..channels.end.min(group + group_in) {
                    let from = (output * group_in + channel - group) * self.taps;
                    let to = index * self.taps * tap_step
                        + (channel - channels.start) * panel.lanes
                        + (output - panel.first);
                    for tap in 0..self.taps {
                        visit(from + tap, to + tap * tap_step);
                    }
                }
            }
        }
    }
}
