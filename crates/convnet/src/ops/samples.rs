//! One or more of each operation, with inputs that it takes: what tests of all operations go through.

use super::{
    AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, ChannelShuffle, Conv2d, Dropout, InitRule, LayerNorm2d, LayerScale,
    Linear, LocalResponseNorm, MaxPool2d, Op, PadChannels, Shape, Slice, StochasticDepth, activation,
};
use crate::geometry::{Padding, Window};

/// An operation and the shapes of inputs that it takes.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Shape>,
}

impl Op {
    /// One or more of each operation, the input first, with settings that are neither defaults nor alike.
    pub(crate) fn samples() -> Vec<Sample> {
        let mut samples = of_map([Op::Input(MAP)]);
        samples[0].inputs.clear();
        while let Some(last) = samples.last() {
            let next = following(&last.op);
            if next.is_empty() {
                break;
            }
            samples.extend(next);
        }
        samples
    }
}

/// Maps whose channels fill no block of a kernel, and whose sides differ.
const MAP: Shape = Shape::Map([6, 5, 7]);
const VECTOR: Shape = Shape::Vector(6);

/// Samples of the operation that follows in the list, none after the last. A new operation does not compile until it has its
/// place here: between two others, or as the new last one.
fn following(op: &Op) -> Vec<Sample> {
    match op {
        Op::Input(_) => of_map(convolutions().map(Op::Conv2d)),
        Op::Conv2d(_) => linear(),
        Op::Linear(_) => of_map([Op::BatchNorm2d(BatchNorm2d { eps: 1e-3, momentum: 0.017 })]),
        Op::BatchNorm2d(_) => of_both(Op::LayerNorm2d(LayerNorm2d { eps: 1e-3 })),
        Op::LayerNorm2d(_) => {
            let norms = [LocalResponseNorm { size: 3, alpha: 0.5, beta: 0.5, k: 2.0 }, LocalResponseNorm::new(5)];
            of_map(norms.map(Op::LocalResponseNorm))
        }
        Op::LocalResponseNorm(_) => activation::samples().into_iter().map(Op::Activation).flat_map(of_both).collect(),
        Op::Activation(_) => of_both(Op::Softmax),
        Op::Softmax => of_map([Op::LayerScale(LayerScale { init: 0.5 })]),
        Op::LayerScale(_) => of_map(max_pools().map(Op::MaxPool2d)),
        Op::MaxPool2d(_) => of_map(avg_pools().map(Op::AvgPool2d)),
        Op::AvgPool2d(_) => {
            of_map([[1, 1], [3, 2], [8, 5]].map(|output| Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output })))
        }
        Op::AdaptiveAvgPool2d(_) => vec![of(Op::Add, &[MAP; 2]), of(Op::Add, &[VECTOR; 3])],
        Op::Add => vec![of(Op::Mul, &[MAP, Shape::Map([6, 1, 1])])],
        Op::Mul => {
            let vectors = [VECTOR, Shape::Vector(1), VECTOR];
            vec![of(Op::Concat, &[MAP, Shape::Map([2, 5, 7])]), of(Op::Concat, &vectors)]
        }
        Op::Concat => of_map([Op::PadChannels(PadChannels { before: 1, after: 2 })]),
        Op::PadChannels(_) => {
            let slices = [Slice { start: 0, end: 3 }, Slice { start: 3, end: 5 }, Slice { start: 0, end: 6 }];
            slices.map(Op::Slice).into_iter().flat_map(of_both).collect()
        }
        Op::Slice(_) => of_map([2, 3, 6, 1].map(|groups| Op::ChannelShuffle(ChannelShuffle { groups }))),
        Op::ChannelShuffle(_) => of_both(Op::Dropout(Dropout { p: 0.25 })),
        Op::Dropout(_) => of_map([Op::Dropout2d(Dropout { p: 0.25 })]),
        Op::Dropout2d(_) => of_both(Op::StochasticDepth(StochasticDepth { p: 0.5 })),
        Op::StochasticDepth(_) => of_both(Op::Flatten),
        Op::Flatten => Vec::new(),
    }
}

fn of(op: Op, inputs: &[Shape]) -> Sample {
    Sample { op, inputs: inputs.to_vec() }
}

fn of_map(ops: impl IntoIterator<Item = Op>) -> Vec<Sample> {
    ops.into_iter().map(|op| of(op, &[MAP])).collect()
}

fn of_both(op: Op) -> Vec<Sample> {
    vec![of(op.clone(), &[VECTOR]), of(op, &[MAP])]
}

/// Not square, grouped, depthwise, a single pixel.
fn convolutions() -> [Conv2d; 4] {
    let asymmetric = Padding::Explicit { begin: [1, 0], end: [0, 2] };
    let window = Window { kernel: [3, 2], stride: [1, 2], padding: asymmetric, dilation: [2, 1], ceil_mode: false };
    [
        Conv2d { groups: 2, bias: false, init: InitRule::KAIMING, ..Conv2d::new(8, window) },
        Conv2d::new(3, Window { padding: Padding::Same, ..Window::square(3) }),
        Conv2d { groups: 6, bias: false, ..Conv2d::new(6, Window::square(3).stride(2).padding(1)) },
        Conv2d { init: InitRule::PYTORCH, ..Conv2d::new(5, Window::square(1)) },
    ]
}

fn linear() -> Vec<Sample> {
    let init = [InitRule::Normal(0.01), InitRule::Constant(1.0)];
    let layers = [
        (Linear { init: InitRule::PYTORCH, ..Linear::new(7) }, VECTOR),
        (Linear { bias: false, init, ..Linear::new(7) }, VECTOR),
        (Linear { per_pixel: true, ..Linear::new(7) }, MAP),
    ];
    layers.map(|(layer, input)| of(Op::Linear(layer), &[input])).into()
}

fn pooling() -> Window {
    Window { kernel: [3, 2], stride: [2, 2], padding: Padding::per_axis([1, 0]), ..Window::square(3) }
}

fn max_pools() -> [MaxPool2d; 2] {
    let rounded_up = Window { ceil_mode: true, dilation: [1, 2], ..pooling() };
    [rounded_up, Window::square(2).stride(2)].map(|window| MaxPool2d { window })
}

fn avg_pools() -> [AvgPool2d; 3] {
    [
        AvgPool2d { window: Window { padding: Padding::Same, ..pooling() }, count_include_pad: false },
        AvgPool2d { window: pooling(), count_include_pad: true },
        AvgPool2d { window: Window::square(2).stride(2), count_include_pad: true },
    ]
}

#[test]
fn samples_take_their_inputs() {
    for Sample { op, inputs } in Op::samples() {
        let output = op.output(&inputs);
        assert!(output.is_ok(), "{op:?} on {inputs:?}: {output:?}");
    }
}
