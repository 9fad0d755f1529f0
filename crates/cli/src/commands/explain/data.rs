//! What a data set shows of a network: the pictures that channels answer to, those that lie near a picture, a map of all.

use std::path::PathBuf;
use std::sync::Arc;

use convnet::classifier::Description;
use convnet::data::{Dataset, Part, Sizing};
use convnet::explain::{self, Strong};
use serde::Serialize;

use super::pictures;
use crate::args::{ClassifierArgs, EngineArgs, at_least_1, part};
use crate::console::{Console, print, print_json};
use crate::pictures::PictureArgs;
use crate::usage::OrUsage;

/// Which pictures are looked at.
#[derive(clap::Args)]
struct SetArgs {
    /// Pictures: folder, archive, shards, list or name of a data set, as for `convnet train --data`
    #[arg(long, value_name = "SET")]
    data: String,

    /// Which part of the data: train, val or test
    #[arg(long, value_name = "PART", default_value = "train")]
    split: Part,

    #[command(flatten)]
    pictures: PictureArgs,

    #[command(flatten)]
    engine: EngineArgs,
}

impl SetArgs {
    /// The part, brought to what the network takes.
    fn load(&self, description: &Description, console: &Console) -> anyhow::Result<Arc<Dataset>> {
        let sizing = Sizing { target: Some(description.target()), ..Sizing::default() };
        Ok(Arc::new(part(&self.data, self.split, sizing, console)?))
    }
}

/// Draw the pictures of a data set that channels of a layer answer to most, with what the unit sees
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain strongest --run runs/photos-1 --data photos --layer layer3 --channel 0,7,12\n  \
    convnet explain strongest --run runs/cnn-1 --data digits --layer relu2")]
pub(super) struct StrongestArgs {
    #[command(flatten)]
    set: SetArgs,

    /// Layer with maps, by name (see `convnet summary`) or the beginning of a block's
    #[arg(long, value_name = "NAME")]
    layer: String,

    /// Channels [default: the first eight]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    channel: Vec<usize>,

    /// Pictures for each channel
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = at_least_1)]
    count: usize,

    /// PNG file that is drawn
    #[arg(short, long, value_name = "FILE", default_value = "strongest.png", help_heading = "Output")]
    out: PathBuf,

    /// Print one JSON document and nothing else on stdout [default: a line for each channel]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

#[derive(Serialize)]
struct StrongPicture {
    picture: String,
    class: String,
    value: f32,
    unit: [usize; 2],
    rows: [usize; 2],
    columns: [usize; 2],
}

/// Channels that are looked at where none is named.
const CHANNELS: usize = 8;

impl StrongestArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let SetArgs { pictures, engine, .. } = &self.set;
        let (explainer, description) = pictures::explainer(&self.classifier, pictures, engine, console)?;
        let data = self.set.load(&description, console)?;
        let channels = match self.channel.is_empty() {
            false => self.channel.clone(),
            true => (0..explainer.shape(&self.layer).or_usage()?.channels().min(CHANNELS)).collect(),
        };
        let found = explainer.strongest(&data, &self.layer, &channels, self.count).or_usage()?;
        let found: Vec<(usize, Vec<Strong>)> = channels.into_iter().zip(found).collect();
        explain::strongest_sheet(&self.out, &description, &data, &self.layer, &found)?;
        let entry = |one: &Strong| StrongPicture {
            picture: data.image_name(one.index),
            class: data.classes()[one.label].clone(),
            value: one.value,
            unit: one.unit,
            rows: [one.field.rows.start, one.field.rows.end],
            columns: [one.field.columns.start, one.field.columns.end],
        };
        if self.json {
            let channels = found.iter().map(|(channel, strong)| {
                serde_json::json!({ "channel": channel, "pictures": strong.iter().map(entry).collect::<Vec<_>>() })
            });
            let channels: Vec<serde_json::Value> = channels.collect();
            return print_json(&serde_json::json!({ "layer": self.layer, "out": self.out, "channels": channels }));
        }
        for (channel, strong) in &found {
            let names: Vec<String> = strong.iter().map(|one| data.image_name(one.index)).collect();
            print(&format!("channel {channel}: {}\n", names.join(", ")))?;
        }
        print(&format!("{}\n", self.out.display()))
    }
}

