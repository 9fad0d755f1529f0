//! Stems against storing their convolutions: what the bound on a stem's products, `SQUARE_PER_CHANNEL`, follows from.
//!
//! ```sh
//! cargo bench -p convnet-kernels --bench stem               # all rows
//! cargo bench -p convnet-kernels --bench stem -- '3 -> 64'  # those whose layer's name has this in it
//! ```
//!
//! A row is a first convolution in training with batch norm, ReLU, 2×2 pooling where it says so, and dropout of channels:
//! products squared for each channel (K²/C), and the time of a stem relative to that of a convolution which stores its
//! output and a chain which reads it. Both are medians of runs in turns: forward with the batch's statistics, and backward
//! to the weights' gradient. Before each direction a buffer larger than the caches is written, as other layers would, so
//! that both come from memory. All cores are used, unless `CONVNET_THREADS` says how many.

use convnet_kernels::activation::Activation;
use convnet_kernels::caches::Caches;
use convnet_kernels::conv::{Choice, Conv, ConvShape, Epilogue, Setting};
use convnet_kernels::geometry::Window;
use convnet_kernels::layout::{Maps, MapsMut, blocks};
use convnet_kernels::memory::Buffer;
use convnet_kernels::norm::{Drop, Given, NormChain, Source};
use convnet_kernels::precision::Precision;
use convnet_kernels::random;
use convnet_kernels::simd::{Isa, LANES};
use convnet_kernels::statistics::{StatisticsParts, merge};
use convnet_kernels::stem::{Stem, StemInput, StemNorm, StemState};
use convnet_kernels::threads::Threads;
use std::hint::black_box;
use std::time::Instant;

/// Runs of each way.
const RUNS: usize = 31;
/// Floats that are written before each direction.
const FLUSHED: usize = 16 << 20;
const DROP: Option<Drop> = Some(Drop { seed: 3, p: 0.5 });

/// A line of the list; all have at most the 36 products that a stem takes.
#[derive(Clone, Copy)]
struct Row {
    batch: usize,
    channels: [usize; 2],
    side: usize,
    kernel: usize,
    pool: bool,
}

/// Sorted by K²/C.
const ROWS: [Row; 13] = [
    row(256, [1, 32], 28, 3, true),
    row(256, [1, 16], 28, 3, true),
    row(128, [3, 64], 32, 3, true),
    row(128, [3, 64], 32, 3, false),
    row(8, [3, 64], 224, 3, false),
    row(128, [3, 48], 32, 3, false),
    row(256, [1, 32], 28, 5, true),
    row(128, [4, 64], 32, 3, true),
    row(128, [3, 32], 32, 3, true),
    row(128, [3, 32], 32, 3, false),
    row(128, [4, 32], 32, 3, true),
    row(128, [3, 16], 32, 3, true),
    row(128, [3, 16], 32, 3, false),
];

const fn row(batch: usize, channels: [usize; 2], side: usize, kernel: usize, pool: bool) -> Row {
    Row { batch, channels, side, kernel, pool }
}

impl Row {
    fn name(&self) -> String {
        let Row { batch, channels: [read, written], side, kernel, pool } = *self;
        let pool = if pool { ", pooling" } else { "" };
        format!("{kernel}x{kernel} {read} -> {written} {side}x{side} batch {batch}{pool}")
    }

    fn squares_per_channel(&self) -> f64 {
        let [read, written] = self.channels;
        (read * self.kernel * self.kernel).pow(2) as f64 / written as f64
    }
}

