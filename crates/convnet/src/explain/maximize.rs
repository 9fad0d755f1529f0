//! Pictures that a unit answers to most, found by climbing its gradient from noise (activation maximisation: Erhan et al. 2009,
//! Simonyan et al. 2014, section 2). Such pictures say what drives a unit, not what it is for; without restraint they are noise.
//!
//! Each step moves the picture by pixels at random, so that no place is special (Mordvintsev et al. 2015), goes a step of fixed size
//! along the gradient, now and then blurs (Yosinski et al. 2015), fades towards the mean, and keeps to numbers that pixels can have.

use super::{Explainer, up_to};
use crate::exec::{self, Inference};
use crate::ops::Shape;
use crate::random::Random;
use crate::{Error, Result};

/// Standard deviation of the noise that a picture begins with, in the net's numbers.
const NOISE: f32 = 0.1;
/// What moves the picture by more than this share of its side tells a classifier's places from one another no longer.
const JITTER_SHARE: usize = 28;

/// What a picture is to drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A class's output before softmax.
    Class(usize),
    /// The mean of a channel's map, or a feature of a vector.
    Channel {
        /// The layer, by name or the beginning of a block's.
        layer: String,
        /// The channel, or feature.
        channel: usize,
    },
}

/// How the gradient is climbed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ascent {
    /// Steps.
    pub steps: usize,
    /// Length of a step: the root mean square of the change of a number.
    pub rate: f32,
    /// Pixels that the picture is moved by at random before a step, at most; never more than a 28th of its shorter side.
    pub jitter: usize,
    /// Steps from one blur to the next, 0 for none.
    pub blur_every: usize,
    /// Share of a number that fades away with each step.
    pub decay: f32,
    /// Decides the noise and the moves.
    pub seed: u64,
}

impl Default for Ascent {
    fn default() -> Ascent {
        Ascent { steps: 256, rate: 0.05, jitter: 4, blur_every: 8, decay: 0.001, seed: 0 }
    }
}

/// A picture that drives a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The picture as the net takes it: channels × height × width.
    pub image: Vec<f32>,
    /// The unit's number for the noise, and for the picture.
    pub values: [f32; 2],
}

impl Explainer {
    /// A picture that drives a class or a channel.
    ///
    /// # Errors
    /// [`Error::Label`], [`Error::Unknown`] or [`Error::Setting`] for a class, a layer or a channel that there is not;
    /// [`Error::Setting`] for a rate that is no number above 0.
    pub fn maximize(&self, goal: &Goal, ascent: &Ascent) -> Result<Pattern> {
        if !(ascent.rate.is_finite() && ascent.rate > 0.0) {
            return Err(Error::setting("rate", "a number above 0", ascent.rate));
        }
        let (net, by) = match goal {
            &Goal::Class(label) => {
                let classes = self.description.classes().len();
                if label >= classes {
                    return Err(Error::Label { label, classes });
                }
                (self.net.clone(), super::input::one_hot(classes, label))
            }
            Goal::Channel { layer, channel } => {
                let node = exec::find_layer(&self.net, layer)?;
                let shape = self.net.node(node).shape;
                (up_to(&self.net, node)?, mean_of(shape, *channel)?)
            }
        };
        let mut session = Inference::builder(&net, &self.weights).taps(["input"]).build_gradients(&self.engine)?;
        let value = |output: &[f32]| output.iter().zip(&by).map(|(x, by)| x * by).sum::<f32>();
        let input @ [_, height, width] = self.description.input();
        let mut random = Random::stream(ascent.seed, *b"pattern.", 0);
        let mut image: Vec<f32> = (0..input.iter().product()).map(|_| random.bell(NOISE)).collect();
        let limits = self.limits();
        let jitter = ascent.jitter.min(height.min(width) / JITTER_SHARE);
        let first = value(session.forward(&image, 1)?);
        for step in 0..ascent.steps {
            let shift = |side: usize, drawn: usize| (drawn + side - jitter) % side;
            let moved = [height, width].map(|side| shift(side, random.below(2 * jitter + 1)));
            image = rolled(&image, input, moved);
            session.forward(&image, 1)?;
            session.backward(&by)?;
            let gradient = session.gradient("input")?.1;
            let size = (gradient.iter().map(|&by| f64::from(by).powi(2)).sum::<f64>() / gradient.len() as f64).sqrt();
            let factor = if size > 0.0 { ascent.rate / size as f32 } else { 0.0 };
            image.iter_mut().zip(gradient).for_each(|(x, by)| *x = (1.0 - ascent.decay) * *x + factor * by);
            image = rolled(&image, input, [height - moved[0], width - moved[1]]);
            // The last steps sharpen.
            if ascent.blur_every > 0 && step % ascent.blur_every == 0 && step + 2 * ascent.blur_every < ascent.steps {
                image.chunks_exact_mut(height * width).for_each(|plane| blur(plane, [height, width]));
            }
            for (plane, [low, high]) in image.chunks_exact_mut(height * width).zip(&limits) {
                plane.iter_mut().for_each(|x| *x = x.clamp(*low, *high));
            }
        }
        let last = value(session.forward(&image, 1)?);
        Ok(Pattern { image, values: [first, last] })
    }

