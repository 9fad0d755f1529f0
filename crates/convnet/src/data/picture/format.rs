//! What a file is, by its first bytes: the formats that are read, and those that people mistake for them.

use image::ImageFormat;

use super::PictureError;

/// How the names of files end that are pictures.
const EXTENSIONS: [&str; 12] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", "tif", "tiff", "apng"];
/// How the names of pictures end that are not read, but are to be spoken of.
const UNREAD_EXTENSIONS: [&str; 20] = [
    "heic", "heif", "avif", "jxl", "jp2", "j2k", "psd", "ico", "pbm", "pgm", "ppm", "tga", "svg", "raw", "cr2", "cr3",
    "nef", "arw", "dng", "dcm",
];
const CONVERT: &str = "convert it to PNG or JPEG";

/// The format of a file that is read, and what it is called.
///
/// # Errors
/// [`PictureError::Empty`] and [`PictureError::Format`], with the name of what it is where that is known.
pub(super) fn of(bytes: &[u8]) -> Result<(ImageFormat, &'static str), PictureError> {
    let webp = bytes.len() >= 12 && bytes.starts_with(b"RIFF") && &bytes[8..12] == b"WEBP";
    let found = [
        (bytes.starts_with(b"\x89PNG\r\n\x1a\n"), ImageFormat::Png, "PNG"),
        (bytes.starts_with(b"\xff\xd8\xff"), ImageFormat::Jpeg, "JPEG"),
        (bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"), ImageFormat::Gif, "GIF"),
        (webp, ImageFormat::WebP, "WebP"),
        (is_tiff(bytes), ImageFormat::Tiff, "TIFF"),
        (bytes.starts_with(b"BM"), ImageFormat::Bmp, "BMP"),
    ];
    match found.into_iter().find(|(is, ..)| *is) {
        Some((_, format, name)) => match feature(format) {
            Some((feature, false)) => Err(PictureError::Feature { format: name, feature }),
            Some((_, true)) | None => Ok((format, name)),
        },
        None if bytes.is_empty() => Err(PictureError::Empty),
        None => {
            let (found, advice) = unread(bytes);
            Err(PictureError::Format { found, advice })
        }
    }
}

/// How a file of this content is usually called, without a dot; nothing for what is no picture.
pub(in crate::data) fn usual_extension(bytes: &[u8]) -> Option<&'static str> {
    let (format, _) = of(bytes).ok()?;
    match format {
        ImageFormat::Jpeg => Some("jpg"),
        other => other.extensions_str().first().copied(),
    }
}

/// The feature of this crate that a format belongs to, and whether this build has it.
fn feature(format: ImageFormat) -> Option<(&'static str, bool)> {
    match format {
        ImageFormat::Png => None,
        ImageFormat::Jpeg => Some(("jpeg", cfg!(feature = "jpeg"))),
        _ => Some(("formats", cfg!(feature = "formats"))),
    }
}

fn is_tiff(bytes: &[u8]) -> bool {
    let camera = bytes.get(8..10) == Some(b"CR");
    !camera && [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|start| bytes.starts_with(start))
}

