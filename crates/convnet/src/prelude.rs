//! What most programs use: `use convnet::prelude::*;`.

pub use crate::classifier::{Classifier, Description};
pub use crate::data::{Dataset, Splits, ValSplit};
pub use crate::exec::{Engine, Gradients, Inference, ParameterGroup, Precision, Step, Training, Update};
pub use crate::geometry::Window;
pub use crate::net::{Net, NodeId};
pub use crate::ops::{
    Activation, AdaptiveAvgPool2d, AvgPool2d, BatchNorm2d, Conv2d, Dropout, LayerNorm2d, Linear, MaxPool2d, Op, Shape,
};
pub use crate::predictor::Predictor;
pub use crate::train::{Recipe, Trainer};
pub use crate::{Error, Result, StateDict, Tensor, weights, zoo};
