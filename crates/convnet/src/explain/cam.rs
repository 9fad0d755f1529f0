//! Class activation maps: the maps of a layer, weighted by the gradient of a class's output by them.
//!
//! With maps `A[k]` and gradients `G[k] = ∂y/∂A[k]` of `k` channels, a map is `ReLU(Σ_k w[k] · A[k])`:
//!
//! | method | weight |
//! | --- | --- |
//! | Grad-CAM | the mean of `G[k]` |
//! | HiResCAM | `G[k]` itself, element by element |
//! | LayerCAM | `ReLU(G[k])`, element by element |
//! | Grad-CAM++ | `Σ ReLU(G[k]) · a[k]` with `a[k] = G[k]² / (2 G[k]² + ΣA[k] · G[k]³ + 1e-6)`, and 0 where `G[k]` is 0 |
//!
//! The last one is pytorch-grad-cam's form of the paper's equation 19, small number included. Sums are taken in f64: those of
//! Grad-CAM++ cancel.

use super::map::Map;
use super::method::Method;
use crate::net::{Net, NodeId};
use crate::ops::{Category, Op, Shape};
use crate::{Error, Result};

/// Keeps the denominator of Grad-CAM++ from 0, as pytorch-grad-cam has it.
const SMALL: f64 = 1e-6;

/// The map of a method from maps and gradients of `[channels, height, width]`.
pub(super) fn map(method: Method, [_, height, width]: [usize; 3], maps: &[f32], gradients: &[f32]) -> Map {
    let pixels = height * width;
    let mut sums = vec![0.0_f64; pixels];
    for (map, gradient) in maps.chunks_exact(pixels).zip(gradients.chunks_exact(pixels)) {
        let weight = weight(method, map, gradient);
        for ((sum, &value), &by) in sums.iter_mut().zip(map).zip(gradient) {
            let factor = match weight {
                Weight::Channel(weight) => weight,
                Weight::Gradient => f64::from(by),
                Weight::PositiveGradient => f64::from(by.max(0.0)),
            };
            *sum += factor * f64::from(value);
        }
    }
    Map::new([height, width], sums.into_iter().map(|sum| sum.max(0.0) as f32).collect())
}

/// The factor of a channel's maps.
enum Weight {
    /// One number.
    Channel(f64),
    /// The gradient, element by element.
    Gradient,
    PositiveGradient,
}

fn weight(method: Method, map: &[f32], gradient: &[f32]) -> Weight {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
    match method {
        Method::HiResCam => Weight::Gradient,
        Method::LayerCam => Weight::PositiveGradient,
        Method::GradCamPlusPlus => {
            let sum = wide(map);
            let share = |&by: &f32| {
                let by = f64::from(by);
                let alpha = by * by / (2.0 * by * by + sum * by * by * by + SMALL);
                if by > 0.0 { alpha * by } else { 0.0 }
            };
            Weight::Channel(gradient.iter().map(share).sum())
        }
        _ => Weight::Channel(wide(gradient) / gradient.len() as f64),
    }
}

/// The last maps of a net, of more than one pixel: what a pooling over whole maps, or the classifier, reads.
///
/// # Errors
/// A net in which no layer has maps.
pub(super) fn last_maps(net: &Net) -> Result<NodeId> {
    let needed = net.needed(false);
    let has_maps = |index: &usize| {
        let node = &net.nodes()[*index];
        let passes = matches!(node.op, Op::AdaptiveAvgPool2d(_)) || node.op.category() == Category::Dropout;
        needed[*index] && !passes && matches!(node.shape, Shape::Map([_, h, w]) if h * w > 1)
    };
    match (1..net.nodes().len()).rev().find(has_maps) {
        Some(index) => Ok(NodeId(index)),
        None => Err(Error::invalid(format!("the net '{}' has no layer with maps of more than one pixel", net.name()))),
    }
}

/// The maps of a node, of more than one pixel: channels, height and width.
///
/// # Errors
/// [`Error::Layer`] for one without maps, or with maps of one pixel.
pub(super) fn maps_of(net: &Net, node: NodeId) -> Result<[usize; 3]> {
    match maps_or_pixels_of(net, node)? {
        [_, 1, 1] => Err(no_maps(net, node, "maps of one pixel")),
        dims => Ok(dims),
    }
}

/// The maps of a node, of any size: channels, height and width.
///
/// # Errors
/// [`Error::Layer`] for one without maps.
pub(super) fn maps_or_pixels_of(net: &Net, node: NodeId) -> Result<[usize; 3]> {
    match net.node(node).shape {
        Shape::Map(dims) => Ok(dims),
        Shape::Vector(features) => Err(no_maps(net, node, &format!("a vector of {features} numbers"))),
    }
}

fn no_maps(net: &Net, node: NodeId, found: &str) -> Error {
    let last = last_maps(net).map(|last| format!("; the last such layer is '{}'", net.node(last).name));
    let problem = format!("expected a layer with maps, but this one gives {found}{}", last.unwrap_or_default());
    Error::Layer { layer: net.node(node).name.clone(), op: net.node(node).op.name(), problem }
}
