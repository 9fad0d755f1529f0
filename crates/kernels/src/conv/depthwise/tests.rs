//! Depthwise geometries that go wrong, in every direction and on every instruction set.

use super::super::tests::{check, check_storing, coarse, noise, problem, run_with_threads, setting, window};
use super::super::{Choice, Conv, ConvShape, Epilogue};
use crate::activation::Activation;
use crate::geometry::{Padding, Window};
use crate::layout::{Maps, MapsMut};
use crate::precision::Precision;
use crate::reference::activation;
use crate::reference::conv2d::ConvProblem;
use crate::simd::{Isa, LANES};
use crate::threads::Threads;

fn depthwise(batch: usize, channels: usize, input: [usize; 2], window: Window) -> ConvProblem {
    problem(batch, [channels; 2], channels, input, window)
}

fn same(kernel: usize) -> Window {
    Window::square(kernel).padding(kernel / 2)
}

fn problems() -> Vec<ConvProblem> {
    let mut problems = vec![
        // As networks have them, and every width of a row up to more than two tiles.
        depthwise(1, 16, [31, 31], same(3).stride(2)),
        depthwise(3, 40, [15, 29], same(5).stride(2)),
        depthwise(1, 17, [7, 7], same(7)),
        depthwise(3, 5, [14, 44], same(7)),
        depthwise(1, 32, [56, 57], same(3)),
        // Padding, strides and dilations that differ, kernels larger than the picture, pixels that nothing reads.
        depthwise(2, 17, [9, 12], window([3, 5], [1, 1], [1, 2], [1, 2], [1, 1])),
        depthwise(1, 20, [9, 12], window([5, 3], [2, 1], [2, 0], [1, 3], [1, 2])),
        depthwise(3, 5, [13, 10], window([3, 3], [3, 2], [0, 2], [2, 0], [2, 1])),
        depthwise(1, 40, [11, 13], window([2, 2], [3, 3], [0, 0], [0, 0], [1, 1])),
        depthwise(1, 16, [10, 9], window([1, 1], [2, 3], [0, 0], [0, 0], [1, 1])),
        depthwise(2, 16, [3, 2], same(7)),
        depthwise(1, 18, [1, 1], same(5)),
        depthwise(1, 16, [6, 5], window([3, 3], [1, 1], [4, 5], [3, 6], [1, 1])),
        depthwise(2, 33, [12, 14], window([11, 9], [1, 2], [5, 4], [5, 4], [1, 1])),
        depthwise(1, 16, [12, 40], window([4, 6], [2, 2], [1, 2], [1, 2], [2, 3])),
        depthwise(1, 24, [8, 9], Window { padding: Padding::Same, ..Window::square(3).stride(2) }),
        // Strips, and shares of rows by weights.
        depthwise(2, 16, [60, 62], same(5)),
        depthwise(1, 1, [5, 6], same(3)),
    ];
    problems.extend((1..=30).map(|width| depthwise(1, 3, [4, width], same(3))));
    problems.extend([2, 3].map(|channels| depthwise(3, channels, [5, 8], Window::square(2))));
    problems
}

#[test]
fn agrees_with_the_reference_on_every_set() {
    let threads = Threads::new(2).unwrap();
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        for (i, problem) in problems().into_iter().enumerate() {
            // All of them, over the problems.
            let some: Vec<Activation> = activation::all().into_iter().skip(i % 5).step_by(5).collect();
            check(isa, &threads, &problem, setting(problem.batch, Choice::Auto), &some);
        }
    }
}

#[test]
fn storing_in_bf16_rounds_results_and_nothing_else() {
    let threads = Threads::new(2).unwrap();
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        for problem in problems() {
            check_storing(isa, &threads, &problem, Choice::Auto);
        }
    }
}

#[test]
fn does_not_depend_on_the_number_of_threads() {
    for problem in problems() {
        let ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
        let shape = ConvShape { in_channels, out_channels, groups, input, window };
        let conv = Conv::new(shape, false, Isa::best(), setting(batch, Choice::Auto)).unwrap();
        let one = run_with_threads(&conv, batch, 1);
        for count in [2, 3] {
            assert_eq!(one, run_with_threads(&conv, batch, count), "{shape:?} {count} threads");
        }
    }
}

