//! Activations: functions of single elements, in place or as the end of another kernel.
//!
//! A kernel takes an activation as data. Each is a type of its own (`function.rs`), for which a kernel's loop is compiled;
//! `math.rs` has what they compute with. Results have the same bits on AVX2 and AVX-512, NaN stays NaN, and an input of ±∞
//! gives the limit.
//!
//! Lanes past the last channel stay 0. Where an activation of 0 is not 0, a kernel clears those lanes of the last block again
//! (`ragged`); the other activations need not know about channels.

mod function;
mod math;

use crate::layout::{Maps, MapsMut, blocks, each_piece};
use crate::precision::{Element, F32};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::Threads;
pub(crate) use function::{Function, WithFunction};
use std::marker::PhantomData;

/// A function of single elements that follows a product, a sum or a norm.
///
/// A kernel takes it as data: what is computed with it says [`Activation`] alone, and nobody else names its cases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, low), high)`; 0 and 6 are ReLU6 (Howard et al. 2017).
    Clip {
        /// The least value.
        low: f32,
        /// The largest value.
        high: f32,
    },
    /// `x` where it is above 0, else `slope · x` (Maas et al. 2013).
    LeakyRelu {
        /// Factor of negative numbers, above 0.
        slope: f32,
    },
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `min(max(slope · x + offset, 0), 1)`; PyTorch's slope is 1/6 and its offset 1/2.
    HardSigmoid {
        /// Factor of `x`, above 0.
        slope: f32,
        /// The value at 0.
        offset: f32,
    },
    /// Hyperbolic tangent.
    Tanh,
    /// `x · sigmoid(x)` (Elfwing et al. 2018; Ramachandran et al. 2017 as swish).
    Silu,
    /// `x · min(max(x + 3, 0), 6) / 6` (Howard et al. 2019, section 5.2).
    HardSwish,
    /// `x / (1 + |x|)` (Bergstra et al. 2009).
    Softsign,
    /// `x · Φ(x)` with the normal distribution's Φ, by the error function (Hendrycks and Gimpel 2016).
    Gelu,
}

/// What the gradient of an activation is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientFrom {
    /// Nothing: it is the output's gradient.
    Nothing,
    /// The output alone, so that the input need not be kept.
    Output,
    /// The input.
    Input,
}

impl Activation {
    /// PyTorch's hard sigmoid.
    pub const HARD_SIGMOID: Activation = Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 };
    /// ReLU6.
    pub const RELU6: Activation = Activation::Clip { low: 0.0, high: 6.0 };

    /// What the gradient is computed from.
    pub fn gradient_from(self) -> GradientFrom {
        struct From;
        impl WithFunction for From {
            type Output = GradientFrom;
            #[inline(always)]
            fn run<F: Function>(self, _: F) -> GradientFrom {
                F::FROM
            }
        }
        self.with(From)
    }

    /// Whether an input of 0 has another output.
    fn moves_zero(self) -> bool {
        match self {
            Activation::Sigmoid => true,
            Activation::HardSigmoid { offset, .. } => offset > 0.0,
            Activation::Clip { low, high } => low > 0.0 || high < 0.0,
            Activation::Identity | Activation::Relu | Activation::LeakyRelu { .. } => false,
            Activation::Tanh | Activation::Silu | Activation::HardSwish | Activation::Gelu => false,
            Activation::Softsign => false,
        }
    }

    /// The block of channels in which lanes must be cleared, if there is one.
    pub(crate) fn ragged(self, channels: usize) -> Option<Ragged> {
        let lanes = channels % LANES;
        (self.moves_zero() && lanes > 0).then(|| Ragged { block: channels / LANES, keep: (1 << lanes) - 1 })
    }

    /// The activation as the end of sums of products, of so many channels.
    pub(crate) fn ending(self, channels: usize) -> Ending {
        let bounds = |low, high| Ending { bounds: Bounds { low, high }, pass: None };
        match self {
            Activation::Identity => bounds(None, None),
            Activation::Relu => bounds(Some(0.0), None),
            Activation::Clip { low, high } if !self.moves_zero() => bounds(Some(low), Some(high)),
            _ => Ending { pass: Some(Pass { activation: self, ragged: self.ragged(channels) }), ..Ending::default() },
        }
    }

    /// Applies the activation to vectors.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, s: S, vectors: &mut [S::V]) {
        self.with(Vectors { s, vectors });
    }

    /// Applies the activation to `rows` of `len` numbers, a multiple of 16.
    ///
    /// # Safety
    /// All rows of `from` are readable as floats, and those of `to` are writable as numbers stored in `Y`. They are disjoint,
    /// or the same floats.
    #[inline(always)]
    pub(crate) unsafe fn apply_rows<S: Simd, Y: Element>(
        self,
        s: S,
        [rows, len]: [usize; 2],
        from: Rows<*const f32>,
        to: Rows<*mut f32>,
    ) {
        self.with(RowsPass::<S, Y> { s, rows, len, from, to, stored: PhantomData });
    }
}

