//! What is done once, when training has ended: test pictures are measured, and there is something to look at.

use std::sync::Arc;

#[cfg(feature = "plots")]
use super::plots;
use super::saved::Saved;
use super::{TestResult, Trainer};
use crate::data::{Dataset, Part};
use crate::evaluate::evaluate_each;
use crate::{Result, StateDict};

impl Trainer {
    /// Measures the test pictures with the weights that are kept, and writes what there is to look at. Where no epoch has
    /// ended, or the file of the best weights has been damaged, `last` takes their place in the report.
    pub(super) fn conclude(&self, last: &StateDict) -> Result<Option<TestResult>> {
        let saved_best = self.saved.as_ref().and_then(Saved::best);
        let kept = saved_best.as_ref().map(|best| &best.weights).or(self.best.as_ref()).unwrap_or(last);
        let test = match (&self.watched, &self.test) {
            _ if self.progress.best_epoch == 0 => None,
            (_, Some(data)) => Some(self.tested(kept, data)?),
            // The report measures them.
            (Some((Part::Test, data)), None) if self.saved.is_none() || cfg!(not(feature = "plots")) => {
                Some(self.tested(kept, data)?)
            }
            _ => None,
        };
        let Some(saved) = &self.saved else { return Ok(test) };
        #[cfg(feature = "plots")]
        let test = self.draw(saved, [kept, last], test)?;
        test.iter().try_for_each(|test| test.write(&saved.folder.test_json()))?;
        Ok(test)
    }

    fn tested(&self, kept: &StateDict, data: &Arc<Dataset>) -> Result<TestResult> {
        let found = evaluate_each(&self.description, kept, data, &self.engine, self.recipe.batch_size, &mut |_| ())?;
        Ok(TestResult::new(self.progress.best_epoch, &found))
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
