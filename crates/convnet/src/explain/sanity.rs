//! Does a map depend on what the net has learned? The cascading randomisation of Adebayo et al. 2018, "Sanity Checks for Saliency
//! Maps": layer after layer, from the top, loses its weights, and each method's map is held against the one before. A method whose
//! map stays explains the picture, not the net.

use std::collections::BTreeMap;

use super::map::Map;
use super::{Explainer, Method, Question};
use crate::Result;
use crate::net::NodeId;
use crate::ops::Role;
use crate::weights;

/// Side of the windows in which structures are compared.
const WINDOW: usize = 7;
/// Steps of the cascade, at most: layers between are randomised together.
const STEPS: usize = 8;
/// How like its first a map may be, in rank and structure on average, while the upper half of the layers loses its weights.
pub const LIMIT: f64 = 0.5;

/// How like a map is to that of the net as it was trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likeness {
    /// Spearman's rank correlation of the numbers' sizes.
    pub rank: f64,
    /// Structural similarity (Wang et al. 2004) of the numbers' sizes, from 0 to 1 for the largest: its mean over windows of 7x7.
    pub ssim: f64,
}

/// What becomes of the maps when layers lose their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Sanity {
    /// The methods, in the order in which they were given.
    pub methods: Vec<Method>,
    /// A row for each step: the lowest layer that has lost its weights, with all above it, and each method's likeness.
    pub steps: Vec<(String, Vec<Likeness>)>,
}

impl Sanity {
    /// How like a method's map stays to the first one while the upper half of the layers loses its weights: the mean of rank
    /// correlation and structural similarity over these steps. Without the weights of the head alone the explained output is
    /// another function of the picture, so a map that explains it has to change at once.
    pub fn stays(&self, method: usize) -> f64 {
        let upper = &self.steps[..self.steps.len().div_ceil(2)];
        let sum: f64 = upper.iter().map(|(_, row)| (row[method].rank + row[method].ssim) / 2.0).sum();
        sum / upper.len().max(1) as f64
    }

    /// Whether a method's map depends on what was learned: it stays below [`LIMIT`].
    pub fn passes(&self, method: usize) -> bool {
        self.stays(method) < LIMIT
    }
}

impl Explainer {
    /// The sanity check of some methods, as a mean over pictures. What is explained is the class that the trained net predicts.
    /// Layers lose their weights to those that [`weights::init`] gives for the seed. The net is as before when this returns.
    ///
    /// # Errors
    /// As [`Explainer::explain`].
    pub fn sanity(&mut self, images: &[&[f32]], methods: &[Method], seed: u64) -> Result<Sanity> {
        let trained = self.weights.clone();
        let found = self.cascade(images, methods, seed);
        self.set_weights(trained)?;
        found
    }

    fn cascade(&mut self, images: &[&[f32]], methods: &[Method], seed: u64) -> Result<Sanity> {
        let steps = self.steps();
        let initial = weights::init(self.description.net(), seed);
        let trained = self.weights.clone();
        // By method and picture, so that a session is planned once for each method and step.
        let mut first: Vec<Vec<(usize, Map)>> = Vec::new();
        for &method in methods {
            let mut maps = Vec::new();
            for image in images {
                let found = self.explain(image, &Question::new(method))?;
                maps.push((found.class, self.shown(&found.map)));
            }
            first.push(maps);
        }
        let mut weights = trained;
        let mut found = Vec::new();
        for (layer, names) in steps {
            for name in names {
                if let Some(tensor) = initial.get(&name) {
                    weights.insert(name, tensor.clone());
                }
            }
            self.set_weights(weights.clone())?;
            let mut row = Vec::new();
            for (&method, maps) in methods.iter().zip(&first) {
                let mut sum = Likeness { rank: 0.0, ssim: 0.0 };
                for (image, (class, before)) in images.iter().zip(maps) {
                    let question = Question { class: Some(*class), ..Question::new(method) };
                    let now = self.explain(image, &question)?.map;
                    let likeness = likeness(before, &self.shown(&now));
                    sum = Likeness { rank: sum.rank + likeness.rank, ssim: sum.ssim + likeness.ssim };
                }
                let count = images.len().max(1) as f64;
                row.push(Likeness { rank: sum.rank / count, ssim: sum.ssim / count });
            }
            found.push((layer, row));
        }
        Ok(Sanity { methods: methods.to_vec(), steps: found })
    }

    /// The sizes of a map's numbers, in the picture's size.
    fn shown(&self, map: &Map) -> Map {
        let [_, height, width] = self.description.input();
        let sized = map.resized([height, width]);
        Map::new(sized.size(), sized.values().iter().map(|value| value.abs()).collect())
    }

