//! How the learning rate moves over a run: a factor of `lr` for each step, from the step, the run's length and, for `plateau`, how
//! often the validation loss has stopped falling. A run that goes on from a checkpoint therefore goes on along the same curve.

use serde::{Deserialize, Serialize};

use super::ScheduleConfig;

/// The course of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same throughout, as the lecture has it.
    #[default]
    Constant,
    /// Half a cosine from 1 to `min_factor` (Loshchilov and Hutter 2017, eq. 5, without restarts; PyTorch's
    /// `CosineAnnealingLR`).
    Cosine,
    /// From 1/25 to 1 over the first 30 % of the steps and then to 1/250,000, each half a cosine (Smith and Topin 2018;
    /// the defaults of PyTorch's `OneCycleLR`).
    OneCycle,
    /// A straight line from 1 to `min_factor`.
    Linear,
    /// `(1 - t)^power` from 1 to `min_factor`, where `t` is the share of the steps made (PyTorch's `PolynomialLR`).
    Polynomial,
    /// Multiplied by `gamma` after every `step_size` epochs (PyTorch's `StepLR`).
    Step,
    /// Multiplied by `gamma` after each of the epochs in `milestones` (PyTorch's `MultiStepLR`).
    MultiStep,
    /// Multiplied by `gamma` when the validation loss has not fallen for more than `plateau_patience` epochs (PyTorch's
    /// `ReduceLROnPlateau`).
    Plateau,
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of its epochs.
    pub epochs: usize,
    /// Steps in each of them.
    pub epoch_steps: usize,
}

/// Share of a one-cycle run in which the rate rises.
const RISE: f64 = 0.3;
/// Factors at the start and the end of a one-cycle run.
const ENDS: [f64; 2] = [1.0 / 25.0, 1.0 / 250_000.0];

impl Schedule {
    /// Whether its course depends on the number of epochs.
    pub fn spans_the_run(self) -> bool {
        match self {
            Schedule::Cosine | Schedule::OneCycle | Schedule::Linear | Schedule::Polynomial => true,
            Schedule::Constant | Schedule::Step | Schedule::MultiStep | Schedule::Plateau => false,
        }
    }
}

impl ScheduleConfig {
    /// Whether its course depends on the number of epochs.
    pub fn spans_the_run(&self) -> bool {
        self.name.spans_the_run() || self.swa_epochs > 0
    }

    /// What `lr` is multiplied with for the step after `step` others, in a run whose validation loss has stopped falling so many
    /// times (`reductions`, which `plateau` alone looks at).
    ///
    /// During the first `warmup_epochs` it rises from `warmup_factor` to 1 in a straight line, and the schedule spans the steps
    /// after them, epochs being counted from there (torchvision's `references/classification`, which puts PyTorch's `LinearLR`
    /// before the schedule with `SequentialLR`, epoch by epoch; here every step has its own factor).
    ///
    /// In the last `swa_epochs` it is `swa_factor`, and the schedule spans the epochs before them.
    ///
    /// ```
    /// use convnet::train::{Schedule, ScheduleConfig, Span};
    /// let span = Span { epochs: 4, epoch_steps: 10 };
    /// let cosine = ScheduleConfig { name: Schedule::Cosine, warmup_epochs: 2.0, ..ScheduleConfig::default() };
    /// let factors = [0, 10, 20, 30, 40].map(|step| cosine.factor(step, span, 0));
    /// assert!([0.01, 0.505, 1.0, 0.5, 0.0].iter().zip(factors).all(|(want, got)| (want - got).abs() < 1e-12));
    /// ```
    pub fn factor(&self, step: u64, span: Span, reductions: u32) -> f64 {
        let span = Span { epochs: span.epochs - self.swa_epochs.min(span.epochs), ..span };
        if self.swa_epochs > 0 && step >= span.epochs as u64 * span.epoch_steps as u64 {
            return self.swa_factor;
        }
        let warmup = (self.warmup_epochs * span.epoch_steps as f64).round();
        let after = step as f64 - warmup;
        if after < 0.0 {
            return self.warmup_factor + (1.0 - self.warmup_factor) * step as f64 / warmup;
        }
        let total = (span.epochs as f64 * span.epoch_steps as f64 - warmup).max(1.0);
        let after = after.min(total);
        let epoch = (after / span.epoch_steps.max(1) as f64).floor();
        let decayed = |times: f64| libm::pow(self.gamma, times).max(self.min_factor);
        let falling = |power: f64| self.min_factor + (1.0 - self.min_factor) * libm::pow(1.0 - after / total, power);
        match self.name {
            Schedule::Constant => 1.0,
            Schedule::Cosine => between(1.0, self.min_factor, after / total),
            Schedule::OneCycle => one_cycle(after, total),
            Schedule::Linear => falling(1.0),
            Schedule::Polynomial => falling(self.power),
            Schedule::Step => decayed((epoch / self.step_size as f64).floor()),
            Schedule::MultiStep => {
                decayed(self.milestones.iter().filter(|&&milestone| milestone as f64 <= epoch).count() as f64)
            }
            Schedule::Plateau => decayed(reductions.into()),
        }
    }
}

