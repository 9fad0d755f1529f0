//! Buffers whose first float begins a cache line, so that no aligned vector crosses two lines. Large ones lie on huge pages where
//! the system has them to give: a training step walks through more memory than the TLB has small pages for.

use crate::simd::LANES;
use std::ops::{Deref, DerefMut};

/// A cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read as a slice of floats")] [f32; LANES]);

/// A buffer of floats, all 0 at first, aligned to 64 bytes.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Buffer {
        let count = len.div_ceil(LANES);
        let mut lines = Vec::with_capacity(count);
        prefer_huge_pages(&lines);
        // Only now are the pages touched.
        lines.resize(count, Line([0.0; LANES]));
        Buffer { lines, len }
    }

    /// Gives back the memory behind the first `len` floats, where there are more.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.lines.truncate(self.len.div_ceil(LANES));
        self.lines.shrink_to_fit();
    }
}

/// Bytes from which huge pages are asked for: below, none would fit, or one that is mostly empty.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

/// Asks Linux for pages of 2 MiB, which it gives only where it is asked (`madvise` in
/// `/sys/kernel/mm/transparent_hugepage/enabled`); where it cannot, pages stay as they are.
#[cfg(target_os = "linux")]
fn prefer_huge_pages(lines: &Vec<Line>) {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    /// Linux's number of the advice.
    const MADV_HUGEPAGE: c_int = 14;
    /// A multiple of every page size, to which the range is narrowed.
    const PAGE: usize = 64 << 10;
    let (start, bytes) = (lines.as_ptr() as usize, lines.capacity() * size_of::<Line>());
    if bytes < LARGE {
        return;
    }
    let (first, end) = (start.next_multiple_of(PAGE), (start + bytes) / PAGE * PAGE);
    // SAFETY: the range lies within an allocation of our own, and the advice changes nothing that a program can see but time. A
    // system that does not know it says so, and nothing has to be done then.
    unsafe { madvise(first as *mut c_void, end - first, MADV_HUGEPAGE) };
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages(_: &Vec<Line>) {}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is 16 floats without padding, and `len` is at most 16 times the number of lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer of {} floats", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begins_a_line_and_holds_its_length() {
        for len in [0, 1, 16, 17, 1000, 3 << 20] {
            let mut buffer = Buffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            buffer.fill(2.0);
            assert!(buffer.iter().all(|&x| x == 2.0));
            buffer.truncate(5);
            assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (len.min(5), 0));
            assert!(buffer.iter().all(|&x| x == 2.0));
        }
    }
}
