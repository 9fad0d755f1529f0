//! `convnet bench`: how fast a network runs here.

use std::io::{self, BufRead};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use convnet::columns::{Columns, Style, bytes};
use convnet::exec::{Engine, Inference, Precision, ProfileRow, Training, Update};
use convnet::net::Net;
use convnet::{roofline, weights};
use serde::Serialize;

use crate::args::{EngineArgs, ModelArgs, at_least_1};
use crate::console::{Console, print, print_json};

/// Runs before the first one that counts.
const WARM_UP: usize = 3;
const LEARNING_RATE: f32 = 1e-3;
/// Longest turn, in seconds.
const LONGEST_TURN: f64 = 3600.0;

/// Measure how fast a network trains or infers
///
/// Pictures are synthetic and in memory; some runs go ahead uncounted. A training step is forward, loss, backward, update. In f32
/// the time is set against the least that the machine's peak rates allow, which are measured just before (`convnet summary`
/// explains that bound).
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet bench cnn --mode train --batch-size 256 --profile\n  \
    convnet bench --net my.toml --mode infer -b 1 --repeats 200 --json\n  \
    echo 2.5 | convnet bench resnet18 --mode infer -b 1 --turns")]
pub(crate) struct Args {
    /// Name of the network, see `convnet models` [default: cnn]
    #[arg(value_name = "MODEL", conflicts_with_all = ["model", "net"])]
    name: Option<String>,

    /// What to measure: a whole training step, or inference
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,

    /// Pictures at a time
    #[arg(short, long, value_name = "N", default_value_t = 256, value_parser = at_least_1)]
    batch_size: usize,

    /// How weights are moved in training; sgd has a momentum of 0.9
    #[arg(long, value_enum, default_value_t = Opt::Adam)]
    opt: Opt,

    /// How often to measure
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = at_least_1)]
    repeats: usize,

    /// Measure in turns with other programs: each line on stdin says for how many seconds to run, and is answered by a line
    /// of JSON with the milliseconds of each run; a first line tells that all is ready
    #[arg(long, conflicts_with_all = ["repeats", "profile", "json"])]
    turns: bool,

    #[command(flatten)]
    engine: EngineArgs,

    /// Show where the time goes, layer by layer [default: the total alone]
    #[arg(long, help_heading = "Output")]
    profile: bool,

    /// Print one JSON document and nothing else on stdout [default: text]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Clone, Copy, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Train,
    Infer,
}

#[derive(Clone, Copy, ValueEnum)]
enum Opt {
    Adam,
    Sgd,
}

impl Opt {
    fn update(self) -> Update {
        match self {
            Opt::Adam => Update::Adam { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled: false },
            Opt::Sgd => Update::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 },
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    mode: Mode,
    batch_size: usize,
    threads: usize,
    precision: Precision,
    isa: &'static str,
    repeats: usize,
    median_ms: f64,
    min_ms: f64,
    images_per_second: f64,
    /// The least time that the machine's rates of arithmetic in f32 and of memory allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    least_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Vec<Layer>>,
}

/// A line of the profile, for one run.
#[derive(Serialize)]
struct Layer {
    layer: String,
    direction: &'static str,
    ms: f64,
    /// Share of all runs' time, 0 to 1.
    share: f64,
    /// Two floating-point operations for a multiply-add; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    gflops: Option<f64>,
}

/// The first line that `--turns` prints.
#[derive(Serialize)]
struct Ready<'a> {
    version: &'static str,
    model: &'a str,
    mode: Mode,
    batch_size: usize,
    threads: usize,
    precision: Precision,
    isa: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    least_ms: Option<f64>,
}

/// What `--turns` answers.
#[derive(Serialize)]
struct Turn {
    /// Milliseconds of each run.
    ms: Vec<f64>,
}

/// What is measured.
trait Subject {
    fn run(&mut self) -> convnet::Result<()>;
    /// Begins to measure each layer, or goes on without.
    fn profile(&mut self, on: bool);
    fn rows(&self) -> Vec<ProfileRow>;
}

struct Stepping {
    training: Training,
    images: Vec<f32>,
    labels: Vec<u32>,
}