/// Draw the pictures of a data set whose features lie nearest to a picture's
///
/// Features are what the last linear layer reads, or what --layer gives; of maps the mean of each. Near is what points the same way.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain nearest cat.jpg --run runs/photos-1 --data photos\n  \
    convnet explain nearest a.png --run runs/cnn-1 --data digits --count 20 --json")]
pub(super) struct NearestArgs {
    /// Picture
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    set: SetArgs,

    /// Layer whose features are compared [default: what the last linear layer reads]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,

    /// Pictures
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_1)]
    count: usize,

    /// PNG file that is drawn
    #[arg(short, long, value_name = "FILE", default_value = "nearest.png", help_heading = "Output")]
    out: PathBuf,

    /// Print one JSON document and nothing else on stdout [default: a line for each picture]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

impl NearestArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let SetArgs { pictures, engine, .. } = &self.set;
        let (mut explainer, description) = pictures::explainer(&self.classifier, pictures, engine, console)?;
        let image = pictures::read(&self.file, (&description, pictures.strict), None, console)?.unwrap_or_default();
        let data = self.set.load(&description, console)?;
        let layer = self.layer.as_deref();
        let features = explainer.embedding(&image, layer).or_usage()?;
        let embeddings = explainer.embeddings(&data, layer).or_usage()?;
        let near = embeddings.nearest(&features, self.count);
        let name = self.file.display().to_string();
        explain::nearest_sheet(&self.out, &description, (&name, &image), &data, &embeddings.layer, &near)?;
        let class = |index: usize| &data.classes()[data.labels()[index] as usize];
        if self.json {
            let entry = |&(index, cosine): &(usize, f64)| serde_json::json!({ "picture": data.image_name(index), "class": class(index), "cosine": cosine });
            let pictures: Vec<serde_json::Value> = near.iter().map(entry).collect();
            let document = serde_json::json!({ "layer": embeddings.layer, "out": self.out, "pictures": pictures });
            return print_json(&document);
        }
        for &(index, cosine) in &near {
            print(&format!("{cosine:.4}  {}: {}\n", class(index), data.image_name(index)))?;
        }
        print(&format!("{}\n", self.out.display()))
    }
}

/// Draw a map of a data set: each picture's features in the two directions in which they differ most
///
/// Features are those of `convnet explain nearest`; the directions are the first two principal components, which say what shares of the
/// variance they have.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain map --run runs/photos-1 --data photos --split val\n  \
    convnet explain map --run runs/cnn-1 --data digits --npy features.npy")]
pub(super) struct MapArgs {
    #[command(flatten)]
    set: SetArgs,

    /// Layer whose features are drawn [default: what the last linear layer reads]
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,

    /// PNG file that is drawn
    #[arg(short, long, value_name = "FILE", default_value = "map.png", help_heading = "Output")]
    out: PathBuf,

    /// Write the features, too: pictures x features
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    npy: Option<PathBuf>,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

impl MapArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let SetArgs { pictures, engine, .. } = &self.set;
        let (explainer, description) = pictures::explainer(&self.classifier, pictures, engine, console)?;
        let data = self.set.load(&description, console)?;
        let embeddings = explainer.embeddings(&data, self.layer.as_deref()).or_usage()?;
        let principal = embeddings.principal();
        let of = (data.name(), data.classes());
        explain::embedding_map(&self.out, &description, of, &embeddings.layer, &principal, &embeddings.labels)?;
        let [first, second] = principal.shares.map(|share| 100.0 * share);
        let (count, width, layer) = (embeddings.len(), embeddings.width, &embeddings.layer);
        if let Some(path) = &self.npy {
            convnet::data::npy::write(path, &convnet::Tensor::new([count, width], embeddings.features.clone()))?;
        }
        print(&format!(
            "{layer}: {count} pictures, {width} features, {first:.1} % and {second:.1} % of the variance: {}\n",
            self.out.display()
        ))
    }
}
