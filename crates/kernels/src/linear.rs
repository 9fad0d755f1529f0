//! Fully connected layers: `y[n, o] = bias[o] + Σ_i x[n, i] · w[o, i]`, and its gradients.
//!
//! Activations are `[n][features]` with rows padded by zeros to whole blocks of 16. An input may be blocked maps, whose
//! features are those of PyTorch's flattened maps; weights then lie in the maps' order. Weights and their gradient lie in
//! panels of up to `TILE_WIDTH` blocks of outputs, each `[in][16·width]`, as the forward direction reads them; by data
//! transposes them on the fly. All three directions walk the register tile of `conv/tile.rs` with pictures (forward, by
//! data) or input features (by weights) as rows. Sums are cut into chunks: a chunk of one panel stays in L1, and the
//! left-hand side's chunk is copied once into scratch, where it stays in L2 for all panels of a task (Goto and van de
//! Geijn 2008). Scratch: [`Linear::scratch_len`]. Checked against `reference/linear.rs`.
//!
//! With [`Precision::Bf16`] both copies become words of two neighbours of the sum: features, or pictures by weights.

use crate::activation::{Activation, Ending, Pass, Rows};
use crate::conv::tile::{self, Start, Sum, Target};
use crate::layout::blocks;
use crate::panel_weights::{PackedPanel, PanelWeights};
use crate::precision::{Bf16, Element, F32, Precision, pair_groups, pair_rows};
use crate::simd::{Isa, Kernel, LANES, Simd, bf16};
use crate::threads::{Parts, Threads};
use std::marker::PhantomData;
use std::ops::Range;

/// Words per chunk of a sum: 40 KB of a panel.
const CHUNK: usize = 160;
/// Pictures, or input features by weights, that a task has as rows, at most.
const ROWS: usize = 384;
/// Panels that share a copied chunk of the left-hand side, at most.
const PANELS: usize = 8;

/// A planned fully connected layer.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// Channels and pixels of the input; a row has one pixel.
    channels: usize,
    pixels: usize,
    outputs: usize,
    isa: Isa,
    precision: Precision,
    fixed_weights: bool,
}

/// Up to `TILE_WIDTH` blocks of features.
#[derive(Clone, Copy)]
struct Panel {
    first: usize,
    width: usize,
}

impl Panel {
    fn lanes(self) -> usize {
        self.width * LANES
    }
}

/// The chunk's length for a sum of `len` products: as even as whole blocks allow.
fn chunk<E: Element>(len: usize) -> usize {
    len.div_ceil(len.div_ceil(CHUNK * E::PER_WORD)).next_multiple_of(LANES)
}

impl Linear {
    /// Plans a layer from maps of `[channels, pixels]` to `outputs` features; a row of inputs is maps of one pixel. Weights
    /// that are fixed never change, and are prepared once ([`Linear::prepare_weights`]); there is no gradient then.
    pub fn new(
        [channels, pixels]: [usize; 2],
        outputs: usize,
        isa: Isa,
        precision: Precision,
        fixed_weights: bool,
    ) -> Linear {
        Linear { channels, pixels, outputs, isa, precision, fixed_weights }
    }

    /// Floats of one padded row of inputs.
    pub fn input_len(&self) -> usize {
        blocks(self.channels) * self.pixels * LANES
    }

    /// Floats of one padded row of outputs.
    pub fn output_len(&self) -> usize {
        blocks(self.outputs) * LANES
    }

    /// Floats of the packed weights.
    pub fn weights_len(&self) -> usize {
        self.input_len() * self.output_len()
    }

    /// Floats of scratch that each direction needs.
    pub fn scratch_len(&self, threads: usize) -> usize {
        threads * CHUNK * (self.isa.tile_width() * LANES + ROWS)
    }

    /// Panels of so many features.
    fn panels(&self, features: usize) -> usize {
        blocks(features).div_ceil(self.isa.tile_width())
    }

    fn panel(&self, features: usize, index: usize) -> Panel {
        let width = self.isa.tile_width();
        Panel { first: index * width, width: width.min(blocks(features) - index * width) }
    }

