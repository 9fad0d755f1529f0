//! Pictures that stay compressed, in files of their own, within an archive, or as such files in memory, until they are wanted.
//! A picture takes 16 bytes beside its label; those in files of their own also their path.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::picture::{self, PictureError, Whole};
use super::{TargetSize, open};
use crate::{Error, Result};

/// Bytes of a picture's file in which its header is looked for before the whole is read.
const HEAD: usize = 32 << 10;
/// A piece of memory for unpacked files is full beyond so many bytes.
const PIECE: usize = 64 << 20;
/// So many damaged pictures are described.
const DESCRIBED: usize = 1000;

/// Where the file of a picture lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The first byte in its place, or the number of its path.
    pub(super) start: u64,
    /// Bytes; 0 for files of their own.
    pub(super) length: u32,
    /// Number of the place.
    pub(super) place: u32,
}

impl Item {
    /// A picture that is known to be there, but whose file nobody will ask for.
    pub(super) const ABSENT: Item = Item { start: 0, length: 0, place: u32::MAX };
}

/// What holds the files of pictures.
#[derive(Debug)]
enum Place {
    /// The file system.
    Paths(Vec<Box<Path>>),
    /// A tar that is not compressed. Items begin after their header.
    Tar(PathBuf),
    /// A zip, of which the items are stored or deflated. They begin with their local header.
    Zip { path: PathBuf, deflated: bool },
    /// What a compressed archive unpacks to. Before each file stand its name and the length of that in two bytes.
    Memory { archive: PathBuf, bytes: Vec<u8> },
}

/// The places of the files of pictures.
#[derive(Debug, Default)]
pub(crate) struct Files {
    places: Vec<Place>,
}

impl Files {
    /// Adds a file of its own.
    pub(super) fn add_path(&mut self, path: &Path) -> Item {
        if !matches!(self.places.last(), Some(Place::Paths(_))) {
            self.places.push(Place::Paths(Vec::new()));
        }
        let place = self.places.len() as u32 - 1;
        let Some(Place::Paths(paths)) = self.places.last_mut() else {
            return Item { start: 0, length: 0, place };
        };
        paths.push(path.into());
        Item { start: paths.len() as u64 - 1, length: 0, place }
    }

    /// Adds a tar, whose items the caller knows. Says its number.
    pub(super) fn add_tar(&mut self, path: &Path) -> u32 {
        self.places.push(Place::Tar(path.into()));
        self.places.len() as u32 - 1
    }

    /// Adds a zip for its stored or deflated items, which the caller knows. Says its number.
    pub(super) fn add_zip(&mut self, path: &Path, deflated: bool) -> u32 {
        self.places.push(Place::Zip { path: path.into(), deflated });
        self.places.len() as u32 - 1
    }

    /// Adds the content of a file of an archive; nothing when it is larger than any picture, or there is no memory for it.
    pub(super) fn add_bytes(&mut self, archive: &Path, name: &Path, content: &[u8]) -> Option<Item> {
        let length = u32::try_from(content.len()).ok()?;
        if !matches!(self.places.last(), Some(Place::Memory { bytes, .. }) if bytes.len() < PIECE) {
            self.places.push(Place::Memory { archive: archive.into(), bytes: Vec::new() });
        }
        let place = self.places.len() as u32 - 1;
        let Some(Place::Memory { bytes, .. }) = self.places.last_mut() else { return None };
        let name = name.to_string_lossy();
        let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        bytes.try_reserve(name.len() + size_of::<u16>() + content.len()).ok()?;
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        let start = bytes.len() as u64;
        bytes.extend_from_slice(content);
        Some(Item { start, length, place })
    }

