//! Pictures from PNG, JPEG, WebP, GIF, TIFF and BMP files or from memory, as the planes of bytes that a net takes; and PNG
//! files of such planes. Content decides on a file's format, whatever its name ([`format`]).
//!
//! Pixels are those of Pillow's `convert("RGB")`, or `convert("L")` for nets that take one channel: of 16 bits the upper
//! 8 are taken, transparency is left out, of an animation the first frame is taken. Photographs are turned upright, as
//! `ImageOps.exif_transpose` does.
//!
//! A header is only a claim: the size in it is checked before anything is decoded.

mod convert;
mod error;
mod format;
mod png_chunks;

pub(super) use convert::luma;
pub use error::PictureError;
pub(super) use format::{extension, is_picture, is_unread_picture, usual_extension};

use std::io::{Cursor, Read};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::TargetSize;
#[cfg(feature = "jpeg")]
use super::jpeg::{self, JpegDecoder};
use super::resample::{Layout, Resampling, Source, planes_of};
use crate::{Error, Result, files};

/// No file of a picture is larger, in bytes.
pub(super) const MAX_BYTES: u64 = 256 << 20;
/// No picture has more pixels; phones take up to 200 million.
const MAX_PIXELS: u64 = 1 << 28;
/// No decoded picture takes more memory.
const MAX_DECODED: u64 = 1 << 30;
/// Beyond the decoded picture itself, what a decoder may use.
const DECODER_MEMORY: u64 = 64 << 20;
/// The formats that are read, for messages.
pub(super) const FORMATS: &str = "PNG, JPEG, WebP, GIF, TIFF or BMP";

/// A picture as a net takes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Channels × height × width bytes.
    pub planes: Vec<u8>,
    /// What is damaged in its file.
    pub warnings: Vec<String>,
}

/// Reads a picture as planes of the target's shape.
///
/// Grey pictures are repeated in each channel of a colour net, and colour ones become luma for a grey net.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read; [`Error::Picture`] for one that cannot be decoded, whose size is not the
/// target's where that says nothing of resizing, or that is damaged where the target is strict.
pub fn read(path: &Path, target: TargetSize) -> Result<Picture> {
    decode(&read_bytes(path)?, target).map_err(named(path.display()))
}

/// For `map_err`: adds a picture's name.
pub(crate) fn named(name: impl std::fmt::Display) -> impl FnOnce(PictureError) -> Error {
    move |problem| Error::Picture { name: name.to_string(), problem }
}

/// The content of a picture's file.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_into(path, &mut bytes)?;
    Ok(bytes)
}

/// The same, behind what is in `bytes`.
pub(super) fn read_into(path: &Path, bytes: &mut Vec<u8>) -> Result<()> {
    let (file, size) = super::open(path)?;
    check_bytes(size).map_err(named(path.display()))?;
    bytes.reserve(size as usize + 1);
    file.take(MAX_BYTES).read_to_end(bytes).map_err(Error::io("reading", path))?;
    Ok(())
}

/// Whether a picture's file may have this size.
pub(super) fn check_bytes(size: u64) -> Result<(), PictureError> {
    if size > MAX_BYTES {
        return Err(PictureError::Bytes { size, most: MAX_BYTES });
    }
    Ok(())
}

/// Channels (1 or 3), height and width that the header of a picture's file says, before it is turned upright.
///
/// # Errors
/// Content that is no picture, or of more pixels than any picture may have.
pub fn shape(bytes: &[u8]) -> Result<[usize; 3], PictureError> {
    let (mut decoder, _) = open(bytes, MAX_PIXELS)?;
    let (height, width) = size(&mut *decoder);
    Ok([if convert::is_grey(decoder.color_type()) { 1 } else { 3 }, height, width])
}

/// The planes of a picture from its file's content.
///
/// # Errors
/// As [`read`], without the picture's name.
pub fn decode(bytes: &[u8], target: TargetSize) -> Result<Picture, PictureError> {
    check_channels(target.shape[0])?;
    let (picture, warnings) = upright(bytes, target, false)?;
    Ok(Picture { planes: from_image(picture, target)?, warnings })
}

/// A decoded picture at its own size.
#[derive(Debug)]
pub(super) struct Whole {
    /// Interleaved.
    pub(super) pixels: Vec<u8>,
    /// Channels, which are the target's, height and width.
    pub(super) shape: [usize; 3],
    /// What is damaged in its file.
    pub(super) warnings: Vec<String>,
}

/// A picture from its file's content at its own size, in the target's channels. Of one that `is_sound`, which was decoded
/// before without a warning, damage is not looked for again.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_whole(bytes: &[u8], target: TargetSize, is_sound: bool) -> Result<Whole, PictureError> {
    let [channels, ..] = target.shape;
    check_channels(channels)?;
    let (picture, warnings) = upright(bytes, target, is_sound)?;
    let shape = [channels, picture.height() as usize, picture.width() as usize];
    Ok(Whole { pixels: convert::interleaved(picture, channels)?, shape, warnings })
}

