//! What is done once, when training has ended: test pictures are measured, and there is something to look at.

use std::borrow::Cow;
use std::ops::ControlFlow::Continue;

#[cfg(feature = "plots")]
use super::plots;
use super::saved::Saved;
use super::{Ending, TestResult, Trainer};
use crate::data::{Order, Part};
use crate::evaluate::evaluate;
use crate::{Error, Result, StateDict, Tensor};

impl Trainer {
    /// Ends training: the first process leaves a checkpoint where an epoch is under way; unless somebody wants the run to stop, all of
    /// them measure the test pictures with the weights that are kept, and the first writes what there is to look at. Where no epoch
    /// has ended, or the file of the best weights has been damaged, the last weights take their place in the report.
    pub(super) fn conclude(&self, ending: Ending, last: StateDict) -> Result<(Option<TestResult>, StateDict)> {
        let last = self.processes.agree(self.leave(last))?;
        if ending == Ending::Stopped {
            return Ok((None, last));
        }
        let saved_best = self.saved.as_ref().and_then(Saved::best);
        let kept = saved_best.as_ref().map(|best| &best.weights).or(self.best.as_ref()).unwrap_or(&last);
        let test = match &self.test {
            Some(data) if self.progress.best_epoch > 0 => {
                let found =
                    self.evaluate_in(Order::Sequential, &*self.of_first(kept, &last)?, data, &mut |_| Continue(()))?;
                found.map(|found| TestResult::new(self.progress.best_epoch, &found))
            }
            _ => None,
        };
        let written = if self.processes.is_first() { self.write_conclusion([kept, &last], test) } else { Ok(test) };
        Ok((self.processes.agree(written)?, last))
    }

    fn leave(&self, weights: StateDict) -> Result<StateDict> {
        match &self.saved {
            Some(saved) if self.progress.batch > 0 => self.save_last(saved, weights),
            _ => Ok(weights),
        }
    }

    /// The weights of the first process in all of them, which have such tensors.
    fn of_first<'a>(&self, weights: &'a StateDict, like: &StateDict) -> Result<Cow<'a, StateDict>> {
        if self.processes.size() == 1 {
            return Ok(Cow::Borrowed(weights));
        }
        let numbers = |(name, alike): (&String, &Tensor)| {
            let tensor = weights.get(name).filter(|tensor| tensor.shape() == alike.shape());
            let tensor = tensor.ok_or_else(|| Error::missing_parameter(name))?;
            Ok(tensor.data().iter().flat_map(|number| number.to_le_bytes()).collect())
        };
        let own: Result<Vec<Vec<u8>>> =
            if self.processes.is_first() { like.iter().map(numbers).collect() } else { Ok(Vec::new()) };
        let own = self.processes.agree(own)?;
        let all = self.processes.gather(own.concat())?;
        if self.processes.is_first() {
            return Ok(Cow::Borrowed(weights));
        }
        let mut rest = all[0].as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four));
        let tensors = like.iter().map(|(name, tensor)| {
            let data: Vec<f32> = rest.by_ref().take(tensor.data().len()).collect();
            (name.clone(), Tensor::new(tensor.shape(), data))
        });
        Ok(Cow::Owned(tensors.collect()))
    }

    /// Writes what there is to look at, and measures test pictures that are watched, where that has to be done by itself.
    fn write_conclusion(&self, [kept, last]: [&StateDict; 2], test: Option<TestResult>) -> Result<Option<TestResult>> {
        let test = match &self.watched {
            // The report measures them.
            Some((Part::Test, data))
                if test.is_none()
                    && self.progress.best_epoch > 0
                    && (self.saved.is_none() || cfg!(not(feature = "plots"))) =>
            {
                let batch_size = self.recipe.batch_size;
                let found = evaluate(&self.description, kept, data, &self.engine, batch_size, &mut |_| Continue(()))?;
                found.map(|found| TestResult::new(self.progress.best_epoch, &found))
            }
            _ => test,
        };
        let Some(saved) = &self.saved else { return Ok(test) };
        #[cfg(feature = "plots")]
        let test = self.draw(saved, [kept, last], test)?;
        #[cfg(not(feature = "plots"))]
        let _ = last;
        test.iter().try_for_each(|test| test.write(&saved.folder.test_json()))?;
        Ok(test)
    }

    /// Draws what the last weights recognise, and writes the report on the weights that are kept. What test pictures come to
    /// that are watched is found there.
    #[cfg(feature = "plots")]
    fn draw(
        &self,
        saved: &Saved,
        [kept, last]: [&StateDict; 2],
        test: Option<TestResult>,
    ) -> Result<Option<TestResult>> {
        if let Some((_, data)) = &self.watched {
            plots::answers(&saved.folder.predictions_png(), &self.description, last, data, &self.engine)?;
        }
        let found = self.write_report(saved, kept, test.as_ref())?;
        let is_test = matches!(self.watched, Some((Part::Test, _))) && self.progress.best_epoch > 0;
        Ok(test.or(found.filter(|_| is_test).map(|found| TestResult::new(self.progress.best_epoch, &found))))
    }
}
