//! Methods that trace a class's output back to the numbers of the picture.

use super::method::Baseline;
use super::{Completeness, Explainer};
use crate::classifier::Description;
use crate::random::Random;
use crate::{Error, Result};

/// Most pictures that go forward and backward at once: what they keep for the way back is their memory.
pub(super) const BATCH: usize = 8;

impl Explainer {
    /// Gradients of a class's output by many pictures, which `fill` writes one by one: `take` gets each picture's number and its
    /// gradient. `goes_on` is asked before each batch but the first.
    pub(super) fn each_gradient(
        &mut self,
        (count, class, guided): (usize, usize, bool),
        goes_on: &mut dyn FnMut() -> bool,
        mut fill: impl FnMut(usize, &mut [f32]),
        mut take: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        let len: usize = self.description.input().iter().product();
        let batch = count.min(BATCH).min(self.at_once);
        let classes = self.description.classes().len();
        let mut images = vec![0.0; batch * len];
        for first in (0..count).step_by(batch) {
            if first > 0 && !goes_on() {
                return Err(Error::Stopped);
            }
            let pictures = batch.min(count - first);
            for (picture, image) in images.chunks_exact_mut(len).take(pictures).enumerate() {
                fill(first + picture, image);
            }
            let session = self.gradients("input", batch, guided)?;
            session.forward(&images[..pictures * len], pictures)?;
            session.backward(&one_hot(classes, class).repeat(pictures))?;
            let (_, gradients) = session.gradient("input")?;
            gradients.chunks_exact(len).enumerate().for_each(|(picture, gradient)| take(first + picture, gradient));
        }
        Ok(())
    }

    /// The gradient of a class's output by a picture.
    pub(super) fn input_gradient(&mut self, image: &[f32], class: usize, guided: bool) -> Result<Vec<f32>> {
        let mut found = Vec::new();
        let fill = |_, to: &mut [f32]| to.copy_from_slice(image);
        self.each_gradient((1, class, guided), &mut || true, fill, |_, by| found = by.to_vec())?;
        Ok(found)
    }

    /// The mean of the gradients by noisy copies of a picture.
    pub(super) fn smooth_grad(
        &mut self,
        image: &[f32],
        class: usize,
        (samples, noise, seed): (usize, f32, u64),
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<f32>> {
        let least = image.iter().copied().fold(f32::INFINITY, f32::min);
        let most = image.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let deviation = noise * (most - least);
        let noisy = |sample: usize, to: &mut [f32]| {
            let mut random = Random::stream(seed, *b"smooth..", sample as u64);
            to.iter_mut().zip(image).for_each(|(to, x)| *to = x + random.bell(deviation));
        };
        let mut sums = vec![0.0_f64; image.len()];
        let add = |_, by: &[f32]| sums.iter_mut().zip(by).for_each(|(sum, &by)| *sum += f64::from(by));
        self.each_gradient((samples, class, false), goes_on, noisy, add)?;
        Ok(sums.into_iter().map(|sum| (sum / samples as f64) as f32).collect())
    }

    /// Integrated gradients, and how far their sum is from the change of the output that it should be.
    pub(super) fn integrated_gradients(
        &mut self,
        image: &[f32],
        class: usize,
        (steps, baseline): (usize, Baseline),
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(Vec<f32>, Completeness)> {
        let baseline = baseline.picture(&self.description);
        let (nodes, weights) = gauss_legendre(steps);
        let between = |step: usize, to: &mut [f32]| {
            let share = nodes[step] as f32;
            for ((to, &x), &base) in to.iter_mut().zip(image).zip(&baseline) {
                *to = base + share * (x - base);
            }
        };
        let mut sums = vec![0.0_f64; image.len()];
        let add = |step: usize, by: &[f32]| {
            sums.iter_mut().zip(by).for_each(|(sum, &by)| *sum += weights[step] * f64::from(by));
        };
        self.each_gradient((steps, class, false), goes_on, between, add)?;
        let pairs = image.iter().zip(&baseline).zip(sums);
        let attributions: Vec<f64> = pairs.map(|((&x, &base), sum)| f64::from(x - base) * sum).collect();
        let outputs = self.outputs(&[image, &baseline[..]].concat(), 2)?;
        let change = f64::from(outputs[class]) - f64::from(outputs[self.description.classes().len() + class]);
        let completeness = Completeness { sum: attributions.iter().sum(), change };
        Ok((attributions.into_iter().map(|x| x as f32).collect(), completeness))
    }
}

/// 1 for a class, 0 for the others.
pub(super) fn one_hot(classes: usize, class: usize) -> Vec<f32> {
    (0..classes).map(|other| if other == class { 1.0 } else { 0.0 }).collect()
}

impl Baseline {
    /// The numbers that the net gets for it: channels × height × width.
    pub(super) fn picture(self, description: &Description) -> Vec<f32> {
        let [_, height, width] = description.input();
        let normalization = description.normalization();
        let channels = normalization.mean.iter().zip(&normalization.std);
        let of_channel = channels.flat_map(|(mean, std)| {
            let number = match self {
                Baseline::Mean => 0.0,
                Baseline::Black => -mean / std,
                Baseline::White => (1.0 - mean) / std,
            };
            std::iter::repeat_n(number, height * width)
        });
        of_channel.collect()
    }
}

/// Nodes and weights of the Gauss-Legendre rule of so many points on 0 to 1: the nodes are the Legendre polynomial's zeros, found
/// by Newton's method from `cos(π (i + 3/4) / (n + 1/2))` (Abramowitz and Stegun, 22.16.6 and 25.4.29).
fn gauss_legendre(points: usize) -> (Vec<f64>, Vec<f64>) {
    let rule = |index: usize| {
        let mut x = (std::f64::consts::PI * (index as f64 + 0.75) / (points as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..100 {
            let (value, derivative) = legendre(points, x);
            slope = derivative;
            x -= value / derivative;
            if (value / derivative).abs() < 1e-15 {
                break;
            }
        }
        // From -1..1 to 0..1, the smallest node first.
        ((1.0 - x) / 2.0, 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..points).map(rule).unzip()
}

/// The Legendre polynomial of a degree at a place, and its derivative.
fn legendre(degree: usize, x: f64) -> (f64, f64) {
    let (mut before, mut value) = (0.0, 1.0);
    for k in 0..degree {
        let k = k as f64;
        (before, value) = (value, ((2.0 * k + 1.0) * x * value - k * before) / (k + 1.0));
    }
    (value, degree as f64 * (x * value - before) / (x * x - 1.0))
}

#[cfg(test)]
mod tests {
    use super::gauss_legendre;

    /// A rule of n points is exact for polynomials up to the degree 2n - 1.
    #[test]
    fn the_rule_integrates_polynomials() {
        for points in [1, 2, 3, 10, 50, 200] {
            let (nodes, weights) = gauss_legendre(points);
            assert!(nodes.is_sorted() && nodes.iter().all(|node| (0.0..1.0).contains(node)));
            for degree in [0, 1, points, 2 * points - 1] {
                let sum: f64 = nodes.iter().zip(&weights).map(|(x, w)| w * x.powi(degree as i32)).sum();
                assert!((sum - 1.0 / (degree as f64 + 1.0)).abs() < 1e-12, "{points} points, degree {degree}: {sum}");
            }
        }
    }
}
