//! Pooling of planes `[planes, H, W]` (batch times channels) to `[planes, H', W']`.
//!
//! Maximum: `y = max` over the window's pixels; of equal ones the first wins, row by row; padding never wins; NaN wins
//! over numbers, as in PyTorch. Mean: `y = Σ x / divisor`, where the divisor counts the window's pixels, or also its
//! padding (`count_include_pad`), but never what ceil mode lets the last window hang over beyond the padding.

use super::{Float, expect_len};
use crate::geometry::{Window, adaptive_span};

/// The sizes of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolProblem {
    /// Pictures times channels.
    pub planes: usize,
    /// Height and width of the input, in pixels.
    pub input: [usize; 2],
    /// Kernel, stride, padding, dilation and rounding.
    pub window: Window,
}

impl PoolProblem {
    /// Height and width of the output, in pixels.
    ///
    /// # Panics
    /// When the input holds not one placement of the window.
    pub fn output(&self) -> [usize; 2] {
        self.window.output(self.input).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Elements of the input, `[planes, height, width]`.
    pub fn input_len(&self) -> usize {
        self.planes * self.input[0] * self.input[1]
    }

    /// Elements of the output, `[planes, height, width]`.
    ///
    /// # Panics
    /// As [`PoolProblem::output`].
    pub fn output_len(&self) -> usize {
        let [height, width] = self.output();
        self.planes * height * width
    }

    /// Visits every placement of the window, plane by plane and row by row, with the plane's index, `[oy, ox]`, and
    /// the window's pixels as indices into the input, row by row.
    fn each_window(&self, mut visit: impl FnMut([usize; 2], &[usize])) {
        let [height, width] = self.input;
        let [out_height, out_width] = self.output();
        let taps = |axis: usize, placement: usize| {
            let input = self.input;
            (0..self.window.kernel[axis]).filter_map(move |tap| self.window.pixel(axis, placement, tap, input))
        };
        let mut pixels = Vec::new();
        for plane in 0..self.planes {
            for oy in 0..out_height {
                for ox in 0..out_width {
                    pixels.clear();
                    for y in taps(0, oy) {
                        pixels.extend(taps(1, ox).map(|x| (plane * height + y) * width + x));
                    }
                    visit([oy, ox], &pixels);
                }
            }
        }
    }
}

/// What a maximum pooling gives.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool<T> {
    /// The maxima, `[planes, H', W']`.
    pub output: Vec<T>,
    /// For each of them the index of the winner in the whole input, `[planes, H, W]`.
    pub winners: Vec<usize>,
}

/// The largest pixel of each window, and which it is.
///
/// # Panics
/// When lengths do not fit, or a window holds no pixel at all (which padding of at most half the kernel excludes unless
/// the window is dilated).
pub fn max_forward<T: Float>(problem: &PoolProblem, input: &[T]) -> MaxPool<T> {
    expect_len("input", input, problem.input_len());
    let mut found = MaxPool { output: Vec::new(), winners: Vec::new() };
    problem.each_window(|_, pixels| {
        let mut winner = *pixels.first().expect("expected a pixel in every window, got padding alone");
        for &pixel in pixels {
            if input[pixel] > input[winner] || input[pixel].is_nan() {
                winner = pixel;
            }
        }
        found.output.push(input[winner]);
        found.winners.push(winner);
    });
    found
}

/// The gradient by the input, `[planes, H, W]`: each output's goes to its winner.
///
/// # Panics
/// When lengths do not fit.
pub fn max_backward<T: Float>(problem: &PoolProblem, winners: &[usize], grad_output: &[T]) -> Vec<T> {
    expect_len("winners", winners, problem.output_len());
    expect_len("gradient of the output", grad_output, problem.output_len());
    let mut grad_input = vec![T::ZERO; problem.input_len()];
    for (&winner, &dy) in winners.iter().zip(grad_output) {
        grad_input[winner] += dy;
    }
    grad_input
}

