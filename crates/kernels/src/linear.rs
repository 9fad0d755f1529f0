//! Fully connected layers: `y[n, o] = bias[o] + Σ_i x[n, i] · w[o, i]`, and its gradients.
//!
//! Activations are `[n][features]` with rows padded by zeros to whole blocks of 16. Weights and their gradient lie in
//! panels of up to `TILE_WIDTH` blocks of outputs, each `[in][16·width]`, as the forward direction reads them; by data
//! transposes them on the fly. All three directions walk the register tile of `conv/tile.rs` with pictures (forward, by
//! data) or input features (by weights) as rows, and sum in chunks whose right-hand side stays in L1.
//! Checked against `reference/linear.rs`.

use crate::conv::tile::{self, Start, Sum, Target};
use crate::layout::blocks;
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::ops::Range;

/// Products per chunk of a sum: 40 KB of a panel.
const CHUNK: usize = 160;
/// Input features whose gradient one task computes.
const FEATURES_PER_TASK: usize = 192;
/// Most pictures whose offsets a task keeps on its stack.
const ROWS: usize = 256;

/// A planned fully connected layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    inputs: usize,
    outputs: usize,
    isa: Isa,
}

/// Up to `TILE_WIDTH` blocks of features.
#[derive(Clone, Copy)]
struct Panel {
    first: usize,
    width: usize,
}

impl Linear {
    /// Plans a layer from `inputs` to `outputs` features.
    pub fn new(inputs: usize, outputs: usize, isa: Isa) -> Linear {
        Linear { inputs, outputs, isa }
    }

    /// Floats of one padded row of inputs.
    pub fn input_len(&self) -> usize {
        blocks(self.inputs) * LANES
    }

    /// Floats of one padded row of outputs.
    pub fn output_len(&self) -> usize {
        blocks(self.outputs) * LANES
    }

    /// Floats of the packed weights.
    pub fn weights_len(&self) -> usize {
        self.input_len() * self.output_len()
    }

    /// Floats of scratch that [`Linear::backward_data`] and [`Linear::backward_weights`] need.
    pub fn backward_scratch(&self, threads: usize) -> usize {
        threads * CHUNK * (self.isa.tile_width() * LANES + FEATURES_PER_TASK)
    }

    fn panels(&self, features: usize) -> (usize, impl Fn(usize) -> Panel) {
        let (width, blocks) = (self.isa.tile_width(), blocks(features));
        let panel = move |i: usize| Panel { first: i * width, width: width.min(blocks - i * width) };
        (blocks.div_ceil(width), panel)
    }

    /// `y = x · weightsᵀ + bias`, with negative results set to 0 if `relu`; `bias` is padded with zeros to whole blocks.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one layer")]
    pub fn forward(
        &self,
        threads: &Threads,
        batch: usize,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
    ) {
        assert!(x.len() >= batch * self.input_len() && y.len() >= batch * self.output_len());
        assert!(weights.len() >= self.weights_len() && bias.is_none_or(|b| b.len() >= self.output_len()));
        let y = Parts::new(&mut y[..batch * self.output_len()]);
        let (panels, panel) = self.panels(self.outputs);
        self.each_row_block(threads, batch, panels, &|index, rows, _| {
            let panel = panel(index);
            let weights = &weights[panel.first * LANES * self.input_len()..][..panel.width * LANES * self.input_len()];
            self.isa.run(Forward { layer: self, panel, rows, x, weights, bias, relu, y });
        });
    }

    /// Calls a task for every panel and block of rows, with few enough rows that there is work for every thread.
    fn each_row_block(
        &self,
        threads: &Threads,
        batch: usize,
        panels: usize,
        task: &(dyn Fn(usize, Range<usize>, usize) + Sync),
    ) {
        let wanted = (4 * threads.count()).div_ceil(panels);
        // Rows fill whole tiles of 6; each block reads its panel's weights once more.
        let per_block = batch.div_ceil(wanted).next_multiple_of(48).min(ROWS);
        let cuts = batch.div_ceil(per_block);
        threads.run(panels * cuts, &|i, thread| {
            let first = i % cuts * per_block;
            task(i / cuts, first..(first + per_block).min(batch), thread);
        });
    }

