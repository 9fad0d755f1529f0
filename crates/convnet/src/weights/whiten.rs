//! A first layer that whitens: its filters are the principal directions of the pictures' patches, each divided by the patches'
//! standard deviation along it, so that its outputs have variance 1 and do not correlate (Page 2018, "How to train your ResNet
//! 8"; Jordan 2024, arXiv:2404.00498, section 3.1). Such a layer is usually frozen.
//!
//! The filters are sorted by variance, largest first; behind the last stand the same with the opposite sign, because an
//! activation such as a ReLU passes only one.

use crate::data::{Dataset, Normalization};
use crate::net::{Net, Node};
use crate::ops::{Conv2d, InitRule, Op, Shape};
use crate::{Error, Result, StateDict, Tensor};

/// Largest number of pictures whose patches are looked at, spread evenly over the set.
const PICTURES: usize = 5_000;
/// Added to every variance, so that directions in which patches hardly differ are not blown up (Jordan's value).
const EPS: f64 = 5e-4;
/// Largest number of elements of a patch, which limits time and memory.
const MOST_ELEMENTS: usize = 256;

/// Replaces the weights of layers that start as [`InitRule::Whitening`], by the patches of the pictures with this
/// normalisation. Other nets stay as they are. The pictures and their order alone decide.
///
/// # Errors
/// [`Error::Setting`] for such a layer that does not read the net's input, is in groups or dilated, or has more filters than
/// twice the elements of a patch or patches of more than 256 elements; pictures that cannot be read or do not fit the net.
///
/// ```
/// use convnet::prelude::*;
/// use convnet::data::{Dataset, Normalization};
/// # fn main() -> convnet::Result<()> {
/// let net = zoo::by_name("airbench94", &Default::default())?;
/// let pixels = (0..2 * 3 * 32 * 32).map(|i| (i * i % 251) as u8).collect();
/// let data = Dataset::new("some", [3, 32, 32], pixels, vec![0, 1], (0..10).map(|class| class.to_string()).collect())?;
/// let mut weights = convnet::weights::init(&net, 0);
/// convnet::weights::whiten(&net, &mut weights, &data, &Normalization::imagenet())?;
/// let filters = weights["whiten.weight"].data();
/// assert!(filters[..144].iter().zip(&filters[144..]).all(|(a, b)| *a == -b));
/// # Ok(())
/// # }
/// ```
pub fn whiten(net: &Net, weights: &mut StateDict, pictures: &Dataset, normalization: &Normalization) -> Result<()> {
    for node in net.nodes() {
        match &node.op {
            Op::Conv2d(conv) if conv.init[0] == InitRule::Whitening => {
                let filters = filters(net, node, conv, pictures, normalization)?;
                weights.insert(format!("{}.weight", node.name), filters);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The filters of a layer.
fn filters(net: &Net, node: &Node, conv: &Conv2d, pictures: &Dataset, normalization: &Normalization) -> Result<Tensor> {
    let shape @ [channels, ..] = pictures.shape();
    let [height, width] = conv.window.kernel;
    let elements = channels * height * width;
    let refused = |expected: String, found: &dyn std::fmt::Display| {
        Error::setting("weight_init", format!("{expected} for the whitening layer '{}'", node.name), found)
    };
    if net.input_shape() != Shape::Map(shape) {
        return Err(refused(format!("pictures of {}", net.input_shape()), &Shape::Map(shape)));
    }
    if node.inputs.iter().any(|input| input.0 != 0) || conv.groups != 1 || conv.window.dilation != [1; 2] {
        return Err(refused("a dense convolution of the net's input".into(), &"another place or form"));
    }
    if elements > MOST_ELEMENTS || conv.out_channels > 2 * elements {
        let expected = format!("at most {MOST_ELEMENTS} elements in a patch and two filters for each of them");
        return Err(refused(expected, &format!("{} filters of {elements}", conv.out_channels)));
    }
    let moments = second_moments(pictures, normalization, [height, width])?;
    let (variances, directions) = eigen(moments, elements);
    let mut order: Vec<usize> = (0..elements).collect();
    order.sort_by(|&a, &b| variances[b].total_cmp(&variances[a]));
    let filter = |index: usize| {
        let (column, sign) = (order[index % elements], if index < elements { 1.0 } else { -1.0 });
        let scale = sign / (variances[column].max(0.0) + EPS).sqrt();
        let directions = &directions;
        (0..elements).map(move |row| (scale * directions[row * elements + column]) as f32)
    };
    let values = (0..conv.out_channels).flat_map(filter).collect();
    Ok(Tensor::new(vec![conv.out_channels, channels, height, width], values))
}

/// The mean over all patches of `x xᵀ`, where a patch `x` is laid out as a filter is: `[channels, height, width]`.
fn second_moments(pictures: &Dataset, normalization: &Normalization, kernel: [usize; 2]) -> Result<Vec<f64>> {
    let [channels, height, width] = pictures.shape();
    let normalizer = normalization.normalizer(channels)?;
    let elements = channels * kernel[0] * kernel[1];
    let (mut moments, mut count) = (vec![0.0; elements * elements], 0u64);
    let (mut numbers, mut patch) = (vec![0.0; channels * height * width], Vec::with_capacity(elements));
    let taken = pictures.len().min(PICTURES);
    for picture in 0..taken {
        let planes = pictures.image(picture * pictures.len() / taken)?;
        normalizer.apply(&planes, &mut numbers);
        for top in 0..=height - kernel[0] {
            for left in 0..=width - kernel[1] {
                patch.clear();
                for channel in 0..channels {
                    for row in top..top + kernel[0] {
                        let start = (channel * height + row) * width + left;
                        patch.extend(numbers[start..start + kernel[1]].iter().map(|&number| f64::from(number)));
                    }
                }
                // The lower triangle.
                for (i, &a) in patch.iter().enumerate() {
                    let row = &mut moments[i * elements..][..=i];
                    row.iter_mut().zip(&patch).for_each(|(sum, &b)| *sum += a * b);
                }
                count += 1;
            }
        }
    }
    for i in 0..elements {
        for j in 0..=i {
            let mean = moments[i * elements + j] / count.max(1) as f64;
            (moments[i * elements + j], moments[j * elements + i]) = (mean, mean);
        }
    }
    Ok(moments)
}

/// Eigenvalues of a symmetric matrix and its eigenvectors, which are the columns of the second result: Jacobi's method (Golub
/// and Van Loan, "Matrix computations", section 8.5), which is slow for large matrices, exact for small ones, and short. The
/// largest element of each eigenvector is positive.
fn eigen(mut matrix: Vec<f64>, side: usize) -> (Vec<f64>, Vec<f64>) {
    const SWEEPS: usize = 50;
    let mut vectors = vec![0.0; side * side];
    (0..side).for_each(|i| vectors[i * side + i] = 1.0);
    let size: f64 = matrix.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS {
        let off = |i: usize| (0..i).map(|j| matrix[i * side + j] * matrix[i * side + j]).sum::<f64>();
        if (0..side).map(off).sum::<f64>() <= 1e-30 * size {
            break;
        }
        for p in 0..side {
            for q in p + 1..side {
                rotate(&mut matrix, &mut vectors, side, [p, q]);
            }
        }
    }
    for column in 0..side {
        let value = |row: usize| vectors[row * side + column];
        let largest =
            (0..side).map(value).fold(0.0, |most: f64, value| if value.abs() > most.abs() { value } else { most });
        if largest < 0.0 {
            (0..side).for_each(|row| vectors[row * side + column] *= -1.0);
        }
    }
    ((0..side).map(|i| matrix[i * side + i]).collect(), vectors)
}

/// Turns rows and columns `p` and `q` so that the element where they meet becomes 0.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], side: usize, [p, q]: [usize; 2]) {
    let meeting = matrix[p * side + q];
    if meeting == 0.0 {
        return;
    }
    let tau = (matrix[q * side + q] - matrix[p * side + p]) / (2.0 * meeting);
    let tan = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let cos = 1.0 / (1.0 + tan * tan).sqrt();
    let sin = tan * cos;
    let turn = |values: &mut [f64], i: usize, j: usize| {
        let [a, b] = [values[i], values[j]];
        (values[i], values[j]) = (cos * a - sin * b, sin * a + cos * b);
    };
    for k in 0..side {
        turn(matrix, k * side + p, k * side + q);
    }
    for k in 0..side {
        turn(matrix, p * side + k, q * side + k);
        turn(vectors, k * side + p, k * side + q);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Window;

    /// Pictures whose pixels resemble their neighbours and their other channels.
    fn pictures(shape @ [channels, height, width]: [usize; 3], count: usize) -> Dataset {
        let mut state = 7u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as f64
        };
        let mut pixels = Vec::new();
        for _ in 0..count {
            let first = pixels.len();
            for i in 0..channels * height * width {
                let before = if i % width > 0 { f64::from(pixels[first + i - 1]) } else { 128.0 };
                let beside = if i >= height * width { f64::from(pixels[first + i - height * width]) } else { 128.0 };
                pixels.push((0.4 * before + 0.3 * beside + 0.3 * noise()) as u8);
            }
        }
        let labels = (0..count as u32).map(|i| i % 2).collect();
        Dataset::new("correlated", shape, pixels, labels, vec!["a".into(), "b".into()]).unwrap()
    }

    fn net(shape: [usize; 3], filters: usize, window: Window) -> Net {
        let mut net = Net::new("whitened", Shape::Map(shape)).unwrap();
        let init = [InitRule::Whitening, InitRule::Constant(0.0)];
        net.then("first", Op::Conv2d(Conv2d { init, ..Conv2d::new(filters, window) })).unwrap();
        net
    }

    #[test]
    fn outputs_have_variance_1_and_do_not_correlate() {
        for (shape, kernel) in [([3, 9, 7], [2, 2]), ([1, 8, 8], [3, 2]), ([2, 6, 9], [1, 3])] {
            let elements = shape[0] * kernel[0] * kernel[1];
            let data = pictures(shape, 40);
            let net = net(shape, 2 * elements, Window { kernel, ..Window::square(1) });
            let mut weights = crate::weights::init(&net, 0);
            whiten(&net, &mut weights, &data, &Normalization::unit(shape[0])).unwrap();
            let filters = weights["first.weight"].data();
            let moments = second_moments(&data, &Normalization::unit(shape[0]), kernel).unwrap();
            let response = |a: usize, b: usize| {
                let element = |filter: usize, i: usize| f64::from(filters[filter * elements + i]);
                let pairs = (0..elements).flat_map(|i| (0..elements).map(move |j| (i, j)));
                pairs.map(|(i, j)| element(a, i) * moments[i * elements + j] * element(b, j)).sum::<f64>()
            };
            let mut before = f64::INFINITY;
            for a in 0..elements {
                // What EPS takes off is less the more patches differ along the direction, so filters are sorted by it.
                let variance = response(a, a);
                assert!(variance > 0.8 && variance <= 1.0 + 1e-5 && variance <= before + 1e-5, "{a}: {variance}");
                before = variance;
                assert!((0..a).all(|b| response(a, b).abs() < 1e-5), "{a}");
                assert!((response(a, a + elements) + variance).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn eigenvectors_are_those_of_the_matrix() {
        let side = 6;
        let mut matrix: Vec<f64> = (0..side * side).map(|i| ((i / side + i % side) as f64).cos()).collect();
        (0..side).for_each(|i| matrix[i * side + i] += i as f64);
        let (values, vectors) = eigen(matrix.clone(), side);
        for column in 0..side {
            for row in 0..side {
                let product: f64 = (0..side).map(|k| matrix[row * side + k] * vectors[k * side + column]).sum();
                assert!((product - values[column] * vectors[row * side + column]).abs() < 1e-12);
            }
            let length: f64 = (0..side).map(|row| vectors[row * side + column].powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-12);
        }
        assert_eq!(eigen(vec![0.0; 4], 2), (vec![0.0; 2], vec![1.0, 0.0, 0.0, 1.0]));
    }

    #[test]
    fn what_cannot_be_whitened_is_an_error() {
        let shape = [3, 6, 6];
        let refused = |net: &Net| {
            let mut weights = crate::weights::init(net, 0);
            whiten(net, &mut weights, &pictures(shape, 2), &Normalization::unit(3)).unwrap_err().to_string()
        };
        let many = refused(&net(shape, 25, Window::square(2)));
        assert!(many.contains("two filters for each") && many.contains("25 filters of 12"), "{many}");
        let dilated = refused(&net(shape, 4, Window { dilation: [2; 2], ..Window::square(2) }));
        assert!(dilated.contains("dense convolution") && dilated.contains("'first'"), "{dilated}");
        assert!(refused(&net([3, 7, 6], 4, Window::square(2))).contains("pictures of 3x7x6"));
    }
}
