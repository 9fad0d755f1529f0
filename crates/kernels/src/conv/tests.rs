//! Every direction on every instruction set against the reference in f64, over the geometries that go wrong.

use super::{Choice, Conv, ConvShape, Epilogue, PLAIN_CHANNELS, Setting};
use crate::activation::Activation;
use crate::caches::Caches;
use crate::geometry::{Padding, Window};
use crate::layout::{Maps, MapsMut, blocks, from_blocked, padding, to_blocked};
use crate::precision::{Precision, bits, words};
use crate::reference::activation;
use crate::reference::conv2d::{self as reference, ConvProblem};
use crate::simd::{Isa, LANES};
use crate::statistics::{self, StatisticsParts};
use crate::threads::Threads;

/// Deterministic numbers in -1..1.
pub(super) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn assert_close(what: &str, got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0f64, |a, b| a.max(b.abs()));
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(g) - w).abs() <= 5e-6 * scale, "{what}[{i}]: got {g}, want {w}");
    }
}

pub(super) fn window(
    kernel: [usize; 2],
    stride: [usize; 2],
    begin: [usize; 2],
    end: [usize; 2],
    dilation: [usize; 2],
) -> Window {
    Window { kernel, stride, padding: Padding::Explicit { begin, end }, dilation, ceil_mode: false }
}

pub(super) fn setting(batch: usize, choice: Choice) -> Setting {
    Setting { batch, choice, precision: Precision::F32, fixed_weights: false, caches: Caches::TYPICAL }
}

pub(super) fn problem(
    batch: usize,
    channels: [usize; 2],
    groups: usize,
    input: [usize; 2],
    window: Window,
) -> ConvProblem {
    ConvProblem { batch, in_channels: channels[0], out_channels: channels[1], groups, input, window }
}

fn problems() -> Vec<ConvProblem> {
    let same = |k: usize| window([k, k], [1, 1], [k / 2, k / 2], [k / 2, k / 2], [1, 1]);
    vec![
        problem(3, [1, 32], 1, [28, 28], same(3)),
        problem(2, [32, 64], 1, [14, 14], same(3)),
        problem(2, [3, 20], 1, [13, 17], window([5, 3], [2, 1], [2, 1], [1, 0], [1, 1])),
        problem(2, [3, 20], 1, [13, 17], window([2, 3], [2, 1], [0, 2], [1, 0], [1, 2])),
        problem(2, [2, 20], 1, [9, 11], window([3, 1], [1, 2], [1, 0], [1, 0], [2, 1])),
        problem(1, [3, 64], 1, [31, 31], window([11, 11], [4, 4], [2, 2], [2, 2], [1, 1])),
        problem(2, [40, 70], 1, [9, 7], same(3)),
        problem(5, [16, 96], 1, [5, 8], same(1)),
        problem(2, [33, 48], 1, [8, 9], window([1, 1], [2, 2], [0, 0], [0, 0], [1, 1])),
        problem(1, [64, 130], 1, [10, 10], window([3, 3], [2, 2], [1, 1], [1, 1], [1, 1])),
        problem(2, [17, 5], 1, [12, 9], window([3, 2], [1, 2], [0, 2], [3, 1], [2, 3])),
        problem(1, [6, 16], 1, [20, 11], window([2, 2], [3, 3], [0, 0], [0, 0], [1, 1])),
        problem(2, [32, 64], 2, [6, 6], same(3)),
        problem(1, [24, 36], 4, [7, 6], same(3)),
        problem(2, [20, 20], 20, [9, 9], window([3, 3], [2, 2], [1, 1], [1, 1], [1, 1])),
        problem(1, [8, 32], 8, [5, 5], same(5)),
        problem(1, [128, 64], 1, [40, 50], same(3)),
        problem(9, [48, 80], 1, [3, 3], same(3)),
        problem(11, [128, 128], 1, [2, 3], same(3)),
        problem(1, [16, 16], 1, [1, 1], same(3)),
        // By weights, several planes to a task and inputs without padding in place, with rows and columns left unread.
        problem(16, [160, 48], 1, [13, 15], same(1)),
        problem(12, [64, 16], 1, [15, 14], window([2, 2], [1, 1], [0, 0], [0, 0], [1, 1])),
        problem(2, [64, 64], 2, [40, 31], window([3, 2], [2, 2], [0, 0], [0, 0], [2, 3])),
    ]
}

