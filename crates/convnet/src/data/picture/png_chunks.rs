//! What is wrong with a PNG file beside its pixels, as libpng would warn of it: chunks that nobody must understand
//! (ancillary ones) with a wrong checksum, and no end. Damaged pixels are the decoder's to find.

use std::borrow::Cow;

use flate2::Crc;

const SIGNATURE: usize = 8;
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// The file with an end, and what is wrong with it.
pub(super) fn checked(bytes: &[u8]) -> (Cow<'_, [u8]>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut at = SIGNATURE;
    while let Some(chunk) = bytes.get(at..).filter(|rest| rest.len() >= 12) {
        let length = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]) as usize;
        let Some(content) = chunk.get(4..8 + length) else { break };
        let Some(&[a, b, c, d]) = chunk.get(8 + length..12 + length) else { break };
        let name = &content[..4];
        if name == b"IEND" {
            return (Cow::Borrowed(bytes), warnings);
        }
        if name[0].is_ascii_lowercase() {
            let mut crc = Crc::new();
            crc.update(content);
            if crc.sum() != u32::from_be_bytes([a, b, c, d]) {
                warnings.push(format!("a wrong checksum of its chunk {}", name.escape_ascii()));
            }
        }
        at += 12 + length;
    }
    // Cut within a chunk: that is the decoder's error. Cut between two, all pixels may be there.
    match at == bytes.len() {
        true => {
            warnings.push("no end (IEND): perhaps cut short".to_owned());
            (Cow::Owned([bytes, END].concat()), warnings)
        }
        false => (Cow::Borrowed(bytes), warnings),
    }
}
