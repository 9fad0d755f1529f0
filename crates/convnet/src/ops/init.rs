//! How weights and biases start, as papers and torchvision say it.

/// How a parameter of given sizes starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Even between `-bound` and `bound`.
    Uniform {
        /// The largest value.
        bound: f64,
    },
    /// The first filters, one for each input channel, hand that channel on: 1 in the middle of the kernel, 0 elsewhere. The
    /// others are even between `-bound` and `bound`.
    Dirac {
        /// The largest value of the other filters.
        bound: f64,
    },
}

/// The rule behind an [`Init`], before the sizes are known. Fans are PyTorch's: `fan_in` is what one output sums,
/// `fan_out` outputs times the kernel's elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InitRule {
    /// All the same.
    Constant(f32),
    /// Normal with this standard deviation.
    Normal(f32),
    /// Normal with variance `2 / fan_in` (He et al. 2015, eq. 10).
    KaimingNormal,
    /// Normal with variance `2 / fan_out` (ibid., eq. 14).
    KaimingNormalFanOut,
    /// Even within `√(6 / fan_in)`, whose variance is that of [`InitRule::KaimingNormal`].
    KaimingUniform,
    /// Even within `√(scale / fan_out)`: with scale 3 `kaiming_uniform_(mode="fan_out")` of a gain of 1.
    UniformFanOut(f32),
    /// Even within `1 / √fan_in`: what PyTorch's convolutions and linear layers do unless told otherwise.
    Uniform,
    /// The first filters hand on the input channel of their number (PyTorch's `dirac_`); the others are [`InitRule::Uniform`].
    Dirac,
    /// The patches' principal directions, which [`whiten`](crate::weights::whiten) takes from pictures; before it has seen any,
    /// as [`InitRule::Uniform`].
    Whitening,
}

impl InitRule {
    /// Weights by He et al., biases 0: the default here.
    pub const KAIMING: [InitRule; 2] = [InitRule::KaimingNormal, InitRule::Constant(0.0)];

    /// PyTorch's own default, of weights and biases alike.
    pub const PYTORCH: [InitRule; 2] = [InitRule::Uniform; 2];

    pub(super) fn resolve(self, fan_in: usize, fan_out: usize) -> Init {
        let root = |scale: f64, fan: usize| (scale / fan.max(1) as f64).sqrt();
        match self {
            InitRule::Constant(value) => Init::Constant(value),
            InitRule::Normal(std) => Init::Normal { std: f64::from(std) },
            InitRule::KaimingNormal => Init::Normal { std: root(2.0, fan_in) },
            InitRule::KaimingNormalFanOut => Init::Normal { std: root(2.0, fan_out) },
            InitRule::KaimingUniform => Init::Uniform { bound: root(6.0, fan_in) },
            InitRule::UniformFanOut(scale) => Init::Uniform { bound: root(f64::from(scale), fan_out) },
            InitRule::Uniform | InitRule::Whitening => Init::Uniform { bound: root(1.0, fan_in) },
            InitRule::Dirac => Init::Dirac { bound: root(1.0, fan_in) },
        }
    }

    /// The rule's name in the text form of a net; numbers follow in brackets.
    pub fn to_text(self) -> String {
        match self {
            InitRule::Constant(value) => format!("constant({value:?})"),
            InitRule::Normal(std) => format!("normal({std:?})"),
            InitRule::KaimingNormal => "kaiming_normal".into(),
            InitRule::KaimingNormalFanOut => "kaiming_normal_fan_out".into(),
            InitRule::KaimingUniform => "kaiming_uniform".into(),
            InitRule::UniformFanOut(scale) => format!("uniform_fan_out({scale:?})"),
            InitRule::Uniform => "uniform".into(),
            InitRule::Dirac => "dirac".into(),
            InitRule::Whitening => "whitening".into(),
        }
    }

    /// The reverse of [`InitRule::to_text`].
    pub fn from_text(text: &str) -> Option<InitRule> {
        let number = |name: &str| {
            let number: f32 = text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?.trim().parse().ok()?;
            number.is_finite().then_some(number)
        };
        match text {
            "kaiming_normal" => Some(InitRule::KaimingNormal),
            "kaiming_normal_fan_out" => Some(InitRule::KaimingNormalFanOut),
            "kaiming_uniform" => Some(InitRule::KaimingUniform),
            "uniform" => Some(InitRule::Uniform),
            "dirac" => Some(InitRule::Dirac),
            "whitening" => Some(InitRule::Whitening),
            _ => number("constant").map(InitRule::Constant).or_else(|| {
                let positive = |name| number(name).filter(|number| *number >= 0.0);
                let fan_out = || positive("uniform_fan_out").map(InitRule::UniformFanOut);
                positive("normal").map(InitRule::Normal).or_else(fan_out)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_survive_their_text() {
        for rule in [
            InitRule::Constant(-0.1),
            InitRule::Normal(0.01),
            InitRule::KaimingNormal,
            InitRule::KaimingNormalFanOut,
            InitRule::KaimingUniform,
            InitRule::UniformFanOut(3.0),
            InitRule::Uniform,
            InitRule::Dirac,
            InitRule::Whitening,
        ] {
            assert_eq!(InitRule::from_text(&rule.to_text()), Some(rule));
        }
        for text in ["", "normal", "normal(-1)", "normal(nan)", "constant(1", "uniform()", "uniform_fan_out", "kaiming"]
        {
            assert_eq!(InitRule::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn fans_are_pytorchs() {
        // conv 16 -> 32 channels, 3x3
        assert_eq!(InitRule::KaimingNormal.resolve(144, 288), Init::Normal { std: (2.0f64 / 144.0).sqrt() });
        assert_eq!(InitRule::KaimingNormalFanOut.resolve(144, 288), Init::Normal { std: (2.0f64 / 288.0).sqrt() });
        assert_eq!(InitRule::KaimingUniform.resolve(144, 288), Init::Uniform { bound: (6.0f64 / 144.0).sqrt() });
        assert_eq!(InitRule::UniformFanOut(3.0).resolve(144, 288), Init::Uniform { bound: (3.0f64 / 288.0).sqrt() });
        assert_eq!(InitRule::Uniform.resolve(144, 288), Init::Uniform { bound: 1.0 / 12.0 });
    }
}