    /// Whether the content of some of them is in memory.
    pub(super) fn are_in_memory(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Memory { .. }))
    }

    /// The path of a file of its own.
    pub(super) fn path(&self, item: Item) -> Option<&Path> {
        match &self.places[item.place as usize] {
            Place::Paths(paths) => paths.get(item.start as usize).map(|path| &**path),
            Place::Tar(_) | Place::Zip { .. } | Place::Memory { .. } => None,
        }
    }

    /// What a picture is called in messages.
    pub(crate) fn name(&self, item: Item) -> String {
        self.name_of(item, &mut Opened::default())
    }

    /// The same for one of many pictures: the archive of the one before stays open.
    pub(super) fn name_of(&self, item: Item, opened: &mut Opened) -> String {
        let (archive, name) = match &self.places[item.place as usize] {
            Place::Paths(paths) => return paths[item.start as usize].display().to_string(),
            Place::Memory { archive, bytes } => {
                let end = item.start as usize - 2;
                let length = usize::from(u16::from_le_bytes([bytes[end], bytes[end + 1]]));
                (archive, Ok(String::from_utf8_lossy(&bytes[end - length..end]).into_owned()))
            }
            Place::Zip { path, .. } => {
                (path, opened.file(item.place, path).and_then(|file| name_in_zip(file, item.start)))
            }
            Place::Tar(path) => (path, opened.file(item.place, path).and_then(|file| name_in_tar(file, item))),
        };
        archive.join(name.unwrap_or_else(|_| format!("byte {}", item.start))).display().to_string()
    }

    /// Reads the content of a picture's file.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Picture`] for one that is too large.
    pub(crate) fn read(&self, item: Item, content: &mut Vec<u8>) -> Result<()> {
        content.clear();
        match &self.places[item.place as usize] {
            Place::Paths(paths) => picture::read_into(&paths[item.start as usize], content),
            Place::Tar(path) => {
                content.resize(item.length as usize, 0);
                File::open(path)
                    .and_then(|file| read_at(&file, item.start, content))
                    .map_err(Error::io("reading", path))
            }
            Place::Zip { path, deflated } => self.read_zipped(item, path, *deflated, content),
            Place::Memory { bytes, .. } => {
                content.extend_from_slice(&bytes[item.start as usize..][..item.length as usize]);
                Ok(())
            }
        }
    }

    fn read_zipped(&self, item: Item, path: &Path, deflated: bool, content: &mut Vec<u8>) -> Result<()> {
        let mut packed = Vec::new();
        let stored = if deflated { &mut packed } else { &mut *content };
        stored.resize(item.length as usize, 0);
        let mut read = || {
            let file = File::open(path)?;
            let start = item.start + zip_header(&file, item.start)?.iter().sum::<u64>();
            read_at(&file, start, stored)?;
            zip_checksum(&file, item, start)
        };
        let checksum = read().map_err(Error::io("reading", path))?;
        if deflated {
            let unpacked = DeflateDecoder::new(&packed[..]).take(picture::MAX_BYTES + 1).read_to_end(content);
            let reason = |error: io::Error| PictureError::Undecodable { format: "deflate", reason: error.to_string() };
            unpacked.map_err(|error| self.named(item, reason(error)))?;
            picture::check_bytes(content.len() as u64).map_err(|problem| self.named(item, problem))?;
        }
        let mut crc = Crc::new();
        crc.update(content);
        match crc.sum() == checksum {
            true => Ok(()),
            false => {
                let reason = "its checksum is another: the archive is damaged".to_owned();
                Err(self.named(item, PictureError::Undecodable { format: "an entry of a zip archive", reason }))
            }
        }
    }

    /// Reads the beginning of a picture's file. Says whether that is all of it.
    fn read_head(&self, item: Item, content: &mut Vec<u8>) -> Result<bool> {
        match &self.places[item.place as usize] {
            Place::Paths(paths) => {
                let path = &*paths[item.start as usize];
                let (file, size) = open(path)?;
                content.clear();
                file.take(HEAD as u64).read_to_end(content).map_err(Error::io("reading", path))?;
                Ok(size <= HEAD as u64)
            }
            Place::Zip { .. } => self.read(item, content).map(|()| true),
            Place::Tar(_) | Place::Memory { .. } => {
                let length = item.length.min(HEAD as u32);
                self.read(Item { length, ..item }, content)?;
                Ok(length == item.length)
            }
        }
    }

    /// Channels, height and width of a picture, as its header says.
    ///
    /// # Errors
    /// A file that cannot be read, or is no picture.
    pub(super) fn shape(&self, item: Item, content: &mut Vec<u8>) -> Result<[usize; 3]> {
        let is_whole = self.read_head(item, content)?;
        match picture::shape(content) {
            Err(_) if !is_whole => {
                self.read(item, content)?;
                picture::shape(content)
            }
            found => found,
        }
        .map_err(|problem| self.named(item, problem))
    }

    /// A problem with a picture, with its name.
    pub(super) fn named(&self, item: Item, problem: PictureError) -> Error {
        Error::Picture { name: self.name(item), problem }
    }
}

