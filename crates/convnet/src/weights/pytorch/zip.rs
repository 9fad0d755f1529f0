//! The zip archive of a PyTorch file, read from its central directory at the end. PyTorch stores entries uncompressed;
//! whoever unpacks a file and zips it again compresses them, so deflated entries are read, too, up to a limit on how much all
//! of them grow. An encrypted entry is not read. An archive is refused when entries overlap, leave the file, share a name,
//! or have two sizes.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::pickle::Problem;
use super::source::{Source, le};
use crate::weights::printable;

/// With which each kind of record begins.
pub(super) const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
pub(super) const DIRECTORY_HEADER: &[u8] = b"PK\x01\x02";
pub(super) const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
/// Bytes of a local header, a directory header and an end record without what follows them.
pub(super) const LOCAL_LEN: u64 = 30;
const DIRECTORY_LEN: usize = 46;
const END_LEN: u64 = 22;
const END_64_LEN: u64 = 56;
const LOCATOR_64_LEN: u64 = 20;
/// In place of a size or offset that stands in the extra field of 64-bit numbers.
const ELSEWHERE: u64 = 0xffff_ffff;
/// Number of that extra field.
const EXTRA_64: u64 = 1;
/// Flags of an entry.
const ENCRYPTED: u64 = 1;
/// The sizes stand behind the data instead of before it.
const SIZES_FOLLOW: u64 = 1 << 3;
/// Methods of compression.
const STORED: u64 = 0;
const DEFLATED: u64 = 8;
/// Most bytes that all entries together may have for each byte of the file, and beyond that: what is zipped again of
/// weights takes 0.5 to 0.95 of their bytes, and a pickle a tenth.
const MAX_GROWTH: u64 = 16;
const ALWAYS: u64 = 16 << 20;
/// Largest directory that is read.
const MAX_DIRECTORY: u64 = 8 << 20;

/// Where an entry's data lies, and what it says of itself.
#[derive(Debug)]
struct Entry {
    /// Where the local header begins, later the data.
    start: u64,
    /// Bytes in the file.
    packed: u64,
    /// Bytes of what it holds.
    size: u64,
    crc: u32,
    flags: u64,
    /// How it is compressed, 0 for not at all.
    method: u64,
}

/// An archive whose entries are known to lie apart from each other within the file.
#[derive(Debug)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    pub(super) fn open<R: Read + Seek>(source: &mut Source<R>) -> Result<Archive, Problem> {
        let (directory, count) = find_directory(source)?;
        let bytes = source.read(directory.start, directory.end - directory.start)?;
        let mut listed = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            listed.push(next_entry(&mut rest)?);
        }
        if listed.len() as u64 != count {
            return Err(format!("the zip directory says {count} entries, but lists {}", listed.len()));
        }
        listed.sort_by_key(|(_, entry)| entry.start);
        // Each entry must end before the next one begins, the last one before the directory.
        let next = listed.iter().skip(1).map(|(_, entry)| entry.start).chain([directory.start]).collect::<Vec<_>>();
        let mut entries = BTreeMap::new();
        for ((name, mut entry), next) in listed.into_iter().zip(next) {
            entry.start = data_start(source, &name, &entry)?;
            if entry.start.checked_add(entry.packed).is_none_or(|end| end > next) {
                return Err(format!("zip entry '{}' overlaps what follows it", printable(&name)));
            }
            if entries.contains_key(&name) {
                return Err(format!("two zip entries are called '{}'", printable(&name)));
            }
            entries.insert(name, entry);
        }
        let archive = Archive { entries };
        let (size, most) = (archive.total_size(), source.length().saturating_mul(MAX_GROWTH).saturating_add(ALWAYS));
        match size > most {
            true => Err(format!("a zip archive of entries of {size} bytes: expected at most {most} in such a file")),
            false => Ok(archive),
        }
    }

    /// Bytes of all entries together.
    pub(super) fn total_size(&self) -> u64 {
        self.entries.values().fold(0, |sum, entry| entry.size.saturating_add(sum))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Bytes of an entry, if there is one of that name.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        Some(self.entries.get(name)?.size)
    }

    /// An entry's data, whose size the file bounds.
    pub(super) fn read<R: Read + Seek>(&self, source: &mut Source<R>, name: &str) -> Result<Vec<u8>, Problem> {
        let entry = self.entries.get(name).ok_or_else(|| format!("expected a zip entry '{}'", printable(name)))?;
        if entry.flags & ENCRYPTED != 0 {
            return Err(format!(
                "zip entry '{}' is encrypted: unpack it and zip it without a password",
                printable(name)
            ));
        }
        let data = source.read(entry.start, entry.packed)?;
        let data = match entry.method {
            STORED => data,
            DEFLATED => inflate(&data, entry.size)
                .ok_or_else(|| format!("damaged: zip entry '{}' cannot be unpacked", printable(name)))?,
            method => {
                let name = printable(name);
                return Err(format!("zip entry '{name}' is compressed by method {method}: expected none, or deflate"));
            }
        };
        // PyTorch can be told to leave the checksums out: they are 0 then.
        let mut crc = Crc::new();
        crc.update(&data);
        if entry.crc != 0 && crc.sum() != entry.crc {
            return Err(format!("damaged: zip entry '{}' does not match its checksum", printable(name)));
        }
        Ok(data)
    }
}

