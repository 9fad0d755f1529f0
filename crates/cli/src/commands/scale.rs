//! `convnet scale`: how a training would scale over machines.

use std::path::PathBuf;
use std::str::FromStr;

use convnet::columns::{Columns, Style, bytes, thousands};
use convnet::distributed::{Link, ScaledStep, StepProfile};
use convnet::train::plots;
use serde::Serialize;

use crate::args::{EngineArgs, ModelArgs, at_least_1};
use crate::console::{Console, print, print_json};

/// Predict how training would scale over machines
///
/// Measures steps on this machine, and computes what exchanging gradients adds on others like it: a message takes the latency and its bytes
/// over the bandwidth, and a bucket of gradients is exchanged as soon as backward has completed it. What is left out: a machine that is
/// slower than the others, a switch that does not carry all links at once, reading pictures. docs/scaling.md holds it against runs.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet scale resnet50 --batch-size 32 --nodes 1,2,4,8,16,32,64,128,256,512,1024 --bandwidth 25G --latency 5us\n  \
    convnet scale resnet18 --nodes 1,2,4 --bandwidth 1G --latency 100us --plot scale.png\n  \
    convnet scale vgg16 --bandwidth 100G --price 1.5 --json")]
pub(crate) struct Args {
    /// Name of the network, see `convnet models` [default: cnn]
    #[arg(value_name = "MODEL", conflicts_with_all = ["model", "net"])]
    name: Option<String>,

    /// Pictures of a step on each machine
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = at_least_1)]
    batch_size: usize,

    /// Numbers of machines
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128,256,512,1024", value_parser = at_least_1)]
    nodes: Vec<usize>,

    /// Bits a second of a machine's link, each way: 100M, 1G, 25G
    #[arg(long, value_name = "RATE", default_value = "10G")]
    bandwidth: Bandwidth,

    /// Time until a message arrives: 5us, 0.1ms
    #[arg(long, value_name = "TIME", default_value = "20us")]
    latency: Latency,

    /// MiB of gradients that are exchanged at a time, 0 for all of them after backward
    #[arg(long, value_name = "MIB", default_value_t = 4)]
    bucket_cap_mb: usize,

    /// Training pictures of an epoch, for the time of all; ImageNet's unless said
    #[arg(long, value_name = "N", default_value_t = 1_281_167, value_parser = at_least_1)]
    images: usize,

    /// Epochs, for the time of all
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = at_least_1)]
    epochs: usize,

    /// What a machine costs for an hour, for the cost of all [default: machine hours alone]
    #[arg(long, value_name = "PRICE")]
    price: Option<f64>,

    /// Steps that are measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_1)]
    repeats: usize,

    #[command(flatten)]
    engine: EngineArgs,

    /// Draw the efficiency over the machines into a PNG file
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    plot: Option<PathBuf>,

    /// Print one JSON document and nothing else on stdout [default: a table]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    model: ModelArgs,
}

/// Bytes a second.
#[derive(Clone, Copy)]
struct Bandwidth(f64);

/// Seconds.
#[derive(Clone, Copy)]
struct Latency(f64);

/// A number with one of these units, times its factor.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
    Some(number * factor).filter(|number| number.is_finite())
}

impl FromStr for Bandwidth {
    type Err = String;