/// Numbers that bf16 holds, so that rounding to it changes nothing.
pub(super) fn coarse(numbers: Vec<f32>) -> Vec<f32> {
    numbers.into_iter().map(|x| (x * 32.0).round() / 32.0).collect()
}

pub(super) fn check(isa: Isa, threads: &Threads, problem: &ConvProblem, setting: Setting, activations: &[Activation]) {
    let &ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
    let what = format!("{} {setting:?} {problem:?}", isa.name());
    let shape = ConvShape { in_channels, out_channels, groups, input, window };
    let plain = in_channels <= PLAIN_CHANNELS && groups == 1;
    let conv = Conv::new(shape, plain, isa, setting).unwrap();
    let [h, w] = conv.output();
    let numbers = |len: usize, seed: u32| match setting.precision {
        Precision::F32 => noise(len, seed),
        Precision::Bf16 => coarse(noise(len, seed)),
    };
    let (x, dy) = (numbers(problem.input_len(), 1), numbers(problem.output_len(), 2));
    let (weight, bias) = (numbers(problem.weight_len(), 3), numbers(out_channels, 4));
    let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();

    let mut packed = vec![f32::NAN; conv.weights_len()];
    conv.pack_weights(threads, &weight, &mut packed);
    let mut unpacked = vec![0.0; weight.len()];
    conv.unpack_weights(&packed, &mut unpacked);
    assert_eq!(weight, unpacked);

    let input_dims = [batch, in_channels, input[0] * input[1]];
    let output_dims = [batch, out_channels, h * w];
    let mut x_engine = x.clone();
    if !plain {
        x_engine = vec![f32::NAN; batch * conv.input_len()];
        to_blocked(threads, input_dims, &x, MapsMut::packed(&mut x_engine, conv.input_len()));
    }
    let x_maps = Maps::packed(&x_engine, conv.input_len());
    let mut bias_engine = bias.clone();
    bias_engine.resize(blocks(out_channels) * LANES, 0.0);
    let mut y = vec![f32::NAN; batch * conv.output_len()];
    let mut scratch = vec![f32::NAN; conv.forward_scratch(batch, threads.count())];
    let epilogue = Epilogue { bias: Some(&bias_engine), ..Epilogue::default() };
    conv.forward(threads, batch, x_maps, &packed, &epilogue, MapsMut::packed(&mut y, conv.output_len()), &mut scratch);
    let mut got = vec![0.0; problem.output_len()];
    from_blocked(threads, output_dims, Maps::packed(&y, conv.output_len()), &mut got);
    let want = reference::forward(problem, &wide(&x), &wide(&weight), Some(&wide(&bias)));
    assert_close(&format!("forward {what}"), &got, &want);

    let addend = y.clone();
    let addend_maps = Some(Maps::packed(&addend, conv.output_len()));
    let mut parts = vec![f32::NAN; conv.statistics_len(batch)];
    let statistics = Some(StatisticsParts::new(&mut parts, out_channels));
    let epilogue = Epilogue { bias: Some(&bias_engine), addend: addend_maps, activation: Activation::Relu, statistics };
    conv.forward(threads, batch, x_maps, &packed, &epilogue, MapsMut::packed(&mut y, conv.output_len()), &mut scratch);
    assert!(y.iter().zip(&addend).all(|(y, a)| *y == (a + a).max(0.0)), "epilogue {what}");
    check_statistics(&what, &conv, batch, &y, &parts);

    for &after in activations {
        let statistics = Some(StatisticsParts::new(&mut parts, out_channels));
        let epilogue = Epilogue { bias: Some(&bias_engine), addend: addend_maps, activation: after, statistics };
        let maps = MapsMut::packed(&mut y, conv.output_len());
        conv.forward(threads, batch, x_maps, &packed, &epilogue, maps, &mut scratch);
        let near = |(&y, &a): (&f32, &f32)| {
            let want = activation::value(after, f64::from(a + a));
            (f64::from(y) - want).abs() <= 1e-6 * want.abs() + 1e-7
        };
        let mut got = [vec![0.0; problem.output_len()], vec![0.0; problem.output_len()]];
        for (maps, got) in [&y, &addend].into_iter().zip(&mut got) {
            from_blocked(threads, output_dims, Maps::packed(maps, conv.output_len()), got);
        }
        assert!(got[0].iter().zip(&got[1]).all(near), "{after:?} {what}");
        assert!(padding(&y, out_channels, h * w).all(|y| y == 0.0), "padding, {after:?} {what}");
        check_statistics(&format!("{after:?} {what}"), &conv, batch, &y, &parts);
    }

    let mut dy_engine = vec![f32::NAN; batch * conv.output_len()];
    to_blocked(threads, output_dims, &dy, MapsMut::packed(&mut dy_engine, conv.output_len()));
    let dy_maps = Maps::packed(&dy_engine, conv.output_len());
    if !plain {
        let mut dx = vec![f32::NAN; batch * conv.input_len()];
        let mut scratch = vec![f32::NAN; conv.backward_data_scratch(batch, threads.count())];
        let dx_maps = MapsMut::packed(&mut dx, conv.input_len());
        conv.backward_data(threads, batch, dy_maps, &packed, dx_maps, false, &mut scratch);
        let mut got = vec![0.0; x.len()];
        from_blocked(threads, input_dims, Maps::packed(&dx, conv.input_len()), &mut got);
        let want = reference::backward_data(problem, &wide(&weight), &wide(&dy));
        assert_close(&format!("by data {what}"), &got, &want);
    }

    let mut dw = vec![f32::NAN; conv.weights_len()];
    let mut scratch = vec![f32::NAN; conv.backward_weights_scratch(batch, threads.count())];
    conv.backward_weights(threads, batch, x_maps, dy_maps, &mut dw, &mut scratch);
    let mut got = vec![0.0; weight.len()];
    conv.unpack_weights(&dw, &mut got);
    let want = reference::backward_weights(problem, &wide(&x), &wide(&dy));
    assert_close(&format!("by weights {what}"), &got, &want);
    // What is zero by structure has no gradient.
    let mut zeroed = vec![0.0; conv.weights_len()];
    conv.pack_weights(threads, &got, &mut zeroed);
    assert_eq!(dw, zeroed, "padding of the gradient {what}");
}