/// Deflated data, which must give exactly so many bytes.
fn inflate(packed: &[u8], size: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(size).ok()?;
    let mut data = Vec::new();
    data.try_reserve_exact(length).ok()?;
    DeflateDecoder::new(packed).take(size.saturating_add(1)).read_to_end(&mut data).ok()?;
    (data.len() == length).then_some(data)
}

/// The directory's place and its number of entries, from the record at the file's end.
fn find_directory<R: Read + Seek>(source: &mut Source<R>) -> Result<(std::ops::Range<u64>, u64), Problem> {
    let no_end = || "truncated: a zip archive must end with its directory".to_owned();
    let at = source.length().checked_sub(END_LEN).ok_or_else(no_end)?;
    let end = source.read(at, END_LEN)?;
    if !end.starts_with(END) || le(&end, 20, 2) != 0 {
        return Err(no_end());
    }
    let (mut count, mut size, mut start) = (le(&end, 10, 2), le(&end, 12, 4), le(&end, 16, 4));
    let mut limit = at;
    if let Some(at) = at.checked_sub(LOCATOR_64_LEN + END_64_LEN) {
        let mut record = source.read(at, END_64_LEN + LOCATOR_64_LEN)?;
        let locator = record.split_off(END_64_LEN as usize);
        if locator.starts_with(LOCATOR_64) {
            if !record.starts_with(END_64) || le(&locator, 8, 8) != at {
                return Err("the zip directory's 64-bit record is not where it should be".into());
            }
            (count, size, start) = (le(&record, 32, 8), le(&record, 40, 8), le(&record, 48, 8));
            limit = at;
        }
    }
    if start.checked_add(size) != Some(limit) || size > MAX_DIRECTORY {
        return Err(format!(
            "a zip directory of {size} bytes at byte {start}: expected at most {MAX_DIRECTORY}, up to byte {limit}"
        ));
    }
    Ok((start..limit, count))
}

/// The next entry of the directory: its name, and its place, the local header's so far.
fn next_entry(rest: &mut &[u8]) -> Result<(String, Entry), Problem> {
    let damaged = || "the zip directory is damaged".to_owned();
    let header = rest.split_off(..DIRECTORY_LEN).filter(|header| header.starts_with(DIRECTORY_HEADER));
    let header = header.ok_or_else(damaged)?;
    let mut field = |at| rest.split_off(..le(header, at, 2) as usize).ok_or_else(damaged);
    let (name, extra, _comment) = (field(28)?, field(30)?, field(32)?);
    let name = str::from_utf8(name).map_err(|_| "a zip entry whose name is not UTF-8".to_owned())?;
    let (flags, method) = (le(header, 8, 2), le(header, 10, 2));
    let mut long = extra_64(extra).into_iter().flat_map(|extra| extra.as_chunks::<8>().0);
    let mut number = |at| match le(header, at, 4) {
        ELSEWHERE => long.next().map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(damaged),
        number => Ok(number),
    };
    let (size, packed, start) = (number(24)?, number(20)?, number(42)?);
    if method == STORED && size != packed {
        return Err(format!("zip entry '{}' says {packed} bytes and {size} bytes", printable(name)));
    }
    Ok((name.to_owned(), Entry { start, packed, size, crc: le(header, 16, 4) as u32, flags, method }))
}

/// The extra field that holds numbers of 64 bits.
fn extra_64(mut extra: &[u8]) -> Option<&[u8]> {
    while let Some(header) = extra.split_off(..4) {
        let field = extra.split_off(..le(header, 2, 2) as usize)?;
        if le(header, 0, 2) == EXTRA_64 {
            return Some(field);
        }
    }
    None
}

/// Where an entry's data begins, once its local header is known to agree with the directory.
fn data_start<R: Read + Seek>(source: &mut Source<R>, name: &str, entry: &Entry) -> Result<u64, Problem> {
    let lies = || format!("zip entry '{}': its own header says something else than the directory", printable(name));
    let header = source.read(entry.start, LOCAL_LEN)?;
    let own_name = source.read(entry.start + LOCAL_LEN, le(&header, 26, 2))?;
    let agrees = |own, size| own == size || own == ELSEWHERE || own == 0 && entry.flags & SIZES_FOLLOW != 0;
    let same = header.starts_with(LOCAL_HEADER)
        && le(&header, 6, 2) == entry.flags
        && le(&header, 8, 2) == entry.method
        && own_name == name.as_bytes()
        && agrees(le(&header, 18, 4), entry.packed)
        && agrees(le(&header, 22, 4), entry.size);
    if !same {
        return Err(lies());
    }
    Ok(entry.start + LOCAL_LEN + le(&header, 26, 2) + le(&header, 28, 2))
}
