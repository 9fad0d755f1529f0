//! Each activation as a type, so that a kernel is compiled for it, and the one place that names them all.

use super::{Activation, GradientFrom, math};
use crate::simd::Simd;

/// A function of single elements.
pub(crate) trait Function: Copy {
    /// What [`Function::gradient`] reads.
    const FROM: GradientFrom;

    /// The output of sixteen inputs.
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V;

    /// The input's gradient from the output's, and from output or input, as [`Function::FROM`] says.
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V;

    /// The input's gradient from the input, whatever [`Function::FROM`] says.
    #[inline(always)]
    fn gradient_at<S: Simd>(self, s: S, x: S::V, dy: S::V) -> S::V {
        let from = match Self::FROM {
            GradientFrom::Nothing | GradientFrom::Input => x,
            GradientFrom::Output => self.value(s, x),
        };
        self.gradient(s, from, dy)
    }
}

/// Work that is compiled for every activation.
pub(crate) trait WithFunction {
    /// What the work gives.
    type Output;
    /// Implementations are `#[inline(always)]`.
    fn run<F: Function>(self, function: F) -> Self::Output;
}

impl Activation {
    /// Runs work with this activation: the choice stands outside the work's loops.
    #[inline(always)]
    pub(crate) fn with<W: WithFunction>(self, work: W) -> W::Output {
        match self {
            Activation::Identity => work.run(Identity),
            Activation::Relu => work.run(Relu),
            Activation::Clip { low, high } => work.run(Clip { low, high }),
            Activation::LeakyRelu { slope } => work.run(LeakyRelu { slope }),
            Activation::Sigmoid => work.run(Sigmoid),
            Activation::HardSigmoid { slope, offset } => work.run(HardSigmoid { slope, offset }),
            Activation::Tanh => work.run(Tanh),
            Activation::Silu => work.run(Silu),
            Activation::HardSwish => work.run(HardSwish),
            Activation::Gelu => work.run(Gelu),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Identity;

impl Function for Identity {
    const FROM: GradientFrom = GradientFrom::Nothing;

    #[inline(always)]
    fn value<S: Simd>(self, _: S, x: S::V) -> S::V {
        x
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, _: S, _: S::V, dy: S::V) -> S::V {
        dy
    }
}

#[derive(Clone, Copy)]
pub(super) struct Relu;

impl Function for Relu {
    const FROM: GradientFrom = GradientFrom::Output;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.max(s.splat(0.0), x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        let zero = s.splat(0.0);
        s.select(s.gt(from, zero), dy, zero)
    }

    /// An input is positive where its output is.
    #[inline(always)]
    fn gradient_at<S: Simd>(self, s: S, x: S::V, dy: S::V) -> S::V {
        self.gradient(s, x, dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Clip {
    low: f32,
    high: f32,
}

impl Function for Clip {
    const FROM: GradientFrom = GradientFrom::Output;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.min(s.splat(self.high), s.max(s.splat(self.low), x))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        let inside = s.gt(from, s.splat(self.low)) & s.gt(s.splat(self.high), from);
        s.select(inside, dy, s.splat(0.0))
    }

    /// An input is between the bounds where its output is.
    #[inline(always)]
    fn gradient_at<S: Simd>(self, s: S, x: S::V, dy: S::V) -> S::V {
        self.gradient(s, x, dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct LeakyRelu {
    slope: f32,
}

impl Function for LeakyRelu {
    const FROM: GradientFrom = GradientFrom::Output;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.select(s.gt(x, s.splat(0.0)), x, s.mul(x, s.splat(self.slope)))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        s.select(s.gt(from, s.splat(0.0)), dy, s.mul(dy, s.splat(self.slope)))
    }

    /// An input is positive where its output is.
    #[inline(always)]
    fn gradient_at<S: Simd>(self, s: S, x: S::V, dy: S::V) -> S::V {
        self.gradient(s, x, dy)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Sigmoid;

impl Function for Sigmoid {
    const FROM: GradientFrom = GradientFrom::Output;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        math::sigmoid(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        s.mul(dy, s.mul(from, s.sub(s.splat(1.0), from)))
    }
}

#[derive(Clone, Copy)]
pub(super) struct HardSigmoid {
    slope: f32,
    offset: f32,
}

impl Function for HardSigmoid {
    const FROM: GradientFrom = GradientFrom::Output;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        let line = s.add(s.mul(x, s.splat(self.slope)), s.splat(self.offset));
        s.min(s.splat(1.0), s.max(s.splat(0.0), line))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        let zero = s.splat(0.0);
        let inside = s.gt(from, zero) & s.gt(s.splat(1.0), from);
        s.select(inside, s.mul(dy, s.splat(self.slope)), zero)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Tanh;

impl Function for Tanh {
    const FROM: GradientFrom = GradientFrom::Output;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        math::tanh(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        let one = s.splat(1.0);
        s.mul(dy, s.mul(s.sub(one, from), s.add(one, from)))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Silu;

impl Function for Silu {
    const FROM: GradientFrom = GradientFrom::Input;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        math::silu(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        s.mul(dy, math::silu_slope(s, from))
    }
}

#[derive(Clone, Copy)]
pub(super) struct HardSwish;

impl Function for HardSwish {
    const FROM: GradientFrom = GradientFrom::Input;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        let x = s.max(s.splat(-3.0), x);
        let gate = s.min(s.splat(6.0), s.add(x, s.splat(3.0)));
        s.mul(x, s.mul(gate, s.splat(1.0 / 6.0)))
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        let three = s.splat(3.0);
        let slope = s.add(s.mul(from, s.splat(1.0 / 3.0)), s.splat(0.5));
        let slope = s.select(s.gt(three, from), slope, s.splat(1.0));
        s.select(s.gt(from, s.splat(-3.0)), s.mul(dy, slope), s.splat(0.0))
    }
}

#[derive(Clone, Copy)]
pub(super) struct Gelu;

impl Function for Gelu {
    const FROM: GradientFrom = GradientFrom::Input;

    #[inline(always)]
    fn value<S: Simd>(self, s: S, x: S::V) -> S::V {
        math::gelu(s, x)
    }

    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, from: S::V, dy: S::V) -> S::V {
        s.mul(dy, math::gelu_slope(s, from))
    }
}
