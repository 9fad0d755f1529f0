//! Pictures of any size, grey or colour, as rows of bytes: read whole, written row by row.
//!
//! Limits: [`MAX_PIXELS`] and [`MAX_BYTES`], compared with what a file's header claims before anything is decoded. A
//! picture with transparency, with 16 bits a channel or turned by its EXIF data needs its decoded bytes twice.

use std::io::{self, Read, Write};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder};

#[cfg(feature = "jpeg")]
use super::jpeg;
use super::picture::{luma, open, undecodable};
use crate::error::times;
use crate::{Error, Result, files};

/// Most pixels of a picture that is read or written: 23,170 x 23,170.
pub const MAX_PIXELS: usize = 1 << 29;
/// Most bytes of a decoded picture: 20,000 x 20,000 pixels of 4 bytes and some more.
pub const MAX_BYTES: u64 = 2 << 30;
/// Quality of JPEG files, of 100.
#[cfg(feature = "jpeg")]
const JPEG_QUALITY: u8 = 95;
/// Pixels from which a PNG is compressed less: some ten times faster, and up to six times larger.
const LARGE: usize = 4 << 20;
/// Longest side of a JPEG file.
const JPEG_SIDE: usize = 65_535;

/// A picture: rows of pixels, each pixel one byte of grey or three of red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitmap {
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl Bitmap {
    /// A picture of `shape` (channels, height, width) from its interleaved pixels, `[height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::Setting`] when the channels are neither 1 nor 3; [`Error::Length`] when there is no pixel, or more or fewer
    /// bytes than that.
    pub fn new(shape: [usize; 3], pixels: Vec<u8>) -> Result<Bitmap> {
        let [channels, height, width] = shape;
        let bytes = height.checked_mul(width).and_then(|size| size.checked_mul(channels));
        if ![1, 3].contains(&channels) {
            return Err(Error::setting("channels", "1 or 3", channels));
        }
        if pixels.is_empty() || bytes != Some(pixels.len()) {
            let of = format!("bytes of a picture of {}", times(&shape));
            return Err(Error::Length { of, expected: bytes.unwrap_or(usize::MAX), found: pixels.len() });
        }
        Ok(Bitmap { shape, pixels })
    }

    /// Reads a PNG, JPEG, WebP, GIF, TIFF or BMP file. Grey files have 1 channel, all others 3; 16 bits a channel are rounded to 8,
    /// transparent pixels are laid on white, and a photograph is turned as its EXIF data says.
    ///
    /// # Errors
    /// A file that cannot be read or decoded, or that claims more than the limits of this module.
    pub fn read(path: &Path) -> Result<Bitmap> {
        let (file, size) = super::open(path)?;
        if size > MAX_BYTES {
            return Err(Error::file(path, format!("a file of {size} bytes: expected at most {MAX_BYTES}")));
        }
        let mut bytes = Vec::with_capacity(size as usize + 1);
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
        decode(&bytes).map_err(|problem| Error::file(path, problem))
    }

    /// Channels, height and width.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.shape[1], self.shape[2]]
    }

    /// The pixels, `[height, width, channels]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// One row of pixels.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, y: usize) -> &[u8] {
        let [channels, _, width] = self.shape;
        &self.pixels[y * width * channels..][..width * channels]
    }

    /// The same picture in grey: the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded as PIL does.
    pub fn into_grey(self) -> Bitmap {
        let [channels, height, width] = self.shape;
        if channels == 1 {
            return self;
        }
        let pixels = self.pixels.as_chunks::<3>().0.iter().map(|&pixel| luma(pixel)).collect();
        Bitmap { shape: [1, height, width], pixels }
    }

    /// Writes the picture, as [`write_rows`].
    ///
    /// # Errors
    /// As [`write_rows`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_rows(path, self.shape, |out| out.write_all(&self.pixels))
    }
}

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitmap of {:?}", self.shape)
    }
}

fn decode(bytes: &[u8]) -> Result<Bitmap, String> {
    let (mut decoder, format) = open(bytes, MAX_PIXELS as u64).map_err(|error| error.to_string())?;
    let size = decoder.total_bytes();
    if size > MAX_BYTES {
        return Err(format!("a picture of {size} bytes: expected at most {MAX_BYTES}"));
    }
    // Metadata that cannot be read turns nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|error| undecodable(format)(error).to_string())?;
    picture.apply_orientation(orientation);
    let [height, width] = [picture.height() as usize, picture.width() as usize];
    let (channels, pixels) = opaque(picture);
    Bitmap::new([channels, height, width], pixels).map_err(|error| error.to_string())
}