    /// The numbers of black and white in each channel.
    fn limits(&self) -> Vec<[f32; 2]> {
        let normalization = self.description.normalization();
        let ends = normalization.mean.iter().zip(&normalization.std);
        ends.map(|(mean, std)| [-mean / std, (1.0 - mean) / std]).collect()
    }
}

/// The gradient of a channel's mean by the layer's values.
fn mean_of(shape: Shape, channel: usize) -> Result<Vec<f32>> {
    let channels = shape.channels();
    if channel >= channels {
        return Err(Error::setting("channel", format!("below {channels}"), channel));
    }
    let area = shape.elements() / channels;
    let mut by = vec![0.0; shape.elements()];
    by[channel * area..][..area].fill(1.0 / area as f32);
    Ok(by)
}

/// A picture moved down and to the right; what leaves it comes in on the other side.
fn rolled(image: &[f32], [_, height, width]: [usize; 3], [down, right]: [usize; 2]) -> Vec<f32> {
    let mut moved = Vec::with_capacity(image.len());
    for plane in image.chunks_exact(height * width) {
        for row in 0..height {
            let from = (row + height - down % height) % height;
            let from = &plane[from * width..][..width];
            moved.extend((0..width).map(|column| from[(column + width - right % width) % width]));
        }
    }
    moved
}

/// Blurs by 1 2 1 in both directions; the borders are repeated.
fn blur(plane: &mut [f32], [height, width]: [usize; 2]) {
    let mut pass = |len: usize, lines: usize, at: &dyn Fn(usize, usize) -> usize| {
        for line in 0..lines {
            let before: Vec<f32> = (0..len).map(|place| plane[at(line, place)]).collect();
            for place in 0..len {
                let [a, c] = [place.saturating_sub(1), (place + 1).min(len - 1)];
                plane[at(line, place)] = 0.25 * (before[a] + before[c]) + 0.5 * before[place];
            }
        }
    };
    pass(width, height, &|row, column| row * width + column);
    pass(height, width, &|column, row| row * width + column);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_back_restores_and_blurring_keeps_the_mean_of_a_constant() {
        let image: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32).collect();
        let moved = rolled(&image, [2, 3, 4], [2, 5]);
        assert_eq!(moved[0], image[4 + 3]);
        assert_eq!(rolled(&moved, [2, 3, 4], [1, 3]), image);
        let mut plane = vec![3.0; 12];
        blur(&mut plane, [3, 4]);
        assert_eq!(plane, vec![3.0; 12]);
        let mut point = vec![0.0; 25];
        point[12] = 16.0;
        blur(&mut point, [5, 5]);
        assert_eq!((point[12], point[11], point[6]), (4.0, 2.0, 1.0));
    }
}
