//! The page around the sections: head, headline, contents, and what sections are made of.

use sha2::{Digest, Sha256};

use super::data_uri::base64;
use crate::columns::thousands;
use crate::evaluate::Evaluation;
use crate::markup::{Markup, element, fixed, text, void};
use crate::train::TestResult;

const STYLE: &str = include_str!("style.css");
/// Sorts tables; the page is whole without it.
const SCRIPT: &str = include_str!("sort.js");

/// A part of the page with a heading.
pub(crate) struct Section {
    id: &'static str,
    title: &'static str,
    content: Markup,
}

/// A section with some words on what it shows.
pub(crate) fn section(id: &'static str, title: &'static str, note: &str, content: Markup) -> Section {
    let note = if note.is_empty() { Markup::default() } else { element("p", &[("class", &"note")], text(note)) };
    Section { id, title, content: note.line() + content }
}

/// The whole document: complete in itself, and allowed to load and to run nothing else.
pub(crate) fn page(title: &str, lead: &str, head: Markup, sections: Vec<Section>) -> String {
    let script = base64(&Sha256::digest(SCRIPT));
    let policy = format!("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'");
    let meta = void("meta", &[("charset", &"utf-8")]).line()
        + void("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]).line()
        + void("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &policy)]).line()
        + void("meta", &[("name", &"color-scheme"), ("content", &"light dark")]).line()
        + element("title", &[], text(title)).line()
        + element("style", &[], fixed(STYLE)).line();
    let entry = |section: &Section| {
        element("li", &[], element("a", &[("href", &format!("#{}", section.id))], text(section.title)))
    };
    let contents = element("ul", &[], sections.iter().map(entry).sum());
    let header = element(
        "header",
        &[],
        element("h1", &[], text(title)).line()
            + element("p", &[("class", &"lead")], text(lead)).line()
            + head
            + element("nav", &[("aria-label", &"Contents")], contents).line(),
    );
    let body = |Section { id, title, content }: Section| {
        let heading = element("h2", &[("id", &format!("{id}-title"))], text(title)).line();
        element("section", &[("id", &id), ("aria-labelledby", &format!("{id}-title"))], heading + content).line()
    };
    let main = element("main", &[], sections.into_iter().map(body).sum()).line();
    let footer = element("footer", &[], text(format!("Written by convnet {}", env!("CARGO_PKG_VERSION"))));
    let scripts = element("script", &[], fixed(SCRIPT)).line();
    let document = element("head", &[], meta).line() + element("body", &[], header + main + footer + scripts).line();
    let html = element("html", &[("lang", &"en")], document).line();
    (fixed("<!DOCTYPE html>\n") + html).into_string()
}

/// The figures that are looked at first.
pub(super) fn headline(evaluation: &Evaluation, test: Option<&TestResult>) -> Markup {
    let Evaluation { images, top1, top1_interval, top5, top5_interval, loss, macro_mean, calibration, .. } = evaluation;
    let of = |[low, high]: [f64; 2], images: usize| {
        let [low, high] = [low, high].map(|share| format!("{:.2}", 100.0 * share));
        format!("95\u{a0}% interval {low} to {high}\u{a0}%, n = {}", thousands(images as u64))
    };
    let interval = |ends| of(ends, *images);
    let mut cards = card("Accuracy (top-1)", &percent(*top1, 2), &interval(*top1_interval));
    if let (Some(top5), Some(top5_interval)) = (top5, top5_interval) {
        cards += card("Accuracy (top-5)", &percent(*top5, 2), &interval(*top5_interval));
    }
    if let Some(TestResult { accuracy, accuracy_interval, images, .. }) = test {
        let more = of(*accuracy_interval, *images) + "; measured once, at the end";
        cards += card("Test accuracy", &percent(*accuracy, 2), &more);
    }
    let per_class = format!("precision {}, recall {}", percent(macro_mean.precision, 2), percent(macro_mean.recall, 2));
    cards += card("Loss", &format!("{loss:.4}"), "mean cross-entropy");
    cards += card("F1 (class mean)", &percent(macro_mean.f1, 2), &per_class);
    let sure = format!("mean probability {}", percent(calibration.confidence, 2));
    cards += card("Calibration error", &percent(calibration.expected_error, 2), &sure);
    element("dl", &[("class", &"cards")], cards).line()
}

/// A figure with its name and what is to be said of it.
pub(crate) fn card(name: &str, figure: &str, more: &str) -> Markup {
    let content = element("dt", &[], text(name))
        + element("dd", &[("class", &"figure")], text(figure))
        + element("dd", &[("class", &"more")], text(more));
    element("div", &[], content).line()
}

/// A share with so many digits after the point, which no line break parts from its sign.
pub(crate) fn percent(share: f64, digits: usize) -> String {
    format!("{:.digits$}\u{a0}%", 100.0 * share)
}
