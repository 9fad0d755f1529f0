//! `convnet completions`: a script that lets a shell complete the command line.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::Cli;
use crate::console::print;

/// Print a script that completes `convnet` in a shell
///
/// For bash: convnet completions bash > ~/.local/share/bash-completion/completions/convnet
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell that the script is for
    shell: Shell,
}

impl Args {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "convnet", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
