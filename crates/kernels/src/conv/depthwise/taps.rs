//! The taps of a phase of an axis, which are evenly spaced in the kernel and in the input.

use super::super::axis::Phase;
use std::ops::Range;

/// Outputs that share their taps, in the order of what they read: tap `i` is kernel element `element + i·element_step`, and for
/// output `q` it reads the input at `stride·q + shift + i·shift_step`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    /// The first output.
    pub(super) first: usize,
    /// Outputs in this phase.
    pub(super) outputs: usize,
    /// Taps.
    pub(super) count: usize,
    pub(super) element: usize,
    /// Negative by data, where kernels are flipped.
    pub(super) element_step: isize,
    pub(super) shift: isize,
    pub(super) shift_step: usize,
}

impl Taps {
    pub(super) fn new(phase: &Phase) -> Taps {
        let mut taps: Vec<(usize, isize)> = phase.taps.clone();
        taps.sort_by_key(|tap| tap.1);
        let (element, shift) = taps.first().copied().unwrap_or_default();
        let (next_element, next_shift) = taps.get(1).copied().unwrap_or((element, shift));
        let (element_step, shift_step) = (next_element as isize - element as isize, (next_shift - shift) as usize);
        let (first, outputs, count) = (phase.first, phase.count, taps.len());
        Taps { first, outputs, count, element, element_step, shift, shift_step }
    }

    /// Where a tap reads, for the output whose reads begin at `at`.
    pub(super) fn place(&self, at: usize, tap: usize) -> isize {
        at as isize + self.shift + (tap * self.shift_step) as isize
    }

    /// The taps that read inside an input of so many, for the output whose reads begin at `at`.
    pub(super) fn inside(&self, at: usize, input: usize) -> Range<usize> {
        let inside = |&tap: &usize| (0..input as isize).contains(&self.place(at, tap));
        let begin = (0..self.count).find(inside).unwrap_or(self.count);
        let end = (begin..self.count).rev().find(inside).map_or(begin, |last| last + 1);
        begin..end
    }
}
