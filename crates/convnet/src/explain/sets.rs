//! What a layer makes of a data set: the pictures that a channel answers to most, the features of each picture, the pictures whose
//! features lie near, and a map of all.

use std::sync::Arc;

use super::field::{Field, receptive_field};
use super::{Explainer, cam};
use crate::data::{Dataset, Loader, LoaderOptions, Order};
use crate::exec::{self, Inference};
use crate::net::NodeId;
use crate::ops::{Op, Shape};
use crate::random::Random;
use crate::{Error, Result};

/// Pictures that go through the net at once.
const BATCH: usize = 16;
/// Passes over the features that look for their main directions, at most, and the change of these that ends it.
const PASSES: usize = 200;
const STILL: f64 = 1e-7;

/// A picture that a channel answers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Strong {
    /// The picture's number in the data set.
    pub index: usize,
    /// Its class.
    pub label: usize,
    /// The largest number of the channel's map.
    pub value: f32,
    /// Row and column where that is.
    pub unit: [usize; 2],
    /// The pixels that it can depend on.
    pub field: Field,
}

/// Features of each picture of a data set: a layer's vector, or the means of its maps.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// The layer.
    pub layer: String,
    /// Features of a picture.
    pub width: usize,
    /// Those of all pictures, one row each.
    pub features: Vec<f32>,
    /// The class of each picture.
    pub labels: Vec<u32>,
}

/// Features in the two directions in which they differ most (principal component analysis).
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// Each picture's place.
    pub places: Vec<[f32; 2]>,
    /// The share of all variance that each direction has.
    pub shares: [f64; 2],
}

impl Explainer {
    /// The pictures of a data set to which each of some channels of a layer answers most, the strongest first: up to `count`.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Layer`] for a layer that there is not or that has no maps; [`Error::Setting`] for a channel that
    /// it does not have; [`Error::Shape`] for pictures of another size; pictures that cannot be read.
    pub fn strongest(
        &self,
        data: &Arc<Dataset>,
        layer: &str,
        channels: &[usize],
        count: usize,
    ) -> Result<Vec<Vec<Strong>>> {
        let net = self.description.net();
        let node = exec::find_layer(net, layer)?;
        let [most, height, width] = cam::maps_or_pixels_of(net, node)?;
        if let Some(&channel) = channels.iter().find(|&&channel| channel >= most) {
            return Err(Error::setting("channel", format!("below {most}"), channel));
        }
        let mut found: Vec<Vec<(f32, usize, usize)>> = vec![Vec::new(); channels.len()];
        self.each(data, node, |index, values| {
            for (best, &channel) in found.iter_mut().zip(channels) {
                let map = &values[channel * height * width..][..height * width];
                let place = (0..map.len()).max_by(|&a, &b| map[a].total_cmp(&map[b]).then(b.cmp(&a))).unwrap_or(0);
                best.push((map[place], index, place));
                // The first of equals stays.
                best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                best.truncate(count);
            }
        })?;
        let strong = |(value, index, place): (f32, usize, usize)| {
            let unit = [place / width, place % width];
            let field = receptive_field(net, node, unit)?;
            Ok(Strong { index, label: data.labels()[index] as usize, value, unit, field })
        };
        found.into_iter().map(|best| best.into_iter().map(strong).collect()).collect()
    }

    /// The features of each picture of a data set at a layer; otherwise at what the last linear layer reads.
    ///
    /// # Errors
    /// As [`Explainer::strongest`], but a layer may give a vector.
    pub fn embeddings(&self, data: &Arc<Dataset>, layer: Option<&str>) -> Result<Embeddings> {
        let net = self.description.net();
        let node = self.penultimate(layer)?;
        let mut features = Vec::new();
        self.each(data, node, |_, values| features.extend(pooled(net.node(node).shape, values)))?;
        let width = net.node(node).shape.channels();
        Ok(Embeddings { layer: net.node(node).name.clone(), width, features, labels: data.labels().to_vec() })
    }

