//! The gradient by weights: `dw[o, i, t] = Σ_{n, p} x[n, i, s·p + d·t - pad] · dy[n, o, p]`.
//!
//! A tile's rows are input channels at one tap, its lanes output channels, and it sums over pixels, so accumulators stay
//! in registers over whole rows and pictures. A task owns one panel of outputs, one input plane (or some, where a kernel
//! has few elements) and a range of kernel rows; it walks its pictures strip by strip, copies what they read of a plane into
//! scratch, with zeros for the padding, and adds each strip's sum to its part of `dw`. Where that gives too few tasks,
//! pictures are divided into a number of shares that depends on shapes alone; each share has its own sum in scratch, and
//! they are added in order.
//! Scratch: [`BackwardWeights::scratch_len`].
//!
//! With [`Precision::Bf16`] a sum takes two neighbouring outputs of a row at a time: the gradient is first packed as words of
//! such pairs (0 beside an odd last one), and each pixel of a copied input becomes a word of itself and the pixel that the
//! next output reads.

use super::ConvShape;
use super::axis::Axis;
use super::copy::{CopyView, copy_plane, pair_neighbours};
use super::correlation::{Correlation, Panel};
use super::tile::{self, Sum, Target};
use crate::layout::Maps;
use crate::precision::{Bf16, Element, F32, PairGroups, Precision};
use crate::simd::{Isa, Kernel, LANES, Simd};
use crate::threads::{Parts, Threads};
use std::marker::PhantomData;
use std::ops::Range;

/// Pixels that a sum goes over before it is added to `dw`, at least, where a batch has them.
const PIXELS: usize = 192;
/// Floats of gradient (64 channels of a strip) that stay in L1 while a task's taps walk over them.
const STRIP_FLOATS: usize = 8 * 1024;
/// Tasks that are enough for any number of threads.
const TASKS: usize = 32;
/// Kernel elements of all planes of a task that are enough to hide the reading of the gradient's strip.
const ELEMENTS: usize = 9;

/// Tables of the gradient by weights.
#[derive(Clone, Debug)]
pub(super) struct BackwardWeights {
    precision: Precision,
    unit: usize,
    blocks: usize,
    input: [usize; 2],
    output: [usize; 2],
    /// Rows and columns of the gradient as sums read it: columns are words.
    gradient: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    begin: [usize; 2],
    kernel: [usize; 2],
    /// Output rows of a strip.
    strip: usize,
    /// Pictures that are summed together.
    pictures: usize,
    /// Parts into which the kernel's rows are divided.
    kernel_cuts: usize,
    /// Rows and columns of the copied input; of the input itself where sums read that in its place.
    view: [usize; 2],
    /// Whether the input is copied: it is not where pictures of blocks are summed one by one and no padding or pairing is
    /// needed.
    copies: bool,
    /// Where each output row of a strip of each picture begins, in the view and in `dy` (in pixels of 16).
    taps: Vec<[u32; 2]>,
    /// Floats from one picture of `dy` to the next that the taps count on.
    dy_stride: usize,
}

impl BackwardWeights {
    pub(super) fn new(shape: &ConvShape, output: [usize; 2], unit: usize, forward: &Correlation) -> BackwardWeights {
        let window = &shape.window;
        let (begin, _) = window.pads(shape.input);
        let precision = if unit == 1 { Precision::F32 } else { forward.precision() };
        let gradient = [output[0], output[1].div_ceil(precision.per_word())];
        let pixels = gradient[0] * gradient[1];
        let fitting = (STRIP_FLOATS / (gradient[1] * 4 * LANES)).clamp(1, output[0]);
        let strip = output[0].div_ceil(output[0].div_ceil(fitting));
        let pictures = if strip == output[0] { PIXELS.div_ceil(pixels) } else { 1 };
        let pairs: usize = forward.panels.iter().map(|p| p.planes.len()).sum();
        let kernel_cuts = if pairs < TASKS && unit > 1 { window.kernel[0] } else { 1 };
        let [vertical, horizontal] = &forward.axes;
        let view = [vertical.reach(strip), horizontal.reach(output[1])];
        let copies =
            !forward.axes.iter().all(Axis::inside) || pictures > 1 || precision == Precision::Bf16 || unit == 1;
        let blocks = shape.out_channels.div_ceil(LANES);
        let mut plan = BackwardWeights {
            precision,
            unit,
            blocks,
            input: shape.input,
            output,
            gradient,
            stride: window.stride,
            dilation: window.dilation,
            begin,
            kernel: window.kernel,
            strip,
            pictures,
            kernel_cuts,
            view: if copies { view } else { shape.input },
            copies,
            taps: Vec::new(),
            dy_stride: 0,
        };
        plan.set_dy_stride(blocks * pixels * LANES);
        plan
    }

