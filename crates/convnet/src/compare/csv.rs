//! The epochs of runs as CSV by RFC 4180.

use super::Comparison;
use crate::csv::field;
use crate::train::summary;

/// A line for each epoch, as in a run's `summary.csv`, with the run before it.
pub(super) fn csv(comparison: &Comparison) -> String {
    let mut text = format!("run,{}\r\n", summary::header());
    for run in &comparison.runs {
        for epoch in &run.epochs {
            text += &format!("{},{}\r\n", field(&run.run), summary::row(epoch));
        }
    }
    text
}
