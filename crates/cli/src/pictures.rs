//! Flags that say how pictures are read and prepared, and how a bad one is told of.

use convnet::classifier::Description;
use convnet::data::{Interpolation, Normalization, Preprocessing};
use convnet::{Error, Result};
use serde::Serialize;

use crate::console::Console;
use crate::usage::{OrUsage, Usage};

/// What is done to pictures before the network sees them.
#[derive(clap::Args)]
#[command(next_help_heading = "Pictures")]
pub(crate) struct PictureArgs {
    /// Mean of each channel, of pixels in 0..1, such as 0.485,0.456,0.406 [default: the weights' own; ImageNet's for
    /// torchvision's networks]
    #[arg(long, value_name = "X,X,X", value_delimiter = ',', requires = "std", allow_negative_numbers = true)]
    mean: Vec<f32>,

    /// Standard deviation of each channel, such as 0.229,0.224,0.225 [default: as for --mean]
    #[arg(long, value_name = "X,X,X", value_delimiter = ',', requires = "mean")]
    std: Vec<f32>,

    /// Pixels that the shorter side is resized to before the middle is cut out [default: the weights' own; the network's
    /// usual one, such as 256 for 224]
    #[arg(long, value_name = "N", value_parser = crate::args::at_least_1)]
    resize: Option<usize>,

    /// Share of the resized side that is cut out: says --resize in another way
    #[arg(long, value_name = "SHARE", conflicts_with = "resize", value_parser = share)]
    crop_pct: Option<f64>,

    /// How pictures are resized: nearest, box, bilinear, hamming, bicubic or lanczos [default: the weights' own; the
    /// network's usual one]
    #[arg(long, value_name = "HOW")]
    interpolation: Option<Interpolation>,

    /// Refuse damaged pictures [default: read them as libjpeg does, with a warning]
    #[arg(long)]
    pub(crate) strict: bool,
}

/// For `--crop-pct`.
fn share(text: &str) -> std::result::Result<f64, String> {
    let share = text.parse().ok().filter(|&share: &f64| share > 0.0 && share <= 1.0);
    share.ok_or_else(|| "expected a number above 0 and up to 1".into())
}

impl PictureArgs {
    /// The description with what the flags say.
    ///
    /// # Errors
    /// Values that do not fit the network's input.
    pub(crate) fn apply(&self, description: Description, console: &Console) -> anyhow::Result<Description> {
        let mut preprocessing = description.preprocessing().clone();
        let [channels, height, width] = description.input();
        if !self.mean.is_empty() {
            preprocessing.normalization = self.normalization(channels)?;
        }
        let side = height.min(width);
        // As timm rounds it.
        let cut = self.crop_pct.map(|share| (side as f64 / share) as usize);
        if let Some(resize) = self.resize.or(cut) {
            preprocessing.resize = Some(resize);
            preprocessing.resize_always = true;
        }
        preprocessing.interpolation = self.interpolation.unwrap_or(preprocessing.interpolation);
        let input = description.input();
        if preprocessing == *description.preprocessing() {
            let text = || preprocessing.describe(input);
            match description.is_assumed() {
                true => console.note(&format!(
                    "Pictures, as is usual for this network (--mean, --std, --resize … say otherwise): {}",
                    text()
                )),
                false => console.detail(|| format!("Pictures: {}", text())),
            }
            return Ok(description);
        }
        let description = description.with_preprocessing(preprocessing).or_usage()?;
        console.detail(|| format!("Pictures: {}", description.preprocessing().describe(input)));
        Ok(description)
    }

    /// One value is for every channel.
    fn normalization(&self, channels: usize) -> anyhow::Result<Normalization> {
        if let Some(large) = self.mean.iter().chain(&self.std).find(|value| value.abs() > 2.0) {
            let problem =
                format!("--mean and --std are of pixels in 0..1: expected {} in place of {large}", large / 255.0);
            return Err(Usage::new(problem).into());
        }
        let each = |name: &str, values: &[f32]| match values {
            [value] => Ok(vec![*value; channels]),
            values if values.len() == channels => Ok(values.to_vec()),
            values => {
                let found = values.len();
                Err(Usage::new(format!("{name}: {found} values, but the network takes {channels} channels")))
            }
        };
        Ok(Normalization { mean: each("--mean", &self.mean)?, std: each("--std", &self.std)? })
    }
}

/// What is done to pictures, for `--json`.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    /// Channels, height and width.
    input: [usize; 3],
    resize: Option<usize>,
    interpolation: Interpolation,
    /// Whether a picture of the net's size is resized, too.
    resize_always: bool,
    mean: &'a [f32],
    std: &'a [f32],
    /// Whether neither the weights nor a flag say so.
    assumed: bool,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(description: &'a Description) -> Shown<'a> {
        let &Preprocessing { resize, interpolation, resize_always, ref normalization } = description.preprocessing();
        let Normalization { mean, std } = normalization;
        Shown {
            input: description.input(),
            resize,
            interpolation,
            resize_always,
            mean,
            std,
            assumed: description.is_assumed(),
        }
    }
}

/// Says what is damaged in a picture.
pub(crate) fn tell_damage(console: &Console, name: &str, warnings: &[String]) {
    console.warn(&format!("{name}: damaged: {} (--strict refuses it)", warnings.join("; ")));
}

/// Pictures that could not be used.
#[derive(Default)]
pub(crate) struct Unusable {
    count: usize,
}

impl Unusable {
    /// Says what is wrong with one.
    pub(crate) fn tell(&mut self, console: &Console, error: &Error) {
        self.count += 1;
        console.warn(&error.to_string());
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether the command can end well.
    ///
    /// # Errors
    /// When there was one.
    pub(crate) fn end(&self, pictures: usize) -> Result<()> {
        match self.count {
            0 => Ok(()),
            count => Err(Error::invalid(format!("{count} of {pictures} pictures could not be used: see the warnings"))),
        }
    }
}
