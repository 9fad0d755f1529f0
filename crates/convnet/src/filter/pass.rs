//! One pass of filters over a picture.
//!
//! A row of 16 neighbouring outputs of a filter is one block of 16 channels of a strided convolution: output pixel
//! `16·g + j` is channel `j` at column `g` of a kernel that is shifted by `j·s` in a window `15·s` wider, at the stride
//! `16·s`. Its blocked output `[filter][row][g][16]` is then a plain plane, and no lane of a vector is wasted on a
//! channel that a single filter does not have (3·18/16 products a pixel for 3×3, not 9).
//!
//! The picture is cut into strips of output rows, a strip into tiles of output columns whose input and output stay in the
//! L2 cache. A tile's bytes become floats with the border around them, pass through [`Conv`], and become bytes again.
//! Tiles are cut by shape alone, so results do not depend on the number of threads.
//!
//! With kernels of one channel, each colour of a picture is a picture of its own to the convolution; with kernels of three,
//! the colours are its input channels, and a filter's result is one plane.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use convnet_kernels::conv::{Choice, Conv, ConvShape, Epilogue, Setting};
use convnet_kernels::layout::{Maps, MapsMut};
use convnet_kernels::memory::Buffer;
use convnet_kernels::precision::Precision;

use super::{Activation, Filter, Kernel, Rendering};
use crate::data::bitmap::{Bitmap, MAX_PIXELS};
use crate::error::times;
use crate::exec::Engine;
use crate::geometry::{Padding, Window};
use crate::{Error, Result};

/// Largest stride.
pub const MAX_STRIDE: usize = 64;
/// Outputs that are one block of channels.
const LANES: usize = 16;
/// Output rows of a strip, and output columns of a tile, at stride 1.
const TILE: [usize; 2] = [32, 256];
/// Strips that are computed before their rows are handed on.
const BAND: usize = 32;

/// What lies around a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Border {
    /// Zeros (black), as in networks.
    #[default]
    Zeros,
    /// The nearest pixel of the picture.
    Replicate,
}

/// Where kernels are placed on a picture, and which way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Pixels between two placements, `[height, width]`.
    pub stride: [usize; 2],
    /// Pixels around the picture. With [`Padding::Same`] a kernel's element `(k - 1) / 2`, rounded down, lies on the
    /// output's pixel (at stride 1): the middle one, or of an even kernel the one above and left of the middle.
    pub padding: Padding,
    /// What these pixels are.
    pub border: Border,
    /// Whether kernels are turned by 180° first: the mathematical convolution. Networks use the cross-correlation.
    pub convolution: bool,
}

impl Default for Placement {
    fn default() -> Placement {
        Placement { stride: [1; 2], padding: Padding::Same, border: Border::Zeros, convolution: false }
    }
}

/// The smallest and the largest sum of a filter over a picture, before it became a pixel.
pub type Range = [f32; 2];

/// Filters whose kernels have one shape, planned for one picture.
#[derive(Debug)]
pub struct Pass<'a> {
    engine: &'a Engine,
    picture: &'a Bitmap,
    border: Border,
    renderings: Vec<Rendering>,
    /// Channels of each result: the picture's, or one where the kernels have a matrix for each of them.
    planes: usize,
    /// The filters' own window.
    window: Window,
    output: [usize; 2],
    /// Computes a tile.
    conv: Conv,
    weights: Buffer,
    /// Output rows and columns of a tile.
    tile: [usize; 2],
}

/// What a thread works in.
struct Scratch {
    input: Buffer,
    output: Buffer,
    conv: Buffer,
    /// Places of every filter's sums.
    lanes: Vec<Lanes>,
}

