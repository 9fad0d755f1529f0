//! What was measured, with what, and on which machine.

use super::Report;
use super::page::{Section, section};
use crate::columns::{duration, thousands};
use crate::markup::{Markup, element, lines, text};
use crate::roofline::processor;
use crate::weights::weights_sha256;

/// Names with their values, under a title.
type Group = (&'static str, Vec<(&'static str, String)>);

pub(super) fn facts(report: &Report) -> Section {
    let groups = [network(report), training(report), data(report), machine(report)];
    let groups = groups.iter().filter(|(_, facts)| !facts.is_empty()).map(group).sum();
    section("facts", "How it was made", "", element("div", &[("class", &"facts")], groups))
}

/// The run's configuration, as its folder holds it.
pub(super) fn configuration(report: &Report) -> Option<Section> {
    let toml = report.config?.to_toml().ok()?;
    let content = element("pre", &[("tabindex", &0)], lines(&toml));
    Some(section("configuration", "Configuration", "The run's config.toml, with every default.", content))
}

fn network(report: &Report) -> Group {
    let description = report.description;
    let net = description.net();
    let facts = vec![
        ("network", net.name().to_owned()),
        ("parameters", thousands(net.parameter_count())),
        ("classes", thousands(description.classes().len() as u64)),
        ("pictures", description.preprocessing().describe(description.input())),
        ("weights, SHA-256", weights_sha256(report.weights)),
    ];
    ("Network", facts)
}

fn training(report: &Report) -> Group {
    let Some(last) = report.epochs.last() else { return ("Training", Vec::new()) };
    let seconds: f64 = report.epochs.iter().map(|epoch| epoch.seconds).sum();
    let mut facts = vec![("epochs", thousands(last.epoch as u64)), ("time", duration(seconds))];
    if let Some(config) = report.config {
        facts.insert(0, ("data", config.data.source.clone()));
        facts.push(("random seed", config.recipe.seed.to_string()));
    }
    ("Training", facts)
}

fn data(report: &Report) -> Group {
    let Some(evaluation) = report.evaluation else { return ("Evaluation", Vec::new()) };
    let mut facts = vec![("data", report.data.to_owned())];
    facts.extend(report.part.map(|part| ("part", part.name().to_owned())));
    facts.push(("pictures", thousands(evaluation.images as u64)));
    facts.push(("time", duration(evaluation.seconds)));
    ("Evaluation", facts)
}

fn machine(report: &Report) -> Group {
    let engine = report.engine;
    let facts = vec![
        ("processor", processor()),
        ("instruction set", engine.isa().to_owned()),
        ("threads", engine.threads().to_string()),
        ("numbers", engine.precision().to_string()),
        ("convnet", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    ("Machine", facts)
}

fn group((title, facts): &Group) -> Markup {
    let row = |(name, value): &(&'static str, String)| {
        element("tr", &[], element("th", &[("scope", &"row")], text(name)) + element("td", &[], text(value)))
    };
    let table = element("table", &[], element("tbody", &[], facts.iter().map(row).sum()));
    element("div", &[], element("h3", &[], text(title)) + table).line()
}
