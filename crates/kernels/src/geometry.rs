//! The arithmetic of sliding windows: each formula stands here once, for every other file.
//!
//! Output length along one axis, with `n` inputs, kernel `k`, stride `s`, dilation `d` and padding `p` at both ends:
//! `floor((n + p_begin + p_end - d(k-1) - 1) / s) + 1`, or `ceil` in place of `floor` in ceil mode, where a last window
//! that would start in the padding after the input is dropped (PyTorch's rule). All lengths are in pixels. An input that
//! is too small for one window is an error ([`TooSmall`]), never an output of length 0; in ceil mode the only window, as
//! the last of several, may hang over the padded input by less than a stride.
//!
//! Sums and products saturate and a stride of 0 counts as 1, so that no setting, however absurd, can overflow or panic
//! here. What is sensible is for the caller to say.

/// How much is added around an input, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// The same everywhere the arrays say: `begin` is above and left, `end` below and right, each `[height, width]`.
    Explicit {
        /// Rows above and columns left of the input.
        begin: [usize; 2],
        /// Rows below and columns right of the input.
        end: [usize; 2],
    },
    /// As much as makes the output `ceil(n / stride)` long; an odd pixel goes to the end (ONNX's `SAME_UPPER`).
    Same,
}

impl Padding {
    /// No padding.
    pub const NONE: Padding = Padding::symmetric(0);

    /// The same number of pixels on every side.
    pub const fn symmetric(pixels: usize) -> Padding {
        Padding::Explicit { begin: [pixels; 2], end: [pixels; 2] }
    }

    /// `[height, width]` pixels, equal at both ends of an axis.
    pub const fn per_axis(pixels: [usize; 2]) -> Padding {
        Padding::Explicit { begin: pixels, end: pixels }
    }
}

/// A window that slides over the two spatial axes, `[height, width]` throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Pixels between two placements.
    pub stride: [usize; 2],
    /// Pixels around the input.
    pub padding: Padding,
    /// Pixels between two elements of the kernel; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Round the output length up instead of down (pooling only).
    pub ceil_mode: bool,
}

/// An input that holds not one placement of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// 0 for height, 1 for width.
    pub axis: usize,
    /// Pixels of the input along that axis.
    pub input: usize,
    /// Pixels added by padding along that axis.
    pub padding: usize,
    /// Pixels that one placement covers.
    pub extent: usize,
}

impl std::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let axis = ["height", "width"][self.axis];
        let TooSmall { input, padding, extent, .. } = self;
        write!(f, "the kernel covers {extent} pixels of {axis}, but the input has {input} plus {padding} of padding")
    }
}

impl std::error::Error for TooSmall {}

impl From<usize> for Window {
    /// A square kernel at stride 1 without padding.
    fn from(kernel: usize) -> Window {
        Window::square(kernel)
    }
}

impl Window {
    /// A square window with the stride 1, no padding and no dilation.
    pub const fn square(kernel: usize) -> Window {
        Window { kernel: [kernel; 2], stride: [1; 2], padding: Padding::NONE, dilation: [1; 2], ceil_mode: false }
    }

    /// The same window at another stride.
    pub const fn stride(self, stride: usize) -> Window {
        Window { stride: [stride; 2], ..self }
    }

    /// The same window with symmetric padding.
    pub const fn padding(self, pixels: usize) -> Window {
        Window { padding: Padding::symmetric(pixels), ..self }
    }

    /// Pixels that one placement covers, per axis: `d(k-1) + 1`.
    pub const fn extent(&self) -> [usize; 2] {
        [self.extent_along(0), self.extent_along(1)]
    }

    const fn extent_along(&self, axis: usize) -> usize {
        self.dilation[axis].saturating_mul(self.kernel[axis].saturating_sub(1)).saturating_add(1)
    }

    /// Padding in pixels for an input of `[height, width]`: `(begin, end)`.
    pub fn pads(&self, input: [usize; 2]) -> ([usize; 2], [usize; 2]) {
        match self.padding {
            Padding::Explicit { begin, end } => (begin, end),
            Padding::Same => {
                let extent = self.extent();
                let total = |axis: usize| {
                    let stride = self.stride[axis].max(1);
                    let last = input[axis].div_ceil(stride).saturating_sub(1) * stride;
                    last.saturating_add(extent[axis]).saturating_sub(input[axis])
                };
                let total = [total(0), total(1)];
                let begin = [total[0] / 2, total[1] / 2];
                (begin, [total[0] - begin[0], total[1] - begin[1]])
            }
        }
    }