impl<'a> Pass<'a> {
    /// Plans a pass of `filters`, whose kernels must have the same size and number of channels.
    ///
    /// # Errors
    /// When there is no filter, kernels differ in shape, have three channels where the picture is grey or are larger than the
    /// padded picture, a stride is 0 or above [`MAX_STRIDE`], or the result would have more than [`MAX_PIXELS`] pixels.
    pub fn new(engine: &'a Engine, picture: &'a Bitmap, filters: &[Filter], placement: &Placement) -> Result<Pass<'a>> {
        let Some(first) = filters.first() else {
            return Err(Error::invalid("expected at least one filter"));
        };
        let shape = |filter: &Filter| [&[filter.kernel.channels()][..], &filter.kernel.size()].concat();
        if let Some(other) = filters.iter().find(|filter| shape(filter) != shape(first)) {
            let of = format!("kernel of filter '{}' beside that of '{}'", other.name, first.name);
            return Err(Error::Shape { of, expected: shape(first), found: shape(other) });
        }
        let (in_channels, kernel) = (first.kernel.channels(), first.kernel.size());
        let colours = picture.shape()[0];
        if in_channels > colours {
            return Err(Error::invalid(format!(
                "filter '{}' has a matrix for each of {in_channels} colours, but the picture is grey",
                first.name
            )));
        }
        let planes = colours / in_channels;
        let Placement { stride, padding, border, convolution } = *placement;
        if stride.iter().any(|s| !(1..=MAX_STRIDE).contains(s)) {
            return Err(Error::setting("stride", format!("1 to {MAX_STRIDE}"), times(&stride)));
        }
        let window = Window { kernel, stride, padding, dilation: [1; 2], ceil_mode: false };
        let output = window.output(picture.size()).map_err(|error| {
            Error::invalid(format!("filter '{}': {error}: use a smaller kernel or more padding", filters[0].name))
        })?;
        if output[0].saturating_mul(output[1]) > MAX_PIXELS {
            return Err(Error::invalid(format!("a result of {}x{} pixels is too large", output[1], output[0])));
        }
        let groups = (TILE[1] / LANES / stride[1]).clamp(1, output[1].div_ceil(LANES));
        let rows = (TILE[0] / stride[0]).clamp(1, output[0]);
        let wide = Window {
            kernel: [kernel[0], kernel[1] + (LANES - 1) * stride[1]],
            stride: [stride[0], LANES * stride[1]],
            ..Window::square(1)
        };
        let input = [(rows - 1) * stride[0] + kernel[0], (groups * LANES - 1) * stride[1] + kernel[1]];
        let shape = ConvShape { in_channels, out_channels: LANES * filters.len(), groups: 1, input, window: wide };
        let setting = Setting {
            batch: planes,
            choice: Choice::Direct,
            precision: Precision::F32,
            fixed_weights: true,
            caches: engine.caches(),
        };
        let conv = Conv::new(shape, true, engine.set(), setting).expect("the tile holds its outputs");
        let kernels =
            filters.iter().map(|filter| if convolution { filter.kernel.flipped() } else { filter.kernel.clone() });
        let mut weights = Buffer::zeros(conv.weights_len());
        conv.pack_weights(engine.pool(), &shifted(kernels, wide.kernel[1], stride[1]), &mut weights);
        let renderings = filters.iter().map(|filter| filter.rendering).collect();
        let tile = [rows, groups * LANES];
        Ok(Pass { engine, picture, border, renderings, planes, window, output, conv, weights, tile })
    }

    /// Channels, height and width of every result.
    pub fn shape(&self) -> [usize; 3] {
        [self.planes, self.output[0], self.output[1]]
    }

    /// Computes from top to bottom. `take` gets the next rows of every filter's result, as many of each: interleaved
    /// pixels, in the order of the filters. Returns the range of each filter's sums.
    ///
    /// # Errors
    /// The first of `take`.
    pub fn run<E>(&self, take: impl FnMut(&[Vec<u8>]) -> Result<(), E>) -> Result<Vec<Range>, E> {
        let scales = match self.renderings.iter().any(|rendering| rendering.fit) {
            true => {
                let Ok(ranges) = self.sweep(&vec![1.0; self.renderings.len()], |_| Ok::<(), Infallible>(()));
                self.renderings.iter().zip(ranges).map(|(rendering, range)| rendering.scale(range)).collect()
            }
            false => vec![1.0; self.renderings.len()],
        };
        self.sweep(&scales, take)
    }

    /// As [`Pass::run`], where each filter's sums are multiplied by its scale before they are shown.
    fn sweep<E>(&self, scales: &[f32], mut take: impl FnMut(&[Vec<u8>]) -> Result<(), E>) -> Result<Vec<Range>, E> {
        let filters = self.renderings.len();
        let [channels, height, width] = self.shape();
        let row = width * channels;
        let threads = self.engine.pool();
        let scratch = || Scratch {
            input: Buffer::zeros(channels * self.conv.input_len()),
            output: Buffer::zeros(channels * self.conv.output_len()),
            conv: Buffer::zeros(self.conv.forward_scratch(channels, 1)),
            lanes: vec![Lanes::NOTHING; filters],
        };
        let scratch: Vec<Mutex<Scratch>> = (0..threads.count()).map(|_| Mutex::new(scratch())).collect();
        let mut band = vec![Vec::new(); filters];
        for first in (0..height).step_by(BAND * self.tile[0]) {
            let rows = (BAND * self.tile[0]).min(height - first);
            band.iter_mut().for_each(|rows_of_filter| rows_of_filter.resize(rows * row, 0));
            let mut strips: Vec<Mutex<Vec<&mut [u8]>>> = Vec::new();
            strips.resize_with(rows.div_ceil(self.tile[0]), Mutex::default);
            for rows_of_filter in &mut band {
                for (strip, part) in strips.iter_mut().zip(rows_of_filter.chunks_mut(self.tile[0] * row)) {
                    strip.get_mut().unwrap_or_else(PoisonError::into_inner).push(part);
                }
            }
            // Nobody else asks for the same strip or the same thread's scratch at that time.
            threads.run(strips.len(), &|strip, thread| {
                let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
                let mut parts = strips[strip].lock().unwrap_or_else(PoisonError::into_inner);
                let top = first + strip * self.tile[0];
                match (self.picture.shape()[0], channels) {
                    (1, _) => self.strip::<1, 1>(top, scales, &mut parts, &mut scratch),
                    (_, 1) => self.strip::<3, 1>(top, scales, &mut parts, &mut scratch),
                    (_, _) => self.strip::<3, 3>(top, scales, &mut parts, &mut scratch),
                }
            });
            drop(strips);
            take(&band)?;
        }
        let scratch = scratch.into_iter().map(|scratch| scratch.into_inner().unwrap_or_else(PoisonError::into_inner));
        let lanes: Vec<Vec<Lanes>> = scratch.map(|scratch| scratch.lanes).collect();
        let range = |filter: usize| {
            let ranges = lanes.iter().map(|of_thread| of_thread[filter].range());
            ranges.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])]).unwrap_or_default()
        };
        Ok((0..filters).map(range).collect())
    }

    /// As [`Pass::run`], with whole results.
    pub fn bitmaps(&self) -> (Vec<Bitmap>, Vec<Range>) {
        let mut pixels = vec![Vec::new(); self.renderings.len()];
        let ranges = self.run(|rows| {
            pixels.iter_mut().zip(rows).for_each(|(pixels, rows)| pixels.extend_from_slice(rows));
            Ok::<(), Infallible>(())
        });
        let bitmaps = pixels.into_iter().map(|pixels| Bitmap::new(self.shape(), pixels).expect("whole rows"));
        let Ok(ranges) = ranges;
        (bitmaps.collect(), ranges)
    }

    /// The output rows from `top` on, as many as `parts` (one for each filter) have room for, of a picture of `C` colours in
    /// `P` planes.
    fn strip<const C: usize, const P: usize>(
        &self,
        top: usize,
        scales: &[f32],
        parts: &mut [&mut [u8]],
        scratch: &mut Scratch,
    ) {
        let width = self.output[1];
        for left in (0..width).step_by(self.tile[1]) {
            self.load::<C>([top, left], &mut scratch.input);
            let Scratch { input, output, conv, lanes } = scratch;
            let (x, y) = (Maps::packed(input, self.conv.input_len()), MapsMut::packed(output, self.conv.output_len()));
            self.conv.forward(self.engine.pool(), P, x, &self.weights, &Epilogue::default(), y, conv);
            let columns = self.tile[1].min(width - left);
            for (k, part) in parts.iter_mut().enumerate() {
                for (y, row) in part.chunks_exact_mut(width * P).enumerate() {
                    let sums: [&[f32]; P] = std::array::from_fn(|channel| {
                        let plane = channel * self.renderings.len() + k;
                        &output[(plane * self.tile[0] + y) * self.tile[1]..][..columns]
                    });
                    sums.iter().for_each(|sums| lanes[k].widen(sums));
                    render(self.renderings[k], scales[k], sums, &mut row[left * P..][..columns * P]);
                }
            }
        }
    }

    /// The tile's input as planes of floats, with what lies around the picture.
    fn load<const C: usize>(&self, [top, left]: [usize; 2], planes: &mut [f32]) {
        let [rows, columns] = self.conv.shape().input;
        let [height, width] = self.picture.size();
        let (begin, _) = self.window.pads([height, width]);
        let from = |axis: usize, at: usize| (at * self.window.stride[axis]) as isize - begin[axis] as isize;
        let (top, left) = (from(0, top), from(1, left));
        // Columns of the tile before the picture, and those in it.
        let before = left.min(0).unsigned_abs().min(columns);
        let start = (left.max(0) as usize).min(width);
        let inside = (width - start).min(columns - before);
        for y in 0..rows {
            let source = top + y as isize;
            let outside = source < 0 || source >= height as isize;
            let picture = self.picture.row(source.clamp(0, height as isize - 1) as usize).as_chunks::<C>().0;
            for channel in 0..C {
                let line = &mut planes[(channel * rows + y) * columns..][..columns];
                let zeros = self.border == Border::Zeros;
                if outside && zeros {
                    line.fill(0.0);
                    continue;
                }
                let edge = |x: usize| if zeros { 0.0 } else { f32::from(picture[x][channel]) };
                line[..before].fill(edge(0));
                for (x, pixel) in line[before..][..inside].iter_mut().zip(&picture[start..]) {
                    *x = f32::from(pixel[channel]);
                }
                line[before + inside..].fill(edge(width - 1));
            }
        }
    }
}

