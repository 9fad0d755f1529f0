use image::codecs::gif::GifEncoder;
use image::{Frame, GrayImage, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

use super::*;

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn jpeg(picture: &RgbImage, progressive: bool) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let encoder = Encoder::new(picture.as_raw(), width, height, PixelFormat::Rgb).quality(90);
    encoder.subsampling(Subsampling::S420).progressive(progressive).encode().unwrap()
}

/// The planes of a picture of this shape, taken as it is.
fn decode_bytes(bytes: &[u8], shape: [usize; 3]) -> Result<Vec<u8>, String> {
    decode(bytes, TargetSize::exactly(shape)).map(|picture| picture.planes).map_err(|error| error.to_string())
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
        assert_eq!(read(&path, TargetSize::exactly(shape)).unwrap().planes, planes);
    }
    assert!(write_png(&folder.path().join("x.png"), [2, 2, 3], &[0; 12]).is_err());
    assert!(write_png(&folder.path().join("x.png"), [1, 2, 3], &[0; 5]).is_err());
    assert!(write_png(&folder.path().join("none/x.png"), [1, 1, 1], &[0]).is_err());
}

#[test]
fn every_format_is_read() {
    let planes = decode_bytes(&encoded(colour(), ImageFormat::Bmp), [3, 2, 3]).unwrap();
    assert_eq!(planes, [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1, 100, 101, 102, 100, 101, 102]);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Gif] {
        let file = encoded(colour(), format);
        assert_eq!((shape(&file), decode_bytes(&file, [3, 2, 3]).unwrap()), (Ok([3, 2, 3]), planes.clone()));
    }
    for progressive in [false, true] {
        let file = jpeg(&colour(), progressive);
        assert_eq!((shape(&file), decode_bytes(&file, [3, 2, 3]).unwrap().len()), (Ok([3, 2, 3]), 18));
    }
    let grey = Encoder::new(&[7; 6], 3, 2, PixelFormat::Grayscale).encode().unwrap();
    assert_eq!(shape(&grey), Ok([1, 2, 3]));
    assert_eq!(decode_bytes(&grey, [1, 2, 3]).unwrap(), [7; 6]);
    assert_eq!(decode_bytes(&grey, [3, 2, 3]).unwrap(), [7; 18]);
    assert!(is_picture(Path::new("a/b.JPEG")) && !is_picture(Path::new("png")) && !is_picture(Path::new("a.txt")));
}

/// What a file is says its content; how its name ends says nothing.
#[test]
fn a_wrong_ending_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = TargetSize::exactly([3, 2, 3]);
    let expected = decode_bytes(&encoded(colour(), ImageFormat::Bmp), [3, 2, 3]).unwrap();
    for (name, format) in [("a.jpg", ImageFormat::Png), ("b.png", ImageFormat::Bmp), ("c.webp", ImageFormat::Gif)] {
        let path = folder.path().join(name);
        std::fs::write(&path, encoded(colour(), format)).unwrap();
        assert_eq!(read(&path, target).unwrap().planes, expected, "{name}");
    }
    let path = folder.path().join("page.jpg");
    std::fs::write(&path, "<!DOCTYPE html><title>404</title>").unwrap();
    let error = read(&path, target).unwrap_err().to_string();
    assert!(error.contains("page.jpg: not a PNG, JPEG, WebP, GIF, TIFF or BMP file"), "{error}");
}

#[test]
fn of_an_animation_the_first_frame_is_taken() {
    let frame = |grey: u8| Frame::new(RgbaImage::from_pixel(3, 2, Rgba([grey, grey, grey, 255])));
    let mut file = Vec::new();
    GifEncoder::new(&mut file).encode_frames([10, 200, 90].map(frame)).unwrap();
    assert_eq!((shape(&file), decode_bytes(&file, [3, 2, 3]).unwrap()), (Ok([3, 2, 3]), vec![10; 18]));
    // Frames that are missing are not missed.
    let second = file.iter().rposition(|&byte| byte == 0x2c).unwrap();
    assert_eq!(decode_bytes(&file[..second], [3, 2, 3]).unwrap(), [10; 18]);
    assert!(decode_bytes(&file[..40], [3, 2, 3]).is_err());
}

/// Four colours, all with every pixel, and then with black at half the resolution: which the decoder cannot do.
#[test]
fn cmyk_is_read_or_refused() {
    let cmyk = |sampling: Subsampling| {
        let encoder = Encoder::new(&[255; 4 * 32 * 32], 32, 32, PixelFormat::Cmyk).subsampling(sampling);
        encoder.encode().unwrap()
    };
    let mut file = cmyk(Subsampling::S444);
    assert_eq!(decode_bytes(&file, [3, 32, 32]).unwrap(), [255; 3 * 32 * 32]);
    let frame = file.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    file[frame + 11] = 0x22;
    assert!(decode_bytes(&file, [3, 32, 32]).unwrap_err().contains("fewer pixels in black than in cyan"));
}

