//! What is wrong with a JPEG file's entropy-coded data, as libjpeg would warn of it: codes that are none (`JWRN_HUFF_BAD_CODE`),
//! data that ends before the last block (`JWRN_HIT_MARKER`), and bytes that are left over (`JWRN_EXTRANEOUS_DATA`). The
//! codes are followed, but nothing is computed from them, so that this takes a fraction of decoding. Huffman-coded files,
//! sequential or progressive (ITU-T T.81, F.2.2 and G.2).

use std::ops::Range;
use std::rc::Rc;

use super::markers::{next_marker, segment};

/// What is wrong.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Problems {
    /// Codes that are none.
    pub(super) codes: usize,
    /// Segments that end before their last block.
    pub(super) short: usize,
    /// Bytes left over before a marker.
    pub(super) extra: usize,
    /// From the first bad code of a segment to its end.
    pub(super) bad: Vec<Range<usize>>,
}

impl Problems {
    pub(super) fn is_sound(&self) -> bool {
        self.codes == 0 && self.short == 0 && self.extra == 0
    }

    /// For messages.
    pub(super) fn describe(&self) -> Vec<String> {
        let told = [
            (self.codes, "corrupt codes"),
            (self.short, "parts that end too early"),
            (self.extra, "bytes too many before a marker"),
        ];
        told.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// Codes of up to so many bits are looked up at once.
const FAST: u32 = 9;

/// A Huffman table.
struct Table {
    /// Length and symbol by the next 9 bits; length 0 where the code is longer.
    fast: Vec<(u8, u8)>,
    /// By length: the first code that is too large, left-aligned in 16 bits, and what to add to a code for its symbol.
    limits: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8], symbols: &[u8]) -> Table {
        let mut table = Table { fast: vec![(0, 0); 1 << FAST], limits: [(0, 0); 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0_u32, 0_usize);
        for length in 1..=16_u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.limits[length as usize] =
                (((code + count as u32) << (16 - length)).min(1 << 16), index as i32 - code as i32);
            for &symbol in symbols.iter().skip(index).take(count) {
                if length <= FAST {
                    let start = (code << (FAST - length)) as usize;
                    let entries = table.fast.iter_mut().skip(start).take(1 << (FAST - length));
                    entries.for_each(|entry| *entry = (length as u8, symbol));
                }
                code += 1;
            }
            index += count;
            code <<= 1;
        }
        table
    }
}

/// A component of the frame.
#[derive(Clone)]
struct Component {
    id: u8,
    sampling: [usize; 2],
    /// Blocks across and down in a scan of its own.
    blocks: [usize; 2],
    /// Blocks across as they lie in scans of several components.
    stride: usize,
    /// Progressive files: which coefficients of each block are not 0.
    nonzero: Vec<u64>,
}

/// Bits of one segment.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    /// Where the next marker stands.
    marker: usize,
    held: u64,
    count: u32,
    /// More bits were asked for than there are.
    short: bool,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 48 && self.at < self.end {
            let byte = self.bytes[self.at];
            self.at += 1 + usize::from(byte == 0xff);
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn peek(&mut self, bits: u32) -> u32 {
        if self.count < bits {
            self.fill();
        }
        let have = self.count.min(bits);
        let value = (self.held >> (self.count - have)) as u32 & ((1 << have) - 1);
        value << (bits - have)
    }

    fn skip(&mut self, bits: u32) {
        self.short |= self.count < bits;
        self.count -= bits.min(self.count);
    }

    fn take(&mut self, bits: u32) -> u32 {
        let value = self.peek(bits);
        self.skip(bits);
        value
    }

    /// The next symbol, or nothing where there is no such code.
    fn symbol(&mut self, table: &Table) -> Option<u8> {
        let window = self.peek(16);
        let (length, symbol) = table.fast[(window >> (16 - FAST)) as usize];
        if length > 0 {
            self.skip(length.into());
            return Some(symbol);
        }
        let length = (FAST as usize + 1..=16).find(|&length| window < table.limits[length].0);
        let Some(length) = length else {
            self.skip(16);
            return None;
        };
        let code = (window >> (16 - length)) as i32;
        self.skip(length as u32);
        table.symbols.get((code + table.limits[length].1) as usize).copied()
    }

    /// Bytes that no code has needed.
    fn left(&self) -> usize {
        self.end - self.at.min(self.end) + self.count as usize / 8
    }
}

/// A component of a scan: its index in the frame, and its tables for DC and AC.
type Selected = (usize, Option<Rc<Table>>, Option<Rc<Table>>);

