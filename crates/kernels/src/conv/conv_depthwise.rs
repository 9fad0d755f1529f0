//! A 1×1 convolution and the depthwise one that alone reads its output, computed together: the first half of an inverted
//! residual (Sandler et al. 2018, section 3). What stands between them has the most numbers of a block; here it never leaves a
//! core's caches. (A net's first convolution with the depthwise one after it gains nothing: two cores of an EPYC (Zen 5),
//! MobileNet v2 and EfficientNet-B0 at batch 1, 2026-11-29, 1.00 and 1.00 in turns.)
//!
//! A task is a strip of rows of the output for some panels of channels of one picture. For each panel the first convolution
//! writes the rows that the depthwise one reads to the thread's scratch, and each block of the panel is filtered from there.
//! Rows that two strips read are computed twice. Every sum has the order that it has in the two convolutions by themselves, so
//! results have the same bits.

use super::correlation::{Call, Correlation};
use super::cut::TASKS;
use super::depthwise::Depthwise;
use super::strip::Onto;
use super::{Conv, Panel, Plan};
use crate::activation::Activation;
use crate::layout::{Maps, MapsMut};
use crate::precision::Precision;
use crate::simd::LANES;
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// Floats between the two, at most, where a strip has several rows: they stay in L2.
const STRIP_FLOATS: usize = 96 * 1024;

/// The two, planned.
#[derive(Clone, Debug)]
pub struct ConvDepthwise {
    first: Conv,
    depthwise: Conv,
    /// Rows of a strip, at most.
    rows: usize,
}

/// What each of the two computes with.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// Packed.
    pub weights: &'a [f32],
    /// A number per output channel, padded with zeros to whole blocks of 16.
    pub bias: Option<&'a [f32]>,
    /// What follows the sums.
    pub activation: Activation,
}

impl<'a> Layer<'a> {
    fn call(self, batch: usize, x: Maps<'a>, channels: usize) -> Call<'a> {
        let Layer { weights, bias, activation } = self;
        let ending = activation.ending(channels);
        Call { batch, x, weights, bias, addend: None, ending, accumulate: false, statistics: None }
    }
}

/// The tasks of a picture.
#[derive(Clone, Copy)]
struct Cut {
    strips: usize,
    rows: usize,
    /// Parts into which the panels are divided.
    parts: usize,
}

impl ConvDepthwise {
    /// Plans two convolutions together; nothing where the first is not a direct one whose input is read in place, or the
    /// second is not a depthwise one of its output.
    pub fn new(first: &Conv, depthwise: &Conv) -> Option<ConvDepthwise> {
        let (Plan::Dense(dense), Plan::Depthwise(_)) = (&first.plan, &depthwise.plan) else { return None };
        let fits = first.shape.out_channels == depthwise.shape.in_channels
            && first.output() == depthwise.shape.input
            && first.isa == depthwise.isa;
        let direct = dense.direct_forward().is_some_and(Correlation::works_in_place);
        (fits && direct).then(|| {
            let mut planned = ConvDepthwise { first: first.clone(), depthwise: depthwise.clone(), rows: 1 };
            let count = depthwise.output()[0];
            let fitting = (1..=count).rev().find(|&rows| planned.middle_len(rows) <= STRIP_FLOATS).unwrap_or(1);
            planned.rows = count.div_ceil(count.div_ceil(fitting));
            planned
        })
    }

    /// The two by themselves.
    pub fn convolutions(&self) -> [&Conv; 2] {
        [&self.first, &self.depthwise]
    }

    /// Floats of scratch that [`ConvDepthwise::forward`] needs.
    pub fn forward_scratch(&self, threads: usize) -> usize {
        threads * self.middle_len(self.rows)
    }

    fn plans(&self) -> (&Correlation, &Depthwise) {
        match (&self.first.plan, &self.depthwise.plan) {
            (Plan::Dense(dense), Plan::Depthwise(depthwise)) => {
                (dense.direct_forward().expect("planned for a direct one"), depthwise)
            }
            _ => unreachable!("planned for a dense and a depthwise convolution"),
        }
    }

    /// Rows of what stands between the two that so many rows of the output read, at most.
    fn reach(&self, rows: usize) -> usize {
        self.plans().1.forward_reach(rows)
    }

    /// Floats of scratch for a strip of so many rows of the widest panel.
    fn middle_len(&self, rows: usize) -> usize {
        let width = self.plans().0.panels.iter().map(|panel| panel.width).max().unwrap_or(0);
        width * self.reach(rows) * self.first.output()[1] * LANES
    }