/// Mean and variance that a convolution left, against those of what it stored.
fn check_statistics(what: &str, conv: &Conv, batch: usize, y: &[f32], parts: &[f32]) {
    let channels = conv.shape().out_channels;
    let len = blocks(channels) * LANES;
    let (mut mean, mut var) = (vec![f32::NAN; len], vec![f32::NAN; len]);
    let threads = Threads::new(1).unwrap();
    statistics::merge(conv.isa, &threads, [conv.statistics_parts(batch), channels], parts, &mut mean, &mut var);
    let plane = conv.output_len() / blocks(channels);
    for c in 0..len {
        let at = |n: usize| n * conv.output_len() + c / LANES * plane + c % LANES;
        let values = (0..batch).flat_map(|n| y[at(n)..].iter().step_by(LANES).take(plane / LANES));
        let values: Vec<f64> = values.map(|&y| f64::from(y)).collect();
        let count = values.len() as f64;
        let centre = values.iter().sum::<f64>() / count;
        let square = values.iter().map(|y| (y - centre).powi(2)).sum::<f64>() / count;
        let (mean_error, var_error) = (f64::from(mean[c]) - centre, f64::from(var[c]) - square);
        assert!(mean_error.abs() <= 1e-6 * (centre.abs() + square.sqrt()), "mean {c} {what}");
        assert!(
            var_error.abs() <= 2e-6 * square + 1e-12 * centre * centre,
            "variance {c}: {} for {square} {what}",
            var[c]
        );
    }
}

