//! Speed of the convolution kernels in GFLOP/s, beside the machine's peak measured at the same moment.
//!
//! `cargo run --release -p convnet-kernels --example conv_speed [threads] [isa] [part of a case's name]`

use convnet_kernels::conv::{Choice, Conv, ConvShape, Epilogue, Setting};
use convnet_kernels::geometry::Window;
use convnet_kernels::layout::{Maps, MapsMut};
use convnet_kernels::memory::Buffer;
use convnet_kernels::precision::Precision;
use convnet_kernels::roofline::gflops;
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use std::time::Instant;

/// Seconds that a call takes: of the calling thread's CPU time if it works alone, so that a busy machine disturbs little.
fn seconds(alone: bool, f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    let before = thread_seconds();
    f();
    match (alone, before, thread_seconds()) {
        (true, Some(before), Some(after)) => after - before,
        (_, _, _) => start.elapsed().as_secs_f64(),
    }
}

/// CPU time of this thread so far.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn thread_seconds() -> Option<f64> {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = [0; 2];
    // SAFETY: a `timespec` is two 64-bit numbers here: seconds and nanoseconds.
    let status = unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    (status == 0).then(|| time[0] as f64 + time[1] as f64 * 1e-9)
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn thread_seconds() -> Option<f64> {
    None
}

/// Channels in and out, side of the pictures, side of the kernel and stride.
struct Case {
    name: &'static str,
    batch: usize,
    channels: [usize; 2],
    side: usize,
    kernel: usize,
    stride: usize,
}

/// A planned convolution with its buffers.
struct Run {
    conv: Conv,
    batch: usize,
    plain: bool,
    x: Buffer,
    y: Buffer,
    dx: Buffer,
    weights: Buffer,
    dw: Buffer,
    scratch: Buffer,
}

impl Run {
    fn new(case: &Case, isa: Isa, count: usize, choice: Choice) -> Run {
        let &Case { batch, channels: [in_channels, out_channels], side, kernel, stride, .. } = case;
        let window = Window::square(kernel).padding(kernel / 2).stride(stride);
        let shape = ConvShape { in_channels, out_channels, groups: 1, input: [side; 2], window };
        let plain = in_channels < 4;
        let conv =
            Conv::new(shape, plain, isa, Setting { batch, choice, precision: Precision::F32, fixed_weights: false })
                .expect("fits");
        let filled = |len: usize, value: f32| {
            let mut buffer = Buffer::zeros(len);
            buffer.fill(value);
            buffer
        };
        let scratch = [
            conv.forward_scratch(batch, count),
            conv.backward_data_scratch(batch, count),
            conv.backward_weights_scratch(batch, count),
        ];
        Run {
            batch,
            plain,
            x: filled(batch * conv.input_len(), 0.5),
            y: Buffer::zeros(batch * conv.output_len()),
            dx: Buffer::zeros(batch * conv.input_len()),
            weights: filled(conv.weights_len(), 0.1),
            dw: Buffer::zeros(conv.weights_len()),
            scratch: filled(scratch.into_iter().max().unwrap_or(0), 0.0),
            conv,
        }
    }