fn one_cycle(step: f64, total: f64) -> f64 {
    // PyTorch's phases end at these steps, counted from 0.
    let top = RISE * total - 1.0;
    match step <= top {
        true => between(ENDS[0], 1.0, step / top),
        false => between(1.0, ENDS[1], ((step - top) / (total - 1.0 - top)).clamp(0.0, 1.0)),
    }
}

/// Half a cosine from one number to another, for `at` from 0 to 1.
fn between(from: f64, to: f64, at: f64) -> f64 {
    to + (from - to) * (1.0 + libm::cos(std::f64::consts::PI * at)) / 2.0
}

/// Epoch by epoch, whether the validation loss still falls: PyTorch's `ReduceLROnPlateau` with its relative threshold of 1e-4 and
/// without cooldown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plateau {
    /// How often the learning rate has been reduced.
    pub reductions: u32,
    /// The lowest loss, once there is one.
    pub best: Option<f64>,
    /// Epochs since then, or since the last reduction.
    pub waited: usize,
}

impl Plateau {
    /// Share of the lowest loss by which another must be lower.
    const THRESHOLD: f64 = 1e-4;

    /// Takes an epoch's loss.
    pub(crate) fn add(&mut self, loss: f64, patience: usize) {
        if self.best.is_none_or(|best| loss < best * (1.0 - Plateau::THRESHOLD)) {
            (self.best, self.waited) = (Some(loss), 0);
        } else {
            self.waited += 1;
        }
        if self.waited > patience {
            (self.reductions, self.waited) = (self.reductions + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of ten epochs of one step each, so that epochs and steps are the same.
    const TEN: Span = Span { epochs: 10, epoch_steps: 1 };

    fn named(name: Schedule) -> ScheduleConfig {
        ScheduleConfig { name, ..ScheduleConfig::default() }
    }

    fn assert_factors(what: &str, config: &ScheduleConfig, span: Span, want: &[f64]) {
        for (step, want) in want.iter().enumerate() {
            let got = config.factor(step as u64, span, 0);
            assert!((got - want).abs() < 1e-12, "{what}, step {step}: got {got}, want {want}");
        }
    }

    #[test]
    fn courses_begin_and_end_where_they_should() {
        let span = Span { epochs: 10, epoch_steps: 10 };
        let cosine = |step| named(Schedule::Cosine).factor(step, span, 0);
        for step in [0, 7, 100, 1000] {
            assert_eq!(named(Schedule::Constant).factor(step, span, 0), 1.0);
        }
        assert_eq!((cosine(0), cosine(100)), (1.0, 0.0));
        assert!((0..100).all(|step| cosine(step) > cosine(step + 1)));
        // torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10): get_last_lr after 0, 1, 2, 3, 5 and 9 steps.
        let torch = [0.04, 0.52, 1.0, 0.950_484_6, 0.611_262, 4e-6];
        for (step, want) in [0, 1, 2, 3, 5, 9].into_iter().zip(torch) {
            let got = named(Schedule::OneCycle).factor(step, TEN, 0);
            assert!((got - want).abs() < 1e-6, "step {step}: got {got}, want {want}");
        }
    }

    #[test]
    fn factors_are_shares_however_short_the_run() {
        use Schedule::{Constant, Cosine, Linear, MultiStep, OneCycle, Plateau, Polynomial, Step};
        for name in [Constant, Cosine, OneCycle, Linear, Polynomial, Step, MultiStep, Plateau] {
            for (epochs, warmup_epochs) in [(0, 0.0), (1, 0.0), (2, 0.5), (3, 2.0), (4, 9.0)] {
                let config = ScheduleConfig { warmup_epochs, milestones: vec![1, 2], step_size: 1, ..named(name) };
                for (epoch_steps, step) in (0..4).flat_map(|steps| (0..9).map(move |step| (steps, step))) {
                    let factor = config.factor(step, Span { epochs, epoch_steps }, 2);
                    assert!((0.0..=1.0).contains(&factor), "{config:?} {epochs} {epoch_steps} {step}: {factor}");
                }
            }
        }
    }

    /// The rates before each of ten steps that PyTorch 2.15 gives with lr=1, from `get_last_lr()`:
    /// `StepLR(o, 3, 0.5)`, `MultiStepLR(o, [2, 7], 0.1)`, `PolynomialLR(o, 10, 2.0)`, `CosineAnnealingLR(o, 10, eta_min=0.1)`.
    #[test]
    fn courses_are_those_of_pytorch() {
        let step = ScheduleConfig { step_size: 3, gamma: 0.5, ..named(Schedule::Step) };
        assert_factors("step", &step, TEN, &[1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]);
        let multi = ScheduleConfig { milestones: vec![2, 7], ..named(Schedule::MultiStep) };
        assert_factors("multi-step", &multi, TEN, &[1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01]);
        let polynomial = ScheduleConfig { power: 2.0, ..named(Schedule::Polynomial) };
        let want = [1.0, 0.81, 0.64, 0.49, 0.36, 0.25, 0.16, 0.09, 0.04, 0.01];
        assert_factors("polynomial", &polynomial, TEN, &want);
        let cosine = ScheduleConfig { min_factor: 0.1, ..named(Schedule::Cosine) };
        let want = [
            1.0,
            0.977_975_432_332_819_1,
            0.914_057_647_468_726_3,
            0.814_503_363_531_612_9,
            0.689_057_647_468_726_3,
            0.55,
            0.410_942_352_531_273_74,
            0.285_496_636_468_387_2,
            0.185_942_352_531_273_72,
            0.122_024_567_667_180_92,
        ];
        assert_factors("cosine", &cosine, TEN, &want);
        // From 1 to a fifth.
        let linear = ScheduleConfig { min_factor: 0.2, ..named(Schedule::Linear) };
        assert_factors("linear", &linear, Span { epochs: 2, epoch_steps: 2 }, &[1.0, 0.8, 0.6, 0.4, 0.2]);
    }

    /// PyTorch 2.15: `SequentialLR(o, [LinearLR(o, start_factor=0.01, total_iters=3), main], milestones=[3])` with
    /// `CosineAnnealingLR(o, 7)` and `StepLR(o, 2, 0.1)` as `main`.
    #[test]
    fn a_warm_up_goes_before_any_course() {
        let warm = |name| ScheduleConfig { warmup_epochs: 3.0, step_size: 2, ..named(name) };
        let want = [
            0.01,
            0.34,
            0.67,
            1.0,
            0.950_484_433_951_209_5,
            0.811_744_900_929_366_8,
            0.611_260_466_978_157_2,
            0.388_739_533_021_842_83,
            0.188_255_099_070_633_26,
            0.049_515_566_048_790_48,
        ];
        assert_factors("cosine", &warm(Schedule::Cosine), TEN, &want);
        let want = [0.01, 0.34, 0.67, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001];
        assert_factors("step", &warm(Schedule::Step), TEN, &want);
        // Half an epoch of four steps, in which the other courses have no part.
        let half = ScheduleConfig { warmup_epochs: 0.5, warmup_factor: 0.5, ..named(Schedule::Constant) };
        assert_factors("constant", &half, Span { epochs: 1, epoch_steps: 4 }, &[0.5, 0.75, 1.0, 1.0]);
    }

    /// The rates are constant while weights are averaged, and the course before has an end of its own.
    #[test]
    fn weights_are_averaged_at_a_constant_rate() {
        let linear = ScheduleConfig { swa_epochs: 2, swa_factor: 0.25, ..named(Schedule::Linear) };
        assert_factors(
            "linear",
            &linear,
            Span { epochs: 4, epoch_steps: 2 },
            &[1.0, 0.75, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25],
        );
        let all = ScheduleConfig { swa_epochs: 4, ..linear };
        assert_factors("all", &all, Span { epochs: 4, epoch_steps: 1 }, &[0.25; 4]);
    }

    /// PyTorch 2.15, `ReduceLROnPlateau(o, patience=1, factor=0.5)` with lr=1: the rate after each of these losses.
    #[test]
    fn a_plateau_is_what_pytorch_calls_one() {
        let losses = [1.0, 0.9, 0.95, 0.899_95, 0.9, 0.5, 0.6, 0.6, 0.6, 0.6];
        let want = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125];
        let config = ScheduleConfig { gamma: 0.5, ..named(Schedule::Plateau) };
        let mut plateau = Plateau::default();
        for (epoch, (loss, want)) in losses.into_iter().zip(want).enumerate() {
            plateau.add(loss, 1);
            assert_eq!(config.factor(0, TEN, plateau.reductions), want, "epoch {epoch}");
        }
    }
}