#[test]
fn agrees_with_the_reference_on_every_set() {
    let threads = Threads::new(2).unwrap();
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        for (i, problem) in problems().into_iter().enumerate() {
            // All of them, over the problems.
            let some: Vec<Activation> = activation::all().into_iter().skip(i % 5).step_by(5).collect();
            for choice in [Choice::Direct, Choice::Winograd] {
                check(isa, &threads, &problem, setting(problem.batch, choice), &some);
            }
            let precision = Precision::Bf16;
            check(isa, &threads, &problem, Setting { precision, ..setting(problem.batch, Choice::Direct) }, &some);
        }
    }
}

/// Output and its statistics' parts, and both gradients, with so many threads.
pub(super) fn run_with_threads(conv: &Conv, batch: usize, count: usize) -> [Vec<f32>; 4] {
    let threads = Threads::new(count).unwrap();
    let (x, dy) = (noise(batch * conv.input_len(), 1), noise(batch * conv.output_len(), 2));
    let weights = noise(conv.weights_len(), 3);
    let lens = [batch * conv.output_len(), conv.statistics_len(batch), batch * conv.input_len(), conv.weights_len()];
    let mut results = lens.map(|len| vec![0.0; len]);
    let [y, parts, dx, dw] = &mut results;
    let mut scratch = vec![0.0; conv.forward_scratch(batch, count)];
    let (x, dy) = (Maps::packed(&x, conv.input_len()), Maps::packed(&dy, conv.output_len()));
    let y = MapsMut::packed(y, conv.output_len());
    let statistics = Some(StatisticsParts::new(parts, conv.shape().out_channels));
    conv.forward(&threads, batch, x, &weights, &Epilogue { statistics, ..Epilogue::default() }, y, &mut scratch);
    let mut scratch = vec![0.0; conv.backward_data_scratch(batch, count)];
    let dx = MapsMut::packed(dx, conv.input_len());
    conv.backward_data(&threads, batch, dy, &weights, dx, false, &mut scratch);
    let mut scratch = vec![0.0; conv.backward_weights_scratch(batch, count)];
    conv.backward_weights(&threads, batch, x, dy, dw, &mut scratch);
    results
}

#[test]
fn does_not_depend_on_the_number_of_threads() {
    let same = Window::square(3).padding(1);
    // Strips that are whole pictures, strips of pictures, and, with many weights, tasks of several pictures.
    for (batch, [in_channels, out_channels], input, window) in [
        (7, [32, 64], [14, 14], same),
        (2, [64, 40], [40, 30], same),
        (23, [128, 256], [2, 3], same),
        (3, [256, 96], [9, 9], same),
        (16, [160, 48], [13, 15], Window::square(1)),
    ] {
        let direct = setting(batch, Choice::Direct);
        let bf16 = Setting { precision: Precision::Bf16, ..direct };
        for setting in [setting(batch, Choice::Winograd), direct, bf16] {
            let shape = ConvShape { in_channels, out_channels, groups: 1, input, window };
            let conv = Conv::new(shape, false, Isa::best(), setting).unwrap();
            let one = run_with_threads(&conv, batch, 1);
            for count in [2, 3, 5, 8] {
                assert_eq!(one, run_with_threads(&conv, batch, count), "{shape:?} {setting:?} {count} threads");
            }
        }
    }
}

#[test]
fn does_not_depend_on_the_caches() {
    let window = Window::square(3).padding(1);
    // Whose transformed weights no task shares: few tiles, and many.
    for (batch, input) in [(1, [14, 14]), (8, [29, 29])] {
        let shape = ConvShape { in_channels: 160, out_channels: 64, groups: 1, input, window };
        for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
            let of = |kilobytes: usize| {
                let caches = Caches { l2: kilobytes << 10, l3: kilobytes << 11 };
                let setting = Setting { caches, ..setting(batch, Choice::Winograd) };
                run_with_threads(&Conv::new(shape, false, isa, setting).unwrap(), batch, 2)
            };
            let typical = of(1024);
            for kilobytes in [0, 256] {
                assert_eq!(typical, of(kilobytes), "{}: L2 of {kilobytes} KB", isa.name());
            }
        }
    }
}

