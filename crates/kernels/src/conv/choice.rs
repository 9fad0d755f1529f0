//! Which algorithm computes a direction of a convolution: from its geometry and the batch alone, never from load, so that
//! results can be repeated.
//!
//! Each algorithm estimates its own cost in products of a vector with a number at full speed (half a cycle on AVX-512);
//! the constants were fitted to speeds of both on an Intel Xeon with AVX-512, 2026-11-24 (`benches/kernels` measures them).

use super::ConvShape;
use crate::caches::Caches;
use crate::precision::Precision;
use crate::simd::LANES;

/// Which algorithm to plan for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The one that should be fastest.
    #[default]
    Auto,
    /// The direct one, which rounds least.
    Direct,
    /// Winograd's wherever it applies; to compare.
    Winograd,
}

/// What a convolution is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    /// Pictures of a call, at most.
    pub batch: usize,
    /// Which algorithm.
    pub choice: Choice,
    /// What the direct algorithm's products are computed with.
    pub precision: Precision,
    /// Whether the weights never change, and are prepared once ([`super::Conv::prepare_weights`]); there is no gradient then.
    pub fixed_weights: bool,
    /// What the machine's caches hold; results do not depend on it.
    pub caches: Caches,
}

impl Setting {
    /// Whether to take Winograd's algorithm, where it applies, at its and the direct method's cost.
    pub(super) fn takes_winograd(&self, cost: f64, direct: f64) -> bool {
        match self.choice {
            Choice::Auto => cost < direct,
            Choice::Direct => false,
            Choice::Winograd => true,
        }
    }

    /// The direct method's cost for a direction of `[read, written]` blocks of channels and so many pixels: its products, at
    /// nine tenths of full speed; those of bf16 at eight, because of the rounding (measured on an EPYC of family 25 with
    /// AVX512-BF16, 2026-11-26; where inputs are stored in bf16 already, the faster one is taken all the same in all 3×3
    /// layers of ResNet-18 at batch 1).
    pub(super) fn direct_cost(&self, blocks: [usize; 2], output: [usize; 2]) -> f64 {
        let product = match self.precision {
            Precision::F32 => 10.0,
            Precision::Bf16 => 5.75,
        };
        product * products(blocks) * self.pixels(output)
    }

    /// The same by weights, where bf16 pairs the pixels of both sides first.
    pub(super) fn direct_cost_by_weights(&self, blocks: [usize; 2], output: [usize; 2]) -> f64 {
        let pairing = match self.precision {
            Precision::F32 => 0.0,
            Precision::Bf16 => 60.0 * (blocks[0] + blocks[1]) as f64,
        };
        self.direct_cost(blocks, output) + pairing * self.pixels(output)
    }

    fn pixels(&self, output: [usize; 2]) -> f64 {
        (self.batch * output[0] * output[1]) as f64
    }
}

/// Products of vectors with numbers that mix all channels of a pixel, or a point of a tile.
pub(super) fn products([read, written]: [usize; 2]) -> f64 {
    (read * LANES * written) as f64
}

/// Products that Winograd's algorithm, of tiles of 4×4 outputs and 3×3 kernels, leaves of the direct method's, in any direction:
/// 36 of 144.
const WINOGRAD_PRODUCTS: f64 = 0.25;

/// The least products that a convolution can be computed with, as a share of the direct method's; `plain` says that its input
/// is.
pub fn least_products(shape: &ConvShape, plain: bool) -> f64 {
    if winograd_applies(shape, plain) { WINOGRAD_PRODUCTS } else { 1.0 }
}

/// Whether Winograd's algorithm can compute a convolution.
pub(super) fn winograd_applies(shape: &ConvShape, plain: bool) -> bool {
    let window = &shape.window;
    let geometry = [window.kernel, window.stride, window.dilation] == [[3; 2], [1; 2], [1; 2]];
    geometry && shape.groups == 1 && !plain
}
