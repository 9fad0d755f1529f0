//! Each operation's settings in text, by PyTorch's names and with its defaults. What has its default is not written.

use super::fields::{Fault, Fields};
use crate::geometry::{Padding, Window};
use crate::ops::{
    Activation, AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, ChannelShuffle, Conv2d, Dropout, InitRule, LayerNorm2d,
    LayerScale, Linear, LocalResponseNorm, MaxPool2d, Op, PadChannels, Slice, StochasticDepth, activation,
};

type Reader = fn(&mut Fields<'_>) -> Result<Op, Fault>;

/// How each operation but the activations is read, by [`Op::name`].
const READERS: [(&str, Reader); 20] = [
    ("conv2d", |fields| {
        let out_channels = fields.required("out_channels")?;
        let window = Window {
            stride: fields.get("stride")?.unwrap_or([1; 2]),
            dilation: fields.get("dilation")?.unwrap_or([1; 2]),
            ..kernel_and_padding(fields)?
        };
        let groups = fields.get("groups")?.unwrap_or(1);
        let bias = fields.get("bias")?.unwrap_or(true);
        Ok(Op::Conv2d(Conv2d { out_channels, window, groups, bias, init: init(fields)? }))
    }),
    ("linear", |fields| {
        let out_features = fields.required("out_features")?;
        let bias = fields.get("bias")?.unwrap_or(true);
        let per_pixel = fields.get("per_pixel")?.unwrap_or(false);
        Ok(Op::Linear(Linear { out_features, bias, per_pixel, init: init(fields)? }))
    }),
    ("batch_norm2d", |fields| {
        let default = BatchNorm2d::default();
        Ok(Op::BatchNorm2d(BatchNorm2d {
            eps: fields.get("eps")?.unwrap_or(default.eps),
            momentum: fields.get("momentum")?.unwrap_or(default.momentum),
        }))
    }),
    ("layer_norm2d", |fields| {
        let LayerNorm2d { eps } = LayerNorm2d::default();
        Ok(Op::LayerNorm2d(LayerNorm2d { eps: fields.get("eps")?.unwrap_or(eps) }))
    }),
    ("local_response_norm", |fields| {
        let default = LocalResponseNorm::new(fields.required("size")?);
        Ok(Op::LocalResponseNorm(LocalResponseNorm {
            size: default.size,
            alpha: fields.get("alpha")?.unwrap_or(default.alpha),
            beta: fields.get("beta")?.unwrap_or(default.beta),
            k: fields.get("k")?.unwrap_or(default.k),
        }))
    }),
    ("softmax", |_| Ok(Op::Softmax)),
    ("layer_scale", |fields| Ok(Op::LayerScale(LayerScale { init: fields.get("init_value")?.unwrap_or(LAYER_SCALE) }))),
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
    ("adaptive_avg_pool2d", |fields| {
        Ok(Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output: fields.required("output_size")? }))
    }),
    ("add", |_| Ok(Op::Add)),
    ("mul", |_| Ok(Op::Mul)),
    ("concat", |_| Ok(Op::Concat)),
    ("pad_channels", |fields| {
        let [before, after] = ["before", "after"].map(|key| fields.get(key));
        Ok(Op::PadChannels(PadChannels { before: before?.unwrap_or(0), after: after?.unwrap_or(0) }))
    }),
    ("slice", |fields| {
        let start = fields.get("start")?.unwrap_or(0);
        Ok(Op::Slice(Slice { start, end: fields.required("end")? }))
    }),
    ("channel_shuffle", |fields| Ok(Op::ChannelShuffle(ChannelShuffle { groups: fields.required("groups")? }))),
    ("dropout", |fields| Ok(Op::Dropout(Dropout { p: fields.get("p")?.unwrap_or(DROPOUT) }))),
    ("dropout2d", |fields| Ok(Op::Dropout2d(Dropout { p: fields.get("p")?.unwrap_or(DROPOUT) }))),
    ("stochastic_depth", |fields| Ok(Op::StochasticDepth(StochasticDepth { p: fields.required("p")? }))),
    ("flatten", |_| Ok(Op::Flatten)),
];

/// The operation of that name, with its settings read from `fields`; nothing if no operation has the name.
pub(super) fn read(name: &str, fields: &mut Fields<'_>) -> Option<Result<Op, Fault>> {
    if let Some((_, reader)) = READERS.iter().find(|(known, _)| *known == name) {
        return Some(reader(fields));
    }
    activation::named(name).map(|activation| read_activation(activation, fields))
}

/// Names of all operations.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let activations = activation::samples().into_iter().map(|activation| Op::Activation(activation).name());
    READERS.iter().map(|(name, _)| *name).chain(activations)
}

fn read_activation(mut activation: Activation, fields: &mut Fields<'_>) -> Result<Op, Fault> {
    for (key, number) in activation::settings(&mut activation) {
        *number = fields.get(key)?.unwrap_or(*number);
    }
    Ok(Op::Activation(activation))
}