    /// `[height, width]` of the output for an input of `[height, width]`.
    ///
    /// # Errors
    /// [`TooSmall`] when the padded input does not hold one placement, and in ceil mode lacks a stride or more.
    pub fn output(&self, input: [usize; 2]) -> Result<[usize; 2], TooSmall> {
        let (begin, end) = self.pads(input);
        let extent = self.extent();
        let mut output = [0; 2];
        for axis in 0..2 {
            let padding = begin[axis].saturating_add(end[axis]);
            let padded = input[axis].saturating_add(padding);
            let stride = self.stride[axis].max(1);
            let room = padded.saturating_add(if self.ceil_mode { stride - 1 } else { 0 });
            if room < extent[axis] || input[axis] == 0 {
                return Err(TooSmall { axis, input: input[axis], padding, extent: extent[axis] });
            }
            let mut last = (room - extent[axis]) / stride;
            if self.ceil_mode && last.saturating_mul(stride) >= input[axis].saturating_add(begin[axis]) {
                last -= 1;
            }
            output[axis] = last.saturating_add(1);
        }
        Ok(output)
    }

    /// Where the kernel's element `tap` lies along `axis` (0 height, 1 width) in the window's `placement`:
    /// `placement · stride + tap · dilation - begin`, a pixel of an input of `[height, width]`, or `None` on padding.
    pub fn pixel(&self, axis: usize, placement: usize, tap: usize, input: [usize; 2]) -> Option<usize> {
        let (begin, _) = self.pads(input);
        let pixel = (placement * self.stride[axis] + tap * self.dilation[axis]).checked_sub(begin[axis])?;
        (pixel < input[axis]).then_some(pixel)
    }

    /// The placements along `axis` in which the kernel's element `tap` lies on the input of `[height, width]`, not on
    /// padding: those for which [`Window::pixel`] is a pixel. Empty when there are none.
    pub fn placements(&self, axis: usize, tap: usize, input: [usize; 2]) -> std::ops::Range<usize> {
        let outputs = self.output(input).map_or(0, |output| output[axis]);
        let (begin, _) = self.pads(input);
        let at_or_after = |pixel: usize| {
            (pixel + begin[axis]).saturating_sub(tap * self.dilation[axis]).div_ceil(self.stride[axis]).min(outputs)
        };
        at_or_after(0)..at_or_after(input[axis])
    }
}

/// Multiply-adds of a convolution for one picture: every output element sums `kernel area × in_channels / groups`
/// products. No groups count as one.
pub fn conv_macs(window: &Window, in_channels: usize, groups: usize, out_channels: usize, output: [usize; 2]) -> u64 {
    let [kh, kw] = window.kernel;
    let factors = [kh, kw, in_channels / groups.max(1), out_channels, output[0], output[1]];
    factors.into_iter().fold(1, |product, factor| product.saturating_mul(factor as u64))
}

/// What one element of a layer's output sees of the net's input, in pixels, `[height, width]`
/// (Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, eq. 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Pixels seen.
    pub size: [usize; 2],
    /// Pixels of the net's input between two neighbouring elements: the product of all strides.
    pub stride: [usize; 2],
}

impl ReceptiveField {
    /// A pixel of the input sees itself.
    pub const PIXEL: ReceptiveField = ReceptiveField { size: [1; 2], stride: [1; 2] };

    /// After another window: `size += (extent - 1) · stride`, `stride *= window.stride`.
    pub fn through(self, window: &Window) -> ReceptiveField {
        let extent = window.extent();
        let size = |axis: usize| (extent[axis] - 1).saturating_mul(self.stride[axis]).saturating_add(self.size[axis]);
        let stride = |axis: usize| self.stride[axis].saturating_mul(window.stride[axis]);
        ReceptiveField { size: [size(0), size(1)], stride: [stride(0), stride(1)] }
    }

