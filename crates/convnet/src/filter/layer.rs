//! The kernels of a network's first convolution as filters.

use super::kernel::CHANNELS;
use super::{Filter, Kernel, Rendering};
use crate::{Error, Result, StateDict, Tensor};

/// The filters of a convolution that reads pictures, one for each of its output channels, named `<layer>-<channel>`; without
/// a name, of the only such layer. Layers that read pictures are those whose kernels have three channels, or one where no
/// layer's have three.
///
/// A network sees normalised pixels and adds a bias; these filters see the picture as it is, so their sums are those of the
/// layer but for a factor and a constant. They are shown with all shades, 0 as grey.
///
/// # Errors
/// [`Error::Unknown`] when there is no such layer; [`Error::Invalid`] when there is none at all, or no name where there are
/// several; and as [`Kernel::of_channels`].
///
/// ```
/// # fn main() -> convnet::Result<()> {
/// let net = convnet::zoo::by_name("resnet18", &Default::default())?;
/// let filters = convnet::filter::of_layer(&convnet::weights::init(&net, 0), None)?;
/// assert_eq!((filters.len(), &filters[63].name[..]), (64, "conv1-63"));
/// assert_eq!((filters[63].kernel.channels(), filters[63].kernel.size()), (3, [7, 7]));
/// # Ok(())
/// # }
/// ```
pub fn of_layer(weights: &StateDict, layer: Option<&str>) -> Result<Vec<Filter>> {
    let of_channels = |channels: usize| {
        let kernels =
            weights.iter().filter(move |(_, tensor)| tensor.shape().len() == 4 && tensor.shape()[1] == channels);
        kernels.filter_map(|(name, tensor)| Some((name.strip_suffix(".weight")?, tensor))).collect::<Vec<_>>()
    };
    let readers = CHANNELS.into_iter().rev().map(of_channels).find(|layers| !layers.is_empty()).unwrap_or_default();
    let names = || readers.iter().map(|&(name, _)| name);
    let (name, tensor) = match (layer, &readers[..]) {
        (_, []) => return Err(Error::invalid("expected the weights of a convolution that reads pictures, found none")),
        (Some(layer), _) => {
            let unknown = || Error::unknown("convolution that reads pictures", layer, names());
            readers.iter().find(|(name, _)| *name == layer).ok_or_else(unknown)?
        }
        (None, [only]) => only,
        (None, _) => {
            let names = names().collect::<Vec<_>>().join(", ");
            return Err(Error::invalid(format!(
                "expected the name of one of the convolutions that read pictures: {names}"
            )));
        }
    };
    let kernels = kernels(tensor)?.into_iter().enumerate();
    let rendering = Rendering { offset: 128.0, fit: true, ..Rendering::default() };
    Ok(kernels.map(|(i, kernel)| Filter { rendering, ..Filter::new(format!("{name}-{i}"), kernel) }).collect())
}

/// A kernel for each output channel of `[out, in, height, width]`.
fn kernels(tensor: &Tensor) -> Result<Vec<Kernel>> {
    let [_, channels, height, width] = *tensor.shape() else { return Ok(Vec::new()) };
    let matrix = |numbers: &[f32]| numbers.chunks(width.max(1)).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let kernel = |numbers: &[f32]| {
        let matrices = numbers.chunks((height * width).max(1)).map(matrix);
        Kernel::of_channels(&matrices.collect::<Vec<_>>(), 1.0)
    };
    tensor.data().chunks((channels * height * width).max(1)).map(kernel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(tensors: &[(&str, &[usize])]) -> StateDict {
        let tensor = |shape: &[usize]| {
            Tensor::new(shape, (0..shape.iter().product()).map(|i: usize| i as f32).collect::<Vec<f32>>())
        };
        tensors.iter().map(|&(name, shape)| (name.to_owned(), tensor(shape))).collect()
    }

    #[test]
    fn a_layers_kernels_are_in_their_order() {
        let weights = state(&[("a.weight", &[2, 3, 1, 2]), ("a.bias", &[2]), ("b.weight", &[2, 1, 3, 3])]);
        let filters = of_layer(&weights, None).unwrap();
        assert_eq!(filters.iter().map(|f| &f.name[..]).collect::<Vec<_>>(), ["a-0", "a-1"]);
        assert_eq!(filters[1].kernel.to_string(), "6 7 | 8 9 | 10 11");
        assert_eq!(of_layer(&weights, Some("a")).unwrap(), filters);
        let grey = of_layer(&state(&[("b.weight", &[2, 1, 1, 2]), ("c.weight", &[2, 8, 1, 1])]), None).unwrap();
        assert_eq!(grey[1].kernel.to_string(), "2 3");
    }

    #[test]
    fn what_reads_no_pictures_is_refused() {
        let error = |weights: &[(&str, &[usize])], layer| of_layer(&state(weights), layer).unwrap_err().to_string();
        assert!(error(&[("fc.weight", &[10, 3])], None).contains("found none"));
        let two: [(&str, &[usize]); 2] = [("one.weight", &[1, 3, 1, 1]), ("two.weight", &[1, 3, 1, 1])];
        assert!(error(&two, None).ends_with("one, two"));
        assert!(error(&two, Some("twoo")).contains("did you mean 'two'?"));
        let deep: [(&str, &[usize]); 2] = [("conv1.weight", &[1, 3, 1, 1]), ("layer1.weight", &[1, 64, 1, 1])];
        assert!(error(&deep, Some("layer1")).contains("convolution that reads pictures"));
        assert!(error(&[("a.weight", &[1, 3, 256, 1])], None).contains("at most 255x255"));
    }
}
