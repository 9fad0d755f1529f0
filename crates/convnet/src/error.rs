//! The one error type of the library: what happened, to which file or layer, what was expected, and what to do.

use std::path::{Path, PathBuf};

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
    /// A setting or argument that cannot be used.
    #[error("{0}")]
    Invalid(String),
}

/// What a message begins with when it is about a file.
fn before(file: &Option<PathBuf>) -> String {
    file.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

impl Error {
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
            Error::File { .. } | Error::Io { .. } => self,
            Error::Layer { .. } | Error::Invalid(_) => Error::file(path, self.to_string()),
        }
    }

    /// A setting or argument that cannot be used.
    pub fn invalid(problem: impl Into<String>) -> Error {
        Error::Invalid(problem.into())
    }
}