/// One scan's header.
struct Scan {
    components: Vec<Selected>,
    first: usize,
    last: usize,
    refines: bool,
    progressive: bool,
}

/// Follows the codes of all scans; `None` for files in another coding, or whose markers make no sense.
pub(super) fn problems(bytes: &[u8]) -> Option<Problems> {
    let mut problems = Problems::default();
    let mut tables: [[Option<Rc<Table>>; 4]; 2] = Default::default();
    let (mut components, mut mcus, mut progressive, mut interval) = (Vec::new(), [0, 0], false, 0);
    let mut at = 2;
    while let Some((marker, start)) = next_marker(bytes, at) {
        at = start;
        match marker {
            0xd9 => break,
            0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let content = segment(bytes, start)?;
        at = start + 2 + content.len();
        match marker {
            0xc0..=0xc2 => {
                progressive = marker == 0xc2;
                (components, mcus) = frame(content, progressive)?;
            }
            0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => return None,
            0xc4 => define(content, &mut tables)?,
            0xdd => interval = usize::from(u16::from_be_bytes([*content.first()?, *content.get(1)?])),
            0xda => {
                let scan = scan(content, &components, &tables, progressive)?;
                at = follow(bytes, at, &scan, &mut components, mcus, interval, &mut problems)?;
            }
            _ => {}
        }
    }
    (!components.is_empty()).then_some(problems)
}

fn define(mut content: &[u8], tables: &mut [[Option<Rc<Table>>; 4]; 2]) -> Option<()> {
    while let [place, rest @ ..] = content {
        let (counts, rest) = rest.split_at_checked(16)?;
        let symbols = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(symbols)?;
        *tables.get_mut(usize::from(place >> 4))?.get_mut(usize::from(place & 15))? =
            Some(Rc::new(Table::new(counts, symbols)));
        content = rest;
    }
    Some(())
}

/// The components of a frame of 8 bits, and how many MCUs it has across and down.
fn frame(content: &[u8], progressive: bool) -> Option<(Vec<Component>, [usize; 2])> {
    let [8, h1, h0, w1, w0, count, rest @ ..] = content else { return None };
    let size = [u16::from_be_bytes([*w1, *w0]), u16::from_be_bytes([*h1, *h0])].map(usize::from);
    let described = rest.as_chunks::<3>().0.get(..usize::from(*count))?;
    let samplings: Vec<[usize; 2]> =
        described.iter().map(|d| [usize::from(d[1] >> 4), usize::from(d[1] & 15)]).collect();
    if samplings.iter().flatten().any(|sampling| !(1..=4).contains(sampling)) || size.contains(&0) {
        return None;
    }
    let largest = [0, 1].map(|axis| samplings.iter().map(|sampling| sampling[axis]).max().unwrap_or(1));
    let mcus = [0, 1].map(|axis| size[axis].div_ceil(8 * largest[axis]));
    let component = |(described, &sampling): (&[u8; 3], &[usize; 2])| {
        let blocks = [0, 1].map(|axis| (size[axis] * sampling[axis]).div_ceil(largest[axis]).div_ceil(8));
        let stride = mcus[0] * sampling[0];
        let held = if progressive { stride * mcus[1] * sampling[1] } else { 0 };
        Component { id: described[0], sampling, blocks, stride, nonzero: vec![0; held] }
    };
    Some((described.iter().zip(&samplings).map(component).collect(), mcus))
}

fn scan(
    content: &[u8],
    components: &[Component],
    tables: &[[Option<Rc<Table>>; 4]; 2],
    progressive: bool,
) -> Option<Scan> {
    let count = usize::from(*content.first()?);
    let selectors = content.get(1..1 + 2 * count)?.as_chunks::<2>().0;
    let &[first, last, approximation, ..] = content.get(1 + 2 * count..)? else { return None };
    let selected = |&[id, places]: &[u8; 2]| {
        let table = |class: usize, place: u8| tables[class].get(usize::from(place)).cloned().flatten();
        let index = components.iter().position(|component| component.id == id)?;
        Some((index, table(0, places >> 4), table(1, places & 15)))
    };
    let components = selectors.iter().map(selected).collect::<Option<Vec<_>>>()?;
    let (first, last) = (usize::from(first), usize::from(last));
    if first > last || last > 63 || components.is_empty() || (first > 0 && components.len() > 1) {
        return None;
    }
    Some(Scan { components, first, last, refines: approximation >> 4 > 0, progressive })
}

/// Follows one scan's codes. Says where its data end.
fn follow(
    bytes: &[u8],
    start: usize,
    scan: &Scan,
    components: &mut [Component],
    mcus: [usize; 2],
    interval: usize,
    problems: &mut Problems,
) -> Option<usize> {
    let alone = scan.components.len() == 1;
    let units = if alone { components[scan.components[0].0].blocks } else { mcus };
    let total = units[0] * units[1];
    let mut runs = segment_bits(bytes, start);
    let (mut run, mut bad) = (0, None);
    for unit in 0..total {
        if interval > 0 && unit > 0 && unit % interval == 0 {
            end_segment(&runs, bad.take(), problems);
            run = 0;
            if !bytes.get(runs.marker + 1).is_some_and(|marker| (0xd0..=0xd7).contains(marker)) {
                problems.short += 1;
                return Some(runs.marker);
            }
            runs = segment_bits(bytes, runs.marker + 2);
        }
        if runs.short {
            continue;
        }
        let place = [unit % units[0], unit / units[0]];
        for (index, dc, ac) in &scan.components {
            let component = &mut components[*index];
            let [across, down] = if alone { [1, 1] } else { component.sampling };
            for y in 0..down {
                for x in 0..across {
                    let block = (place[1] * down + y) * component.stride + place[0] * across + x;
                    let nonzero = component.nonzero.get_mut(block);
                    let fine = follow_block(&mut runs, scan, dc.as_deref(), ac.as_deref(), nonzero, &mut run)?;
                    if !fine && !runs.short {
                        problems.codes += 1;
                        bad = bad.or(Some(runs.at.saturating_sub(8).max(start)));
                    }
                }
            }
        }
    }
    end_segment(&runs, bad, problems);
    Some(runs.marker)
}

/// The bits from `start` on, up to the next marker.
fn segment_bits(bytes: &[u8], start: usize) -> Bits<'_> {
    let data = bytes.get(start..).unwrap_or_default();
    let end = data.windows(2).position(|pair| pair[0] == 0xff && pair[1] != 0 && pair[1] != 0xff);
    let marker = end.map_or(bytes.len(), |found| start + found);
    let mut end = marker;
    // Fill bytes belong to the marker.
    while end > start && bytes[end - 1] == 0xff {
        end -= 1;
    }
    Bits { bytes, at: start, end, marker, held: 0, count: 0, short: false }
}