#[test]
fn fixed_weights_are_rounded_once_to_the_same_result() {
    let threads = Threads::new(2).unwrap();
    for window in [Window::square(1), Window::square(3).padding(1)] {
        let shape = ConvShape { in_channels: 40, out_channels: 70, groups: 1, input: [9, 7], window };
        for choice in [Choice::Direct, Choice::Winograd] {
            let run = |fixed_weights: bool| {
                let setting = Setting { precision: Precision::Bf16, fixed_weights, ..setting(2, choice) };
                let conv = Conv::new(shape, false, Isa::best(), setting).unwrap();
                let mut weights = noise(conv.weights_len(), 3);
                if fixed_weights {
                    conv.prepare_weights(&threads, &mut weights);
                }
                let x = noise(2 * conv.input_len(), 1);
                let mut y = vec![0.0; 2 * conv.output_len()];
                let mut scratch = vec![0.0; conv.forward_scratch(2, 2)];
                let (x, maps) = (Maps::packed(&x, conv.input_len()), MapsMut::packed(&mut y, conv.output_len()));
                conv.forward(&threads, 2, x, &weights, &Epilogue::default(), maps, &mut scratch);
                y
            };
            assert_eq!(run(true), run(false), "{window:?} {choice:?}");
        }
    }
}

/// Numbers in `f32` as they are stored in either way.
pub(super) fn stored(numbers: &[f32], precision: Precision) -> Vec<f32> {
    match precision {
        Precision::F32 => numbers.to_vec(),
        Precision::Bf16 => words(numbers),
    }
}

/// Input and addend that bf16 holds are read the same in either way, and a result is rounded once, when its sum is complete.
#[test]
fn storing_in_bf16_rounds_results_and_nothing_else() {
    let threads = Threads::new(3).unwrap();
    let others = [
        // Many chunks of a sum, unread pixels, tasks of several pictures, groups.
        problem(5, [700, 40], 1, [3, 5], Window::square(1)),
        problem(2, [352, 80], 1, [8, 9], Window::square(1).stride(2)),
        problem(23, [128, 256], 1, [2, 3], Window::square(3).padding(1)),
        problem(2, [64, 96], 2, [5, 6], Window::square(1)),
    ];
    let sets = Isa::NAMES.into_iter().filter_map(Isa::named);
    for (isa, choice) in sets.flat_map(|isa| [(isa, Choice::Direct), (isa, Choice::Winograd)]) {
        for problem in problems().into_iter().chain(others) {
            check_storing(isa, &threads, &problem, choice);
        }
    }
}

pub(super) fn check_storing(isa: Isa, threads: &Threads, problem: &ConvProblem, choice: Choice) {
    let &ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
    let shape = ConvShape { in_channels, out_channels, groups, input, window };
    let plain = in_channels <= PLAIN_CHANNELS && groups == 1;
    let setting = Setting { precision: Precision::Bf16, ..setting(batch, choice) };
    let mut conv = Conv::new(shape, plain, isa, setting).unwrap();
    // Pictures of blocks have another block between them.
    let [x_len, y_len] = [conv.input_len() + if plain { 0 } else { LANES }, conv.output_len() + LANES];
    let (x, addend) = (coarse(noise(batch * x_len, 1)), coarse(noise(batch * y_len, 2)));
    let (weights, bias) = (noise(conv.weights_len(), 3), noise(blocks(out_channels) * LANES, 4));
    let mut run = |[x_stored, addend_stored, y_stored]: [Precision; 3], after: Activation| {
        conv.set_stored([x_stored, y_stored]);
        let [x, addend] = [(&x, x_stored), (&addend, addend_stored)].map(|(x, way)| stored(x, way));
        let mut y = stored(&vec![0.0; batch * y_len], y_stored);
        let mut scratch = vec![f32::NAN; conv.forward_scratch(batch, threads.count())];
        let x = Maps { data: &x, stride: x_len / x_stored.per_word(), stored: x_stored };
        let addend = Maps { data: &addend, stride: y_len / addend_stored.per_word(), stored: addend_stored };
        let maps = MapsMut { data: &mut y, stride: y_len / y_stored.per_word(), stored: y_stored };
        let epilogue = Epilogue { bias: Some(&bias), addend: Some(addend), activation: after, ..Epilogue::default() };
        conv.forward(threads, batch, x, &weights, &epilogue, maps, &mut scratch);
        y
    };
    let (f32, bf16) = (Precision::F32, Precision::Bf16);
    let read = if plain { f32 } else { bf16 };
    for after in [Activation::Relu, Activation::RELU6, Activation::Sigmoid, Activation::Gelu] {
        let want = run([f32; 3], after);
        for ways in [[read, bf16, bf16], [read, bf16, f32], [f32, f32, bf16], [read, f32, bf16], [f32, bf16, f32]] {
            let want = bits(&stored(&want, ways[2]));
            assert_eq!(bits(&run(ways, after)), want, "{} {choice:?} {ways:?} {after:?} {problem:?}", isa.name());
        }
    }
}

