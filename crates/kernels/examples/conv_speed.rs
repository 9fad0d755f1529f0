//! Speed of the convolution kernels in GFLOP/s, beside the machine's peak measured at the same moment.
//!
//! `cargo run --release -p convnet-kernels --example conv_speed [threads] [isa]`

use convnet_kernels::conv::{Conv, ConvShape, Epilogue};
use convnet_kernels::geometry::Window;
use convnet_kernels::memory::Buffer;
use convnet_kernels::roofline::gflops;
use convnet_kernels::simd::Isa;
use convnet_kernels::threads::Threads;
use std::time::Instant;

fn best_of(repeats: usize, mut f: impl FnMut()) -> f64 {
    f();
    let time = |f: &mut dyn FnMut()| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64()
    };
    (0..repeats).map(|_| time(&mut f)).fold(f64::MAX, f64::min)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = Threads::new(args.next().and_then(|t| t.parse().ok()).unwrap_or(2)).expect("threads start");
    let isa = args.next().and_then(|name| Isa::named(&name)).unwrap_or_else(Isa::best);
    println!("{} x {} threads; each line with the peak of its moment", isa.name(), threads.count());
    let cases = [
        ("lecture 1", 256, 1, 32, 28, 3, 1),
        ("lecture 2", 256, 32, 64, 14, 3, 1),
        ("cifar 16", 128, 16, 16, 32, 3, 1),
        ("cifar 64", 128, 64, 64, 8, 3, 1),
        ("resnet 64", 4, 64, 64, 56, 3, 1),
        ("resnet 128 /2", 4, 64, 128, 56, 3, 2),
        ("resnet 256", 4, 256, 256, 14, 3, 1),
        ("resnet 512", 4, 512, 512, 7, 3, 1),
        ("resnet 1x1", 4, 256, 64, 56, 1, 1),
        ("resnet 7x7", 4, 3, 64, 224, 7, 2),
        ("vgg 224", 1, 64, 64, 224, 3, 1),
        ("dense 32", 4, 128, 32, 28, 3, 1),
    ];
    for (name, batch, in_channels, out_channels, side, kernel, stride) in cases {
        let window = Window::square(kernel).padding(kernel / 2).stride(stride);
        let shape = ConvShape { in_channels, out_channels, groups: 1, input: [side; 2], window };
        let plain = in_channels < 4;
        let conv = Conv::new(shape, plain, isa).expect("fits");
        let [h, w] = conv.output();
        let flops = 2.0 * (batch * h * w * out_channels * in_channels * kernel * kernel) as f64;
        let mut x = Buffer::zeros(batch * conv.input_len());
        x.fill(0.5);
        let mut weights = Buffer::zeros(conv.weights_len());
        weights.fill(0.1);
        let (mut y, mut dx) = (Buffer::zeros(batch * conv.output_len()), x.clone());
        let mut dw = weights.clone();
        let count = threads.count();
        let mut scratch = Buffer::zeros(conv.forward_scratch(count));
        let forward = best_of(10, || {
            conv.forward(&threads, batch, &x, &weights, &Epilogue::default(), &mut y, &mut scratch);
        });
        let mut data = f64::NAN;
        if !plain {
            let mut scratch = Buffer::zeros(conv.backward_data_scratch(count));
            data = best_of(10, || conv.backward_data(&threads, batch, &y, &weights, &mut dx, &mut scratch));
        }
        let mut scratch = Buffer::zeros(conv.backward_weights_scratch(batch, count));
        let by_weights = best_of(10, || conv.backward_weights(&threads, batch, &x, &y, &mut dw, &mut scratch));
        let peak = gflops(&threads, isa);
        print!("{name:14} peak {peak:4.0}");
        for (what, seconds) in [("forward", forward), ("data", data), ("weights", by_weights)] {
            let rate = flops / seconds / 1e9;
            print!("  {what} {:7.2} ms {rate:4.0} ({:3.0} %)", seconds * 1e3, 100.0 * rate / peak);
        }
        println!();
    }
}
