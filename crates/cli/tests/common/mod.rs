//! Runs the binary as a user would.

use std::process::{Command, Stdio};

/// What a run left: exit code, stdout, stderr.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `convnet` with these arguments and nothing on stdin.
pub(crate) fn convnet(arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convnet"));
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("the binary was built for this test");
    let text = |bytes| String::from_utf8(bytes).expect("convnet prints UTF-8");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Run {
    /// Checks that the run failed with this code, said something like `expected`, and printed no result.
    #[track_caller]
    pub(crate) fn fails_with(&self, code: i32, expected: &str) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert!(self.stderr.starts_with("error: ") && self.stderr.contains(expected), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stdout, "");
    }

    /// The stdout of a run that succeeded and said nothing else.
    #[track_caller]
    pub(crate) fn succeeds(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
        self.stdout
    }
}
