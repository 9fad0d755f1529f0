//! TensorBoard's event files: a TFRecord for each event, which is a protocol-buffers message. Of those this writes the few
//! fields that a scalar needs.
//!
//! Sources: `tensorflow/core/util/event.proto` and `framework/summary.proto` (fields and their numbers),
//! `tensorflow/core/lib/io/record_writer.h` (a record is its length, that length's checksum, the data and their checksum),
//! `core/lib/hash/crc32c.h` (how checksums are masked), and the protocol-buffers encoding guide.
//!
//! A file is a function of when it was begun and of the epochs, so an epoch is added to it, and a run that goes on from an
//! earlier checkpoint begins it again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::EpochMetrics;
use crate::files::disk::DiskFile;
use crate::files::write_atomic;
use crate::{Error, Result};

/// Begins the name of an event file; the seconds since 1970 at which it was begun follow.
const PREFIX: &str = "events.out.tfevents.";
/// Ends it, where TensorFlow has the name of the machine.
const SUFFIX: &str = ".convnet";

/// A scalar: what it is called, and what it is after an epoch.
type Scalar = (&'static str, fn(&EpochMetrics) -> Option<f64>);

/// The scalars of an epoch. `train` is found while it is learned from, `train_eval` on a sample after the epoch, as `val` is.
const SCALARS: [Scalar; 11] = [
    ("loss/train", |epoch| Some(epoch.train_loss)),
    ("loss/val", |epoch| epoch.val_loss),
    ("accuracy/train", |epoch| Some(epoch.train_accuracy)),
    ("accuracy/val", |epoch| epoch.val_accuracy),
    ("loss/train_eval", |epoch| epoch.train_eval_loss),
    ("accuracy/train_eval", |epoch| epoch.train_eval_accuracy),
    ("lr", |epoch| epoch.lr),
    ("grad_norm", |epoch| epoch.grad_norm),
    ("time/seconds", |epoch| Some(epoch.seconds)),
    ("time/images_per_second", |epoch| epoch.images_per_second),
    ("time/data_wait", |epoch| Some(epoch.data_wait)),
];

/// Brings the event file of a run's folder to these epochs: their scalars ([`SCALARS`]), whose step is the epoch. An event's time is
/// when the file was begun and the time that training has taken.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read, or the file not written.
pub(super) fn write_events(folder: &Path, epochs: &[EpochMetrics]) -> Result<()> {
    let (path, start) = event_file(folder)?;
    let content = events(start, epochs, &SCALARS);
    let before = if path.exists() { fs::read(&path).map_err(Error::io("reading", &path))? } else { Vec::new() };
    match content.strip_prefix(&before[..]).filter(|_| !before.is_empty()) {
        // A TensorBoard that looks on keeps the file open.
        Some(new) => {
            let append = || {
                let mut file = DiskFile::open(File::options().append(true), &path)?;
                file.write_all(new)?;
                file.sync()
            };
            append().map_err(Error::io("writing", &path))
        }
        None => write_atomic(&path, |out| out.write_all(&content)),
    }
}

/// The folder's event file and when it was begun: the one that is there, or one that begins now.
fn event_file(folder: &Path) -> Result<(PathBuf, u64)> {
    for entry in fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let name = entry.map_err(Error::io("reading", folder))?.file_name();
        let start = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok());
        if let Some(start) = start {
            return Ok((folder.join(name), start));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok((folder.join(format!("{PREFIX}{now}{SUFFIX}")), now))
}

/// The whole content of a file that was begun so many seconds after 1970, with these scalars.
fn events(start: u64, epochs: &[EpochMetrics], scalars: &[Scalar]) -> Vec<u8> {
    let mut time = start as f64;
    let mut file = record(&event(time, 0, 3, b"brain.Event:2"));
    for epoch in epochs {
        time += epoch.seconds;
        let values: Vec<u8> = scalars
            .iter()
            .filter_map(|(tag, value)| Some(value_of(tag, value(epoch)?)))
            .flat_map(|value| field(1, &value))
            .collect();
        file.extend(record(&event(time, epoch.epoch as u64, 5, &values)));
    }
    file
}

/// `Event`: wall time (1, double), step (2, int64), and what happened, in a field of its own.
fn event(time: f64, step: u64, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut message = vec![1 << 3 | 1];
    message.extend(time.to_le_bytes());
    if step > 0 {
        message.push(2 << 3);
        message.extend(varint(step));
    }
    message.extend(field(kind, content));
    message
}

/// `Summary.Value`: tag (1, string) and simple value (2, float).
fn value_of(tag: &str, value: f64) -> Vec<u8> {
    let mut message = field(1, tag.as_bytes());
    message.push(2 << 3 | 5);
    message.extend((value as f32).to_le_bytes());
    message
}

/// A field of bytes: a string or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    field.extend(varint(content.len() as u64));
    field.extend(content);
    field
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// The checksum of bytes that may themselves hold checksums.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli): polynomial 0x1edc6f41, bits reflected (RFC 3720, appendix B.4, has test vectors).
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| bit(crc)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn epoch(epoch: usize) -> EpochMetrics {
        let line = json!({
            "epoch": epoch, "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": 0.25, "val_accuracy": 0.875,
            "seconds": 1.5,
        });
        serde_json::from_value(line).unwrap()
    }

    /// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    #[test]
    fn checksums_of_the_rfc() {
        let ascending: Vec<u8> = (0..32).collect();
        let found = [&[0; 32][..], &[0xff; 32], &ascending, b"123456789"].map(crc32c);
        assert_eq!(found, [0x8a91_36aa, 0x62a8_ab43, 0x46dd_794e, 0xe306_9283]);
    }

    /// The bytes that tests/golden/tensorboard.py writes with TensorBoard's own protocol buffers and record writer.
    #[test]
    fn bytes_are_tensorboards() {
        let hex: String = events(1_700_000_000, &[epoch(1), epoch(300)], &SCALARS[..4])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32eced8f9d5d00000000000000\
        615bbbb90900006040fc54d94110012a500a110a0a6c6f73732f747261696e150000003f0a0f0a086c6f73732f76616c\
        150000803e0a150a0e61636375726163792f747261696e150000403f0a130a0c61636375726163792f76616c15000060\
        3f7a6602705e00000000000000d8b06ebc090000c040fc54d94110ac022a500a110a0a6c6f73732f747261696e150000\
        003f0a0f0a086c6f73732f76616c150000803e0a150a0e61636375726163792f747261696e150000403f0a130a0c6163\
        6375726163792f76616c150000603f3dece8cd";

    #[test]
    fn what_was_measured_is_there_under_its_name() {
        let tags = |epoch: EpochMetrics| {
            let file = events(0, &[epoch], &SCALARS);
            let has = |tag: &str| file.windows(tag.len() + 2).any(|bytes| bytes == field(1, tag.as_bytes()));
            SCALARS.iter().map(|(tag, _)| *tag).filter(|tag| has(tag)).collect::<Vec<_>>()
        };
        assert_eq!(
            tags(epoch(1)),
            ["loss/train", "loss/val", "accuracy/train", "accuracy/val", "time/seconds", "time/data_wait"]
        );
        let some = Some(0.5);
        let all =
            EpochMetrics { train_eval_loss: some, train_eval_accuracy: some, lr: some, grad_norm: some, ..epoch(1) };
        assert_eq!(tags(EpochMetrics { images_per_second: some, ..all }).len(), SCALARS.len());
    }

    #[test]
    fn epochs_are_added_and_a_file_that_went_another_way_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        let read = || {
            let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(names.len(), 1, "{names:?}");
            fs::read(&names[0]).unwrap()
        };
        write_events(folder.path(), &[epoch(1)]).unwrap();
        let first = read();
        write_events(folder.path(), &[epoch(1), epoch(2)]).unwrap();
        let second = read();
        assert!(second.starts_with(&first) && second.len() > first.len());
        write_events(folder.path(), &[epoch(1)]).unwrap();
        assert_eq!(read(), first);
        write_events(folder.path(), &[epoch(1), EpochMetrics { val_loss: None, ..epoch(2) }]).unwrap();
        assert!(read().len() < second.len() && read().starts_with(&first));
    }
}
