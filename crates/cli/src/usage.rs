//! Command lines that can be read but not carried out, whatever the files and the machine: they exit with 2, as those do
//! that cannot be read.

use std::fmt;

use convnet::Error;

/// What is wrong with the command line.
#[derive(Debug)]
pub(crate) struct Usage(Error);

impl Usage {
    /// With a message of its own.
    pub(crate) fn new(problem: impl Into<String>) -> Usage {
        Usage(Error::invalid(problem))
    }
}

impl From<Error> for Usage {
    fn from(error: Error) -> Usage {
        Usage(error)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Usage {}

/// For results of what flags alone decide, but for files that they name.
pub(crate) trait OrUsage<T> {
    /// Marks an error as one of the command line, unless a file, the machine or this build has caused it.
    fn or_usage(self) -> anyhow::Result<T>;
}

impl<T> OrUsage<T> for convnet::Result<T> {
    fn or_usage(self) -> anyhow::Result<T> {
        self.map_err(|error| match error {
            Error::File { .. }
            | Error::NotDownloaded { .. }
            | Error::Locked { .. }
            | Error::Picture { .. }
            | Error::Pictures(_)
            | Error::Classes { .. }
            | Error::Io { .. }
            | Error::Weights { .. }
            | Error::Metadata { .. }
            | Error::Diverged { .. }
            | Error::Thread { .. }
            | Error::Feature { .. } => error.into(),
            error => Usage(error).into(),
        })
    }
}
