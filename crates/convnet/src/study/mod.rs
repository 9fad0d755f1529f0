//! The lecture's experiments as named studies: some variants of a network or a recipe, trained alike and set side by side, with
//! what papers and the lecture notes expect and whether it was seen.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `catalog.rs` | the studies as data: variants, settings, budgets, expectations |
//! | `nets.rs` | networks of studies that have no name in [`crate::zoo`] |
//! | `session.rs` | a study in a folder: one ordinary run for each variant and seed, gone on with where it was stopped |
//! | `measure.rs` | what runs do not measure: sizes of gradients by layer, times of steps |
//! | `record.rs` | what was measured (`study.toml`), tables, expectations seen or not |
//! | `plot.rs` | `study.png` |
//! | `recorded.rs` | results that come with the library, for the lecture and for `docs/studies.md` |
//!
//! ```
//! use convnet::study::{Budget, Plan, Session, Study};
//! # fn main() -> convnet::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let out = folder.path().join("pooling");
//! let plan = Plan { budget: Budget::Seconds, ..Plan::new(Study::find("pooling")?) };
//! let mut session = Session::open(plan, &out)?;
//! while let Some(task) = session.next_task() {
//!     let trainer = session.trainer(&task)?;
//!     let ended = trainer.fit(&mut ());
//!     session.record(&task, ended)?;
//! }
//! println!("{}", session.finish()?.to_markdown()?);
//! # Ok(())
//! # }
//! ```

mod catalog;
mod measure;
mod nets;
#[cfg(feature = "plots")]
mod plot;
mod record;
mod recorded;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use catalog::STUDIES;
#[cfg(feature = "plots")]
pub use plot::plot;
pub use record::{LayerGradient, Record, RunRecord, VariantRecord, Verdict};
pub use recorded::{document, recorded};
pub use session::{Plan, Session, Task};

use crate::data::augment::{Augmentation, RandomCrop};
use crate::net::Net;
use crate::{Error, Result};

/// An experiment: variants that are trained alike, and what is expected of them.
#[derive(Debug)]
pub struct Study {
    /// What it is called.
    pub name: &'static str,
    /// A heading.
    pub title: &'static str,
    /// What it asks, in a sentence or two.
    pub question: &'static str,
    /// Rows of the lecture that it belongs to.
    pub rows: &'static [&'static str],
    /// Who did the experiment first.
    pub source: &'static str,
    /// What the built-in digits can show of it, and what takes other pictures.
    pub data: &'static str,
    /// What is set side by side, in the order of tables and plots.
    pub variants: &'static [Variant],
    /// What papers and the notes say.
    pub expectations: &'static [Expectation],
    /// Settings that all variants share, as TOML.
    settings: &'static str,
    /// Pictures and epochs of each [`Budget`].
    scales: [Scale; 4],
    /// What is drawn.
    #[cfg_attr(not(feature = "plots"), allow(dead_code, reason = "they are drawn or not at all"))]
    panels: &'static [Panel],
    /// Columns of the table behind the variants' names.
    columns: &'static [Quantity],
}

/// One of the networks or recipes of a study.
#[derive(Debug)]
pub struct Variant {
    /// What it is called, also in the names of folders.
    pub name: &'static str,
    /// What is different about it.
    pub about: &'static str,
    /// Settings of its own, as TOML; they go over the study's.
    settings: &'static str,
    /// Whether its training pictures are shifted, and mirrored where that makes sense.
    augmented: bool,
    /// Its network where the settings name none: for pictures of a shape and so many classes.
    net: Option<Build>,
}

/// Makes a network for pictures of a shape and so many classes.
type Build = fn([usize; 3], usize) -> Result<Net>;

/// What a paper or the notes say of two variants.
#[derive(Debug)]
pub struct Expectation {
    /// In words.
    pub says: &'static str,
    /// Who says so, and where.
    pub source: &'static str,
    /// Which number decides.
    pub of: Quantity,
    /// The variant with the smaller number.
    pub less: &'static str,
    /// The variant with the larger one.
    pub more: &'static str,
}