/// Each side of a product is rounded by at most 2⁻⁸ of itself, at random, so a sum's error is about as much of its root mean
/// square.
#[test]
fn bf16_rounds_products_alone() {
    let problem = problem(2, [64, 48], 1, [14, 14], Window::square(3).padding(1));
    let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<f64>>();
    let (x, dy) = (wide(noise(problem.input_len(), 1)), wide(noise(problem.output_len(), 2)));
    let weight = wide(noise(problem.weight_len(), 3));
    let want = [
        reference::forward(&problem, &x, &weight, None),
        reference::backward_data(&problem, &weight, &dy),
        reference::backward_weights(&problem, &x, &dy),
    ];
    for [root, largest] in
        errors_of(&problem, Setting { precision: Precision::Bf16, ..setting(2, Choice::Direct) }, &want)
    {
        assert!((1e-4..3e-3).contains(&root) && largest < 3e-3, "{root:.1e} {largest:.1e}");
    }
}

#[test]
fn the_algorithm_follows_from_geometry_and_batch() {
    let takes = |batch: usize, channels: [usize; 2], side: usize, window: Window, choice: Choice| {
        let [in_channels, out_channels] = channels;
        let shape = ConvShape { in_channels, out_channels, groups: 1, input: [side; 2], window };
        Conv::new(shape, false, Isa::best(), setting(batch, choice)).unwrap().takes_winograd()
    };
    let same = Window::square(3).padding(1);
    assert_eq!(takes(16, [64, 64], 56, same, Choice::Auto), [true; 3]);
    assert_eq!(takes(16, [64, 64], 56, same, Choice::Direct), [false; 3]);
    // A transformed weight, or its gradient, must serve some tiles.
    assert_eq!(takes(1, [512, 512], 14, same, Choice::Auto), [true, true, false]);
    assert_eq!(takes(1, [512, 512], 4, same, Choice::Auto), [false; 3]);
    for other in [Window::square(5).padding(2), same.stride(2), Window { dilation: [2, 1], ..same }] {
        assert_eq!(takes(16, [64, 64], 56, other, Choice::Winograd), [false; 3]);
    }
}

/// Root of the mean square error, relative to that of what is wanted, and the largest error relative to the largest.
fn errors(got: &[f32], want: &[f64]) -> [f64; 2] {
    let square = |sum: f64, x: f64| sum + x * x;
    let differences = || got.iter().zip(want).map(|(&g, w)| f64::from(g) - w);
    let largest = |x: f64, y: f64| x.max(y.abs());
    let root = (differences().fold(0.0, square) / want.iter().copied().fold(0.0, square)).sqrt();
    [root, differences().fold(0.0, largest) / want.iter().copied().fold(0.0, largest)]
}

