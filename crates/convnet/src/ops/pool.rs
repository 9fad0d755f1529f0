//! Pooling: `[C, H, W]` → `[C, H', W']` with H' and W' from [`Window::output`]. Padding never wins a maximum.
//! Backward of the maximum keeps which element won (the first of equals, row by row); of the mean, nothing.

use super::{Problem, Shape, check_window, expect_map};
use crate::geometry::Window;

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

impl MaxPool2d {
    pub(super) fn output(&self, input: Shape) -> Result<Shape, Problem> {
        output(&self.window, input)
    }
}

impl AvgPool2d {
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