    fn from_str(text: &str) -> Result<Bandwidth, String> {
        let bits = with_unit(text, &[("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("", 1.0)]);
        let bits = bits.filter(|&bits| bits > 0.0);
        bits.map(|bits| Bandwidth(bits / 8.0))
            .ok_or_else(|| "expected bits a second above 0, such as 100M or 25G".into())
    }
}

impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Latency, String> {
        let seconds = with_unit(text, &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)]);
        let seconds = seconds.filter(|&seconds| seconds >= 0.0);
        seconds.map(Latency).ok_or_else(|| "expected a time with its unit, such as 5us or 0.1ms".into())
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    batch_size: usize,
    threads: usize,
    isa: &'static str,
    link: Link,
    /// The step of one machine, measured.
    measured: &'a StepProfile,
    seconds: f64,
    nodes: Vec<Row>,
}

/// What is predicted for a number of machines.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    step: ScaledStep,
    images_per_second: f64,
    /// Of all epochs.
    hours: f64,
    node_hours: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<f64>,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let net = self.model.net(self.name.as_deref())?;
        let engine = self.engine.engine(console)?;
        let link = Link { bandwidth: self.bandwidth.0, latency: self.latency.0 };
        let profile = StepProfile::measure(&net, &engine, self.batch_size, self.bucket_cap_mb, self.repeats)?;
        let steps: Vec<ScaledStep> = self.nodes.iter().map(|&nodes| profile.on(nodes, link)).collect();
        if let Some(path) = &self.plot {
            plots::scaling(path, &format!("Efficiency of {}", net.name()), profile.seconds(), &steps)?;
        }
        let rows: Vec<Row> = steps.into_iter().map(|step| self.row(step)).collect();
        if self.json {
            return print_json(&Document {
                model: net.name(),
                batch_size: self.batch_size,
                threads: engine.threads(),
                isa: engine.isa(),
                link,
                measured: &profile,
                seconds: profile.seconds(),
                nodes: rows,
            });
        }
        let gradients = profile.buckets.iter().map(|(bytes, _)| bytes).sum();
        print(&format!(
            "{}, {} pictures a machine, {} threads, {}: {:.1} ms a step, measured; {} of gradients in {} buckets\n\n",
            net.name(),
            self.batch_size,
            engine.threads(),
            engine.isa(),
            1e3 * profile.seconds(),
            bytes(gradients),
            profile.buckets.len(),
        ))?;
        print(&self.table(&rows))
    }

    fn row(&self, step: ScaledStep) -> Row {
        let images_per_second = (step.nodes * self.batch_size) as f64 / step.seconds;
        let steps = self.images.div_ceil(step.nodes * self.batch_size) * self.epochs;
        let hours = steps as f64 * step.seconds / 3600.0;
        let node_hours = hours * step.nodes as f64;
        Row { step, images_per_second, hours, node_hours, cost: self.price.map(|price| price * node_hours) }
    }

    fn table(&self, rows: &[Row]) -> String {
        let mut titles = vec![
            "machines",
            "batch",
            "step ms",
            "exchange ms",
            "after backward ms",
            "efficiency",
            "images/s",
            "hours",
            "machine hours",
        ];
        titles.extend(self.price.map(|_| "cost"));
        let mut columns = Columns::new(0, &titles);
        for row in rows {
            let ScaledStep { nodes, seconds, sequential, exchange, efficiency } = row.step;
            let numbers = [
                thousands(nodes as u64),
                thousands((nodes * self.batch_size) as u64),
                format!("{:.1}", 1e3 * seconds),
                format!("{:.1}", 1e3 * exchange),
                format!("{:.1}", 1e3 * sequential),
                format!("{:.1} %", 100.0 * efficiency),
                thousands(row.images_per_second as u64),
                format!("{:.1}", row.hours),
                format!("{:.1}", row.node_hours),
            ];
            columns.row(numbers.into_iter().chain(row.cost.map(|cost| format!("{cost:.2}"))));
        }
        let (images, epochs) = (thousands(self.images as u64), self.epochs);
        format!("{}\nHours are for {epochs} epochs of {images} pictures.\n", columns.render(Style::Plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_have_units() {
        let rate = |text: &str| text.parse::<Bandwidth>().map(|rate| rate.0);
        assert_eq!((rate("25G"), rate("100M"), rate("8"), rate("1.6 T")), (Ok(3.125e9), Ok(1.25e7), Ok(1.0), Ok(2e11)));
        assert!(rate("0").is_err() && rate("fast").is_err() && rate("-1G").is_err() && rate("infG").is_err());
        let time = |text: &str| text.parse::<Latency>().map(|time| time.0);
        assert_eq!(
            (time("5us"), time("0.5ms"), time("0s"), time("2 s")),
            (Ok(5.0 * 1e-6), Ok(0.5 * 1e-3), Ok(0.0), Ok(2.0))
        );
        assert!(time("5").is_err() && time("-1us").is_err() && time("NaNs").is_err());
    }
}