    /// The features of one picture, as [`Explainer::embeddings`] has them.
    ///
    /// # Errors
    /// As [`Explainer::values`].
    pub fn embedding(&mut self, image: &[f32], layer: Option<&str>) -> Result<Vec<f32>> {
        let node = self.penultimate(layer)?;
        let (name, shape) = (self.description.net().node(node).name.clone(), self.description.net().node(node).shape);
        let (_, values) = self.values(image, &name)?;
        Ok(pooled(shape, values.data()))
    }

    /// The layer of that name, or what the last linear layer reads, or the last maps.
    fn penultimate(&self, layer: Option<&str>) -> Result<NodeId> {
        let net = self.description.net();
        if let Some(layer) = layer {
            return exec::find_layer(net, layer);
        }
        let head = net.nodes().iter().rfind(|node| matches!(node.op, Op::Linear(_)));
        head.map_or_else(|| cam::last_maps(net), |head| Ok(head.inputs[0]))
    }

    /// Calls with each picture's number and a layer's values.
    fn each(&self, data: &Arc<Dataset>, node: NodeId, mut take: impl FnMut(usize, &[f32])) -> Result<()> {
        let (net, name) = (self.description.net(), data.name());
        if data.is_empty() {
            return Err(Error::invalid(format!("data set '{name}': expected at least one picture")));
        }
        if data.shape() != self.description.input() {
            let of = format!("pictures of data set '{name}' for net '{}'", net.name());
            return Err(Error::Shape { of, expected: self.description.input().to_vec(), found: data.shape().to_vec() });
        }
        let layer = &net.node(node).name;
        let batch_size = BATCH.min(data.len());
        let mut session = Inference::builder(net, &self.weights).batch(batch_size).taps([layer]).build(&self.engine)?;
        let workers = data.customary_workers();
        let options = LoaderOptions { batch_size, order: Order::Sequential, start_batch: 0, workers };
        let (mut first, len) = (0, net.node(node).shape.elements());
        for batch in Loader::new(Arc::clone(data), self.description.normalization(), options)? {
            let batch = batch?;
            session.run(batch.images(), batch.len())?;
            let (_, values) = session.feature(layer)?;
            values.chunks_exact(len).enumerate().for_each(|(picture, values)| take(first + picture, values));
            first += batch.len();
        }
        Ok(())
    }
}

/// A vector, or the mean of each map.
fn pooled(shape: Shape, values: &[f32]) -> Vec<f32> {
    match shape {
        Shape::Vector(_) => values.to_vec(),
        Shape::Map([_, height, width]) => {
            let mean = |map: &[f32]| map.iter().map(|&x| f64::from(x)).sum::<f64>() / map.len() as f64;
            values.chunks_exact(height * width).map(|map| mean(map) as f32).collect()
        }
    }
}

