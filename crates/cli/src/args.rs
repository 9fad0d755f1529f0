//! Arguments that several subcommands share.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use clap::Args;
use convnet::classifier::Classifier;
use convnet::columns::counted;
use convnet::data::{Dataset, Part, Sizing, Source, labels};
use convnet::distributed::Processes;
use convnet::exec::{ConvChoice, Engine, Precision};
use convnet::net::Net;
use convnet::ops::{PictureSize, Shape};
use convnet::train::RunFolder;
use convnet::weights::{Fitting, NetChoice, Note};
use convnet::zoo::{self, Shortcut, ZooOptions};
use convnet::{Error, Result};

use crate::console::Console;
use crate::progress::Download;
use crate::usage::{OrUsage, Usage};

/// The network that is meant when none is named.
const DEFAULT_MODEL: &str = "cnn";

/// Which network: by name with its settings, or from a TOML file. Flatten it last, for its help heading stays in force.
#[derive(Args, Debug, Default, PartialEq)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Name of the network, see `convnet models` [default: cnn]
    #[arg(short, long, value_name = "NAME", conflicts_with = "net")]
    pub(crate) model: Option<String>,

    /// TOML file that describes the network, or an ONNX file
    #[arg(long, value_name = "FILE")]
    pub(crate) net: Option<PathBuf>,

    /// cnn: output channels of each convolution [default: 32,64]
    #[arg(long, value_name = "N,N,…", conflicts_with = "net")]
    pub(crate) cdims: Option<Dims>,

    /// cnn: features of each hidden linear layer, "" for none [default: 1024,128]
    #[arg(long, value_name = "N,N,…", conflicts_with = "net")]
    pub(crate) hdims: Option<Dims>,

    /// cnn: side of the square kernels [default: 3]
    #[arg(long, value_name = "N", value_parser = at_least_1, conflicts_with = "net")]
    pub(crate) ksize: Option<usize>,

    /// cnn: leave out batch norm [default: one after each convolution]
    #[arg(long, conflicts_with = "net")]
    pub(crate) no_batch_norm: bool,

    /// Probability of dropout, 0 for none [default: the network's own; cnn: 0.5]
    #[arg(long, value_name = "P", conflicts_with = "net")]
    pub(crate) dropout: Option<f64>,

    /// resnet20 and its like: what carries a block's input past it, the paper's options a, b or c [default: a]
    #[arg(long, value_name = "OPTION", conflicts_with = "net")]
    pub(crate) shortcut: Option<Shortcut>,
}

/// A network for pictures of any size. Flatten it last, as [`NetworkArgs`].
#[derive(Args, Debug, Default, PartialEq)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    network: NetworkArgs,

    /// Size of a picture, such as 3x224x224 or 28x28 [default: the network's own]
    #[arg(long, value_name = "CxHxW")]
    input: Option<InputSize>,

    /// Number of classes [default: as many as the weights' last layer has outputs; without weights the network's own]
    #[arg(long, value_name = "N", value_parser = at_least_1, conflicts_with = "net")]
    classes: Option<usize>,
}

impl ModelArgs {
    /// The network that the flags describe. `positional` is a name given without a flag; its argument must conflict with
    /// `model` and `net`.
    ///
    /// # Errors
    /// When the name or the file is not known, or the settings do not fit together.
    pub(crate) fn net(&self, positional: Option<&str>) -> anyhow::Result<Net> {
        match self.choice(positional)? {
            NetChoice::Model(model, options) => model.net(&options).or_usage(),
            NetChoice::Net(net) => Ok(net),
            NetChoice::Own => Err(Usage::new("expected --model or --net").into()),
        }
    }

    /// The network of a file, for the size that is asked for.
    fn described(&self, path: &Path) -> anyhow::Result<Net> {
        let net = Net::load_for(path, self.input.as_ref().and_then(InputSize::of_pictures))?;
        match &self.input {
            Some(size) => net.with_input(size.shape(net.input_shape()).or_usage()?).or_usage(),
            None => Ok(net),
        }
    }

    /// Whether no network is named: a size of pictures names none.
    fn names_none(&self) -> bool {
        let ModelArgs { network, input: _, classes } = self;
        *network == NetworkArgs::default() && classes.is_none()
    }