#[test]
fn other_sizes_and_colours_are_refused() {
    let file = encoded(colour(), ImageFormat::Png);
    let error = decode_bytes(&file, [3, 3, 2]).unwrap_err();
    assert_eq!(error, "a picture of 3x2 pixels, but the net takes 2x3 (width x height)");
    // Pillow's convert("L").
    assert_eq!(decode_bytes(&file, [1, 2, 3]).unwrap(), [11, 12, 12, 12, 12, 13]);
    assert!(decode_bytes(&file, [4, 2, 3]).unwrap_err().contains("the net takes 4 channels"));
    assert!(decode_bytes(&file, [3, usize::MAX, 3]).is_err());
    let same = RgbImage::from_fn(3, 2, |x, _| Rgb([x as u8; 3]));
    let same = encoded(same, ImageFormat::Png);
    assert_eq!(decode_bytes(&same, [1, 2, 3]).unwrap(), [0, 1, 2, 0, 1, 2]);
    assert_eq!(decode_bytes(&same, [3, 2, 3]).unwrap().len(), 18);
}

/// As Pillow's `convert("RGB")` does.
#[test]
fn grey_is_repeated_and_transparency_left_out() {
    let grey = encoded(GrayImage::from_fn(3, 2, |x, _| image::Luma([x as u8])), ImageFormat::Png);
    assert_eq!(decode_bytes(&grey, [3, 2, 3]).unwrap(), [0, 1, 2].repeat(6));
    let clear = encoded(RgbaImage::from_pixel(3, 2, Rgba([1, 2, 3, 9])), ImageFormat::Png);
    let planes: Vec<u8> = [[1; 6], [2; 6], [3; 6]].concat();
    assert_eq!(decode_bytes(&clear, [3, 2, 3]).unwrap(), planes);
    assert_eq!(decode_bytes(&clear, [1, 2, 3]).unwrap(), [2; 6]);
    let both = image::ImageBuffer::from_pixel(3, 2, LumaA([4_u8, 0]));
    assert_eq!(decode_bytes(&encoded(both, ImageFormat::Png), [3, 2, 3]).unwrap(), [4; 18]);
    let deep = image::ImageBuffer::from_pixel(3, 2, Rgb([0x01FF_u16, 0x80FF, 0xFFFF]));
    let planes: Vec<u8> = [[1; 6], [128; 6], [255; 6]].concat();
    assert_eq!(decode_bytes(&encoded(deep, ImageFormat::Png), [3, 2, 3]).unwrap(), planes);
}

