//! Decoded pixels as 8 bits of one or three channels, as Pillow's `convert` gives them.

use image::{ColorType, DynamicImage};

use super::PictureError;

pub(super) fn is_grey(color: ColorType) -> bool {
    matches!(color, ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16)
}

/// The pixels of a decoded picture in one or three channels.
pub(super) fn interleaved(picture: DynamicImage, wanted: usize) -> Result<Vec<u8>, PictureError> {
    let (pixels, found) = match picture {
        DynamicImage::ImageLuma8(image) => (image.into_raw(), 1),
        DynamicImage::ImageLumaA8(image) => (image.into_raw(), 2),
        DynamicImage::ImageRgb8(image) => (image.into_raw(), 3),
        DynamicImage::ImageRgba8(image) => (image.into_raw(), 4),
        DynamicImage::ImageLuma16(image) => (upper(&image), 1),
        DynamicImage::ImageLumaA16(image) => (upper(&image), 2),
        DynamicImage::ImageRgb16(image) => (upper(&image), 3),
        DynamicImage::ImageRgba16(image) => (upper(&image), 4),
        other => {
            let reason = format!("pixels of type {:?}: expected whole numbers of 8 or 16 bits", other.color());
            return Err(PictureError::Undecodable { format: "its pixels", reason });
        }
    };
    Ok(if found == wanted { pixels } else { channels(&pixels, found, wanted) })
}

/// The upper 8 of 16 bits.
fn upper(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

/// Interleaved pixels of 1 to 4 channels in 1 or 3. Alpha, the last of 2 or 4, is left out.
pub(super) fn channels(pixels: &[u8], found: usize, wanted: usize) -> Vec<u8> {
    let pixels = pixels.chunks_exact(found);
    match (found, wanted) {
        (1 | 2, 1) => pixels.map(|pixel| pixel[0]).collect(),
        (1 | 2, _) => pixels.flat_map(|pixel| [pixel[0]; 3]).collect(),
        (_, 1) => pixels.map(|pixel| luma([pixel[0], pixel[1], pixel[2]])).collect(),
        _ => pixels.flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
    }
}

/// The luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded as Pillow does.
pub(in crate::data) fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}
