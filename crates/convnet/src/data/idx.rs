//! IDX files, the format of MNIST: big-endian sizes, then bytes; gzipped or not, told apart by their first bytes.
//!
//! `00 00 08 03`, count, height, width, then pixels row by row; or `00 00 08 01`, count, then labels.
//! Source: <http://yann.lecun.com/exdb/mnist/>. The sizes in a header are only claims: they are held against the size of
//! the file before anything is reserved (deflate makes at most 1032 bytes from one), and no file may hold over 2 GiB.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

const MAX_BYTES: u64 = 2 << 30;
const DEFLATE_MAX_RATIO: u64 = 1032;
const FIRST_RESERVE: u64 = 64 << 20;

/// Grey pictures of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// How many.
    pub count: usize,
    /// Rows of each.
    pub height: usize,
    /// Columns of each.
    pub width: usize,
    /// All pixels, picture by picture, row by row: count × height × width bytes.
    pub pixels: Vec<u8>,
}

/// Reads a file of pictures.
///
/// # Errors
/// A file that cannot be read, is no IDX file of pictures, is empty, damaged, cut short or too long for its header.
pub fn read_images(path: &Path) -> Result<Images> {
    let (dims, pixels) = read(path, Kind::Images)?;
    Ok(Images { count: dims[0], height: dims[1], width: dims[2], pixels })
}

/// Reads a file of labels.
///
/// # Errors
/// As [`read_images`].
pub fn read_labels(path: &Path) -> Result<Vec<u8>> {
    Ok(read(path, Kind::Labels)?.1)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Images,
    Labels,
}

impl Kind {
    fn of(magic: [u8; 4]) -> Option<Kind> {
        [Kind::Images, Kind::Labels].into_iter().find(|kind| kind.magic() == magic)
    }

    fn magic(self) -> [u8; 4] {
        [0, 0, 8, self.dims() as u8]
    }

    fn dims(self) -> usize {
        match self {
            Kind::Images => 3,
            Kind::Labels => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Images => "pictures",
            Kind::Labels => "labels",
        }
    }
}

fn read(path: &Path, kind: Kind) -> Result<(Vec<usize>, Vec<u8>)> {
    let (file, size) = super::open(path)?;
    parse(BufReader::new(file), size, kind).map_err(|problem| Error::file(path, problem))
}

/// The sizes and bytes of an IDX file that takes `size` bytes on disk, or what is wrong with it.
fn parse(mut source: impl BufRead, size: u64, kind: Kind) -> Result<(Vec<usize>, Vec<u8>), String> {
    let gzip = source.fill_buf().map_err(unreadable)?.starts_with(&[0x1f, 0x8b]);
    if gzip {
        body(MultiGzDecoder::new(source), size.saturating_mul(DEFLATE_MAX_RATIO), kind)
    } else {
        body(source, size, kind)
    }
}

/// Reads header and bytes from `source`, which can hold at most `limit` bytes.
fn body(mut source: impl Read, limit: u64, kind: Kind) -> Result<(Vec<usize>, Vec<u8>), String> {
    let magic = word(&mut source)?;
    match Kind::of(magic) {
        Some(found) if found == kind => (),
        Some(found) => {
            return Err(format!(
                "an IDX file of {}, where {} are expected: are the two files swapped?",
                found.name(),
                kind.name()
            ));
        }
        None => {
            return Err(format!(
                "not an IDX file of {}: it begins with {magic:02x?}, expected {:02x?}",
                kind.name(),
                kind.magic()
            ));
        }
    }
    let dims = (0..kind.dims()).map(|_| word(&mut source).map(u32::from_be_bytes)).collect::<Result<Vec<_>, _>>()?;
    let claimed = dims.iter().try_fold(1_u64, |n, &dim| n.checked_mul(u64::from(dim))).unwrap_or(u64::MAX);
    if claimed == 0 {
        return Err(format!("the header says {dims:?} {}: nothing is in it", kind.name()));
    }
    if claimed > limit.min(MAX_BYTES) {
        return Err(format!(
            "the header says {dims:?} {}, which take {}, but a file of this size holds at most {} (and none may hold \
             more than {MAX_BYTES}): cut short, or not what it claims",
            kind.name(),
            bytes(claimed),
            bytes(limit)
        ));
    }
    let mut content = Vec::new();
    let reserve = content.try_reserve_exact(claimed.min(FIRST_RESERVE) as usize);
    reserve.map_err(|_| format!("not enough memory for {}", bytes(claimed)))?;
    source.by_ref().take(claimed).read_to_end(&mut content).map_err(unreadable)?;
    if (content.len() as u64) < claimed {
        let held = bytes(content.len() as u64);
        return Err(format!("cut short: the header says {dims:?} {}, but only {held} follow", kind.name()));
    }
    // At the end of a gzip stream its checksum is verified too.
    if source.read(&mut [0]).map_err(unreadable)? != 0 {
        return Err(format!("bytes are left over after the {dims:?} {} of the header", kind.name()));
    }
    Ok((dims.into_iter().map(|dim| dim as usize).collect(), content))
}

fn word(source: &mut impl Read) -> Result<[u8; 4], String> {
    let mut word = [0; 4];
    source.read_exact(&mut word).map_err(unreadable)?;
    Ok(word)
}

