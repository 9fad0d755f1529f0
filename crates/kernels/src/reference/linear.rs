//! Fully connected layer: `y[n, o] = bias[o] + Σ i: w[o, i] · x[n, i]`, row-major, weights `[out, in]`. Scratch: none.

use super::{Float, expect_len};

/// The sizes of a fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearProblem {
    /// Rows of the input.
    pub batch: usize,
    /// Length of an input row.
    pub in_features: usize,
    /// Length of an output row.
    pub out_features: usize,
}

/// The output, `[batch, out_features]`.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn forward<T: Float>(problem: &LinearProblem, input: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    let LinearProblem { batch, in_features, out_features } = *problem;
    expect_len("input", input, batch * in_features);
    expect_len("weight", weight, out_features * in_features);
    if let Some(bias) = bias {
        expect_len("bias", bias, out_features);
    }
    let mut output = Vec::with_capacity(batch * out_features);
    for x in input.chunks_exact(in_features) {
        for (o, w) in weight.chunks_exact(in_features).enumerate() {
            let product: T = w.iter().zip(x).map(|(w, x)| *w * *x).sum();
            output.push(product + bias.map_or(T::ZERO, |bias| bias[o]));
        }
    }
    output
}

/// The gradient by the input, `[batch, in_features]`: `dx[n, i] = Σ o: w[o, i] · dy[n, o]`.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn backward_data<T: Float>(problem: &LinearProblem, weight: &[T], grad_output: &[T]) -> Vec<T> {
    let LinearProblem { batch, in_features, out_features } = *problem;
    expect_len("weight", weight, out_features * in_features);
    expect_len("gradient of the output", grad_output, batch * out_features);
    let mut grad_input = vec![T::ZERO; batch * in_features];
    for (dx, dy) in grad_input.chunks_exact_mut(in_features).zip(grad_output.chunks_exact(out_features)) {
        for (w, dy) in weight.chunks_exact(in_features).zip(dy) {
            dx.iter_mut().zip(w).for_each(|(dx, w)| *dx += *w * *dy);
        }
    }
    grad_input
}

/// The gradient by the weights, `[out_features, in_features]`: `dw[o, i] = Σ n: dy[n, o] · x[n, i]`.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn backward_weights<T: Float>(problem: &LinearProblem, input: &[T], grad_output: &[T]) -> Vec<T> {
    let LinearProblem { batch, in_features, out_features } = *problem;
    expect_len("input", input, batch * in_features);
    expect_len("gradient of the output", grad_output, batch * out_features);
    let mut grad_weight = vec![T::ZERO; out_features * in_features];
    for (x, dy) in input.chunks_exact(in_features).zip(grad_output.chunks_exact(out_features)) {
        for (dw, dy) in grad_weight.chunks_exact_mut(in_features).zip(dy) {
            dw.iter_mut().zip(x).for_each(|(dw, x)| *dw += *dy * *x);
        }
    }
    grad_weight
}

/// The gradient by the bias, `[out_features]`: the sum over the batch.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn backward_bias<T: Float>(problem: &LinearProblem, grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, problem.batch * problem.out_features);
    let mut grad_bias = vec![T::ZERO; problem.out_features];
    for dy in grad_output.chunks_exact(problem.out_features) {
        grad_bias.iter_mut().zip(dy).for_each(|(db, dy)| *db += *dy);
    }
    grad_bias
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;

    #[test]
    fn known_values() {
        let p = LinearProblem { batch: 2, in_features: 3, out_features: 2 };
        let y = forward(&p, &[1.0f32, 2.0, 3.0, 0.0, 1.0, 0.0], &[1.0, 0.0, -1.0, 2.0, 2.0, 2.0], Some(&[10.0, 20.0]));
        assert_eq!(y, [8.0, 32.0, 10.0, 22.0]);
    }

    #[test]
    fn gradients() {
        for (batch, in_features, out_features) in [(1, 5, 3), (4, 1, 7), (3, 6, 1)] {
            let p = LinearProblem { batch, in_features, out_features };
            let (x, w) = (pattern(1, batch * in_features), pattern(2, out_features * in_features));
            let (b, dy) = (pattern(3, out_features), pattern(4, batch * out_features));
            let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&forward(&p, x, w, Some(b)), &dy);
            assert_gradient("x", &x, &backward_data(&p, &w, &dy), |x| loss(x, &w, &b));
            assert_gradient("w", &w, &backward_weights(&p, &x, &dy), |w| loss(&x, w, &b));
            assert_gradient("b", &b, &backward_bias(&p, &dy), |b| loss(&x, &w, b));
        }
    }
}
