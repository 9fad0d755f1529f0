//! The one error type of the library: what happened, to which file or layer, what was expected, and what to do.

use std::path::{Path, PathBuf};

use crate::data::PictureError;
use crate::weights;

/// A result whose error is [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words for the person who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer whose input or settings do not fit.
    #[error("layer '{layer}' ({op}): {problem}")]
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
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
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
    Weights {
        /// The file.
        file: Option<PathBuf>,
        /// Why.
        problem: Box<weights::Problem>,
    },
    /// Training whose numbers are no longer finite.
    #[error(
        "the {what} is {value} after step {step}, in epoch {epoch}: training has diverged. Try a smaller learning rate than \
         {lr}{}",
        before_that(kept)
    )]
    #[non_exhaustive]
    Diverged {
        /// What is not finite: the loss, or a tensor by name.
        what: String,
        /// Its value.
        value: f64,
        /// Steps made so far.
        step: u64,
        /// The running epoch, counted from 1.
        epoch: usize,
        /// The recipe's learning rate.
        lr: f64,
        /// The last checkpoint, which is from before.
        kept: Option<PathBuf>,
    },
    /// A setting or argument that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// Names the checkpoint that is left.
fn before_that(kept: &Option<PathBuf>) -> String {
    kept.as_ref().map(|path| format!(". {} is from before", path.display())).unwrap_or_default()
}

/// What a message begins with when it is about a file.
fn before(file: &Option<PathBuf>) -> String {
    file.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

/// Of many errors, so many are named in a message.
const NAMED: usize = 50;

/// Of many names, so many are shown.
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

    /// The same error as one about a file.
    pub fn in_file(self, path: &Path) -> Error {
        match self {
            Error::Weights { problem, .. } => problem.in_file(path),
            Error::File { .. } | Error::Io { .. } | Error::Picture { .. } | Error::Pictures(_) => self,
            Error::Layer { .. } | Error::Invalid(_) | Error::Classes { .. } | Error::Diverged { .. } => {
                Error::file(path, self.to_string())
            }
        }
    }

    /// A setting or argument that cannot be used.
    pub fn invalid(problem: impl Into<String>) -> Error {
        Error::Invalid(problem.into())
    }
}