/// A camera that was held upright notes a rotation by 90 degrees.
#[test]
fn the_noted_orientation_is_honoured() {
    let picture = RgbImage::from_fn(16, 8, |x, _| Rgb([if x < 8 { 250 } else { 5 }; 3]));
    let tiff = |orientation: u8| {
        let head = [b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
        [&head[..], &[0; 4]].concat()
    };
    let file = |orientation| {
        let tiff = tiff(orientation);
        let encoder = Encoder::new(picture.as_raw(), 16, 8, PixelFormat::Rgb).quality(100);
        encoder.exif_data(&tiff).encode().unwrap()
    };
    assert_eq!(shape(&file(1)), Ok([3, 8, 16]));
    assert_eq!(shape(&file(6)), Ok([3, 16, 8]));
    let upright = decode_bytes(&file(6), [1, 16, 8]).unwrap();
    assert!(upright[..64].iter().all(|&x| x > 128) && upright[64..].iter().all(|&x| x < 128), "{upright:?}");
    let mirrored = decode_bytes(&file(2), [1, 8, 16]).unwrap();
    assert!(mirrored[0] < 128 && mirrored[15] > 128, "{mirrored:?}");
}

#[test]
fn damaged_files_are_errors() {
    let picture = RgbImage::from_fn(40, 24, |x, y| Rgb([(x * y) as u8, (7 * x) as u8, y as u8]));
    let files = [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp].map(|format| encoded(picture.clone(), format));
    for file in files.into_iter().chain([jpeg(&picture, false), jpeg(&picture, true)]) {
        assert!(decode_bytes(&file, [3, 24, 40]).is_ok());
        for end in 0..file.len() - 64 {
            assert!(decode_bytes(&file[..end], [3, 24, 40]).is_err(), "{end} of {} bytes", file.len());
        }
        for end in file.len() - 64..file.len() {
            let _ = decode_bytes(&file[..end], [3, 24, 40]);
        }
    }
    assert_eq!(decode_bytes(b"hello", [1, 1, 1]).unwrap_err(), "not a PNG, JPEG, WebP, GIF, TIFF or BMP file");
    let error = read(Path::new("/none/picture.png"), TargetSize::exactly([1, 1, 1])).unwrap_err().to_string();
    assert!(error.starts_with("opening /none/picture.png"));
}

/// Headers that claim 60,000 × 60,000 pixels.
#[test]
fn huge_sizes_are_refused_before_anything_is_decoded() {
    let mut file = encoded(colour(), ImageFormat::Bmp);
    file[18..22].copy_from_slice(&60_000_u32.to_le_bytes());
    file[22..26].copy_from_slice(&60_000_u32.to_le_bytes());
    let mut photo = jpeg(&colour(), true);
    let frame = photo.windows(2).position(|marker| marker == [0xff, 0xc2]).unwrap();
    photo[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    for file in [file, photo] {
        let target = TargetSize::customary([3, 224, 224]);
        let error = decode(&file, target).unwrap_err();
        assert_eq!(error.to_string(), "a picture of 60000x60000 pixels: expected 1 to 268435456 of them");
        assert!(shape(&file).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn mutated_files_do_not_panic(place: usize, byte: u8, end: usize, format in 0..5_usize) {
        let picture = RgbImage::from_fn(20, 12, |x, y| Rgb([(x * y) as u8, (7 * x) as u8, y as u8]));
        let mut file = match format {
            0 => encoded(picture, ImageFormat::Png),
            1 => encoded(picture, ImageFormat::WebP),
            2 => encoded(picture, ImageFormat::Bmp),
            _ => jpeg(&picture, format == 3),
        };
        let place = place % file.len();
        file[place] = byte;
        if end % 4 == 0 {
            file.truncate(end % file.len());
        }
        if let Ok(planes) = decode(&file, TargetSize::customary([3, 8, 8])) {
            proptest::prop_assert_eq!(planes.planes.len(), 192);
        }
    }
}

/// A JPEG with restart markers that a webcam might have sent: rows of 16 pixels, brighter from row to row.
fn rows(progressive: bool) -> Vec<u8> {
    let picture = RgbImage::from_fn(64, 64, |x, y| Rgb([(40 * (y / 16) + x / 8) as u8, 100, 50]));
    let encoder = Encoder::new(picture.as_raw(), 64, 64, PixelFormat::Rgb).subsampling(Subsampling::S420);
    encoder.quality(95).restart_rows(1).progressive(progressive).encode().unwrap()
}

fn restart(file: &[u8], number: u8) -> usize {
    file.windows(2).position(|pair| pair == [0xff, 0xd0 + number]).unwrap()
}

/// What libjpeg makes of it: the part whose marker is lost is grey, and all others stay where they were.
#[test]
fn a_lost_restart_marker_costs_its_part_alone() {
    let whole = rows(false);
    let sound = decode(&whole, TargetSize::exactly([3, 64, 64])).unwrap();
    assert!(sound.warnings.is_empty(), "{:?}", sound.warnings);
    let mut lost = whole.clone();
    lost.drain(restart(&whole, 1)..restart(&whole, 1) + 2);
    let read = decode(&lost, TargetSize::exactly([3, 64, 64])).unwrap();
    assert!(read.warnings[0].contains("1 restart markers lost"), "{:?}", read.warnings);
    for (row, (found, expected)) in read.planes.chunks(64).zip(sound.planes.chunks(64)).enumerate().take(64) {
        match row {
            // Its first block has some of the zeros that stand for missing bits; beside it, chroma is blended.
            33..47 => assert!(found[32..].iter().all(|&red| red == 128), "row {row}: {found:?}"),
            31 | 32 | 47 | 48 => {}
            _ => assert_eq!(found, expected, "row {row}"),
        }
    }
    let strict = TargetSize { strict: true, ..TargetSize::exactly([3, 64, 64]) };
    assert!(decode(&lost, strict).unwrap_err().to_string().starts_with("damaged: 1 restart markers lost"));
    assert_eq!(decode(&whole, strict).unwrap(), sound);
}

#[test]
fn damaged_jpegs_are_read_with_a_warning() {
    for progressive in [false, true] {
        let whole = rows(progressive);
        let sound = decode(&whole, TargetSize::exactly([3, 64, 64])).unwrap();
        assert!(sound.warnings.is_empty(), "{progressive}: {:?}", sound.warnings);
        let last = whole.len() - 2;
        let stray = [&whole[..last], &[0; 65], &whole[last..]].concat();
        let early = [&whole[..last - 12], &whole[last..]].concat();
        for (file, expected) in [(stray, "65 bytes too many"), (early, "too early")] {
            let read = decode(&file, TargetSize::exactly([3, 64, 64])).unwrap();
            assert!(read.warnings.join("; ").contains(expected), "{progressive}: {:?}", read.warnings);
        }
        // Bytes behind the end are nobody's.
        let more = [&whole[..], b"more"].concat();
        assert_eq!(decode(&more, TargetSize::exactly([3, 64, 64])).unwrap(), sound);
        let mut damaged = 0;
        for at in (600..whole.len() - 2).step_by(3) {
            let mut file = whole.clone();
            file[at] ^= 0x3c;
            damaged += usize::from(
                !decode(&file, TargetSize::exactly([3, 64, 64])).is_ok_and(|read| read.warnings.is_empty()),
            );
        }
        assert!(damaged > 0);
    }
}

/// 2,000 scans of 6 bytes each, none of which has anything to say about 4 megapixels.
#[test]
fn many_scans_over_many_blocks_are_refused() {
    let picture = RgbImage::from_pixel(2000, 2000, Rgb([90, 90, 90]));
    let file = jpeg(&picture, true);
    let scan = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let last = &file[scan..file.len() - 2];
    let mut many = file[..file.len() - 2].to_vec();
    (0..2000).for_each(|_| many.extend(last));
    many.extend([0xff, 0xd9]);
    let start = std::time::Instant::now();
    let error = decode(&many, TargetSize::customary([3, 8, 8])).unwrap_err();
    assert!(matches!(error, PictureError::Work { scans: 2000.., .. }), "{error}");
    assert!(start.elapsed().as_secs_f64() < 1.0);
}

#[test]
fn pixels_from_memory() {
    let target = TargetSize::exactly([3, 1, 2]);
    assert_eq!(from_pixels(&[1, 2, 3, 4, 5, 6], [1, 2, 3], target).unwrap(), [1, 4, 2, 5, 3, 6]);
    assert_eq!(from_pixels(&[1, 2, 3, 9, 4, 5, 6, 9], [1, 2, 4], target).unwrap(), [1, 4, 2, 5, 3, 6]);
    assert_eq!(from_pixels(&[7, 9, 8, 9], [1, 2, 2], target).unwrap(), [7, 8].repeat(3));
    assert_eq!(from_planes(vec![7, 8], [1, 1, 2], target).unwrap(), [7, 8].repeat(3));
    for (pixels, shape) in
        [(&[0; 5][..], [1, 2, 3]), (&[], [0, 2, 3]), (&[0; 10], [1, 2, 5]), (&[0; 6], [usize::MAX, 2, 3])]
    {
        let error = from_pixels(pixels, shape, target).unwrap_err();
        assert!(matches!(error, PictureError::Shape { .. }), "{error}");
    }
    let error = from_pixels(&[0; 3], [1, 1, 3], target).unwrap_err();
    assert_eq!(error, PictureError::Size { found: [1, 1], expected: [1, 2] });
}

/// libpng warns of them; pixels with a wrong checksum are refused.
#[test]
fn damaged_png_chunks_are_told() {
    let sound = encoded(colour(), ImageFormat::Png);
    let end = sound.len() - 12;
    let text = |crc: u32| [&[0, 0, 0, 3][..], b"tEXta\0b", &crc.to_be_bytes()].concat();
    let with = |chunk: &[u8]| [&sound[..end], chunk, &sound[end..]].concat();
    let target = TargetSize::exactly([3, 2, 3]);
    let expected = decode(&sound, target).unwrap();
    let crc = {
        let mut crc = flate2::Crc::new();
        crc.update(b"tEXta\0b");
        crc.sum()
    };
    assert_eq!(decode(&with(&text(crc)), target).unwrap(), expected);
    for (file, warning) in [(with(&text(crc ^ 1)), "chunk tEXt"), (sound[..end].to_vec(), "no end (IEND)")] {
        let read = decode(&file, target).unwrap();
        assert_eq!(read.planes, expected.planes);
        assert!(read.warnings[0].contains(warning), "{:?}", read.warnings);
        let strict = TargetSize { strict: true, ..target };
        assert!(matches!(decode(&file, strict), Err(PictureError::Damaged(_))));
    }
    let mut pixels = sound.clone();
    pixels[end - 6] ^= 1;
    assert!(decode(&pixels, target).is_err());
}
