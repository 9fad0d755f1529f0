//! Which algorithm computes a convolution: from its geometry, the batch and the instruction set alone, never from load, so
//! that results can be repeated.

use super::ConvShape;
use super::winograd::Grid;
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
}

/// Whether Winograd's algorithm can compute a convolution.
pub(super) fn winograd_applies(shape: &ConvShape, plain: bool) -> bool {
    let window = &shape.window;
    let geometry = [window.kernel, window.stride, window.dilation] == [[3; 2], [1; 2], [1; 2]];
    geometry && shape.groups == 1 && !plain
}

/// A direction of a convolution, in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// Blocks of channels read and written.
    pub(super) blocks: [usize; 2],
    /// Pixels computed.
    pub(super) pixels: usize,
    /// Tiles that cover them.
    pub(super) tiles: usize,
}

impl Work {
    /// Of a call that computes `output` pixels of each picture.
    pub(super) fn new(blocks: [usize; 2], output: [usize; 2], setting: &Setting) -> Work {
        Work { blocks, pixels: setting.batch * output[0] * output[1], tiles: setting.batch * Grid::over(output).len() }
    }
}

/// Whether Winograd's algorithm should be the faster one.
///
/// Costs are in multiply-adds of a vector by a number (half a cycle on AVX-512, where they were measured).
pub(super) fn winograd_wins(work: &Work) -> bool {
    let [read, written] = work.blocks;
    let products = (read * LANES * written) as f64;
    let (pixels, tiles) = (work.pixels as f64, work.tiles as f64);
    let direct = 9.0 * products * pixels;
    let multiply = 36.0 * products * tiles;
    let transforms = TILE_COST * tiles * (read + written) as f64;
    let weights = WEIGHTS_COST * products;
    multiply * MULTIPLY_COST + transforms + weights < direct
}

/// A multiplication beside one of the direct method: sums are shorter.
const MULTIPLY_COST: f64 = 1.15;
/// Transforming a tile of a block of channels, in or out.
const TILE_COST: f64 = 600.0;
/// Transforming 9 vectors of weights into 36.
const WEIGHTS_COST: f64 = 300.0;