/// Each kernel's weights 16 times, shifted by a stride each time: `[filters · 16, channels, kernel height, width]`.
fn shifted(kernels: impl Iterator<Item = Kernel>, width: usize, stride: usize) -> Vec<f32> {
    let mut oihw = Vec::new();
    for kernel in kernels {
        let weights = kernel.weights();
        for lane in 0..LANES {
            for row in weights.chunks_exact(kernel.size()[1]) {
                let from = oihw.len() + lane * stride;
                oihw.resize(oihw.len() + width, 0.0);
                oihw[from..][..row.len()].copy_from_slice(row);
            }
        }
    }
    oihw
}

/// The range of what has met each lane of a vector.
#[derive(Clone, Copy)]
struct Lanes {
    low: [f32; LANES],
    high: [f32; LANES],
}

impl Lanes {
    const NOTHING: Lanes = Lanes { low: [f32::INFINITY; LANES], high: [f32::NEG_INFINITY; LANES] };

    /// Widens the range by these sums, 16 at a time.
    fn widen(&mut self, sums: &[f32]) {
        for chunk in sums.chunks(LANES) {
            for ((&sum, low), high) in chunk.iter().zip(&mut self.low).zip(&mut self.high) {
                *low = if sum < *low { sum } else { *low };
                *high = if sum > *high { sum } else { *high };
            }
        }
    }

