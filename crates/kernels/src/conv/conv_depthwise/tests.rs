//! What the two give together is what they give one after the other, to the bit.

use super::super::tests::{noise, setting, window};
use super::super::{Choice, ConvShape, Epilogue};
use super::*;
use crate::activation::Activation;
use crate::geometry::Window;
use crate::simd::Isa;

const GAP: usize = 2 * LANES;

fn planned(isa: Isa, batch: usize, channels: [usize; 2], input: [usize; 2], second: Window) -> [Conv; 2] {
    let conv = |in_channels: usize, out_channels: usize, groups: usize, window: Window| {
        let shape = ConvShape { in_channels, out_channels, groups, input, window };
        Conv::new(shape, false, isa, setting(batch, Choice::Auto)).unwrap()
    };
    let [from, to] = channels;
    [conv(from, to, 1, Window::square(1)), conv(to, to, to, second)]
}

#[test]
fn gives_the_bits_of_one_after_the_other() {
    let same = |kernel: usize| Window::square(kernel).padding(kernel / 2);
    let cases = [
        (1, [16, 96], [112, 112], same(3).stride(2)),
        (2, [24, 144], [29, 31], same(3)),
        (3, [200, 80], [14, 14], same(5)),
        (1, [5, 17], [7, 9], same(7)),
        (2, [40, 240], [28, 28], same(5).stride(2)),
        (1, [16, 33], [12, 14], window([3, 5], [1, 2], [0, 2], [2, 1], [2, 1])),
        (1, [16, 16], [3, 2], same(7)),
        (1, [16, 40], [6, 5], window([3, 3], [1, 1], [4, 5], [3, 6], [1, 1])),
    ];
    let activations = [Activation::Silu, Activation::Clip { low: 0.0, high: 6.0 }, Activation::Sigmoid];
    for isa in Isa::NAMES.into_iter().filter_map(Isa::named) {
        for (i, (batch, channels, input, second)) in cases.into_iter().enumerate() {
            let [first, second] = planned(isa, batch, channels, input, second);
            let [x_len, middle_len, y_len] = [first.input_len(), first.output_len(), second.output_len()];
            let x = noise(batch * (x_len + GAP), 1);
            let weights = [noise(first.weights_len(), 2), noise(second.weights_len(), 3)];
            let biases = [noise(channels[1].next_multiple_of(LANES), 4), noise(channels[1].next_multiple_of(LANES), 5)];
            let activations = [activations[i % 3], activations[(i + 1) % 3]];
            let layer = |i: usize| {
                let bias = (i == 0 || batch > 1).then_some(&biases[i][..]);
                Layer { weights: &weights[i], bias, activation: activations[i] }
            };
            let x = Maps::packed(&x, x_len + GAP);

            let threads = Threads::new(2).unwrap();
            let alone = |conv: &Conv, x: Maps<'_>, Layer { weights, bias, activation }: Layer<'_>, len: usize| {
                let epilogue = Epilogue { bias, activation, ..Epilogue::default() };
                let mut y = vec![f32::NAN; batch * len];
                let mut scratch = vec![f32::NAN; conv.forward_scratch(batch, 2)];
                conv.forward(&threads, batch, x, weights, &epilogue, MapsMut::packed(&mut y, len), &mut scratch);
                y
            };
            let middle = alone(&first, x, layer(0), middle_len);
            let want = alone(&second, Maps::packed(&middle, middle_len), layer(1), y_len);

            let together = ConvDepthwise::new(&first, &second).unwrap();
            for count in [1, 2, 5] {
                let threads = Threads::new(count).unwrap();
                let mut y = vec![f32::NAN; batch * (y_len + GAP)];
                let mut scratch = vec![f32::NAN; together.forward_scratch(count)];
                let maps = MapsMut::packed(&mut y, y_len + GAP);
                together.forward(&threads, batch, x, [layer(0), layer(1)], maps, &mut scratch);
                let got: Vec<f32> = y.chunks(y_len + GAP).flat_map(|picture| &picture[..y_len]).copied().collect();
                let same = got.iter().zip(&want).all(|(got, want)| got.to_bits() == want.to_bits());
                assert!(same, "{channels:?} {input:?} on {} with {count} threads", isa.name());
            }
        }
    }
}

#[test]
fn takes_only_what_it_computes() {
    let isa = Isa::best();
    let [first, second] = planned(isa, 1, [16, 32], [8, 8], Window::square(3).padding(1));
    assert!(ConvDepthwise::new(&first, &second).is_some());
    assert!(ConvDepthwise::new(&second, &second).is_none() && ConvDepthwise::new(&first, &first).is_none());
    let [_, other] = planned(isa, 1, [16, 32], [9, 8], Window::square(3).padding(1));
    assert!(ConvDepthwise::new(&first, &other).is_none());
    let [_, other] = planned(isa, 1, [16, 48], [8, 8], Window::square(3).padding(1));
    assert!(ConvDepthwise::new(&first, &other).is_none());
}