/// Channels and bytes without transparency.
fn opaque(picture: DynamicImage) -> (usize, Vec<u8>) {
    let on_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    match (picture.color().has_color(), picture.color().has_alpha()) {
        (false, false) => (1, picture.into_luma8().into_raw()),
        (true, false) => (3, picture.into_rgb8().into_raw()),
        (false, true) => {
            let pixels = picture.into_luma_alpha8().into_raw();
            (1, pixels.as_chunks::<2>().0.iter().map(|&[grey, alpha]| on_white(grey, alpha)).collect())
        }
        (true, true) => {
            let pixels = picture.into_rgba8().into_raw();
            let pixels = pixels.as_chunks::<4>().0;
            (3, pixels.iter().flat_map(|&[r, g, b, alpha]| [r, g, b].map(|value| on_white(value, alpha))).collect())
        }
    }
}

/// The file formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
}

/// Checks that a picture of `shape` can be written under that name, before it is computed.
///
/// # Errors
/// [`Error::File`] when the name ends in neither `.png` nor `.jpg` or `.jpeg`, or the format or this module's limits do
/// not allow the size.
pub fn check_output(path: &Path, shape: [usize; 3]) -> Result<()> {
    format(path, shape).map(|_| ())
}

fn format(path: &Path, [channels, height, width]: [usize; 3]) -> Result<Format> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let format = match &extension[..] {
        "png" => Format::Png,
        "jpg" | "jpeg" if cfg!(feature = "jpeg") => Format::Jpeg,
        "jpg" | "jpeg" => return Err(Error::Feature { feature: "jpeg", what: "writing JPEG files" }),
        _ => return Err(Error::file(path, "expected a name that ends in .png, .jpg or .jpeg")),
    };
    let pixels = height.checked_mul(width).filter(|&pixels| (1..=MAX_PIXELS).contains(&pixels));
    if pixels.is_none() || ![1, 3].contains(&channels) || height.max(width) > i32::MAX as usize {
        return Err(Error::file(path, format!("a picture of {channels}x{height}x{width} cannot be written")));
    }
    if format == Format::Jpeg && height.max(width) > JPEG_SIDE {
        let problem = format!("a JPEG file holds sides of up to {JPEG_SIDE} pixels, not {width}x{height}: write a PNG");
        return Err(Error::file(path, problem));
    }
    Ok(format)
}