    /// Floats of a picture of the gradient as sums read it.
    fn gradient_len(&self) -> usize {
        self.blocks * self.gradient[0] * self.gradient[1] * LANES
    }

    /// Makes the tables for gradients whose pictures are so many floats apart, whole pixels of 16.
    pub(super) fn set_dy_stride(&mut self, stride: usize) {
        // Packed ones lie one after the other.
        let stride = if self.precision == Precision::Bf16 { self.gradient_len() } else { stride };
        let [rows, columns] = self.view;
        let tap = |picture: usize, row: usize| {
            let x = (picture * rows + row * self.stride[0]) * columns * self.unit;
            let dy = picture * stride / LANES + row * self.gradient[1];
            [x as u32, dy as u32]
        };
        self.taps =
            (0..self.pictures).flat_map(|n| (0..self.strip).map(move |r| (n, r))).map(|(n, r)| tap(n, r)).collect();
        self.dy_stride = stride;
    }

    /// Shares of a batch that are summed apart: from shapes alone, so that sums do not depend on the threads.
    fn shares(&self, batch: usize, forward: &Correlation) -> usize {
        let tasks = self.tasks(self.group(batch, forward), forward);
        TASKS.div_ceil(tasks).min(batch.div_ceil(self.pictures)).max(1)
    }

    /// Planes of a task, at most: as many as hide the reading of the gradient, unless that leaves too few tasks.
    fn group(&self, batch: usize, forward: &Correlation) -> usize {
        let most = (ELEMENTS / (self.kernel[0] * self.kernel[1])).max(1);
        let enough = |&group: &usize| self.tasks(group, forward) * batch.div_ceil(self.pictures) >= TASKS;
        (1..=most).rev().find(enough).unwrap_or(1)
    }

    /// Tasks of a share with so many planes each.
    fn tasks(&self, group: usize, forward: &Correlation) -> usize {
        forward.panels.iter().map(|panel| panel.planes.len().div_ceil(group)).sum::<usize>() * self.kernel_cuts
    }

    /// Floats of a thread's copied views.
    fn view_len(&self) -> usize {
        if self.copies { self.pictures * self.view[0] * self.view[1] * self.unit } else { 0 }
    }

    /// Floats of scratch: a copied view per thread, the packed gradient, and a sum per share.
    pub(super) fn scratch_len(&self, batch: usize, threads: usize, forward: &Correlation) -> usize {
        let shares = self.shares(batch, forward);
        let sums = if shares > 1 { shares * forward.weights_len() } else { 0 };
        self.view_len() * threads + self.packed_len(batch) + sums
    }

