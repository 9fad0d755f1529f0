//! How the learning rate moves over a run: a factor of `lr` for each step, from the step and the number of steps alone.

use serde::{Deserialize, Serialize};

/// The course of the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same throughout, as the lecture has it.
    #[default]
    Constant,
    /// Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, eq. 5, without restarts; PyTorch's `CosineAnnealingLR`).
    Cosine,
    /// From 1/25 to 1 over the first 30 % of the steps and then to 1/250,000, each half a cosine (Smith and Topin 2018;
    /// the defaults of PyTorch's `OneCycleLR`).
    OneCycle,
}

/// Share of a one-cycle run in which the rate rises.
const RISE: f64 = 0.3;
/// Factors at the start and the end of a one-cycle run.
const ENDS: [f64; 2] = [1.0 / 25.0, 1.0 / 250_000.0];

impl Schedule {
    /// Every schedule with its name in configurations.
    pub const NAMED: [(&'static str, Schedule); 3] =
        [("constant", Schedule::Constant), ("cosine", Schedule::Cosine), ("one-cycle", Schedule::OneCycle)];

    /// What `lr` is multiplied with for the step after `step` others, of `total`.
    ///
    /// ```
    /// use convnet::train::Schedule;
    /// assert_eq!(Schedule::Cosine.factor(0, 10), 1.0);
    /// assert!((Schedule::Cosine.factor(5, 10) - 0.5).abs() < 1e-12);
    /// ```
    pub fn factor(self, step: u64, total: u64) -> f64 {
        let total = total.max(1) as f64;
        let step = (step as f64).min(total);
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => between(1.0, 0.0, step / total),
            Schedule::OneCycle => {
                // PyTorch's phases end at these steps, counted from 0.
                let top = RISE * total - 1.0;
                match step <= top {
                    true => between(ENDS[0], 1.0, step / top),
                    false => between(1.0, ENDS[1], ((step - top) / (total - 1.0 - top)).clamp(0.0, 1.0)),
                }
            }
        }
    }
}

/// Half a cosine from one number to another, for `at` from 0 to 1.
fn between(from: f64, to: f64, at: f64) -> f64 {
    to + (from - to) * (1.0 + libm::cos(std::f64::consts::PI * at)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn courses_begin_and_end_where_they_should() {
        for step in [0, 7, 100, 1000] {
            assert_eq!(Schedule::Constant.factor(step, 100), 1.0);
        }
        assert_eq!(Schedule::Cosine.factor(100, 100), 0.0);
        assert!((0..100).all(|step| Schedule::Cosine.factor(step, 100) > Schedule::Cosine.factor(step + 1, 100)));
        // torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=10): get_last_lr after 0, 1, 2, 3, 5 and 9 steps.
        let torch = [0.04, 0.52, 1.0, 0.950_484_6, 0.611_262, 4e-6];
        for (step, want) in [0, 1, 2, 3, 5, 9].into_iter().zip(torch) {
            let got = Schedule::OneCycle.factor(step, 10);
            assert!((got - want).abs() < 1e-6, "step {step}: got {got}, want {want}");
        }
        for total in 0..4 {
            assert!((0..6).all(|step| (0.0..=1.0).contains(&Schedule::OneCycle.factor(step, total))));
        }
    }
}
