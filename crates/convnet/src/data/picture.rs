//! Pictures from PNG, JPEG, BMP and WebP files, as the planes of bytes that a net takes; and PNG files of such planes.
//!
//! Nothing is resized or recoloured here: a picture that is not what the net expects is an error. Sizes are compared
//! before anything is decoded, so a picture cannot claim more memory than the net's own input needs.

use std::io::{BufReader, Cursor};
use std::path::Path;

use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{Error, Result, files};

/// Beyond the decoded picture itself, what a decoder may use.
pub(super) const DECODER_MEMORY: u64 = 64 << 20;

/// Reads a picture as planes of `shape` (channels, height, width): 1 channel is grey, 3 are red, green and blue.
///
/// A colour file whose channels are all equal counts as grey; 16 bits a channel are rounded to 8.
///
/// # Errors
/// A file that cannot be read or decoded, or whose size or colour is not that of `shape`; or transparent pixels.
pub fn read(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>> {
    let (file, _) = super::open(path)?;
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format().map_err(Error::io("reading", path))?;
    decode(reader, shape).map_err(|problem| Error::file(path, problem))
}

fn decode<R: std::io::BufRead + std::io::Seek>(
    mut reader: ImageReader<R>,
    shape: [usize; 3],
) -> Result<Vec<u8>, String> {
    let [channels, height, width] = shape;
    let side = |n: usize| u32::try_from(n).map_err(|_| format!("no picture can be {width}x{height} pixels"));
    let (wide, high) = (side(width)?, side(height)?);
    if channels != 1 && channels != 3 {
        return Err(format!("the net takes {channels} channels, but a picture has 1 (grey) or 3 (RGB)"));
    }
    check_format(reader.format())?;
    let mut limits = Limits::default();
    // Decoded are at most 4 channels of 4 bytes.
    limits.max_alloc = Some(DECODER_MEMORY + 16 * u64::from(wide) * u64::from(high));
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(unreadable)?;
    let (found_width, found_height) = decoder.dimensions();
    if (found_width, found_height) != (wide, high) {
        return Err(format!(
            "a picture of {found_width}x{found_height} pixels, but the net takes {width}x{height} (width x height)"
        ));
    }
    planes(DynamicImage::from_decoder(decoder).map_err(unreadable)?, channels)
}

/// Lets the formats through whose decoders are built in.
pub(super) fn check_format(format: Option<ImageFormat>) -> Result<(), String> {
    match format {
        Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Bmp | ImageFormat::WebP) => Ok(()),
        _ => Err("not a PNG, JPEG, BMP or WebP file".into()),
    }
}

/// For `map_err`: why a file is no picture.
pub(super) fn unreadable(error: image::ImageError) -> String {
    format!("cannot be decoded as a picture: {error}")
}

