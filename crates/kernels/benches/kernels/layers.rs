//! The layers that occur in the zoo, each with buffers, and the calls that are measured.

use convnet_kernels::activation::Activation;
use convnet_kernels::caches::Caches;
use convnet_kernels::conv::{Choice, Conv, ConvShape, Epilogue, PLAIN_CHANNELS, Setting};
use convnet_kernels::geometry::Window;
use convnet_kernels::layout::{Maps, MapsMut, blocks};
use convnet_kernels::linear::Linear;
use convnet_kernels::memory::Buffer;
use convnet_kernels::norm::{Given, NormChain, Source};
use convnet_kernels::pool::{Pool, PoolKind};
use convnet_kernels::precision::Precision;
use convnet_kernels::simd::{Isa, LANES};
use convnet_kernels::threads::Threads;
use criterion::Throughput;

/// What everything runs on.
pub(crate) struct Engine {
    pub(crate) threads: Threads,
    pub(crate) isa: Isa,
    pub(crate) precision: Precision,
}

/// A line of the list.
pub(crate) struct Layer {
    pub(crate) kind: Kind,
    /// As it is written, for names.
    pub(crate) nets: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Conv { read: usize, written: usize, groups: usize, side: usize, window: Window },
    Linear { read: usize, written: usize },
    Norm { channels: usize, side: usize },
    Pool { channels: usize, side: usize, window: Window, kind: PoolKind },
}

/// One of a layer's directions.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Direction {
    Forward,
    Data,
    Weights,
}

/// All layers of the list.
pub(crate) fn all() -> Vec<Layer> {
    let lists = [include_str!("geometries.txt"), include_str!("grouped.txt")];
    let lines = lists.into_iter().flat_map(str::lines).filter(|line| !line.starts_with('#'));
    lines.map(|line| Layer::parse(line).unwrap_or_else(|| panic!("no layer: {line}"))).collect()
}

impl Layer {
    fn parse(line: &'static str) -> Option<Layer> {
        let (rest, nets) = line.rsplit_once(' ')?;
        let (kind, numbers) = rest.split_once(' ')?;
        let numbers: Vec<usize> = numbers.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let window = |[kernel, stride, padding]: [usize; 3]| Window::square(kernel).stride(stride).padding(padding);
        let kind = match (kind, &numbers[..]) {
            ("conv", &[read, written, side, kernel, stride, padding]) => {
                Kind::Conv { read, written, groups: 1, side, window: window([kernel, stride, padding]) }
            }
            ("grouped", &[channels, groups, side, kernel, stride, padding]) => {
                let window = window([kernel, stride, padding]);
                Kind::Conv { read: channels, written: channels, groups, side, window }
            }
            ("linear", &[read, written]) => Kind::Linear { read, written },
            ("norm", &[channels, side]) => Kind::Norm { channels, side },
            ("max" | "max-ceil" | "avg", &[channels, side, kernel, stride, padding]) => {
                let window = Window { ceil_mode: kind == "max-ceil", ..window([kernel, stride, padding]) };
                let kind = if kind == "avg" { PoolKind::Avg { count_include_pad: true } } else { PoolKind::Max };
                Kind::Pool { channels, side, window, kind }
            }
            _ => return None,
        };
        Some(Layer { kind, nets })
    }

    /// Pictures at a time: as many as `bench/peers` gives the nets, the small ones in training alone.
    pub(crate) fn batches(&self) -> Vec<usize> {
        let batches = self.nets.split(',').flat_map(|net| match net {
            "cnn" => vec![256],
            "resnet20" => vec![128],
            _ => vec![1, 16],
        });
        let mut batches: Vec<usize> = batches.collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }
}

impl Kind {
    /// For a benchmark's name, such as `conv 3x3/2 64-128 56x56`.
    pub(crate) fn name(&self) -> String {
        let windowed = |window: &Window| match window.stride[0] {
            1 => format!("{0}x{0}", window.kernel[0]),
            stride => format!("{0}x{0}/{stride}", window.kernel[0]),
        };
        match self {
            Kind::Conv { read, written, groups, side, window } => {
                let groups = if *groups == 1 { String::new() } else { format!(" in {groups}") };
                format!("conv {} {read}-{written}{groups} {side}x{side}", windowed(window))
            }
            Kind::Linear { read, written } => format!("linear {read}-{written}"),
            Kind::Norm { channels, side } => format!("norm {channels} {side}x{side}"),
            Kind::Pool { channels, side, window, kind } => {
                let what = if *kind == PoolKind::Max { "max" } else { "avg" };
                format!("{what} {} {channels} {side}x{side}", windowed(window))
            }
        }
    }