/// Writes a picture of `shape` (channels, height, width) whose interleaved rows `fill` writes from top to bottom, as PNG
/// or JPEG by the name's ending, atomically. A PNG needs no memory for the picture, a JPEG the whole of it.
///
/// # Errors
/// As [`check_output`]; [`Error::Io`] when `fill` fails or writes another number of bytes, or the disk does not take it.
pub fn write_rows(path: &Path, shape: [usize; 3], fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let format = format(path, shape)?;
    let [channels, height, width] = shape;
    let (wide, high) = (width as u32, height as u32);
    files::write_atomic(path, |out| match format {
        Format::Png => {
            let mut encoder = png::Encoder::new(out, wide, high);
            if height * width > LARGE {
                encoder.set_compression(png::Compression::Fast);
            }
            encoder.set_color(if channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
            let mut writer = encoder.write_header()?;
            let mut rows = writer.stream_writer_with_size(1 << 16)?;
            fill(&mut rows)?;
            rows.finish()?;
            Ok(writer.finish()?)
        }
        Format::Jpeg => {
            let mut pixels = Vec::new();
            fill(&mut pixels)?;
            if pixels.len() != channels * height * width {
                return Err(io::Error::other("expected as many rows as the picture has"));
            }
            out.write_all(&jpeg_file(&pixels, [channels, height, width])?)
        }
    })
}

#[cfg(feature = "jpeg")]
fn jpeg_file(pixels: &[u8], shape: [usize; 3]) -> io::Result<Vec<u8>> {
    jpeg::encode(pixels, shape, JPEG_QUALITY).map_err(io::Error::other)
}

/// [`format()`] lets no such file begin.
#[cfg(not(feature = "jpeg"))]
fn jpeg_file(_: &[u8], _: [usize; 3]) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{GrayAlphaImage, ImageBuffer, ImageFormat, Luma, RgbImage, RgbaImage};

    use super::*;

    fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        picture.into().write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn decoded(file: &[u8]) -> Result<Bitmap, String> {
        decode(file)
    }

    fn colour() -> RgbImage {
        RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 100 + x as u8]))
    }

    #[test]
    fn files_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        for shape in [[1, 2, 3], [3, 2, 3], [3, 1, 500]] {
            let pixels = (0..shape.iter().product::<usize>()).map(|i| (i * 7) as u8).collect();
            let bitmap = Bitmap::new(shape, pixels).unwrap();
            let path = folder.path().join("picture.PNG");
            bitmap.write(&path).unwrap();
            assert_eq!(Bitmap::read(&path).unwrap(), bitmap);
            let path = folder.path().join("picture.jpg");
            bitmap.write(&path).unwrap();
            assert_eq!(Bitmap::read(&path).unwrap().shape(), shape);
        }
        let grey = Bitmap::new([1, 64, 64], vec![77; 64 * 64]).unwrap();
        let path = folder.path().join("flat.jpeg");
        grey.write(&path).unwrap();
        assert_eq!(Bitmap::read(&path).unwrap(), grey);
    }

    #[test]
    fn every_kind_of_pixel_is_read() {
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            assert_eq!(decoded(&encoded(colour(), format)).unwrap().pixels(), colour().as_raw());
        }
        let clear = RgbaImage::from_raw(3, 1, vec![0, 100, 200, 255, 0, 100, 200, 0, 0, 100, 200, 51]).unwrap();
        let clear = decoded(&encoded(clear, ImageFormat::Png)).unwrap();
        assert_eq!(clear.pixels(), [0, 100, 200, 255, 255, 255, 204, 224, 244]);
        let grey = GrayAlphaImage::from_raw(2, 1, vec![9, 255, 9, 0]).unwrap();
        assert_eq!(decoded(&encoded(grey, ImageFormat::Png)).unwrap(), Bitmap::new([1, 1, 2], vec![9, 255]).unwrap());
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(2, 1, vec![0x1234, u16::MAX]).unwrap();
        assert_eq!(decoded(&encoded(deep, ImageFormat::Png)).unwrap().pixels(), [0x12, 255]);
    }

    #[test]
    #[cfg(feature = "jpeg")]
    fn photographs_stand_upright() {
        // EXIF: little-endian TIFF whose one entry says that the top of the scene is the right side of the file (6).
        let exif = [b"II*\0\x08\0\0\0\x01\0", &b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"[..], b"\0\0\0\0"].concat();
        // Left half black, right half white.
        let pixels: Vec<u8> = (0..16 * 8).map(|i| if i % 16 < 8 { 0 } else { 255 }).collect();
        let mut file = jpeg::encode(&pixels, [1, 8, 16], 100).unwrap();
        // An APP1 segment after the start of the image.
        let segment = [&[0xff, 0xe1, 0, 8 + exif.len() as u8], &b"Exif\0\0"[..], &exif].concat();
        file.splice(2..2, segment);
        let upright = decoded(&file).unwrap();
        assert_eq!(upright.shape(), [1, 16, 8]);
        assert!(upright.row(0).iter().all(|&p| p < 20) && upright.row(15).iter().all(|&p| p > 235));
    }

    #[test]
    fn grey_is_luma() {
        let pixels = vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255];
        let grey = Bitmap::new([3, 2, 2], pixels).unwrap().into_grey();
        // PIL: Image.fromarray(…).convert("L").
        assert_eq!(grey, Bitmap::new([1, 2, 2], vec![76, 150, 29, 255]).unwrap());
        assert_eq!(grey.clone().into_grey(), grey);
    }

    #[test]
    fn damaged_and_absurd_files_are_errors() {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp] {
            let file = encoded(colour(), format);
            for end in 0..file.len() {
                let _ = decoded(&file[..end]);
            }
            assert!(decoded(&file[..file.len() / 2]).is_err());
        }
        assert_eq!(decoded(b"hello").unwrap_err(), "not a PNG, JPEG, WebP, GIF, TIFF or BMP file");
        let mut file = encoded(colour(), ImageFormat::Bmp);
        file[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
        file[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
        let error = decoded(&file).unwrap_err();
        assert!(error.contains("60000x60000 pixels: expected 1 to 536870912"), "{error}");
        let error = Bitmap::read(Path::new("/none/picture.png")).unwrap_err().to_string();
        assert!(error.starts_with("opening /none/picture.png"), "{error}");
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, shape, problem) in [
            ("a.gif", [1, 1, 1], "ends in .png, .jpg or .jpeg"),
            ("png", [1, 1, 1], "ends in"),
            ("a.png", [2, 1, 1], "cannot be written"),
            ("a.png", [1, 0, 5], "cannot be written"),
            ("a.png", [1, usize::MAX, 5], "cannot be written"),
            ("a.jpg", [1, 1, 70_000], "write a PNG"),
        ] {
            let error = check_output(&path(name), shape).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        for name in ["a.png", "a.jpg"] {
            // Too few rows, too many, and a failure in between.
            assert!(write_rows(&path(name), [1, 4, 4], |out| out.write_all(&[0; 12])).is_err(), "{name}");
            assert!(write_rows(&path(name), [1, 4, 4], |out| out.write_all(&[0; 20])).is_err(), "{name}");
            assert!(write_rows(&path(name), [1, 4, 4], |_| Err(io::ErrorKind::Other.into())).is_err(), "{name}");
        }
        assert!(Bitmap::new([1, 2, 2], vec![0; 3]).is_err() && Bitmap::new([3, 0, 2], Vec::new()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
