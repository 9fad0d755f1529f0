//! Every direction on every instruction set against the reference in f64, over the geometries that go wrong.

use super::{Choice, Conv, ConvShape, Epilogue, PLAIN_CHANNELS, Setting};
use crate::geometry::{Padding, Window};
use crate::layout::{Maps, MapsMut, blocks, from_blocked, to_blocked};
use crate::reference::conv2d::{self as reference, ConvProblem};
use crate::simd::{Isa, LANES};
use crate::threads::Threads;

/// Deterministic numbers in -1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
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

fn window(kernel: [usize; 2], stride: [usize; 2], begin: [usize; 2], end: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding: Padding::Explicit { begin, end }, dilation, ceil_mode: false }
}

fn problem(batch: usize, channels: [usize; 2], groups: usize, input: [usize; 2], window: Window) -> ConvProblem {
    ConvProblem { batch, in_channels: channels[0], out_channels: channels[1], groups, input, window }
}

fn problems() -> Vec<ConvProblem> {
    let same = |k: usize| window([k, k], [1, 1], [k / 2, k / 2], [k / 2, k / 2], [1, 1]);
    vec![
        problem(3, [1, 32], 1, [28, 28], same(3)),
        problem(2, [32, 64], 1, [14, 14], same(3)),
        problem(2, [3, 20], 1, [13, 17], window([5, 3], [2, 1], [2, 1], [1, 0], [1, 1])),
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
        problem(1, [16, 16], 1, [1, 1], same(3)),
    ]
}

fn check(isa: Isa, threads: &Threads, problem: &ConvProblem, choice: Choice) {
    let &ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
    let what = format!("{} {choice:?} {problem:?}", isa.name());
    let shape = ConvShape { in_channels, out_channels, groups, input, window };
    let plain = in_channels <= PLAIN_CHANNELS && groups == 1;
    let setting = Setting { batch, choice };
    let conv = Conv::new(shape, plain, isa, setting).unwrap();
    let [h, w] = conv.output();
    let (x, dy) = (noise(problem.input_len(), 1), noise(problem.output_len(), 2));
    let (weight, bias) = (noise(problem.weight_len(), 3), noise(out_channels, 4));
    let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();

    let mut packed = vec![f32::NAN; conv.weights_len()];
    conv.pack_weights(&weight, &mut packed);
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
    let epilogue =
        Epilogue { bias: Some(&bias_engine), addend: Some(Maps::packed(&addend, conv.output_len())), relu: true };
    conv.forward(threads, batch, x_maps, &packed, &epilogue, MapsMut::packed(&mut y, conv.output_len()), &mut scratch);
    assert!(y.iter().zip(&addend).all(|(y, a)| *y == (a + a).max(0.0)), "epilogue {what}");

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
    conv.pack_weights(&got, &mut zeroed);
    assert_eq!(dw, zeroed, "padding of the gradient {what}");
}

#[test]
fn agrees_with_the_reference_on_every_set() {
    let threads = Threads::new(2).unwrap();
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        for problem in problems() {
            for choice in [Choice::Direct, Choice::Winograd] {
                check(isa, &threads, &problem, choice);
            }
        }
    }
}

#[test]
fn does_not_depend_on_the_number_of_threads() {
    let (conv_shape, batch) = (problem(7, [32, 64], 1, [14, 14], Window::square(3).padding(1)), 7);
    let ConvProblem { in_channels, out_channels, groups, input, window, .. } = conv_shape;
    let shape = ConvShape { in_channels, out_channels, groups, input, window };
    let setting = Setting { batch, choice: Choice::Winograd };
    let conv = Conv::new(shape, false, Isa::best(), setting).unwrap();
    let (x, dy) = (noise(batch * conv.input_len(), 1), noise(batch * conv.output_len(), 2));
    let weights = noise(conv.weights_len(), 3);
    let run = |count: usize| {
        let threads = Threads::new(count).unwrap();
        let mut results =
            [vec![0.0; batch * conv.output_len()], vec![0.0; batch * conv.input_len()], vec![0.0; conv.weights_len()]];
        let [y, dx, dw] = &mut results;
        let mut scratch = vec![0.0; conv.forward_scratch(batch, count)];
        let (x, dy) = (Maps::packed(&x, conv.input_len()), Maps::packed(&dy, conv.output_len()));
        let y = MapsMut::packed(y, conv.output_len());
        conv.forward(&threads, batch, x, &weights, &Epilogue::default(), y, &mut scratch);
        let mut scratch = vec![0.0; conv.backward_data_scratch(batch, count)];
        let dx = MapsMut::packed(dx, conv.input_len());
        conv.backward_data(&threads, batch, dy, &weights, dx, false, &mut scratch);
        let mut scratch = vec![0.0; conv.backward_weights_scratch(batch, count)];
        conv.backward_weights(&threads, batch, x, dy, dw, &mut scratch);
        results
    };
    let one = run(1);
    for count in [2, 3, 8] {
        assert_eq!(one, run(count), "{count} threads");
    }
}