    /// `y = activation(x · weightsᵀ + bias)`; `bias` is padded with zeros to whole blocks.
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
        activation: Activation,
        y: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(bias.is_none_or(|b| b.len() >= self.output_len()));
        let ending = activation.ending(self.outputs);
        let call = Product { layer: self, by_data: false, left: x, weights, bias, ending, accumulate: false };
        call.run(threads, batch, y, scratch);
    }

    /// `dx = dy · weights`, added to what `dx` holds if asked.
    ///
    /// # Panics
    /// When a slice is shorter than its layout says.
    #[expect(clippy::too_many_arguments, reason = "the buffers of one layer")]
    pub fn backward_data(
        &self,
        threads: &Threads,
        batch: usize,
        dy: &[f32],
        weights: &[f32],
        dx: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let ending = Ending::default();
        let call = Product { layer: self, by_data: true, left: dy, weights, bias: None, ending, accumulate };
        call.run(threads, batch, dx, scratch);
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
        let inputs = self.input_len();
        assert!(x.len() >= batch * inputs && dy.len() >= batch * self.output_len());
        let dw = Parts::new(&mut dw[..self.weights_len()]);
        let (scratch, len) = (Parts::new(scratch), self.scratch_len(1));
        // An even number of even shares, in whole blocks.
        let tasks = inputs.div_ceil(ROWS).next_multiple_of(2);
        let share = inputs.div_ceil(tasks).next_multiple_of(LANES);
        threads.run(inputs.div_ceil(share), &|task, thread| {
            let features = task * share..((task + 1) * share).min(inputs);
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * len..(thread + 1) * len) };
            let (layer, isa) = (self, self.isa);
            match self.precision {
                Precision::F32 => {
                    F32::run(
                        isa,
                        BackwardWeights { element: PhantomData::<F32>, layer, batch, features, x, dy, dw, scratch },
                    );
                }
                Precision::Bf16 => {
                    Bf16::run(
                        isa,
                        BackwardWeights { element: PhantomData::<Bf16>, layer, batch, features, x, dy, dw, scratch },
                    );
                }
            }
        });
    }

    /// Prepares packed weights that never change again, in their place: forward then expects this.
    ///
    /// # Panics
    /// When the plan is not for fixed weights, or the slice is shorter than [`Linear::weights_len`].
    pub fn prepare_weights(&self, threads: &Threads, weights: &mut [f32]) {
        assert!(self.fixed_weights, "planned for weights that change");
        if self.precision == Precision::F32 {
            return;
        }
        for panel in (0..self.panels(self.outputs)).map(|i| self.panel(self.outputs, i)) {
            let (from, len) = (panel.first * LANES * self.input_len(), panel.lanes() * self.input_len());
            // A panel's words end before the next panel's floats begin.
            let floats = weights[from..][..len].to_vec();
            let words = &mut weights[from / 2..][..len / 2];
            pair_groups(self.isa, threads, [LANES, panel.lanes()], &floats, words);
        }
    }

    /// Packs weights from `[out][in]`; the rest of the packed blocks is 0.
    pub fn pack_weights(&self, threads: &Threads, plain: &[f32], packed: &mut [f32]) {
        let panels = self.panels(self.outputs);
        self.row_major().pack(threads, panels, &|index| self.packed_panel(index), plain, packed);
    }

    /// The reverse of [`Linear::pack_weights`].
    pub fn unpack_weights(&self, packed: &[f32], plain: &mut [f32]) {
        self.row_major().unpack(self.panels(self.outputs), |index| self.packed_panel(index), packed, plain);
    }

    fn row_major(&self) -> PanelWeights {
        let Linear { channels, pixels, outputs, .. } = *self;
        PanelWeights { outputs, group: [channels, outputs], taps: pixels, unit: LANES }
    }

    fn packed_panel(&self, index: usize) -> PackedPanel {
        let panel = self.panel(self.outputs, index);
        let first = panel.first * LANES;
        PackedPanel { at: first * self.input_len(), first, lanes: panel.lanes(), planes: 0..blocks(self.channels) }
    }
}