/// What ends a sum of products: bounds that the register tile applies, or a pass over its results.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) bounds: Bounds,
    pub(crate) pass: Option<Pass>,
}

/// A pass over results that have just been computed and are still in a cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) activation: Activation,
    /// Where lanes must be cleared again.
    pub(crate) ragged: Option<Ragged>,
}

/// Bounds to which results are clamped, each of them optional.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) low: Option<f32>,
    pub(crate) high: Option<f32>,
}

impl Bounds {
    /// The bounds as vectors. `min(high, max(low, v))` keeps NaN, and all bits of `v` where there is no bound.
    #[inline(always)]
    pub(crate) fn vectors<S: Simd>(self, s: S) -> [S::V; 2] {
        [s.splat(self.low.unwrap_or(f32::NEG_INFINITY)), s.splat(self.high.unwrap_or(f32::INFINITY))]
    }
}

/// A last block with lanes past the last channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ragged {
    pub(crate) block: usize,
    /// A bit for each lane of a channel.
    keep: u16,
}

impl Ragged {
    /// `v` with 0 in the other lanes.
    #[inline(always)]
    pub(crate) fn clear<S: Simd>(self, s: S, v: S::V) -> S::V {
        s.select(self.keep, v, s.splat(0.0))
    }

    /// Clears lanes of `count` vectors, each `step` numbers after the one before.
    ///
    /// # Safety
    /// They are readable and writable, stored as `Y` says.
    #[inline(always)]
    pub(crate) unsafe fn clear_each<S: Simd, Y: Element>(self, s: S, count: usize, first: *mut f32, step: usize) {
        for i in 0..count {
            // SAFETY: the caller's promise.
            unsafe {
                let at = first.add(i * step / Y::PER_WORD);
                Y::store(s, at, self.clear(s, Y::load(s, at)));
            }
        }
    }
}

/// Lanes to clear in a piece of a picture, from a place on.
#[derive(Clone, Copy)]
pub(crate) struct Clear {
    ragged: Ragged,
    from: usize,
}

impl Clear {
    /// Those of the piece that begins at the float `start` of a picture with so many pixels.
    pub(crate) fn piece(ragged: Ragged, pixels: usize, start: usize) -> Clear {
        Clear { ragged, from: (ragged.block * pixels * LANES).saturating_sub(start) }
    }

    #[inline(always)]
    pub(crate) fn run<S: Simd>(self, s: S, piece: &mut [f32]) {
        for y in piece.get_mut(self.from..).unwrap_or_default().chunks_exact_mut(LANES) {
            s.write(y, self.ragged.clear(s, s.read(y)));
        }
    }
}