impl Subject for Stepping {
    fn run(&mut self) -> convnet::Result<()> {
        self.training.step(&self.images, &self.labels, LEARNING_RATE).map(drop)
    }

    fn profile(&mut self, on: bool) {
        self.training.profile(on);
    }

    fn rows(&self) -> Vec<ProfileRow> {
        self.training.profile_rows()
    }
}

struct Inferring {
    inference: Inference,
    images: Vec<f32>,
    batch: usize,
}

impl Subject for Inferring {
    fn run(&mut self) -> convnet::Result<()> {
        self.inference.run(&self.images, self.batch).map(drop)
    }

    fn profile(&mut self, on: bool) {
        self.inference.profile(on);
    }

    fn rows(&self) -> Vec<ProfileRow> {
        self.inference.profile_rows()
    }
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let net = self.model.net(self.name.as_deref())?;
        let engine = self.engine.engine(console)?;
        let mut subject = self.subject(&net, &engine)?;
        let least_ms = self.least_ms(&net, &engine);
        for _ in 0..WARM_UP {
            subject.run()?;
        }
        if self.turns {
            return self.take_turns(&mut *subject, &net, &engine, least_ms);
        }
        subject.profile(self.profile);
        let mut seconds = Vec::with_capacity(self.repeats);
        for _ in 0..self.repeats {
            seconds.push(timed(&mut *subject)?);
        }
        let total: f64 = seconds.iter().sum();
        seconds.sort_by(f64::total_cmp);
        let median = (seconds[(seconds.len() - 1) / 2] + seconds[seconds.len() / 2]) / 2.0;
        let report = Report {
            model: net.name().to_owned(),
            mode: self.mode,
            batch_size: self.batch_size,
            threads: engine.threads(),
            precision: engine.precision(),
            isa: engine.isa(),
            repeats: self.repeats,
            median_ms: 1e3 * median,
            min_ms: 1e3 * seconds[0],
            images_per_second: self.batch_size as f64 / median,
            least_ms,
            peak_rss_bytes: peak_rss_bytes(),
            profile: self.profile.then(|| layers(subject.rows(), total, self.repeats)),
        };
        if self.json { print_json(&report) } else { print(&report.text()) }
    }

    /// The least time of a run, for products in f32, whose rate is measured.
    fn least_ms(&self, net: &Net, engine: &Engine) -> Option<f64> {
        if engine.precision() == Precision::Bf16 {
            return None;
        }
        let estimate = net.estimate(&roofline::measure(engine), self.batch_size as u64);
        Some(match self.mode {
            Mode::Train => estimate.training_ms,
            Mode::Infer => estimate.inference_ms,
        })
    }

    fn subject(&self, net: &Net, engine: &Engine) -> convnet::Result<Box<dyn Subject>> {
        let (batch, state) = (self.batch_size, weights::init(net, 0));
        // Sessions come first: they refuse a batch that no memory holds.
        Ok(match self.mode {
            Mode::Train => {
                let training = Training::new(net, engine, batch, &state, self.opt.update(), 0)?;
                let classes = net.output_shape().elements();
                let labels = (0..batch).map(|image| (image % classes) as u32).collect();
                Box::new(Stepping { training, images: self.images(net), labels })
            }
            Mode::Infer => {
                let inference = Inference::new(net, engine, batch, state)?;
                Box::new(Inferring { inference, images: self.images(net), batch })
            }
        })
    }

    /// Answers each line on stdin with a turn of at least one run, until there are no more.
    fn take_turns(
        &self,
        subject: &mut dyn Subject,
        net: &Net,
        engine: &Engine,
        least_ms: Option<f64>,
    ) -> anyhow::Result<()> {
        print_json(&Ready {
            version: env!("CARGO_PKG_VERSION"),
            model: net.name(),
            mode: self.mode,
            batch_size: self.batch_size,
            threads: engine.threads(),
            precision: engine.precision(),
            isa: engine.isa(),
            least_ms,
        })?;
        for line in io::stdin().lock().lines() {
            let line = line.context("reading stdin")?;
            let patience = seconds_of_turn(&line)?;
            let (start, mut ms) = (Instant::now(), Vec::new());
            while ms.is_empty() || start.elapsed() < patience {
                ms.push(1e3 * timed(subject)?);
            }
            print_json(&Turn { ms })?;
        }
        Ok(())
    }

    /// Numbers from 0 to 1 that do not repeat soon, as pixels are.
    fn images(&self, net: &Net) -> Vec<f32> {
        let count = self.batch_size * net.input_shape().elements();
        (0..count).map(|pixel| (pixel.wrapping_mul(0x9e37_79b1) >> 8 & 0xff) as f32 / 255.0).collect()
    }
}

