//! Plain tensors: what the interface speaks (f32, row-major, NCHW or OIHW). The engine's own layouts never show here.

use std::collections::BTreeMap;
use std::sync::Arc;

use convnet_kernels::memory;

/// A dense row-major array of `f32`. Clones share the elements until one of them is changed.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Vec<f32>>,
}

/// Parameters and buffers by name, spelled as torchvision spells them: `layer1.0.conv1.weight`.
pub type StateDict = BTreeMap<String, Tensor>;

impl Tensor {
    /// A tensor of `shape` over `data`.
    ///
    /// # Panics
    /// When `data` does not hold exactly the product of `shape` elements.
    pub fn new(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Tensor {
        Tensor::sharing(shape, Arc::new(data))
    }

    /// The same over elements that others may read as well.
    pub(crate) fn sharing(shape: impl Into<Vec<usize>>, data: Arc<Vec<f32>>) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.iter().product::<usize>(), data.len(), "shape {shape:?} does not fit {} elements", data.len());
        Tensor { shape, data }
    }

    /// The same elements in another shape of as many.
    #[cfg(feature = "onnx")]
    pub(crate) fn reshaped(self, shape: impl Into<Vec<usize>>) -> Tensor {
        Tensor::sharing(shape, self.data)
    }

    /// A tensor of zeros.
    pub fn zeros(shape: impl Into<Vec<usize>>) -> Tensor {
        let shape = shape.into();
        let data = memory::zeros(shape.iter().product());
        Tensor { shape, data: Arc::new(data) }
    }

    /// Length of each axis, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The elements in row-major order, to change: copied first where a clone has them as well.
    pub fn data_mut(&mut self) -> &mut [f32] {
        Arc::<Vec<f32>>::make_mut(&mut self.data)
    }

    /// The elements in row-major order, without the shape; copied where a clone has them as well.
    pub fn into_data(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.data)
    }
}
