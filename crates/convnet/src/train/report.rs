//! `report.html`: what a run has come to, measured with its best weights on the pictures that are watched.

use std::sync::Arc;

use super::saved::Saved;
use super::{EpochMetrics, TestResult};
use crate::classifier::Description;
use crate::data::{Dataset, Part};
use crate::evaluate::{Evaluation, evaluate_each};
use crate::exec::Engine;
use crate::report::{Gallery, Report};
use crate::{Result, StateDict};

impl Saved {
    /// Measures these weights and writes the report. Returns what the pictures that are watched came to, if there are any.
    pub(super) fn write_report(
        &self,
        description: &Description,
        weights: &StateDict,
        watched: Option<(Part, &Arc<Dataset>)>,
        test: Option<&TestResult>,
        epochs: &[EpochMetrics],
        engine: &Engine,
    ) -> Result<Option<Evaluation>> {
        let mut gallery = Gallery::new(description.input(), description.classes().len());
        let measure = |(_, data): (Part, &Arc<Dataset>)| {
            let batch_size = self.config.recipe.batch_size;
            evaluate_each(description, weights, data, engine, batch_size, &mut |seen| gallery.add(&seen))
        };
        let evaluation = watched.map(measure).transpose()?;
        let report = Report {
            title: &self.folder.title(),
            description,
            weights,
            engine,
            data: &self.config.data.source,
            part: watched.map(|(part, _)| part),
            evaluation: evaluation.as_ref(),
            gallery: evaluation.as_ref().map(|_| &gallery),
            test,
            epochs,
            config: Some(&self.config),
        };
        report.write(&self.folder.report_html())?;
        Ok(evaluation)
    }
}
