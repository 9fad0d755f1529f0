//! What happens to sums after their last product.

use crate::precision::{Element, Precision};
use crate::simd::{Kernel, LANES, Simd};
use std::marker::PhantomData;

/// The activation of an epilogue.
#[inline(always)]
pub(super) fn activate<S: Simd>(s: S, relu: bool, x: S::V) -> S::V {
    if relu { s.max(s.splat(0.0), x) } else { x }
}

/// A strip's sums in `f32`, on their way to where they are stored as `Y`.
pub(super) struct Finish<'a, Y> {
    pub(super) stored: PhantomData<Y>,
    pub(super) sums: *const f32,
    /// Numbers of the strip that are added, and how they are stored.
    pub(super) addend: Option<(&'a [f32], Precision)>,
    pub(super) relu: bool,
    /// Where results go, which may be where the sums are.
    pub(super) out: *mut f32,
    /// Vectors of the strip.
    pub(super) pixels: usize,
}

impl<Y: Element> Kernel for Finish<'_, Y> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for pixel in 0..self.pixels {
            let at = pixel * LANES;
            // SAFETY: whoever made this has sums and room for results of all pixels, which nobody else uses; the addend was
            // cut to as many numbers.
            unsafe {
                let mut x = s.load(self.sums.add(at));
                if let Some((addend, stored)) = self.addend {
                    x = s.add(x, stored.load(s, addend.as_ptr(), at));
                }
                Y::store(s, self.out.add(at / Y::PER_WORD), activate(s, self.relu, x));
            }
        }
    }
}
