//! What a file is, told by its first bytes whatever its name: weights in one of two formats, or something else that people
//! have taken for weights.

use std::io::Read;
use std::path::Path;

use super::Format;
use super::problem::Problem;
use super::pytorch;
use crate::data::open;
use crate::{Error, Result};

/// Bytes that tell every kind.
const START: u64 = 512;

/// The format of a file of weights.
///
/// # Errors
/// [`Problem::NotWeights`] for a file that is plainly of another kind, with what to do about it.
pub(super) fn format(path: &Path) -> Result<Format> {
    let mut start = Vec::new();
    open(path)?.0.take(START).read_to_end(&mut start).map_err(Error::io("reading", path))?;
    if pytorch::is_start(&start) {
        return Ok(Format::PyTorch);
    }
    // The length of a header and its brace: a file of 8 bytes may be one that was cut off.
    if start.get(8) == Some(&b'{') && start[3..8] == [0; 5] {
        return Ok(Format::Safetensors);
    }
    Err(other(&start).in_file(path))
}

/// What a file that begins so is, as a problem of whoever wants weights.
pub(super) fn other(start: &[u8]) -> Problem {
    let (found, advice) = kind(start);
    Problem::NotWeights { found, advice }
}

const EXPORT: &str = "load it with the program that wrote it and save its weights as safetensors";
const AGAIN: &str = "download the file again, from the address of the file itself";
const UNPACK: &str = "unpack it first";

