//! Results that come with the library: files `study.toml` as a study has written them, with the name of its data instead of their
//! place. The lecture shows them, and `docs/studies.md` is made of them.

use super::{Record, STUDIES, Study};
use crate::Result;
use crate::columns::Style;

/// Each study that was measured, and its `study.toml`.
const RECORDED: &[(&str, &str)] = &[
    ("depth", include_str!("results/depth.toml")),
    ("activation", include_str!("results/activation.toml")),
    ("regularisation", include_str!("results/regularisation.toml")),
    ("batchnorm", include_str!("results/batchnorm.toml")),
];

/// The results of a study that come with the library, where there are any.
///
/// # Errors
/// None with the files that come with it, which tests read.
pub fn recorded(study: &Study) -> Result<Option<Record>> {
    let found = RECORDED.iter().find(|(name, _)| *name == study.name);
    found.map(|(_, text)| Record::parse(text)).transpose()
}

/// `docs/studies.md`: every study, and the results of those that were measured.
///
/// # Errors
/// As [`recorded`].
pub fn document() -> Result<String> {
    let mut text = String::from(
        "# Studies\n\n\
         The lecture's experiments as commands: `convnet study NAME`. `convnet study` lists them. This page is made of the results in\n\
         `crates/convnet/src/study/results/`, which the studies have written themselves (`cargo test -p convnet write_studies_page --\n\
         --ignored` makes it again). A study without results here has not been measured at a budget that would mean anything.\n\n\
         An expectation is what a paper or the lecture notes say; *seen* tells whether this measurement, with its pictures, its budget\n\
         and its seeds, agrees. It says nothing of other budgets.\n",
    );
    for study in &STUDIES {
        text += &format!("\n## {}: {}\n\n{} {}.\n\n", study.name, study.title, study.question, sources(study));
        match recorded(study)? {
            Some(record) => text += &results(study, &record)?,
            None => {
                text += &format!("{}\n\n```\nconvnet study {} --data DIR --budget hour\n```\n", study.data, study.name)
            }
        }
    }
    Ok(text)
}

fn sources(study: &Study) -> String {
    format!("Lecture row {}; {}", study.rows.join(", "), study.source)
}

fn results(study: &Study, record: &Record) -> Result<String> {
    let mut text = format!("![{}](studies/{}.png)\n\n", study.title, study.name);
    text += &record.table(Style::Markdown)?;
    text += &format!("\n{}\n", record.variants_explained(study));
    text += &record.expectations(Style::Markdown)?;
    text += &format!("\n{}\n\n```\n{}\n```\n", record.provenance(), record.command());
    Ok(text)
}
