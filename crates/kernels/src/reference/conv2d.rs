//! Convolution (cross-correlation), layouts NCHW and OIHW, with ic running over the input channels of oc's group and
//! zero outside the input:
//!
//! `y[n, oc, oy, ox] = bias[oc] + Σ ic, ky, kx: w[oc, ic, ky, kx] · x[n, ic, oy·s + ky·d - p, ox·s + kx·d - p]`
//!
//! All three passes walk the same list of products: forward adds `w·x` to y, backward adds `w·dy` to dx and `x·dy` to
//! dw. Scratch: none.

use std::array;

use super::{Float, expect_len};
use crate::geometry::Window;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvProblem {
    /// Pictures.
    pub batch: usize,
    /// Channels of the input, a multiple of `groups`.
    pub in_channels: usize,
    /// Filters, a multiple of `groups`.
    pub out_channels: usize,
    /// Parts into which channels are divided; output channels see only the input channels of their part.
    pub groups: usize,
    /// Height and width of the input, in pixels.
    pub input: [usize; 2],
    /// Kernel, stride, padding and dilation.
    pub window: Window,
}

impl ConvProblem {
    /// Height and width of the output, in pixels.
    ///
    /// # Panics
    /// When the input holds not one placement of the window.
    pub fn output(&self) -> [usize; 2] {
        self.window.output(self.input).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Elements of the input, `[batch, in_channels, height, width]`.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_channels * self.input[0] * self.input[1]
    }

    /// Elements of the weights, `[out_channels, in_channels / groups, kernel height, kernel width]`.
    pub fn weight_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Elements of the output, `[batch, out_channels, height, width]`.
    ///
    /// # Panics
    /// As [`ConvProblem::output`].
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.batch * self.out_channels * height * width
    }
}

/// The output, `[batch, out_channels, H', W']`.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn forward<T: Float>(problem: &ConvProblem, input: &[T], weight: &[T], bias: Option<&[T]>) -> Vec<T> {
    expect_len("input", input, problem.input_len());
    expect_len("weight", weight, problem.weight_len());
    let mut output = vec![T::ZERO; problem.output_len()];
    if let Some(bias) = bias {
        expect_len("bias", bias, problem.out_channels);
        let pixels = problem.output().iter().product();
        for (plane, bias) in output.chunks_exact_mut(pixels).zip(bias.iter().cycle()) {
            plane.fill(*bias);
        }
    }
    each_row(problem, |row| {
        let weight = weight[row.weight];
        let outputs = &mut output[row.output..][..row.len];
        for (y, x) in outputs.iter_mut().zip(input[row.input..].iter().step_by(row.step)) {
            *y += weight * *x;
        }
    });
    output
}

/// The gradient by the input, `[batch, in_channels, H, W]`.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn backward_data<T: Float>(problem: &ConvProblem, weight: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("weight", weight, problem.weight_len());
    expect_len("gradient of the output", grad_output, problem.output_len());
    let mut grad_input = vec![T::ZERO; problem.input_len()];
    each_row(problem, |row| {
        let weight = weight[row.weight];
        let grads = &grad_output[row.output..][..row.len];
        for (dx, dy) in grad_input[row.input..].iter_mut().step_by(row.step).zip(grads) {
            *dx += weight * *dy;
        }
    });
    grad_input
}

/// The gradient by the weights, `[out_channels, in_channels / groups, kernel height, kernel width]`.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn backward_weights<T: Float>(problem: &ConvProblem, input: &[T], grad_output: &[T]) -> Vec<T> {
    expect_len("input", input, problem.input_len());
    expect_len("gradient of the output", grad_output, problem.output_len());
    let mut grad_weight = vec![T::ZERO; problem.weight_len()];
    each_row(problem, |row| {
        let grads = &grad_output[row.output..][..row.len];
        let inputs = input[row.input..].iter().step_by(row.step);
        grad_weight[row.weight] += inputs.zip(grads).map(|(x, dy)| *x * *dy).sum();
    });
    grad_weight
}

/// The gradient by the bias, `[out_channels]`: the sum over batch and pixels.
///
/// # Panics
/// When lengths do not fit the problem.
pub fn backward_bias<T: Float>(problem: &ConvProblem, grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, problem.output_len());
    let pixels = problem.output().iter().product();
    let mut grad_bias = vec![T::ZERO; problem.out_channels];
    for (i, plane) in grad_output.chunks_exact(pixels).enumerate() {
        grad_bias[i % problem.out_channels] += plane.iter().copied().sum();
    }
    grad_bias
}

/// Products of one weight with a row of inputs that belong to a row of outputs: for j in `0..len`,
/// `y[output + j]` holds `w[weight] · x[input + j · step]`.
struct Row {
    input: usize,
    step: usize,
    weight: usize,
    output: usize,
    len: usize,
}

