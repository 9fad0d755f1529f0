//! What keeps weights from being used, with the facts in fields.

use std::fmt;
use std::path::Path;

use super::printable;
use crate::Error;

/// How many names of each kind a message has.
const SHOWN: usize = 5;

/// Why weights cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A file of another kind, told by its content.
    #[error("not weights: {found}; {advice}")]
    NotWeights {
        /// What it is: "it is empty".
        found: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A file of several state dicts, of which none is usual. The same for names that begin in several ways.
    #[error("it holds more than one set of weights, and nothing says which is meant: {}", listed(.keys))]
    Several {
        /// Where they lie: keys, or what their names begin with.
        keys: Vec<String>,
    },
    /// A key under which there are no weights.
    #[error("no weights under '{}': {}", printable(.key), known_keys(.known))]
    NoSuchKey {
        /// What was asked for.
        key: String,
        /// Where weights lie.
        known: Vec<String>,
    },
    /// A net that the file does not describe and nobody has named.
    #[error("the file does not say which net its weights belong to{}", hint(.likeness))]
    UnknownNet {
        /// What they look like: "they look like 'resnet18' with 3 classes".
        likeness: Option<String>,
    },
    /// NaN or infinity in a tensor.
    #[error("tensor '{}' holds {value} at element {index}; {count} of its {} elements are no finite numbers: the weights are damaged, or their training diverged", printable(.tensor), .elements)]
    NotFinite {
        /// Its name.
        tensor: String,
        /// The first such element.
        value: f32,
        /// Its place in row-major order.
        index: usize,
        /// How many there are.
        count: usize,
        /// Elements of the tensor.
        elements: usize,
    },
    /// A parameter that another is computed from in a way that is not known here.
    #[error("tensor '{}' is {kind}: remove that in PyTorch and save the state_dict again", printable(.tensor))]
    Parametrized {
        /// Its name.
        tensor: String,
        /// What it is part of: "a spectral norm".
        kind: &'static str,
    },
    /// Weights of another net.
    #[error(transparent)]
    Misfit(#[from] Box<Misfit>),
}

/// How weights differ from what a net needs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Misfit {
    /// The net's name.
    pub net: String,
    /// Parameters that the weights lack.
    pub missing: Vec<String>,
    /// Tensors that the net does not have.
    pub unexpected: Vec<String>,
    /// Tensors whose shape is another.
    pub misshaped: Vec<Misshaped>,
    /// What the weights look like.
    pub likeness: Option<String>,
    /// Whether only the layers that tell the classes apart are missing or of another shape.
    pub only_head: bool,
    /// What the file says of its net, which is another.
    pub own: Option<String>,
}

/// A tensor whose shape is not the one that the net needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Misshaped {
    /// Its name.
    pub name: String,
    /// What the net needs.
    pub expected: Vec<usize>,
    /// What there is.
    pub got: Vec<usize>,
}

impl std::error::Error for Misfit {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |names: &[String]| names.iter().take(SHOWN).map(|name| printable(name)).collect::<Vec<_>>();
        let shapes = self.misshaped.iter().take(SHOWN);
        let shapes = shapes.map(|m| format!("{} (expected {:?}, got {:?})", printable(&m.name), m.expected, m.got));
        let kinds = [
            ("missing", self.missing.len(), names(&self.missing)),
            ("unexpected", self.unexpected.len(), names(&self.unexpected)),
            ("of another shape", self.misshaped.len(), shapes.collect()),
        ];
        write!(f, "the weights do not fit the net '{}'", self.net)?;
        let mut separator = ": ";
        for (what, count, shown) in kinds.into_iter().filter(|(_, count, _)| *count > 0) {
            write!(f, "{separator}{count} {what}: {}", shown.join(", "))?;
            if count > shown.len() {
                write!(f, " and {} more", count - shown.len())?;
            }
            separator = "; ";
        }
        f.write_str(&hint(&self.likeness))?;
        match &self.own {
            Some(own) => write!(f, ". The file belongs to {own}, which it describes: to use that, name no net"),
            None => Ok(()),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Error {
        Error::Weights { file: None, problem: Box::new(problem) }
    }
}

impl Problem {
    /// The error about a file.
    pub(crate) fn in_file(self, path: &Path) -> Error {
        Error::Weights { file: Some(path.into()), problem: Box::new(self) }
    }
}

/// What ends the reading of a file: words about its form, or facts about its weights.
#[derive(Debug)]
pub(super) enum Failure {
    Form(String),
    Weights(Problem),
}

impl From<String> for Failure {
    fn from(problem: String) -> Failure {
        Failure::Form(problem)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::Weights(problem)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Form(problem) => f.write_str(problem),
            Failure::Weights(problem) => problem.fmt(f),
        }
    }
}

impl Failure {
    pub(super) fn in_file(self, path: &Path) -> Error {
        match self {
            Failure::Form(problem) => Error::file(path, problem),
            Failure::Weights(problem) => problem.in_file(path),
        }
    }
}

/// `a, b and 3 more`.
pub(super) fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| printable(name)).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn known_keys(keys: &[String]) -> String {
    match keys {
        [] => "the file has no other keys".into(),
        keys => format!("there are {}", listed(keys)),
    }
}

fn hint(likeness: &Option<String>) -> String {
    likeness.as_ref().map(|likeness| format!("; {likeness}")).unwrap_or_default()
}
