//! The one error type of the library: what happened, to which file or layer, what was expected, and what to do.

use std::path::PathBuf;

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
    /// A setting or argument that cannot be used.
    #[error("{0}")]
    Invalid(String),
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

    /// A setting or argument that cannot be used.
    pub fn invalid(problem: impl Into<String>) -> Error {
        Error::Invalid(problem.into())
    }
}
