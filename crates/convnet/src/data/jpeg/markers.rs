//! The markers of a JPEG file: how much work its scans are, whether its restart markers are in order, and the same file
//! with their order mended as libjpeg mends it (`jpeg_resync_to_restart`, jdmarker.c).

/// What the markers of a file say.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// Blocks of 8×8 in the picture, over all components.
    blocks: u64,
    pub(super) scans: Vec<Scan>,
    /// Whether the file has an end marker.
    pub(super) ended: bool,
}

/// One scan.
#[derive(Debug)]
pub(super) struct Scan {
    /// Blocks that it goes over.
    blocks: u64,
    /// Its entropy-coded data.
    data: std::ops::Range<usize>,
    /// Whether it has restart markers.
    restarts: bool,
}

/// A component of the frame: its identifier and its blocks.
struct Component {
    id: u8,
    blocks: u64,
}

/// A byte may pay for so many blocks of a scan, each of which takes up to some 100 ns.
const BLOCKS_PER_BYTE: u64 = 8;
/// Scans may go over the whole picture so often. Encoders make some 10 to 20 scans of a component.
pub(super) const MOST_PASSES: u64 = 32;

impl Markers {
    /// Reads them, as far as they can be followed.
    pub(super) fn read(bytes: &[u8]) -> Markers {
        let mut markers = Markers::default();
        let (mut components, mut interval, mut at) = (Vec::new(), 0, 2);
        while let Some((marker, start)) = next_marker(bytes, at) {
            at = start;
            match marker {
                0xd9 => {
                    markers.ended = true;
                    return markers;
                }
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let Some(segment) = segment(bytes, start) else { return markers };
            at = start + 2 + segment.len();
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    components = frame(segment);
                    markers.blocks = components.iter().map(|component| component.blocks).sum();
                }
                0xdd if segment.len() >= 2 => interval = u16::from_be_bytes([segment[0], segment[1]]),
                0xda => {
                    let end = scan_end(bytes, at);
                    let in_scan = |component: &&Component| scan_ids(segment).any(|id| id == component.id);
                    let blocks = components.iter().filter(in_scan).map(|component| component.blocks).sum();
                    markers.scans.push(Scan { blocks, data: at..end, restarts: interval > 0 });
                    at = end;
                }
                _ => {}
            }
        }
        markers
    }

    /// How often the scans go over the whole picture, when that is more than its size and its bytes justify.
    pub(super) fn excess(&self, bytes: usize) -> Option<u64> {
        let work: u64 = self.scans.iter().map(|scan| scan.blocks).sum();
        let most = (MOST_PASSES * self.blocks).max(BLOCKS_PER_BYTE * bytes as u64);
        (work > most).then(|| work.div_ceil(self.blocks.max(1)))
    }

    /// The file with its restart markers in order, and how many were not; `None` where all are.
    pub(super) fn mended(&self, bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
        let (mut out, mut copied, mut problems) = (Vec::new(), 0, 0);
        for scan in self.scans.iter().filter(|scan| scan.restarts) {
            let (mut wanted, mut at) = (0, scan.data.start);
            while let Some((marker, end)) = restart_marker(bytes, at, scan.data.end) {
                at = end;
                let ahead = (marker + 8 - wanted) % 8;
                match ahead {
                    0 => {}
                    // Markers are lost: empty segments stand for what lay before this one.
                    1 | 2 => {
                        out.extend_from_slice(&bytes[copied..end - 2]);
                        copied = end - 2;
                        for lost in 0..ahead {
                            out.extend([0xff, 0xd0 + (wanted + lost) % 8]);
                        }
                        problems += 1;
                    }
                    // One of before: left out, with the data up to the next marker.
                    6 | 7 => {
                        out.extend_from_slice(&bytes[copied..end - 2]);
                        copied = restart_marker(bytes, end, scan.data.end).map_or(scan.data.end, |(_, end)| end - 2);
                        at = copied;
                        problems += 1;
                        continue;
                    }
                    // Too far away to make sense of: taken for the one that is wanted.
                    _ => {
                        problems += 1;
                        wanted = (wanted + 1) % 8;
                        continue;
                    }
                }
                wanted = (marker + 1) % 8;
            }
        }
        out.extend_from_slice(&bytes[copied..]);
        (problems > 0).then_some((out, problems))
    }
}

/// The next marker from `at` on, and where its segment begins. Fill bytes and stray ones are passed over.
pub(super) fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let found = bytes.get(at..)?.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff)?;
    Some((bytes[at + found + 1], at + found + 2))
}

/// The content of the segment whose length stands at `start`.
pub(super) fn segment(bytes: &[u8], start: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(start)?, *bytes.get(start + 1)?]));
    bytes.get(start + 2..start + length.max(2))
}