    /// Where branches meet: the largest of each.
    pub fn merge(self, other: ReceptiveField) -> ReceptiveField {
        let max = |a: [usize; 2], b: [usize; 2]| [a[0].max(b[0]), a[1].max(b[1])];
        ReceptiveField { size: max(self.size, other.size), stride: max(self.stride, other.stride) }
    }
}

/// The pixels that element `index` of an adaptive pooling from `input` to `output` pixels covers along one axis:
/// `⌊index · input / output⌋` up to `⌈(index + 1) · input / output⌉` (PyTorch's rule). Never empty; windows overlap where
/// the sizes do not divide.
pub fn adaptive_span(index: usize, input: usize, output: usize) -> std::ops::Range<usize> {
    let (index, input, output) = (index as u128, input as u128, output as u128);
    let (start, end) = (index * input / output, ((index + 1) * input).div_ceil(output));
    start as usize..end as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lecture_l7_same_size_at_stride_one() {
        assert_eq!(Window::square(3).padding(1).output([224, 224]), Ok([224, 224]));
    }

    #[test]
    fn known_output_sizes() {
        // AlexNet's first layer, on 227 without padding and on 224 with padding 2 (torchvision).
        assert_eq!(Window::square(11).stride(4).output([227, 227]), Ok([55, 55]));
        assert_eq!(Window::square(11).stride(4).padding(2).output([224, 224]), Ok([55, 55]));
        // GoogLeNet's pooling in ceil mode: torch.nn.MaxPool2d(3, 2, ceil_mode=True) on 112 gives 56, on 7 gives 3.
        let ceil = Window { ceil_mode: true, ..Window::square(3).stride(2) };
        assert_eq!(ceil.output([112, 7]), Ok([56, 3]));
        // The last window would start in the padding: torch.nn.MaxPool2d(2, 2, padding=1, ceil_mode=True) on 3 gives 2.
        let ceil = Window { ceil_mode: true, ..Window::square(2).stride(2).padding(1) };
        assert_eq!(ceil.output([3, 3]), Ok([2, 2]));
        let dilated = Window { dilation: [2, 3], ..Window::square(3) };
        assert_eq!(dilated.output([10, 10]), Ok([6, 4]));
    }

    /// torch.nn.MaxPool2d(3, stride, ceil_mode=True) on a single axis: GoogLeNet's last poolings on pictures of 15 to 30.
    #[test]
    fn in_ceil_mode_the_only_window_may_hang_over() {
        let ceil = |kernel: usize, stride| Window { ceil_mode: true, ..Window::square(kernel).stride(stride) };
        assert_eq!(ceil(3, 2).output([2, 3]), Ok([1, 1]));
        assert_eq!(ceil(2, 2).output([1, 2]), Ok([1, 1]));
        assert_eq!(ceil(3, 3).output([1, 4]), Ok([1, 2]));
        assert_eq!(ceil(5, 2).padding(1).output([2, 3]), Ok([1, 1]));
        // A whole stride is lacking: PyTorch calculates an output of 0 and refuses.
        for (window, input) in [(ceil(3, 2), 1), (ceil(3, 1), 2), (ceil(5, 3), 2), (ceil(5, 2).padding(1), 1)] {
            let error = window.output([8, input]).unwrap_err();
            assert_eq!((error.axis, error.input, error.extent), (1, input, window.kernel[1]));
        }
    }

    #[test]
    fn adaptive_windows_are_pytorchs() {
        let spans = |input, output| (0..output).map(|i| adaptive_span(i, input, output)).collect::<Vec<_>>();
        assert_eq!(spans(7, 7), (0..7).map(|i| i..i + 1).collect::<Vec<_>>());
        assert_eq!(spans(6, 3), [0..2, 2..4, 4..6]);
        // torch.nn.AdaptiveAvgPool1d(3) on 5 elements, and 7 on 5.
        assert_eq!(spans(5, 3), [0..2, 1..4, 3..5]);
        assert_eq!(spans(5, 7), [0..1, 0..2, 1..3, 2..3, 2..4, 3..5, 4..5]);
    }

    #[test]
    fn same_padding_puts_the_odd_pixel_last() {
        let window = Window { padding: Padding::Same, ..Window::square(3).stride(2) };
        assert_eq!(window.pads([224, 224]), ([0, 0], [1, 1]));
        assert_eq!(window.output([224, 225]), Ok([112, 113]));
        let even = Window { padding: Padding::Same, ..Window::square(4) };
        assert_eq!(even.pads([10, 10]), ([1, 1], [2, 2]));
        assert_eq!(even.output([10, 10]), Ok([10, 10]));
    }

    #[test]
    fn placements_are_those_that_lie_on_a_pixel() {
        let window = Window {
            kernel: [3, 4],
            stride: [2, 3],
            padding: Padding::Explicit { begin: [3, 0], end: [1, 5] },
            dilation: [2, 1],
            ceil_mode: false,
        };
        let input = [5, 6];
        let output = window.output(input).unwrap();
        for (axis, outputs) in output.into_iter().enumerate() {
            for tap in 0..window.kernel[axis] {
                let on_a_pixel = |&o: &usize| window.pixel(axis, o, tap, input).is_some();
                let expected: Vec<usize> = (0..outputs).filter(on_a_pixel).collect();
                assert_eq!(window.placements(axis, tap, input).collect::<Vec<_>>(), expected, "axis {axis}, tap {tap}");
            }
        }
        assert_eq!(window.pixel(0, 0, 1, input), None);
        assert_eq!(window.pixel(0, 1, 1, input), Some(1));
    }

    #[test]
    fn too_small_an_input_is_an_error() {
        let error = Window::square(5).padding(1).output([8, 2]).unwrap_err();
        assert_eq!(error, TooSmall { axis: 1, input: 2, padding: 2, extent: 5 });
        assert!(error.to_string().contains("5 pixels of width"));
    }

    #[test]
    fn vgg16_sees_212_pixels() {
        let (conv, pool) = (Window::square(3).padding(1), Window::square(2).stride(2));
        let mut field = ReceptiveField::PIXEL;
        for convolutions in [2, 2, 3, 3, 3] {
            for _ in 0..convolutions {
                field = field.through(&conv);
            }
            field = field.through(&pool);
        }
        assert_eq!(field, ReceptiveField { size: [212; 2], stride: [32; 2] });
    }

    /// The stride of a stage is on its first 3×3 convolution in torchvision's form, on the 1×1 before it in the paper's.
    #[test]
    fn resnet50_sees_427_pixels_and_483_in_the_papers_form() {
        for (on_one, on_three, expected) in [(1, 2, 427), (2, 1, 483)] {
            let mut field = ReceptiveField::PIXEL.through(&Window::square(7).stride(2).padding(3));
            field = field.through(&Window::square(3).stride(2).padding(1));
            for (stage, blocks) in [3, 4, 6, 3].into_iter().enumerate() {
                for block in 0..blocks {
                    let strided = |stride: usize| if stage > 0 && block == 0 { stride } else { 1 };
                    field = field.through(&Window::square(1).stride(strided(on_one)));
                    field = field.through(&Window::square(3).stride(strided(on_three)).padding(1));
                }
            }
            assert_eq!(field, ReceptiveField { size: [expected; 2], stride: [32; 2] });
        }
    }

    #[test]
    fn lecture_l8_macs() {
        assert_eq!(conv_macs(&Window::square(3), 128, 1, 64, [1, 1]), 73_728);
    }

    #[test]
    fn no_setting_overflows() {
        let values = [0, 1, 2, usize::MAX / 2, usize::MAX - 1, usize::MAX];
        for case in 0..values.len().pow(4) {
            let pick = |digit: u32| values[case / values.len().pow(digit) % values.len()];
            let (kernel, stride, other, input) = (pick(0), pick(1), pick(2), pick(3));
            for (ceil_mode, padding) in [(false, Padding::Same), (true, Padding::symmetric(other))] {
                let window =
                    Window { kernel: [kernel; 2], stride: [stride; 2], padding, dilation: [other, 1], ceil_mode };
                let _ = window.output([input; 2]);
                conv_macs(&window, input, other, input, [input; 2]);
                ReceptiveField::PIXEL.through(&window).through(&window);
            }
        }
    }
}