/// Where each of some rows begins, in two matrices.
#[inline(always)]
fn offsets(rows: usize, left: usize, out: usize) -> [[u32; 2]; ROWS] {
    let mut offsets = [[0; 2]; ROWS];
    for (row, offset) in offsets[..rows].iter_mut().enumerate() {
        *offset = [(row * left) as u32, (row * out) as u32];
    }
    offsets
}

/// `out[n] = left[n] · B` for B the weights (forward) or their transpose (by data).
#[derive(Clone, Copy)]
struct Product<'a> {
    layer: &'a Linear,
    by_data: bool,
    left: &'a [f32],
    weights: &'a [f32],
    bias: Option<&'a [f32]>,
    ending: Ending,
    /// Whether the product is added to what `out` holds.
    accumulate: bool,
}

impl Product<'_> {
    /// Features that are summed, and features of the result.
    fn features(&self) -> [usize; 2] {
        let (inputs, outputs) = (self.layer.input_len(), self.layer.outputs);
        if self.by_data { [outputs, inputs] } else { [inputs, outputs] }
    }

    /// Cuts the result into blocks of panels and rows, as large as leave work for every thread: a block reads its rows
    /// and its panels' weights once.
    fn run(&self, threads: &Threads, batch: usize, out: &mut [f32], scratch: &mut [f32]) {
        let [summed, features] = self.features();
        let len = blocks(features) * LANES;
        assert!(self.left.len() >= batch * blocks(summed) * LANES && out.len() >= batch * len);
        let per_word = if self.layer.fixed_weights { self.layer.precision.per_word() } else { 1 };
        assert!(self.weights.len() >= self.layer.weights_len() / per_word);
        let wanted = 2 * threads.count();
        let panels = self.layer.panels(features);
        let per_block = (panels / wanted).clamp(1, PANELS);
        let blocks = panels.div_ceil(per_block);
        // Rows fill whole tiles of 6.
        let rows = batch.div_ceil(wanted.div_ceil(blocks)).next_multiple_of(48).min(ROWS);
        let cuts = batch.div_ceil(rows);
        let out = Parts::new(&mut out[..batch * len]);
        let (scratch, scratch_len) = (Parts::new(scratch), self.layer.scratch_len(1));
        threads.run(blocks * cuts, &|task, thread| {
            let (panel, row) = (task / cuts * per_block, task % cuts * rows);
            // SAFETY: a thread's number is its own.
            let scratch = unsafe { scratch.part(thread * scratch_len..(thread + 1) * scratch_len) };
            let panels = panel..(panel + per_block).min(panels);
            let (isa, rows) = (self.layer.isa, row..(row + rows).min(batch));
            match self.layer.precision {
                Precision::F32 => {
                    F32::run(isa, Block { element: PhantomData::<F32>, call: self, panels, rows, out, scratch })
                }
                Precision::Bf16 => {
                    Bf16::run(isa, Block { element: PhantomData::<Bf16>, call: self, panels, rows, out, scratch });
                }
            }
        });
    }

    /// The panel's part of B for the products from `first` on: in place, or transposed or rounded into scratch.
    #[inline(always)]
    fn right<'s, S: Simd, E: Element>(
        &'s self,
        s: S,
        panel: Panel,
        first: usize,
        run: usize,
        scratch: &'s mut [f32],
    ) -> &'s [f32] {
        let (layer, lanes) = (self.layer, panel.lanes());
        let inputs = layer.input_len();
        let words = run / E::PER_WORD;
        if !self.by_data {
            let at = panel.first * LANES * inputs + first * lanes;
            if E::PER_WORD == 1 || layer.fixed_weights {
                return &self.weights[at / E::PER_WORD..][..words * lanes];
            }
            pair_rows(s, lanes, &self.weights[at..][..run * lanes], &mut scratch[..words * lanes]);
            return &scratch[..words * lanes];
        }
        for block in (first..first + run).step_by(LANES) {
            // The panel of outputs that these 16 belong to.
            let source = layer.panel(layer.outputs, block / LANES / layer.isa.tile_width());
            let row = source.lanes();
            let start = source.first * LANES;
            for (i, target) in (0..panel.width).zip((0..).step_by(LANES)) {
                let from = start * inputs + (panel.first + i) * LANES * row + block - start;
                let to = &mut scratch[(block - first) / E::PER_WORD * lanes + target..];
                if E::PER_WORD == 1 {
                    s.transpose_square(&self.weights[from..], row, to, lanes);
                } else {
                    let mut rows = [s.splat(0.0); LANES];
                    for (i, vector) in rows.iter_mut().enumerate() {
                        *vector = s.read(&self.weights[from + i * row..]);
                    }
                    let rows = s.transpose(rows);
                    for i in 0..LANES / 2 {
                        s.write(&mut to[i * lanes..], s.pair(rows[2 * i], rows[2 * i + 1]));
                    }
                }
            }
        }
        &scratch[..words * lanes]
    }
}