impl Embeddings {
    /// Pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.features[index * self.width..][..self.width]
    }

    /// The numbers of the pictures whose features point most nearly where the given ones do, and the cosine of the angle between them,
    /// the nearest first: up to `count`.
    pub fn nearest(&self, features: &[f32], count: usize) -> Vec<(usize, f64)> {
        let mut found: Vec<(usize, f64)> =
            (0..self.len()).map(|index| (index, cosine(self.row(index), features))).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(count);
        found
    }

    /// A map of the pictures by principal component analysis: the two directions of most variance, found by orthogonal iteration.
    pub fn principal(&self) -> Principal {
        let (count, width) = (self.len().max(1) as f64, self.width);
        let mut mean = vec![0.0_f64; width];
        for index in 0..self.len() {
            mean.iter_mut().zip(self.row(index)).for_each(|(mean, &x)| *mean += f64::from(x) / count);
        }
        let centred = |index: usize| self.row(index).iter().zip(&mean).map(|(&x, mean)| f64::from(x) - mean);
        let total: f64 = (0..self.len()).flat_map(|index| centred(index).map(|x| x * x)).sum();
        let mut random = Random::stream(0, *b"axes....", 0);
        let mut axes: [Vec<f64>; 2] =
            std::array::from_fn(|_| (0..width).map(|_| f64::from(random.bell(1.0))).collect());
        let mut lengths = orthonormal(&mut axes);
        for _ in 0..PASSES {
            let mut next = [vec![0.0; width], vec![0.0; width]];
            for index in 0..self.len() {
                for (axis, next) in axes.iter().zip(&mut next) {
                    let along: f64 = centred(index).zip(axis).map(|(x, axis)| x * axis).sum();
                    next.iter_mut().zip(centred(index)).for_each(|(next, x)| *next += along * x);
                }
            }
            lengths = orthonormal(&mut next);
            let turned = axes.iter().zip(&next).map(|(before, after)| 1.0 - dot(before, after).abs());
            let change = turned.fold(0.0, f64::max);
            axes = next;
            if change < STILL {
                break;
            }
        }
        let place = |index: usize| {
            [0, 1].map(|axis: usize| centred(index).zip(&axes[axis]).map(|(x, a)| x * a).sum::<f64>() as f32)
        };
        let shares = lengths.map(|length| if total > 0.0 { length / total } else { 0.0 });
        Principal { places: (0..self.len()).map(place).collect(), shares }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let sum = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let lengths = (sum(a, a) * sum(b, b)).sqrt();
    if lengths > 0.0 { sum(a, b) / lengths } else { 0.0 }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes two directions orthogonal and of length 1; the lengths that they had.
fn orthonormal([first, second]: &mut [Vec<f64>; 2]) -> [f64; 2] {
    let scaled = |axis: &mut Vec<f64>| {
        let length = dot(axis, axis).sqrt();
        axis.iter_mut().for_each(|x| *x /= length.max(f64::MIN_POSITIVE));
        length
    };
    let length = scaled(first);
    let along = dot(first, second);
    second.iter_mut().zip(&*first).for_each(|(x, first)| *x -= along * first);
    [length, scaled(second)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_directions_are_those_of_most_variance() {
        // Along (3, 4)/5 with deviation 10, across it with 1, and nothing in the third.
        let points: Vec<[f32; 3]> = (0..200)
            .map(|i| {
                let (a, b) = ((i as f32 * 0.7).sin() * 10.0, (i as f32 * 1.3).cos());
                [0.6 * a - 0.8 * b + 5.0, 0.8 * a + 0.6 * b, 2.0]
            })
            .collect();
        let embeddings =
            Embeddings { layer: "x".into(), width: 3, features: points.as_flattened().to_vec(), labels: vec![0; 200] };
        let Principal { places, shares } = embeddings.principal();
        assert!((shares[0] - 100.0 / 101.0).abs() < 0.01 && (shares[0] + shares[1] - 1.0).abs() < 1e-6, "{shares:?}");
        let along = |i: usize| (i as f32 * 0.7).sin() * 10.0;
        let sign = (places[1][0] * along(1)).signum();
        let mean = (0..200).map(along).sum::<f32>() / 200.0;
        for i in 0..200 {
            assert!((sign * places[i][0] - (along(i) - mean)).abs() < 0.2, "{i}");
        }
    }

    #[test]
    fn the_nearest_point_the_same_way() {
        let features = vec![1.0, 0.0, 0.0, 2.0, 3.0, 3.1, 0.0, 0.0];
        let embeddings = Embeddings { layer: "x".into(), width: 2, features, labels: vec![0, 1, 2, 3] };
        let found: Vec<usize> = embeddings.nearest(&[5.0, 5.0], 3).iter().map(|&(index, _)| index).collect();
        assert_eq!(found, [2, 0, 1]);
        assert_eq!(embeddings.nearest(&[0.0, 1.0], 1), [(1, 1.0)]);
    }
}
