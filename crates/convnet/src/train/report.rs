//! `report.html`: what a run has come to, measured with its best weights on the pictures that are watched.

use std::sync::Arc;

use super::saved::Saved;
use super::{TestResult, Trainer};
use crate::data::augment::RandomKey;
use crate::data::{Augmented, Dataset, Part};
use crate::evaluate::{Evaluation, evaluate_each};
use crate::report::{Gallery, Report};
use crate::{Result, StateDict};

impl Trainer {
    /// Measures these weights and writes the report. Returns what the pictures that are watched came to, if there are any.
    pub(super) fn write_report(
        &self,
        saved: &Saved,
        weights: &StateDict,
        test: Option<&TestResult>,
    ) -> Result<Option<Evaluation>> {
        let (description, engine) = (&self.description, &self.engine);
        let mut gallery = Gallery::new(description.input(), description.classes().len());
        let measure = |(_, data): &(Part, Arc<Dataset>)| {
            let batch_size = self.recipe.batch_size;
            evaluate_each(description, weights, data, engine, batch_size, &mut |seen| gallery.add(&seen))
        };
        let evaluation = self.watched.as_ref().map(measure).transpose()?;
        self.show_augmented(&mut gallery)?;
        let report = Report {
            title: &saved.folder.title(),
            description,
            weights,
            engine,
            data: &saved.config.data.source,
            part: self.watched.as_ref().map(|(part, _)| *part),
            evaluation: evaluation.as_ref(),
            gallery: Some(&gallery),
            test,
            epochs: &self.epochs,
            config: Some(&saved.config),
        };
        report.write(&saved.folder.report_html())?;
        Ok(evaluation)
    }

    /// Training pictures, evenly spaced, as the first epoch had them before they were mixed.
    fn show_augmented(&self, gallery: &mut Gallery) -> Result<()> {
        let (data, normalization) = (&*self.train, self.description.normalization());
        let Some(mut augmented) = Augmented::new(data, &self.recipe.augment, normalization)? else { return Ok(()) };
        let count = Gallery::AUGMENTED.min(data.len());
        for index in (0..count).map(|number| number * data.len() / count) {
            let key = RandomKey { seed: self.recipe.seed, epoch: 0, index: index as u64 };
            // One whose file is gone by now cannot be shown.
            if let Ok(planes) = augmented.picture(key) {
                gallery.add_augmented(&data.image_name(index), data.labels()[index] as usize, &planes);
            }
        }
        Ok(())
    }
}
