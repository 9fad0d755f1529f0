//! What layers make of a picture, and what the first one looks for.

use super::{Explainer, cam};
use crate::exec;
use crate::net::NodeId;
use crate::ops::{Op, Shape};
use crate::{Error, Result, Tensor};

/// What a layer makes of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// The layer.
    pub layer: String,
    /// Its maps: channels × height × width.
    pub maps: Tensor,
}

/// The kernels of a convolution that reads the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Filters {
    /// The layer.
    pub layer: String,
    /// Its weights: filters × channels of the picture × height × width.
    pub kernels: Tensor,
}

impl Explainer {
    /// The maps of a layer for a picture.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Layer`] for a layer that there is not or that has no maps; [`Error::Length`] for a picture of
    /// another size.
    pub fn features(&mut self, image: &[f32], layer: &str) -> Result<Features> {
        let net = self.description.net();
        cam::maps_or_pixels_of(net, exec::find_layer(net, layer)?)?;
        let (layer, maps) = self.values(image, layer)?;
        Ok(Features { layer, maps })
    }

    /// The shape of a layer's values for a picture.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a layer that there is not.
    pub fn shape(&self, layer: &str) -> Result<Shape> {
        let net = self.description.net();
        Ok(net.node(exec::find_layer(net, layer)?).shape)
    }

    /// The full name of a layer and its values for a picture: channels × height × width, or a vector.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a layer that there is not; [`Error::Length`] for a picture of another size.
    pub fn values(&mut self, image: &[f32], layer: &str) -> Result<(String, Tensor)> {
        let net = self.description.net();
        let layer = net.node(exec::find_layer(net, layer)?).name.clone();
        let (shape, values) = self.tapped(image, std::slice::from_ref(&layer))?.feature(&layer)?;
        Ok((layer, Tensor::new(shape.dims(), values.to_vec())))
    }

    /// The filters of the layer that reads the picture, or of the one that is named.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a layer that there is not; [`Error::Layer`] for one that is no convolution of the picture's channels;
    /// [`Error::Invalid`] when no convolution reads the picture.
    pub fn filters(&self, layer: Option<&str>) -> Result<Filters> {
        let nodes = self.net.nodes();
        let node = match layer {
            Some(layer) => exec::find_layer(&self.net, layer)?,
            None => {
                let first = |index: &usize| matches!(nodes[*index].op, Op::Conv2d(_));
                let found = (0..nodes.len()).find(first).map(NodeId);
                found.ok_or_else(|| Error::invalid(format!("the net '{}' has no convolution", self.net.name())))?
            }
        };
        let node = self.net.node(node);
        let kernels = self.weights.get(&format!("{}.weight", node.name));
        match (&node.op, kernels) {
            (Op::Conv2d(_), Some(kernels)) if matches!(kernels.shape()[1], 1 | 3) => {
                Ok(Filters { layer: node.name.clone(), kernels: kernels.clone() })
            }
            _ => {
                let reads = match self.net.node(node.inputs.first().copied().unwrap_or(NodeId(0))).shape {
                    Shape::Map([channels, ..]) => format!("{channels} channels"),
                    Shape::Vector(features) => format!("a vector of {features} numbers"),
                };
                let problem = format!(
                    "expected a convolution whose filters see 1 or 3 channels, which can be shown as colours; this one reads {reads}"
                );
                Err(Error::Layer { layer: node.name.clone(), op: node.op.name(), problem })
            }
        }
    }
}
