//! `convnet filter`: kernels that slide over a picture.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use convnet::columns::{Columns, Style};
use convnet::data::bitmap::{self, Bitmap};
use convnet::exec::Engine;
use convnet::filter::{
    self, Activation, Border, Filter, Kernel, MAX_STRIDE, Pass, Placement, Range, Rendering, SheetOptions,
};
use convnet::geometry::Padding;
use convnet::{Error, Result, weights};
use serde::Serialize;

use crate::args::{ThreadArgs, at_least_1};
use crate::console::{Console, print, print_json};
use crate::usage::{OrUsage, Usage};

/// Where the sheet goes when no file is named.
const DEFAULT_SHEET: &str = "filters.png";

/// Slide filters over a picture: blur, sharpen, emboss, find edges, or what your own kernel does
///
/// A kernel is a small matrix of weights. It is laid on every pixel in turn; the result there is the sum of the pixels
/// below it, each times its weight. Networks compute this cross-correlation and call it convolution; the mathematical
/// convolution turns the kernel by 180° first (--convolution). The two differ only for kernels that are not the same upside
/// down.
///
/// A kernel of one matrix filters every colour by itself. One of three matrices, for red, green and blue, is a k×k×3 filter as
/// a network's first layer has them: the products of all colours go into one sum, and the result is one grey plane. As many
/// such kernels give as many planes, as a layer's output channels.
///
/// A result is rounded and cut off at 0 (black) and 255 (white). Where a kernel's weights add up to 0, half of the sums
/// on edges are negative: then their size is shown, unless --raw, --relu or --offset say otherwise.
///
/// Reads PNG, JPEG, BMP and WebP of up to 512 Mi pixels and 2 GiB; transparent pixels are laid on white.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    convnet filter --demo                               a sheet of all filters: filters.png\n  \
    convnet filter photo.jpg --filter sobel-x --out edges.png\n  \
    convnet filter photo.jpg --kernel \"1 0 -1; 2 0 -2; 1 0 -1\" --offset 128 --out own.png\n  \
    convnet filter photo.jpg --filter box-blur,emboss --kernel \"1 1 1 1 1 / 5\" --sheet three.png\n  \
    convnet filter photo.jpg --kernel \"0.299 | 0.587 | 0.114\" --kernel \"1 | -1 | 0\" --out planes.png\n  \
    convnet filter photo.jpg --weights resnet18.pth --sheet conv1.png\n  \
    convnet filter --list")]
pub(crate) struct Args {
    /// Picture to filter
    #[arg(value_name = "PICTURE", required_unless_present_any = ["demo", "list"], conflicts_with_all = ["demo", "list"])]
    picture: Option<PathBuf>,

    /// Filter a built-in picture, 300x200 pixels
    #[arg(long, conflicts_with = "list")]
    demo: bool,

    /// List the filters that have a name, with their kernels, and do nothing else
    #[arg(long)]
    list: bool,

    /// Filters by name, see --list [default: for a sheet without --kernel, all of them]
    #[arg(short, long = "filter", value_name = "NAME,…", value_delimiter = ',', help_heading = "Filters")]
    filters: Vec<String>,

    /// Your own kernel: rows end at semicolons, fractions are allowed, a divisor may follow, as in "1 2 1; 2 4 2; 1 2 1 /
    /// 16"; bars part the matrices of red, green and blue, as in "0.299 | 0.587 | 0.114"; may be repeated
    #[arg(short, long = "kernel", value_name = "ROWS", allow_hyphen_values = true, help_heading = "Filters")]
    kernels: Vec<String>,

    /// Text file with your own kernel: a row in each line, else as --kernel; may be repeated
    #[arg(long = "kernel-file", value_name = "FILE", help_heading = "Filters")]
    kernel_files: Vec<PathBuf>,

    /// The kernels of a trained network's first layer, one for each of its output channels, from a file of weights (a run's,
    /// safetensors, or PyTorch's); sums are shown with --fit, 0 as grey
    #[arg(long, value_name = "FILE", help_heading = "Filters")]
    weights: Option<PathBuf>,

    /// The layer whose kernels are taken [default: the one that reads the picture]
    #[arg(long, value_name = "NAME", requires = "weights", help_heading = "Filters")]
    layer: Option<String>,

    /// Turn kernels by 180° first: the mathematical convolution [default: cross-correlation, as in networks]
    #[arg(long, help_heading = "Filters")]
    convolution: bool,

