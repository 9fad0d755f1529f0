//! The page of a comparison.

use super::{ComparedRun, Comparison, Table};
use crate::axis::{LOSSES, PERCENT};
use crate::columns::counted;
use crate::markup::{Markup, element, text};
use crate::report::chart::{Chart, Curve};
use crate::report::page::{Section, page as whole_page, section};
use crate::train::EpochMetrics;

pub(super) fn page(comparison: &Comparison) -> String {
    let mut sections = vec![section("results", "Results", "", table(comparison.results()))];
    if !comparison.settings.is_empty() {
        let note = "A dash is a setting that the run leaves to the network or to its default.";
        sections.push(section("settings", "Settings that differ", note, table(comparison.settings())));
    }
    sections.push(curves(&comparison.runs));
    let title = format!("Comparison of {}", counted(comparison.runs.len(), "run"));
    let lead = "Accuracy and loss on the pictures that each run watches; other data make other figures.";
    whole_page(&title, lead, Markup::default(), sections)
}

fn table(table: Table) -> Markup {
    let class = |column: usize| if column < table.names { "name" } else { "number" };
    let heading =
        |(column, name): (usize, &String)| element("th", &[("scope", &"col"), ("class", &class(column))], text(name));
    let cell = |(column, content): (usize, &String)| match column {
        0 => element("th", &[("scope", &"row"), ("class", &"name")], text(content)),
        _ => element("td", &[("class", &class(column))], text(content)),
    };
    let row = |cells: &Vec<String>| element("tr", &[], cells.iter().enumerate().map(cell).sum()).line();
    let head = element("thead", &[], element("tr", &[], table.headings.iter().enumerate().map(heading).sum()));
    let body = element("tbody", &[], table.rows.iter().map(row).sum());
    element("div", &[("class", &"wide"), ("tabindex", &0)], element("table", &[], head + body)).line()
}

fn curves(runs: &[ComparedRun]) -> Section {
    type Value = fn(&EpochMetrics) -> f64;
    let chart = |title, unit, digits, limits: [f64; 2], value: Value| Chart {
        title,
        unit,
        digits,
        limits,
        curves: runs
            .iter()
            .enumerate()
            .map(|(colour, run)| Curve::new(&run.run, colour, limits, run.epochs.iter().map(|e| (e.epoch, value(e)))))
            .filter(|curve| !curve.is_empty())
            .collect(),
    };
    let charts = [
        chart("Held-out accuracy", " %", 2, PERCENT, |e| e.val_accuracy.map_or(f64::NAN, |share| 100.0 * share)),
        chart("Held-out loss", "", 4, LOSSES, |e| e.val_loss.unwrap_or(f64::NAN)),
        chart("Training accuracy", " %", 2, PERCENT, |e| 100.0 * e.accuracy_in_training()),
        chart("Training loss", "", 4, LOSSES, |e| e.train_loss),
    ];
    let drawn = element("div", &[("class", &"charts")], charts.iter().map(Chart::draw).sum());
    section("curves", "Curves", "", drawn)
}