    /// The second's output, of `batch` pictures of the first's input.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says, or something is not stored in `f32`.
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        x: Maps<'_>,
        layers: [Layer<'_>; 2],
        y: MapsMut<'_>,
        scratch: &mut [f32],
    ) {
        let (correlation, depthwise) = self.plans();
        assert!(
            x.hold_stored(batch, correlation.input_len()) && y.as_maps().hold_stored(batch, depthwise.output_len())
        );
        assert!([x.stored, y.stored] == [Precision::F32; 2], "both are stored in f32");
        for (layer, conv) in layers.iter().zip(self.convolutions()) {
            assert!(layer.weights.len() >= conv.weights_len());
            assert!(layer.bias.is_none_or(|bias| bias.len() >= conv.shape.out_channels.next_multiple_of(LANES)));
        }
        let channels = self.depthwise.shape.out_channels;
        let calls = layers.map(|layer| layer.call(batch, x, channels));
        let Cut { strips, rows, parts } = self.cut(batch, threads.count());
        let (count, all, len) = (self.depthwise.output()[0], correlation.panels.len(), self.middle_len(self.rows));
        let (placing, y, scratch) = (y.placing(), Parts::new(y.data), Parts::new(scratch));
        threads.run(batch * strips * parts, &|task, thread| {
            let (picture, strip, part) = (task / parts / strips, task / parts % strips, task % parts);
            let rows = strip * rows..((strip + 1) * rows).min(count);
            // SAFETY: a thread's number is its own.
            let middle = unsafe { scratch.part(thread * len..(thread + 1) * len) };
            for panel in &correlation.panels[part * all / parts..(part + 1) * all / parts] {
                let plane = self.compute(&calls[0], picture, panel, depthwise.forward_reads(rows.clone()), middle);
                // Rows of padding alone read nothing.
                for (block, x) in (panel.block..panel.block + panel.width).zip(middle.chunks(plane.max(1))) {
                    let places = [y, Parts::new(&mut [])];
                    depthwise.forward_rows(&calls[1], places, placing, [picture, block], rows.clone(), x);
                }
            }
        });
    }

    /// Rows of a panel of the first's output; gives how far apart its blocks are.
    fn compute(&self, call: &Call<'_>, picture: usize, panel: &Panel, rows: Range<usize>, middle: &mut [f32]) -> usize {
        let (correlation, _) = self.plans();
        let row = self.first.output()[1] * LANES;
        let plane = rows.len() * row;
        for from in rows.clone().step_by(correlation.strip) {
            let (count, before) = (correlation.strip.min(rows.end - from), (from - rows.start) * row);
            let onto = Onto::Rows(Parts::new(&mut middle[before..]), plane);
            correlation.run_panel(self.first.isa, call, onto, [picture, from, count], panel);
        }
        plane
    }

    /// The cut of a batch for so many threads that should be done first.
    fn cut(&self, batch: usize, threads: usize) -> Cut {
        let (correlation, _) = self.plans();
        let (count, panels) = (self.depthwise.output()[0], &correlation.panels);
        let fewest = count.div_ceil(self.rows);
        let cut = |strips: usize, parts: usize| {
            let rows = count.div_ceil(strips);
            Cut { strips: count.div_ceil(rows), rows, parts }
        };
        let wanted = TASKS * threads;
        if threads == 1 || batch * fewest >= 2 * wanted {
            return cut(fewest, 1);
        }
        let blocks = |parts: usize| {
            let widths = |part: usize| &panels[part * panels.len() / parts..(part + 1) * panels.len() / parts];
            (0..parts).map(|part| widths(part).iter().map(|panel| panel.width).sum::<usize>()).max().unwrap_or(0)
        };
        let [_, columns] = self.first.output();
        let [_, across] = self.depthwise.output();
        let taps = |conv: &Conv| conv.shape.window.kernel.iter().product::<usize>();
        let time = |cut: Cut, blocks: usize| {
            let summed = self.reach(cut.rows) * columns * self.first.shape.in_channels * taps(&self.first);
            let filtered = cut.rows * across * taps(&self.depthwise);
            let task = blocks * (summed + filtered);
            // The last task seldom ends when the others do.
            (batch * cut.strips * cut.parts).div_ceil(threads) * task + task / 4
        };
        let most = count.min(fewest.max(wanted));
        let cuts = (1..=panels.len().min(wanted)).flat_map(|parts| {
            let blocks = blocks(parts);
            (fewest..=most).map(move |strips| (cut(strips, parts), blocks))
        });
        let best = cuts.min_by_key(|&(cut, blocks)| (time(cut, blocks), cut.strips, cut.parts));
        best.map_or(cut(fewest, 1), |(best, _)| best)
    }
}

#[cfg(test)]
mod tests;