    /// Filter the picture in grey (BT.601 luma) [default: in its colours]
    #[arg(long, help_heading = "Filters")]
    grey: bool,

    /// Pixels between two placements of the kernel, 1 to 64, or HxW
    #[arg(long, value_name = "N", default_value = "1", value_parser = stride, help_heading = "Placement")]
    stride: PerAxis,

    /// Pixels added around the picture: N, HxW, valid for none, or same for a result of the picture's size (at stride
    /// 1); a kernel of even size then lies one pixel further down and right
    #[arg(long, value_name = "N", default_value = "same", help_heading = "Placement")]
    padding: PaddingArg,

    /// What the added pixels are: zeros, as in networks, or the nearest pixel of the picture
    #[arg(long, value_name = "MODE", default_value = "zeros", help_heading = "Placement")]
    padding_mode: PaddingMode,

    /// Show sums as they are
    #[arg(long, group = "shown", help_heading = "From sums to pixels")]
    raw: bool,

    /// Show the sums' size, without their sign
    #[arg(long, group = "shown", help_heading = "From sums to pixels")]
    abs: bool,

    /// Set negative sums to 0 first, as after a network's convolution
    #[arg(long, group = "shown", help_heading = "From sums to pixels")]
    relu: bool,

    /// Add this to every sum before it becomes a pixel; 128 shows 0 as grey, negative sums darker, positive ones brighter
    #[arg(long, value_name = "X", allow_hyphen_values = true, value_parser = offset, help_heading = "From sums to pixels")]
    offset: Option<f32>,

    /// Multiply the sums of each filter by the largest number that takes none of them below 0 or above 255
    #[arg(long, help_heading = "From sums to pixels")]
    fit: bool,

    /// Write the result as PNG or JPEG, by the name's ending; with several filters each to FILE-NAME
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    out: Option<PathBuf>,

    /// Write a PNG with the results side by side, each with its kernel [default: filters.png, without --out]
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    sheet: Option<PathBuf>,

    /// Longest side of a picture on the sheet; a larger one is shrunk before it is filtered
    #[arg(long, value_name = "N", default_value_t = 300, help_heading = "Output",
        value_parser = clap::value_parser!(u32).range(16..=4096))]
    sheet_side: u32,

    /// Pictures in a row of the sheet [default: as many as fit into 2,040 pixels, in even rows]
    #[arg(long, value_name = "N", value_parser = at_least_1, help_heading = "Output")]
    sheet_columns: Option<usize>,

    /// Print one JSON document and nothing else on stdout [default: a line for each file]
    #[arg(long, help_heading = "Output")]
    json: bool,

    #[command(flatten)]
    threads: ThreadArgs,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    /// Channels, height and width.
    input: [usize; 3],
    results: Vec<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sheet: Option<PathBuf>,
}

/// A result that was written.
#[derive(Serialize)]
struct Outcome {
    filter: String,
    kernel: String,
    path: PathBuf,
    /// Channels, height and width.
    output: [usize; 3],
    /// Smallest and largest sum.
    range: Range,
    /// From the picture in memory to the file.
    seconds: f64,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    kernel: String,
    description: &'static str,
}

