//! Small pictures inside a page: PNG in base64 (RFC 4648, section 4).

/// A PNG file of RGB pixels as a `data:` address.
pub(super) fn png([width, height]: [usize; 2], rgb: &[u8]) -> String {
    let mut file = Vec::new();
    // Writing to memory fails for wrong sizes alone, which would be an error of the caller.
    let encoded = encode(&mut file, [width as u32, height as u32], rgb);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    format!("data:image/png;base64,{}", base64(&file))
}

fn encode(file: &mut Vec<u8>, [width, height]: [u32; 2], rgb: &[u8]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

/// Base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().enumerate().fold(0_u32, |word, (i, &byte)| word | u32::from(byte) << (16 - 8 * i));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn test_vectors_of_the_rfc() {
        for (bytes, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn pictures_are_png_files() {
        assert!(png([2, 1], &[1, 2, 3, 4, 5, 6]).starts_with("data:image/png;base64,iVBORw0KGgo"));
    }
}