fn end_segment(bits: &Bits<'_>, bad: Option<usize>, problems: &mut Problems) {
    problems.short += usize::from(bits.short);
    if !bits.short {
        problems.extra += bits.left();
    }
    problems.bad.extend(bad.map(|start| start..bits.end.max(start)));
}

/// Follows one block's codes. Says whether all of them are codes; nothing where a table is missing.
fn follow_block(
    bits: &mut Bits<'_>,
    scan: &Scan,
    dc: Option<&Table>,
    ac: Option<&Table>,
    nonzero: Option<&mut u64>,
    run: &mut u32,
) -> Option<bool> {
    let mut fine = true;
    if scan.first == 0 {
        match scan.progressive && scan.refines {
            true => {
                bits.take(1);
            }
            false => match bits.symbol(dc?) {
                Some(size) => {
                    bits.take(u32::from(size & 15));
                }
                None => fine = false,
            },
        }
        if scan.progressive {
            return Some(fine);
        }
    }
    if !scan.progressive {
        return Some(follow_sequential(bits, ac?) && fine);
    }
    let nonzero = nonzero?;
    match scan.refines {
        false => follow_first(bits, scan, ac?, nonzero, run),
        true => follow_refinement(bits, scan, ac?, nonzero, run),
    }
}

fn follow_sequential(bits: &mut Bits<'_>, table: &Table) -> bool {
    let mut at = 1;
    let mut fine = true;
    while at < 64 {
        let symbol = bits.symbol(table);
        // libjpeg goes on with 0, the end of the block.
        fine &= symbol.is_some();
        match symbol.unwrap_or(0) {
            0xf0 => at += 16,
            symbol if symbol & 15 == 0 => break,
            symbol => {
                at += usize::from(symbol >> 4) + 1;
                bits.take(u32::from(symbol & 15));
            }
        }
    }
    fine
}

/// The length of a run of blocks that end, of which this is the first.
fn run_of_ends(bits: &mut Bits<'_>, exponent: u8) -> u32 {
    (1 << exponent) + if exponent > 0 { bits.take(exponent.into()) } else { 0 }
}