    pub(crate) fn directions(&self) -> &'static [Direction] {
        match self {
            // A picture has no gradient.
            Kind::Conv { read, .. } if *read < PLAIN_CHANNELS => &[Direction::Forward, Direction::Weights],
            Kind::Conv { .. } | Kind::Linear { .. } => &[Direction::Forward, Direction::Data, Direction::Weights],
            Kind::Norm { .. } | Kind::Pool { .. } => &[Direction::Forward, Direction::Data],
        }
    }

    /// Operations, or bytes where nothing is multiplied; and how many bytes the call goes over.
    pub(crate) fn amount(&self, direction: Direction, batch: usize) -> (Throughput, usize) {
        let floats = |channels: usize, side: usize| batch * blocks(channels) * LANES * side * side * size_of::<f32>();
        let operations = |macs: usize| Throughput::Elements(2 * macs as u64);
        match *self {
            Kind::Conv { read, written, groups, side, window } => {
                let [h, w] = window.output([side; 2]).expect("fits");
                let [kh, kw] = window.kernel;
                let bytes = floats(read, side) + floats(written, h);
                (operations(batch * written * h * w * (read / groups) * kh * kw), bytes)
            }
            Kind::Linear { read, written } => (operations(batch * read * written), 4 * read * written),
            Kind::Norm { channels, side } => {
                // Forward reads x for the statistics, reads it again and writes y; backward reads x and dy twice and
                // writes dx.
                let (one, passes) = (floats(channels, side), if direction == Direction::Forward { 3 } else { 5 });
                (Throughput::BytesDecimal((passes * one) as u64), 2 * one)
            }
            Kind::Pool { channels, side, window, kind } => {
                let [output, _] = window.output([side; 2]).expect("fits");
                let (x, y) = (floats(channels, side), floats(channels, output));
                let gradient = if direction == Direction::Data { x } else { 0 };
                let input = if direction == Direction::Data && kind != PoolKind::Max { 0 } else { x };
                (Throughput::BytesDecimal((input + y + gradient) as u64), x + y + gradient)
            }
        }
    }

    /// How each direction can be computed, and whether plans take it by themselves.
    pub(crate) fn methods(&self, direction: Direction, batch: usize, engine: &Engine) -> Vec<(Choice, String)> {
        let takes = |choice: Choice| match self.conv(choice, batch, engine) {
            Some(conv) => conv.takes_winograd()[direction as usize],
            None => false,
        };
        if !takes(Choice::Winograd) {
            return vec![(Choice::Auto, "taken".to_owned())];
        }
        let (direct, winograd) = if takes(Choice::Auto) { ("", " taken") } else { (" taken", "") };
        vec![(Choice::Direct, format!("direct{direct}")), (Choice::Winograd, format!("winograd{winograd}"))]
    }

    fn conv(&self, choice: Choice, batch: usize, engine: &Engine) -> Option<Conv> {
        let Kind::Conv { read, written, groups, side, window } = *self else { return None };
        let shape = ConvShape { in_channels: read, out_channels: written, groups, input: [side; 2], window };
        let (precision, caches) = (engine.precision, Caches::of_this_machine());
        let setting = Setting { batch, choice, precision, fixed_weights: fixes_weights(batch), caches };
        Some(Conv::new(shape, read < PLAIN_CHANNELS, engine.isa, setting).expect("fits"))
    }

    /// A planned direction with its buffers, to be called again and again.
    pub(crate) fn plan<'a>(
        &self,
        direction: Direction,
        choice: Choice,
        batch: usize,
        engine: &'a Engine,
    ) -> Box<dyn FnMut() + 'a> {
        let Engine { threads, isa, precision } = engine;
        match *self {
            Kind::Conv { .. } => {
                let conv = self.conv(choice, batch, engine).expect("is a convolution");
                plan_conv(conv, direction, batch, threads)
            }
            Kind::Linear { read, written } => {
                let layer = Linear::new([read, 1], written, *isa, *precision, fixes_weights(batch));
                plan_linear(layer, direction, batch, threads)
            }
            Kind::Norm { channels, side } => {
                let chain = NormChain::new(channels, [side; 2], Activation::Relu, false, *isa);
                plan_norm(chain, blocks(channels) * LANES, direction, batch, threads)
            }
            Kind::Pool { channels, side, window, kind } => {
                let pool = Pool::new(channels, [side; 2], window, kind, *isa).expect("fits");
                let lens = [[side; 2], pool.output()].map(|[h, w]| blocks(channels) * LANES * h * w);
                plan_pool(pool, lens, direction, batch, threads)
            }
        }
    }
}

