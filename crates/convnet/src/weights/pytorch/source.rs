//! The bytes of a file, of which any stretch can be read, but none beyond its end.

use std::io::{Read, Seek, SeekFrom};

use super::pickle::Problem;

/// A file of known length.
pub(super) struct Source<R> {
    reader: R,
    length: u64,
}

impl<R: Read + Seek> Source<R> {
    pub(super) fn new(reader: R, length: u64) -> Source<R> {
        Source { reader, length }
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// `count` bytes from byte `start` on. Memory is asked for only when the file has that many.
    pub(super) fn read(&mut self, start: u64, count: u64) -> Result<Vec<u8>, Problem> {
        let end = start.checked_add(count).filter(|&end| end <= self.length);
        let (Some(_), Ok(count)) = (end, usize::try_from(count)) else {
            let length = self.length;
            return Err(format!("truncated: expected {count} bytes from byte {start} on, the file has {length}"));
        };
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(count).map_err(|_| format!("{count} bytes do not fit into memory"))?;
        bytes.resize(count, 0);
        let read = self.reader.seek(SeekFrom::Start(start)).and_then(|_| self.reader.read_exact(&mut bytes));
        read.map_err(|error| format!("reading from byte {start} on: {error}"))?;
        Ok(bytes)
    }
}

/// The little-endian number of `length` bytes, at most 8, at `start`; `bytes` must have them.
pub(super) fn le(bytes: &[u8], start: usize, length: usize) -> u64 {
    bytes[start..start + length].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