    /// `dx = dy · weights`.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward_data(
        &self,
        threads: &Threads,
        batch: usize,
        dy: &[f32],
        weights: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(dx.len() >= batch * self.input_len() && dy.len() >= batch * self.output_len());
        assert!(weights.len() >= self.weights_len());
        let dx = Parts::new(&mut dx[..batch * self.input_len()]);
        let per_thread = self.backward_scratch(1);
        let scratch = Parts::new(scratch);
        let (panels, panel) = self.panels(self.inputs);
        self.each_row_block(threads, batch, panels, &|index, rows, thread| {
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * per_thread..(thread + 1) * per_thread) };
            self.isa.run(BackwardData { layer: self, panel: panel(index), rows, dy, weights, dx, scratch });
        });
    }

    /// `dw = dyᵀ · x` in the packed layout, summed over the batch.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    pub fn backward_weights(
        &self,
        threads: &Threads,
        batch: usize,
        x: &[f32],
        dy: &[f32],
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(x.len() >= batch * self.input_len() && dy.len() >= batch * self.output_len());
        let dw = Parts::new(&mut dw[..self.weights_len()]);
        let per_thread = self.backward_scratch(1);
        let scratch = Parts::new(scratch);
        threads.run(self.input_len().div_ceil(FEATURES_PER_TASK), &|task, thread| {
            let features = task * FEATURES_PER_TASK..((task + 1) * FEATURES_PER_TASK).min(self.input_len());
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * per_thread..(thread + 1) * per_thread) };
            self.isa.run(BackwardWeights { layer: self, batch, features, x, dy, dw, scratch });
        });
    }

    /// Every weight's place in `[out][in]` and in the packed layout.
    fn each_weight(&self, mut visit: impl FnMut(usize, usize)) {
        let (count, panel) = self.panels(self.outputs);
        for panel in (0..count).map(panel) {
            let (first, lanes) = (panel.first * LANES, panel.width * LANES);
            for o in first..(first + lanes).min(self.outputs) {
                for i in 0..self.inputs {
                    visit(o * self.inputs + i, first * self.input_len() + i * lanes + o - first);
                }
            }
        }
    }

    /// Packs weights from `[out][in]`; the rest of the packed blocks is 0.
    pub fn pack_weights(&self, plain: &[f32], packed: &mut [f32]) {
        packed[..self.weights_len()].fill(0.0);
        self.each_weight(|from, to| packed[to] = plain[from]);
    }

    /// The reverse of [`Linear::pack_weights`].
    pub fn unpack_weights(&self, packed: &[f32], plain: &mut [f32]) {
        self.each_weight(|to, from| plain[to] = packed[from]);
    }
}

/// Where each row of a block begins, in two matrices.
#[inline(always)]
fn offsets(rows: &Range<usize>, a: usize, out: usize) -> [[u32; 2]; ROWS] {
    let mut offsets = [[0; 2]; ROWS];
    for (offset, row) in offsets.iter_mut().zip(rows.clone()) {
        *offset = [((row - rows.start) * a) as u32, ((row - rows.start) * out) as u32];
    }
    offsets
}

