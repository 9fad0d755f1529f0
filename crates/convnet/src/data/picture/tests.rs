use image::{GrayImage, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
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

/// Pictures of this shape as they are.
fn exactly(shape: [usize; 3]) -> Target {
    Target { shape, resize: None }
}

fn decode_bytes(bytes: &[u8], shape: [usize; 3]) -> Result<Vec<u8>, String> {
    decode(bytes, exactly(shape))
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
        assert_eq!(read(&path, exactly(shape)).unwrap(), planes);
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
    assert!(decode_bytes(&file, [1, 2, 3]).unwrap_err().contains("the net takes grey ones"));
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
    assert!(decode_bytes(&clear, [1, 2, 3]).unwrap_err().contains("transparent"));
    let both = image::ImageBuffer::from_pixel(3, 2, LumaA([4_u8, 0]));
    assert_eq!(decode_bytes(&encoded(both, ImageFormat::Png), [3, 2, 3]).unwrap(), [4; 18]);
    let deep = image::ImageBuffer::from_pixel(3, 2, Rgb([0x0100_u16, 0x80FF, 0xFFFF]));
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
    assert_eq!(decode_bytes(b"GIF89a......", [1, 1, 1]).unwrap_err(), "not a PNG, JPEG, BMP or WebP file");
    let error = read(Path::new("/none/picture.png"), exactly([1, 1, 1])).unwrap_err().to_string();
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
        let target = Target::customary([3, 224, 224]);
        let error = decode(&file, target).unwrap_err();
        assert_eq!(error, "a picture of 60000x60000 pixels: expected 1 to 100000000 of them");
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
        if let Ok(planes) = decode(&file, Target::customary([3, 8, 8])) {
            proptest::prop_assert_eq!(planes.len(), 192);
        }
    }
}
