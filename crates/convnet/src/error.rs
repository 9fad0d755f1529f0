//! The one error type of the library: what happened, to which file or layer, what was expected, and what to do.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::data::PictureError;
use crate::net::Net;
use crate::suggest::{nearest, suggest};
use crate::weights;

/// A result whose error is [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: a message for the person who can mend it, and the facts in fields for a program. Variants and their
/// fields may become more.
///
/// ```
/// use convnet::{Error, zoo};
/// match zoo::find("resnet81") {
///     Err(Error::Unknown { near: Some(near), .. }) => assert_eq!(near, "resnet18"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layer whose input or settings do not fit.
    #[error("layer '{layer}' ({op}): {problem}")]
    #[non_exhaustive]
    Layer {
        /// Name of the node.
        layer: String,
        /// Its operation.
        op: &'static str,
        /// What was expected and what came.
        problem: String,
    },
    /// A file whose content is not what it should be.
    #[error("{}: {problem}", path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
    },
    /// A data set that could be downloaded and is not there.
    #[error("{}: {problem}", folder.display())]
    #[non_exhaustive]
    NotDownloaded {
        /// What it is called: "mnist".
        set: &'static str,
        /// The folder that should have it.
        folder: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// A picture that cannot be used.
    #[error("{name}: {problem}")]
    #[non_exhaustive]
    Picture {
        /// Its file, or what else it is called.
        name: String,
        /// Why.
        problem: PictureError,
    },
    /// Several pictures that cannot be used, each an [`Error::Picture`] or [`Error::Io`].
    #[error("{} pictures cannot be used:{}", .0.len(), lines(.0))]
    Pictures(Vec<Error>),
    /// Classes of a data set that are not a net's.
    #[error(
        "the data have {data} classes, the net tells {net} apart{}{}",
        listed("; unknown to the net: ", unknown),
        listed("; without pictures: ", unused)
    )]
    #[non_exhaustive]
    Classes {
        /// Those of the data set that the net does not know.
        unknown: Vec<String>,
        /// Those of the net that the data set does not have.
        unused: Vec<String>,
        /// Number of the data set's classes.
        data: usize,
        /// Number of the net's classes.
        net: usize,
    },
    /// The operating system refused something.
    #[error("{action} {}: {source}", path.display())]
    #[non_exhaustive]
    Io {
        /// What was being done: "reading", "writing", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Weights that cannot be used, of a file where one is named.
    #[error("{}{problem}", before(file))]
    #[non_exhaustive]
    Weights {
        /// The file.
        file: Option<PathBuf>,
        /// Why.
        problem: Box<weights::Problem>,
    },
    /// A run's folder in which a training is under way.
    #[error("{}: a training is under way in this folder{}: wait for it, or stop it", folder.display(), held_by(holder))]
    #[non_exhaustive]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// Who trains there, as far as is known: "process 123".
        holder: String,
    },
    /// Training whose numbers are no longer finite.
    #[error(
        "the {what} is {value} in step {step}, batch {batch} of epoch {epoch}: training has diverged. Try a smaller learning \
         rate than {lr}{}",
        before_that(kept)
    )]
    #[non_exhaustive]
    Diverged {
        /// What is the first not to be finite: the output of a layer or a tensor by name, else the loss.
        what: String,
        /// Its value.
        value: f64,
        /// The step in which it became so, counted from 1; 0 where training began with it.
        step: u64,
        /// The epoch of this step, counted from 1.
        epoch: usize,
        /// The batch of pictures of this step, counted from 1 in its epoch; 0 as for `step`.
        batch: usize,
        /// The recipe's learning rate.
        lr: f64,
        /// The last checkpoint, which is from before.
        kept: Option<PathBuf>,
    },
    /// A name that nothing has.
    #[error("{}{}", missing(within, what, name), suggest(name, known.iter().map(String::as_str)))]
    #[non_exhaustive]
    Unknown {
        /// What is looked for: "model", "layer", "filter", …
        what: &'static str,
        /// The name.
        name: String,
        /// Where it is looked for, where that is one of several: "net 'resnet18'".
        within: Option<String>,
        /// The known name that was perhaps meant.
        near: Option<String>,
        /// All names that are known.
        known: Vec<String>,
    },
    /// Something that is needed and not there.
    #[error("{what} '{name}' is missing")]
    #[non_exhaustive]
    Missing {
        /// What it is: "parameter".
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something of another shape than is needed.
    #[error("{of}: expected shape {expected:?}, got {found:?}")]
    #[non_exhaustive]
    Shape {
        /// What it is: "parameter 'conv1.weight'".
        of: String,
        /// The shape that is needed.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// More or fewer elements than are needed.
    #[error("{of}: expected {expected}, got {found}")]
    #[non_exhaustive]
    Length {
        /// What is counted: "bytes of a picture of 3x32x32".
        of: String,
        /// How many are needed.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A label that is none of the classes, which are counted from 0.
    #[error("expected labels below {classes}, the number of classes, got {label}")]
    #[non_exhaustive]
    Label {
        /// The label.
        label: usize,
        /// The number of classes.
        classes: usize,
    },
    /// A setting whose value cannot be used.
    #[error("{setting}: expected {expected}, got {found}")]
    #[non_exhaustive]
    Setting {
        /// What it is called: "ksize".
        setting: &'static str,
        /// What can be used: "at least 1".
        expected: String,
        /// Its value.
        found: String,
    },
    /// A setting that a model of the zoo does not have.
    #[error(
        "{setting}: '{model}' has no such setting, which is for networks of the {} {}",
        if families.len() == 1 { "family" } else { "families" },
        families.join(", ")
    )]
    #[non_exhaustive]
    NoSuchSetting {
        /// What it is called.
        setting: &'static str,
        /// The model.
        model: &'static str,
        /// Families whose models have it.
        families: Vec<&'static str>,
    },
    /// Pictures that are too small for a model of the zoo.
    #[error("{model}: expected a picture of at least {}, got {}", times(smallest), times(found))]
    #[non_exhaustive]
    TooSmall {
        /// The model.
        model: &'static str,
        /// The smallest square picture that it takes: channels, height and width.
        smallest: [usize; 3],
        /// Channels, height and width.
        found: [usize; 3],
    },
    /// Metadata of a file of weights that cannot be read.
    #[error("metadata '{key}': {problem}")]
    #[non_exhaustive]
    Metadata {
        /// Their key.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A thread that the operating system refuses.
    #[error("cannot start a thread for {purpose}: {source}")]
    #[non_exhaustive]
    Thread {
        /// What it is for: "loading", "decoding".
        purpose: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// Something that has failed in another of the processes that compute together.
    #[error("process {rank} of {size}: {problem}")]
    #[non_exhaustive]
    Elsewhere {
        /// Number of the process, from 0.
        rank: usize,
        /// Number of processes.
        size: usize,
        /// What it says.
        problem: String,
    },
    /// A picture that another process could not use, as it says.
    #[error("{0}")]
    PictureElsewhere(String),
    /// Something that this build of the library leaves out.
    #[error("{what} is not part of this build: build the crate convnet with its feature '{feature}'")]
    #[non_exhaustive]
    Feature {
        /// The crate's feature that has it.
        feature: &'static str,
        /// What is missing: "writing JPEG files".
        what: &'static str,
    },
    /// Work whose caller has asked it to stop.
    #[error("stopped before its end")]
    Stopped,
    /// Any other setting or argument that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// What a message about an unknown name begins with.
fn missing(within: &Option<String>, what: &str, name: &str) -> String {
    let short: String = name.escape_debug().take(LONGEST).collect();
    match within {
        Some(within) => format!("the {within} has no {what} '{short}': "),
        None => format!("unknown {what} '{short}': "),
    }
}

/// `3x224x224`.
pub(crate) fn times(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// Letters of an unknown name that are shown.
const LONGEST: usize = 100;

/// Names who trains in a folder.
fn held_by(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" ({holder})") }
}

/// Names the checkpoint that is left.
fn before_that(kept: &Option<PathBuf>) -> String {
    kept.as_ref().map(|path| format!(". {} is from before", path.display())).unwrap_or_default()
}

/// What a message begins with when it is about a file.
fn before(file: &Option<PathBuf>) -> String {
    file.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

/// Errors that a message names, of many.
const NAMED: usize = 50;

/// Names that are shown, of many.
const SHOWN: usize = 10;

fn listed(title: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("'{name}'")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{title}{}{more}", shown.join(", "))
}

fn lines(errors: &[Error]) -> String {
    let more = errors.len().saturating_sub(NAMED);
    let named = errors.iter().take(NAMED).map(|error| format!("\n  {error}"));
    named.chain((more > 0).then(|| format!("\n  and {more} more"))).collect()
}

impl Error {
    /// One error for all pictures that cannot be used, if there are any.
    pub(crate) fn of_pictures(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Pictures(errors)),
        }
    }

    /// A file whose content is not what it should be.
    pub fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Error {
        Error::File { path: path.into(), problem: problem.into() }
    }

    /// For `map_err`: an operating-system error with the action and the path it concerns.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }

    /// Whether it is that of one picture, beside which others can be used.
    pub fn is_of_a_picture(&self) -> bool {
        matches!(self, Error::Picture { .. } | Error::PictureElsewhere(_) | Error::Io { .. } | Error::File { .. })
    }

    /// Whether the system could not read or write, rather than that a file is not there or may not be read.
    pub(crate) fn is_of_the_system(&self) -> bool {
        use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, UnexpectedEof};
        let of_file = [NotFound, PermissionDenied, IsADirectory, NotADirectory, UnexpectedEof];
        matches!(self, Error::Io { source, .. } if !of_file.contains(&source.kind()))
    }

    /// The same error as one about a file.
    pub fn in_file(self, path: &Path) -> Error {
        match self {
            Error::Weights { problem, .. } => problem.in_file(path),
            Error::File { .. } | Error::Io { .. } | Error::Picture { .. } | Error::Pictures(_) => self,
            Error::Feature { .. } | Error::Thread { .. } | Error::NotDownloaded { .. } | Error::Locked { .. } => self,
            other => Error::file(path, other.to_string()),
        }
    }

    /// A name that none of `known` is.
    pub(crate) fn unknown<'a>(what: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
        Error::unknown_in(None, what, name, known)
    }

    /// A layer that a net does not have.
    pub(crate) fn unknown_layer(net: &Net, name: &str) -> Error {
        let within = Some(format!("net '{}'", net.name()));
        Error::unknown_in(within, "layer", name, net.nodes().iter().map(|node| node.name.as_str()))
    }

    /// A parameter that is not among those given.
    pub(crate) fn missing_parameter(name: impl Into<String>) -> Error {
        Error::Missing { what: "parameter", name: name.into() }
    }

    /// A parameter of another shape.
    pub(crate) fn parameter_shape(name: &str, expected: &[usize], found: &[usize]) -> Error {
        Error::Shape { of: format!("parameter '{name}'"), expected: expected.to_vec(), found: found.to_vec() }
    }

    /// A name that none of `known` is, within something.
    pub(crate) fn unknown_in<'a>(
        within: Option<String>,
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Error {
        let known: Vec<&str> = known.into_iter().collect();
        let near = nearest(name, known.iter().copied()).map(str::to_owned);
        let known = known.into_iter().map(str::to_owned).collect();
        Error::Unknown { what, name: name.to_owned(), within, near, known }
    }

    /// A setting whose value cannot be used.
    pub(crate) fn setting(setting: &'static str, expected: impl Into<String>, found: impl Display) -> Error {
        Error::Setting { setting, expected: expected.into(), found: found.to_string() }
    }

    /// For `map_err`: a thread that the operating system refuses.
    pub(crate) fn thread(purpose: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Thread { purpose, source }
    }

    /// A setting or argument that cannot be used.
    pub fn invalid(problem: impl Into<String>) -> Error {
        Error::Invalid(problem.into())
    }
}
