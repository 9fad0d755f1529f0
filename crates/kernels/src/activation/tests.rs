//! Values and gradients against the reference in f64, on every instruction set, and what lies past the last channel.

use super::*;
use crate::layout::{from_blocked, padding, to_blocked};
use crate::reference::activation::{self as reference, all};
use crate::reference::gradcheck::pattern;

/// Numbers of every size and sign, subnormal ones included, and those that are special.
fn everywhere() -> Vec<f32> {
    // A prime, so that all bits vary.
    let mut numbers: Vec<f32> = (0..=u32::MAX).step_by(8_191).map(f32::from_bits).filter(|x| !x.is_nan()).collect();
    // Where functions bend.
    numbers.extend((-400_000..400_000).map(|i| i as f32 / 20_000.0));
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE];
    numbers.extend(special);
    numbers.resize(numbers.len().next_multiple_of(LANES), 1e-45);
    numbers
}

fn sets() -> impl Iterator<Item = Isa> {
    Isa::NAMES.into_iter().filter_map(Isa::named)
}

/// The distance to the next float beyond a number's size.
fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).min(f32::MAX);
    f64::from(f32::from_bits(x.to_bits() + 1).min(f32::MAX))
        - f64::from(f32::from_bits(x.to_bits().max(1) - 1)).min(x.into())
}

/// Whether a product is added before it is rounded: sets where it is give the same bits.
fn fuses(isa: Isa) -> bool {
    isa.name() != Isa::PORTABLE.name()
}

/// Has the same bits as what the sets that fuse gave before, if one has.
fn check_bits(fused: &mut Option<Vec<u32>>, isa: Isa, values: &[f32], activation: Activation) {
    if fuses(isa) {
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        assert!(*fused.get_or_insert_with(|| bits.clone()) == bits, "{activation:?} on {}", isa.name());
    }
}

#[test]
fn values_are_near_those_of_f64_everywhere() {
    let (threads, x) = (Threads::new(2).unwrap(), everywhere());
    for activation in all() {
        let want: Vec<f64> = x.iter().map(|&x| reference::value(activation, f64::from(x))).collect();
        // A hard sigmoid's sum may be much smaller than its offset, in which it is rounded.
        let least = if matches!(activation, Activation::HardSigmoid { .. }) { 2.0f64.powi(-25) } else { 0.0 };
        let mut fused = None;
        for isa in sets() {
            let mut y = x.clone();
            let shape = [1, LANES, x.len() / LANES];
            forward(isa, &threads, shape, activation, MapsMut::packed(&mut y, x.len()));
            check_bits(&mut fused, isa, &y, activation);
            let mut worst = (0.0, 0.0);
            for ((&x, &y), &want) in x.iter().zip(&y).zip(&want) {
                if y == want as f32 {
                    continue;
                }
                let error = (f64::from(y) - want).abs() / ulp(want).max(least);
                assert!(
                    error <= 4.0,
                    "{activation:?} of {x:e}: {y:e}, want {want:e}, {error:.2} units in the last place"
                );
                worst = if error > worst.0 { (error, x) } else { worst };
            }
            let (error, x) = worst;
            println!("{activation:?} on {}: at most {error:.2} units in the last place, at {x:e}", isa.name());
        }
    }
}

#[test]
fn gradients_are_near_those_of_f64_everywhere() {
    let (threads, x) = (Threads::new(2).unwrap(), everywhere());
    let shape = [1, LANES, x.len() / LANES];
    for activation in all() {
        let mut fused = None;
        for isa in sets() {
            let (mut y, mut dy) = (x.clone(), vec![2.0; x.len()]);
            forward(isa, &threads, shape, activation, MapsMut::packed(&mut y, x.len()));
            let from = match activation.gradient_from() {
                GradientFrom::Output => &y,
                GradientFrom::Input | GradientFrom::Nothing => &x,
            };
            let from = Maps::packed(from, x.len());
            backward(isa, &threads, shape, activation, from, MapsMut::packed(&mut dy, x.len()));
            for (&x, &dy) in x.iter().zip(&dy) {
                // Beside a kink either side's slope will do.
                let close = |x: f64| {
                    let want = 2.0 * reference::slope(activation, x);
                    (f64::from(dy) - want).abs() <= 2e-6 * want.abs() + 5e-7
                };
                let x = f64::from(x);
                let near = [x, x * (1.0 - 1e-6), x * (1.0 + 1e-6)].into_iter().any(close);
                assert!(near, "{activation:?} at {x:e}: {dy}, want {}", 2.0 * reference::slope(activation, x));
            }
            check_bits(&mut fused, isa, &dy, activation);
        }
    }
}

