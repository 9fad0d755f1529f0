//! What happens to sums after their last product.

use crate::activation::{Ending, Function, Ragged, WithFunction};
use crate::precision::{Element, Precision};
use crate::simd::{Kernel, LANES, Simd};
use std::marker::PhantomData;

/// A strip's sums in `f32`, on their way to where they are stored as `Y`.
pub(super) struct Finish<'a, Y> {
    pub(super) stored: PhantomData<Y>,
    pub(super) sums: *const f32,
    /// Numbers of the strip that are added, and how they are stored.
    pub(super) addend: Option<(&'a [f32], Precision)>,
    pub(super) ending: Ending,
    /// The strip's block of channels.
    pub(super) block: usize,
    /// Where results go, which may be where the sums are.
    pub(super) out: *mut f32,
    /// Vectors of the strip.
    pub(super) pixels: usize,
}

impl<Y: Element> Kernel for Finish<'_, Y> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let block = self.block;
        match self.ending.pass {
            None => self.clamp(s),
            Some(pass) => {
                let ragged = pass.ragged.filter(|ragged| ragged.block == block);
                pass.activation.with(Activated { s, finish: &self, ragged });
            }
        }
    }
}

struct Activated<'a, S, Y> {
    s: S,
    finish: &'a Finish<'a, Y>,
    ragged: Option<Ragged>,
}

impl<S: Simd, Y: Element> WithFunction for Activated<'_, S, Y> {
    type Output = ();

    #[inline(always)]
    fn run<F: Function>(self, function: F) {
        let Activated { s, finish, ragged } = self;
        for pixel in 0..finish.pixels {
            // SAFETY: as `Finish::load` and `Finish::store` ask, the pixel is one of the strip.
            unsafe {
                let mut y = function.value(s, finish.load(s, pixel));
                if let Some(ragged) = ragged {
                    y = ragged.clear(s, y);
                }
                finish.store(s, pixel, y);
            }
        }
    }
}

impl<Y: Element> Finish<'_, Y> {
    #[inline(always)]
    fn clamp<S: Simd>(&self, s: S) {
        let [low, high] = self.ending.bounds.vectors(s);
        for pixel in 0..self.pixels {
            // SAFETY: the pixel is one of the strip.
            unsafe { self.store(s, pixel, s.min(high, s.max(low, self.load(s, pixel)))) };
        }
    }

    /// A pixel's sum with its addend.
    ///
    /// # Safety
    /// The pixel is one of the strip. (Whoever made this has sums and room for results of all of them, which nobody else
    /// uses, and cut the addend to as many numbers.)
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, s: S, pixel: usize) -> S::V {
        let at = pixel * LANES;
        // SAFETY: the caller's promise.
        unsafe {
            let x = s.load(self.sums.add(at));
            match self.addend {
                Some((addend, stored)) => s.add(x, stored.load(s, addend.as_ptr(), at)),
                None => x,
            }
        }
    }

    /// # Safety
    /// As [`Finish::load`].
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, s: S, pixel: usize, y: S::V) {
        // SAFETY: the caller's promise.
        unsafe { Y::store(s, self.out.add(pixel * LANES / Y::PER_WORD), y) }
    }
}