    /// The same before it is built, so that weights can say what the flags do not.
    ///
    /// # Errors
    /// As [`ModelArgs::net`].
    fn choice(&self, positional: Option<&str>) -> anyhow::Result<NetChoice> {
        let NetworkArgs { model, net, cdims, hdims, ksize, no_batch_norm, dropout, shortcut } = &self.network;
        if let Some(path) = net {
            return Ok(NetChoice::Net(self.described(path)?));
        }
        let model = zoo::find(positional.or(model.as_deref()).unwrap_or(DEFAULT_MODEL)).or_usage()?;
        let options = ZooOptions {
            input: self.input.as_ref().map(|size| size.picture(model.input)).transpose().or_usage()?,
            classes: self.classes,
            dropout: dropout.map(|p| p as f32),
            auxiliaries: None,
            stochastic_depth: None,
            shortcut: *shortcut,
            ksize: *ksize,
            cdims: cdims.clone().map(|Dims(dims)| dims),
            hdims: hdims.clone().map(|Dims(dims)| dims),
            batch_norm: no_batch_norm.then_some(false),
        };
        Ok(NetChoice::Model(model, options))
    }
}

/// Which data.
#[derive(Args)]
pub(crate) struct DataArgs {
    /// Pictures: digits (built in), mnist (in the cache folder), a folder with train/CLASS/* and val/CLASS/* (or test/), a
    /// tar of one, or a folder with CIFAR's binary files or IDX files [default: the run's own; without a run: digits]
    #[arg(long, value_name = "SET")]
    data: Option<String>,

    /// Fetch the pictures into the cache folder where they are missing; for mnist [default: stay offline]
    #[arg(long)]
    download: bool,
}

impl DataArgs {
    /// What `--data` says.
    pub(crate) fn name(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// Where the pictures come from: what `--data` says, else what is called `otherwise`.
    ///
    /// # Errors
    /// When that is not known, or cannot be fetched.
    pub(crate) fn source(&self, otherwise: &str, console: &Console) -> anyhow::Result<Source> {
        source(self.name().unwrap_or(otherwise), self.download, console)
    }
}

/// The data set of that name, downloaded if that is wanted.
///
/// # Errors
/// When it is not known, or cannot be fetched.
pub(crate) fn source(name: &str, download: bool, console: &Console) -> anyhow::Result<Source> {
    let source = Source::parse(name)?;
    if download {
        let mut progress = Download::new(console);
        let done = source.download(&mut |state| progress.tell(state));
        // Only what has a name can be fetched.
        if source.path().is_some() { done.or_usage()? } else { done? }
    }
    Ok(source)
}

/// A part of a data set; what was noticed as it was read is told.
///
/// # Errors
/// When the set cannot be read or has no such part.
pub(crate) fn part(data: &str, part: Part, sizing: Sizing, console: &Console) -> anyhow::Result<Dataset> {
    let splits = Source::parse(data)?.load(sizing)?;
    splits.train.warnings().iter().for_each(|warning| console.warn(warning));
    let found = match part {
        Part::Train => Some(splits.train),
        Part::Val => splits.val,
        Part::Test => splits.test,
    };
    found.ok_or_else(|| anyhow::anyhow!("{data}: the data have no part {}", part.name()))
}

pub(crate) fn tell_read(console: &Console, pictures: usize, start: Instant) {
    console.detail(|| format!("{} read in {:.1?}", counted(pictures, "picture"), start.elapsed()));
}

/// For flags that take a number above 0.
pub(crate) fn at_least_1(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".into()),
        // What a configuration in TOML can hold.
        Ok(number) if number <= i64::MAX as usize => Ok(number),
        Ok(_) | Err(_) => Err("expected a whole number of at least 1".into()),
    }
}

/// For `--threads`.
pub(crate) fn threads(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|&number: &usize| number <= Engine::MAX_THREADS);
    number.ok_or_else(|| format!("expected a whole number from 0 to {}", Engine::MAX_THREADS))
}

/// How many threads compute.
#[derive(Args)]
pub(crate) struct ThreadArgs {
    /// Threads, 0 for one per core; results do not depend on it [default: 0]
    #[arg(long, value_name = "N", value_parser = threads, env = "CONVNET_THREADS", hide_env = true)]
    pub(crate) threads: Option<usize>,
}

impl ThreadArgs {
    /// # Errors
    /// When the threads cannot be started, or `CONVNET_ISA` names no instruction set of this machine.
    pub(crate) fn engine(&self) -> Result<Engine> {
        Engine::new(self.threads.unwrap_or(0))
    }
}

/// On what to compute, and how.
#[derive(Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,

    /// How 3×3 convolutions are computed: auto takes the faster of direct and winograd for each layer, direct rounds
    /// least [default: auto]
    #[arg(long, value_name = "HOW", env = "CONVNET_CONV", hide_env = true)]
    pub(crate) conv: Option<ConvChoice>,

    /// What products are computed with, and in inference most values between layers stored in: f32, or bf16, which is
    /// faster on a CPU with AVX512-BF16 and less precise [default: f32]
    #[arg(long, value_name = "NUMBERS", env = "CONVNET_PRECISION", hide_env = true)]
    pub(crate) precision: Option<Precision>,
}