/// One picture is inference, whose weights are prepared once.
fn fixes_weights(batch: usize) -> bool {
    batch == 1
}

/// Numbers around 0, as activations are.
fn filled(len: usize) -> Buffer {
    let mut buffer = Buffer::zeros(len);
    for (i, x) in buffer.iter_mut().enumerate() {
        *x = (i.wrapping_mul(0x9e37_79b1) >> 8 & 0xff) as f32 / 128.0 - 1.0;
    }
    buffer
}

fn plan_conv(conv: Conv, direction: Direction, batch: usize, threads: &Threads) -> Box<dyn FnMut() + '_> {
    let (from, to) = (conv.input_len(), conv.output_len());
    let (mut x, mut y, mut weights) = (filled(batch * from), filled(batch * to), filled(conv.weights_len()));
    let scratch = match direction {
        Direction::Forward => conv.forward_scratch(batch, threads.count()),
        Direction::Data => conv.backward_data_scratch(batch, threads.count()),
        Direction::Weights => conv.backward_weights_scratch(batch, threads.count()),
    };
    let mut scratch = filled(scratch);
    if fixes_weights(batch) {
        conv.prepare_weights(threads, &mut weights);
    }
    Box::new(move || match direction {
        Direction::Forward => {
            let (x, y) = (Maps::packed(&x, from), MapsMut::packed(&mut y, to));
            conv.forward(threads, batch, x, &weights, &Epilogue::default(), y, &mut scratch);
        }
        Direction::Data => {
            let (dy, dx) = (Maps::packed(&y, to), MapsMut::packed(&mut x, from));
            conv.backward_data(threads, batch, dy, &weights, dx, false, &mut scratch);
        }
        Direction::Weights => {
            let (x, dy) = (Maps::packed(&x, from), Maps::packed(&y, to));
            conv.backward_weights(threads, batch, x, dy, &mut weights, &mut scratch);
        }
    })
}

fn plan_linear(layer: Linear, direction: Direction, batch: usize, threads: &Threads) -> Box<dyn FnMut() + '_> {
    let [mut x, mut y] = [layer.input_len(), layer.output_len()].map(|len| filled(batch * len));
    let mut weights = filled(layer.weights_len());
    let mut scratch = filled(layer.scratch_len(threads.count()));
    if fixes_weights(batch) {
        layer.prepare_weights(threads, &mut weights);
    }
    Box::new(move || match direction {
        Direction::Forward => {
            layer.forward(threads, batch, &x, &weights, None, Activation::Identity, &mut y, &mut scratch)
        }
        Direction::Data => layer.backward_data(threads, batch, &y, &weights, &mut x, false, &mut scratch),
        Direction::Weights => layer.backward_weights(threads, batch, &x, &y, &mut weights, &mut scratch),
    })
}

/// Batch norm and ReLU, as in training; forward's statistics come from a convolution.
fn plan_norm(
    chain: NormChain,
    channels: usize,
    direction: Direction,
    batch: usize,
    threads: &Threads,
) -> Box<dyn FnMut() + '_> {
    let len = chain.input_len();
    let [x, mut y, dy] = [(); 3].map(|()| filled(batch * len));
    let [mut sum, mut product] = [(); 2].map(|()| filled(channels));
    let [mean, scale, shift] = [(); 3].map(|()| filled(channels));
    let mut scratch = filled(chain.scratch_len(batch));
    Box::new(move || {
        let (x, y) = (Maps::packed(&x, len), MapsMut::packed(&mut y, len));
        if direction == Direction::Forward {
            return chain.forward(threads, batch, x, &scale, &shift, None, y);
        }
        let dy = Maps::packed(&dy, len);
        let given = Given { batch, dy, scale: &scale, shift: &shift, mean: &mean, drop: None };
        chain.backward_sums(threads, &given, x, [&mut sum, &mut product], &mut scratch);
        let linear = [&scale[..], &shift, &mean];
        chain.backward_data(threads, &given, linear, Source::Apart { x, accumulate: false }, y);
    })
}

fn plan_pool(
    pool: Pool,
    [from, to]: [usize; 2],
    direction: Direction,
    batch: usize,
    threads: &Threads,
) -> Box<dyn FnMut() + '_> {
    let (x, mut y) = (filled(batch * from), filled(batch * to));
    let mut dx = filled(if direction == Direction::Data { batch * from } else { 0 });
    Box::new(move || {
        let x = Maps::packed(&x, from);
        if direction == Direction::Forward {
            return pool.forward(threads, batch, x, MapsMut::packed(&mut y, to));
        }
        pool.backward(threads, batch, x, Maps::packed(&y, to), MapsMut::packed(&mut dx, from), false);
    })
}