fn main() {
    let threads =
        std::env::var("CONVNET_THREADS").ok().map(|count| count.parse().expect("CONVNET_THREADS is a number"));
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = Threads::new(threads.unwrap_or_else(cores)).expect("threads start");
    // Cargo says `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut flushed = Buffer::zeros(FLUSHED);
    for row in ROWS {
        if !wanted.iter().all(|part| row.name().contains(part)) {
            continue;
        }
        let mut layer = Layer::new(row, &threads);
        let mut medians = [const { Vec::new() }; 2];
        for _ in 0..RUNS {
            medians[0].push(layer.stem_step(&threads, &mut flushed));
            medians[1].push(layer.stored_step(&threads, &mut flushed));
        }
        let [stem, stored] = medians.map(median);
        let (name, squares) = (row.name(), row.squares_per_channel());
        println!("{name:40} K²/C {squares:4.1}: {:.2} ({stem:.2} and {stored:.2} ms)", stem / stored);
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Milliseconds of a call, out of memory.
fn time(flushed: &mut Buffer, call: impl FnOnce()) -> f64 {
    flushed.iter_mut().for_each(|x| *x += 1.0);
    black_box(&flushed[0]);
    let start = Instant::now();
    call();
    start.elapsed().as_secs_f64() * 1e3
}

/// A layer's plans and buffers, of both ways.
struct Layer {
    batch: usize,
    stem: Stem,
    chain: NormChain,
    state: StemState,
    x: Buffer,
    weights: Buffer,
    gradient: Buffer,
    /// The convolution's output and then its gradient, where it is stored.
    stored: Buffer,
    y: Buffer,
    dy: Buffer,
    ones: Buffer,
    sums: [Buffer; 2],
    parts: Buffer,
    scratch: Buffer,
}

impl Layer {
    fn new(row: Row, threads: &Threads) -> Layer {
        let Row { batch, channels: [in_channels, out_channels], side, kernel, pool } = row;
        let window = Window::square(kernel).padding(kernel / 2);
        let shape = ConvShape { in_channels, out_channels, groups: 1, input: [side, side], window };
        let (precision, caches) = (Precision::F32, Caches::TYPICAL);
        let setting = Setting { batch, choice: Choice::Auto, precision, fixed_weights: false, caches };
        let conv = Conv::new(shape, true, Isa::best(), setting).expect("a valid layer");
        let chain = NormChain::new(out_channels, conv.output(), Activation::Relu, pool, Isa::best());
        let stem = Stem::new(conv.clone(), chain);
        let threads = threads.count();
        let scratch = [
            stem.forward_scratch(batch, threads),
            stem.backward_scratch(batch, threads),
            conv.forward_scratch(batch, threads),
            conv.backward_weights_scratch(batch, threads),
            chain.scratch_len(batch),
        ];
        let zeros = || Buffer::zeros(blocks(out_channels) * LANES);
        let mut ones = zeros();
        ones.fill(1.0);
        Layer {
            batch,
            state: stem.state(batch),
            x: numbers(1, batch * conv.input_len()),
            weights: numbers(2, conv.weights_len()),
            gradient: Buffer::zeros(conv.weights_len()),
            stored: Buffer::zeros(batch * conv.output_len()),
            y: Buffer::zeros(batch * chain.output_len()),
            dy: numbers(3, batch * chain.output_len()),
            ones,
            sums: [zeros(), zeros()],
            parts: Buffer::zeros(conv.statistics_len(batch)),
            scratch: Buffer::zeros(scratch.into_iter().max().unwrap_or(0)),
            stem,
            chain,
        }
    }

    /// Milliseconds of forward and backward as a stem.
    fn stem_step(&mut self, threads: &Threads, flushed: &mut Buffer) -> f64 {
        let Layer { batch, stem, state, weights, ones, scratch, .. } = self;
        let [mean, var] = &mut self.sums;
        let len = self.chain.output_len();
        let x = Maps::packed(&self.x, stem.conv().input_len());
        let input = StemInput { batch: *batch, x, weights, bias: None };
        let forward = time(flushed, || {
            stem.statistics(threads, &input, state, [mean, var], scratch);
            let norm = StemNorm { scale: ones, shift: mean, drop: DROP };
            stem.forward(threads, &input, &norm, state, MapsMut::packed(&mut self.y, len), scratch);
        });
        let (dy, dw) = (Maps::packed(&self.dy, len), &mut self.gradient);
        let backward = time(flushed, || {
            stem.backward_sums(threads, &input, DROP, state, dy, dw, [mean, var], scratch);
            stem.backward_weights(*batch, weights, state, [ones, ones], dw);
        });
        forward + backward
    }

    /// Milliseconds of forward and backward with the convolution stored.
    fn stored_step(&mut self, threads: &Threads, flushed: &mut Buffer) -> f64 {
        let Layer { batch, stem, chain, weights, ones, parts, scratch, stored, .. } = self;
        let (batch, conv) = (*batch, stem.conv());
        let [mean, var] = &mut self.sums;
        let [channels, len, stored_len] = [conv.shape().out_channels, chain.output_len(), conv.output_len()];
        let x = Maps::packed(&self.x, conv.input_len());
        let forward = time(flushed, || {
            let statistics = Some(StatisticsParts::new(parts, channels));
            let epilogue = Epilogue { statistics, ..Epilogue::default() };
            conv.forward(threads, batch, x, weights, &epilogue, MapsMut::packed(stored, stored_len), scratch);
            merge(Isa::best(), threads, [conv.statistics_parts(batch), channels], parts, mean, var);
            let (x, y) = (Maps::packed(stored, stored_len), MapsMut::packed(&mut self.y, len));
            chain.forward(threads, batch, x, ones, mean, DROP, y);
        });
        let given = Given { batch, dy: Maps::packed(&self.dy, len), scale: ones, shift: ones, mean: ones, drop: DROP };
        let linear: [&[f32]; 3] = [ones, ones, ones];
        let backward = time(flushed, || {
            chain.backward_sums(threads, &given, Maps::packed(stored, stored_len), [mean, var], scratch);
            let in_place = MapsMut::packed(stored, stored_len);
            chain.backward_data(threads, &given, linear, Source::InPlace, in_place);
            let dy = Maps::packed(stored, stored_len);
            conv.backward_weights(threads, batch, x, dy, &mut self.gradient, scratch);
        });
        forward + backward
    }
}

/// Numbers from -1 to 1.
fn numbers(seed: u64, len: usize) -> Buffer {
    let mut numbers = Buffer::zeros(len);
    for (i, x) in numbers.iter_mut().enumerate() {
        *x = (random::mix(seed, i as u64) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    }
    numbers
}