/// What begins in which way, and what to do.
const KNOWN: [(&[u8], &str, &str); 29] = [
    (b"version https://git-lfs", "it is a pointer of Git LFS", "fetch the file itself with 'git lfs pull'"),
    (b"version https://hawser", "it is a pointer of Git LFS", "fetch the file itself with 'git lfs pull'"),
    (b"PK\x05\x06", "it is an empty zip archive", AGAIN),
    (b"\x1f\x8b", "it is compressed by gzip", UNPACK),
    (b"BZh", "it is compressed by bzip2", UNPACK),
    (b"\xfd7zXZ\0", "it is compressed by xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "it is a RAR archive", UNPACK),
    (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file, perhaps weights of Keras (.h5)", EXPORT),
    (b"\x93NUMPY", "it is a NumPy array (.npy)", EXPORT),
    (b"GGUF", "it is a GGUF file", EXPORT),
    (b"7767517\n", "it is a network of ncnn (.param)", EXPORT),
    (b"\x89PNG\r\n", "it is a PNG picture", "name a file of weights"),
    (b"\xff\xd8\xff", "it is a JPEG picture", "name a file of weights"),
    (b"GIF8", "it is a GIF picture", "name a file of weights"),
    (b"BM", "it looks like a BMP picture", "name a file of weights"),
    (b"%PDF", "it is a PDF document", AGAIN),
    (b"\x7fELF", "it is a program for Linux", "name a file of weights"),
    (b"MZ", "it looks like a program for Windows", "name a file of weights"),
    (b"#!", "it is a script", "name a file of weights"),
    (b"\xef\xbb\xbf", "it is a text", AGAIN),
    (b"\xff\xfe", "it looks like a text in UTF-16", AGAIN),
    (b"\xfe\xff", "it looks like a text in UTF-16", AGAIN),
    (b"ET12", "it is a program of ExecuTorch (.pte)", EXPORT),
    (b"RIFF", "it is a WebP picture or another medium", "name a file of weights"),
    (b"\x12\x01\0\0\0\0\0\0", "it is a list of MXNet's parameters (.params)", EXPORT),
    (b"BC\xc0\xde", "it is LLVM bitcode", "name a file of weights"),
    (b"SQLite format 3\0", "it is a database of SQLite", "name a file of weights"),
];

/// What a file is that is no weights.
fn kind(start: &[u8]) -> (&'static str, &'static str) {
    if start.is_empty() {
        return ("it is empty", AGAIN);
    }
    if start.iter().all(|&byte| byte == 0) {
        return ("its first bytes are all zero, as a download that was broken off leaves them", AGAIN);
    }
    if let Some((_, found, advice)) = KNOWN.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return (found, advice);
    }
    if start.get(4..8) == Some(b"TFL3") {
        return ("it is a model of TensorFlow Lite (.tflite)", EXPORT);
    }
    if start.get(257..262) == Some(b"ustar") {
        return ("it is a tar archive", UNPACK);
    }
    if is_onnx(start) {
        return ("it is an ONNX model, which brings its own network", "name no network beside it");
    }
    text(start).unwrap_or((
        "its first bytes are not those of safetensors, nor of a file of PyTorch's",
        "it may be damaged or of another program: save the weights as safetensors or with torch.save",
    ))
}

/// Whether a file begins as an ONNX model: the version of its format, and who made it.
pub(crate) fn is_onnx(start: &[u8]) -> bool {
    match *start {
        // Field 1 (ir_version, a small number), then field 2 (producer_name), 5 (model_version), 7 (graph) or 8 (opset).
        [0x08, version, next, ..] => version < 32 && [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42].contains(&next),
        _ => false,
    }
}

/// What kind of text a file is, if it is one.
fn text(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let is_text = |&byte: &u8| byte >= b' ' && byte != 0x7f || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    if !start.iter().all(is_text) {
        return None;
    }
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    let has = |word: &str| text.contains(word);
    Some(match text.as_bytes().first() {
        Some(b'<') if has("<html") || has("<!doctype") || has("<head") => {
            ("it is a web page, perhaps of a download that failed", AGAIN)
        }
        Some(b'<') if has("<net ") => ("it is a network of OpenVINO (.xml), without its weights", EXPORT),
        Some(b'<') => ("it is XML, perhaps the message of a download that failed", AGAIN),
        Some(b'{') if has("weight_map") => (
            "it is the index of weights in several files (.safetensors.index.json)",
            "name one of these files, or save them as one",
        ),
        Some(b'{' | b'[') => ("it is JSON, perhaps a configuration or the message of a download that failed", AGAIN),
        _ => ("it is a text", AGAIN),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &[u8]) -> Result<Format> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.pth");
        std::fs::write(&path, content).unwrap();
        format(&path)
    }

    #[test]
    fn other_kinds_of_files_are_named_with_what_to_do() {
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar\x0000");
        for (content, found, advice) in [
            (&b""[..], "it is empty", "download"),
            (b" \n<!DOCTYPE html><html><body>Quota exceeded</body></html>", "web page", "download"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML", "download"),
            (b"{\"message\": \"Not Found\"}", "JSON", "download"),
            (b"{\"metadata\": {}, \"weight_map\": {\"a\": \"b\"}}", "several files", "one of these"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS", "git lfs pull"),
            (b"\x1f\x8b\x08\0", "gzip", "unpack"),
            (&tar, "tar", "unpack"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5", "safetensors"),
            (b"\x08\x08\x12\x07pytorch\x1a\x05", "ONNX", "no network"),
            (b"\x1c\0\0\0TFL3\0\0", "TensorFlow Lite", "safetensors"),
            (b"\x93NUMPY\x01\0", "NumPy", "safetensors"),
            (b"\x89PNG\r\n\x1a\n", "PNG", "weights"),
            (b"Not Found\n", "text", "download"),
            (&[0; 100], "all zero", "download"),
            (b"\x7f\0\0\0\0\0\0\0\0\0", "not those of safetensors", "torch.save"),
        ] {
            let error = of(content).unwrap_err();
            let Error::Weights { file: Some(_), problem } = &error else { panic!("{error}") };
            assert!(matches!(**problem, Problem::NotWeights { .. }));
            let message = error.to_string();
            assert!(message.contains("some.pth: not weights: ") && message.contains(found), "{message}");
            assert!(message.split_once("; ").is_some_and(|(_, rest)| rest.contains(advice)), "{message}");
        }
    }

    #[test]
    fn weights_are_told_by_content() {
        assert_eq!(of(b"\x10\0\0\0\0\0\0\0{}").unwrap(), Format::Safetensors);
        assert_eq!(of(b"PK\x03\x04").unwrap(), Format::PyTorch);
        assert_eq!(of(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j").unwrap(), Format::PyTorch);
    }
}