/// What another file is, and what can be done about it.
fn unread(bytes: &[u8]) -> (&'static str, &'static str) {
    if bytes.get(4..8) == Some(b"ftyp") {
        return match bytes.get(8..12).unwrap_or_default() {
            b"avif" | b"avis" => ("an AVIF picture", CONVERT),
            b"crx " => ("a camera's raw picture (CR3)", CONVERT),
            b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
                ("a HEIC (HEIF) picture, as phones take them", CONVERT)
            }
            _ => ("a video (MP4 or QuickTime)", "save one of its frames as PNG or JPEG"),
        };
    }
    let text = bytes.iter().position(|byte| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(byte));
    let text = text.map_or(&b""[..], |start| &bytes[start..]);
    let text = text[..text.len().min(1024)].to_ascii_lowercase();
    let has = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    let known: [(bool, &str, &str); 16] = [
        (bytes.starts_with(b"\xff\x0a") || bytes.starts_with(b"\0\0\0\x0cJXL "), "a JPEG XL picture", CONVERT),
        (bytes.starts_with(b"\0\0\0\x0cjP") || bytes.starts_with(b"\xff\x4f\xff\x51"), "a JPEG 2000 picture", CONVERT),
        (bytes.get(8..10) == Some(b"CR"), "a camera's raw picture (CR2)", CONVERT),
        (bytes.starts_with(b"8BPS"), "a Photoshop document", CONVERT),
        (bytes.starts_with(b"%PDF"), "a PDF document", CONVERT),
        (bytes.starts_with(b"\0\0\x01\0"), "an icon (ICO)", CONVERT),
        (bytes.get(128..132) == Some(b"DICM"), "a DICOM picture", CONVERT),
        (bytes.starts_with(b"qoif"), "a QOI picture", CONVERT),
        (bytes.starts_with(b"\x76\x2f\x31\x01"), "an OpenEXR picture", CONVERT),
        (
            bytes.len() > 2 && bytes[0] == b'P' && bytes[1].is_ascii_digit() && bytes[2].is_ascii_whitespace(),
            "a Netpbm picture (PBM, PGM or PPM)",
            CONVERT,
        ),
        (bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x1f\x8b"), "an archive (zip or gzip)", "unpack it"),
        (
            text.starts_with(b"version https://git-lfs"),
            "a pointer of Git LFS",
            "fetch the file itself with git lfs pull",
        ),
        (has(b"<svg"), "an SVG drawing", CONVERT),
        (
            text.starts_with(b"<!doctype html") || text.starts_with(b"<html"),
            "a web page",
            "download the picture itself",
        ),
        (text.starts_with(b"<?xml"), "an XML document", ""),
        (bytes.iter().all(|&byte| byte == 0), "nothing but zeros", "copy it again from where it came from"),
    ];
    known.into_iter().find(|(is, ..)| *is).map_or(("", ""), |(_, found, advice)| (found, advice))
}

/// How a file's name ends, in lower case.
pub(in crate::data) fn extension(name: &std::path::Path) -> Option<String> {
    Some(name.extension()?.to_str()?.to_ascii_lowercase())
}

/// Whether a file of that name is taken for a picture.
pub(in crate::data) fn is_picture(name: &std::path::Path) -> bool {
    extension(name).is_some_and(|extension| EXTENSIONS.contains(&&extension[..]))
}

/// Whether a file of that name is a picture in a format that is not read.
pub(in crate::data) fn is_unread_picture(name: &std::path::Path) -> bool {
    extension(name).is_some_and(|extension| UNREAD_EXTENSIONS.contains(&&extension[..]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let message = |bytes: &[u8]| of(bytes).unwrap_err().to_string();
        assert_eq!(message(b""), "the file is empty");
        assert_eq!(message(b"hello"), "not a PNG, JPEG, WebP, GIF, TIFF or BMP file");
        for (bytes, what) in [
            (&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "it is a HEIC (HEIF) picture, as phones take them: convert"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
            (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
            (b"\n<svg xmlns=", "SVG"),
            (b"<?xml version='1.0'?><svg>", "SVG"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"P6\n3 2\n255\n", "Netpbm"),
            (b"II*\0\x10\0\0\0CR\x02\0", "raw"),
            (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
            (&[0; 50], "zeros"),
        ] {
            assert!(message(bytes).contains(what), "{}", message(bytes));
        }
        assert_eq!(of(b"BM....").unwrap().1, "BMP");
        assert_eq!(of(b"MM\0*....").unwrap().1, "TIFF");
    }

    #[test]
    fn names_of_pictures() {
        for name in ["a/b.JPEG", "a.jfif", "a.tif", "a.GIF"] {
            assert!(is_picture(Path::new(name)), "{name}");
        }
        assert!(!is_picture(Path::new("png")) && !is_picture(Path::new("a.txt")) && !is_picture(Path::new("a.heic")));
        assert!(is_unread_picture(Path::new("a.HEIC")) && !is_unread_picture(Path::new("a.png")));
    }
}
