//! Settings as operations, so that a net can be written without naming [`Op`]'s cases.

use super::*;

/// Says for settings which case of [`Op`] they are.
macro_rules! operations {
    ($($settings:ident)*) => {
        $(impl From<$settings> for Op {
            fn from(settings: $settings) -> Op {
                Op::$settings(settings)
            }
        })*
    };
}

operations! {
    Activation AdaptiveAvgPool2d AvgPool2d BatchNorm2d ChannelShuffle Conv2d Dropout LayerNorm2d LayerScale Linear
    LocalResponseNorm MaxPool2d PadChannels Slice StochasticDepth
}