/// Some panels of some rows of a product.
struct Block<'a, E> {
    element: PhantomData<E>,
    call: &'a Product<'a>,
    panels: Range<usize>,
    rows: Range<usize>,
    out: Parts<'a, f32>,
    scratch: &'a mut [f32],
}

impl<E: Element> Kernel for Block<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Block { call, rows, .. } = self;
        let [summed, features] = call.features().map(|f| blocks(f) * LANES);
        let (copied, transposed) = self.scratch.split_at_mut(CHUNK * ROWS);
        let step = chunk::<E>(summed);
        let offsets = offsets(rows.len(), step / E::PER_WORD, features);
        for first in (0..summed).step_by(step) {
            let run = step.min(summed - first);
            for (line, row) in copied.chunks_exact_mut(step / E::PER_WORD).zip(rows.clone()) {
                E::copy(s, &call.left[row * summed + first..][..run], &mut line[..run / E::PER_WORD]);
            }
            for panel in self.panels.clone().map(|i| call.layer.panel(call.features()[1], i)) {
                let right = call.right::<S, E>(s, panel, first, run, transposed);
                let words = run / E::PER_WORD;
                let sum =
                    Sum { taps: &[[0, 0]], run: words, a_step: 1, b_step: panel.lanes(), b_lane: LANES, ..Sum::EMPTY };
                let out = self.out.pointer(rows.start * features + panel.first * LANES..rows.end * features);
                let mut target = Target::rows(out, first == 0 && !call.accumulate);
                let is_last = first + run == summed;
                if is_last {
                    target.bounds = call.ending.bounds;
                }
                if let (Some(bias), Start::Zero) = (call.bias, target.start) {
                    target.start = Start::Bias(bias[panel.first * LANES..][..panel.lanes()].as_ptr());
                }
                // SAFETY: a task writes its own rows and its own panels' columns of them; the copied rows and the right
                // side hold the chunk.
                unsafe {
                    let (a, b) = (copied.as_ptr(), right.as_ptr());
                    tile::rows::<S, E>(s, panel.width, &sum, &offsets[..rows.len()], a, b, &target);
                    if let (true, Some(pass)) = (is_last, call.ending.pass) {
                        activate(s, pass, panel, [rows.len(), features], out);
                    }
                }
            }
        }
    }
}

/// The activation of a panel of finished rows, which begin `stride` floats apart.
///
/// # Safety
/// The panel's floats of each row from `out` on are writable, and nobody else uses them.
#[inline(always)]
unsafe fn activate<S: Simd>(s: S, pass: Pass, panel: Panel, [rows, stride]: [usize; 2], out: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (from, to) = (Rows { first: out.cast_const(), stride }, Rows { first: out, stride });
        pass.activation.apply_rows::<S, F32>(s, [rows, panel.lanes()], from, to);
        if let Some(ragged) = pass.ragged.filter(|ragged| ragged.block + 1 == panel.first + panel.width) {
            ragged.clear_each::<S, F32>(s, rows, out.add(panel.lanes() - LANES), stride);
        }
    }
}

