//! Activations, element by element: [`Activation`] says what each computes. NaN stays NaN, as in PyTorch, so that a broken
//! step is seen; at ±∞ stands the limit.
//!
//! At a kink, the slope is PyTorch's: that of the flat side, and `slope` at a leaky ReLU's 0.

use super::{Float, expect_len};
use crate::activation::Activation;

/// The output, as long as the input.
pub fn forward<T: Float>(activation: Activation, input: &[T]) -> Vec<T> {
    input.iter().map(|&x| value(activation, x)).collect()
}

/// The gradient by the input: that of the output times the slope.
///
/// # Panics
/// When the lengths differ.
pub fn backward<T: Float>(activation: Activation, input: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, input.len());
    input.iter().zip(grad_output).map(|(&x, &dy)| slope(activation, x) * dy).collect()
}

/// The function.
pub fn value<T: Float>(activation: Activation, x: T) -> T {
    let (number, zero, one) = (|x: f32| T::from_f64(x.into()), T::ZERO, T::ONE);
    let three = number(3.0);
    match activation {
        Activation::Identity => x,
        Activation::Relu => clamp(x, zero, T::INFINITY),
        Activation::Clip { low, high } => clamp(x, number(low), number(high)),
        Activation::LeakyRelu { slope } => {
            if x > zero {
                x
            } else {
                number(slope) * x
            }
        }
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSigmoid { slope, offset } => clamp(number(slope) * x + number(offset), zero, one),
        Activation::Tanh => x.tanh(),
        Activation::Silu => times(x, sigmoid(x)),
        Activation::HardSwish => times(x, clamp(x + three, zero, number(6.0)) / number(6.0)),
        Activation::Gelu => times(x, normal(x)),
        Activation::Softsign => {
            let largest = number(f32::MAX);
            let x = clamp(x, -largest, largest);
            x / (one + abs(x))
        }
    }
}

/// The derivative.
pub fn slope<T: Float>(activation: Activation, x: T) -> T {
    let (number, zero, one) = (|x: f32| T::from_f64(x.into()), T::ZERO, T::ONE);
    let three = number(3.0);
    // NaN is inside.
    let inside = |x: T, low: T, high: T| !(x <= low || x >= high);
    match activation {
        Activation::Identity => one,
        Activation::Relu => {
            if x <= zero {
                zero
            } else {
                one
            }
        }
        Activation::Clip { low, high } => {
            if inside(x, number(low), number(high)) {
                one
            } else {
                zero
            }
        }
        Activation::LeakyRelu { slope } => {
            if x > zero {
                one
            } else {
                number(slope)
            }
        }
        Activation::Sigmoid => sigmoid(x) * sigmoid(-x),
        Activation::HardSigmoid { slope, offset } => {
            if inside(number(slope) * x + number(offset), zero, one) {
                number(slope)
            } else {
                zero
            }
        }
        Activation::Tanh => one - x.tanh() * x.tanh(),
        Activation::Silu => sigmoid(x) + times(x, sigmoid(x) * sigmoid(-x)),
        Activation::HardSwish => match inside(x, -three, three) {
            true => x / three + number(0.5),
            false => {
                if x > zero {
                    one
                } else {
                    zero
                }
            }
        },
        Activation::Gelu => {
            let density = (-x * x / number(2.0)).exp() / T::from_f64(std::f64::consts::TAU).sqrt();
            normal(x) + times(x, density)
        }
        Activation::Softsign => one / ((one + abs(x)) * (one + abs(x))),
    }
}

/// `x`, or the bound that it lies beyond.
fn clamp<T: Float>(x: T, low: T, high: T) -> T {
    if x <= low {
        low
    } else if x >= high {
        high
    } else {
        x
    }
}

fn abs<T: Float>(x: T) -> T {
    if x < T::ZERO { -x } else { x }
}

fn sigmoid<T: Float>(x: T) -> T {
    let e = (if x > T::ZERO { -x } else { x }).exp();
    if x > T::ZERO { T::ONE / (T::ONE + e) } else { e / (T::ONE + e) }
}

/// The normal distribution's probability of a smaller number.
fn normal<T: Float>(x: T) -> T {
    (-x / T::from_f64(2.0).sqrt()).erfc() / T::from_f64(2.0)
}

/// `x · gate`, where a gate of 0 stays 0 at infinity.
fn times<T: Float>(x: T, gate: T) -> T {
    if gate == T::ZERO { gate } else { x * gate }
}

/// Every activation, some with several settings.
#[cfg(test)]
pub(crate) fn all() -> Vec<Activation> {
    let mut all = vec![Activation::Identity];
    while let Some(&last) = all.last() {
        match following(last).as_slice() {
            [] => break,
            next => all.extend_from_slice(next),
        }
    }
    all
}

/// The settings that follow an activation's in the list. A new activation does not compile until it has its place here.
#[cfg(test)]
fn following(activation: Activation) -> Vec<Activation> {
    match activation {
        Activation::Identity => vec![Activation::Relu],
        Activation::Relu => {
            let clips = [(-0.75, 0.25), (0.125, 0.5)].map(|(low, high)| Activation::Clip { low, high });
            [&[Activation::RELU6][..], &clips].concat()
        }
        Activation::Clip { .. } => [0.01, 0.25].map(|slope| Activation::LeakyRelu { slope }).to_vec(),
        Activation::LeakyRelu { .. } => vec![Activation::Sigmoid],
        Activation::Sigmoid => vec![Activation::HARD_SIGMOID, Activation::HardSigmoid { slope: 0.2, offset: 0.5 }],
        Activation::HardSigmoid { .. } => vec![Activation::Tanh],
        Activation::Tanh => vec![Activation::Silu],
        Activation::Silu => vec![Activation::HardSwish],
        Activation::HardSwish => vec![Activation::Gelu],
        Activation::Gelu => vec![Activation::Softsign],
        Activation::Softsign => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn signs_zero_and_nan() {
        let (relu, one) = (Activation::Relu, [1.0; 3]);
        assert_eq!(forward(relu, &[-2.0f32, -0.0, 0.0, 3.0]), [0.0, 0.0, 0.0, 3.0]);
        assert_eq!(backward(relu, &[-2.0f32, 0.0, 3.0], &one), [0.0, 0.0, 1.0]);
        assert_eq!(backward(Activation::RELU6, &[0.0f32, 6.0, 5.0], &one), [0.0, 0.0, 1.0]);
        assert_eq!(backward(Activation::HardSwish, &[-3.0f32, 3.0, 4.0], &one), [0.0, 1.0, 1.0]);
        for activation in all() {
            assert!(value(activation, f64::NAN).is_nan() && value(activation, f32::NAN).is_nan(), "{activation:?}");
        }
    }

    #[test]
    fn limits_at_infinity() {
        for activation in all() {
            let [below, above] = [f64::NEG_INFINITY, f64::INFINITY].map(|x| value(activation, x));
            let [near_below, near_above] = [-1e30, 1e30].map(|x| value(activation, x));
            assert!(
                below == near_below || (below == f64::NEG_INFINITY && near_below < -1e27),
                "{activation:?} {below}"
            );
            assert!(above == near_above || (above == f64::INFINITY && near_above > 1e27), "{activation:?} {above}");
        }
    }

    #[test]
    fn gradients() {
        let dy = pattern(2, 400);
        for activation in all() {
            let x: Vec<f64> = pattern(1, 400).iter().map(|x| 5.0 * x + 0.01).collect();
            let gradient = backward(activation, &x, &dy);
            assert_gradient(&format!("{activation:?}"), &x, &gradient, |x| dot(&forward(activation, x), &dy));
        }
    }
}