/// A decoded picture as it is to be looked at, and what is damaged in its file.
#[cfg_attr(not(feature = "jpeg"), expect(unused_variables, reason = "damage is looked for in JPEG files"))]
fn upright(bytes: &[u8], target: TargetSize, is_sound: bool) -> Result<(DynamicImage, Vec<String>), PictureError> {
    let (bytes, warnings) = match format::of(bytes)? {
        #[cfg(feature = "jpeg")]
        (ImageFormat::Jpeg, _) if is_sound => {
            if let Some((mut picture, orientation)) = jpeg::decode_sound(bytes) {
                picture.apply_orientation(orientation);
                target.resize_for(picture.height() as usize, picture.width() as usize)?;
                return Ok((picture, Vec::new()));
            }
            (bytes.into(), Vec::new())
        }
        (ImageFormat::Png, _) => png_chunks::checked(bytes),
        _ => (bytes.into(), Vec::new()),
    };
    let (mut decoder, format) = open(&bytes, MAX_PIXELS)?;
    let (height, width) = size(&mut *decoder);
    target.resize_for(height, width)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (mut picture, found) = match format {
        #[cfg(feature = "jpeg")]
        "JPEG" => {
            drop(decoder);
            let decoded = jpeg::decode(&bytes)?;
            (decoded.picture, decoded.warnings)
        }
        _ => (DynamicImage::from_decoder(decoder).map_err(undecodable(format))?, Vec::new()),
    };
    let warnings = [warnings, found].concat();
    if target.strict && !warnings.is_empty() {
        return Err(PictureError::Damaged(warnings));
    }
    picture.apply_orientation(orientation);
    Ok((picture, warnings))
}

/// The planes of a decoded picture, as it is to be looked at.
///
/// # Errors
/// As [`decode`] where the target cannot be met; [`PictureError::Pixels`] for a picture without a pixel.
pub(crate) fn from_image(picture: DynamicImage, target: TargetSize) -> Result<Vec<u8>, PictureError> {
    check_channels(target.shape[0])?;
    let (width, height) = (picture.width(), picture.height());
    if width == 0 || height == 0 {
        return Err(PictureError::Pixels { width: width.into(), height: height.into(), most: MAX_PIXELS });
    }
    fit(convert::interleaved(picture, target.shape[0])?, [height as usize, width as usize], target)
}

/// The planes of a picture from its pixels, `[height, width, channels]`: 1 channel is grey, 2 are grey and alpha, 3 are
/// red, green and blue, 4 with alpha.
///
/// # Errors
/// [`PictureError::Shape`] when there are more or fewer, and as [`decode`] where the target cannot be met.
pub fn from_pixels(pixels: &[u8], shape: [usize; 3], target: TargetSize) -> Result<Vec<u8>, PictureError> {
    check_channels(target.shape[0])?;
    let [height, width, channels] = shape;
    let expected = height.checked_mul(width).and_then(|size| size.checked_mul(channels));
    let wrong = |expected| PictureError::Shape { found: pixels.len(), channels, height, width, expected };
    if !(1..=4).contains(&channels) {
        return Err(wrong("1 to 4 channels, height x width x channels"));
    }
    if pixels.is_empty() || expected != Some(pixels.len()) {
        return Err(wrong("as many as height x width x channels"));
    }
    target.resize_for(height, width)?;
    fit(convert::channels(pixels, channels, target.shape[0]), [height, width], target)
}

/// The same from planes of channels, height and width.
pub(crate) fn from_planes(planes: Vec<u8>, shape: [usize; 3], target: TargetSize) -> Result<Vec<u8>, PictureError> {
    let [channels, height, width] = shape;
    if channels == target.shape[0] && target.resize_for(height, width)?.is_none() {
        return Ok(planes);
    }
    if channels == target.shape[0] {
        let mut fitted = vec![0; target.shape.iter().product()];
        let source = Source { bytes: &planes, layout: Layout::Planes, shape };
        return fit_into(source, target, &mut Resampling::default(), &mut fitted).map(|()| fitted);
    }
    let size = height * width;
    let pixels: Vec<u8> = (0..planes.len()).map(|i| planes[i % channels * size + i / channels]).collect();
    from_pixels(&pixels, [height, width, channels], target)
}

fn check_channels(channels: usize) -> Result<(), PictureError> {
    if channels == 1 || channels == 3 { Ok(()) } else { Err(PictureError::Channels(channels)) }
}

