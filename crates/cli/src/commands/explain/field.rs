//! What units see.

use std::path::PathBuf;
use std::str::FromStr;

use convnet::explain::{self, Seen};
use serde::Serialize;

use super::pictures;
use crate::args::{ClassifierArgs, EngineArgs};
use crate::console::{Console, print, print_json};
use crate::pictures::PictureArgs;
use crate::usage::OrUsage;

/// Draw on a picture what units of layers see: what they can depend on, and how much they do
///
/// The box holds every pixel that the unit can depend on, as far as it lies on the picture. The colours are the gradients of the
/// unit by the pixels, the mean over its channels (Luo et al. 2016): what it sees in effect is smaller, and grows by training.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet explain field --run runs/cnn-1 --layer pool1,pool2 runs/cnn-1/sample.png\n  \
    convnet explain field --weights vgg16.pth --model vgg16 --layer features.16 --unit 0,10 --channel 7 cat.jpg")]
pub(super) struct FieldArgs {
    /// Picture
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Layers, by name (see `convnet summary`) or the beginning of a block's
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', required = true, help_heading = "Unit")]
    layer: Vec<String>,

    /// Row and column of the unit in the layer's maps, from 0 [default: the middle]
    #[arg(long, value_name = "ROW,COLUMN", help_heading = "Unit")]
    unit: Option<Place>,

    /// The map that the unit belongs to, from 0 [default: the mean over up to 32 of them]
    #[arg(long, value_name = "N", help_heading = "Unit")]
    channel: Option<usize>,

    #[command(flatten)]
    pictures: PictureArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// PNG file that is drawn
    #[arg(short, long, value_name = "FILE", default_value = "field.png", help_heading = "Output")]
    out: PathBuf,

    /// Print one JSON document and nothing else on stdout [default: a line for each layer]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    classifier: ClassifierArgs,
}

/// A layer in what `--json` prints.
#[derive(Serialize)]
struct Entry<'a> {
    layer: &'a str,
    /// Channels, height and width of its maps.
    maps: [usize; 3],
    /// Row and column of the unit.
    unit: [usize; 2],
    /// First row and the one after the last that it can depend on, and the same of columns.
    rows: [usize; 2],
    columns: [usize; 2],
    /// Pixels that count, and the side of a square of as many.
    effective_pixels: usize,
    effective_side: f64,
}

#[derive(Serialize)]
struct Document<'a> {
    out: &'a PathBuf,
    layers: Vec<Entry<'a>>,
}

impl FieldArgs {
    pub(super) fn run(&self, console: &Console) -> anyhow::Result<()> {
        let (mut explainer, description) =
            pictures::explainer(&self.classifier, &self.pictures, &self.engine, console)?;
        let read = pictures::read(&self.file, (&description, self.pictures.strict), None, console)?;
        let image = read.unwrap_or_default();
        let unit = self.unit.map(|Place(place)| place);
        let seen = self.layer.iter().map(|layer| explainer.sees(&image, layer, unit, self.channel));
        let seen = seen.collect::<convnet::Result<Vec<Seen>>>().or_usage()?;
        explain::field_sheet(&self.out, &description, &self.file.display().to_string(), &image, &seen)?;
        if self.json {
            return print_json(&Document { out: &self.out, layers: seen.iter().map(entry).collect() });
        }
        let lines = seen.iter().map(|seen| {
            let ([high, wide], [row, column]) = (seen.field.size(), seen.unit);
            let side = seen.side();
            format!(
                "{}: unit {row},{column} can see {wide}x{high} pixels, sees about {side:.0}x{side:.0}\n",
                seen.layer
            )
        });
        print(&(lines.collect::<String>() + &format!("{}\n", self.out.display())))
    }
}

fn entry(seen: &Seen) -> Entry<'_> {
    let [rows, columns] = [&seen.field.rows, &seen.field.columns].map(|range| [range.start, range.end]);
    Entry {
        layer: &seen.layer,
        maps: seen.shape,
        unit: seen.unit,
        rows,
        columns,
        effective_pixels: seen.pixels,
        effective_side: seen.side(),
    }
}

/// `3,4`: row and column.
#[derive(Clone, Copy, Debug)]
struct Place([usize; 2]);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let numbers: Vec<Option<usize>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
        match numbers[..] {
            [Some(row), Some(column)] => Ok(Place([row, column])),
            _ => Err("expected row and column, such as 3,4".into()),
        }
    }
}