/// The gradient of some input features' weights.
struct BackwardWeights<'a, E> {
    element: PhantomData<E>,
    layer: &'a Linear,
    batch: usize,
    features: Range<usize>,
    x: &'a [f32],
    dy: &'a [f32],
    dw: Parts<'a, f32>,
    scratch: &'a mut [f32],
}

impl<E: Element> Kernel for BackwardWeights<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BackwardWeights { layer, features, batch, .. } = self;
        let (inputs, outputs) = (layer.input_len(), layer.output_len());
        let (transposed, copied) = self.scratch.split_at_mut(CHUNK * ROWS);
        let step = chunk::<E>(batch);
        for first in (0..batch).step_by(step) {
            let run = step.min(batch - first);
            let words = run.div_ceil(E::PER_WORD);
            self::transpose::<S, E>(s, &self.x[first * inputs..], inputs, &features, run, transposed);
            for panel in (0..layer.panels(layer.outputs)).map(|i| layer.panel(layer.outputs, i)) {
                let lanes = panel.lanes();
                for (word, line) in copied.chunks_exact_mut(lanes).enumerate().take(words) {
                    let n = word * E::PER_WORD;
                    let row = |n: usize| &self.dy[(first + n) * outputs + panel.first * LANES..][..lanes];
                    if E::PER_WORD == 1 {
                        line.copy_from_slice(row(n));
                        continue;
                    }
                    let (lower, upper) = (row(n), (n + 1 < run).then(|| row(n + 1)));
                    for at in (0..lanes).step_by(LANES) {
                        let upper = match upper {
                            Some(upper) => s.read(&upper[at..]),
                            None => s.splat(0.0),
                        };
                        s.write(&mut line[at..], s.pair(s.read(&lower[at..]), upper));
                    }
                }
                let offsets = offsets(features.len(), CHUNK, lanes);
                let sum = Sum { taps: &[[0, 0]], run: words, a_step: 1, b_step: lanes, b_lane: LANES, ..Sum::EMPTY };
                let at = panel.first * LANES * inputs + features.start * lanes;
                let out = self.dw.pointer(at..at + features.len() * lanes);
                let target = Target::rows(out, first == 0);
                // SAFETY: a task writes the rows of its own features; both scratch parts hold the chunk.
                unsafe {
                    let (a, b) = (transposed.as_ptr(), copied.as_ptr());
                    tile::rows::<S, E>(s, panel.width, &sum, &offsets[..features.len()], a, b, &target);
                }
            }
        }
    }
}

