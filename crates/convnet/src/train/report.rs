//! `report.html`: what a run has come to, measured with its best weights on the pictures that are watched.

use std::sync::Arc;

use super::EpochMetrics;
use super::saved::Saved;
use crate::classifier::{Classifier, Description};
use crate::data::{Dataset, Part};
use crate::evaluate::evaluate_each;
use crate::exec::Engine;
use crate::report::{Gallery, Report};
use crate::{Result, StateDict};

impl Saved {
    /// Measures the best weights and writes the report. Where no epoch has ended, or the file of the best has been damaged,
    /// these weights take their place; the report has the hash of those that it is about.
    pub(super) fn write_report(
        &self,
        description: &Description,
        weights: &StateDict,
        watched: Option<(Part, &Arc<Dataset>)>,
        epochs: &[EpochMetrics],
        engine: &Engine,
    ) -> Result<()> {
        let exists = self.folder.best_safetensors().exists();
        let best = exists.then(|| Classifier::of_run(&self.folder)).and_then(Result::ok);
        let weights = best.as_ref().map_or(weights, |best| &best.weights);
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
            epochs,
            config: Some(&self.config),
        };
        report.write(&self.folder.report_html())
    }
}