/// Seconds of one run.
fn timed(subject: &mut dyn Subject) -> convnet::Result<f64> {
    let start = Instant::now();
    subject.run()?;
    Ok(start.elapsed().as_secs_f64())
}

/// How long the turn is that a line asks for.
fn seconds_of_turn(line: &str) -> convnet::Result<Duration> {
    let seconds = line.trim().parse().ok().filter(|seconds| (0.0..=LONGEST_TURN).contains(seconds));
    let problem =
        || convnet::Error::invalid(format!("--turns: expected seconds from 0 to {LONGEST_TURN}, got '{line}'"));
    seconds.map(Duration::from_secs_f64).ok_or_else(problem)
}

fn layers(rows: Vec<ProfileRow>, total: f64, repeats: usize) -> Vec<Layer> {
    let layer = |row: ProfileRow| {
        let flops = 2.0 * row.macs as f64;
        Layer {
            layer: row.layer,
            direction: row.direction,
            ms: 1e3 * row.seconds / repeats as f64,
            share: row.seconds / total,
            gflops: (flops > 0.0).then(|| flops / row.seconds / 1e9),
        }
    };
    rows.into_iter().map(layer).collect()
}

impl Report {
    fn text(&self) -> String {
        let Report { model, batch_size, threads, isa, precision, repeats, .. } = self;
        let what = match self.mode {
            Mode::Train => "training step",
            Mode::Infer => "inference",
        };
        let mut text = format!("{model}, {what}, batch {batch_size}, {threads} threads, {precision}, {isa}\n");
        text += &format!("median {:.2} ms, best {:.2} ms of {repeats} runs\n", self.median_ms, self.min_ms);
        text += &format!("{:.0} images/s\n", self.images_per_second);
        if let Some(least) = self.least_ms {
            text +=
                &format!("{:.0} % of the machine's limit: at least {least:.2} ms\n", 100.0 * least / self.median_ms);
        }
        if let Some(peak) = self.peak_rss_bytes {
            text += &format!("peak memory {}\n", bytes(peak));
        }
        if let Some(layers) = &self.profile {
            text += &format!("\n{}", table(layers));
        }
        text
    }
}

fn table(layers: &[Layer]) -> String {
    let mut columns = Columns::new(2, &["layer", "direction", "ms", "share", "GFLOP/s"]);
    let mut row = |layer: &str, direction: &str, ms: f64, share: f64, gflops: Option<f64>| {
        let numbers = [format!("{ms:.3}"), format!("{:.1} %", 100.0 * share)];
        let words = [layer, direction].map(str::to_owned);
        columns.row(words.into_iter().chain(numbers).chain(gflops.map(|gflops| format!("{gflops:.1}"))));
    };
    for layer in layers {
        row(&layer.layer, layer.direction, layer.ms, layer.share, layer.gflops);
    }
    let sum = |f: fn(&Layer) -> f64| layers.iter().map(f).sum::<f64>();
    row("all", "", sum(|layer| layer.ms), sum(|layer| layer.share), None);
    columns.render(Style::Plain)
}

/// The most memory that this process has had, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_per_run() {
        let row = ProfileRow { layer: "conv1".into(), direction: "forward", seconds: 2.0, macs: 4_000_000_000 };
        let update = ProfileRow { direction: "update", macs: 0, ..row.clone() };
        let layers = layers(vec![row, update], 8.0, 4);
        assert_eq!((layers[0].ms, layers[0].share, layers[0].gflops), (500.0, 0.25, Some(4.0)));
        assert_eq!(layers[1].gflops, None);
        let table = table(&layers);
        assert!(table.contains("conv1  forward     500.000  25.0 %      4.0\n"), "{table}");
        assert!(table.contains("all               1000.000  50.0 %\n"), "{table}");
    }
}