    fn packed_len(&self, batch: usize) -> usize {
        match self.precision {
            Precision::F32 => 0,
            Precision::Bf16 => batch * self.gradient_len(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the buffers of one convolution")]
    pub(super) fn run(
        &self,
        isa: Isa,
        threads: &Threads,
        forward: &Correlation,
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(x.hold(batch, forward.input_len()) && dy.hold(batch, forward.output_len()));
        match self.precision {
            Precision::F32 => {
                assert!(batch == 1 || dy.stride == self.dy_stride, "planned for another distance between gradients");
                self.run_with::<F32>(isa, threads, forward, batch, x, dy, dw, scratch);
            }
            Precision::Bf16 => {
                let (packed, scratch) = scratch.split_at_mut(self.packed_len(batch));
                self.pack(isa, threads, batch, dy, packed);
                let dy = Maps::packed(packed, self.gradient_len());
                self.run_with::<Bf16>(isa, threads, forward, batch, x, dy, dw, scratch);
            }
        }
    }

    /// The gradient as words of two neighbours of a row.
    fn pack(&self, isa: Isa, threads: &Threads, batch: usize, dy: Maps<'_>, packed: &mut [f32]) {
        let [rows, words] = self.gradient;
        let (from_len, to_len) = (rows * self.output[1] * LANES, rows * words * LANES);
        let packed = Parts::new(packed);
        threads.run(batch * self.blocks, &|task, _| {
            let from = task / self.blocks * dy.stride + task % self.blocks * from_len;
            // SAFETY: each task has a block of its own.
            let to = unsafe { packed.part(task * to_len..(task + 1) * to_len) };
            let numbers = &dy.data[from..][..from_len];
            isa.run_bf16(PairGroups { group: self.output[1], lanes: LANES, numbers, words: to });
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the buffers of one convolution")]
    fn run_with<E: Element>(
        &self,
        isa: Isa,
        threads: &Threads,
        forward: &Correlation,
        batch: usize,
        x: Maps<'_>,
        dy: Maps<'_>,
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        let weights_len = forward.weights_len();
        let dw = &mut dw[..weights_len];
        let shares = self.shares(batch, forward);
        let (views, sums) = scratch.split_at_mut(self.view_len() * threads.count());
        let views = Parts::new(views);
        let group = self.group(batch, forward);
        let per_share = self.tasks(group, forward);
        {
            let target = Parts::new(if shares == 1 { &mut *dw } else { &mut sums[..shares * weights_len] });
            threads.run(shares * per_share, &|task, thread| {
                let (share, mut part) = (task / per_share, task % per_share / self.kernel_cuts);
                let parts = |panel: &Panel| panel.planes.len().div_ceil(group);
                let panel = forward.panels.iter().find(|panel| {
                    let inside = part < parts(panel);
                    part -= if inside { 0 } else { parts(panel) };
                    inside
                });
                let panel = panel.expect("tasks count the panels' planes");
                let of_part = |part: usize| part * panel.planes.len() / parts(panel);
                let cut = task % self.kernel_cuts;
                let kernel_rows =
                    cut * self.kernel[0] / self.kernel_cuts..(cut + 1) * self.kernel[0] / self.kernel_cuts;
                // SAFETY: a thread's number is its own.
                let view = unsafe { views.part(thread * self.view_len()..(thread + 1) * self.view_len()) };
                let chunks = batch.div_ceil(self.pictures);
                let first = (share * chunks / shares * self.pictures).min(batch);
                let last = ((share + 1) * chunks / shares * self.pictures).min(batch);
                let task = SumTask {
                    element: PhantomData::<E>,
                    plan: self,
                    panel,
                    planes: of_part(part)..of_part(part + 1),
                    kernel_rows,
                    pictures: first..last,
                    x,
                    dy,
                    dw: target,
                    dw_at: share * weights_len + panel.weights,
                    view,
                };
                E::run(isa, task);
            });
        }
        if shares > 1 {
            add_shares(isa, threads, &sums[..shares * weights_len], dw);
        }
    }
}

/// `total[i] = Σ shares[s][i]`, in the order of the shares.
pub(super) fn add_shares(isa: Isa, threads: &Threads, shares: &[f32], total: &mut [f32]) {
    const BLOCK: usize = 4096;
    let len = total.len();
    let parts = Parts::new(total);
    threads.run(len.div_ceil(BLOCK), &|task, _| {
        let range = task * BLOCK..((task + 1) * BLOCK).min(len);
        // SAFETY: blocks do not overlap.
        let total = unsafe { parts.part(range.clone()) };
        isa.run(AddShares { shares, len, range, total });
    });
}

struct AddShares<'a> {
    shares: &'a [f32],
    len: usize,
    range: Range<usize>,
    total: &'a mut [f32],
}

impl Kernel for AddShares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (first, rest) = self.shares.split_at(self.len);
        self.total.copy_from_slice(&first[self.range.clone()]);
        for share in rest.chunks_exact(self.len) {
            for (sum, x) in self.total.chunks_exact_mut(LANES).zip(share[self.range.clone()].chunks_exact(LANES)) {
                s.write(sum, s.add(s.read(sum), s.read(x)));
            }
        }
    }
}

/// One panel's gradient for some input planes and some kernel rows, over some pictures.
struct SumTask<'a, E> {
    element: PhantomData<E>,
    plan: &'a BackwardWeights,
    panel: &'a Panel,
    /// Input planes, counted from the panel's first.
    planes: Range<usize>,
    kernel_rows: Range<usize>,
    pictures: Range<usize>,
    x: Maps<'a>,
    dy: Maps<'a>,
    dw: Parts<'a, f32>,
    dw_at: usize,
    view: &'a mut [f32],
}

impl<E: Element> Kernel for SumTask<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let SumTask { plan, panel, dy, .. } = self;
        let pixels = plan.gradient[0] * plan.gradient[1];
        let start_of = |n: usize, block: usize| n * dy.stride + block * pixels * LANES;
        let mut is_first = true;
        for first in self.pictures.clone().step_by(plan.pictures) {
            let count = plan.pictures.min(self.pictures.end - first);
            for from in (0..plan.output[0]).step_by(plan.strip) {
                let strip = plan.strip.min(plan.output[0] - from);
                let sum = Sum {
                    taps: &plan.taps[..if strip == plan.strip { count * plan.strip } else { strip }],
                    run: plan.gradient[1],
                    a_step: E::PER_WORD * plan.stride[1] * plan.unit,
                    b_step: LANES,
                    b_lane: pixels * LANES,
                    ..Sum::EMPTY
                };
                let dy = &dy.data[start_of(first, panel.block) + from * plan.gradient[1] * LANES
                    ..start_of(first + count - 1, panel.block + panel.width)];
                for plane in self.planes.clone() {
                    if plan.copies {
                        self.copy_pictures(s, plane, first..first + count, from);
                        self.add_plane(s, plane, &sum, self.view, dy, is_first);
                        continue;
                    }
                    let row = from * plan.stride[0] + self.kernel_rows.start * plan.dilation[0];
                    let rows = (panel.planes.start + plane) * plan.input[0] + row;
                    let x = &self.x.data[first * self.x.stride + rows * plan.input[1] * plan.unit..];
                    self.add_plane(s, plane, &sum, x, dy, is_first);
                }
                is_first = false;
            }
        }
    }
}