/// The mean of each window.
///
/// # Panics
/// When lengths do not fit, or the window is dilated.
pub fn avg_forward<T: Float>(problem: &PoolProblem, count_include_pad: bool, input: &[T]) -> Vec<T> {
    expect_len("input", input, problem.input_len());
    let mut output = Vec::with_capacity(problem.output_len());
    problem.each_window(|at, pixels| {
        let sum: T = pixels.iter().map(|&pixel| input[pixel]).sum();
        output.push(sum / T::from_usize(divisor(problem, count_include_pad, at, pixels)));
    });
    output
}

/// The gradient by the input, `[planes, H, W]`: each output's is shared out among the window's pixels.
///
/// # Panics
/// When lengths do not fit, or the window is dilated.
pub fn avg_backward<T: Float>(problem: &PoolProblem, count_include_pad: bool, grad_output: &[T]) -> Vec<T> {
    expect_len("gradient of the output", grad_output, problem.output_len());
    let mut grad_input = vec![T::ZERO; problem.input_len()];
    let mut grads = grad_output.iter();
    problem.each_window(|at, pixels| {
        let dy = *grads.next().expect("one gradient per window");
        let share = dy / T::from_usize(divisor(problem, count_include_pad, at, pixels));
        pixels.iter().for_each(|&pixel| grad_input[pixel] += share);
    });
    grad_input
}

/// The sizes of a mean pooling to a given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AdaptiveProblem {
    /// Pictures times channels.
    pub planes: usize,
    /// Height and width of the input, in pixels.
    pub input: [usize; 2],
    /// Height and width of the output, in pixels.
    pub output: [usize; 2],
}

impl AdaptiveProblem {
    /// Visits every window, plane by plane and row by row, with its pixels as indices into the input.
    fn each_window(&self, mut visit: impl FnMut(&[usize])) {
        let AdaptiveProblem { planes, input: [height, width], output } = *self;
        let mut pixels = Vec::new();
        for plane in 0..planes {
            for oy in 0..output[0] {
                for ox in 0..output[1] {
                    pixels.clear();
                    for y in adaptive_span(oy, height, output[0]) {
                        pixels.extend(adaptive_span(ox, width, output[1]).map(|x| (plane * height + y) * width + x));
                    }
                    visit(&pixels);
                }
            }
        }
    }
}

/// The mean of each of the windows that [`adaptive_span`] gives.
///
/// # Panics
/// When lengths do not fit.
pub fn adaptive_avg_forward<T: Float>(problem: &AdaptiveProblem, input: &[T]) -> Vec<T> {
    expect_len("input", input, problem.planes * problem.input[0] * problem.input[1]);
    let mut output = Vec::new();
    problem.each_window(|pixels| {
        let sum: T = pixels.iter().map(|&pixel| input[pixel]).sum();
        output.push(sum / T::from_usize(pixels.len()));
    });
    output
}

/// The gradient by the input, `[planes, H, W]`: each output's is shared out among the window's pixels.
///
/// # Panics
/// When lengths do not fit.
pub fn adaptive_avg_backward<T: Float>(problem: &AdaptiveProblem, grad_output: &[T]) -> Vec<T> {
    let AdaptiveProblem { planes, input, output } = *problem;
    expect_len("gradient of the output", grad_output, planes * output[0] * output[1]);
    let mut grad_input = vec![T::ZERO; planes * input[0] * input[1]];
    let mut grads = grad_output.iter();
    problem.each_window(|pixels| {
        let share = *grads.next().expect("one gradient per window") / T::from_usize(pixels.len());
        pixels.iter().for_each(|&pixel| grad_input[pixel] += share);
    });
    grad_input
}