struct Forward<'a> {
    layer: &'a Linear,
    panel: Panel,
    rows: Range<usize>,
    x: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    relu: bool,
    y: Parts<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { panel, rows, .. } = self;
        let (inputs, outputs) = (self.layer.input_len(), self.layer.output_len());
        let lanes = panel.width * LANES;
        let offsets = offsets(&rows, inputs, outputs);
        let x = &self.x[rows.start * inputs..rows.end * inputs];
        for first in (0..inputs).step_by(CHUNK) {
            let run = CHUNK.min(inputs - first);
            let sum = Sum { taps: &[[0, 0]], run, a_step: 1, b_step: lanes, b_lane: LANES };
            let start = match self.bias {
                _ if first > 0 => Start::Output,
                Some(bias) => Start::Bias(bias[panel.first * LANES..][..lanes].as_ptr()),
                None => Start::Zero,
            };
            let weights = &self.weights[first * lanes..][..run * lanes];
            let relu = self.relu && first + run == inputs;
            let out = self.y.pointer(rows.start * outputs + panel.first * LANES..rows.end * outputs);
            let target = Target { out, lane: LANES, start, addend: std::ptr::null(), relu };
            // SAFETY: a task writes its own rows and its own panel's columns of them; x and weights were sliced to what
            // the chunk reads.
            unsafe {
                let a = x[first..].as_ptr();
                tile::rows(s, panel.width, &sum, &offsets[..rows.len()], a, weights.as_ptr(), &target);
            }
        }
    }
}

struct BackwardData<'a> {
    layer: &'a Linear,
    panel: Panel,
    rows: Range<usize>,
    dy: &'a [f32],
    weights: &'a [f32],
    dx: Parts<'a, f32>,
    scratch: &'a mut [f32],
}

impl Kernel for BackwardData<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardData { layer, panel, rows, .. } = self;
        let (inputs, outputs) = (layer.input_len(), layer.output_len());
        let lanes = panel.width * LANES;
        let offsets = offsets(&rows, outputs, inputs);
        let dy = &self.dy[rows.start * outputs..rows.end * outputs];
        let (count, out_panel) = layer.panels(layer.outputs);
        for first in (0..outputs).step_by(CHUNK) {
            let run = CHUNK.min(outputs - first);
            for block in (first..first + run).step_by(LANES) {
                // The panel of outputs that this block of 16 belongs to, and its rows for this panel of inputs.
                let source = out_panel((block / LANES / layer.isa.tile_width()).min(count - 1));
                let row = source.width * LANES;
                let at = source.first * LANES * inputs + panel.first * LANES * row + block - source.first * LANES;
                let to = &mut self.scratch[(block - first) * lanes..][..LANES * lanes];
                for i in 0..lanes {
                    let from = &self.weights[at + i * row..][..LANES];
                    for o in 0..LANES {
                        to[o * lanes + i] = from[o];
                    }
                }
            }
            let sum = Sum { taps: &[[0, 0]], run, a_step: 1, b_step: lanes, b_lane: LANES };
            let out = self.dx.pointer(rows.start * inputs + panel.first * LANES..rows.end * inputs);
            let start = if first == 0 { Start::Zero } else { Start::Output };
            let target = Target { out, lane: LANES, start, addend: std::ptr::null(), relu: false };
            // SAFETY: a task writes its own rows and its own panel's columns of them; the scratch holds the chunk.
            unsafe {
                let (a, b) = (dy[first..].as_ptr(), self.scratch.as_ptr());
                tile::rows(s, panel.width, &sum, &offsets[..rows.len()], a, b, &target);
            }
        }
    }
}

struct BackwardWeights<'a> {
    layer: &'a Linear,
    batch: usize,
    features: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    dw: Parts<'a, f32>,
    scratch: &'a mut [f32],
}