/// The gradient from the input, which norm chains ask for, is the one from the output.
#[test]
fn gradients_from_the_input_are_those_from_the_output() {
    struct At<'a>(Activation, &'a [f32]);
    impl Kernel for At<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            self.0.with(AtWith(s, self.1));
        }
    }
    struct AtWith<'a, S>(S, &'a [f32]);
    impl<S: Simd> WithFunction for AtWith<'_, S> {
        type Output = ();
        #[inline(always)]
        fn run<F: Function>(self, function: F) {
            let AtWith(s, x) = self;
            for x in x.chunks_exact(LANES) {
                let (x, dy) = (s.read(x), s.splat(0.75));
                let from = if F::FROM == GradientFrom::Input { x } else { function.value(s, x) };
                let [at, from] = [function.gradient_at(s, x, dy), function.gradient(s, from, dy)].map(|v| s.lanes(v));
                assert_eq!(at, from, "{x:?}");
            }
        }
    }
    let x = everywhere();
    sets().for_each(|isa| all().into_iter().for_each(|activation| isa.run(At(activation, &x))));
}

#[test]
fn nan_stays_nan() {
    let threads = Threads::new(1).unwrap();
    for (isa, activation) in sets().flat_map(|isa| all().into_iter().map(move |activation| (isa, activation))) {
        let mut y = [f32::NAN, -f32::NAN, 1.0, f32::NAN].repeat(4);
        forward(isa, &threads, [1, LANES, 1], activation, MapsMut::packed(&mut y, LANES));
        for (i, y) in y.into_iter().enumerate() {
            assert_eq!(y.is_nan(), i % 4 != 2, "{activation:?} on {}", isa.name());
        }
    }
}

#[test]
fn lanes_past_the_last_channel_stay_0() {
    let threads = Threads::new(2).unwrap();
    // A picture of more than a piece; rows of features; and whole blocks.
    let shapes = [[2, 20, 1_100], [3, 5, 7], [1, 33, 6], [4, 70, 1], [2, 32, 9]];
    for (shape, activation) in
        shapes.into_iter().flat_map(|shape| all().into_iter().map(move |activation| (shape, activation)))
    {
        let [batch, channels, pixels] = shape;
        let x: Vec<f32> = pattern(1, batch * channels * pixels).iter().map(|&x| 4.0 * x as f32).collect();
        let len = blocks(channels) * pixels * LANES;
        for isa in sets() {
            // Pictures have a block between them, which is not touched.
            let mut apart = vec![0.5; batch * (len + LANES)];
            to_blocked(&threads, shape, &x, MapsMut::packed(&mut apart, len + LANES));
            forward(isa, &threads, shape, activation, MapsMut::packed(&mut apart, len + LANES));
            assert!(apart.chunks_exact(len + LANES).all(|picture| picture[len..] == [0.5; LANES]));
            let y: Vec<f32> = apart.chunks_exact(len + LANES).flat_map(|picture| picture[..len].to_vec()).collect();
            assert!(padding(&y, channels, pixels).all(|y| y == 0.0), "{activation:?} {shape:?} on {}", isa.name());
            let mut plain = vec![f32::NAN; x.len()];
            from_blocked(&threads, shape, Maps::packed(&y, len), &mut plain);
            for (&x, &y) in x.iter().zip(&plain) {
                let want = reference::value(activation, f64::from(x));
                assert!((f64::from(y) - want).abs() <= 1e-6 * want.abs() + 1e-7, "{activation:?} of {x}: {y}");
            }
        }
    }
}

#[test]
fn what_moves_zero_and_what_the_register_tile_applies_agree_with_the_reference() {
    for activation in all() {
        assert_eq!(activation.moves_zero(), reference::value(activation, 0.0f64) != 0.0, "{activation:?}");
        assert_eq!(activation.ragged(33).is_some(), activation.moves_zero());
        assert!(activation.ragged(32).is_none());
        let Ending { bounds, pass } = activation.ending(20);
        if pass.is_none() {
            for x in pattern(3, 100).into_iter().map(|x| 8.0 * x as f32) {
                let clamped = x.max(bounds.low.unwrap_or(x)).min(bounds.high.unwrap_or(f32::INFINITY));
                assert_eq!(clamped, reference::value(activation, x), "{activation:?} of {x}");
            }
        }
    }
}
