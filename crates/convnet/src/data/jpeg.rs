//! JPEG files. `libjpeg-turbo-rs` decodes them to the same bytes as libjpeg-turbo, and so as Pillow and torchvision, with
//! which the published weights were trained and measured; the decoder that comes with `image` differs by up to 5 levels.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::error::{DecodingError, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, JpegError, PixelFormat, Subsampling};

/// No encoder makes nearly so many; each is a walk over the whole picture.
const MAX_SCANS: usize = 500;

/// A JPEG file whose header has been read.
pub(super) struct JpegDecoder<'a>(Decoder<'a>);

impl<'a> JpegDecoder<'a> {
    /// Reads the header.
    pub(super) fn new(bytes: &'a [u8]) -> ImageResult<JpegDecoder<'a>> {
        let limits = DecodeLimits { max_scans: MAX_SCANS, ..DecodeLimits::default() };
        let mut decoder = guarded(|| Decoder::new_with_limits(bytes, limits))?;
        check_samplings(&decoder).map_err(unreadable)?;
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
        guarded(|| self.0.decode_image_into(pixels).map(drop))
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
fn guarded<T>(work: impl FnOnce() -> Result<T, JpegError>) -> ImageResult<T> {
    let broken = |_| Err(JpegError::CorruptData("the decoder broke off".into()));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(broken).map_err(unreadable)
}

fn unreadable(error: JpegError) -> ImageError {
    match error {
        JpegError::LimitExceeded { .. } => ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError)),
        other => ImageError::Decoding(DecodingError::new(ImageFormat::Jpeg.into(), other)),
    }
}