/// Errors of forward, by data and by weights.
fn errors_of(problem: &ConvProblem, setting: Setting, want: &[Vec<f64>; 3]) -> [[f64; 2]; 3] {
    let threads = Threads::new(2).unwrap();
    let &ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
    let shape = ConvShape { in_channels, out_channels, groups, input, window };
    let conv = Conv::new(shape, false, Isa::best(), setting).unwrap();
    let [h, w] = conv.output();
    let (inputs, outputs) = ([batch, in_channels, input[0] * input[1]], [batch, out_channels, h * w]);
    let mut packed = vec![0.0; conv.weights_len()];
    conv.pack_weights(&threads, &noise(problem.weight_len(), 3), &mut packed);
    let (x_len, y_len) = (conv.input_len(), conv.output_len());
    let (mut x, mut y) = (vec![0.0; batch * x_len], vec![0.0; batch * y_len]);
    to_blocked(&threads, inputs, &noise(problem.input_len(), 1), MapsMut::packed(&mut x, x_len));
    let mut scratch = vec![0.0; conv.forward_scratch(batch, 2)];
    let (maps, none) = (Maps::packed(&x, x_len), Epilogue::default());
    conv.forward(&threads, batch, maps, &packed, &none, MapsMut::packed(&mut y, y_len), &mut scratch);
    let mut plain = vec![0.0; problem.output_len()];
    from_blocked(&threads, outputs, Maps::packed(&y, y_len), &mut plain);
    let forward = errors(&plain, &want[0]);

    to_blocked(&threads, outputs, &noise(problem.output_len(), 2), MapsMut::packed(&mut y, y_len));
    let (dy, mut dx) = (Maps::packed(&y, y_len), vec![0.0; x.len()]);
    let mut scratch = vec![0.0; conv.backward_data_scratch(batch, 2)];
    conv.backward_data(&threads, batch, dy, &packed, MapsMut::packed(&mut dx, x_len), false, &mut scratch);
    let mut plain = vec![0.0; problem.input_len()];
    from_blocked(&threads, inputs, Maps::packed(&dx, x_len), &mut plain);
    let data = errors(&plain, &want[1]);

    let mut scratch = vec![0.0; conv.backward_weights_scratch(batch, 2)];
    conv.backward_weights(&threads, batch, maps, dy, &mut packed, &mut scratch);
    let mut plain = vec![0.0; problem.weight_len()];
    conv.unpack_weights(&packed, &mut plain);
    [forward, data, errors(&plain, &want[2])]
}

/// Winograd's error over geometries of the zoo, beside the direct method's: the bound that `winograd/mod.rs` states.
#[test]
#[ignore = "slow: the reference in f64 over large layers"]
fn winograd_keeps_its_error_bound() {
    let same = Window::square(3).padding(1);
    let valid = Window::square(3);
    for (batch, channels, input, window) in [
        (1, [64, 64], [56, 56], same),
        (1, [128, 128], [28, 28], same),
        (2, [256, 256], [14, 14], same),
        (2, [512, 512], [7, 7], same),
        (16, [32, 64], [14, 14], same),
        (1, [64, 64], [24, 224], same),
        (3, [40, 70], [13, 9], valid),
    ] {
        let problem = problem(batch, channels, 1, input, window);
        let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect::<Vec<f64>>();
        let (x, dy) = (wide(noise(problem.input_len(), 1)), wide(noise(problem.output_len(), 2)));
        let weight = wide(noise(problem.weight_len(), 3));
        let want = [
            reference::forward(&problem, &x, &weight, None),
            reference::backward_data(&problem, &weight, &dy),
            reference::backward_weights(&problem, &x, &dy),
        ];
        let [direct, winograd] =
            [Choice::Direct, Choice::Winograd].map(|choice| errors_of(&problem, setting(batch, choice), &want));
        let [forward, data] = channels.map(|read| 1.5e-7 * (read as f64).sqrt());
        let directions = [("forward", forward), ("by data", data), ("by weights", 1e-6)];
        for (i, (direction, bound)) in directions.into_iter().enumerate() {
            let [root, largest] = winograd[i];
            let what = format!("{direction} {problem:?}: {root:.1e}, direct {:.1e}", direct[i][0]);
            assert!(root <= bound && root <= 3.0 * direct[i][0] && largest <= 5e-6, "{what}");
        }
    }
}