fn bytes(n: u64) -> String {
    if n == u64::MAX { "more bytes than can be counted".into() } else { format!("{n} bytes") }
}

fn unreadable(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends too early: it is cut short".into(),
        _ => format!("damaged: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn images(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let dims = [count, height, width].map(u32::to_be_bytes).concat();
        [&Kind::Images.magic(), &dims[..], pixels].concat()
    }

    fn labels(labels: &[u8]) -> Vec<u8> {
        [&Kind::Labels.magic(), &(labels.len() as u32).to_be_bytes()[..], labels].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn parse_bytes(bytes: &[u8], kind: Kind) -> Result<(Vec<usize>, Vec<u8>), String> {
        parse(bytes, bytes.len() as u64, kind)
    }

    fn small() -> Vec<u8> {
        images(2, 2, 3, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    }

    #[test]
    fn plain_and_gzipped_files_read_the_same() {
        let expected = (vec![2, 2, 3], (1..=12).collect());
        assert_eq!(parse_bytes(&small(), Kind::Images).unwrap(), expected);
        assert_eq!(parse_bytes(&gzip(&small()), Kind::Images).unwrap(), expected);
        assert_eq!(parse_bytes(&gzip(&labels(&[3, 1])), Kind::Labels).unwrap(), (vec![2], vec![3, 1]));
    }

    #[test]
    fn truncation_at_every_byte_is_an_error() {
        for file in [small(), gzip(&small())] {
            for end in 0..file.len() {
                assert!(parse_bytes(&file[..end], Kind::Images).is_err(), "{end} bytes of {}", file.len());
            }
        }
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        let error = parse_bytes(&[&small()[..], &[0]].concat(), Kind::Images).unwrap_err();
        assert_eq!(error, "bytes are left over after the [2, 2, 3] pictures of the header");
        assert!(parse_bytes(&gzip(&[&small()[..], &[0]].concat()), Kind::Images).unwrap_err().contains("left over"));
        assert!(parse_bytes(&[&gzip(&small())[..], b"tail"].concat(), Kind::Images).is_err());
    }

    #[test]
    fn swapped_and_foreign_files_are_named() {
        let error = parse_bytes(&labels(&[1]), Kind::Images).unwrap_err();
        assert_eq!(error, "an IDX file of labels, where pictures are expected: are the two files swapped?");
        assert!(parse_bytes(&small(), Kind::Labels).unwrap_err().contains("swapped?"));
        let error = parse_bytes(b"\x89PNG....", Kind::Labels).unwrap_err();
        assert_eq!(error, "not an IDX file of labels: it begins with [89, 50, 4e, 47], expected [00, 00, 08, 01]");
    }

    #[test]
    fn claims_that_the_file_cannot_hold_reserve_nothing() {
        let lie = images(0x6000_0000, 28, 28, &[0; 100]);
        assert!(parse_bytes(&lie, Kind::Images).unwrap_err().contains("holds at most 116 bytes"));
        assert!(parse_bytes(&gzip(&lie), Kind::Images).unwrap_err().contains("holds at most"));
        let overflow = images(u32::MAX, u32::MAX, u32::MAX, &[0; 100]);
        assert!(parse_bytes(&overflow, Kind::Images).unwrap_err().contains("more bytes than can be counted"));
        for empty in [images(0, 28, 28, &[]), images(1, 0, 28, &[]), labels(&[])] {
            let kind = Kind::of(empty[..4].try_into().unwrap()).unwrap();
            assert!(parse_bytes(&empty, kind).unwrap_err().contains("nothing is in it"));
        }
        // What is really there but beyond the cap is refused by its header alone.
        let huge = labels(&[]).into_iter().take(4).chain(u32::MAX.to_be_bytes()).collect::<Vec<_>>();
        assert!(parse(&huge[..], u64::MAX, Kind::Labels).unwrap_err().contains("none may hold more"));
    }

    #[test]
    fn a_bomb_is_stopped_at_the_claimed_size() {
        let bomb = gzip(&[&images(1, 28, 28, &[])[..], &vec![0; 50 << 20]].concat());
        assert!(parse_bytes(&bomb, Kind::Images).unwrap_err().contains("left over"));
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("train-images-idx3-ubyte");
        assert!(read_images(&missing).unwrap_err().to_string().contains("train-images-idx3-ubyte"));
        assert!(read_labels(folder.path()).unwrap_err().to_string().contains("expected a regular file"));
        std::fs::write(&missing, small()).unwrap();
        assert_eq!(read_images(&missing).unwrap().pixels.len(), 12);
        assert!(matches!(read_labels(&missing), Err(Error::File { path, .. }) if path == missing));
        assert!(read_images(&PathBuf::from("a\0b")).is_err());
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(
            zipped: bool,
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            end in any::<prop::sample::Index>(),
        ) {
            let mut file = if zipped { gzip(&small()) } else { small() };
            for (place, byte) in &edits {
                let place = place.index(file.len());
                file[place] = *byte;
            }
            file.truncate(end.index(file.len() + 1));
            for kind in [Kind::Images, Kind::Labels] {
                if let Ok((dims, content)) = parse_bytes(&file, kind) {
                    prop_assert_eq!(dims.iter().product::<usize>(), content.len());
                }
            }
        }
    }
}