/// A number that a variant has, or each of its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Quantity {
    /// Trained elements.
    Parameters,
    /// Multiply-adds for one picture.
    Macs,
    /// Milliseconds of a training step.
    StepTime,
    /// Share of a sample of the training pictures that is not recognised after the last epoch, in %.
    TrainError,
    /// The same of the pictures that are held out.
    TestError,
    /// The second less the first, in points.
    Gap,
    /// Size of the gradient of the first layer's weights over that of the last one's, before training.
    GradientRatio,
}

/// How much is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// A try-out: it runs through, and its results mean little.
    Seconds,
    /// Some minutes on two cores; `depth` takes up to half an hour.
    #[default]
    Minutes,
    /// Up to an hour or so on two cores.
    Hour,
    /// All pictures and the paper's number of epochs, or a usual one.
    Paper,
}

/// Pictures and epochs of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    /// Training pictures, about; 0 for all.
    limit: usize,
    epochs: usize,
    /// Pictures of a step.
    batch: usize,
}

/// A part of a study's plot.
#[derive(Debug)]
#[cfg_attr(not(feature = "plots"), allow(dead_code, reason = "it is drawn or not at all"))]
enum Panel {
    /// Errors over steps, thin in training and bold on held-out pictures, of these variants or of all where none is named.
    Errors { title: &'static str, variants: &'static [&'static str] },
    /// Sizes of gradients by layer.
    Gradients { title: &'static str },
}

impl Study {
    /// The study of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`] with what was perhaps meant.
    ///
    /// ```
    /// use convnet::study::Study;
    /// assert_eq!(Study::find("depth").unwrap().variants.len(), 4);
    /// assert!(Study::find("dept").unwrap_err().to_string().ends_with("did you mean 'depth'?"));
    /// ```
    pub fn find(name: &str) -> Result<&'static Study> {
        let unknown = || Error::unknown("study", name, STUDIES.iter().map(|study| study.name));
        STUDIES.iter().find(|study| study.name == name).ok_or_else(unknown)
    }

    /// Its variant of that name.
    fn variant(&self, name: &str) -> Result<&'static Variant> {
        let names = self.variants.iter().map(|variant| variant.name);
        let unknown = || Error::unknown_in(Some(format!("study '{}'", self.name)), "variant", name, names);
        self.variants.iter().find(|variant| variant.name == name).ok_or_else(unknown)
    }

    /// Columns of its table behind the variants' names.
    #[cfg(feature = "lecture")]
    pub(crate) fn columns(&self) -> &'static [Quantity] {
        self.columns
    }

    fn scale(&self, budget: Budget) -> Scale {
        self.scales[budget as usize]
    }

    /// Whether any panel, column or expectation asks for it.
    fn measures(&self, quantity: Quantity) -> bool {
        self.columns.contains(&quantity) || self.expectations.iter().any(|expected| expected.of == quantity)
    }
}

impl Budget {
    /// All of them, from the smallest.
    pub const ALL: [Budget; 4] = [Budget::Seconds, Budget::Minutes, Budget::Hour, Budget::Paper];

    /// `seconds`, `minutes`, `hour` or `paper`.
    pub fn name(self) -> &'static str {
        match self {
            Budget::Seconds => "seconds",
            Budget::Minutes => "minutes",
            Budget::Hour => "hour",
            Budget::Paper => "paper",
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Budget> {
        let unknown = || Error::unknown("budget", text, Budget::ALL.map(Budget::name));
        Budget::ALL.into_iter().find(|budget| budget.name() == text).ok_or_else(unknown)
    }
}

/// What is done to the training pictures of an augmented variant: a shift of up to an eighth of a side, and a flip of colour
/// pictures alone, for a mirrored digit is another sign.
fn augmentation([channels, height, width]: [usize; 3]) -> Augmentation {
    let padding = height.min(width) / 8;
    let crop = RandomCrop { padding, ..RandomCrop::default() };
    let flips = Augmentation::cifar().0.into_iter().skip(1).filter(|_| channels == 3);
    Augmentation(std::iter::once(crop.into()).chain(flips).collect())
}
