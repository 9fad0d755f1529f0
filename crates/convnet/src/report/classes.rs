//! Precision, recall and F1 of each class, the worst first; a click on a heading sorts by it.

use super::page::{Section, percent, section};
use crate::columns::thousands;
use crate::evaluate::{ClassMeasures, Evaluation, MeanMeasures};
use crate::markup::{Markup, element, fixed, text};

pub(super) fn classes(evaluation: &Evaluation) -> Section {
    let mut classes: Vec<&ClassMeasures> = evaluation.classes.iter().collect();
    classes.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    let names = ["class", "pictures", "predicted", "precision", "recall", "F1"];
    let heading = |(column, name): (usize, &str)| {
        let button = element("button", &[("type", &"button")], text(name));
        match column {
            0 => element("th", &[("scope", &"col"), ("class", &"name")], button),
            5 => element("th", &[("scope", &"col"), ("aria-sort", &"ascending")], button),
            _ => element("th", &[("scope", &"col")], button),
        }
    };
    let head = element("tr", &[], names.into_iter().enumerate().map(heading).sum()).line();
    let body = element("tbody", &[], classes.into_iter().map(row).sum()).line();
    let foot =
        mean("mean of the classes", evaluation.macro_mean) + mean("weighted by pictures", evaluation.weighted_mean);
    let table = element("table", &[], element("thead", &[], head) + body + element("tfoot", &[], foot));
    let note = "Precision: of the pictures predicted as the class, the share that are of it. Recall: of its pictures, the \
                share predicted as it. F1: their harmonic mean. The worst come first.";
    section("classes", "Classes", note, element("div", &[("class", &"wide tall"), ("tabindex", &0)], table).line())
}

fn row(class: &ClassMeasures) -> Markup {
    let count = |count: u64| element("td", &[("data-v", &count)], text(thousands(count)));
    let share = |share: f64| element("td", &[("data-v", &format!("{share:.6}"))], text(percent(share, 2)));
    let width = format!("width:{:.1}%", 100.0 * class.f1);
    let meter = element(
        "span",
        &[("class", &"meter"), ("aria-hidden", &"true")],
        element("i", &[("style", &width)], fixed("")),
    );
    let f1 = element("td", &[("data-v", &format!("{:.6}", class.f1))], text(percent(class.f1, 2)) + meter);
    let name = element("th", &[("scope", &"row"), ("class", &"name")], text(&class.label));
    let cells = count(class.images) + count(class.predicted) + share(class.precision) + share(class.recall) + f1;
    element("tr", &[], name + cells).line()
}

fn mean(name: &str, mean: MeanMeasures) -> Markup {
    let name = element("th", &[("scope", &"row"), ("class", &"name")], text(name));
    let empty = element("td", &[("colspan", &2)], fixed(""));
    let shares = [mean.precision, mean.recall, mean.f1].map(|share| element("td", &[], text(percent(share, 2))));
    element("tr", &[], name + empty + shares.into_iter().sum()).line()
}
