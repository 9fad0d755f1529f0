//! Pooling: `[C, H, W]` → `[C, H', W']` with H' and W' from [`Window::output`]. Padding never wins a maximum.
//! Backward of the maximum keeps which element won (the first of equals, row by row); of the mean, nothing.

use super::{Problem, Shape, check_window, expect_map};
use crate::geometry::{Window, adaptive_span};

/// Settings of a maximum pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool2d {
    /// Kernel, stride, padding, dilation and rounding.
    pub window: Window,
}

/// Settings of a mean pooling.
#[derive(Clone, Debug, PartialEq)]
pub struct AvgPool2d {
    /// Kernel, stride, padding and rounding; dilation must be 1.
    pub window: Window,
    /// Whether the mean's divisor counts padding (PyTorch's default) or only pixels of the input.
    pub count_include_pad: bool,
}

/// Settings of a mean pooling to a given size.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the output; its windows are [`adaptive_span`]s.
    pub output: [usize; 2],
}

impl AdaptiveAvgPool2d {
    /// To an output of that height and width.
    pub const fn new(output: [usize; 2]) -> AdaptiveAvgPool2d {
        AdaptiveAvgPool2d { output }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        let [channels, ..] = expect_map(input)?;
        let [h, w] = self.output;
        match [h, w].iter().all(|n| (1..=super::MAX_PIXELS).contains(n)) {
            true => Ok(Shape::Map([channels, h, w])),
            false => Err(format!("expected an output size from 1 to {}, got {h}x{w}", super::MAX_PIXELS)),
        }
    }

    /// The largest of its windows, at the distance that they have on average, rounded down.
    pub(super) fn window(&self, input: Shape) -> Option<Window> {
        let Shape::Map([_, height, width]) = input else { return None };
        let axis = |input: usize, output: usize| {
            let longest = (0..output).map(|i| adaptive_span(i, input, output).len()).max().unwrap_or(1);
            (longest, (input / output).max(1))
        };
        let [(kh, sh), (kw, sw)] = [axis(height, self.output[0]), axis(width, self.output[1])];
        Some(Window { kernel: [kh, kw], stride: [sh, sw], ..Window::square(1) })
    }
}

impl MaxPool2d {
    /// Square windows side by side: stride is the kernel, as in PyTorch.
    pub const fn new(kernel: usize) -> MaxPool2d {
        MaxPool2d { window: Window::square(kernel).stride(kernel) }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        output(&self.window, input)
    }
}

impl AvgPool2d {
    /// Square windows side by side: stride is the kernel, as in PyTorch.
    pub const fn new(kernel: usize) -> AvgPool2d {
        AvgPool2d { window: Window::square(kernel).stride(kernel), count_include_pad: true }
    }

    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        if self.window.dilation != [1, 1] {
            return Err("expected a dilation of 1 for mean pooling".into());
        }
        output(&self.window, input)
    }
}

fn output(window: &Window, input: Shape) -> Result<Shape, Problem> {
    let [channels, height, width] = expect_map(input)?;
    check_window(window)?;
    let (begin, end) = window.pads([height, width]);
    for axis in 0..2 {
        // PyTorch's rule. With the next one it keeps every window on at least one pixel of the input.
        if begin[axis].max(end[axis]) * 2 > window.kernel[axis] {
            return Err(format!(
                "expected padding of at most half the kernel ({}), got {}",
                window.kernel[axis] / 2,
                begin[axis].max(end[axis])
            ));
        }
        let (input, dilation) = ([height, width][axis], window.dilation[axis]);
        if begin[axis] > 0 && dilation > input {
            return Err(format!("expected a dilation of at most the input's {input} pixels, got {dilation}"));
        }
    }
    let [h, w] = window.output([height, width]).map_err(|e| e.to_string())?;
    Ok(Shape::Map([channels, h, w]))
}