impl EngineArgs {
    /// # Errors
    /// As [`ThreadArgs::engine`].
    pub(crate) fn engine(&self, console: &Console) -> Result<Engine> {
        self.engine_among(&Processes::alone(), console)
    }

    /// The same in one of several processes, which share a machine's cores where no number of threads is said.
    ///
    /// # Errors
    /// As [`ThreadArgs::engine`].
    pub(crate) fn engine_among(&self, processes: &Processes, console: &Console) -> Result<Engine> {
        let engine = Engine::new(processes.share_of(self.threads.threads.unwrap_or(0)))?;
        let engine = engine.with_conv(self.conv.unwrap_or_default());
        let engine = engine.with_precision(self.precision.unwrap_or_default());
        warn_of_emulation(&engine, console);
        Ok(engine)
    }
}

/// Says it where bf16 gains nothing.
pub(crate) fn warn_of_emulation(engine: &Engine, console: &Console) {
    if engine.precision() == Precision::Bf16 && !engine.has_bf16() {
        console.warn("this CPU has no instructions for bf16, or CONVNET_ISA hides them: f32 would be faster");
    }
}

/// What was trained: a run, or weights with a network.
#[derive(Args)]
pub(crate) struct ClassifierArgs {
    /// Folder of a run: its best weights are used
    #[arg(long, value_name = "RUN", conflicts_with_all = ["weights", "model", "net", "ignore_mismatched", "key"])]
    run: Option<PathBuf>,

    /// File of weights (safetensors, PyTorch's, ONNX); one of a run and ONNX know their network, that of another one is named
    /// with --model or --net
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,

    /// File with the names of the classes, one a line [default: those that the weights know; ImageNet's or CIFAR's for a
    /// network of their size; else numbers]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    #[command(flatten)]
    fitting: FittingArgs,
}

impl ClassifierArgs {
    /// What was trained, and the folder of its run where there is one.
    ///
    /// # Errors
    /// When there is no such run, the weights cannot be read or do not fit the network, or the names its classes.
    pub(crate) fn load(&self, console: &Console) -> anyhow::Result<(Classifier, Option<RunFolder>)> {
        let (mut classifier, run) = self.trained(console)?;
        if let Some(path) = &self.labels {
            let names = labels::read(path)?;
            let description = classifier.description.with_classes(names);
            classifier.description = description.map_err(|error| Error::file(path, error.to_string()))?;
        }
        Ok((classifier, run))
    }

    fn trained(&self, console: &Console) -> anyhow::Result<(Classifier, Option<RunFolder>)> {
        if let Some(run) = &self.run {
            let run = RunFolder::open(run)?;
            if !run.has_weights() {
                let path = run.path().display();
                anyhow::bail!(
                    "{path}: this run has no weights yet, for its first epoch has not ended: wait for it, or go on with the run with \
                     convnet train --resume {path}"
                );
            }
            return Ok((Classifier::of_run(&run)?, Some(run)));
        }
        let path = self.weights.as_ref().ok_or_else(|| self.untrained())?;
        Ok((self.fitting.load(self.fitting.choice()?, path, console)?, None))
    }

    /// Neither a run nor weights are named.
    fn untrained(&self) -> Usage {
        let expected = "expected --run RUN or --weights FILE";
        match &self.fitting.model.network.net {
            Some(net) if net.extension().is_some_and(|extension| extension == "onnx") => {
                let net = net.display();
                Usage::new(format!("{expected}: --net takes the network alone, --weights {net} its weights, too"))
            }
            _ => Usage::new(expected),
        }
    }
}

/// For which network weights are, and how well they must fit it. Flatten it last, as [`NetworkArgs`].
#[derive(Args)]
pub(crate) struct FittingArgs {
    /// Layers whose weights need not fit, for they keep their first values then: head is the last linear layer, other
    /// layers go by their name or its beginning
    #[arg(long, value_name = "LAYER,…", value_delimiter = ',')]
    ignore_mismatched: Vec<String>,

    /// Which weights of a file that holds several: the key that they lie under (model_ema, teacher), or a part of their
    /// names (encoder_q) [default: those that are usual, and the run says where there are others]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    #[command(flatten)]
    model: ModelArgs,
}

impl FittingArgs {
    /// The network that is named, if one is.
    ///
    /// # Errors
    /// As [`ModelArgs::net`], and for layers to ignore of no network.
    pub(crate) fn choice(&self) -> anyhow::Result<NetChoice> {
        if !self.model.names_none() {
            let choice = self.model.choice(None)?;
            if let NetChoice::Model(model, options) = &choice {
                model.net(options).or_usage()?;
            }
            return Ok(choice);
        }
        match self.ignore_mismatched[..] {
            [] => Ok(NetChoice::Own),
            [..] => Err(Usage::new("--ignore-mismatched: name the network, too, with --model or --net").into()),
        }
    }

