//! What is kept beside the weights that are trained: their moving average, and the statistics of norms.

use super::{Training, synchronized, take};
#[cfg(doc)]
use crate::Error;
use crate::exec::check_images;
use crate::exec::cpu::stage::{Mode, Pass};
use crate::exec::parameters::Packed;
use crate::{Result, StateDict};
use convnet_kernels::memory::Buffer;
use convnet_kernels::optimizer;

/// Added to variances before they are compared, as norms add it before they divide.
const EPS: f64 = 1e-5;

/// The moving average of parameters and running statistics.
#[derive(Debug)]
pub(super) struct Average {
    weights: Packed,
    running: Buffer,
}

impl Training {
    /// Moves the exponential moving average of all parameters and running statistics towards them as they stand:
    /// `a ← a + (1 - decay) · (w - a)`. The first call makes the average, a copy of them; later ones allocate nothing.
    ///
    /// This is torchvision's `ExponentialMovingAverage` (`references/classification`), which averages buffers, too.
    pub fn average(&mut self, decay: f64) {
        let engine = &self.session.plan.engine;
        match &mut self.average {
            Some(Average { weights, running }) => {
                let average = |w: &[f32], a: &mut [f32]| optimizer::average(engine.set(), engine.pool(), decay, w, a);
                average(&self.weights.flat, &mut weights.flat);
                average(&self.running, running);
            }
            None => {
                let weights = Packed::changing(self.weights.flat.clone());
                self.average = Some(Average { weights, running: self.running.clone() });
            }
        }
    }

    /// The moving average, if [`Training::average`] has been called.
    pub fn averaged_weights(&self) -> Option<StateDict> {
        self.average.as_ref().map(|Average { weights, running }| self.state(&weights.flat, running))
    }

    /// Takes up an average where another training stopped.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Shape`] when a tensor is missing or has another shape; nothing has changed then.
    pub fn restore_average(&mut self, average: &StateDict) -> Result<()> {
        let (weights, running, _) = take(&self.session.plan, average)?;
        self.average = Some(Average { weights, running });
        Ok(())
    }

    /// Forward of `count` pictures for the sake of the running statistics alone, without dropout: after batches 0, 1, …, `batch`
    /// they are the means of these batches' statistics, whatever they were before. Those of the moving average, where there is
    /// one, since it is what is evaluated.
    ///
    /// Running statistics lag behind weights that change fast (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3).
    /// This is PyTorch's `torch.optim.swa_utils.update_bn`, but for dropout, which is off as it is when the net is used.
    ///
    /// # Errors
    /// [`Error::Setting`] when there are more pictures than planned or none, [`Error::Length`] when `images` has another length.
    pub fn recompute_statistics(&mut self, images: &[f32], count: usize, batch: u64) -> Result<()> {
        check_images(images.len(), self.input_len, count, self.session.plan.batch)?;
        let parameters = match &mut self.average {
            Some(Average { weights, running }) => (&*weights, &mut running[..]),
            None => (&self.weights, &mut self.running[..]),
        };
        let mode = Mode::Statistics { momentum: 1.0 / (batch + 1) as f32 };
        let session = synchronized::session_in_use(&mut self.session, &mut self.synchronized);
        session.forward(parameters, images, Pass::of(count, mode));
        Ok(())
    }

    /// Whether there is an average.
    pub fn has_average(&self) -> bool {
        self.average.is_some()
    }

    /// Drops the average.
    pub fn forget_average(&mut self) {
        self.average = None;
    }

    /// The running statistics of all norms, as they lie in memory: those of the average, where there is one.
    pub(crate) fn running_statistics(&self) -> Buffer {
        self.average.as_ref().map_or(&self.running, |average| &average.running).clone()
    }

    /// Puts statistics back that [`Training::running_statistics`] gave.
    pub(crate) fn restore_statistics(&mut self, statistics: Buffer) {
        *self.average.as_mut().map_or(&mut self.running, |average| &mut average.running) = statistics;
    }

    /// How far these statistics are from those that stand now, in the norm where that is farthest: the mean over its channels of
    /// the divergence of Kullback and Leibler between the two normal distributions, in nats.
    pub(crate) fn statistics_gap(&self, before: &[f32]) -> f64 {
        let after = self.average.as_ref().map_or(&self.running, |average| &average.running);
        let slots = &self.session.plan.graph.parameters.buffers;
        let of_norm = |name: &str| {
            let range = |which: &str| {
                let slot = slots.iter().find(|slot| slot.name.strip_suffix(which) == Some(name))?;
                Some(slot.range.start..slot.range.start + slot.shape.iter().product::<usize>())
            };
            let (mean, var) = (range("running_mean")?, range("running_var")?);
            let pairs = mean.zip(var).map(|(mean, var)| {
                divergence([before[mean], before[var]].map(f64::from), [after[mean], after[var]].map(f64::from))
            });
            let all: Vec<f64> = pairs.collect();
            Some(all.iter().sum::<f64>() / all.len() as f64)
        };
        slots.iter().filter_map(|slot| of_norm(slot.name.strip_suffix("running_mean")?)).fold(0.0, f64::max)
    }
}

/// The divergence of Kullback and Leibler of a normal distribution, by mean and variance, from another that is true.
fn divergence([mean, var]: [f64; 2], [true_mean, true_var]: [f64; 2]) -> f64 {
    let ratio = (true_var + EPS) / (var + EPS);
    0.5 * (ratio - 1.0 - ratio.ln() + (true_mean - mean).powi(2) / (var + EPS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_diverge_from_others_alone() {
        assert_eq!(divergence([3.0, 2.0], [3.0, 2.0]), 0.0);
        // Half a standard deviation aside, and twice the deviation: (0.25 / 2) and (4 - 1 - ln 4) / 2.
        assert!((divergence([0.0, 1.0], [0.5, 1.0]) - 0.125).abs() < 1e-5);
        assert!((divergence([0.0, 1.0], [0.0, 4.0]) - (3.0 - 4f64.ln()) / 2.0).abs() < 1e-4);
        assert!(divergence([0.0, 0.0], [0.0, 0.0]) == 0.0 && divergence([0.0, 1.0], [0.0, 0.0]).is_finite());
    }
}