fn follow_first(bits: &mut Bits<'_>, scan: &Scan, table: &Table, nonzero: &mut u64, run: &mut u32) -> Option<bool> {
    if *run > 0 {
        *run -= 1;
        return Some(true);
    }
    let mut at = scan.first;
    while at <= scan.last {
        let Some(symbol) = bits.symbol(table) else { return Some(false) };
        let (zeros, size) = (symbol >> 4, symbol & 15);
        if size == 0 && zeros < 15 {
            *run = run_of_ends(bits, zeros) - 1;
            break;
        }
        at += usize::from(zeros);
        if size > 0 {
            bits.take(size.into());
            if at > scan.last {
                return Some(false);
            }
            *nonzero |= 1 << at;
        }
        at += 1;
    }
    Some(true)
}

fn follow_refinement(
    bits: &mut Bits<'_>,
    scan: &Scan,
    table: &Table,
    nonzero: &mut u64,
    run: &mut u32,
) -> Option<bool> {
    let mut at = scan.first;
    while *run == 0 && at <= scan.last {
        let Some(symbol) = bits.symbol(table) else { return Some(false) };
        let (mut zeros, size) = (symbol >> 4, symbol & 15);
        if size > 1 {
            return Some(false);
        }
        if size == 1 {
            bits.take(1);
        } else if zeros < 15 {
            *run = run_of_ends(bits, zeros);
            break;
        }
        while at <= scan.last {
            if *nonzero & (1 << at) != 0 {
                bits.take(1);
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            at += 1;
        }
        if size == 1 {
            if at > scan.last {
                return Some(false);
            }
            *nonzero |= 1 << at;
        }
        at += 1;
    }
    if *run > 0 {
        for at in at..=scan.last {
            if *nonzero & (1 << at) != 0 {
                bits.take(1);
            }
        }
        *run -= 1;
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};

    use super::*;

    fn file(progressive: bool, restarts: u16) -> Vec<u8> {
        let mut random = 7_u32;
        let mut noise = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 24
        };
        let pixels: Vec<u8> = (0..75 * 53 * 3).map(|i| ((i / 9 % 200) as u32 + noise() / 5) as u8).collect();
        let encoder = Encoder::new(&pixels, 75, 53, PixelFormat::Rgb).subsampling(Subsampling::S420).quality(90);
        let encoder = if restarts > 0 { encoder.restart_rows(restarts) } else { encoder };
        encoder.progressive(progressive).encode().unwrap()
    }

    fn data_start(bytes: &[u8]) -> usize {
        let scan = bytes.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        scan + 2 + usize::from(u16::from_be_bytes([bytes[scan + 2], bytes[scan + 3]]))
    }

    #[test]
    fn sound_files_are_sound() {
        for progressive in [false, true] {
            for restarts in [0, 1] {
                let found = problems(&file(progressive, restarts)).unwrap();
                assert_eq!(found, Problems::default(), "progressive {progressive}, restarts {restarts}");
            }
        }
    }

    /// libjpeg: "Corrupt JPEG data: 65 extraneous bytes before marker 0xd9".
    #[test]
    fn stray_and_missing_bytes_are_found() {
        for progressive in [false, true] {
            let file = file(progressive, 0);
            let mut stray = file.clone();
            stray.splice(file.len() - 2..file.len() - 2, [0; 65]);
            assert_eq!(problems(&stray).unwrap().extra, 65, "{progressive}");
            let mut short = file.clone();
            short.drain(file.len() - 12..file.len() - 2);
            assert_eq!(problems(&short).unwrap().short, 1, "{progressive}");
        }
        let file = file(false, 1);
        let mut stray = file.clone();
        let at = data_start(&file) + 10;
        stray.splice(at..at, [0x55; 9]);
        assert!(!problems(&stray).unwrap().is_sound());
    }

    #[test]
    fn damage_and_cuts_do_not_panic() {
        for progressive in [false, true] {
            for restarts in [0, 1] {
                let file = file(progressive, restarts);
                let mut found = 0;
                for at in (2..file.len()).step_by(7) {
                    let mut damaged = file.clone();
                    damaged[at] ^= 0x5a;
                    found += usize::from(problems(&damaged).is_none_or(|problems| !problems.is_sound()));
                    let _ = problems(&file[..at]);
                }
                assert!(found * 7 > file.len() / 5, "{found} of {} found", file.len() / 7);
            }
        }
    }
}