/// The planes of interleaved pixels that have the target's channels, brought to its size.
fn fit(pixels: Vec<u8>, [height, width]: [usize; 2], target: TargetSize) -> Result<Vec<u8>, PictureError> {
    let shape = [target.shape[0], height, width];
    let mut planes = vec![0; target.shape.iter().product()];
    fit_into(
        Source { bytes: &pixels, layout: Layout::Pixels, shape },
        target,
        &mut Resampling::default(),
        &mut planes,
    )?;
    Ok(planes)
}

/// Brings a picture that has the target's channels to its size, as planes.
///
/// # Errors
/// As [`decode`] where the target cannot be met.
pub(super) fn fit_into(
    source: Source<'_>,
    target: TargetSize,
    resampling: &mut Resampling,
    out: &mut [u8],
) -> Result<(), PictureError> {
    let [channels, height, width] = source.shape;
    match (target.resize_for(height, width)?, source.layout) {
        (Some(resize), _) => target.fit(source, resize, resampling, out).map_err(PictureError::Preprocessing)?,
        (None, Layout::Pixels) => planes_of(source.bytes, channels, out),
        (None, Layout::Planes) => out.copy_from_slice(source.bytes),
    }
    Ok(())
}

/// For `map_err`: why a file is no picture.
pub(super) fn undecodable(format: &'static str) -> impl FnOnce(image::ImageError) -> PictureError {
    move |error| PictureError::Undecodable { format, reason: error.to_string() }
}

/// The decoder for a file's content, which has read its header and may go on, and what its format is called.
/// Refuses a picture of more than `most` pixels.
pub(super) fn open(bytes: &[u8], most: u64) -> Result<(Box<dyn ImageDecoder + '_>, &'static str), PictureError> {
    let (kind, format) = format::of(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_MEMORY);
    reader.limits(limits.clone());
    let mut decoder: Box<dyn ImageDecoder> = match kind {
        #[cfg(feature = "jpeg")]
        ImageFormat::Jpeg => Box::new(JpegDecoder::new(bytes)?),
        _ => Box::new(reader.into_decoder().map_err(undecodable(format))?),
    };
    let (width, height) = decoder.dimensions();
    let (width, height) = (u64::from(width), u64::from(height));
    let pixels = width * height;
    if pixels == 0 || pixels > most || decoder.total_bytes() > MAX_DECODED.max(4 * most) {
        return Err(PictureError::Pixels { width, height, most });
    }
    // Decoded are at most 4 channels of 2 bytes, once more for what a decoder keeps on the way.
    limits.max_alloc = Some(DECODER_MEMORY + 16 * pixels);
    decoder.set_limits(limits).map_err(undecodable(format))?;
    Ok((decoder, format))
}

/// Height and width of the picture as it is to be looked at.
fn size(decoder: &mut dyn ImageDecoder) -> (usize, usize) {
    let (width, height) = decoder.dimensions();
    let turned = match decoder.orientation().unwrap_or(Orientation::NoTransforms) {
        Orientation::Rotate90 | Orientation::Rotate270 => true,
        Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => true,
        Orientation::NoTransforms | Orientation::Rotate180 => false,
        Orientation::FlipHorizontal | Orientation::FlipVertical => false,
    };
    let (width, height) = (width as usize, height as usize);
    if turned { (width, height) } else { (height, width) }
}

/// Writes planes of `shape` (channels, height, width) as a PNG file: 1 channel is grey, 3 are red, green and blue.
///
/// # Errors
/// Another number of channels, an empty picture, planes that do not fit the shape, or a disk that does not take it.
pub fn write_png(path: &Path, shape: [usize; 3], planes: &[u8]) -> Result<()> {
    let [channels, height, width] = shape;
    let size = height.checked_mul(width).and_then(|size| size.checked_mul(channels));
    if ![1, 3].contains(&channels) || planes.is_empty() || size != Some(planes.len()) {
        let problem = format!("{} bytes cannot be a picture of {channels}x{height}x{width}", planes.len());
        return Err(Error::file(path, problem));
    }
    let file = encode_png(shape, planes).map_err(|error| Error::file(path, error.to_string()))?;
    files::write_atomic(path, |out| out.write_all(&file))
}

/// The content of a PNG file of planes that fit their shape, of 1 or 3 channels.
///
/// # Errors
/// A picture that PNG cannot hold.
pub(super) fn encode_png([channels, height, width]: [usize; 3], planes: &[u8]) -> Result<Vec<u8>, PictureError> {
    let size = height * width;
    let pixels: Vec<u8> = (0..planes.len()).map(|i| planes[i % channels * size + i / channels]).collect();
    let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut file = Cursor::new(Vec::new());
    let done =
        image::write_buffer_with_format(&mut file, &pixels, width as u32, height as u32, color, ImageFormat::Png);
    done.map_err(undecodable("PNG"))?;
    Ok(file.into_inner())
}

#[cfg(all(test, feature = "formats", feature = "jpeg"))]
mod tests;
