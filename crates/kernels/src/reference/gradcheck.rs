//! Gradients against finite differences in f64, for tests (after Caffe's `gradient_check_util.hpp`).
//!
//! The central difference `(f(x + ε) - f(x - ε)) / 2ε` with ε = 1e-6 must agree with the gradient to a relative 1e-3
//! (PyTorch's `gradcheck`). Where the two one-sided differences disagree by as much, the function has a kink there (a ReLU at 0,
//! two equal elements under a maximum) and the element is skipped; more than a tenth skipped is a failure.

/// Step of the differences.
const EPS: f64 = 1e-6;
/// Relative tolerance.
const RTOL: f64 = 1e-3;
/// Absolute tolerance: about a hundred times the rounding error of a difference of numbers near 1.
const ATOL: f64 = 1e-7;

/// Checks `gradient`, the gradient of `loss` at `x`, element by element. `name` says in messages what `x` is.
///
/// # Panics
/// When an element differs, or when more than a tenth of the elements lie at kinks.
#[track_caller]
pub fn assert_gradient(name: &str, x: &[f64], gradient: &[f64], mut loss: impl FnMut(&[f64]) -> f64) {
    assert_eq!(x.len(), gradient.len(), "{name}: {} elements, but {} gradients", x.len(), gradient.len());
    let mut x = x.to_vec();
    let middle = loss(&x);
    let mut kinks = 0;
    for i in 0..x.len() {
        let at = x[i];
        x[i] = at + EPS;
        let right = (loss(&x) - middle) / EPS;
        x[i] = at - EPS;
        let left = (middle - loss(&x)) / EPS;
        x[i] = at;
        if !close(left, right) {
            kinks += 1;
            continue;
        }
        let difference = (left + right) / 2.0;
        let found = gradient[i];
        assert!(close(difference, found), "{name}[{i}]: gradient {found:e}, finite difference {difference:e}");
    }
    assert!(kinks * 10 <= x.len(), "{name}: {kinks} of {} elements lie at kinks", x.len());
}

/// NaN is close to nothing.
fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= ATOL + RTOL * a.abs().max(b.abs())
}

/// `count` numbers from -1 to below 1 that look random, are multiples of 1/2048 (exact in f32) and depend on `tag` and
/// the index alone. `tests/golden/make.py` computes the same.
pub fn pattern(tag: u32, count: usize) -> Vec<f64> {
    let number = |i: usize| {
        let mut h = (i as u32).wrapping_mul(2_654_435_761).wrapping_add(tag.wrapping_mul(40_503));
        h = (h ^ (h >> 15)).wrapping_mul(2_246_822_519);
        h = (h ^ (h >> 13)).wrapping_mul(3_266_489_917);
        (f64::from(h >> 20) - 2048.0) / 2048.0
    };
    (0..count).map(number).collect()
}

/// `Σ a · b`: a loss whose gradient by `a` is `b`.
///
/// # Panics
/// When the lengths differ.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_a_right_gradient_and_skips_kinks() {
        let mut x = pattern(1, 30);
        x[3] = 0.0;
        let gradient: Vec<f64> = x.iter().map(|x| 2.0 * x + x.signum()).collect();
        assert_gradient("x² + |x|", &x, &gradient, |x| x.iter().map(|x| x * x + x.abs()).sum());
    }

    #[test]
    #[should_panic(expected = "x³[1]: gradient")]
    fn refuses_a_wrong_gradient() {
        assert_gradient("x³", &[1.0, 2.0], &[3.0, 12.1], |x| x.iter().map(|x| x.powi(3)).sum());
    }

    #[test]
    #[should_panic(expected = "lie at kinks")]
    fn refuses_to_skip_everything() {
        assert_gradient("|x|", &[0.0; 4], &[1.0; 4], |x| x.iter().map(|x| x.abs()).sum());
    }

    #[test]
    fn pattern_spreads_evenly() {
        let values = pattern(7, 4000);
        let mean = values.iter().sum::<f64>() / 4000.0;
        let square = dot(&values, &values) / 4000.0;
        assert!(mean.abs() < 0.05 && (square - 1.0 / 3.0).abs() < 0.02, "mean {mean}, mean square {square}");
    }
}
