//! A page on what a network has learned and how well: one HTML file that needs no network, for a screen, a phone or paper,
//! light and dark.
//!
//! [`Report`] says what goes into it: the figures of an [`Evaluation`] with their intervals, curves of the run, confusions,
//! each class, calibration, the worst mistakes, samples and augmented training pictures ([`Gallery`]), the filters of the first layer,
//! and how all of it was made. Everything in it is bounded, whatever the number of classes, pictures and epochs. Texts from
//! outside are escaped by construction (`markup.rs`), and the page's security policy lets it load nothing. The same input
//! gives the same bytes.

mod calibration;
pub(crate) mod chart;
mod classes;
mod confusion;
mod curves;
mod data_uri;
mod facts;
mod filters;
mod gallery;
pub(crate) mod page;
mod pictures;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use self::gallery::Gallery;
use crate::classifier::Description;
use crate::columns::counted;
use crate::data::Part;
use crate::evaluate::Evaluation;
use crate::exec::Engine;
use crate::files::write_atomic;
use crate::train::{EpochMetrics, TestResult, TrainConfig};
use crate::{Result, StateDict};

/// What a report is about.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What it is called: a run, or a network and its data.
    pub title: &'a str,
    /// The network and how it is used.
    pub description: &'a Description,
    /// Its weights.
    pub weights: &'a StateDict,
    /// On what it is computed.
    pub engine: &'a Engine,
    /// What the pictures of the evaluation are called.
    pub data: &'a str,
    /// Which part of the data they are.
    pub part: Option<Part>,
    /// What the evaluation came to, where there was one.
    pub evaluation: Option<&'a Evaluation>,
    /// Pictures of the evaluation, and of training.
    pub gallery: Option<&'a Gallery>,
    /// What test pictures came to that are not those of the evaluation, where there were any.
    pub test: Option<&'a TestResult>,
    /// The epochs of the run, where it was one.
    pub epochs: &'a [EpochMetrics],
    /// The configuration of the run.
    pub config: Option<&'a TrainConfig>,
}

impl Report<'_> {
    /// The page.
    pub fn to_html(&self) -> String {
        let classes = self.description.classes();
        let mut sections = Vec::new();
        sections.extend(curves::curves(self.epochs, self.config));
        if let Some(evaluation) = self.evaluation {
            sections.extend(confusion::confusion(evaluation, classes));
            sections.push(classes::classes(evaluation));
            sections.push(calibration::calibration(&evaluation.calibration, evaluation.top1));
        }
        if let Some(gallery) = self.gallery {
            sections.extend(pictures::mistakes(gallery, classes));
            sections.extend(pictures::samples(gallery, classes));
            sections.extend(pictures::augmented(gallery, classes));
        }
        sections.extend(filters::filters(self.description.net(), self.weights));
        sections.push(facts::facts(self));
        sections.extend(facts::configuration(self));
        let head = self.evaluation.map(|evaluation| page::headline(evaluation, self.test)).unwrap_or_default();
        page::page(self.title, &self.lead(), head, sections)
    }

    /// Writes the page to a file, atomically.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let html = self.to_html();
        write_atomic(path, |out| out.write_all(html.as_bytes()))
    }

    /// What it is about, in a sentence.
    fn lead(&self) -> String {
        let name = self.description.net().name();
        let part = self.part.map_or(String::new(), |part| format!(" ({})", part.name()));
        match (self.evaluation, self.epochs.last()) {
            (Some(evaluation), _) => {
                let pictures = counted(evaluation.images, "picture");
                format!("{name}, measured on {pictures} of {}{part}", self.data)
            }
            (None, Some(last)) => {
                format!("{name}, {}; no pictures were held out to measure it with", counted(last.epoch, "epoch"))
            }
            (None, None) => name.to_owned(),
        }
    }
}