/// Pictures with other channels between them, and gradients that are added, give what packed ones do.
#[test]
fn takes_pictures_that_lie_apart() {
    const GAP: usize = 2 * LANES;
    let threads = Threads::new(2).unwrap();
    for problem in problems() {
        let ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
        let shape = ConvShape { in_channels, out_channels, groups, input, window };
        let mut conv = Conv::new(shape, false, Isa::best(), setting(batch, Choice::Auto)).unwrap();
        let (x_len, y_len) = (conv.input_len(), conv.output_len());
        conv.set_gradient_stride(y_len + GAP);
        let (x, dy) = (noise(batch * (x_len + GAP), 1), noise(batch * (y_len + GAP), 2));
        let weights = noise(conv.weights_len(), 3);
        let together = |apart: &[f32], len: usize| -> Vec<f32> {
            apart.chunks_exact(len + GAP).flat_map(|picture| &picture[..len]).copied().collect()
        };
        let run = |[x, dy]: [&[f32]; 2], gap: usize, accumulate: bool| {
            let (x_stride, y_stride) = (x_len + gap, y_len + gap);
            let (x, dy) = (Maps::packed(x, x_stride), Maps::packed(dy, y_stride));
            let (mut y, mut dx) = (vec![7.0; batch * y_stride], vec![0.5; batch * x_stride]);
            let mut dw = vec![f32::NAN; conv.weights_len()];
            let (none, mut scratch) = (Epilogue::default(), vec![f32::NAN; conv.forward_scratch(batch, 2)]);
            conv.forward(&threads, batch, x, &weights, &none, MapsMut::packed(&mut y, y_stride), &mut scratch);
            let dx_maps = MapsMut::packed(&mut dx, x_stride);
            let mut scratch = vec![f32::NAN; conv.backward_data_scratch(batch, 2)];
            conv.backward_data(&threads, batch, dy, &weights, dx_maps, accumulate, &mut scratch);
            let mut scratch = vec![f32::NAN; conv.backward_weights_scratch(batch, 2)];
            conv.backward_weights(&threads, batch, x, dy, &mut dw, &mut scratch);
            (y, dx, dw)
        };
        let packed = [together(&x, x_len), together(&dy, y_len)];
        let (y, dx, dw) = run([&packed[0], &packed[1]], 0, false);
        let (apart_y, apart_dx, apart_dw) = run([&x, &dy], GAP, true);
        assert_eq!((together(&apart_y, y_len), &apart_dw), (y, &dw), "{shape:?}");
        for (got, want) in together(&apart_dx, x_len).iter().zip(&dx) {
            assert!((got - want - 0.5).abs() <= 2e-6 * want.abs().max(1.0), "{shape:?}: {got}, {want}");
        }
        // Nothing between pictures is touched.
        assert!(apart_y.chunks_exact(y_len + GAP).all(|picture| picture[y_len..].iter().all(|&y| y == 7.0)));
        assert!(apart_dx.chunks_exact(x_len + GAP).all(|picture| picture[x_len..].iter().all(|&x| x == 0.5)));
    }
}

/// Products are in `f32` whatever the net's precision is.
#[test]
fn products_are_never_rounded() {
    let threads = Threads::new(1).unwrap();
    let shape = ConvShape { in_channels: 20, out_channels: 20, groups: 20, input: [9, 9], window: same(3) };
    let [f32, bf16] = [Precision::F32, Precision::Bf16].map(|precision| {
        let setting = super::super::Setting { precision, ..setting(1, Choice::Auto) };
        let conv = Conv::new(shape, false, Isa::best(), setting).unwrap();
        let (x, weights) = (coarse(noise(conv.input_len(), 1)), noise(conv.weights_len(), 2));
        let mut y = vec![0.0; conv.output_len()];
        let (maps, out) = (Maps::packed(&x, x.len()), MapsMut::packed(&mut y, conv.output_len()));
        conv.forward(&threads, 1, maps, &weights, &Epilogue::default(), out, &mut []);
        y
    });
    assert_eq!(f32, bf16);
}
