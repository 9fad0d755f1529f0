//! Activations: the same shape. What each computes, [`Activation`] says; here are its names and settings as people write
//! them. Backward keeps the output or the input, as [`Activation::gradient_from`] says.

use super::Problem;
pub use convnet_kernels::activation::Activation;

/// PyTorch's name in lower case.
pub(super) fn name(activation: Activation) -> &'static str {
    match activation {
        Activation::Identity => "identity",
        Activation::Relu => "relu",
        Activation::Clip { .. } if activation == Activation::RELU6 => "relu6",
        Activation::Clip { .. } => "clip",
        Activation::LeakyRelu { .. } => "leaky_relu",
        Activation::Sigmoid => "sigmoid",
        Activation::HardSigmoid { .. } => "hardsigmoid",
        Activation::Tanh => "tanh",
        Activation::Silu => "silu",
        Activation::HardSwish => "hardswish",
        Activation::Gelu => "gelu",
        Activation::Softsign => "softsign",
    }
}

/// The activation of that name with its default settings.
pub(crate) fn named(name: &str) -> Option<Activation> {
    samples().into_iter().find(|&activation| self::name(activation) == name)
}

/// One of each, with PyTorch's settings; ReLU6 and the general clip are two.
pub(crate) fn samples() -> Vec<Activation> {
    std::iter::successors(Some(Activation::Identity), |&activation| following(activation)).collect()
}

/// The activation that follows in the list. A new one does not compile until it has its place here: between two others, or as
/// the new last one.
fn following(activation: Activation) -> Option<Activation> {
    Some(match activation {
        Activation::Identity => Activation::Relu,
        Activation::Relu => Activation::RELU6,
        Activation::Clip { .. } if activation == Activation::RELU6 => Activation::Clip { low: -1.0, high: 1.0 },
        Activation::Clip { .. } => Activation::LeakyRelu { slope: 0.01 },
        Activation::LeakyRelu { .. } => Activation::Sigmoid,
        Activation::Sigmoid => Activation::HARD_SIGMOID,
        Activation::HardSigmoid { .. } => Activation::Tanh,
        Activation::Tanh => Activation::Silu,
        Activation::Silu => Activation::HardSwish,
        Activation::HardSwish => Activation::Gelu,
        Activation::Gelu => Activation::Softsign,
        Activation::Softsign => return None,
    })
}

/// The numbers that can be set, by name, to read and to write.
pub(crate) fn settings(activation: &mut Activation) -> Vec<(&'static str, &mut f32)> {
    match activation {
        Activation::Clip { .. } if *activation == Activation::RELU6 => Vec::new(),
        Activation::Clip { low, high } => vec![("min", low), ("max", high)],
        Activation::LeakyRelu { slope } => vec![("negative_slope", slope)],
        Activation::HardSigmoid { slope, offset } => vec![("slope", slope), ("offset", offset)],
        Activation::Identity | Activation::Relu | Activation::Sigmoid | Activation::Tanh => Vec::new(),
        Activation::Silu | Activation::HardSwish | Activation::Gelu | Activation::Softsign => Vec::new(),
    }
}

/// Refuses settings whose gradient could not be told from the output.
pub(super) fn check(activation: Activation) -> Result<(), Problem> {
    let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
    match activation {
        Activation::Clip { low, high } if !finite(&[low, high]) || low >= high => {
            Err(format!("expected a min below max, got {low} and {high}"))
        }
        Activation::LeakyRelu { slope } if !finite(&[slope]) || slope <= 0.0 => {
            Err(format!("expected a negative_slope above 0, got {slope}"))
        }
        Activation::HardSigmoid { slope, offset } if !finite(&[slope, offset]) || slope <= 0.0 => {
            Err(format!("expected a slope above 0 and a finite offset, got {slope} and {offset}"))
        }
        Activation::Clip { .. } | Activation::LeakyRelu { .. } | Activation::HardSigmoid { .. } => Ok(()),
        Activation::Identity | Activation::Relu | Activation::Sigmoid | Activation::Tanh => Ok(()),
        Activation::Silu | Activation::HardSwish | Activation::Gelu | Activation::Softsign => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for activation in samples() {
            assert_eq!(named(name(activation)), Some(activation));
            assert_eq!(check(activation), Ok(()));
        }
        assert_eq!(named("rely"), None);
    }

    #[test]
    fn settings_without_a_gradient_are_refused() {
        for refused in [
            Activation::Clip { low: 1.0, high: 1.0 },
            Activation::Clip { low: 0.0, high: f32::INFINITY },
            Activation::LeakyRelu { slope: 0.0 },
            Activation::LeakyRelu { slope: f32::NAN },
            Activation::HardSigmoid { slope: -0.1, offset: 0.5 },
        ] {
            assert!(check(refused).is_err(), "{refused:?}");
        }
    }
}