    /// Seconds of forward, by data and by weights.
    fn time(&mut self, threads: &Threads) -> [f64; 3] {
        let Run { conv, batch, x, y, dx, weights, dw, scratch, .. } = self;
        let alone = threads.count() == 1;
        let (batch, x) = (*batch, Maps::packed(x, conv.input_len()));
        let none = Epilogue::default();
        let forward = seconds(alone, || {
            conv.forward(threads, batch, x, weights, &none, MapsMut::packed(y, conv.output_len()), scratch);
        });
        let dy = Maps::packed(y, conv.output_len());

        let data = match self.plain {
            true => f64::NAN,
            false => seconds(alone, || {
                let dx = MapsMut::packed(dx, conv.input_len());
                conv.backward_data(threads, batch, dy, weights, dx, false, scratch);
            }),
        };
        [forward, data, seconds(alone, || conv.backward_weights(threads, batch, x, dy, dw, scratch))]
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = Threads::new(args.next().and_then(|t| t.parse().ok()).unwrap_or(2)).expect("threads start");
    let isa = args.next().and_then(|name| Isa::named(&name)).unwrap_or_else(Isa::best);
    let filter = args.next().unwrap_or_default();
    println!("{} x {} threads; GFLOP/s of the direct method's multiply-adds", isa.name(), threads.count());
    let case = |name, batch, channels, [side, kernel, stride]: [usize; 3]| Case {
        name,
        batch,
        channels,
        side,
        kernel,
        stride,
    };
    let cases = [
        case("lecture 1", 256, [1, 32], [28, 3, 1]),
        case("lecture 2", 256, [32, 64], [14, 3, 1]),
        case("cifar 16", 128, [16, 16], [32, 3, 1]),
        case("cifar 32", 128, [32, 32], [16, 3, 1]),
        case("cifar 64", 128, [64, 64], [8, 3, 1]),
        case("resnet 64", 16, [64, 64], [56, 3, 1]),
        case("resnet 128", 16, [128, 128], [28, 3, 1]),
        case("resnet 256", 16, [256, 256], [14, 3, 1]),
        case("resnet 512", 16, [512, 512], [7, 3, 1]),
        case("resnet 64", 1, [64, 64], [56, 3, 1]),
        case("resnet 128", 1, [128, 128], [28, 3, 1]),
        case("resnet 256", 1, [256, 256], [14, 3, 1]),
        case("resnet 512", 1, [512, 512], [7, 3, 1]),
        case("vgg 64", 1, [64, 64], [224, 3, 1]),
        case("vgg 128", 1, [128, 128], [112, 3, 1]),
        case("vgg 256", 1, [256, 256], [56, 3, 1]),
        case("vgg 512", 1, [512, 512], [28, 3, 1]),
        case("vgg 512", 1, [512, 512], [14, 3, 1]),
        case("dense 32", 16, [128, 32], [28, 3, 1]),
        case("dense 32", 1, [128, 32], [28, 3, 1]),
        case("dense 32", 1, [128, 32], [7, 3, 1]),
        case("resnet /2", 4, [64, 128], [56, 3, 2]),
        case("resnet 1x1", 4, [256, 64], [56, 1, 1]),
        case("resnet 7x7", 4, [3, 64], [224, 7, 2]),
    ];
    for case in cases.iter().filter(|case| case.name.contains(&filter)) {
        compare(case, isa, &threads);
    }
}

/// The best of many repeats of either method, in turns, and of the peak; a star where plans take Winograd by themselves.
fn compare(case: &Case, isa: Isa, threads: &Threads) {
    let plan = |choice: Choice| Run::new(case, isa, threads.count(), choice);
    let taken = plan(Choice::Auto).conv.takes_winograd();
    let mut runs = [Choice::Direct, Choice::Winograd].map(plan);
    let (mut best, mut peak) = ([[f64::MAX; 3]; 2], gflops(threads, isa));
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 2.0 {
        for (run, best) in runs.iter_mut().zip(&mut best) {
            for (best, seconds) in best.iter_mut().zip(run.time(threads)) {
                *best = seconds.min(*best);
            }
        }
    }
    peak = gflops(threads, isa).max(peak);
    let &Case { name, batch, channels: [read, written], side, kernel, .. } = case;
    let [h, w] = runs[0].conv.output();
    let flops = 2.0 * (batch * h * w * written * read * kernel * kernel) as f64;
    print!("{name:10} {batch:3} x {read:3} -> {written:3} {side:3}  peak {peak:4.0}");
    for (direction, what) in ["forward", "data", "weights"].into_iter().enumerate() {
        let [direct, winograd] = best.map(|best| flops / best[direction] / 1e9);
        let (ratio, star) = (winograd / direct, if taken[direction] { "*" } else { " " });
        print!("  {what} {direct:4.0} -> {winograd:4.0} ({ratio:4.2}){star}");
    }
    println!();
}