/// PyTorch's probability of a dropout.
const DROPOUT: f32 = 0.5;

/// The first factors of a layer scale: ConvNeXt's.
const LAYER_SCALE: f32 = 1e-6;

/// How weight and bias start.
fn init(fields: &mut Fields<'_>) -> Result<[InitRule; 2], Fault> {
    let [weight, bias] = [WEIGHT_INIT, BIAS_INIT].map(|key| fields.get(key));
    let [default_weight, default_bias] = InitRule::KAIMING;
    Ok([weight?.unwrap_or(default_weight), bias?.unwrap_or(default_bias)])
}

const WEIGHT_INIT: &str = "weight_init";
const BIAS_INIT: &str = "bias_init";

fn write_init([weight, bias]: [InitRule; 2]) -> [(&'static str, bool, String); 2] {
    let [default_weight, default_bias] = InitRule::KAIMING;
    let text = |rule: InitRule| format!("\"{}\"", rule.to_text());
    [(WEIGHT_INIT, weight != default_weight, text(weight)), (BIAS_INIT, bias != default_bias, text(bias))]
}

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
        Op::Conv2d(Conv2d { out_channels, window, groups, bias, init }) => {
            let settings = vec![("out_channels", out_channels.to_string())];
            let settings = [settings, write_window(window, [1; 2])].concat();
            let settings =
                with(settings, [("groups", *groups != 1, groups.to_string()), ("bias", !bias, bias.to_string())]);
            with(settings, write_init(*init))
        }
        Op::Linear(Linear { out_features, bias, per_pixel, init }) => {
            let features = vec![("out_features", out_features.to_string())];
            let flags = [("bias", !bias, bias.to_string()), ("per_pixel", *per_pixel, per_pixel.to_string())];
            with(with(features, flags), write_init(*init))
        }
        Op::LocalResponseNorm(LocalResponseNorm { size, alpha, beta, k }) => {
            let default = LocalResponseNorm::new(*size);
            let numbers = [("alpha", *alpha, default.alpha), ("beta", *beta, default.beta), ("k", *k, default.k)];
            let numbers = numbers.map(|(key, value, default)| (key, value != default, format!("{value:?}")));
            with(vec![("size", size.to_string())], numbers)
        }
        Op::AdaptiveAvgPool2d(AdaptiveAvgPool2d { output }) => vec![("output_size", pair(*output))],
        Op::PadChannels(PadChannels { before, after }) => {
            let sides = [("before", *before), ("after", *after)];
            with(Vec::new(), sides.map(|(key, channels)| (key, channels != 0, channels.to_string())))
        }
        Op::BatchNorm2d(BatchNorm2d { eps, momentum }) => {
            let default = BatchNorm2d::default();
            let eps = ("eps", *eps != default.eps, format!("{eps:?}"));
            with(Vec::new(), [eps, ("momentum", *momentum != default.momentum, format!("{momentum:?}"))])
        }
        Op::LayerNorm2d(LayerNorm2d { eps }) => {
            let differs = *eps != LayerNorm2d::default().eps;
            with(Vec::new(), [("eps", differs, format!("{eps:?}"))])
        }
        Op::LayerScale(LayerScale { init }) => {
            with(Vec::new(), [("init_value", *init != LAYER_SCALE, format!("{init:?}"))])
        }
        Op::Slice(Slice { start, end }) => {
            let start = with(Vec::new(), [("start", *start != 0, start.to_string())]);
            [start, vec![("end", end.to_string())]].concat()
        }
        Op::ChannelShuffle(ChannelShuffle { groups }) => vec![("groups", groups.to_string())],
        Op::StochasticDepth(StochasticDepth { p }) => vec![("p", format!("{p:?}"))],
        Op::MaxPool2d(MaxPool2d { window }) => write_window(window, window.kernel),
        Op::AvgPool2d(AvgPool2d { window, count_include_pad }) => {
            let counted = ("count_include_pad", !count_include_pad, count_include_pad.to_string());
            with(write_window(window, window.kernel), [counted])
        }
        Op::Dropout(Dropout { p }) | Op::Dropout2d(Dropout { p }) => vec![("p", format!("{p:?}"))],
        Op::Activation(activation) => {
            let (mut own, mut default) =
                (*activation, activation::named(op.name()).expect("every activation has a name"));
            let pairs = activation::settings(&mut own).into_iter().zip(activation::settings(&mut default));
            let differing = pairs.filter(|((_, own), (_, default))| own != default);
            differing.map(|((key, own), _)| (key, format!("{own:?}"))).collect()
        }
        Op::Input(_) | Op::Softmax | Op::Add | Op::Mul | Op::Concat | Op::Flatten => Vec::new(),
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