    /// How weights are made to fit.
    ///
    /// # Errors
    /// For a size that no picture has.
    pub(crate) fn fitting(&self) -> Result<Fitting> {
        let input = self.model.input.as_ref().map(|size| size.of_pictures().ok_or_else(no_picture)).transpose()?;
        Ok(Fitting { key: self.key.clone(), ignored: self.ignore_mismatched.clone(), input })
    }

    /// Whether a size of pictures is said.
    pub(crate) fn has_input(&self) -> bool {
        self.model.input.is_some()
    }

    /// The key below which weights are wanted.
    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Reads weights for the network, and says what was done to make them fit.
    ///
    /// # Errors
    /// As [`Classifier::open`].
    pub(crate) fn load(&self, choice: NetChoice, path: &Path, console: &Console) -> Result<Classifier> {
        let (classifier, notes) = Classifier::open(path, &choice, &self.fitting()?)?;
        tell_notes(path, &notes, console);
        Ok(classifier)
    }
}

/// Says what is worth knowing of weights that were read.
pub(crate) fn tell_notes(path: &Path, notes: &[Note], console: &Console) {
    for note in notes {
        let hint = match note {
            Note::Chosen { .. } => " (choose with --key)",
            _ => "",
        };
        let text = format!("{}: {note}{hint}", path.display());
        match note.is_warning() {
            true => console.warn(&text),
            false => console.note(&text),
        }
    }
}

/// `3x224x224`, `28x28`, or `784` for nets that take vectors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputSize(Vec<usize>);

impl InputSize {
    /// The size of pictures, if it is one.
    pub(crate) fn of_pictures(&self) -> Option<PictureSize> {
        match self.0[..] {
            [height, width] => Some(PictureSize { channels: None, height, width }),
            [channels, height, width] => Some([channels, height, width].into()),
            _ => None,
        }
    }

    /// Channels, height and width, where the channels may come from the network's own input.
    pub(crate) fn picture(&self, [channels, ..]: [usize; 3]) -> Result<[usize; 3]> {
        self.of_pictures().map(|size| size.with_channels(channels)).ok_or_else(no_picture)
    }

    fn shape(&self, own: Shape) -> Result<Shape> {
        match (own, &self.0[..]) {
            (Shape::Map(own), _) => self.picture(own).map(Shape::Map),
            (Shape::Vector(_), &[features]) => Ok(Shape::Vector(features)),
            (Shape::Vector(_), _) => Err(Error::invalid("--input: this network takes a vector: expected one number")),
        }
    }
}

fn no_picture() -> Error {
    Error::invalid("--input: this network takes pictures: expected a size such as 3x224x224 or 28x28")
}

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<InputSize, String> {
        let numbers = text.split(['x', 'X']).map(|number| number.parse().ok().filter(|&n| n > 0)).collect();
        let size: Option<Vec<usize>> = numbers;
        let size = size.filter(|size| size.len() <= 3).map(InputSize);
        size.ok_or_else(|| "expected positive whole numbers such as 3x224x224 or 28x28".to_owned())
    }
}

/// Whole numbers between commas; none at all is an empty text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dims(pub(crate) Vec<usize>);

impl FromStr for Dims {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Dims, String> {
        let numbers = text.split(',').filter(|_| !text.is_empty()).map(|number| number.trim().parse());
        let dims: std::result::Result<Vec<usize>, _> = numbers.collect();
        dims.map(Dims).map_err(|_| "expected whole numbers between commas, such as 32,64".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_are_read() {
        let size = |text: &str| text.parse::<InputSize>().map(|InputSize(dims)| dims).ok();
        assert_eq!(size("3x224x200"), Some(vec![3, 224, 200]));
        assert_eq!(size("28X28"), Some(vec![28, 28]));
        for bad in ["", "x", "3x", "0x28", "-1x28", "1x2x3x4", "28 x 28", "99999999999999999999999x1"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        let dims = |text: &str| text.parse::<Dims>().map(|Dims(dims)| dims).ok();
        assert_eq!(dims("32,64"), Some(vec![32, 64]));
        assert_eq!(dims(""), Some(vec![]));
        assert_eq!(dims("32,,64"), None);
    }

    #[test]
    fn missing_channels_are_the_networks_own() {
        assert_eq!(InputSize(vec![8, 9]).picture([3, 1, 1]).unwrap(), [3, 8, 9]);
        assert!(InputSize(vec![8]).picture([3, 1, 1]).is_err());
        assert_eq!(InputSize(vec![8]).shape(Shape::Vector(2)).unwrap(), Shape::Vector(8));
        assert!(InputSize(vec![8, 9]).shape(Shape::Vector(2)).is_err());
    }
}