/// `to[i · CHUNK + n] = x[n · row + features.start + i]` for `run` pictures, or words of two pictures.
#[inline(always)]
fn transpose<S: Simd, E: Element>(s: S, x: &[f32], row: usize, features: &Range<usize>, run: usize, to: &mut [f32]) {
    let whole = run / LANES * LANES;
    for n in (0..whole).step_by(LANES) {
        for i in (0..features.len()).step_by(LANES) {
            let (from, to) = (&x[n * row + features.start + i..], &mut to[i * CHUNK + n / E::PER_WORD..]);
            if E::PER_WORD == 1 {
                s.transpose_square(from, row, to, CHUNK);
                continue;
            }
            let mut rows = [s.splat(0.0); LANES];
            for (picture, vector) in rows.iter_mut().enumerate() {
                *vector = s.read(&from[picture * row..]);
            }
            for (feature, pictures) in s.transpose(rows).into_iter().enumerate() {
                let words = s.lanes(s.narrow(pictures, s.splat(0.0)));
                to[feature * CHUNK..][..LANES / 2].copy_from_slice(&words[..LANES / 2]);
            }
        }
    }
    for n in (whole..run).step_by(E::PER_WORD) {
        for i in 0..features.len() {
            let at = |n: usize| if n < run { x[n * row + features.start + i] } else { 0.0 };
            to[i * CHUNK + n / E::PER_WORD] = if E::PER_WORD == 1 { at(n) } else { bf16::word(at(n), at(n + 1)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Maps, MapsMut, from_blocked, to_blocked};
    use crate::reference::activation;
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
        let rows_of = [(1, 3, 1, 5), (7, 40, 1, 70), (50, 200, 1, 10), (170, 33, 1, 65), (2, 500, 1, 128)];
        let maps = [(6, 20, 6, 30), (40, 32, 9, 70), (3, 5, 2, 3)];
        for (batch, channels, pixels, outputs) in rows_of.into_iter().chain(maps) {
            let inputs = channels * pixels;
            let p = LinearProblem { batch, in_features: inputs, out_features: outputs };
            let (x, w) = (pattern(1, batch * inputs), pattern(2, inputs * outputs));
            let (b, dy) = (pattern(3, outputs), pattern(4, batch * outputs));
            // Numbers that bf16 holds.
            let [x, w, b, dy] =
                [x, w, b, dy].map(|v| v.into_iter().map(|x| (x * 64.0).round() / 64.0).collect::<Vec<f64>>());
            let sets = Isa::NAMES.into_iter().filter_map(Isa::named);
            for (isa, precision) in sets.flat_map(|isa| [(isa, Precision::F32), (isa, Precision::Bf16)]) {
                let layer = Linear::new([channels, pixels], outputs, isa, precision, false);
                let (in_len, out_len) = (layer.input_len(), layer.output_len());
                let mut weights = vec![f32::NAN; layer.weights_len()];
                layer.pack_weights(&threads, &narrow(&w), &mut weights);
                let mut x_rows = vec![f32::NAN; batch * in_len];
                let shape = [batch, channels, pixels];
                to_blocked(&threads, shape, &narrow(&x), MapsMut::packed(&mut x_rows, in_len));
                let dy_rows = rows(&narrow(&dy), outputs, out_len);
                let bias = rows(&narrow(&b), outputs, out_len);
                let mut scratch = vec![f32::NAN; layer.scratch_len(threads.count())];
                let mut y = vec![f32::NAN; batch * out_len];
                let sums = reference::forward(&p, &x, &w, Some(&b));
                for after in activation::all() {
                    layer.forward(&threads, batch, &x_rows, &weights, Some(&bias), after, &mut y, &mut scratch);
                    let what = format!("forward, {after:?} on {}", isa.name());
                    assert_rows(&what, &y, out_len, &activation::forward(after, &sums), outputs);
                }
                let mut dx = vec![f32::NAN; batch * in_len];
                layer.backward_data(&threads, batch, &dy_rows, &weights, &mut dx, false, &mut scratch);
                let mut twice = dx.clone();
                layer.backward_data(&threads, batch, &dy_rows, &weights, &mut twice, true, &mut scratch);
                assert!(dx.iter().zip(&twice).all(|(once, twice)| (once + once - twice).abs() < 1e-4));
                let mut plain_dx = vec![f32::NAN; batch * inputs];
                from_blocked(&threads, shape, Maps::packed(&dx, in_len), &mut plain_dx);
                assert_rows("by data", &plain_dx, inputs, &reference::backward_data(&p, &w, &dy), inputs);
                let mut whole = vec![f32::NAN; dx.len()];
                to_blocked(&threads, shape, &plain_dx, MapsMut::packed(&mut whole, in_len));
                assert_eq!(dx, whole, "padding of the gradient");
                let mut dw = vec![f32::NAN; layer.weights_len()];
                layer.backward_weights(&threads, batch, &x_rows, &dy_rows, &mut dw, &mut scratch);
                let mut plain = vec![0.0; inputs * outputs];
                layer.unpack_weights(&dw, &mut plain);
                assert_rows("by weights", &plain, inputs, &reference::backward_weights(&p, &x, &dy), inputs);
                let mut packed = vec![0.0; dw.len()];
                layer.pack_weights(&threads, &plain, &mut packed);
                assert_eq!(packed, dw, "padding has no gradient");
            }
        }
    }
}