impl Kernel for BackwardWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardWeights { layer, features, batch, .. } = self;
        let (inputs, outputs) = (layer.input_len(), layer.output_len());
        let (transposed, panel_rows) = self.scratch.split_at_mut(CHUNK * FEATURES_PER_TASK);
        let (count, panel) = layer.panels(layer.outputs);
        for first in (0..batch).step_by(CHUNK) {
            let pictures = first..(first + CHUNK).min(batch);
            for (k, n) in pictures.clone().enumerate() {
                let row = &self.x[n * inputs..][features.clone()];
                for (i, x) in row.iter().enumerate() {
                    transposed[i * CHUNK + k] = *x;
                }
            }
            let start = if first == 0 { Start::Zero } else { Start::Output };
            for panel in (0..count).map(&panel) {
                let lanes = panel.width * LANES;
                for (line, n) in panel_rows.chunks_exact_mut(lanes).zip(pictures.clone()) {
                    line.copy_from_slice(&self.dy[n * outputs + panel.first * LANES..][..lanes]);
                }
                let offsets = offsets(&(0..features.len()), CHUNK, lanes);
                let sum = Sum { taps: &[[0, 0]], run: pictures.len(), a_step: 1, b_step: lanes, b_lane: LANES };
                let at = panel.first * LANES * inputs + features.start * lanes;
                let out = self.dw.pointer(at..at + features.len() * lanes);
                let target = Target { out, lane: LANES, start, addend: std::ptr::null(), relu: false };
                // SAFETY: a task writes the rows of its own features; both scratch parts hold the chunk.
                unsafe {
                    let (a, b) = (transposed.as_ptr(), panel_rows.as_ptr());
                    tile::rows(s, panel.width, &sum, &offsets[..features.len()], a, b, &target);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::gradcheck::pattern;
    use crate::reference::linear::{self as reference, LinearProblem};

    fn rows(plain: &[f32], len: usize, padded: usize) -> Vec<f32> {
        plain.chunks(len).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, padded - len))).collect()
    }

    fn narrow(wide: &[f64]) -> Vec<f32> {
        wide.iter().map(|&x| x as f32).collect()
    }

    fn assert_rows(what: &str, padded: &[f32], width: usize, want: &[f64], len: usize) {
        for (row, want) in padded.chunks(width).zip(want.chunks(len)) {
            for (got, want) in row.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 2e-5, "{what}: got {got}, want {want}");
            }
            assert!(row[len..].iter().all(|&x| x == 0.0), "{what}: padding");
        }
    }

    #[test]
    fn agrees_with_the_reference_on_every_set() {
        let threads = Threads::new(2).unwrap();
        for (batch, inputs, outputs) in [(1, 3, 5), (7, 40, 70), (50, 200, 10), (170, 33, 65), (2, 500, 128)] {
            let p = LinearProblem { batch, in_features: inputs, out_features: outputs };
            let (x, w) = (pattern(1, batch * inputs), pattern(2, inputs * outputs));
            let (b, dy) = (pattern(3, outputs), pattern(4, batch * outputs));
            for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
                let layer = Linear::new(inputs, outputs, isa);
                let (in_len, out_len) = (layer.input_len(), layer.output_len());
                let mut weights = vec![f32::NAN; layer.weights_len()];
                layer.pack_weights(&narrow(&w), &mut weights);
                let x_rows = rows(&narrow(&x), inputs, in_len);
                let dy_rows = rows(&narrow(&dy), outputs, out_len);
                let bias = rows(&narrow(&b), outputs, out_len);
                let mut y = vec![f32::NAN; batch * out_len];
                layer.forward(&threads, batch, &x_rows, &weights, Some(&bias), false, &mut y);
                assert_rows("forward", &y, out_len, &reference::forward(&p, &x, &w, Some(&b)), outputs);
                let mut scratch = vec![f32::NAN; layer.backward_scratch(threads.count())];
                let mut dx = vec![f32::NAN; batch * in_len];
                layer.backward_data(&threads, batch, &dy_rows, &weights, &mut dx, &mut scratch);
                assert_rows("by data", &dx, in_len, &reference::backward_data(&p, &w, &dy), inputs);
                let mut dw = vec![f32::NAN; layer.weights_len()];
                layer.backward_weights(&threads, batch, &x_rows, &dy_rows, &mut dw, &mut scratch);
                let mut plain = vec![0.0; inputs * outputs];
                layer.unpack_weights(&dw, &mut plain);
                assert_rows("by weights", &plain, inputs, &reference::backward_weights(&p, &x, &dy), inputs);
                let mut packed = vec![0.0; dw.len()];
                layer.pack_weights(&plain, &mut packed);
                assert_eq!(packed, dw, "padding has no gradient");
            }
        }
    }
}
