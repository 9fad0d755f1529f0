//! Mixtures of the pictures of a batch and of their classes: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), as
//! torchvision's `v2.MixUp` and `v2.CutMix`. Each picture is mixed with the one before it (the first with the last), so a
//! batch must be shuffled.

use serde::{Deserialize, Serialize};

use super::area::Area;
use super::draw::{Draw, RandomKey, purpose};
use super::value;
use crate::{Error, Result};

/// Which mixtures a batch is drawn from. torchvision's recipe for ImageNet ("new recipe", `references/classification`)
/// draws one of the two for each batch, with alphas of 0.2 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mixing {
    /// Mixup: parameter of the weights' Beta distribution; 0 leaves mixup out.
    pub mixup_alpha: f64,
    /// CutMix: parameter of the areas' Beta distribution; 0 leaves CutMix out.
    pub cutmix_alpha: f64,
    /// Probability that a batch is mixed at all.
    pub p: f64,
}

impl Default for Mixing {
    /// None.
    fn default() -> Mixing {
        Mixing { mixup_alpha: 0.0, cutmix_alpha: 0.0, p: 1.0 }
    }
}

/// How one batch is mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mix {
    /// Not at all.
    None,
    /// Each picture has this weight, the one before it the rest.
    Mixup {
        /// The weight.
        lambda: f64,
    },
    /// Each picture has this area of the one before it.
    CutMix {
        /// The area.
        area: Area,
        /// Share of the picture that it keeps.
        lambda: f64,
    },
}

impl Mixing {
    /// torchvision's recipe: mixup with 0.2 or CutMix with 1.
    pub fn imagenet_v2() -> Mixing {
        Mixing { mixup_alpha: 0.2, cutmix_alpha: 1.0, p: 1.0 }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A probability outside of 0..1, or a parameter that a Beta distribution does not have.
    pub fn check(&self) -> Result<()> {
        let alpha = |name, alpha: f64| if alpha == 0.0 { Ok(()) } else { value::within(name, alpha, [1e-3, 1e3]) };
        let checked = value::probability(self.p)
            .and_then(|()| alpha("mixup_alpha", self.mixup_alpha))
            .and_then(|()| alpha("cutmix_alpha", self.cutmix_alpha));
        checked.map_err(|problem| Error::invalid(format!("mixing: {problem}")))
    }

    /// Whether any batch is mixed: then classes become shares of classes.
    pub fn is_some(&self) -> bool {
        self.p > 0.0 && (self.mixup_alpha > 0.0 || self.cutmix_alpha > 0.0)
    }

    /// Draws how a batch of pictures of this height and width is mixed. It depends on nothing but the settings, the size and
    /// the key, whose index is the number of the batch in its epoch.
    pub fn draw(&self, [height, width]: [usize; 2], batch: RandomKey) -> Mix {
        let mut draw = Draw::new(batch, purpose("mixing", 0));
        if !self.is_some() || !draw.chance(self.p) {
            return Mix::None;
        }
        let cuts = match (self.mixup_alpha > 0.0, self.cutmix_alpha > 0.0) {
            (true, true) => draw.chance(0.5),
            (_, cutmix) => cutmix,
        };
        match cuts {
            false => Mix::Mixup { lambda: draw.beta(self.mixup_alpha) },
            true => {
                let lambda = draw.beta(self.cutmix_alpha);
                let center = [draw.below(height), draw.below(width)];
                Mix::cut([height, width], lambda, center)
            }
        }
    }
}

impl Mix {
    /// torchvision's box: the share 1 - `lambda` of the picture around a pixel (row, column), cut off at the edges.
    pub(super) fn cut([height, width]: [usize; 2], lambda: f64, center: [usize; 2]) -> Mix {
        let reach = 0.5 * (1.0 - lambda).sqrt();
        let span = |center: usize, side: usize| {
            let half = (reach * side as f64) as usize;
            (center.saturating_sub(half), (center + half).min(side))
        };
        let ((top, bottom), (left, right)) = (span(center[0], height), span(center[1], width));
        let area = Area { top, left, height: bottom - top, width: right - left };
        let covered = (area.height * area.width) as f64 / (height * width) as f64;
        Mix::CutMix { area, lambda: 1.0 - covered }
    }

    /// Mixes a batch of `shape` (pictures, channels, height, width) in place, and writes each picture's shares of `classes`
    /// classes into `targets`. `first` keeps a picture meanwhile, and can be used again.
    ///
    /// # Errors
    /// Lengths that are not those of the shape, or a label that is not below the number of classes.
    pub fn apply(
        self,
        images: &mut [f32],
        shape: [usize; 4],
        labels: &[u32],
        classes: usize,
        targets: &mut [f32],
        first: &mut Vec<f32>,
    ) -> Result<()> {
        let [n, channels, height, width] = shape;
        let size = channels * height * width;
        if images.len() != n * size || labels.len() != n || targets.len() != n * classes {
            return Err(Error::invalid(format!(
                "mixing a batch of shape {shape:?} and {classes} classes: {} numbers, {} labels and {} targets do not fit",
                images.len(),
                labels.len(),
                targets.len()
            )));
        }
        if let Some(&label) = labels.iter().find(|&&label| label as usize >= classes) {
            return Err(Error::Label { label: label as usize, classes });
        }
        self.mix_labels(labels, classes, targets);
        let Some(last) = n.checked_sub(1).filter(|_| size > 0) else { return Ok(()) };
        images[last * size..].clone_into(first);
        for i in (1..n).rev() {
            let (before, here) = images.split_at_mut(i * size);
            self.mix_picture(&mut here[..size], &before[(i - 1) * size..], [height, width]);
        }
        self.mix_picture(&mut images[..size], first, [height, width]);
        Ok(())
    }

    fn mix_picture(self, picture: &mut [f32], other: &[f32], [height, width]: [usize; 2]) {
        match self {
            Mix::None => {}
            Mix::Mixup { lambda } => {
                let (own, rest) = (lambda as f32, (1.0 - lambda) as f32);
                picture.iter_mut().zip(other).for_each(|(x, y)| *x = y * rest + *x * own);
            }
            Mix::CutMix { area, .. } => {
                for (plane, other) in picture.chunks_exact_mut(height * width).zip(other.chunks_exact(height * width)) {
                    for row in area.top..area.top + area.height {
                        let row = row * width + area.left..row * width + area.left + area.width;
                        plane[row.clone()].copy_from_slice(&other[row]);
                    }
                }
            }
        }
    }

    fn mix_labels(self, labels: &[u32], classes: usize, targets: &mut [f32]) {
        let lambda = match self {
            Mix::None => 1.0,
            Mix::Mixup { lambda } | Mix::CutMix { lambda, .. } => lambda,
        };
        targets.fill(0.0);
        for (i, row) in targets.chunks_exact_mut(classes.max(1)).enumerate() {
            let other = labels[i.checked_sub(1).unwrap_or(labels.len() - 1)];
            row[other as usize] += (1.0 - lambda) as f32;
            row[labels[i] as usize] += lambda as f32;
        }
    }
}