    fn range(&self) -> Range {
        [self.low.into_iter().fold(f32::INFINITY, f32::min), self.high.into_iter().fold(f32::NEG_INFINITY, f32::max)]
    }
}

/// Interleaved pixels from a row of sums for each channel.
fn render<const C: usize>(shown: Rendering, scale: f32, sums: [&[f32]; C], pixels: &mut [u8]) {
    let Rendering { activation, offset, .. } = shown;
    match activation {
        Activation::None => store(sums, pixels, |sum| sum * scale + offset),
        Activation::Relu => store(sums, pixels, |sum| sum.max(0.0) * scale + offset),
        Activation::Abs => store(sums, pixels, |sum| sum.abs() * scale + offset),
    }
}

#[inline(always)]
fn store<const C: usize>(sums: [&[f32]; C], pixels: &mut [u8], value: impl Fn(f32) -> f32) {
    for (x, pixel) in pixels.as_chunks_mut::<C>().0.iter_mut().enumerate() {
        for channel in 0..C {
            // The conversion cuts off what is below 0 and above 255.
            pixel[channel] = (value(sums[channel][x]) + 0.5) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use convnet_kernels::reference::conv2d::{self, ConvProblem};

    use super::super::{find, named};
    use super::*;

    /// A picture that looks like noise.
    fn noise(shape: [usize; 3]) -> Bitmap {
        let byte = |i: usize| (i.wrapping_mul(0x9e37_79b9).wrapping_add(i * i * 7) >> 11) as u8;
        Bitmap::new(shape, (0..shape.iter().product()).map(byte).collect()).unwrap()
    }

    /// The result of the naive convolution.
    fn expected(picture: &Bitmap, filter: &Filter, placement: &Placement) -> Bitmap {
        let [channels, height, width] = picture.shape();
        let Placement { stride, padding, border, convolution } = *placement;
        let kernel = filter.kernel.size();
        let mut window = Window { kernel, stride, padding, dilation: [1; 2], ceil_mode: false };
        let output = window.output([height, width]).unwrap();
        let (begin, end) = window.pads([height, width]);
        let mut size = [height, width];
        let mut from = [0, 0];
        if border == Border::Replicate {
            size = [0, 1].map(|axis| size[axis] + begin[axis] + end[axis]);
            from = begin;
            window.padding = Padding::NONE;
        }
        let mut weights = filter.kernel.weights();
        if convolution {
            weights.chunks_mut(kernel[0] * kernel[1]).for_each(<[f32]>::reverse);
        }
        let in_channels = filter.kernel.channels();
        let planes = channels / in_channels;
        let problem = ConvProblem { batch: 1, in_channels, out_channels: 1, groups: 1, input: size, window };
        let mut pixels = vec![0; planes * output[0] * output[1]];
        for plane in 0..planes {
            let at = |i: usize| {
                let (channel, i) = (plane + i / (size[0] * size[1]), i % (size[0] * size[1]));
                let y = (i / size[1]).saturating_sub(from[0]).min(height - 1);
                let x = (i % size[1]).saturating_sub(from[1]).min(width - 1);
                f32::from(picture.row(y)[x * channels + channel])
            };
            let input: Vec<f32> = (0..in_channels * size[0] * size[1]).map(at).collect();
            for (i, sum) in conv2d::forward(&problem, &input, &weights, None).into_iter().enumerate() {
                let Rendering { activation, offset, .. } = filter.rendering;
                let shown = match activation {
                    Activation::None => sum,
                    Activation::Relu => sum.max(0.0),
                    Activation::Abs => sum.abs(),
                };
                pixels[i * planes + plane] = (shown + offset + 0.5).floor().clamp(0.0, 255.0) as u8;
            }
        }
        Bitmap::new([planes, output[0], output[1]], pixels).unwrap()
    }

    fn run(picture: &Bitmap, filter: &Filter, placement: &Placement, threads: usize) -> Bitmap {
        let engine = Engine::new(threads).unwrap();
        let pass = Pass::new(&engine, picture, std::slice::from_ref(filter), placement).unwrap();
        let bitmap = pass.bitmaps().0.remove(0);
        assert_eq!(bitmap.shape(), pass.shape());
        bitmap
    }

    #[test]
    fn lecture_l2_named_filters_equal_the_naive_convolution() {
        for shape in [[3, 23, 37], [1, 9, 300]] {
            let picture = noise(shape);
            for filter in named() {
                for convolution in [false, true] {
                    let placement = Placement { convolution, ..Placement::default() };
                    let found = run(&picture, &filter, &placement, 1);
                    assert!(found == expected(&picture, &filter, &placement), "{} {convolution}", filter.name);
                }
            }
        }
    }

    #[test]
    fn lecture_l6_l7_every_stride_padding_and_border() {
        let picture = noise([3, 41, 70]);
        let kernel = |channels: usize, [height, width]: [usize; 2]| {
            let row = |c: usize, y: usize| (0..width).map(|x| ((c * 2 + y * 5 + x * 3) % 7) as f32 - 3.0).collect();
            let matrix = |c| (0..height).map(|y| row(c, y)).collect();
            Kernel::of_channels(&(0..channels).map(matrix).collect::<Vec<_>>(), 2.0).unwrap()
        };
        let paddings = [Padding::Same, Padding::NONE, Padding::per_axis([3, 0]), Padding::symmetric(50)];
        let sizes = [[1, 1], [2, 2], [3, 5], [6, 1], [7, 7], [41, 70]];
        for (size, channels) in sizes.into_iter().flat_map(|size| [1, 3].map(|channels| (size, channels))) {
            let filter = Filter {
                rendering: Rendering { offset: 128.0, ..Rendering::default() },
                ..Filter::new("", kernel(channels, size))
            };
            for stride in [[1, 1], [2, 2], [1, 3], [7, 1], [64, 20]] {
                for padding in paddings {
                    for border in [Border::Zeros, Border::Replicate] {
                        let placement = Placement { stride, padding, border, convolution: channels == 3 };
                        let found = run(&picture, &filter, &placement, 1);
                        assert!(found == expected(&picture, &filter, &placement), "{size:?}×{channels} {placement:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lecture_l3_l9_a_kernel_of_three_channels_gives_one_plane() {
        let picture = Bitmap::new([3, 1, 2], vec![250, 10, 20, 100, 50, 200]).unwrap();
        let engine = Engine::new(1).unwrap();
        let filters = ["0.5 | 0.25 | 0.1", "0 | 0 | 1", "0 1 | 0 -1 | 0 0.5"].map(|text| Kernel::parse(text).unwrap());
        let filters = filters.map(|kernel| Filter::new("", kernel));
        let pass = Pass::new(&engine, &picture, &filters[..2], &Placement::default()).unwrap();
        assert_eq!(pass.shape(), [1, 1, 2]);
        let (planes, ranges) = pass.bitmaps();
        // 125 + 2.5 + 2 and 50 + 12.5 + 20, rounded; and the blue channel as it is.
        assert_eq!([planes[0].pixels(), planes[1].pixels()], [[130, 83], [20, 200]]);
        assert_eq!(ranges, [[82.5, 129.5], [20.0, 200.0]]);
        let valid = Placement { padding: Padding::NONE, ..Placement::default() };
        let (planes, _) = Pass::new(&engine, &picture, &filters[2..], &valid).unwrap().bitmaps();
        assert_eq!((planes[0].shape(), planes[0].pixels()), ([1, 1, 1], &[150][..]));
        let grey = noise([1, 4, 4]);
        let error = Pass::new(&engine, &grey, &filters[..1], &valid).unwrap_err().to_string();
        assert!(error.contains("a matrix for each of 3 colours, but the picture is grey"), "{error}");
    }

    #[test]
    fn fitted_sums_use_all_shades() {
        let picture = Bitmap::new([1, 1, 5], vec![0, 0, 10, 10, 6]).unwrap();
        let engine = Engine::new(1).unwrap();
        let shown = |activation, offset| {
            let rendering = Rendering { activation, offset, fit: true };
            let filter = Filter { rendering, ..Filter::new("", Kernel::parse("-1 1 0").unwrap()) };
            Pass::new(&engine, &picture, &[filter], &Placement::default()).unwrap().bitmaps().0[0].pixels().to_vec()
        };
        // The sums are 0, 0, 10, 0 and -4.
        assert_eq!(shown(Activation::None, 128.0), [128, 128, 255, 128, 77]);
        assert_eq!(shown(Activation::None, 0.0), [0, 0, 255, 0, 0]);
        assert_eq!(shown(Activation::Relu, 0.0), [0, 0, 255, 0, 0]);
        assert_eq!(shown(Activation::Abs, 0.0), [0, 0, 255, 0, 102]);
        assert_eq!(shown(Activation::Relu, 255.0), [255; 5], "there is no room above the offset");
    }

    #[test]
    fn lecture_l1_convolution_is_correlation_with_the_flipped_kernel() {
        let picture = noise([1, 20, 20]);
        let filter = Filter::new("", Kernel::parse("1 2 3; 4 5 6; 7 8 9 / 45").unwrap());
        let flipped = Filter { kernel: filter.kernel.flipped(), ..filter.clone() };
        let convolution = Placement { convolution: true, ..Placement::default() };
        let found = run(&picture, &filter, &convolution, 1);
        assert_eq!(found, run(&picture, &flipped, &Placement::default(), 1));
        assert_ne!(found, run(&picture, &filter, &Placement::default(), 1));
    }

    #[test]
    fn strips_bands_and_threads_leave_no_seams() {
        let picture = noise([1, 2 * BAND * TILE[0] + 5, TILE[1] + 3]);
        let filter = find("unsharp-mask").unwrap();
        let found = run(&picture, &filter, &Placement::default(), 1);
        assert!(found == expected(&picture, &filter, &Placement::default()));
        assert!(found == run(&picture, &filter, &Placement::default(), 3));
    }

    #[test]
    fn ranges_are_of_the_sums_and_results_in_the_filters_order() {
        let pixels = [0, 0, 100, 100, 100, 7];
        let picture = Bitmap::new([1, 1, 6], pixels.to_vec()).unwrap();
        let engine = Engine::new(2).unwrap();
        let filters = ["-1 0 1", "0 1 0", "0 0 2"].map(|text| Filter::new(text, Kernel::parse(text).unwrap()));
        let (bitmaps, ranges) = Pass::new(&engine, &picture, &filters, &Placement::default()).unwrap().bitmaps();
        assert_eq!(ranges, [[-100.0, 100.0], [0.0, 100.0], [0.0, 200.0]]);
        assert_eq!(bitmaps[0].pixels(), [0, 100, 100, 0, 93, 100]);
        assert_eq!(bitmaps[1].pixels(), pixels);
        assert_eq!(bitmaps[2].pixels(), [0, 200, 200, 200, 14, 0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let engine = Engine::new(1).unwrap();
        let picture = noise([1, 4, 4]);
        let [sobel, blur] = ["sobel-x", "box-blur-5x5"].map(|name| find(name).unwrap());
        let error = |filters: &[Filter], placement: Placement| {
            Pass::new(&engine, &picture, filters, &placement).unwrap_err().to_string()
        };
        let default = Placement::default();
        assert!(error(&[], default).contains("at least one filter"));
        assert!(error(&[sobel.clone(), blur.clone()], default).contains("'box-blur-5x5'"));
        let valid = Placement { padding: Padding::NONE, ..default };
        assert!(error(std::slice::from_ref(&blur), valid).contains("'box-blur-5x5': the kernel covers 5 pixels"));
        for stride in [[0, 1], [1, MAX_STRIDE + 1]] {
            assert!(error(std::slice::from_ref(&sobel), Placement { stride, ..default }).contains("expected 1 to 64"));
        }
        let huge = Placement { padding: Padding::symmetric(usize::MAX / 4), ..default };
        assert!(error(&[sobel], huge).contains("too large"));
    }
}
