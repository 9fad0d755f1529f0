//! JPEG files. `libjpeg-turbo-rs` decodes them to the same bytes as libjpeg-turbo, and so as Pillow and torchvision, with
//! which the published weights were trained and measured; the decoder that comes with `image` differs by up to 5 levels.
//!
//! A damaged file is decoded as libjpeg does it, with warnings: what is missing is grey, lost restart markers are made up
//! for ([`markers`]). A file that is cut short, without its end marker, is refused, as by Pillow.

mod entropy;
mod markers;

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::error::{DecodingError, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageResult, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, JpegError, PixelFormat, Subsampling};

use self::entropy::Problems;
use self::markers::{MOST_PASSES, Markers};
use super::picture::PictureError;

/// No file has more scans: each takes time and memory of its own, however few blocks it has.
const MAX_SCANS: usize = 4096;

/// A decoded file.
pub(super) struct Decoded {
    pub(super) picture: DynamicImage,
    /// What is damaged.
    pub(super) warnings: Vec<String>,
}

/// Decodes a file, damaged or not.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, PictureError> {
    let markers = Markers::read(bytes);
    check_work(&markers, bytes.len())?;
    let mended = markers.mended(bytes);
    let bytes = mended.as_ref().map_or(bytes, |(bytes, _)| bytes);
    let problems = entropy::problems(bytes).unwrap_or_default();
    let mut warnings = Vec::new();
    if !markers.ended {
        warnings.push("no end marker: perhaps cut short".to_owned());
    }
    if let Some((_, count)) = &mended {
        warnings.push(format!("{count} restart markers lost or out of order"));
    }
    warnings.extend(problems.describe());
    let strictly = if mended.is_none() && problems.short == 0 { Some(pixels(bytes, false)) } else { None };
    let damaged = !matches!(strictly, Some(Ok(_)));
    let (picture, noted) = match strictly {
        Some(Ok(decoded)) => decoded,
        Some(Err(error)) if !markers.ended => return Err(undecodable(format!("{error} (the file is cut short)"))),
        None if !markers.ended => return Err(undecodable("the file is cut short".to_owned())),
        Some(Err(_)) | None => leniently(bytes, &problems).map_err(|error| undecodable(error.to_string()))?,
    };
    // What was found in the data has been told.
    if problems.is_sound() {
        warnings.extend(noted);
    }
    if warnings.is_empty() && damaged {
        warnings.push("corrupt data".to_owned());
    }
    Ok(Decoded { picture, warnings })
}

/// The picture of a file that [`decode`] has found sound before, and how it is to be turned; nothing where the file cannot be
/// decoded strictly any more.
pub(super) fn decode_sound(bytes: &[u8]) -> Option<(DynamicImage, Orientation)> {
    let mut decoder = guarded(|| JpegDecoder::open(bytes)).ok()?;
    let orientation = decoder.orientation().ok()?;
    let (picture, warnings) = read(decoder).ok()?;
    warnings.is_empty().then_some((picture, orientation))
}

/// Decodes what can be decoded. Where bad codes stop the decoder, the data are cut before them: what later scans would
/// have added is missing then.
fn leniently(bytes: &[u8], problems: &Problems) -> Result<(DynamicImage, Vec<String>), JpegError> {
    pixels(bytes, true).or_else(|error| {
        if problems.bad.is_empty() {
            return Err(error);
        }
        let (mut kept, mut at) = (Vec::with_capacity(bytes.len()), 0);
        for bad in &problems.bad {
            kept.extend_from_slice(&bytes[at..bad.start.max(at)]);
            at = bad.end.max(at);
        }
        kept.extend_from_slice(&bytes[at..]);
        pixels(&kept, true)
    })
}

fn undecodable(reason: String) -> PictureError {
    PictureError::Undecodable { format: "JPEG", reason }
}

fn check_work(markers: &Markers, bytes: usize) -> Result<(), PictureError> {
    markers
        .excess(bytes)
        .map_or(Ok(()), |passes| Err(PictureError::Work { scans: markers.scans.len(), passes, most: MOST_PASSES }))
}

/// The pixels of a file, and what the decoder noted. A lenient decoder goes on after an error.
fn pixels(bytes: &[u8], lenient: bool) -> Result<(DynamicImage, Vec<String>), JpegError> {
    let mut decoder = guarded(|| JpegDecoder::open(bytes))?;
    decoder.0.set_lenient(lenient);
    read(decoder)
}