    /// The layers of a cascade from the top, each with the names of what loses its values: of all layers with weights of more than
    /// one axis up to the next such layer, so that a norm goes with the layer before it.
    fn steps(&self) -> Vec<(String, Vec<String>)> {
        let mut of_node: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        let mut layers = Vec::new();
        for (name, node, parameter) in self.net.parameters() {
            of_node.entry(node).or_default().push(name);
            if parameter.role == Role::Weight && parameter.shape.len() > 1 && layers.last() != Some(&node) {
                layers.push(node);
            }
        }
        let mut steps: Vec<(String, Vec<String>)> = Vec::new();
        let most = layers.len().div_ceil(STEPS).max(1);
        let mut next = self.net.nodes().len();
        for chunk in layers.rchunks(most) {
            let lowest = chunk[0];
            // What stands before the first layer goes with it.
            let from = if steps.len() + 1 == layers.len().div_ceil(most) { 0 } else { lowest.index() };
            let within = of_node.iter().filter(|(node, _)| (from..next).contains(&node.index()));
            let names = within.flat_map(|(_, names)| names.iter().cloned()).collect();
            steps.push((self.net.node(lowest).name.clone(), names));
            next = from;
        }
        steps
    }
}

/// How like two maps of one size are.
pub(super) fn likeness(a: &Map, b: &Map) -> Likeness {
    let scaled = |map: &Map| {
        let [least, most] = map.range();
        let width = if most > least { most - least } else { 1.0 };
        map.values().iter().map(|&value| f64::from((value - least) / width)).collect::<Vec<f64>>()
    };
    Likeness {
        rank: correlation(&ranks(a.values()), &ranks(b.values())),
        ssim: structural_similarity(a.size(), &scaled(a), &scaled(b)),
    }
}

/// Places in the order of the numbers; equal ones have the mean of their places.
fn ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut first) = (vec![0.0; values.len()], 0);
    for same in order.chunk_by(|&a, &b| values[a] == values[b]) {
        same.iter().for_each(|&place| ranks[place] = first as f64 + (same.len() - 1) as f64 / 2.0);
        first += same.len();
    }
    ranks
}

/// Pearson's; 0 where one of them does not change.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len().max(1) as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |x: &[f64], m: f64, y: &[f64], n: f64| x.iter().zip(y).map(|(x, y)| (x - m) * (y - n)).sum::<f64>();
    let size = (product(a, mean_a, a, mean_a) * product(b, mean_b, b, mean_b)).sqrt();
    if size > 0.0 { product(a, mean_a, b, mean_b) / size } else { 0.0 }
}

/// The mean of `(2 μ ν + c)(2 cov + d) / ((μ² + ν² + c)(var + var + d))` over all windows, for numbers from 0 to 1, with `c = 0.01²`
/// and `d = 0.03²`; variances are of samples, as scikit-image has them.
fn structural_similarity([height, width]: [usize; 2], a: &[f64], b: &[f64]) -> f64 {
    let [rows, columns] = [WINDOW.min(height), WINDOW.min(width)];
    let (c, d) = (0.01 * 0.01, 0.03 * 0.03);
    let count = (rows * columns) as f64;
    let (mut sum, mut windows) = (0.0, 0.0);
    for top in 0..=height - rows {
        for left in 0..=width - columns {
            let mut s = [0.0; 5];
            for place in (top..top + rows).flat_map(|y| (left..left + columns).map(move |x| y * width + x)) {
                let (x, y) = (a[place], b[place]);
                [x, y, x * x, y * y, x * y].iter().zip(&mut s).for_each(|(term, sum)| *sum += term);
            }
            let [mean_a, mean_b, square_a, square_b, product] = s.map(|sum| sum / count);
            let samples = count / (count - 1.0).max(1.0);
            let [var_a, var_b] = [square_a - mean_a * mean_a, square_b - mean_b * mean_b].map(|var| samples * var);
            let covariance = samples * (product - mean_a * mean_b);
            sum += (2.0 * mean_a * mean_b + c) * (2.0 * covariance + d)
                / ((mean_a * mean_a + mean_b * mean_b + c) * (var_a + var_b + d));
            windows += 1.0;
        }
    }
    sum / windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_maps_are_like_and_reversed_ones_are_not() {
        let map = |f: &dyn Fn(usize) -> f32| Map::new([8, 9], (0..72).map(f).collect());
        let one = map(&|i| (i * i % 31) as f32);
        assert_eq!(likeness(&one, &one), Likeness { rank: 1.0, ssim: 1.0 });
        let reversed = map(&|i| -((i * i % 31) as f32));
        let found = likeness(&one, &reversed);
        assert!((found.rank + 1.0).abs() < 1e-12 && found.ssim < 0.0, "{found:?}");
        assert_eq!(likeness(&one, &map(&|_| 0.0)).rank, 0.0);
    }

    /// `scipy.stats.rankdata([3, 1, 3, 2, 3])`, from 0.
    #[test]
    fn equal_numbers_share_their_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [3.0, 0.0, 3.0, 1.0, 3.0]);
    }
}