impl<E: Element> SumTask<'_, E> {
    /// Adds a strip's sum to the gradient of a plane's weights; `view` holds what it reads of the input, `dy` ends with the
    /// last pixel of the panel's last block.
    #[inline(always)]
    fn add_plane<S: Simd>(&self, s: S, plane: usize, sum: &Sum<'_>, view: &[f32], dy: &[f32], is_first: bool) {
        let SumTask { plan, panel, .. } = *self;
        let (taps, lanes) = (plan.kernel[0] * plan.kernel[1], panel.width * LANES);
        let out = self.dw.pointer(self.dw_at..self.dw_at + panel.planes.len() * taps * plan.unit * lanes);
        let target = Target::rows(out, is_first);
        // Sixteen rows go to the tile at a time: a block's channels at one tap, or a plain plane's taps.
        let mut rows = [[0; 2]; LANES];
        let mut filled = 0;
        for row in self.kernel_rows.clone() {
            for column in 0..plan.kernel[1] {
                let tap = row * plan.kernel[1] + column;
                let view_row = (row - self.kernel_rows.start) * plan.dilation[0];
                let at = (view_row * plan.view[1] + column * plan.dilation[1]) * plan.unit;
                for channel in 0..plan.unit {
                    let to = ((plane * taps + tap) * plan.unit + channel) * lanes;
                    rows[filled] = [(at + channel) as u32, to as u32];
                    filled += 1;
                    let last_row = row + 1 == self.kernel_rows.end && column + 1 == plan.kernel[1];
                    let last = last_row && channel + 1 == plan.unit;
                    if filled == LANES || last {
                        // SAFETY: this task alone writes this plane and these kernel rows of this share's `dw`; the view
                        // holds every row that a tap of the strip reads, and `dy` is as long as the caller says.
                        unsafe {
                            let (view, dy) = (view.as_ptr(), dy.as_ptr());
                            tile::rows::<S, E>(s, panel.width, sum, &rows[..filled], view, dy, &target);
                        }
                        filled = 0;
                    }
                }
            }
        }
    }

    /// Copies what the strip that begins with row `from` reads of a plane of each picture, from the first kernel row on,
    /// with zeros for the padding.
    #[inline(always)]
    fn copy_pictures<S: Simd>(&mut self, s: S, plane: usize, pictures: Range<usize>, from: usize) {
        let (plan, plane) = (self.plan, self.panel.planes.start + plane);
        let top = (from * plan.stride[0] + self.kernel_rows.start * plan.dilation[0]) as isize - plan.begin[0] as isize;
        let [rows, columns] = plan.view;
        let copy = CopyView { rows, columns, top, left: -(plan.begin[1] as isize), channels: plan.unit };
        let len = plan.input[0] * plan.input[1] * plan.unit;
        let count = pictures.len();
        for (picture, target) in pictures.zip(self.view.chunks_exact_mut(rows * columns * plan.unit)) {
            let plane = &self.x.data[picture * self.x.stride + plane * len..][..len];
            copy_plane::<S, F32>(s, &copy, plane, plan.input, target);
        }
        if E::PER_WORD == 2 {
            // A pixel and the one that the next output of its row reads.
            let (row, next) = (columns * plan.unit, plan.stride[1] * plan.unit);
            pair_neighbours(s, row, next, &mut self.view[..count * rows * row]);
        }
    }
}