/// The archive of a picture whose name was asked for, with the number of its place.
#[derive(Default)]
pub(super) struct Opened(Option<(u32, File)>);

impl Opened {
    /// The archive of a place, which is opened unless it is the same as before.
    fn file(&mut self, place: u32, path: &Path) -> io::Result<&File> {
        if self.0.as_ref().is_none_or(|(before, _)| *before != place) {
            self.0 = Some((place, File::open(path)?));
        }
        self.0.as_ref().map(|(_, file)| file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Fills a buffer from a place in a file. Threads do not disturb each other.
#[cfg(unix)]
pub(crate) fn read_at(file: &File, start: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, start)
}

/// As above: each read says where it begins.
#[cfg(windows)]
pub(crate) fn read_at(file: &File, mut start: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, start) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                let all = buffer;
                buffer = &mut all[count..];
                start += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes of a zip entry's local header, of the name behind it and of what follows that.
fn zip_header(file: &File, start: u64) -> io::Result<[u64; 3]> {
    let mut header = [0; 30];
    read_at(file, start, &mut header)?;
    let length = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
    match header.starts_with(b"PK\x03\x04") {
        true => Ok([header.len() as u64, length(26), length(28)]),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "the zip archive has changed")),
    }
}

/// The checksum of an entry's content, whose data begin at `start`: in the local header, or behind the data, where the header was
/// written before it was known (APPNOTE 4.3.9).
fn zip_checksum(file: &File, item: Item, start: u64) -> io::Result<u32> {
    let mut header = [0; 18];
    read_at(file, item.start, &mut header)?;
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte));
    if header[6] & 8 == 0 {
        return Ok(number(&header[14..18]));
    }
    let mut descriptor = [0; 8];
    read_at(file, start + u64::from(item.length), &mut descriptor)?;
    match descriptor.starts_with(b"PK\x07\x08") {
        true => Ok(number(&descriptor[4..])),
        false => Ok(number(&descriptor[..4])),
    }
}