fn read(JpegDecoder(decoder): JpegDecoder<'_>) -> Result<(DynamicImage, Vec<String>), JpegError> {
    let (width, height) = (decoder.header().width(), decoder.header().height());
    let channels = if decoder.header().components.len() == 1 { 1 } else { 3 };
    let size = width.checked_mul(height).and_then(|size| size.checked_mul(channels));
    let mut pixels = Vec::new();
    let refused = || JpegError::AllocationFailed { what: "pixels", bytes: size.unwrap_or(usize::MAX) as u64 };
    pixels.try_reserve_exact(size.ok_or_else(refused)?).map_err(|_| refused())?;
    pixels.resize(size.unwrap_or(0), 0);
    let info = guarded(|| decoder.decode_image_into(&mut pixels))?;
    let [width, height] = [width as u32, height as u32];
    let picture = match channels {
        1 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    };
    let picture = picture.ok_or_else(|| JpegError::CorruptData("fewer pixels than the header says".into()))?;
    Ok((picture, summary(&info.warnings)))
}

/// The decoder's warnings, the many of one kind in one line.
fn summary(warnings: &[DecodeWarning]) -> Vec<String> {
    let errors: usize = warnings
        .iter()
        .map(|warning| match warning {
            DecodeWarning::HuffmanError { .. } => 1,
            DecodeWarning::WarningsSuppressed { count } => *count,
            _ => 0,
        })
        .sum();
    let corrupt = (errors > 0).then(|| format!("corrupt data in {errors} places"));
    let others = warnings.iter().filter_map(|warning| match warning {
        DecodeWarning::HuffmanError { .. } | DecodeWarning::WarningsSuppressed { .. } => None,
        DecodeWarning::TruncatedData { decoded_mcus, total_mcus } => {
            Some(format!("data for {decoded_mcus} of {total_mcus} blocks alone"))
        }
        DecodeWarning::ExtraneousData { bytes } => Some(format!("{bytes} stray bytes between markers")),
        other => Some(other.to_string()),
    });
    corrupt.into_iter().chain(others).collect()
}

/// A JPEG file whose header has been read.
pub(super) struct JpegDecoder<'a>(Decoder<'a>);

impl<'a> JpegDecoder<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// A header that cannot be read, and [`PictureError::Work`].
    pub(super) fn new(bytes: &'a [u8]) -> Result<JpegDecoder<'a>, PictureError> {
        check_work(&Markers::read(bytes), bytes.len())?;
        guarded(|| JpegDecoder::open(bytes)).map_err(|error| undecodable(error.to_string()))
    }

    fn open(bytes: &'a [u8]) -> Result<JpegDecoder<'a>, JpegError> {
        let limits = DecodeLimits { max_scans: MAX_SCANS, ..DecodeLimits::default() };
        let mut decoder = Decoder::new_with_limits(bytes, limits)?;
        check_samplings(&decoder)?;
        let grey = decoder.header().components.len() == 1;
        decoder.set_output_format(if grey { PixelFormat::Grayscale } else { PixelFormat::Rgb });
        Ok(JpegDecoder(decoder))
    }
}

impl ImageDecoder for JpegDecoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        (self.0.header().width.into(), self.0.header().height.into())
    }

    fn color_type(&self) -> ColorType {
        if self.0.header().components.len() == 1 { ColorType::L8 } else { ColorType::Rgb8 }
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        Ok(self.0.exif_orientation().and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms))
    }

    fn read_image(self, pixels: &mut [u8]) -> ImageResult<()> {
        guarded(|| self.0.decode_image_into(pixels).map(drop)).map_err(unreadable)
    }

    fn read_image_boxed(self: Box<Self>, pixels: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(pixels)
    }
}

/// A JPEG file of `[channels, height, width]` interleaved pixels, of 1 or 3 channels, at full resolution in colour.
pub(super) fn encode(pixels: &[u8], [channels, height, width]: [usize; 3], quality: u8) -> Result<Vec<u8>, String> {
    let format = if channels == 1 { PixelFormat::Grayscale } else { PixelFormat::Rgb };
    let file = libjpeg_turbo_rs::compress(pixels, width, height, format, quality, Subsampling::S444);
    file.map_err(|error| error.to_string())
}

/// Pictures in four colours are decoded only if black has all pixels, as the decoder takes for granted.
fn check_samplings(decoder: &Decoder) -> Result<(), JpegError> {
    let components = decoder.header().components.iter();
    let samplings: Vec<_> = components.map(|c| (c.horizontal_sampling, c.vertical_sampling)).collect();
    match samplings[..] {
        [first, second, third, fourth]
            if first != fourth || second != third || second.0 > first.0 || second.1 > first.1 =>
        {
            Err(JpegError::Unsupported("CMYK with fewer pixels in black than in cyan".into()))
        }
        _ => Ok(()),
    }
}

/// The decoder is young, and files are hostile: should it panic, that is an error of this file, and not the end.
fn guarded<T>(work: impl FnOnce() -> Result<T, JpegError>) -> Result<T, JpegError> {
    let broken = |_| Err(JpegError::CorruptData("the decoder broke off".into()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(broken)
}

fn unreadable(error: JpegError) -> ImageError {
    match error {
        JpegError::LimitExceeded { .. } => ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError)),
        other => ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), other)),
    }
}