/// The components of a frame's header.
fn frame(segment: &[u8]) -> Vec<Component> {
    let [_, h1, h0, w1, w0, count, rest @ ..] = segment else { return Vec::new() };
    let size = [u64::from(u16::from_be_bytes([*w1, *w0])), u64::from(u16::from_be_bytes([*h1, *h0]))];
    let described = rest.as_chunks::<3>().0.iter().take(usize::from(*count));
    let samplings = described.clone().map(|&[_, sampling, _]| [u64::from(sampling >> 4), u64::from(sampling & 15)]);
    let largest = |axis: usize| samplings.clone().map(|sampling| sampling[axis]).max().unwrap_or(1).max(1);
    let largest = [largest(0), largest(1)];
    let blocks = |sampling: [u64; 2]| -> u64 {
        [0, 1].iter().map(|&axis| (size[axis] * sampling[axis]).div_ceil(8 * largest[axis]).max(1)).product()
    };
    described.zip(samplings.clone()).map(|(&[id, ..], sampling)| Component { id, blocks: blocks(sampling) }).collect()
}

/// The identifiers of the components of a scan's header.
fn scan_ids(segment: &[u8]) -> impl Iterator<Item = u8> {
    let count = usize::from(segment.first().copied().unwrap_or(0));
    segment.get(1..).unwrap_or_default().as_chunks::<2>().0.iter().take(count).map(|&[id, _]| id)
}

/// Where the entropy-coded data from `at` on ends: at a marker that is no restart marker.
fn scan_end(bytes: &[u8], at: usize) -> usize {
    let data = bytes.get(at..).unwrap_or_default();
    let ends = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff | 0xd0..=0xd7);
    data.windows(2).position(ends).map_or(bytes.len(), |found| at + found)
}

/// The number of the next restart marker, and where it ends.
fn restart_marker(bytes: &[u8], at: usize, end: usize) -> Option<(u8, usize)> {
    let found = bytes.get(at..end)?.windows(2).position(|pair| pair[0] == 0xff && matches!(pair[1], 0xd0..=0xd7))?;
    Some((bytes[at + found + 1] - 0xd0, at + found + 2))
}

#[cfg(test)]
mod tests {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

    use super::*;

    fn file() -> Vec<u8> {
        let pixels: Vec<u8> = (0..64 * 80 * 3).map(|i| (i % 251) as u8).collect();
        let encoder = Encoder::new(&pixels, 64, 80, PixelFormat::Rgb).subsampling(Subsampling::S420);
        encoder.restart_rows(1).encode().unwrap()
    }

    /// Where the restart markers of a file stand.
    fn restarts(bytes: &[u8]) -> Vec<usize> {
        let data = Markers::read(bytes).scans[0].data.clone();
        let mut found = Vec::new();
        let mut at = data.start;
        while let Some((_, end)) = restart_marker(bytes, at, data.end) {
            found.push(end - 2);
            at = end;
        }
        found
    }

    #[test]
    fn blocks_and_scans_are_counted() {
        let file = file();
        let markers = Markers::read(&file);
        // 8 × 10 blocks of luma, 4 × 5 of each chroma.
        assert_eq!((markers.blocks, markers.scans.len(), markers.ended), (120, 1, true));
        assert_eq!((markers.scans[0].blocks, markers.excess(file.len())), (120, None));
        assert!(!Markers::read(&file[..file.len() - 2]).ended);
        for end in 0..file.len() {
            let markers = Markers::read(&file[..end]);
            let _ = (markers.mended(&file[..end]), markers.excess(end));
        }
    }

    #[test]
    fn many_scans_are_too_much_work() {
        let scan = || Scan { blocks: 1000, data: 0..0, restarts: false };
        let markers = |scans: usize| Markers { blocks: 1000, scans: (0..scans).map(|_| scan()).collect(), ended: true };
        assert_eq!(markers(32).excess(100), None);
        assert_eq!(markers(33).excess(100), Some(33));
        assert_eq!(markers(33).excess(65_000), None);
    }

    #[test]
    fn restart_markers_are_put_in_order() {
        let file = file();
        let places = restarts(&file);
        assert_eq!(places.len(), 4);
        assert!(Markers::read(&file).mended(&file).is_none());
        // The second is lost: an empty segment takes the place of the row that followed it.
        let mut lost = file.clone();
        lost.drain(places[1]..places[1] + 2);
        let (mended, problems) = Markers::read(&lost).mended(&lost).unwrap();
        let third = places[2] - 2;
        assert_eq!((problems, mended.len()), (1, file.len()));
        assert_eq!(mended[..third], lost[..third]);
        assert_eq!(
            (&mended[third..third + 4], &mended[third + 4..]),
            (&[0xff, 0xd1, 0xff, 0xd2][..], &lost[third + 2..])
        );
        // The first comes again, with its row: both are left out.
        let mut twice = file.clone();
        twice.splice(places[1]..places[1], file[places[0]..places[1]].to_vec());
        assert_eq!(Markers::read(&twice).mended(&twice).unwrap(), (file.clone(), 1));
        // One that is far away counts as the one that is wanted.
        let mut far = file.clone();
        far[places[1] + 1] = 0xd5;
        assert_eq!(Markers::read(&far).mended(&far).unwrap(), (far.clone(), 1));
    }
}