/// Visits every product of the convolution once, by rows, and of each weight all rows together. Padding has no products.
fn each_row(problem: &ConvProblem, mut visit: impl FnMut(Row)) {
    let ConvProblem { batch, in_channels, out_channels, groups, input, window } = problem;
    let [out_height, out_width] = problem.output();
    let (in_per_group, out_per_group) = (in_channels / groups, out_channels / groups);
    // For each element of the kernel along an axis the output pixels that have it on the input, and the input pixels.
    let on_input: [Vec<Vec<[usize; 2]>>; 2] = array::from_fn(|axis| {
        let pixel = |placement, tap| window.pixel(axis, placement, tap, *input).expect("placements lie on the input");
        let pixels = |tap| window.placements(axis, tap, *input).map(move |at| [at, pixel(at, tap)]).collect();
        (0..window.kernel[axis]).map(pixels).collect()
    });
    for oc in 0..*out_channels {
        for i in 0..in_per_group {
            let ic = oc / out_per_group * in_per_group + i;
            let filter = oc * in_per_group + i;
            for (ky, rows) in on_input[0].iter().enumerate() {
                for (kx, columns) in on_input[1].iter().enumerate() {
                    let Some([ox, x]) = columns.first() else { continue };
                    for n in 0..*batch {
                        for [oy, y] in rows {
                            visit(Row {
                                input: ((n * in_channels + ic) * input[0] + y) * input[1] + x,
                                step: window.stride[1],
                                weight: (filter * window.kernel[0] + ky) * window.kernel[1] + kx,
                                output: ((n * out_channels + oc) * out_height + oy) * out_width + ox,
                                len: columns.len(),
                            });
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;
    use crate::geometry::Padding;

    /// Batch 1, non-square images, unequal strides, asymmetric padding, dilation, groups, ragged channels.
    fn problems() -> Vec<ConvProblem> {
        let plain = ConvProblem {
            batch: 2,
            in_channels: 3,
            out_channels: 5,
            groups: 1,
            input: [5, 7],
            window: Window::square(3).padding(1),
        };
        let uneven = Window {
            kernel: [2, 3],
            stride: [2, 1],
            padding: Padding::Explicit { begin: [0, 2], end: [1, 0] },
            dilation: [1, 2],
            ceil_mode: false,
        };
        vec![
            plain,
            ConvProblem { window: Window::square(1), ..plain },
            ConvProblem { window: Window::square(3).stride(2), batch: 1, ..plain },
            ConvProblem { window: uneven, ..plain },
            ConvProblem { window: Window { padding: Padding::Same, stride: [3, 2], ..uneven }, ..plain },
            ConvProblem { in_channels: 4, out_channels: 6, groups: 2, window: uneven, batch: 1, ..plain },
            ConvProblem { in_channels: 3, out_channels: 3, groups: 3, ..plain },
            // Padding so wide that some kernel elements never meet the input.
            ConvProblem { input: [2, 1], window: Window::square(3).padding(3).stride(3), ..plain },
        ]
    }

    #[test]
    fn gradients() {
        for p in &problems() {
            let (x, w) = (pattern(1, p.input_len()), pattern(2, p.weight_len()));
            let (b, dy) = (pattern(3, p.out_channels), pattern(4, p.output_len()));
            let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&forward(p, x, w, Some(b)), &dy);
            assert_gradient(&format!("x of {p:?}"), &x, &backward_data(p, &w, &dy), |x| loss(x, &w, &b));
            assert_gradient(&format!("w of {p:?}"), &w, &backward_weights(p, &x, &dy), |w| loss(&x, w, &b));
            assert_gradient(&format!("b of {p:?}"), &b, &backward_bias(p, &dy), |b| loss(&x, &w, b));
        }
    }

    #[test]
    fn the_equation_literally() {
        for p in &problems() {
            let (x, w) = (pattern(1, p.input_len()), pattern(2, p.weight_len()));
            let y = forward(p, &x, &w, None);
            let ([h, wd], [oh, ow], [kh, kw]) = (p.input, p.output(), p.window.kernel);
            let in_group = p.in_channels / p.groups;
            for (index, found) in y.iter().enumerate() {
                let (ox, oy) = (index % ow, index / ow % oh);
                let (oc, n) = (index / ow / oh % p.out_channels, index / ow / oh / p.out_channels);
                let mut sum = 0.0;
                for (i, ky, kx) in (0..in_group * kh * kw).map(|k| (k / kw / kh, k / kw % kh, k % kw)) {
                    let ic = oc / (p.out_channels / p.groups) * in_group + i;
                    let at = (p.window.pixel(0, oy, ky, p.input), p.window.pixel(1, ox, kx, p.input));
                    if let (Some(iy), Some(ix)) = at {
                        sum += w[((oc * in_group + i) * kh + ky) * kw + kx]
                            * x[((n * p.in_channels + ic) * h + iy) * wd + ix];
                    }
                }
                assert!((found - sum).abs() < 1e-12, "{p:?} at {index}: {found}, not {sum}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "input: expected 210 elements, got 209")]
    fn wrong_lengths_are_refused() {
        let p = problems()[0];
        forward(&p, &[0.0f32; 209], &vec![0.0; p.weight_len()], None);
    }
}