/// The planes of a decoded picture in one or three channels.
fn planes(picture: DynamicImage, channels: usize) -> Result<Vec<u8>, String> {
    let grey = matches!(picture.color(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
    let pixels = picture.into_rgba8().into_raw();
    let (pixels, _) = pixels.as_chunks::<4>();
    if pixels.iter().any(|&[.., alpha]| alpha != 255) {
        return Err("the picture has transparent pixels: save it without transparency".into());
    }
    match channels {
        1 if grey || pixels.iter().all(|[r, g, b, _]| r == g && g == b) => Ok(pixels.iter().map(|p| p[0]).collect()),
        1 => Err("a colour picture, but the net takes grey ones (1 channel)".into()),
        _ if grey => Err("a grey picture, but the net takes RGB ones (3 channels)".into()),
        _ => Ok((0..channels).flat_map(|channel| pixels.iter().map(move |p| p[channel])).collect()),
    }
}

/// Writes planes of `shape` (channels, height, width) as a PNG file: 1 channel is grey, 3 are red, green and blue.
///
/// # Errors
/// Another number of channels, an empty picture, planes that do not fit the shape, or a disk that does not take it.
pub fn write_png(path: &Path, shape: [usize; 3], planes: &[u8]) -> Result<()> {
    let [channels, height, width] = shape;
    let size = height.checked_mul(width).filter(|&size| size > 0 && size.checked_mul(channels) == Some(planes.len()));
    let (interleaved, color) = match (channels, size) {
        (1, Some(_)) => (planes.to_vec(), ExtendedColorType::L8),
        (3, Some(size)) => {
            let pixel = |i| [planes[i], planes[size + i], planes[2 * size + i]];
            ((0..size).flat_map(pixel).collect(), ExtendedColorType::Rgb8)
        }
        _ => {
            let problem = format!("{} bytes cannot be a picture of {channels}x{height}x{width}", planes.len());
            return Err(Error::file(path, problem));
        }
    };
    let mut file = Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut file, &interleaved, width as u32, height as u32, color, ImageFormat::Png)
        .map_err(|error| Error::file(path, format!("cannot be encoded: {error}")))?;
    files::write_atomic(path, |out| out.write_all(file.get_ref()))
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        picture.into().write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn decode_bytes(bytes: &[u8], shape: [usize; 3]) -> Result<Vec<u8>, String> {
        decode(ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap(), shape)
    }

    fn colour() -> RgbImage {
        RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, y as u8, 100 + x as u8]))
    }

    #[test]
    fn png_files_come_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        for shape in [[1, 2, 3], [3, 2, 3]] {
            let path = folder.path().join("picture.png");
            let planes: Vec<u8> = (0..shape.iter().product::<usize>() as u8).collect();
            write_png(&path, shape, &planes).unwrap();
            assert_eq!(read(&path, shape).unwrap(), planes);
        }
        assert!(write_png(&folder.path().join("x.png"), [2, 2, 3], &[0; 12]).is_err());
        assert!(write_png(&folder.path().join("x.png"), [1, 2, 3], &[0; 5]).is_err());
        assert!(write_png(&folder.path().join("none/x.png"), [1, 1, 1], &[0]).is_err());
    }

    #[test]
    fn every_format_is_read() {
        let planes = decode_bytes(&encoded(colour(), ImageFormat::Bmp), [3, 2, 3]).unwrap();
        assert_eq!(planes, [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1, 100, 101, 102, 100, 101, 102]);
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            assert_eq!(decode_bytes(&encoded(colour(), format), [3, 2, 3]).unwrap(), planes);
        }
        assert_eq!(decode_bytes(&encoded(colour(), ImageFormat::Jpeg), [3, 2, 3]).unwrap().len(), 18);
    }

    #[test]
    fn other_sizes_and_colours_are_refused() {
        let file = encoded(colour(), ImageFormat::Png);
        let error = decode_bytes(&file, [3, 3, 2]).unwrap_err();
        assert_eq!(error, "a picture of 3x2 pixels, but the net takes 2x3 (width x height)");
        assert!(decode_bytes(&file, [1, 2, 3]).unwrap_err().contains("the net takes grey ones"));
        assert!(decode_bytes(&file, [4, 2, 3]).unwrap_err().contains("the net takes 4 channels"));
        assert!(decode_bytes(&file, [3, usize::MAX, 3]).is_err());
        let same = RgbImage::from_fn(3, 2, |x, _| Rgb([x as u8; 3]));
        let same = encoded(same, ImageFormat::Png);
        assert_eq!(decode_bytes(&same, [1, 2, 3]).unwrap(), [0, 1, 2, 0, 1, 2]);
        assert_eq!(decode_bytes(&same, [3, 2, 3]).unwrap().len(), 18);
        let grey = encoded(image::GrayImage::new(3, 2), ImageFormat::Png);
        assert!(decode_bytes(&grey, [3, 2, 3]).unwrap_err().contains("the net takes RGB ones"));
        let clear = encoded(RgbaImage::from_pixel(3, 2, Rgba([1, 1, 1, 9])), ImageFormat::Png);
        assert!(decode_bytes(&clear, [1, 2, 3]).unwrap_err().contains("transparent"));
    }

    #[test]
    fn damaged_files_are_errors() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let file = encoded(colour(), format);
            for end in 0..file.len() {
                let _ = decode_bytes(&file[..end], [3, 2, 3]);
            }
            assert!(decode_bytes(&file[..file.len() / 2], [3, 2, 3]).is_err());
        }
        assert_eq!(decode_bytes(b"GIF89a......", [1, 1, 1]).unwrap_err(), "not a PNG, JPEG, BMP or WebP file");
        // A header that claims 60,000 × 60,000 pixels is refused by its size alone.
        let mut file = encoded(colour(), ImageFormat::Bmp);
        file[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
        file[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
        assert!(decode_bytes(&file, [3, 2, 3]).unwrap_err().contains("60000x60000"));
        let error = read(Path::new("/none/picture.png"), [1, 1, 1]).unwrap_err().to_string();
        assert!(error.starts_with("opening /none/picture.png"));
    }
}
