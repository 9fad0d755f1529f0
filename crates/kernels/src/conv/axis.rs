//! One spatial axis of a correlation, for both directions.
//!
//! Output `first + step·q` of a phase reads input `stride·q + shift` for each of the phase's taps. The forward direction
//! has one phase (`step` 1, tap `t` at shift `t·d - p`). By data, a convolution of stride `s` has `s` phases: gradient
//! pixels `r, r + s, …` meet only the kernel elements `t` with `(r + p - t·d) ≡ 0 (mod s)`, at shift `(r + p - t·d) / s`
//! (Dumoulin and Visin 2016, section 4.6), so nothing is multiplied by inserted zeros.

/// Outputs that share their taps.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// The first output.
    pub(super) first: usize,
    /// Outputs in this phase.
    pub(super) count: usize,
    /// Kernel element and its shift.
    pub(super) taps: Vec<(usize, isize)>,
}

/// One axis of a correlation.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    /// Inputs between the reads of `q` and `q + 1`.
    pub(super) stride: usize,
    /// Outputs between `q` and `q + 1`.
    pub(super) step: usize,
    pub(super) phases: Vec<Phase>,
}

/// Kernel length, stride, dilation and begin padding along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel1d {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) begin: usize,
}

impl Axis {
    pub(super) fn forward(k: Kernel1d, input: usize, output: usize) -> Axis {
        let taps = (0..k.kernel).map(|t| (t, (t * k.dilation) as isize - k.begin as isize)).collect();
        let phases = vec![Phase { first: 0, count: output, taps }];
        Axis { input, output, stride: k.stride, step: 1, phases }
    }

    /// The gradient's axis: `input` is the length of the convolution's output, `output` that of its input.
    pub(super) fn backward(k: Kernel1d, input: usize, output: usize) -> Axis {
        let phase = |first: usize| {
            let shift = |t: usize| first as isize + k.begin as isize - (t * k.dilation) as isize;
            let meets = |t: &usize| shift(*t).rem_euclid(k.stride as isize) == 0;
            let taps = (0..k.kernel).filter(meets).map(|t| (t, shift(t).div_euclid(k.stride as isize))).collect();
            Phase { first, count: (output - first).div_ceil(k.stride), taps }
        };
        let phases = (0..k.stride.min(output)).map(phase).collect();
        Axis { input, output, stride: 1, step: k.stride, phases }
    }

    /// Smallest and largest shift of any tap that a phase has.
    fn shifts(&self) -> (isize, isize) {
        let shifts = || self.phases.iter().flat_map(|p| &p.taps).map(|&(_, shift)| shift);
        (shifts().min().unwrap_or(0), shifts().max().unwrap_or(0))
    }

    /// The smallest shift: where a strip of inputs begins, relative to `stride·q`.
    pub(super) fn first_shift(&self) -> isize {
        self.shifts().0
    }

    /// Inputs, padding among them, that `count` neighbouring `q` read.
    pub(super) fn reach(&self, count: usize) -> usize {
        let (min, max) = self.shifts();
        self.stride * (count - 1) + (max - min) as usize + 1
    }

    /// The largest number of outputs in a phase.
    pub(super) fn count(&self) -> usize {
        self.phases.iter().map(|p| p.count).max().unwrap_or(0)
    }

    /// Whether no tap ever reads outside the input.
    pub(super) fn inside(&self) -> bool {
        let inside =
            |p: &Phase, shift: isize| shift >= 0 && self.stride * (p.count - 1) + (shift as usize) < self.input;
        self.phases.iter().all(|p| p.count == 0 || p.taps.iter().all(|&(_, shift)| inside(p, shift)))
    }
}