/// Where the first of some rows begins, and numbers from one row to the next.
#[derive(Clone, Copy)]
pub(crate) struct Rows<P> {
    pub(crate) first: P,
    pub(crate) stride: usize,
}

struct Vectors<'a, S: Simd> {
    s: S,
    vectors: &'a mut [S::V],
}

impl<S: Simd> WithFunction for Vectors<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        for v in self.vectors {
            *v = function.value(self.s, *v);
        }
    }
}

struct RowsPass<S, Y> {
    s: S,
    rows: usize,
    len: usize,
    from: Rows<*const f32>,
    to: Rows<*mut f32>,
    stored: PhantomData<Y>,
}

impl<S: Simd, Y: Element> WithFunction for RowsPass<S, Y> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let RowsPass { s, rows, len, from, to, .. } = self;
        for row in 0..rows {
            for at in (0..len).step_by(LANES) {
                // SAFETY: the promise of `apply_rows`, which alone makes this.
                unsafe {
                    let v = s.load(from.first.add(row * from.stride + at));
                    Y::store(s, to.first.add((row * to.stride + at) / Y::PER_WORD), function.value(s, v));
                }
            }
        }
    }
}

/// Applies an activation in place to `[batch, channels, pixels]` in blocked maps; rows of features are maps of one pixel.
///
/// # Panics
/// When the slice is shorter than its layout says.
pub fn forward(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    activation: Activation,
    y: MapsMut<'_>,
) {
    let len = blocks(channels) * pixels * LANES;
    let ragged = activation.ragged(channels);
    if activation == Activation::Identity {
        return assert!(y.as_maps().hold(batch, len));
    }
    each_piece(threads, [batch, len], y, &|_, range, y| {
        let clear = ragged.map(|ragged| Clear::piece(ragged, pixels, range.start));
        isa.run(Forward { activation, clear, y });
    });
}

/// The gradient of [`forward`]'s input in the place of `dy`, that of its output. `from` is the output or the input, as
/// [`Activation::gradient_from`] says; where that is [`GradientFrom::Nothing`], it is not read. As `dy`'s lanes past the last
/// channel are 0, so is the gradient.
///
/// # Panics
/// When a slice is shorter than its layout says.
pub fn backward(
    isa: Isa,
    threads: &Threads,
    [batch, channels, pixels]: [usize; 3],
    activation: Activation,
    from: Maps<'_>,
    dy: MapsMut<'_>,
) {
    let len = blocks(channels) * pixels * LANES;
    if activation.gradient_from() == GradientFrom::Nothing {
        return assert!(dy.as_maps().hold(batch, len));
    }
    each_piece(threads, [batch, len], dy, &|n, range, dy| {
        isa.run(Backward { activation, from: &from.picture(n, range.end)[range], dy });
    });
}

struct Forward<'a> {
    activation: Activation,
    clear: Option<Clear>,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, y) = ([1, self.y.len() / LANES * LANES], self.y.as_mut_ptr());
        let (from, to) = (Rows { first: y.cast_const(), stride: 0 }, Rows { first: y, stride: 0 });
        // SAFETY: both are the same floats, all of the slice.
        unsafe { self.activation.apply_rows::<S, F32>(s, rows, from, to) };
        if let Some(clear) = self.clear {
            clear.run(s, self.y);
        }
    }
}

struct Backward<'a> {
    activation: Activation,
    from: &'a [f32],
    dy: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.activation.with(BackwardWith { s, from: self.from, dy: self.dy });
    }
}

struct BackwardWith<'a, S> {
    s: S,
    from: &'a [f32],
    dy: &'a mut [f32],
}

impl<S: Simd> WithFunction for BackwardWith<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let s = self.s;
        for (from, dy) in self.from.chunks_exact(LANES).zip(self.dy.chunks_exact_mut(LANES)) {
            let gradient = function.gradient(s, s.read(from), s.read(dy));
            s.write(dy, gradient);
        }
    }
}

#[cfg(test)]
mod tests;
