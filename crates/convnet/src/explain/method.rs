//! The ways to explain, as data.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Most points of the rule of integrated gradients.
const MAX_STEPS: usize = 1000;

/// How a class's output is traced back to the picture. Names are those of pytorch-grad-cam and captum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Maps weighted by the mean of their gradient, without what is negative (Selvaraju et al. 2017, section 3).
    GradCam,
    /// Maps weighted by positive gradients, each by its share in the class's score (Chattopadhay et al. 2018, section 3.2).
    GradCamPlusPlus,
    /// Maps times their gradient, element by element, without what is negative (Draelos and Carin 2020).
    HiResCam,
    /// Maps times their positive gradient, element by element, without what is negative (Jiang et al. 2021).
    LayerCam,
    /// Gradient by the picture; its map is the largest size among the channels (Simonyan et al. 2014, section 3).
    Saliency,
    /// Picture times the gradient by it (Shrikumar et al. 2016).
    InputXGradient,
    /// Mean of the gradients by noisy copies of the picture (Smilkov et al. 2017).
    SmoothGrad {
        /// Copies.
        samples: usize,
        /// Standard deviation of the noise, as a share of the distance of the picture's smallest and largest number.
        noise: f32,
        /// Decides the noise.
        seed: u64,
    },
    /// Difference to a baseline times the mean gradient on the way there (Sundararajan et al. 2017).
    IntegratedGradients {
        /// Points on the way, at the nodes of the Gauss-Legendre rule.
        steps: usize,
        /// Where the way begins.
        baseline: Baseline,
    },
    /// Gradient by the picture of which each ReLU passes the positive part alone (Springenberg et al. 2015). It shows edges of
    /// the picture whatever the net has learned: it fails the sanity checks of Adebayo et al. 2018.
    GuidedBackprop,
    /// How much the output falls when a window of the picture is replaced, as a mean over the windows that cover a pixel
    /// (Zeiler and Fergus 2014, section 4.2).
    Occlusion {
        /// Height and width of the window.
        window: [usize; 2],
        /// Pixels between two windows, at most the window's.
        stride: [usize; 2],
        /// What is put in place.
        baseline: Baseline,
    },
}

/// A picture with nothing on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Baseline {
    /// 0 for the net: the mean of the pictures, where it was trained on those.
    #[default]
    Mean,
    /// Black pixels.
    Black,
    /// White pixels.
    White,
}

impl Method {
    /// Every method as it is usually set, but that the window of [`Method::Occlusion`] is 0, which stands for an eighth of the
    /// picture's sides.
    pub const ALL: [Method; 10] = [
        Method::GradCam,
        Method::GradCamPlusPlus,
        Method::HiResCam,
        Method::LayerCam,
        Method::Saliency,
        Method::InputXGradient,
        Method::SmoothGrad { samples: 50, noise: 0.15, seed: 0 },
        Method::IntegratedGradients { steps: 50, baseline: Baseline::Mean },
        Method::GuidedBackprop,
        Method::Occlusion { window: [0; 2], stride: [0; 2], baseline: Baseline::Mean },
    ];

    /// What it is called: `grad-cam`.
    pub fn name(&self) -> &'static str {
        match self {
            Method::GradCam => "grad-cam",
            Method::GradCamPlusPlus => "grad-cam++",
            Method::HiResCam => "hires-cam",
            Method::LayerCam => "layer-cam",
            Method::Saliency => "saliency",
            Method::InputXGradient => "input-x-gradient",
            Method::SmoothGrad { .. } => "smooth-grad",
            Method::IntegratedGradients { .. } => "integrated-gradients",
            Method::GuidedBackprop => "guided-backprop",
            Method::Occlusion { .. } => "occlusion",
        }
    }

    /// Whether it looks at the maps of a layer, and so at coarse parts of the picture; others look at its pixels.
    pub fn takes_layer(&self) -> bool {
        match self {
            Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam | Method::LayerCam => true,
            Method::Saliency | Method::InputXGradient | Method::SmoothGrad { .. } => false,
            Method::IntegratedGradients { .. } | Method::GuidedBackprop | Method::Occlusion { .. } => false,
        }
    }

    /// Whether its map has a sign: what is negative speaks against the class.
    pub fn is_signed(&self) -> bool {
        match self {
            Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam | Method::LayerCam => false,
            Method::Saliency | Method::SmoothGrad { .. } | Method::GuidedBackprop => false,
            Method::InputXGradient | Method::IntegratedGradients { .. } | Method::Occlusion { .. } => true,
        }
    }

    /// What has to be said wherever its map is shown.
    pub fn caution(&self) -> Option<&'static str> {
        matches!(self, Method::GuidedBackprop)
            .then_some("fails the sanity check: it shows edges, whatever the net has learned")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    /// The method of that name, as [`Method::ALL`] has it.
    fn from_str(name: &str) -> Result<Method, Error> {
        let found = Method::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| Error::unknown("method", name, Method::ALL.iter().map(Method::name)))
    }
}

impl Method {
    /// # Errors
    /// [`Error::Setting`] for settings that cannot be, whatever the picture.
    pub(super) fn check(&self) -> Result<(), Error> {
        match *self {
            Method::SmoothGrad { samples: 0, .. } => Err(Error::setting("samples", "at least 1", 0)),
            Method::SmoothGrad { noise, .. } if !(noise.is_finite() && noise >= 0.0) => {
                Err(Error::setting("noise", "a number of at least 0", noise))
            }
            Method::IntegratedGradients { steps, .. } if !(1..=MAX_STEPS).contains(&steps) => {
                Err(Error::setting("steps", format!("1 to {MAX_STEPS}"), steps))
            }
            _ => Ok(()),
        }
    }
}
