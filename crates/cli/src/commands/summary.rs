//! `convnet summary`: a network's layers, sizes and costs, without running it.

use std::time::Instant;

use convnet::columns::Style;

use crate::args::ModelArgs;
use crate::console::{Console, print, print_json};

/// Show a network's layers: shapes, parameters, multiply-adds, receptive fields, memory
///
/// Counts are for one picture; a multiply-add (MAC) is two floating-point operations (FLOPs). "field" is how many pixels
/// of the picture one element of a layer sees, padding included, "stride" how many lie between two neighbours. Activations are f32 and
/// counted for the whole batch: what training keeps at most, and the most that inference needs at any one moment.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet summary cnn --cdims 16,32,64 --input 3x32x32\n  \
    convnet summary --net my.toml --batch-size 32 --json")]
pub(crate) struct Args {
    /// Name of the network, see `convnet models` [default: cnn]
    #[arg(value_name = "MODEL", conflicts_with_all = ["model", "net"])]
    name: Option<String>,

    /// Pictures to count the activations' bytes for
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch_size: u64,

    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output", conflicts_with = "markdown")]
    json: bool,

    /// Print the table as Markdown [default: plain text]
    #[arg(long, help_heading = "Output")]
    markdown: bool,

    #[command(flatten)]
    model: ModelArgs,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let start = Instant::now();
        let net = self.model.net(self.name.as_deref())?;
        let table = net.table(self.batch_size);
        console.detail(|| format!("{} layers described in {:.1?}", table.layers.len(), start.elapsed()));
        match (self.json, self.markdown) {
            (true, _) => print_json(&table),
            (false, true) => print(&table.render(Style::Markdown)),
            (false, false) => print(&table.render(Style::Plain)),
        }
    }
}
