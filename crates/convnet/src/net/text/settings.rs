//! Each operation's settings in text, by PyTorch's names and with its defaults. What has its default is not written.

use super::fields::{Fault, Fields};
use crate::geometry::{Padding, Window};
use crate::ops::{AvgPool2d, BatchNorm2d, Conv2d, Dropout, Linear, MaxPool2d, Op};

type Reader = fn(&mut Fields<'_>) -> Result<Op, Fault>;

/// How each operation is read, by [`Op::name`].
pub(super) const READERS: [(&str, Reader); 9] = [
    ("conv2d", |fields| {
        let out_channels = fields.required("out_channels")?;
        let window = Window {
            stride: fields.get("stride")?.unwrap_or([1; 2]),
            dilation: fields.get("dilation")?.unwrap_or([1; 2]),
            ..kernel_and_padding(fields)?
        };
        let groups = fields.get("groups")?.unwrap_or(1);
        Ok(Op::Conv2d(Conv2d { out_channels, window, groups, bias: fields.get("bias")?.unwrap_or(true) }))
    }),
    ("linear", |fields| {
        let out_features = fields.required("out_features")?;
        Ok(Op::Linear(Linear { out_features, bias: fields.get("bias")?.unwrap_or(true) }))
    }),
    ("batch_norm2d", |fields| {
        let default = BatchNorm2d::default();
        Ok(Op::BatchNorm2d(BatchNorm2d {
            eps: fields.get("eps")?.unwrap_or(default.eps),
            momentum: fields.get("momentum")?.unwrap_or(default.momentum),
        }))
    }),
    ("relu", |_| Ok(Op::Relu)),
    ("max_pool2d", |fields| {
        let window = pooling(fields)?;
        Ok(Op::MaxPool2d(MaxPool2d {
            window: Window { dilation: fields.get("dilation")?.unwrap_or([1; 2]), ..window },
        }))
    }),
    ("avg_pool2d", |fields| {
        let count_include_pad = fields.get("count_include_pad")?.unwrap_or(true);
        Ok(Op::AvgPool2d(AvgPool2d { window: pooling(fields)?, count_include_pad }))
    }),
    ("dropout", |fields| Ok(Op::Dropout(Dropout { p: fields.get("p")?.unwrap_or(DROPOUT) }))),
    ("dropout2d", |fields| Ok(Op::Dropout2d(Dropout { p: fields.get("p")?.unwrap_or(DROPOUT) }))),
    ("flatten", |_| Ok(Op::Flatten)),
];

/// PyTorch's probability of a dropout.
const DROPOUT: f32 = 0.5;

fn kernel_and_padding(fields: &mut Fields<'_>) -> Result<Window, Fault> {
    let kernel = fields.required("kernel_size")?;
    let padding = fields.get("padding")?.unwrap_or(Padding::NONE);
    Ok(Window { kernel, padding, ..Window::square(1) })
}

/// A pooling's stride is its kernel unless it is given.
fn pooling(fields: &mut Fields<'_>) -> Result<Window, Fault> {
    let window = kernel_and_padding(fields)?;
    let stride = fields.get("stride")?.unwrap_or(window.kernel);
    Ok(Window { stride, ceil_mode: fields.get("ceil_mode")?.unwrap_or(false), ..window })
}

/// The settings of an operation that are not its defaults, as `(key, TOML value)`.
pub(super) fn write(op: &Op) -> Vec<(&'static str, String)> {
    match op {
        Op::Conv2d(Conv2d { out_channels, window, groups, bias }) => {
            let settings = vec![("out_channels", out_channels.to_string())];
            let settings = [settings, write_window(window, [1; 2])].concat();
            with(settings, [("groups", *groups != 1, groups.to_string()), ("bias", !bias, bias.to_string())])
        }
        Op::Linear(Linear { out_features, bias }) => {
            with(vec![("out_features", out_features.to_string())], [("bias", !bias, bias.to_string())])
        }
        Op::BatchNorm2d(BatchNorm2d { eps, momentum }) => {
            let default = BatchNorm2d::default();
            let eps = ("eps", *eps != default.eps, format!("{eps:?}"));
            with(Vec::new(), [eps, ("momentum", *momentum != default.momentum, format!("{momentum:?}"))])
        }
        Op::MaxPool2d(MaxPool2d { window }) => write_window(window, window.kernel),
        Op::AvgPool2d(AvgPool2d { window, count_include_pad }) => {
            let counted = ("count_include_pad", !count_include_pad, count_include_pad.to_string());
            with(write_window(window, window.kernel), [counted])
        }
        Op::Dropout(Dropout { p }) | Op::Dropout2d(Dropout { p }) => vec![("p", format!("{p:?}"))],
        Op::Input(_) | Op::Relu | Op::Flatten => Vec::new(),
    }
}

fn write_window(window: &Window, default_stride: [usize; 2]) -> Vec<(&'static str, String)> {
    let Window { kernel, stride, padding, dilation, ceil_mode } = window;
    let padding_text = match padding {
        Padding::Same => "\"same\"".into(),
        Padding::Explicit { begin, end } if begin == end => pair(*begin),
        Padding::Explicit { begin: [top, left], end: [bottom, right] } => format!("[{top}, {left}, {bottom}, {right}]"),
    };
    with(
        vec![("kernel_size", pair(*kernel))],
        [
            ("stride", *stride != default_stride, pair(*stride)),
            ("padding", *padding != Padding::NONE, padding_text),
            ("dilation", *dilation != [1; 2], pair(*dilation)),
            ("ceil_mode", *ceil_mode, ceil_mode.to_string()),
        ],
    )
}

fn pair([height, width]: [usize; 2]) -> String {
    if height == width { height.to_string() } else { format!("[{height}, {width}]") }
}

/// `settings`, and of `(key, differs from its default, value)` those that differ.
fn with<const N: usize>(
    settings: Vec<(&'static str, String)>,
    more: [(&'static str, bool, String); N],
) -> Vec<(&'static str, String)> {
    let differing = more.into_iter().filter(|(_, differs, _)| *differs);
    settings.into_iter().chain(differing.map(|(key, _, value)| (key, value))).collect()
}
