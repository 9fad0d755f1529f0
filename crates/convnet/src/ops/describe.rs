//! An operation's settings in a few characters for people, as papers write them: `3x3/2 p1 64→128 g2`.

use super::{
    AdaptiveAvgPool2d, AvgPool2d, ChannelShuffle, Conv2d, Dropout, LocalResponseNorm, MaxPool2d, Op, PadChannels,
    Shape, Slice, StochasticDepth,
};
use crate::geometry::{Padding, Window};

impl Op {
    /// The settings in short for inputs that [`Op::output`] has accepted; empty where there is nothing to say. Kernel,
    /// `/stride`, `p`adding, `d`ilation, channels or features, `g`roups; two numbers are height and width, four paddings
    /// are top, left, bottom, right. What is usual (stride 1, no padding, a bias) is left out.
    ///
    /// ```
    /// use convnet::{geometry::Window, ops::{Conv2d, Op, Shape}};
    /// let conv = Op::Conv2d(Conv2d { groups: 2, ..Conv2d::new(128, Window::square(3).stride(2).padding(1)) });
    /// assert_eq!(conv.settings(&[Shape::Map([64, 56, 56])]), "3x3/2 p1 64→128 g2");
    /// ```
    pub fn settings(&self, inputs: &[Shape]) -> String {
        match self {
            Op::Conv2d(Conv2d { out_channels, window, groups, .. }) => {
                let groups = if *groups == 1 { String::new() } else { format!(" g{groups}") };
                format!("{} {}→{out_channels}{groups}", short(window), channels(inputs))
            }
            Op::Linear(linear) => {
                let pixel = if linear.per_pixel { " per pixel" } else { "" };
                format!("{}→{}{pixel}", channels(inputs), linear.out_features)
            }
            Op::MaxPool2d(MaxPool2d { window }) | Op::AvgPool2d(AvgPool2d { window, .. }) => short(window),
            Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [h, w] }) => format!("to {h}x{w}"),
            Op::LocalResponseNorm(LocalResponseNorm { size, .. }) => format!("{size} channels"),
            Op::PadChannels(PadChannels { before, after }) => format!("{before} + {} + {after}", channels(inputs)),
            Op::Slice(Slice { start, end }) => format!("{start}..{end} of {}", channels(inputs)),
            Op::ChannelShuffle(ChannelShuffle { groups }) => format!("g{groups}"),
            Op::Dropout(Dropout { p }) | Op::Dropout2d(Dropout { p }) => p.to_string(),
            Op::StochasticDepth(StochasticDepth { p }) => p.to_string(),
            Op::Concat => inputs.iter().map(|shape| shape.channels().to_string()).collect::<Vec<_>>().join("+"),
            Op::Activation(activation) => {
                let mut activation = *activation;
                let numbers = super::activation::settings(&mut activation);
                numbers.into_iter().map(|(_, number)| number.to_string()).collect::<Vec<_>>().join(", ")
            }
            Op::Input(_) | Op::BatchNorm2d(_) | Op::LayerNorm2d(_) | Op::Softmax => String::new(),
            Op::LayerScale(_) | Op::Add | Op::Mul | Op::Flatten => String::new(),
        }
    }
}

/// Channels of maps, or features of a vector.
fn channels(inputs: &[Shape]) -> usize {
    inputs.first().map_or(0, Shape::channels)
}

/// `3x3/2 p1 d2 ceil`.
pub(crate) fn short(window: &Window) -> String {
    let pair = |[h, w]: [usize; 2]| if h == w { h.to_string() } else { format!("{h}x{w}") };
    let Window { kernel: [kh, kw], stride, padding, dilation, ceil_mode } = *window;
    let mut text = format!("{kh}x{kw}");
    if stride != [1; 2] {
        text += &format!("/{}", pair(stride));
    }
    match padding {
        Padding::NONE => (),
        Padding::Explicit { begin, end } if begin == end => text += &format!(" p{}", pair(begin)),
        Padding::Explicit { begin: [top, left], end: [bottom, right] } => {
            text += &format!(" p{top},{left},{bottom},{right}");
        }
        Padding::Same => text += " same",
    }
    if dilation != [1; 2] {
        text += &format!(" d{}", pair(dilation));
    }
    if ceil_mode {
        text += " ceil";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Linear;

    #[test]
    fn windows_in_short() {
        assert_eq!(short(&Window::square(2).stride(2)), "2x2/2");
        let odd = Window {
            kernel: [3, 5],
            stride: [2, 1],
            padding: Padding::Explicit { begin: [1, 0], end: [1, 2] },
            dilation: [1, 2],
            ceil_mode: true,
        };
        assert_eq!(short(&odd), "3x5/2x1 p1,0,1,2 d1x2 ceil");
        assert_eq!(short(&Window { padding: Padding::per_axis([1, 2]), ..Window::square(3) }), "3x3 p1x2");
        assert_eq!(short(&Window { padding: Padding::Same, ..Window::square(3) }), "3x3 same");
    }

    #[test]
    fn settings_name_what_differs() {
        let map = Shape::Map([16, 8, 8]);
        let settings = |op: Op, inputs: &[Shape]| op.settings(inputs);
        assert_eq!(settings(Op::Concat, &[map, map, map]), "16+16+16");
        assert_eq!(settings(Op::PadChannels(PadChannels { before: 8, after: 8 }), &[map]), "8 + 16 + 8");
        assert_eq!(settings(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: [1, 1] }), &[map]), "to 1x1");
        assert_eq!(settings(Op::Dropout(Dropout { p: 0.5 }), &[map]), "0.5");
        assert_eq!(settings(Op::RELU, &[map]), "");
        assert_eq!(settings(Op::Slice(Slice { start: 8, end: 16 }), &[map]), "8..16 of 16");
        assert_eq!(settings(Op::Linear(Linear { per_pixel: true, ..Linear::new(64) }), &[map]), "16→64 per pixel");
    }
}