/// By what the sum over the window at placement `at` is divided: its pixels, or its area within the padded input.
fn divisor(problem: &PoolProblem, count_include_pad: bool, at: [usize; 2], pixels: &[usize]) -> usize {
    let PoolProblem { input, window, .. } = problem;
    assert_eq!(window.dilation, [1, 1], "mean pooling is not defined for dilated windows");
    let (begin, end) = window.pads(*input);
    let within = |axis: usize| {
        let start = at[axis] * window.stride[axis];
        (start + window.kernel[axis]).min(input[axis] + begin[axis] + end[axis]) - start
    };
    if count_include_pad { within(0) * within(1) } else { pixels.len() }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{assert_gradient, dot, pattern};
    use super::*;
    use crate::geometry::Padding;

    fn problems() -> Vec<PoolProblem> {
        let plain = PoolProblem { planes: 3, input: [5, 8], window: Window::square(2).stride(2) };
        let uneven = Window {
            kernel: [3, 4],
            stride: [2, 1],
            padding: Padding::Explicit { begin: [1, 0], end: [0, 2] },
            dilation: [1, 1],
            ceil_mode: false,
        };
        vec![
            plain,
            PoolProblem { planes: 1, window: Window { ceil_mode: true, ..plain.window.padding(1) }, ..plain },
            PoolProblem { window: Window { ceil_mode: true, ..Window::square(3).stride(2) }, ..plain },
            PoolProblem { window: uneven, ..plain },
            PoolProblem { window: Window { padding: Padding::Same, ceil_mode: true, ..uneven }, ..plain },
            PoolProblem { input: [3, 3], window: Window::square(3), ..plain },
        ]
    }

    #[test]
    fn adaptive_gradients() {
        let problem = AdaptiveProblem { planes: 2, input: [5, 4], output: [3, 7] };
        let (x, dy) = (pattern(1, 40), pattern(2, 42));
        let dx = adaptive_avg_backward(&problem, &dy);
        assert_gradient("x", &x, &dx, |x| dot(&adaptive_avg_forward(&problem, x), &dy));
        let global = AdaptiveProblem { output: [1, 1], ..problem };
        assert!((adaptive_avg_forward(&global, &x)[1] - x[20..].iter().sum::<f64>() / 20.0).abs() < 1e-15);
    }

    #[test]
    fn gradients() {
        for p in &problems() {
            let (x, dy) = (pattern(1, p.input_len()), pattern(2, p.output_len()));
            let grad = max_backward(p, &max_forward(p, &x).winners, &dy);
            assert_gradient("max", &x, &grad, |x| dot(&max_forward(p, x).output, &dy));
            for count_include_pad in [false, true] {
                let grad = avg_backward(p, count_include_pad, &dy);
                assert_gradient("mean", &x, &grad, |x| dot(&avg_forward(p, count_include_pad, x), &dy));
            }
        }
        let dilated = Window { dilation: [2, 3], ..Window::square(2).padding(1) };
        let p = &PoolProblem { planes: 2, input: [5, 6], window: dilated };
        let (x, dy) = (pattern(1, p.input_len()), pattern(2, p.output_len()));
        let grad = max_backward(p, &max_forward(p, &x).winners, &dy);
        assert_gradient("dilated max", &x, &grad, |x| dot(&max_forward(p, x).output, &dy));
    }

    #[test]
    fn the_first_of_equals_wins_and_padding_never() {
        let p = PoolProblem { planes: 1, input: [2, 3], window: Window::square(2).padding(1) };
        let found = max_forward(&p, &[-1.0f32, -2.0, -2.0, -1.0, -2.0, -2.0]);
        assert_eq!(found.winners, [0, 0, 1, 2, 0, 0, 1, 2, 3, 3, 4, 5]);
        assert_eq!(found.output, [-1.0, -1.0, -2.0, -2.0, -1.0, -1.0, -2.0, -2.0, -1.0, -1.0, -2.0, -2.0]);
        let p = PoolProblem { planes: 1, input: [1, 3], window: Window { kernel: [1, 3], ..Window::square(1) } };
        assert!(max_forward(&p, &[1.0f32, f32::NAN, 2.0]).output[0].is_nan());
    }

    #[test]
    fn divisors() {
        // torch.nn.functional.avg_pool2d(torch.ones(1, 1, 1, 4), (1, 3), 2, (0, 1), ceil_mode=True): the last window
        // reaches over pixel 3 and one column of padding and beyond: divisor 2, or 1 without padding.
        let window = Window {
            kernel: [1, 3],
            stride: [1, 2],
            padding: Padding::per_axis([0, 1]),
            dilation: [1, 1],
            ceil_mode: true,
        };
        let p = PoolProblem { planes: 1, input: [1, 4], window };
        assert_eq!(avg_forward(&p, true, &[1.0f64; 4]), [2.0 / 3.0, 1.0, 0.5]);
        assert_eq!(avg_forward(&p, false, &[1.0f64; 4]), [1.0; 3]);
    }
}