fn name_in_zip(file: &File, start: u64) -> io::Result<String> {
    let [header, name, _] = zip_header(file, start)?;
    let mut bytes = vec![0; name as usize];
    read_at(file, start + header, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The name in the header before a tar's item; one of over 100 letters may be cut short.
fn name_in_tar(file: &File, item: Item) -> io::Result<String> {
    let mut header = tar::Header::new_old();
    let start = item.start.checked_sub(header.as_bytes().len() as u64).ok_or(io::ErrorKind::InvalidData)?;
    read_at(file, start, header.as_mut_bytes())?;
    Ok(header.path()?.to_string_lossy().into_owned())
}

/// A bit for each picture, which threads set.
#[derive(Debug)]
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(count: usize) -> Bits {
        Bits((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64].load(Relaxed) >> (index % 64) & 1 == 1
    }

    /// Sets a bit. Says whether it was set before.
    fn set(&self, index: usize) -> bool {
        self.0[index / 64].fetch_or(1 << (index % 64), Relaxed) >> (index % 64) & 1 == 1
    }
}

/// What was learned of pictures as they were decoded.
#[derive(Debug)]
struct Noted {
    /// Decoded without a warning: damage, which takes time to find, need not be looked for again.
    sound: Bits,
    damaged: Bits,
    /// Descriptions that nobody has taken yet.
    untold: Mutex<Vec<String>>,
}

/// Pictures that are decoded when they are wanted.
#[derive(Clone)]
pub(super) struct Stored {
    files: Arc<Files>,
    items: Vec<Item>,
    noted: Arc<Noted>,
}

impl Stored {
    pub(super) fn new(files: Arc<Files>, items: Vec<Item>) -> Stored {
        let (sound, damaged) = (Bits::new(items.len()), Bits::new(items.len()));
        Stored { files, items, noted: Arc::new(Noted { sound, damaged, untold: Mutex::default() }) }
    }

    /// Those of its pictures that a mask has, or has not.
    pub(super) fn part(&self, mask: &[bool], wanted: bool) -> Stored {
        let items = self.items.iter().zip(mask).filter(|&(_, &is)| is == wanted).map(|(&item, _)| item);
        Stored::new(Arc::clone(&self.files), items.collect())
    }

    /// Its first pictures.
    pub(super) fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Channels, height and width of a picture, as its header says.
    ///
    /// # Errors
    /// As [`Files::shape`].
    pub(super) fn shape(&self, index: usize, content: &mut Vec<u8>) -> Result<[usize; 3]> {
        self.files.shape(self.items[index], content)
    }

    /// Reads the content of a picture's file.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub(super) fn read(&self, index: usize, content: &mut Vec<u8>) -> Result<()> {
        self.files.read(self.items[index], content)
    }

    /// What a picture is called.
    pub(super) fn name(&self, index: usize) -> String {
        self.files.name(self.items[index])
    }

    /// The same for one of many pictures: see [`Files::name_of`].
    pub(super) fn name_of(&self, index: usize, opened: &mut Opened) -> String {
        self.files.name_of(self.items[index], opened)
    }

    /// Decodes a picture at its own size, in the target's channels. `content` is memory for its file.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Picture`] as [`picture::decode`], with its name.
    pub(super) fn decode(&self, index: usize, target: TargetSize, content: &mut Vec<u8>) -> Result<Whole> {
        let Stored { files, items, noted } = self;
        let item = items[index];
        files.read(item, content)?;
        let is_sound = noted.sound.has(index);
        let broken = |_| {
            let reason = "the decoder broke off".to_owned();
            Err(PictureError::Undecodable { format: "a decoder", reason })
        };
        let decoded = catch_unwind(AssertUnwindSafe(|| picture::decode_whole(content, target, is_sound)));
        let whole = decoded.unwrap_or_else(broken).map_err(|problem| files.named(item, problem))?;
        if whole.warnings.is_empty() {
            noted.sound.set(index);
        } else if !noted.damaged.set(index)
            && let Ok(mut untold) = noted.untold.lock()
            && untold.len() < DESCRIBED
        {
            untold.push(format!("{}: damaged: {}", files.name(item), whole.warnings.join("; ")));
        }
        Ok(whole)
    }

    /// Takes the descriptions of damaged pictures that were found since the last time.
    pub(super) fn take_warnings(&self) -> Vec<String> {
        let mut found = self.noted.untold.lock().map(|mut untold| std::mem::take(&mut *untold)).unwrap_or_default();
        found.sort();
        found
    }
}

impl PartialEq for Stored {
    fn eq(&self, other: &Stored) -> bool {
        Arc::ptr_eq(&self.files, &other.files) && self.items == other.items
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored").field("pictures", &self.items.len()).finish_non_exhaustive()
    }
}
