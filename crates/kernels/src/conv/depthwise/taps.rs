//! The taps of a phase of an axis, which are evenly spaced in the kernel and in the input.

use super::super::axis::Phase;
use std::ops::Range;

/// Outputs that share their taps: tap `i` is kernel element `element + i·element_step`, and of output `q` it reads the input at
/// `stride·q + shift + i·shift_step`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    /// The first output.
    pub(super) first: usize,
    /// Outputs in this phase.
    pub(super) outputs: usize,
    /// Taps.
    pub(super) count: usize,
    pub(super) element: usize,
    pub(super) element_step: usize,
    pub(super) shift: isize,
    pub(super) shift_step: isize,
}

impl Taps {
    pub(super) fn new(phase: &Phase) -> Taps {
        let (element, shift) = phase.taps.first().copied().unwrap_or_default();
        let (next_element, next_shift) = phase.taps.get(1).copied().unwrap_or((element, shift));
        let (element_step, shift_step) = (next_element - element, next_shift - shift);
        let even =
            |(i, &tap): (usize, &(usize, isize))| tap == (element + i * element_step, shift + i as isize * shift_step);
        debug_assert!(phase.taps.iter().enumerate().all(even));
        let (first, outputs, count) = (phase.first, phase.count, phase.taps.len());
        Taps { first, outputs, count, element, element_step, shift, shift_step }
    }

    /// Where a tap reads, for the output whose reads begin at `at`.
    pub(super) fn place(&self, at: usize, tap: usize) -> isize {
        at as isize + self.shift + tap as isize * self.shift_step
    }

    /// The taps that read inside an input of so many, for the output whose reads begin at `at`.
    pub(super) fn inside(&self, at: usize, input: usize) -> Range<usize> {
        let inside = |&tap: &usize| (0..input as isize).contains(&self.place(at, tap));
        // Places only grow or only shrink, so these are neighbours.
        let begin = (0..self.count).find(inside).unwrap_or(self.count);
        let end = (begin..self.count).rev().find(inside).map_or(begin, |last| last + 1);
        begin..end
    }
}