impl Args {
    pub(crate) fn run(&self, console: &Console) -> anyhow::Result<()> {
        if self.list {
            return self.print_list();
        }
        let filters = self.chosen().or_usage()?;
        // What cannot be written is said before anything is read or computed.
        let sheet = match (&self.sheet, &self.out) {
            (None, None) => Some(Path::new(DEFAULT_SHEET)),
            (sheet, _) => sheet.as_deref(),
        };
        if let Some(path) =
            sheet.filter(|path| path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")))
        {
            let error = Error::file(path, "a sheet is a PNG file: expected a name that ends in .png");
            return Err(Usage::from(error).into());
        }
        let outputs = self.outputs(&filters).map_err(Usage::from)?;
        let engine = self.threads.engine()?;
        let picture = self.read(console)?;
        let mut report = Report { input: picture.shape(), results: Vec::new(), sheet: None };
        for (filter, path) in filters.iter().zip(&outputs) {
            report.results.push(self.write(&engine, &picture, filter, path, console)?);
        }
        if let Some(path) = sheet {
            let options = SheetOptions { side: self.sheet_side as usize, columns: self.sheet_columns };
            filter::sheet(path, &engine, &picture, &filters, &self.placement(), &options)?;
            report.sheet = Some(path.to_owned());
        }
        if self.json { print_json(&report) } else { print(&report.lines()) }
    }

    fn print_list(&self) -> anyhow::Result<()> {
        let listed = filter::named().into_iter();
        let listed = listed.map(|Filter { name, description, kernel, .. }| Listed {
            name,
            kernel: kernel.to_string(),
            description,
        });
        if self.json {
            return print_json(&listed.collect::<Vec<_>>());
        }
        let mut columns = Columns::new(3, &["filter", "what it does", "kernel, as --kernel takes it"]);
        listed.for_each(|row| columns.row([row.name, row.description.to_owned(), row.kernel]));
        print(&columns.render(Style::Plain))
    }

    /// The filters in the order of their kinds: named ones, own kernels, own files, those of a layer.
    fn chosen(&self) -> Result<Vec<Filter>> {
        let mut filters = self.filters.iter().map(|name| filter::find(name)).collect::<Result<Vec<_>>>()?;
        for (i, text) in self.kernels.iter().enumerate() {
            let name = if self.kernels.len() == 1 { "kernel".to_owned() } else { format!("kernel-{}", i + 1) };
            filters.push(Filter::new(name, own_kernel(text)?));
        }
        for path in &self.kernel_files {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            filters.push(Filter::new(name, Kernel::load(path)?));
        }
        if let Some(path) = &self.weights {
            let weights = weights::read(path)?.tensors;
            let layer = filter::of_layer(&weights, self.layer.as_deref());
            filters.extend(layer.map_err(|error| Error::file(path, error.to_string()))?);
        }
        if filters.is_empty() {
            if self.out.is_some() {
                let problem = "--out: say which filter with --filter, --kernel, --kernel-file or --weights";
                return Err(Error::invalid(problem));
            }
            filters = filter::named();
        }
        filters.iter_mut().for_each(|filter| filter.rendering = self.rendering(filter.rendering));
        Ok(filters)
    }

    /// How a filter's sums become pixels, when `own` is how they do by themselves.
    fn rendering(&self, own: Rendering) -> Rendering {
        let said = match (self.raw, self.relu, self.abs) {
            (true, ..) => Some(Activation::None),
            (_, true, _) => Some(Activation::Relu),
            (.., true) => Some(Activation::Abs),
            // An offset shows signs, which the size alone has not.
            _ => self.offset.map(|_| Activation::None),
        };
        Rendering {
            activation: said.unwrap_or(own.activation),
            // What belongs to the filter's own way is no part of another.
            offset: self.offset.unwrap_or(if said.is_some() { 0.0 } else { own.offset }),
            fit: own.fit || self.fit,
        }
    }

    /// Where each filter's result goes: nowhere without `--out`.
    fn outputs(&self, filters: &[Filter]) -> Result<Vec<PathBuf>> {
        let Some(out) = &self.out else { return Ok(Vec::new()) };
        // The size is not known yet; the ending is.
        bitmap::check_output(out, [1, 1, 1])?;
        if filters.len() == 1 {
            return Ok(vec![out.clone()]);
        }
        let [stem, ending] = [out.file_stem(), out.extension()].map(|part| part.unwrap_or_default().to_string_lossy());
        let paths = filters.iter().map(|filter| out.with_file_name(format!("{stem}-{}.{ending}", filter.name)));
        let paths: Vec<PathBuf> = paths.collect();
        match paths.iter().enumerate().find(|(i, path)| paths[..*i].contains(path)) {
            Some((_, path)) => Err(Error::file(path, "two filters of the same name would both be written there")),
            None => Ok(paths),
        }
    }

    fn read(&self, console: &Console) -> Result<Bitmap> {
        let start = Instant::now();
        let picture = match &self.picture {
            Some(path) => Bitmap::read(path)?,
            None => filter::scene(),
        };
        let picture = if self.grey { picture.into_grey() } else { picture };
        let [channels, height, width] = picture.shape();
        console.detail(|| format!("{width}x{height} pixels in {channels} channels read in {:.1?}", start.elapsed()));
        Ok(picture)
    }

    fn placement(&self) -> Placement {
        Placement {
            stride: self.stride.0,
            padding: self.padding.0,
            border: match self.padding_mode {
                PaddingMode::Zeros => Border::Zeros,
                PaddingMode::Replicate => Border::Replicate,
            },
            convolution: self.convolution,
        }
    }

    fn write(
        &self,
        engine: &Engine,
        picture: &Bitmap,
        filter: &Filter,
        path: &Path,
        console: &Console,
    ) -> Result<Outcome> {
        let start = Instant::now();
        let pass = Pass::new(engine, picture, std::slice::from_ref(filter), &self.placement())?;
        let [_, height, width] = pass.shape();
        let mut range = Range::default();
        bitmap::write_rows(path, pass.shape(), |out| {
            let (start, mut encoding) = (Instant::now(), Duration::ZERO);
            let ranges = pass.run(|rows| {
                let start = Instant::now();
                out.write_all(&rows[0])?;
                encoding += start.elapsed();
                Ok::<(), std::io::Error>(())
            })?;
            let filtering = start.elapsed() - encoding;
            let rate = (height * width) as f64 / 1e6 / filtering.as_secs_f64().max(1e-9);
            let name = &filter.name;
            console.detail(|| {
                format!("{name}: filtered in {filtering:.1?} ({rate:.0} MPixel/s), encoded in {encoding:.1?}")
            });
            range = ranges[0];
            Ok(())
        })?;
        console.detail(|| format!("{}: sums of {} to {}", filter.name, range[0], range[1]));
        let seconds = start.elapsed().as_secs_f64();
        let (filter, kernel) = (filter.name.clone(), filter.kernel.to_string());
        Ok(Outcome { filter, kernel, path: path.to_owned(), output: pass.shape(), range, seconds })
    }
}

impl Report {
    fn lines(&self) -> String {
        let line = |outcome: &Outcome| {
            let [_, height, width] = outcome.output;
            format!("{}: {}, {width}x{height}\n", outcome.path.display(), outcome.filter)
        };
        let sheet = self.sheet.iter().map(|path| format!("{}: contact sheet\n", path.display()));
        self.results.iter().map(line).chain(sheet).collect()
    }
}

/// `2` or `2x3`, height first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PerAxis([usize; 2]);

impl FromStr for PerAxis {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<PerAxis, String> {
        let number = |text: &str| text.parse::<usize>().map_err(|_| "expected a whole number or two, such as 2 or 2x3");
        match text.split_once(['x', 'X']) {
            Some((height, width)) => Ok(PerAxis([number(height)?, number(width)?])),
            None => Ok(PerAxis([number(text)?; 2])),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct PaddingArg(Padding);

impl FromStr for PaddingArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<PaddingArg, String> {
        match text {
            "same" => Ok(PaddingArg(Padding::Same)),
            "valid" => Ok(PaddingArg(Padding::NONE)),
            _ => match text.parse() {
                Ok(PerAxis(pixels)) => Ok(PaddingArg(Padding::per_axis(pixels))),
                Err(_) => Err("expected same, valid, a whole number or two, such as 2 or 2x3".into()),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PaddingMode {
    Zeros,
    Replicate,
}

/// The kernel of `--kernel`, where a file is easily named by mistake.
fn own_kernel(text: &str) -> Result<Kernel> {
    Kernel::parse(text).map_err(|error| match Path::new(text).is_file() {
        true => Error::invalid(format!("--kernel: {error}, but the name of a file: read it with --kernel-file")),
        false => error,
    })
}

fn stride(text: &str) -> std::result::Result<PerAxis, String> {
    let fits = |PerAxis(pixels): &PerAxis| pixels.iter().all(|n| (1..=MAX_STRIDE).contains(n));
    let given = text.parse::<PerAxis>()?;
    Some(given).filter(fits).ok_or_else(|| format!("expected 1 to {MAX_STRIDE}"))
}

fn offset(text: &str) -> std::result::Result<f32, String> {
    text.parse().ok().filter(|offset: &f32| offset.is_finite()).ok_or_else(|| "expected a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_and_paddings_are_read() {
        let stride = |text: &str| text.parse::<PerAxis>().map(|PerAxis(pixels)| pixels).ok();
        assert_eq!((stride("2"), stride("2x3")), (Some([2, 2]), Some([2, 3])));
        for bad in ["", "x", "2x", "-1", "1x2x3", "1.5", "99999999999999999999999"] {
            assert_eq!(stride(bad), None, "{bad}");
        }
        let padding = |text: &str| text.parse::<PaddingArg>().map(|PaddingArg(padding)| padding);
        assert_eq!(padding("same"), Ok(Padding::Same));
        assert_eq!(padding("valid"), Ok(Padding::NONE));
        assert_eq!(padding("1x2"), Ok(Padding::per_axis([1, 2])));
        assert!(padding("full").unwrap_err().contains("expected same, valid"));
    }
}
