//! `convnet summary`: a network's layers, sizes and costs, without running it.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use convnet::columns::Style;
use convnet::exec::Engine;
use convnet::net::{Depth, Net, rewrite};
use convnet::{files, roofline};

use crate::args::ModelArgs;
use crate::console::{Console, print, print_json};
use crate::usage::Usage;

/// Show a network's layers: shapes, parameters, multiply-adds, receptive fields, memory, least time; or draw it
///
/// Counts are for one picture; a multiply-add (MAC) is two floating-point operations (FLOPs). "field" is how many pixels
/// of the picture one element of a layer sees, padding included, "stride" how many lie between two neighbours. Activations are f32 and
/// counted for the whole batch: what training keeps at most, and the most that inference needs at any one moment. An
/// operation whose input is not the layer before it says where it comes from (←). A block says what it is made of: "3x3-3x3 +
/// identity" are two convolutions and the shortcut beside them, "64 + 6 × 32 channels" what a dense block is given and how it grows. The least time is a bound, not a forecast: arithmetic at
/// this machine's peak, or memory at its bandwidth, whichever is slower, layer by layer. The machine is measured once, in
/// a fraction of a second, and the result kept in the cache folder.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet summary cnn --cdims 16,32,64 --input 3x32x32\n  \
    convnet summary --net my.toml --batch-size 32 --json\n  \
    convnet summary googlenet --training --svg googlenet.svg\n  \
    convnet summary resnet50 --depth all --dot - | dot -Tpdf -o resnet50.pdf")]
pub(crate) struct Args {
    /// Name of the network, see `convnet models` [default: cnn]
    #[arg(value_name = "MODEL", conflicts_with_all = ["model", "net"])]
    name: Option<String>,

    /// Pictures to count the activations' bytes and the time for
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    batch_size: u64,

    /// Describe the network as it trains: with its auxiliary outputs [default: as it infers]
    #[arg(long)]
    training: bool,

    /// Threads that the least time is for, 0 for one per core [default: 0]
    #[arg(long, value_name = "N", value_parser = crate::args::threads, env = "CONVNET_THREADS", hide_env = true)]
    threads: Option<usize>,

    /// How far layers are told apart, by the parts of their names (layer1.0.conv1 has three): a number, or "all"; JSON
    /// always has all [default: as deep as stays readable]
    #[arg(long, value_name = "N", help_heading = "Output")]
    depth: Option<Parts>,

    /// Add the least time on this machine to JSON or Markdown, which else hold what is the same everywhere [default: in
    /// the plain table alone]
    #[arg(long, help_heading = "Output")]
    roofline: bool,

    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output", conflicts_with = "markdown")]
    json: bool,

    /// Print the table as Markdown [default: plain text]
    #[arg(long, help_heading = "Output")]
    markdown: bool,

    /// Write a drawing of the network in Graphviz's language to a file, or to stdout in place of the table for "-"
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    dot: Option<PathBuf>,

    /// Write a drawing of the network as SVG to a file, or to stdout in place of the table for "-"
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    svg: Option<PathBuf>,

    #[command(flatten)]
    model: ModelArgs,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let net = self.model.net(self.name.as_deref())?;
        let net = if self.training { net } else { rewrite::without_auxiliaries(&net)? };
        let depth = self.depth.as_ref().map_or(Depth::Auto, |Parts(depth)| *depth);
        if self.draw(&net, depth, console)? { Ok(()) } else { self.table(&net, depth, console) }
    }

    /// Writes the drawings, of which one can go to stdout; whether one of them has gone to stdout.
    fn draw(&self, net: &Net, depth: Depth, console: &Console) -> anyhow::Result<bool> {
        let to_stdout = |path: &Option<PathBuf>| path.as_deref() == Some(Path::new("-"));
        if to_stdout(&self.dot) && to_stdout(&self.svg) {
            let problem = "--dot, --svg: expected at most one of them to be '-': both would go to stdout";
            return Err(Usage::new(problem).into());
        }
        let mut printed = false;
        for (path, draw) in [(&self.dot, Net::dot as Draw), (&self.svg, Net::svg)] {
            match path.as_deref() {
                None => (),
                Some(path) if path == Path::new("-") => {
                    print(&draw(net, depth)?)?;
                    printed = true;
                }
                Some(path) => {
                    let text = draw(net, depth)?;
                    files::write_atomic(path, |out| out.write_all(text.as_bytes()))?;
                    console.note(&format!("drawn: {}", path.display()));
                }
            }
        }
        Ok(printed)
    }

    fn table(&self, net: &Net, depth: Depth, console: &Console) -> anyhow::Result<()> {
        let start = Instant::now();
        let mut table = net.table(self.batch_size);
        console.detail(|| format!("{} layers described in {:.1?}", table.layers.len(), start.elapsed()));
        if self.roofline || !(self.json || self.markdown) {
            let start = Instant::now();
            table.roofline =
                Some(net.estimate(&roofline::cached(&Engine::new(self.threads.unwrap_or(0))?), self.batch_size));
            console.detail(|| format!("the machine's roofline known after {:.1?}", start.elapsed()));
        }
        match (self.json, self.markdown) {
            (true, _) => print_json(&table),
            (false, true) => print(&table.render(Style::Markdown, &net.blocks(depth))),
            (false, false) => print(&table.render(Style::Plain, &net.blocks(depth))),
        }
    }
}

/// Makes a drawing.
type Draw = fn(&Net, Depth) -> convnet::Result<String>;

/// A number from 1, or `all`.
#[derive(Clone)]
struct Parts(Depth);

impl FromStr for Parts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Parts, &'static str> {
        match text.parse() {
            _ if text == "all" => Ok(Parts(Depth::All)),
            Ok(0) | Err(_) => Err("expected a whole number of at least 1, or all"),
            Ok(parts) => Ok(Parts(Depth::Parts(parts))),
        }
    }
}
